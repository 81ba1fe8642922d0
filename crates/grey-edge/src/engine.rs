//! The thread that owns the edge core.
//!
//! One round: take what connections sent, write it with one fsync,
//! acknowledge, evaluate, hand blocks to the outbox. While the disk works the
//! next round gathers: the group commit needs no timer.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grey_disk::Disk;
use grey_ingest::{Batch, IntakeSender, Refusal};
use grey_model::{Lane, Seq, StreamKey};
use grey_queue::UplinkReader;
use grey_rules::{DerivedEvent, Operation, OperationError, RuleSet};
use grey_sync::{Outbox, OutboxError, OwnStreams, Status};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::core::{
    CoreConfig, CoreError, EdgeCore, Flights, Listener, LocalQuery, Opened, OperateError, Progress, Request,
    RoundDriver,
};
use crate::syncer::{ThreadFolder, ThreadSyncer};
use crate::time::{monotonic_us, unix_ms};

/// Batches that wait for the engine: with one read buffer each, the bound on
/// memory between sockets and disk.
const BATCHES_WAITING_MAX: usize = 4_096;
/// Batches of one group commit.
const BATCHES_PER_COMMIT: usize = 256;
/// Intake records replayed between two looks at the control channel.
const REPLAY_STEP: u64 = 64;
/// Events replayed for each one that is taken meanwhile.
const CATCH_UP: u64 = 2;
/// The longest sleep of an idle engine.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// How often the status for heartbeats is renewed, ms.
const STATUS_INTERVAL_MS: u64 = 500;

/// What the engine tells its owner while it runs. Called on the engine's thread.
pub trait EngineEvents: Send {
    /// Requests that rules ask for; each is to be answered with [`EngineHandle::answered`].
    fn requests(&mut self, requests: VecDeque<(u64, Request)>);
    /// How far the replay is; `None` once it is done.
    fn recovering(&mut self, progress: Option<Progress>);
    /// A commit was made durable: events in it and how long it took, µs.
    fn committed(&mut self, events: u64, micros: u64);
    /// A batch was acknowledged this long after it was read.
    fn acknowledged(&mut self, events: usize, took: Duration);
    /// A batch was refused.
    fn refused(&mut self, refusal: &Refusal, events: usize);
}

/// What the engine tells at once of decisions, before any disk has them. Called on the engine's thread.
pub trait Decisions: Send + Debug {
    /// A rule derived an event that is new.
    fn derived(&mut self, derived: &DerivedEvent);
    /// A batch was evaluated this long after it was read.
    fn decided(&mut self, events: usize, took: Duration);
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperateFailure {
    /// The site still replays its intake.
    #[error("the site is recovering")]
    Recovering,
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] OperationError),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The engine has ended, or ends with this.
    #[error("the engine has ended: {0}")]
    Ended(String),
}

type Visit = Box<dyn FnOnce(&mut EdgeCore) + Send>;

enum Control {
    Acked { lane: Lane, upto: u64 },
    ParentAhead(Vec<(StreamKey, Seq)>),
    Rules(Arc<RuleSet>, oneshot::Sender<Result<(), String>>),
    Operate(Operation, oneshot::Sender<Result<(), OperateFailure>>),
    Answered(u64),
    Online(bool),
    Visit(Visit),
    Stop,
}

/// The engine's face to the async side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    /// Where connections send batches.
    pub intake: IntakeSender,
    control: mpsc::UnboundedSender<Control>,
    /// Notified when the outbox has something new.
    pub outbox_ready: Arc<Notify>,
    /// True once the replay is done and events are taken.
    pub recovered: watch::Receiver<bool>,
    shared: Arc<Mutex<Shared>>,
    outbox: UplinkReader,
    query: LocalQuery,
}

#[derive(Debug, Default)]
struct Shared {
    own: OwnStreams,
    status: Status,
}

impl EngineHandle {
    /// Runs a closure on the engine's thread and returns what it returned;
    /// `None` when the engine has ended.
    pub async fn visit<T: Send + 'static>(&self, look: impl FnOnce(&mut EdgeCore) -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let visit: Visit = Box::new(move |core| {
            let _ = tell.send(look(core));
        });
        self.control.send(Control::Visit(visit)).ok()?;
        told.await.ok()
    }

    /// The hub has every block of the lane below a position.
    pub fn acked(&self, lane: Lane, upto: u64) {
        let _ = self.control.send(Control::Acked { lane, upto });
    }

    /// The hub knows sequences that this site never gave.
    pub fn parent_ahead(&self, streams: Vec<(StreamKey, Seq)>) {
        let _ = self.control.send(Control::ParentAhead(streams));
    }

    /// Changes the rules between two events.
    pub async fn set_rules(&self, rules: Arc<RuleSet>) -> Result<(), String> {
        let (tell, told) = oneshot::channel();
        let ended = || "the engine has ended".to_owned();
        self.control.send(Control::Rules(rules, tell)).map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }

    /// Does what a person asks for, between two events.
    pub async fn operate(&self, operation: Operation) -> Result<(), OperateFailure> {
        let (tell, told) = oneshot::channel();
        let ended = || OperateFailure::Ended("it was stopped".into());
        self.control.send(Control::Operate(operation, tell)).map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }

    /// A request was answered, or is given up.
    pub fn answered(&self, request: u64) {
        let _ = self.control.send(Control::Answered(request));
    }

    /// The hub can be reached, or cannot: while it cannot, blocks wait until they are large.
    pub fn online(&self, is_online: bool) {
        let _ = self.control.send(Control::Online(is_online));
    }

    /// Flushes, saves a checkpoint and ends the engine.
    pub fn stop(&self) {
        let _ = self.control.send(Control::Stop);
    }

    /// What the uplink reads.
    pub fn outbox(&self) -> EdgeOutbox {
        EdgeOutbox { reader: self.outbox.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Where local queries read.
    pub fn local_query(&self) -> LocalQuery {
        self.query.clone()
    }
}

/// The outbox as the uplink's sender sees it.
#[derive(Debug, Clone)]
pub struct EdgeOutbox {
    reader: UplinkReader,
    shared: Arc<Mutex<Shared>>,
}

impl Outbox for EdgeOutbox {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        self.reader.next(lane, from).map_err(|error| OutboxError(error.to_string()))
    }

    fn end(&mut self, lane: Lane) -> Option<u64> {
        Some(self.reader.end(lane))
    }

    fn own_streams(&mut self) -> OwnStreams {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).own
    }

    fn status(&mut self) -> Status {
        let mut status = self.shared.lock().unwrap_or_else(PoisonError::into_inner).status.clone();
        status.now_ms = unix_ms();
        status
    }
}

/// The engine before its thread runs.
pub struct Engine {
    core: EdgeCore,
    batches: mpsc::Receiver<Batch>,
    control: mpsc::UnboundedReceiver<Control>,
    outbox_ready: Arc<Notify>,
    recovered: watch::Sender<bool>,
    shared: Arc<Mutex<Shared>>,
    /// When the status was shared last, Unix ms.
    shared_ms: i64,
    /// Notified when the intake's disk has something, or a fold is made.
    synced: Arc<Notify>,
    flights: Flights<Waiting>,
    arrivals: Arrivals,
}

/// Batches that were taken and are not evaluated yet: when each was read, and its events.
type Arrivals = Arc<Mutex<Vec<(Instant, usize)>>>;

/// Passes on what the core tells, with the times that the core does not know.
#[derive(Debug)]
struct Timed {
    decisions: Box<dyn Decisions>,
    arrivals: Arrivals,
}

impl Listener for Timed {
    fn derived(&mut self, derived: &DerivedEvent) {
        self.decisions.derived(derived);
    }

    fn evaluated(&mut self) {
        for (arrived, events) in self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.decisions.decided(events, arrived.elapsed());
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("site", self.core.site()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the data directory at the disk's root.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: CoreConfig,
        entropy: (u64, u64),
    ) -> Result<(Self, EngineHandle, Opened), CoreError> {
        let (core, opened) = EdgeCore::open(disk, config, unix_ms(), entropy)?;
        let (intake, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let (control_sender, control) = mpsc::unbounded_channel();
        let (recovered, recovered_watch) = watch::channel(false);
        let outbox_ready = Arc::new(Notify::new());
        let shared = Arc::new(Mutex::new(Shared::default()));
        let handle = EngineHandle {
            intake,
            control: control_sender,
            outbox_ready: Arc::clone(&outbox_ready),
            recovered: recovered_watch,
            shared: Arc::clone(&shared),
            outbox: core.uplink(),
            query: core.local_query(),
        };
        let engine = Self {
            core,
            batches,
            control,
            outbox_ready,
            recovered,
            shared,
            shared_ms: 0,
            synced: Arc::default(),
            flights: Flights::default(),
            arrivals: Arc::default(),
        };
        Ok((engine, handle, opened))
    }

    /// Runs until [`EngineHandle::stop`] or a failure of the disk. Blocks the calling thread.
    pub fn run(mut self, events: &mut dyn EngineEvents, decisions: Box<dyn Decisions>) -> Result<(), CoreError> {
        self.core.set_listener(Box::new(Timed { decisions, arrivals: Arc::clone(&self.arrivals) }));
        let cannot = |action| move |source| CoreError::Io { action, path: PathBuf::from("the engine"), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(cannot("start the timer of"))?;
        let syncer = ThreadSyncer::start(Arc::clone(&self.synced)).map_err(cannot("start the sync thread of"))?;
        self.core.set_syncer(Box::new(syncer));
        let folder = ThreadFolder::start(Arc::clone(&self.synced)).map_err(cannot("start the fold thread of"))?;
        self.core.set_folder(Box::new(folder));
        runtime.block_on(self.serve(events))
    }

    async fn serve(&mut self, events: &mut dyn EngineEvents) -> Result<(), CoreError> {
        let mut waiting = Vec::with_capacity(BATCHES_PER_COMMIT);
        self.share();
        let mut taken = 0;
        while !self.replay(taken)? {
            let mut stopping = false;
            while let Ok(control) = self.control.try_recv() {
                stopping |= self.obey(control)?;
            }
            // What devices send meanwhile is made durable behind what is replayed.
            while waiting.len() < BATCHES_PER_COMMIT
                && let Ok(batch) = self.batches.try_recv()
            {
                waiting.push(batch);
            }
            taken = waiting.iter().map(|batch| batch.ops.len() as u64).sum();
            self.round(&mut waiting, events)?;
            events.recovering(self.core.recovery());
            if stopping {
                return self.end(&mut waiting, events);
            }
        }
        events.recovering(None);
        self.share();
        self.recovered.send_replace(true);
        self.outbox_ready.notify_one();
        loop {
            let mut stopping = false;
            let wait = self.wait();
            tokio::select! {
                biased;
                control = self.control.recv() => stopping = self.obey(control.unwrap_or(Control::Stop))?,
                _ = self.batches.recv_many(&mut waiting, BATCHES_PER_COMMIT) => {}
                () = self.synced.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok(control) = self.control.try_recv() {
                stopping |= self.obey(control)?;
            }
            if stopping {
                self.batches.close();
                while let Ok(batch) = self.batches.try_recv() {
                    waiting.push(batch);
                }
            }
            self.round(&mut waiting, events)?;
            if stopping {
                return self.end(&mut waiting, events);
            }
        }
    }

    /// Replays one step, and more of them until twice as many events are replayed as were taken
    /// meanwhile: it must catch up.
    fn replay(&mut self, taken: u64) -> Result<bool, CoreError> {
        let goal = self.core.counters().events + CATCH_UP * taken;
        loop {
            if self.core.replay(REPLAY_STEP, unix_ms())? {
                return Ok(true);
            }
            if self.core.counters().events >= goal {
                return Ok(false);
            }
        }
    }

    /// Saves a checkpoint and answers everybody.
    fn end(&mut self, waiting: &mut Vec<Batch>, events: &mut dyn EngineEvents) -> Result<(), CoreError> {
        let saved = self.core.checkpoint(unix_ms());
        // The checkpoint waited for the disk; now everybody is answered.
        self.round(waiting, events)?;
        match saved {
            Err(error) if error.is_full() => Ok(()),
            other => other,
        }
    }

    fn wait(&self) -> Duration {
        let due = self.core.flush_due_ms().into_iter().chain(self.core.tick_due_ms()).min();
        let wait_ms = due.map(|due| due.saturating_sub(unix_ms()).max(0) as u64);
        wait_ms.map_or(IDLE_WAIT, |ms| Duration::from_millis(ms.max(1))).min(IDLE_WAIT)
    }

    fn round(&mut self, waiting: &mut Vec<Batch>, events: &mut dyn EngineEvents) -> Result<(), CoreError> {
        let arrivals = Arc::clone(&self.arrivals);
        let is_recovered = self.core.is_recovered();
        let batches = waiting.drain(..).map(|Batch { ops, arrived, done }| {
            let events = ops.len();
            if is_recovered {
                arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((arrived, events));
            }
            (ops, Waiting { events, arrived, done })
        });
        let mut surroundings = Surroundings { events };
        if self.core.round(batches, &mut self.flights, &mut surroundings)? {
            self.outbox_ready.notify_one();
        }
        // The listener was told of them.
        drop(self.core.take_derived());
        if unix_ms().saturating_sub(self.shared_ms).unsigned_abs() >= STATUS_INTERVAL_MS {
            self.share();
        }
        Ok(())
    }

    fn obey(&mut self, control: Control) -> Result<bool, CoreError> {
        match control {
            Control::Acked { lane, upto } => self.core.acknowledged(lane, upto)?,
            Control::ParentAhead(streams) => {
                let core = &mut self.core;
                if core.parent_is_ahead(&streams, unix_ms())? {
                    tracing::error!(
                        ?streams, epoch = %core.epoch(),
                        "the hub has more of this life than the data directory: it was restored or rolled back; a new life begins"
                    );
                    self.share();
                    self.outbox_ready.notify_one();
                }
            }
            Control::Rules(rules, tell) => {
                let result = self.core.set_rules(rules, unix_ms());
                let _ = tell.send(result.as_ref().map_err(ToString::to_string).copied());
                result?;
            }
            Control::Operate(operation, tell) => {
                let result = self.core.operate(&operation, unix_ms());
                let (answer, error) = match result {
                    Ok(()) => (Ok(()), None),
                    Err(OperateError::Recovering) => (Err(OperateFailure::Recovering), None),
                    Err(OperateError::Refused(error)) => (Err(OperateFailure::Refused(error)), None),
                    Err(OperateError::Core(error)) if error.is_full() => (Err(OperateFailure::Full), None),
                    Err(OperateError::Core(error)) => (Err(OperateFailure::Ended(error.to_string())), Some(error)),
                };
                let _ = tell.send(answer);
                return error.map_or(Ok(false), Err);
            }
            Control::Answered(request) => self.core.answered(request),
            Control::Online(is_online) => self.core.set_online(is_online),
            Control::Visit(visit) => visit(&mut self.core),
            Control::Stop => return Ok(true),
        }
        Ok(false)
    }

    /// Publishes what the uplink says of this site.
    fn share(&mut self) {
        self.shared_ms = unix_ms();
        let (own, status) = (self.core.own_streams(), self.core.uplink_status(self.shared_ms));
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Shared { own, status };
    }
}

/// A producer that waits for the fate of its batch.
struct Waiting {
    events: usize,
    arrived: Instant,
    done: oneshot::Sender<Result<(), Refusal>>,
}

/// The clocks and the listener of a round.
struct Surroundings<'a> {
    events: &'a mut dyn EngineEvents,
}

impl RoundDriver for Surroundings<'_> {
    type Done = Waiting;

    fn now_ms(&mut self) -> i64 {
        unix_ms()
    }

    fn monotonic_us(&mut self) -> u64 {
        monotonic_us()
    }

    fn answer(&mut self, waiting: Waiting, answer: Result<(), Refusal>) {
        let Waiting { events, arrived, done } = waiting;
        match &answer {
            Ok(()) => self.events.acknowledged(events, arrived.elapsed()),
            Err(refusal) => self.events.refused(refusal, events),
        }
        let _ = done.send(answer);
    }

    fn committed(&mut self, events: u64, micros: u64) {
        self.events.committed(events, micros);
    }

    fn requests(&mut self, requests: VecDeque<(u64, Request)>) {
        self.events.requests(requests);
    }

    fn waits_for_space(&mut self, error: &CoreError) {
        // Said once, by the core.
        tracing::debug!(%error, "the disk is full");
    }
}
