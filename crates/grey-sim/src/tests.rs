//! A fixed batch, and proof that the checks notice what they are there for.

use crate::{Batch, Break, outbox, run};

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

fn histories(seeds: std::ops::Range<u64>, broken: Option<outbox::Break>) -> outbox::Summary {
    outbox::Batch { seeds, jobs: 2, broken, stop_at_failure: broken.is_some() }.run(&|_, _| ())
}

#[test]
fn histories_of_an_outbox_keep_every_promise() {
    let summary = histories(0..60, None);
    assert!(summary.failed.is_empty(), "{:#?}", summary.failed);
    assert!(summary.acknowledged > 50_000, "{}", summary.acknowledged);
}

#[test]
fn a_history_replays_alike() {
    let (first, second) = (outbox::run(4, None, false), outbox::run(4, None, false));
    assert_eq!((first.counts, first.acknowledged, first.arrived), (second.counts, second.acknowledged, second.arrived));
}

#[test]
fn mistakes_of_an_outbox_are_caught() {
    for broken in [outbox::Break::Fsync, outbox::Break::FoldSync, outbox::Break::Lease] {
        assert!(histories(0..200, Some(broken)).failures > 0, "{broken:?}");
    }
}
