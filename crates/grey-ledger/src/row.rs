//! The figures of one stream key, as they are counted and as they are shown.

use std::ops::Range;

use grey_model::{Disposition, Epoch, Lane, Seq, SiteId};
use serde::{Deserialize, Serialize};

/// Counts by what became of the sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Handed to the next tier and acknowledged by it, or stored by the last tier.
    pub delivered: u64,
    /// Filtered, sampled or folded into aggregates by rules.
    pub reduced: u64,
    /// Device resends.
    pub deduplicated: u64,
    /// Dropped, with a reason on record.
    pub dropped: u64,
    /// Waiting for the next tier.
    pub pending: u64,
}

impl Tally {
    /// Counts a run of `n` sequences without events.
    pub fn account(&mut self, disposition: Disposition, n: u64) {
        match disposition {
            Disposition::Reduced(_) => self.reduced += n,
            Disposition::Deduplicated => self.deduplicated += n,
            Disposition::DroppedOverflow | Disposition::DroppedDamage => self.dropped += n,
        }
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Tally) {
        self.delivered += other.delivered;
        self.reduced += other.reduced;
        self.deduplicated += other.deduplicated;
        self.dropped += other.dropped;
        self.pending += other.pending;
    }

    /// Everything counted.
    pub fn total(&self) -> u64 {
        self.delivered + self.reduced + self.deduplicated + self.dropped + self.pending
    }
}

/// One run of sequences and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRow {
    /// First sequence.
    pub first: Seq,
    /// Last sequence, inclusive.
    pub last: Seq,
    /// `delivered`, `pending`, `accepted`, or why there is no event.
    pub standing: String,
}

impl RangeRow {
    /// Makes a row of a half-open range.
    pub fn new(range: Range<Seq>, standing: impl Into<String>) -> Self {
        Self { first: range.start, last: range.end.saturating_sub(1), standing: standing.into() }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where the sequences were given.
    pub site: SiteId,
    /// The life of that site.
    pub epoch: Epoch,
    /// The lane.
    pub lane: Lane,
    /// Sequences accepted, counted when they were.
    pub accepted: u64,
    /// What became of them, each counted on its own.
    #[serde(flatten)]
    pub tally: Tally,
    /// Sequences that arrived again from the tier below and were recognised by range.
    pub resent: u64,
    /// True when the counts add up and the ranges have neither gap nor overlap.
    pub balanced: bool,
    /// The ranges behind the counts, oldest first; old neighbours are merged.
    pub ranges: Vec<RangeRow>,
}
