//! Exponential backoff with jitter, so that a thousand sites that lost their
//! hub at the same moment do not come back at the same moment.

/// The shape of a [`Backoff`]. Values out of range are pulled to the nearest sensible one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first delay in milliseconds; at least 1.
    pub initial_ms: u64,
    /// No delay is longer than this, jitter included; at least `initial_ms`.
    pub max_ms: u64,
    /// Each delay is this many times the one before; at least 1.
    pub factor: u32,
    /// The delay varies by up to this many percent either way; at most 100.
    pub jitter_percent: u32,
    /// A session that lasted this long makes the next delay the first again.
    pub stable_ms: u64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { initial_ms: 100, max_ms: 60_000, factor: 2, jitter_percent: 10, stable_ms: 10_000 }
    }
}

/// Says how long to wait before each attempt. The same seed gives the same delays.
#[derive(Debug, Clone)]
pub struct Backoff {
    config: BackoffConfig,
    /// Attempts since the last reset.
    attempt: u32,
    /// The next delay before jitter.
    base_ms: u64,
    random: u64,
}

impl Backoff {
    /// Starts at the first delay.
    pub fn new(config: BackoffConfig, seed: u64) -> Self {
        let initial_ms = config.initial_ms.max(1);
        let config = BackoffConfig {
            initial_ms,
            max_ms: config.max_ms.max(initial_ms),
            factor: config.factor.max(1),
            jitter_percent: config.jitter_percent.min(100),
            ..config
        };
        Self { config, attempt: 0, base_ms: initial_ms, random: seed }
    }

    /// The delay before the next attempt in milliseconds; each call counts as one failed attempt.
    pub fn next_delay_ms(&mut self) -> u64 {
        let base = self.base_ms;
        self.attempt = self.attempt.saturating_add(1);
        self.base_ms = base.saturating_mul(self.config.factor.into()).min(self.config.max_ms);
        // At the cap only the lower half of the jitter remains, so that capped sites still spread out.
        let spread = base.saturating_mul(self.config.jitter_percent.into()) / 100;
        let low = base - spread;
        let high = base.saturating_add(spread).min(self.config.max_ms);
        low + self.next_random() % (high - low + 1)
    }

    /// How many delays were handed out since the last reset.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Tells how long a session lasted. A stable one resets the delays; true when it did.
    pub fn on_session_end(&mut self, lasted_ms: u64) -> bool {
        let stable = lasted_ms >= self.config.stable_ms;
        if stable {
            self.reset();
        }
        stable
    }

    /// The next delay is the first again.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.base_ms = self.config.initial_ms;
    }

    /// SplitMix64: enough for jitter, and the same on every platform.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_the_jitter_and_stays_under_the_cap() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            let mut base = 100_u64;
            for _ in 0..14 {
                let delay = backoff.next_delay_ms();
                assert!(delay >= base * 9 / 10 && delay <= base * 11 / 10, "seed {seed}: {delay} for {base}");
                assert!(delay <= 60_000);
                base = (base * 2).min(60_000);
            }
        }
    }

    #[test]
    fn capped_delays_still_spread_out() {
        let mut backoff = Backoff::new(BackoffConfig::default(), 7);
        let delays: Vec<u64> = (0..60).map(|_| backoff.next_delay_ms()).skip(10).collect();
        let mut distinct = delays.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 40, "{delays:?}");
    }

    #[test]
    fn only_a_stable_session_resets() {
        let mut backoff = Backoff::new(BackoffConfig::default(), 1);
        for _ in 0..5 {
            backoff.next_delay_ms();
        }
        assert!(!backoff.on_session_end(9_999));
        assert!(backoff.next_delay_ms() > 2_000);
        assert!(backoff.on_session_end(10_000));
        assert_eq!(backoff.attempt(), 0);
        assert!(backoff.next_delay_ms() <= 110);
    }

    #[test]
    fn the_seed_decides_the_delays() {
        let delays = |seed| {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            (0..8).map(|_| backoff.next_delay_ms()).collect::<Vec<_>>()
        };
        assert_eq!(delays(3), delays(3));
        assert_ne!(delays(3), delays(4));
    }

    #[test]
    fn nonsense_is_pulled_into_range() {
        let config = BackoffConfig { initial_ms: 0, max_ms: 0, factor: 0, jitter_percent: 900, stable_ms: 0 };
        let mut backoff = Backoff::new(config, 0);
        assert!((0..10).all(|_| backoff.next_delay_ms() <= 1));
        let mut huge = Backoff::new(BackoffConfig { initial_ms: u64::MAX, ..config }, 0);
        huge.next_delay_ms();
    }
}
