//! Thresholds: when alerts fire and end.

use grey_model::{Event, Kind, Quality, RuleId, Value};

use super::*;

#[test]
fn an_alert_is_raised_once_per_crossing_and_device() {
    let mut engine = engine(DOCUMENT);
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
    assert_eq!(attribute(first, "alert").map(str::len), Some(16));
    assert_eq!(attribute(&derived[2].1, "alert"), attribute(first, "alert"));
    assert_ne!(attribute(&derived[3].1, "alert"), attribute(first, "alert"));
    assert_eq!(attribute(&derived[2].1, "since"), Some("2"));
    assert!(verdicts.iter().all(|v| *v == Verdict::Reduced(RuleId(0))));
    let alerts = engine.alerts();
    let shown: Vec<_> = alerts.iter().map(|a| (&*a.device, a.state, a.since_ms, a.value)).collect();
    let (firing, cleared) = (AlertState::Firing, AlertState::Cleared);
    assert_eq!(shown, [("a", firing, 8, 99.0), ("b", firing, 4, 85.5), ("a", cleared, 2, 86.0)]);
    assert_eq!((alerts[2].cleared_ms, engine.firing_count()), (Some(7), 2));
    let counters = engine.counters();
    assert_eq!((counters.alerts_fired, counters.alerts_cleared), (3, 1));
}

#[test]
fn units_are_converted_and_foreign_ones_left_out() {
    let mut engine = engine(DOCUMENT);
    let mut derived = Derived::default();
    let mut send = |value: f64, unit: Option<&str>, ms: i64| {
        let mut event = Event::reading("a", "temperature", value, ms);
        event.unit = unit.map(Into::into);
        derived.events.clear();
        engine.process(&event, at(ms), &mut derived);
        let first = derived.events.first();
        first.map(|d| (attribute(&d.event, "state").unwrap().to_owned(), fields(&d.event)["value"]))
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
    let status = &engine.rule_status()[0];
    assert_eq!(status.problem.as_deref(), Some("cannot compare V with °C (temperature of device a)"));
    assert_eq!((status.rule, status.kind, status.fired, status.unit_mismatches), (1, "threshold", 2, 2));
}

#[test]
fn only_good_numbers_of_readings_count() {
    let mut engine = engine(DOCUMENT);
    let mut derived = Derived::default();
    let mut event = Event::reading("a", "temperature", 500.0, 5);
    event.quality = Quality::Bad;
    assert_eq!(engine.process(&event, at(5), &mut derived), Verdict::Reduced(RuleId(0)));
    event.quality = Quality::Good;
    for value in [
        Value::Text("hot".into()),
        Value::Vector([500.0].into()),
        Value::Number(f64::NAN),
        Value::Number(f64::INFINITY),
    ] {
        event.value = value;
        engine.process(&event, at(5), &mut derived);
    }
    assert_eq!(engine.counters().not_numeric, 5);
    event.value = Value::Number(500.0);
    for kind in [Kind::Alert, Kind::Log, Kind::Aggregate, Kind::Anomaly, Kind::Receipt] {
        event.kind = kind;
        assert_eq!(engine.process(&event, at(5), &mut derived), Verdict::Forward(None));
    }
    engine.advance(at(100_000), &mut derived);
    assert_eq!(derived.events, []);
    event.kind = Kind::Reading;
    event.device_time_ms = 100_001;
    for value in [Value::Integer(3), Value::Bool(true), Value::Number(f64::MAX), Value::Number(f64::MAX)] {
        event.value = value;
        engine.process(&event, at(100_001), &mut derived);
    }
    engine.advance(at(200_000), &mut derived);
    derived.events.retain(|d| d.event.kind == Kind::Aggregate);
    let found = fields(&derived.events.last().unwrap().event);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["count", "max", "min"], "a mean that overflowed is left out");
    assert_eq!(found["count"], 4.0);
}

#[test]
fn hysteresis_hold_and_cooldown() {
    let mut hot = engine("[{type: threshold, condition: t > 85, clear: t < 80}]");
    let (derived, _) =
        feed(&mut hot, &[("a", "t", 86.0, 1), ("a", "t", 84.0, 2), ("a", "t", 80.0, 3), ("a", "t", 79.0, 4)]);
    assert_eq!(states(&derived), ["1 firing", "4 cleared"]);

    let mut held = engine("[{type: threshold, condition: t > 85, for: 30s}]");
    let (derived, _) = feed(&mut held, &[("a", "t", 86.0, 1_000), ("a", "t", 90.0, 20_000)]);
    assert_eq!(states(&derived), [""; 0]);
    assert_eq!(held.alerts()[0].state, AlertState::Pending);
    assert_eq!(held.next_due_ms(), Some(31_000));
    assert_eq!(advance(&mut held, 30_999), []);
    // It fires though no event comes, with the value that it has by now.
    let fired = advance(&mut held, 31_000);
    assert_eq!((fired.len(), fields(&fired[0])["value"], fired[0].device_time_ms), (1, 90.0, 31_000));
    assert_eq!((attribute(&fired[0], "since"), &*fired[0].stream), (Some("1000"), "t"));
    let (derived, _) = feed(&mut held, &[("a", "t", 1.0, 40_000), ("a", "t", 99.0, 41_000), ("a", "t", 1.0, 60_000)]);
    assert_eq!(states(&derived), ["40000 cleared"]);
    assert_eq!((advance(&mut held, 100_000), held.next_due_ms()), (vec![], None));

    let mut rests = engine("[{type: threshold, condition: t > 85, cooldown: 10s}]");
    let readings = [
        ("a", "t", 86.0, 0),
        ("a", "t", 1.0, 1_000),
        ("a", "t", 86.0, 2_000),
        ("a", "t", 1.0, 3_000),
        ("a", "t", 87.0, 4_000),
    ];
    let (derived, _) = feed(&mut rests, &readings);
    assert_eq!(states(&derived), ["0 firing", "1000 cleared"]);
    let fired = advance(&mut rests, 11_000);
    assert_eq!((fired.len(), fields(&fired[0])["value"]), (1, 87.0), "it still holds when the rest is over");
}

#[test]
fn a_flood_of_alerts_is_held_back() {
    // A signal that swings around its limit: the flood that made people turn alerts off.
    let readings: Vec<(&str, &str, f64, i64)> =
        (0..2_000).map(|n| ("a", "t", if n % 2 == 0 { 85.4 } else { 84.8 }, n * 1_000)).collect();
    let mut plain = engine("[{type: threshold, condition: t > 85}]");
    let flood = states(&feed(&mut plain, &readings).0).len();
    assert_eq!(flood, 2_000);
    let mut limited = engine("[{type: threshold, condition: t > 85, rate_limit: 10/1h}]");
    let (derived, _) = feed(&mut limited, &readings);
    assert_eq!(states(&derived).len(), 20, "a hundredth: ten alerts begin and end");
    assert_eq!((limited.counters().alerts_fired, limited.counters().alerts_suppressed), (10, 990));
    let (derived, _) = feed(&mut limited, &[("a", "t", 1.0, 3_600_000), ("a", "t", 99.0, 3_600_001)]);
    assert_eq!(attribute(&derived.last().unwrap().1, "suppressed"), Some("990"));
    let mut steady = engine("[{type: threshold, condition: t > 85, clear: t < 84, rate_limit: 10/1h}]");
    assert_eq!(states(&feed(&mut steady, &readings).0), ["0 firing"]);
}

#[test]
fn a_site_sends_a_bounded_number_of_alerts_a_minute() {
    let mut rules = parsed("[{type: threshold, condition: t > 85}]", Forward::Aggregates);
    rules.limits.alerts_per_minute = 5;
    let rules = Arc::new(RuleSet::compile(&rules, &NoModels).unwrap());
    let mut engine = Engine::new(rules, config(100));
    let devices: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
    let readings: Vec<_> = devices.iter().map(|d| (d.as_str(), "t", 99.0, 60_000)).collect();
    let (derived, _) = feed(&mut engine, &readings);
    assert_eq!(derived.len(), 5);
    let suppressed: Vec<bool> = engine.alerts().iter().map(|a| a.suppressed).collect();
    assert_eq!(suppressed, [false, false, false, false, false, true, true, true]);
    assert_eq!(engine.next_due_ms(), Some(120_000));
    let summary = advance(&mut engine, 120_000);
    assert_eq!((summary.len(), &*summary[0].device), (1, "site-1"));
    assert_eq!((attribute(&summary[0], "state"), attribute(&summary[0], "suppressed")), (Some("summary"), Some("3")));
    // Those that fired with an event end with one, the others without.
    let readings: Vec<_> = devices.iter().map(|d| (d.as_str(), "t", 1.0, 130_000)).collect();
    let (derived, _) = feed(&mut engine, &readings);
    assert_eq!((derived.len(), engine.firing_count(), engine.counters().alerts_suppressed), (5, 0, 3));
}

#[test]
fn groups_of_the_site_and_of_tags_have_one_alert_each() {
    let yaml = "
- {type: threshold, name: site, condition: t > 85, group_by: site}
- {type: threshold, name: line, condition: t > 85, group_by: 'tag:line'}
";
    let mut engine = engine(yaml);
    let mut derived = Derived::default();
    for (device, line, value, ms) in [("a", "1", 90.0, 1), ("b", "1", 91.0, 2), ("c", "2", 92.0, 3), ("d", "", 93.0, 4)]
    {
        let mut event = Event::reading(device, "t", value, ms);
        if !line.is_empty() {
            event.attributes.push(("line".into(), line.into()));
        }
        engine.process(&event, at(ms), &mut derived);
    }
    let shown: Vec<_> = derived
        .events
        .iter()
        .map(|d| (attribute(&d.event, "rule").unwrap(), &*d.event.device, attribute(&d.event, "device")))
        .collect();
    assert_eq!(shown, [("site", "site-1", Some("a")), ("line", "1", Some("a")), ("line", "2", Some("c"))]);
}

#[test]
fn conditions_over_several_streams_and_the_event_itself() {
    let yaml = "
- {type: threshold, name: both, condition: 'temperature > 85°C && pressure < 2 bar'}
- {type: threshold, name: bad, condition: \"quality == 'bad'\", severity: info}
- {type: threshold, name: big, condition: value > 100, streams: ['p*']}
";
    let mut engine = engine(yaml);
    let (derived, _) = feed(
        &mut engine,
        &[
            ("a", "temperature", 90.0, 1),
            ("a", "pressure", 3.0, 2),
            ("a", "pressure", 1.0, 3),
            ("b", "pressure", 1.0, 4),
        ],
    );
    let rule = |e: &Event| attribute(e, "rule").unwrap().to_owned();
    assert_eq!(derived.iter().map(|(_, e)| (rule(e), e.stamp.unix_ms())).collect::<Vec<_>>(), [("both".into(), 3)]);
    let mut event = Event::reading("c", "x", 1.0, 5);
    event.quality = Quality::Bad;
    let mut out = Derived::default();
    engine.process(&event, at(5), &mut out);
    assert_eq!(out.events.iter().map(|d| rule(&d.event)).collect::<Vec<_>>(), ["bad"]);
    let (derived, _) = feed(&mut engine, &[("d", "power", 101.0, 6), ("d", "p2", 102.0, 7), ("d", "x", 500.0, 8)]);
    let shown: Vec<_> = derived.iter().map(|(_, e)| (rule(e), e.stream.to_string())).collect();
    assert_eq!(shown, [("big".into(), "power".into()), ("big".to_owned(), "p2".to_owned())], "one for each stream");
}

#[test]
fn a_clock_set_back_leaves_no_alert_waiting_for_ever() {
    let day = 86_400_000;
    for jump in [3_600_000, 400 * day] {
        let base = 1_000 * day;
        let mut engine = engine("[{type: threshold, condition: t > 85, for: 10s, cooldown: 20s}]");
        let (derived, _) = feed(&mut engine, &[("a", "t", 99.0, base + jump), ("a", "t", 99.0, base)]);
        assert_eq!(derived, []);
        let fired = advance(&mut engine, base + 10_000);
        assert_eq!(fired.len(), 1, "it has held for ten seconds, whatever the clock said");
        // Forward again: what waited longest is over, once.
        let (derived, _) = feed(&mut engine, &[("a", "t", 1.0, base + jump), ("a", "t", 1.0, base + jump + 1)]);
        assert_eq!(states(&derived).len(), 1);
    }
}
