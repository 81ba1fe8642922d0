//! Folds: rewriting the oldest blocks of a lane into a lower stratum.

use grey_model::Lane;

use crate::strata::Stratum;

/// Work on stored blocks, for a thread of its own. See [`crate::Queue::next_fold`].
#[derive(Debug)]
pub struct FoldJob {
    pub(crate) lane: Lane,
    pub(crate) target: Stratum,
}

impl FoldJob {
    /// Reads, decodes and encodes; writes nothing.
    pub fn run(self) -> Folded {
        Folded { applied: Applied { lane: self.lane, target: self.target, ..Applied::default() } }
    }
}

/// What a [`FoldJob`] made, for [`crate::Queue::apply`].
#[derive(Debug)]
pub struct Folded {
    pub(crate) applied: Applied,
}

/// What a fold came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The lane.
    pub lane: Lane,
    /// Where the blocks went.
    pub target: Stratum,
    /// Records that it replaced.
    pub replaced: u64,
    /// Records that stand in for them.
    pub records: u64,
    /// Bytes of blocks that it replaced.
    pub bytes_before: u64,
    /// Bytes of blocks that stand in for them.
    pub bytes_after: u64,
    /// True when it was not applied, because the lane had changed meanwhile: nothing
    /// happened, and a later job does it.
    pub discarded: bool,
}

impl Default for Applied {
    fn default() -> Self {
        Self {
            lane: Lane::Bulk,
            target: Stratum::Packed,
            replaced: 0,
            records: 0,
            bytes_before: 0,
            bytes_after: 0,
            discarded: false,
        }
    }
}
