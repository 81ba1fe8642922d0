//! Sessions packet by packet, without a socket.

use std::task::{Context as Task, Waker};

use bytes::Bytes;
use grey_model::{Event, Lane};
use proptest::prelude::*;

use super::*;
use crate::auth::{Admission, Authenticator, Login};
use crate::broker::BrokerConfig;
use crate::intake::Qos2Key;
use crate::mqtt::codec::{
    Connect, Filters, Property, Publish, Qos, Scope, SubAck, Subscribe, SubscribeOptions, Subscriptions, Unsubscribe,
};

const NOW_MS: i64 = 1_772_366_400_000;

struct Site {
    config: ServerConfig,
    broker: Broker,
}

impl Site {
    fn new() -> Self {
        let config = ServerConfig { clock: || NOW_MS, ..ServerConfig::default() };
        let broker = Broker::new(BrokerConfig::default(), Arc::clone(&config.counters));
        Self { config, broker }
    }

    fn cx(&self) -> Context<'_> {
        Context { config: &self.config, broker: &self.broker, now_ms: NOW_MS }
    }

    fn try_open(&self, connect: &Connect<'_>) -> Result<(Session, Turn), Rejection> {
        let bytes = encoded(&Packet::Connect(*connect), connect.version);
        let Ok(Split::Frame(frame)) = split(&bytes, usize::MAX) else { panic!("no frame") };
        let opening = open(&frame, None, self.cx(), || "auto-1".into())?;
        let mut turn = Turn::default();
        Ok((opening.start(7, self.cx(), &mut turn), turn))
    }

    fn session(&self, version: Version, clean: bool) -> Session {
        self.try_open(&Connect { clean, ..connect(version) }).unwrap().0
    }

    fn receive(&self, session: &mut Session, packets: &[Packet<'_>]) -> (Result<(), Close>, Turn) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(session.version, &mut bytes));
        let mut turn = Turn::default();
        let outcome = session.receive(&bytes, self.cx(), &mut turn);
        turn.count(&self.config.counters);
        if let Ok(place) = outcome {
            assert_eq!(place, (bytes.len(), 0));
        }
        (outcome.map(|_| ()), turn)
    }

    fn turn(&self, session: &mut Session, packets: &[Packet<'_>]) -> Turn {
        let (outcome, turn) = self.receive(session, packets);
        assert_eq!(outcome, Ok(()));
        turn
    }

    fn fault(&self, session: &mut Session, packets: &[Packet<'_>]) -> Fault {
        match self.receive(session, packets).0 {
            Err(Close::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        clean: true,
        keep_alive_s: 60,
        properties: Properties::default(),
        client_id: "pump-7",
        will: None,
        username: None,
        password: None,
    }
}

fn publish<'a>(qos: Qos, id: u16, topic: &'a str, payload: &'a str) -> Publish<'a> {
    let payload = payload.as_bytes();
    let properties = Properties::default();
    Publish { dup: false, qos, retain: false, topic, packet_id: id, properties, payload }
}

fn ack(kind: AckKind, packet_id: u16) -> Packet<'static> {
    Packet::Ack(Ack { kind, packet_id, reason: ReasonCode::SUCCESS, properties: Properties::default() })
}

fn acks(acks: &[(AckKind, u16)]) -> Vec<u8> {
    let mut out = Vec::new();
    acks.iter().for_each(|(kind, id)| put_ack(&mut out, *kind, *id));
    out
}

fn block(properties: &[Property<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    properties.iter().for_each(|property| property.write(&mut out));
    out
}

fn reading(value: f64) -> Event {
    Event::reading("a", "t", value, NOW_MS)
}

fn key(packet_id: u16) -> Qos2Key {
    Qos2Key { client: client_key("pump-7"), packet_id }
}

#[test]
fn the_client_key_never_changes() {
    // It stands in intake logs on disk.
    assert_eq!(client_key(""), 0xd1fb_a762_150c_532c);
    assert_eq!(client_key("pump-7"), client_key("pump-7"));
    assert_ne!(client_key("pump-7"), client_key("pump-8"));
}

#[test]
fn publishes_become_events_and_earn_their_acknowledgements() {
    let site = Site::new();
    for version in [Version::V311, Version::V5] {
        let mut session = site.session(version, true);
        let turn = site.turn(
            &mut session,
            &[
                Packet::Publish(publish(Qos::AtMostOnce, 0, "grey/a/t", "1.5")),
                Packet::Publish(publish(Qos::AtLeastOnce, 9, "grey/a/t", "2.5")),
                Packet::Publish(publish(Qos::AtLeastOnce, 4, "grey/a/t", r#"{"value": 3.5, "priority": "bulk"}"#)),
                Packet::Publish(publish(Qos::ExactlyOnce, 9, "grey/a/t", "4.5")),
                Packet::PingReq,
            ],
        );
        let op = |event, lane, qos2| Op::Event { event, lane, qos2 };
        let expected = [
            op(reading(1.5), None, None),
            op(reading(2.5), None, None),
            op(reading(3.5), Some(Lane::Bulk), None),
            op(reading(4.5), None, Some(key(9))),
        ];
        assert_eq!(turn.ops, expected);
        assert_eq!(turn.acks, acks(&[(AckKind::PubAck, 9), (AckKind::PubAck, 4), (AckKind::PubRec, 9)]));
        assert_eq!(turn.credits, 2);
        assert_eq!(turn.replies, encoded(&Packet::PingResp, version));
        assert!(turn.forwards.is_empty(), "nobody listens");
    }
    assert_eq!(site.config.counters.events.get(), 8);
    assert_eq!(site.config.counters.messages[1].get(), 4);
}

#[test]
fn qos_2_is_handed_on_once_until_its_release() {
    let site = Site::new();
    let mut session = site.session(Version::V311, true);
    let first = publish(Qos::ExactlyOnce, 5, "grey/a/t", "1");
    let again = Publish { dup: true, ..first };
    let turn = site.turn(&mut session, &[Packet::Publish(first), Packet::Publish(again)]);
    assert_eq!(turn.ops.len(), 1);
    assert_eq!(turn.acks, acks(&[(AckKind::PubRec, 5), (AckKind::PubRec, 5)]));
    assert_eq!(turn.credits, 0);
    let turn = site.turn(&mut session, &[Packet::Publish(again), ack(AckKind::PubRel, 5)]);
    assert_eq!(turn.ops, [Op::Release(key(5))]);
    assert_eq!(turn.acks, acks(&[(AckKind::PubRec, 5), (AckKind::PubComp, 5)]));
    assert_eq!(turn.credits, 1);
    assert_eq!(site.config.counters.duplicates.get(), 2);
    // The id is free again. A release of an unknown one may stand in the intake.
    let turn = site.turn(&mut session, &[Packet::Publish(first), ack(AckKind::PubRel, 6)]);
    assert!(matches!(turn.ops[..], [Op::Event { qos2: Some(_), .. }, Op::Release(other)] if other == key(6)));
}

#[test]
fn qos_2_of_a_resumed_client_tells_resends_from_new_numbers() {
    let site = Site::new();
    let mut session = site.session(Version::V311, false);
    let first = publish(Qos::ExactlyOnce, 5, "grey/a/t", "1");
    let resent = Publish { dup: true, packet_id: 6, ..first };
    let turn = site.turn(&mut session, &[Packet::Publish(first), Packet::Publish(resent)]);
    let kinds: Vec<_> = turn
        .ops
        .iter()
        .map(|op| match op {
            Op::Event { qos2: Some(key), .. } => ("event", key.packet_id),
            Op::Release(key) => ("release", key.packet_id),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [("release", 5), ("event", 5), ("event", 6)]);
}

#[test]
fn an_array_under_qos_2_keeps_one_key() {
    let site = Site::new();
    let mut session = site.session(Version::V5, true);
    let turn = site.turn(&mut session, &[Packet::Publish(publish(Qos::ExactlyOnce, 5, "grey/a/t", "[1.5,2.5]"))]);
    let events = vec![(reading(1.5), None), (reading(2.5), None)];
    assert_eq!(turn.ops, [Op::Events { events, qos2: key(5) }]);
    // Nothing to store: nothing to release.
    let turn = site.turn(
        &mut session,
        &[Packet::Publish(publish(Qos::ExactlyOnce, 6, "grey/a/t", "[]")), ack(AckKind::PubRel, 6)],
    );
    assert_eq!(turn.ops, []);
    assert_eq!(turn.acks, acks(&[(AckKind::PubRec, 6), (AckKind::PubComp, 6)]));
}

#[test]
fn what_cannot_be_read_is_kept_with_its_reason_and_acknowledged() {
    let site = Site::new();
    let mut session = site.session(Version::V311, true);
    let long = format!("grey/{}/t", "x".repeat(257));
    let turn = site.turn(
        &mut session,
        &[
            Packet::Publish(publish(Qos::AtLeastOnce, 1, "grey/a/t", "hot")),
            Packet::Publish(publish(Qos::AtLeastOnce, 2, "grey//t", "1")),
            Packet::Publish(publish(Qos::AtLeastOnce, 3, &long, "1")),
            Packet::Publish(publish(Qos::ExactlyOnce, 4, "grey/a/t", "[1, \"x\"]")),
        ],
    );
    let reasons: Vec<_> = turn
        .ops
        .iter()
        .map(|op| match op {
            Op::DeadLetter { topic, payload, reason } => (topic.as_str(), payload.clone(), reason.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons[0].0, "grey/a/t");
    assert_eq!(reasons[0].1, Bytes::from_static(b"hot"));
    assert!(reasons[0].2.contains("not JSON"));
    assert_eq!(reasons[1].2, "device is empty: allowed are 1 to 256 bytes");
    assert_eq!(reasons[2].2, "device has 257 bytes: allowed are 1 to 256");
    assert!(reasons[3].2.starts_with("element 2"));
    assert_eq!(turn.acks.len(), 16);
    assert_eq!(site.config.counters.dead_letters.get(), 4);
}

#[test]
fn other_topics_are_for_subscribers_only() {
    let site = Site::new();
    let mut session = site.session(Version::V311, true);
    let local = publish(Qos::AtLeastOnce, 1, "alerts/a", "x");
    let turn = site.turn(&mut session, &[Packet::Publish(local)]);
    assert_eq!((turn.ops.len(), turn.forwards.len()), (0, 0));
    assert_eq!(turn.acks, acks(&[(AckKind::PubAck, 1)]));
    assert_eq!(site.config.counters.unmapped.get(), 1);

    // A retained one is forwarded even if nobody listens; clearing one stores nothing.
    let kept = Publish { retain: true, ..publish(Qos::AtLeastOnce, 2, "grey/a/t", "1") };
    let cleared = Publish { payload: b"", ..kept };
    let turn = site.turn(&mut session, &[Packet::Publish(kept), Packet::Publish(cleared)]);
    assert_eq!((turn.ops.len(), turn.forwards.len()), (1, 2));

    let mut listener = site.session(Version::V311, true);
    subscribe(&site, &mut listener, &[("#", Qos::AtMostOnce), ("$SYS/#", Qos::AtMostOnce)]);
    let system = publish(Qos::AtMostOnce, 0, "$SYS/uptime", "1");
    let turn = site.turn(&mut session, &[Packet::Publish(local), Packet::Publish(system)]);
    assert_eq!(turn.forwards.len(), 1, "the server's own topics are its own");
    assert_eq!(&*turn.forwards[0].topic, "alerts/a");
}

fn subscribe(site: &Site, session: &mut Session, filters: &[(&str, Qos)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (filter, qos) in filters {
        Subscriptions::write(filter, SubscribeOptions { qos: *qos, ..SubscribeOptions::default() }, &mut bytes);
    }
    let filters = Subscriptions::check(&bytes, session.version).unwrap();
    let packet = Subscribe { packet_id: 77, properties: Properties::default(), filters };
    site.turn(session, &[Packet::Subscribe(packet)]).replies
}

fn sub_ack(codes: &[u8], version: Version) -> Vec<u8> {
    encoded(&Packet::SubAck(SubAck { packet_id: 77, properties: Properties::default(), codes }), version)
}

fn deliveries(site: &Site, session: &mut Session) -> Vec<u8> {
    let mut out = Vec::new();
    session.poll_deliveries(&mut Task::from_waker(Waker::noop()), site.cx(), &mut out).unwrap();
    out
}

#[test]
fn subscriptions_are_granted_filter_by_filter() {
    let mut site = Site::new();
    site.config.subscriptions_per_client_max = 3;
    let filters = [
        ("a/#", Qos::AtMostOnce),
        ("b", Qos::ExactlyOnce),
        ("a#", Qos::AtMostOnce),
        ("$share/g/a", Qos::AtMostOnce),
        ("c", Qos::AtLeastOnce),
        ("d", Qos::AtLeastOnce),
        ("c", Qos::AtMostOnce),
    ];
    let mut v5 = site.session(Version::V5, true);
    assert_eq!(subscribe(&site, &mut v5, &filters), sub_ack(&[0, 1, 0x8F, 0x9E, 1, 0x97, 0], Version::V5));
    let mut v311 = site.session(Version::V311, true);
    assert_eq!(subscribe(&site, &mut v311, &filters), sub_ack(&[0, 1, 0x80, 0x80, 1, 0x80, 0], Version::V311));
    assert_eq!(site.broker.subscriptions(), 3, "both sessions of this test are connection 7");

    let mut bytes = Vec::new();
    ["a/#", "zzz"].iter().for_each(|filter| Filters::write(filter, &mut bytes));
    let filters = Filters::check(&bytes).unwrap();
    let packet = Packet::Unsubscribe(Unsubscribe { packet_id: 78, properties: Properties::default(), filters });
    let answer = |codes| SubAck { packet_id: 78, properties: Properties::default(), codes };
    let turn = site.turn(&mut v5, &[packet]);
    assert_eq!(turn.replies, encoded(&Packet::UnsubAck(answer(&[0, 0x11])), Version::V5));
    let turn = site.turn(&mut v311, &[packet]);
    assert_eq!(turn.replies, encoded(&Packet::UnsubAck(answer(&[])), Version::V311));
    drop(v5);
    assert_eq!(site.broker.subscriptions(), 0, "a session takes its subscriptions with it");
}

#[test]
fn deliveries_fit_the_client() {
    let site = Site::new();
    let limits = block(&[Property::ReceiveMaximum(1), Property::MaximumPacketSize(60)]);
    let properties = Properties::check(&limits, Scope::Connect).unwrap();
    let mut session = site.try_open(&Connect { properties, ..connect(Version::V5) }).unwrap().0;
    subscribe(&site, &mut session, &[("#", Qos::AtLeastOnce)]);
    let post = |topic: &str, len: usize| {
        site.broker.publish(topic, vec![b'x'; len].into(), Qos::AtLeastOnce, false).unwrap();
    };
    let packet = |id, topic, payload| {
        let packet = Packet::Publish(publish(Qos::AtLeastOnce, id, topic, payload));
        encoded(&packet, Version::V5)
    };
    post("big", 60);
    post("a", 1);
    post("b", 2);
    assert_eq!(deliveries(&site, &mut session), packet(1, "a", "x"), "too large is dropped, one is in flight");
    assert_eq!(site.config.counters.deliveries_dropped.get(), 1);
    assert_eq!(deliveries(&site, &mut session), b"");
    site.turn(&mut session, &[ack(AckKind::PubAck, 1)]);
    assert_eq!(deliveries(&site, &mut session), packet(2, "b", "xx"));
}

#[test]
fn properties_travel_with_the_message_and_the_expiry_counts_down() {
    let site = Site::new();
    let mut publisher = site.session(Version::V5, true);
    let mut listener = site.session(Version::V5, true);
    subscribe(&site, &mut listener, &[("a", Qos::AtMostOnce)]);
    let sent = block(&[
        Property::UserProperty("k", "v"),
        Property::TopicAlias(3),
        Property::MessageExpiry(10),
        Property::ContentType("text"),
    ]);
    let properties = Properties::check(&sent, Scope::Publish).unwrap();
    let named = Publish { properties, ..publish(Qos::AtMostOnce, 0, "a", "x") };
    let by_alias = block(&[Property::TopicAlias(3)]);
    let aliased = Publish { topic: "", properties: Properties::trusted(&by_alias), ..named };
    let turn = site.turn(&mut publisher, &[Packet::Publish(named), Packet::Publish(aliased)]);
    turn.forwards.iter().for_each(|message| site.broker.deliver(message));

    let mut out = Vec::new();
    let later = Context { now_ms: NOW_MS + 3_500, ..site.cx() };
    listener.poll_deliveries(&mut Task::from_waker(Waker::noop()), later, &mut out).unwrap();
    let kept = block(&[Property::UserProperty("k", "v"), Property::ContentType("text"), Property::MessageExpiry(6)]);
    let expected = Publish { properties: Properties::trusted(&kept), ..named };
    let mut packets = encoded(&Packet::Publish(expected), Version::V5);
    packets.extend(encoded(&Packet::Publish(publish(Qos::AtMostOnce, 0, "a", "x")), Version::V5));
    assert_eq!(out, packets);

    let turn = site.turn(&mut publisher, &[Packet::Publish(named)]);
    turn.forwards.iter().for_each(|message| site.broker.deliver(message));
    let much_later = Context { now_ms: NOW_MS + 10_000, ..site.cx() };
    out.clear();
    listener.poll_deliveries(&mut Task::from_waker(Waker::noop()), much_later, &mut out).unwrap();
    assert_eq!(out, b"", "expired");
}

#[test]
fn version_5_limits_are_held() {
    let mut site = Site::new();
    site.config.receive_maximum = 2;
    site.config.topic_alias_maximum = 2;
    let at_least_once = |id| Packet::Publish(publish(Qos::AtLeastOnce, id, "x", "1"));
    let mut session = site.session(Version::V5, true);
    let turn = site.turn(&mut session, &[at_least_once(1), at_least_once(2)]);
    session.credit(turn.credits);
    site.turn(&mut session, &[at_least_once(3), at_least_once(4)]);
    assert_eq!(site.fault(&mut session, &[at_least_once(5)]), Fault::ReceiveMaximum);
    let mut v311 = site.session(Version::V311, true);
    site.turn(&mut v311, &[1, 2, 3].map(at_least_once));

    let aliased = |alias: u16, topic| {
        let block = block(&[Property::TopicAlias(alias)]).leak();
        let properties = Properties::trusted(block);
        Packet::Publish(Publish { properties, ..publish(Qos::AtMostOnce, 0, topic, "1") })
    };
    let mut session = site.session(Version::V5, true);
    assert_eq!(site.fault(&mut session, &[aliased(3, "x")]), Fault::TopicAlias);
    assert_eq!(site.fault(&mut session, &[aliased(0, "x")]), Fault::TopicAlias);
    assert_eq!(site.fault(&mut session, &[aliased(2, "")]), Fault::Unexpected);
    assert_eq!(site.fault(&mut session, &[aliased(2, "x/#")]), Fault::TopicName);
    assert_eq!(site.fault(&mut session, &[aliased(2, "")]), Fault::Unexpected);
    site.turn(&mut session, &[aliased(2, "x"), aliased(2, "")]);
}

#[test]
fn packets_out_of_place_end_the_session() {
    let site = Site::new();
    for version in [Version::V311, Version::V5] {
        let conn_ack =
            super::super::codec::ConnAck { session_present: false, code: 0, properties: Properties::default() };
        let cases = [
            Packet::Connect(connect(version)),
            Packet::ConnAck(conn_ack),
            Packet::PingResp,
            Packet::SubAck(SubAck { packet_id: 1, properties: Properties::default(), codes: &[0] }),
            ack(AckKind::PubRec, 1),
            ack(AckKind::PubComp, 1),
        ];
        for packet in cases {
            let mut session = site.session(version, true);
            assert_eq!(site.fault(&mut session, &[packet]), Fault::Unexpected, "{packet:?}");
            let mut farewell = Vec::new();
            session.farewell(&Close::Fault(Fault::Unexpected), &mut farewell);
            let expected: &[u8] = if version == Version::V5 { &[0xe0, 2, 0x82, 0] } else { &[] };
            assert_eq!(farewell, expected);
        }
        let mut session = site.session(version, true);
        let bye = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
        let (outcome, turn) = site.receive(
            &mut session,
            &[Packet::Publish(publish(Qos::AtLeastOnce, 1, "grey/a/t", "1")), Packet::Disconnect(bye)],
        );
        assert_eq!(outcome, Err(Close::Client));
        assert_eq!(turn.ops.len(), 1, "what came before stays valid");
    }
}

#[derive(Debug)]
struct Door;

impl Authenticator for Door {
    fn check(&self, login: &Login<'_>) -> Admission {
        match (login.username, login.password) {
            (Some("banned"), _) => Admission::NotAuthorized,
            (Some("u"), Some(b"secret")) => Admission::Granted,
            _ => Admission::BadCredentials,
        }
    }
}

#[test]
fn a_connect_is_answered_in_its_own_version() {
    let mut site = Site::new();
    site.config.authenticator = Arc::new(Door);
    let v311 = Connect { username: Some("u"), password: Some(b"secret"), ..connect(Version::V311) };
    let v5 = Connect { version: Version::V5, ..v311 };

    let (_, turn) = site.try_open(&v311).unwrap();
    assert_eq!(turn.replies, [0x20, 2, 0, 0]);
    assert_eq!(turn.ops, [Op::Reset { client: client_key("pump-7") }]);
    assert_eq!(site.try_open(&Connect { clean: false, ..v311 }).unwrap().1.ops, []);

    let expiry = block(&[Property::SessionExpiry(60)]);
    let wishes = Properties::trusted(&expiry);
    let (_, turn) = site.try_open(&Connect { client_id: "", clean: false, properties: wishes, ..v5 }).unwrap();
    let offered = block(&[
        Property::SessionExpiry(0),
        Property::ReceiveMaximum(1_024),
        Property::MaximumPacketSize(1_048_576),
        Property::TopicAliasMaximum(32),
        Property::SharedAvailable(0),
        Property::AssignedClientId("auto-1"),
    ]);
    let answer = super::super::codec::ConnAck {
        session_present: false,
        code: 0,
        properties: Properties::check(&offered, Scope::ConnAck).unwrap(),
    };
    assert_eq!(turn.replies, encoded(&Packet::ConnAck(answer), Version::V5));
    assert_eq!(turn.ops, [Op::Reset { client: client_key("auto-1") }]);

    let refused = |connect: Connect<'_>| site.try_open(&connect).unwrap_err().answer;
    let method = block(&[Property::AuthMethod("SCRAM")]);
    let long = "x".repeat(257);
    assert_eq!(refused(Connect { password: Some(b"wrong"), ..v311 }), [0x20, 2, 0, 4]);
    assert_eq!(refused(Connect { username: Some("banned"), ..v311 }), [0x20, 2, 0, 5]);
    assert_eq!(refused(Connect { client_id: "", clean: false, ..v311 }), [0x20, 2, 0, 2]);
    assert_eq!(refused(Connect { client_id: &long, ..v311 }), [0x20, 2, 0, 2]);
    assert_eq!(refused(Connect { password: Some(b"wrong"), ..v5 }), [0x20, 3, 0, 0x86, 0]);
    assert_eq!(refused(Connect { username: Some("banned"), ..v5 }), [0x20, 3, 0, 0x87, 0]);
    assert_eq!(refused(Connect { client_id: &long, ..v5 }), [0x20, 3, 0, 0x85, 0]);
    assert_eq!(refused(Connect { properties: Properties::trusted(&method), ..v5 }), [0x20, 3, 0, 0x8C, 0]);
    assert_eq!(site.config.counters.logins_refused.get(), 4);

    let raw = |bytes: &[u8]| {
        let Ok(Split::Frame(frame)) = split(bytes, usize::MAX) else { panic!("no frame") };
        open(&frame, None, site.cx(), String::new).unwrap_err()
    };
    assert_eq!(raw(b"\x10\x0c\0\x04MQTT\x03\x02\0\0\0\0").answer, [0x20, 2, 0, 1]);
    assert_eq!(raw(b"\x10\x0e\0\x06MQIsdp\x03\x02\0\0\0\0").answer, [0x20, 2, 0, 1]);
    assert_eq!(raw(b"\x10\x0c\0\x04HTTP\x04\x02\0\0\0\0").answer, b"");
    assert_eq!(raw(b"\x10\x0c\0\x04MQTT\x05\x03\0\0\0\0").answer, [0x20, 3, 0, 0x81, 0]);
    assert_eq!(raw(b"\xc0\0").close, Close::Fault(Fault::Unexpected));
    assert_eq!(raw(b"\xc0\0").answer, b"");
}

#[test]
fn a_known_topic_is_remembered_and_the_memory_is_bounded() {
    let site = Site::new();
    let mut cache = route::RouteCache::default();
    for i in 0..10_000 {
        let topic = format!("grey/device-{i:05}/temperature");
        assert!(cache.get(topic.as_bytes(), &site.config.topics).is_ok());
    }
    assert!(cache.len() < 4_000, "{}", cache.len());
    for bad in [&b"grey/a/+"[..], b"", b"a\0b", b"\xff"] {
        assert!(cache.get(bad, &site.config.topics).is_err());
    }
}

/// Packets that a hostile client may string together, legal and not.
fn hostile(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let topic = prop_oneof![
        Just("grey/a/t"),
        Just("grey//t"),
        Just("local/x"),
        Just("$SYS/x"),
        Just("a/+"),
        Just(""),
        Just("#"),
        Just("+/+")
    ];
    let payload = prop_oneof![Just("21.5"), Just("[1,2]"), Just("[]"), Just("hot"), Just("")];
    let qos = prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)];
    let properties = proptest::sample::select(vec![
        vec![],
        block(&[Property::TopicAlias(1)]),
        block(&[Property::TopicAlias(40)]),
        block(&[Property::MessageExpiry(1), Property::UserProperty("a", "b")]),
    ]);
    (0..9_u8, topic, payload, qos, 1..4_u16, any::<(bool, bool)>(), properties, 0..12_u8).prop_map(
        move |(kind, topic, payload, qos, id, (dup, retain), properties, damage)| {
            let mut bytes = Vec::new();
            let mut filters = Vec::new();
            let none = Properties::default();
            match kind {
                0..4 => Packet::Publish(Publish {
                    dup: dup && qos != Qos::AtMostOnce,
                    qos,
                    retain,
                    topic,
                    packet_id: if qos == Qos::AtMostOnce { 0 } else { id },
                    properties: if version == Version::V5 { Properties::trusted(&properties) } else { none },
                    payload: payload.as_bytes(),
                })
                .encode(version, &mut bytes),
                4 => ack(AckKind::PubRel, id).encode(version, &mut bytes),
                5 => ack(AckKind::PubAck, id).encode(version, &mut bytes),
                6 => Packet::PingReq.encode(version, &mut bytes),
                7 => {
                    Subscriptions::write(topic, SubscribeOptions { qos, ..SubscribeOptions::default() }, &mut filters);
                    let filters = Subscriptions::check(&filters, version).unwrap();
                    Packet::Subscribe(Subscribe { packet_id: id, properties: none, filters })
                        .encode(version, &mut bytes);
                }
                _ => {
                    Filters::write(topic, &mut filters);
                    let filters = Filters::check(&filters).unwrap();
                    Packet::Unsubscribe(Unsubscribe { packet_id: id, properties: none, filters })
                        .encode(version, &mut bytes);
                }
            }
            if damage == 0 {
                let at = usize::from(id) % bytes.len();
                bytes[at] ^= 1 << (id % 8);
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn a_hostile_client_gets_packets_or_a_farewell(
        (version, packets) in prop_oneof![Just(Version::V311), Just(Version::V5)]
            .prop_flat_map(|version| (Just(version), proptest::collection::vec(hostile(version), 0..40))),
        clean: bool, chunk in 1..200_usize,
    ) {
        exercise(version, clean, &packets.concat(), chunk);
    }
}
