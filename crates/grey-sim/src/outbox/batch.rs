//! Many histories on several threads.

use super::count::{Counts, Happening};
use super::{Break, Outcome, run};
use crate::batch::{self, catching, keep_lowest};

/// A batch of this many histories must meet every kind of happening.
const COMPLETE_HISTORIES: u64 = 300;

/// Which seeds, and how.
pub type Batch = batch::Batch<Break>;

/// What came of a batch.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Histories run.
    pub runs: u64,
    /// Histories that failed.
    pub failures: u64,
    /// The failed ones with the lowest seeds.
    pub failed: Vec<Outcome>,
    /// What happened in all of them.
    pub counts: Counts,
    /// Readings acknowledged to devices.
    pub acknowledged: u64,
    /// Sequences at the hub.
    pub arrived: u64,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.counts += &outcome.counts;
        self.acknowledged += outcome.acknowledged;
        self.arrived += outcome.arrived;
        if !outcome.wrong.is_empty() {
            self.failures += 1;
            keep_lowest(&mut self.failed, outcome, |outcome| outcome.seed);
        }
    }

    /// Kinds that a batch of this size must have met and has not.
    pub fn missing(&self) -> Vec<Happening> {
        if self.runs < COMPLETE_HISTORIES { Vec::new() } else { self.counts.missing() }
    }
}

impl Batch {
    /// Runs all seeds; `progress` is called after each with the number that is done.
    pub fn run(&self, progress: &(dyn Fn(u64, &Outcome) + Sync)) -> Summary {
        let mut summary = Summary::default();
        let history = |seed| {
            let panicked = |what| Outcome { seed, wrong: vec![what], ..Outcome::default() };
            catching(|| run(seed, self.broken, false)).unwrap_or_else(panicked)
        };
        self.over(history, |outcome| {
            let is_failed = !outcome.wrong.is_empty();
            progress(summary.runs + 1, &outcome);
            summary.add(outcome);
            is_failed
        });
        summary
    }
}
