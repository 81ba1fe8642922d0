//! A message on its way to local subscribers.

use std::sync::Arc;

use bytes::Bytes;

use crate::mqtt::codec::{Properties, Property, Qos};

/// Names a connection for as long as the process lives. 0 is the edge itself.
pub(crate) type ConnectionId = u64;

/// The publisher of the edge's own messages.
pub(crate) const EDGE: ConnectionId = 0;

/// A published message, shared by all who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) publisher: ConnectionId,
    /// The properties of MQTT 5 that subscribers must see, in wire form.
    pub(crate) properties: Box<[u8]>,
    /// When it expires, Unix milliseconds.
    pub(crate) expires_at_ms: Option<i64>,
}

impl Message {
    /// Takes what belongs to the message out of a PUBLISH's properties: topic
    /// alias and subscription identifiers belong to the connection, the expiry
    /// is counted down.
    pub(crate) fn split_properties(properties: Properties<'_>, now_ms: i64) -> (Box<[u8]>, Option<i64>) {
        let mut kept = Vec::new();
        let mut expires_at_ms = None;
        for property in properties.iter() {
            match property {
                Property::TopicAlias(_) | Property::SubscriptionId(_) => {}
                Property::MessageExpiry(seconds) => {
                    expires_at_ms = Some(now_ms.saturating_add(i64::from(seconds) * 1_000));
                }
                other => other.write(&mut kept),
            }
        }
        (kept.into(), expires_at_ms)
    }

    pub(crate) fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// What the message costs while it waits, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len()
    }
}

/// A message as one subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Identifiers of the subscriptions that matched (MQTT 5).
    pub(crate) subscription_ids: Vec<u32>,
}
