//! The engine against the documents' rules, a plain reference model, and itself after a restore.

use std::collections::BTreeMap;
use std::sync::Arc;

use grey_config::{Decoder, Node, Setting};
use grey_model::{Event, Kind, Lane, Quality, RuleId, Stamp, Value};
use proptest::prelude::*;

use crate::*;

const DOCUMENT: &str = r#"
- type: threshold
  condition: "temperature > 85°C"
  action: local_alert
- type: anomaly
  model: edge-anomaly-v2
  action: flag_and_upload
- type: aggregate
  interval: 1m
  fields: [avg, min, max, count]
"#;

fn specs(yaml: &str) -> Vec<RuleSpec> {
    let mut decoder = Decoder::new("rules");
    let specs = Setting::decode(&Node::from_yaml(yaml).unwrap(), &mut decoder);
    specs.unwrap_or_else(|| panic!("{:?}", decoder.into_errors()))
}

fn set(yaml: &str, forward: Forward) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(&Rules::new(specs(yaml), forward), &NoModels).unwrap())
}

fn at(ms: i64) -> Stamp {
    Stamp::at_unix_ms(ms)
}

/// Feeds readings (device, stream, value, ms); returns what was derived, with verdicts.
fn feed(engine: &mut Engine, readings: &[(&str, &str, f64, i64)]) -> (Vec<(Lane, Event)>, Vec<Verdict>) {
    let mut derived = Derived::default();
    let verdicts = readings
        .iter()
        .map(|(device, stream, value, ms)| {
            engine.process(&Event::reading(*device, *stream, *value, *ms), at(*ms), &mut derived)
        })
        .collect();
    (pairs(derived), verdicts)
}

fn pairs(derived: Derived) -> Vec<(Lane, Event)> {
    derived.events.into_iter().map(|d| (d.lane, d.event)).collect()
}

fn config(series_max: usize) -> EngineConfig {
    EngineConfig { series_max, ..EngineConfig::new("site-1") }
}

fn attribute<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.attributes.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
}

fn fields(event: &Event) -> BTreeMap<String, f64> {
    let Value::Fields(fields) = &event.value else { panic!("{event:?}") };
    fields.iter().map(|(name, value)| (name.to_string(), *value)).collect()
}

#[test]
fn the_documents_rules_compile_and_explain_themselves() {
    let rules = RuleSet::compile(&Rules::new(specs(DOCUMENT), Forward::Aggregates), &NoModels).unwrap();
    let lines = rules.explain();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with("1 threshold-1: warning alert when a device's temperature > 85°C"), "{lines:?}");
    assert_eq!(lines[3], "3 aggregate-3: avg, min, max, count of every device's streams each 1m");
    assert_eq!(rules.warnings(), ["rule anomaly-2: models do not run yet, so edge-anomaly-v2 flags nothing"]);
    let again = RuleSet::from_source(&rules.source(), &NoModels).unwrap();
    assert_eq!((again.digest(), again.explain()), (rules.digest(), lines));
    assert_ne!(
        RuleSet::compile(&Rules::new(specs(DOCUMENT), Forward::Raw), &NoModels).unwrap().digest(),
        rules.digest()
    );
}

#[test]
fn a_source_written_by_another_build_keeps_its_digest() {
    // An older build would not have written keys that it did not know.
    let older = b"rules:\n  - type: aggregate\n    interval: 1m\n";
    let rules = Arc::new(RuleSet::from_source(older, &NoModels).unwrap());
    assert_eq!(rules.source(), older);
    let mut engine = Engine::new(Arc::clone(&rules), config(SERIES_MAX));
    feed(&mut engine, &[("a", "x", 1.0, 5)]);
    let again = Arc::new(RuleSet::from_source(&rules.source(), &NoModels).unwrap());
    assert_eq!(Engine::restore(again, config(SERIES_MAX), &engine.snapshot()).unwrap().snapshot(), engine.snapshot());
    // The digest is part of saved state: this one must come out on every machine and build.
    assert_eq!(format!("{:016x}", rules.digest()), "d271b05a39730069");
    assert!(matches!(RuleSet::from_source(b"rules: [{type: nonsense}]", &NoModels), Err(RuleError::Source(_))));
    assert!(matches!(RuleSet::from_source(&[0xff], &NoModels), Err(RuleError::Source(_))));
}

#[test]
fn an_alert_is_raised_once_per_crossing_and_device() {
    let mut engine = Engine::new(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX));
    let (derived, verdicts) = feed(
        &mut engine,
        &[
            ("a", "temperature", 84.0, 1),
            ("a", "temperature", 86.0, 2),
            ("a", "temperature", 90.0, 3),
            ("b", "temperature", 85.5, 4),
            ("a", "temperature", 87.0, 5),
            ("a", "pressure", 200.0, 6),
            ("a", "temperature", 85.0, 7),
            ("a", "temperature", 99.0, 8),
        ],
    );
    let shown: Vec<_> =
        derived.iter().map(|(lane, e)| (*lane, &*e.device, attribute(e, "state").unwrap(), e.device_time_ms)).collect();
    assert_eq!(
        shown,
        [
            (Lane::Critical, "a", "firing", 2),
            (Lane::Critical, "b", "firing", 4),
            (Lane::Critical, "a", "cleared", 7),
            (Lane::Critical, "a", "firing", 8),
        ]
    );
    let first = &derived[0].1;
    assert_eq!((first.kind, first.unit.as_deref()), (Kind::Alert, Some("°C")));
    assert_eq!(fields(first), BTreeMap::from([("value".into(), 86.0), ("limit".into(), 85.0)]));
    assert_eq!(attribute(first, "rule"), Some("threshold-1"));
    assert_eq!(attribute(first, "condition"), Some("temperature > 85°C"));
    assert_eq!(attribute(first, "severity"), Some("warning"));
    assert_eq!(attribute(&derived[2].1, "since"), Some("2"));
    assert!(verdicts.iter().all(|v| *v == Verdict::Reduced(RuleId(0))));
    let open = engine.alerts();
    let shown: Vec<_> = open.iter().map(|a| (&*a.device, a.since_ms, a.value)).collect();
    assert_eq!(shown, [("a", 8, 99.0), ("b", 4, 85.5)]);
}

#[test]
fn units_are_converted_and_foreign_ones_left_out() {
    let mut engine = Engine::new(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX));
    let mut derived = Derived::default();
    let mut send = |value: f64, unit: Option<&str>, ms: i64| {
        let mut event = Event::reading("a", "temperature", value, ms);
        event.unit = unit.map(Into::into);
        derived.events.clear();
        engine.process(&event, at(ms), &mut derived);
        derived.events.first().map(|d| (attribute(&d.event, "state").unwrap().to_owned(), fields(&d.event)["value"]))
    };
    assert_eq!(send(185.0, Some("°F"), 1), None);
    assert_eq!(send(186.8, Some("°F"), 2), Some(("firing".into(), 86.0)));
    assert_eq!(send(86.0, None, 3), None);
    assert_eq!(send(300.0, Some("K"), 4).map(|(state, _)| state), Some("cleared".into()));
    assert_eq!(send(99.0, Some("bananas"), 5), None);
    assert_eq!(send(99.0, Some("V"), 6), None);
    assert_eq!(send(99.0, Some(""), 7), Some(("firing".into(), 99.0)));
    // Once for the threshold and once for the window, of each of the two.
    assert_eq!(engine.counters().unit_mismatches, 4);
}

#[test]
fn windows_are_aligned_and_sent_when_time_passes_their_end() {
    let mut engine = Engine::new(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX));
    let minute = 60_000;
    let base = 29_000_000 * minute;
    let (derived, _) =
        feed(&mut engine, &[("a", "x", 1.0, base + 1), ("b", "x", 5.0, base + 2), ("a", "x", 4.0, base + 59_999)]);
    assert_eq!(derived, []);
    assert!(engine.next_due_ms().is_some());
    assert_eq!(engine.next_due_ms(), Some(base + minute));
    let (derived, _) = feed(&mut engine, &[("a", "x", 7.0, base + minute)]);
    let shown: Vec<_> = derived.iter().map(|(lane, e)| (*lane, &*e.device, e.device_time_ms, fields(e))).collect();
    let numbers = |avg, min, max, count| {
        BTreeMap::from([("avg".into(), avg), ("min".into(), min), ("max".into(), max), ("count".into(), count)])
    };
    assert_eq!(
        shown,
        [
            (Lane::Normal, "a", base, numbers(2.5, 1.0, 4.0, 2.0)),
            (Lane::Normal, "b", base, numbers(5.0, 5.0, 5.0, 1.0)),
        ]
    );
    assert_eq!(attribute(&derived[0].1, "window"), Some("60000"));
    assert_eq!(derived[0].1.attributes.len(), 1);
    let mut derived = Derived::default();
    engine.advance(at(base + 2 * minute - 1), &mut derived);
    assert_eq!(derived.events, []);
    engine.advance(at(base + 10 * minute), &mut derived);
    assert_eq!(derived.events.len(), 1);
    assert_eq!(
        (derived.events[0].event.device_time_ms, derived.events[0].event.stamp),
        (base + minute, at(base + 10 * minute))
    );
    assert!(!engine.next_due_ms().is_some());
    assert_eq!(engine.next_due_ms(), None);
}

#[test]
fn every_field_is_what_it_says() {
    let rules = "[{type: aggregate, interval: 1s, fields: [sum, first, last, stddev, avg]}]";
    let mut engine = Engine::new(set(rules, Forward::Aggregates), config(SERIES_MAX));
    let readings: Vec<_> = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].iter().map(|v| ("a", "x", *v, 10)).collect();
    feed(&mut engine, &readings);
    let mut derived = Derived::default();
    engine.advance(at(1_000), &mut derived);
    let Value::Fields(found) = &derived.events[0].event.value else { panic!() };
    let found: Vec<_> = found.iter().map(|(name, value)| (&**name, *value)).collect();
    assert_eq!(found, [("sum", 40.0), ("first", 2.0), ("last", 9.0), ("stddev", 2.0), ("avg", 5.0)]);
}

#[test]
fn only_good_numbers_of_readings_count() {
    let mut engine = Engine::new(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX));
    let mut derived = Derived::default();
    let mut event = Event::reading("a", "temperature", 500.0, 5);
    event.quality = Quality::Bad;
    assert_eq!(engine.process(&event, at(5), &mut derived), Verdict::Reduced(RuleId(0)));
    event.quality = Quality::Good;
    for value in [Value::Text("hot".into()), Value::Vector([500.0].into()), Value::Number(f64::NAN)] {
        event.value = value;
        engine.process(&event, at(5), &mut derived);
    }
    assert_eq!(engine.counters().not_numeric, 4);
    event.value = Value::Number(500.0);
    for kind in [Kind::Alert, Kind::Log, Kind::Aggregate, Kind::Anomaly, Kind::Receipt] {
        event.kind = kind;
        assert_eq!(engine.process(&event, at(5), &mut derived), Verdict::Forward(None));
    }
    engine.advance(at(100_000), &mut derived);
    assert_eq!(derived.events, []);
    assert_eq!(engine.series_count(), 0);
    event.kind = Kind::Reading;
    for value in [Value::Integer(3), Value::Bool(true), Value::Number(f64::MAX), Value::Number(f64::MAX)] {
        event.value = value;
        engine.process(&event, at(100_001), &mut derived);
    }
    derived.events.retain(|d| d.event.kind == Kind::Aggregate);
    engine.advance(at(200_000), &mut derived);
    let found = fields(&derived.events.last().unwrap().event);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["count", "max", "min"], "a mean that overflowed is left out");
    assert_eq!(found["count"], 4.0);
}

#[test]
fn the_window_keeps_the_unit() {
    let mut engine = Engine::new(set("[{type: aggregate, interval: 1m}]", Forward::Aggregates), config(SERIES_MAX));
    let mut derived = Derived::default();
    for (value, unit) in [(1.0, None), (3.0, Some("kW")), (5_000.0, Some("W")), (9.0, Some("°C"))] {
        let mut event = Event::reading("a", "power", value, 0);
        event.unit = unit.map(Into::into);
        engine.process(&event, at(1), &mut derived);
    }
    engine.advance(at(60_000), &mut derived);
    let event = &derived.events[0].event;
    assert_eq!((event.unit.as_deref(), fields(event)["avg"], fields(event)["count"]), (Some("kW"), 3.0, 3.0));
    assert_eq!(engine.counters().unit_mismatches, 1);
}

#[test]
fn forwarding_follows_the_policy() {
    let yaml = "[{type: threshold, condition: t > 10, action: flag_and_upload}, {type: threshold, condition: u > 10}]";
    let readings = [
        ("a", "t", 9.0, 1),
        ("a", "t", 11.0, 2),
        ("a", "t", 12.0, 3),
        ("a", "t", 1.0, 4),
        ("a", "u", 11.0, 5),
        ("a", "u", 12.0, 6),
        ("a", "v", 99.0, 7),
    ];
    let forwarded = |forward| {
        let (_, verdicts) = feed(&mut Engine::new(set(yaml, forward), config(SERIES_MAX)), &readings);
        verdicts.iter().map(|v| if *v == Verdict::Forward(None) { '1' } else { '0' }).collect::<String>()
    };
    assert_eq!(forwarded(Forward::Raw), "1111111");
    assert_eq!(forwarded(Forward::Aggregates), "0110000");
    assert_eq!(forwarded(Forward::Anomalies), "0111100");
}

#[test]
fn a_clock_that_steps_back_corrupts_no_window() {
    let mut engine =
        Engine::new(set("[{type: aggregate, interval: 1m, fields: [count]}]", Forward::Aggregates), config(SERIES_MAX));
    let (derived, _) = feed(
        &mut engine,
        &[
            ("a", "x", 1.0, 60_000),
            ("a", "x", 1.0, 120_000),
            ("a", "x", 1.0, 30_000),
            ("a", "x", 1.0, 179_999),
            ("a", "x", 1.0, 180_000),
        ],
    );
    let shown: Vec<_> = derived.iter().map(|(_, e)| (e.device_time_ms, fields(e)["count"])).collect();
    assert_eq!(shown, [(60_000, 1.0), (120_000, 3.0)]);
}

#[test]
fn the_table_is_bounded_and_gives_up_the_oldest_idle_series() {
    let yaml = "[{type: aggregate, interval: 1m, fields: [count]}, {type: threshold, condition: x > 10}]";
    let mut engine = Engine::new(set(yaml, Forward::Aggregates), config(3));
    // b fires; a and c have no open window once the minute is over.
    feed(&mut engine, &[("b", "x", 11.0, 1), ("a", "x", 1.0, 2), ("c", "x", 1.0, 3)]);
    engine.advance(at(60_000), &mut Derived::default());
    let (derived, _) = feed(&mut engine, &[("d", "x", 1.0, 60_001)]);
    assert_eq!((derived.len(), engine.series_count(), engine.counters().series_evicted), (0, 3, 1));
    assert_eq!(engine.alerts().len(), 1, "a was idle, b is not");
    // Now b fires, c is idle, d has a window: c goes, and then the oldest, b, though it fires.
    let (derived, _) = feed(&mut engine, &[("e", "x", 1.0, 60_002), ("f", "x", 1.0, 60_003)]);
    assert_eq!(derived.len(), 1);
    assert_eq!(attribute(&derived[0].1, "reason"), Some("series_evicted"));
    assert_eq!(attribute(&derived[0].1, "state"), Some("cleared"));
    // Only series with open windows are left: what they have is sent, marked as a part.
    let (derived, _) = feed(&mut engine, &[("g", "x", 1.0, 60_004)]);
    assert_eq!(derived.len(), 1);
    assert_eq!((&*derived[0].1.device, attribute(&derived[0].1, "partial")), ("d", Some("true")));
    let mut rest = Derived::default();
    engine.advance(at(120_000), &mut rest);
    let devices: Vec<_> = rest.events.iter().map(|d| d.event.device.to_string()).collect();
    assert_eq!(devices, ["e", "f", "g"]);
}

#[test]
fn finishing_ends_windows_and_alerts() {
    let mut engine = Engine::new(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX));
    feed(&mut engine, &[("a", "temperature", 99.0, 1), ("b", "x", 1.0, 2)]);
    let mut derived = Derived::default();
    engine.finish(at(5), &mut derived);
    let shown: Vec<_> = derived.events.iter().map(|d| (d.event.kind, d.event.device.to_string())).collect();
    let expected = [(Kind::Aggregate, "a"), (Kind::Aggregate, "b"), (Kind::Alert, "a")];
    assert_eq!(shown, expected.map(|(kind, device)| (kind, device.to_owned())));
    assert_eq!(attribute(&derived.events[0].event, "partial"), Some("true"));
    assert_eq!(attribute(&derived.events[2].event, "reason"), Some("rules_changed"));
    assert!(engine.alerts().is_empty() && !engine.next_due_ms().is_some());
}

#[test]
fn contradictory_rules_are_all_named() {
    let yaml = "
- {type: aggregate, interval: 1m, fields: []}
- {type: aggregate, interval: 60s, fields: [avg, avg]}
- {type: aggregate, interval: 1ms, name: x}
- {type: threshold, condition: t > 1, name: x}
";
    let errors: Vec<_> =
        RuleSet::check(&Rules::new(specs(yaml), Forward::Raw)).iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert!(errors[0].starts_with("rule aggregate-1: fields is empty"));
    assert!(errors[1].contains("1m is already the interval of rule 1"));
    assert!(errors[4].contains("name is already the name of rule 3"));
    assert!(RuleSet::compile(&Rules::new(specs(yaml), Forward::Raw), &NoModels).is_err());
}

#[test]
fn state_of_other_rules_or_builds_is_refused() {
    let engine = Engine::new(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX));
    let mut bytes = engine.snapshot();
    assert!(matches!(
        Engine::restore(set(DOCUMENT, Forward::Raw), config(SERIES_MAX), &bytes),
        Err(RuleError::Changed { .. })
    ));
    bytes[0] = 9;
    assert_eq!(
        Engine::restore(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX), &bytes).unwrap_err(),
        RuleError::Version(9, 1)
    );
}

#[test]
fn state_of_version_1_stays_readable() {
    let source = b"rules:\n  - {type: threshold, condition: t > 5}\n  - {type: aggregate, interval: 1s, fields: [avg, stddev]}\n";
    let rules = Arc::new(RuleSet::from_source(source, &NoModels).unwrap());
    let mut engine = Engine::new(Arc::clone(&rules), config(SERIES_MAX));
    let mut reading = Event::reading("b", "t", 6.0, 0);
    reading.unit = Some("V".into());
    engine.process(&reading, at(1_500), &mut Derived::default());
    feed(&mut engine, &[("a", "u", 2.0, 1_600)]);
    let golden = include_bytes!("../tests/golden/state-v1.bin");
    assert_eq!(engine.snapshot(), golden);
    let mut restored = Engine::restore(rules, config(SERIES_MAX), golden).unwrap();
    assert_eq!(restored.alerts(), engine.alerts());
    let mut derived = Derived::default();
    restored.advance(at(2_000), &mut derived);
    let shown: Vec<_> =
        pairs(derived).iter().map(|(_, e)| (e.device.to_string(), e.unit.is_some(), fields(e)["avg"])).collect();
    assert_eq!(shown, [("b".to_owned(), true, 6.0), ("a".to_owned(), false, 2.0)]);
}

const EVERYTHING: &str = "
- {type: threshold, condition: s0 > 5}
- {type: threshold, condition: s0 <= 2, action: flag_and_upload}
- {type: threshold, condition: s1 == 3 kW}
- {type: aggregate, interval: 1s, fields: [avg, min, max, count, sum, first, last, stddev]}
- {type: aggregate, interval: 250ms, fields: [count]}
";

/// A call of the engine: an event, or only time.
#[derive(Debug, Clone)]
enum Step {
    Event(Box<Event>, Stamp),
    Advance(Stamp),
}

fn step() -> impl Strategy<Value = Step> {
    let event = (
        0..5_u8,
        0..3_u8,
        0..9_i32,
        prop::option::of(prop::sample::select(vec!["kW", "W", "°C", "?"])),
        0..10_u8,
        0_i64..4_000,
    )
        .prop_map(|(device, stream, value, unit, odd, ms)| {
            let mut event = Event::reading(format!("d{device}"), format!("s{stream}"), f64::from(value), ms);
            event.unit = unit.map(Into::into);
            match odd {
                0 => event.quality = Quality::Bad,
                1 => event.kind = Kind::Log,
                2 => event.value = Value::Integer(i64::from(value)),
                3 => event.value = Value::Text("x".into()),
                _ => {}
            }
            event.stamp = at(ms);
            Step::Event(Box::new(event), at(ms))
        });
    prop_oneof![9 => event, 1 => (0_i64..4_000).prop_map(|ms| Step::Advance(at(ms)))]
}

fn run(engine: &mut Engine, steps: &[Step]) -> (Derived, Vec<Verdict>) {
    let mut derived = Derived::default();
    let mut verdicts = Vec::new();
    for step in steps {
        match step {
            Step::Event(event, now) => verdicts.push(engine.process(event, *now, &mut derived)),
            Step::Advance(now) => engine.advance(*now, &mut derived),
        }
    }
    (derived, verdicts)
}

proptest! {
    #[test]
    fn a_restored_engine_continues_as_the_undisturbed_one(
        steps in prop::collection::vec(step(), 0..120),
        cut in 0_usize..120,
        series_max in 1_usize..20,
        forward in prop::sample::select(vec![Forward::Raw, Forward::Aggregates, Forward::Anomalies]),
    ) {
        let rules = set(EVERYTHING, forward);
        let cut = cut.min(steps.len());
        let mut whole = Engine::new(Arc::clone(&rules), config(series_max));
        let (expected, expected_verdicts) = run(&mut whole, &steps);

        let mut before = Engine::new(Arc::clone(&rules), config(series_max));
        let (mut found, mut verdicts) = run(&mut before, &steps[..cut]);
        let saved = before.snapshot();
        let mut after = Engine::restore(rules, config(series_max), &saved).unwrap();
        prop_assert_eq!(after.snapshot(), saved);
        let (rest, rest_verdicts) = run(&mut after, &steps[cut..]);
        found.events.extend(rest.events);
        verdicts.extend(rest_verdicts);
        prop_assert_eq!(found, expected);
        prop_assert_eq!(verdicts, expected_verdicts);
        prop_assert_eq!(after.snapshot(), whole.snapshot());
        prop_assert_eq!(after.alerts(), whole.alerts());
    }

    #[test]
    fn windows_agree_with_a_plain_model(
        mut readings in prop::collection::vec((0..4_u8, 0..2_u8, -50_i32..50, 0_i64..10_000), 1..200),
        sorted: bool,
    ) {
        if sorted {
            readings.sort_by_key(|r| r.3);
        }
        let mut engine = Engine::new(set("[{type: aggregate, interval: 1s, fields: [sum, count, min, max]}]", Forward::Aggregates), config(SERIES_MAX));
        let mut derived = Derived::default();
        let mut model: BTreeMap<(i64, String, String), Vec<f64>> = BTreeMap::new();
        let mut time = 0;
        for (device, stream, value, ms) in &readings {
            time = time.max(*ms);
            let (device, stream) = (format!("d{device}"), format!("s{stream}"));
            engine.process(&Event::reading(&*device, &*stream, f64::from(*value), *ms), at(*ms), &mut derived);
            model.entry((time / 1_000 * 1_000, device, stream)).or_default().push(f64::from(*value));
        }
        engine.advance(at(60_000), &mut derived);
        let mut found = BTreeMap::new();
        let mut last = 0;
        for (lane, event) in &pairs(derived) {
            prop_assert_eq!(*lane, Lane::Normal);
            prop_assert!(event.device_time_ms >= last, "windows end in order");
            last = event.device_time_ms;
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

    #[test]
    fn alerts_alternate_for_each_series(steps in prop::collection::vec(step(), 0..150), series_max in 1_usize..12) {
        let mut engine = Engine::new(set(EVERYTHING, Forward::Aggregates), config(series_max));
        let (derived, _) = run(&mut engine, &steps);
        let mut firing = std::collections::BTreeSet::new();
        for (_, event) in pairs(derived).iter().filter(|(_, e)| e.kind == Kind::Alert) {
            let key = (attribute(event, "rule").unwrap().to_owned(), event.device.to_string(), event.stream.to_string());
            match attribute(event, "state") {
                Some("firing") => prop_assert!(firing.insert(key)),
                Some("cleared") => prop_assert!(firing.remove(&key)),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(firing.len(), engine.alerts().len());
        prop_assert!(engine.series_count() <= series_max);
    }

    #[test]
    fn hostile_state_never_panics(
        steps in prop::collection::vec(step(), 0..40),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let rules = set(EVERYTHING, Forward::Aggregates);
        let mut engine = Engine::new(Arc::clone(&rules), config(SERIES_MAX));
        run(&mut engine, &steps);
        let mut bytes = engine.snapshot();
        prop_assert!(Engine::restore(Arc::clone(&rules), config(SERIES_MAX), &bytes[..cut.index(bytes.len())]).is_err());
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(mut engine) = Engine::restore(rules, config(SERIES_MAX), &bytes) {
            run(&mut engine, &steps);
            engine.snapshot();
        }
    }

    #[test]
    fn hostile_sources_never_panic(text in "[a-z:\\[\\]{}, \n-]{0,60}") {
        let _ = RuleSet::from_source(text.as_bytes(), &NoModels);
    }
}
