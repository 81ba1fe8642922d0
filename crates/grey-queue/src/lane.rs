//! What is known of one lane without reading it.

use grey_ledger::{Books, Tally};
use grey_model::{BlockHeader, Epoch, Seq};
use serde::{Deserialize, Serialize};

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

    /// Counts a block out. False when more would leave than is there.
    pub(crate) fn remove(&mut self, header: &BlockHeader, bytes: usize) -> bool {
        let gone = tally_of(header);
        let counts = [
            (&mut self.blocks, 1),
            (&mut self.bytes, bytes as u64),
            (&mut self.tally.pending, gone.pending),
            (&mut self.tally.reduced, gone.reduced),
            (&mut self.tally.deduplicated, gone.deduplicated),
            (&mut self.tally.dropped, gone.dropped),
        ];
        let mut exact = true;
        for (count, n) in counts {
            exact &= *count >= n;
            *count = count.saturating_sub(n);
        }
        exact
    }
}

fn tally_of(header: &BlockHeader) -> Tally {
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
}

impl LaneEnd {
    pub(crate) fn of(state: &LaneState) -> Self {
        Self { end: state.end, end_seq: state.end_seq, epoch: state.epoch, pending: state.pending }
    }

    /// Takes note of a block at the end of the lane.
    pub(crate) fn appended(&mut self, position: u64, header: &BlockHeader, bytes: usize) {
        self.end = position + 1;
        self.end_seq = header.range().end;
        self.epoch = header.epoch;
        self.pending.add(header, bytes);
    }

    pub(crate) fn apply_to(self, state: &mut LaneState) {
        let Self { end, end_seq, epoch, pending } = self;
        (state.end, state.end_seq, state.epoch, state.pending) = (end, end_seq, epoch, pending);
    }
}
