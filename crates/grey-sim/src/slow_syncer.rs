//! A disk whose syncs end some rounds after they were asked for, and take
//! effect only then: the core evaluates ahead of it, and may be killed there.

use std::io;

use grey_edge::core::Syncer;
use grey_log::PendingSync;

use crate::random::Random;

/// Rounds that a sync is behind, at most.
const ROUNDS_MAX: u64 = 3;

#[derive(Debug)]
pub(crate) struct SlowSyncer {
    random: Random,
    sync: Option<PendingSync>,
    polls_left: u64,
}

impl SlowSyncer {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), sync: None, polls_left: 0 }
    }
}

impl Syncer for SlowSyncer {
    fn start(&mut self, sync: PendingSync) {
        self.polls_left = self.random.between(0..=ROUNDS_MAX);
        self.sync = Some(sync);
    }

    fn result(&mut self, wait: bool) -> Option<io::Result<()>> {
        if !wait && self.polls_left > 0 {
            self.polls_left -= 1;
            return None;
        }
        self.sync.take().map(|sync| sync.run())
    }
}
