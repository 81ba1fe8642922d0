//! What must hold when a history has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use grey_model::{Disposition, Event, Kind, RangeSet, RuleId, StreamKey, Value};
use grey_queue::{HYSTERESIS_PERCENT, Level, RANGE_STREAM};

use super::damage::Damage;
use super::hub::Held;
use super::site::{Site, number};

/// Findings listed.
const LISTED_MAX: usize = 8;

pub(crate) fn judge(site: &Site, damage: &Damage) -> Vec<String> {
    let mut wrong = Vec::new();
    books(site, damage, &mut wrong);
    sequences(site, damage, &mut wrong);
    readings(site, damage, &mut wrong);
    receipts(site, damage, &mut wrong);
    wrong.truncate(LISTED_MAX);
    wrong
}

/// The books of both sides balance and agree, and coverage has no gap.
fn books(site: &Site, damage: &Damage, wrong: &mut Vec<String>) {
    let hub = &site.hub.books;
    let rows = hub.ledger(None);
    for row in &rows {
        let key = StreamKey { site: row.site.clone(), epoch: row.epoch, lane: row.lane };
        let coverage = hub.coverage(&key);
        if coverage.contiguous_end() != coverage.end() {
            wrong.push(format!("coverage has a gap: {key}: {:?}", coverage.iter().collect::<Vec<_>>()));
        }
        if !row.balanced {
            wrong.push(format!("the hub's books do not balance: {row:?}"));
        }
    }
    let Some(core) = &site.core else { return };
    for row in core.ledger().into_iter().filter(|row| row.accepted > 0) {
        // Without any checkpoint nobody knows what became of what was settled before.
        if !row.balanced && !damage.forgot_books {
            wrong.push(format!("the site's books do not balance: {row:?}"));
        }
        let above = rows.iter().find(|above| (above.epoch, above.lane) == (row.epoch, row.lane));
        let above = above.map(|above| (above.accepted, above.tally));
        // What was in doubt when it was damaged may have arrived; and books may have been lost too.
        if above != Some((row.accepted, row.tally)) && !damage.is_any {
            wrong.push(format!("the site's row is {row:?}, the hub has {above:?}"));
        }
    }
}

/// Every sequence that was written arrived as it was written, or as the ladder may change it.
fn sequences(site: &Site, damage: &Damage, wrong: &mut Vec<String>) {
    let lost = Held::Account(Disposition::DroppedDamage);
    let mut readings: BTreeMap<u64, &(StreamKey, u64)> = BTreeMap::new();
    for (place, held) in &site.written {
        readings.extend(reading_of(held).map(|event| (number(event), place)));
    }
    for (place, written) in &site.written {
        let (key, seq) = place;
        let Some(arrived) = site.hub.held.get(place) else {
            if !damage.is_any {
                wrong.push(format!("{key} {seq} never arrived"));
            }
            continue;
        };
        let was_reading = reading_of(written).is_some();
        let fits = arrived == written
            || damage.is_any && (*arrived == lost || *written == lost)
            // What was lost with its block is sampled anew when the intake is replayed.
            || damage.is_any && matches!((written, arrived), (Held::Account(_), Held::Account(_)))
            || site.may_lose(key.lane)
                && match arrived {
                    Held::Account(Disposition::DroppedOverflow) => matches!(written, Held::Event(_)),
                    Held::Account(Disposition::Reduced(rule)) => {
                        was_reading && [RuleId::THINNED, RuleId::ROLLED_UP].contains(rule)
                    }
                    Held::Account(_) => false,
                    Held::Event(event) if event.kind == Kind::Aggregate => was_reading,
                    // What is left of thinned readings moves to the first of their sequences.
                    Held::Event(event) => was_reading && is_moved(site, place, event, &readings),
                };
        if !fits {
            wrong.push(format!("{key} {seq} was written as {written:?} and arrived as {arrived:?}"));
        }
    }
    for ((key, seq), arrived) in &site.hub.held {
        let is_loss = damage.is_any && *arrived == lost;
        if !is_loss && !site.written.contains_key(&(key.clone(), *seq)) {
            wrong.push(format!("{key} {seq} arrived as {arrived:?} and was never written"));
        }
    }
    for (key, range) in &site.hub.arrived {
        rolled_up(site, key, range.clone(), wrong);
    }
}

fn reading_of(held: &Held) -> Option<&Event> {
    match held {
        Held::Event(event) if event.kind == Kind::Reading => Some(event),
        _ => None,
    }
}

/// True for a reading that was written unchanged at a later sequence of the same block.
fn is_moved(site: &Site, at: &(StreamKey, u64), event: &Event, readings: &BTreeMap<u64, &(StreamKey, u64)>) -> bool {
    let Some(from) = readings.get(&number(event)).filter(|_| event.kind == Kind::Reading) else { return false };
    let within = |(key, range): &&(StreamKey, std::ops::Range<u64>)| {
        *key == at.0 && range.contains(&at.1) && range.contains(&from.1)
    };
    from.0 == at.0
        && from.1 > at.1
        && site.written.get(*from).and_then(reading_of) == Some(event)
        && site.hub.arrived.iter().any(|block| within(&block))
}

/// What is known of one series: count, smallest, largest, sum.
type Described = BTreeMap<(String, String), (u64, f64, f64, f64)>;

fn describe(into: &mut Described, event: &Event, count: u64, min: f64, max: f64, sum: f64) {
    let series = (event.device.to_string(), event.stream.to_string());
    let entry = into.entry(series).or_insert((0, f64::INFINITY, f64::NEG_INFINITY, 0.0));
    *entry = (entry.0 + count, entry.1.min(min), entry.2.max(max), entry.3 + sum);
}

/// The aggregates of a block that was rolled up describe exactly what they replaced.
fn rolled_up(site: &Site, key: &StreamKey, range: std::ops::Range<u64>, wrong: &mut Vec<String>) {
    let (mut written, mut found, mut stayed) = (Described::new(), Described::new(), BTreeSet::new());
    let (mut aggregates, mut evicted) = (0_u64, 0_u64);
    for seq in range.clone() {
        match site.hub.held.get(&(key.clone(), seq)) {
            Some(Held::Event(event)) if event.kind == Kind::Reading => _ = stayed.insert(number(event)),
            Some(Held::Event(event)) if event.kind == Kind::Aggregate => {
                let Value::Fields(fields) = &event.value else { continue };
                let field = |name: &str| fields.iter().find(|(n, _)| n.as_str() == name).map_or(f64::NAN, |(_, v)| *v);
                let count = field("count");
                aggregates += 1;
                describe(&mut found, event, count as u64, field("min"), field("max"), field("avg") * count);
            }
            Some(Held::Account(
                Disposition::Reduced(RuleId::THINNED) | Disposition::DroppedOverflow | Disposition::DroppedDamage,
            )) => {
                let was = site.written.get(&(key.clone(), seq));
                evicted += u64::from(was.and_then(reading_of).is_some());
            }
            _ => {}
        }
    }
    if aggregates == 0 {
        return;
    }
    for seq in range.clone() {
        let Some(event) = site.written.get(&(key.clone(), seq)).and_then(reading_of) else { continue };
        if !stayed.contains(&number(event))
            && let Some(value) = event.value.as_f64()
        {
            describe(&mut written, event, 1, value, value, value);
        }
    }
    let count = |of: &Described| of.values().map(|series| series.0).sum::<u64>();
    // Which readings were thinned before the rest was rolled up does not show.
    let agree = count(&written) == count(&found) + evicted
        && found.iter().all(|(series, x)| {
            written.get(series).is_some_and(|y| {
                let is_same = (x.0, x.1, x.2) == (y.0, y.1, y.2) && (x.3 - y.3).abs() <= 1e-9 * y.3.abs().max(1.0);
                is_same || evicted > 0 && x.0 <= y.0 && x.1 >= y.1 && x.2 <= y.2
            })
        });
    if !agree {
        wrong.push(format!("{key} {range:?}: the aggregates say {found:?}, the readings were {written:?}"));
    }
}

/// What devices were told is durable was written once.
fn readings(site: &Site, damage: &Damage, wrong: &mut Vec<String>) {
    let mut written: BTreeMap<u64, u64> = BTreeMap::new();
    // Sampled or dropped when they came: such a sequence does not say whose it was.
    let mut unnamed = 0;
    for held in site.written.values() {
        match held {
            Held::Event(event) if event.kind == Kind::Reading => *written.entry(number(event)).or_default() += 1,
            Held::Account(Disposition::Reduced(_) | Disposition::DroppedOverflow | Disposition::DroppedDamage) => {
                unnamed += 1;
            }
            _ => {}
        }
    }
    if !damage.forgot_ids
        && let Some((n, times)) = written.iter().find(|(_, times)| **times > 1)
    {
        wrong.push(format!("reading {n} was taken {times} times"));
    }
    let mut arrived = BTreeSet::new();
    for event in site.hub.held.values().filter_map(reading_of) {
        if !arrived.insert(number(event)) && !damage.forgot_ids {
            wrong.push(format!("reading {} arrived twice", number(event)));
        }
    }
    let missing: BTreeSet<u64> = site
        .acknowledged
        .iter()
        .copied()
        .filter(|n| !written.contains_key(n) && !damage.may_be_lost.contains(n))
        .collect();
    if missing.len() as u64 > unnamed {
        let first: Vec<_> = missing.iter().take(5).collect();
        wrong.push(format!("{} acknowledged readings are nowhere, such as {first:?}", missing.len()));
    }
}

/// What was done to stored blocks was told in the critical lane, each range once, and the
/// levels in the order in which they were reached.
fn receipts(site: &Site, damage: &Damage, wrong: &mut Vec<String>) {
    let mut told: BTreeMap<(u64, String), RangeSet> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut level = Level::Normal.as_str().to_owned();
    for ((key, seq), held) in &site.hub.held {
        let Held::Event(event) = held else { continue };
        if event.kind != Kind::Receipt {
            continue;
        }
        let attribute = |name: &str| {
            let found = event.attributes.iter().find(|(n, _)| n.as_str() == name);
            found.map(|(_, value)| value.to_string()).unwrap_or_default()
        };
        let field = |name: &str| match &event.value {
            Value::Fields(fields) => fields.iter().find(|(n, _)| n.as_str() == name).map_or(0, |(_, v)| *v as u64),
            _ => 0,
        };
        if !ids.insert(event.id.clone()) && !damage.forgot_ids {
            wrong.push(format!("{key} {seq}: receipt {:?} arrived twice", event.id));
        }
        if event.stream.as_str() == RANGE_STREAM {
            let epoch = attribute("epoch").parse().unwrap_or(0);
            told.entry((epoch, attribute("lane"))).or_default().insert(field("first")..field("last") + 1);
        } else {
            // After a restart the ladder begins where the last checkpoint knew it.
            if attribute("from") != level && site.restarts == 0 {
                wrong.push(format!("{key} {seq}: the level was {level}, and the receipt says {event:?}"));
            }
            level = attribute("to");
            step(&level, &attribute("from"), field("used"), field("limit"), wrong);
        }
    }
    // The record of a fold may be lost, and the receipt with it, where it was not told of yet.
    let written = if damage.is_any { None } else { Some(&site.written) };
    for ((key, seq), written) in written.into_iter().flatten() {
        let Some(arrived) = site.hub.held.get(&(key.clone(), *seq)).filter(|arrived| *arrived != written) else {
            continue;
        };
        let is_told = told.get(&(key.epoch.0, key.lane.to_string())).is_some_and(|ranges| ranges.contains(*seq));
        if !is_told {
            wrong.push(format!("{key} {seq} arrived as {arrived:?}, and no receipt says so"));
            return;
        }
    }
}

/// A level is entered from its limit on, and left five points below it.
fn step(to: &str, from: &str, used: u64, limit: u64, wrong: &mut Vec<String>) {
    let level = |name: &str| Level::ALL.into_iter().find(|level| level.as_str() == name).unwrap_or_default();
    let (to, from, percent) = (level(to), level(from), used * 100 / limit.max(1));
    let left_at = |level: Level| level.percent().saturating_sub(HYSTERESIS_PERCENT);
    // A full disk counts as 100 %, whatever is used.
    let is_right = to == Level::Overflow
        || from == Level::Overflow
        || if to > from { percent >= to.percent() } else { percent < left_at(from) && percent >= left_at(to) };
    if !is_right {
        wrong.push(format!("the level went from {from} to {to} at {percent} %"));
    }
}
