//! What is known of one lane without reading it.

use std::ops::Range;

use grey_ledger::{Books, Tally};
use grey_model::{BlockHeader, Epoch, Seq};
use serde::{Deserialize, Serialize};

use crate::record::Counted;

/// The settled past of one life of the site, in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The life.
    pub epoch: Epoch,
    /// What was settled in it.
    pub books: Books,
}

/// What waits in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Blocks.
    pub blocks: u64,
    /// Encoded bytes.
    pub bytes: u64,
    /// Events (as `pending`) and accounted sequences.
    pub tally: Tally,
}

impl Pending {
    /// Counts a block in.
    pub(crate) fn add(&mut self, header: &BlockHeader, bytes: usize) {
        self.blocks += 1;
        self.bytes += bytes as u64;
        self.tally.add(&tally_of(header));
    }

    pub(crate) fn counted(&self) -> Counted {
        Counted {
            blocks: self.blocks as i64,
            bytes: self.bytes as i64,
            pending: self.tally.pending as i64,
            reduced: self.tally.reduced as i64,
            deduplicated: self.tally.deduplicated as i64,
            dropped: self.tally.dropped as i64,
        }
    }

    /// Counts what folds and later blocks changed. False when more would leave than is there.
    pub(crate) fn shift(&mut self, by: Counted) -> bool {
        let counts = [
            (&mut self.blocks, by.blocks),
            (&mut self.bytes, by.bytes),
            (&mut self.tally.pending, by.pending),
            (&mut self.tally.reduced, by.reduced),
            (&mut self.tally.deduplicated, by.deduplicated),
            (&mut self.tally.dropped, by.dropped),
        ];
        let mut exact = true;
        for (count, n) in counts {
            exact &= count.checked_add_signed(n).is_some();
            *count = count.saturating_add_signed(n);
        }
        exact
    }

    /// Counts a block out. False when more would leave than is there.
    pub(crate) fn remove(&mut self, header: &BlockHeader, bytes: usize) -> bool {
        self.shift(Counted::default().minus(Counted::of(header, bytes)))
    }
}

pub(crate) fn tally_of(header: &BlockHeader) -> Tally {
    let mut tally = Tally { pending: u64::from(header.events), ..Tally::default() };
    for account in &header.accounts {
        tally.account(account.disposition, account.len());
    }
    tally
}

/// The part of a lane that a checkpoint keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneState {
    /// The settled past, oldest life first.
    pub lives: Vec<Life>,
    /// Blocks below this position are settled.
    pub acked: u64,
    /// The position after the last block.
    pub end: u64,
    /// The sequence after the last block's.
    pub end_seq: Seq,
    /// The life that `end_seq` belongs to.
    pub epoch: Epoch,
    /// What waits between `acked` and `end`.
    pub pending: Pending,
    /// What was ever counted in, less what folds took out.
    pub(crate) counted: Counted,
    /// Serial of the next record of a lower stratum.
    pub(crate) serial: u64,
    /// Records below this serial were told of in receipts.
    pub(crate) announced: u64,
    /// Waiting sequences that were told of as lost to damage.
    pub(crate) damage_told: Vec<(Epoch, Range<Seq>)>,
}

/// A lane as checkpoints before the strata kept it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneStateV1 {
    lives: Vec<Life>,
    acked: u64,
    end: u64,
    end_seq: Seq,
    epoch: Epoch,
    pending: Pending,
}

impl From<LaneStateV1> for LaneState {
    fn from(old: LaneStateV1) -> Self {
        let LaneStateV1 { lives, acked, end, end_seq, epoch, pending } = old;
        Self { lives, acked, end, end_seq, epoch, pending, ..Self::default() }
    }
}

impl LaneState {
    /// Settles a block's sequences; false when they do not continue the books.
    pub(crate) fn settle(&mut self, header: &BlockHeader) -> bool {
        if self.lives.last().is_none_or(|life| life.epoch < header.epoch) {
            self.lives.push(Life { epoch: header.epoch, books: Books::default() });
        }
        let life = self.lives.iter_mut().find(|life| life.epoch == header.epoch);
        life.is_some_and(|life| life.books.settle(header.range(), &header.accounts))
    }

    /// True when settled and waiting sequences make the lane. That blocks of an earlier life
    /// wait beside those of this one is not seen.
    pub(crate) fn adds_up(&self) -> bool {
        self.lives.last().is_some_and(|life| life.epoch < self.epoch)
            || self.settled_seq(self.epoch) + self.pending.tally.total() == self.end_seq
    }

    /// The first sequence of the current life that is not settled.
    pub(crate) fn settled_seq(&self, epoch: Epoch) -> Seq {
        self.lives.iter().find(|life| life.epoch == epoch).map_or(0, |life| life.books.end())
    }
}

/// The part of a lane that appending changes: kept apart until the blocks are durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneEnd {
    end: u64,
    end_seq: Seq,
    epoch: Epoch,
    pending: Pending,
    counted: Counted,
}

impl LaneEnd {
    pub(crate) fn of(state: &LaneState) -> Self {
        Self {
            end: state.end,
            end_seq: state.end_seq,
            epoch: state.epoch,
            pending: state.pending,
            counted: state.counted,
        }
    }

    /// Takes note of a block at the end of the lane.
    pub(crate) fn appended(&mut self, position: u64, header: &BlockHeader, bytes: usize) {
        self.end = position + 1;
        // After a loss the owner may write again what is settled.
        let before = if self.epoch == header.epoch { self.end_seq } else { 0 };
        self.end_seq = header.range().end.max(before);
        self.epoch = header.epoch;
        self.pending.add(header, bytes);
        self.counted = self.counted.plus(Counted::of(header, bytes));
    }

    pub(crate) fn apply_to(self, state: &mut LaneState) {
        let Self { end, end_seq, epoch, pending, counted } = self;
        (state.end, state.end_seq, state.epoch) = (end, end_seq, epoch);
        (state.pending, state.counted) = (pending, counted);
    }
}
