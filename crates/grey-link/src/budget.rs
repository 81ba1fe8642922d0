//! What a link may carry: bytes per second, per UTC day and per billing month.
//!
//! Token buckets over the wall clock, which may jump. A jump forward grants at
//! most one burst, one day and one month; a small step back grants nothing and
//! waits until the clock is there again; a large step back is believed at once
//! and keeps what was used. So no jump grants without bound or blocks for ever.
//!
//! A take is refused until it fits, with one exception: what is larger than a
//! whole allowance is let through when nothing of the allowance was used. What
//! was used beyond an allowance is a debt of the next ones, so that over time
//! the link carries what was allowed and no more.

use std::fmt;
use std::str::FromStr;

use grey_model::time::{date_from_days, days_from_date};

const DAY_MS: i64 = 86_400_000;
/// Steps back of the clock up to this are waited for: what NTP does to a clock that is about right.
const STEP_BACK_MAX_MS: i64 = 5_000;
/// Largest allowance: far beyond any link, and small enough for the arithmetic.
const BYTES_MAX: u64 = 1 << 50;

/// Allowances of a link in bytes; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Bytes per second on average.
    pub bytes_per_s: Option<u64>,
    /// Bytes that may go at once after a rest; 0 means one second's worth.
    pub burst_bytes: u64,
    /// Bytes per day of UTC.
    pub bytes_per_day: Option<u64>,
    /// Bytes per billing month.
    pub bytes_per_month: Option<u64>,
    /// The day of the month on which the billing month begins at 00:00 UTC, 1 to 28.
    pub billing_day: u8,
}

impl BudgetConfig {
    /// No limits at all.
    pub const UNLIMITED: Self =
        Self { bytes_per_s: None, burst_bytes: 0, bytes_per_day: None, bytes_per_month: None, billing_day: 1 };

    /// Checks that every number is in its range.
    pub fn check(&self) -> Result<(), BudgetError> {
        if !(1..=28).contains(&self.billing_day) {
            return Err(BudgetError::BillingDay(self.billing_day));
        }
        let limits = [
            ("per second", self.bytes_per_s),
            ("per day", self.bytes_per_day),
            ("per month", self.bytes_per_month),
            ("of burst", Some(self.burst_bytes.max(1))),
        ];
        for (what, limit) in limits {
            if let Some(bytes) = limit.filter(|bytes| !(1..=BYTES_MAX).contains(bytes)) {
                return Err(BudgetError::Range { what, bytes });
            }
        }
        Ok(())
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// Why a [`BudgetConfig`] or a saved [`BudgetUsage`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The billing day is not in every month.
    #[error("billing day {0} is not in every month, give 1 to 28")]
    BillingDay(u8),
    /// An allowance is zero or beyond any link.
    #[error("{bytes} bytes {what} is out of range, give 1 to {BYTES_MAX}, or leave it out for no limit")]
    Range {
        /// Which one.
        what: &'static str,
        /// Its value.
        bytes: u64,
    },
    /// A text is not what [`BudgetUsage`] writes.
    #[error("{0:?} is no saved usage of a budget, remove it to start from zero")]
    Usage(String),
}

/// Which allowance is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BudgetLimit {
    /// Bytes per second.
    Second,
    /// Bytes per day.
    Day,
    /// Bytes per billing month.
    Month,
}

impl BudgetLimit {
    /// The name used in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl fmt::Display for BudgetLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A take has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetWait {
    /// Unix milliseconds at which it fits if nothing else is taken before.
    pub until_ms: i64,
    /// The allowance that takes longest to come back.
    pub limit: BudgetLimit,
}

/// What was used of the day and of the month. Its text (`Display`, `FromStr`)
/// is what an owner keeps so that a restart does not grant anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BudgetUsage {
    /// The day, counted from 1970-01-01.
    pub day: i64,
    /// Bytes used in it, debts of days before included.
    pub day_bytes: u64,
    /// The first day of the billing month, counted from 1970-01-01.
    pub month: i64,
    /// Bytes used in it, debts of months before included.
    pub month_bytes: u64,
}

impl fmt::Display for BudgetUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, day_bytes, month, month_bytes } = self;
        write!(f, "1 {day} {day_bytes} {month} {month_bytes}")
    }
}

impl FromStr for BudgetUsage {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let read = || {
            let mut words = text.split_ascii_whitespace();
            let version = words.next()?;
            let usage = Self {
                day: words.next()?.parse().ok()?,
                day_bytes: words.next()?.parse().ok()?,
                month: words.next()?.parse().ok()?,
                month_bytes: words.next()?.parse().ok()?,
            };
            let days = [usage.day, usage.month];
            let sane = days.iter().all(|day| (-DAYS_MAX..=DAYS_MAX).contains(day));
            (version == "1" && words.next().is_none() && sane).then_some(usage)
        };
        read().ok_or_else(|| BudgetError::Usage(text.chars().take(80).collect()))
    }
}

/// Days either side of 1970 that a time in milliseconds can reach.
const DAYS_MAX: i64 = i64::MAX / DAY_MS - 64;

/// The allowances of one link and what was used of them. See the module's text.
#[derive(Debug, Clone)]
pub struct Budget {
    config: BudgetConfig,
    usage: BudgetUsage,
    /// Thousandths of bytes in the bucket; below 0 after a take larger than the burst.
    bucket: i64,
    /// Up to when the bucket was filled, Unix ms; `None` before the first look.
    filled_ms: Option<i64>,
}

impl Budget {
    /// Starts with a full bucket and with what a life before had used.
    pub fn new(config: BudgetConfig, usage: BudgetUsage) -> Result<Self, BudgetError> {
        config.check()?;
        Ok(Self { bucket: capacity(&config), config, usage, filled_ms: None })
    }

    /// True when nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.config.bytes_per_s.is_none()
            && self.config.bytes_per_day.is_none()
            && self.config.bytes_per_month.is_none()
    }

    /// What was used of the day and month that the last call was in; save it.
    pub fn usage(&self) -> BudgetUsage {
        self.usage
    }

    /// The allowances.
    pub fn config(&self) -> &BudgetConfig {
        &self.config
    }

    /// Takes bytes at a time in Unix milliseconds, or says when they will fit and takes nothing.
    pub fn take(&mut self, now_ms: i64, bytes: u64) -> Result<(), BudgetWait> {
        self.advance(now_ms);
        match self.wait(now_ms, bytes) {
            Some(wait) => Err(wait),
            None => {
                self.charge(bytes);
                Ok(())
            }
        }
    }

    /// Counts bytes that go in any case: signs of life, and what is exempt.
    pub fn spend(&mut self, now_ms: i64, bytes: u64) {
        self.advance(now_ms);
        self.charge(bytes);
    }

    /// When so many bytes may be taken; `None` is now.
    pub fn next_allowed(&mut self, now_ms: i64, bytes: u64) -> Option<BudgetWait> {
        self.advance(now_ms);
        self.wait(now_ms, bytes)
    }

    fn charge(&mut self, bytes: u64) {
        self.usage.day_bytes = self.usage.day_bytes.saturating_add(bytes);
        self.usage.month_bytes = self.usage.month_bytes.saturating_add(bytes);
        if self.config.bytes_per_s.is_some() {
            self.bucket = self.bucket.saturating_sub(thousandths(bytes));
        }
    }

    /// Moves to the present: fills the bucket, begins days and months.
    fn advance(&mut self, now_ms: i64) {
        if let Some(rate) = self.config.bytes_per_s {
            let filled = *self.filled_ms.get_or_insert(now_ms);
            if now_ms > filled {
                // Bytes per second times milliseconds are thousandths of bytes.
                let gain = i128::from(rate) * (i128::from(now_ms) - i128::from(filled));
                let full = i128::from(capacity(&self.config));
                self.bucket = (i128::from(self.bucket) + gain).min(full) as i64;
                self.filled_ms = Some(now_ms);
            } else if filled.saturating_sub(now_ms) > STEP_BACK_MAX_MS {
                self.filled_ms = Some(now_ms);
            }
        }
        let today = now_ms.div_euclid(DAY_MS);
        let usage = &mut self.usage;
        let passed = today - usage.day;
        roll(&mut usage.day, &mut usage.day_bytes, self.config.bytes_per_day, today, passed, 1);
        let month = month_start(today, self.config.billing_day);
        let passed = months_between(usage.month, month);
        roll(&mut usage.month, &mut usage.month_bytes, self.config.bytes_per_month, month, passed, 31);
    }

    fn wait(&self, now_ms: i64, bytes: u64) -> Option<BudgetWait> {
        let second = self.config.bytes_per_s.and_then(|rate| {
            let needed = thousandths(bytes).min(capacity(&self.config));
            let short = needed.saturating_sub(self.bucket);
            let from = now_ms.max(self.filled_ms.unwrap_or(now_ms));
            (short > 0).then(|| from.saturating_add(div_ceil(short, rate)))
        });
        let usage = &self.usage;
        let day = periods_to_wait(self.config.bytes_per_day, usage.day_bytes, bytes)
            .map(|days| usage.day.saturating_add(days).saturating_mul(DAY_MS));
        let month = periods_to_wait(self.config.bytes_per_month, usage.month_bytes, bytes)
            .map(|months| month_after(usage.month, months).saturating_mul(DAY_MS));
        [(second, BudgetLimit::Second), (day, BudgetLimit::Day), (month, BudgetLimit::Month)]
            .into_iter()
            .filter_map(|(until, limit)| Some(BudgetWait { until_ms: until?, limit }))
            .max_by_key(|wait| (wait.until_ms, wait.limit))
    }
}

/// Begins a period if a later one has come: each that passed pays off one allowance of a debt.
/// `length_days` is the longest step back that is waited for.
fn roll(start: &mut i64, used: &mut u64, limit: Option<u64>, now: i64, passed: i64, length_days: i64) {
    if now > *start {
        let paid = limit.unwrap_or(u64::MAX).saturating_mul(passed.max(1) as u64);
        *used = used.saturating_sub(paid);
        *start = now;
    } else if *start - now > length_days {
        *start = now;
    }
}

/// Periods until so many bytes fit; `None` is now.
fn periods_to_wait(limit: Option<u64>, used: u64, bytes: u64) -> Option<i64> {
    let limit = limit?;
    // What is larger than the allowance fits one that is untouched.
    let over = used.saturating_add(bytes.min(limit)).saturating_sub(limit);
    (over > 0).then(|| i64::try_from(over.div_ceil(limit)).unwrap_or(i64::MAX))
}

/// The first day of the billing month that a day lies in.
fn month_start(day: i64, billing_day: u8) -> i64 {
    let (year, month, of_month) = date_from_days(day);
    let (year, month) = match (of_month >= i64::from(billing_day), month) {
        (true, _) => (year, month),
        (false, 1) => (year - 1, 12),
        (false, _) => (year, month - 1),
    };
    days_from_date(year, month, billing_day.into())
}

/// Months from one day's month to another's.
fn months_between(from: i64, to: i64) -> i64 {
    let index = |day| {
        let (year, month, _) = date_from_days(day);
        year * 12 + month
    };
    index(to) - index(from)
}

/// The same day of the month some months later.
fn month_after(day: i64, months: i64) -> i64 {
    let (year, month, of_month) = date_from_days(day);
    // A debt of more than a thousand years is for ever.
    let index = month - 1 + months.min(12_000);
    days_from_date(year + index.div_euclid(12), index.rem_euclid(12) + 1, of_month)
}

fn thousandths(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// How much the bucket holds, in thousandths of bytes.
fn capacity(config: &BudgetConfig) -> i64 {
    let burst = if config.burst_bytes == 0 { config.bytes_per_s.unwrap_or(0) } else { config.burst_bytes };
    thousandths(burst)
}

fn div_ceil(value: i64, by: u64) -> i64 {
    i64::try_from(value.unsigned_abs().div_ceil(by)).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
