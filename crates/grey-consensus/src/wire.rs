//! What members say to each other, byte by byte. All numbers little-endian; varints
//! as in `grey-model`; a blob is a varint length and bytes.
//!
//! Envelope: version `u8` = 1, tag `u8`, sender varint, receiver varint, sender's
//! boot `u64`, receiver's boot as the sender knows it `u64` (0: unknown), body,
//! CRC-32C `u32` of everything before it. Tags: 0 Raft, 1 status, 2 checkpoint
//! chunk, 3 chunk acknowledgement. The bodies are documented at their encoders.
//!
//! Raft's own protobuf encoding is not used: its decoder recurses without a bound,
//! and decoding here is the one place that stands between a peer's bytes and a
//! library that panics on what it does not expect.

use bytes::{BufMut, Bytes};
use grey_model::{Reader, WireError, Writer};
use raft::eraftpb::{Entry, Message, MessageType};

use crate::StepError;
use crate::config::{CHECKPOINT_BYTES_MAX, MEMBERS_MAX};
use crate::entry::{self, CONTEXT_BYTES_MAX, NUMBER_MAX};

const VERSION: u8 = 1;
/// Entries in one message: bounds the decoder's memory.
const ENTRIES_MAX: u64 = 65_536;
/// Bytes of one checkpoint chunk.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// A checkpoint's state and what it is wrapped in.
const SNAPSHOT_BYTES_MAX: u64 = (CHECKPOINT_BYTES_MAX + (1 << 20)) as u64;

/// Who speaks to whom, between which boots of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) from_boot: u64,
    /// 0 when the sender does not know it.
    pub(crate) to_boot: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Raft(Message),
    Status(Status),
    Chunk(Chunk),
    ChunkAck(ChunkAck),
}

/// What a member remembers, as it tells its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A new data directory; has never taken part in anything.
    Fresh,
    /// Has forgotten promises and does not know their terms yet.
    Apart,
    /// Knows the terms it must keep out of; rebuilds its log; does not vote.
    Joining,
    /// Remembers everything it ever promised.
    Full,
}

/// The in-band status message: what sessions, bootstrap and readmission run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Digest of the sender's list of members.
    pub(crate) group: u64,
    /// Counts the sender's statuses to this receiver in this boot.
    pub(crate) number: u64,
    /// The receiver proves that it is alive now by sending this back.
    pub(crate) challenge: u64,
    /// The receiver's last challenge.
    pub(crate) answer: u64,
    /// The sender has a session with the boot it addresses.
    pub(crate) has_session: bool,
    pub(crate) standing: Standing,
    /// The life of the sender's data directory.
    pub(crate) life: u64,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
    pub(crate) commit: u64,
    /// While the sender leads `term`: the highest index that the receiver acknowledged in it.
    pub(crate) witness: u64,
    /// The lives that the sender saw fresh when it bootstrapped; empty if it did not.
    pub(crate) genesis: Vec<(u64, u64)>,
}

/// A piece of a checkpoint on its way from the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) transfer: u64,
    /// The leader's term.
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) index_term: u64,
    pub(crate) total: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
}

/// How much of a transfer has arrived without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkAck {
    pub(crate) transfer: u64,
    pub(crate) received: u64,
}

/// Raft's message types that may travel. Proposals, reads and transfers are never
/// forwarded here: the caller is told who leads.
const TYPES: [(u8, MessageType); 9] = [
    (3, MessageType::MsgAppend),
    (4, MessageType::MsgAppendResponse),
    (5, MessageType::MsgRequestVote),
    (6, MessageType::MsgRequestVoteResponse),
    (8, MessageType::MsgHeartbeat),
    (9, MessageType::MsgHeartbeatResponse),
    (14, MessageType::MsgTimeoutNow),
    (17, MessageType::MsgRequestPreVote),
    (18, MessageType::MsgRequestPreVoteResponse),
];

/// Encodes a message; `None` for a Raft message of a type that does not travel, or with
/// entries that do not follow its index.
pub(crate) fn encode(address: Address, body: &Body) -> Option<Bytes> {
    let mut out = Vec::with_capacity(64 + size_hint(body));
    out.put_u8(VERSION);
    out.put_u8(match body {
        Body::Raft(_) => 0,
        Body::Status(_) => 1,
        Body::Chunk(_) => 2,
        Body::ChunkAck(_) => 3,
    });
    out.put_varint(address.from);
    out.put_varint(address.to);
    out.put_u64_le(address.from_boot);
    out.put_u64_le(address.to_boot);
    match body {
        Body::Raft(message) => encode_raft(message, &mut out)?,
        Body::Status(status) => encode_status(status, &mut out),
        Body::Chunk(chunk) => encode_chunk(chunk, &mut out),
        Body::ChunkAck(ack) => {
            out.put_u64_le(ack.transfer);
            out.put_varint(ack.received);
        }
    }
    let sum = crc32c::crc32c(&out);
    out.put_u32_le(sum);
    Some(out.into())
}

fn size_hint(body: &Body) -> usize {
    match body {
        Body::Raft(message) => message.entries.iter().map(entry::cost).sum::<usize>() + 64,
        Body::Status(_) => 160,
        Body::Chunk(chunk) => chunk.bytes.len() + 64,
        Body::ChunkAck(_) => 32,
    }
}

/// Decodes a message. `from` is who the transport says sent it, for the error.
pub(crate) fn decode(from: u64, bytes: &[u8]) -> Result<(Address, Body), StepError> {
    let malformed = |source| StepError::Malformed { from, source };
    let Some((covered, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(malformed(WireError::Truncated { offset: 0, needed: 4 - bytes.len().min(4) }));
    };
    if crc32c::crc32c(covered) != u32::from_le_bytes(*sum) {
        return Err(StepError::Garbled { from });
    }
    decode_covered(&Bytes::copy_from_slice(covered)).map_err(malformed)
}

fn decode_covered(bytes: &Bytes) -> Result<(Address, Body), WireError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(reader.invalid("message version"));
    }
    let tag = reader.u8()?;
    let address =
        Address { from: reader.varint()?, to: reader.varint()?, from_boot: reader.u64()?, to_boot: reader.u64()? };
    let body = match tag {
        0 => Body::Raft(decode_raft(address, bytes, &mut reader)?),
        1 => Body::Status(decode_status(&mut reader)?),
        2 => Body::Chunk(decode_chunk(bytes, &mut reader)?),
        3 => Body::ChunkAck(ChunkAck { transfer: reader.u64()?, received: number(&mut reader, "received")? }),
        _ => return Err(reader.invalid("message tag")),
    };
    if reader.is_empty() { Ok((address, body)) } else { Err(reader.invalid("end of message")) }
}

fn number(reader: &mut Reader<'_>, what: &'static str) -> Result<u64, WireError> {
    reader.count(what, NUMBER_MAX)
}

/// A length-prefixed stretch that shares the memory of `bytes`.
fn blob(bytes: &Bytes, reader: &mut Reader<'_>, what: &'static str, limit: usize) -> Result<Bytes, WireError> {
    let len = reader.count(what, limit as u64)? as usize;
    let at = reader.offset();
    reader.bytes(len)?;
    Ok(bytes.slice(at..at + len))
}

/// Body 0: type `u8`, reject `u8`, then varints term, log_term, index, commit,
/// commit_term, reject_hint; context blob; varint count of entries; each a blob in
/// the record encoding of `entry`. Entry indexes follow `index` without a gap.
fn encode_raft(message: &Message, out: &mut Vec<u8>) -> Option<()> {
    let kind = TYPES.iter().find(|(_, kind)| *kind == message.msg_type)?.0;
    if message.entries.iter().zip(message.index + 1..).any(|(entry, index)| entry.index != index) {
        return None;
    }
    out.put_u8(kind);
    out.put_u8(message.reject.into());
    let numbers =
        [message.term, message.log_term, message.index, message.commit, message.commit_term, message.reject_hint];
    for number in numbers {
        out.put_varint(number);
    }
    out.put_blob(&message.context);
    out.put_varint(message.entries.len() as u64);
    for entry in message.entries.iter() {
        let head = entry::encode_head(entry);
        out.put_varint((head.len() + entry.data.len()) as u64);
        out.put_slice(&head);
        out.put_slice(&entry.data);
    }
    Some(())
}

fn decode_raft(address: Address, bytes: &Bytes, reader: &mut Reader<'_>) -> Result<Message, WireError> {
    let kind = reader.u8()?;
    let Some((_, msg_type)) = TYPES.iter().find(|(number, _)| *number == kind) else {
        return Err(reader.invalid("Raft message type"));
    };
    let reject = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(reader.invalid("reject flag")),
    };
    let mut message = Message { msg_type: *msg_type, from: address.from, to: address.to, reject, ..Message::default() };
    message.term = number(reader, "term")?;
    message.log_term = number(reader, "log term")?;
    message.index = number(reader, "index")?;
    message.commit = number(reader, "commit")?;
    message.commit_term = number(reader, "commit term")?;
    message.reject_hint = number(reader, "reject hint")?;
    message.context = blob(bytes, reader, "context", CONTEXT_BYTES_MAX)?;
    let count = reader.count("entries", ENTRIES_MAX)?;
    let mut entries: Vec<Entry> = Vec::new();
    for position in 0..count {
        let record = blob(bytes, reader, "entry", usize::MAX >> 1)?;
        entries.push(entry::decode(message.index + 1 + position, &record)?);
    }
    message.set_entries(entries.into());
    Ok(message)
}

/// Body 1: group `u64`, varint number, challenge `u64`, answer `u64`, flags `u8`
/// (bit 0: has a session), standing `u8`, life `u64`, varints term, last index,
/// commit, witness; varint count of genesis pairs, each member varint and life `u64`.
fn encode_status(status: &Status, out: &mut Vec<u8>) {
    out.put_u64_le(status.group);
    out.put_varint(status.number);
    out.put_u64_le(status.challenge);
    out.put_u64_le(status.answer);
    out.put_u8(status.has_session.into());
    out.put_u8(status.standing.byte());
    out.put_u64_le(status.life);
    for number in [status.term, status.last_index, status.commit, status.witness] {
        out.put_varint(number);
    }
    put_genesis(&status.genesis, out);
}

fn decode_status(reader: &mut Reader<'_>) -> Result<Status, WireError> {
    Ok(Status {
        group: reader.u64()?,
        number: number(reader, "status number")?,
        challenge: reader.u64()?,
        answer: reader.u64()?,
        has_session: match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(reader.invalid("status flags")),
        },
        standing: Standing::from_byte(reader.u8()?).ok_or_else(|| reader.invalid("standing"))?,
        life: reader.u64()?,
        term: number(reader, "term")?,
        last_index: number(reader, "last index")?,
        commit: number(reader, "commit")?,
        witness: number(reader, "witness")?,
        genesis: read_genesis(reader)?,
    })
}

impl Standing {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Fresh => 0,
            Self::Apart => 1,
            Self::Joining => 2,
            Self::Full => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Fresh, Self::Apart, Self::Joining, Self::Full].get(usize::from(byte)).copied()
    }
}

/// Writes pairs of member and life.
pub(crate) fn put_genesis(genesis: &[(u64, u64)], out: &mut Vec<u8>) {
    out.put_varint(genesis.len() as u64);
    for (member, life) in genesis {
        out.put_varint(*member);
        out.put_u64_le(*life);
    }
}

/// Reads pairs of member and life.
pub(crate) fn read_genesis(reader: &mut Reader<'_>) -> Result<Vec<(u64, u64)>, WireError> {
    let count = reader.count("genesis lives", MEMBERS_MAX as u64)?;
    (0..count).map(|_| Ok((reader.varint()?, reader.u64()?))).collect()
}

/// Body 2: transfer `u64`, varints term, index, index's term, total length, offset; blob.
fn encode_chunk(chunk: &Chunk, out: &mut Vec<u8>) {
    out.put_u64_le(chunk.transfer);
    for number in [chunk.term, chunk.index, chunk.index_term, chunk.total, chunk.offset] {
        out.put_varint(number);
    }
    out.put_blob(&chunk.bytes);
}

fn decode_chunk(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<Chunk, WireError> {
    let transfer = reader.u64()?;
    let term = number(reader, "term")?;
    let index = number(reader, "index")?;
    let index_term = number(reader, "index term")?;
    let total = reader.count("checkpoint", SNAPSHOT_BYTES_MAX)?;
    let offset = reader.count("chunk offset", total)?;
    let bytes = blob(bytes, reader, "chunk", CHUNK_BYTES_MAX)?;
    if bytes.len() as u64 > total - offset || (bytes.is_empty() && total > 0) || transfer == 0 {
        return Err(reader.invalid("chunk"));
    }
    Ok(Chunk { transfer, term, index, index_term, total, offset, bytes })
}

/// A digest of the list of members, in ascending order: two members with different
/// lists must not count quorums together. FNV-1a over the ids.
pub(crate) fn group_digest(members_sorted: &[u64]) -> u64 {
    members_sorted
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Cuts an append message into several of at most about `bytes_max` of entries each
/// (one entry at least), which mean the same in order.
pub(crate) fn split_append(mut message: Message, bytes_max: usize) -> Vec<Message> {
    let total: usize = message.entries.iter().map(entry::cost).sum();
    if total <= bytes_max || message.entries.len() < 2 {
        return vec![message];
    }
    let entries: Vec<Entry> = message.take_entries().into();
    let mut parts: Vec<Message> = Vec::new();
    let mut part: Vec<Entry> = Vec::new();
    let (mut bytes, mut index, mut log_term) = (0, message.index, message.log_term);
    for entry in entries {
        let cost = entry::cost(&entry);
        if !part.is_empty() && bytes + cost > bytes_max {
            let (next_index, next_term) = part.last().map_or((index, log_term), |last| (last.index, last.term));
            parts.push(append_part(&message, index, log_term, std::mem::take(&mut part)));
            (bytes, index, log_term) = (0, next_index, next_term);
        }
        bytes += cost;
        part.push(entry);
    }
    parts.push(append_part(&message, index, log_term, part));
    parts
}

fn append_part(whole: &Message, index: u64, log_term: u64, entries: Vec<Entry>) -> Message {
    let mut part = whole.clone();
    part.index = index;
    part.log_term = log_term;
    part.set_entries(entries.into());
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{ProposalId, Purpose};
    use proptest::prelude::*;

    fn address() -> Address {
        Address { from: 1, to: 2, from_boot: 11, to_boot: 22 }
    }

    fn append(count: u64, len: usize) -> Message {
        let mut message = Message { msg_type: MessageType::MsgAppend, from: 1, to: 2, ..Message::default() };
        (message.term, message.log_term, message.index, message.commit) = (9, 7, 100, 99);
        let entries: Vec<Entry> = (0..count)
            .map(|number| {
                let (context, _) = Purpose::Proposal(ProposalId { member: 1, boot: 5, number }).encode();
                let data = Bytes::from(vec![number as u8; len]);
                Entry { term: 8, index: 101 + number, context, data, ..Entry::default() }
            })
            .collect();
        message.set_entries(entries.into());
        message
    }

    fn status() -> Status {
        Status {
            group: group_digest(&[1, 2, 3]),
            number: 4,
            challenge: 5,
            answer: 6,
            has_session: true,
            standing: Standing::Joining,
            life: 7,
            term: 8,
            last_index: 9,
            commit: 10,
            witness: 11,
            genesis: vec![(1, 12), (2, 13)],
        }
    }

    #[test]
    fn every_body_round_trips() {
        let chunk =
            Chunk { transfer: 1, term: 2, index: 3, index_term: 2, total: 9, offset: 4, bytes: vec![1; 5].into() };
        for body in [
            Body::Raft(append(3, 10)),
            Body::Status(status()),
            Body::Chunk(chunk),
            Body::ChunkAck(ChunkAck { transfer: 3, received: 4 }),
        ] {
            let bytes = encode(address(), &body).expect("this type travels");
            assert_eq!(decode(1, &bytes), Ok((address(), body)));
        }
    }

    #[test]
    fn the_envelope_is_fixed() {
        let bytes = encode(address(), &Body::ChunkAck(ChunkAck { transfer: 3, received: 4 })).expect("travels");
        let mut expected = vec![1, 3, 1, 2];
        for number in [11_u64, 22, 3] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        expected.push(4);
        let sum = crc32c::crc32c(&expected);
        expected.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_bodies_are_fixed() {
        let body = |body: &Body| {
            let bytes = encode(address(), body).expect("travels");
            bytes[20..bytes.len() - 4].to_vec()
        };
        let context: [u8; 11] = [1, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        let record = [[1, 8, 11].as_slice(), &context, &[0, 0]].concat();
        let expected = [[3, 0, 9, 7, 100, 99, 0, 0, 0, 1, record.len() as u8].as_slice(), &record].concat();
        assert_eq!(body(&Body::Raft(append(1, 2))), expected);
        let mut expected = group_digest(&[1, 2, 3]).to_le_bytes().to_vec();
        expected
            .extend([4, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 2, 7, 0, 0, 0, 0, 0, 0, 0, 8, 9, 10, 11]);
        expected.extend([2, 1, 12, 0, 0, 0, 0, 0, 0, 0, 2, 13, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(body(&Body::Status(status())), expected);
        assert_eq!(group_digest(&[1, 2, 3]), 0xda2b_fb22_5e0d_1f05);
        let chunk = Chunk { transfer: 1, term: 2, index: 3, index_term: 2, total: 3, offset: 0, bytes: "abc".into() };
        assert_eq!(body(&Body::Chunk(chunk)), [1, 0, 0, 0, 0, 0, 0, 0, 2, 3, 2, 3, 0, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn entries_that_do_not_follow_the_index_do_not_travel() {
        let mut message = append(2, 10);
        message.index -= 1;
        assert_eq!(encode(address(), &Body::Raft(message)), None);
    }

    #[test]
    fn an_append_is_cut_without_changing_its_meaning() {
        let whole = append(10, 1000);
        let parts = split_append(whole.clone(), 3000);
        assert!(parts.len() > 3);
        let mut index = whole.index;
        let mut log_term = whole.log_term;
        let mut entries = Vec::new();
        for part in parts {
            assert_eq!((part.index, part.log_term, part.commit), (index, log_term, whole.commit));
            let last = part.entries.last().expect("no part is empty");
            (index, log_term) = (last.index, last.term);
            entries.extend(part.entries.to_vec());
        }
        assert_eq!(entries, whole.entries.to_vec());
        assert_eq!(split_append(append(1, 9000), 3000).len(), 1);
        assert_eq!(split_append(append(0, 0), 3000).len(), 1);
    }

    #[test]
    fn local_messages_do_not_travel() {
        for kind in [MessageType::MsgHup, MessageType::MsgPropose, MessageType::MsgSnapshot] {
            assert_eq!(encode(address(), &Body::Raft(Message { msg_type: kind, ..Message::default() })), None);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, seal: bool) {
            if seal {
                bytes.splice(0..0, [1]);
                let sum = crc32c::crc32c(&bytes);
                bytes.extend_from_slice(&sum.to_le_bytes());
            }
            let _ = decode(1, &bytes);
        }

        #[test]
        fn a_changed_byte_is_noticed(at in 0_usize..1000, flip in 1_u8..) {
            let mut bytes = encode(address(), &Body::Status(status())).expect("travels").to_vec();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(decode(1, &bytes), Err(StepError::Garbled { from: 1 }));
        }
    }
}
