//! Folds that are taken over some rounds after they began: the lane changes meanwhile, and
//! the site may be killed in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grey_edge::core::Folder;
use grey_queue::{FoldJob, Folded, Stratum};

use super::count::{Counts, Happening};
use crate::random::Random;

/// Polls that a fold takes, at most.
const POLLS_MAX: u64 = 3;

/// Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct SlowFolder(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Random,
    folded: Option<Folded>,
    polls_left: u64,
    /// Folds that were handed over, by target.
    handed: [u64; Stratum::ALL.len()],
    target: Stratum,
}

impl SlowFolder {
    pub(crate) fn new(seed: u64) -> Self {
        let state =
            State { random: Random::new(seed), folded: None, polls_left: 0, handed: [0; 5], target: Stratum::Fresh };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while a fold was begun and not taken over, or was taken over last of all.
    pub(crate) fn is_folding(&self) -> bool {
        let state = self.state();
        state.folded.is_some() || state.handed.iter().sum::<u64>() > 0
    }

    /// Counts the folds that were handed over, by kind; returns their sum.
    pub(crate) fn count(&self, counts: &mut Counts) -> u64 {
        let handed = self.state().handed;
        for (stratum, count) in Stratum::ALL.into_iter().zip(handed) {
            match stratum {
                Stratum::Dropped => counts.add(Happening::Dropped, count),
                Stratum::Rolled => counts.add(Happening::Rolled, count),
                Stratum::Thinned => counts.add(Happening::Thinned, count),
                Stratum::Packed => counts.add(Happening::Packed, count),
                Stratum::Fresh => {}
            }
        }
        handed.iter().sum()
    }
}

impl Folder for SlowFolder {
    fn start(&mut self, job: FoldJob) {
        let mut state = self.state();
        state.polls_left = state.random.between(0..=POLLS_MAX);
        state.target = job.target();
        state.folded = Some(job.run());
    }

    fn result(&mut self) -> Option<Folded> {
        let mut state = self.state();
        if state.polls_left > 0 {
            state.polls_left -= 1;
            return None;
        }
        let folded = state.folded.take()?;
        let target = state.target as usize;
        state.handed[target] += 1;
        Some(folded)
    }
}
