//! Units of measurement: which are known, and conversion within a dimension.
//!
//! A unit is a dimension and a ratio of whole numbers to the dimension's base,
//! wherever the definition is exact (the inch, the pound, the US gallon and
//! standard gravity are exact by definition), so that round numbers stay round.
//! Temperatures have an offset besides. The table is `unit/table.rs`.
//!
//! It knows no streams and no texts around a unit.

mod table;

#[cfg(test)]
mod tests;

use crate::suggest::nearest;
use table::{ALIASES, PREFIXES, UNITS};

/// A unit, resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// What is measured; units of different dimensions do not convert.
    dimension: &'static str,
    scale: Scale,
    /// `g` is a gram, and beside an acceleration standard gravity: its ratio to m/s².
    gravity: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Celsius,
    Fahrenheit,
    Kelvin,
    /// One unit is `numerator / denominator` of the dimension's base.
    Ratio(f64, f64),
}

/// Longest spelling that is looked up, in bytes.
const SPELLING_BYTES_MAX: usize = 48;

impl Unit {
    /// The unit of a text, if it is known. `m/s^2`, `m/s2` and `m/s²` are one.
    pub fn parse(text: &str) -> Option<Self> {
        let temperature = |scale| Some(Self { dimension: "temperature", scale, gravity: None });
        match text {
            "°C" | "ºC" | "℃" | "C" | "degC" | "Cel" | "celsius" => return temperature(Scale::Celsius),
            "°F" | "ºF" | "℉" | "F" | "degF" | "fahrenheit" => return temperature(Scale::Fahrenheit),
            "K" | "kelvin" => return temperature(Scale::Kelvin),
            _ => {}
        }
        let mut buffer = [0; SPELLING_BYTES_MAX];
        let text = with_powers(text, &mut buffer)?;
        if let Some(unit) = Self::exact(text) {
            return Some(unit);
        }
        PREFIXES.iter().find_map(|(prefix, numerator, denominator)| {
            let symbol = unaliased(text.strip_prefix(prefix)?);
            let (_, dimension, n, d, _) = UNITS.iter().find(|u| u.0 == symbol && u.4)?;
            // Milli-g is a usual unit of vibration; a kilogram is always a mass.
            let gravity = (text == "mg").then_some((GRAVITY.0, GRAVITY.1 * 1e3));
            Some(Self { dimension, scale: Scale::Ratio(numerator * n, denominator * d), gravity })
        })
    }

    /// A unit without a prefix.
    fn exact(text: &str) -> Option<Self> {
        let symbol = unaliased(text);
        let (_, dimension, numerator, denominator, _) = UNITS.iter().find(|u| u.0 == symbol)?;
        let gravity = (symbol == "g").then_some(GRAVITY);
        Some(Self { dimension, scale: Scale::Ratio(*numerator, *denominator), gravity })
    }

    /// What the unit measures, for example `pressure`.
    pub fn dimension(self) -> &'static str {
        self.dimension
    }

    /// How a value in this unit becomes one in `other`; `None` when they measure different things.
    pub fn conversion_to(self, other: Self) -> Option<Conversion> {
        if self.dimension != other.dimension {
            return match (self.as_acceleration(), other.as_acceleration()) {
                (Some(from), Some(to)) if self.gravity.is_some() != other.gravity.is_some() => Some(ratio(from, to)),
                _ => None,
            };
        }
        if self.scale == other.scale {
            return Some(Conversion::Same);
        }
        Some(match (self.scale, other.scale) {
            (Scale::Ratio(an, ad), Scale::Ratio(bn, bd)) => ratio((an, ad), (bn, bd)),
            (from, to) => Conversion::Temperature(
                from == Scale::Fahrenheit,
                from == Scale::Kelvin,
                to == Scale::Fahrenheit,
                to == Scale::Kelvin,
            ),
        })
    }

    /// Whether zero of one unit is not zero of another: a difference converts otherwise than a value.
    pub(crate) fn has_offset(self) -> bool {
        !matches!(self.scale, Scale::Ratio(..))
    }

    fn as_acceleration(self) -> Option<(f64, f64)> {
        match self.scale {
            Scale::Ratio(n, d) if self.dimension == "acceleration" => Some((n, d)),
            _ => self.gravity,
        }
    }

    /// The unit that was probably meant.
    pub(crate) fn nearest(text: &str) -> Option<&'static str> {
        let usual = ["°C", "°F", "K", "kW", "kWh", "mV", "mA", "mbar", "kPa", "MPa", "hPa", "mm", "km", "kg", "ms"];
        let prefixed = ["kHz", "MHz", "µm", "mm/s", "mm/s²", "kΩ", "kN", "mL"];
        nearest(text, usual.into_iter().chain(prefixed).chain(UNITS.iter().map(|unit| unit.0)))
    }
}

/// Standard gravity in m/s², exact: 9.80665.
const GRAVITY: (f64, f64) = (980_665.0, 100_000.0);

fn ratio((an, ad): (f64, f64), (bn, bd): (f64, f64)) -> Conversion {
    // Multiplying before dividing keeps round numbers round.
    let (numerator, denominator) = (an * bd, ad * bn);
    if numerator == denominator { Conversion::Same } else { Conversion::Ratio(numerator, denominator) }
}

fn unaliased(text: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == text).map_or(text, |(_, name)| name)
}

/// `m/s^2` and `m/s2` as `m/s²`, without allocating: readings carry units too.
fn with_powers<'a>(text: &'a str, buffer: &'a mut [u8; SPELLING_BYTES_MAX]) -> Option<&'a str> {
    if !text.contains(['2', '3', '^']) || text.contains("H2O") {
        return Some(text);
    }
    // A superscript takes two bytes where a digit took one.
    if text.len() > SPELLING_BYTES_MAX / 2 {
        return None;
    }
    let mut length = 0;
    for c in text.chars() {
        let c = match c {
            '^' => continue,
            '2' => '²',
            '3' => '³',
            c => c,
        };
        length += c.encode_utf8(&mut buffer[length..]).len();
    }
    std::str::from_utf8(&buffer[..length]).ok()
}

/// A conversion between two units of one dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Conversion {
    /// The value is the same in both.
    Same,
    /// Times the first, divided by the second.
    Ratio(f64, f64),
    /// Temperatures: from °F, from K, to °F, to K; neither is °C.
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

    /// The conversion of a difference of two values: 5 K are 9 °F, and 5 °C.
    pub fn of_difference(self) -> Self {
        match self {
            Self::Temperature(true, _, false, _) => Self::Ratio(5.0, 9.0),
            Self::Temperature(false, _, true, _) => Self::Ratio(9.0, 5.0),
            Self::Temperature(..) => Self::Same,
            other => other,
        }
    }
}
