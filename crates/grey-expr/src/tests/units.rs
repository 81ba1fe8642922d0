//! Which unit a stream is wanted in, and what constants become in it.

use super::*;

fn limit(text: &str, schema: &Schema) -> (Option<String>, f64) {
    let expr = Expr::compile(text, schema).unwrap_or_else(|e| panic!("{text}: {e}"));
    let comparison = expr.as_comparison().unwrap_or_else(|| panic!("{text}: {expr:?}"));
    (expr.unit_of(comparison.slot).map(String::from), comparison.limit)
}

fn units(expr: &Expr) -> Vec<Option<&str>> {
    (0..expr.streams().len()).map(|slot| expr.unit_of(slot)).collect()
}

#[test]
fn a_quantity_is_converted_to_the_schemas_unit() {
    for (text, unit, value) in [
        ("temperature > 185 °F", "°C", 85.0),
        ("temperature > 85", "°C", 85.0),
        ("temperature > -40°F", "°C", -40.0),
        ("-40 °F < temperature", "°C", -40.0),
        ("pressure > 200 kPa", "bar", 2.0),
        ("flow < 100 L/min", "m³/h", 6.0),
        ("vibration.velocity_rms > 0.0075 m/s", "mm/s", 7.5),
        ("temperature.avg > 185 °F", "°C", 85.0),
    ] {
        assert_eq!(limit(text, &plant()), (Some(unit.into()), value), "{text}");
    }
}

#[test]
fn without_a_schema_the_first_quantity_gives_the_unit() {
    let expr = compiled("t > 85°C || t < 14 °F || t == 3");
    assert_eq!(units(&expr), [Some("°C")]);
    assert_eq!(eval(&expr, &[-10.5], &event()), Truth::True);
    assert_eq!(eval(&expr, &[-9.5], &event()), Truth::False);
    assert_eq!(units(&compiled("a > b")), [None, None]);
    // The unit spreads along comparisons of streams.
    assert_eq!(units(&compiled("a > b && b > c && c < 3 bar")), [Some("bar"), Some("bar"), Some("bar")]);
    assert_eq!(units(&compiled("max(a, b) > 3 bar && c > 1")), [Some("bar"), Some("bar"), None]);
    assert_eq!(units(&compiled("delta(t) > 5 K && t > 85°C")), [Some("°C")]);
    assert_eq!(units(&compiled("a * 2 > 3 bar && b / 4 < 1 psi && -c > 2 V")), [Some("bar"), Some("psi"), Some("V")]);
    assert_eq!(units(&compiled("a in [1 bar, 2 bar]")), [Some("bar")]);
    assert_eq!(units(&compiled("(a > 1 ? b : c) > 1 V")), [None, Some("V"), Some("V")]);
}

#[test]
fn streams_of_different_units_are_converted_to_each_other() {
    // ambient comes in °F: 50 °F are 10 °C.
    let expr = planted("temperature > ambient");
    assert_eq!(units(&expr), [Some("°C"), Some("°F")]);
    assert_eq!(eval(&expr, &[10.1, 50.0], &event()), Truth::True);
    assert_eq!(eval(&expr, &[9.9, 50.0], &event()), Truth::False);
    let expr = planted("pressure / `line-1/pressure` > 2");
    assert_eq!(eval(&expr, &[4.2, 2.0], &event()), Truth::True);
}

#[test]
fn a_difference_of_temperatures_is_no_temperature() {
    for (text, values, truth) in [
        ("temperature - ambient > 5 K", [15.5, 50.0], Truth::True),
        ("temperature - ambient > 5 K", [14.5, 50.0], Truth::False),
        ("temperature - ambient > 9 °F", [15.5, 50.0], Truth::True),
        ("temperature - ambient > 9 °F", [14.5, 50.0], Truth::False),
        // A constant is a shift.
        ("temperature - 5 K > ambient", [15.5, 50.0], Truth::True),
        ("temperature - 5 K > ambient", [14.5, 50.0], Truth::False),
        ("9 °F + ambient < temperature", [50.0, 15.5], Truth::True),
        ("9 °F + ambient < temperature", [50.0, 14.5], Truth::False),
    ] {
        assert_eq!(eval(&planted(text), &values, &event()), truth, "{text}");
    }
    let change = planted("delta(temperature) >= 1.8 °F");
    assert_eq!(eval(&change, &[20.0], &event()), Truth::True);
    let change = planted("abs(delta(temperature)) > 1 K");
    assert_eq!(eval(&change, &[20.0], &event()), Truth::False);
}

#[test]
fn units_are_told_from_operators_and_streams() {
    let expr = compiled("x > 10 m/s && y > 3 m / s");
    assert_eq!(names(&expr), ["x", "y", "s"]);
    assert_eq!(expr.unit_of(0), Some("m/s"));
    assert_eq!(names(&compiled("x > 10 m/speed")), ["x", "speed"]);
    assert_eq!(compiled("x > 50 % && y > 1").unit_of(0), Some("%"));
    assert_eq!(compiled("x > 50%").unit_of(0), Some("%"));
    assert_eq!(compiled("(x > 50%)").unit_of(0), Some("%"));
    assert_eq!(compiled("x > 7 % 4").as_comparison().map(|c| c.limit), Some(3.0));
    assert_eq!(compiled("x > 21℃").unit_of(0), Some("℃"));
    assert_eq!(compiled("x > 2\u{a0}kΩ").unit_of(0), Some("kΩ"));
    assert_eq!(compiled("x > 6 m3/h && x < 2 m^3/h").unit_of(0), Some("m3/h"));
    assert_eq!(limit("x > 2 bar * 3", &Schema::default()), (Some("bar".into()), 6.0));
}
