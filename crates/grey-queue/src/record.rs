//! Records of the lower strata: a block, and which positions of the lane it stands for.
//!
//! Layout, written down in `docs/design/outbox.md`: version 1, then as variable-length
//! numbers the serial, first position, positions, how far the lane went behind them, events
//! affected, aggregates made, where the affected sequences begin, six signed counts; the
//! rest is the block.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use grey_model::{BlockHeader, Reader, Seq, WireError, Writer};
use serde::{Deserialize, Serialize};

use crate::lane::tally_of;

const VERSION: u8 = 1;

/// What was ever counted into a lane, less what folds took out. Only differences mean
/// something: between a checkpoint and the last fold after it lies what both did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) blocks: i64,
    pub(crate) bytes: i64,
    pub(crate) pending: i64,
    pub(crate) reduced: i64,
    pub(crate) deduplicated: i64,
    pub(crate) dropped: i64,
}

impl Counted {
    pub(crate) fn of(header: &BlockHeader, bytes: usize) -> Self {
        let tally = tally_of(header);
        Self {
            blocks: 1,
            bytes: bytes as i64,
            pending: tally.pending as i64,
            reduced: tally.reduced as i64,
            deduplicated: tally.deduplicated as i64,
            dropped: tally.dropped as i64,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.zip(other, i64::wrapping_add)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        self.zip(other, i64::wrapping_sub)
    }

    fn zip(self, other: Self, with: impl Fn(i64, i64) -> i64) -> Self {
        let (a, b) = (self.values(), other.values());
        Self::from_values(std::array::from_fn(|n| with(a[n], b[n])))
    }

    fn values(self) -> [i64; 6] {
        let Self { blocks, bytes, pending, reduced, deduplicated, dropped } = self;
        [blocks, bytes, pending, reduced, deduplicated, dropped]
    }

    fn from_values([blocks, bytes, pending, reduced, deduplicated, dropped]: [i64; 6]) -> Self {
        Self { blocks, bytes, pending, reduced, deduplicated, dropped }
    }
}

/// The head of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Counts the records of a lane's strata; a later fold has a higher one.
    pub(crate) serial: u64,
    /// The positions that it stands for.
    pub(crate) positions: Range<u64>,
    /// Where the lane ended when it was made.
    pub(crate) lane_end: u64,
    /// Events that are gone.
    pub(crate) affected: u64,
    /// Aggregates that stand in for them.
    pub(crate) aggregates: u64,
    /// From which of the block's sequences on they were affected.
    pub(crate) since: Seq,
    /// The lane's counts after it.
    pub(crate) counted: Counted,
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) head: Head,
    pub(crate) block: Bytes,
}

impl Head {
    /// The bytes that stand before the block.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        bytes::BufMut::put_u8(&mut out, VERSION);
        let Self { serial, positions, lane_end, affected, aggregates, since, counted } = self;
        let counts = [
            *serial,
            positions.start,
            positions.end - positions.start,
            lane_end - positions.end,
            *affected,
            *aggregates,
        ];
        for n in counts {
            out.put_varint(n);
        }
        out.put_varint(*since);
        for n in counted.values() {
            out.put_varint_signed(n);
        }
        out.freeze()
    }
}

impl Record {
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(reader.invalid("record version"));
        }
        let serial = reader.varint()?;
        let start = reader.varint()?;
        let len = reader.count("positions", u64::MAX - start)?;
        let end = start + len;
        let behind = reader.count("lane end", u64::MAX - end)?;
        let (affected, aggregates, since) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let mut counts = [0; 6];
        for n in &mut counts {
            *n = reader.varint_signed()?;
        }
        if len == 0 {
            return Err(reader.invalid("positions"));
        }
        let counted = Counted::from_values(counts);
        let head = Head { serial, positions: start..end, lane_end: end + behind, affected, aggregates, since, counted };
        Ok(Self { head, block: bytes.slice(reader.offset()..) })
    }
}

/// For fuzzing: reads a record of a stratum, and gives its positions and its block's bytes.
#[doc(hidden)]
pub fn decode_record(bytes: &Bytes) -> Option<(Range<u64>, Bytes)> {
    Record::decode(bytes).ok().map(|record| (record.head.positions, record.block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip(serial: u64, start in 0_u64..1 << 62, len in 1_u64..1000, counts: [i64; 6], block: Vec<u8>) {
            let head = Head {
                serial,
                positions: start..start + len,
                lane_end: start + len + 7,
                affected: 3,
                aggregates: 1,
                since: serial,
                counted: Counted::from_values(counts),
            };
            let bytes = Bytes::from([&head.encode()[..], &block].concat());
            prop_assert_eq!(Record::decode(&bytes).unwrap(), Record { head, block: block.into() });
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let mut versioned = vec![VERSION];
            versioned.extend(&bytes);
            let _ = Record::decode(&bytes.into());
            let _ = Record::decode(&versioned.into());
        }
    }
}
