//! The site's hybrid logical clock.
//!
//! A [`HybridClock`] turns the wall clock's readings into [`Stamp`]s that
//! never repeat and never go back, also when the wall clock does, and that
//! order what was observed before what was said after it. It is given the
//! time and never reads it. The clock itself is the `hlc-gen` crate; this one
//! adds what that lacks: restoring, an answer when its counter runs out or the
//! time is outside its range, and the uncertainty that a stamp carries.
//!
//! Example: `examples/clock.rs`.

use std::fmt;

use grey_model::Stamp;
use hlc_gen::error::HlcError;
use hlc_gen::source::ManualClock;
use hlc_gen::{HlcGenerator, HlcTimestamp};

/// How far ahead of the wall clock an observed stamp may be: a peer with a
/// clock that is further off would drag every site's time with it.
pub const MAX_DRIFT_MS_DEFAULT: u32 = 60_000;

/// The earliest time a stamp can have, 2024-01-01 in Unix milliseconds:
/// `hlc-gen` counts from there. A wall clock before it was never set.
pub const TIME_MIN_MS: i64 = 1_704_067_200_000;

/// The latest time a stamp can have, in the year 2109: 42 bits of Unix milliseconds.
pub const TIME_MAX_MS: i64 = (1 << 42) - 1;

const COUNTER_MAX: u64 = (1 << Stamp::COUNTER_BITS) - 1;

/// Why a stamp was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The stamp is further ahead of the wall clock than allowed. One of the two clocks is wrong.
    #[error(
        "a peer's time {observed_ms} is {ahead_ms} ms ahead of the wall clock, over the limit of {limit_ms} ms; check the clocks of both"
    )]
    Drift {
        /// The stamp's time in Unix milliseconds.
        observed_ms: i64,
        /// How far ahead it is, in milliseconds.
        ahead_ms: i64,
        /// How far it may be ahead, in milliseconds.
        limit_ms: u32,
    },
    /// The stamp lies outside what the clock can represent.
    #[error("time {0} is outside what a stamp can hold, {TIME_MIN_MS} to {TIME_MAX_MS} Unix ms")]
    Range(i64),
}

/// A hybrid logical clock fed by its driver.
pub struct HybridClock {
    generator: HlcGenerator<ManualClock>,
    max_drift_ms: u32,
}

impl fmt::Debug for HybridClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridClock").field("last", &self.last()).field("max_drift_ms", &self.max_drift_ms).finish()
    }
}

impl Default for HybridClock {
    fn default() -> Self {
        Self::new(MAX_DRIFT_MS_DEFAULT)
    }
}

impl HybridClock {
    /// A clock that accepts observed stamps at most `max_drift_ms` ahead of the wall clock.
    pub fn new(max_drift_ms: u32) -> Self {
        // The drift is checked here: the generator's own check reads 0 as "no limit".
        Self { generator: HlcGenerator::manual(0), max_drift_ms }
    }

    /// The next stamp: greater than every one given, observed or restored before.
    ///
    /// `unix_ms` is the wall clock, `uncertainty_ms` the half-width of the interval
    /// that true time lies in around it. While the stamp leads the wall clock (after
    /// it stepped back, or after observing a faster peer), the lead is added to the
    /// uncertainty, so that the stamp's interval still holds true time.
    ///
    /// At [`TIME_MAX_MS`] with the counter exhausted the last stamp repeats.
    pub fn now(&mut self, unix_ms: i64, uncertainty_ms: u32) -> Stamp {
        self.feed(unix_ms);
        let next = self.generator.next_timestamp().or_else(|| {
            // 4,194,304 stamps in one frozen millisecond: borrow the next one.
            let borrowed = self.generator.timestamp().timestamp() + 1;
            self.feed(borrowed);
            self.generator.next_timestamp()
        });
        let (ms, counter) = next.unwrap_or_else(|| self.generator.timestamp()).parts();
        let off_ms = ms.abs_diff(unix_ms).min(u32::MAX.into()) as u32;
        Stamp { hlc: to_hlc(ms, counter), uncertainty_ms: uncertainty_ms.saturating_add(off_ms) }
    }

    /// Takes over a peer's stamp, so that every later one here is greater.
    /// A stamp from before [`TIME_MIN_MS`] teaches nothing and is ignored.
    ///
    /// # Errors
    ///
    /// [`ClockError::Drift`] when it is too far ahead of the wall clock `unix_ms`; the clock is unchanged then.
    pub fn observe(&mut self, stamp: Stamp, unix_ms: i64) -> Result<(), ClockError> {
        let ahead_ms = stamp.unix_ms().saturating_sub(unix_ms);
        if ahead_ms > i64::from(self.max_drift_ms) {
            return Err(ClockError::Drift { observed_ms: stamp.unix_ms(), ahead_ms, limit_ms: self.max_drift_ms });
        }
        self.feed(unix_ms);
        self.take_over(stamp)
    }

    /// Continues after a stamp of this clock's own past, from a checkpoint or log. No drift check.
    ///
    /// # Errors
    ///
    /// [`ClockError::Range`] when no later stamp can be represented.
    pub fn restore(&mut self, stamp: Stamp) -> Result<(), ClockError> {
        self.take_over(stamp)
    }

    /// The last stamp given, observed or restored, without its uncertainty.
    pub fn last(&self) -> Stamp {
        let (ms, counter) = self.generator.timestamp().parts();
        Stamp { hlc: to_hlc(ms, counter), uncertainty_ms: 0 }
    }

    /// How far the clock's stamps lead the wall clock, in milliseconds; 0 when they do not.
    pub fn lead_ms(&self, unix_ms: i64) -> u64 {
        self.last().unix_ms().saturating_sub(unix_ms).max(0) as u64
    }

    fn feed(&self, unix_ms: i64) {
        self.generator.set_current_timestamp(unix_ms.clamp(TIME_MIN_MS, TIME_MAX_MS));
    }

    fn take_over(&self, stamp: Stamp) -> Result<(), ClockError> {
        if stamp.hlc <= self.last().hlc || stamp.unix_ms() < TIME_MIN_MS {
            return Ok(());
        }
        let mut counter = stamp.hlc & COUNTER_MAX;
        let mut ms = stamp.unix_ms();
        if counter == COUNTER_MAX {
            (ms, counter) = (ms + 1, 0);
        }
        let range = |_: HlcError| ClockError::Range(stamp.unix_ms());
        let target = HlcTimestamp::from_parts(ms, counter).map_err(range)?;
        self.generator.update(&target).map_err(range)?;
        Ok(())
    }
}

/// `hlc-gen` counts from 2024; a [`Stamp`] from 1970, so that it can be read without this crate.
fn to_hlc(unix_ms: i64, counter: u64) -> u64 {
    (unix_ms.max(0) as u64) << Stamp::COUNTER_BITS | counter & COUNTER_MAX
}

#[cfg(test)]
mod tests;
