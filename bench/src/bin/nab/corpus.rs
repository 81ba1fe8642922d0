//! Reads the benchmark's series and labelled windows, in either of the two layouts
//! they are found in: all at the top of one folder with `windows.json`, or a checkout
//! of the benchmark with `data/` and `labels/combined_windows.json`.
//!
//! Must not know detectors or scores.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// One file of the benchmark.
#[derive(Debug, Clone)]
pub struct Series {
    /// Path below the data folder, with `/` between its parts.
    pub name: String,
    /// Unix milliseconds, as the file spells them taken as UTC.
    pub times_ms: Vec<i64>,
    /// The times as the file spells them.
    pub stamps: Vec<String>,
    /// One value of each time.
    pub values: Vec<f64>,
    /// First and last time of each labelled window.
    pub windows: Vec<(i64, i64)>,
}

/// Reads every labelled series, in the order of their names.
pub fn read(data: &Path, labels: Option<&Path>) -> Outcome<Vec<Series>> {
    let checkout = data.join("labels/combined_windows.json");
    let (folder, labels) = match labels {
        Some(labels) if data.join("data").is_dir() => (data.join("data"), labels.to_owned()),
        Some(labels) => (data.to_owned(), labels.to_owned()),
        None if checkout.is_file() => (data.join("data"), checkout),
        None => (data.to_owned(), data.join("windows.json")),
    };
    let text = fs::read_to_string(&labels).map_err(|error| format!("{}: {error}", labels.display()))?;
    let windows: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&text)?;
    windows.into_iter().map(|(name, windows)| read_series(&folder, name, &windows)).collect()
}

fn read_series(folder: &Path, name: String, windows: &[(String, String)]) -> Outcome<Series> {
    let path: PathBuf = folder.join(&name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let windows = windows.iter().map(|(from, to)| Ok((time_ms(from)?, time_ms(to)?))).collect::<Outcome<Vec<_>>>()?;
    let mut series = Series { name, times_ms: Vec::new(), stamps: Vec::new(), values: Vec::new(), windows };
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let mut cells = line.split(',');
        let (Some(stamp), Some(value)) = (cells.next(), cells.next()) else {
            return Err(format!("{}: a line without two cells: {line}", path.display()).into());
        };
        series.times_ms.push(time_ms(stamp)?);
        series.stamps.push(stamp.to_owned());
        series.values.push(value.trim().parse()?);
    }
    Ok(series)
}

/// Reads the column `anomaly_score` of a results file: what a detector said of each row.
pub fn read_scores(path: &Path) -> Outcome<Vec<f64>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut lines = text.lines();
    let column = lines.next().and_then(|header| header.split(',').position(|cell| cell == "anomaly_score"));
    let column = column.ok_or_else(|| format!("{}: no column anomaly_score", path.display()))?;
    lines
        .filter(|line| !line.is_empty())
        .map(|line| Ok(line.split(',').nth(column).ok_or("a short line")?.parse::<f64>()?))
        .collect()
}

/// `2014-04-10 07:15:00`, with or without a fraction, to Unix milliseconds.
fn time_ms(text: &str) -> Outcome<i64> {
    let wrong = || format!("not a time: {text}");
    let part = |range: std::ops::Range<usize>| -> Outcome<i64> {
        Ok(text.get(range).ok_or_else(wrong)?.parse::<i64>().map_err(|_| wrong())?)
    };
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute) = (part(11..13)?, part(14..16)?);
    let second = if text.len() > 16 { part(17..19)? } else { 0 };
    // Days of the civil calendar since 1970, counted in years that start in March.
    let year_march = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year_march + year_march / 4 - year_march / 100 + year_march / 400 + day_of_year - 719_468;
    Ok((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::time_ms;

    #[test]
    fn times_are_read() {
        assert_eq!(time_ms("1970-01-01 00:00:00").ok(), Some(0));
        assert_eq!(time_ms("2014-04-10 07:15:00.000000").ok(), Some(1_397_114_100_000));
        assert_eq!(time_ms("2000-02-29 23:59:59").ok(), Some(951_868_799_000));
        assert!(time_ms("yesterday").is_err());
    }
}
