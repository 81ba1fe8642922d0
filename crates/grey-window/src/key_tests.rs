//! The windows of a key against a model that keeps every event, and under
//! clocks that jump.

use super::*;
use crate::{Field, Needs, SAMPLES_MAX};

const T0: i64 = 1_760_000_040_000;
const DAYS_400: i64 = 400 * 86_400_000;
const NEEDS: Needs = Needs { deviation: true, sketch: false };

fn spec(assigner: Assigner, lateness_ms: i64) -> WindowSpec {
    WindowSpec::new(assigner, NEEDS, lateness_ms, 3_000, 60_000).unwrap()
}

fn minute() -> WindowSpec {
    spec(Assigner::Tumbling { size_ms: 60_000 }, 0)
}

/// Takes (time, value) with the site's clock at the newest time, and gives (start, end, count, partial).
fn run(spec: &WindowSpec, times_ms: &[i64]) -> (KeyWindows, Vec<(i64, i64, u64, bool)>) {
    let (mut key, mut out) = (KeyWindows::default(), Vec::new());
    let mut now_ms = i64::MIN;
    for time_ms in times_ms {
        now_ms = now_ms.max(T0 + time_ms);
        key.add(spec, T0 + time_ms, now_ms, 1.0, &mut out);
    }
    (key, brief(&out))
}

fn brief(out: &[Closed]) -> Vec<(i64, i64, u64, bool)> {
    out.iter()
        .map(|closed| (closed.start_ms - T0, closed.end_ms - T0, closed.accumulator.count(), closed.partial))
        .collect()
}

fn saved(key: &KeyWindows) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    bytes
}

fn restored(spec: &WindowSpec, bytes: &[u8]) -> KeyWindows {
    let mut reader = Reader::new(bytes);
    let key = KeyWindows::read(spec, &mut reader).unwrap();
    assert!(reader.is_empty());
    key
}

#[test]
fn a_tumbling_window_closes_with_the_next() {
    let (key, out) = run(&minute(), &[0, 10_000, 59_999, 60_000]);
    assert_eq!(out, [(0, 60_000, 3, false)]);
    assert!(!key.is_empty());
    assert_eq!(size_of::<KeyWindows>(), 120);
}

#[test]
fn out_of_order_within_the_lateness_is_taken_and_beyond_it_is_late() {
    let spec = spec(Assigner::Tumbling { size_ms: 60_000 }, 5_000);
    let (mut key, out) = run(&spec, &[0, 61_000, 59_000, 64_999]);
    assert_eq!(out, []);
    let mut out = Vec::new();
    assert_eq!(key.add(&spec, T0 + 65_000, T0 + 65_000, 1.0, &mut out), Placed::Taken);
    assert_eq!(brief(&out), [(0, 60_000, 2, false)]);
    assert_eq!(key.add(&spec, T0 + 59_999, T0 + 65_000, 1.0, &mut out), Placed::Late);
    assert_eq!(key.add(&spec, T0 + 60_000, T0 + 65_000, 1.0, &mut out), Placed::Taken);
    // A window that was empty when time passed it is closed as well.
    assert_eq!(key.add(&spec, T0 - 60_000, T0 + 65_000, 1.0, &mut out), Placed::Late);
}

#[test]
fn hopping_windows_overlap_and_take_what_some_of_them_still_can() {
    let spec = spec(Assigner::Hopping { size_ms: 3_000, every_ms: 1_000 }, 0);
    let (mut key, out) = run(&spec, &[0, 1_500, 2_500]);
    assert_eq!(out, [(-2_000, 1_000, 1, false), (-1_000, 2_000, 2, false)]);
    let mut out = Vec::new();
    // Two of its windows are closed, the one up to 3,000 is not.
    assert_eq!(key.add(&spec, T0 + 100, T0 + 2_500, 1.0, &mut out), Placed::Taken);
    assert_eq!(key.add(&spec, T0 - 100, T0 + 2_500, 1.0, &mut out), Placed::Late);
    key.finish(&spec, &mut out);
    assert_eq!(brief(&out), [(0, 3_000, 4, true), (1_000, 4_000, 2, true), (2_000, 5_000, 1, true)]);
    assert!(key.is_empty());
}

#[test]
fn a_silent_key_is_closed_by_the_sites_clock() {
    let spec = minute();
    let (mut key, _) = run(&spec, &[10_000]);
    let due_ms = key.due_ms(&spec).unwrap();
    assert_eq!(due_ms, T0 + 60_000 + 3_000);
    let mut out = Vec::new();
    key.advance(&spec, due_ms - 1, &mut out);
    assert!(out.is_empty());
    key.advance(&spec, due_ms, &mut out);
    assert_eq!(brief(&out), [(0, 60_000, 1, false)]);
    assert_eq!((key.is_empty(), key.due_ms(&spec)), (true, None));
    assert_eq!(key.add(&spec, T0 + 59_000, due_ms, 1.0, &mut out), Placed::Late);
    assert_eq!(key.add(&spec, T0 + 60_000, due_ms, 1.0, &mut out), Placed::Taken);
}

#[test]
fn a_device_whose_clock_is_behind_is_not_cut_short() {
    let spec = minute();
    let mut key = KeyWindows::default();
    let mut out = Vec::new();
    // An hour behind, a value every 20 s: longer apart than the idle time.
    for n in 0..3 {
        let now_ms = T0 + 3_600_000 + n * 20_000;
        key.advance(&spec, now_ms, &mut out);
        assert_eq!(key.add(&spec, T0 + n * 20_000, now_ms, 1.0, &mut out), Placed::Taken);
    }
    assert!(out.is_empty());
    key.advance(&spec, T0 + 3_600_000 + 63_000, &mut out);
    assert_eq!(brief(&out), [(0, 60_000, 3, false)]);
}

#[test]
fn the_sites_clock_jumps_forward() {
    let spec = minute();
    for jump_ms in [3_600_000, DAYS_400, i64::MAX - T0] {
        let (mut key, _) = run(&spec, &[10_000]);
        let mut out = Vec::new();
        key.advance(&spec, T0.saturating_add(jump_ms), &mut out);
        assert_eq!(brief(&out), [(0, 60_000, 1, false)]);
        out.clear();
        // Late is what belongs to the closed window, and nothing else.
        assert_eq!(key.add(&spec, T0 + 20_000, T0 + jump_ms, 1.0, &mut out), Placed::Late);
        assert_eq!(key.add(&spec, T0 + 60_000, T0 + jump_ms, 1.0, &mut out), Placed::Taken);
        // And back again.
        assert_eq!(key.add(&spec, T0 + 61_000, T0 + 61_000, 1.0, &mut out), Placed::Taken);
        assert_eq!(key.due_ms(&spec), Some(T0 + 120_000 + 3_000));
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_make_events_late_for_long() {
    let spec = minute();
    for jump_ms in [3_600_000, DAYS_400] {
        let (mut key, _) = run(&spec, &[10_000]);
        let mut out = Vec::new();
        // The site's clock gives the events their time: both are ahead.
        let wrong_ms = T0 + jump_ms + 20_000;
        assert_eq!(key.add(&spec, wrong_ms, wrong_ms, 1.0, &mut out), Placed::Taken);
        assert_eq!(brief(&out), [(0, 60_000, 1, false)]);
        out.clear();
        key.advance(&spec, T0 + 30_000, &mut out);
        assert_eq!(brief(&out), [(jump_ms, jump_ms + 60_000, 1, true)]);
        // The window that was closed before is not opened a second time.
        assert_eq!(key.add(&spec, T0 + 40_000, T0 + 40_000, 1.0, &mut out), Placed::Late);
        assert_eq!(key.add(&spec, T0 + 60_000, T0 + 60_000, 1.0, &mut out), Placed::Taken);
    }
}

#[test]
fn a_devices_clock_jumps() {
    let spec = minute();
    for jump_ms in [3_600_000, DAYS_400, i64::MAX - T0] {
        let (mut key, _) = run(&spec, &[10_000]);
        let before = saved(&key);
        let mut out = Vec::new();
        assert_eq!(key.add(&spec, T0 + jump_ms, T0 + 10_000, 1.0, &mut out), Placed::Ahead);
        assert_eq!(key.add(&spec, T0 - jump_ms, T0 + 10_000, 1.0, &mut out), Placed::Late);
        assert_eq!(saved(&key), before);
        assert!(out.is_empty());
        if T0 - jump_ms < -TIME_MS_MAX {
            continue;
        }
        // A device that wakes up 400 days behind, and is then set right.
        let mut key = KeyWindows::default();
        assert_eq!(key.add(&spec, T0 - jump_ms, T0, 1.0, &mut out), Placed::Taken);
        assert_eq!(key.add(&spec, T0, T0, 1.0, &mut out), Placed::Taken);
        assert_eq!((out.len(), out[0].accumulator.count()), (1, 1));
    }
}

#[test]
fn extremes_are_refused() {
    let (mut key, mut out) = (KeyWindows::default(), Vec::new());
    for spec in specs() {
        for now_ms in [i64::MIN, -1, T0, i64::MAX] {
            assert_ne!(key.add(&spec, i64::MIN, now_ms, 1.0, &mut out), Placed::Taken);
            assert_eq!(key.add(&spec, i64::MAX, now_ms, 1.0, &mut out), Placed::Ahead);
            assert_eq!(key.add(&spec, now_ms, now_ms, f64::NAN, &mut out), Placed::Late);
            assert_eq!(key.add(&spec, now_ms, now_ms, f64::INFINITY, &mut out), Placed::Late);
            key.advance(&spec, now_ms, &mut out);
        }
        assert!(key.is_empty() && out.is_empty());
        assert_eq!(key.add(&spec, -TIME_MS_MAX, T0, 1.0, &mut out), Placed::Taken);
        assert_eq!(saved(&restored(&spec, &saved(&key))), saved(&key));
        assert_eq!(key.add(&spec, TIME_MS_MAX, i64::MAX, 2.0, &mut out), Placed::Taken);
        assert_eq!(saved(&restored(&spec, &saved(&key))), saved(&key));
        key.advance(&spec, i64::MAX, &mut out);
        key.finish(&spec, &mut out);
        assert!(key.is_empty() && !out.is_empty());
        out.clear();
        key = KeyWindows::default();
    }
}

#[test]
fn times_before_1970_have_windows_too() {
    let spec = minute();
    let (mut key, mut out) = (KeyWindows::default(), Vec::new());
    key.add(&spec, -1, 0, 1.0, &mut out);
    key.add(&spec, 0, 0, 1.0, &mut out);
    assert_eq!((out[0].start_ms, out[0].end_ms, out[0].accumulator.count()), (-60_000, 0, 1));
}

#[test]
fn a_late_event_bridges_two_sessions() {
    let spec = spec(Assigner::Session { gap_ms: 1_000, size_max_ms: 10_000 }, 5_000);
    let (mut key, out) = run(&spec, &[0, 1_500, 3_000]);
    assert_eq!(out, []);
    let mut out = Vec::new();
    assert_eq!(key.add(&spec, T0 + 700, T0 + 3_000, 1.0, &mut out), Placed::Taken);
    key.finish(&spec, &mut out);
    assert_eq!(brief(&out), [(0, 2_500, 3, true), (3_000, 4_000, 1, true)]);
}

#[test]
fn a_session_does_not_grow_beyond_its_greatest_length() {
    let spec = spec(Assigner::Session { gap_ms: 1_000, size_max_ms: 2_000 }, 0);
    let (_, out) = run(&spec, &[0, 900, 1_800, 2_000, 2_900, 10_000]);
    assert_eq!(out, [(0, 2_000, 3, false), (2_000, 3_900, 2, false)]);
}

#[test]
fn counts_close_in_the_order_of_arrival() {
    let spec = spec(Assigner::Count { size: 3 }, 0);
    let (mut key, out) = run(&spec, &[0, 500, 100, 50, 60]);
    assert_eq!(out, [(0, 501, 3, false)]);
    let mut out = Vec::new();
    key.advance(&spec, T0 + DAYS_400, &mut out);
    assert_eq!((out.len(), key.due_ms(&spec)), (0, None));
    key.finish(&spec, &mut out);
    assert_eq!(brief(&out), [(50, 61, 2, true)]);
}

#[test]
fn a_sliding_window_reports_once_in_a_while() {
    let spec = spec(Assigner::Sliding { size_ms: 1_000, every_ms: 500 }, 0);
    let (mut key, out) = run(&spec, &[0, 400, 600, 1_050, 1_200]);
    assert_eq!(out, [(-999, 1, 1, false), (-399, 601, 3, false), (201, 1_201, 4, false)]);
    let (mut other, _) = run(&spec, &[0, 400]);
    let mut out = Vec::new();
    let due_ms = other.due_ms(&spec).unwrap();
    other.advance(&spec, due_ms, &mut out);
    assert_eq!(brief(&out), [(-599, 401, 2, false)], "the last values are reported after silence");
    let due_ms = other.due_ms(&spec).unwrap();
    other.advance(&spec, due_ms, &mut out);
    assert!(other.is_empty() && out.len() == 1);
    key.finish(&spec, &mut out);
    assert!(key.is_empty() && out.len() == 1, "everything was reported");
}

#[test]
fn a_sliding_window_says_when_it_lost_values() {
    let spec = spec(Assigner::Sliding { size_ms: 60_000, every_ms: 1_000 }, 0);
    let (mut key, mut out) = (KeyWindows::default(), Vec::new());
    for n in 0..3 * SAMPLES_MAX as i64 {
        assert_eq!(key.add(&spec, T0 + n * 5, T0 + n * 5, 1.0, &mut out), Placed::Taken);
    }
    let last = out.last().unwrap();
    assert!(last.partial && last.accumulator.count() as usize <= SAMPLES_MAX);
    assert!(key.bytes() < 200_000);
    assert!(!out[0].partial);
}

#[test]
fn a_dense_sliding_window_is_its_values_whenever_it_is_saved() {
    let spec = spec(Assigner::Sliding { size_ms: 2_000, every_ms: 100 }, 50);
    let (mut key, mut twin) = (KeyWindows::default(), KeyWindows::default());
    let (mut out, mut twins) = (Vec::new(), Vec::new());
    let value = |n: i64| (n * 7_919 % 1_009) as f64 / 8.0;
    for n in 0..3_000_i64 {
        // Pairs come in the wrong order.
        let n = n ^ 1;
        let time_ms = T0 + n * 7;
        assert_eq!(key.add(&spec, time_ms, time_ms, value(n), &mut out), Placed::Taken);
        twin.add(&spec, time_ms, time_ms, value(n), &mut twins);
        if n % 37 == 0 {
            key = restored(&spec, &saved(&key));
        }
    }
    assert_eq!((saved(&key), &out), (saved(&twin), &twins));
    assert!(out.len() > 190);
    for closed in out {
        let held = (0..3_000).filter(|n| (closed.start_ms..closed.end_ms).contains(&(T0 + n * 7)));
        let held: Vec<f64> = held.map(value).collect();
        // Eighths are exact.
        assert_eq!(closed.accumulator.get(Field::Sum), Some(held.iter().sum::<f64>()));
        assert_eq!(closed.accumulator.count(), held.len() as u64);
        assert_eq!(closed.accumulator.get(Field::Last), held.last().copied());
    }
}

#[test]
fn panes_are_bounded_even_under_a_definition_that_was_not_checked() {
    let mut spec = minute();
    spec.lateness_ms = DAYS_400;
    let (mut key, mut out) = (KeyWindows::default(), Vec::new());
    for n in 0..1_000_i64 {
        // Every other window, forwards and backwards.
        let time_ms = T0 + if n % 2 == 0 { n } else { -n } * 60_000;
        key.add(&spec, time_ms, T0 + 60_000_000, 1.0, &mut out);
        assert!(saved(&key).len() < 128 * 100);
    }
    assert!(out.len() > 300 && out.iter().all(|closed| closed.partial));
}

#[test]
fn definitions_are_checked() {
    let check =
        |assigner, lateness_ms| WindowSpec::new(assigner, NEEDS, lateness_ms, 0, 0).map_err(|error| error.to_string());
    let tumbling = |size_ms| Assigner::Tumbling { size_ms };
    let hopping = |size_ms, every_ms| Assigner::Hopping { size_ms, every_ms };
    assert!(check(tumbling(100), 0).is_ok() && check(tumbling(7 * 86_400_000), 0).is_ok());
    assert!(check(tumbling(99), 0).is_err() && check(tumbling(i64::MIN), 0).is_err());
    assert!(check(hopping(6_400, 100), 0).is_ok());
    assert_eq!(
        check(hopping(1_000, 300), 0).unwrap_err(),
        "a window of 1000 ms is no multiple of its hop of 300 ms; choose a hop that divides it"
    );
    assert!(check(hopping(6_500, 100), 0).unwrap_err().contains("65 hops"));
    assert!(check(tumbling(1_000), 60_000).is_ok());
    assert!(check(tumbling(1_000), 61_000).unwrap_err().contains("open"));
    assert!(check(tumbling(60_000), -1).unwrap_err().contains("lateness (ms) of -1"));
    assert!(check(Assigner::Session { gap_ms: 1_000, size_max_ms: 999 }, 0).is_err());
    assert!(check(Assigner::Count { size: 0 }, 0).is_err() && check(Assigner::Count { size: u64::MAX }, 0).is_err());
    assert!(check(Assigner::Sliding { size_ms: 1_000, every_ms: 1_001 }, 0).is_err());
}

#[test]
fn a_pane_that_is_none_is_refused() {
    let spec = minute();
    let (mut key, mut out) = (KeyWindows::default(), Vec::new());
    let mut pane = Accumulator::new(NEEDS);
    assert_eq!(key.merge_pane(&spec, T0, T0, &pane, &mut out), Placed::Taken);
    pane.add(1.0, T0);
    assert_eq!(key.merge_pane(&spec, T0 + 60_000, T0, &pane, &mut out), Placed::Late);
    assert_eq!(key.merge_pane(&spec, T0, T0, &pane, &mut out), Placed::Taken);
    pane.add(1.0, T0 + 60_000);
    assert_eq!(key.merge_pane(&spec, T0, T0, &pane, &mut out), Placed::Late);
    assert_eq!(key.newest.accumulator.count(), 1);
}

fn specs() -> Vec<WindowSpec> {
    let mut specs = Vec::new();
    for lateness_ms in [0, 700, 2_000] {
        for assigner in [
            Assigner::Tumbling { size_ms: 1_000 },
            Assigner::Hopping { size_ms: 3_000, every_ms: 500 },
            Assigner::Session { gap_ms: 600, size_max_ms: 3_000 },
            Assigner::Session { gap_ms: 400, size_max_ms: 86_400_000 },
            Assigner::Sliding { size_ms: 2_000, every_ms: 300 },
            Assigner::Count { size: 7 },
        ] {
            specs.push(spec(assigner, lateness_ms));
        }
    }
    specs
}

#[path = "model.rs"]
mod model;
