//! Accepts the uplinks of the tier below and drives one [`Receiver`] per
//! connection. What a block means is the host's business: [`UplinkHost`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grey_model::BlockHeader;
use grey_sync::{
    Coverage, FrameDecoder, Heartbeat, Hello, Outcome, Receiver, ReceiverAction, ReceiverConfig, ReceiverStats,
    RejectCode, SiteReport, Token,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::uplink_client::stopped;
use crate::wire::{Wire, tune};

/// How long the listener rests after the system refused to accept, as when it is out of files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The settings of [`serve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The settings of every connection.
    pub receiver: ReceiverConfig,
    /// Connections at a time; more are closed at once.
    pub connections_max: usize,
    /// The TCP congestion control that the system is asked for; `None` is its own.
    pub congestion: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { receiver: ReceiverConfig::default(), connections_max: 10_000, congestion: Some("bbr".into()) }
    }
}

/// Who may take blocks at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This node leads.
    Leading,
    /// Another node does, at this `host:port` if known. Every session is
    /// closed with a redirect to it.
    Following {
        /// Its uplink address.
        leader: Option<String>,
    },
}

/// One connection: its number since the start, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Never used twice in one [`serve`].
    pub session: u64,
    /// The remote address.
    pub address: SocketAddr,
}

/// The answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloAnswer {
    /// Come in. A node may answer so only once it has applied everything that
    /// was committed before its term: older coverage would hide that a sender
    /// was restored from an old copy.
    Accept {
        /// What this tier has of the sender's own streams.
        coverage: Vec<Coverage>,
        /// Bytes of blocks that may be unacknowledged.
        window_bytes: u64,
        /// The term that this node leads.
        term: u64,
    },
    /// Another node leads, at this address if known.
    Redirect {
        /// Its `host:port`.
        address: Option<String>,
    },
    /// The sender must not come in.
    Reject {
        /// What kind of error.
        code: RejectCode,
        /// What exactly.
        message: String,
    },
}

/// What the upper tier does with what arrives. Every function is called on the
/// network's threads and must only look something up or hand something over.
pub trait UplinkHost: Send + Sync + 'static {
    /// A sender introduced itself.
    fn hello(&self, peer: Peer, hello: &Hello) -> HelloAnswer;
    /// A block is to be made durable; `completion` takes its fate.
    fn propose(&self, peer: Peer, block: Bytes, header: BlockHeader, completion: Completion);
    /// A sender is alive; with the counters of its connection.
    fn heartbeat(&self, peer: Peer, hello: &Hello, heartbeat: &Heartbeat, stats: &ReceiverStats);
    /// A hub reports its sites, one page.
    fn sites(&self, peer: Peer, hello: &Hello, reports: Vec<SiteReport>);
    /// An accepted sender is gone. A newer session of the same sender may stand already.
    fn disconnected(&self, peer: Peer, hello: &Hello, reason: &str, stats: &ReceiverStats);
}

/// Takes the fate of one proposed block. Dropping it means [`Outcome::Dropped`].
pub struct Completion {
    token: Token,
    fates: Option<mpsc::UnboundedSender<(Token, Outcome)>>,
}

impl Completion {
    /// The block is durable at this tier (now, or it was before): acknowledge it.
    pub fn committed(self) {
        self.finish(Outcome::Committed);
    }

    /// The block will not become durable through this node: the sender sends it again.
    pub fn dropped(self) {
        self.finish(Outcome::Dropped);
    }

    fn finish(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(fates) = self.fates.take() {
            // The connection may be gone; the sender learns the fate from its next welcome.
            let _ = fates.send((self.token, outcome));
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.tell(Outcome::Dropped);
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Counters of a server, for metrics. Relaxed: each is right, together they may be of different moments.
#[derive(Debug, Default)]
pub struct ServerStats {
    /// Connections that stand.
    pub connections: AtomicU64,
    /// Connections accepted.
    pub accepted_total: AtomicU64,
    /// Connections refused over the limit.
    pub refused_total: AtomicU64,
    /// Bytes received.
    pub bytes_in_total: AtomicU64,
    /// Bytes sent.
    pub bytes_out_total: AtomicU64,
    /// Blocks received.
    pub blocks_in_total: AtomicU64,
    /// Events in them.
    pub events_in_total: AtomicU64,
    /// Blocks and frames refused.
    pub rejected_total: AtomicU64,
}

impl ServerStats {
    fn add(&self, before: &ReceiverStats, after: &ReceiverStats) {
        let add = |counter: &AtomicU64, from: u64, to: u64| counter.fetch_add(to - from, Ordering::Relaxed);
        add(&self.bytes_in_total, before.bytes_in, after.bytes_in);
        add(&self.bytes_out_total, before.bytes_out, after.bytes_out);
        add(&self.blocks_in_total, before.blocks_in, after.blocks_in);
        add(&self.events_in_total, before.events_in, after.events_in);
        add(&self.rejected_total, before.rejected, after.rejected);
    }
}

/// Serves until shutdown (true, or its sender dropped), then says goodbye to every session.
pub async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    host: Arc<dyn UplinkHost>,
    leadership: watch::Receiver<Leadership>,
    stats: Arc<ServerStats>,
    mut shutdown: watch::Receiver<bool>,
) {
    let clock = Clock::new();
    let permits = Arc::new(Semaphore::new(config.connections_max));
    let mut sessions = JoinSet::new();
    let mut next_session = 0;
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
            Some(_) = sessions.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept an uplink");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            stats.refused_total.fetch_add(1, Ordering::Relaxed);
            debug!(%address, limit = config.connections_max, "too many uplinks, one is refused");
            continue;
        };
        stats.accepted_total.fetch_add(1, Ordering::Relaxed);
        stats.connections.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            peer: Peer { session: next_session, address },
            receiver: Receiver::new(config.receiver.clone(), clock.now_ms()),
            clock,
            host: host.clone(),
            accepted: None,
            counted: ReceiverStats::default(),
            stats: stats.clone(),
            reason: None,
            congestion: config.congestion.clone(),
        };
        next_session += 1;
        let (leadership, shutdown) = (leadership.clone(), shutdown.clone());
        sessions.spawn(async move {
            session.run(stream, leadership, shutdown).await;
            drop(permit);
        });
    }
    // Each has seen the shutdown and has a bounded time to leave.
    while sessions.join_next().await.is_some() {}
}

struct Session {
    peer: Peer,
    receiver: Receiver,
    clock: Clock,
    host: Arc<dyn UplinkHost>,
    /// The hello, once the host accepted it.
    accepted: Option<Hello>,
    counted: ReceiverStats,
    stats: Arc<ServerStats>,
    /// Why the receiver closed.
    reason: Option<String>,
    /// See [`ServerConfig::congestion`].
    congestion: Option<String>,
}

impl Session {
    async fn run(
        mut self,
        stream: TcpStream,
        mut leadership: watch::Receiver<Leadership>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        tune(&stream, self.congestion.as_deref());
        let (fates_in, mut fates) = mpsc::unbounded_channel();
        let mut wire = Wire::new(stream, FrameDecoder::for_receiver());
        let broken = loop {
            while wire.has_room()
                && let Some(frame) = self.receiver.poll_transmit()
            {
                wire.push(&frame);
            }
            self.count();
            if self.receiver.is_closed() {
                break None;
            }
            tokio::select! {
                moved = wire.step() => {
                    if let Err(error) = moved {
                        break Some(error.to_string());
                    }
                    self.read(&mut wire);
                }
                Some((token, outcome)) = fates.recv() => {
                    self.receiver.on_committed(token, outcome);
                    while let Ok((token, outcome)) = fates.try_recv() {
                        self.receiver.on_committed(token, outcome);
                    }
                }
                leader = lost_leadership(&mut leadership), if self.accepted.is_some() => {
                    self.receiver.redirect(leader, "this node no longer leads");
                }
                () = stopped(&mut shutdown) => self.receiver.goodbye("this node is shutting down"),
                () = self.clock.sleep_until(self.receiver.next_timeout()) => {
                    self.receiver.on_tick(self.clock.now_ms());
                }
            }
            self.act(&fates_in);
            if self.accepted.is_some() {
                wire.decoder.open();
            }
        };
        let reason = broken.or(self.reason.take()).unwrap_or_default();
        if let Some(hello) = &self.accepted {
            info!(sender = %hello.sender, address = %self.peer.address, %reason, "uplink ended");
            self.host.disconnected(self.peer, hello, &reason, &self.receiver.stats());
        } else {
            debug!(address = %self.peer.address, %reason, "connection ended before it was accepted");
        }
        if self.receiver.is_closed() {
            wire.linger().await;
        }
        self.count();
        self.stats.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn read(&mut self, wire: &mut Wire) {
        let now = self.clock.now_ms();
        loop {
            match wire.decoder.next_frame() {
                Ok(Some(frame)) => self.receiver.on_frame(now, Clock::unix_ms(), frame),
                Ok(None) => break,
                Err(error) => {
                    self.receiver.on_frame_error(&error);
                    break;
                }
            }
        }
        self.receiver.on_partial(now, wire.decoder.partial_bytes());
    }

    fn act(&mut self, fates: &mpsc::UnboundedSender<(Token, Outcome)>) {
        while let Some(action) = self.receiver.poll_action() {
            match action {
                ReceiverAction::Hello(hello) => self.greet(hello),
                ReceiverAction::Propose { token, block, header } => {
                    let completion = Completion { token, fates: Some(fates.clone()) };
                    self.host.propose(self.peer, block, *header, completion);
                }
                ReceiverAction::Heartbeat(heartbeat) => {
                    if let Some(hello) = &self.accepted {
                        self.host.heartbeat(self.peer, hello, &heartbeat, &self.receiver.stats());
                    }
                }
                ReceiverAction::Sites(reports) => {
                    if let Some(hello) = &self.accepted {
                        self.host.sites(self.peer, hello, reports);
                    }
                }
                ReceiverAction::Close { reason } => self.reason = Some(reason),
            }
        }
    }

    fn greet(&mut self, hello: Hello) {
        match self.host.hello(self.peer, &hello) {
            HelloAnswer::Accept { coverage, window_bytes, term } => {
                let Hello { sender, epoch, agent, .. } = &hello;
                info!(%sender, %epoch, agent, address = %self.peer.address, "uplink accepted");
                self.receiver.accept(coverage, window_bytes, term);
                self.accepted = Some(hello);
            }
            HelloAnswer::Redirect { address } => self.receiver.redirect(address, "this node does not lead"),
            HelloAnswer::Reject { code, message } => self.receiver.reject(code, &message),
        }
    }

    fn count(&mut self) {
        let now = self.receiver.stats();
        self.stats.add(&self.counted, &now);
        self.counted = now;
    }
}

/// Waits until this node does not lead, and says who does.
async fn lost_leadership(leadership: &mut watch::Receiver<Leadership>) -> Option<String> {
    let following = leadership.wait_for(|now| matches!(now, Leadership::Following { .. })).await;
    match following.as_deref() {
        Ok(Leadership::Following { leader }) => leader.clone(),
        // The owner is gone; the shutdown says so, too.
        Ok(Leadership::Leading) | Err(_) => None,
    }
}
