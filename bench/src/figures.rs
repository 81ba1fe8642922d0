//! Medians, quantiles and tables.

/// The middle of some numbers; of two middles the mean.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A quantile by the nearest rank. The numbers must be sorted.
pub fn quantile(sorted: &[u32], q: f64) -> u32 {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

/// Prints rows under a head, the first column to the left and the others to the right.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).enumerate().map(|(n, (cell, width))| match n {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("  {}", padded.collect::<Vec<_>>().join("  "));
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    println!();
}

/// A limit and whether it was kept.
#[derive(Debug)]
pub struct Check {
    /// What was measured, with the figure and the limit.
    pub text: String,
    /// It was kept.
    pub holds: bool,
}

impl Check {
    /// A figure that must not be above (or, `at_least`, below) a limit.
    pub fn new(what: &str, figure: f64, at_least: bool, limit: f64, unit: &str) -> Self {
        let holds = if at_least { figure >= limit } else { figure < limit };
        let relation = if at_least { "at least" } else { "below" };
        Self { text: format!("{what}: {figure:.2}{unit}, {relation} {limit}{unit}"), holds }
    }
}

/// Prints the checks; true when all hold.
pub fn print_checks(checks: &[Check]) -> bool {
    for check in checks {
        println!("{}  {}", if check.holds { "pass" } else { "FAIL" }, check.text);
    }
    checks.iter().all(|check| check.holds)
}

/// Megabytes (powers of 1000), for people.
pub fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_ranks() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        let numbers: Vec<u32> = (1..=100).collect();
        assert_eq!((quantile(&numbers, 0.5), quantile(&numbers, 0.99), quantile(&numbers, 1.0)), (50, 99, 100));
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
