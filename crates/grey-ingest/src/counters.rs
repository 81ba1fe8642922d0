//! What ingest counts. Plain atomics, so that this crate needs no metrics
//! system; the edge exports them under its own names.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mqtt::codec::Fault;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const FAULTS: usize = Fault::ALL.len();

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Everything that ingest counts, shared by all connections of a process.
        #[derive(Debug, Default)]
        pub struct IngestCounters {
            $($(#[$doc])* pub $field: Counter,)*
            /// PUBLISH packets by QoS.
            pub messages: [Counter; 3],
            /// Connections closed for a faulty packet, indexed by [`Fault`].
            pub malformed: [Counter; FAULTS],
        }

        impl IngestCounters {
            /// Calls `visit` with the name, the label (`qos` or `reason`) and the value of every counter.
            pub fn visit(&self, mut visit: impl FnMut(&'static str, Option<(&'static str, &'static str)>, u64)) {
                $(visit(stringify!($field), None, self.$field.get());)*
                for (counter, qos) in self.messages.iter().zip(["0", "1", "2"]) {
                    visit("messages", Some(("qos", qos)), counter.get());
                }
                for (counter, fault) in self.malformed.iter().zip(Fault::ALL) {
                    visit("malformed", Some(("reason", fault.as_str())), counter.get());
                }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_opened,
    /// Connections ended, for whatever reason.
    connections_closed,
    /// Connections closed at once because the limit was reached.
    connections_over_limit,
    /// Connections closed because no CONNECT came in time.
    connect_timeouts,
    /// CONNECTs refused by the authenticator.
    logins_refused,
    /// Connections closed because nothing was heard for 1.5 keep-alive intervals.
    keep_alive_timeouts,
    /// Connections closed because another one came with their client id.
    taken_over,
    /// Connections closed because the intake refused a batch.
    intake_refused,
    /// Times a connection stopped reading because the intake was full.
    backpressure,
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Events handed to the intake.
    events,
    /// Payloads handed to the dead-letter store.
    dead_letters,
    /// PUBACK, PUBREC and PUBCOMP packets sent.
    acks,
    /// QoS 2 publishes recognised as resends within their connection.
    duplicates,
    /// Messages to a topic that no pattern maps to a device and stream.
    unmapped,
    /// Wills that were accepted but not published, because wills do not act yet.
    wills_ignored,
    /// Messages delivered to local subscribers.
    delivered,
    /// QoS 0 deliveries dropped because a subscriber was slow, and deliveries over a client's packet size.
    deliveries_dropped,
    /// Subscribers disconnected because QoS 1 deliveries overflowed their queue.
    slow_subscribers,
    /// Retained messages that were not kept because their store was full.
    retained_refused,
    /// Retained messages that the durable store failed to keep.
    retained_failed,
}

impl IngestCounters {
    /// Connections open now.
    pub fn connections_open(&self) -> u64 {
        // Read in this order, a connection that ends in between is not counted below zero.
        let closed = self.connections_closed.get();
        self.connections_opened.get().saturating_sub(closed)
    }

    /// Counts a faulty packet.
    pub fn fault(&self, fault: Fault) {
        if let Some(counter) = self.malformed.get(fault as usize) {
            counter.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_visited_once() {
        let counters = IngestCounters::default();
        counters.fault(Fault::TopicName);
        counters.messages[2].add(7);
        let mut seen = std::collections::BTreeMap::new();
        counters.visit(|name, label, value| assert!(seen.insert((name, label), value).is_none(), "{name} {label:?}"));
        assert_eq!(seen[&("malformed", Some(("reason", "topic_name")))], 1);
        assert_eq!(seen[&("messages", Some(("qos", "2")))], 7);
        assert_eq!(seen.values().sum::<u64>(), 8);
    }
}
