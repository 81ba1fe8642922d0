//! A session under hostile bytes, for the fuzz target and a property test.

use std::sync::Arc;
use std::task::{Context as Task, Waker};

use super::{Close, Context, Turn, open};
use crate::broker::{Broker, BrokerConfig};
use crate::intake::Op;
use crate::mqtt::ServerConfig;
use crate::mqtt::codec::{ACK_BYTES, Connect, Packet, Properties, Split, Version, split};

/// Opens a session and feeds it bytes as they would come from reads of
/// `chunk_bytes`. Checks what must hold whatever they are: bytes used are bytes
/// there, every operation list is in order, acknowledgements are whole, and
/// what the session sends are packets.
pub fn exercise(version: Version, clean: bool, bytes: &[u8], chunk_bytes: usize) {
    let config = ServerConfig { receive_maximum: 8, packet_bytes_max: 4_096, ..ServerConfig::default() };
    let broker = Broker::new(BrokerConfig::default(), Arc::clone(&config.counters));
    let cx = Context { config: &config, broker: &broker, now_ms: 1_772_366_400_000 };
    let connect = Connect {
        version,
        clean,
        keep_alive_s: 0,
        properties: Properties::default(),
        client_id: "hostile",
        will: None,
        username: None,
        password: None,
    };
    let mut hello = Vec::new();
    Packet::Connect(connect).encode(version, &mut hello);
    let Ok(Split::Frame(frame)) = split(&hello, usize::MAX) else { unreachable!("just encoded") };
    let Ok(opening) = open(&frame, None, cx, String::new) else { unreachable!("a legal CONNECT") };
    let mut turn = Turn::default();
    let mut session = opening.start(1, cx, &mut turn);

    let mut kept: Vec<u8> = Vec::new();
    let mut out = Vec::new();
    for chunk in bytes.chunks(chunk_bytes.max(1)) {
        kept.extend_from_slice(chunk);
        let mut turn = Turn::default();
        let outcome = session.receive(&kept, cx, &mut turn);
        check_turn(&turn, version);
        turn.forwards.iter().for_each(|message| broker.deliver(message));
        session.credit(turn.credits);
        match outcome {
            Ok((used, needed)) => {
                assert!(used <= kept.len());
                kept.drain(..used);
                assert_eq!(needed == 0, kept.is_empty());
                assert!(kept.is_empty() || needed > kept.len());
            }
            Err(close) => {
                session.farewell(&close, &mut out);
                check_packets(&out, version);
                return;
            }
        }
        out.clear();
        let delivered: Result<(), Close> = session.poll_deliveries(&mut Task::from_waker(Waker::noop()), cx, &mut out);
        check_packets(&out, version);
        if delivered.is_err() {
            break;
        }
    }
    drop(session);
    assert!(!broker.has_subscribers(), "a session takes its subscriptions with it");
}

fn check_turn(turn: &Turn, version: Version) {
    assert_eq!(turn.acks.len() % ACK_BYTES, 0);
    check_packets(&turn.acks, version);
    check_packets(&turn.replies, version);
    for op in &turn.ops {
        match op {
            Op::Events { events, .. } => assert!(events.len() > 1),
            Op::DeadLetter { reason, .. } => assert!(!reason.is_empty()),
            Op::Event { event, .. } => assert!(!event.device.is_empty() && !event.stream.is_empty()),
            Op::Release(_) | Op::Reset { .. } => {}
        }
    }
}

fn check_packets(mut bytes: &[u8], version: Version) {
    while !bytes.is_empty() {
        match split(bytes, usize::MAX) {
            Ok(Split::Frame(frame)) => {
                let packet = crate::mqtt::codec::decode(&frame, version);
                assert!(packet.is_ok(), "{packet:?} of {:02x?}", &bytes[..frame.len]);
                bytes = &bytes[frame.len..];
            }
            other => panic!("{other:?} of {bytes:02x?}"),
        }
    }
}
