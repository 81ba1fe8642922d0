//! What a server of devices is told.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::codec::PACKET_BYTES_MAX;
use crate::auth::{AllowAll, Authenticator};
use crate::counters::IngestCounters;
use crate::topic::TopicMap;

/// The configuration of one MQTT listener.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// How topics become devices and streams.
    pub topics: TopicMap,
    /// Largest packet taken, in bytes, headers included. Default 1 MiB.
    pub packet_bytes_max: usize,
    /// QoS 1 and 2 publishes that an MQTT 5 client may have unacknowledged.
    /// Must not be 0. Default 1,024: 100,000 per second at a commit of 10 ms.
    pub receive_maximum: u16,
    /// Topic aliases that an MQTT 5 client may set; each keeps its topic. Default 32.
    pub topic_alias_maximum: u16,
    /// Subscriptions that one client may hold. Default 1,024.
    pub subscriptions_per_client_max: usize,
    /// Connections open at a time; one more is closed at once. Default 16,384.
    pub connections_max: usize,
    /// Time for a CONNECT after a connection is accepted, in milliseconds. Default 10 s.
    pub connect_timeout_ms: u64,
    /// Time that a connection which is being closed may wait for the intake
    /// and for its peer, in milliseconds. Default 5 s.
    pub drain_timeout_ms: u64,
    /// Who may connect.
    pub authenticator: Arc<dyn Authenticator>,
    /// What is counted; shared with the [`Broker`](crate::Broker).
    pub counters: Arc<IngestCounters>,
    /// The wall clock, in Unix milliseconds: the time of events that bring none.
    pub clock: fn() -> i64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            topics: TopicMap::default(),
            packet_bytes_max: PACKET_BYTES_MAX,
            receive_maximum: 1_024,
            topic_alias_maximum: 32,
            subscriptions_per_client_max: 1_024,
            connections_max: 16_384,
            connect_timeout_ms: 10_000,
            drain_timeout_ms: 5_000,
            authenticator: Arc::new(AllowAll),
            counters: Arc::default(),
            clock: system_time_ms,
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the server is a driver; tests pass their own clock")]
fn system_time_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
