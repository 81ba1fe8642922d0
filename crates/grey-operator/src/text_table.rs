//! Tables for people: columns as wide as their widest cell.

use std::io::{self, Write};

/// Widest cell in characters; longer text is cut.
const CELL_CHARS_MAX: usize = 80;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a head.
#[derive(Debug, Clone)]
pub(crate) struct TextTable {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with these columns; `>` before a name puts the column's cells to the right.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        let column = |name: &&'static str| match name.strip_prefix('>') {
            Some(name) => (name, Align::Right),
            None => (*name, Align::Left),
        };
        Self { head: head.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| shown(&cell)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the table; columns in which every cell is empty are left out.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let columns: Vec<(usize, usize)> = (0..self.head.len())
            .filter(|column| self.rows.iter().any(|row| !cell(row, *column).is_empty()))
            .map(|column| {
                let cells = self.rows.iter().map(|row| cell(row, column).chars().count());
                (column, cells.max().unwrap_or(0).max(self.head[column].0.chars().count()))
            })
            .collect();
        let line = |out: &mut dyn Write, text: &dyn Fn(usize) -> String| {
            let mut line = String::new();
            for (column, width) in &columns {
                let text = text(*column);
                let space = " ".repeat(width.saturating_sub(text.chars().count()));
                match self.head[*column].1 {
                    Align::Left => line.push_str(&format!("{text}{space}  ")),
                    Align::Right => line.push_str(&format!("{space}{text}  ")),
                }
            }
            writeln!(out, "{}", line.trim_end())
        };
        line(out, &|column| self.head[column].0.to_owned())?;
        self.rows.iter().try_for_each(|row| line(out, &|column| cell(row, column)))
    }
}

/// Text on one line, cut, without control characters that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(CELL_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// A count with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number to six significant digits, without trailing zeros.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..15).contains(&magnitude) {
        return format!("{value:.5e}");
    }
    let decimals = (5 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Milliseconds as `1h 02m`, `4m 05s`, `1.5s` or `12ms`.
pub(crate) fn span(ms: i64) -> String {
    let (sign, ms) = if ms < 0 { ("-", ms.unsigned_abs()) } else { ("", ms.unsigned_abs()) };
    let text = match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}s", number(ms as f64 / 1_000.0)),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d {:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_go() {
        let mut table = TextTable::new(&["name", ">count", "note"]);
        table.row(["a".into(), "1".into(), String::new()]);
        table.row(["long\u{1b}[2J".into(), "1,000".into(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name      count\na             1\nlong\u{fffd}[2J  1,000\n");
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in
            [(0.0, "0"), (85.0, "85"), (0.1 + 0.2, "0.3"), (-1234.56789, "-1234.57"), (1e20, "1.00000e20")]
        {
            assert_eq!(number(value), text);
        }
        for (ms, text) in
            [(12, "12ms"), (1_500, "1.5s"), (245_000, "4m 05s"), (3_720_000, "1h 02m"), (-90_000_000, "-1d 01h")]
        {
            assert_eq!(span(ms), text);
        }
        assert_eq!((count(7), count(1_234_567)), ("7".into(), "1,234,567".into()));
    }
}
