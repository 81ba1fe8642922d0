//! Times as text: RFC 3339 in UTC with milliseconds, and Unix milliseconds.
//!
//! One reader and one writer for every payload, query and answer, so that no
//! two tiers disagree about a moment. Nothing here reads a clock.

use std::fmt::Write as _;

const DAY_MS: i64 = 86_400_000;
/// Longest text that can be a time: sign, nine digits of year, a long fraction, an offset.
const TEXT_BYTES_MAX: usize = 64;

/// Why text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time {text:?} is not RFC 3339, for example 2026-03-01T12:00:00.250Z or 2026-03-01T13:00:00+01:00: {reason}")]
pub struct TimeError {
    /// The text, shortened.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
pub fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_date`]: year, month, day.
pub fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Writes Unix milliseconds as `2026-03-01T12:00:00.250Z`.
///
/// Years outside 0 to 9999 get ISO 8601's expanded form, a sign and at least
/// six digits, which [`parse_rfc3339_ms`] reads too; so every `i64` is written
/// and read back exactly.
pub fn format_rfc3339_ms(unix_ms: i64) -> String {
    let mut text = String::with_capacity(24);
    push_rfc3339_ms(unix_ms, &mut text);
    text
}

/// [`format_rfc3339_ms`] at the end of a string that is there already.
pub fn push_rfc3339_ms(unix_ms: i64, out: &mut String) {
    let (year, month, day) = date_from_days(unix_ms.div_euclid(DAY_MS));
    let ms = unix_ms.rem_euclid(DAY_MS);
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    // Writing to a string cannot fail.
    let _ = if (0..=9_999).contains(&year) { write!(out, "{year:04}") } else { write!(out, "{year:+07}") };
    let _ = write!(out, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

/// Reads RFC 3339 to Unix milliseconds.
///
/// Any offset and any length of fraction is read; what is finer than a
/// millisecond is cut off. `T` and `Z` may be lower case and `T` a space, as
/// RFC 3339 allows. A leap second counts as the first moment of the next minute.
pub fn parse_rfc3339_ms(text: &str) -> Result<i64, TimeError> {
    parse(text.as_bytes()).map_err(|reason| TimeError { text: text.chars().take(TEXT_BYTES_MAX).collect(), reason })
}

/// Reads RFC 3339 or a whole number of Unix milliseconds.
pub fn parse_time_ms(text: &str) -> Result<i64, TimeError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_err(|_| TimeError {
            text: text.chars().take(TEXT_BYTES_MAX).collect(),
            reason: "the number of milliseconds is too large",
        });
    }
    parse_rfc3339_ms(text)
}

/// Eats the text from the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// A number of exactly `digits` digits.
    fn number(&mut self, digits: usize, reason: &'static str) -> Result<i64, &'static str> {
        let mut value = 0;
        for _ in 0..digits {
            let (&byte, rest) = self.0.split_first().ok_or(reason)?;
            if !byte.is_ascii_digit() {
                return Err(reason);
            }
            value = value * 10 + i64::from(byte - b'0');
            self.0 = rest;
        }
        Ok(value)
    }

    /// A number of exactly `digits` digits within a range.
    fn field(&mut self, digits: usize, range: (i64, i64), reason: &'static str) -> Result<i64, &'static str> {
        let value = self.number(digits, reason)?;
        if value < range.0 || value > range.1 { Err(reason) } else { Ok(value) }
    }

    /// The next byte, if it is one of these.
    fn take(&mut self, any_of: &[u8]) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        any_of.contains(&byte).then(|| {
            self.0 = rest;
            byte
        })
    }

    fn expect(&mut self, any_of: &[u8], reason: &'static str) -> Result<u8, &'static str> {
        self.take(any_of).ok_or(reason)
    }
}

fn parse(text: &[u8]) -> Result<i64, &'static str> {
    if text.len() > TEXT_BYTES_MAX {
        return Err("it is too long");
    }
    let mut text = Cursor(text);
    let year = match text.take(b"+-") {
        Some(sign) => {
            // The expanded form has six digits or more, up to the next '-'.
            let digits = text.0.iter().take_while(|b| b.is_ascii_digit()).count();
            if !(6..=9).contains(&digits) {
                return Err("an expanded year has six to nine digits");
            }
            let year = text.number(digits, "the year is malformed")?;
            if sign == b'-' { -year } else { year }
        }
        None => text.number(4, "the year needs four digits")?,
    };
    text.expect(b"-", "'-' is missing after the year")?;
    let month = text.field(2, (1, 12), "the month must be 01 to 12")?;
    text.expect(b"-", "'-' is missing after the month")?;
    let day = text.field(2, (1, days_in_month(year, month)), "the day does not exist in that month")?;
    text.expect(b"Tt ", "'T' is missing between date and time")?;
    let hour = text.field(2, (0, 23), "the hour must be 00 to 23")?;
    text.expect(b":", "':' is missing after the hour")?;
    let minute = text.field(2, (0, 59), "the minute must be 00 to 59")?;
    text.expect(b":", "':' is missing after the minute")?;
    let second = text.field(2, (0, 60), "the second must be 00 to 60")?;
    let milli = if text.take(b".").is_some() { fraction(&mut text)? } else { 0 };
    let offset_minutes = match text.expect(b"Zz+-", "the offset is missing: end with Z or +hh:mm")? {
        sign @ (b'+' | b'-') => {
            let hours = text.field(2, (0, 23), "the offset's hours must be 00 to 23")?;
            text.expect(b":", "':' is missing in the offset")?;
            let minutes = text.field(2, (0, 59), "the offset's minutes must be 00 to 59")?;
            let offset = hours * 60 + minutes;
            if sign == b'-' { -offset } else { offset }
        }
        _ => 0,
    };
    if !text.0.is_empty() {
        return Err("characters follow the time");
    }
    // A leap second has no fraction of its own.
    let milli = if second == 60 { 0 } else { milli };
    let ms_of_day = ((hour * 60 + minute - offset_minutes) * 60 + second) * 1_000 + milli;
    // Nine digits of year overflow 64 bits of milliseconds; 128 bits decide which ones.
    let total = i128::from(days_from_date(year, month, day)) * i128::from(DAY_MS) + i128::from(ms_of_day);
    i64::try_from(total).map_err(|_| "the year is too far away")
}

/// The digits after the point as milliseconds.
fn fraction(text: &mut Cursor<'_>) -> Result<i64, &'static str> {
    let digits = text.0.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Err("digits are missing after the point");
    }
    let mut value = 0;
    for at in 0..digits.max(3) {
        let digit = if at < digits { text.number(1, "the fraction is malformed")? } else { 0 };
        if at < 3 {
            value = value * 10 + digit;
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T12:34:56.789Z", 951_827_696_789),
            ("2026-03-01T00:00:00.000Z", 1_772_323_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            ("0000-01-01T00:00:00.000Z", -62_167_219_200_000),
            ("+010000-01-01T00:00:00.000Z", 253_402_300_800_000),
            ("-000001-12-31T23:59:59.999Z", -62_167_219_200_001),
            ("+292278994-08-17T07:12:55.807Z", i64::MAX),
            ("-292275055-05-16T16:47:04.192Z", i64::MIN),
        ] {
            assert_eq!(format_rfc3339_ms(ms), text);
            assert_eq!(parse_rfc3339_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn the_forms_that_rfc_3339_allows() {
        let noon = 1_772_366_400_000;
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01t12:00:00z",
            "2026-03-01 12:00:00Z",
            "2026-03-01T12:00:00.0Z",
            "2026-03-01T12:00:00.000999999Z",
            "2026-03-01T13:30:00+01:30",
            "2026-03-01T00:00:00-12:00",
            "2026-03-01T11:59:60Z",
        ] {
            assert_eq!(parse_rfc3339_ms(text), Ok(noon), "{text}");
        }
        assert_eq!(parse_rfc3339_ms("2026-03-01T12:00:00.25Z"), Ok(noon + 250));
        assert_eq!(parse_rfc3339_ms("1969-12-31T23:59:59.9999Z"), Ok(-1));
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "year"),
            ("2026-3-1T12:00:00Z", "month"),
            ("2026-13-01T12:00:00Z", "month"),
            ("2026-02-29T12:00:00Z", "day"),
            ("2026-03-01", "'T'"),
            ("2026-03-01T24:00:00Z", "hour"),
            ("2026-03-01T12:60:00Z", "minute"),
            ("2026-03-01T12:00:61Z", "second"),
            ("2026-03-01T12:00:00", "offset"),
            ("2026-03-01T12:00:00.Z", "digits"),
            ("2026-03-01T12:00:00+0100", "':'"),
            ("2026-03-01T12:00:00Zulu", "follow"),
            ("+26-03-01T12:00:00Z", "expanded"),
            ("+999999999-03-01T12:00:00Z", "far"),
        ] {
            let error = parse_rfc3339_ms(text).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn milliseconds_are_read_as_they_are() {
        assert_eq!(parse_time_ms("1772366400000"), Ok(1_772_366_400_000));
        assert_eq!(parse_time_ms("-1"), Ok(-1));
        assert_eq!(parse_time_ms("2026-03-01T12:00:00Z"), Ok(1_772_366_400_000));
        for bad in ["", "-", "12.5", "99999999999999999999", "yesterday"] {
            assert!(parse_time_ms(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_round_trips(ms: i64, near in -100_000_000_000_000_i64..300_000_000_000_000) {
            for ms in [ms, near] {
                prop_assert_eq!(parse_rfc3339_ms(&format_rfc3339_ms(ms)), Ok(ms));
                prop_assert_eq!(parse_time_ms(&ms.to_string()), Ok(ms));
            }
        }

        #[test]
        fn text_sorts_as_time_does(a in 0_i64..250_000_000_000_000, b in 0_i64..250_000_000_000_000) {
            prop_assert_eq!(a.cmp(&b), format_rfc3339_ms(a).cmp(&format_rfc3339_ms(b)));
        }

        #[test]
        fn hostile_text_never_panics(text in "[-+0-9TtZz:. \u{e9}]{0,70}", any in ".{0,40}") {
            let _ = parse_time_ms(&text);
            let _ = parse_time_ms(&any);
        }
    }
}
