//! One member of a group: its public face, and how time, requests and joining move it.
//!
//! Messages are in `receive`, Raft's output in `ready`. Nothing here reads a clock,
//! a socket or a random source; the driver brings ticks and bytes, and calls
//! [`Group::poll`] after each batch of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::Disk;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{ProgressState, RawNode, Ready, SnapshotStatus, StateRole};

use crate::entry::{ProposalId, Purpose};
use crate::join::{self, Step};
use crate::memory::{Files, HardState, Member, Memory};
use crate::open::{self, Opened};
use crate::output::{PeerStatus, Role, Status};
use crate::random::Random;
use crate::reader::Shared;
use crate::requests::Requests;
use crate::session::{Report, Sessions};
use crate::store::Store;
use crate::transfer::{Receiver, Senders};
use crate::wire::{self, Body, Standing};
use crate::{Config, ConsensusError, EntryReader, ProposeError, Restored};

/// Entries of one append message, in bytes, beyond which it is cut; an entry is never cut.
pub(crate) const APPEND_BYTES_MAX: usize = 1 << 20;
/// Committed entries that one poll gives out, in bytes, one entry at least.
const COMMITTED_BYTES_MAX: u64 = 8 << 20;
/// Raft's own election timer never fires: this group's does, seeded.
const NEVER_TICKS: usize = 1 << 30;
/// Statuses go this often while somebody waits for one, in ticks, and once there is a session.
const STATUS_TICKS: [u64; 2] = [4, 20];
/// The commit index is written down this often, in ticks, if it moved.
const COMMIT_TICKS: u64 = 20;
/// Silences of an election timeout each before a checkpoint transfer is given up.
const TRANSFER_RETRIES_MAX: u32 = 10;

/// One member of a replicated log.
///
/// The order for a driver: `open`; load `Restored::checkpoint`; then for ever wait for
/// ticks, messages and requests, hand them to `tick`, `step`, `propose`, `read_index`,
/// and `poll` until `Output::more` is false, doing what each output says. An error of
/// `poll` is final: stop, and open again.
pub struct Group {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) member: Member,
    /// Names this run of the process.
    pub(crate) boot: u64,
    pub(crate) random: Random,
    pub(crate) sessions: Sessions,
    /// Raft, once this member takes part.
    pub(crate) raw: Option<RawNode<Store>>,
    pub(crate) requests: Requests,
    pub(crate) senders: Senders,
    pub(crate) receiver: Receiver,
    pub(crate) shared: Arc<Shared>,
    pub(crate) applied: u64,
    pub(crate) floor: u64,
    pub(crate) outbox: Vec<(u64, Bytes)>,
    /// Peers that need a status at the next poll.
    pub(crate) status_due: BTreeSet<u64>,
    /// Reports that Raft gets at the next poll: an append that could not be sent, and how
    /// checkpoint transfers ended.
    pub(crate) unreachable: BTreeSet<u64>,
    pub(crate) transfers_ended: BTreeMap<u64, SnapshotStatus>,
    /// What peers acknowledged before they restarted, while this member led the term.
    pub(crate) witnesses: BTreeMap<u64, u64>,
    /// Readmissions that were proposed: peer to life and tick.
    readmissions: BTreeMap<u64, (u64, u64)>,
    /// What Raft wants persisted while the disk is full.
    pub(crate) stalled: Option<Ready>,
    /// Evidence that this member lost what it had acknowledged.
    pub(crate) lost: Option<String>,
    pub(crate) stopped: Option<String>,
    pub(crate) role_changed: bool,
    seen: Seen,
    election_timeout_ticks: u32,
    ticks: u64,
    commit_due: bool,
    compaction_due: bool,
    #[cfg(test)]
    pub(crate) flaws: crate::flaws::Flaws,
}

/// What was last known of Raft, to notice changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    term: u64,
    role: StateRole,
    leader: u64,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("dir", &self.dir).field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Group {
    /// Opens this member's data in `dir`, which nobody else may have open. What is damaged
    /// or was wiped is noticed here; see [`crate::Condition`].
    ///
    /// # Errors
    /// A configuration that makes no sense, a directory of another member, a disk that
    /// refuses, or a damaged only copy.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: Config) -> Result<(Self, Restored), ConsensusError> {
        config.validate()?;
        let mut random = Random::new(config.seed);
        let boot = random.name();
        let Opened { member, store, applied, restored } = open::open(&disk, dir, &config, &mut random)?;
        let members = config.members_sorted();
        let digest = wire::group_digest(&members);
        let sessions = Sessions::new(config.id, boot, digest, &members, Random::new(random.next()));
        let mut group = Self {
            requests: Requests::new(config.max_inflight_bytes),
            disk,
            dir: dir.to_owned(),
            member,
            boot,
            random,
            sessions,
            raw: None,
            senders: Senders::default(),
            receiver: Receiver::default(),
            shared: Arc::default(),
            applied: 0,
            floor: 0,
            outbox: Vec::new(),
            status_due: members.iter().copied().filter(|id| *id != config.id).collect(),
            unreachable: BTreeSet::new(),
            transfers_ended: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            readmissions: BTreeMap::new(),
            stalled: None,
            lost: None,
            stopped: None,
            role_changed: true,
            seen: Seen { term: 0, role: StateRole::Follower, leader: 0 },
            election_timeout_ticks: 0,
            ticks: 0,
            commit_due: false,
            compaction_due: false,
            config,
            #[cfg(test)]
            flaws: crate::flaws::Flaws::default(),
        };
        if let Some(store) = store {
            group.take_part(store, applied)?;
        }
        group.join()?;
        Ok((group, restored))
    }

    /// Starts Raft on a store. A group of one elects itself at once.
    fn take_part(&mut self, store: Store, applied: u64) -> Result<(), ConsensusError> {
        self.shared.set_log(store.reader.clone());
        self.shared.set_applied(applied);
        self.applied = applied;
        let election_tick = self.config.election_ticks.start as usize;
        let raft_config = raft::Config {
            id: self.config.id,
            election_tick,
            heartbeat_tick: self.config.heartbeat_ticks as usize,
            min_election_tick: NEVER_TICKS,
            max_election_tick: NEVER_TICKS + 1,
            applied,
            max_size_per_msg: APPEND_BYTES_MAX as u64,
            max_inflight_msgs: (self.config.max_inflight_bytes / APPEND_BYTES_MAX).clamp(8, 256),
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, store, &logger).map_err(|error| ConsensusError::Config {
            what: "Raft's configuration",
            value: error.to_string(),
            allowed: "what its own checks allow",
        })?;
        self.raw = Some(raw);
        self.draw_election_timeout();
        if self.config.members.len() == 1 {
            self.campaign();
        }
        self.observe();
        Ok(())
    }

    /// Lets one tick of time pass.
    pub fn tick(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.ticks += 1;
        self.sessions.tick();
        let waits = self.member.memory.standing() != Standing::Full;
        for peer in self.sessions.peers() {
            let peer_waits = peer.report.as_ref().is_none_or(|report| report.standing != Standing::Full);
            let every = STATUS_TICKS[usize::from(peer.is_open() && !waits && !peer_waits)];
            if self.ticks.is_multiple_of(every) {
                self.status_due.insert(peer.id);
            }
        }
        if self.ticks.is_multiple_of(COMMIT_TICKS) {
            self.commit_due = true;
            // In case the disk was full the last time.
            self.compaction_due = true;
        }
        for peer in self.senders.tick(self.config.election_ticks.start, TRANSFER_RETRIES_MAX) {
            self.transfers_ended.insert(peer, SnapshotStatus::Failure);
        }
        if self.stalled.is_some() || !self.may_vote() {
            return;
        }
        let timeout = self.election_timeout_ticks as usize;
        let Some(raw) = &mut self.raw else { return };
        raw.tick();
        if raw.raft.state != StateRole::Leader && raw.raft.election_elapsed >= timeout {
            raw.raft.election_elapsed = 0;
            self.draw_election_timeout();
            self.campaign();
        }
        self.observe();
    }

    fn campaign(&mut self) {
        if let Some(raw) = &mut self.raw {
            // It fails only for a message that is not a local one.
            let _ = raw.campaign();
        }
    }

    fn draw_election_timeout(&mut self) {
        let range = &self.config.election_ticks;
        self.election_timeout_ticks = range.start + self.random.below((range.end - range.start).into()) as u32;
    }

    /// True while every promise of the past is remembered.
    pub(crate) fn may_vote(&self) -> bool {
        #[cfg(test)]
        if self.flaws.amnesiac_votes {
            return true;
        }
        self.member.memory == Memory::Full
    }

    /// Notices what the last call to Raft changed.
    pub(crate) fn observe(&mut self) {
        let Some(raw) = &self.raw else { return };
        let seen = Seen { term: raw.raft.term, role: raw.raft.state, leader: raw.raft.leader_id };
        if seen == self.seen {
            return;
        }
        let led = self.seen.role == StateRole::Leader;
        let leads_on = led && seen.role == StateRole::Leader && seen.term == self.seen.term;
        self.seen = seen;
        self.role_changed = true;
        if led && !leads_on {
            self.requests.drop_all();
            self.senders.stop_all();
            self.readmissions.clear();
            self.witnesses.clear();
        }
        self.draw_election_timeout();
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.as_ref().is_some_and(|raw| raw.raft.state == StateRole::Leader)
    }

    fn leader(&self) -> Option<u64> {
        self.raw.as_ref().map(|raw| raw.raft.leader_id).filter(|leader| *leader != 0)
    }

    /// Proposes an entry. It is on its way once this returns; how it ends comes out of
    /// [`Group::poll`] under `token`, as committed or as dropped, exactly once.
    ///
    /// # Errors
    /// See [`ProposeError`]; the token does not come back then.
    pub fn propose(&mut self, token: u64, data: Bytes) -> Result<(), ProposeError> {
        let limit = self.config.max_entry_bytes;
        if data.len() > limit {
            return Err(ProposeError::TooLarge { len: data.len(), limit });
        }
        self.check_leads()?;
        self.requests.propose(token, data)
    }

    /// Asks for an index such that a state machine that has applied it knows everything
    /// that was committed before this call. The leader proves with a round of heartbeats
    /// that it still leads; leases are not used. Comes out of [`Group::poll`] under `token`.
    ///
    /// # Errors
    /// See [`ProposeError`]; the token does not come back then.
    pub fn read_index(&mut self, token: u64) -> Result<(), ProposeError> {
        self.check_leads()?;
        self.requests.read(token)
    }

    fn check_leads(&self) -> Result<(), ProposeError> {
        if self.stopped.is_some() || !self.is_leader() {
            return Err(ProposeError::NotLeader { leader: self.leader().filter(|leader| *leader != self.config.id) });
        }
        let transfers = self.raw.as_ref().is_some_and(|raw| raw.raft.lead_transferee.is_some());
        if transfers || self.stalled.is_some() { Err(self.requests.busy()) } else { Ok(()) }
    }

    /// Hands leadership to the most caught-up member that can be reached, before a stop.
    /// False when this member does not lead or nobody can take over. Watch
    /// [`Group::status`] for the end; it takes an election timeout at most.
    pub fn transfer_leadership(&mut self) -> bool {
        if !self.is_leader() || self.stalled.is_some() || self.stopped.is_some() {
            return false;
        }
        self.flush();
        let patience = self.config.election_ticks.start;
        let Some(raw) = &mut self.raw else { return false };
        let best = self
            .sessions
            .peers()
            .iter()
            .filter(|peer| peer.is_open() && peer.silent_ticks < patience)
            .filter(|peer| peer.report.as_ref().is_some_and(|report| report.standing == Standing::Full))
            .filter_map(|peer| Some((raw.raft.prs().get(peer.id)?.matched, peer.id)))
            .max();
        let Some((_, best)) = best else { return false };
        raw.transfer_leader(best);
        self.observe();
        true
    }

    /// Notes the lowest index that the state machine still needs; the log before the
    /// newest checkpoint below it may go. Never moves back.
    pub fn set_floor(&mut self, index: u64) {
        if index > self.floor {
            self.floor = index;
            self.compaction_due = true;
        }
    }

    /// Saves the state machine's state as of `index`, durably. It must be the state after
    /// everything up to `index` that was given out, and nothing else, was applied.
    ///
    /// # Errors
    /// A full disk ([`ConsensusError::is_full`]) and a refused checkpoint do no harm; the
    /// older ones are still there.
    pub fn save_checkpoint(&mut self, index: u64, state: &[u8]) -> Result<(), ConsensusError> {
        self.check_stopped()?;
        let refuse = |reason| Err(ConsensusError::Checkpoint { index, reason });
        if index > self.applied {
            return refuse("it is ahead of what was given out");
        }
        let Some(raw) = &mut self.raw else { return refuse("this member does not take part yet") };
        raw.mut_store().save_checkpoint(index, state)?;
        self.compaction_due = true;
        Ok(())
    }

    /// A reader of committed entries for other threads.
    pub fn log_reader(&self) -> EntryReader {
        EntryReader::new(Arc::clone(&self.shared))
    }

    /// What this member knows.
    pub fn status(&self) -> Status {
        let raft = self.raw.as_ref().map(|raw| &raw.raft);
        let role = match (&self.member.memory, raft.map(|raft| raft.state)) {
            (Memory::Fresh, _) => Role::Forming,
            (Memory::Full, Some(StateRole::Leader)) => Role::Leader,
            (Memory::Full, Some(StateRole::Candidate | StateRole::PreCandidate)) => Role::Candidate,
            (Memory::Full, Some(StateRole::Follower)) => Role::Follower,
            _ => Role::Recovering,
        };
        let peers = self.sessions.peers().iter().map(|peer| PeerStatus {
            id: peer.id,
            is_connected: peer.is_open(),
            is_recovering: peer.report.as_ref().is_some_and(|report| report.standing != Standing::Full),
            is_other_group: peer.other_group,
            matched: match raft {
                Some(raft) if raft.state == StateRole::Leader => raft.prs().get(peer.id).map_or(0, |pr| pr.matched),
                _ => peer.report.as_ref().map_or(0, |report| report.last_index),
            },
            silent_ticks: peer.silent_ticks,
        });
        Status {
            id: self.config.id,
            role,
            term: raft.map_or(0, |raft| raft.term),
            leader: self.leader(),
            commit: raft.map_or(0, |raft| raft.raft_log.committed),
            applied: self.applied,
            first: raft.map_or(1, |raft| raft.store().first()),
            last: raft.map_or(0, |raft| raft.raft_log.last_index()),
            floor: self.floor,
            log_bytes: raft.map_or(0, |raft| raft.store().log.bytes()),
            is_disk_full: self.stalled.is_some(),
            members: self.member.members.clone(),
            peers: peers.collect(),
        }
    }

    /// What this member tells its peers about itself.
    pub(crate) fn report(&self) -> Report {
        let raft = self.raw.as_ref().map(|raw| &raw.raft);
        Report {
            standing: self.member.memory.standing(),
            life: self.member.life,
            term: raft.map_or(0, |raft| raft.term),
            // What is not durable yet may be lost without anybody's fault.
            last_index: raft.map_or(0, |raft| raft.store().last()),
            commit: raft.map_or(0, |raft| raft.raft_log.committed),
            genesis: self.member.genesis.clone(),
        }
    }

    pub(crate) fn files(&self) -> Files<'_> {
        Files { disk: &*self.disk, dir: &self.dir }
    }

    pub(crate) fn check_stopped(&self) -> Result<(), ConsensusError> {
        match &self.stopped {
            Some(reason) => Err(ConsensusError::Stopped { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Begins to take part, or withdraws, when the peers' reports allow or demand it.
    pub(crate) fn join(&mut self) -> Result<(), ConsensusError> {
        let reports: Vec<_> = self.sessions.peers().iter().map(|peer| (peer.id, peer.report.as_ref())).collect();
        let Some(step) = join::decide(&self.member, &reports) else { return Ok(()) };
        let begin = |hard| open::begin(&self.disk, &self.dir, &self.config, hard);
        let (memory, genesis, store) = match step {
            Step::Found(genesis) => (Memory::Full, genesis, Some(begin(HardState::default())?)),
            Step::Withdraw => (Memory::Apart, Vec::new(), None),
            // A vote for oneself is a vote for nobody else.
            Step::Join { barrier } => {
                let hard = HardState { term: barrier, vote: self.config.id, ..HardState::default() };
                (Memory::Joining { barrier }, Vec::new(), Some(begin(hard)?))
            }
        };
        self.remember(memory, genesis)?;
        match store {
            Some(store) => self.take_part(store, 0),
            None => Ok(()),
        }
    }

    /// Changes what this member may be trusted with, durably first.
    pub(crate) fn remember(&mut self, memory: Memory, genesis: Vec<(u64, u64)>) -> Result<(), ConsensusError> {
        let member = Member { memory, genesis, ..self.member.clone() };
        self.files().write_member(&member)?;
        self.member = member;
        self.role_changed = true;
        self.status_due.extend(self.sessions.peers().iter().map(|peer| peer.id));
        Ok(())
    }

    /// Gives Raft what has gathered since the last poll.
    pub(crate) fn flush(&mut self) {
        self.report_deliveries();
        self.propose_readmissions();
        self.flush_proposals();
        self.flush_reads();
    }

    fn report_deliveries(&mut self) {
        let Some(raw) = &mut self.raw else { return };
        for peer in std::mem::take(&mut self.unreachable) {
            raw.report_unreachable(peer);
        }
        for (peer, status) in std::mem::take(&mut self.transfers_ended) {
            raw.report_snapshot(peer, status);
        }
    }

    fn flush_proposals(&mut self) {
        if !self.requests.has_queued() || !self.is_leader() {
            return;
        }
        let queue = self.requests.take_queue();
        let numbers: Vec<u64> = queue.iter().map(|(number, _)| *number).collect();
        let entries = queue.into_iter().map(|(number, data)| {
            let id = ProposalId { member: self.config.id, boot: self.boot, number };
            Entry { context: Purpose::Proposal(id).encode().0, data, ..Entry::default() }
        });
        let entries = entries.collect();
        if !self.append(entries) {
            self.requests.drop_queued(&numbers);
        }
    }

    /// Appends entries to the leader's log and sends as much as the followers' windows take.
    fn append(&mut self, entries: Vec<Entry>) -> bool {
        let Some(raw) = &mut self.raw else { return false };
        let mut message = Message { msg_type: MessageType::MsgPropose, from: self.config.id, ..Message::default() };
        message.set_entries(entries.into());
        if raw.step(message).is_err() {
            return false;
        }
        let last = raw.raft.raft_log.last_index();
        for peer in self.sessions.peers() {
            // Raft sends one message's worth by itself.
            while let Some(progress) = raw.raft.prs().get(peer.id) {
                let before = progress.next_idx;
                if progress.state != ProgressState::Replicate || progress.is_paused() || before > last {
                    break;
                }
                raw.raft.send_append(peer.id);
                if raw.raft.prs().get(peer.id).is_none_or(|progress| progress.next_idx == before) {
                    break;
                }
            }
        }
        true
    }

    fn flush_reads(&mut self) {
        if !self.requests.has_waiting_reads() {
            return;
        }
        let boot = self.boot;
        let Some(raw) = &mut self.raw else { return };
        // Before that Raft would drop the question silently.
        if raw.raft.state != StateRole::Leader || !raw.raft.commit_to_current_term() {
            return;
        }
        let round = self.requests.ask_reads();
        raw.read_index([boot.to_le_bytes(), round.to_le_bytes()].concat());
    }

    /// Proposes to count members again whose memory is being rebuilt from this leader.
    fn propose_readmissions(&mut self) {
        let Some(raw) = self.raw.as_ref().filter(|raw| raw.raft.state == StateRole::Leader) else { return };
        if !raw.raft.commit_to_current_term() || raw.raft.lead_transferee.is_some() {
            return;
        }
        let patience = u64::from(self.config.election_ticks.end) * 2;
        let due: Vec<(u64, u64)> = self
            .sessions
            .peers()
            .iter()
            .filter_map(|peer| Some((peer.id, peer.report.as_ref()?)))
            .filter(|(_, report)| report.standing == Standing::Joining)
            .map(|(id, report)| (id, report.life))
            .filter(|(id, life)| {
                self.readmissions.get(id).is_none_or(|(known, tick)| known != life || tick + patience < self.ticks)
            })
            .collect();
        for (member, life) in due {
            self.readmissions.insert(member, (life, self.ticks));
            let (context, data) = Purpose::Readmit { member, life }.encode();
            self.append(vec![Entry { context, data, ..Entry::default() }]);
        }
    }

    /// Puts due statuses into the outbox.
    pub(crate) fn flush_statuses(&mut self) {
        for peer in std::mem::take(&mut self.status_due) {
            let report = self.report();
            let matched = match &self.raw {
                Some(raw) if raw.raft.state == StateRole::Leader => raw.raft.prs().get(peer).map_or(0, |pr| pr.matched),
                _ => 0,
            };
            let witness = matched.max(self.witnesses.get(&peer).copied().unwrap_or(0));
            if let Some((address, status)) = self.sessions.status(peer, report, witness)
                && let Some(bytes) = wire::encode(address, &Body::Status(status))
            {
                self.outbox.push((peer, bytes));
            }
        }
    }

    /// Writes down what may wait, and gives space back.
    pub(crate) fn keep_house(&mut self) -> Result<(), ConsensusError> {
        let Some(raw) = &mut self.raw else { return Ok(()) };
        let store = raw.mut_store();
        let mut done = Ok(());
        if std::mem::take(&mut self.commit_due) {
            done = store.persist_commit();
        }
        if self.compaction_due && done.is_ok() {
            self.compaction_due = false;
            done = store.compact(self.floor).map(|_| ());
        }
        match done {
            // Both are tried again, and nothing waits for them.
            Err(error) if error.is_full() => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_move_between_threads_and_its_readers_may_be_shared() {
        fn is_send<T: Send>() {}
        fn is_sync<T: Sync>() {}
        is_send::<Group>();
        is_send::<EntryReader>();
        is_sync::<EntryReader>();
    }
}
