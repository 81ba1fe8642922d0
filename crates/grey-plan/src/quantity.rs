//! Quantities as people read them: three significant digits and a unit.

/// The number to three significant digits, and the unit of the largest step that it reaches.
fn stepped(value: f64, steps: &[(f64, &str)]) -> String {
    let at_least = |step: &&(f64, &str)| value.abs() >= step.0 * 0.999_5;
    let (size, unit) = steps.iter().find(at_least).or(steps.last()).copied().unwrap_or((1.0, ""));
    format!("{} {unit}", significant(value / size)).trim_end().to_owned()
}

/// Three significant digits, without zeros at the end of a fraction.
fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "unlimited".to_owned() };
    }
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Bytes in powers of 1000: `1.2 GB`.
pub fn bytes_text(bytes: f64) -> String {
    stepped(bytes, &[(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")])
}

/// A data rate: `237 Mbit/s`.
pub fn bits_text(bits_per_s: f64) -> String {
    stepped(bits_per_s, &[(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")])
}

/// A length of time in its largest unit: `26.7 d`, `7.11 h`, `18 min`, `46 s`; `unlimited` for one without end.
pub fn span_text(seconds: f64) -> String {
    const YEAR_S: f64 = 365.0 * crate::DAY_S;
    if seconds.is_infinite() {
        return "unlimited".to_owned();
    }
    let (size, unit) = match seconds.abs() {
        s if s >= 2.0 * YEAR_S => (YEAR_S, "y"),
        s if s >= 2.0 * crate::DAY_S => (crate::DAY_S, "d"),
        s if s >= 3_599.5 => (3_600.0, "h"),
        s if s >= 59.95 => (60.0, "min"),
        s if s >= 0.999_5 || s == 0.0 => (1.0, "s"),
        _ => (1e-3, "ms"),
    };
    format!("{} {unit}", significant(seconds / size))
}

/// Money to two decimals, without them where they are nought and the sum is large.
pub fn money_text(amount: f64) -> String {
    let text = format!("{:.2}", amount.abs());
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if amount < 0.0 { "-" } else { "" };
    if cents == "00" { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{cents}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!(bytes_text(1.2e9), "1.2 GB");
        assert_eq!(bytes_text(57_600_000.0), "57.6 MB");
        assert_eq!(bytes_text(999_999.0), "1 MB");
        assert_eq!(bytes_text(0.0), "0 B");
        assert_eq!(bits_text(237_037_037.0), "237 Mbit/s");
        for (seconds, text) in [
            (18.0 * 60.0, "18 min"),
            (25_600.0, "7.11 h"),
            (26.667 * 86_400.0, "26.7 d"),
            (46.0, "46 s"),
            (0.05, "50 ms"),
        ] {
            assert_eq!(span_text(seconds), text);
        }
        assert_eq!(span_text(f64::INFINITY), "unlimited");
        assert_eq!((money_text(66_900.0), money_text(0.125)), ("66,900".into(), "0.12".into()));
    }
}
