//! From values and times to coordinates, and where ticks stand.

use grey_model::time::format_rfc3339_ms;

use crate::text_table::number;

/// A range of values that is drawn over a range of coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) from: f64,
    pub(super) to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    pub(super) fn new(from: f64, to: f64, start: f64, end: f64) -> Self {
        Self { from, to, start, end }
    }

    /// The coordinate of a value, cut to the range.
    pub(super) fn at(&self, value: f64) -> f64 {
        let width = self.to - self.from;
        let share = if width > 0.0 { ((value - self.from) / width).clamp(0.0, 1.0) } else { 0.5 };
        self.start + share * (self.end - self.start)
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        value >= self.from && value <= self.to
    }
}

/// Round values within a range, at most so many, with their labels (Heckbert, "Nice numbers for graph labels").
pub(super) fn value_ticks(from: f64, to: f64, most: usize) -> Vec<(f64, String)> {
    let width = to - from;
    if !(width.is_finite() && width > 0.0) {
        return vec![(from, number(from))];
    }
    let rough = width / most.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    // A range that begins at a multiple has it as a tick, whatever the division says.
    let first = (from / step - 1e-9).ceil();
    let ticks = (0..=most).map(|n| (first + n as f64) * step);
    // Multiples of a step are not exact; the label is that of the step's own precision.
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let label = |value: f64| {
        if step.abs() < 1e-9 || value.abs() >= 1e12 { number(value) } else { format!("{value:.decimals$}") }
    };
    ticks
        .filter(|value| *value <= to + step * 1e-9)
        .map(|value| (value, label(if value == 0.0 { 0.0 } else { value })))
        .collect()
}

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Distances of ticks that a reader of clocks expects.
const TIME_STEPS: [i64; 33] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
];

/// Round moments within a range, at most about so many, with their labels in UTC.
pub(super) fn time_ticks(from_ms: i64, to_ms: i64, most: i64) -> Vec<(i64, String)> {
    let width = to_ms.saturating_sub(from_ms).max(1);
    let fits = |step: &&i64| width / **step < most;
    let step = TIME_STEPS.iter().find(fits).copied();
    // Longer than the list goes: whole numbers of years.
    let step = step.unwrap_or_else(|| (width / most / (365 * DAY) + 1) * 365 * DAY);
    let first = from_ms.div_euclid(step).saturating_add(i64::from(from_ms.rem_euclid(step) != 0)).saturating_mul(step);
    (0..=most)
        .map_while(|n| first.checked_add(step.checked_mul(n)?))
        .filter(|at| (from_ms..=to_ms).contains(at))
        .map(|at| (at, time_label(at, step)))
        .collect()
}

fn time_label(at: i64, step: i64) -> String {
    let text = format_rfc3339_ms(at);
    let Some((date, time)) = text.trim_end_matches('Z').split_once('T') else { return text };
    match step {
        ..SECOND => time.to_owned(),
        _ if step >= DAY => date.to_owned(),
        _ if at.rem_euclid(DAY) == 0 => date.to_owned(),
        SECOND..MINUTE => time.get(..8).unwrap_or(time).to_owned(),
        _ => time.get(..5).unwrap_or(time).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let labels = |from, to| value_ticks(from, to, 5).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(0.0, 100.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(-0.31, 0.29), ["-0.2", "0.0", "0.2"]);
        assert_eq!(labels(71.2, 71.9), ["71.2", "71.4", "71.6", "71.8"]);
        assert_eq!(labels(5.0, 5.0), ["5"]);
        let labels = |from, to| time_ticks(from, to, 4).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(0, 1), ["00:00:00.000", "00:00:00.001"]);
        assert_eq!(labels(MINUTE / 2, 4 * MINUTE), ["00:01", "00:02", "00:03", "00:04"]);
        assert_eq!(labels(20 * HOUR, 30 * HOUR), ["21:00", "1970-01-02", "03:00", "06:00"]);
        assert!(labels(i64::MIN, i64::MAX).len() <= 5);
    }

    #[test]
    fn what_is_outside_is_cut() {
        let scale = Scale::new(0.0, 10.0, 100.0, 0.0);
        assert_eq!(
            [scale.at(0.0), scale.at(5.0), scale.at(20.0), scale.at(f64::NEG_INFINITY)],
            [100.0, 50.0, 0.0, 100.0]
        );
    }
}
