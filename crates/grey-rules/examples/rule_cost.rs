//! What a reading costs in the rules of a site, and what rules cost in memory.
//!
//! `cargo run --release -p grey-rules --example rule_cost`
//!
//! - *site*: 1,000 devices through a threshold, a flagging threshold and a one-minute window.
//! - *limits*: 1, 300 and 1,000 rules `temperature > limit` on one stream of 100 devices.
//! - *conditions*: as many rules over two streams, evaluated one by one.

use std::sync::Arc;
use std::time::Instant;

use grey_model::{Event, Name, Stamp};
use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet, Rules};

const SITE: &str = "
- {type: threshold, condition: temperature > 85°C}
- {type: threshold, condition: temperature < -20°C, action: flag_and_upload}
- {type: aggregate, interval: 1m, fields: [avg, min, max, count]}
";
const START_MS: i64 = 1_760_000_000_000;

fn engine(yaml: &str) -> Option<Engine> {
    let rules = Rules::from_yaml(&format!("rules:\n{yaml}"));
    let rules = rules.and_then(|rules| RuleSet::compile(&rules, &NoModels));
    match rules {
        Ok(rules) => Some(Engine::new(Arc::new(rules), EngineConfig::new("site-1"))),
        Err(error) => {
            eprintln!("{error}");
            None
        }
    }
}

/// Readings of devices as a decoder makes them: equal text, other allocations.
fn readings(devices: usize, streams: &[&str], unit: &str) -> Vec<Event> {
    let event = |n: usize| {
        let stream = streams[n % streams.len()];
        let mut event = Event::reading(format!("device-{:04}", n / streams.len()), stream, 20.0, 0);
        event.unit = (!unit.is_empty()).then(|| Name::from(unit));
        event
    };
    (0..devices * streams.len()).map(event).collect()
}

/// Nanoseconds a reading, best of some rounds, and the events that came of one.
#[allow(clippy::disallowed_methods)]
fn measure(engine: &mut Engine, events: &mut [Event], value: impl Fn(i64, i64) -> f64) -> (f64, usize) {
    let mut derived = Derived::default();
    let (mut best, mut sent) = (f64::MAX, 0);
    let steps = (400_000 / events.len() as i64).max(1);
    for round in 0..7_i64 {
        let start = Instant::now();
        sent = 0;
        for step in round * steps..(round + 1) * steps {
            let now_ms = START_MS + step * 1_000;
            let now = Stamp::at_unix_ms(now_ms);
            for (n, event) in events.iter_mut().enumerate() {
                event.device_time_ms = now_ms;
                event.value = grey_model::Value::Number(value(n as i64, step));
                engine.process(event, now, &mut derived);
            }
            sent += derived.events.len();
            derived.events.clear();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / (steps * events.len() as i64) as f64);
    }
    (best, sent)
}

fn main() {
    let Some(mut site) = engine(SITE) else { return };
    let mut events = readings(1_000, &["temperature"], "°C");
    let (ns, sent) = measure(&mut site, &mut events, |n, step| 20.0 + ((n * 7 + step) % 660) as f64 / 10.0);
    println!("site: {ns:.0} ns a reading, {sent} events derived in a round, {} bytes a series", site.bytes() / 1_000);

    for count in [1_usize, 300, 1_000] {
        // Limits above what the signal reaches: the rules of a site whose machines run well.
        let yaml: String =
            (0..count).map(|n| format!("- {{type: threshold, condition: temperature > {}}}\n", 1_000 + n)).collect();
        let Some(mut idle) = engine(&yaml) else { return };
        let mut events = readings(100, &["temperature"], "");
        let (ns, sent) = measure(&mut idle, &mut events, |n, step| ((n * 31 + step * 17) % 900) as f64);
        let per_rule = idle.bytes() as f64 / 100.0 / count as f64;
        println!(
            "limits: {count} rules, nothing fires: {ns:.0} ns a reading, {:.0} million rules settled a second, \
             {per_rule:.2} bytes a rule and series, {sent} events",
            count as f64 * 1_000.0 / ns
        );
        // Limits all over the signal's range, and a signal that wanders: about two crossings in a hundred readings.
        let yaml: String = (0..count)
            .map(|n| format!("- {{type: threshold, condition: temperature > {}}}\n", n * 1_000 / count))
            .collect();
        let Some(mut busy) = engine(&yaml) else { return };
        let wander = |n: i64, step: i64| 500.0 + 400.0 * ((n * 50 + step) as f64 / 4_000.0).sin();
        let (ns, sent) = measure(&mut busy, &mut events, wander);
        println!(
            "limits: {count} rules over the whole range: {ns:.0} ns a reading, {:.0} million rules settled a second, {sent} events in a round",
            count as f64 * 1_000.0 / ns
        );
    }

    for count in [1_usize, 300, 1_000] {
        let rule = |n: usize| {
            format!(
                "- {{type: threshold, condition: 'temperature > {} && pressure < {n}', action: local_alert}}\n",
                1_000 + n
            )
        };
        let yaml: String = (0..count).map(rule).collect();
        let Some(mut general) = engine(&yaml) else { return };
        let mut events = readings(50, &["temperature", "pressure"], "");
        let (ns, sent) = measure(&mut general, &mut events, |n, step| ((n * 31 + step * 17) % 900) as f64);
        println!(
            "conditions: {count} rules over two streams: {ns:.0} ns a reading, {:.1} ns a condition, {:.0} million a second, {sent} events",
            ns / count as f64,
            count as f64 * 1_000.0 / ns
        );
    }
}
