//! The comparison that every claim rests on: what devices were acknowledged
//! for, against every event that the coordinator lists.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::federation::{Edge, Federation, Forward, LedgerRow, SiteView, Snapshot, Watch, http, sum};
use crate::plant::{NumberSet, Plant, Record};
use crate::workspace::{list, text};

/// Events asked for at once.
const PAGE_EVENTS: usize = 5_000;
/// When nothing reached the coordinator for so long, nothing more will.
const STILL_FOR: Duration = Duration::from_secs(30);
/// Ids named in a report; the counts are complete.
const EXAMPLES_MAX: usize = 5;

/// What the coordinator lists for one site.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Sequences by epoch and lane.
    sequences: BTreeMap<(u64, String), NumberSet>,
    /// Reading numbers by the device's part of their ids.
    readings: BTreeMap<String, NumberSet>,
    /// Events that are no readings: made by rules at the site.
    derived: u64,
    /// Sequences or ids that were listed twice.
    twice: u64,
    examples: Vec<String>,
}

impl Listed {
    /// Reads all pages of a site.
    pub(crate) async fn read(coordinator: SocketAddr, site: &str) -> Result<Self> {
        let mut listed = Self::default();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/events?site={site}&limit={PAGE_EVENTS}{cursor}");
            let page = http::get_json(coordinator, &path).await?;
            for event in list(&page["events"]) {
                listed.add(event).with_context(|| format!("{path}: {event}"))?;
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", http::escaped(next)),
                None => return Ok(listed),
            }
        }
    }

    fn add(&mut self, event: &Value) -> Result<()> {
        let epoch = event["epoch"].as_u64().context("an event without `epoch`")?;
        let seq = event["seq"].as_u64().context("an event without `seq`")?;
        let key = (epoch, text(event, "lane").to_owned());
        let new_place = self.sequences.entry(key).or_default().insert(seq);
        let mut new_id = true;
        match (text(event, "kind"), Record::split_id(text(event, "id"))) {
            ("reading", Some((prefix, n))) => {
                if !self.readings.contains_key(prefix) {
                    self.readings.insert(prefix.to_owned(), NumberSet::default());
                }
                new_id = self.readings.get_mut(prefix).is_none_or(|numbers| numbers.insert(n));
            }
            // Devices give every reading an id: one without is a rule's copy, of a reading that came too late.
            _ => self.derived += 1,
        }
        if !(new_place && new_id) {
            self.twice += 1;
            self.example(|| format!("twice: {event}"));
        }
        Ok(())
    }

    fn example(&mut self, line: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(line());
        }
    }

    /// How many events were listed.
    pub(crate) fn events(&self) -> u64 {
        self.sequences.values().map(NumberSet::len).sum::<u64>() + self.twice
    }
}

/// The finding about one site.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Readings that devices were acknowledged for.
    pub(crate) acknowledged: u64,
    /// Acknowledged, and neither listed nor accounted for.
    pub(crate) lost: u64,
    /// Acknowledged and not listed, because a full outbox dropped, thinned or rolled them up; the
    /// ledger says how many.
    pub(crate) given_up: u64,
    /// Listed or counted more than once.
    pub(crate) duplicated: u64,
    /// Events listed.
    pub(crate) listed: u64,
    /// Readings among them; the rest was made by rules.
    pub(crate) readings: u64,
    /// Resends of devices that the edge recognised by their ids.
    pub(crate) deduplicated: u64,
    /// Listed differs from what the ledger calls delivered, or the like.
    pub(crate) contradictions: Vec<String>,
}

impl Finding {
    /// Nothing lost, nothing twice, and the ledger tells the same.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.contradictions.is_empty()
    }
}

/// Compares one site's records with the coordinator's list and ledger rows.
pub(crate) fn compare(forward: Forward, records: &[Arc<Record>], listed: &mut Listed, rows: &[LedgerRow]) -> Finding {
    let total = sum(rows.iter());
    let mut finding = Finding {
        duplicated: listed.twice,
        listed: listed.events(),
        readings: listed.events() - listed.derived,
        deduplicated: total.deduplicated,
        ..Finding::default()
    };
    // Of what was rolled up some sequences carry aggregates, which are listed as derived.
    let accounted = total.dropped + total.reduced + if total.reduced > 0 { listed.derived } else { 0 };
    let mut unknown = 0;
    let mut absent = 0;
    for record in records {
        let acknowledged = record.numbers();
        finding.acknowledged += acknowledged.len();
        if forward != Forward::Raw {
            continue;
        }
        let none = NumberSet::default();
        let at_coordinator = listed.readings.get(record.prefix()).unwrap_or(&none);
        let missing: Vec<u64> = acknowledged.iter().filter(|n| !at_coordinator.contains(*n)).collect();
        let strange = at_coordinator.iter().filter(|n| !acknowledged.contains(*n)).count() as u64;
        absent += missing.len() as u64;
        unknown += strange;
        if absent > accounted {
            for n in missing.into_iter().take(EXAMPLES_MAX) {
                listed.example(|| format!("lost: {}", record.id(n)));
            }
        }
    }
    finding.given_up = absent.min(accounted);
    finding.lost += absent - finding.given_up;
    if unknown > 0 {
        finding.contradictions.push(format!("{unknown} listed readings that no device was acknowledged for"));
    }

    // Independent of ids: the ledger's sequences, less the resends and what
    // rules made, are the readings that devices were acknowledged for.
    let readings = (total.accepted - total.dropped.min(total.accepted))
        .saturating_sub(total.deduplicated)
        .saturating_sub(listed.derived);
    if forward == Forward::Raw {
        let present = finding.acknowledged - finding.given_up;
        if readings.saturating_sub(total.reduced) != present {
            let said = format!("the ledger counts {readings} readings, the devices {present} that were not given up");
            finding.contradictions.push(said);
        }
    } else {
        finding.lost += finding.acknowledged.saturating_sub(readings);
        finding.duplicated += readings.saturating_sub(finding.acknowledged);
    }
    if total.delivered != finding.listed {
        let said = format!("the ledger calls {} events delivered, {} are listed", total.delivered, finding.listed);
        finding.contradictions.push(said);
    }
    for example in &listed.examples {
        finding.contradictions.push(example.clone());
    }
    finding
}

/// The outcome of an audit of every site.
#[derive(Debug)]
pub(crate) struct Audit {
    /// What the tiers said at the end.
    pub(crate) snapshot: Snapshot,
    /// One finding for each site.
    pub(crate) sites: Vec<(&'static str, Finding)>,
    /// Nothing was pending anywhere, and every tier knew what the sites know.
    pub(crate) settled: bool,
}

/// Audits every site once all tiers have settled, or once they stopped moving
/// without having settled. Windows may still close meanwhile: the audit is
/// made again until the coordinator's ledger stood still around it.
pub(crate) async fn audit(federation: &Federation, watch: &Watch, plants: &[Plant]) -> Result<Audit> {
    loop {
        let (before, _) = settle(federation, watch, plants).await?;
        let mut sites = Vec::new();
        for (edge, plant) in federation.edges.iter().zip(plants) {
            let mut listed = Listed::read(federation.coordinator.http, edge.name).await?;
            let rows: Vec<LedgerRow> = before.rows_of(edge.name).cloned().collect();
            sites.push((edge.name, compare(edge.forward, &plant.records, &mut listed, &rows)));
        }
        let (snapshot, settled) = settle(federation, watch, plants).await?;
        if before.ledger == snapshot.ledger {
            return Ok(Audit { snapshot, sites, settled });
        }
    }
}

/// Waits until the tiers have settled (true), or until nothing moves any more (false).
async fn settle(federation: &Federation, watch: &Watch, plants: &[Plant]) -> Result<(Snapshot, bool)> {
    let asked = Instant::now();
    let holds = |snapshot: &Snapshot| snapshot.at > asked && has_settled(federation, snapshot, plants);
    loop {
        let before = progress(&watch.now());
        if let Ok(snapshot) = watch.until("every tier to hand on what it holds", STILL_FOR, holds).await {
            return Ok((snapshot, true));
        }
        let now = watch.now();
        if progress(&now) == before {
            return Ok((now, false));
        }
    }
}

fn has_settled(federation: &Federation, snapshot: &Snapshot, plants: &[Plant]) -> bool {
    let handed_on = |((edge, site), plant): ((&Edge, &SiteView), &Plant)| {
        let (below, above) = (sum(site.ledger.iter()), sum(snapshot.rows_of(edge.name)));
        site.answers
            && site.pending + below.pending == 0
            && below.accepted >= plant.acknowledged()
            && above.accepted == below.accepted
    };
    let mut sites = federation.edges.iter().zip(&snapshot.sites).zip(plants);
    sum(snapshot.hub_ledger.iter()).pending == 0 && sites.all(handed_on)
}

/// Grows as long as anything reaches the coordinator.
fn progress(snapshot: &Snapshot) -> u64 {
    sum(snapshot.ledger.iter()).accepted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(numbers: std::ops::Range<u64>) -> Arc<Record> {
        let record = Record::new("s", "d");
        numbers.for_each(|n| {
            record.acknowledge(n);
        });
        Arc::new(record)
    }

    fn listed(events: &[(u64, &str)]) -> Listed {
        let mut listed = Listed::default();
        for (seq, id) in events {
            let event = json!({ "epoch": 1, "lane": "bulk", "seq": seq, "kind": "reading", "id": id });
            listed.add(&event).unwrap();
        }
        listed
    }

    fn rows(accepted: u64, deduplicated: u64, reduced: u64) -> Vec<LedgerRow> {
        let delivered = accepted - deduplicated - reduced;
        vec![LedgerRow { accepted, deduplicated, reduced, delivered, balanced: true, ..LedgerRow::default() }]
    }

    #[test]
    fn each_once_is_clean_also_after_a_resend() {
        let mut all = listed(&[(0, "s.d.0"), (1, "s.d.1"), (3, "s.d.2")]);
        let finding = compare(Forward::Raw, &[record(0..3)], &mut all, &rows(4, 1, 0));
        assert!(finding.is_clean(), "{finding:?}");
    }

    #[test]
    fn a_loss_and_a_double_are_found_by_id() {
        let mut wrong = listed(&[(0, "s.d.0"), (1, "s.d.1"), (2, "s.d.1")]);
        let finding = compare(Forward::Raw, &[record(0..3)], &mut wrong, &rows(3, 0, 0));
        assert_eq!((finding.lost, finding.duplicated), (1, 1), "{finding:?}");
        assert!(finding.contradictions.iter().any(|line| line == "lost: s.d.2"));
    }

    #[test]
    fn a_reading_that_nobody_was_acknowledged_for_is_found() {
        let mut wrong = listed(&[(0, "s.d.0"), (1, "s.d.9")]);
        let finding = compare(Forward::Raw, &[record(0..1)], &mut wrong, &rows(2, 0, 0));
        assert!(!finding.is_clean());
    }

    #[test]
    fn a_reduced_site_is_checked_by_count() {
        let mut derived = Listed::default();
        derived.add(&json!({ "epoch": 1, "lane": "normal", "seq": 0, "kind": "aggregate" })).unwrap();
        let mut row = rows(11, 0, 10);
        assert!(compare(Forward::Aggregates, &[record(0..10)], &mut derived, &row).is_clean());
        let short = compare(Forward::Aggregates, &[record(0..12)], &mut derived, &row);
        assert_eq!(short.lost, 2);
        row[0].accepted = 13;
        let surplus = compare(Forward::Aggregates, &[record(0..10)], &mut derived, &row);
        assert_eq!(surplus.duplicated, 2);
    }

    #[test]
    fn a_ledger_that_says_otherwise_is_a_contradiction() {
        let mut all = listed(&[(0, "s.d.0")]);
        let mut row = rows(1, 0, 0);
        row[0].delivered = 2;
        assert!(!compare(Forward::Raw, &[record(0..1)], &mut all, &row).is_clean());
    }
}
