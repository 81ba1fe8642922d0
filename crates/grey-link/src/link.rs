//! The state of a link as operators see it: online, degraded, offline, island.
//!
//! The state is a function of four facts: whether a session stands, how many
//! attempts failed in a row, whether the backlog or the acknowledgements are
//! late, and how long nothing has been reached.
//!
//! ```text
//!              backlog old, acks slow              3 failures in a row
//!   online  ---------------------------> degraded ---------------------> offline
//!     ^  ^                                  |  ^                          |   |
//!     |  +------ caught up -----------------+  +---- session, but late ---+   | prolonged
//!     +------------------------- session and in time ---------------------+   v
//!     +------------------------- session and in time ---------------------- island
//! ```

use std::fmt;

/// How well the link to the tier above does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkState {
    /// A session stands and data drains in time.
    Online,
    /// A session stands but data is late, or it was just lost.
    Degraded,
    /// Nothing has been reached for several attempts, or yet.
    Offline,
    /// Offline for so long that the site plans on being alone.
    Island,
}

impl LinkState {
    /// Every state, best first.
    pub const ALL: [LinkState; 4] = [Self::Online, Self::Degraded, Self::Offline, Self::Island];

    /// The name used in status, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Island => "island",
        }
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a link changes state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkConfig {
    /// Failures in a row that make the link offline; at least 1.
    pub failures_offline: u32,
    /// Time offline in milliseconds that makes the site an island.
    pub island_after_ms: u64,
    /// A backlog whose oldest event is older than this is late; below half of it, in time again.
    pub backlog_age_max_ms: u64,
    /// A block that waits longer than this for its acknowledgement is late; below half of it, in time again.
    pub ack_delay_max_ms: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            failures_offline: 3,
            island_after_ms: 60 * 60 * 1_000,
            backlog_age_max_ms: 60_000,
            ack_delay_max_ms: 10_000,
        }
    }
}

/// How far behind a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Age of the oldest event that still has to go up, in milliseconds; 0 when there is none.
    pub backlog_age_ms: u64,
    /// How long the oldest block in flight has waited for its acknowledgement, in milliseconds.
    pub ack_delay_ms: u64,
}

/// Why a link changed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A session was established.
    Connected,
    /// A session ended or an attempt failed.
    Failed,
    /// The backlog is too old.
    BacklogOld,
    /// Acknowledgements take too long.
    AcksSlow,
    /// Backlog and acknowledgements are in time again.
    CaughtUp,
    /// Offline for longer than the prolonged time.
    Prolonged,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "session established",
            Self::Failed => "session lost or attempt failed",
            Self::BacklogOld => "backlog is old",
            Self::AcksSlow => "acknowledgements are slow",
            Self::CaughtUp => "caught up",
            Self::Prolonged => "offline for a prolonged time",
        })
    }
}

/// One change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: LinkState,
    /// The state now.
    pub to: LinkState,
    /// When, in monotonic milliseconds.
    pub at_ms: u64,
    /// Why.
    pub cause: Cause,
}

/// The machine. Starts offline: nothing has been reached yet.
#[derive(Debug, Clone)]
pub struct Link {
    config: LinkConfig,
    state: LinkState,
    since_ms: u64,
    connected: bool,
    late: bool,
    failures: u32,
    offline_since_ms: u64,
}

impl Link {
    /// Starts offline at `now` (monotonic milliseconds).
    pub fn new(config: LinkConfig, now: u64) -> Self {
        let config = LinkConfig { failures_offline: config.failures_offline.max(1), ..config };
        Self {
            config,
            state: LinkState::Offline,
            since_ms: now,
            connected: false,
            late: false,
            failures: 0,
            offline_since_ms: now,
        }
    }

    /// The present state.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// When the present state was entered, in monotonic milliseconds.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Attempts that failed since the last session was established.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A session was established.
    pub fn on_connected(&mut self, now: u64, health: Health) -> Option<Transition> {
        self.connected = true;
        self.failures = 0;
        self.late = self.cause_of_lateness(health, 1).is_some();
        self.settle(now, Cause::Connected)
    }

    /// An attempt failed, or the session ended.
    pub fn on_failure(&mut self, now: u64) -> Option<Transition> {
        self.connected = false;
        self.late = false;
        self.failures = self.failures.saturating_add(1);
        self.settle(now, Cause::Failed)
    }

    /// How far behind the session is; call it whenever that was measured. Ignored without a session.
    pub fn on_health(&mut self, now: u64, health: Health) -> Option<Transition> {
        if !self.connected {
            return None;
        }
        // Half the limit must be reached again, so that the state does not flap around it.
        let divisor = if self.late { 2 } else { 1 };
        let cause = self.cause_of_lateness(health, divisor);
        self.late = cause.is_some();
        self.settle(now, cause.unwrap_or(Cause::CaughtUp))
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: u64) -> Option<Transition> {
        self.settle(now, Cause::Prolonged)
    }

    /// When [`Link::on_tick`] may change the state, in monotonic milliseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        (self.state == LinkState::Offline).then(|| self.offline_since_ms.saturating_add(self.config.island_after_ms))
    }

    fn cause_of_lateness(&self, health: Health, divisor: u64) -> Option<Cause> {
        if health.ack_delay_ms > self.config.ack_delay_max_ms / divisor {
            Some(Cause::AcksSlow)
        } else if health.backlog_age_ms > self.config.backlog_age_max_ms / divisor {
            Some(Cause::BacklogOld)
        } else {
            None
        }
    }

    fn settle(&mut self, now: u64, cause: Cause) -> Option<Transition> {
        let from = self.state;
        let is_down = matches!(from, LinkState::Offline | LinkState::Island);
        let to = if self.connected {
            if self.late { LinkState::Degraded } else { LinkState::Online }
        } else if !is_down {
            if self.failures >= self.config.failures_offline { LinkState::Offline } else { LinkState::Degraded }
        } else if now.saturating_sub(self.offline_since_ms) >= self.config.island_after_ms {
            LinkState::Island
        } else {
            from
        };
        if to == from {
            return None;
        }
        if to == LinkState::Offline {
            self.offline_since_ms = now;
        }
        self.state = to;
        self.since_ms = now;
        let cause = if to == LinkState::Island { Cause::Prolonged } else { cause };
        Some(Transition { from, to, at_ms: now, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LinkState::{Degraded, Island, Offline, Online};

    #[derive(Debug, Clone, Copy)]
    enum Input {
        Connected,
        ConnectedLate,
        Failure,
        Late,
        SlowAcks,
        NearlyCaughtUp,
        CaughtUp,
        Tick,
    }

    const HOUR: u64 = 3_600_000;

    /// Plays (time, input) pairs and returns each transition as (time, state, cause).
    fn play(inputs: &[(u64, Input)]) -> Vec<(u64, LinkState, Cause)> {
        let mut link = Link::new(LinkConfig::default(), 0);
        let age = |backlog_age_ms| Health { backlog_age_ms, ack_delay_ms: 0 };
        let mut seen = Vec::new();
        for &(now, input) in inputs {
            let before = link.state();
            let change = match input {
                Input::Connected => link.on_connected(now, Health::default()),
                Input::ConnectedLate => link.on_connected(now, age(600_000)),
                Input::Failure => link.on_failure(now),
                Input::Late => link.on_health(now, age(60_001)),
                Input::SlowAcks => link.on_health(now, Health { backlog_age_ms: 0, ack_delay_ms: 10_001 }),
                Input::NearlyCaughtUp => link.on_health(now, age(45_000)),
                Input::CaughtUp => link.on_health(now, age(30_000)),
                Input::Tick => link.on_tick(now),
            };
            assert_eq!(change.is_some(), before != link.state());
            if let Some(change) = change {
                assert_eq!((change.from, change.to, change.at_ms), (before, link.state(), now));
                assert_eq!(link.since_ms(), now);
                seen.push((now, change.to, change.cause));
            }
        }
        seen
    }

    #[test]
    fn transition_table() {
        use Input as I;
        type Row<'a> = (&'a str, &'a [(u64, Input)], &'a [(u64, LinkState, Cause)]);
        let table: &[Row<'_>] = &[
            ("starts offline", &[(5, I::Tick)], &[]),
            ("first session", &[(5, I::Connected)], &[(5, Online, Cause::Connected)]),
            ("first session with an old backlog", &[(5, I::ConnectedLate)], &[(5, Degraded, Cause::Connected)]),
            ("failing from the start stays offline", &[(1, I::Failure), (2, I::Failure), (3, I::Failure)], &[]),
            (
                "one or two failures degrade, the third is offline",
                &[(1, I::Connected), (2, I::Failure), (3, I::Failure), (4, I::Failure), (5, I::Failure)],
                &[(1, Online, Cause::Connected), (2, Degraded, Cause::Failed), (4, Offline, Cause::Failed)],
            ),
            (
                "a session between failures starts the count again",
                &[(1, I::Connected), (2, I::Failure), (3, I::Failure), (4, I::Connected), (5, I::Failure)],
                &[
                    (1, Online, Cause::Connected),
                    (2, Degraded, Cause::Failed),
                    (4, Online, Cause::Connected),
                    (5, Degraded, Cause::Failed),
                ],
            ),
            (
                "late, and caught up only below half the limit",
                &[(1, I::Connected), (2, I::Late), (3, I::NearlyCaughtUp), (4, I::CaughtUp), (5, I::NearlyCaughtUp)],
                &[(1, Online, Cause::Connected), (2, Degraded, Cause::BacklogOld), (4, Online, Cause::CaughtUp)],
            ),
            (
                "slow acknowledgements",
                &[(1, I::Connected), (2, I::SlowAcks), (3, I::CaughtUp)],
                &[(1, Online, Cause::Connected), (2, Degraded, Cause::AcksSlow), (3, Online, Cause::CaughtUp)],
            ),
            ("health without a session is ignored", &[(1, I::Late), (2, I::CaughtUp)], &[]),
            (
                "offline becomes an island, and a session ends it",
                &[(HOUR - 1, I::Tick), (HOUR, I::Tick), (HOUR + 9, I::Failure), (HOUR + 10, I::Connected)],
                &[(HOUR, Island, Cause::Prolonged), (HOUR + 10, Online, Cause::Connected)],
            ),
            (
                "the hour counts from going offline",
                &[
                    (1, I::Connected),
                    (HOUR, I::Failure),
                    (HOUR + 1, I::Failure),
                    (HOUR + 2, I::Failure),
                    (2 * HOUR + 1, I::Tick),
                    (2 * HOUR + 2, I::Failure),
                ],
                &[
                    (1, Online, Cause::Connected),
                    (HOUR, Degraded, Cause::Failed),
                    (HOUR + 2, Offline, Cause::Failed),
                    (2 * HOUR + 2, Island, Cause::Prolonged),
                ],
            ),
        ];
        for (name, inputs, expected) in table {
            assert_eq!(play(inputs), *expected, "{name}");
        }
    }

    #[test]
    fn the_next_timeout_is_when_the_island_begins() {
        let mut link = Link::new(LinkConfig::default(), 100);
        assert_eq!(link.next_timeout(), Some(HOUR + 100));
        link.on_connected(200, Health::default());
        assert_eq!(link.next_timeout(), None);
        for now in 300..303 {
            link.on_failure(now);
        }
        assert_eq!(link.next_timeout(), Some(HOUR + 302));
        link.on_tick(HOUR + 302);
        assert_eq!((link.state(), link.next_timeout()), (Island, None));
    }

    #[test]
    fn names_are_those_of_the_status_page() {
        assert_eq!(LinkState::ALL.map(LinkState::as_str), ["online", "degraded", "offline", "island"]);
    }
}
