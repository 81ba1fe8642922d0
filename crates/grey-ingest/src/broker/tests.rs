//! The tree against plain matching, retained messages, and subscribers that are slow.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::mailbox::{MAILBOX_BYTES_MAX, MAILBOX_DELIVERIES_MAX};
use super::*;
use crate::mqtt::codec::{check_filter, matches};

fn broker() -> Broker {
    Broker::new(BrokerConfig::default(), Arc::default())
}

fn options(qos: Qos) -> SubscribeOptions {
    SubscribeOptions { qos, ..SubscribeOptions::default() }
}

fn message(topic: &str, payload: &'static [u8], qos: Qos, retain: bool, publisher: ConnectionId) -> Arc<Message> {
    let payload = Bytes::from_static(payload);
    let (topic, properties) = (topic.into(), Box::default());
    Arc::new(Message { topic, payload, qos, retain, publisher, properties, expires_at_ms: None })
}

/// Everything that waits in a mailbox.
fn posted(mailbox: &Mailbox) -> Vec<Delivery> {
    let mut cx = Context::from_waker(Waker::noop());
    std::iter::from_fn(|| match mailbox.poll_next(&mut cx) {
        Poll::Ready(Ok(delivery)) => Some(delivery),
        _ => None,
    })
    .collect()
}

fn subscriber(broker: &Broker, owner: ConnectionId, filters: &[&str]) -> Arc<Mailbox> {
    let mailbox = Arc::new(Mailbox::new(owner));
    for filter in filters {
        broker.subscribe(&mailbox, filter, options(Qos::AtLeastOnce), None).unwrap();
    }
    mailbox
}

proptest! {
    #[test]
    fn the_tree_delivers_exactly_what_the_filters_match(
        filters in proptest::collection::vec("([ab$]|\\+|[ab]{0,2}){1}(/([ab]|\\+|)){0,3}(/#)?|#", 0..12),
        topics in proptest::collection::vec("[ab$]{0,2}(/[ab]?){0,4}", 1..12),
        removed in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let filters: Vec<_> = filters.into_iter().filter(|filter| check_filter(filter).is_ok()).collect();
        let broker = broker();
        let mailboxes: Vec<_> =
            filters.iter().enumerate().map(|(i, filter)| subscriber(&broker, i as u64 + 1, &[filter])).collect();
        for ((i, filter), removed) in filters.iter().enumerate().zip(&removed) {
            if *removed {
                prop_assert!(broker.unsubscribe(i as u64 + 1, filter));
                prop_assert!(!broker.unsubscribe(i as u64 + 1, filter));
            }
        }
        prop_assert_eq!(broker.subscriptions(), filters.iter().zip(&removed).filter(|(_, removed)| !**removed).count());
        for topic in topics.iter().filter(|topic| check_topic(topic).is_ok()) {
            broker.deliver(&message(topic, b"x", Qos::AtLeastOnce, false, EDGE));
            for ((filter, mailbox), removed) in filters.iter().zip(&mailboxes).zip(&removed) {
                let expected = usize::from(!removed && matches(filter, topic));
                prop_assert_eq!(posted(mailbox).len(), expected, "{} {}", filter, topic);
            }
        }
        for ((i, filter), removed) in filters.iter().enumerate().zip(&removed) {
            prop_assert_eq!(broker.unsubscribe(i as u64 + 1, filter), !removed);
        }
        prop_assert!(broker.0.tree.read().unwrap().is_empty(), "nothing is left of what was unsubscribed");
    }

    #[test]
    fn retained_messages_are_found_by_every_filter_that_matches(
        topics in proptest::collection::btree_set("[ab]{1,2}(/[ab$]?){0,3}", 0..20), filter in "([ab]|\\+|[ab]{2})(/([ab]|\\+|)){0,2}(/#)?|#",
    ) {
        let broker = broker();
        for topic in &topics {
            broker.deliver(&message(topic, b"x", Qos::AtMostOnce, true, EDGE));
        }
        let mailbox = Arc::new(Mailbox::new(1));
        let found = broker.subscribe(&mailbox, &filter, options(Qos::AtLeastOnce), Some(9)).unwrap();
        let found: Vec<_> = found.iter().map(|delivery| delivery.message.topic.to_string()).collect();
        let expected: Vec<_> = topics.into_iter().filter(|topic| matches(&filter, topic)).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn overlapping_subscriptions_are_one_delivery() {
    let broker = broker();
    let mailbox = Arc::new(Mailbox::new(1));
    broker.subscribe(&mailbox, "a/#", options(Qos::AtMostOnce), Some(1)).unwrap();
    broker.subscribe(&mailbox, "a/+", options(Qos::AtLeastOnce), Some(2)).unwrap();
    broker.deliver(&message("a/b", b"x", Qos::ExactlyOnce, false, 2));
    let deliveries = posted(&mailbox);
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].qos, Qos::AtLeastOnce);
    let mut ids = deliveries[0].subscription_ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn the_options_of_version_5_are_followed() {
    let broker = broker();
    let mailbox = Arc::new(Mailbox::new(1));
    let own = SubscribeOptions { no_local: true, retain_as_published: true, ..options(Qos::AtMostOnce) };
    broker.subscribe(&mailbox, "a", own, None).unwrap();
    broker.deliver(&message("a", b"own", Qos::AtMostOnce, false, 1));
    broker.deliver(&message("a", b"other", Qos::AtMostOnce, true, 2));
    let deliveries = posted(&mailbox);
    assert_eq!(deliveries.len(), 1);
    assert!(deliveries[0].retain, "as it was published");

    let plain = options(Qos::AtMostOnce);
    broker.subscribe(&mailbox, "a", plain, None).unwrap();
    broker.deliver(&message("a", b"third", Qos::AtMostOnce, true, 2));
    assert!(!posted(&mailbox)[0].retain, "an established subscription sees no retain flag");

    let retained = |handling, filter: &str| {
        let options = SubscribeOptions { retain_handling: handling, ..plain };
        broker.subscribe(&mailbox, filter, options, None).unwrap().len()
    };
    assert_eq!(retained(RetainHandling::Send, "a"), 1);
    assert_eq!(retained(RetainHandling::SendIfNew, "a"), 0);
    assert_eq!(retained(RetainHandling::SendIfNew, "+"), 1);
    assert_eq!(retained(RetainHandling::Skip, "#"), 0);
}

#[test]
fn a_retained_message_is_replaced_and_cleared() {
    let broker = broker();
    let payload = |broker: &Broker| {
        let found = broker.subscribe(&Arc::new(Mailbox::new(1)), "a", options(Qos::AtMostOnce), None).unwrap();
        found.first().map(|delivery| delivery.message.payload.clone())
    };
    broker.publish("a", Bytes::from_static(b"1"), Qos::AtMostOnce, true).unwrap();
    broker.publish("a", Bytes::from_static(b"22"), Qos::AtMostOnce, true).unwrap();
    assert_eq!(payload(&broker).as_deref(), Some(&b"22"[..]));
    assert_eq!(broker.retained(), (1, 3));
    broker.publish("a", Bytes::new(), Qos::AtMostOnce, true).unwrap();
    assert_eq!(payload(&broker), None);
    assert_eq!(broker.retained(), (0, 0));
    assert_eq!(broker.publish("a/#", Bytes::new(), Qos::AtMostOnce, true), Err(Fault::TopicName));
}

#[test]
fn retained_messages_are_bounded_in_number_and_bytes() {
    let config = BrokerConfig { retained_messages_max: 2, retained_bytes_max: 10, subscriptions_max: 1 };
    let broker = Broker::new(config, Arc::default());
    let put = |topic: &str, payload: &'static [u8]| broker.deliver(&message(topic, payload, Qos::AtMostOnce, true, 1));
    put("a", b"1234");
    put("b", b"12");
    put("c", b"1");
    put("a", b"12345678");
    assert_eq!(broker.retained(), (2, 8));
    assert_eq!(broker.0.counters.retained_refused.get(), 2);
    put("a", b"");
    put("c", b"1");
    assert_eq!(broker.retained(), (2, 5));

    let mailbox = Arc::new(Mailbox::new(1));
    assert!(broker.subscribe(&mailbox, "a", options(Qos::AtMostOnce), None).is_ok());
    assert_eq!(broker.subscribe(&mailbox, "b", options(Qos::AtMostOnce), None).unwrap_err(), QuotaExceeded);
}

#[test]
fn a_slow_subscriber_loses_qos_0_and_its_connection_over_qos_1() {
    let broker = broker();
    let mailbox = subscriber(&broker, 1, &["a"]);
    let post = |qos| broker.deliver(&message("a", b"x", qos, false, 2));
    (0..MAILBOX_DELIVERIES_MAX).for_each(|_| post(Qos::AtMostOnce));
    post(Qos::AtMostOnce);
    assert_eq!(broker.0.counters.deliveries_dropped.get(), 1);
    assert_eq!(posted(&mailbox).len(), MAILBOX_DELIVERIES_MAX);

    static LARGE: [u8; MAILBOX_BYTES_MAX / 2] = [0; MAILBOX_BYTES_MAX / 2];
    (0..2).for_each(|_| broker.deliver(&message("a", &LARGE, Qos::AtLeastOnce, false, 2)));
    assert_eq!(broker.0.counters.slow_subscribers.get(), 1);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(mailbox.poll_next(&mut cx), Poll::Ready(Err(mailbox::Overflow)));
    post(Qos::AtLeastOnce);
    assert_eq!(broker.0.counters.slow_subscribers.get(), 1, "counted once");
}

#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<Retained>>);

impl RetainedStore for Shelf {
    fn load(&self) -> std::io::Result<Vec<Retained>> {
        Ok(self.0.lock().unwrap().clone())
    }
    fn put(&self, message: &Retained) -> std::io::Result<()> {
        self.remove(&message.topic)?;
        self.0.lock().unwrap().push(message.clone());
        Ok(())
    }
    fn remove(&self, topic: &str) -> std::io::Result<()> {
        self.0.lock().unwrap().retain(|kept| *kept.topic != *topic);
        Ok(())
    }
}

#[test]
fn a_store_keeps_retained_messages_over_a_restart() {
    let shelf = Arc::new(Shelf::default());
    let open = || Broker::open(BrokerConfig::default(), Arc::default(), Arc::clone(&shelf) as _).unwrap();
    let first = open();
    first.deliver(&message("a", b"1", Qos::AtLeastOnce, true, 1));
    first.deliver(&message("b", b"2", Qos::AtMostOnce, true, 1));
    first.deliver(&message("a", b"", Qos::AtMostOnce, true, 1));
    drop(first);
    let found = open().subscribe(&Arc::new(Mailbox::new(1)), "#", options(Qos::AtLeastOnce), None).unwrap();
    let found: Vec<_> = found.iter().map(|d| (&*d.message.topic, &*d.message.payload, d.qos, d.retain)).collect();
    assert_eq!(found, [("b", &b"2"[..], Qos::AtMostOnce, true)]);
}
