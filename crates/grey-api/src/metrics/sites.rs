//! The figures of sites: one row at an edge, a fleet's at a hub or coordinator.
//!
//! They are read at a scrape instead of held as series, so that a site that
//! moves away disappears, a follower exports none, and a thousand sites cost a
//! table instead of twenty thousand handles.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use grey_model::{Lane, SiteId};

use super::names;
use super::{Collector, Exposition};

/// Sites that one exporter answers for at most: bounds the size of a scrape.
pub const SITES_MAX: usize = 10_000;

/// The state of a site's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SiteState {
    /// It reaches its hub.
    Online = 0,
    /// It reaches its hub badly.
    Degraded = 1,
    /// It does not reach its hub.
    #[default]
    Offline = 2,
    /// It has not reached its hub for long and decides alone.
    Island = 3,
}

impl SiteState {
    /// The name used in JSON.
    pub fn as_str(self) -> &'static str {
        ["online", "degraded", "offline", "island"][self as usize]
    }

    /// True while events travel.
    pub fn is_online(self) -> bool {
        matches!(self, Self::Online | Self::Degraded)
    }
}

/// The labels of a site's series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteLabels {
    /// The site.
    pub site: SiteId,
    /// Its hub; empty when it has none.
    pub hub: String,
    /// The hub's region; empty when unknown.
    pub region: String,
}

/// What is known of a site. `None` leaves the series out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteFigures {
    /// The state of its link.
    pub state: SiteState,
    /// Bytes that wait in its buffer; the sum of the lanes when `None` and those are known.
    pub buffer_bytes: Option<u64>,
    /// Bytes that its buffer may take.
    pub buffer_capacity_bytes: Option<u64>,
    /// Events that went through its rules.
    pub processed_total: Option<u64>,
    /// Events that it acknowledged to devices.
    pub accepted_total: Option<u64>,
    /// When its hub last acknowledged something, Unix ms.
    pub last_sync_ms: Option<i64>,
    /// Events and bytes that wait, by lane.
    pub pending: Option<[(u64, u64); 3]>,
    /// Age of the oldest event that waits, ms.
    pub oldest_pending_age_ms: Option<u64>,
}

/// Writes the series of one site.
pub(crate) fn write_site(out: &mut Exposition, labels: [&str; 3], figures: &SiteFigures) {
    let mut put = |metric: &'static names::Metric, value: Option<f64>| {
        if let Some(value) = value {
            out.sample(metric, &labels, value);
        }
    };
    let number = |value: Option<u64>| value.map(|v| v as f64);
    let waiting = figures.pending.map(|lanes| lanes.iter().map(|(_, bytes)| bytes).sum());
    put(&names::SITE_ONLINE, Some(f64::from(u8::from(figures.state.is_online()))));
    put(&names::SITE_STATUS, Some(f64::from(figures.state as u8)));
    put(&names::BUFFER_BYTES, number(figures.buffer_bytes.or(waiting)));
    put(&names::BUFFER_CAPACITY, number(figures.buffer_capacity_bytes));
    put(&names::EVENTS_PROCESSED, number(figures.processed_total));
    put(&names::EVENTS_ACCEPTED, number(figures.accepted_total));
    put(&names::LAST_SYNC, figures.last_sync_ms.map(|ms| ms as f64 / 1_000.0));
    put(&names::OLDEST_PENDING_AGE, figures.oldest_pending_age_ms.map(|ms| ms as f64 / 1_000.0));
    for lane in Lane::ALL {
        if let Some(lanes) = figures.pending {
            let (events, bytes) = lanes[lane.index()];
            let labels = [labels[0], labels[1], labels[2], lane.as_str()];
            out.sample(&names::PENDING_EVENTS, &labels, events as f64);
            out.sample(&names::PENDING_BYTES, &labels, bytes as f64);
        }
    }
}

/// The sites that a hub or coordinator answers for.
#[derive(Debug, Default)]
pub struct SiteTable(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    answering: bool,
    rows: BTreeMap<SiteId, (SiteLabels, SiteFigures)>,
    refused: u64,
}

impl SiteTable {
    /// Whether this member answers for the sites: the leader does. Who does not exports none.
    pub fn set_answering(&self, answering: bool) {
        self.table().answering = answering;
    }

    /// Sets what is known of a site. A site over [`SITES_MAX`] is counted and left out.
    pub fn set(&self, labels: SiteLabels, figures: SiteFigures) {
        let mut table = self.table();
        if table.rows.len() >= SITES_MAX && !table.rows.contains_key(&labels.site) {
            table.refused += 1;
            return;
        }
        table.rows.insert(labels.site.clone(), (labels, figures));
    }

    /// Sets what is known of every site: what is not named is forgotten.
    pub fn replace(&self, rows: impl IntoIterator<Item = (SiteLabels, SiteFigures)>) {
        let mut fresh = BTreeMap::new();
        let mut refused = 0;
        for (labels, figures) in rows {
            if fresh.len() < SITES_MAX {
                fresh.insert(labels.site.clone(), (labels, figures));
            } else {
                refused += 1;
            }
        }
        let mut table = self.table();
        table.rows = fresh;
        table.refused = refused;
    }

    /// Forgets a site.
    pub fn remove(&self, site: &SiteId) {
        self.table().rows.remove(site);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is a whole row, so a poisoned table is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for SiteTable {
    fn collect(&self, out: &mut Exposition) {
        let table = self.table();
        if !table.answering {
            return;
        }
        let mut managed: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (labels, figures) in table.rows.values() {
            *managed.entry((&labels.hub, &labels.region)).or_default() += 1;
            write_site(out, [labels.site.as_str(), &labels.hub, &labels.region], figures);
        }
        for ((hub, region), sites) in managed {
            out.sample(&names::SITES_MANAGED, &[hub, region], sites as f64);
        }
        out.sample(&names::SITES_REFUSED, &[], table.refused as f64);
    }
}
