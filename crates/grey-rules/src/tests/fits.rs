//! What rules make fits into events, however long names, texts and sketches are.

use grey_model::Value;

use super::*;

#[test]
fn what_rules_make_fits_into_events() {
    let long = "x".repeat(250);
    let sum = (0..60).map(|_| "yyyyyyyyyy.avg").collect::<Vec<_>>().join(" + ");
    let yaml = format!(
        "
- {{type: threshold, name: {long}, condition: '{sum} > 0', tags: {{{long}: {long}}}}}
- {{type: aggregate, interval: 1s, fields: [p50], lateness: 0s}}
- {{type: spectrum, sample_rate: 100, size: 64, bands: [{{name: a, from: 0, to: 10}}]}}
- {{type: threshold, condition: value > 1e40}}
"
    );
    let mut engine = engine(&yaml);
    let mut derived = Derived::default();
    let stream = "y".repeat(256);
    for n in 0..4_000_i64 {
        // Every value in a bin of its own: the widest sketch.
        let value = 1.05_f64.powi(n as i32 - 2_000) * if n % 2 == 0 { 1.0 } else { -1.0 };
        let mut event = Event::reading("d", &*stream, value, n / 4);
        if n == 1_000 {
            event.value = Value::Vector(vec![1.0; 64].into());
        }
        engine.process(&event, at(n / 4), &mut derived);
    }
    for (stream, ms, now) in [(&*stream, 5_000, 5_000), (&*stream, 500, 5_001), ("yyyyyyyyyy", 5_002, 5_002)] {
        engine.process(&Event::reading("d", stream, 1.0, ms), at(now), &mut derived);
    }
    engine.advance(at(20_000), &mut derived);
    let events = pairs(derived);
    let aggregate = events.iter().find(|(_, e)| attribute(e, "window").is_some()).unwrap();
    assert!(aggregate.1.attributes.len() > 10, "{}", aggregate.1.attributes.len());
    assert_eq!(sketch_of(&aggregate.1).unwrap().count(), 3_999);
    assert!(events.iter().any(|(_, e)| attribute(e, "late").is_some()));
    assert!(events.iter().any(|(_, e)| attribute(e, "state") == Some("firing")));
    let mut cut = crate::words::clipped(&"é".repeat(200)).to_string();
    assert_eq!((cut.len(), cut.pop()), (255, Some('…')));
}
