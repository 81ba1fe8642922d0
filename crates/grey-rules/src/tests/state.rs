//! Saved state: restored engines continue as if nothing had happened, and
//! damaged bytes are refused.

use grey_model::{Event, Kind, Quality, Value};
use proptest::prelude::*;

use super::*;

#[test]
fn state_of_other_rules_or_builds_is_refused() {
    let engine = engine(DOCUMENT);
    let mut bytes = engine.snapshot();
    let restore = |forward, bytes: &[u8]| Engine::restore(set(DOCUMENT, forward), config(SERIES_MAX), bytes);
    assert!(matches!(restore(Forward::Raw, &bytes), Err(RuleError::Changed { .. })));
    bytes[0] = 9;
    assert_eq!(restore(Forward::Aggregates, &bytes).unwrap_err(), RuleError::Version(9, 2));
}

#[test]
fn state_of_version_1_stays_readable() {
    let source = b"rules:\n  - {type: threshold, condition: t > 5}\n  - {type: aggregate, interval: 1s, fields: [avg, stddev]}\n";
    let rules = Arc::new(RuleSet::from_source(source, &NoModels).unwrap());
    let golden = include_bytes!("../../tests/golden/state-v1.bin");
    let mut restored = Engine::restore(rules, config(SERIES_MAX), golden).unwrap();
    let alerts: Vec<_> = restored.alerts().iter().map(|a| (a.device.to_string(), a.since_ms, a.value)).collect();
    assert_eq!(alerts, [("b".to_owned(), 1_500, 6.0)]);
    let sent = advance(&mut restored, 20_000);
    let mut shown: Vec<_> =
        sent.iter().map(|e| (e.device.to_string(), e.unit.is_some(), e.device_time_ms, fields(e)["avg"])).collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(shown, [("a".to_owned(), false, 1_000, 2.0), ("b".to_owned(), true, 1_000, 6.0)]);
    let (derived, _) = feed(&mut restored, &[("b", "t", 1.0, 20_001)]);
    assert_eq!(states(&derived), ["20001 cleared"]);
}

const EVERYTHING: &str = "
- {type: threshold, condition: s0 > 5, rate_limit: 2/1s}
- {type: threshold, condition: s0 <= 2, action: flag_and_upload, for: 100ms}
- {type: threshold, condition: s1 == 3 kW, clear: s1 > 4 kW, cooldown: 200ms}
- {type: threshold, condition: s0 > 4 && s1 > 4, for: 50ms, tags: {a: b}}
- {type: threshold, condition: s2 > 3, group_by: site, actions: [local_alert, {set_lane: critical}]}
- {type: threshold, condition: \"quality == 'bad'\", group_by: 'tag:line'}
- {type: threshold, condition: value >= 7, actions: [{sample: {every: 3}}]}
- {type: threshold, condition: s1.max > 6}
- {type: aggregate, interval: 1s, fields: [avg, min, max, count, sum, first, last, stddev]}
- {type: aggregate, interval: 250ms, fields: [count, p95], by: site}
- {type: aggregate, window: hopping, interval: 600ms, every: 200ms, fields: [sum], by: 'tag:line', lateness: 100ms}
- {type: aggregate, window: session, gap: 300ms, fields: [rate], streams: [s1]}
- {type: aggregate, window: sliding, interval: 500ms, every: 100ms, fields: [max], streams: [s0]}
- {type: aggregate, window: count, size: 3, fields: [last], where: value > 2}
- {type: anomaly, detector: robust, streams: [s2], score: 0.5}
- {type: anomaly, detector: general, streams: [s1], score: 0.6, cooldown: 1s}
- {type: filter, deadband: 0.5, max_interval: 1s}
- {type: filter, deduplicate: 100ms, sample: 50%, streams: [s0]}
- {type: spectrum, streams: [s0], sample_rate: 100, size: 64, alarms: [{field: rms, warning: 2.5}]}
";

/// A call of the engine.
#[derive(Debug, Clone)]
enum Step {
    Event(Box<Event>, Stamp),
    Advance(Stamp),
    Operate(u8, Stamp),
    Change(Stamp),
}

fn step() -> impl Strategy<Value = Step> {
    let event = (
        0..5_u8,
        0..3_u8,
        0..9_i32,
        prop::option::of(prop::sample::select(vec!["kW", "W", "°C", "?"])),
        0..12_u8,
        0_i64..4_000,
        -300_i64..50,
    )
        .prop_map(|(device, stream, value, unit, odd, ms, skew)| {
            let mut event = Event::reading(format!("d{device}"), format!("s{stream}"), f64::from(value), ms + skew);
            event.unit = unit.map(Into::into);
            event.attributes.push(("line".into(), format!("{}", device % 2).into()));
            match odd {
                0 => event.quality = Quality::Bad,
                1 => event.kind = Kind::Log,
                2 => event.value = Value::Integer(i64::from(value)),
                3 => event.value = Value::Text("x".into()),
                4 => event.value = Value::Vector(vec![f64::from(value); 70].into()),
                _ => {}
            }
            event.stamp = at(ms);
            Step::Event(Box::new(event), at(ms))
        });
    prop_oneof![
        40 => event,
        4 => (0_i64..4_000).prop_map(|ms| Step::Advance(at(ms))),
        2 => (0..4_u8, 0_i64..4_000).prop_map(|(what, ms)| Step::Operate(what, at(ms))),
        1 => (0_i64..4_000).prop_map(|ms| Step::Change(at(ms))),
    ]
}

fn run(engine: &mut Engine, steps: &[Step]) -> (Derived, Vec<Verdict>) {
    let mut derived = Derived::default();
    let mut verdicts = Vec::new();
    for step in steps {
        match step {
            Step::Event(event, now) => verdicts.push(engine.process(event, *now, &mut derived)),
            Step::Advance(now) => engine.advance(*now, &mut derived),
            Step::Operate(what, now) => {
                let first = engine.alerts().first().map_or_else(String::new, |alert| alert.id.to_string());
                let text = String::from;
                let operation = match what {
                    0 => Operation::Acknowledge { alert: first, by: text("x"), note: text("y") },
                    1 => Operation::Unsilence {
                        id: engine.silences().first().map_or_else(String::new, |s| s.id.to_string()),
                    },
                    what => Operation::Silence {
                        rule: (*what == 2).then(|| text("threshold-1")),
                        device: Some(text("d*")),
                        until_ms: now.unix_ms() + 700,
                        by: text("x"),
                        note: text(""),
                    },
                };
                let _ = engine.operate(&operation, *now, &mut derived);
            }
            Step::Change(now) => {
                let rules = Arc::clone(engine.rules());
                engine.change_rules(rules, *now, &mut derived);
            }
        }
    }
    pairs(derived.clone());
    (derived, verdicts)
}

fn limited(forward: Forward) -> Arc<RuleSet> {
    let mut rules = parsed(EVERYTHING, forward);
    rules.limits = Limits { device_rate: Some(50), device_burst: None, alerts_per_minute: 40 };
    Arc::new(RuleSet::compile(&rules, &NoModels).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_restored_engine_continues_as_the_undisturbed_one(
        steps in prop::collection::vec(step(), 0..160),
        cut in any::<prop::sample::Index>(),
        series_max in 1_usize..20,
        forward in prop::sample::select(vec![Forward::Raw, Forward::Aggregates, Forward::Anomalies]),
    ) {
        let rules = limited(forward);
        let cut = cut.index(steps.len() + 1);
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
        prop_assert_eq!(format!("{:?}", after.alerts()), format!("{:?}", whole.alerts()));
        prop_assert_eq!(after.counters(), whole.counters());
    }

    #[test]
    fn alerts_alternate_for_each_series(steps in prop::collection::vec(step(), 0..150), series_max in 1_usize..12) {
        let mut engine = Engine::new(limited(Forward::Aggregates), config(series_max));
        let (derived, _) = run(&mut engine, &steps);
        let mut firing = std::collections::BTreeSet::new();
        for (_, event) in pairs(derived).iter().filter(|(_, e)| matches!(e.kind, Kind::Alert | Kind::Anomaly)) {
            let id = attribute(event, "alert").map(str::to_owned);
            match (attribute(event, "state"), id) {
                (Some("firing"), Some(id)) => prop_assert!(firing.insert(id)),
                (Some("cleared"), Some(id)) => prop_assert!(firing.remove(&id)),
                (Some("acknowledged"), Some(id)) => prop_assert!(firing.contains(&id) || engine.counters().alerts_suppressed > 0),
                (Some("summary"), None) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let shown = engine.alerts().iter().filter(|a| a.state == AlertState::Firing && !a.suppressed).count();
        prop_assert_eq!(firing.len(), shown);
        prop_assert!(engine.parts.each().all(|part| part.series.len() <= series_max));
    }

    #[test]
    fn hostile_state_never_panics(
        steps in prop::collection::vec(step(), 0..40),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let rules = limited(Forward::Aggregates);
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
}
