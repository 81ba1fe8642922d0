//! The state of one client, as a state machine over its packets.
//!
//! A session takes the bytes that one read brought and fills a [`Turn`]: the
//! operations for the intake, the acknowledgements that they earn once they are
//! durable, and the replies that need not wait. It never sees a socket or a
//! clock. For now a session ends with its connection; persistent sessions will
//! live here too.

mod connect;
#[cfg(any(test, feature = "fuzzing"))]
mod exercise;
mod inbound;
mod outbound;
mod route;
mod subscribe;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;

use super::ServerConfig;
use super::codec::{
    Ack, AckKind, Disconnect, Fault, Frame, Packet, Properties, ReasonCode, Split, Version, decode, publish_parts,
    put_ack, split,
};
use crate::broker::{Broker, ConnectionId, Message};
use crate::counters::IngestCounters;
use crate::intake::{Op, Refusal};
use crate::payload::NameMemo;
pub use connect::client_key;
pub(crate) use connect::{Opening, Rejection, open};
#[cfg(any(test, feature = "fuzzing"))]
pub use exercise::exercise;
use outbound::Subscriber;
use route::RouteCache;

/// What a session may look at while it handles packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a ServerConfig,
    pub(crate) broker: &'a Broker,
    /// The wall clock, Unix milliseconds.
    pub(crate) now_ms: i64,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Close {
    /// The client said goodbye.
    Client,
    /// The peer closed or broke the connection.
    Lost,
    /// A faulty packet.
    Fault(Fault),
    /// No CONNECT came in time.
    ConnectTimeout,
    /// The CONNECT was refused, and the answer says why.
    Rejected,
    /// Nothing was heard for 1.5 keep-alive intervals.
    KeepAlive,
    /// Another connection came with the same client id.
    TakenOver,
    /// The server stops.
    Stopping,
    /// The intake refused a batch.
    Refused(Refusal),
    /// QoS 1 deliveries overflowed the queue.
    SlowSubscriber,
    /// Retained messages asked for faster than they are taken.
    RetainedQuota,
}

impl Close {
    /// What the DISCONNECT of MQTT 5 says; `None` where nothing is to be said.
    pub(crate) fn reason(&self) -> Option<ReasonCode> {
        Some(match self {
            Self::Client | Self::Lost | Self::ConnectTimeout | Self::Rejected => return None,
            Self::Fault(fault) => fault.reason(),
            Self::KeepAlive => ReasonCode::KEEP_ALIVE_TIMEOUT,
            Self::TakenOver => ReasonCode::SESSION_TAKEN_OVER,
            Self::Stopping | Self::Refused(Refusal::Stopping) => ReasonCode::SERVER_SHUTTING_DOWN,
            Self::Refused(Refusal::Backpressure { .. }) => ReasonCode::SERVER_BUSY,
            Self::Refused(Refusal::Full) | Self::SlowSubscriber | Self::RetainedQuota => ReasonCode::QUOTA_EXCEEDED,
            Self::Refused(Refusal::Failed(_)) => ReasonCode::IMPLEMENTATION_SPECIFIC,
        })
    }
}

/// Counts of one turn, added to the shared counters once.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    messages: [u64; 3],
    events: u64,
    dead_letters: u64,
    duplicates: u64,
    unmapped: u64,
}

/// What one read of a connection comes to.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// For the intake, in order.
    pub(crate) ops: Vec<Op>,
    /// Acknowledgements in wire form, to be sent when `ops` are durable.
    pub(crate) acks: Vec<u8>,
    /// Publishes that are off the receive maximum when `acks` are sent.
    pub(crate) credits: u32,
    /// For local subscribers when `ops` are durable.
    pub(crate) forwards: Vec<Arc<Message>>,
    /// Packets to be sent at once.
    pub(crate) replies: Vec<u8>,
    tally: Tally,
}

impl Turn {
    pub(crate) fn with_capacity(ops: usize) -> Self {
        Self { ops: Vec::with_capacity(ops), ..Self::default() }
    }

    /// Adds what was counted to the shared counters.
    pub(crate) fn count(&self, counters: &IngestCounters) {
        for (counter, n) in counters.messages.iter().zip(self.tally.messages) {
            counter.add(n);
        }
        counters.events.add(self.tally.events);
        counters.dead_letters.add(self.tally.dead_letters);
        counters.duplicates.add(self.tally.duplicates);
        counters.unmapped.add(self.tally.unmapped);
    }
}

/// The state of one connected client.
#[derive(Debug)]
pub(crate) struct Session {
    connection: ConnectionId,
    version: Version,
    /// Stable hash of the client id.
    client: u64,
    /// Whether the client started clean: then no older publish of it can be known.
    clean: bool,
    /// QoS 1 and 2 publishes that are not acknowledged to their end yet.
    unacknowledged: u32,
    /// QoS 2 publishes that are not released yet; `true` if the intake knows their key.
    unreleased: HashMap<u16, bool>,
    aliases: Vec<Option<Box<[u8]>>>,
    routes: RouteCache,
    memo: NameMemo,
    subscriber: Option<Box<Subscriber>>,
    /// QoS 1 deliveries that the client takes unacknowledged.
    window: u16,
    /// Largest packet that the client takes, in bytes.
    client_packet_bytes_max: usize,
}

impl Session {
    /// Handles all whole packets at the front of `bytes`. Returns how many
    /// bytes they took and how many the packet that is left needs in all (0
    /// when nothing is left), or why the connection has to end. What came
    /// before a faulty packet is in the turn and stays valid.
    pub(crate) fn receive(&mut self, bytes: &[u8], cx: Context<'_>, turn: &mut Turn) -> Result<(usize, usize), Close> {
        let mut used = 0;
        loop {
            if used == bytes.len() {
                return Ok((used, 0));
            }
            let frame = match split(&bytes[used..], cx.config.packet_bytes_max) {
                Ok(Split::Frame(frame)) => frame,
                Ok(Split::Partial(needed)) => return Ok((used, needed)),
                Err(fault) => return Err(Close::Fault(fault)),
            };
            if frame.first >> 4 == 3 {
                let parts = publish_parts(&frame, self.version).map_err(Close::Fault)?;
                self.publish(&parts, cx, turn).map_err(Close::Fault)?;
            } else {
                self.packet(&frame, cx, turn)?;
            }
            used += frame.len;
        }
    }

    fn packet(&mut self, frame: &Frame<'_>, cx: Context<'_>, turn: &mut Turn) -> Result<(), Close> {
        match decode(frame, self.version).map_err(Close::Fault)? {
            Packet::Ack(Ack { kind: AckKind::PubAck, packet_id, .. }) => self.delivered(packet_id),
            Packet::Ack(Ack { kind: AckKind::PubRel, packet_id, .. }) => self.release(packet_id, turn),
            Packet::PingReq => Packet::PingResp.encode(self.version, &mut turn.replies),
            Packet::Subscribe(packet) => self.subscribe(&packet, cx, turn)?,
            Packet::Unsubscribe(packet) => self.unsubscribe(&packet, turn),
            Packet::Disconnect(_) => return Err(Close::Client),
            // A second CONNECT, what only servers send, QoS 2 deliveries that
            // were never made, and an authentication that was never agreed.
            _ => return Err(Close::Fault(Fault::Unexpected)),
        }
        Ok(())
    }

    /// The client has released a QoS 2 publish.
    fn release(&mut self, packet_id: u16, turn: &mut Turn) {
        let known = self.unreleased.remove(&packet_id);
        turn.credits += u32::from(known.is_some());
        // Unknown here: it may stand in the intake from an earlier connection.
        if known != Some(false) {
            turn.ops.push(Op::Release(self.qos2_key(packet_id)));
        }
        put_ack(&mut turn.acks, AckKind::PubComp, packet_id);
    }

    /// Publishes are acknowledged to their end: the client may send as many more.
    pub(crate) fn credit(&mut self, credits: u32) {
        self.unacknowledged = self.unacknowledged.saturating_sub(credits);
    }

    /// The packet that ends the connection, if the version has one.
    pub(crate) fn farewell(&self, close: &Close, out: &mut Vec<u8>) {
        if let (Version::V5, Some(reason)) = (self.version, close.reason()) {
            Packet::Disconnect(Disconnect { reason, properties: Properties::default() }).encode(self.version, out);
        }
    }
}
