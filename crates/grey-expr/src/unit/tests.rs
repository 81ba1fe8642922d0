//! Conversions that are known from elsewhere, and what is no unit.

use super::*;

fn convert(value: f64, from: &str, to: &str) -> Option<f64> {
    Some(Unit::parse(from)?.conversion_to(Unit::parse(to)?)?.apply(value))
}

#[test]
fn temperatures_and_prefixes_convert() {
    assert_eq!(convert(185.0, "°F", "°C"), Some(85.0));
    assert_eq!(convert(85.0, "degC", "F"), Some(185.0));
    assert_eq!(convert(358.15, "K", "°C").map(|v| (v * 1e6).round()), Some(85e6));
    assert_eq!(convert(85_000.0, "mV", "V"), Some(85.0));
    assert_eq!(convert(1.5, "kW", "W"), Some(1500.0));
    assert_eq!(convert(7.5, "mm/s", "m/s"), Some(0.0075));
    assert_eq!(convert(2.0, "h", "min"), Some(120.0));
    assert_eq!(convert(3.0, "kohm", "Ω"), Some(3000.0));
    assert_eq!(convert(1013.25, "hPa", "Pa"), Some(101_325.0));
    assert_eq!(convert(50.0, "%", "%"), Some(50.0));
}

#[test]
fn units_of_industry_convert_exactly_where_they_are_exact() {
    for (value, from, to, expected) in [
        (1.0, "bar", "kPa", 100.0),
        (1013.25, "mbar", "hPa", 1013.25),
        (2.0, "bar", "MPa", 0.2),
        (1.0, "m/s^2", "m/s²", 1.0),
        (1.0, "g", "m/s2", 9.80665),
        (9.80665, "m/s²", "g", 1.0),
        (500.0, "mg", "m/s²", 4.903325),
        (1.0, "kg", "g", 1000.0),
        (1.0, "lb", "g", 453.59237),
        (36.0, "km/h", "m/s", 10.0),
        (1.0, "mph", "m/s", 0.44704),
        (6.0, "m3/h", "L/min", 100.0),
        (100.0, "l/min", "m³/h", 6.0),
        (1.0, "gpm", "L/min", 3.785411784),
        (1.0, "kWh", "J", 3.6e6),
        (3000.0, "rpm", "Hz", 50.0),
        (1.0, "in", "mm", 25.4),
        (10.0, "ft", "m", 3.048),
        (180.0, "°", "rad", std::f64::consts::PI),
        (0.5, "%", "ppm", 5000.0),
        (1.0, "mL/min", "L/min", 0.001),
        (5.0, "µS/cm", "S/m", 0.0005),
        (2.0, "mg/L", "g/m³", 2.0),
        (1.0, "kB", "bit", 8000.0),
        (7.1, "mm/s", "mm/s", 7.1),
    ] {
        assert_eq!(convert(value, from, to), Some(expected), "{value} {from} in {to}");
    }
    let psi = convert(1.0, "psi", "Pa").unwrap();
    assert!((psi - 6_894.757_293_168_361).abs() < 1e-9, "{psi}");
    let hp = convert(1.0, "hp", "W").unwrap();
    assert!((hp - 745.699_871_582_270_2).abs() < 1e-9, "{hp}");
}

#[test]
fn a_difference_has_no_offset() {
    let conversion = |from, to| Unit::parse(from).unwrap().conversion_to(Unit::parse(to).unwrap()).unwrap();
    assert_eq!(conversion("K", "°C").of_difference().apply(5.0), 5.0);
    assert_eq!(conversion("K", "°F").of_difference().apply(5.0), 9.0);
    assert_eq!(conversion("°F", "°C").of_difference().apply(9.0), 5.0);
    assert_eq!(conversion("bar", "kPa").of_difference().apply(1.0), 100.0);
}

#[test]
fn different_things_do_not_compare() {
    for (from, to) in [("V", "A"), ("%", "°C"), ("Nm", "J"), ("g", "bar"), ("kg", "m/s²"), ("dB", "dBm"), ("W", "VA")]
    {
        assert_eq!(convert(1.0, from, to), None, "{from} {to}");
        assert_eq!(convert(1.0, to, from), None, "{to} {from}");
    }
    for unknown in
        ["bananas", "", "k", "mm²x", "kk", "k°C", "mK%", "kpsi", "m/s22", "^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^2"]
    {
        assert_eq!(Unit::parse(unknown), None, "{unknown}");
    }
    assert_eq!(Unit::parse("min").unwrap().dimension(), "time");
    assert_eq!(Unit::parse("mm").unwrap().dimension(), "length");
    assert_eq!(Unit::parse("dB").unwrap().dimension(), "level (dB)");
}

#[test]
fn every_unit_and_alias_is_found_and_converts_to_itself() {
    for (symbol, dimension, ..) in UNITS {
        let unit = Unit::parse(symbol).unwrap_or_else(|| panic!("{symbol}"));
        assert_eq!(unit.dimension(), *dimension, "{symbol}");
        assert_eq!(unit.conversion_to(unit), Some(Conversion::Same), "{symbol}");
        assert_eq!(UNITS.iter().filter(|u| u.0 == *symbol).count(), 1, "{symbol} stands twice");
    }
    for (alias, name) in ALIASES {
        assert_eq!(Unit::parse(alias), Unit::parse(name), "{alias}");
        assert!(Unit::parse(alias).is_some(), "{alias}");
    }
}

#[test]
fn misspelt_units_are_suggested() {
    assert_eq!(Unit::nearest("Bar"), Some("bar"));
    assert_eq!(Unit::nearest("KW"), Some("kW"));
    assert_eq!(Unit::nearest("bananas"), None);
}

proptest::proptest! {
    #[test]
    fn hostile_units_never_panic(text in ".{0,60}", near in "[mk°CFsh/²23^·.%]{0,40}") {
        let _ = (Unit::parse(&text), Unit::parse(&near), Unit::nearest(&text));
    }
}
