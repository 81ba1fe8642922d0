//! The thread that owns the core: feeds it ticks and inputs, and hands out
//! what comes of each round.
//!
//! Everything else talks to it through [`EngineHandle`]: sending never waits,
//! and what may be in flight is bounded by the senders (windows of the uplink
//! sessions, the queues of the peer links).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grey_api::{EventPage, EventQuery};
use grey_consensus::{EntryReader, ProposeError, Role, Status};
use grey_ledger::SiteReport;
use grey_model::Lane;
use grey_net::uplink_server::Completion;
use grey_sync::Outcome;
use tokio::sync::watch;

use crate::core::{NewBlock, ReplicaCore, ReplicaError, Round, SharedState};
use crate::index::{BlockIndex, IndexError};

/// Inputs taken before a round of consensus: bounds the latency of a round.
const INPUTS_PER_ROUND: usize = 2_048;
/// How long a stopping leader waits for its successor.
const TRANSFER_MAX: Duration = Duration::from_secs(3);

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// A message from another member.
    Peer {
        /// Its id.
        from: u64,
        /// The message.
        message: Bytes,
    },
    /// Make a block durable.
    Propose {
        /// The block.
        block: Bytes,
        /// Events in it.
        events: u32,
        /// Takes its fate.
        completion: Completion,
    },
    /// The tier above has every block of the lane below a log index.
    Forwarded {
        /// The lane.
        lane: Lane,
        /// The first index that it does not have.
        upto: u64,
    },
    /// Replicate what is known of sites.
    Sites(Vec<SiteReport>),
    /// Hand leadership over, save a checkpoint, and end.
    Stop,
}

/// Why the engine ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The core failed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The block index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Sends inputs and reads what the engine publishes.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    inputs: mpsc::Sender<Input>,
    /// Where this member stands, after each round.
    pub standing: watch::Receiver<Standing>,
    /// The applied state.
    pub state: SharedState,
    /// The log.
    pub entries: EntryReader,
    index: Arc<std::sync::RwLock<BlockIndex>>,
}

impl EngineHandle {
    /// Hands an input to the engine. What is sent after its end is dropped;
    /// a dropped completion tells its sender.
    pub fn send(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// One page of events, read from the log.
    pub fn page(&self, query: &EventQuery, limit: usize) -> Result<EventPage, IndexError> {
        self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner).page(&self.entries, query, limit)
    }
}

/// Where a member stands in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Consensus.
    pub consensus: Status,
    /// The term in which this member leads and may answer senders.
    pub leading: Option<u64>,
}

impl Standing {
    fn of(core: &ReplicaCore) -> Self {
        Self { consensus: core.status(), leading: core.leading() }
    }

    fn leads_others(&self) -> bool {
        self.consensus.role == Role::Leader && self.consensus.members.len() > 1
    }
}

/// What the engine calls when something happened. Called on the engine's
/// thread: it must only hand things over.
pub trait EngineEvents: Send {
    /// Messages for other members.
    fn send(&mut self, to: u64, message: Bytes);
    /// New blocks were applied.
    fn applied(&mut self, blocks: &[NewBlock]);
    /// A block that this member proposed is durable: its events and bytes, and how long that took.
    fn committed(&mut self, events: u32, bytes: usize, took: Duration);
}

#[derive(Debug)]
struct Proposed {
    completion: Completion,
    events: u32,
    bytes: usize,
    at: Instant,
}

/// The engine, before its thread is started.
#[derive(Debug)]
pub struct Engine {
    core: ReplicaCore,
    index: Arc<std::sync::RwLock<BlockIndex>>,
    inputs: mpsc::Receiver<Input>,
    standing: watch::Sender<Standing>,
    proposed: BTreeMap<u64, Proposed>,
    next_token: u64,
    tick: Duration,
}

impl Engine {
    /// Joins a core and its block index.
    pub fn new(core: ReplicaCore, mut index: BlockIndex, tick: Duration) -> Result<(Self, EngineHandle), EngineError> {
        let applied = core.state().read().applied();
        if index.applied() < applied {
            tracing::warn!(from = index.applied(), to = applied, "building the block index from the log");
            let first = core.entries().first().max(1);
            index.rebuild(&core.entries(), first, applied)?;
        }
        let (sender, inputs) = mpsc::channel();
        let (standing, standing_watch) = watch::channel(Standing::of(&core));
        let index = Arc::new(std::sync::RwLock::new(index));
        let handle = EngineHandle {
            inputs: sender,
            standing: standing_watch,
            state: core.state(),
            entries: core.entries(),
            index: Arc::clone(&index),
        };
        let engine = Self { core, index, inputs, standing, proposed: BTreeMap::new(), next_token: 0, tick };
        Ok((engine, handle))
    }

    /// Runs until [`Input::Stop`] or a failure of the disk.
    pub fn run(mut self, events: &mut dyn EngineEvents) -> Result<(), EngineError> {
        let mut next_tick = Instant::now() + self.tick;
        let mut stop_by: Option<Instant> = None;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match self.inputs.recv_timeout(wait) {
                Ok(input) => {
                    let mut stopping = self.take(input);
                    for _ in 0..INPUTS_PER_ROUND {
                        match self.inputs.try_recv() {
                            Ok(input) => stopping |= self.take(input),
                            Err(_) => break,
                        }
                    }
                    if stopping && stop_by.is_none() {
                        self.core.transfer_leadership();
                        stop_by = Some(Instant::now() + TRANSFER_MAX);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stop_by = Some(Instant::now()),
            }
            let now = Instant::now();
            if now >= next_tick {
                // After a stall of the disk or the machine, lost ticks are not caught up:
                // the group would take the stall for silence of the others.
                self.core.tick();
                next_tick = (next_tick + self.tick).max(now);
            }
            self.rounds(events)?;
            if let Some(by) = stop_by {
                let leads = self.standing.borrow().leads_others();
                if !leads || Instant::now() >= by {
                    break;
                }
            }
        }
        self.checkpoint()
    }

    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Peer { from, message } => {
                if let Err(error) = self.core.step(from, &message) {
                    tracing::warn!(from, %error, "a message of another member was refused");
                }
            }
            Input::Propose { block, events, completion } => {
                self.next_token += 1;
                let bytes = block.len();
                match self.core.propose_block(self.next_token, block) {
                    Ok(()) => {
                        let proposed = Proposed { completion, events, bytes, at: Instant::now() };
                        self.proposed.insert(self.next_token, proposed);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a block was not proposed");
                        completion.dropped();
                    }
                }
            }
            Input::Forwarded { lane, upto } => self.core.forwarded(lane, upto),
            Input::Sites(reports) => match self.core.propose_sites(reports) {
                Ok(()) | Err(ProposeError::NotLeader { .. } | ProposeError::Busy { .. }) => {}
                Err(error) => tracing::warn!(%error, "site reports were not proposed"),
            },
            Input::Stop => return true,
        }
        false
    }

    fn rounds(&mut self, events: &mut dyn EngineEvents) -> Result<(), EngineError> {
        loop {
            let round = self.core.poll(&mut |to, message| events.send(to, message))?;
            let more = round.more;
            self.hand_out(round, events)?;
            if self.core.is_checkpoint_due() {
                self.checkpoint()?;
            }
            if !more {
                break;
            }
        }
        let standing = Standing::of(&self.core);
        self.standing.send_if_modified(|held| {
            let changed = *held != standing;
            *held = standing;
            changed
        });
        Ok(())
    }

    fn hand_out(&mut self, round: Round, events: &mut dyn EngineEvents) -> Result<(), EngineError> {
        for (to, message) in round.messages {
            events.send(to, message);
        }
        if round.restored {
            let first = self.core.entries().first();
            self.index.write().unwrap_or_else(std::sync::PoisonError::into_inner).trim(first)?;
        }
        if !round.blocks.is_empty() {
            let mut index = self.index.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for block in &round.blocks {
                index.add(block)?;
            }
            index.publish()?;
            drop(index);
            events.applied(&round.blocks);
        }
        for (token, outcome) in round.outcomes {
            let Some(Proposed { completion, events: count, bytes, at }) = self.proposed.remove(&token) else {
                continue;
            };
            match outcome {
                Outcome::Committed => {
                    completion.committed();
                    events.committed(count, bytes, at.elapsed());
                }
                Outcome::Dropped => completion.dropped(),
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), EngineError> {
        let applied = self.core.state().read().applied();
        let mut index = self.index.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        index.sync(applied)?;
        self.core.checkpoint()?;
        index.trim(self.core.entries().first())?;
        Ok(())
    }
}
