//! Plain subscriptions for programs at the site.
//!
//! The broker takes messages that are durable already (or need not be) and
//! posts them into bounded mailboxes; a subscriber's connection empties its own.
//! It knows no socket. A publish with no subscriber and nothing to retain costs
//! the publisher one atomic load and never comes here.

mod mailbox;
mod message;
mod retained;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use crate::counters::IngestCounters;
use crate::mqtt::codec::{Fault, Qos, RetainHandling, SubscribeOptions, check_topic};
pub(crate) use mailbox::Mailbox;
use mailbox::Posted;
use message::EDGE;
pub(crate) use message::{ConnectionId, Delivery, Message};
use retained::RetainedMessages;
pub use retained::{Retained, RetainedStore};
use tree::{Subscription, Tree};

/// The bounds of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Most retained messages.
    pub retained_messages_max: usize,
    /// Most bytes of retained messages (topics, payloads and properties).
    pub retained_bytes_max: usize,
    /// Most subscriptions of all clients.
    pub subscriptions_max: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self { retained_messages_max: 10_000, retained_bytes_max: 16 * 1024 * 1024, subscriptions_max: 100_000 }
    }
}

/// A subscription that there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

#[derive(Debug)]
struct Shared {
    config: BrokerConfig,
    /// Subscriptions in the tree; read without the lock on the publish path.
    subscriptions: AtomicUsize,
    tree: RwLock<Tree>,
    retained: Mutex<RetainedMessages>,
    store: Option<Arc<dyn RetainedStore>>,
    counters: Arc<IngestCounters>,
}

/// Delivers messages to the subscribers of one site. A handle; clones share it.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Shared>);

impl Broker {
    /// A broker that keeps retained messages in memory only.
    pub fn new(config: BrokerConfig, counters: Arc<IngestCounters>) -> Self {
        Self::with(config, counters, None)
    }

    /// A broker whose retained messages are kept by `store`, and loaded from it now.
    pub fn open(
        config: BrokerConfig,
        counters: Arc<IngestCounters>,
        store: Arc<dyn RetainedStore>,
    ) -> std::io::Result<Self> {
        let kept = store.load()?;
        let broker = Self::with(config, counters, Some(store));
        {
            let mut retained = broker.0.retained.lock().unwrap_or_else(PoisonError::into_inner);
            for message in kept {
                if !retained.put(Arc::new(message.into())) {
                    broker.0.counters.retained_refused.add(1);
                }
            }
        }
        Ok(broker)
    }

    fn with(config: BrokerConfig, counters: Arc<IngestCounters>, store: Option<Arc<dyn RetainedStore>>) -> Self {
        Self(Arc::new(Shared {
            config,
            subscriptions: AtomicUsize::new(0),
            tree: RwLock::default(),
            retained: Mutex::new(RetainedMessages::new(config.retained_messages_max, config.retained_bytes_max)),
            store,
            counters,
        }))
    }

    /// Whether anybody is subscribed to anything: one atomic load.
    #[inline]
    pub fn has_subscribers(&self) -> bool {
        self.0.subscriptions.load(Ordering::Relaxed) > 0
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.0.subscriptions.load(Ordering::Relaxed)
    }

    pub(crate) fn retained_messages_max(&self) -> usize {
        self.0.config.retained_messages_max
    }

    /// How many retained messages there are, and their bytes.
    pub fn retained(&self) -> (usize, usize) {
        let retained = self.0.retained.lock().unwrap_or_else(PoisonError::into_inner);
        (retained.len(), retained.bytes())
    }

    /// Publishes a message of the edge's own, for example an alert, to local
    /// subscribers. With `retain` and an empty payload the retained message of
    /// the topic is forgotten. Fails for a topic that is empty, over
    /// [`TOPIC_BYTES_MAX`](crate::mqtt::codec::TOPIC_BYTES_MAX) or holds a wildcard.
    pub fn publish(&self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<(), Fault> {
        check_topic(topic)?;
        if retain || self.has_subscribers() {
            self.deliver(&Arc::new(Message {
                topic: topic.into(),
                payload,
                qos,
                retain,
                publisher: EDGE,
                properties: Box::default(),
                expires_at_ms: None,
            }));
        }
        Ok(())
    }

    /// Retains a message if it asks for that, and posts it to everyone whose
    /// filter matches: once per subscriber, at the highest QoS that one of its
    /// matching subscriptions grants.
    pub(crate) fn deliver(&self, message: &Arc<Message>) {
        if message.retain {
            self.retain(message);
        }
        if !self.has_subscribers() {
            return;
        }
        let mut matched: Vec<&Subscription> = Vec::new();
        let tree = self.0.tree.read().unwrap_or_else(PoisonError::into_inner);
        tree.visit(&message.topic, &mut |subscription: &Subscription| {
            if !(subscription.options.no_local && subscription.mailbox.owner() == message.publisher) {
                matched.push(subscription);
            }
        });
        // Overlapping subscriptions of one client become one delivery.
        matched.sort_by_key(|subscription| subscription.mailbox.owner());
        for group in matched.chunk_by(|a, b| a.mailbox.owner() == b.mailbox.owner()) {
            let granted = group.iter().map(|s| s.options.qos).max().unwrap_or_default();
            let delivery = Delivery {
                message: Arc::clone(message),
                qos: message.qos.min(granted),
                retain: message.retain && group.iter().any(|s| s.options.retain_as_published),
                subscription_ids: group.iter().filter_map(|s| s.id).collect(),
            };
            match group[0].mailbox.post(delivery) {
                Posted::Queued | Posted::Closed => {}
                Posted::Dropped => self.0.counters.deliveries_dropped.add(1),
                Posted::Overflowed => self.0.counters.slow_subscribers.add(1),
            }
        }
    }

    fn retain(&self, message: &Arc<Message>) {
        let mut retained = self.0.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = if message.payload.is_empty() {
            retained.remove(&message.topic).then(|| self.0.store.as_ref().map(|s| s.remove(&message.topic)))
        } else if retained.put(Arc::clone(message)) {
            Some(self.0.store.as_ref().map(|s| s.put(&Retained::from(&**message))))
        } else {
            self.0.counters.retained_refused.add(1);
            None
        };
        if let Some(Some(Err(error))) = stored {
            self.0.counters.retained_failed.add(1);
            tracing::warn!(topic = %message.topic, %error, "a retained message was not kept on disk");
        }
    }

    /// Adds or replaces a subscription and returns the retained messages that
    /// it is to be sent first. `options.qos` is what was granted.
    pub(crate) fn subscribe(
        &self,
        mailbox: &Arc<Mailbox>,
        filter: &str,
        options: SubscribeOptions,
        id: Option<u32>,
    ) -> Result<Vec<Delivery>, QuotaExceeded> {
        let new = {
            let mut tree = self.0.tree.write().unwrap_or_else(PoisonError::into_inner);
            if self.subscriptions() >= self.0.config.subscriptions_max {
                return Err(QuotaExceeded);
            }
            let new = tree.insert(filter, Subscription { mailbox: Arc::clone(mailbox), options, id });
            if new {
                self.0.subscriptions.fetch_add(1, Ordering::Relaxed);
            }
            new
        };
        let wanted = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::Skip => false,
        };
        let mut retained = Vec::new();
        if wanted {
            let kept = self.0.retained.lock().unwrap_or_else(PoisonError::into_inner).matching(filter);
            retained = kept
                .into_iter()
                .filter(|message| !(options.no_local && message.publisher == mailbox.owner()))
                .map(|message| Delivery {
                    qos: message.qos.min(options.qos),
                    message,
                    retain: true,
                    subscription_ids: id.into_iter().collect(),
                })
                .collect();
        }
        Ok(retained)
    }

    /// Removes a subscription; returns whether there was one.
    pub(crate) fn unsubscribe(&self, owner: ConnectionId, filter: &str) -> bool {
        let mut tree = self.0.tree.write().unwrap_or_else(PoisonError::into_inner);
        let removed = tree.remove(filter, owner);
        if removed {
            self.0.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }
}
