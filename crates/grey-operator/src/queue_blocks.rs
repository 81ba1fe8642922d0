//! What the logs of an outbox hold, read record by record; and the order of a lane over
//! its strata.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use grey_log::{Inspection, LogConfig, LogError, Progress, Sealing};
use grey_model::time::format_rfc3339_ms;
use grey_model::{BlockHeader, Compression, Epoch, Lane, Seq};
use grey_queue::{Stratum, decode_record};
use serde_json::{Value, json};

use crate::queue::told;
use crate::queue_files::{Findings, MARKER_FILE};
use crate::queue_folder::{Folder, LogFolder};
use crate::text_table::count;
use crate::world::{Failure, World};

/// Bad records of one log that are told one by one.
const PROBLEMS_MAX: usize = 1_000;

/// The columns of `inspect`, as [`Contents::cells`] fills them.
pub(crate) const COLUMNS: [&str; 13] = [
    "log",
    "lane",
    "stratum",
    ">records",
    ">events",
    ">sequences",
    ">bytes",
    "oldest",
    "newest",
    "compression",
    "keys",
    ">torn",
    ">damaged",
];

/// What one log holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) folder: LogFolder,
    pub(crate) found: Inspection,
    pub(crate) taken: Taken,
}

/// What was read of a log.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Intact records.
    pub(crate) records: u64,
    pub(crate) events: u64,
    /// What is damaged or contradicts itself.
    pub(crate) problems: Vec<String>,
    /// Intact records that their key is missing for, by the key's name.
    pub(crate) sealed: BTreeMap<String, u64>,
    blocks: Vec<Block>,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    compressions: BTreeSet<&'static str>,
}

/// A block, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) stratum: Stratum,
    /// Of its record in the log.
    pub(crate) index: u64,
    /// The lane's positions that it stands for.
    positions: Range<u64>,
    epoch: Epoch,
    sequences: Range<Seq>,
}

/// Tells on standard error how far a log is read, where somebody watches.
pub(crate) fn progress<'a>(world: &'a mut World<'_>, log: &'a LogFolder) -> impl FnMut(Progress) + 'a {
    let mut shown = u64::MAX;
    move |at: Progress| {
        let percent = at.bytes_done * 100 / at.bytes_total.max(1);
        if world.watched && percent != shown {
            shown = percent;
            let end = if percent == 100 { "\n" } else { "" };
            // What nobody can see needs no error.
            let _ = write!(world.err, "\r{}: {percent} %{end}", log.path.display());
        }
    }
}

/// Reads a log from front to end; `decode` looks into the blocks' events as well.
pub(crate) fn read(folder: &Folder, log: &LogFolder, decode: bool, world: &mut World<'_>) -> Result<Contents, Failure> {
    let seal = folder.seal(&log.path);
    let fail = |error: LogError| folder.unreadable(&log.path, &error);
    let found = grey_log::inspect(folder.disk(), &log.path, LogConfig::default(), seal.as_ref()).map_err(fail)?;
    let mut taken = Taken::default();
    for record in found.records(progress(world, log)) {
        match record {
            Ok((index, bytes)) => taken.take(log, index, &bytes, decode),
            // It is told below, with what opening saw.
            Err(LogError::Damaged { .. }) => {}
            Err(LogError::KeyMissing { path, .. }) => {
                let segment = found.segments.iter().find(|segment| path.ends_with(&segment.name));
                segment
                    .map_or(Ok(()), |segment| taken.take_sealed(&found, segment.first..segment.end))
                    .map_err(fail)?;
            }
            Err(error) => return Err(fail(error)),
        }
    }
    let marker = log.path.join(MARKER_FILE);
    if found.marker.is_none() && folder.files.iter().any(|file| file.path == marker) {
        taken.problems.push(format!("{} is damaged; opening writes it again", marker.display()));
    }
    taken.problems.extend(found.reader().damaged().iter().map(ToString::to_string));
    Ok(Contents { folder: log.clone(), found, taken })
}

impl Taken {
    fn problem(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Records whose key is missing: their checksums are looked at without it.
    fn take_sealed(&mut self, found: &Inspection, indexes: Range<u64>) -> Result<(), LogError> {
        let reader = found.reader();
        for index in indexes {
            match reader.read(index) {
                Err(LogError::KeyMissing { key_id, .. }) => {
                    self.records += 1;
                    *self.sealed.entry(key_id.to_string()).or_default() += 1;
                }
                Ok(_) | Err(LogError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, log: &LogFolder, index: u64, bytes: &Bytes, decode: bool) {
        self.records += 1;
        let Some((lane, stratum)) = log.lane else { return };
        let at = || format!("{}: record {index}", log.path.display());
        let Some((positions, block)) = block_of(stratum, index, bytes) else {
            return self.problem(format!("{} is no record of a stratum", at()));
        };
        let header = match BlockHeader::parse(&block) {
            Ok(view) => view.header,
            Err(error) => return self.problem(format!("{} holds no block: {}", at(), told(&error))),
        };
        if header.lane != lane {
            self.problem(format!("{} holds a block of lane {}", at(), header.lane));
        }
        if decode && let Err(error) = grey_codec::decode_block(&block) {
            self.problem(format!("{} holds a block whose events cannot be read: {}", at(), told(&error)));
        }
        self.events += u64::from(header.events);
        if header.events > 0 {
            let older = self.oldest_ms.map_or(header.time_min_ms, |oldest| oldest.min(header.time_min_ms));
            let newer = self.newest_ms.map_or(header.time_max_ms, |newest| newest.max(header.time_max_ms));
            (self.oldest_ms, self.newest_ms) = (Some(older), Some(newer));
        }
        self.compressions.insert(match header.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        });
        let (epoch, sequences) = (header.epoch, header.range());
        self.blocks.push(Block { stratum, index, positions, epoch, sequences });
    }
}

/// The block of a record, and the positions that it stands for.
pub(crate) fn block_of(stratum: Stratum, index: u64, record: &Bytes) -> Option<(Range<u64>, Bytes)> {
    match stratum {
        Stratum::Fresh => Some((index..index + 1, record.clone())),
        _ => decode_record(record),
    }
}

impl Contents {
    /// Bytes of its segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.found.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Segments by how they are sealed.
    fn keys(&self) -> BTreeMap<String, usize> {
        let mut keys = BTreeMap::new();
        for segment in &self.found.segments {
            let key = match segment.sealing {
                Sealing::Plain => "plain".to_owned(),
                Sealing::Sealed(_, key_id) => key_id.to_string(),
                Sealing::Unknown => "unknown".to_owned(),
            };
            *keys.entry(key).or_default() += 1;
        }
        keys
    }

    /// What is wrong with it.
    pub(crate) fn tell(&self, found: &mut Findings) {
        let log = self.folder.path.display();
        found.problems.extend(self.taken.problems.iter().cloned());
        found.sealed.extend(self.taken.sealed.iter().map(|(key, records)| {
            let records = count(*records);
            format!("{log}: {records} records are sealed with the key {key}, which was not given; their checksums fit")
        }));
    }

    /// Of this lane.
    fn is_of(&self, lane: Lane) -> bool {
        self.folder.lane.is_some_and(|(of, _)| of == lane)
    }

    fn sequences(&self) -> u64 {
        self.taken.blocks.iter().map(|block| block.sequences.end - block.sequences.start).sum()
    }

    /// A row of the table of `inspect`.
    pub(crate) fn cells(&self) -> [String; 13] {
        let time = |ms: Option<i64>| ms.map(format_rfc3339_ms).unwrap_or_default();
        let some = |n: u64| if n == 0 { String::new() } else { count(n) };
        let keys: Vec<String> = self.keys().into_iter().map(|(key, segments)| format!("{key} ({segments})")).collect();
        [
            self.folder.path.display().to_string(),
            self.folder.lane.map(|(lane, _)| lane.to_string()).unwrap_or_default(),
            self.folder.lane.map(|(_, stratum)| stratum.to_string()).unwrap_or_default(),
            count(self.taken.records),
            some(self.taken.events),
            some(self.sequences()),
            count(self.bytes()),
            time(self.taken.oldest_ms),
            time(self.taken.newest_ms),
            self.taken.compressions.iter().copied().collect::<Vec<_>>().join(" "),
            keys.join(" "),
            some(self.found.recovery.torn_bytes),
            some(self.taken.problems.len() as u64),
        ]
    }

    /// The same as JSON, with the segments.
    pub(crate) fn json(&self) -> Value {
        let found = &self.found;
        let segments: Vec<Value> = found
            .segments
            .iter()
            .map(|segment| json!({"name": segment.name, "first": segment.first, "end": segment.end, "bytes": segment.bytes}))
            .collect();
        json!({
            "path": self.folder.path.display().to_string(),
            "lane": self.folder.lane.map(|(lane, _)| lane.as_str()),
            "stratum": self.folder.lane.map(|(_, stratum)| stratum.as_str()),
            "first_index": found.first_index,
            "next_index": found.next_index,
            "records": self.taken.records,
            "events": self.taken.events,
            "sequences": self.sequences(),
            "bytes": self.bytes(),
            "oldest": self.taken.oldest_ms.map(format_rfc3339_ms),
            "newest": self.taken.newest_ms.map(format_rfc3339_ms),
            "compression": self.taken.compressions,
            "keys": self.keys(),
            "sealed_records": self.taken.sealed,
            "torn_bytes": found.recovery.torn_bytes,
            "durable_end": found.marker.map(|marker| marker.durable_end),
            "segments": segments,
            "quarantine": found.quarantine.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "problems": self.taken.problems,
        })
    }
}

/// The blocks of a lane in the order of its positions: where strata overlap, the lower
/// one counts.
#[derive(Debug)]
pub(crate) struct LaneOrder {
    lane: Lane,
    /// By their first position, with the number of their log.
    blocks: BTreeMap<u64, (usize, Block)>,
    /// Records of the lane's logs are damaged.
    is_damaged: bool,
    /// Records of the lane's logs could not be opened.
    is_sealed: bool,
}

impl LaneOrder {
    pub(crate) fn of(logs: &[Contents], lane: Lane) -> Self {
        let logs = || logs.iter().enumerate().filter(|(_, log)| log.is_of(lane));
        let blocks = logs().flat_map(|(n, log)| log.taken.blocks.iter().map(move |block| (n, block.clone())));
        Self {
            lane,
            blocks: in_order(blocks.collect()),
            is_damaged: logs().any(|(_, log)| !log.taken.problems.is_empty()),
            is_sealed: logs().any(|(_, log)| !log.taken.sealed.is_empty()),
        }
    }

    /// The blocks, each with the number of its log.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &(usize, Block)> {
        self.blocks.values()
    }

    /// What no block covers between the first and the last one. Behind settled blocks that
    /// share a file with others a stretch may be missing since it was settled too: where
    /// strata meet and nothing is damaged that is no more than a note.
    pub(crate) fn missing(&self, problems: &mut Vec<String>, notes: &mut Vec<String>) {
        if self.is_sealed {
            return;
        }
        let lane = self.lane;
        for ((_, before), (_, after)) in self.blocks().zip(self.blocks().skip(1)) {
            let positions = before.positions.end..after.positions.start;
            let (from, to) = (before.sequences.end, after.sequences.start);
            let at = if positions.is_empty() {
                String::new()
            } else {
                format!(" (positions {} to {})", positions.start, positions.end)
            };
            let what = if before.epoch != after.epoch {
                if positions.is_empty() {
                    continue;
                }
                format!("lane {lane}: the end of epoch {} is lost{at}", before.epoch)
            } else if from < to {
                format!("lane {lane}, epoch {}: sequences {from} to {to} are lost{at}", before.epoch)
            } else if to < from {
                format!("lane {lane}, epoch {}: sequences {to} to {from} are there twice", before.epoch)
            } else {
                continue;
            };
            if self.is_damaged || positions.is_empty() || before.stratum == after.stratum {
                problems.push(what);
            } else {
                notes.push(format!("{what}, unless they were settled: no log is damaged"));
            }
        }
    }
}

fn in_order(mut all: Vec<(usize, Block)>) -> BTreeMap<u64, (usize, Block)> {
    // In a stratum, a later record replaces those that it stands for too.
    all.sort_by_key(|(_, block)| (block.stratum, Reverse(block.index)));
    let mut blocks: BTreeMap<u64, (usize, Block)> = BTreeMap::new();
    for (log, block) in all {
        let Range { start, end } = block.positions;
        let before = blocks.range(..end).next_back();
        if before.is_none_or(|(_, (_, before))| before.positions.end <= start) {
            blocks.insert(start, (log, block));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(stratum: Stratum, index: u64, positions: Range<u64>) -> Block {
        let sequences = positions.start * 10..positions.end * 10;
        Block { index, stratum, positions, epoch: Epoch(1), sequences }
    }

    fn missing(blocks: Vec<Block>, is_damaged: bool) -> (Vec<String>, Vec<String>) {
        let blocks = in_order(blocks.into_iter().map(|block| (0, block)).collect());
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        LaneOrder { lane: Lane::Bulk, blocks, is_damaged, is_sealed: false }.missing(&mut problems, &mut notes);
        (problems, notes)
    }

    #[test]
    fn what_is_missing_is_told_exactly() {
        let fresh = |n: u64| block(Stratum::Fresh, n, n..n + 1);
        let problems = |blocks| missing(blocks, false).0;
        assert_eq!(problems((0..5).map(fresh).collect()), [""; 0]);
        let gap = "lane bulk, epoch 1: sequences 10 to 30 are lost (positions 1 to 3)";
        assert_eq!(problems(vec![fresh(0), fresh(3)]), [gap]);
        let next_life = |n| Block { epoch: Epoch(2), sequences: 0..10, ..fresh(n) };
        assert_eq!(problems(vec![fresh(0), next_life(1)]), [""; 0], "a new life begins at 0");
        assert_eq!(
            problems(vec![fresh(0), next_life(2)]),
            ["lane bulk: the end of epoch 1 is lost (positions 1 to 2)"]
        );
        let twice = Block { sequences: 5..20, ..fresh(1) };
        assert_eq!(problems(vec![fresh(0), twice]), ["lane bulk, epoch 1: sequences 5 to 10 are there twice"]);
        let accounted = Block { sequences: 10..20, ..fresh(3) };
        assert_eq!(problems(vec![fresh(0), accounted]), [""; 0], "positions alone are no loss");
        let strata = || vec![block(Stratum::Packed, 0, 0..2), fresh(4)];
        let told = |is_damaged| missing(strata(), is_damaged);
        assert_eq!((told(true).0.len(), told(true).1.len(), told(false).0.len(), told(false).1.len()), (1, 0, 0, 1));
    }

    #[test]
    fn lower_strata_hide_what_they_stand_for() {
        let kept = in_order(
            [
                block(Stratum::Fresh, 3, 3..4),
                block(Stratum::Fresh, 6, 6..7),
                block(Stratum::Packed, 0, 0..3),
                block(Stratum::Packed, 1, 3..6),
                block(Stratum::Dropped, 0, 0..1),
                block(Stratum::Dropped, 1, 0..3),
            ]
            .map(|block| (0, block))
            .to_vec(),
        );
        let order: Vec<_> = kept.values().map(|(_, block)| (block.stratum, block.index)).collect();
        assert_eq!(order, [(Stratum::Dropped, 1), (Stratum::Packed, 1), (Stratum::Fresh, 6)]);
    }
}
