//! The receiving side of the uplink: one per connection. Checks who comes,
//! hands blocks on, and acknowledges what its owner says is durable.
//!
//! The owner calls the `on_` functions, answers [`ReceiverAction::Hello`], and
//! takes every action and frame. After [`ReceiverAction::Close`] it writes the
//! frames that [`Receiver::poll_transmit`] still gives and closes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use grey_model::{BlockHeader, RangeSet, Seq, StreamKey};

use crate::decode::FrameError;
use crate::frame::{
    Ack, Coverage, Frame, Goodbye, Heartbeat, HeartbeatAck, Hello, Redirect, Reject, RejectCode, Role, SiteReport,
    Welcome, text,
};
use crate::limits::{
    ACK_RANGES_MAX, ADDRESS_BYTES_MAX, CONTROL_QUEUE_MAX, COVERAGE_KEYS_MAX, COVERAGE_RANGES_MAX, PENDING_BLOCKS_MAX,
    PROTOCOL_MAX, PROTOCOL_MIN, UNREAD_BLOCKS_MAX, WINDOW_SLACK_BYTES,
};

/// The settings of a [`Receiver`]. All times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// This node's id in its group.
    pub node: u64,
    /// Time from the connection to the hello.
    pub hello_timeout_ms: u64,
    /// A sender that was silent for this long is gone.
    pub heartbeat_timeout_ms: u64,
    /// The slowest link that is worth keeping, in bytes per second: how long a
    /// frame may take to arrive grows with its length. At least 1.
    pub rate_floor_bytes_per_s: u64,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self { node: 0, hello_timeout_ms: 10_000, heartbeat_timeout_ms: 35_000, rate_floor_bytes_per_s: 4 * 1024 }
    }
}

/// Names a block that was handed on, within one [`Receiver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What became of a block that was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable at this tier, now or before.
    Committed,
    /// It is not, and nobody is trying any more: the sender must send it again.
    Dropped,
}

/// What the owner of a [`Receiver`] has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverAction {
    /// Somebody introduced itself: answer with [`Receiver::accept`],
    /// [`Receiver::redirect`] or [`Receiver::reject`].
    Hello(Hello),
    /// Make a block durable, then call [`Receiver::on_committed`].
    Propose {
        /// Names the block in the answer.
        token: Token,
        /// The block's bytes.
        block: Bytes,
        /// Its header, checked.
        header: Box<BlockHeader>,
    },
    /// The sender is alive; the answer is on its way.
    Heartbeat(Heartbeat),
    /// A hub reports its sites.
    Sites(Vec<SiteReport>),
    /// Write what is left and close.
    Close {
        /// Why.
        reason: String,
    },
}

/// Counters of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiverStats {
    /// Bytes received, framing included.
    pub bytes_in: u64,
    /// Bytes sent, framing included.
    pub bytes_out: u64,
    /// Blocks received.
    pub blocks_in: u64,
    /// Events in them.
    pub events_in: u64,
    /// Blocks that are durable.
    pub blocks_committed: u64,
    /// Blocks that were dropped.
    pub blocks_dropped: u64,
    /// Blocks and frames that were refused.
    pub rejected: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Waiting for a hello.
    Greeting,
    /// Waiting for the owner's answer to it.
    Deciding,
    Live,
    Closed,
}

#[derive(Debug)]
struct Proposed {
    key: StreamKey,
    range: Range<Seq>,
    bytes: u64,
}

/// The receiving side of one connection. See the module's text.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    phase: Phase,
    hello: Option<Hello>,
    window_bytes: u64,
    /// The largest window granted: a sender may not have heard of a smaller one yet.
    window_bytes_max: u64,
    window_changed: bool,
    next_token: u64,
    proposed: BTreeMap<Token, Proposed>,
    proposed_bytes: u64,
    durable: BTreeMap<StreamKey, RangeSet>,
    /// Blocks in `durable`, at most: a sender that never reads must not make it grow.
    durable_blocks: usize,
    control: VecDeque<Frame>,
    actions: VecDeque<ReceiverAction>,
    heard_ms: u64,
    /// Since when a frame has been arriving, and its length.
    partial: Option<(u64, u64)>,
    /// The last stream acknowledged, to tell of a new window when nothing else is to be said.
    last_key: Option<StreamKey>,
    stats: ReceiverStats,
}

impl Receiver {
    /// For a connection that was accepted at `now` (monotonic milliseconds).
    pub fn new(config: ReceiverConfig, now: u64) -> Self {
        Self {
            config,
            phase: Phase::Greeting,
            hello: None,
            window_bytes: 0,
            window_bytes_max: 0,
            window_changed: false,
            next_token: 0,
            proposed: BTreeMap::new(),
            proposed_bytes: 0,
            durable: BTreeMap::new(),
            durable_blocks: 0,
            control: VecDeque::new(),
            actions: VecDeque::new(),
            heard_ms: now,
            partial: None,
            last_key: None,
            stats: ReceiverStats::default(),
        }
    }

    /// A frame arrived. `unix_ms` is this node's wall clock.
    pub fn on_frame(&mut self, now: u64, unix_ms: i64, frame: Frame) {
        self.stats.bytes_in += frame.wire_len() as u64;
        match (frame, &self.phase) {
            (_, Phase::Closed) => {}
            (Frame::Hello(hello), Phase::Greeting) => {
                self.heard_ms = now;
                self.on_hello(hello);
            }
            (Frame::Block(block), Phase::Live) => {
                self.heard_ms = now;
                self.on_block(block);
            }
            (Frame::Heartbeat(heartbeat), Phase::Live) => {
                self.heard_ms = now;
                self.send(Frame::HeartbeatAck(HeartbeatAck { now_ms: unix_ms, echo: heartbeat.echo }));
                self.actions.push_back(ReceiverAction::Heartbeat(heartbeat));
            }
            (Frame::Sites(sites), Phase::Live) => {
                self.heard_ms = now;
                if self.hello.as_ref().is_some_and(|hello| hello.role == Role::Hub) {
                    self.actions.push_back(ReceiverAction::Sites(sites));
                } else {
                    self.reject(RejectCode::NotAllowed, "only a hub reports sites");
                }
            }
            (Frame::Goodbye(goodbye), _) => self.close(format!("the sender said goodbye: {}", goodbye.reason)),
            (frame, _) => {
                let message = format!("a {} frame has no place here", frame.name());
                self.reject(RejectCode::Protocol, &message);
            }
        }
    }

    /// Bytes arrived that are no frame.
    pub fn on_frame_error(&mut self, error: &FrameError) {
        self.reject(RejectCode::BadFrame, &error.to_string());
    }

    /// Call after every read, once all whole frames were taken, with
    /// [`FrameDecoder::partial_bytes`](crate::FrameDecoder::partial_bytes): a
    /// frame that trickles in must still be whole in time.
    pub fn on_partial(&mut self, now: u64, partial_bytes: usize) {
        self.partial = match (partial_bytes as u64, self.partial) {
            (0, _) => None,
            (bytes, Some((since, known))) if since >= self.heard_ms => Some((since, bytes.max(known))),
            (bytes, _) => Some((now, bytes)),
        };
    }

    /// The hello is accepted: what this tier has of the sender's own streams,
    /// the window that it gets, and the term that this node leads.
    pub fn accept(&mut self, coverage: Vec<Coverage>, window_bytes: u64, term: u64) {
        if self.phase != Phase::Deciding {
            return;
        }
        let protocol = self.hello.as_ref().map_or(PROTOCOL_MAX, |hello| hello.protocol_max.min(PROTOCOL_MAX));
        let coverage = coverage.into_iter().take(COVERAGE_KEYS_MAX).map(|(key, ranges)| (key, bound(ranges)));
        self.phase = Phase::Live;
        self.window_bytes = window_bytes;
        self.window_bytes_max = window_bytes;
        let node = self.config.node;
        self.send(Frame::Welcome(Welcome { protocol, node, term, coverage: coverage.collect(), window_bytes }));
    }

    /// This node does not lead, or not any more: the sender goes to `address`.
    /// Blocks that were handed on and are not durable yet are sent there again.
    pub fn redirect(&mut self, address: Option<String>, reason: &str) {
        let address = address.filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        self.finish(Frame::Redirect(Redirect { address, reason: text(reason) }), format!("redirected: {reason}"));
    }

    /// The sender did what it must not.
    pub fn reject(&mut self, code: RejectCode, message: &str) {
        if self.phase != Phase::Closed {
            self.stats.rejected += 1;
        }
        self.finish(Frame::Reject(Reject { code, message: text(message) }), format!("rejected ({code}): {message}"));
    }

    /// This side leaves in order.
    pub fn goodbye(&mut self, reason: &str) {
        self.finish(Frame::Goodbye(Goodbye { reason: text(reason) }), reason.to_owned());
    }

    /// A block's fate is known. In any order; an unknown token is ignored.
    pub fn on_committed(&mut self, token: Token, outcome: Outcome) {
        let Some(Proposed { key, range, bytes }) = self.proposed.remove(&token) else {
            return;
        };
        self.proposed_bytes -= bytes;
        match outcome {
            Outcome::Committed => {
                self.stats.blocks_committed += 1;
                self.durable.entry(key).or_default().insert(range);
                self.durable_blocks += 1;
                if self.durable_blocks > UNREAD_BLOCKS_MAX {
                    self.close("the sender does not read its acknowledgements".into());
                }
            }
            Outcome::Dropped => {
                self.stats.blocks_dropped += 1;
                self.goodbye("a block could not be made durable here, send it again");
            }
        }
    }

    /// Grants another window; the sender hears of it with the next acknowledgement.
    pub fn set_window(&mut self, window_bytes: u64) {
        self.window_changed |= self.window_bytes != window_bytes;
        self.window_bytes = window_bytes;
        self.window_bytes_max = self.window_bytes_max.max(window_bytes);
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: u64) {
        if self.next_timeout().is_some_and(|timeout| now >= timeout) {
            match self.phase {
                Phase::Greeting => self.goodbye("no hello in time"),
                _ if self.partial.is_some() => self.goodbye("a frame took too long to arrive"),
                _ => self.goodbye("no heartbeat in time"),
            }
        }
    }

    /// When [`Receiver::on_tick`] must be called next at the latest, in monotonic milliseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        match (&self.phase, self.partial) {
            (Phase::Closed, _) => None,
            (Phase::Greeting, _) => Some(self.heard_ms.saturating_add(self.config.hello_timeout_ms)),
            (_, Some((since, bytes))) => {
                let patience = bytes.saturating_mul(1_000) / self.config.rate_floor_bytes_per_s.max(1);
                Some(since.saturating_add(self.config.heartbeat_timeout_ms).saturating_add(patience))
            }
            (_, None) => Some(self.heard_ms.saturating_add(self.config.heartbeat_timeout_ms)),
        }
    }

    /// The next frame to write.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        let frame = match self.next_ack() {
            Some(ack) => Frame::Ack(ack),
            None => self.control.pop_front()?,
        };
        self.stats.bytes_out += frame.wire_len() as u64;
        Some(frame)
    }

    /// The next thing to do. Call until `None` after every other call.
    pub fn poll_action(&mut self) -> Option<ReceiverAction> {
        self.actions.pop_front()
    }

    /// Who came, once it said so.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// True once this side is done but for the frames that are left to write.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Blocks handed on whose fate is not known.
    pub fn pending_blocks(&self) -> usize {
        self.proposed.len()
    }

    /// The counters.
    pub fn stats(&self) -> ReceiverStats {
        self.stats
    }

    fn on_hello(&mut self, hello: Hello) {
        let meets = hello.protocol_min <= PROTOCOL_MAX && hello.protocol_max >= PROTOCOL_MIN;
        if !meets || hello.protocol_min > hello.protocol_max {
            let (min, max) = (hello.protocol_min, hello.protocol_max);
            let message = format!(
                "sender speaks protocol {min} to {max}, this receiver {PROTOCOL_MIN} to {PROTOCOL_MAX}; upgrade the older side"
            );
            return self.reject(RejectCode::Version, &message);
        }
        self.phase = Phase::Deciding;
        self.hello = Some(hello.clone());
        self.actions.push_back(ReceiverAction::Hello(hello));
    }

    fn on_block(&mut self, block: Bytes) {
        let header = match BlockHeader::parse(&block) {
            Ok(view) => view.header,
            Err(error) => return self.reject(RejectCode::BadBlock, &error.to_string()),
        };
        if header.span == 0 {
            return self.reject(RejectCode::BadBlock, "the block covers no sequence");
        }
        if let Some(hello) = &self.hello
            && hello.role == Role::Edge
            && hello.sender != header.site
        {
            let message = format!("site {} may not send a block of site {}", hello.sender, header.site);
            return self.reject(RejectCode::NotAllowed, &message);
        }
        let bytes = block.len() as u64;
        let limit = self.window_bytes_max.saturating_add(WINDOW_SLACK_BYTES);
        if self.proposed_bytes + bytes > limit || self.proposed.len() >= PENDING_BLOCKS_MAX {
            let (blocks, held) = (self.proposed.len(), self.proposed_bytes);
            let message = format!("{blocks} blocks of {held} bytes wait already, the window is {}", self.window_bytes);
            return self.reject(RejectCode::FlowControl, &message);
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        self.stats.blocks_in += 1;
        self.stats.events_in += u64::from(header.events);
        self.proposed_bytes += bytes;
        self.proposed.insert(token, Proposed { key: header.key(), range: header.range(), bytes });
        self.actions.push_back(ReceiverAction::Propose { token, block, header: Box::new(header) });
    }

    /// What became durable since the last call, one stream at a time.
    fn next_ack(&mut self) -> Option<Ack> {
        let window_bytes = self.window_bytes;
        let Some((key, set)) = self.durable.pop_first() else {
            let key = self.last_key.clone().filter(|_| self.window_changed && self.phase == Phase::Live)?;
            self.window_changed = false;
            return Some(Ack { key, ranges: Vec::new(), window_bytes });
        };
        let mut ranges = set.iter();
        let now: Vec<Range<Seq>> = ranges.by_ref().take(ACK_RANGES_MAX).collect();
        let rest: RangeSet = ranges.collect();
        if !rest.is_empty() {
            self.durable.insert(key.clone(), rest);
        }
        if self.durable.is_empty() {
            self.durable_blocks = 0;
        }
        self.window_changed = false;
        self.last_key = Some(key.clone());
        Some(Ack { key, ranges: now, window_bytes })
    }

    fn send(&mut self, frame: Frame) {
        if self.control.len() >= CONTROL_QUEUE_MAX {
            // It asks and never reads the answers.
            self.control.clear();
            self.close("the sender does not read".into());
            return;
        }
        self.control.push_back(frame);
    }

    /// Queues the last frame and closes.
    fn finish(&mut self, last: Frame, reason: String) {
        if self.phase != Phase::Closed {
            self.control.push_back(last);
            self.close(reason);
        }
    }

    fn close(&mut self, reason: String) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.actions.push_back(ReceiverAction::Close { reason });
        }
    }
}

/// Keeps a welcome small. What is left out is only sent again and recognised,
/// but the end must stay: it shows a sender that was restored from an old copy.
fn bound(mut ranges: Vec<Range<Seq>>) -> Vec<Range<Seq>> {
    if ranges.len() > COVERAGE_RANGES_MAX
        && let Some(last) = ranges.pop()
    {
        ranges.truncate(COVERAGE_RANGES_MAX - 1);
        ranges.push(last);
    }
    ranges
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
