//! Rules from YAML: thresholds that alert once, windows that aggregate, and a
//! state that can be saved.
//!
//! `cargo run -p grey-examples --example rules`

use std::sync::Arc;

use grey_model::{Event, Kind, Stamp, Value};
use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet, Rules, Verdict};

const RULES: &str = "
rules:
- {type: threshold, name: overheating, condition: temperature > 85°C, severity: critical}
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
    for (second, celsius) in [(0, 80.0), (10, 86.0), (20, 90.0), (30, 84.0)] {
        let event = Event::reading("press-7", "temperature", celsius, second * 1_000);
        let verdict = engine.process(&event, Stamp::at_unix_ms(second * 1_000), &mut derived);
        assert!(matches!(verdict, Verdict::Reduced(_)), "raw readings stay at the site under this policy");
    }
    // One alert when the limit was crossed, one when it was over: not one for each reading.
    assert!(derived.events.iter().all(|derived| derived.event.kind == Kind::Alert));
    assert_eq!(derived.events.len(), 2);

    // A saved engine goes on as if nothing had happened.
    let mut engine = Engine::restore(rules, EngineConfig::new("site-1"), &engine.snapshot())?;
    derived.events.clear();
    engine.advance(Stamp::at_unix_ms(60_000), &mut derived);
    let summary = derived.events.first().ok_or("the window ended")?;
    let Value::Fields(fields) = &summary.event.value else { return Err("an aggregate has fields".into()) };
    assert_eq!(fields.iter().find(|(name, _)| &**name == "avg").map(|(_, value)| *value), Some(85.0));
    println!("after a minute, in the {} lane: {fields:?}", summary.lane);
    Ok(())
}
