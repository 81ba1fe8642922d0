//! The distance from what this time of the day, and of a working day or a weekend,
//! usually is, in units of what it usually departs: additive seasonal averages, as in
//! the seasonal part of Holt and Winters (Winters 1960), for a period that is known.
//!
//! Must not know the other methods.

use grey_model::{Reader, WireError};

use crate::detector::Finding;
use crate::moments::Mean;
use crate::number::{ratio, read_time, score, spread, taken, write_time};
use crate::season::Season;

/// Values over which the distance is averaged.
const RESIDUAL: f64 = 3.0;
/// Values that the departure of all half-hours reaches back.
const REACH: f64 = 2_000.0;
/// Least departure of a half-hour, as a share of that of all.
const FLOOR: f64 = 0.5;
/// Judged distances before anything is told.
const WARM_UP: u32 = 50;
/// Mean departures that are worth an alarm.
const ALARM: f64 = 5.0;
/// Distance of one value that is averaged at most.
const STEP_MAX: f64 = 40.0;

/// State of one series.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Seasonal {
    season: Season,
    residual: Mean,
    departure: Mean,
    since_ms: Option<i64>,
}

impl Seasonal {
    pub(crate) fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        let held = taken(value);
        let usual = self.season.usual(time_ms);
        let expected = usual.week.or(usual.day).unwrap_or(held);
        let mut judged = 0.0;
        if usual.known {
            let floor = FLOOR * self.departure.mean;
            let departure = spread(usual.departure.max(floor), expected);
            self.residual.add(ratio(held - expected, departure).clamp(-STEP_MAX, STEP_MAX), RESIDUAL);
            self.departure.add((held - expected).abs(), REACH);
            if self.departure.count > WARM_UP {
                judged = self.residual.mean.abs();
            }
        }
        self.season.add(time_ms, held);
        self.since_ms = if judged >= ALARM { self.since_ms.or(Some(time_ms)) } else { None };
        Finding { score: score(judged, ALARM), expected, seen: value, since_ms: self.since_ms }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.season.write(out);
        self.residual.write(out);
        self.departure.write(out);
        write_time(self.since_ms, out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            season: Season::read(reader)?,
            residual: Mean::read(reader)?,
            departure: Mean::read(reader)?,
            since_ms: read_time(reader)?,
        })
    }
}
