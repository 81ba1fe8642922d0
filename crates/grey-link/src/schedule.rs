//! When a lane may use a link: weekly windows, in UTC or at a fixed offset.
//!
//! A fixed offset and not a time zone: twice a year a zone has an hour that is
//! missing or comes twice, and a site without a network cannot update its rules.

use std::str::FromStr;

use grey_model::Lane;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;
const WEEK_MINUTES: i64 = 7 * DAY_MINUTES;
/// Largest offset from UTC in minutes, either way.
const OFFSET_MAX: i32 = 18 * 60;
/// Windows per lane: more than a week of hours is a mistake.
const WINDOWS_MAX: usize = 168;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Why a schedule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A text is no window.
    #[error("{0:?} is no window, give for example `22:00-06:00`, `sat,sun` or `mon-fri 22:00-06:00`")]
    Window(String),
    /// The offset is no offset from UTC.
    #[error("an offset of {0} minutes from UTC is beyond {OFFSET_MAX} either way")]
    Offset(i32),
    /// A lane has no window, or too many.
    #[error("lane {lane} has {windows} windows, give 1 to {WINDOWS_MAX}, or leave it out to be always open")]
    Count {
        /// The lane.
        lane: Lane,
        /// How many it has.
        windows: usize,
    },
}

/// A time of day on some days of the week.
///
/// ```
/// let window: grey_link::Window = "mon-fri 22:00-06:00".parse()?;
/// # Ok::<(), grey_link::ScheduleError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// One bit per day on which it begins, Monday the lowest.
    days: u8,
    /// Minutes of the day; the end may lie on the next day.
    from: u16,
    minutes: u16,
}

impl Window {
    /// A window on the days of the week on which it begins (Monday first), from
    /// one minute of the day (0 to 1439) to another (0 to 1440). An end at or
    /// before the beginning is on the next day.
    pub fn new(days: [bool; 7], from: u16, to: u16) -> Result<Self, ScheduleError> {
        let bits = days.iter().enumerate().fold(0, |bits, (day, on)| bits | u8::from(*on) << day);
        let day = DAY_MINUTES as u16;
        if bits == 0 || from >= day || to > day {
            return Err(ScheduleError::Window(format!("days {days:?} from minute {from} to {to}")));
        }
        let minutes = if to > from { to - from } else { to + day - from };
        Ok(Self { days: bits, from, minutes })
    }

    /// True when a minute of the week, Monday 00:00 being 0, lies within.
    fn holds(self, minute: i64) -> bool {
        self.starts().any(|start| (minute - start).rem_euclid(WEEK_MINUTES) < i64::from(self.minutes))
    }

    /// The minutes of the week at which it begins.
    fn starts(self) -> impl Iterator<Item = i64> {
        (0..7_i64).filter(move |day| self.days >> day & 1 == 1).map(move |day| day * DAY_MINUTES + i64::from(self.from))
    }
}

impl FromStr for Window {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let read = || {
            let (mut days, mut times) = (None, None);
            for word in text.split_ascii_whitespace() {
                let place = if word.contains(':') { &mut times } else { &mut days };
                if place.replace(word).is_some() {
                    return None;
                }
            }
            if days.is_none() && times.is_none() {
                return None;
            }
            let days = days.map_or(Some([true; 7]), read_days)?;
            let (from, to) = match times {
                Some(times) => times.split_once('-')?,
                None => ("00:00", "24:00"),
            };
            Self::new(days, minute_of_day(from)?, minute_of_day(to)?).ok()
        };
        read().ok_or_else(|| ScheduleError::Window(text.chars().take(80).collect()))
    }
}

/// `mon-fri`, `sat,sun`, `fri-mon,wed`.
fn read_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut on = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        on[at] = true;
        while at != last {
            at = (at + 1) % 7;
            on[at] = true;
        }
    }
    Some(on)
}

/// `06:30` as minutes; `24:00` is the end of the day.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        if is_plain { text.parse::<u16>().ok() } else { None }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= DAY_MINUTES as u16).then_some(at)
}

/// When each lane may use the link. A lane without windows is always open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// `None`: always open.
    lanes: [Option<Vec<Window>>; 3],
    offset_minutes: i32,
}

impl Schedule {
    /// Every lane always open.
    pub fn always() -> Self {
        Self::default()
    }

    /// Windows per lane (critical, normal, bulk), at an offset from UTC in
    /// minutes, east positive; `None` is always open.
    pub fn new(lanes: [Option<Vec<Window>>; 3], offset_minutes: i32) -> Result<Self, ScheduleError> {
        if !(-OFFSET_MAX..=OFFSET_MAX).contains(&offset_minutes) {
            return Err(ScheduleError::Offset(offset_minutes));
        }
        for (lane, windows) in Lane::ALL.into_iter().zip(&lanes) {
            if let Some(windows) = windows.as_ref().map(Vec::len).filter(|count| !(1..=WINDOWS_MAX).contains(count)) {
                return Err(ScheduleError::Count { lane, windows });
            }
        }
        Ok(Self { lanes, offset_minutes })
    }

    /// True when the lane may be used at a time in Unix milliseconds.
    pub fn open(&self, now_ms: i64, lane: Lane) -> bool {
        let minute = self.minute_of_week(now_ms);
        let windows = &self.lanes[lane.index()];
        windows.as_ref().is_none_or(|windows| windows.iter().any(|window| window.holds(minute)))
    }

    /// When the lane may be used next, Unix milliseconds; `None` is now.
    pub fn next_open(&self, now_ms: i64, lane: Lane) -> Option<i64> {
        if self.open(now_ms, lane) {
            return None;
        }
        let minute = self.minute_of_week(now_ms);
        let windows = self.lanes[lane.index()].iter().flatten();
        let wait =
            windows.flat_map(|window| window.starts()).map(|start| (start - minute).rem_euclid(WEEK_MINUTES)).min()?;
        Some(now_ms.div_euclid(MINUTE_MS).saturating_add(wait).saturating_mul(MINUTE_MS))
    }

    fn minute_of_week(&self, now_ms: i64) -> i64 {
        // 1970-01-01 was a Thursday.
        (now_ms.div_euclid(MINUTE_MS) + i64::from(self.offset_minutes) + 3 * DAY_MINUTES).rem_euclid(WEEK_MINUTES)
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
