//! What a time of the day, and of a working day or a weekend, usually is.
//!
//! Two profiles of half-hours in UTC: one of the day, one of the day apart for working
//! days and weekends. Each half-hour has an average that forgets; those of the second
//! also have a mean departure. A series without such a rhythm gets flat profiles, and
//! then the residual is just the distance from the mean.
//!
//! Must not know how a residual is judged.

use grey_model::{Reader, WireError, Writer};

use crate::number::{read_finite, read_spread};

const DAY_MS: i64 = 86_400_000;
/// Half-hours of a day.
const SLOTS: usize = 48;
/// Values that the average of a half-hour reaches back.
const REACH: f64 = 30.0;
/// Values of a half-hour before its average is used.
const VISITS_MIN: u16 = 2;

/// The half-hours of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Season {
    day: [f64; SLOTS],
    day_visits: [u16; SLOTS],
    week: [f64; 2 * SLOTS],
    week_departure: [f64; 2 * SLOTS],
    week_visits: [u16; 2 * SLOTS],
}

/// What the profiles say of one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usual {
    /// Usual value of the half-hour of any day.
    pub(crate) day: Option<f64>,
    /// Usual value of the half-hour of such a day (working day or weekend).
    pub(crate) week: Option<f64>,
    /// Mean departure from `week`.
    pub(crate) departure: f64,
    /// True when `week` rests on enough values for its departure to be known.
    pub(crate) known: bool,
}

impl Default for Season {
    fn default() -> Self {
        Self {
            day: [0.0; SLOTS],
            day_visits: [0; SLOTS],
            week: [0.0; 2 * SLOTS],
            week_departure: [0.0; 2 * SLOTS],
            week_visits: [0; 2 * SLOTS],
        }
    }
}

impl Season {
    /// What is usual at this time.
    pub(crate) fn usual(&self, time_ms: i64) -> Usual {
        let (day, week) = slots(time_ms);
        Usual {
            day: (self.day_visits[day] > 0).then_some(self.day[day]),
            week: (self.week_visits[week] > 0).then_some(self.week[week]),
            departure: self.week_departure[week],
            known: self.week_visits[week] >= VISITS_MIN,
        }
    }

    /// Takes a value into both profiles.
    pub(crate) fn add(&mut self, time_ms: i64, value: f64) {
        let (day, week) = slots(time_ms);
        learn(&mut self.day[day], &mut self.day_visits[day], value);
        let departure = (value - self.week[week]).abs();
        let weight = learn(&mut self.week[week], &mut self.week_visits[week], value);
        if self.week_visits[week] > 1 {
            self.week_departure[week] += weight * (departure - self.week_departure[week]);
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (mean, visits) in self.day.iter().zip(self.day_visits) {
            out.put_varint(u64::from(visits));
            if visits > 0 {
                out.extend(mean.to_le_bytes());
            }
        }
        for (slot, visits) in self.week_visits.into_iter().enumerate() {
            out.put_varint(u64::from(visits));
            if visits > 0 {
                out.extend(self.week[slot].to_le_bytes());
                out.extend(self.week_departure[slot].to_le_bytes());
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut season = Self::default();
        for slot in 0..SLOTS {
            season.day_visits[slot] = reader.count("visits of a half-hour", u64::from(u16::MAX))? as u16;
            if season.day_visits[slot] > 0 {
                season.day[slot] = read_finite(reader, "mean of a half-hour")?;
            }
        }
        for slot in 0..2 * SLOTS {
            season.week_visits[slot] = reader.count("visits of a half-hour", u64::from(u16::MAX))? as u16;
            if season.week_visits[slot] > 0 {
                season.week[slot] = read_finite(reader, "mean of a half-hour")?;
                season.week_departure[slot] = read_spread(reader, "departure of a half-hour")?;
            }
        }
        Ok(season)
    }
}

/// Moves an average toward a value; answers with the weight the value had.
fn learn(mean: &mut f64, visits: &mut u16, value: f64) -> f64 {
    *visits = visits.saturating_add(1);
    let weight = (1.0 / REACH).max(1.0 / f64::from(*visits));
    *mean += weight * (value - *mean);
    weight
}

/// The half-hour of the day, and of the day apart for working days and weekends.
fn slots(time_ms: i64) -> (usize, usize) {
    let in_day = time_ms.rem_euclid(DAY_MS);
    let slot = (in_day * SLOTS as i64 / DAY_MS) as usize;
    // 1970-01-01 was a Thursday; 0 is Sunday.
    let weekday = (time_ms.div_euclid(DAY_MS) + 4).rem_euclid(7);
    let weekend = weekday == 0 || weekday == 6;
    (slot, if weekend { SLOTS + slot } else { slot })
}
