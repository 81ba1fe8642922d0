//! Drives a [`Sender`] over TCP: dials, writes, reads and keeps its timers.
//!
//! The owner of the data gives an [`Outbox`] that this task may read at any
//! time (block reads happen here, inline, from the page cache), and the ends of
//! four channels. It notifies [`Ports::wakeups`] after it added blocks, and
//! applies what comes out of [`Ports::actions`]: above all
//! [`Action::Acked`], upon which blocks may be reclaimed.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use grey_sync::{Action, DrainState, FrameDecoder, Outbox, Sender, SenderConfig, SenderConfigError, UplinkStatus};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::wire::{Wire, tune};

/// Actions that wait for an owner that does not take them; acknowledgements
/// are merged, so that only oddities can reach this.
const PENDING_ACTIONS_MAX: usize = 256;
/// The published status is at most this old.
const STATUS_INTERVAL_MS: u64 = 500;
/// How often the outbox is looked at while no session stands, if anything happens at all.
const OBSERVE_INTERVAL_MS: u64 = 5_000;
/// How long the goodbye at shutdown may take.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// What connects the task with its owner.
#[derive(Debug)]
pub struct Ports {
    /// Notified by the owner when the outbox has new blocks.
    pub wakeups: Arc<Notify>,
    /// What the owner has to do or to know; dialling and closing are done here and do not appear.
    pub actions: mpsc::Sender<Action>,
    /// How the uplink does, published on every change of state and twice a second while anything happens.
    pub status: watch::Sender<Option<LinkStatus>>,
    /// Set to true (or dropped) to end.
    pub shutdown: watch::Receiver<bool>,
}

/// A sender's status with the two clocks at the time it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The status; its times are monotonic milliseconds of this task.
    pub uplink: UplinkStatus,
    /// Those milliseconds when it was taken.
    pub now_ms: u64,
    /// The wall clock then, Unix milliseconds.
    pub now_unix_ms: i64,
}

impl LinkStatus {
    /// A time of the status as Unix milliseconds.
    pub fn unix_ms(&self, at_ms: u64) -> i64 {
        let ago = i64::try_from(self.now_ms).unwrap_or(i64::MAX) - i64::try_from(at_ms).unwrap_or(i64::MAX);
        self.now_unix_ms.saturating_sub(ago)
    }
}

/// Runs one uplink until shutdown, or until the owner dropped its end of the
/// actions. `start` is, per lane, the first position that is not acknowledged.
pub async fn run<O: Outbox + Send>(
    config: SenderConfig,
    start: [u64; 3],
    outbox: O,
    ports: Ports,
) -> Result<(), SenderConfigError> {
    let clock = Clock::new();
    let congestion = config.congestion.clone();
    let sender = Sender::new(config, start, clock.now_ms())?;
    let Ports { wakeups, actions, status, shutdown } = ports;
    let task = Task {
        sender,
        outbox,
        clock,
        congestion,
        observed_ms: None,
        connection: Connection::None,
        pending: VecDeque::new(),
        status,
        published_ms: 0,
        is_dirty: true,
    };
    task.run(&wakeups, &actions, shutdown).await;
    Ok(())
}

/// True once shutdown was asked for, or nobody is left to ask.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum Connection {
    None,
    Dialing(Dialing),
    Open(Box<Wire>),
}

enum Happened {
    Dialed(io::Result<TcpStream>),
    Moved(io::Result<()>),
}

impl Connection {
    /// Cancel-safe: dialling goes on where it was.
    async fn step(&mut self) -> Happened {
        match self {
            Self::None => std::future::pending().await,
            Self::Dialing(dialing) => Happened::Dialed(dialing.as_mut().await),
            Self::Open(wire) => Happened::Moved(wire.step().await),
        }
    }
}

struct Task<O> {
    sender: Sender,
    outbox: O,
    clock: Clock,
    congestion: Option<String>,
    /// When the outbox was looked at last while there was no session.
    observed_ms: Option<u64>,
    connection: Connection,
    pending: VecDeque<Action>,
    status: watch::Sender<Option<LinkStatus>>,
    published_ms: u64,
    is_dirty: bool,
}

impl<O: Outbox + Send> Task<O> {
    async fn run(mut self, wakeups: &Notify, actions: &mpsc::Sender<Action>, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.look();
            let takes_more = self.transmit();
            self.act();
            let deadline = if takes_more { self.sender.next_timeout() } else { self.sender.next_deadline() };
            let publish = self.is_dirty.then(|| self.published_ms.saturating_add(STATUS_INTERVAL_MS));
            let wake_at = deadline.into_iter().chain(publish).min();
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                happened = self.connection.step() => self.on_happened(happened),
                () = wakeups.notified() => self.sender.wake(),
                () = self.clock.sleep_until(wake_at) => self.sender.on_tick(self.clock.now_ms()),
                permit = actions.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => if let Some(action) = self.pending.pop_front() {
                        permit.send(action);
                    },
                    Err(_) => break,
                },
            }
        }
        self.farewell(actions).await;
    }

    /// Tells the sender the wall clock, and what waits while no session tells it.
    fn look(&mut self) {
        let now = self.clock.now_ms();
        self.sender.on_clock(now, Clock::unix_ms());
        let is_due = self.observed_ms.is_none_or(|last| now >= last.saturating_add(OBSERVE_INTERVAL_MS));
        if is_due && !self.sender.is_live() {
            self.observed_ms = Some(now);
            self.sender.observe(now, &mut self.outbox);
        }
    }

    /// Fills the connection's write buffer. False when it is full.
    fn transmit(&mut self) -> bool {
        let Connection::Open(wire) = &mut self.connection else {
            return true;
        };
        while wire.has_room() {
            match self.sender.poll_transmit(self.clock.now_ms(), &mut self.outbox) {
                Some(frame) => wire.push(&frame),
                None => return true,
            }
        }
        false
    }

    /// Does what the sender asks for, and keeps what is for the owner.
    fn act(&mut self) {
        while let Some(action) = self.sender.poll_action() {
            self.is_dirty = true;
            match action {
                Action::Dial { address, attempt } => {
                    debug!(%address, attempt, "dialling");
                    let congestion = self.congestion.clone();
                    self.connection = Connection::Dialing(Box::pin(async move {
                        let stream = TcpStream::connect(address).await?;
                        tune(&stream, congestion.as_deref());
                        Ok(stream)
                    }));
                }
                Action::Close { reason } => {
                    debug!(%reason, "uplink closed");
                    self.connection = Connection::None;
                }
                other => self.keep(other),
            }
        }
        if self.is_dirty && self.clock.now_ms() >= self.published_ms.saturating_add(STATUS_INTERVAL_MS) {
            self.publish();
        }
    }

    fn keep(&mut self, action: Action) {
        match &action {
            Action::Established { address, node, term } => info!(%address, node, term, "uplink established"),
            Action::Link(change) => {
                let why = self.sender.status().last_failure.unwrap_or_default();
                info!(from = %change.from, to = %change.to, cause = %change.cause, last_failure = %why, "link state");
            }
            Action::Rejected { code, message } => warn!(%code, %message, "the tier above refused this sender"),
            Action::PeerAhead { streams } => {
                warn!(?streams, "the tier above has more of this life than this disk: a new epoch is needed");
            }
            Action::Unsendable { lane, position, reason } => warn!(%lane, position, %reason, "a block cannot be sent"),
            Action::OutboxFailed { lane, reason } => warn!(%lane, %reason, "the outbox cannot be read"),
            Action::Drain(DrainState::Stalled { reason, .. }) => {
                warn!(kind = reason.as_str(), %reason, "nothing drains");
            }
            Action::Drain(state) => info!(state = state.as_str(), "it drains again"),
            Action::Acked { .. } | Action::Covered { .. } | Action::Dial { .. } | Action::Close { .. } => {}
        }
        if let Action::Acked { lane, upto } = action
            && let Some(waiting) = self.pending.iter_mut().find_map(|other| match other {
                Action::Acked { lane: of, upto } if *of == lane => Some(upto),
                _ => None,
            })
        {
            *waiting = upto;
            return;
        }
        if matches!(action, Action::Link(_) | Action::Established { .. } | Action::Drain(_)) {
            self.publish();
        }
        if self.pending.len() >= PENDING_ACTIONS_MAX {
            warn!(?action, "the owner of the uplink takes no actions, one is dropped");
            return;
        }
        self.pending.push_back(action);
    }

    fn on_happened(&mut self, happened: Happened) {
        let now = self.clock.now_ms();
        self.is_dirty = true;
        match happened {
            Happened::Dialed(Ok(stream)) => {
                self.connection = Connection::Open(Box::new(Wire::new(stream, FrameDecoder::for_sender())));
                self.sender.on_connected(now);
            }
            Happened::Dialed(Err(error)) | Happened::Moved(Err(error)) => {
                self.connection = Connection::None;
                self.sender.on_disconnected(now, &error.to_string());
            }
            Happened::Moved(Ok(())) => self.read(now),
        }
    }

    fn read(&mut self, now: u64) {
        let Connection::Open(wire) = &mut self.connection else {
            return;
        };
        let broken = loop {
            if !self.sender.is_connected() {
                // It closed the connection upon the frame before.
                break None;
            }
            match wire.decoder.next_frame() {
                Ok(Some(frame)) => self.sender.on_frame(now, frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = broken {
            self.connection = Connection::None;
            self.sender.on_disconnected(now, &error.to_string());
        }
    }

    fn publish(&mut self) {
        let now_ms = self.clock.now_ms();
        let status = LinkStatus { uplink: self.sender.status(), now_ms, now_unix_ms: Clock::unix_ms() };
        self.status.send_replace(Some(status));
        self.published_ms = now_ms;
        self.is_dirty = false;
    }

    /// Says goodbye to the peer, and hands the owner the last acknowledgements.
    async fn farewell(mut self, actions: &mpsc::Sender<Action>) {
        let was_live = self.sender.is_live();
        self.sender.stop(self.clock.now_ms(), "shutting down");
        let connection = std::mem::replace(&mut self.connection, Connection::None);
        if let Connection::Open(mut wire) = connection
            && was_live
        {
            while let Some(frame) = self.sender.poll_transmit(self.clock.now_ms(), &mut self.outbox) {
                wire.push(&frame);
            }
            wire.linger().await;
        }
        self.act();
        self.publish();
        let hand_over = async {
            for action in self.pending.drain(..) {
                if actions.send(action).await.is_err() {
                    break;
                }
            }
        };
        // An owner that does not take them finds out from the next welcome.
        let _ = tokio::time::timeout(FAREWELL_MAX, hand_over).await;
    }
}
