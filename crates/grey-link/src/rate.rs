//! How much may be in flight: enough to fill the link, and little more, so
//! that fresh data does not wait behind seconds of backlog.
//!
//! The model is that of BBR (Cardwell et al., "BBR: Congestion-Based
//! Congestion Control", 2016; draft-ietf-ccwg-bbr), one layer up: what counts
//! are acknowledged blocks, so the round trip includes the time that the peer
//! takes to make a block durable.
//!
//! ```text
//!             3 rounds without a quarter more
//!   startup ----------------------------------> cruise <---------- up
//!   (2 x)                                      (1.25 x) --> down --^  (1.5 x)
//!                                               every 10 s  (0.5 x)
//! ```
//!
//! The phase *down* empties the queue that *cruise* keeps, so that the least
//! round trip is that of the link and not of our own queue. The phase *up*
//! finds out whether the link carries more: a peer whose time to acknowledge
//! varies would otherwise talk the estimate down, round after round.

/// The bound is never below this: a few blocks, whatever the estimate.
const IN_FLIGHT_MIN_BYTES: u64 = 64 * 1024;
/// At first, what a link of this speed carries in one round trip is tried at once, in bytes
/// per second: TCP's own start finds the way to it, and a long link must not wait for the
/// two one after the other.
const STARTUP_BYTES_PER_S: u64 = 1_000_000;
/// But not more than this, in bytes: a slow link with a long way would queue it.
const STARTUP_BYTES_MAX: u64 = 512 * 1024;
/// Over how long the best goodput and the least round trip are taken, in seconds.
const WINDOW_S: usize = 10;
/// Time from one look for the least round trip to the next, in milliseconds.
const PROBE_INTERVAL_MS: u64 = 10_000;
/// Added to the round trip: acknowledgements come in bursts, after each sync of the peer's disk.
const BURST_MS: u64 = 50;
/// Blocks whose round trips are averaged at least: a single one may have met an idle disk.
const ROUND_SAMPLES_MIN: u64 = 4;
/// Rounds without growth that end the startup.
const FLAT_ROUNDS_MAX: u32 = 3;

/// What is remembered of a block when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMark {
    at_ms: u64,
    delivered: u64,
    delivered_ms: u64,
    is_starved: bool,
}

impl SentMark {
    /// When the block was sent, in the milliseconds given then.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup { best: u64, flat_rounds: u32 },
    Cruise { until_ms: u64 },
    Down,
    Up,
}

/// Goodput, round trip and the bound that follows. Times are monotonic milliseconds.
#[derive(Debug, Clone)]
pub struct RateEstimate {
    phase: Phase,
    phase_ms: u64,
    /// Bytes acknowledged in all, and when the last were.
    delivered: u64,
    delivered_ms: u64,
    /// Blocks sent before so much is acknowledged tell what was offered, not what the link carries.
    starved_until: u64,
    /// Bytes per second.
    goodput: Window,
    rtt: Window,
    round: Round,
    /// The bound until the first round has ended.
    first_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// A block sent when at least so much was acknowledged ends it.
    start_delivered: u64,
    rtt_sum_ms: u64,
    samples: u64,
    /// All its blocks were sent while the link was kept full.
    is_full: bool,
}

impl Default for RateEstimate {
    fn default() -> Self {
        Self::new()
    }
}

impl RateEstimate {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            phase: Phase::Startup { best: 0, flat_rounds: 0 },
            phase_ms: 0,
            delivered: 0,
            delivered_ms: 0,
            starved_until: 0,
            goodput: Window::default(),
            rtt: Window::default(),
            round: Round { is_full: true, ..Round::default() },
            first_bytes: IN_FLIGHT_MIN_BYTES,
        }
    }

    /// Knows how long the peer took to answer the greeting.
    pub fn of_round_trip(rtt_ms: u64) -> Self {
        let first = rtt_ms.saturating_mul(STARTUP_BYTES_PER_S) / 1_000;
        Self { first_bytes: first.clamp(IN_FLIGHT_MIN_BYTES, STARTUP_BYTES_MAX), ..Self::new() }
    }

    /// A block is sent while so many bytes are in flight, itself not counted.
    pub fn on_sent(&mut self, now_ms: u64, in_flight_bytes: u64) -> SentMark {
        if in_flight_bytes == 0 {
            self.delivered_ms = now_ms;
        }
        SentMark {
            at_ms: now_ms,
            delivered: self.delivered,
            delivered_ms: self.delivered_ms,
            is_starved: self.delivered < self.starved_until,
        }
    }

    /// There was less to send than may be in flight; so many bytes are.
    pub fn on_starved(&mut self, in_flight_bytes: u64) {
        self.starved_until = self.delivered.saturating_add(in_flight_bytes).saturating_add(1);
    }

    /// A block of so many bytes is acknowledged.
    pub fn on_acked(&mut self, now_ms: u64, sent: SentMark, bytes: u64) {
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_ms = now_ms;
        let interval_ms = now_ms.saturating_sub(sent.delivered_ms).max(1);
        let goodput = (self.delivered - sent.delivered).saturating_mul(1_000) / interval_ms;
        let second = now_ms / 1_000;
        // What was offered tells of the link only if it is more than what was known.
        if !sent.is_starved {
            self.goodput.insert(second, goodput, u64::max);
        } else if goodput > self.goodput.best(u64::max).unwrap_or(0) {
            let latest = self.goodput.latest.unwrap_or(second);
            self.goodput.insert(latest, goodput, u64::max);
        }
        if matches!(self.phase, Phase::Down | Phase::Up) && sent.at_ms < self.phase_ms {
            return;
        }
        self.round.rtt_sum_ms = self.round.rtt_sum_ms.saturating_add(now_ms.saturating_sub(sent.at_ms));
        self.round.samples += 1;
        self.round.is_full &= !sent.is_starved;
        let is_over = sent.delivered >= self.round.start_delivered && self.round.samples >= ROUND_SAMPLES_MIN;
        if is_over {
            self.end_round(now_ms);
        }
    }

    fn end_round(&mut self, now_ms: u64) {
        let round = std::mem::take(&mut self.round);
        self.begin_round();
        self.rtt.insert(now_ms / 1_000, round.rtt_sum_ms / round.samples.max(1), u64::min);
        let goodput = self.goodput.best(u64::max).unwrap_or(0);
        let next = match self.phase {
            Phase::Startup { .. } if !round.is_full => return,
            Phase::Startup { best, .. } if goodput > best.saturating_add(best / 4) => {
                self.phase = Phase::Startup { best: goodput, flat_rounds: 0 };
                return;
            }
            Phase::Startup { best, flat_rounds } if flat_rounds + 1 < FLAT_ROUNDS_MAX => {
                self.phase = Phase::Startup { best, flat_rounds: flat_rounds + 1 };
                return;
            }
            Phase::Cruise { until_ms } if now_ms < until_ms || !round.is_full => return,
            Phase::Cruise { .. } => Phase::Down,
            Phase::Down => Phase::Up,
            Phase::Startup { .. } | Phase::Up => Phase::Cruise { until_ms: now_ms.saturating_add(PROBE_INTERVAL_MS) },
        };
        self.phase = next;
        self.phase_ms = now_ms;
    }

    fn begin_round(&mut self) {
        self.round = Round { start_delivered: self.delivered, is_full: true, ..Round::default() };
    }

    /// A block may be sent while less than this is in flight, in bytes.
    pub fn in_flight_max(&self) -> u64 {
        let (Some(goodput), Some(rtt_ms)) = (self.goodput_bytes_per_s(), self.rtt_ms()) else {
            return self.first_bytes;
        };
        let (quarters, extra_ms) = match self.phase {
            Phase::Startup { .. } => (8, BURST_MS),
            Phase::Up => (6, BURST_MS),
            Phase::Cruise { .. } => (5, BURST_MS),
            Phase::Down => (2, 0),
        };
        let time_ms = rtt_ms.saturating_mul(quarters) / 4 + extra_ms;
        let bound = u128::from(goodput) * u128::from(time_ms) / 1_000;
        u64::try_from(bound).unwrap_or(u64::MAX).max(IN_FLIGHT_MIN_BYTES)
    }

    /// The best goodput of the last seconds in which the link was kept full, in bytes per second.
    pub fn goodput_bytes_per_s(&self) -> Option<u64> {
        self.goodput.best(u64::max)
    }

    /// The least time from sending a block to its acknowledgement, averaged over a round, in milliseconds.
    pub fn rtt_ms(&self) -> Option<u64> {
        self.rtt.best(u64::min)
    }
}

/// The best value of each of the last seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// Second and value, at the place of the second.
    slots: [Option<(u64, u64)>; WINDOW_S],
    latest: Option<u64>,
}

impl Window {
    fn insert(&mut self, second: u64, value: u64, better: fn(u64, u64) -> u64) {
        let second = self.latest.map_or(second, |latest| latest.max(second));
        self.latest = Some(second);
        let slot = &mut self.slots[(second % WINDOW_S as u64) as usize];
        *slot = match *slot {
            Some((of, known)) if of == second => Some((second, better(known, value))),
            _ => Some((second, value)),
        };
    }

    fn best(&self, better: fn(u64, u64) -> u64) -> Option<u64> {
        let latest = self.latest?;
        let fresh = self.slots.iter().flatten().filter(|(second, _)| latest - second < WINDOW_S as u64);
        fresh.map(|(_, value)| *value).reduce(better)
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
