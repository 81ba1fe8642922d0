//! The laws of the clock: stamps only rise, and say how wrong they may be.

use super::*;
use proptest::prelude::*;

const NOW: i64 = 1_760_000_000_000;

fn stamp(ms: i64, counter: u64) -> Stamp {
    Stamp { hlc: to_hlc(ms, counter), uncertainty_ms: 0 }
}

#[test]
fn follows_the_wall_clock_and_counts_within_a_millisecond() {
    let mut clock = HybridClock::default();
    assert_eq!(clock.now(NOW, 5), Stamp { hlc: stamp(NOW, 0).hlc, uncertainty_ms: 5 });
    assert_eq!(clock.now(NOW, 5), Stamp { hlc: stamp(NOW, 1).hlc, uncertainty_ms: 5 });
    assert_eq!(clock.now(NOW + 1, 5).hlc, stamp(NOW + 1, 0).hlc);
    assert_eq!(clock.last(), stamp(NOW + 1, 0));
}

#[test]
fn a_step_back_widens_the_uncertainty_instead_of_the_order() {
    let mut clock = HybridClock::default();
    let before = clock.now(NOW, 10);
    let after = clock.now(NOW - 3_600_000, 10);
    assert!(after > before);
    assert_eq!((after.unix_ms(), after.uncertainty_ms), (NOW, 3_600_010));
    assert_eq!(clock.lead_ms(NOW - 3_600_000), 3_600_000);
    assert_eq!(clock.lead_ms(NOW + 1), 0);
}

#[test]
fn what_was_observed_comes_before_what_follows() {
    let mut clock = HybridClock::new(1_000);
    clock.now(NOW, 0);
    let peer = stamp(NOW + 900, 77);
    clock.observe(peer, NOW).unwrap();
    let next = clock.now(NOW, 3);
    assert!(next.hlc > peer.hlc);
    assert_eq!((next.unix_ms(), next.uncertainty_ms), (NOW + 900, 903));
    clock.observe(stamp(NOW - 50_000, 9), NOW).unwrap();
    assert!(clock.now(NOW, 0).hlc > next.hlc, "an old stamp changes nothing");
}

#[test]
fn a_peer_that_is_too_far_ahead_is_refused() {
    let mut clock = HybridClock::new(1_000);
    clock.now(NOW, 0);
    let before = clock.last();
    let error = clock.observe(stamp(NOW + 1_001, 0), NOW).unwrap_err();
    assert_eq!(error, ClockError::Drift { observed_ms: NOW + 1_001, ahead_ms: 1_001, limit_ms: 1_000 });
    assert_eq!(clock.last(), before);
    let mut strict = HybridClock::new(0);
    assert_eq!(strict.observe(stamp(NOW, 4), NOW), Ok(()), "no drift at all is still allowed");
    assert!(strict.observe(stamp(NOW + 1, 0), NOW).is_err(), "0 means none, not any");
}

#[test]
fn restoring_continues_after_the_past_whatever_the_wall_clock_says() {
    let mut clock = HybridClock::new(1_000);
    let past = stamp(NOW + 86_400_000, 12);
    clock.restore(past).unwrap();
    assert!(clock.now(NOW, 0).hlc > past.hlc);
    clock.restore(stamp(NOW, 0)).unwrap();
    assert!(clock.now(NOW, 0).hlc > past.hlc, "restoring never goes back");
    clock.restore(Stamp::default()).unwrap();
    assert!(clock.now(NOW, 0).hlc > past.hlc, "a stamp of zero is none");
}

#[test]
fn an_exhausted_counter_borrows_the_next_millisecond() {
    let mut clock = HybridClock::default();
    clock.restore(stamp(NOW, COUNTER_MAX - 2)).unwrap();
    let stamps: Vec<Stamp> = (0..6).map(|_| clock.now(NOW, 0)).collect();
    assert!(stamps.windows(2).all(|pair| pair[0].hlc < pair[1].hlc), "{stamps:?}");
    assert_eq!(stamps.last().unwrap().unix_ms(), NOW + 1);
    let mut clock = HybridClock::default();
    clock.restore(stamp(NOW, COUNTER_MAX)).unwrap();
    assert!(clock.now(NOW, 0).hlc > stamp(NOW, COUNTER_MAX).hlc);
}

#[test]
fn a_clock_that_was_never_set_still_orders() {
    let mut clock = HybridClock::default();
    let first = clock.now(0, 0);
    let second = clock.now(i64::MIN, 0);
    assert!(first.hlc < second.hlc);
    assert_eq!(first.unix_ms(), TIME_MIN_MS);
    assert_eq!(first.uncertainty_ms, u32::MAX, "and admits that it knows nothing");
}

#[test]
fn the_end_of_time_repeats_instead_of_failing() {
    let mut clock = HybridClock::default();
    assert_eq!(clock.now(i64::MAX, 0).unix_ms(), TIME_MAX_MS);
    clock.restore(stamp(TIME_MAX_MS, COUNTER_MAX - 1)).unwrap();
    let last = clock.now(i64::MAX, 0);
    assert_eq!(clock.now(i64::MAX, 0).hlc, last.hlc);
    let mut clock = HybridClock::default();
    assert_eq!(clock.restore(Stamp { hlc: u64::MAX, uncertainty_ms: 0 }), Err(ClockError::Range(TIME_MAX_MS)));
}

#[derive(Debug, Clone)]
enum Step {
    Now(i64, u32),
    Observe(u64, i64),
    Restore(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![8 => NOW - 200..NOW + 200, 1 => any::<i64>()];
    let hlc = prop_oneof![8 => (NOW - 200..NOW + 200, 0..4_u64).prop_map(|(ms, n)| to_hlc(ms, n)), 1 => any::<u64>()];
    prop_oneof![
        4 => (time.clone(), any::<u32>()).prop_map(|(ms, u)| Step::Now(ms, u)),
        2 => (hlc.clone(), time).prop_map(|(hlc, ms)| Step::Observe(hlc, ms)),
        1 => hlc.prop_map(Step::Restore),
    ]
}

proptest! {
    #[test]
    fn stamps_only_rise(steps in prop::collection::vec(step(), 1..80)) {
        let mut clock = HybridClock::new(100);
        let mut highest = 0;
        for step in steps {
            match step {
                Step::Now(ms, uncertainty_ms) => {
                    let next = clock.now(ms, uncertainty_ms);
                    prop_assert!(next.hlc > highest || highest >> Stamp::COUNTER_BITS == TIME_MAX_MS as u64);
                    // The stamp's interval holds the one around the wall clock.
                    let off = next.unix_ms().abs_diff(ms);
                    prop_assert!(u64::from(next.uncertainty_ms) >= off.min(u32::MAX.into()));
                    highest = highest.max(next.hlc);
                }
                Step::Observe(hlc, ms) => {
                    let peer = Stamp { hlc, uncertainty_ms: 0 };
                    if clock.observe(peer, ms).is_ok() && peer.unix_ms() >= TIME_MIN_MS {
                        highest = highest.max(hlc);
                    }
                }
                Step::Restore(hlc) => {
                    let past = Stamp { hlc, uncertainty_ms: 0 };
                    if clock.restore(past).is_ok() && past.unix_ms() >= TIME_MIN_MS {
                        highest = highest.max(hlc);
                    }
                }
            }
            prop_assert!(clock.last().hlc >= highest);
        }
    }
}
