//! Exponentially weighted moving average and variance (Roberts 1959).
//!
//! Must not know the other methods.

use grey_model::{Reader, WireError};

use crate::Finding;

/// Weight of a new value.
const WEIGHT: f64 = 0.02;
/// Values before anything is judged.
const WARM_UP: u32 = 30;
/// Values beyond this are taken as this, so that squares stay finite.
const VALUE_MAX: f64 = 1e150;

/// State of one series.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Ewma {
    mean: f64,
    variance: f64,
    seen: u32,
    since_ms: Option<i64>,
}

impl Ewma {
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    pub(crate) fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        let taken = value.clamp(-VALUE_MAX, VALUE_MAX);
        let expected = if self.seen == 0 { taken } else { self.mean };
        let departure = taken - expected;
        let spread = self.variance.sqrt();
        let score = if self.seen < WARM_UP || departure == 0.0 {
            0.0
        } else {
            let z = departure.abs() / spread.max(f64::MIN_POSITIVE);
            if z.is_finite() { z * z / (9.0 / 9.0 + z * z) } else { 1.0 }
        };
        let weight = WEIGHT.max(1.0 / f64::from(self.seen.saturating_add(1)));
        self.mean = expected + weight * departure;
        self.variance = (1.0 - weight) * (self.variance + weight * departure * departure);
        self.seen = self.seen.saturating_add(1);
        self.since_ms = if score >= 0.9 { self.since_ms.or(Some(time_ms)) } else { None };
        Finding { score, expected, seen: value, since_ms: self.since_ms }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.mean.to_le_bytes());
        out.extend(self.variance.to_le_bytes());
        out.extend(self.seen.to_le_bytes());
        out.push(u8::from(self.since_ms.is_some()));
        out.extend(self.since_ms.unwrap_or(0).to_le_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (mean, variance, seen) = (reader.f64()?, reader.f64()?, reader.u32()?);
        if !mean.is_finite() || !variance.is_finite() || variance < 0.0 {
            return Err(reader.invalid("detector moments"));
        }
        let some = reader.u8()? != 0;
        let since = reader.i64()?;
        Ok(Self { mean, variance, seen, since_ms: some.then_some(since) })
    }
}
