//! What payloads give, what their refusals say, and that both readers agree.

use grey_model::{Quality, Value};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_772_366_400_000;

fn events(payload: &str) -> Result<Vec<(Event, Option<Lane>)>, PayloadError> {
    let (device, stream) = (Name::from("pump-7"), Name::from("temp"));
    let mut events = Vec::new();
    let mut memo = NameMemo::default();
    let emit = |event, lane| events.push((event, lane));
    let count = read(payload.as_bytes(), &device, &stream, NOW_MS, &mut memo, emit)?;
    assert_eq!(count, events.len());
    Ok(events)
}

fn event(payload: &str) -> Event {
    let mut events = events(payload).unwrap_or_else(|error| panic!("{payload}: {error}"));
    assert_eq!(events.len(), 1);
    events.remove(0).0
}

fn refusal(payload: &str) -> String {
    match events(payload) {
        Err(error) => error.to_string(),
        Ok(events) => panic!("{payload} gives {events:?}"),
    }
}

#[test]
fn a_bare_number_is_an_event_of_now() {
    assert_eq!(event("21.5"), Event::reading("pump-7", "temp", 21.5, NOW_MS));
    let values = [
        (" -3 ", Value::Integer(-3)),
        ("0", Value::Integer(0)),
        ("9007199254740993", Value::Integer(9_007_199_254_740_993)),
        ("-9223372036854775808", Value::Integer(i64::MIN)),
        ("9223372036854775808", Value::Number(9_223_372_036_854_775_808.0)),
        ("21.0", Value::Number(21.0)),
        ("1e3", Value::Number(1000.0)),
        ("0.1", Value::Number(0.1)),
        ("123456789.123456789", Value::Number(123_456_789.123_456_79)),
        ("2.2250738585072014e-308", Value::Number(f64::MIN_POSITIVE)),
    ];
    for (payload, value) in values {
        assert_eq!(event(payload).value, value, "{payload}");
    }
    assert!(matches!(event("-0").value, Value::Number(zero) if zero == 0.0 && zero.is_sign_negative()));
}

#[test]
fn an_object_brings_all_it_has() {
    let (event, lane) = events(
        r#" {"value": 21.5, "ts": "2026-03-01T12:00:00.250Z", "unit": "°C", "id": "a-1", "quality": "uncertain",
            "priority": "critical", "attributes": {"hall": "3", "line": "west"}} "#,
    )
    .unwrap()
    .remove(0);
    assert_eq!(event.device_time_ms, NOW_MS + 250);
    assert_eq!(event.unit.as_deref(), Some("°C"));
    assert_eq!(event.id.as_deref(), Some("a-1"));
    assert_eq!(event.quality, Quality::Uncertain);
    assert_eq!(lane, Some(Lane::Critical));
    assert_eq!(event.attributes, [("hall".into(), "3".into()), ("line".into(), "west".into())]);
    assert_eq!(self::event(r#"{"value":1,"ts":1772366400001}"#).device_time_ms, NOW_MS + 1);
    assert_eq!(self::event(r#"{"value":1,"ts":1772366400001.9}"#).device_time_ms, NOW_MS + 1);
}

#[test]
fn values_are_of_six_kinds() {
    let cases = [
        ("true", Value::Bool(true)),
        ("7", Value::Integer(7)),
        ("7.5", Value::Number(7.5)),
        (r#""open""#, Value::Text("open".into())),
        (r#""\u00fc\n""#, Value::Text("ü\n".into())),
        ("[1, 2.5, -3e0]", Value::Vector([1.0, 2.5, -3.0].into())),
        (r#"{"x": 1, "y": 2.5}"#, Value::Fields([("x".into(), 1.0), ("y".into(), 2.5)].into())),
    ];
    for (json, value) in cases {
        assert_eq!(event(&format!(r#"{{"value": {json}}}"#)).value, value, "{json}");
    }
}

#[test]
fn an_array_is_read_whole_or_not_at_all() {
    let events = events(r#"[1, {"value": 2, "id": "b"}, 3.5]"#).unwrap();
    let values: Vec<_> = events.iter().map(|(event, _)| event.value.as_f64().unwrap()).collect();
    assert_eq!(values, [1.0, 2.0, 3.5]);
    assert_eq!(self::events("[]").unwrap(), []);
    assert!(refusal(r#"[1, {"ts": 5}, 3]"#).starts_with("element 2: key \"value\" is missing"));
    let many = format!("[{}1]", "1,".repeat(EVENTS_PER_PAYLOAD_MAX));
    assert!(refusal(&many).contains("10001 events"));
}

#[test]
fn errors_name_the_key_and_what_is_allowed() {
    let cases = [
        ("", "payload is empty"),
        (" \n", "payload is empty"),
        ("abc", "not JSON: expected value at column 1"),
        ("21,5", "not JSON: trailing characters at column 3"),
        ("01", "not JSON"),
        ("+1", "not JSON"),
        (".5", "not JSON"),
        ("1.", "not JSON"),
        ("NaN", "NaN and infinities are not allowed, at column 1"),
        ("-Infinity", "NaN and infinities are not allowed"),
        (r#"{"value": NaN}"#, "NaN and infinities are not allowed"),
        ("1e999", "number out of range"),
        ("true", "found a truth value: allowed are a number"),
        (r#""21""#, "found text: allowed are a number"),
        ("null", "found null"),
        ("[[1]]", "element 1: found an array"),
        ("{}", "key \"value\" is missing: keys are value, ts, unit, id, quality, priority and attributes"),
        (r#"{"value": null}"#, "key \"value\" is null: allowed are a number, text"),
        (r#"{"value": 1, "value": 2}"#, "key \"value\" stands twice"),
        (r#"{"value": 1, "temp": 2}"#, "key \"temp\" is unknown: allowed are value, ts"),
        (r#"{"value": 1, "device": "x"}"#, "key \"device\" is unknown"),
        (r#"{"value": 1, "ts": "yesterday"}"#, "key \"ts\" is \"yesterday\": allowed are an RFC 3339 time"),
        (r#"{"value": 1, "ts": 253402300800000}"#, "key \"ts\" is 253402300800000"),
        (r#"{"value": 1, "ts": -1e300}"#, "key \"ts\""),
        (r#"{"value": 1, "ts": true}"#, "key \"ts\" is a truth value"),
        (r#"{"value": 1, "quality": "fine"}"#, "key \"quality\" is \"fine\": allowed are good, uncertain and bad"),
        (r#"{"value": 1, "priority": "high"}"#, "allowed are critical, normal and bulk"),
        (r#"{"value": 1, "priority": 1}"#, "key \"priority\" is a number"),
        (r#"{"value": 1, "id": 5}"#, "key \"id\" is a number: allowed are text of 1 to 256 bytes"),
        (r#"{"value": 1, "id": ""}"#, "key \"id\" is text of 0 bytes"),
        (r#"{"value": []}"#, "key \"value\" is an array of 0"),
        (r#"{"value": [1, "a"]}"#, "key \"value\" is an array with text: allowed are numbers"),
        (r#"{"value": {}}"#, "key \"value\" is an object of 0 numbers"),
        (r#"{"value": {"x": "a"}}"#, "key \"value.x\" is text: allowed are a number"),
        (r#"{"value": {"x": 1, "x": 1}}"#, "key \"value.x\" stands twice"),
        (r#"{"value": {"": 1}}"#, "field is empty"),
        (r#"{"value": 1, "attributes": []}"#, "key \"attributes\" is an array"),
        (r#"{"value": 1, "attributes": {"a": []}}"#, "key \"attributes.a\" is an array"),
        (r#"{"value": 1, "attributes": {"a": "x", "a": "y"}}"#, "key \"attributes.a\" stands twice"),
    ];
    for (payload, expected) in cases {
        let error = refusal(payload);
        assert!(error.contains(expected), "{payload}: {error}");
    }
    let long = |key: &str, len: usize| refusal(&format!(r#"{{"value": 1, "{key}": "{}"}}"#, "x".repeat(len)));
    assert!(long("unit", 33).contains("text of 1 to 32 bytes"));
    assert!(long("id", 257).contains("text of 257 bytes"));
    assert!(refusal(&format!(r#"{{"value": "{}"}}"#, "x".repeat(65_537))).contains("65536 bytes"));
    let attributes: Vec<_> = (0..33).map(|i| format!(r#""a{i}": "x""#)).collect();
    let error = refusal(&format!(r#"{{"value": 1, "attributes": {{{}}}}}"#, attributes.join(",")));
    assert!(error.contains("at most 32"), "{error}");
    let error = refusal(&"[".repeat(1_000));
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn null_stands_for_absent_and_labels_may_be_scalars() {
    let payload = r#"{"value": 1, "ts": null, "unit": null, "id": null, "quality": null, "priority": null,
        "attributes": {"n": 5, "f": 1.5, "b": true, "x": null}}"#;
    let event = event(payload);
    assert_eq!(event.device_time_ms, NOW_MS);
    assert_eq!(event.attributes, [("n".into(), "5".into()), ("f".into(), "1.5".into()), ("b".into(), "true".into())]);
    assert_eq!(self::event(r#"{"value": 1, "attributes": null}"#).attributes, []);
}

#[test]
fn ndjson_names_each_bad_line_and_keeps_the_good_ones() {
    let body = b"{\"device\":\"a\",\"stream\":\"t\",\"value\":1}\r\n\nnonsense\n{\"device\":\"a\",\"value\":1}\n5\n\
        {\"stream\":\"t\",\"device\":\"b\",\"value\":2,\"unit\":null}";
    let request = read_ndjson(body, NOW_MS);
    let devices: Vec<_> = request.events.iter().map(|(event, _)| event.device.as_str()).collect();
    assert_eq!(devices, ["a", "b"]);
    let lines: Vec<_> = request.rejected.iter().map(|rejected| rejected.line).collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(request.rejected_total, 3);
    assert!(request.rejected[1].reason.contains("\"stream\" is missing"), "{:?}", request.rejected);
    assert!(request.rejected[2].reason.contains("allowed are objects"), "{:?}", request.rejected);
    let bad = read_ndjson("x\n".repeat(REJECTED_MAX + 5).as_bytes(), NOW_MS);
    assert_eq!((bad.rejected.len(), bad.rejected_total), (REJECTED_MAX, REJECTED_MAX + 5));
}

#[test]
fn json_bodies_are_an_object_or_an_array_of_objects() {
    let one = read_json(br#"{"device": "a", "stream": "t", "value": 1}"#, NOW_MS);
    assert_eq!((one.events.len(), one.rejected_total), (1, 0));
    let some =
        read_json(br#"[{"device": "a", "stream": "t", "value": 1}, {"device": "", "stream": "t", "value": 1}]"#, 0);
    assert_eq!(some.events.len(), 1);
    assert_eq!(some.rejected, [Rejected { line: 2, reason: "device is empty: allowed are 1 to 256 bytes".into() }]);
    for body in ["", "5", "[", "[5]"] {
        assert_eq!(read_json(body.as_bytes(), NOW_MS).rejected.len(), 1, "{body}");
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-100_000_i64..100_000).prop_map(|n| n.to_string()),
        (any::<i32>(), 1..1_000_000_u32).prop_map(|(a, b)| format!("{a}.{b}")),
        proptest::num::f64::NORMAL.prop_map(|n| format!("{n:e}")),
        proptest::num::f64::ANY.prop_map(|n| n.to_string()),
        "-?[0-9]{1,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
    ]
}

fn json() -> impl Strategy<Value = String> {
    let text = || "\"([a-zäé° ]|\\\\n|\\\\u00e4|\\\\){0,12}\"";
    let object = |inner: BoxedStrategy<String>| {
        vec(("\"[a-z]{0,3}\"", inner), 0..4).prop_map(|members| {
            let members: Vec<_> = members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", members.join(","))
        })
    };
    prop_oneof![
        number(),
        text(),
        "true|false|null",
        vec(number(), 0..5).prop_map(|list| format!("[{}]", list.join(", "))),
        object(number().boxed()),
        object(text().boxed()),
    ]
}

fn member() -> impl Strategy<Value = String> {
    let fitting = prop_oneof![
        json().prop_map(|json| format!("\"value\":{json}")),
        number().prop_map(|n| format!("\"value\" : {n}")),
        "\"ts\":(17723664[0-9]{5}|\"20[0-9]{2}-0[1-9]-[0-3][0-9]T[0-2][0-9]:00:00(\\.[0-9]{1,6})?Z\")",
        "\"unit\":\"(°C|bar|m/s)\"",
        "\"id\":\"[a-f0-9-]{0,40}\"",
        "\"quality\":\"(good|uncertain|bad)\"",
        "\"priority\": \"(critical|normal|bulk)\"",
        "\"attributes\":\\{(\"[a-c]\":\"[a-z]{0,3}\")?\\}",
        "\"(device|stream)\":\"[a-z]{0,5}\"",
    ];
    let any_key = prop_oneof![
        Just("value"),
        Just("ts"),
        Just("unit"),
        Just("id"),
        Just("quality"),
        Just("priority"),
        Just("attributes"),
        Just("device"),
        Just("other")
    ];
    prop_oneof![4 => fitting, 1 => (any_key, json()).prop_map(|(key, json)| format!("\"{key}\": {json}"))]
}

fn payload() -> impl Strategy<Value = String> {
    let object = || vec(member(), 0..7).prop_map(|members| format!("{{{}}}", members.join(", ")));
    prop_oneof![
        number(),
        object(),
        vec(prop_oneof![number(), object()], 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        json()
    ]
}

proptest! {
    #[test]
    fn the_fast_reader_agrees_with_the_complete_one(payload in payload(), at: prop::sample::Index, byte: u8) {
        for scope in [Scope::Topic, Scope::Whole] {
            readers_agree(payload.as_bytes(), scope);
            let mut damaged = payload.clone().into_bytes();
            if !damaged.is_empty() {
                let at = at.index(damaged.len());
                damaged[at] = byte;
                readers_agree(&damaged, scope);
                readers_agree(&damaged[..at], scope);
            }
        }
    }

    #[test]
    fn ordinary_payloads_take_the_fast_reader(value in -1e9..1e9_f64, ts in 0..TIME_MAX_MS, id in "[0-9a-f]{32}") {
        prop_assert!(readers_agree(value.to_string().as_bytes(), Scope::Topic));
        let object = format!(
            r#"{{"value": {value}, "ts": {ts}, "unit": "°C", "id": "{id}", "quality": "good", "priority": "bulk", "attributes": {{"a": "b"}}}}"#
        );
        prop_assert!(readers_agree(object.as_bytes(), Scope::Topic));
        let vector = format!(r#"[{object}, {{"value":[{value},1,2]}}, {{"value":{{"x":{value}}}}}, 5]"#);
        prop_assert!(readers_agree(vector.as_bytes(), Scope::Topic));
        let whole = format!(r#"{{"device":"d","stream":"s","value":{value}}}"#);
        prop_assert!(readers_agree(whole.as_bytes(), Scope::Whole));
    }

    #[test]
    fn hostile_payloads_never_panic(bytes in vec(any::<u8>(), 0..60), text in "[\\[\\]{}\":,0-9eE.+-]{0,40}") {
        for payload in [bytes.as_slice(), text.as_bytes()] {
            readers_agree(payload, Scope::Topic);
            readers_agree(payload, Scope::Whole);
            read_json(payload, 0);
            read_ndjson(payload, 0);
            let name = Name::from("n");
            let _ = read(payload, &name, &name, 0, &mut NameMemo::default(), |_, _| {});
        }
    }
}

#[test]
fn the_memo_shares_names_and_stays_small() {
    let mut memo = NameMemo::default();
    let first = memo.name("bar");
    assert!(std::ptr::eq(first.as_str(), memo.name("bar").as_str()));
    for i in 0..100 {
        memo.name(&format!("unit-{i}"));
    }
    assert_eq!(memo.name("bar"), first);
    assert!(!std::ptr::eq(first.as_str(), memo.name("bar").as_str()), "pushed out by newer ones");
}
