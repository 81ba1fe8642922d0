//! What ingest hands to the edge, and the promise it gets back.
//!
//! A connection turns everything that one read brought into one [`Batch`] and
//! acknowledges nothing of it before [`Batch::done`] says that it is durable.

use bytes::Bytes;
use grey_model::{Event, Lane};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Names a QoS 2 publish until its client has released it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Qos2Key {
    /// Stable hash of the client id, see [`client_key`](crate::client_key).
    pub client: u64,
    /// The packet id of the publish.
    pub packet_id: u16,
}

/// One operation of the intake log. The order of a connection's operations is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// An event. With a key that is already known it is the client's resend and has no effect.
    Event {
        /// The event; its stamp is not set yet.
        event: Event,
        /// The lane that the device asked for.
        lane: Option<Lane>,
        /// The key of a QoS 2 publish.
        qos2: Option<Qos2Key>,
    },
    /// The events of one QoS 2 publish that carried several: all of them, or
    /// none when the key is already known.
    Events {
        /// The events with the lanes that the device asked for, in order; at least two.
        events: Vec<(Event, Option<Lane>)>,
        /// The key of the publish.
        qos2: Qos2Key,
    },
    /// The client has released a QoS 2 publish: its key may be forgotten. Without effect for an unknown key.
    Release(Qos2Key),
    /// The client has started a clean session: all its keys may be forgotten.
    Reset {
        /// Stable hash of the client id.
        client: u64,
    },
    /// A payload that could not be read, to be kept with the reason.
    DeadLetter {
        /// The topic it was published to.
        topic: String,
        /// The payload as it came.
        payload: Bytes,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
}

/// The operations of one read of one connection, in order.
#[derive(Debug)]
pub struct Batch {
    /// At least one operation.
    pub ops: Vec<Op>,
    /// When it was read.
    pub arrived: Instant,
    /// Fires once all operations are durable, or none of them will be.
    pub done: oneshot::Sender<Result<(), Refusal>>,
}

/// Why a batch was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The outbox is too full for now.
    #[error("too much is waiting for the uplink; try again in {retry_after_ms} ms")]
    Backpressure {
        /// When a retry makes sense, in milliseconds.
        retry_after_ms: u64,
    },
    /// The disk or the lane's quota is full.
    #[error("the intake is full; free disk space or raise its limit")]
    Full,
    /// The process stops.
    #[error("the edge agent stops; reconnect later")]
    Stopping,
    /// The store failed.
    #[error("the intake failed: {0}")]
    Failed(String),
}

/// Where batches go. Its capacity, in batches, is the intake's back-pressure.
pub type IntakeSender = mpsc::Sender<Batch>;
