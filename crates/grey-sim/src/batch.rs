//! Many seeds on several threads.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault::{Fault, Faults};
use crate::plan::Break;
use crate::world::{Outcome, run};

/// A batch of this many seeds must meet every kind of fault.
const COMPLETE_SEEDS: u64 = 60;
/// Failed outcomes kept.
const FAILED_MAX: usize = 20;

/// Which seeds, and how. `B` is what can be broken on purpose.
#[derive(Debug, Clone)]
pub struct Batch<B = Break> {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Threads; at least 1.
    pub jobs: usize,
    /// The mistake to make.
    pub broken: Option<B>,
    /// End at the first failure.
    pub stop_at_failure: bool,
}

/// What came of a batch.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Seeds run.
    pub runs: u64,
    /// Seeds that failed.
    pub failures: u64,
    /// The failed runs with the lowest seeds.
    pub failed: Vec<Outcome>,
    /// Faults of all runs.
    pub faults: Faults,
    /// Events promised to devices.
    pub promised: u64,
    /// Events at the coordinator.
    pub delivered: u64,
    /// Steps of the simulation.
    pub steps: u64,
    /// Virtual time, ms.
    pub virtual_ms: u64,
    /// The longest time from the end of all faults to rest, ms, and its seed.
    pub quiet_ms_max: (u64, u64),
    /// Of all digests, in any order.
    pub digest: u64,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.faults += &outcome.faults;
        self.promised += outcome.promised;
        self.delivered += outcome.delivered;
        self.steps += outcome.steps;
        self.virtual_ms += outcome.virtual_ms;
        self.quiet_ms_max = self.quiet_ms_max.max((outcome.quiet_ms, outcome.seed));
        self.digest ^= outcome.digest.rotate_left((outcome.seed % 64) as u32);
        if !outcome.wrong.is_empty() {
            self.failures += 1;
            keep_lowest(&mut self.failed, outcome, |outcome| outcome.seed);
        }
    }

    /// Kinds of faults that a batch of this size must have met and has not.
    pub fn missing(&self) -> Vec<Fault> {
        if self.runs < COMPLETE_SEEDS { Vec::new() } else { self.faults.missing() }
    }
}

impl Batch {
    /// Runs all seeds; `progress` is called after each with the number that is done.
    pub fn run(&self, progress: &(dyn Fn(u64, &Outcome) + Sync)) -> Summary {
        let mut summary = Summary::default();
        self.over(
            |seed| caught(seed, self.broken),
            |outcome| {
                let is_failed = !outcome.wrong.is_empty();
                progress(summary.runs + 1, &outcome);
                summary.add(outcome);
                is_failed
            },
        );
        summary
    }
}

impl<B: Sync> Batch<B> {
    /// Runs the seeds on several threads and hands each result to `take`, which says whether it failed.
    pub(crate) fn over<T: Send>(&self, run: impl Fn(u64) -> T + Sync, take: impl FnMut(T) -> bool + Send) {
        let Self { seeds, jobs, stop_at_failure, .. } = self;
        let next = AtomicU64::new(seeds.start);
        let take = Mutex::new(take);
        std::thread::scope(|scope| {
            for _ in 0..(*jobs).max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            break;
                        }
                        let result = run(seed);
                        let mut take = take.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        if take(result) && *stop_at_failure {
                            next.store(seeds.end, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }
}

/// Keeps the failed outcomes with the lowest seeds.
pub(crate) fn keep_lowest<T>(failed: &mut Vec<T>, outcome: T, seed: impl Fn(&T) -> u64) {
    failed.push(outcome);
    failed.sort_by_key(seed);
    failed.truncate(FAILED_MAX);
}

/// A run whose panic is a finding like any other.
fn caught(seed: u64, broken: Option<Break>) -> Outcome {
    let panicked = |what| Outcome {
        seed,
        wrong: vec![what],
        promised: 0,
        delivered: 0,
        faults: Faults::default(),
        steps: 0,
        virtual_ms: 0,
        quiet_ms: 0,
        digest: 0,
    };
    catching(|| run(seed, broken, false)).unwrap_or_else(panicked)
}

/// Runs something; what it says when it panics is the error.
pub(crate) fn catching<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        format!("panic: {}", what.unwrap_or_default())
    })
}
