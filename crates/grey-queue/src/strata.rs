//! The strata of a lane.

use std::ops::Range;

use grey_model::Lane;

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

    /// The name used in status and, but for fresh, in the folder's name.
    pub fn as_str(self) -> &'static str {
        ["dropped", "rolled", "thinned", "packed", "fresh"][self as usize]
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
    /// Records on disk, settled ones that share a file with waiting ones included.
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Positions that it serves; empty where a lower stratum or nothing does.
    pub positions: Range<u64>,
}
