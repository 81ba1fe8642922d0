//! Batches: what comes out depends neither on threads nor on how long a process lived.

use super::*;
use crate::batch::PARTITIONS;

const RULES: &str = "
- {type: threshold, name: hot, condition: t > 85, clear: t < 80, for: 2s}
- {type: threshold, name: line, condition: t > 95, group_by: 'tag:line', actions: [local_alert, flag_and_upload]}
- {type: threshold, name: mean, condition: t.avg > 60}
- {type: threshold, name: both, condition: t > 50 && p < 20, actions: [{sample: 50%}]}
- {type: threshold, name: spike, condition: \"delta(t) > 60 && device.startsWith('device')\"}
- {type: aggregate, name: own, interval: 10s, fields: [avg, count, p95]}
- {type: aggregate, name: site, interval: 10s, by: site, streams: [t], fields: [sum, count]}
- {type: aggregate, name: lines, interval: 5s, by: ['tag:line', stream], fields: [max]}
- {type: anomaly, name: odd, detector: general, streams: [t]}
- {type: filter, streams: [p], deadband: 5}
";

/// Batches of a noisy site, 100 ms each.
fn batches(count: u64, readings: u64) -> Vec<(Vec<Event>, Stamp)> {
    let mut state = 99_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let batch = |n: u64| {
        let ms = (n as i64 + 1) * 100;
        let event = |_| {
            let device = format!("device-{}", draw(40));
            let stream = if draw(3) == 0 { "p" } else { "t" };
            let mut event = Event::reading(device, stream, draw(100) as f64, ms - draw(300) as i64);
            event.attributes.push(("line".into(), format!("{}", draw(3)).into()));
            event.stamp = at(ms);
            event
        };
        ((0..readings).map(event).collect(), at(ms))
    };
    (0..count).map(batch).collect()
}

fn run_all(engine: &mut Engine, batches: &[(Vec<Event>, Stamp)]) -> (Vec<DerivedEvent>, Vec<Verdict>) {
    let (mut derived, mut verdicts) = (Derived::default(), Vec::new());
    for (events, now) in batches {
        engine.process_batch(events, *now, &mut verdicts, &mut derived);
        engine.advance(*now, &mut derived);
    }
    (derived.events, verdicts)
}

fn engine_with(workers: usize) -> Engine {
    Engine::new(set(RULES, Forward::Anomalies), EngineConfig { workers, ..EngineConfig::new("site-1") })
}

#[test]
fn threads_change_nothing() {
    let batches = batches(60, 900);
    let expected = run_all(&mut engine_with(1), &batches);
    assert!(expected.0.len() > 500, "{}", expected.0.len());
    for workers in [2, 3, 8, 100] {
        let mut engine = engine_with(workers);
        assert!(run_all(&mut engine, &batches) == expected, "{workers} threads");
    }
}

#[test]
fn a_restored_engine_goes_on_in_the_same_batches() {
    let batches = batches(80, 120);
    let mut whole = engine_with(1);
    let (expected, expected_verdicts) = run_all(&mut whole, &batches);
    for cut in [1, 17, 40, 79] {
        let mut before = engine_with(4);
        let (mut derived, mut verdicts) = run_all(&mut before, &batches[..cut]);
        let config = EngineConfig { workers: 2, ..EngineConfig::new("site-1") };
        let mut after = Engine::restore(set(RULES, Forward::Anomalies), config, &before.snapshot()).unwrap();
        let (rest, rest_verdicts) = run_all(&mut after, &batches[cut..]);
        derived.extend(rest);
        verdicts.extend(rest_verdicts);
        assert!(derived == expected && verdicts == expected_verdicts, "cut at {cut}");
        assert!(after.snapshot() == whole.snapshot(), "cut at {cut}");
    }
}

#[test]
fn a_device_stays_in_its_order_and_devices_spread() {
    let used: std::collections::BTreeSet<usize> =
        (0..100).map(|n| crate::batch::partition_of(&format!("device-{n}"))).collect();
    assert_eq!(used.len(), PARTITIONS);
    let mut engine = engine("[{type: threshold, condition: t > 85}]");
    let values = [90.0, 10.0, 91.0, 12.0];
    let events: Vec<Event> =
        values.iter().flat_map(|value| ["a", "b", "c"].map(|device| Event::reading(device, "t", *value, 5))).collect();
    let mut derived = Derived::default();
    engine.process_batch(&events, at(5), &mut Vec::new(), &mut derived);
    let shown: Vec<_> =
        derived.events.iter().map(|d| (d.event.device.to_string(), attribute(&d.event, "state"))).collect();
    for device in ["a", "b", "c"] {
        let states: Vec<_> = shown.iter().filter(|(of, _)| of == device).map(|(_, state)| state.unwrap()).collect();
        assert_eq!(states, ["firing", "cleared", "firing", "cleared"]);
    }
    let order: Vec<_> = shown.iter().map(|(device, _)| &**device).collect();
    assert_eq!(order, ["a", "b", "c"].repeat(4), "events come in the order of their readings");
}

#[test]
fn a_hot_device_and_a_hot_stream_are_named() {
    let mut engine = engine("[{type: aggregate, interval: 1m}]");
    let mut derived = Derived::default();
    for n in 0..30_000_i64 {
        let (device, stream) = if n % 4 == 0 {
            ("hot".to_owned(), "noisy".to_owned())
        } else {
            (format!("d{}", n % 331), format!("s{}", n % 40))
        };
        engine.process(&Event::reading(device, stream, 1.0, n), at(n), &mut derived);
    }
    let found: Vec<_> = engine.hot_spots().iter().map(|hot| (hot.kind, hot.name.to_string())).collect();
    assert_eq!(found, [("device", "hot".to_owned()), ("stream", "noisy".to_owned())]);
}

#[test]
fn a_batch_of_one_is_a_batch() {
    let batches = batches(40, 1);
    let (mut one, mut padded) = (engine_with(1), engine_with(1));
    let expected = run_all(&mut one, &batches);
    // A log line beside the reading takes the way of larger batches.
    let mut line = Event::reading("device-1", "log", 0.0, 0);
    line.kind = grey_model::Kind::Log;
    let padded_batches: Vec<_> =
        batches.iter().map(|(events, now)| ([events.clone(), vec![line.clone()]].concat(), *now)).collect();
    let (derived, verdicts) = run_all(&mut padded, &padded_batches);
    assert!(derived == expected.0);
    assert!(verdicts.iter().step_by(2).eq(expected.1.iter()));
}

/// A stream of half of the site's readings, among many others.
fn crowded(batches: u64) -> Vec<(Vec<Event>, Stamp)> {
    let mut state = 5_u64;
    let mut draw = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let batch = |n: u64| {
        let ms = (n as i64 + 1) * 100;
        let event = |m: u64| {
            let stream = if m.is_multiple_of(2) { "power".to_owned() } else { format!("s{}", draw(40)) };
            // Some come too late, some from a clock that is far ahead.
            let time_ms = match draw(200) {
                0 => ms - 60_000,
                1 => ms + 3_600_000,
                _ => ms - draw(400) as i64,
            };
            let mut event = Event::reading(format!("d{}", draw(300)), stream, draw(1_000) as f64, time_ms);
            event.unit = Some(if draw(50) == 0 { "kW" } else { "W" }.into());
            event.attributes.push(("line".into(), format!("{}", draw(3)).into()));
            event.stamp = at(ms);
            event
        };
        ((0..200).map(event).collect(), at(ms))
    };
    (0..batches).map(batch).collect()
}

const CROWDED: &str = "
- {type: aggregate, name: site, interval: 5s, by: site, streams: [power], fields: [sum, count, min, max, p95]}
- {type: aggregate, name: lines, window: hopping, interval: 10s, every: 5s, by: ['tag:line', stream], fields: [count, max]}
- {type: threshold, name: peak, condition: power.max > 500}
";

#[test]
fn what_is_aggregated_beforehand_is_what_would_have_been() {
    let batches = crowded(600);
    let new = || Engine::new(set(CROWDED, Forward::Aggregates), config(SERIES_MAX));
    let (mut together, mut alone) = (new(), new());
    let (found, _) = run_all(&mut together, &batches);
    // One by one nothing is gathered.
    let mut expected = Derived::default();
    for (events, now) in &batches {
        for event in events {
            alone.process(event, *now, &mut expected);
        }
        alone.advance(*now, &mut expected);
    }
    let hot = together.hot_spots();
    assert_eq!(
        (hot.len(), hot[0].kind, &*hot[0].name, hot[0].mitigation),
        (1, "stream", "power", "split, pre_aggregation")
    );
    assert!(hot[0].mitigated > 4_000, "{hot:?}");
    let shown = |events: &[DerivedEvent]| {
        let mut lines: Vec<String> = events
            .iter()
            .filter(|d| d.event.kind != grey_model::Kind::Alert)
            .map(|d| {
                let numbers =
                    if d.event.kind == grey_model::Kind::Aggregate { fields(&d.event) } else { BTreeMap::new() };
                let rounded: Vec<_> = numbers.into_iter().map(|(name, v)| (name, (v * 1e3).round())).collect();
                let Event { device, stream, device_time_ms, unit, .. } = &d.event;
                format!("{device} {stream} {device_time_ms} {unit:?} {rounded:?} {:?}", d.event.value.as_f64())
            })
            .collect();
        lines.sort();
        lines
    };
    let (found, expected) = (shown(&found), shown(&expected.events));
    assert!(expected.iter().any(|line| line.contains(".late")), "some were late or ahead");
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
}

#[test]
fn a_restored_engine_gathers_the_same() {
    let batches = crowded(500);
    let new = || Engine::new(set(CROWDED, Forward::Aggregates), config(SERIES_MAX));
    let mut whole = new();
    let (expected, expected_verdicts) = run_all(&mut whole, &batches);
    for cut in [150, 333] {
        let mut before = new();
        let (mut derived, mut verdicts) = run_all(&mut before, &batches[..cut]);
        let rules = set(CROWDED, Forward::Aggregates);
        let mut after = Engine::restore(rules, config(SERIES_MAX), &before.snapshot()).unwrap();
        let (rest, rest_verdicts) = run_all(&mut after, &batches[cut..]);
        derived.extend(rest);
        verdicts.extend(rest_verdicts);
        assert!(derived == expected && verdicts == expected_verdicts, "cut at {cut}");
        assert!(after.snapshot() == whole.snapshot(), "cut at {cut}");
    }
}

#[test]
fn state_of_version_2_stays_readable() {
    let golden = include_bytes!("../../tests/golden/state-v2.bin");
    let engine = Engine::restore(set(RULES, Forward::Anomalies), config(SERIES_MAX), golden).unwrap();
    assert!(engine.snapshot() == golden, "the format changed: give it a new version and keep this file");
    assert!(engine.series_count() > 50 && engine.firing_count() > 0);
}
