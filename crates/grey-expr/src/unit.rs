//! Units of measurement: which are known, and conversion within a dimension.
//!
//! Temperatures convert between °C, °F and K; other units between their SI
//! prefixes. A unit that is known but has no prefixes (`%`, `rpm`) compares
//! with itself only.

/// A unit, resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// What is measured; units of different dimensions do not convert.
    dimension: &'static str,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Celsius,
    Fahrenheit,
    Kelvin,
    /// One unit is `numerator / denominator` of the dimension's base, both exact powers of ten (or 60s).
    Ratio(f64, f64),
}

/// Units that take SI prefixes.
const PREFIXED: [&str; 30] = [
    "V", "A", "W", "Wh", "VA", "var", "Ah", "Hz", "Pa", "bar", "J", "N", "Nm", "Ω", "ohm", "m", "g", "s", "m/s",
    "m/s²", "m/s^2", "L", "l", "lx", "lm", "T", "S", "mol", "B", "bit/s",
];

/// Units that stand for themselves only.
const PLAIN: [&str; 24] = [
    "%", "rpm", "ppm", "ppb", "dB", "dBA", "dBm", "pH", "psi", "in", "ft", "mph", "km/h", "L/min", "l/min", "m³/h",
    "m3/h", "°", "deg", "rad", "count", "pcs", "kn", "NTU",
];

/// Two spellings of one dimension.
const SAME: [(&str, &str); 3] = [("ohm", "Ω"), ("m/s^2", "m/s²"), ("l", "L")];

const PREFIXES: [(&str, f64, f64); 10] = [
    ("n", 1.0, 1e9),
    ("µ", 1.0, 1e6),
    ("μ", 1.0, 1e6),
    ("u", 1.0, 1e6),
    ("m", 1.0, 1e3),
    ("c", 1.0, 1e2),
    ("h", 1e2, 1.0),
    ("k", 1e3, 1.0),
    ("M", 1e6, 1.0),
    ("G", 1e9, 1.0),
];

impl Unit {
    /// The unit of a text, if it is known.
    pub fn parse(text: &str) -> Option<Self> {
        let temperature = |scale| Some(Self { dimension: "temperature", scale });
        match text {
            "°C" | "ºC" | "℃" | "C" | "degC" | "Cel" | "celsius" => return temperature(Scale::Celsius),
            "°F" | "ºF" | "℉" | "F" | "degF" | "fahrenheit" => return temperature(Scale::Fahrenheit),
            "K" | "kelvin" => return temperature(Scale::Kelvin),
            "min" => return Some(Self { dimension: "s", scale: Scale::Ratio(60.0, 1.0) }),
            "h" => return Some(Self { dimension: "s", scale: Scale::Ratio(3600.0, 1.0) }),
            _ => {}
        }
        if let Some(plain) = PLAIN.iter().find(|u| **u == text) {
            return Some(Self { dimension: plain, scale: Scale::Ratio(1.0, 1.0) });
        }
        let base = |symbol: &str| {
            let known = PREFIXED.iter().find(|u| **u == symbol)?;
            Some(SAME.iter().find(|(other, _)| other == known).map_or(*known, |(_, name)| name))
        };
        if let Some(dimension) = base(text) {
            return Some(Self { dimension, scale: Scale::Ratio(1.0, 1.0) });
        }
        PREFIXES.iter().find_map(|(prefix, numerator, denominator)| {
            let dimension = base(text.strip_prefix(prefix)?)?;
            Some(Self { dimension, scale: Scale::Ratio(*numerator, *denominator) })
        })
    }

    /// How a value in this unit becomes one in `other`; `None` when they measure different things.
    pub fn conversion_to(self, other: Self) -> Option<Conversion> {
        if self.dimension != other.dimension {
            return None;
        }
        if self.scale == other.scale {
            return Some(Conversion::Same);
        }
        Some(match (self.scale, other.scale) {
            (Scale::Ratio(an, ad), Scale::Ratio(bn, bd)) => {
                // Multiplying before dividing keeps round numbers round.
                Conversion::Ratio(an * bd, ad * bn)
            }
            (from, to) => {
                Conversion::Temperature(from.is_fahrenheit(), from.is_kelvin(), to.is_fahrenheit(), to.is_kelvin())
            }
        })
    }
}

impl Scale {
    fn is_fahrenheit(self) -> bool {
        self == Self::Fahrenheit
    }

    fn is_kelvin(self) -> bool {
        self == Self::Kelvin
    }
}

/// A conversion between two units of one dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Conversion {
    /// The value is the same in both.
    Same,
    /// Times the first, divided by the second.
    Ratio(f64, f64),
    /// Temperatures: from °F, from K, to °F, to K.
    Temperature(bool, bool, bool, bool),
}

impl Conversion {
    /// The value in the other unit.
    pub fn apply(self, value: f64) -> f64 {
        match self {
            Self::Same => value,
            Self::Ratio(numerator, denominator) => value * numerator / denominator,
            Self::Temperature(from_f, from_k, to_f, to_k) => {
                let celsius = if from_f {
                    (value - 32.0) * 5.0 / 9.0
                } else if from_k {
                    value - 273.15
                } else {
                    value
                };
                if to_f {
                    celsius * 9.0 / 5.0 + 32.0
                } else if to_k {
                    celsius + 273.15
                } else {
                    celsius
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(convert(1.0, "bar", "hPa"), None, "bar and Pa are not related here");
        assert_eq!(convert(1013.25, "hPa", "Pa"), Some(101_325.0));
        assert_eq!(convert(50.0, "%", "%"), Some(50.0));
    }

    #[test]
    fn different_things_do_not_compare() {
        assert_eq!(convert(1.0, "V", "A"), None);
        assert_eq!(convert(1.0, "%", "°C"), None);
        for unknown in ["bananas", "", "k", "mm²x", "kk", "k°C", "mK%"] {
            assert_eq!(Unit::parse(unknown), None, "{unknown}");
        }
        assert_eq!(Unit::parse("min").unwrap().dimension, "s");
        assert_eq!(Unit::parse("mm").unwrap().dimension, "m");
    }
}
