//! What a sender is told once.

use grey_link::{BackoffConfig, BudgetConfig, BudgetError, BudgetUsage, LinkConfig, Schedule};
use grey_model::SiteId;

use crate::frame::Role;
use crate::limits::{ADDRESS_BYTES_MAX, IN_FLIGHT_BLOCKS_MAX};

/// Why a [`SenderConfig`] cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderConfigError {
    /// There is nowhere to dial.
    #[error("the uplink has no address to dial, give at least one host:port")]
    NoAddress,
    /// An address is not `host:port`.
    #[error("uplink address {0:?} is not host:port")]
    Address(String),
    /// A number must not be zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A share leaves one side nothing.
    #[error("the live share of {0} percent must be 1 to 99")]
    LiveShare(u8),
    /// The budget cannot be used.
    #[error("the uplink's budget is wrong")]
    Budget(#[from] BudgetError),
    /// A dead peer would be noticed before it could have answered.
    #[error("heartbeat timeout of {timeout_ms} ms must be longer than the heartbeat interval of {interval_ms} ms")]
    Heartbeat {
        /// The interval.
        interval_ms: u64,
        /// The timeout.
        timeout_ms: u64,
    },
}

/// The settings of a [`Sender`](super::Sender). All times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderConfig {
    /// Who sends.
    pub site: SiteId,
    /// What it is.
    pub role: Role,
    /// Name and version of the program, for the peer's logs.
    pub agent: String,
    /// `host:port` of every node of the tier above, in order of preference.
    pub addresses: Vec<String>,
    /// Seeds the jitter of the backoff; should differ from site to site.
    pub seed: u64,
    /// Bytes in flight at most, whatever the receiver allows: bounds this side's memory and what a crash sends twice.
    pub window_bytes_max: u64,
    /// Blocks in flight at most.
    pub in_flight_blocks_max: usize,
    /// Share of the normal lane when normal and bulk both wait.
    pub normal_weight: u32,
    /// Share of the bulk lane when normal and bulk both wait.
    pub bulk_weight: u32,
    /// Share of live data in percent while a backlog drains, 1 to 99. What one side does not use goes to the other.
    pub live_share_percent: u8,
    /// What the link may carry. Blocks wait for it; the few bytes of greetings and
    /// signs of life go in any case and are counted.
    pub budget: BudgetConfig,
    /// What a process before had used of the budget: [`Sender::usage`](super::Sender::usage) of then.
    pub budget_usage: BudgetUsage,
    /// Critical blocks do not wait for the budget, but count. Off by default: a
    /// flood of alerts must not be what uses up a metered link.
    pub budget_exempts_critical: bool,
    /// When each lane may be sent.
    pub schedule: Schedule,
    /// Critical blocks are sent at any time. On by default.
    pub schedule_exempts_critical: bool,
    /// What waits while nothing is acknowledged for this long is a stall.
    pub stall_after_ms: u64,
    /// The TCP congestion control that a driver asks its system for; `None` is the system's own.
    /// By default `bbr`: loss on a radio link is no sign of a queue.
    pub congestion: Option<String>,
    /// Time that a connection may take to be established.
    pub connect_timeout_ms: u64,
    /// Time from the connection to the welcome.
    pub greeting_timeout_ms: u64,
    /// Time between heartbeats.
    pub heartbeat_interval_ms: u64,
    /// A peer that was silent for this long is dead; data in flight extends it by `rate_floor`.
    pub heartbeat_timeout_ms: u64,
    /// Time between a hub's site reports.
    pub sites_interval_ms: u64,
    /// A peer that acknowledged nothing for this long with blocks in flight is stuck; extended by `rate_floor`.
    pub ack_timeout_ms: u64,
    /// The slowest link that is still worth keeping, in bytes per second: how
    /// long a dead or stuck peer is waited for grows with the bytes in flight.
    pub rate_floor_bytes_per_s: u64,
    /// Redirects followed in a row before waiting.
    pub redirect_hops_max: u32,
    /// Time before an outbox that failed is asked again.
    pub outbox_retry_ms: u64,
    /// The wait between attempts.
    pub backoff: BackoffConfig,
    /// When the link counts as degraded, offline, island.
    pub link: LinkConfig,
}

impl SenderConfig {
    /// The defaults for an edge site.
    pub fn new(site: SiteId, addresses: Vec<String>) -> Self {
        Self {
            site,
            role: Role::Edge,
            agent: String::new(),
            addresses,
            seed: 0,
            window_bytes_max: 8 * 1024 * 1024,
            in_flight_blocks_max: 1_024,
            normal_weight: 4,
            bulk_weight: 1,
            live_share_percent: 50,
            budget: BudgetConfig::UNLIMITED,
            budget_usage: BudgetUsage::default(),
            budget_exempts_critical: false,
            schedule: Schedule::always(),
            schedule_exempts_critical: true,
            stall_after_ms: 60_000,
            congestion: Some("bbr".into()),
            connect_timeout_ms: 5_000,
            greeting_timeout_ms: 10_000,
            heartbeat_interval_ms: 10_000,
            heartbeat_timeout_ms: 30_000,
            sites_interval_ms: 10_000,
            ack_timeout_ms: 30_000,
            rate_floor_bytes_per_s: 16 * 1024,
            redirect_hops_max: 4,
            outbox_retry_ms: 1_000,
            backoff: BackoffConfig::default(),
            link: LinkConfig::default(),
        }
    }

    /// Checks what the types cannot express.
    pub fn check(&self) -> Result<(), SenderConfigError> {
        if self.addresses.is_empty() {
            return Err(SenderConfigError::NoAddress);
        }
        if let Some(bad) = self.addresses.iter().find(|a| !is_address(a)) {
            return Err(SenderConfigError::Address(bad.chars().take(ADDRESS_BYTES_MAX).collect()));
        }
        let positive = [
            ("the normal lane's weight", u64::from(self.normal_weight)),
            ("the bulk lane's weight", u64::from(self.bulk_weight)),
            ("the blocks in flight", self.in_flight_blocks_max as u64),
            ("the heartbeat interval", self.heartbeat_interval_ms),
            ("the site report interval", self.sites_interval_ms),
            ("the connect timeout", self.connect_timeout_ms),
            ("the greeting timeout", self.greeting_timeout_ms),
            ("the acknowledgement timeout", self.ack_timeout_ms),
            ("the rate floor", self.rate_floor_bytes_per_s),
            ("the outbox retry time", self.outbox_retry_ms),
            ("the time that makes a stall", self.stall_after_ms),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(SenderConfigError::Zero(name));
        }
        if !(1..=99).contains(&self.live_share_percent) {
            return Err(SenderConfigError::LiveShare(self.live_share_percent));
        }
        self.budget.check()?;
        if self.heartbeat_timeout_ms <= self.heartbeat_interval_ms {
            return Err(SenderConfigError::Heartbeat {
                interval_ms: self.heartbeat_interval_ms,
                timeout_ms: self.heartbeat_timeout_ms,
            });
        }
        Ok(())
    }

    /// Blocks in flight at most, within what every receiver bears.
    pub(super) fn blocks_max(&self) -> usize {
        self.in_flight_blocks_max.min(IN_FLIGHT_BLOCKS_MAX)
    }

    /// How much longer to wait for a peer that has this much to take in first.
    pub(super) fn patience_ms(&self, in_flight_bytes: u64) -> u64 {
        in_flight_bytes.saturating_mul(1_000) / self.rate_floor_bytes_per_s
    }
}

/// True for a text that can be dialled: `host:port`, `1.2.3.4:port` or `[v6]:port`.
pub(super) fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let is_v6 = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        inner.is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    address.len() <= ADDRESS_BYTES_MAX
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
        && (is_name(host) || is_v6(host))
}
