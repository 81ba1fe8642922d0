//! Many histories on several threads.

use std::ops::Range;

use super::count::{Counts, Happening};
use super::{Break, Outcome, run};
use crate::batch::{catching, over_seeds};

/// A batch of this many histories must meet every kind of happening.
const COMPLETE_HISTORIES: u64 = 300;
/// Failed outcomes kept.
const FAILED_MAX: usize = 20;

/// Which seeds, and how.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Threads; at least 1.
    pub jobs: usize,
    /// The mistake to make.
    pub broken: Option<Break>,
    /// End at the first failure.
    pub stop_at_failure: bool,
}

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
            self.failed.push(outcome);
            self.failed.sort_by_key(|outcome| outcome.seed);
            self.failed.truncate(FAILED_MAX);
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
        over_seeds(self.seeds.clone(), self.jobs, history, |outcome| {
            let is_last = self.stop_at_failure && !outcome.wrong.is_empty();
            progress(summary.runs + 1, &outcome);
            summary.add(outcome);
            !is_last
        });
        summary
    }
}
