//! The two-sided cumulative sum (Page, "Continuous inspection schemes", 1954): small
//! departures in one direction add up until they are worth an alarm, so that a shift
//! of the level that no single value betrays is found, with the moment it began.
//!
//! After an alarm the sums start anew around the level that was found.
//!
//! Must not know the other methods.

use grey_model::{Reader, WireError};

use crate::detector::Finding;
use crate::moments::Moments;
use crate::number::{ratio, read_spread, read_time, score, spread, taken, write_time};

/// Values that the level reaches back.
const REACH: f64 = 500.0;
/// Values before anything is judged.
const WARM_UP: u32 = 50;
/// Deviations from the level that are not added up.
const SLACK: f64 = 0.75;
/// Sum that is worth an alarm.
const ALARM: f64 = 12.0;
/// Deviations that one value adds at most, so that a single spike is no shift.
const STEP_MAX: f64 = 4.0;
/// Values that the level counts for after an alarm, so that it soon follows.
const COUNT_AFTER: u32 = 10;

/// State of one series.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cusum {
    level: Moments,
    above: Side,
    below: Side,
}

/// The sum of one direction.
#[derive(Debug, Clone, PartialEq, Default)]
struct Side {
    sum: f64,
    since_ms: Option<i64>,
}

impl Side {
    fn add(&mut self, time_ms: i64, departure: f64) {
        self.sum = (self.sum + departure - SLACK).max(0.0);
        self.since_ms = if self.sum > 0.0 { self.since_ms.or(Some(time_ms)) } else { None };
    }
}

impl Cusum {
    pub(crate) fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        let held = taken(value);
        let expected = if self.level.count == 0 { held } else { self.level.mean };
        let deviation = spread(self.level.deviation(), expected);
        let departure = ratio(held - expected, deviation).clamp(-STEP_MAX, STEP_MAX);
        if self.level.count < WARM_UP && self.above.sum == 0.0 && self.below.sum == 0.0 && !self.settled() {
            self.level.add(held, REACH);
            return Finding { score: 0.0, expected, seen: value, since_ms: None };
        }
        self.above.add(time_ms, departure);
        self.below.add(time_ms, -departure);
        let side = if self.above.sum >= self.below.sum { &self.above } else { &self.below };
        let (sum, since_ms) = (side.sum, side.since_ms.filter(|_| side.sum >= ALARM));
        if sum >= ALARM {
            // The level has moved: start anew near the value, with the known deviation.
            let variance = self.level.variance;
            self.level = Moments { mean: held, variance, count: COUNT_AFTER };
            (self.above, self.below) = (Side::default(), Side::default());
        } else {
            let learnt = if variance_known(&self.level) { expected + departure * deviation } else { held };
            self.level.add(learnt, REACH);
        }
        Finding { score: score(sum, ALARM), expected, seen: value, since_ms }
    }

    /// True when a level was known before the last alarm.
    fn settled(&self) -> bool {
        self.level.count >= WARM_UP
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.level.write(out);
        for side in [&self.above, &self.below] {
            out.extend(side.sum.to_le_bytes());
            write_time(side.since_ms, out);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let level = Moments::read(reader)?;
        let mut side = || Ok(Side { sum: read_spread(reader, "cumulative sum")?, since_ms: read_time(reader)? });
        Ok(Self { level, above: side()?, below: side()? })
    }
}

fn variance_known(level: &Moments) -> bool {
    level.variance > 0.0
}
