//! The control chart of the exponentially weighted moving average (Roberts 1959): the
//! distance of a value from the average of those before it, in their deviations.
//!
//! Must not know the other methods.

use grey_model::{Reader, WireError};

use crate::detector::Finding;
use crate::moments::Moments;
use crate::number::{ratio, read_time, score, spread, taken, write_time};

/// Values that the average reaches back.
const REACH: f64 = 100.0;
/// Values before anything is judged.
const WARM_UP: u32 = 30;
/// Deviations that are worth an alarm.
const ALARM: f64 = 5.0;
/// Deviations beyond which a value moves the average no further.
const CLIP: f64 = 8.0;

/// State of one series.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Ewma {
    moments: Moments,
    since_ms: Option<i64>,
}

impl Ewma {
    pub(crate) fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        let held = taken(value);
        let expected = if self.moments.count == 0 { held } else { self.moments.mean };
        let deviation = spread(self.moments.deviation(), expected);
        let departure = ratio(held - expected, deviation);
        let judged = if self.moments.count < WARM_UP { 0.0 } else { departure.abs() };
        let reach = if self.moments.count < WARM_UP { f64::INFINITY } else { CLIP };
        // A level that was constant so far has no deviation to hold a value by.
        let learnt = if self.moments.variance > 0.0 && departure.abs() > reach {
            expected + departure.signum() * reach * deviation
        } else {
            held
        };
        self.moments.add(learnt, REACH);
        self.since_ms = if judged >= ALARM { self.since_ms.or(Some(time_ms)) } else { None };
        Finding { score: score(judged, ALARM), expected, seen: value, since_ms: self.since_ms }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.moments.write(out);
        write_time(self.since_ms, out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { moments: Moments::read(reader)?, since_ms: read_time(reader)? })
    }
}
