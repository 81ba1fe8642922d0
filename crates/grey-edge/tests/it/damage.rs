//! Damage of any file of the data directory: the agent starts, serves everything that is
//! intact, accounts for exactly what is lost, and keeps the evidence.
//!
//! One directory with a day behind it ([`plant::Plant`]) is copied for each case, damaged,
//! and opened. What may be lost is known from the undisturbed end of the day and from
//! where each record stands on the disk ([`truth::Truth`]).

mod blow;
mod hub;
mod plant;
mod truth;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use grey_model::{Kind, RangeSet, StreamKey};

use blow::{Blow, bytes_of};
use plant::{Plant, hash, number};
use truth::{Holds, Record, Truth};

/// Kinds of failures that are printed.
const LISTED_MAX: usize = 40;
/// Failures that begin with the same characters, digits aside, are of one kind.
const KIND_CHARS: usize = 120;
/// Files up to this length are flipped at every byte.
const EVERY_BYTE_MAX: u64 = 768;

struct Scene {
    plant: Plant,
    truth: Truth,
}

impl Scene {
    fn new() -> Self {
        let plant = Plant::killed(1).expect("a sound disk");
        let truth = Truth::of(&plant).expect("a sound disk");
        Self { plant, truth }
    }

    /// Runs cases and fails with those that went wrong.
    fn run(&self, cases: impl IntoIterator<Item = Vec<(String, Blow)>>) {
        let (mut count, mut failed) = (0_u64, 0_u64);
        // By what went wrong, numbers aside: how often, and the first case of it.
        let mut kinds: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for case in cases {
            count += 1;
            let result = catch_unwind(AssertUnwindSafe(|| self.case(&case))).unwrap_or_else(|panic| {
                let what = panic.downcast_ref::<String>().cloned();
                let what = what.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                Err(format!("panic: {}", what.unwrap_or_default()))
            });
            if let Err(what) = result {
                failed += 1;
                let line = format!("{case:?}: {what}");
                let kind = line.chars().filter(|c| !c.is_ascii_digit()).take(KIND_CHARS).collect();
                kinds.entry(kind).or_insert((0, line)).0 += 1;
            }
        }
        let listed = kinds.values().take(LISTED_MAX).map(|(times, line)| format!("\n{times} times: {line}"));
        assert!(
            failed == 0,
            "{failed} of {count} cases failed, in {} ways:{}",
            kinds.len(),
            listed.collect::<String>()
        );
        assert!(count > 0, "no case was run");
    }

    /// Opens the directory with this damage, lets it go on, and judges.
    fn case(&self, blows: &[(String, Blow)]) -> Result<(), String> {
        let disk = self.plant.copy_of_disk();
        for (path, blow) in blows {
            blow.strike(&disk, path);
        }
        let damaged: Vec<Vec<u8>> = blows
            .iter()
            .map(
                |(path, _)| {
                    if disk.files().iter().any(|(name, _)| name == path) { bytes_of(&disk, path) } else { Vec::new() }
                },
            )
            .collect();
        let (mut site, opened) = self.plant.reopened(disk).map_err(|error| format!("does not open: {error}"))?;
        for ((path, blow), bytes) in blows.iter().zip(&damaged) {
            // Without its marker a log takes a damaged end for a commit that was never finished.
            if !has_struck(blows, &format!("{}/synced", folder(path))) {
                self.evidence(&site, path, blow, bytes)?;
            }
        }
        let before = site.accepted;
        let wrong = |error: grey_edge::core::CoreError| format!("does not go on: {error}");
        site.accept(9).map_err(wrong)?;
        site.resend(before - 5..before + 5).map_err(wrong)?;
        site.drain(usize::MAX).map_err(wrong)?;
        site.settle().map_err(wrong)?;
        let lost = self.judge(&site, blows)?;
        let is_said =
            !opened.notes.is_empty() || !site.core.damage().is_empty() || !site.core.outbox().lost_blocks().is_empty();
        if lost > 0 && !is_said {
            return Err(format!("{lost} losses, and nothing says so"));
        }
        // Once more, and nothing is left to say or to send.
        let books = site.core.ledger();
        site.reopen().map_err(|error| format!("does not open again: {error}"))?;
        if site.core.ledger() != books {
            return Err(format!("the books changed by a restart:\n{books:?}\n{:?}", site.core.ledger()));
        }
        site.accept(3).map_err(wrong)?;
        site.drain(usize::MAX).map_err(wrong)?;
        self.judge(&site, blows).map(|_| ())
    }

    /// Everything that must hold once the hub has all there is. Returns how many losses must have been told of.
    fn judge(&self, site: &Plant, blows: &[(String, Blow)]) -> Result<u64, String> {
        let mut may_be_lost: BTreeMap<StreamKey, RangeSet> = BTreeMap::new();
        let mut breaks_replay = false;
        let hit: Vec<&Record> = blows.iter().flat_map(|(path, blow)| self.truth.hit(path, blow)).collect();
        // How many events the last records of the intake held stands in those behind them only: of
        // these the records are told as lost, and nobody knows their sequences.
        let untold = self.truth.tail_of(&hit);
        for record in &hit {
            // Without the newest checkpoint the replay begins earlier.
            let has_no_checkpoint = blows.iter().any(|(path, _)| path.starts_with("checkpoints/"));
            breaks_replay |= record.is_replayed || has_no_checkpoint && record.path.starts_with("intake/");
            if let Holds::Sequences(ranges) = &record.holds {
                ranges
                    .iter()
                    .for_each(|(key, range)| _ = may_be_lost.entry(key.clone()).or_default().insert(range.clone()));
            }
        }
        let none = RangeSet::new();
        let mut lost = 0;
        for (key, ranges) in &site.hub.lost {
            lost += ranges.len();
            let allowed = may_be_lost.get(key).unwrap_or(&none);
            if let Some(range) = ranges.iter().find(|range| !allowed.covers(range)) {
                return Err(format!(
                    "{key}: {range:?} is given as lost, but damaged were {:?} at most",
                    allowed.iter().collect::<Vec<_>>()
                ));
            }
        }
        // Nothing twice, and what is intact arrived as it was sent.
        let mut arrived: BTreeMap<u64, u64> = BTreeMap::new();
        for event in site.hub.events.values().filter(|event| event.kind == Kind::Reading) {
            *arrived.entry(number(event)).or_default() += 1;
        }
        if let Some((n, times)) = arrived.iter().find(|(_, times)| **times > 1) {
            return Err(format!("reading {n} arrived {times} times"));
        }
        for n in 0..site.accepted {
            let Some((key, seq)) = self.truth.readings.get(&n) else {
                if !arrived.contains_key(&n) {
                    return Err(format!("reading {n}, sent after the damage, did not arrive"));
                }
                continue;
            };
            let is_untold = untold.get(key).is_some_and(|ranges| ranges.contains(*seq));
            if !arrived.contains_key(&n) && !is_untold && !site.hub.lost.get(key).unwrap_or(&none).contains(*seq) {
                return Err(format!("reading {n} ({key} {seq}) is neither delivered nor accounted for"));
            }
        }
        for (place, event) in &self.truth.events {
            let is_lost = site.hub.lost.get(&place.0).unwrap_or(&none).contains(place.1);
            // What rules derive from a replay with holes is not what they would have derived.
            // The sequences of a lost end are given again.
            let is_untold = untold.get(&place.0).is_some_and(|ranges| ranges.contains(place.1));
            let may_differ = is_untold || breaks_replay && event.kind != Kind::Reading;
            match site.hub.events.get(place) {
                _ if may_differ || is_lost => {}
                Some(found) if found == event => {}
                other => return Err(format!("{} {}: expected {event:?}, found {other:?}", place.0, place.1)),
            }
        }
        // The books of both sides balance and agree.
        for row in site.hub.books.ledger(None) {
            let coverage =
                site.hub.books.coverage(&StreamKey { site: row.site.clone(), epoch: row.epoch, lane: row.lane });
            if !row.balanced || coverage.contiguous_end() != coverage.end() {
                return Err(format!("the hub's books do not balance: {row:?}"));
            }
        }
        for row in site.core.ledger().into_iter().filter(|row| row.accepted > 0) {
            let key = StreamKey { site: row.site.clone(), epoch: row.epoch, lane: row.lane };
            let above = site
                .hub
                .books
                .ledger(None)
                .into_iter()
                .find(|above| (above.epoch, above.lane) == (row.epoch, row.lane));
            let above = above.map(|above| (above.accepted, above.tally));
            if !row.balanced || above != Some((row.accepted, row.tally)) {
                return Err(format!("{key}: the site's row is {row:?}, the hub has {above:?}"));
            }
        }
        // Without its marker the log takes a damaged end for a commit that was never finished.
        let is_told = !untold.is_empty() && !has_struck(blows, "intake/synced");
        Ok(lost + u64::from(is_told))
    }

    /// What was damaged is in quarantine, or still where it was.
    fn evidence(&self, site: &Plant, path: &str, blow: &Blow, damaged: &[u8]) -> Result<(), String> {
        let len = self.truth.files.iter().find(|(name, _)| name == path).map_or(0, |(_, len)| *len);
        let touched = blow.touched(len);
        let holds_records = self
            .truth
            .records
            .iter()
            .any(|r| r.path == path && r.bytes.start < touched.end && touched.start < r.bytes.end);
        let newest = self.truth.files.iter().rfind(|(name, _)| name.starts_with("checkpoints/"));
        // An older checkpoint is not looked at, and the next ones replace it.
        let is_state = newest.is_some_and(|(name, _)| name == path) || path == "identity.json";
        // Cut off bytes are gone; a marker is a hint that is written over all the time; behind the last
        // record of a log there is nothing.
        if matches!(blow, Blow::Cut(_) | Blow::Remove | Blow::Swap(_) | Blow::Append) || !(holds_records || is_state) {
            return Ok(());
        }
        let window = damaged[touched.start as usize..(touched.end as usize).min(damaged.len())].to_vec();
        let dir = folder(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_kept = site.disk.files().iter().any(|(other, _)| {
            let bytes = bytes_of(&site.disk, other);
            let in_place =
                other == path && bytes.get(touched.start as usize..touched.end as usize) == Some(&window[..]);
            let put_aside = other.starts_with(dir)
                && other.contains("quarantine/")
                && other.contains(name)
                && (bytes.len() < window.len() || bytes.windows(window.len().max(1)).any(|part| part == window));
            in_place || put_aside
        });
        if is_kept { Ok(()) } else { Err("the evidence is gone".into()) }
    }

    fn files(&self) -> impl Iterator<Item = &(String, u64)> {
        self.truth.files.iter().filter(|(_, len)| *len > 0)
    }

    /// Offsets worth a look: ends, edges of records, and a sample.
    fn offsets(&self, path: &str, len: u64, sample: u64) -> Vec<u64> {
        if len <= EVERY_BYTE_MAX {
            return (0..len).collect();
        }
        let edges = self.truth.records.iter().filter(|record| record.path == path);
        let mut offsets: Vec<u64> =
            edges.flat_map(|r| [r.bytes.start, r.bytes.start + 5, r.bytes.start + 16, r.bytes.end - 1]).collect();
        let ends = [0, 1, 8, 12, 16, 24, 32, 40, 60, 63, 64, 511, 512, 560, len - 1];
        offsets.extend(ends);
        offsets.extend((0..sample).map(|n| hash(len << 16 ^ n) % len));
        offsets.retain(|at| *at < len);
        offsets.sort_unstable();
        offsets.dedup();
        offsets
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn has_struck(blows: &[(String, Blow)], file: &str) -> bool {
    blows.iter().any(|(path, blow)| path == file || *blow == Blow::Swap(file.to_owned()))
}

fn one(path: &str, blow: Blow) -> Vec<(String, Blow)> {
    vec![(path.to_owned(), blow)]
}

#[test]
fn the_plant_has_something_of_everything() {
    let scene = Scene::new();
    let count = |prefix: &str, suffix: &str| {
        scene.files().filter(|(path, _)| path.starts_with(prefix) && path.ends_with(suffix)).count()
    };
    for lane in ["critical", "normal", "bulk"] {
        let segments = count(&format!("outbox/{lane}/"), ".log");
        assert!(segments >= 2, "{lane}: {segments} segments in {:?}", scene.truth.files);
    }
    assert!(count("intake/", ".log") >= 4, "{:?}", scene.truth.files);
    assert_eq!(count("checkpoints/", ""), 3);
    for other in ["ids/", "dead-letters/", "actions/", "identity.json"] {
        assert!(count(other, "") >= 1, "{other} is missing");
    }
    let waiting =
        scene.truth.records.iter().filter(|r| r.path.starts_with("outbox/") && r.holds != Holds::Nothing).count();
    let replayed = scene.truth.records.iter().filter(|r| r.is_replayed).count();
    let settled = scene.plant.hub.events.len();
    assert!(
        waiting >= 50 && replayed >= 4 && settled >= 40,
        "{waiting} blocks wait, {replayed} records are replayed, {settled} events arrived"
    );
    scene.case(&[]).expect("an undamaged directory");
}

#[test]
fn a_flipped_bit_anywhere() {
    let scene = Scene::new();
    scene.run(
        scene
            .files()
            .flat_map(|(path, len)| scene.offsets(path, *len, 12).into_iter().map(|at| one(path, Blow::Flip(at)))),
    );
}

#[test]
fn a_file_cut_to_any_length() {
    let scene = Scene::new();
    scene.run(
        scene
            .files()
            .flat_map(|(path, len)| scene.offsets(path, *len, 6).into_iter().map(|at| one(path, Blow::Cut(at)))),
    );
}

#[test]
fn a_file_removed_filled_with_zeros_or_noise_or_grown() {
    let scene = Scene::new();
    scene.run(scene.files().flat_map(|(path, len)| {
        let mut blows = vec![Blow::Remove, Blow::Append, Blow::Zeros(0..*len), Blow::Noise(0..*len)];
        for n in 0..6 {
            let from = hash(*len << 8 ^ n) % len;
            let stretch = from..len.min(&(from + 1 + hash(n) % 900)).to_owned();
            blows.extend([Blow::Zeros(stretch.clone()), Blow::Noise(stretch)]);
        }
        blows.into_iter().map(|blow| one(path, blow)).collect::<Vec<_>>()
    }));
}

/// True for two files of different logs that are taken for each other: a segment or a marker
/// does not say which log it belongs to, so what it holds is intact where it stands.
fn are_taken_for_each_other(a: &str, b: &str) -> bool {
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    folder(a) != folder(b) && name(a) == name(b)
}

#[test]
fn two_files_exchanged() {
    let scene = Scene::new();
    let files: Vec<&String> = scene.files().map(|(path, _)| path).collect();
    scene.run(files.iter().enumerate().flat_map(|(n, path)| {
        let others = [n + 1, n + 7, n + files.len() / 2].map(|other| files[other % files.len()]);
        let others = others.into_iter().filter(|other| other != path && !are_taken_for_each_other(path, other));
        others.map(|other| one(path, Blow::Swap(other.clone()))).collect::<Vec<_>>()
    }));
}

#[test]
fn several_files_at_once() {
    let scene = Scene::new();
    let files: Vec<&(String, u64)> = scene.files().collect();
    scene.run((0..400_u64).map(|case| {
        let blows = 2 + hash(case << 20) % 2;
        let mut blows: Vec<(String, Blow)> = (0..blows)
            .map(|n| {
                let x = hash(case << 8 | n);
                let (path, len) = files[(x % files.len() as u64) as usize];
                let at = hash(x) % len;
                let blow = match x >> 32 & 7 {
                    0 | 1 => Blow::Flip(at),
                    2 => Blow::Cut(at),
                    3 => Blow::Remove,
                    4 => Blow::Append,
                    5 => Blow::Zeros(at..(at + 700).min(*len)),
                    6 => Blow::Noise(at..(at + 700).min(*len)),
                    _ => Blow::Zeros(0..*len),
                };
                (path.clone(), blow)
            })
            .collect();
        // One blow a file: what was removed cannot be struck again.
        blows.sort_by(|a, b| a.0.cmp(&b.0));
        blows.dedup_by(|a, b| a.0 == b.0);
        blows
    }));
}
