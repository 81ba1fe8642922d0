//! Connections end to end, against an intake that does only what a test says.
//! Streams are in memory and time stands still unless everybody waits, except
//! in the last tests, which use a loopback socket.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::broker::BrokerConfig;
use crate::intake::{Batch, Op, Refusal};
use crate::mqtt::client_key;
use crate::mqtt::codec::{
    Ack, AckKind, Connect, Packet, Properties, Publish, Qos, ReasonCode, Split, Subscribe, SubscribeOptions,
    Subscriptions, Version, put_ack, split,
};

const V311: Version = Version::V311;
const V5: Version = Version::V5;
const CONN_ACK: [u8; 4] = [0x20, 2, 0, 0];

struct Site {
    server: Server,
    intake: mpsc::Receiver<Batch>,
}

fn site_with(intake_capacity: usize, change: impl FnOnce(&mut ServerConfig)) -> Site {
    let mut config = ServerConfig { clock: || 1_772_366_400_000, ..ServerConfig::default() };
    change(&mut config);
    let broker = Broker::new(BrokerConfig::default(), Arc::clone(&config.counters));
    let (sender, intake) = mpsc::channel(intake_capacity);
    Site { server: Server::new(Arc::new(config), sender, broker), intake }
}

fn site() -> Site {
    site_with(64, |_| {})
}

impl Site {
    fn counters(&self) -> &crate::IngestCounters {
        &self.server.shared.config.counters
    }

    fn attach(&self) -> Device<DuplexStream> {
        let (near, far) = tokio::io::duplex(256 * 1024);
        tokio::spawn(self.server.attach(far, None).expect("there is room"));
        Device { stream: near, buffer: Vec::new() }
    }

    /// A connected client with a session of its own, whose reset is done.
    async fn device(&mut self, version: Version, client_id: &str) -> Device<DuplexStream> {
        let mut device = self.attach();
        device.send(&[Packet::Connect(connect(version, client_id))]).await;
        assert_eq!(device.packet().await.map(|packet| packet[0]), Some(0x20));
        let batch = self.batch().await;
        assert_eq!(batch.ops, [Op::Reset { client: client_key(client_id) }]);
        done(batch);
        device
    }

    async fn batch(&mut self) -> Batch {
        self.intake.recv().await.expect("the server holds the sender")
    }
}

fn done(batch: Batch) {
    batch.done.send(Ok(())).expect("the connection waits");
}

struct Device<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Device<S> {
    async fn send(&mut self, packets: &[Packet<'_>]) {
        self.send_as(V311, packets).await;
    }

    async fn send_as(&mut self, version: Version, packets: &[Packet<'_>]) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next packet; `None` at the end of the stream.
    async fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Ok(Split::Frame(frame)) = split(&self.buffer, usize::MAX) {
                return Some(self.buffer.drain(..frame.len).collect());
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                assert_eq!(self.buffer, b"", "the stream ends within a packet");
                return None;
            }
        }
    }

    /// Whether nothing comes while everybody else does what there is to do.
    async fn hears_nothing(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1), self.packet()).await.is_err()
    }
}

fn connect(version: Version, client_id: &str) -> Connect<'_> {
    let properties = Properties::default();
    Connect { version, clean: true, keep_alive_s: 0, properties, client_id, will: None, username: None, password: None }
}

fn publish(qos: Qos, packet_id: u16) -> Packet<'static> {
    publish_to("grey/a/t", qos, packet_id)
}

fn publish_to(topic: &str, qos: Qos, packet_id: u16) -> Packet<'_> {
    let properties = Properties::default();
    Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"21.5" })
}

fn ack(kind: AckKind, packet_id: u16) -> Packet<'static> {
    Packet::Ack(Ack { kind, packet_id, reason: ReasonCode::SUCCESS, properties: Properties::default() })
}

fn ack_bytes(kind: AckKind, packet_id: u16) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put_ack(&mut out, kind, packet_id);
    Some(out)
}

fn farewell(reason: ReasonCode) -> Option<Vec<u8>> {
    Some(vec![0xe0, 2, reason.0, 0])
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let mut site = site();
    let mut device = site.device(V311, "pump-7").await;
    device.send(&[publish(Qos::AtLeastOnce, 1)]).await;
    let first = site.batch().await;
    device.send(&[publish(Qos::AtLeastOnce, 2)]).await;
    let second = site.batch().await;
    assert!(device.hears_nothing().await);
    done(second);
    assert!(device.hears_nothing().await, "acknowledgements keep their order");
    done(first);
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 1));
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 2));
    assert_eq!(site.counters().acks.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_is_few_batches_and_acknowledged_in_order() {
    let mut site = site();
    let mut device = site.device(V311, "pump-7").await;
    let packets: Vec<_> = (1..=1_000).map(|id| publish(Qos::AtLeastOnce, id)).collect();
    device.send(&packets).await;
    let mut events = 0;
    let mut batches = 0;
    while events < 1_000 {
        let batch = site.batch().await;
        events += batch.ops.len();
        batches += 1;
        done(batch);
    }
    assert!(batches <= 2, "{batches}");
    for id in 1..=1_000 {
        assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_and_what_follows_it_may_come_in_one_piece_or_byte_by_byte() {
    let mut site = site();
    let mut bytes = Vec::new();
    Packet::Connect(connect(V311, "pump-7")).encode(V311, &mut bytes);
    publish(Qos::AtLeastOnce, 1).encode(V311, &mut bytes);
    Packet::PingReq.encode(V311, &mut bytes);
    for piece in [bytes.len(), 1] {
        let mut device = site.attach();
        for piece in bytes.chunks(piece) {
            device.stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(device.packet().await.as_deref(), Some(&CONN_ACK[..]));
        assert_eq!(device.packet().await, Some(vec![0xd0, 0]), "pings do not wait for the disk");
        let mut ops = Vec::new();
        while ops.len() < 2 {
            let batch = site.batch().await;
            ops.extend(batch.ops);
            batch.done.send(Ok(())).unwrap();
        }
        assert!(matches!(ops[..], [Op::Reset { .. }, Op::Event { .. }]));
        assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn qos_2_goes_its_four_ways() {
    let mut site = site();
    let mut device = site.device(V5, "pump-7").await;
    device.send_as(V5, &[publish(Qos::ExactlyOnce, 7)]).await;
    let batch = site.batch().await;
    assert!(matches!(batch.ops[..], [Op::Event { qos2: Some(_), .. }]));
    let Packet::Publish(first) = publish(Qos::ExactlyOnce, 7) else { unreachable!() };
    device.send_as(V5, &[Packet::Publish(Publish { dup: true, ..first })]).await;
    assert!(device.hears_nothing().await, "the resend waits for the first one");
    done(batch);
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubRec, 7));
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubRec, 7));
    assert!(site.intake.try_recv().is_err(), "it is not an event again");

    device.send_as(V5, &[ack(AckKind::PubRel, 7)]).await;
    let batch = site.batch().await;
    assert!(matches!(batch.ops[..], [Op::Release(key)] if key.packet_id == 7));
    assert!(device.hears_nothing().await);
    done(batch);
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubComp, 7));
}

#[tokio::test(start_paused = true)]
async fn a_full_intake_stops_the_reading_and_loses_nothing() {
    let mut site = site_with(1, |_| {});
    let mut device = site.device(V311, "pump-7").await;
    // Far more than the pipe and a few reads can hold.
    let packets: Vec<_> = (1..=40_000).map(|id| publish(Qos::AtLeastOnce, id)).collect();
    let mut send = Box::pin(device.send(&packets));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut send).await.is_err());
    assert_eq!(site.counters().backpressure.get(), 1);
    assert_eq!(site.intake.len(), 1);
    let mut accepted = 0;
    let accept = async {
        while accepted < packets.len() {
            let batch = site.batch().await;
            accepted += batch.ops.len();
            done(batch);
        }
    };
    tokio::join!(&mut send, accept);
    drop(send);
    for id in 1..=40_000 {
        assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, id));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_disk_is_bounded() {
    let mut site = site_with(1_000, |_| {});
    let mut device = site.device(V311, "pump-7").await;
    let packets: Vec<_> = (0..60_000).map(|_| publish(Qos::AtMostOnce, 0)).collect();
    let mut send = Box::pin(device.send(&packets));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut send).await.is_err());
    let mut held = Vec::new();
    while let Ok(batch) = site.intake.try_recv() {
        held.push(batch);
    }
    let ops: usize = held.iter().map(|batch| batch.ops.len()).sum();
    assert!((16_384..24_000).contains(&ops), "{ops}");
    held.into_iter().for_each(done);
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut send).await.is_err());
    assert!(!site.intake.is_empty(), "it reads on");
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_not_acknowledged_and_ends_the_connection() {
    let mut site = site();
    let cases = [
        (Refusal::Backpressure { retry_after_ms: 5 }, ReasonCode::SERVER_BUSY),
        (Refusal::Full, ReasonCode::QUOTA_EXCEEDED),
        (Refusal::Stopping, ReasonCode::SERVER_SHUTTING_DOWN),
        (Refusal::Failed("disk".into()), ReasonCode::IMPLEMENTATION_SPECIFIC),
    ];
    for (refusal, reason) in cases {
        for version in [V311, V5] {
            let mut device = site.device(version, "pump-7").await;
            let mut batches = Vec::new();
            for id in 1..=3 {
                device.send_as(version, &[publish(Qos::AtLeastOnce, id)]).await;
                batches.push(site.batch().await);
            }
            let [first, second, third]: [Batch; 3] = batches.try_into().unwrap();
            done(third);
            second.done.send(Err(refusal.clone())).unwrap();
            done(first);
            assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 1));
            if version == V5 {
                assert_eq!(device.packet().await, farewell(reason));
            }
            assert_eq!(device.packet().await, None);
        }
    }
    let mut device = site.device(V5, "pump-7").await;
    device.send_as(V5, &[publish(Qos::AtLeastOnce, 1)]).await;
    drop(site.batch().await);
    assert_eq!(device.packet().await, farewell(ReasonCode::SERVER_SHUTTING_DOWN), "the intake is gone without a word");
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_takes_the_client_id_over() {
    let mut site = site();
    for (version, client_id) in [(V311, "pump-4"), (V5, "pump-5")] {
        let mut first = site.device(version, client_id).await;
        first.send_as(version, &[publish(Qos::AtLeastOnce, 1)]).await;
        let waiting = site.batch().await;
        let mut second = site.attach();
        let follows = [Packet::Connect(connect(version, client_id)), publish(Qos::AtLeastOnce, 2)];
        second.send_as(version, &follows).await;
        assert_eq!(second.packet().await.map(|packet| packet[0]), Some(0x20), "it need not wait for the disk");
        let mut ops = Vec::new();
        while ops.len() < 2 {
            let batch = site.batch().await;
            ops.extend(batch.ops.iter().cloned());
            done(batch);
        }
        assert!(matches!(ops[..], [Op::Reset { .. }, Op::Event { .. }]));
        assert_eq!(second.packet().await, ack_bytes(AckKind::PubAck, 2));
        done(waiting);
        assert_eq!(first.packet().await, ack_bytes(AckKind::PubAck, 1));
        if version == V5 {
            assert_eq!(first.packet().await, farewell(ReasonCode::SESSION_TAKEN_OVER));
        }
        assert_eq!(first.packet().await, None);
    }
    assert_eq!(site.counters().taken_over.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_older_connection_submits_all_it_has_read_before_the_new_one_starts() {
    let mut site = site_with(1, |_| {});
    let mut first = site.device(V311, "pump-7").await;
    for id in 1..=2 {
        first.send(&[publish(Qos::ExactlyOnce, id)]).await;
        assert!(first.hears_nothing().await);
    }
    let mut second = site.attach();
    second.send(&[Packet::Connect(connect(V311, "pump-7"))]).await;
    assert!(second.hears_nothing().await, "a batch of the first one still waits for room");
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let batch = site.batch().await;
        kinds.extend(batch.ops.iter().map(|op| matches!(op, Op::Reset { .. })));
        let _ = batch.done.send(Ok(()));
    }
    assert_eq!(kinds, [false, false, true], "so that the reset does not come too early");
    assert_eq!(second.packet().await.as_deref(), Some(&CONN_ACK[..]));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection_after_one_and_a_half_intervals() {
    let mut site = site();
    let mut device = site.attach();
    device.send(&[Packet::Connect(Connect { keep_alive_s: 10, ..connect(V5, "pump-7") })]).await;
    device.packet().await.unwrap();
    done(site.batch().await);
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(14)).await;
        device.send_as(V5, &[Packet::PingReq]).await;
        assert_eq!(device.packet().await, Some(vec![0xd0, 0]));
    }
    let start = tokio::time::Instant::now();
    assert_eq!(device.packet().await, farewell(ReasonCode::KEEP_ALIVE_TIMEOUT));
    assert_eq!(start.elapsed().as_secs(), 15);
    assert_eq!(device.packet().await, None);
    assert_eq!(site.counters().keep_alive_timeouts.get(), 1);

    let mut patient = site.device(V311, "no limit").await;
    tokio::time::advance(Duration::from_secs(1_000_000)).await;
    patient.send(&[Packet::PingReq]).await;
    assert_eq!(patient.packet().await, Some(vec![0xd0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_connect_in_time_is_closed() {
    let site = site();
    let mut silent = site.attach();
    let mut slow = site.attach();
    slow.stream.write_all(&[0x10, 20, 0]).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(silent.packet().await, None);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(slow.packet().await, None);
    drop((silent, slow));
    site.server.registry.emptied().await;
    assert_eq!(site.counters().connect_timeouts.get(), 2);
    assert_eq!(site.counters().connections_open(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded() {
    let site = site_with(1, |config| config.connections_max = 2);
    let (first, _second) = (site.attach(), site.attach());
    assert!(site.server.attach(tokio::io::duplex(64).1, None).is_none());
    assert_eq!(site.counters().connections_over_limit.get(), 1);
    drop(first);
    while site.counters().connections_open() > 1 {
        tokio::task::yield_now().await;
    }
    site.attach();
}

#[tokio::test(start_paused = true)]
async fn faulty_packets_are_answered_and_counted() {
    let mut site = site_with(64, |config| config.packet_bytes_max = 2_000);
    let oversized_topic = {
        let mut bytes = vec![0x30, 0x84, 0x08, 0x04, 0x01];
        bytes.resize(3 + 0x403, b'x');
        bytes.push(0);
        bytes
    };
    let cases: Vec<(Vec<u8>, &str, ReasonCode)> = vec![
        (vec![0x36, 5, 0, 1, b'x', 0, 1], "qos", ReasonCode::MALFORMED_PACKET),
        (vec![0x30, 0xff, 0x7f], "packet_too_large", ReasonCode::PACKET_TOO_LARGE),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff], "remaining_length", ReasonCode::MALFORMED_PACKET),
        (oversized_topic, "topic_name", ReasonCode::TOPIC_NAME_INVALID),
        (vec![0x30, 5, 0, 2, 0xc3, 0x28, 0], "text", ReasonCode::MALFORMED_PACKET),
        (vec![0x20, 3, 0, 0, 0], "unexpected_packet", ReasonCode::PROTOCOL_ERROR),
        (vec![0xf0, 0], "unexpected_packet", ReasonCode::PROTOCOL_ERROR),
    ];
    for (bytes, label, reason) in cases {
        let counted = |site: &Site| {
            let mut count = 0;
            site.counters().visit(|name, tag, n| {
                if name == "malformed" && tag == Some(("reason", label)) {
                    count = n;
                }
            });
            count
        };
        let before = counted(&site);
        let mut device = site.device(V5, "pump-7").await;
        // What came before the fault is still acknowledged.
        device.send_as(V5, &[publish(Qos::AtLeastOnce, 1)]).await;
        device.stream.write_all(&bytes).await.unwrap();
        done(site.batch().await);
        assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 1), "{label}");
        assert_eq!(device.packet().await, farewell(reason), "{label}");
        assert_eq!(device.packet().await, None, "{label}");
        assert_eq!(counted(&site), before + 1, "{label}");

        if bytes[0] != 0x20 && bytes[0] != 0xf0 {
            let mut device = site.device(V311, "pump-7").await;
            device.stream.write_all(&bytes).await.unwrap();
            assert_eq!(device.packet().await, None, "3.1.1 has no words for {label}");
        }
    }
    let mut stranger = site.attach();
    stranger.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(stranger.packet().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_large_packet_grows_as_it_comes() {
    let mut site = site();
    let mut device = site.device(V311, "pump-7").await;
    let samples = vec!["21.5"; 60_000].join(",");
    let payload = format!("{{\"value\":[{samples}]}}");
    let Packet::Publish(small) = publish(Qos::AtLeastOnce, 1) else { unreachable!() };
    let large = Packet::Publish(Publish { payload: payload.as_bytes(), ..small });
    let packets = [large, publish(Qos::AtLeastOnce, 2)];
    let ((), batch) = tokio::join!(device.send(&packets), site.batch());
    assert!(matches!(&batch.ops[0], Op::Event { event, .. }
        if matches!(&event.value, grey_model::Value::Vector(samples) if samples.len() == 60_000)));
    let second_waits = batch.ops.len() == 1;
    done(batch);
    if second_waits {
        done(site.batch().await);
    }
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 1));
    assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 2));
}

async fn subscribe(device: &mut Device<DuplexStream>, filter: &str, qos: Qos) {
    let mut bytes = Vec::new();
    Subscriptions::write(filter, SubscribeOptions { qos, ..SubscribeOptions::default() }, &mut bytes);
    let filters = Subscriptions::check(&bytes, V311).unwrap();
    device.send(&[Packet::Subscribe(Subscribe { packet_id: 9, properties: Properties::default(), filters })]).await;
    assert_eq!(device.packet().await, Some(vec![0x90, 3, 0, 9, qos as u8]));
}

#[tokio::test(start_paused = true)]
async fn subscribers_hear_of_an_event_once_it_is_durable() {
    let mut site = site();
    let mut listener = site.device(V311, "listener").await;
    subscribe(&mut listener, "grey/+/t", Qos::AtLeastOnce).await;
    let mut device = site.device(V311, "pump-7").await;
    device.send(&[publish(Qos::AtLeastOnce, 5), publish_to("grey/b/t", Qos::AtMostOnce, 0)]).await;
    let batch = site.batch().await;
    // A client that says goodbye at once is still heard, once durable.
    device
        .send(&[Packet::Disconnect(crate::mqtt::codec::Disconnect {
            reason: ReasonCode::SUCCESS,
            properties: Properties::default(),
        })])
        .await;
    assert!(listener.hears_nothing().await);
    done(batch);
    let mut expected = Vec::new();
    publish(Qos::AtLeastOnce, 1).encode(V311, &mut expected);
    assert_eq!(listener.packet().await, Some(expected.clone()));
    expected.clear();
    publish_to("grey/b/t", Qos::AtMostOnce, 0).encode(V311, &mut expected);
    assert_eq!(listener.packet().await, Some(expected));
    listener.send(&[ack(AckKind::PubAck, 1)]).await;

    // What is no event needs no disk, and the edge's own messages neither.
    let mut other = site.device(V311, "other").await;
    subscribe(&mut other, "local/#", Qos::AtMostOnce).await;
    listener.send(&[publish_to("local/x", Qos::AtLeastOnce, 3)]).await;
    assert_eq!(listener.packet().await, ack_bytes(AckKind::PubAck, 3));
    let mut expected = Vec::new();
    publish_to("local/x", Qos::AtMostOnce, 0).encode(V311, &mut expected);
    assert_eq!(other.packet().await, Some(expected.clone()));
    site.server.shared.broker.publish("local/x", Bytes::from_static(b"21.5"), Qos::AtLeastOnce, false).unwrap();
    assert_eq!(other.packet().await, Some(expected));
    assert_eq!(site.counters().delivered.get(), 4);
    drop((listener, other));
    while site.server.shared.broker.has_subscribers() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_owed_but_not_for_ever() {
    let mut site = site();
    let mut device = site.device(V5, "pump-7").await;
    let mut idle = site.device(V5, "idle").await;
    let mut stuck = site.device(V5, "stuck").await;
    device.send_as(V5, &[publish(Qos::AtLeastOnce, 1)]).await;
    let owed = site.batch().await;
    stuck.send_as(V5, &[publish(Qos::AtLeastOnce, 1)]).await;
    let _never = site.batch().await;
    let start = tokio::time::Instant::now();
    let (server, mut intake) = (site.server, site.intake);
    let test = async {
        assert_eq!(idle.packet().await, farewell(ReasonCode::SERVER_SHUTTING_DOWN));
        assert!(device.hears_nothing().await);
        done(owed);
        assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, 1));
        assert_eq!(device.packet().await, farewell(ReasonCode::SERVER_SHUTTING_DOWN));
        assert_eq!(device.packet().await, None);
        drop((idle, device));
        assert_eq!(stuck.packet().await, None);
    };
    tokio::join!(server.stop(), test);
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(server.attach(tokio::io::duplex(64).1, None).is_none());
    assert!(intake.try_recv().is_err());
}

/// An intake that accepts everything at once.
fn accept_all(mut intake: mpsc::Receiver<Batch>) {
    tokio::spawn(async move {
        while let Some(batch) = intake.recv().await {
            let _ = batch.done.send(Ok(()));
        }
    });
}

#[tokio::test]
async fn many_devices_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(ServerConfig::default());
    let counters = Arc::clone(&config.counters);
    let broker = Broker::new(BrokerConfig::default(), Arc::clone(&counters));
    let (sender, intake) = mpsc::channel(4);
    accept_all(intake);
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(serve(listener, config, sender, broker, stopped));
    let mut tasks = Vec::new();
    for n in 0..20 {
        tasks.push(tokio::spawn(async move {
            let mut device = Device { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() };
            device.send(&[Packet::Connect(connect(V311, &format!("pump-{n}")))]).await;
            assert_eq!(device.packet().await.as_deref(), Some(&CONN_ACK[..]));
            for round in 0..5 {
                let ids = round * 100 + 1..=round * 100 + 100;
                let packets: Vec<_> = ids.clone().map(|id| publish(Qos::AtLeastOnce, id)).collect();
                device.send(&packets).await;
                for id in ids {
                    assert_eq!(device.packet().await, ack_bytes(AckKind::PubAck, id));
                }
            }
            device
        }));
    }
    let mut devices = Vec::new();
    for task in tasks {
        devices.push(task.await.unwrap());
    }
    assert_eq!(counters.events.get(), 10_000);
    assert_eq!(counters.connections_open(), 20);
    stop.send(true).unwrap();
    for device in &mut devices {
        assert_eq!(device.packet().await, None);
    }
    drop(devices);
    server.await.unwrap().unwrap();
    assert_eq!(counters.connections_open(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_last_packet_is_not_lost_to_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(ServerConfig::default());
    let broker = Broker::new(BrokerConfig::default(), Arc::default());
    let (sender, intake) = mpsc::channel(4);
    accept_all(intake);
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, config, sender, broker, stopped));
    let mut device = Device { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() };
    let mut bytes = Vec::new();
    Packet::Connect(connect(V5, "pump-7")).encode(V5, &mut bytes);
    bytes.extend([0x30, 0xff, 0xff, 0x7f]);
    // Many bytes that nobody will read as packets.
    bytes.resize(200_000, 0);
    device.stream.write_all(&bytes).await.unwrap();
    assert_eq!(device.packet().await.map(|packet| packet[0]), Some(0x20));
    assert_eq!(device.packet().await, farewell(ReasonCode::PACKET_TOO_LARGE));
    assert_eq!(device.packet().await, None);
}
