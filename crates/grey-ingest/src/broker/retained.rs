//! Retained messages: the last one of each topic that asked for it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::message::{EDGE, Message};
use crate::mqtt::codec::{Qos, matches};

/// A retained message as a durable store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The topic.
    pub topic: Arc<str>,
    /// The payload, never empty.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: Qos,
    /// MQTT 5 properties that go with it, in wire form.
    pub properties: Box<[u8]>,
    /// When it expires, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
}

/// Keeps retained messages over a restart. Called on connection tasks, so it
/// must not block: an implementation queues what it has to write.
pub trait RetainedStore: Send + Sync + std::fmt::Debug {
    /// Everything that was kept.
    fn load(&self) -> io::Result<Vec<Retained>>;
    /// Keeps a message in the place of the topic's former one.
    fn put(&self, message: &Retained) -> io::Result<()>;
    /// Forgets the topic's message.
    fn remove(&self, topic: &str) -> io::Result<()>;
}

impl From<&Message> for Retained {
    fn from(message: &Message) -> Self {
        Self {
            topic: Arc::clone(&message.topic),
            payload: message.payload.clone(),
            qos: message.qos,
            properties: message.properties.clone(),
            expires_at_ms: message.expires_at_ms,
        }
    }
}

impl From<Retained> for Message {
    fn from(kept: Retained) -> Self {
        Self {
            topic: kept.topic,
            payload: kept.payload,
            qos: kept.qos,
            retain: true,
            publisher: EDGE,
            properties: kept.properties,
            expires_at_ms: kept.expires_at_ms,
        }
    }
}

/// The messages by topic, bounded in number and bytes. When it is full a new
/// topic is refused rather than another's message forgotten.
#[derive(Debug)]
pub(super) struct RetainedMessages {
    by_topic: BTreeMap<Arc<str>, Arc<Message>>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

impl RetainedMessages {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { by_topic: BTreeMap::new(), bytes: 0, messages_max, bytes_max }
    }

    /// Keeps a message; `false` when there is no room for it.
    pub(super) fn put(&mut self, message: Arc<Message>) -> bool {
        let former = self.by_topic.get(&message.topic).map(|m| m.bytes());
        let bytes = self.bytes - former.unwrap_or(0) + message.bytes();
        let count = self.by_topic.len() + usize::from(former.is_none());
        if count > self.messages_max || bytes > self.bytes_max {
            return false;
        }
        self.bytes = bytes;
        self.by_topic.insert(Arc::clone(&message.topic), message);
        true
    }

    /// Forgets a topic's message; returns whether there was one.
    pub(super) fn remove(&mut self, topic: &str) -> bool {
        let former = self.by_topic.remove(topic);
        self.bytes -= former.as_ref().map_or(0, |m| m.bytes());
        former.is_some()
    }

    /// The messages whose topics match a filter, in the order of their topics.
    pub(super) fn matching(&self, filter: &str) -> Vec<Arc<Message>> {
        let Some(wildcard) = filter.find(['+', '#']) else {
            return self.by_topic.get(filter).cloned().into_iter().collect();
        };
        // Only topics that start as the filter does can match; `a/#` matches `a` too.
        let prefix = &filter[..wildcard];
        let start = prefix.strip_suffix('/').unwrap_or(prefix);
        self.by_topic
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|(topic, _)| topic.starts_with(start))
            .filter(|(topic, _)| matches(filter, topic))
            .map(|(_, message)| Arc::clone(message))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
