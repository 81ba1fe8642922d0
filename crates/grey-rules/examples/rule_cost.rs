//! What a reading costs in the rules of a site: one million readings of 1,000
//! devices through a threshold, a flagging threshold and a one-minute window.
//!
//! `cargo run --release -p grey-rules --example rule_cost`

use std::sync::Arc;
use std::time::Instant;

use grey_config::{Decoder, Node, Setting};
use grey_model::{Event, Name, Stamp};
use grey_rules::{Derived, Engine, Forward, RuleSet, RuleSpec};

const RULES: &str = "
- {type: threshold, condition: temperature > 85°C}
- {type: threshold, condition: temperature < -20°C, action: flag_and_upload}
- {type: aggregate, interval: 1m, fields: [avg, min, max, count]}
";

#[allow(clippy::disallowed_methods)]
fn main() {
    let mut decoder = Decoder::new("rules");
    let specs: Option<Vec<RuleSpec>> =
        Node::from_yaml(RULES).ok().and_then(|node| Setting::decode(&node, &mut decoder));
    let Some(Ok(rules)) = specs.map(|specs| RuleSet::compile(&specs, Forward::Aggregates)) else {
        eprintln!("the rules do not compile: {:?}", decoder.into_errors());
        return;
    };
    let mut engine = Engine::new(Arc::new(rules));
    let stream = Name::from("temperature");
    let unit = Name::from("°C");
    // Names as a decoder makes them: equal text, other allocations.
    let mut events: Vec<Event> = (0..1_000)
        .map(|n| {
            let mut event = Event::reading(format!("device-{n:04}"), &*stream, 20.0, 0);
            event.unit = Some(Name::from(&*unit));
            event
        })
        .collect();
    let mut derived = Derived::default();
    let (mut sent, mut best) = (0_usize, f64::MAX);
    for round in 0..10_i64 {
        let start = Instant::now();
        for step in 0..1_000_i64 {
            let now_ms = 1_760_000_000_000 + (round * 1_000 + step) * 1_000;
            let now = Stamp::at_unix_ms(now_ms);
            for (n, event) in events.iter_mut().enumerate() {
                event.device_time_ms = now_ms;
                event.value = grey_model::Value::Number(20.0 + ((n as i64 * 7 + step) % 660) as f64 / 10.0);
                engine.process(event, now, &mut derived);
            }
            sent += derived.events.len();
            derived.events.clear();
        }
        let per_event = start.elapsed().as_secs_f64() * 1e9 / 1e6;
        best = best.min(per_event);
    }
    println!("{best:.0} ns a reading (best of 10 rounds of 1,000,000), {sent} events derived");
}
