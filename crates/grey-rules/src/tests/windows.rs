//! Aggregates.

use grey_model::{Event, Kind};
use proptest::prelude::*;

use super::*;

#[test]
fn windows_are_aligned_and_sent_when_event_time_passes_their_end() {
    let mut engine = engine(DOCUMENT);
    let minute = 60_000;
    let base = 29_000_000 * minute;
    let (derived, _) =
        feed(&mut engine, &[("a", "x", 1.0, base + 1), ("b", "x", 5.0, base + 2), ("a", "x", 4.0, base + 59_999)]);
    assert_eq!(derived, []);
    // Two seconds of lateness and one of silence.
    assert_eq!(engine.next_due_ms(), Some(base + minute + 3_000));
    let (derived, _) = feed(&mut engine, &[("a", "x", 7.0, base + minute)]);
    assert_eq!(derived, [], "a late reading may still come");
    let (derived, _) = feed(&mut engine, &[("a", "x", 7.0, base + minute + 2_000)]);
    let shown: Vec<_> = derived.iter().map(|(lane, e)| (*lane, &*e.device, e.device_time_ms, fields(e))).collect();
    let numbers = |avg, min, max, count| {
        BTreeMap::from([("avg".into(), avg), ("min".into(), min), ("max".into(), max), ("count".into(), count)])
    };
    assert_eq!(shown, [(Lane::Normal, "a", base, numbers(2.5, 1.0, 4.0, 2.0))]);
    assert_eq!(attribute(&derived[0].1, "window"), Some("60000"));
    assert_eq!(attribute(&derived[0].1, "rule"), Some("aggregate-3"));
    // b is silent: the site's own time ends its window.
    assert_eq!(advance(&mut engine, base + minute + 2_999), []);
    let sent = advance(&mut engine, base + minute + 3_000);
    assert_eq!((sent.len(), &*sent[0].device, fields(&sent[0])["avg"]), (1, "b", 5.0));
    let sent = advance(&mut engine, base + 10 * minute);
    assert_eq!((sent.len(), sent[0].device_time_ms, sent[0].stamp), (1, base + minute, at(base + 10 * minute)));
    assert_eq!(engine.next_due_ms(), None);
}

#[test]
fn every_field_is_what_it_says() {
    let rules = "[{type: aggregate, interval: 1s, fields: [sum, first, last, stddev, avg, rate, p50, count]}]";
    let mut engine = engine(rules);
    let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    let readings: Vec<_> = values.iter().zip(0..).map(|(v, n)| ("a", "x", *v, 10 + n * 100)).collect();
    feed(&mut engine, &readings);
    let sent = advance(&mut engine, 10_000);
    let Value::Fields(found) = &sent[0].value else { panic!() };
    let names: Vec<_> = found.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["sum", "first", "last", "stddev", "avg", "rate", "p50", "count"]);
    let found = fields(&sent[0]);
    assert_eq!((found["sum"], found["first"], found["last"], found["stddev"]), (40.0, 2.0, 9.0, 2.0));
    assert_eq!((found["avg"], found["rate"], found["count"]), (5.0, 10.0, 8.0));
    assert!((found["p50"] - 4.0).abs() < 0.05, "{found:?}");
    let sketch = sketch_of(&sent[0]).unwrap();
    assert_eq!(sketch.count(), 8);
}

#[test]
fn the_window_keeps_the_unit() {
    let mut engine = engine("[{type: aggregate, interval: 1m}]");
    let mut derived = Derived::default();
    for (value, unit) in [(1.0, None), (3.0, Some("kW")), (5_000.0, Some("W")), (9.0, Some("°C"))] {
        let mut event = Event::reading("a", "power", value, 1);
        event.unit = unit.map(Into::into);
        engine.process(&event, at(1), &mut derived);
    }
    let sent = advance(&mut engine, 70_000);
    let event = &sent[0];
    assert_eq!((event.unit.as_deref(), fields(event)["avg"], fields(event)["count"]), (Some("kW"), 3.0, 3.0));
    assert_eq!(engine.counters().unit_mismatches, 1);
}

#[test]
fn what_comes_too_late_or_too_early_has_a_stream_of_its_own() {
    let mut engine = engine("[{type: aggregate, name: agg, interval: 10s, lateness: 1s, fields: [count]}]");
    let base = 1_000_000_000;
    let mut derived = Derived::default();
    for (time, now) in
        [(base, base), (base + 12_000, base + 12_000), (base + 5_000, base + 12_001), (base + 90_000, base + 12_002)]
    {
        engine.process(&Event::reading("a", "x", 1.0, time), at(now), &mut derived);
    }
    let shown: Vec<_> = pairs(derived)
        .iter()
        .map(|(lane, e)| {
            let why = attribute(e, "late").map(|r| ("late", r)).or(attribute(e, "ahead").map(|r| ("ahead", r)));
            (*lane, e.kind, e.stream.to_string(), e.device_time_ms, why.map(|(a, b)| format!("{a} {b}")))
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Lane::Normal, Kind::Aggregate, "x".into(), base, None),
            (Lane::Bulk, Kind::Reading, "x.late".into(), base + 5_000, Some("late agg".into())),
            (Lane::Bulk, Kind::Reading, "x.late".to_owned(), base + 90_000, Some("ahead agg".to_owned())),
        ]
    );
    assert_eq!((engine.counters().late, engine.counters().ahead), (1, 1));
}

#[test]
fn windows_of_the_site_of_tags_and_of_some_readings() {
    let yaml = "
- {type: aggregate, name: site, interval: 10s, by: site, streams: [power], fields: [sum, count]}
- {type: aggregate, name: line, interval: 10s, by: ['tag:line', stream], streams: [power], fields: [sum]}
- {type: aggregate, name: hop, window: hopping, interval: 10s, every: 5s, fields: [sum], where: 'value > 1'}
- {type: aggregate, name: n, window: count, size: 2, fields: [sum], streams: [power]}
";
    let mut engine = engine(yaml);
    let mut derived = Derived::default();
    for (device, line, value, ms) in [("a", "1", 1.0, 1_000), ("b", "1", 2.0, 2_000), ("a", "2", 4.0, 6_000)] {
        let mut event = Event::reading(device, "power", value, ms);
        event.attributes.push(("line".into(), line.into()));
        engine.process(&event, at(ms), &mut derived);
    }
    let mut shown: Vec<String> = derived.events.iter().map(|d| line_of(&d.event)).collect();
    shown.extend(advance(&mut engine, 30_000).iter().map(line_of));
    assert_eq!(
        shown,
        [
            "n a power 1000 {\"sum\": 5.0}",
            "hop a power 0 {\"sum\": 4.0}",
            "hop a power 5000 {\"sum\": 4.0}",
            "hop b power -5000 {\"sum\": 2.0}",
            "hop b power 0 {\"sum\": 2.0}",
            "site site-1 power 0 {\"count\": 3.0, \"sum\": 7.0}",
            "line 1 power 0 {\"sum\": 3.0}",
            "line 2 power 0 {\"sum\": 4.0}",
        ]
        .map(str::to_owned)
    );
}

fn line_of(event: &Event) -> String {
    let rule = attribute(event, "rule").unwrap();
    format!("{rule} {} {} {} {:?}", event.device, event.stream, event.device_time_ms, fields(event))
}

#[test]
fn conditions_may_be_over_what_windows_derive() {
    let yaml = "
- {type: aggregate, interval: 10s, fields: [avg, count]}
- {type: threshold, condition: x.avg > 5}
- {type: aggregate, name: all, interval: 10s, by: site, streams: [power], fields: [sum]}
- {type: threshold, condition: power.sum > 10 kW}
- {type: threshold, name: mixed, condition: x.avg > 5 && x.count >= 2}
";
    let mut engine = engine(yaml);
    let mut events = feed(&mut engine, &[("a", "x", 4.0, 1_000), ("a", "x", 8.0, 2_000)]).0;
    let mut derived = Derived::default();
    for (device, value) in [("a", 6.0), ("b", 6_000.0)] {
        let mut event = Event::reading(device, "power", value, 3_000);
        event.unit = Some(if value < 100.0 { "kW" } else { "W" }.into());
        engine.process(&event, at(3_000), &mut derived);
    }
    events.extend(advance(&mut engine, 20_000).into_iter().map(|e| (Lane::Critical, e)));
    let alerts: Vec<_> = events
        .iter()
        .filter(|(_, e)| e.kind == Kind::Alert)
        .map(|(_, e)| (attribute(e, "rule").unwrap(), &*e.device, &*e.stream, fields(e)["value"]))
        .collect();
    assert_eq!(
        alerts,
        [
            ("threshold-2", "a", "x.avg", 6.0),
            ("mixed", "a", "x.count", 2.0),
            ("threshold-4", "site-1", "power.sum", 12.0)
        ]
    );
}

#[test]
fn clock_jumps_corrupt_no_window() {
    let (hour, day) = (3_600_000, 86_400_000);
    for jump in [-400 * day, -hour, hour, 400 * day] {
        let base = 1_000 * day;
        let mut engine = engine("[{type: aggregate, interval: 1m, fields: [count, first]}]");
        let mut derived = Derived::default();
        // Only the site's clock jumps, and comes back; the devices' goes on.
        for n in 0..600_i64 {
            let time = base + n * 1_000;
            let now = if (200..300).contains(&n) { time + jump } else { time };
            engine.process(&Event::reading("a", "x", n as f64, time), at(now), &mut derived);
        }
        engine.advance(at(base + 700_000), &mut derived);
        let mut counted = 0.0;
        for d in derived.events.iter().filter(|d| d.event.kind == Kind::Aggregate) {
            let fields = fields(&d.event);
            let (start, count) = (d.event.device_time_ms, fields["count"]);
            let first = base + fields["first"] as i64 * 1_000;
            assert!(count <= 60.0 && start % 60_000 == 0, "jump {jump}: {start} {count}");
            assert!((start..start + 60_000).contains(&first), "jump {jump}: a value is in the window of its time");
            counted += count;
        }
        let late = derived.events.iter().filter(|d| d.event.kind == Kind::Reading).count();
        assert_eq!(counted as usize + late, 600, "jump {jump}: every reading is in a window or beside them");
    }
}

proptest! {
    #[test]
    fn windows_agree_with_a_plain_model(
        mut readings in prop::collection::vec((0..4_u8, 0..2_u8, -50_i32..50, 0_i64..10_000), 1..200),
    ) {
        readings.sort_by_key(|r| r.3);
        let mut engine = engine("[{type: aggregate, interval: 1s, fields: [sum, count, min, max]}]");
        let mut derived = Derived::default();
        let mut model: BTreeMap<(i64, String, String), Vec<f64>> = BTreeMap::new();
        for (device, stream, value, ms) in &readings {
            let (device, stream) = (format!("d{device}"), format!("s{stream}"));
            engine.process(&Event::reading(&*device, &*stream, f64::from(*value), *ms), at(*ms), &mut derived);
            model.entry((ms / 1_000 * 1_000, device, stream)).or_default().push(f64::from(*value));
        }
        engine.advance(at(60_000), &mut derived);
        let mut found = BTreeMap::new();
        for (lane, event) in &pairs(derived) {
            prop_assert_eq!(*lane, Lane::Normal);
            let key = (event.device_time_ms, event.device.to_string(), event.stream.to_string());
            prop_assert!(found.insert(key, fields(event)).is_none(), "one aggregate for a window");
        }
        let expected: BTreeMap<_, _> = model.into_iter().map(|(key, values)| (key, BTreeMap::from([
            ("sum".to_owned(), values.iter().sum::<f64>()),
            ("count".to_owned(), values.len() as f64),
            ("min".to_owned(), values.iter().copied().fold(f64::INFINITY, f64::min)),
            ("max".to_owned(), values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        ]))).collect();
        prop_assert_eq!(found, expected);
    }
}
