//! What a checkpoint of a replicated state machine holds, and which ones are kept.
//!
//! The oldest kept one, the base, stands right before the log's first entry: it is
//! what a follower without the log gets. The newest is what this member starts
//! from. Those between are candidates for the next base, thinned to a bound.

use bytes::{BufMut, Bytes};
use grey_log::{Checkpoints, LogError};
use grey_model::{Reader, WireError, Writer};

use crate::entry::NUMBER_MAX;
use crate::runs::{RUNS_MAX, Runs};

const FORMAT: u8 = 1;

/// A state together with where in the log it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// The terms of entries at and before `index`, as far back as the saver knew.
    pub(crate) runs: Runs,
    pub(crate) state: Bytes,
}

/// Format `u8` = 1, varints index and term, varint count of runs, each varints first
/// index and term; the state (the rest).
pub(crate) fn encode(index: u64, term: u64, runs: &Runs, state: &[u8]) -> Vec<u8> {
    let pairs = runs.up_to(index);
    let mut out = Vec::with_capacity(state.len() + 32 + pairs.len() * 8);
    out.put_u8(FORMAT);
    out.put_varint(index);
    out.put_varint(term);
    out.put_varint(pairs.len() as u64);
    for (first, term) in pairs {
        out.put_varint(first);
        out.put_varint(term);
    }
    out.put_slice(state);
    out
}

pub(crate) fn decode(bytes: &Bytes) -> Result<Checkpoint, WireError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != FORMAT {
        return Err(reader.invalid("checkpoint format"));
    }
    let index = reader.count("index", NUMBER_MAX)?;
    let term = reader.count("term", NUMBER_MAX)?;
    let count = reader.count("runs", RUNS_MAX as u64)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((reader.count("run", NUMBER_MAX)?, reader.count("run's term", NUMBER_MAX)?));
    }
    let runs = Runs::from_pairs(pairs).ok_or_else(|| reader.invalid("runs"))?;
    if runs.term(index) != Some(term) || runs.last_term() != term {
        return Err(reader.invalid("runs at the index"));
    }
    Ok(Checkpoint { index, term, runs, state: bytes.slice(reader.offset()..) })
}

/// The checkpoints of one member.
#[derive(Debug)]
pub(crate) struct Kept {
    files: Checkpoints,
    /// Positions on disk, ascending.
    positions: Vec<u64>,
    keep: usize,
}

impl Kept {
    pub(crate) fn new(files: Checkpoints, keep: usize) -> Result<Self, LogError> {
        let mut positions = files.list()?;
        positions.sort_unstable();
        Ok(Self { files, positions, keep })
    }

    /// The newest one above `base` and below `floor`: the next base.
    pub(crate) fn next_base(&self, base: u64, floor: u64) -> Option<u64> {
        self.positions.iter().rev().copied().find(|position| *position < floor).filter(|position| *position > base)
    }

    /// The checkpoint at exactly `index`, if it is readable.
    pub(crate) fn load(&self, index: u64) -> Result<Option<(Bytes, Checkpoint)>, LogError> {
        Ok(self.load_at_most(index)?.filter(|(_, checkpoint)| checkpoint.index == index))
    }

    /// The newest readable checkpoint at or below `index`.
    pub(crate) fn load_at_most(&self, index: u64) -> Result<Option<(Bytes, Checkpoint)>, LogError> {
        let mut at_most = index;
        while let Some((position, bytes)) = self.files.load_newest(Some(at_most))? {
            let bytes = Bytes::from(bytes);
            if let Ok(checkpoint) = decode(&bytes)
                && checkpoint.index == position
            {
                return Ok(Some((bytes, checkpoint)));
            }
            let Some(below) = position.checked_sub(1) else { break };
            at_most = below;
        }
        Ok(None)
    }

    /// Saves one durably and thins those between `base` and it.
    pub(crate) fn save(&mut self, base: u64, index: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.files.save(index, bytes)?;
        if let Err(at) = self.positions.binary_search(&index) {
            self.positions.insert(at, index);
        }
        while let Some(surplus) = surplus(&self.positions, base, self.keep) {
            self.files.remove_at(surplus)?;
            self.positions.retain(|position| *position != surplus);
        }
        Ok(())
    }

    /// Leaves one out of account that turned out to be unreadable.
    pub(crate) fn forget(&mut self, index: u64) {
        self.positions.retain(|position| *position != index);
    }

    /// Removes those below `base`.
    pub(crate) fn remove_below(&mut self, base: u64) -> Result<(), LogError> {
        self.files.remove_below(base)?;
        self.positions.retain(|position| *position >= base);
        Ok(())
    }
}

/// Which checkpoint above `base` to give up when more than `keep` are there: the one
/// whose neighbours are closest together, never the newest.
fn surplus(positions: &[u64], base: u64, keep: usize) -> Option<u64> {
    let above = &positions[positions.partition_point(|position| *position <= base)..];
    if above.len() <= keep {
        return None;
    }
    (0..above.len() - 1)
        .min_by_key(|at| above[at + 1] - at.checked_sub(1).map_or(base, |before| above[before]))
        .map(|at| above[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_checkpoint_round_trips_with_its_terms() {
        let mut runs = Runs::new(0, 0);
        runs.push(1, 2);
        runs.push(5, 3);
        runs.push(9, 4);
        let bytes = Bytes::from(encode(6, 3, &runs, b"state"));
        let read = decode(&bytes).expect("round trip");
        assert_eq!((read.index, read.term, &read.state[..]), (6, 3, &b"state"[..]));
        assert_eq!(read.runs.up_to(100), [(0, 0), (1, 2), (5, 3)]);
        assert_eq!(bytes[..], *b"\x01\x06\x03\x03\x00\x00\x01\x02\x05\x03state", "the format is fixed");
        assert!(decode(&Bytes::from(encode(6, 4, &runs, b"state"))).is_err());
    }

    #[test]
    fn thinning_spreads_what_is_kept() {
        let mut positions = vec![10];
        for next in 1..100 {
            positions.push(10 + next * 10);
            while let Some(surplus) = surplus(&positions, 10, 8) {
                positions.retain(|position| *position != surplus);
            }
        }
        assert_eq!(positions.len(), 9);
        assert_eq!((positions[0], positions[8]), (10, 1000));
        let widest = positions.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest.is_some_and(|gap| gap <= 300), "the next base may be {widest:?} entries away");
    }

    proptest! {
        #[test]
        fn hostile_checkpoints_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes.into());
        }
    }
}
