//! What conditions mean.

use super::*;
use crate::{Comparison, Operator};
use Truth::{False, True, Unknown};
use grey_model::{Name, Quality, Value};

#[test]
fn the_documents_condition() {
    let expr = compiled("temperature > 85°C");
    assert_eq!(names(&expr), ["temperature"]);
    assert_eq!(expr.unit_of(0), Some("°C"));
    assert_eq!(expr.as_comparison(), Some(Comparison { slot: 0, operator: Operator::Greater, limit: 85.0 }));
    assert!(!expr.needs_event());
    assert_eq!(expr.explain(), "temperature is above 85 °C");
    assert_eq!(eval(&expr, &[85.1], &event()), True);
    assert_eq!(eval(&expr, &[85.0], &event()), False);
    assert_eq!(eval(&expr, &[f64::NAN], &event()), Unknown);
    assert_eq!(eval(&expr, &[], &event()), Unknown);
}

#[test]
fn spacing_signs_and_exponents_of_the_simple_form() {
    for (text, stream, sign, limit, unit) in [
        ("t>85", "t", ">", 85.0, None),
        (" line-1/pressure  <=  -1.5 bar ", "line-1/pressure", "<=", -1.5, Some("bar")),
        ("state == 1", "state", "==", 1.0, None),
        ("x != .5%", "x", "!=", 0.5, Some("%")),
        ("x >= 1e3 V", "x", ">=", 1000.0, Some("V")),
        ("x < +2E-2", "x", "<", 0.02, None),
        ("température > 85 °C", "température", ">", 85.0, Some("°C")),
        ("a-b > 3", "a-b", ">", 3.0, None),
        ("a.b-c > -3e2 mm/s²", "a.b-c", ">", -300.0, Some("mm/s²")),
        ("vibration.velocity_rms > 7.1 mm/s", "vibration.velocity_rms", ">", 7.1, Some("mm/s")),
        ("loop > 1", "loop", ">", 1.0, None),
        ("85 < t", "t", ">", 85.0, None),
        ("stream(\"line-1/p\") > 2", "line-1/p", ">", 2.0, None),
        ("`line 1` > 2 bar", "line 1", ">", 2.0, Some("bar")),
        ("r > 7.1mm/s // a comment", "r", ">", 7.1, Some("mm/s")),
        ("(x) > (5 - 2) * 2", "x", ">", 6.0, None),
    ] {
        let expr = compiled(text);
        let comparison = expr.as_comparison().unwrap_or_else(|| panic!("{text}: {expr:?}"));
        assert_eq!(names(&expr), [stream], "{text}");
        let found = (comparison.operator.as_str(), comparison.limit, expr.unit_of(0));
        assert_eq!(found, (sign, limit, unit), "{text}");
    }
}

#[test]
fn a_name_with_a_minus_is_one_stream_unless_the_schema_knows_its_parts() {
    let streams = |all: &[&str]| Schema {
        streams: Some(all.iter().map(|name| ((*name).to_owned(), None)).collect()),
        ..Schema::default()
    };
    let names_in = |text, schema: &Schema| -> Vec<String> {
        Expr::compile(text, schema).unwrap().streams().iter().map(|n| n.as_str().into()).collect()
    };
    assert_eq!(names_in("a-b > 3", &Schema::default()), ["a-b"]);
    assert_eq!(names_in("a-b > 3", &streams(&["a", "b"])), ["a", "b"]);
    assert_eq!(names_in("a-b > 3", &streams(&["a", "b", "a-b"])), ["a-b"]);
    assert_eq!(names_in("a - b > 3", &Schema::default()), ["a", "b"]);
    assert_eq!(names_in("a-b > 3 && c > 1", &Schema::default()), ["a", "b", "c"]);
    assert_eq!(names_in("-a > 3", &Schema::default()), ["a"]);
    assert_eq!(names_in("2-a > 3", &Schema::default()), ["a"]);
    assert_eq!(names_in("3d-scan > 3", &streams(&["3d-scan"])), ["3d-scan"]);
    assert_eq!(error("a-c > 3", &streams(&["a", "b"])).problem, "the stream \"a-c\" is unknown");
}

#[test]
fn precedence_and_arithmetic_are_those_of_cel() {
    let none = event();
    for (text, truth) in [
        ("1 + 2 * 3 == 7", True),
        ("(1 + 2) * 3 == 9", True),
        ("10 - 4 - 3 == 3", True),
        ("7 % 4 == 3", True),
        ("x % 4 == 2", True),
        ("-2 * -3 == 6", True),
        ("true || false && false", True),
        ("!(1 < 2) || 2 < 3", True),
        ("!!true", True),
        ("1 < 2 ? 2 < 1 : true", False),
        ("abs(-3) + min(1, 2) + max(1, 2, 3) == 7", True),
        ("sqrt(16) == 4 && round(2.5) == 3 && floor(2.9) == 2 && ceil(2.1) == 3", True),
        ("x in [1, 6, 3]", True),
        ("x in [1, 2]", False),
        ("(x > 5) == true", True),
        ("(x > 5) != (y > 5)", True),
        ("x == true", False),
        ("max(x, y) == 6", True),
        ("(x > y ? x : y) == 6", True),
        ("delta(x) == 1 && previous(x) == 5 && age(x) == 60", True),
        ("age(x) >= 1 min", True),
        ("x in [5 in, 6 in]", True),
        ("10 % < 11 %", True),
    ] {
        let expr = compiled(text);
        let values: Vec<f64> = expr.streams().iter().map(|n| if n.as_str() == "x" { 6.0 } else { 2.0 }).collect();
        assert_eq!(eval(&expr, &values, &none), truth, "{text}");
    }
}

#[test]
fn what_is_not_known_is_neither_true_nor_false() {
    let none = event();
    for (text, truth) in [
        ("gone > 1", Unknown),
        ("!(gone > 1)", Unknown),
        ("gone > 1 && x > 5", Unknown),
        ("gone > 1 && x > 9", False),
        ("x > 9 && gone > 1", False),
        ("gone > 1 || x > 5", True),
        ("x > 5 || gone > 1", True),
        ("gone > 1 || x > 9", Unknown),
        ("gone > 1 ? x > 5 : x > 5", Unknown),
        ("x / (x - 6) > 1", Unknown),
        ("sqrt(x - 7) > 1", Unknown),
        ("x * 1e308 * 1e308 > 1", Unknown),
        ("max(x, gone) > 1", Unknown),
        ("gone in [1]", Unknown),
        ("attributes.line == \"1\"", Unknown),
        ("attributes.line != \"1\"", Unknown),
        ("has(attributes.line)", False),
        ("\"line\" in attributes", False),
        ("has(gone.avg)", False),
        ("unit == \"bar\"", Unknown),
        ("double(attributes.line) > 1", Unknown),
        ("value == \"on\"", Unknown),
        ("value.avg > 1", Unknown),
        ("value", Unknown),
    ] {
        let expr = compiled(text);
        let values: Vec<f64> = expr.streams().iter().map(|n| if n.as_str() == "x" { 6.0 } else { f64::NAN }).collect();
        assert_eq!(eval(&expr, &values, &none), truth, "{text}");
    }
    // One value only: there is no previous one.
    let slots = [Slot { value: 3.0, previous: 0.0, time_ms: 0, seen: 1 }];
    let inputs = Inputs { slots: &slots, event: &none, site: "s", now_ms: 5_000 };
    assert_eq!(compiled("previous(x) > 1").eval(&inputs), Unknown);
    assert_eq!(compiled("delta(x) > 1").eval(&inputs), Unknown);
    assert_eq!(compiled("age(x) == 5").eval(&inputs), True);
}

#[test]
fn the_event_at_hand() {
    let mut event = event();
    event.quality = Quality::Bad;
    event.attributes = vec![("line".into(), "12".into()), ("größe".into(), "L".into())];
    event.unit = Some("°F".into());
    for (text, truth) in [
        ("device.startsWith(\"press-\")", True),
        ("device.startsWith('test-')", False),
        ("device.endsWith(\"-7\") && device.contains(\"ess\")", True),
        ("device in [\"press-7\", 'press-8']", True),
        ("stream == \"temperature\"", True),
        ("site != 'plant-1'", False),
        ("quality == 'bad'", True),
        ("kind == \"reading\"", True),
        ("unit == \"°F\"", True),
        ("unit == r'°F'", True),
        ("attributes.line == '12'", True),
        ("attributes[\"größe\"] == \"L\"", True),
        ("tags.line == \"12\"", True),
        ("has(attributes.line) && has(tags.line)", True),
        ("\"line\" in attributes", True),
        ("double(attributes.line) > 11", True),
        ("device.size() == 7 && size(attributes[\"größe\"]) == 1", True),
        ("value == 86.5", True),
        ("value > 30°C", True),
        ("value > 31°C", False),
        ("value > 86.4°F", True),
        ("value > 2 bar", Unknown),
        ("device == \"a\\\"b\" || device == \"press\\x2d7\"", True),
        ("\"a\" < \"b\" && device >= \"press-7\"", True),
    ] {
        let expr = compiled(text);
        assert!(expr.needs_event() || text.starts_with("\"a\" <"), "{text}");
        assert!(expr.as_comparison().is_none());
        assert_eq!(eval(&expr, &[], &event), truth, "{text}");
    }
}

#[test]
fn the_events_value_is_of_any_type() {
    let mut event = event();
    event.value = Value::Text("open".into());
    assert_eq!(eval(&compiled("value == \"open\""), &[], &event), True);
    assert_eq!(eval(&compiled("\"shut\" == value"), &[], &event), False);
    assert_eq!(eval(&compiled("value in [\"open\", \"ajar\"]"), &[], &event), True);
    assert_eq!(eval(&compiled("value.startsWith(\"op\")"), &[], &event), True);
    assert_eq!(eval(&compiled("value > 1"), &[], &event), Unknown);
    event.value = Value::Bool(true);
    assert_eq!(eval(&compiled("value"), &[], &event), True);
    assert_eq!(eval(&compiled("value == false"), &[], &event), False);
    assert_eq!(eval(&compiled("value == 1"), &[], &event), True);
    event.value = Value::Fields([(Name::from("avg"), 3.5)].into());
    assert_eq!(eval(&compiled("value.avg > 3"), &[], &event), True);
    assert_eq!(eval(&compiled("value[\"avg\"] > 4"), &[], &event), False);
}

#[test]
fn conditions_in_words() {
    for (text, words) in [
        ("temperature > 85°C && pressure < 2 bar", "temperature is above 85 °C and pressure is below 2 bar"),
        (
            "temperature > 85°C && (pressure < 2 bar || device.startsWith(\"press-\"))",
            "temperature is above 85 °C and (pressure is below 2 bar or device starts with \"press-\")",
        ),
        ("line-1/pressure <= -1.5 bar", "line-1/pressure is at most -1.5 bar"),
        ("quality == 'bad'", "the quality is \"bad\""),
        ("!(a > 1) || b in [1, 2]", "not (a is above 1) or b is one of 1, 2"),
        ("delta(t) > 5 K && age(t) < 10 s", "the change of t is above 5 K and the time since t is below 10 s"),
        (
            "has(attributes.line) ? a >= 1 : b != 2",
            "if attribute line is there then (a is at least 1), otherwise (b is not 2)",
        ),
        ("(a + b) / 2 > 3", "(a + b) / 2 is above 3"),
        ("value > 3 && attributes.line == '1'", "the value is above 3 and attribute line is \"1\""),
    ] {
        assert_eq!(compiled(text).explain(), words, "{text}");
    }
}

#[test]
fn a_condition_is_cheap_to_clone_and_keeps_its_text() {
    let expr = compiled("  a > 1\t&& b > 2 ");
    let clone = expr.clone();
    assert_eq!((clone.text(), names(&clone)), (expr.text(), vec!["a", "b"]));
    assert_eq!(expr.text(), "a > 1\t&& b > 2");
    assert_eq!(names(&expr), ["a", "b"]);
    assert_eq!(expr.unit_of(7), None);
}
