//! The robust z-score: the distance from the median of the recent values in units of
//! their median absolute deviation (Iglewicz and Hoaglin, "How to Detect and Handle
//! Outliers", 1993). Half of the window may be outliers before it is misled.
//!
//! Must not know the other methods.

use grey_model::{Reader, WireError};

use crate::detector::Finding;
use crate::number::{self, ratio, read_finite, read_time, score, spread, taken, write_time};

/// Values of the window.
const WINDOW: usize = 128;
/// Values before anything is judged.
const WARM_UP: usize = 20;
/// Makes the median absolute deviation of a normal series its standard deviation.
const NORMAL: f64 = 1.4826;
/// Deviations that are worth an alarm.
const ALARM: f64 = 6.0;

/// State of one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Robust {
    /// In the order of arrival, round and round.
    values: [f64; WINDOW],
    /// The same values in the order of their size.
    sorted: [f64; WINDOW],
    len: u16,
    next: u16,
    since_ms: Option<i64>,
}

impl Default for Robust {
    fn default() -> Self {
        Self { values: [0.0; WINDOW], sorted: [0.0; WINDOW], len: 0, next: 0, since_ms: None }
    }
}

impl Robust {
    pub(crate) fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        let held = taken(value);
        let len = usize::from(self.len);
        let (mut expected, mut judged) = (held, 0.0);
        if len > 0 {
            let sorted = &self.sorted[..len];
            expected = sorted[len / 2];
            // A window that is mostly one value has next to no deviation by the
            // median; then the mean deviation says what is usual.
            let by_median = NORMAL * median_deviation(sorted);
            let deviation = by_median.max(0.5 * mean_deviation(sorted, expected));
            judged = ratio(held - expected, spread(deviation, expected)).abs();
        }
        if len < WARM_UP {
            judged = 0.0;
        }
        self.take(held);
        self.since_ms = if judged >= ALARM { self.since_ms.or(Some(time_ms)) } else { None };
        Finding { score: score(judged, ALARM), expected, seen: value, since_ms: self.since_ms }
    }

    fn take(&mut self, value: f64) {
        let next = usize::from(self.next);
        let mut len = usize::from(self.len);
        if len == WINDOW {
            let leaving = self.values[next];
            let at = self.sorted.partition_point(|known| known.total_cmp(&leaving).is_lt());
            let at = at.min(WINDOW - 1);
            self.sorted.copy_within(at + 1.., at);
            len -= 1;
        }
        let at = self.sorted[..len].partition_point(|known| known.total_cmp(&value).is_lt());
        self.sorted.copy_within(at..len, at + 1);
        self.sorted[at] = value;
        self.values[next] = value;
        self.len = (len + 1) as u16;
        self.next = ((next + 1) % WINDOW) as u16;
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.len as u8);
        // The oldest first.
        let start = (usize::from(self.next) + WINDOW - usize::from(self.len)) % WINDOW;
        for index in 0..usize::from(self.len) {
            out.extend(self.values[(start + index) % WINDOW].to_le_bytes());
        }
        out.push(self.next as u8);
        write_time(self.since_ms, out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let len = usize::from(reader.u8()?);
        if len > WINDOW {
            return Err(reader.invalid("length of the window"));
        }
        let mut values = [0.0; WINDOW];
        for value in &mut values[..len] {
            *value = read_finite(reader, "value of the window")?;
            if value.abs() > number::VALUE_MAX {
                return Err(reader.invalid("value of the window"));
            }
        }
        let next = usize::from(reader.u8()?);
        if next >= WINDOW || (len < WINDOW && next != len) {
            return Err(reader.invalid("place in the window"));
        }
        let mut robust = Self { since_ms: read_time(reader)?, ..Self::default() };
        robust.next = ((next + WINDOW - len) % WINDOW) as u16;
        for value in &values[..len] {
            robust.take(*value);
        }
        Ok(robust)
    }
}

/// The median distance from the median, of values in the order of their size.
fn median_deviation(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let median = sorted[middle];
    // The distances grow to both sides of the median; merge them until half are passed.
    let (mut below, mut above, mut distance) = (middle, middle, 0.0);
    for _ in 0..=middle {
        let down = if below > 0 { median - sorted[below - 1] } else { f64::INFINITY };
        let up = if above < sorted.len() { sorted[above] - median } else { f64::INFINITY };
        if up <= down {
            (distance, above) = (up, above + 1);
        } else {
            (distance, below) = (down, below - 1);
        }
    }
    distance
}

/// The mean distance from the median, made comparable to a standard deviation.
fn mean_deviation(sorted: &[f64], median: f64) -> f64 {
    1.2533 * sorted.iter().map(|value| (value - median).abs()).sum::<f64>() / sorted.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_window_is_the_last_values_sorted(values in prop::collection::vec(-1e3_f64..1e3, 1..400)) {
            let mut robust = Robust::default();
            for value in &values {
                robust.take(*value);
            }
            let mut last = values[values.len().saturating_sub(WINDOW)..].to_vec();
            last.sort_by(f64::total_cmp);
            prop_assert_eq!(&robust.sorted[..usize::from(robust.len)], &last[..]);
            let median = last[last.len() / 2];
            let mut distances: Vec<f64> = last.iter().map(|value| (value - median).abs()).collect();
            distances.sort_by(f64::total_cmp);
            prop_assert_eq!(median_deviation(&last), distances[distances.len() / 2]);
        }
    }
}
