//! The metrics of the upper tiers and of the parts that tiers share, as handles that are looked up once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram};

use super::names;
use super::sites::SiteTable;
use super::{Collector, Metrics};

/// Hubs with series of their own at a coordinator; more share the label `other`.
const HUBS_MAX: usize = 256;

/// What an uplink counts, of an edge or of a hub.
#[derive(Debug, Clone)]
pub struct UplinkMetrics {
    connected: Gauge,
    connects: Counter,
    failures: Counter,
    redirects: Counter,
    blocks_sent: Counter,
    blocks_acknowledged: Counter,
    sent_bytes: Counter,
    received_bytes: Counter,
    unacknowledged_bytes: Gauge,
    round_trip: Gauge,
}

/// Where an uplink stands. Counts are since the uplink was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UplinkFigures {
    /// A session stands.
    pub connected: bool,
    /// Sessions established.
    pub connects: u64,
    /// Attempts that failed and sessions that broke.
    pub failures: u64,
    /// Times that the upper tier named another node.
    pub redirects: u64,
    /// Blocks sent, repeats included.
    pub blocks_sent: u64,
    /// Blocks acknowledged.
    pub blocks_acknowledged: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent and not acknowledged yet.
    pub unacknowledged_bytes: u64,
    /// Smoothed round trip of heartbeats, ms, once one came back.
    pub round_trip_ms: Option<u64>,
}

impl UplinkMetrics {
    /// The uplink of a node of a tier (`edge` or `hub`).
    pub fn new(metrics: &Metrics, tier: &str, node: &str) -> Self {
        let node = [tier, node];
        Self {
            connected: metrics.gauge(&names::UPLINK_CONNECTED, &node),
            connects: metrics.counter(&names::UPLINK_CONNECTS, &node),
            failures: metrics.counter(&names::UPLINK_FAILURES, &node),
            redirects: metrics.counter(&names::UPLINK_REDIRECTS, &node),
            blocks_sent: metrics.counter(&names::UPLINK_BLOCKS_SENT, &node),
            blocks_acknowledged: metrics.counter(&names::UPLINK_BLOCKS_ACKNOWLEDGED, &node),
            sent_bytes: metrics.counter(&names::UPLINK_SENT_BYTES, &node),
            received_bytes: metrics.counter(&names::UPLINK_RECEIVED_BYTES, &node),
            unacknowledged_bytes: metrics.gauge(&names::UPLINK_UNACKNOWLEDGED_BYTES, &node),
            round_trip: metrics.gauge(&names::UPLINK_ROUND_TRIP_SECONDS, &node),
        }
    }

    /// Shows where the uplink stands.
    pub fn set(&self, figures: &UplinkFigures) {
        self.connected.set(f64::from(u8::from(figures.connected)));
        self.connects.absolute(figures.connects);
        self.failures.absolute(figures.failures);
        self.redirects.absolute(figures.redirects);
        self.blocks_sent.absolute(figures.blocks_sent);
        self.blocks_acknowledged.absolute(figures.blocks_acknowledged);
        self.sent_bytes.absolute(figures.sent_bytes);
        self.received_bytes.absolute(figures.received_bytes);
        self.unacknowledged_bytes.set(figures.unacknowledged_bytes as f64);
        if let Some(ms) = figures.round_trip_ms {
            self.round_trip.set(ms as f64 / 1_000.0);
        }
    }
}

/// What a hub counts.
#[derive(Debug, Clone)]
pub struct HubMetrics {
    events: Counter,
    blocks: Counter,
    duplicates: Counter,
    bytes_received: Counter,
    bytes_uploaded: Counter,
    queue_depth: Gauge,
    sessions: Gauge,
    accept: Histogram,
    sites: Arc<SiteTable>,
}

impl HubMetrics {
    /// The metrics of a member of the hub `hub`.
    pub fn new(metrics: &Metrics, hub: &str, region: &str) -> Self {
        let labels = [hub, region];
        let sites = Arc::new(SiteTable::default());
        metrics.collect_with(Arc::clone(&sites) as Arc<dyn Collector>);
        Self {
            events: metrics.counter(&names::HUB_EVENTS_RECEIVED, &labels),
            blocks: metrics.counter(&names::HUB_BLOCKS_RECEIVED, &labels),
            duplicates: metrics.counter(&names::HUB_DUPLICATE_EVENTS, &labels),
            bytes_received: metrics.counter(&names::HUB_BYTES_RECEIVED, &labels),
            bytes_uploaded: metrics.counter(&names::HUB_BYTES_UPLOADED, &labels),
            queue_depth: metrics.gauge(&names::HUB_QUEUE_DEPTH, &labels),
            sessions: metrics.gauge(&names::HUB_SESSIONS, &labels),
            accept: metrics.histogram(&names::HUB_ACCEPT_SECONDS, &labels),
            sites,
        }
    }

    /// The sites that the hub answers for while this member leads.
    pub fn sites(&self) -> &SiteTable {
        &self.sites
    }

    /// A block of an edge was accepted: `events` of it were new, `duplicates` were known.
    pub fn block_received(&self, events: u64, duplicates: u64, bytes: u64, took: Duration) {
        self.blocks.increment(1);
        self.events.increment(events);
        self.duplicates.increment(duplicates);
        self.bytes_received.increment(bytes);
        self.accept.record(took.as_secs_f64());
    }

    /// The coordinator acknowledged bytes of blocks.
    pub fn uploaded(&self, bytes: u64) {
        self.bytes_uploaded.increment(bytes);
    }

    /// Events that wait for the coordinator.
    pub fn set_queue_depth(&self, events: u64) {
        self.queue_depth.set(events as f64);
    }

    /// Edges connected to this member.
    pub fn set_sessions(&self, sessions: usize) {
        self.sessions.set(sessions as f64);
    }
}

/// What a coordinator counts.
#[derive(Debug, Clone)]
pub struct CoordinatorMetrics {
    metrics: Metrics,
    feeds: Arc<Mutex<BTreeMap<String, HubFeed>>>,
    stored_events: Gauge,
    stored_bytes: Gauge,
    query: Histogram,
    delay: Histogram,
    sites: Arc<SiteTable>,
}

/// What a coordinator counts for one hub.
#[derive(Debug, Clone)]
pub struct HubFeed {
    events: Counter,
    blocks: Counter,
    duplicates: Counter,
    bytes: Counter,
}

impl HubFeed {
    /// A block of the hub was accepted: `events` of it were new, `duplicates` were known.
    pub fn block_received(&self, events: u64, duplicates: u64, bytes: u64) {
        self.blocks.increment(1);
        self.events.increment(events);
        self.duplicates.increment(duplicates);
        self.bytes.increment(bytes);
    }
}

impl CoordinatorMetrics {
    /// The metrics of a member of the coordinator.
    pub fn new(metrics: &Metrics) -> Self {
        let sites = Arc::new(SiteTable::default());
        metrics.collect_with(Arc::clone(&sites) as Arc<dyn Collector>);
        Self {
            feeds: Arc::default(),
            stored_events: metrics.gauge(&names::COORDINATOR_STORED_EVENTS, &[]),
            stored_bytes: metrics.gauge(&names::COORDINATOR_STORED_BYTES, &[]),
            query: metrics.histogram(&names::COORDINATOR_QUERY_SECONDS, &[]),
            delay: metrics.histogram(&names::COORDINATOR_DELAY_SECONDS, &[]),
            metrics: metrics.clone(),
            sites,
        }
    }

    /// The sites of the whole federation, while this member leads.
    pub fn sites(&self) -> &SiteTable {
        &self.sites
    }

    /// The counters of one hub; keep them for the length of its session.
    pub fn hub(&self, hub: &str) -> HubFeed {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = if feeds.len() >= HUBS_MAX && !feeds.contains_key(hub) { "other" } else { hub };
        let feed = feeds.entry(hub.to_owned()).or_insert_with(|| HubFeed {
            events: self.metrics.counter(&names::COORDINATOR_EVENTS_RECEIVED, &[hub]),
            blocks: self.metrics.counter(&names::COORDINATOR_BLOCKS_RECEIVED, &[hub]),
            duplicates: self.metrics.counter(&names::COORDINATOR_DUPLICATE_EVENTS, &[hub]),
            bytes: self.metrics.counter(&names::COORDINATOR_RECEIVED_BYTES, &[hub]),
        });
        feed.clone()
    }

    /// What the hot store holds.
    pub fn set_stored(&self, events: u64, bytes: u64) {
        self.stored_events.set(events as f64);
        self.stored_bytes.set(bytes as f64);
    }

    /// One page of a query took this long.
    pub fn queried(&self, took: Duration) {
        self.query.record(took.as_secs_f64());
    }

    /// A block's events came this long after the site closed the block.
    pub fn delayed(&self, events: usize, delay: Duration) {
        self.delay.record_many(delay.as_secs_f64(), events);
    }
}

/// What a member of a Raft group counts.
#[derive(Debug, Clone)]
pub struct ConsensusMetrics {
    term: Gauge,
    is_leader: Gauge,
    has_leader: Gauge,
    commit: Gauge,
    applied: Gauge,
    elections: Counter,
    snapshots: Counter,
    propose: Histogram,
}

impl ConsensusMetrics {
    /// The metrics of a member of a tier's group (`hub` or `coordinator`).
    pub fn new(metrics: &Metrics, tier: &str, node: &str) -> Self {
        let node = [tier, node];
        Self {
            term: metrics.gauge(&names::CONSENSUS_TERM, &node),
            is_leader: metrics.gauge(&names::CONSENSUS_IS_LEADER, &node),
            has_leader: metrics.gauge(&names::CONSENSUS_HAS_LEADER, &node),
            commit: metrics.gauge(&names::CONSENSUS_COMMIT, &node),
            applied: metrics.gauge(&names::CONSENSUS_APPLIED, &node),
            elections: metrics.counter(&names::CONSENSUS_ELECTIONS, &node),
            snapshots: metrics.counter(&names::CONSENSUS_SNAPSHOTS, &node),
            propose: metrics.histogram(&names::CONSENSUS_PROPOSE_SECONDS, &node),
        }
    }

    /// Where the group stands, as this member sees it.
    pub fn set_progress(&self, term: u64, commit: u64, applied: u64) {
        self.term.set(term as f64);
        self.commit.set(commit as f64);
        self.applied.set(applied as f64);
    }

    /// The leader changed: whether there is one, and whether it is this member.
    pub fn leader_changed(&self, known: bool, here: bool) {
        self.elections.increment(u64::from(known));
        self.has_leader.set(f64::from(u8::from(known)));
        self.is_leader.set(f64::from(u8::from(here)));
    }

    /// A checkpoint of a peer was installed.
    pub fn snapshot_installed(&self) {
        self.snapshots.increment(1);
    }

    /// A proposal was applied this long after it was made.
    pub fn applied(&self, took: Duration) {
        self.propose.record(took.as_secs_f64());
    }
}

/// What a log or store counts.
#[derive(Debug, Clone)]
pub struct StorageMetrics {
    commit: Histogram,
    bytes: Gauge,
    available_bytes: Gauge,
    torn_bytes: Counter,
    damaged_records: Counter,
}

impl StorageMetrics {
    /// The metrics of one store of a node, for example `intake`, `outbox` or `raft`.
    pub fn new(metrics: &Metrics, tier: &str, node: &str, store: &str) -> Self {
        let labels = [tier, node, store];
        Self {
            commit: metrics.histogram(&names::STORAGE_COMMIT_SECONDS, &labels),
            bytes: metrics.gauge(&names::STORAGE_BYTES, &labels),
            available_bytes: metrics.gauge(&names::STORAGE_AVAILABLE_BYTES, &labels),
            torn_bytes: metrics.counter(&names::STORAGE_TORN_BYTES, &labels),
            damaged_records: metrics.counter(&names::STORAGE_DAMAGED_RECORDS, &labels),
        }
    }

    /// A commit took this long.
    pub fn committed(&self, took: Duration) {
        self.commit.record(took.as_secs_f64());
    }

    /// Bytes on disk, and bytes still free.
    pub fn set_bytes(&self, bytes: u64, available_bytes: u64) {
        self.bytes.set(bytes as f64);
        self.available_bytes.set(available_bytes as f64);
    }

    /// What a start or a read found broken.
    pub fn damaged(&self, records: u64, torn_bytes: u64) {
        self.damaged_records.increment(records);
        self.torn_bytes.increment(torn_bytes);
    }
}

/// Whether the books balance.
#[derive(Debug, Clone)]
pub struct LedgerMetrics {
    streams: Gauge,
    unbalanced: Gauge,
}

impl LedgerMetrics {
    /// The books of a node of a tier.
    pub fn new(metrics: &Metrics, tier: &str, node: &str) -> Self {
        let node = [tier, node];
        Self {
            streams: metrics.gauge(&names::LEDGER_STREAMS, &node),
            unbalanced: metrics.gauge(&names::LEDGER_UNBALANCED, &node),
        }
    }

    /// Stream keys in the books, and those of them that do not balance.
    pub fn set(&self, streams: u64, unbalanced: u64) {
        self.streams.set(streams as f64);
        self.unbalanced.set(unbalanced as f64);
    }
}

/// What the HTTP server counts. Routes are patterns, so the series are as many as the routes.
#[derive(Debug)]
pub(crate) struct HttpMetrics(Metrics);

impl HttpMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self(metrics.clone())
    }

    pub(crate) fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        self.0.counter(&names::HTTP_REQUESTS, &[method, route, status.as_str()]).increment(1);
        self.0.histogram(&names::HTTP_SECONDS, &[route]).record(took.as_secs_f64());
    }
}
