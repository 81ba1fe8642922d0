//! What becomes of readings, and what firing alerts do outside.

use grey_model::{Event, Quality, RuleId, Value};

use super::*;

/// One letter for each verdict: forwarded, or reduced with the rule's number.
fn letters(verdicts: &[Verdict]) -> String {
    let letter = |verdict: &Verdict| match verdict {
        Verdict::Forward(None) => "f".to_owned(),
        Verdict::Forward(Some(lane)) => lane.as_str()[..1].to_uppercase(),
        Verdict::Reduced(RuleId(rule)) => rule.to_string(),
    };
    verdicts.iter().map(letter).collect()
}

fn verdicts(yaml: &str, forward: Forward, readings: &[(&str, &str, f64, i64)]) -> String {
    letters(&feed(&mut Engine::new(set(yaml, forward), config(100)), readings).1)
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
    assert_eq!(verdicts(yaml, Forward::Raw, &readings), "fffffff");
    assert_eq!(verdicts(yaml, Forward::Aggregates, &readings), "0ff0000");
    assert_eq!(verdicts(yaml, Forward::Anomalies, &readings), "0ffff00");
}

#[test]
fn drop_goes_before_flag_before_filters_before_the_policy() {
    let readings: Vec<_> = (0..6).map(|n| ("a", "t", f64::from(n), i64::from(n))).collect();
    let drop = "{type: threshold, condition: t >= 5, action: drop}";
    let flag = "{type: threshold, condition: t >= 4, action: flag_and_upload}";
    let filter = "{type: filter, sample: {every: 3}}";
    let lane = "{type: threshold, condition: t >= 3, actions: [{set_lane: critical}]}";
    assert_eq!(verdicts(&format!("[{drop}, {flag}, {filter}, {lane}]"), Forward::Raw, &readings), "f33CC1");
    assert_eq!(verdicts(&format!("[{filter}, {lane}, {flag}, {drop}]"), Forward::Aggregates, &readings), "0110C4");
}

#[test]
fn bad_readings_are_dropped_by_their_quality() {
    let mut engine = Engine::new(
        set("[{type: threshold, condition: \"quality == 'bad'\", action: drop}]", Forward::Raw),
        config(10),
    );
    let mut derived = Derived::default();
    let mut event = Event::reading("a", "t", 1.0, 1);
    assert_eq!(engine.process(&event, at(1), &mut derived), Verdict::Forward(None));
    event.quality = Quality::Bad;
    assert_eq!(engine.process(&event, at(2), &mut derived), Verdict::Reduced(RuleId(1)));
    assert_eq!((derived.events.len(), engine.counters().filtered), (0, 1));
    assert_eq!(engine.rule_status()[0].reduced, 1);
}

#[test]
fn filters_keep_what_says_something_new() {
    let forward = |filter: &str, readings: &[(&str, &str, f64, i64)]| {
        verdicts(&format!("[{{type: filter, {filter}}}]"), Forward::Raw, readings)
    };
    let deadband = [1.0, 1.2, 1.5, 1.6, 1.1, 1.0].iter().zip(0..).map(|(v, n)| ("a", "t", *v, n * 1_000));
    let deadband: Vec<_> = deadband.collect();
    assert_eq!(forward("deadband: 0.5", &deadband), "f11f1f");
    assert_eq!(forward("deadband: 0.5, max_interval: 2s", &deadband), "f1f1f1");
    let same = [
        ("a", "t", 1.0, 0),
        ("a", "t", 1.0, 500),
        ("b", "t", 1.0, 600),
        ("a", "t", 1.0, 1_500),
        ("a", "t", 2.0, 1_600),
    ];
    assert_eq!(forward("deduplicate: 1s", &same), "f1fff");
    assert_eq!(forward("deduplicate: 1s, streams: [x]", &same), "fffff");
    assert_eq!(forward("deduplicate: 1s, where: \"device == 'b'\"", &same), "fffff");
    let many: Vec<_> = (0..10_000).map(|n| ("a", "t", n as f64, n)).collect();
    let kept = forward("sample: 10%", &many).chars().filter(|c| *c == 'f').count();
    assert!((800..1_200).contains(&kept), "{kept}");
}

#[test]
fn a_deadband_has_a_unit_of_its_own() {
    let mut engine = Engine::new(set("[{type: filter, deadband: 1°C}]", Forward::Raw), config(10));
    let mut derived = Derived::default();
    let found: Vec<Verdict> = [50.0, 51.7, 51.9]
        .iter()
        .map(|fahrenheit| {
            let mut event = Event::reading("a", "t", *fahrenheit, 0);
            event.unit = Some("°F".into());
            engine.process(&event, at(0), &mut derived)
        })
        .collect();
    assert_eq!(letters(&found), "f1f", "1 °C is 1.8 °F");
}

#[test]
fn a_device_has_its_rate() {
    let mut rules = parsed("[{type: threshold, condition: t > 99, action: flag_and_upload}]", Forward::Raw);
    rules.limits.device_rate = Some(2);
    rules.limits.device_burst = Some(3);
    let mut engine = Engine::new(Arc::new(RuleSet::compile(&rules, &NoModels).unwrap()), config(10));
    let mut readings: Vec<_> = (0..5).map(|n| ("a", "t", 1.0, 1_000 + n)).collect();
    readings.extend([("b", "t", 1.0, 1_010), ("a", "t", 100.0, 1_011), ("a", "t", 1.0, 1_500), ("a", "t", 1.0, 1_501)]);
    assert_eq!(letters(&feed(&mut engine, &readings).1), "fff00fff0");
    assert_eq!((engine.counters().rate_limited, engine.counters().filtered), (3, 3));
}

#[test]
fn effects_hang_on_the_alert_that_fires() {
    let yaml = r#"
- type: threshold
  name: stop
  condition: t > 85
  tags: {team: a}
  actions:
    - publish: {topic: "plant/{device}/stop", payload: "{value}", qos: 1, on_clear: true}
    - webhook: {url: "http://127.0.0.1:9000/{rule}"}
    - command: {name: slow_down, args: {to: "50", team: "{tags.team}"}}
"#;
    let mut engine = engine(yaml);
    let mut derived = Derived::default();
    for (value, ms) in [(90.0, 1), (95.0, 2), (1.0, 3)] {
        engine.process(&Event::reading("press-7", "t", value, ms), at(ms), &mut derived);
    }
    let rendered: Vec<Vec<RenderedEffect>> = derived
        .events
        .iter()
        .map(|d| d.effects.iter().flat_map(|e| e.iter()).map(|e| e.render(&d.event, "site-1")).collect())
        .collect();
    let publish = |payload: &str| RenderedEffect::Publish {
        topic: "plant/press-7/stop".into(),
        payload: payload.into(),
        qos: 1,
        retain: false,
    };
    let webhook = RenderedEffect::Webhook {
        url: "http://127.0.0.1:9000/stop".into(),
        method: Method::Post,
        headers: vec![],
        body: None,
    };
    let command = RenderedEffect::Command {
        device: "press-7".into(),
        name: "slow_down".into(),
        args: vec![("team".into(), "a".into()), ("to".into(), "50".into())],
    };
    assert_eq!(rendered, [vec![publish("90"), webhook, command], vec![publish("1")]]);
}

#[test]
fn text_and_arrays_pass_filters_too() {
    let mut engine = Engine::new(set("[{type: filter, deduplicate: 1m}]", Forward::Raw), config(10));
    let mut derived = Derived::default();
    let values =
        [Value::Text("on".into()), Value::Text("on".into()), Value::Text("off".into()), Value::Vector([1.0].into())];
    let found: Vec<Verdict> = values
        .into_iter()
        .map(|value| {
            let mut event = Event::reading("a", "state", 0.0, 5);
            event.value = value;
            engine.process(&event, at(5), &mut derived)
        })
        .collect();
    assert_eq!(letters(&found), "f1ff");
}
