//! The metrics of an edge agent: its own row of the fleet, and what happens inside it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::names;
use super::sites::{SiteFigures, SiteLabels, write_site};
use super::{Collector, Exposition, Metrics};

/// Who an edge has connections with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT devices and subscribers.
    Mqtt = 0,
    /// HTTP clients.
    Http = 1,
    /// Clients of the Redis protocol.
    Resp = 2,
}

/// Why an event was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The intake is behind; the device is to slow down.
    Backpressure = 0,
    /// The buffer is full and its policy is to block.
    Full = 1,
    /// The agent is going down.
    Stopping = 2,
    /// The disk failed.
    Failed = 3,
}

/// What an edge agent counts. Cheap to clone; clones share the figures.
#[derive(Debug, Clone)]
pub struct EdgeMetrics(Arc<Edge>);

#[derive(Debug)]
struct Edge {
    labels: SiteLabels,
    accepted: AtomicU64,
    processed: AtomicU64,
    figures: Mutex<SiteFigures>,
    reduced: Counter,
    deduplicated: Counter,
    dropped: [Counter; 2],
    dead_letters: Counter,
    refused: [Counter; 4],
    alerts: Counter,
    ingest: Histogram,
    commit: Histogram,
    connections: [Gauge; 3],
}

impl EdgeMetrics {
    /// The metrics of the site that this process is.
    pub fn new(metrics: &Metrics, labels: SiteLabels) -> Self {
        let site = [labels.site.as_str(), &labels.hub, &labels.region];
        let with = |last| [site[0], site[1], site[2], last];
        let edge = Arc::new(Edge {
            accepted: AtomicU64::new(0),
            processed: AtomicU64::new(0),
            figures: Mutex::default(),
            reduced: metrics.counter(&names::EVENTS_REDUCED, &site),
            deduplicated: metrics.counter(&names::EVENTS_DEDUPLICATED, &site),
            dropped: ["overflow", "damage"].map(|reason| metrics.counter(&names::EVENTS_DROPPED, &with(reason))),
            dead_letters: metrics.counter(&names::DEAD_LETTERS, &site),
            refused: ["backpressure", "full", "stopping", "failed"]
                .map(|reason| metrics.counter(&names::INTAKE_REFUSED, &with(reason))),
            alerts: metrics.counter(&names::ALERTS, &site),
            ingest: metrics.histogram(&names::INGEST_SECONDS, &site),
            commit: metrics.histogram(&names::COMMIT_SECONDS, &site),
            connections: ["mqtt", "http", "resp"].map(|protocol| metrics.gauge(&names::CONNECTIONS, &with(protocol))),
            labels,
        });
        metrics.collect_with(Arc::clone(&edge) as Arc<dyn Collector>);
        Self(edge)
    }

    /// Events were acknowledged to devices.
    pub fn accepted(&self, events: u64) {
        self.0.accepted.fetch_add(events, Relaxed);
    }

    /// The total that the books show, which survives a restart.
    pub fn set_accepted_total(&self, events: u64) {
        self.0.accepted.store(events, Relaxed);
    }

    /// Events went through the rules.
    pub fn processed(&self, events: u64) {
        self.0.processed.fetch_add(events, Relaxed);
    }

    /// The rest of what the site's own row shows; its two totals are ignored.
    pub fn set_figures(&self, figures: SiteFigures) {
        *self.0.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// Changes what the site's own row shows.
    pub fn update_figures(&self, change: impl FnOnce(&mut SiteFigures)) {
        change(&mut self.0.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Rules kept events at the site.
    pub fn reduced(&self, events: u64) {
        self.0.reduced.increment(events);
    }

    /// Resends were recognised.
    pub fn deduplicated(&self, events: u64) {
        self.0.deduplicated.increment(events);
    }

    /// Events were dropped because the buffer is full.
    pub fn dropped_by_overflow(&self, events: u64) {
        self.0.dropped[0].increment(events);
    }

    /// Events were lost to damage on disk.
    pub fn dropped_by_damage(&self, events: u64) {
        self.0.dropped[1].increment(events);
    }

    /// A payload could not be read.
    pub fn dead_lettered(&self, messages: u64) {
        self.0.dead_letters.increment(messages);
    }

    /// Events were not accepted.
    pub fn refused(&self, reason: RefusalReason, events: u64) {
        self.0.refused[reason as usize].increment(events);
    }

    /// Alerts were raised.
    pub fn alerts(&self, alerts: u64) {
        self.0.alerts.increment(alerts);
    }

    /// A batch of events was acknowledged this long after its arrival.
    pub fn ingested(&self, events: usize, took: Duration) {
        self.0.ingest.record_many(took.as_secs_f64(), events);
    }

    /// A group commit took this long.
    pub fn committed(&self, took: Duration) {
        self.0.commit.record(took.as_secs_f64());
    }

    /// A connection was opened.
    pub fn connection_opened(&self, protocol: Protocol) {
        self.0.connections[protocol as usize].increment(1.0);
    }

    /// A connection was closed.
    pub fn connection_closed(&self, protocol: Protocol) {
        self.0.connections[protocol as usize].decrement(1.0);
    }
}

impl Collector for Edge {
    fn collect(&self, out: &mut Exposition) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        figures.accepted_total = Some(self.accepted.load(Relaxed));
        figures.processed_total = Some(self.processed.load(Relaxed));
        let SiteLabels { site, hub, region } = &self.labels;
        write_site(out, [site.as_str(), hub, region], &figures);
        out.sample(&names::SITES_MANAGED, &[hub, region], 1.0);
    }
}
