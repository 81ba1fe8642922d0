//! Carries opaque messages between the members of a Raft group.
//!
//! Each member dials every other and sends on the connection that it dialled;
//! what it receives comes over the connections that it accepted. Messages to a
//! peer that cannot be reached are dropped, oldest first: Raft sends again. The
//! handshake and the framing are written down in `docs/design/peers.md`.
//!
//! A message is delivered at most once, whole, and in order within one
//! connection. After anything was dropped the peer's id appears on the
//! `unreachable` channel, so that Raft stops counting on it (a snapshot that
//! was under way to that peer has to be reported as failed).

mod handshake;
mod incoming;
mod outgoing;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use grey_link::BackoffConfig;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use handshake::CLUSTER_BYTES_MAX;
use incoming::Incoming;
use outgoing::Outgoing;
use queue::Queue;

/// Length and checksum before each message.
const MESSAGE_PREFIX_BYTES: usize = 8;

/// The settings of [`Peers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeersConfig {
    /// This member's id.
    pub own_id: u64,
    /// The name of the group: a node of another group is refused. At most 255 bytes count.
    pub cluster: String,
    /// Every member's id and `host:port`; this one's own entry is ignored.
    pub members: Vec<(u64, String)>,
    /// Bytes that wait for one peer; the oldest messages go when there are more.
    pub queue_bytes_max: usize,
    /// Longest message in bytes; must be the same on every member.
    pub message_bytes_max: usize,
    /// Time for connecting, and again for the handshake, in milliseconds.
    pub connect_timeout_ms: u64,
    /// The wait between attempts to reach a peer.
    pub backoff: BackoffConfig,
    /// Seeds the jitter of that wait.
    pub seed: u64,
}

impl PeersConfig {
    /// The defaults: a group that heals within a second or two of the network.
    pub fn new(own_id: u64, cluster: impl Into<String>, members: Vec<(u64, String)>) -> Self {
        Self {
            own_id,
            cluster: cluster.into(),
            members,
            queue_bytes_max: 64 * 1024 * 1024,
            message_bytes_max: 64 * 1024 * 1024,
            connect_timeout_ms: 2_000,
            backoff: BackoffConfig { max_ms: 1_000, stable_ms: 1_000, ..BackoffConfig::default() },
            seed: own_id,
        }
    }
}

/// Counters of all peers together, for metrics.
#[derive(Debug, Default)]
pub struct PeersStats {
    /// Messages written to a socket.
    pub messages_out_total: AtomicU64,
    /// Their bytes.
    pub bytes_out_total: AtomicU64,
    /// Messages received.
    pub messages_in_total: AtomicU64,
    /// Their bytes.
    pub bytes_in_total: AtomicU64,
    /// Messages dropped because a peer was too slow or unreachable.
    pub dropped_total: AtomicU64,
    /// Handshakes refused, by either side.
    pub refused_total: AtomicU64,
}

/// The transport of one member. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    links: Mutex<BTreeMap<u64, Peer>>,
    runtime: Handle,
    unreachable: mpsc::Sender<u64>,
    /// Ends every task when it is set or dropped.
    stop: watch::Sender<bool>,
}

/// What the tasks know.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: PeersConfig,
    pub(crate) stats: PeersStats,
    /// The ids that may connect.
    members: Mutex<BTreeSet<u64>>,
}

impl Shared {
    fn cluster(&self) -> &[u8] {
        let name = self.config.cluster.as_bytes();
        &name[..name.len().min(CLUSTER_BYTES_MAX)]
    }

    fn is_member(&self, id: u64) -> bool {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn count(&self, counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Peer {
    address: String,
    queue: Arc<Queue>,
    /// Ends this peer's task when dropped.
    _stop: watch::Sender<bool>,
}

impl Peers {
    /// Starts to listen and to dial; call it on the runtime that shall do so.
    /// Received messages go to `inbound` with their sender's id, and reading
    /// pauses while it is full. Ids of peers to which messages were lost go to
    /// `unreachable`, unless it is full.
    pub fn start(
        config: PeersConfig,
        listener: TcpListener,
        inbound: mpsc::Sender<(u64, Bytes)>,
        unreachable: mpsc::Sender<u64>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let members = config.members.clone();
        let shared = Arc::new(Shared { config, stats: PeersStats::default(), members: Mutex::new(BTreeSet::new()) });
        let runtime = Handle::current();
        runtime.spawn(Incoming::new(shared.clone(), inbound).run(listener, stopped));
        let inner = Inner { shared, links: Mutex::default(), runtime, unreachable, stop };
        let peers = Self { inner: Arc::new(inner) };
        peers.set_members(members);
        peers
    }

    /// Queues a message; never blocks. False when the peer is unknown or the
    /// message too long. Delivery is not promised either way.
    pub fn send(&self, to: u64, message: Bytes) -> bool {
        let shared = &self.inner.shared;
        if message.len() > shared.config.message_bytes_max {
            tracing::warn!(to, bytes = message.len(), limit = shared.config.message_bytes_max, "message too long");
            return false;
        }
        let links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = links.get(&to) else {
            return false;
        };
        let dropped = peer.queue.push(message);
        if dropped > 0 {
            shared.count(&shared.stats.dropped_total, dropped);
            // Full means that the owner knows of enough trouble already.
            let _ = self.inner.unreachable.try_send(to);
        }
        true
    }

    /// Replaces the membership: connections to members that stay are kept.
    pub fn set_members(&self, members: Vec<(u64, String)>) {
        let inner = &self.inner;
        let own_id = inner.shared.config.own_id;
        let members: BTreeMap<u64, String> = members.into_iter().filter(|(id, _)| *id != own_id).collect();
        *inner.shared.members.lock().unwrap_or_else(PoisonError::into_inner) = members.keys().copied().collect();
        let mut links = inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|id, peer| members.get(id) == Some(&peer.address));
        for (id, address) in members {
            links.entry(id).or_insert_with(|| self.dial(id, address));
        }
    }

    /// The counters.
    pub fn stats(&self) -> &PeersStats {
        &self.inner.shared.stats
    }

    /// Ends every connection; nothing is sent or received from here on.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
        self.inner.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn dial(&self, id: u64, address: String) -> Peer {
        let inner = &self.inner;
        let queue = Arc::new(Queue::new(inner.shared.config.queue_bytes_max));
        let (stop, stopped) = watch::channel(*inner.stop.borrow());
        let outgoing =
            Outgoing::new(inner.shared.clone(), id, address.clone(), queue.clone(), inner.unreachable.clone());
        inner.runtime.spawn(outgoing.run(stopped));
        Peer { address, queue, _stop: stop }
    }
}

#[cfg(test)]
mod tests;
