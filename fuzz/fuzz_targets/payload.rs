//! Event payloads: an answer and no panic, the same one from both readers, and
//! events within the limits of the model.
#![no_main]

use grey_ingest::payload::{NameMemo, assert_readers_agree, read, read_json, read_ndjson};
use grey_model::limits::{ATTRIBUTES_MAX, EVENT_ID_BYTES_MAX, TEXT_BYTES_MAX, UNIT_BYTES_MAX, VECTOR_LEN_MAX};
use grey_model::{Event, Name, Value};
use libfuzzer_sys::fuzz_target;

fn check(event: &Event) {
    assert!(event.attributes.len() <= ATTRIBUTES_MAX);
    assert!(event.unit.as_ref().is_none_or(|unit| unit.len() <= UNIT_BYTES_MAX));
    assert!(event.id.as_ref().is_none_or(|id| id.len() <= EVENT_ID_BYTES_MAX));
    match &event.value {
        Value::Number(number) => assert!(number.is_finite()),
        Value::Text(text) => assert!(text.len() <= TEXT_BYTES_MAX),
        Value::Vector(samples) => assert!(samples.len() <= VECTOR_LEN_MAX && samples.iter().all(|s| s.is_finite())),
        Value::Fields(fields) => assert!(fields.iter().all(|(_, number)| number.is_finite())),
        Value::Bool(_) | Value::Integer(_) => {}
    }
}

fuzz_target!(|payload: &[u8]| {
    assert_readers_agree(payload);
    let name = Name::from("n");
    let mut count = 0;
    let outcome = read(payload, &name, &name, 0, &mut NameMemo::default(), |event, _| {
        check(&event);
        count += 1;
    });
    assert_eq!(outcome.unwrap_or(0), count, "all events or none");
    for request in [read_json(payload, 0), read_ndjson(payload, 0)] {
        request.events.iter().for_each(|(event, _)| check(event));
        assert!(request.rejected.len() <= request.rejected_total);
    }
});
