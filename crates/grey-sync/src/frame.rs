//! The frames of the uplink and how they are written.
//!
//! Every frame starts with its length and a checksum, then a version and a type
//! byte, then the body: a block's own bytes, or postcard. Fields are only ever
//! appended, and a reader ignores what it does not know, so that the two tiers
//! of a link need not be upgraded at once.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use grey_model::{Epoch, Lane, SiteId, StreamKey};
use serde::{Deserialize, Serialize};

use crate::limits::{PREFIX_BYTES, TEXT_BYTES_MAX};

/// The frame layout's version byte.
pub(crate) const FRAME_VERSION: u8 = 1;

/// What a sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A site: every block carries its own id.
    Edge,
    /// A hub: it forwards the blocks of many sites.
    Hub,
}

/// The first frame of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol that the sender speaks.
    pub protocol_min: u16,
    /// Newest protocol that the sender speaks.
    pub protocol_max: u16,
    /// What the sender is.
    pub role: Role,
    /// Who it is.
    pub sender: SiteId,
    /// The life it is in.
    pub epoch: Epoch,
    /// Per lane the next sequence that it had to give in that life when it started.
    pub next_seqs: [u64; 3],
    /// Name and version of the program, for logs.
    pub agent: String,
}

/// What a receiver has accepted of one stream: its key, and the ranges in order.
pub type Coverage = (StreamKey, Vec<Range<u64>>);

/// The answer to a hello that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol that both sides speak from here on.
    pub protocol: u16,
    /// The receiving node's id in its group.
    pub node: u64,
    /// The term that it leads.
    pub term: u64,
    /// What it has accepted of the sender's own streams.
    pub coverage: Vec<Coverage>,
    /// How many bytes of blocks may be unacknowledged.
    pub window_bytes: u64,
}

/// Go elsewhere: this node does not lead, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// `host:port` of the node that does, if known.
    pub address: Option<String>,
    /// Why, for logs.
    pub reason: String,
}

/// What was wrong with the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
pub enum RejectCode {
    /// The protocol ranges do not meet.
    Version,
    /// Bytes that are no frame.
    BadFrame,
    /// A block that does not parse.
    BadBlock,
    /// The sender may not do this.
    NotAllowed,
    /// The window was ignored.
    FlowControl,
    /// A frame that has no place here.
    Protocol,
    /// A code of a later version.
    Other(u16),
}

impl From<u16> for RejectCode {
    fn from(code: u16) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::BadFrame,
            3 => Self::BadBlock,
            4 => Self::NotAllowed,
            5 => Self::FlowControl,
            6 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}

impl From<RejectCode> for u16 {
    fn from(code: RejectCode) -> Self {
        match code {
            RejectCode::Version => 1,
            RejectCode::BadFrame => 2,
            RejectCode::BadBlock => 3,
            RejectCode::NotAllowed => 4,
            RejectCode::FlowControl => 5,
            RejectCode::Protocol => 6,
            RejectCode::Other(other) => other,
        }
    }
}

impl std::fmt::Display for RejectCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version => f.write_str("version"),
            Self::BadFrame => f.write_str("bad frame"),
            Self::BadBlock => f.write_str("bad block"),
            Self::NotAllowed => f.write_str("not allowed"),
            Self::FlowControl => f.write_str("flow control"),
            Self::Protocol => f.write_str("protocol"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

/// The receiver's last frame after an error of the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// What kind of error.
    pub code: RejectCode,
    /// What exactly, for logs.
    pub message: String,
}

/// Sequences that are durable at the receiver's tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The stream.
    pub key: StreamKey,
    /// The ranges, in order, disjoint, none empty.
    pub ranges: Vec<Range<u64>>,
    /// The window from now on.
    pub window_bytes: u64,
}

/// What waits in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Events.
    pub events: u64,
    /// Encoded bytes.
    pub bytes: u64,
}

/// How a sender is doing, for the tiers above.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// The sender's wall clock, Unix milliseconds.
    pub now_ms: i64,
    /// What waits per lane.
    pub pending: [Pending; 3],
    /// Age of the oldest waiting event in milliseconds; 0 when none waits.
    pub oldest_pending_age_ms: u64,
    /// Events accepted in this life.
    pub accepted_total: u64,
    /// Events dropped in this life.
    pub dropped_total: u64,
}

/// A sign of life of the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Returned in the answer: the sender's monotonic milliseconds.
    pub echo: u64,
    /// How the sender is doing.
    pub status: Status,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The receiver's wall clock, Unix milliseconds.
    pub now_ms: i64,
    /// The number of the heartbeat.
    pub echo: u64,
}

/// What a hub knows of one of its sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteReport {
    /// The site.
    pub site: SiteId,
    /// The life it is in.
    pub epoch: Epoch,
    /// True while a session with it stands.
    pub connected: bool,
    /// When it was last heard, Unix milliseconds of the hub.
    pub last_seen_ms: i64,
    /// What it said then.
    pub status: Status,
}

/// The last frame of a side that leaves in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why, for logs.
    pub reason: String,
}

/// One message of the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Sender: who it is.
    Hello(Hello),
    /// Receiver: go on.
    Welcome(Welcome),
    /// Receiver: go elsewhere.
    Redirect(Redirect),
    /// Receiver: that was wrong.
    Reject(Reject),
    /// Sender: a block, its header and payload as stored.
    Block(Bytes),
    /// Receiver: sequences that are durable.
    Ack(Ack),
    /// Sender: a sign of life.
    Heartbeat(Heartbeat),
    /// Receiver: the answer to it.
    HeartbeatAck(HeartbeatAck),
    /// Sender (a hub): its sites; one page.
    Sites(Vec<SiteReport>),
    /// Either: the end.
    Goodbye(Goodbye),
}

/// The type byte of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameType {
    Hello = 1,
    Welcome = 2,
    Redirect = 3,
    Reject = 4,
    Block = 5,
    Ack = 6,
    Heartbeat = 7,
    HeartbeatAck = 8,
    Sites = 9,
    Goodbye = 10,
}

impl FrameType {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        use FrameType::*;
        [Hello, Welcome, Redirect, Reject, Block, Ack, Heartbeat, HeartbeatAck, Sites, Goodbye]
            .get(usize::from(byte).checked_sub(1)?)
            .copied()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Redirect => "redirect",
            Self::Reject => "reject",
            Self::Block => "block",
            Self::Ack => "ack",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatAck => "heartbeat answer",
            Self::Sites => "sites",
            Self::Goodbye => "goodbye",
        }
    }
}

impl Frame {
    pub(crate) fn frame_type(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Redirect(_) => FrameType::Redirect,
            Self::Reject(_) => FrameType::Reject,
            Self::Block(_) => FrameType::Block,
            Self::Ack(_) => FrameType::Ack,
            Self::Heartbeat(_) => FrameType::Heartbeat,
            Self::HeartbeatAck(_) => FrameType::HeartbeatAck,
            Self::Sites(_) => FrameType::Sites,
            Self::Goodbye(_) => FrameType::Goodbye,
        }
    }

    /// The name of the frame's type, for logs.
    pub fn name(&self) -> &'static str {
        self.frame_type().name()
    }

    /// Appends the frame as it goes over the wire. One copy of a block's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&[0; 8]);
        out.put_u8(FRAME_VERSION);
        out.put_u8(self.frame_type() as u8);
        match self {
            Self::Hello(body) => put(out, body),
            Self::Welcome(body) => put(out, body),
            Self::Redirect(body) => put(out, body),
            Self::Reject(body) => put(out, body),
            Self::Block(block) => out.put_slice(block),
            Self::Ack(body) => put(out, body),
            Self::Heartbeat(body) => put(out, body),
            Self::HeartbeatAck(body) => put(out, body),
            Self::Sites(body) => put(out, body),
            Self::Goodbye(body) => put(out, body),
        }
        let length = (out.len() - start - 8) as u32;
        let crc = crc32c::crc32c(&out[start + 8..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Bytes that the frame takes on the wire.
    pub fn wire_len(&self) -> usize {
        PREFIX_BYTES
            + match self {
                Self::Hello(body) => size(body),
                Self::Welcome(body) => size(body),
                Self::Redirect(body) => size(body),
                Self::Reject(body) => size(body),
                Self::Block(block) => block.len(),
                Self::Ack(body) => size(body),
                Self::Heartbeat(body) => size(body),
                Self::HeartbeatAck(body) => size(body),
                Self::Sites(body) => size(body),
                Self::Goodbye(body) => size(body),
            }
    }
}

/// Cuts a text for a frame to its limit.
pub(crate) fn text(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The lanes' names beside an array that is indexed by them.
pub(crate) fn by_lane<T: Copy>(values: [T; 3]) -> impl Iterator<Item = (Lane, T)> {
    Lane::ALL.into_iter().zip(values)
}

/// Appends to a frame that is being written.
struct Tail<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Tail<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn put<T: Serialize>(out: &mut BytesMut, body: &T) {
    // Postcard fails on a full buffer or a sequence of unknown length; this
    // buffer grows and no body has such a sequence.
    postcard::serialize_with_flavor(body, Tail(out)).expect("a frame body always serialises");
}

fn size<T: Serialize>(body: &T) -> usize {
    // As in `put`.
    postcard::experimental::serialized_size(body).expect("a frame body always serialises")
}
