//! Which sites are where, and how they are.
//!
//! Reports about one site may come through several hubs, late and twice. The
//! last one by the site's stamp wins, with the reporting node as tie-breaker:
//! a last-writer-wins register (Shapiro et al., 2011), from the `crdts` crate.

use crdts::{CmRDT, LWWReg};
use grey_model::{Epoch, Lane, SiteId};
use serde::{Deserialize, Serialize};

/// How a site is connected, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SiteState {
    /// Heartbeats arrive and the backlog is short.
    Online,
    /// Connected, but behind.
    Degraded,
    /// No heartbeat within the offline threshold.
    #[default]
    Offline,
    /// Offline for long; works alone.
    Island,
}

/// What waits in one lane of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LanePending {
    /// Events.
    pub events: u64,
    /// Encoded bytes.
    pub bytes: u64,
}

/// One statement about a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The site.
    pub site: SiteId,
    /// The life of the site.
    pub epoch: Epoch,
    /// The hub that the site speaks to.
    pub hub: SiteId,
    /// How it is.
    pub state: SiteState,
    /// When it was last heard, Unix ms by the reporter's clock.
    pub last_seen_ms: i64,
    /// When the report was made: orders reports of one site.
    pub reported_ms: i64,
    /// What waits at the site, by lane.
    pub pending: [LanePending; 3],
    /// Age of the oldest event that waits at the site, ms.
    pub oldest_pending_age_ms: u64,
    /// Events that the site accepted in this life.
    pub accepted_total: u64,
}

impl SiteReport {
    /// Events waiting at the site in one lane.
    pub fn pending_in(&self, lane: Lane) -> LanePending {
        self.pending[lane.index()]
    }
}

/// The winning report about one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence(LWWReg<SiteReport, (i64, SiteId)>);

impl Presence {
    /// Starts with one report.
    pub fn new(report: SiteReport) -> Self {
        let marker = (report.reported_ms, report.hub.clone());
        Self(LWWReg { val: report, marker })
    }

    /// Takes a report if it is newer than the one held.
    pub fn merge(&mut self, report: SiteReport) {
        let marker = (report.reported_ms, report.hub.clone());
        if marker != self.0.marker {
            self.0.apply(LWWReg { val: report, marker });
        }
    }

    /// The winning report.
    pub fn report(&self) -> &SiteReport {
        &self.0.val
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hub: &str, reported_ms: i64) -> SiteReport {
        SiteReport {
            site: SiteId::new("s").unwrap(),
            epoch: Epoch(1),
            hub: SiteId::new(hub).unwrap(),
            state: SiteState::Online,
            last_seen_ms: reported_ms,
            reported_ms,
            pending: Default::default(),
            oldest_pending_age_ms: 0,
            accepted_total: 0,
        }
    }

    #[test]
    fn the_order_of_reports_does_not_matter() {
        let reports = [report("a", 1), report("b", 3), report("a", 3), report("a", 2), report("b", 3)];
        let mut forward = Presence::new(reports[0].clone());
        let mut backward = Presence::new(reports[4].clone());
        for i in 0..reports.len() {
            forward.merge(reports[i].clone());
            backward.merge(reports[reports.len() - 1 - i].clone());
        }
        assert_eq!(forward, backward);
        assert_eq!(forward.report().hub.as_str(), "b");
    }
}
