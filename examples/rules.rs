//! Rules from YAML: an alert with hysteresis and a rate limit, a filter, windows
//! of the devices' time, and a state that can be saved.
//!
//! `cargo run -p grey-examples --example rules`

use std::sync::Arc;

use grey_model::{Event, Kind, Stamp, Value};
use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet, Rules, Verdict};

const RULES: &str = "
rules:
- type: threshold
  name: overheating
  condition: temperature > 85°C
  clear: temperature < 80°C
  rate_limit: 10/1h
  severity: critical
  actions: [local_alert, {publish: {topic: 'plant/{device}/stop', payload: '{value}'}}]
- {type: filter, streams: [temperature], deadband: 0.5°C, max_interval: 10m}
- {type: aggregate, interval: 1m, fields: [avg, max, count]}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rules = Arc::new(RuleSet::compile(&Rules::from_yaml(RULES)?, &NoModels)?);
    for line in rules.explain() {
        println!("{line}");
    }

    // The engine reads no clock: time is what it is told, so a replay gives the same results.
    let mut engine = Engine::new(Arc::clone(&rules), EngineConfig::new("site-1"));
    let mut derived = Derived::default();
    for (second, celsius) in [(0, 80.0), (10, 86.0), (20, 84.0), (30, 86.0), (40, 79.0)] {
        let event = Event::reading("press-7", "temperature", celsius, second * 1_000);
        let verdict = engine.process(&event, Stamp::at_unix_ms(second * 1_000), &mut derived);
        assert!(matches!(verdict, Verdict::Reduced(_)), "raw readings stay at the site under this policy");
    }
    // One alert when the limit was crossed, one when it was over: 84 °C is not cool enough to end it.
    assert!(derived.events.iter().all(|derived| derived.event.kind == Kind::Alert));
    assert_eq!(derived.events.len(), 2);
    // What is to be done outside hangs on the alert that fires.
    for effect in derived.events[0].effects.iter().flat_map(|effects| effects.iter()) {
        println!("{:?}", effect.render(&derived.events[0].event, "site-1"));
    }

    // A saved engine goes on as if nothing had happened.
    let mut engine = Engine::restore(rules, EngineConfig::new("site-1"), &engine.snapshot())?;
    derived.events.clear();
    // The press is silent: a late reading is waited for two seconds, and one more for the silence.
    engine.advance(Stamp::at_unix_ms(63_000), &mut derived);
    let summary = derived.events.first().ok_or("the window ended")?;
    let Value::Fields(fields) = &summary.event.value else { return Err("an aggregate has fields".into()) };
    assert_eq!(fields.iter().find(|(name, _)| &**name == "avg").map(|(_, value)| *value), Some(83.0));
    println!("after a minute, in the {} lane: {fields:?}", summary.lane);
    Ok(())
}
