//! Round trips of every packet, hostile bytes, and one case for each fault.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const V5: Version = Version::V5;
const V311: Version = Version::V311;

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    match split(bytes, PACKET_BYTES_MAX) {
        Ok(Split::Frame(frame)) => frame,
        other => panic!("{bytes:02x?} is {other:?}"),
    }
}

/// A packet survives its bytes, and no beginning of them passes for a packet.
fn round_trips(packet: &Packet<'_>, version: Version) {
    let mut bytes = encoded(packet, version);
    assert_eq!(decode(&frame(&bytes), version), Ok(*packet), "{bytes:02x?}");
    for end in 0..bytes.len() {
        match split(&bytes[..end], PACKET_BYTES_MAX) {
            Ok(Split::Partial(needed)) => assert!(needed > end && needed <= bytes.len(), "{needed} at {end}"),
            other => panic!("{other:?} at {end}"),
        }
    }
    let len = bytes.len();
    bytes.push(0xff);
    assert_eq!(frame(&bytes).len, len);
}

/// One of every property; numbers with their extremes.
const SAMPLES: &[Property<'static>] = &[
    Property::PayloadFormat(1),
    Property::MessageExpiry(u32::MAX),
    Property::ContentType("text/plain"),
    Property::ResponseTopic("answers/7"),
    Property::CorrelationData(&[0, 255]),
    Property::SubscriptionId(VARINT_MAX),
    Property::SessionExpiry(0),
    Property::AssignedClientId("ä"),
    Property::ServerKeepAlive(0),
    Property::AuthMethod("SCRAM"),
    Property::AuthData(b""),
    Property::RequestProblemInfo(0),
    Property::WillDelay(7),
    Property::RequestResponseInfo(1),
    Property::ResponseInfo(""),
    Property::ServerReference("other:1883"),
    Property::ReasonString("because"),
    Property::ReceiveMaximum(1),
    Property::TopicAliasMaximum(u16::MAX),
    Property::TopicAlias(1),
    Property::MaximumQos(1),
    Property::RetainAvailable(0),
    Property::UserProperty("key", "value"),
    Property::UserProperty("key", ""),
    Property::MaximumPacketSize(1),
    Property::WildcardAvailable(1),
    Property::SubscriptionIdAvailable(0),
    Property::SharedAvailable(0),
];

/// The wire form of a random choice of the properties that a scope allows.
fn block(scope: Scope) -> impl Strategy<Value = Vec<u8>> {
    let single = |property: &&Property<'static>| {
        let mut one = Vec::new();
        property.write(&mut one);
        Properties::check(&one, scope).is_ok()
    };
    let allowed: Vec<_> = SAMPLES.iter().filter(single).collect();
    let most = allowed.len();
    proptest::sample::subsequence(allowed, 0..=most).prop_shuffle().prop_map(|properties| {
        let mut out = Vec::new();
        properties.iter().for_each(|property| property.write(&mut out));
        out
    })
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(V311), Just(V5)]
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn topic() -> impl Strategy<Value = String> {
    "[a-zä/$ ]{1,20}"
}

fn options(version: Version) -> impl Strategy<Value = SubscribeOptions> {
    let handling = prop_oneof![Just(RetainHandling::Send), Just(RetainHandling::SendIfNew), Just(RetainHandling::Skip)];
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(move |(qos, no_local, retain_as_published, handling)| {
        match version {
            V311 => SubscribeOptions { qos, ..SubscribeOptions::default() },
            V5 => SubscribeOptions { qos, no_local, retain_as_published, retain_handling: handling },
        }
    })
}

proptest! {
    #[test]
    fn connects_round_trip(
        version in version(), clean: bool, keep_alive_s: u16, client_id in "[^\0]{0,30}",
        will in option::of((qos(), any::<bool>(), block(Scope::Will), topic(), vec(any::<u8>(), 0..20))),
        username in option::of("[^\0]{0,10}"), password in option::of(vec(any::<u8>(), 0..10)),
        block in block(Scope::Connect),
    ) {
        let v5 = version == V5;
        let properties = |block| if v5 { Properties::trusted(block) } else { Properties::default() };
        round_trips(&Packet::Connect(Connect {
            version, clean, keep_alive_s, properties: properties(&block), client_id: &client_id,
            will: will.as_ref().map(|(qos, retain, block, topic, payload)| Will {
                qos: *qos, retain: *retain, properties: properties(block), topic, payload,
            }),
            username: username.as_deref(),
            password: password.as_deref().filter(|_| v5 || username.is_some()),
        }), version);
    }

    #[test]
    fn publishes_round_trip(
        version in version(), dup: bool, qos in qos(), retain: bool, topic in topic(), id in 1..=u16::MAX,
        block in block(Scope::Publish), payload in vec(any::<u8>(), 0..300),
    ) {
        let packet = Publish {
            dup: dup && qos != Qos::AtMostOnce, qos, retain, topic: &topic,
            packet_id: if qos == Qos::AtMostOnce { 0 } else { id },
            properties: if version == V5 { Properties::trusted(&block) } else { Properties::default() },
            payload: &payload,
        };
        prop_assert_eq!(publish_len(&packet, version), encoded(&Packet::Publish(packet), version).len());
        round_trips(&Packet::Publish(packet), version);
    }

    #[test]
    fn acknowledgements_round_trip(
        version in version(), id in 1..=u16::MAX, code: u8, present: bool, block in block(Scope::Ack),
        codes in vec(any::<u8>(), 0..9), conn_block in block(Scope::ConnAck),
    ) {
        let v5 = version == V5;
        let properties = if v5 { Properties::trusted(&block) } else { Properties::default() };
        let reason = ReasonCode(if v5 { code } else { 0 });
        for kind in [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp] {
            round_trips(&Packet::Ack(Ack { kind, packet_id: id, reason, properties }), version);
            let plain = Packet::Ack(Ack { kind, packet_id: id, reason: ReasonCode::SUCCESS, properties: Properties::default() });
            let mut short = Vec::new();
            put_ack(&mut short, kind, id);
            prop_assert_eq!(short.len(), ACK_BYTES);
            prop_assert_eq!(short, encoded(&plain, version));
        }
        round_trips(&Packet::SubAck(SubAck { packet_id: id, properties, codes: &codes }), version);
        round_trips(&Packet::UnsubAck(SubAck { packet_id: id, properties, codes: &codes }), version);
        let properties = if v5 { Properties::trusted(&conn_block) } else { Properties::default() };
        round_trips(&Packet::ConnAck(ConnAck { session_present: present, code, properties }), version);
    }

    #[test]
    fn subscriptions_round_trip(
        (version, filters) in version().prop_flat_map(|v| (Just(v), vec(("[^\0]{0,20}", options(v)), 1..5))),
        id in 1..=u16::MAX, sub_block in block(Scope::Subscribe), unsub_block in block(Scope::Unsubscribe),
    ) {
        let properties = |block| if version == V5 { Properties::trusted(block) } else { Properties::default() };
        let (mut with_options, mut bare) = (Vec::new(), Vec::new());
        for (filter, options) in &filters {
            Subscriptions::write(filter, *options, &mut with_options);
            Filters::write(filter, &mut bare);
        }
        let subscribe = Subscriptions::check(&with_options, version).unwrap();
        prop_assert!(subscribe.iter().eq(filters.iter().map(|(f, o)| (f.as_str(), *o))));
        round_trips(&Packet::Subscribe(Subscribe { packet_id: id, properties: properties(&sub_block), filters: subscribe }), version);
        let unsubscribe = Filters::check(&bare).unwrap();
        prop_assert!(unsubscribe.iter().eq(filters.iter().map(|(f, _)| f.as_str())));
        round_trips(&Packet::Unsubscribe(Unsubscribe { packet_id: id, properties: properties(&unsub_block), filters: unsubscribe }), version);
    }

    #[test]
    fn the_rest_round_trips(version in version(), code: u8, block in block(Scope::Disconnect), auth in block(Scope::Auth)) {
        round_trips(&Packet::PingReq, version);
        round_trips(&Packet::PingResp, version);
        let v5 = version == V5;
        let reason = ReasonCode(if v5 { code } else { 0 });
        let properties = if v5 { Properties::trusted(&block) } else { Properties::default() };
        round_trips(&Packet::Disconnect(Disconnect { reason, properties }), version);
        if v5 {
            round_trips(&Packet::Auth(Disconnect { reason, properties: Properties::trusted(&auth) }), version);
        }
    }

    /// Whatever decodes has a canonical form that decodes to the same.
    #[test]
    fn hostile_bytes_give_a_packet_a_fault_or_a_wish(mut bytes in vec(any::<u8>(), 0..80), version in version(), first: u8) {
        check_hostile(&bytes, version);
        // Most random lengths are not the bytes' own; one that is gets further.
        if bytes.len() > 2 {
            bytes[0] = first;
            bytes[1] = (bytes.len() - 2) as u8;
            check_hostile(&bytes, version);
        }
    }

    #[test]
    fn a_damaged_packet_is_no_worse(
        version in version(), at: prop::sample::Index, byte: u8,
        will_block in block(Scope::Will), block in block(Scope::Connect), publish in block(Scope::Publish),
    ) {
        let connect = Connect {
            version, clean: true, keep_alive_s: 60, properties: Properties::trusted(if version == V5 { &block } else { &[] }),
            client_id: "pump-7", username: Some("u"), password: Some(b"p"),
            will: Some(Will {
                qos: Qos::AtLeastOnce, retain: true, topic: "wills/7", payload: b"gone",
                properties: Properties::trusted(if version == V5 { &will_block } else { &[] }),
            }),
        };
        let publish = Publish {
            dup: true, qos: Qos::AtLeastOnce, retain: false, topic: "grey/a/b", packet_id: 9, payload: b"21.5",
            properties: Properties::trusted(if version == V5 { &publish } else { &[] }),
        };
        for packet in [Packet::Connect(connect), Packet::Publish(publish)] {
            let mut bytes = encoded(&packet, version);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            check_hostile(&bytes, version);
            bytes.truncate(at);
            check_hostile(&bytes, version);
        }
    }

    #[test]
    fn matching_agrees_with_a_plain_reading_of_the_standard(filter in "[ab+$/]{1,8}#?", topic in "[ab$/]{1,8}") {
        fn plain(filter: &[&str], topic: &[&str]) -> bool {
            match (filter, topic) {
                (["#"], _) => true,
                ([], []) => true,
                ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && plain(filter, topic),
                _ => false,
            }
        }
        prop_assume!(check_filter(&filter).is_ok());
        let split = |s: &'static str| s.split('/').collect::<Vec<_>>();
        let (f, t) = (split(filter.clone().leak()), split(topic.clone().leak()));
        let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
        prop_assert_eq!(matches(&filter, &topic), plain(&f, &t) && !hidden);
    }
}

fn check_hostile(bytes: &[u8], version: Version) {
    let Ok(Split::Frame(frame)) = split(bytes, PACKET_BYTES_MAX) else { return };
    assert!(frame.len <= bytes.len());
    let Ok(packet) = decode(&frame, version) else { return };
    let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
    let again = encoded(&packet, version);
    let frame = self::frame(&again);
    assert_eq!(frame.len, again.len());
    assert_eq!(decode(&frame, version), Ok(packet));
}

/// A packet from its first byte and body.
fn raw(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    super::wire::put_varint(&mut bytes, body.len() as u32);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn every_kind_of_fault_is_found() {
    let connect = |level: u8, flags: u8, rest: &[u8]| {
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, flags, 0, 60]);
        body.extend_from_slice(rest);
        raw(0x10, &body)
    };
    let cases: &[(Fault, Version, Vec<u8>)] = &[
        (Fault::Header, V311, raw(0x00, b"")),
        (Fault::Header, V311, raw(0xf0, b"")),
        (Fault::Header, V311, raw(0x11, b"")),
        (Fault::Header, V311, raw(0x80, b"\0\x01\0\x01a\0")),
        (Fault::Header, V5, raw(0x61, b"\0\x01")),
        (Fault::Header, V5, raw(0xc1, b"")),
        (Fault::Qos, V311, raw(0x36, b"\0\x01a\0\x01")),
        (Fault::Qos, V311, raw(0x38, b"\0\x01a")),
        (Fault::PacketId, V311, raw(0x32, b"\0\x01a\0\0x")),
        (Fault::PacketId, V311, raw(0x40, b"\0\0")),
        (Fault::PacketId, V5, raw(0x82, b"\0\0\0\0\x01a\0")),
        (Fault::Truncated, V311, raw(0x30, b"\0\x09a")),
        (Fault::Truncated, V311, raw(0x40, b"\x01")),
        (Fault::Truncated, V5, raw(0x30, b"\0\x01a\x05\x01")),
        (Fault::Trailing, V311, raw(0x40, b"\0\x01\0")),
        (Fault::Trailing, V311, raw(0xc0, b"x")),
        (Fault::Trailing, V311, raw(0xe0, b"\0")),
        (Fault::Text, V311, raw(0x30, b"\0\x02a\0")),
        (Fault::Text, V311, raw(0x30, b"\0\x02\xc3\x28")),
        (Fault::Text, V311, raw(0x30, b"\0\x03\xed\xa0\x80")),
        (Fault::TopicName, V311, raw(0x30, b"\0\0x")),
        (Fault::TopicName, V311, raw(0x30, b"\0\x03a/#x")),
        (Fault::TopicName, V5, raw(0x30, b"\0\x03a/+\0x")),
        (Fault::Unexpected, V5, raw(0x30, b"\0\0\0x")),
        (Fault::NoFilter, V311, raw(0x82, b"\0\x01")),
        (Fault::NoFilter, V5, raw(0xa2, b"\0\x01\0")),
        (Fault::SubscribeOptions, V311, raw(0x82, b"\0\x01\0\x01a\x04")),
        (Fault::SubscribeOptions, V5, raw(0x82, b"\0\x01\0\0\x01a\x40")),
        (Fault::SubscribeOptions, V5, raw(0x82, b"\0\x01\0\0\x01a\x30")),
        (Fault::Qos, V5, raw(0x82, b"\0\x01\0\0\x01a\x03")),
        (Fault::Property, V5, raw(0x30, b"\0\x01a\x02\x05\0")),
        (Fault::Property, V5, raw(0x30, b"\0\x01a\x05\x11\0\0\0\x01")),
        (Fault::PropertyRule, V5, raw(0x30, b"\0\x01a\x04\x01\0\x01\0")),
        (Fault::PropertyRule, V5, raw(0x30, b"\0\x01a\x02\x01\x02")),
        (Fault::PropertyRule, V5, raw(0x82, b"\0\x01\x02\x0b\0\0\x01a\0")),
        (Fault::PropertyRule, V5, raw(0x30, b"\0\x01a\x04\x08\0\x01#")),
        (Fault::TopicAlias, V5, raw(0x30, b"\0\x01a\x03\x23\0\0")),
        (Fault::ProtocolName, V311, raw(0x10, b"\0\x04MQTX\x04\x02\0\0\0\0")),
        (Fault::ProtocolVersion, V311, raw(0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\0")),
        (Fault::ProtocolVersion, V311, connect(6, 2, b"\0\0")),
        (Fault::ConnectFlags, V311, connect(4, 3, b"\0\0")),
        (Fault::ConnectFlags, V311, connect(4, 0x22, b"\0\0")),
        (Fault::ConnectFlags, V311, connect(4, 0x0a, b"\0\0")),
        (Fault::ConnectFlags, V311, connect(4, 0x42, b"\0\0\0\0")),
        (Fault::Qos, V311, connect(4, 0x1e, b"\0\0\0\x01w\0\0")),
        (Fault::TopicName, V311, connect(4, 0x06, b"\0\0\0\x01#\0\0")),
        (Fault::Trailing, V311, connect(4, 2, b"\0\0\0")),
        (Fault::PropertyRule, V5, connect(5, 2, b"\x03\x21\0\0\0\0")),
        (Fault::PropertyRule, V5, connect(5, 2, b"\x05\x27\0\0\0\0\0\0")),
    ];
    for (fault, version, bytes) in cases {
        assert_eq!(decode(&frame(bytes), *version), Err(*fault), "{version:?} {bytes:02x?}");
    }
    assert_eq!(split(&[0x30, 0x80, 0x80, 0x80, 0x80], PACKET_BYTES_MAX), Err(Fault::RemainingLength));
    assert_eq!(split(&[0x30, 0xff, 0xff, 0xff, 0x7f], PACKET_BYTES_MAX), Err(Fault::PacketTooLarge));
}

#[test]
fn the_packet_limit_counts_the_header() {
    let bytes = raw(0x30, b"\0\x01a21");
    assert_eq!(bytes.len(), 7);
    assert!(matches!(split(&bytes, 7), Ok(Split::Frame(_))));
    assert_eq!(split(&bytes, 6), Err(Fault::PacketTooLarge));
    assert_eq!(split(&bytes[..2], 6), Err(Fault::PacketTooLarge), "known before the body is there");
}

#[test]
fn names_and_filters_follow_the_standard() {
    for good in ["a", "/", "a//b", "a b/ü", "$SYS/x"] {
        assert_eq!(check_topic(good), Ok(()), "{good}");
        assert_eq!(check_filter(good), Ok(()), "{good}");
    }
    for good in ["#", "+", "+/#", "a/+/b", "a/#", "/+", "+/+"] {
        assert_eq!(check_filter(good), Ok(()), "{good}");
        assert_eq!(check_topic(good), Err(Fault::TopicName), "{good}");
    }
    for bad in ["", "a#", "a/#/b", "#/", "a+", "+a/b", "a/b+/c", "##"] {
        assert_eq!(check_filter(bad), Err(Fault::TopicFilter), "{bad}");
    }
    assert_eq!(check_topic(&"x".repeat(TOPIC_BYTES_MAX)), Ok(()));
    assert_eq!(check_topic(&"x".repeat(TOPIC_BYTES_MAX + 1)), Err(Fault::TopicName));
    assert_eq!(check_topic(&"/".repeat(TOPIC_LEVELS_MAX - 1)), Ok(()));
    assert_eq!(check_topic(&"/".repeat(TOPIC_LEVELS_MAX)), Err(Fault::TopicName));
    assert!(matches("sport/#", "sport"));
    assert!(matches("sport/+", "sport/"));
    assert!(!matches("sport/+", "sport"));
    assert!(!matches("#", "$SYS/uptime"));
    assert!(!matches("+/uptime", "$SYS/uptime"));
    assert!(matches("$SYS/#", "$SYS/uptime"));
}

#[test]
fn every_fault_has_its_own_label_and_a_reason_that_is_an_error() {
    let labels: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
    assert_eq!(labels.len(), Fault::ALL.len());
    for (i, fault) in Fault::ALL.iter().enumerate() {
        assert_eq!(*fault as usize, i);
        assert!(fault.reason().is_error());
    }
}

#[test]
fn the_version_of_a_broken_connect_is_still_known() {
    assert_eq!(connect_version(b"\0\x04MQTT\x05"), Some(V5));
    assert_eq!(connect_version(b"\0\x04MQTT\x04garbage"), Some(V311));
    for other in [&b""[..], b"\0\x04MQTT", b"\0\x04MQTT\x06", b"\0\x06MQIsdp\x03", b"\xff\xff"] {
        assert_eq!(connect_version(other), None);
    }
}
