//! The books at the end: every tier's ledger against every other's, and the
//! coordinator's list against what the devices were told.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::view::{Tier, tiers};
use crate::audit::{Audit, Finding, audit};
use crate::federation::{Federation, LedgerRow, Watch, by_key, sum};
use crate::plant::Plant;

/// How long each fault was felt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recovery {
    /// From the heal of a cut link to the end of the site's backlog.
    pub(super) link: Option<Duration>,
    /// From the leader's death to events that pass its successor.
    pub(super) hub_leader: Option<Duration>,
    /// From an agent's restart to the first acknowledgement of a device.
    pub(super) edge_agent: Option<Duration>,
}

/// The judgement.
#[derive(Debug)]
pub(super) struct Verdict {
    total: LedgerRow,
    rows: Vec<LedgerRow>,
    sites: Vec<(&'static str, Finding)>,
    /// What two tiers tell differently.
    disagreements: Vec<String>,
    tiers: [Tier; 3],
    recovery: Recovery,
    ran: Duration,
    resent: u64,
}

impl Verdict {
    /// Reads all that the coordinator holds and compares.
    pub(super) async fn reach(
        federation: &Federation,
        watch: &Watch,
        plants: &[Plant],
        recovery: Recovery,
        ran: Duration,
    ) -> Result<Self> {
        let Audit { snapshot, sites, settled } = audit(federation, watch, plants).await?;
        let snapshot = &snapshot;
        let at_sites: Vec<LedgerRow> = snapshot.sites.iter().flat_map(|site| site.ledger.clone()).collect();
        let mut disagreements = disagreements("the sites", &at_sites, &snapshot.ledger);
        disagreements.extend(self::disagreements("the hub's nodes", &snapshot.hub_ledger, &snapshot.ledger));
        if !settled {
            disagreements.push("the tiers stopped before everything was handed on".to_owned());
        }
        let resent = plants.iter().map(|plant| plant.counters.resent.load(std::sync::atomic::Ordering::Relaxed));
        Ok(Self {
            total: sum(snapshot.ledger.iter()),
            rows: snapshot.ledger.clone(),
            sites,
            disagreements,
            tiers: tiers(federation, snapshot, plants),
            recovery,
            ran,
            resent: resent.sum(),
        })
    }

    fn lost(&self) -> u64 {
        self.sites.iter().map(|(_, finding)| finding.lost).sum()
    }

    fn duplicated(&self) -> u64 {
        self.sites.iter().map(|(_, finding)| finding.duplicated).sum()
    }

    fn acknowledged(&self) -> u64 {
        self.sites.iter().map(|(_, finding)| finding.acknowledged).sum()
    }

    /// Everything adds up, everywhere.
    pub(super) fn balanced(&self) -> bool {
        let total = &self.total;
        let settled = total.reduced + total.delivered + total.deduplicated + total.dropped + total.pending;
        total.balanced
            && total.accepted > 0
            && total.accepted == settled
            && self.disagreements.is_empty()
            && self.sites.iter().all(|(_, finding)| finding.is_clean())
    }

    /// The judgement for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            "the coordinator's ledger:".to_owned(),
            format!(
                "  {:14} {:8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}",
                "site", "lane", "accepted", "reduced", "delivered", "resends", "dropped", "pending"
            ),
        ];
        let with_total = self.rows.iter().chain([&self.total]);
        for row in with_total {
            let name = if row.site.is_empty() { "all" } else { &row.site };
            let balanced = if row.balanced { "balanced" } else { "DOES NOT BALANCE" };
            lines.push(format!(
                "  {name:14} {:8} {:9} {:9} {:9} {:9} {:7} {:7}  {balanced}",
                row.lane, row.accepted, row.reduced, row.delivered, row.deduplicated, row.dropped, row.pending
            ));
        }
        for tier in &self.tiers {
            if tier.ratios().is_some() {
                lines.push(format!("reduction at the {}: {} (events, bytes)", tier.name, tier.reduction()));
            }
        }
        let ms =
            |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()));
        lines.push(format!(
            "recovery: hub leader {}, link {}, edge agent {}",
            ms(self.recovery.hub_leader),
            ms(self.recovery.link),
            ms(self.recovery.edge_agent)
        ));
        for (site, finding) in &self.sites {
            lines.extend(finding.contradictions.iter().map(|line| format!("{site}: {line}")));
        }
        lines.extend(self.disagreements.iter().cloned());
        lines.push(format!(
            "{}: {} readings acknowledged to devices, accepted {}, delivered {}, lost {}, duplicated {}",
            if self.balanced() { "the books balance" } else { "THE BOOKS DO NOT BALANCE" },
            self.acknowledged(),
            self.total.accepted,
            self.total.delivered,
            self.lost(),
            self.duplicated()
        ));
        lines
    }

    /// The judgement for a program, as one line.
    pub(super) fn json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let tier = |tier: &Tier| {
            let ratio = |ratio: f64| (ratio * 10.0).round() / 10.0;
            json!({
                "events_in": tier.events_in,
                "events_out": tier.events_out,
                "bytes_in": tier.bytes_in,
                "bytes_out": tier.bytes_out,
                "reduction_events": tier.ratios().map(|(events, _)| ratio(events)),
                "reduction_bytes": tier.ratios().map(|(_, bytes)| ratio(bytes)),
            })
        };
        let tiers = self.tiers.iter().map(|t| (t.name.to_owned(), tier(t)));
        json!({
            "accepted": self.total.accepted,
            "delivered": self.total.delivered,
            "lost": self.lost(),
            "duplicated": self.duplicated(),
            "balanced": self.balanced(),
            "recovery_ms": {
                "hub_leader": ms(self.recovery.hub_leader),
                "link": ms(self.recovery.link),
                "edge_agent": ms(self.recovery.edge_agent),
            },
            "acknowledged": self.acknowledged(),
            "reduced": self.total.reduced,
            "deduplicated": self.total.deduplicated,
            "dropped": self.total.dropped,
            "pending": self.total.pending,
            "resent_by_devices": self.resent,
            "seconds": self.ran.as_secs_f64().round(),
            "tiers": tiers.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Every key must be told alike below and above.
fn disagreements(below_is: &str, below: &[LedgerRow], above: &[LedgerRow]) -> Vec<String> {
    let mut found = Vec::new();
    let (below, above) = (by_key(below), by_key(above));
    for (key, row) in &below {
        let Some(other) = above.get(key) else {
            if row.accepted > 0 {
                found.push(format!("{key:?}: {below_is} know {} sequences, the coordinator none", row.accepted));
            }
            continue;
        };
        let told =
            |row: &LedgerRow| (row.accepted, row.reduced, row.delivered, row.deduplicated, row.dropped, row.pending);
        if told(row) != told(other) {
            found.push(format!("{key:?}: {below_is} tell {:?}, the coordinator {:?}", told(row), told(other)));
        }
        if !row.balanced {
            found.push(format!("{key:?}: the books of {below_is} do not balance"));
        }
    }
    let unknown = above.keys().filter(|key| !below.contains_key(*key));
    found.extend(unknown.map(|key| format!("{key:?} stands at the coordinator, and {below_is} do not know it")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(site: &str, accepted: u64, delivered: u64) -> LedgerRow {
        let reduced = accepted - delivered;
        LedgerRow { site: site.into(), accepted, delivered, reduced, balanced: true, ..LedgerRow::default() }
    }

    #[test]
    fn tiers_that_tell_the_same_agree() {
        let rows = [row("a", 10, 2), row("b", 5, 5)];
        assert_eq!(disagreements("x", &rows, &rows), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_named() {
        let below = [row("a", 10, 2), row("b", 5, 5)];
        assert_eq!(disagreements("x", &below, &below[..1]).len(), 1, "a key is missing above");
        assert_eq!(disagreements("x", &below[..1], &below).len(), 1, "a key is missing below");
        assert_eq!(disagreements("x", &below, &[row("a", 10, 3), row("b", 5, 5)]).len(), 1, "a count differs");
        let mut crooked = below.clone();
        crooked[0].balanced = false;
        assert_eq!(disagreements("x", &crooked, &below).len(), 1, "books below do not balance");
    }
}
