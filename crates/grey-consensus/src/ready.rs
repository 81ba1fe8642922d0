//! What Raft wants done: send, persist with one sync, send, apply.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Ready, SnapshotStatus};

use crate::entry::Purpose;
use crate::group::{APPEND_BYTES_MAX, Group};
use crate::memory::Memory;
use crate::output::{Committed, Output};
use crate::store::{Failure, Store};
use crate::transfer::Outgoing;
use crate::wire::{self, Body};
use crate::{ConsensusError, checkpoint};

impl Group {
    /// Does what is due: persists with at most one sync of the log, and says what to send,
    /// to apply and to answer. See [`Output`] for the order.
    ///
    /// # Errors
    /// An error is final: the group does nothing any more, and the data must be opened
    /// again. A full disk is none; the group waits for space
    /// ([`crate::Status::is_disk_full`]).
    pub fn poll(&mut self) -> Result<Output, ConsensusError> {
        let mut early = Vec::new();
        let mut output = self.poll_with(&mut |to, bytes| early.push((to, bytes)))?;
        early.append(&mut output.messages);
        output.messages = early;
        Ok(output)
    }

    /// Like [`Group::poll`], but hands over messages that need not wait for the disk
    /// before it waits for the disk, so that followers write while the leader does.
    ///
    /// # Errors
    /// See [`Group::poll`].
    pub fn poll_with(&mut self, send_early: &mut dyn FnMut(u64, Bytes)) -> Result<Output, ConsensusError> {
        self.check_stopped()?;
        let mut output = Output::default();
        match self.work(&mut output, send_early) {
            Ok(()) => {
                self.finish(&mut output);
                Ok(output)
            }
            Err(error) => {
                self.stopped = Some(describe(&error));
                Err(error)
            }
        }
    }

    fn work(&mut self, output: &mut Output, send_early: &mut dyn FnMut(u64, Bytes)) -> Result<(), ConsensusError> {
        self.join()?;
        if self.stalled.is_none() {
            self.flush();
        }
        self.process_ready(output, send_early)?;
        self.keep_house()?;
        self.check_memory()?;
        self.flush_statuses();
        for (to, chunk) in self.senders.poll() {
            self.send(to, &Body::Chunk(chunk));
        }
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) {
        self.observe();
        output.messages.append(&mut self.outbox);
        output.applied = self.applied;
        output.reads = self.requests.take_reads(self.applied);
        output.dropped = self.requests.take_dropped();
        output.role_changed = std::mem::take(&mut self.role_changed);
        output.more = self.has_work();
    }

    /// True when [`Group::poll`] would do something without further input.
    fn has_work(&self) -> bool {
        self.stalled.is_none()
            && (self.raw.as_ref().is_some_and(|raw| raw.has_ready())
                || self.requests.has_queued()
                || self.requests.has_dropped()
                || !self.status_due.is_empty()
                || !self.outbox.is_empty())
    }

    /// Damage that was met on the way ends it here, before anything is made of it.
    fn check_memory(&mut self) -> Result<(), ConsensusError> {
        let failure = self.raw.as_ref().and_then(|raw| raw.store().failure.borrow_mut().take());
        let is_lone = self.config.members.len() == 1;
        let read = self.shared.take_damage().filter(|_| !is_lone);
        let reason = match (failure, self.lost.take().or(read)) {
            (Some(Failure::Disk(reason)), _) => return Err(ConsensusError::Stopped { reason }),
            (Some(Failure::Damage(reason)), _) | (None, Some(reason)) => reason,
            (None, None) => return Ok(()),
        };
        // A lone member has nobody to rejoin; the next open looks at the damage itself.
        if !is_lone {
            self.remember(Memory::Damaged { reason: reason.clone() }, Vec::new())?;
        }
        Err(ConsensusError::Damaged { path: self.dir.clone(), reason })
    }

    fn process_ready(
        &mut self,
        output: &mut Output,
        send_early: &mut dyn FnMut(u64, Bytes),
    ) -> Result<(), ConsensusError> {
        let Some(raw) = &mut self.raw else { return Ok(()) };
        let mut ready = match self.stalled.take() {
            Some(ready) => ready,
            None if raw.has_ready() => {
                let mut ready = raw.ready();
                // Only a leader has any, and what they promise is durable already.
                let messages = ready.take_messages();
                self.emit(messages);
                for (to, bytes) in self.outbox.drain(..) {
                    send_early(to, bytes);
                }
                ready
            }
            None => return Ok(()),
        };
        match self.persist(&ready, output) {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                // Raft stands still until there is space: no tick, no message, no proposal.
                self.stalled = Some(ready);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.emit(ready.take_persisted_messages());
        for state in ready.take_read_states() {
            self.note_read(&state.request_ctx, state.index);
        }
        self.apply(ready.take_committed_entries(), output)?;
        let Some(raw) = &mut self.raw else { return Ok(()) };
        let mut light = raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            raw.mut_store().hard.commit = commit;
        }
        self.emit(light.take_messages());
        self.apply(light.take_committed_entries(), output)?;
        if let Some(raw) = &mut self.raw {
            raw.advance_apply_to(self.applied);
        }
        Ok(())
    }

    /// Term and vote first, then the checkpoint, then the entries. May be repeated.
    fn persist(&mut self, ready: &Ready, output: &mut Output) -> Result<(), ConsensusError> {
        let Some(raw) = &mut self.raw else { return Ok(()) };
        let store = raw.mut_store();
        if let Some(hard) = ready.hs() {
            #[cfg(test)]
            let vote = if self.flaws.forgets_votes { 0 } else { hard.vote };
            #[cfg(not(test))]
            let vote = hard.vote;
            store.persist_vote(hard.term, vote)?;
        }
        let snapshot = ready.snapshot();
        if !snapshot.is_empty() {
            let index = snapshot.get_metadata().index;
            let Ok(checkpoint) = checkpoint::decode(&snapshot.data) else {
                return Err(ConsensusError::Checkpoint { index, reason: "it does not decode" });
            };
            store.install(&snapshot.data, &checkpoint)?;
            output.restored = Some((index, checkpoint.state.to_vec()));
            self.applied = index;
            self.shared.set_applied(index);
        }
        store.append(ready.entries())?;
        if let Some(hard) = ready.hs() {
            store.hard.commit = store.hard.commit.max(hard.commit);
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>, output: &mut Output) -> Result<(), ConsensusError> {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            let Ok(purpose) = Purpose::of(&entry) else {
                return Err(ConsensusError::Stopped { reason: format!("entry {index} has no purpose that is known") });
            };
            match purpose {
                Purpose::TermStart => {}
                Purpose::Proposal(id) => {
                    let is_own = (id.member, id.boot) == (self.config.id, self.boot);
                    let token = if is_own { self.requests.committed(id.number) } else { None };
                    output.committed.push(Committed { index, term, data: entry.data, token });
                }
                Purpose::Readmit { member, life } => self.apply_readmission(member, life, term)?,
            }
            self.applied = index;
        }
        self.shared.set_applied(self.applied);
        Ok(())
    }

    /// Rule R: this member counts again once it has applied its own readmission, proposed
    /// in a term that no forgotten promise reaches.
    fn apply_readmission(&mut self, member: u64, life: u64, term: u64) -> Result<(), ConsensusError> {
        match self.member.memory {
            Memory::Joining { barrier } if (member, life) == (self.config.id, self.member.life) && term >= barrier => {
                self.remember(Memory::Full, Vec::new())
            }
            _ => Ok(()),
        }
    }

    fn note_read(&mut self, context: &[u8], index: u64) {
        let boot = self.boot.to_le_bytes();
        if let Some((of, round)) = context.split_first_chunk::<8>()
            && let Ok(round) = round.try_into()
            && *of == boot
        {
            self.requests.know_reads(u64::from_le_bytes(round), index);
        }
    }

    /// Encodes Raft's messages into the outbox; what cannot be sent, Raft hears of later.
    fn emit(&mut self, messages: Vec<Message>) {
        for mut message in messages {
            let (to, kind) = (message.to, message.msg_type);
            if self.sessions.address(to).is_none() {
                match kind {
                    MessageType::MsgSnapshot => drop(self.transfers_ended.insert(to, SnapshotStatus::Failure)),
                    MessageType::MsgAppend => drop(self.unreachable.insert(to)),
                    _ => {}
                }
                continue;
            }
            match kind {
                MessageType::MsgSnapshot => {
                    let term = message.term;
                    let mut snapshot = message.take_snapshot();
                    let metadata = snapshot.take_metadata();
                    let checkpoint = Outgoing {
                        transfer: self.random.name(),
                        term,
                        index: metadata.index,
                        index_term: metadata.term,
                        bytes: snapshot.data,
                    };
                    self.senders.start(to, checkpoint);
                }
                MessageType::MsgAppend => {
                    if !self.raw.as_ref().is_some_and(|raw| straighten(&raw.raft, &mut message)) {
                        self.unreachable.insert(to);
                        continue;
                    }
                    for part in wire::split_append(message, APPEND_BYTES_MAX) {
                        self.send(to, &Body::Raft(part));
                    }
                }
                _ => drop(self.send(to, &Body::Raft(message))),
            }
        }
    }
}

/// Makes an append's entries follow its index. raft 0.7 with `batch_append` adds entries
/// to an empty append that waits to be sent without looking at where that one ends; the
/// receiver would count them at the wrong indexes. Entry and term are taken from the log,
/// so the result is what Raft meant to send. False when the log does not reach back so far.
fn straighten(raft: &raft::Raft<Store>, message: &mut Message) -> bool {
    let Some(first) = message.entries.first().map(|entry| entry.index) else { return true };
    if first == message.index + 1 {
        return true;
    }
    message.index = first - 1;
    message.log_term = raft.raft_log.term(first - 1).unwrap_or(0);
    message.index == 0 || message.log_term > 0
}

/// An error with its causes in one line.
fn describe(error: &ConsensusError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
