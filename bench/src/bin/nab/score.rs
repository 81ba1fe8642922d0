//! How the Numenta Anomaly Benchmark scores detections (Lavin and Ahmad, "Evaluating
//! Real-time Anomaly Detection Algorithms", 2015, arXiv:1510.03336).
//!
//! Of each labelled window only the earliest detection counts, and the earlier it is,
//! the more: a sigmoid falls from the window's left edge to 0 at its right edge and
//! on to -1 behind it, where a detection is a false positive. A window without a
//! detection costs the weight of a miss. One threshold is found for the whole corpus,
//! and the sum is put on a scale where a detector that says nothing has 0 and a
//! perfect one 100. The first 15 % of a file, at most 750 points, are for learning.
//!
//! Must not know where scores come from.

use crate::corpus::Series;

/// Share of a file that is not scored.
const PROBATION: f64 = 0.15;
/// Rows beyond which the unscored part no longer grows.
const PROBATION_ROWS_MAX: f64 = 5_000.0;
/// Window widths behind a window from which a false positive costs its full weight.
const FAR_BEHIND: f64 = 3.0;

/// What a kind of outcome weighs.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// The benchmark's name of it.
    pub name: &'static str,
    pub true_positive: f64,
    pub false_positive: f64,
    pub false_negative: f64,
}

/// The benchmark's three profiles.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", true_positive: 1.0, false_positive: 0.11, false_negative: 1.0 },
    Profile { name: "reward_low_FP_rate", true_positive: 1.0, false_positive: 0.22, false_negative: 1.0 },
    Profile { name: "reward_low_FN_rate", true_positive: 1.0, false_positive: 0.11, false_negative: 2.0 },
];

/// What one row would add to the score if it were a detection.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// What the detector said.
    score: f64,
    /// The scaled sigmoid at this row, not weighted yet.
    worth: f64,
    /// The window it lies in.
    window: Option<u32>,
}

/// The rows of a corpus with what each is worth, ready to be swept by threshold.
#[derive(Debug, Default)]
pub struct Board {
    rows: Vec<Row>,
    windows: u32,
    /// Windows with a row that is scored.
    windows_scored: u32,
}

/// The outcome at the best threshold.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    /// Scores from here on are detections.
    pub threshold: f64,
    /// 0: says nothing; 100: perfect.
    pub normalized: f64,
}

/// What happened in one file at a threshold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub windows: u32,
    pub found: u32,
    pub false_positives: u32,
    /// Not normalised.
    pub raw: f64,
}

impl Board {
    /// Adds a file and what a detector said of each of its rows.
    pub fn add(&mut self, series: &Series, scores: &[f64]) {
        let probation = probation_rows(series.times_ms.len());
        let first_window = self.windows;
        let mut scored = vec![false; series.windows.len()];
        for (index, (worth, window)) in worths(series).into_iter().enumerate() {
            if index < probation {
                continue;
            }
            if let Some(window) = window {
                scored[window] = true;
            }
            let window = window.map(|window| first_window + window as u32);
            self.rows.push(Row { score: scores[index], worth, window });
        }
        self.windows += series.windows.len() as u32;
        self.windows_scored += scored.into_iter().filter(|scored| *scored).count() as u32;
    }

    /// The threshold that gives the best sum, and that sum.
    pub fn best(&self, profile: &Profile) -> Best {
        let mut rows = self.rows.clone();
        rows.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut best_of: Vec<Option<f64>> = vec![None; self.windows as usize];
        let silent = -profile.false_negative * f64::from(self.windows_scored);
        let (mut sum, mut best) = (silent, (1.1, silent));
        let mut index = 0;
        while index < rows.len() {
            let threshold = rows[index].score;
            while index < rows.len() && rows[index].score == threshold {
                sum += change(&rows[index], profile, &mut best_of);
                index += 1;
            }
            if sum > best.1 {
                best = (threshold, sum);
            }
        }
        Best { threshold: best.0, normalized: self.on_scale(profile, best.1) }
    }

    /// The score at a threshold.
    pub fn normalized(&self, profile: &Profile, threshold: f64) -> f64 {
        self.on_scale(profile, self.at(profile, threshold).raw)
    }

    /// A sum on the scale where silence is 0 and perfection 100.
    fn on_scale(&self, profile: &Profile, sum: f64) -> f64 {
        let silent = -profile.false_negative * f64::from(self.windows_scored);
        let perfect = f64::from(self.windows) * profile.true_positive;
        100.0 * (sum - silent) / (perfect - silent)
    }

    /// What happens at a threshold.
    pub fn at(&self, profile: &Profile, threshold: f64) -> Tally {
        let mut best_of: Vec<Option<f64>> = vec![None; self.windows as usize];
        let mut tally = Tally { windows: self.windows_scored, ..Tally::default() };
        tally.raw = -profile.false_negative * f64::from(self.windows_scored);
        for row in self.rows.iter().filter(|row| row.score >= threshold) {
            tally.raw += change(row, profile, &mut best_of);
            tally.false_positives += u32::from(row.window.is_none());
        }
        tally.found = best_of.iter().flatten().count() as u32;
        tally
    }
}

/// By how much a detection at this row changes the sum.
fn change(row: &Row, profile: &Profile, best_of: &mut [Option<f64>]) -> f64 {
    let Some(window) = row.window else { return row.worth * profile.false_positive };
    let worth = row.worth * profile.true_positive / sigmoid_scaled(-1.0);
    let before = best_of[window as usize].unwrap_or(-profile.false_negative);
    let after = before.max(worth);
    best_of[window as usize] = Some(after);
    after - before
}

/// Rows at a file's start that are not scored.
fn probation_rows(rows: usize) -> usize {
    // Rows are counted from 0, so the first scored row is the next whole number.
    (PROBATION * rows as f64).floor().min(PROBATION * PROBATION_ROWS_MAX).ceil() as usize
}

/// The sigmoid of the position in a window: -1 is its left edge, 0 its right edge.
fn sigmoid_scaled(position: f64) -> f64 {
    if position > FAR_BEHIND { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// Of each row of a file: the sigmoid, and the window that it lies in.
fn worths(series: &Series) -> Vec<(f64, Option<usize>)> {
    let index_of = |time: i64| series.times_ms.iter().position(|at| *at == time);
    let mut windows = series.windows.iter().enumerate().peekable();
    // The window that the row is in: its number, last row, last time and width in rows.
    let mut current: Option<(usize, usize, i64, f64)> = None;
    let mut previous: Option<(usize, f64)> = None;
    let mut worths = Vec::with_capacity(series.times_ms.len());
    for (index, time) in series.times_ms.iter().enumerate() {
        if let Some((number, (from, to))) = windows.next_if(|(_, (from, _))| from == time) {
            let (first, last) = (index_of(*from).unwrap_or(index), index_of(*to).unwrap_or(index));
            current = Some((number, last, *to, (last + 1 - first) as f64));
        }
        worths.push(match (current, previous) {
            (Some((number, last, _, width)), _) => {
                let left = last as f64 - index as f64 + 1.0;
                (sigmoid_scaled(-left / width), Some(number))
            }
            (None, None) => (-1.0, None),
            (None, Some((last, width))) => (sigmoid_scaled((index - last) as f64 / (width - 1.0)), None),
        });
        if let Some((_, _, to, width)) = current
            && to == *time
        {
            previous = Some((index, width));
            current = None;
        }
    }
    worths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rows: i64, windows: &[(i64, i64)]) -> Series {
        Series {
            name: "x".into(),
            times_ms: (0..rows).collect(),
            stamps: Vec::new(),
            values: vec![0.0; rows as usize],
            windows: windows.to_vec(),
        }
    }

    #[test]
    fn silence_is_nothing_and_the_left_edge_is_perfect() {
        let series = series(1_000, &[(500, 599)]);
        let mut scores = vec![0.0; 1_000];
        let mut board = Board::default();
        board.add(&series, &scores);
        assert_eq!(board.best(&PROFILES[0]).normalized, 0.0);
        scores[500] = 1.0;
        let mut board = Board::default();
        board.add(&series, &scores);
        let best = board.best(&PROFILES[0]);
        assert!((best.normalized - 100.0).abs() < 1e-9, "{best:?}");
        assert_eq!(best.threshold, 1.0);
    }

    #[test]
    fn later_is_worth_less_and_false_positives_cost() {
        let at = |row: usize| {
            let mut scores = vec![0.0; 1_000];
            scores[row] = 1.0;
            let mut board = Board::default();
            board.add(&series(1_000, &[(500, 599)]), &scores);
            board.at(&PROFILES[0], 1.0).raw
        };
        assert!(at(500) > at(550) && at(550) > at(599) && at(599) > at(610));
        assert!((at(300) - -1.11).abs() < 1e-12, "far from any window: the miss and the full weight");
        assert!(at(601) > at(300), "just behind a window costs less");
        assert_eq!(at(100), -1.0, "the first 15 % are not scored");
    }

    #[test]
    fn the_unscored_part_is_capped() {
        assert_eq!(probation_rows(1_000), 150);
        assert_eq!(probation_rows(1_127), 169);
        assert_eq!(probation_rows(22_695), 750);
    }
}
