//! The state machine of a replicated tier on top of its consensus group.
//!
//! Owned by one thread. Inputs are ticks, peer messages, blocks to replicate
//! and acknowledgements from the tier above; [`ReplicaCore::poll`] does one
//! round of consensus (at most one fsync) and says what came of it.
//!
//! The applied state is behind a read-write lock so that queries and the
//! uplink read it without waiting for the disk: the lock is never held
//! across I/O.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use grey_consensus::{
    ConsensusError, EntryReader, Group, ProposeError, Restored, Role as GroupRole, Status, StepError,
};
use grey_disk::Disk;
use grey_ledger::{Applied, Command, Replicated, Role, SiteReport, SnapshotError};
use grey_model::{Lane, Seq};
use grey_sync::Outcome;

/// When a checkpoint is due: what was applied since the last one bounds the replay at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// Entries applied.
    pub entries_max: u64,
    /// Bytes applied.
    pub bytes_max: u64,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { entries_max: 20_000, bytes_max: 64 << 20 }
    }
}

/// Why a replica cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Consensus or its disk failed.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// A checkpoint cannot be loaded.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The applied state, shared for reading.
#[derive(Debug, Clone)]
pub struct SharedState(Arc<RwLock<Replicated>>);

impl SharedState {
    fn new(state: Replicated) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    /// The state as of the last applied entry.
    pub fn read(&self) -> RwLockReadGuard<'_, Replicated> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Replicated) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A block that was applied with sequences that were new.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// Its log index.
    pub index: u64,
    /// The block.
    pub block: Bytes,
    /// Which of its sequences were new.
    pub fresh: Vec<Range<Seq>>,
}

/// What one round brought.
#[derive(Debug, Default)]
pub struct Round {
    /// Messages to other members.
    pub messages: Vec<(u64, Bytes)>,
    /// What became of proposed blocks, by the token given to them.
    pub outcomes: Vec<(u64, Outcome)>,
    /// Blocks that were applied, in log order; duplicates are left out.
    pub blocks: Vec<NewBlock>,
    /// The state was replaced by a checkpoint from the leader.
    pub restored: bool,
    /// Leadership or membership changed.
    pub role_changed: bool,
    /// There is more to do before waiting.
    pub more: bool,
}

/// One member of a replicated tier.
#[derive(Debug)]
pub struct ReplicaCore {
    group: Group,
    state: SharedState,
    role: Role,
    next_token: u64,
    /// Group tokens of blocks to the caller's.
    proposals: BTreeMap<u64, u64>,
    /// Everything up to here was applied, the group's own entries included.
    applied: u64,
    /// The read that proves that this leader has applied what came before its term.
    proof: Option<(u64, u64)>,
    /// The term that this member leads with everything before it applied.
    leading: Option<u64>,
    /// Acknowledged by the tier above and not yet proposed, by lane.
    acked: [Option<u64>; 3],
    checkpoints: CheckpointPolicy,
    entries_since_checkpoint: u64,
    bytes_since_checkpoint: u64,
}

impl ReplicaCore {
    /// Opens the group's directory and loads its newest checkpoint.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        role: Role,
        config: grey_consensus::Config,
    ) -> Result<(Self, Restored), ReplicaError> {
        Self::open_with(disk, dir, role, config, Replicated::restore)
    }

    /// Like [`ReplicaCore::open`], with another way to load the state of the checkpoint found.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        role: Role,
        config: grey_consensus::Config,
        restore: impl FnOnce(&[u8]) -> Result<Replicated, SnapshotError>,
    ) -> Result<(Self, Restored), ReplicaError> {
        let (group, restored) = Group::open(disk, dir, config)?;
        let state = match &restored.checkpoint {
            Some((_, bytes)) => restore(bytes)?,
            None => Replicated::new(role),
        };
        let core = Self {
            group,
            state: SharedState::new(state),
            role,
            next_token: 0,
            proposals: BTreeMap::new(),
            applied: restored.checkpoint.as_ref().map_or(0, |(index, _)| *index),
            proof: None,
            leading: None,
            acked: [None; 3],
            checkpoints: CheckpointPolicy::default(),
            entries_since_checkpoint: 0,
            bytes_since_checkpoint: 0,
        };
        Ok((core, restored))
    }

    /// One step of the consensus clock.
    pub fn tick(&mut self) {
        self.group.tick();
    }

    /// Takes a message from another member.
    pub fn step(&mut self, from: u64, message: &[u8]) -> Result<(), StepError> {
        self.group.step(from, message)
    }

    /// Proposes a block; `token` comes back in [`Round::outcomes`].
    pub fn propose_block(&mut self, token: u64, block: Bytes) -> Result<(), ProposeError> {
        let group_token = self.propose(&Command::Block(block))?;
        self.proposals.insert(group_token, token);
        Ok(())
    }

    /// Proposes what is known of sites.
    pub fn propose_sites(&mut self, reports: Vec<SiteReport>) -> Result<(), ProposeError> {
        self.propose(&Command::Sites(reports)).map(|_| ())
    }

    /// The tier above has every block of the lane below a log index. Acknowledgements are
    /// gathered and proposed once a round.
    pub fn forwarded(&mut self, lane: Lane, upto: u64) {
        let acked = &mut self.acked[lane.index()];
        *acked = (*acked).max(Some(upto));
    }

    fn propose(&mut self, command: &Command) -> Result<u64, ProposeError> {
        self.next_token += 1;
        self.group.propose(self.next_token, command.encode())?;
        Ok(self.next_token)
    }

    fn propose_forwarded(&mut self) {
        for lane in Lane::ALL {
            let Some(upto) = self.acked[lane.index()].filter(|upto| *upto > 0) else { continue };
            let waits = self.state.read().next_pending(lane, 0).is_some_and(|block| block.index < upto);
            // Lost with leadership is harmless: the next leader sends again and is told again.
            if !waits || self.propose(&Command::Forwarded { lane, upto: upto - 1 }).is_ok() {
                self.acked[lane.index()] = None;
            }
        }
    }

    /// One round of consensus. Messages that need not wait for the disk go to
    /// `send_early` before the disk is waited for.
    pub fn poll(&mut self, send_early: &mut dyn FnMut(u64, Bytes)) -> Result<Round, ReplicaError> {
        self.propose_forwarded();
        let output = self.group.poll_with(send_early)?;
        let mut round = Round {
            messages: output.messages,
            role_changed: output.role_changed,
            more: output.more,
            ..Round::default()
        };
        if let Some((_, bytes)) = output.restored {
            let state = Replicated::restore(&bytes)?;
            self.state.change(|held| *held = state);
            // The leader's checkpoint is on disk: one of one's own for the same index would be refused.
            (self.entries_since_checkpoint, self.bytes_since_checkpoint) = (0, 0);
            round.restored = true;
        }
        for entry in output.committed {
            let applied = self.state.change(|state| state.apply(entry.index, &entry.data));
            self.entries_since_checkpoint += 1;
            self.bytes_since_checkpoint += entry.data.len() as u64;
            let outcome = match applied {
                Applied::Accepted { fresh } => {
                    round.blocks.push(NewBlock { index: entry.index, block: entry.data.slice(1..), fresh });
                    Outcome::Committed
                }
                Applied::Refused(reason) => {
                    tracing::error!(index = entry.index, reason, "a replicated command was refused");
                    Outcome::Dropped
                }
                _ => Outcome::Committed,
            };
            if let Some(token) = entry.token.and_then(|token| self.proposals.remove(&token)) {
                round.outcomes.push((token, outcome));
            }
        }
        self.applied = self.applied.max(output.applied);
        for token in &output.dropped {
            if let Some(token) = self.proposals.remove(token) {
                round.outcomes.push((token, Outcome::Dropped));
            }
        }
        let reads = output.reads.iter().map(|(token, _)| *token);
        self.prove_leadership(reads.collect(), &output.dropped);
        Ok(round)
    }

    /// A new leader answers senders only once it has applied everything that
    /// was committed before its term, or its coverage would be out of date.
    fn prove_leadership(&mut self, reads: Vec<u64>, dropped: &[u64]) {
        let status = self.group.status();
        if status.role != GroupRole::Leader {
            (self.proof, self.leading) = (None, None);
            return;
        }
        if self.leading == Some(status.term) {
            return;
        }
        self.leading = None;
        match self.proof {
            Some((token, term)) if term == status.term && reads.contains(&token) => self.leading = Some(term),
            Some((token, term)) if term == status.term && !dropped.contains(&token) => {}
            _ => {
                self.next_token += 1;
                let asked = self.group.read_index(self.next_token).is_ok();
                self.proof = asked.then_some((self.next_token, status.term));
            }
        }
    }

    /// The term in which this member leads and may answer senders.
    pub fn leading(&self) -> Option<u64> {
        self.leading
    }

    /// Changes when a checkpoint is due.
    pub fn set_checkpoint_policy(&mut self, policy: CheckpointPolicy) {
        self.checkpoints = policy;
    }

    /// True when the replay that a restart would need has grown long.
    pub fn is_checkpoint_due(&self) -> bool {
        self.entries_since_checkpoint >= self.checkpoints.entries_max
            || self.bytes_since_checkpoint >= self.checkpoints.bytes_max
    }

    /// Saves the state and lets the log go up to what the state still needs. A
    /// full disk is no failure: the older checkpoints are still there.
    pub fn checkpoint(&mut self) -> Result<(), ReplicaError> {
        if self.entries_since_checkpoint > 0 {
            let (floor, snapshot) = {
                let state = self.state.read();
                (state.floor(), state.snapshot())
            };
            match self.group.save_checkpoint(self.applied, &snapshot) {
                Ok(()) => self.group.set_floor(floor),
                Err(error) if error.is_full() => tracing::error!(%error, "no checkpoint: the disk is full"),
                Err(error) => return Err(error.into()),
            }
        }
        self.entries_since_checkpoint = 0;
        self.bytes_since_checkpoint = 0;
        Ok(())
    }

    /// Everything up to here was applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Hands leadership to the most caught-up member; false when there is none or this is no leader.
    pub fn transfer_leadership(&mut self) -> bool {
        self.group.transfer_leadership()
    }

    /// Consensus status.
    pub fn status(&self) -> Status {
        self.group.status()
    }

    /// The applied state.
    pub fn state(&self) -> SharedState {
        self.state.clone()
    }

    /// Reads entries on any thread.
    pub fn entries(&self) -> EntryReader {
        self.group.log_reader()
    }

    /// What this tier does with what it accepted.
    pub fn role(&self) -> Role {
        self.role
    }
}
