//! What must hold when a run has ended: every promise kept once, books that
//! balance and agree on every tier, replicas that are equal.

use std::collections::BTreeMap;
use std::ops::Range;

use grey_codec::decode_block;
use grey_ledger::{Replicated, Row};
use grey_model::{Event, Kind, Name, Seq, SiteId, StreamKey, Value};

use crate::device::EventKey;
use crate::member::Member;
use crate::site::START_MS;
use crate::world::World;

/// Findings listed of one kind.
const LISTED_MAX: usize = 4;

type Books = BTreeMap<StreamKey, Row>;

/// An event as a coordinator member serves it.
struct Found {
    key: StreamKey,
    seq: Seq,
    event: Event,
}

/// Everything that is wrong.
pub(crate) fn state(world: &World) -> Vec<String> {
    let mut wrong = Wrong::default();
    let (hubs, coordinators) = world.members.split_at(world.plan.hubs);
    let mut of_edge = Wrong::default();
    let edge = edge_books(world, &mut of_edge);
    for member in coordinators {
        match events_of(member) {
            Ok(found) => deliveries(world, member, &edge, found, &mut wrong),
            Err(what) => wrong.note("unreadable", what),
        }
    }
    wrong.list.append(&mut of_edge.list);
    let rolled_back = world.sites.iter().filter(|site| site.was_rolled_back);
    let forgotten: Vec<SiteId> = rolled_back.filter_map(|site| Some(site.core.as_ref()?.site().clone())).collect();
    for member in &world.members {
        tier_books(member, &edge, &forgotten, &mut wrong);
    }
    for group in [hubs, coordinators] {
        equal_replicas(group, &mut wrong);
    }
    wrong.list
}

#[derive(Default)]
struct Wrong {
    list: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Wrong {
    fn note(&mut self, kind: &'static str, what: String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= LISTED_MAX {
            self.list.push(format!("{kind}: {what}"));
        }
    }
}

fn equal_replicas(group: &[Member], wrong: &mut Wrong) {
    let states: Vec<(String, Replicated)> =
        group.iter().filter_map(|member| Some((member.label(), member.state()?))).collect();
    for (label, state) in states.iter().skip(1) {
        let (first_label, first) = &states[0];
        if first.applied() == state.applied() && first != state {
            wrong.note("replicas differ", format!("{first_label} and {label} at index {}", first.applied()));
        }
    }
}

fn key_of(row: &Row) -> StreamKey {
    StreamKey { site: row.site.clone(), epoch: row.epoch, lane: row.lane }
}

/// The sites' own books.
fn edge_books(world: &World, wrong: &mut Wrong) -> Books {
    let mut books = Books::new();
    for site in &world.sites {
        let Some(core) = &site.core else { continue };
        for row in core.ledger() {
            if !row.balanced {
                wrong.note("a site's books do not balance", format!("{row:?}"));
            }
            if row.tally.dropped > 0 {
                wrong.note("a site dropped sequences", format!("{row:?}"));
            }
            if row.accepted > 0 {
                books.insert(key_of(&row), row);
            }
        }
    }
    books
}

/// The books of a member against the sites'.
fn tier_books(member: &Member, edge: &Books, forgotten: &[SiteId], wrong: &mut Wrong) {
    let Some(state) = member.state() else { return };
    let label = member.label();
    let rows: Books = state.ledger(None).into_iter().map(|row| (key_of(&row), row)).collect();
    for (key, row) in &rows {
        if !row.balanced {
            wrong.note("a tier's books do not balance", format!("{label}: {row:?}"));
        }
        let coverage = state.coverage(key);
        if coverage.contiguous_end() != coverage.end() {
            wrong.note("coverage has a gap", format!("{label}: {key}: {:?}", coverage.iter().collect::<Vec<_>>()));
        }
        if !edge.contains_key(key) && !forgotten.contains(&key.site) {
            wrong.note("a stream that no site has", format!("{label}: {key}"));
        }
    }
    for (key, site_row) in edge {
        let Some(row) = rows.get(key) else {
            wrong.note("a stream never arrived", format!("{label}: {key}"));
            continue;
        };
        let is_forgotten = forgotten.contains(&key.site);
        if is_forgotten && row.accepted < site_row.accepted {
            wrong.note("a tier lacks sequences", format!("{label}: {key}: {} of {}", row.accepted, site_row.accepted));
        }
        if !is_forgotten && (row.accepted, row.tally) != (site_row.accepted, site_row.tally) {
            wrong.note(
                "tiers disagree",
                format!(
                    "{key}: the site accepted {} ({:?}), {label} {} ({:?})",
                    site_row.accepted, site_row.tally, row.accepted, row.tally
                ),
            );
        }
    }
}

/// The events that a member would serve, each as often as it would.
fn events_of(member: &Member) -> Result<Vec<Found>, String> {
    let mut all = Vec::new();
    for stored in member.store.values() {
        let (header, events) = decode_block(&stored.block).map_err(|error| format!("{}: {error}", member.label()))?;
        let key = header.key();
        let is_fresh = |seq: Seq| stored.fresh.iter().any(|range: &Range<Seq>| range.contains(&seq));
        all.extend(events.into_iter().filter(|found| is_fresh(found.seq)).map(|found| Found {
            key: key.clone(),
            seq: found.seq,
            event: found.event,
        }));
    }
    Ok(all)
}

fn deliveries(world: &World, member: &Member, edge: &Books, found: Vec<Found>, wrong: &mut Wrong) {
    let label = member.label();
    let mut by_seq: BTreeMap<(StreamKey, Seq), u64> = BTreeMap::new();
    let mut readings: BTreeMap<EventKey, u64> = BTreeMap::new();
    let mut counted: BTreeMap<(Name, Name), u64> = BTreeMap::new();
    for Found { key, seq, event } in found {
        *by_seq.entry((key, seq)).or_default() += 1;
        // The copy of a reading that no window took any more.
        let is_set_aside = event.attributes.iter().any(|(name, _)| matches!(name.as_str(), "late" | "ahead"));
        match (event.kind, &event.value) {
            (Kind::Reading, _) if is_set_aside => *counted.entry((event.device, event.stream)).or_default() += 1,
            (Kind::Reading, _) => {
                *readings.entry((event.device.to_string(), event.device_time_ms)).or_default() += 1;
            }
            (Kind::Aggregate, Value::Fields(fields)) => {
                let count = fields.iter().find(|(name, _)| name.as_str() == "count").map_or(0.0, |(_, count)| *count);
                *counted.entry((event.device, event.stream)).or_default() += count as u64;
            }
            _ => {}
        }
    }
    for ((key, seq), times) in &by_seq {
        if *times > 1 {
            wrong.note("a sequence is stored twice", format!("{label}: {key} {seq}, {times} times"));
        }
    }
    for (event, times) in &readings {
        if *times > 1 {
            wrong.note("an event arrived twice", format!("{label}: {event:?}, {times} times"));
        }
    }
    let stored: u64 = by_seq.values().sum();
    let expected: u64 = edge.values().map(|row| row.tally.delivered).sum();
    let is_whole = world.sites.iter().all(|site| !site.was_rolled_back);
    if is_whole && stored != expected {
        wrong.note(
            "the store disagrees with the books",
            format!("{label} serves {stored} events, sites delivered {expected}"),
        );
    }
    for site in &world.sites {
        let Some(core) = &site.core else { continue };
        let promised = site.promised.len() as u64;
        let arrived = site.promised.iter().filter(|event| readings.contains_key(*event)).count() as u64;
        let rows = edge.iter().filter(|(key, _)| key.site == *core.site());
        let reduced: u64 = rows.map(|(_, row)| row.tally.reduced).sum();
        // A site that was rolled back has forgotten what it reduced; the tiers above have not.
        let here = member.state().map(|state| state.ledger(Some(core.site()))).unwrap_or_default();
        if reduced == 0 && here.iter().all(|row| row.tally.reduced == 0) {
            for event in site.promised.iter().filter(|event| !readings.contains_key(*event)) {
                wrong.note("an acknowledged event is lost", format!("{label}: {event:?}"));
            }
        }
        if site.was_rolled_back {
            // Its books begin again with what the copy knew, and windows that were open in
            // the copy are sent a second time.
            continue;
        }
        if arrived + reduced != promised {
            wrong.note(
                "acknowledged events are not accounted for",
                format!(
                    "{label}: site {} promised {promised}, of which {arrived} arrived and {reduced} were reduced",
                    site.number + 1
                ),
            );
        }
        let prefix = format!("dev-{}-", site.number);
        let aggregated: u64 = counted.iter().filter(|((d, _), _)| d.starts_with(&prefix)).map(|(_, n)| n).sum();
        if aggregated != promised {
            wrong.note(
                "aggregates do not count every event once",
                format!("{label}: site {} promised {promised}, its windows hold {aggregated}", site.number + 1),
            );
        }
    }
}

/// Everything that the first coordinator member serves, for the trace.
pub(crate) fn inventory(world: &World) -> Vec<String> {
    let found = world.members.get(world.plan.hubs).map(events_of).and_then(Result::ok).unwrap_or_default();
    let line = |Found { key, seq, event }: &Found| {
        let time_ms = event.device_time_ms - START_MS;
        let stamp_ms = event.stamp.unix_ms() - START_MS;
        let Event { device, stream, kind, value, attributes, .. } = event;
        format!("{key} {seq:>3} at {stamp_ms}: {kind:?} of {device} {time_ms} {stream} {value:?} {attributes:?}")
    };
    found.iter().map(line).collect()
}

/// How many events the first coordinator member serves, and a digest of the run and its end.
pub(crate) fn digest(world: &World) -> (u64, u64) {
    let mut crc = world.net.digest();
    let mut add = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
    for site in &world.sites {
        add(format!("{:?}", site.core.as_ref().map(|core| core.ledger())).as_bytes());
        add(format!("{:?}{:?}", site.disk.files(), site.promised).as_bytes());
    }
    for member in &world.members {
        add(&member.state().map(|state| state.snapshot()).unwrap_or_default());
        add(format!("{:?}", member.disk.files()).as_bytes());
    }
    add(format!("{:?}", world.net.faults).as_bytes());
    let last = world.members.get(world.plan.hubs);
    let delivered = last.map_or(0, |member| events_of(member).map_or(0, |found| found.len() as u64));
    (delivered, u64::from(crc) << 32 | world.net.steps & 0xffff_ffff)
}
