//! The engine against the documents' rules, plain reference models, and itself after a restore.

mod actions;
mod alerts;
mod anomalies;
mod batch;
mod changes;
mod fits;
mod naive;
mod operations;
mod rules;
mod state;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use grey_model::{Event, Lane, Stamp, Value};

use crate::*;

/// The rules that the documents show.
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

fn parsed(yaml: &str, forward: Forward) -> Rules {
    let break_line = if yaml.starts_with('[') { "" } else { "\n" };
    let rules = Rules::from_yaml(&format!("rules: {break_line}{yaml}")).unwrap_or_else(|error| panic!("{error}"));
    Rules { forward, ..rules }
}

fn set(yaml: &str, forward: Forward) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(&parsed(yaml, forward), &NoModels).unwrap_or_else(|error| panic!("{error}")))
}

fn config(series_max: usize) -> EngineConfig {
    EngineConfig { series_max, ..EngineConfig::new("site-1") }
}

fn engine(yaml: &str) -> Engine {
    Engine::new(set(yaml, Forward::Aggregates), config(SERIES_MAX))
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
    // Whatever rules make must fit into a block.
    derived.events.iter().for_each(|d| grey_codec::check(&d.event).unwrap_or_else(|e| panic!("{e}: {:?}", d.event)));
    derived.events.into_iter().map(|d| (d.lane, d.event)).collect()
}

fn advance(engine: &mut Engine, ms: i64) -> Vec<Event> {
    let mut derived = Derived::default();
    engine.advance(at(ms), &mut derived);
    derived.events.into_iter().map(|d| d.event).collect()
}

fn attribute<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.attributes.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
}

fn fields(event: &Event) -> BTreeMap<String, f64> {
    let Value::Fields(fields) = &event.value else { panic!("{event:?}") };
    fields.iter().map(|(name, value)| (name.to_string(), *value)).collect()
}

/// `time state` of every alert event, such as `5 firing`.
fn states(events: &[(Lane, Event)]) -> Vec<String> {
    let alerts = events.iter().filter(|(lane, _)| *lane == Lane::Critical);
    alerts.map(|(_, e)| format!("{} {}", e.stamp.unix_ms(), attribute(e, "state").unwrap_or("-"))).collect()
}
