//! One connection without its stream: the phases of a client, the FIFO of what
//! it is owed, and how it ends. Not generic, so that it is compiled once.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::Shared;
use super::registry::{Kick, Place};
use crate::broker::Message;
use crate::intake::{Batch, Refusal};
use crate::mqtt::codec::{ACK_BYTES, Split, split};
use crate::mqtt::session::{Close, Opening, Rejection, Session, Turn, open};

/// Batches of one connection that may wait to become durable: a pipeline deep
/// enough to keep reading through a commit, and a bound on what it holds.
const PENDING_MAX: usize = 64;
/// Operations of one connection that may wait to become durable: with small
/// packets a batch is thousands of them, each larger in memory than on the wire.
const PENDING_OPS_MAX: usize = 16_384;
/// Bytes that may wait for a peer that does not read before it is not read from either.
const OUT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
enum Phase {
    /// Waits for a CONNECT.
    Greeting,
    /// Waits for the older connection of the same client to end.
    TakingOver { opening: Box<Opening>, quiet: oneshot::Receiver<()> },
    /// Serves the client.
    Open(Box<Session>),
    /// Has refused the client: there is no session.
    Refused,
}

/// What a batch earns once it is durable.
#[derive(Debug)]
struct Pending {
    /// `None` for what needs not become durable, but must keep its place.
    done: Option<oneshot::Receiver<Result<(), Refusal>>>,
    ops: usize,
    acks: Vec<u8>,
    credits: u32,
    forwards: Vec<Arc<Message>>,
}

type Reserve = Pin<Box<dyn Future<Output = Result<OwnedPermit<Batch>, SendError<()>>> + Send>>;

/// A batch that the intake has no room for.
struct Blocked {
    batch: Batch,
    reserve: Reserve,
}

/// How a connection ends.
#[derive(Debug)]
struct Ending {
    close: Close,
    /// A batch was refused: nothing more is acknowledged, as acknowledgements keep their order.
    mute: bool,
    farewell: bool,
}

/// The state of one connection but for its stream.
pub(super) struct Client {
    shared: Arc<Shared>,
    place: Place,
    peer: Option<SocketAddr>,
    phase: Phase,
    /// Bytes for the peer.
    pub(super) out: Vec<u8>,
    pending: VecDeque<Pending>,
    pending_ops: usize,
    blocked: Option<Box<Blocked>>,
    timer: Option<Pin<Box<Sleep>>>,
    keep_alive: Duration,
    heard_at: Instant,
    /// Operations of the last batch: the capacity of the next.
    ops_hint: u32,
    ending: Option<Box<Ending>>,
}

impl Client {
    pub(super) fn new(peer: Option<SocketAddr>, shared: Arc<Shared>, place: Place) -> Self {
        let timeout = Duration::from_millis(shared.config.connect_timeout_ms);
        Self {
            place,
            peer,
            phase: Phase::Greeting,
            out: Vec::new(),
            pending: VecDeque::new(),
            pending_ops: 0,
            blocked: None,
            timer: Some(Box::pin(tokio::time::sleep(timeout))),
            keep_alive: Duration::ZERO,
            heard_at: Instant::now(),
            ops_hint: 0,
            ending: None,
            shared,
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether the peer is read from.
    pub(super) fn takes_input(&self) -> bool {
        self.ending.is_none()
            && self.blocked.is_none()
            && self.pending.len() < PENDING_MAX
            && self.pending_ops < PENDING_OPS_MAX
            && self.out.len() < OUT_BYTES_MAX
            && !matches!(self.phase, Phase::TakingOver { .. })
    }

    /// Begins the end, unless it has begun already.
    pub(super) fn end(&mut self, close: Close) {
        if self.ending.is_some() {
            return;
        }
        let counters = &self.shared.config.counters;
        match &close {
            Close::Fault(fault) => counters.fault(*fault),
            Close::ConnectTimeout => counters.connect_timeouts.add(1),
            Close::KeepAlive => counters.keep_alive_timeouts.add(1),
            Close::TakenOver => counters.taken_over.add(1),
            Close::Refused(_) => counters.intake_refused.add(1),
            _ => {}
        }
        tracing::debug!(peer = ?self.peer, ?close, "connection ends");
        let drain = Duration::from_millis(self.shared.config.drain_timeout_ms);
        self.timer = Some(Box::pin(tokio::time::sleep(drain)));
        self.ending = Some(Box::new(Ending { close, mute: false, farewell: false }));
    }

    /// Listens to the registry and to the older connection of the same client.
    /// Returns whether the session has just started.
    pub(super) fn poll_registry(&mut self, task: &mut Task<'_>) -> bool {
        if self.ending.is_some() {
            return false;
        }
        if let Poll::Ready(Ok(kick)) = Pin::new(&mut self.place.kick).poll(task) {
            self.end(match kick {
                Kick::TakenOver => Close::TakenOver,
                Kick::Stopping => Close::Stopping,
            });
            return false;
        }
        let Phase::TakingOver { quiet, .. } = &mut self.phase else { return false };
        if Pin::new(quiet).poll(task).is_pending() {
            return false;
        }
        let Phase::TakingOver { opening, .. } = std::mem::replace(&mut self.phase, Phase::Refused) else {
            return false;
        };
        let mut turn = Turn::default();
        self.open_session(*opening, &mut turn);
        self.submit(turn);
        true
    }

    fn open_session(&mut self, opening: Opening, turn: &mut Turn) {
        // 1.5 times the client's interval; 0 switches it off.
        self.keep_alive = Duration::from_millis(u64::from(opening.keep_alive_s) * 1_500);
        self.timer = (!self.keep_alive.is_zero()).then(|| Box::pin(tokio::time::sleep(self.keep_alive)));
        let session = opening.start(self.place.id, self.shared.context(), turn);
        self.phase = Phase::Open(Box::new(session));
    }

    /// Handles all whole packets at the front of `bytes` as one turn. Returns
    /// the bytes used and those that the packet that is left needs in all.
    pub(super) fn consume(&mut self, bytes: &[u8]) -> (usize, usize) {
        let mut turn = Turn::with_capacity(self.ops_hint as usize);
        let (used, needed) = self.handle(bytes, &mut turn);
        if used > 0 {
            self.heard_at = Instant::now();
        }
        self.submit(turn);
        (used, needed)
    }

    fn handle(&mut self, bytes: &[u8], turn: &mut Turn) -> (usize, usize) {
        let shared = Arc::clone(&self.shared);
        let cx = shared.context();
        let mut used = 0;
        loop {
            match &mut self.phase {
                Phase::Greeting => {
                    let frame = match split(&bytes[used..], cx.config.packet_bytes_max) {
                        Ok(Split::Frame(frame)) => frame,
                        Ok(Split::Partial(needed)) => return (used, needed),
                        Err(fault) => {
                            return self.refuse(Rejection { answer: Vec::new(), close: Close::Fault(fault) }, bytes);
                        }
                    };
                    used += frame.len;
                    match open(&frame, self.peer, cx, || shared.auto_client_id()) {
                        Err(rejection) => return self.refuse(rejection, bytes),
                        Ok(opening) => match self.place.claim(&opening.client_id) {
                            Some(quiet) => self.phase = Phase::TakingOver { opening: Box::new(opening), quiet },
                            None => self.open_session(opening, turn),
                        },
                    }
                }
                // What stands behind the CONNECT is kept until the session starts.
                Phase::TakingOver { .. } => return (used, 0),
                Phase::Open(session) => match session.receive(&bytes[used..], cx, turn) {
                    Ok((more, needed)) => return (used + more, needed),
                    Err(close) => {
                        self.end(close);
                        return (bytes.len(), 0);
                    }
                },
                Phase::Refused => return (bytes.len(), 0),
            }
        }
    }

    fn refuse(&mut self, rejection: Rejection, bytes: &[u8]) -> (usize, usize) {
        self.phase = Phase::Refused;
        self.out.extend(rejection.answer);
        self.end(rejection.close);
        (bytes.len(), 0)
    }

    /// Hands a turn on: replies to the peer, operations to the intake, the rest into the FIFO.
    fn submit(&mut self, turn: Turn) {
        turn.count(&self.shared.config.counters);
        let Turn { ops, acks, credits, forwards, replies, .. } = turn;
        self.out.extend_from_slice(&replies);
        let (mut done, ops_count) = (None, ops.len());
        if !ops.is_empty() {
            self.ops_hint = ops_count as u32;
            let (sender, receiver) = oneshot::channel();
            done = Some(receiver);
            match self.shared.intake.try_send(Batch { ops, arrived: std::time::Instant::now(), done: sender }) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => {
                    self.shared.config.counters.backpressure.add(1);
                    let reserve = Box::pin(self.shared.intake.clone().reserve_owned());
                    self.blocked = Some(Box::new(Blocked { batch, reserve }));
                }
                // The batch is dropped, and its receiver learns it.
                Err(TrySendError::Closed(_)) => {}
            }
        }
        if done.is_some() || !acks.is_empty() || !forwards.is_empty() {
            self.pending_ops += ops_count;
            self.pending.push_back(Pending { done, ops: ops_count, acks, credits, forwards });
        }
    }

    /// Submits a batch that waited for the intake.
    pub(super) fn poll_blocked(&mut self, task: &mut Task<'_>) {
        let Some(blocked) = &mut self.blocked else { return };
        if let Poll::Ready(outcome) = blocked.reserve.as_mut().poll(task)
            && let Some(blocked) = self.blocked.take()
            && let Ok(permit) = outcome
        {
            permit.send(blocked.batch);
        }
    }

    /// Releases what has become durable, in order.
    pub(super) fn poll_pending(&mut self, task: &mut Task<'_>) {
        while let Some(pending) = self.pending.front_mut() {
            let outcome = match &mut pending.done {
                None => Ok(()),
                Some(done) => match Pin::new(done).poll(task) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(outcome)) => outcome,
                    // The intake is gone without a word.
                    Poll::Ready(Err(_)) => Err(Refusal::Stopping),
                },
            };
            let Some(pending) = self.pending.pop_front() else { return };
            self.pending_ops -= pending.ops;
            match outcome {
                Ok(()) => self.release(pending),
                Err(refusal) => {
                    self.end(Close::Refused(refusal));
                    self.mute();
                }
            }
        }
        if self.pending.capacity() > 4 {
            self.pending = VecDeque::new();
        }
    }

    fn release(&mut self, pending: Pending) {
        for message in &pending.forwards {
            self.shared.broker.deliver(message);
        }
        if let Phase::Open(session) = &mut self.phase {
            session.credit(pending.credits);
        }
        if self.ending.as_ref().is_some_and(|ending| ending.mute) {
            return;
        }
        self.shared.config.counters.acks.add((pending.acks.len() / ACK_BYTES) as u64);
        if self.out.is_empty() {
            self.out = pending.acks;
        } else {
            self.out.extend_from_slice(&pending.acks);
        }
    }

    /// Nothing more is acknowledged, or submitted.
    fn mute(&mut self) {
        self.blocked = None;
        if let Some(ending) = &mut self.ending {
            ending.mute = true;
        }
    }

    /// Moves deliveries into `out`.
    pub(super) fn poll_deliveries(&mut self, task: &mut Task<'_>) {
        if let Phase::Open(session) = &mut self.phase
            && self.ending.is_none()
            && session.is_subscriber()
            && let Err(close) = session.poll_deliveries(task, self.shared.context(), &mut self.out)
        {
            self.end(close);
        }
    }

    /// The stream is broken: nothing can be said any more.
    pub(super) fn lose(&mut self) {
        self.out = Vec::new();
        self.end(Close::Lost);
        if let Some(ending) = &mut self.ending {
            ending.farewell = true;
        }
    }

    /// Puts the last packet into `out` once everything owed is in it. Ready
    /// when nothing follows any more.
    pub(super) fn poll_farewell(&mut self) -> Poll<()> {
        let Some(ending) = &mut self.ending else { return Poll::Pending };
        if self.blocked.is_none() {
            // The next connection of this client need not wait for the disk.
            self.place.quieten();
        }
        let owed = |pending: &Pending| !ending.mute || !pending.forwards.is_empty();
        if self.blocked.is_some() || self.pending.iter().any(owed) {
            return Poll::Pending;
        }
        if !ending.farewell {
            ending.farewell = true;
            if let Phase::Open(session) = &self.phase {
                session.farewell(&ending.close, &mut self.out);
            }
        }
        Poll::Ready(())
    }

    /// Sets the time that is left for the peer to close.
    pub(super) fn expire_in(&mut self, left: Duration) {
        self.timer = Some(Box::pin(tokio::time::sleep(left)));
    }

    /// Whether the time is up: of the end, or, beginning it, of the phase.
    pub(super) fn poll_timer(&mut self, task: &mut Task<'_>) -> bool {
        loop {
            let Some(timer) = &mut self.timer else { return false };
            if timer.as_mut().poll(task).is_pending() {
                return false;
            }
            if self.ending.is_some() {
                return true;
            }
            if !matches!(self.phase, Phase::Open(_)) {
                self.end(Close::ConnectTimeout);
                return true;
            }
            // Packets only note their time; the timer is set again when it fires.
            if !self.takes_input() {
                // What the peer says meanwhile is not read: it is not silent.
                self.heard_at = Instant::now();
            }
            let deadline = self.heard_at + self.keep_alive;
            if deadline <= Instant::now() {
                self.end(Close::KeepAlive);
                return true;
            }
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(deadline);
            }
        }
    }
}
