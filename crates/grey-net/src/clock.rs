//! The one place of this crate where time is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Monotonic milliseconds since it was made, and the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Monotonic milliseconds.
    pub(crate) fn now_ms(self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sleeps until a monotonic time; `None` is for ever.
    pub(crate) async fn sleep_until(self, at_ms: Option<u64>) {
        // A time that the timer cannot represent is for ever, too.
        match at_ms.and_then(|at| self.start.checked_add(Duration::from_millis(at))) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Unix milliseconds of the wall clock.
    pub(crate) fn unix_ms() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
