//! Arithmetic that every method needs: bounded values and ratios, a logarithm that is
//! the same on every machine, and reading numbers that must be finite.
//!
//! Must not know any method.

use grey_model::{Reader, WireError};

/// Values beyond this are taken as this, so that squares and their sums stay finite.
pub(crate) const VALUE_MAX: f64 = 1e150;
/// Ratios are not taken further than this.
const RATIO_MAX: f64 = 1e12;
/// Spread below this share of the level is rounding, not spread.
const ROUNDING: f64 = 1e-9;
/// Keeps a spread of nothing from being divided by.
const SPREAD_MIN: f64 = 1e-290;

/// The value as it is taken into the state.
pub(crate) fn taken(value: f64) -> f64 {
    value.clamp(-VALUE_MAX, VALUE_MAX)
}

/// A spread that can be divided by: at least the rounding of values of this level.
pub(crate) fn spread(spread: f64, level: f64) -> f64 {
    spread.max(level.abs() * ROUNDING).max(SPREAD_MIN)
}

/// A quotient by a spread of [`spread`], bounded.
pub(crate) fn ratio(departure: f64, spread: f64) -> f64 {
    (departure / spread).clamp(-RATIO_MAX, RATIO_MAX)
}

/// The logarithm to base 2 of a positive normal number, from additions and
/// multiplications alone: the mathematical libraries of two machines may differ in
/// the last bit, and a replay must not. Relative error below 1e-9.
pub(crate) fn log2(value: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = value.max(f64::MIN_POSITIVE).to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & MANTISSA) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln(m) = 2 artanh((m - 1) / (m + 1)), as a series; |t| is at most 0.172.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let t2 = t * t;
    let series = 1.0 + t2 * (1.0 / 3.0 + t2 * (0.2 + t2 * (1.0 / 7.0 + t2 * (1.0 / 9.0 + t2 / 11.0))));
    exponent + 2.0 * t * series * std::f64::consts::LOG2_E
}

/// The logarithm to base 10, as [`log2`].
pub(crate) fn log10(value: f64) -> f64 {
    log2(value) * std::f64::consts::LOG10_2
}

/// Maps an evidence from 0 upward to a score from 0 to below 1, so that `alarm` gives
/// 0.9 and half of it about 0.36.
pub(crate) fn score(evidence: f64, alarm: f64) -> f64 {
    let fourth = |x: f64| x * x * x * x;
    let share = (evidence / alarm).clamp(0.0, 1e3);
    let raised = 9.0 * fourth(share);
    raised / (1.0 + raised)
}

/// Reads a number that must be finite.
pub(crate) fn read_finite(reader: &mut Reader<'_>, what: &'static str) -> Result<f64, WireError> {
    let at = reader.clone();
    let value = reader.f64()?;
    if value.is_finite() { Ok(value) } else { Err(at.invalid(what)) }
}

/// Reads a number that must be finite and not below 0.
pub(crate) fn read_spread(reader: &mut Reader<'_>, what: &'static str) -> Result<f64, WireError> {
    let at = reader.clone();
    let value = reader.f64()?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(at.invalid(what)) }
}

/// Writes an optional time.
pub(crate) fn write_time(time_ms: Option<i64>, out: &mut Vec<u8>) {
    out.push(u8::from(time_ms.is_some()));
    if let Some(time_ms) = time_ms {
        out.extend(time_ms.to_le_bytes());
    }
}

/// Reads what [`write_time`] wrote.
pub(crate) fn read_time(reader: &mut Reader<'_>) -> Result<Option<i64>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(reader.i64()?)),
        _ => Err(reader.invalid("presence of a time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_close() {
        for exponent in -1_000..1_000 {
            let value = 1.37_f64 * 1.9_f64.powi(exponent);
            if value.is_normal() {
                let close = (log2(value) - value.log2()).abs() <= 1e-9 * value.log2().abs().max(1.0);
                assert!(close, "{value}: {} is not {}", log2(value), value.log2());
            }
        }
        assert_eq!(log2(1.0), 0.0);
        assert_eq!(log2(8.0), 3.0);
    }

    #[test]
    fn an_alarm_is_nine_tenths() {
        assert_eq!(score(0.0, 5.0), 0.0);
        assert!((score(5.0, 5.0) - 0.9).abs() < 1e-12);
        assert!(score(2.5, 5.0) < 0.4 && score(1e300, 5.0) <= 1.0);
    }
}
