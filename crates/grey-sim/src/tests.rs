//! A fixed batch, and proof that the checks notice what they are there for.

use crate::{Batch, Break, run};

fn batch(seeds: std::ops::Range<u64>) -> Batch {
    Batch { seeds, jobs: 2, broken: None, stop_at_failure: false }
}

#[test]
fn sixty_seeds_keep_every_promise_and_meet_every_fault() {
    let summary = batch(0..60).run(&|_, _| ());
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
    assert_eq!(summary.missing(), []);
    assert!(summary.promised > 5_000, "{}", summary.promised);
}

#[test]
fn a_seed_replays_bit_for_bit() {
    for seed in [3, 5019] {
        let (first, second) = (run(seed, None, false), run(seed, None, false));
        assert_eq!((first.digest, first.steps, first.faults), (second.digest, second.steps, second.faults));
    }
    assert_ne!(run(1, None, false).digest, run(2, None, false).digest);
}

/// What the checks find in a broken federation, over some seeds.
fn found(broken: Break) -> Vec<String> {
    (0..20).flat_map(|seed| run(seed, Some(broken), false).wrong).collect()
}

#[test]
fn a_receiver_that_forgets_what_it_has_is_caught() {
    let wrong = found(Break::Dedup);
    assert!(wrong.iter().any(|what| what.starts_with("a sequence is stored twice")), "{wrong:?}");
}

#[test]
fn a_site_that_acknowledges_before_the_sync_is_caught() {
    let wrong = found(Break::Fsync);
    assert!(wrong.iter().any(|what| what.starts_with("an acknowledged event is lost")), "{wrong:?}");
}
