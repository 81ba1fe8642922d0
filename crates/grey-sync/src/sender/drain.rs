//! The watchdog: does what waits get away, how fast, and if not, why not.

use std::fmt;

use grey_link::BudgetLimit;

/// How often the rate is measured while acknowledgements come, in milliseconds.
const MEASURE_MS: u64 = 1_000;

/// How what waits gets away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DrainState {
    /// Nothing waits.
    #[default]
    Idle,
    /// It does.
    Draining {
        /// Bytes acknowledged per second, smoothed.
        bytes_per_s: u64,
        /// Seconds until what waits now is gone at that rate; `None` while the rate is 0.
        eta_s: Option<u64>,
    },
    /// Something waits, and nothing was acknowledged for
    /// [`stall_after_ms`](crate::SenderConfig::stall_after_ms).
    Stalled {
        /// Since when nothing was acknowledged, in monotonic milliseconds.
        since_ms: u64,
        /// Why.
        reason: StallReason,
    },
}

impl DrainState {
    /// The name used in status and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Draining { .. } => "draining",
            Self::Stalled { .. } => "stalled",
        }
    }
}

/// Why nothing drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StallReason {
    /// No session stands; why the last attempt or session ended.
    Offline(String),
    /// The tier above refuses this sender; what it said.
    Rejected(String),
    /// A budget is used up.
    BudgetSpent {
        /// Which allowance.
        limit: BudgetLimit,
        /// When the next block may go, Unix milliseconds.
        until_unix_ms: i64,
    },
    /// What waits may not be sent at this time.
    OutsideSchedule {
        /// When the first lane opens, Unix milliseconds.
        until_unix_ms: i64,
    },
    /// The receiver takes no more bytes before it has acknowledged some.
    WindowClosed,
    /// Blocks are in flight, and the receiver acknowledges none.
    NotAcknowledged,
    /// The outbox gives nothing that can be sent; its error.
    OutboxUnreadable(String),
}

impl StallReason {
    /// The name used in status and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Offline(_) => "offline",
            Self::Rejected(_) => "rejected",
            Self::BudgetSpent { .. } => "budget_spent",
            Self::OutsideSchedule { .. } => "outside_schedule",
            Self::WindowClosed => "window_closed",
            Self::NotAcknowledged => "not_acknowledged",
            Self::OutboxUnreadable(_) => "outbox_unreadable",
        }
    }
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(why) if why.is_empty() => f.write_str("no connection to the tier above"),
            Self::Offline(why) => write!(f, "no connection to the tier above: {why}"),
            Self::Rejected(what) => write!(f, "the tier above refuses this sender: {what}"),
            Self::BudgetSpent { limit, .. } => write!(f, "the link's bytes per {limit} are used up"),
            Self::OutsideSchedule { .. } => f.write_str("what waits may not be sent at this time"),
            Self::WindowClosed => f.write_str("the receiver's window is closed"),
            Self::NotAcknowledged => f.write_str("the receiver acknowledges nothing"),
            Self::OutboxUnreadable(why) => write!(f, "the outbox cannot be sent: {why}"),
        }
    }
}

/// Keeps the figures that a [`DrainState`] is made of.
#[derive(Debug)]
pub(super) struct Watchdog {
    stall_after_ms: u64,
    pending_bytes: u64,
    /// Since when something waits.
    pending_since_ms: Option<u64>,
    acked_ms: Option<u64>,
    /// Bytes acknowledged since the rate was measured last, and when that was.
    acked_bytes: u64,
    measured_ms: u64,
    bytes_per_s: u64,
    /// What the owner was told: the state of a stall, or none.
    told: Option<DrainState>,
    /// Another kind of reason than the one that was told, and since when it holds.
    other: Option<(&'static str, u64)>,
}

impl Watchdog {
    pub(super) fn new(stall_after_ms: u64) -> Self {
        Self {
            stall_after_ms,
            pending_bytes: 0,
            pending_since_ms: None,
            acked_ms: None,
            acked_bytes: 0,
            measured_ms: 0,
            bytes_per_s: 0,
            told: None,
            other: None,
        }
    }

    /// So many bytes wait, those in flight included.
    pub(super) fn on_pending(&mut self, now: u64, bytes: u64) {
        self.pending_bytes = bytes;
        self.pending_since_ms = (bytes > 0).then(|| self.pending_since_ms.unwrap_or(now));
    }

    /// So many bytes were acknowledged.
    pub(super) fn on_acked(&mut self, now: u64, bytes: u64) {
        if self.acked_ms.is_none() {
            self.measured_ms = now;
        }
        self.acked_ms = Some(now);
        self.acked_bytes = self.acked_bytes.saturating_add(bytes);
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
        let passed_ms = now.saturating_sub(self.measured_ms);
        if passed_ms >= MEASURE_MS {
            let rate = self.acked_bytes.saturating_mul(1_000) / passed_ms;
            let is_old = self.bytes_per_s == 0 || passed_ms > 10 * MEASURE_MS;
            self.bytes_per_s = if is_old { rate } else { (self.bytes_per_s.saturating_mul(3) + rate) / 4 };
            self.acked_bytes = 0;
            self.measured_ms = now;
        }
    }

    /// When it becomes a stall unless something is acknowledged.
    pub(super) fn stall_at(&self) -> Option<u64> {
        let since = self.stalled_since()?;
        self.told.is_none().then(|| since.saturating_add(self.stall_after_ms))
    }

    fn stalled_since(&self) -> Option<u64> {
        self.pending_since_ms.map(|pending| pending.max(self.acked_ms.unwrap_or(0)))
    }

    pub(super) fn state(&self, now: u64, reason: impl FnOnce() -> StallReason) -> DrainState {
        let Some(since_ms) = self.stalled_since() else {
            return DrainState::Idle;
        };
        if now >= since_ms.saturating_add(self.stall_after_ms) {
            return DrainState::Stalled { since_ms, reason: reason() };
        }
        let eta_s = (self.bytes_per_s > 0).then(|| self.pending_bytes.div_ceil(self.bytes_per_s));
        DrainState::Draining { bytes_per_s: self.bytes_per_s, eta_s }
    }

    /// The state if the owner should hear of it: a stall begins or is over, or
    /// has had another kind of reason for as long as makes a stall.
    pub(super) fn news(&mut self, now: u64, state: DrainState) -> Option<DrainState> {
        let kind = |state: &DrainState| match state {
            DrainState::Stalled { reason, .. } => Some(reason.as_str()),
            DrainState::Idle | DrainState::Draining { .. } => None,
        };
        let (told, present) = (self.told.as_ref().and_then(kind), kind(&state));
        if told == present {
            self.other = None;
            return None;
        }
        if let (Some(_), Some(reason)) = (told, present) {
            // While it comes and goes, as with every attempt to connect, it is no news.
            let since = self.other.filter(|(other, _)| *other == reason).map_or(now, |(_, since)| since);
            self.other = Some((reason, since));
            if now < since.saturating_add(self.stall_after_ms) {
                return None;
            }
        }
        self.other = None;
        self.told = present.map(|_| state.clone());
        Some(state)
    }
}
