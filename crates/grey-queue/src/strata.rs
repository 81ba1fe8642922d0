//! The strata of a lane: finding the record that stands for a position.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grey_log::{LogError, LogReader};
use grey_model::Lane;

use crate::record::Record;

/// A layer of a lane. Older blocks are in lower strata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stratum {
    /// Blocks without events, which account for evicted ones.
    Dropped,
    /// Readings folded into aggregates.
    Rolled,
    /// Every second reading evicted.
    Thinned,
    /// Small blocks joined, without loss.
    Packed,
    /// Blocks as they were written.
    Fresh,
}

impl Stratum {
    /// Every stratum, oldest first.
    pub const ALL: [Stratum; 5] = [Self::Dropped, Self::Rolled, Self::Thinned, Self::Packed, Self::Fresh];
    /// Those that folds write to, oldest first.
    pub(crate) const FOLDED: [Stratum; LAYERS] = [Self::Dropped, Self::Rolled, Self::Thinned, Self::Packed];

    /// The name used in status and, but for fresh, in the folder's name.
    pub fn as_str(self) -> &'static str {
        ["dropped", "rolled", "thinned", "packed", "fresh"][self as usize]
    }

    /// Place among [`Stratum::FOLDED`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Stratum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one stratum of a lane holds, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratumStatus {
    /// The lane.
    pub lane: Lane,
    /// The stratum.
    pub stratum: Stratum,
    /// Records on disk, settled and replaced ones that share a file with others included.
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Waiting positions that it serves; empty where a lower stratum or nothing does.
    pub positions: Range<u64>,
}

/// Strata below fresh.
pub(crate) const LAYERS: usize = 4;

/// A stratum below fresh, for reading.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) reader: LogReader,
    /// From its first readable record's first position to its last one's end.
    pub(crate) covers: Range<u64>,
    /// Index of the record that was found last: the next one is asked for next.
    hint: Arc<AtomicU64>,
}

/// Around a position in one layer.
#[derive(Debug)]
pub(crate) struct Around {
    /// The last readable record that starts at or before the position, and its index.
    pub(crate) at: Option<(u64, Record)>,
    /// Index and first position of the first readable record that starts behind it.
    pub(crate) after: Option<(u64, u64)>,
    /// What is wrong with records that were come upon.
    pub(crate) damage: Option<String>,
}

impl Layer {
    pub(crate) fn new(reader: LogReader) -> Self {
        Self { reader, covers: 0..0, hint: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// The record at or next to the one found last, if it holds the position. Not for
    /// the dropped stratum, where a later record may hide an earlier one.
    pub(crate) fn near(&self, position: u64) -> Option<Record> {
        let hint = self.hint.load(Ordering::Relaxed);
        let indexes = self.reader.first_index()..self.reader.durable_end();
        let tried = [hint.wrapping_add(1), hint].into_iter().filter(|index| indexes.contains(index));
        tried.filter_map(|index| Some((index, self.read(index).ok()?.ok()?))).find_map(|(index, record)| {
            record.head.positions.contains(&position).then(|| {
                self.hint.store(index, Ordering::Relaxed);
                record
            })
        })
    }

    /// Looks for a position by halving: reads a record for each doubling of their number.
    pub(crate) fn around(&self, position: u64) -> Result<Around, LogError> {
        let (mut low, mut high) = (self.reader.first_index(), self.reader.durable_end());
        let mut found = Around { at: None, after: None, damage: None };
        while low < high {
            let middle = low + (high - low) / 2;
            let mut index = middle;
            let record = loop {
                if index >= high {
                    break None;
                }
                match self.read(index)? {
                    Ok(record) => break Some(record),
                    Err((lost, reason)) => {
                        found.damage.get_or_insert(reason);
                        index = lost.end;
                    }
                }
            };
            match record {
                Some(record) if record.head.positions.start <= position => {
                    low = index + 1;
                    found.at = Some((index, record));
                }
                Some(record) => {
                    high = middle;
                    found.after = Some((index, record.head.positions.start));
                }
                None => high = middle,
            }
        }
        if let Some((index, _)) = &found.at {
            self.hint.store(*index, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// One record; what is lost and why, where it is not there.
    pub(crate) fn read(&self, index: u64) -> Result<Result<Record, (Range<u64>, String)>, LogError> {
        match self.reader.read(index) {
            Ok(Some(bytes)) => Ok(Record::decode(&bytes).map_err(|error| (index..index + 1, error.to_string()))),
            Ok(None) => Ok(Err((index..index + 1, "a record was trimmed".into()))),
            Err(error) => match lost_of(&error) {
                Some(lost) => Ok(Err((lost.start.min(index)..lost.end.max(index + 1), error.to_string()))),
                None => Err(error),
            },
        }
    }

    /// The first readable record, and the last.
    pub(crate) fn ends(&self) -> Result<Option<(Record, Record)>, LogError> {
        let (mut first, mut end) = (self.reader.first_index(), self.reader.durable_end());
        let head = loop {
            if first >= end {
                return Ok(None);
            }
            match self.read(first)? {
                Ok(record) => break record,
                Err((lost, _)) => first = lost.end,
            }
        };
        while end > first {
            match self.read(end - 1)? {
                Ok(record) => return Ok(Some((head, record))),
                Err((lost, _)) => end = lost.start.min(end - 1),
            }
        }
        Ok(None)
    }
}

/// The records that an error says are lost.
pub(crate) fn lost_of(error: &LogError) -> Option<Range<u64>> {
    match error {
        LogError::Damaged { lost, .. } => Some(lost.clone()),
        _ => None,
    }
}
