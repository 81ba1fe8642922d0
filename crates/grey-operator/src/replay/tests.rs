//! Runs of small recordings whose result is known.

use grey_config::Environment;
use grey_model::{Event, Stamp};

use super::*;
use crate::rules_file::{self, Choice};

fn rules(yaml: &str) -> RulesFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    std::fs::write(&path, yaml).unwrap();
    rules_file::load(&path, &Environment::default(), &Choice::default()).unwrap()
}

fn run(yaml: &str, values: &[(i64, f64)], run_on_ms: i64) -> Outcome {
    let mut replay = Replay::new(&rules(yaml), None, true);
    for (at, value) in values {
        replay.take(Recorded { event: Event::reading("d", "t", *value, *at), stamp: None });
    }
    replay.finish(run_on_ms, Summary { events: values.len() as u64, ..Summary::default() })
}

const THRESHOLD: &str = "rules: [{type: threshold, name: hot, condition: t > 10, severity: critical}]";

#[test]
fn an_alert_has_a_beginning_an_end_and_a_reason() {
    let outcome = run(THRESHOLD, &[(1_000, 5.0), (2_000, 12.5), (3_000, 13.0), (7_000, 4.0), (9_000, 20.0)], 0);
    assert_eq!(outcome.alerts.len(), 2);
    let first = &outcome.alerts[0];
    assert_eq!((first.fired_ms, first.cleared_ms), (2_000, Some(7_000)));
    assert_eq!((first.value, first.limit, first.cleared_value), (Some(12.5), Some(10.0), Some(4.0)));
    assert_eq!((first.rule.as_str(), first.severity.as_str(), first.condition.as_str()), ("hot", "critical", "t > 10"));
    assert_eq!((outcome.alerts[1].fired_ms, outcome.alerts[1].cleared_ms), (9_000, None));
    let tally = &outcome.rules[1];
    assert_eq!((tally.fired, tally.cleared, tally.firing_at_end), (2, 1, 1));
    assert_eq!(outcome.reduction.reduced_by.values().sum::<u64>() + outcome.reduction.forwarded, 5);
}

#[test]
fn time_does_not_go_back_and_stamps_are_kept() {
    let mut replay = Replay::new(&rules(THRESHOLD), None, false);
    let event = |at| Event::reading("d", "t", 11.0, at);
    replay.take(Recorded { event: event(5_000), stamp: Some(Stamp::at_unix_ms(8_000)) });
    assert_eq!(replay.time_ms, 8_000);
    replay.take(Recorded { event: event(6_000), stamp: None });
    assert_eq!(replay.time_ms, 8_000);
    replay.take(Recorded { event: event(7_000), stamp: Some(Stamp::at_unix_ms(90_000)) });
    let outcome = replay.finish(0, Summary::default());
    assert_eq!((outcome.alerts[0].fired_ms, outcome.alerts[0].event_ms), (8_000, 5_000));
    assert!(outcome.notes[0].contains("up to 1m 23s after their time"), "{:?}", outcome.notes);
    assert_eq!((outcome.recording.from_ms, outcome.recording.to_ms), (Some(5_000), Some(7_000)));
}

#[test]
fn windows_close_when_they_are_due_and_behind_the_end_on_request() {
    let rules = "rules: [{type: aggregate, name: w, interval: 10s, fields: [avg, count]}]";
    let values = [(1_000, 1.0), (4_000, 3.0), (25_000, 10.0)];
    let outcome = run(rules, &values, 0);
    assert_eq!(outcome.windows.len(), 1);
    let window = &outcome.windows[0];
    assert_eq!((window.rule.as_str(), window.start_ms, window.length_ms), ("w", 0, Some(10_000)));
    assert_eq!(window.fields, [("avg".to_owned(), 2.0), ("count".to_owned(), 2.0)]);
    assert_eq!(outcome.notes.len(), 1);
    let outcome = run(rules, &values, 600_000);
    assert_eq!((outcome.windows.len(), outcome.rules[1].windows, outcome.notes.len()), (2, 2, 0));
}

#[test]
fn every_reading_is_accounted_for() {
    let rules =
        "edge:\n  site_id: s\n  forward: raw\n  local_processing:\n    rules: [{type: threshold, condition: t > 10}]\n";
    let outcome = run(rules, &[(1, 1.0), (2, 20.0)], 0);
    assert_eq!((outcome.reduction.readings, outcome.reduction.forwarded), (2, 2));
    assert!(outcome.reduction.reduced_by.is_empty());
}

#[test]
fn a_finding_is_one_from_its_beginning_to_its_end() {
    let mut replay = Replay::new(&rules("rules: [{type: anomaly, name: odd, model: m}]"), None, false);
    let event = |state: &str, at, score| {
        let attribute = |name: &str, value: &str| (name.into(), value.into());
        Event {
            kind: Kind::Anomaly,
            value: Value::Fields([("score".into(), score), ("expected".into(), 3.0), ("seen".into(), 9.0)].into()),
            attributes: vec![attribute("rule", "odd"), attribute("state", state), attribute("since", "900")],
            ..Event::reading("d", "t", 0.0, at)
        }
    };
    for (state, at) in [("firing", 1_000), ("cleared", 2_000), ("firing", 3_000)] {
        replay.sort_in(&event(state, at, 0.97));
    }
    let outcome = replay.finish(0, Summary::default());
    assert_eq!((outcome.rules[1].anomalies, outcome.reduction.anomalies), (2, 3));
    let first = &outcome.anomalies[0];
    assert_eq!((first.at_ms, first.since_ms, first.cleared_ms), (1_000, Some(900), Some(2_000)));
    assert_eq!((first.score, first.expected, first.seen), (Some(0.97), Some(3.0), Some(9.0)));
    assert_eq!(outcome.anomalies[1].cleared_ms, None);
}

#[test]
fn alarms_of_a_spectrum_are_counted_for_its_rule() {
    let yaml = "rules: [{type: spectrum, name: bearing, sample_rate: 1000, size: 64, \
                alarms: [{field: rms, warning: 2}]}]";
    let mut replay = Replay::new(&rules(yaml), None, true);
    for (at, level) in [(1_000, 0.5), (2_000, 5.0), (3_000, 0.5)] {
        let samples: Vec<f64> = (0..64).map(|n| if n % 2 == 0 { level } else { -level }).collect();
        let event = Event { value: Value::Vector(samples.into()), ..Event::reading("d", "v", 0.0, at) };
        replay.take(Recorded { event, stamp: None });
    }
    let outcome = replay.finish(0, Summary::default());
    let names: Vec<_> = outcome.alerts.iter().map(|alert| alert.rule.as_str()).collect();
    assert_eq!(names, ["bearing.rms.warning"]);
    let tally = &outcome.rules[1];
    assert_eq!((tally.fired, tally.cleared, tally.firing_at_end), (1, 1, 0));
}
