//! What a client is sent of others' messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use hashbrown::HashSet;

use super::{Close, Context, Session};
use crate::broker::{Broker, ConnectionId, Delivery, Mailbox};
use crate::mqtt::codec::{Packet, Properties, Property, Publish, Qos, Version, publish_len};

/// Bytes that may wait to be sent before deliveries pause.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// The subscriptions and deliveries of a client. Unsubscribes when it is dropped.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) broker: Broker,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) filters: HashSet<Box<str>>,
    /// Retained messages for new subscriptions, sent before anything else.
    pub(super) backlog: VecDeque<Delivery>,
    in_flight: HashSet<u16>,
    packet_id: u16,
}

impl Subscriber {
    pub(super) fn new(broker: Broker, owner: ConnectionId) -> Self {
        Self {
            broker,
            mailbox: Arc::new(Mailbox::new(owner)),
            filters: HashSet::new(),
            backlog: VecDeque::new(),
            in_flight: HashSet::new(),
            packet_id: 0,
        }
    }

    /// The next packet id that is not in flight. There always is one: the
    /// window is smaller than the id space.
    fn next_packet_id(&mut self) -> u16 {
        loop {
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            if self.in_flight.insert(self.packet_id) {
                return self.packet_id;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for filter in &self.filters {
            self.broker.unsubscribe(self.mailbox.owner(), filter);
        }
    }
}

impl Session {
    /// A QoS 1 delivery has arrived. Unknown ids are ignored, as they harm nobody.
    pub(super) fn delivered(&mut self, packet_id: u16) {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.in_flight.remove(&packet_id);
        }
    }

    /// Whether the client has ever subscribed.
    pub(crate) fn is_subscriber(&self) -> bool {
        self.subscriber.is_some()
    }

    /// Appends waiting deliveries to `out`, as far as it and the client's
    /// window have room. Registers the task when the mailbox is empty.
    pub(crate) fn poll_deliveries(
        &mut self,
        task: &mut Task<'_>,
        cx: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let Some(subscriber) = self.subscriber.as_deref_mut() else { return Ok(()) };
        // Below 65,535, so that a free packet id is always found.
        let window = usize::from(self.window.min(u16::MAX - 1));
        let mut block = Vec::new();
        let (mut delivered, mut dropped) = (0, 0);
        let mut result = Ok(());
        while out.len() < OUT_BYTES_MAX && subscriber.in_flight.len() < window {
            let delivery = match subscriber.backlog.pop_front() {
                Some(delivery) => delivery,
                None => match subscriber.mailbox.poll_next(task) {
                    Poll::Ready(Ok(delivery)) => delivery,
                    Poll::Ready(Err(_overflow)) => {
                        result = Err(Close::SlowSubscriber);
                        break;
                    }
                    Poll::Pending => break,
                },
            };
            let message = &delivery.message;
            if message.is_expired(cx.now_ms) {
                continue;
            }
            block.clear();
            if self.version == Version::V5 {
                block.extend_from_slice(&message.properties);
                if let Some(at_ms) = message.expires_at_ms {
                    // At least one second: it has not expired.
                    let left_s = (at_ms - cx.now_ms).div_euclid(1_000).max(1);
                    Property::MessageExpiry(u32::try_from(left_s).unwrap_or(u32::MAX)).write(&mut block);
                }
                for id in &delivery.subscription_ids {
                    Property::SubscriptionId(*id).write(&mut block);
                }
            }
            let mut publish = Publish {
                dup: false,
                qos: delivery.qos,
                retain: delivery.retain,
                topic: &message.topic,
                packet_id: u16::from(delivery.qos != Qos::AtMostOnce),
                properties: Properties::trusted(&block),
                payload: &message.payload,
            };
            if publish_len(&publish, self.version) > self.client_packet_bytes_max {
                dropped += 1;
                continue;
            }
            if delivery.qos != Qos::AtMostOnce {
                publish.packet_id = subscriber.next_packet_id();
            }
            Packet::Publish(publish).encode(self.version, out);
            delivered += 1;
        }
        cx.config.counters.delivered.add(delivered);
        cx.config.counters.deliveries_dropped.add(dropped);
        result
    }
}
