//! What peers send: sessions, Raft's messages, checkpoints.

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use raft::{SnapshotStatus, StateRole};

use crate::group::Group;
use crate::guard::{self, Verdict};
use crate::session::Heard;
use crate::transfer::Received;
use crate::wire::{self, Address, Body, Chunk, Standing, Status};
use crate::{StepError, checkpoint, store};

impl Group {
    /// Takes a message that the transport says is from member `from`. Bytes of any kind
    /// do no harm; a message that belongs to an earlier boot of either side is ignored.
    ///
    /// # Errors
    /// See [`StepError`]: for counting, and for closing the connection.
    pub fn step(&mut self, from: u64, message: &[u8]) -> Result<(), StepError> {
        let (address, body) = wire::decode(from, message)?;
        if address.from != from || address.to != self.config.id || self.sessions.peer(from).is_none() {
            return Err(StepError::Misaddressed { from, sender: address.from, receiver: address.to });
        }
        if self.stopped.is_some() {
            return Ok(());
        }
        if let Body::Status(status) = body {
            return self.hear(address, &status);
        }
        if !self.sessions.accepts(address) {
            // The sender has restarted or does not know that this member has.
            self.status_due.insert(from);
            return Ok(());
        }
        if self.stalled.is_some() || self.raw.is_none() {
            return Ok(());
        }
        let stepped = match body {
            Body::Raft(message) => self.step_raft(message),
            Body::Chunk(chunk) => self.take_chunk(from, &chunk),
            Body::ChunkAck(ack) => {
                if self.senders.acknowledge(from, ack) {
                    self.transfers_ended.insert(from, SnapshotStatus::Finish);
                }
                Ok(())
            }
            Body::Status(_) => Ok(()),
        };
        self.observe();
        stepped.map_err(|what| StepError::Impossible { from, what })
    }

    fn hear(&mut self, address: Address, status: &Status) -> Result<(), StepError> {
        let Heard { is_new_boot, has_report, wants_reply } = self.sessions.hear(address, status);
        if self.sessions.peer(address.from).is_some_and(|peer| peer.other_group) {
            return Err(StepError::OtherGroup { from: address.from });
        }
        if is_new_boot {
            self.meet_new_boot(address.from, status);
        }
        if has_report && let Some(raw) = &self.raw {
            // Within one term a log only grows by what its leader sends, so what the leader
            // saw acknowledged is there, or was lost behind this member's back.
            let last = raw.raft.raft_log.last_index();
            if status.witness > last && status.term == raw.raft.term && status.standing == Standing::Full {
                self.lost = Some(format!(
                    "the log ends at {last} although member {} saw {} acknowledged",
                    address.from, status.witness
                ));
            }
        }
        if wants_reply {
            self.status_due.insert(address.from);
        }
        Ok(())
    }

    /// A peer restarted: nothing that was on the way to or from it will arrive.
    fn meet_new_boot(&mut self, from: u64, status: &Status) {
        self.senders.stop(from);
        let Some(raw) = &mut self.raw else { return };
        if raw.raft.state != StateRole::Leader {
            return;
        }
        let last = raw.raft.raft_log.last_index();
        let Some(progress) = raw.raft.mut_prs().get_mut(from) else { return };
        if status.standing == Standing::Full {
            // Should it have lost its end without noticing, it is told, and not counted.
            let witness = self.witnesses.entry(from).or_default();
            *witness = progress.matched.max(*witness);
            progress.matched = progress.matched.min(status.last_index);
        } else {
            self.witnesses.remove(&from);
            progress.matched = 0;
        }
        progress.pending_snapshot = 0;
        progress.become_probe();
        progress.next_idx = (status.last_index + 1).clamp(progress.matched + 1, last + 1);
    }

    fn step_raft(&mut self, message: Message) -> Result<(), &'static str> {
        let may_vote = self.may_vote();
        let Some(raw) = &mut self.raw else { return Ok(()) };
        match guard::judge(&raw.raft, &message, may_vote)? {
            Verdict::Ignore => Ok(()),
            // What remains is a message that came too late to matter.
            Verdict::Step => raw.step(message).or(Ok(())),
        }
    }

    fn take_chunk(&mut self, from: u64, chunk: &Chunk) -> Result<(), &'static str> {
        let Some(raw) = &self.raw else { return Ok(()) };
        if chunk.term < raw.raft.term {
            return Ok(());
        }
        let (ack, received) = self.receiver.take(from, chunk);
        if let Some(ack) = ack {
            self.send(from, &Body::ChunkAck(ack));
        }
        match received {
            Some(received) => self.step_checkpoint(received),
            None => Ok(()),
        }
    }

    fn step_checkpoint(&mut self, received: Received) -> Result<(), &'static str> {
        let Received { from, term, index, index_term, bytes } = received;
        let decoded = checkpoint::decode(&bytes).map_err(|_| "a checkpoint that does not decode")?;
        if (decoded.index, decoded.term) != (index, index_term) {
            return Err("a checkpoint of another index");
        }
        let snapshot = store::snapshot(index, index_term, &self.member.members, bytes);
        let mut message =
            Message { msg_type: MessageType::MsgSnapshot, from, to: self.config.id, term, ..Message::default() };
        message.set_snapshot(snapshot);
        self.step_raft(message)
    }

    /// Puts a message into the outbox if there is a session with its receiver.
    pub(crate) fn send(&mut self, to: u64, body: &Body) -> bool {
        let bytes: Option<Bytes> = self.sessions.address(to).and_then(|address| wire::encode(address, body));
        match bytes {
            Some(bytes) => {
                self.outbox.push((to, bytes));
                true
            }
            None => false,
        }
    }
}
