//! What a message must satisfy before Raft sees it.
//!
//! The `raft` crate panics when a message contradicts its assumptions. Sessions and
//! checksums make such messages impossible between correct members; this module
//! makes them harmless. Every `fatal!` and assertion of raft 0.7 that a message can
//! reach is covered here; `docs/design/consensus.md` lists them.

use raft::eraftpb::{Message, MessageType};
use raft::{Raft, StateRole};

use crate::store::Store;

/// Terms stay far below what the files and messages can hold.
const TERM_MAX: u64 = crate::entry::NUMBER_MAX >> 2;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Give it to Raft.
    Step,
    /// It is in order, and not for a member in this state.
    Ignore,
}

/// Judges a message of a peer in session. `may_vote` is false while this member's
/// memory is incomplete.
pub(crate) fn judge(raft: &Raft<Store>, message: &Message, may_vote: bool) -> Result<Verdict, &'static str> {
    if message.term == 0 {
        return Err("a message without a term is a local one");
    }
    if message.term > TERM_MAX {
        return Err("a term that no group reaches");
    }
    let last = raft.raft_log.last_index();
    match message.msg_type {
        MessageType::MsgAppend => judge_append(message),
        MessageType::MsgHeartbeat => {
            if message.term >= raft.term && message.commit > last {
                return Err("a heartbeat commits what this member does not have");
            }
            Ok(Verdict::Step)
        }
        MessageType::MsgAppendResponse => {
            if raft.state == StateRole::Leader && message.term == raft.term && !message.reject && message.index > last {
                return Err("an acknowledgement of what was never sent");
            }
            Ok(Verdict::Step)
        }
        MessageType::MsgHeartbeatResponse => Ok(Verdict::Step),
        // Raft cannot refuse a vote in term 0, where it never has a reason to.
        MessageType::MsgRequestPreVote if raft.term == 0 && last > 0 => Ok(Verdict::Ignore),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow => {
            Ok(if may_vote { Verdict::Step } else { Verdict::Ignore })
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            // Winning with entries that are not durable is an assertion in Raft. A vote can
            // arrive that early only if it was never asked for.
            let is_durable = raft.raft_log.unstable_entries().is_empty() && raft.raft_log.unstable_snapshot().is_none();
            Ok(if may_vote && is_durable { Verdict::Step } else { Verdict::Ignore })
        }
        MessageType::MsgSnapshot => judge_snapshot(message),
        _ => Err("a local message"),
    }
}

fn judge_append(message: &Message) -> Result<Verdict, &'static str> {
    if (message.index == 0) != (message.log_term == 0) {
        return Err("entries follow an index without a term");
    }
    let mut term = message.log_term.max(1);
    for (entry, index) in message.entries.iter().zip(message.index + 1..) {
        if entry.index != index || entry.term < term || entry.term > message.term {
            return Err("entries do not follow each other");
        }
        term = entry.term;
    }
    if message.log_term > message.term { Err("entries follow a later term") } else { Ok(Verdict::Step) }
}

fn judge_snapshot(message: &Message) -> Result<Verdict, &'static str> {
    let metadata = message.get_snapshot().get_metadata();
    if metadata.index == 0 || metadata.term == 0 || metadata.term > message.term {
        return Err("a checkpoint of nowhere");
    }
    Ok(Verdict::Step)
}
