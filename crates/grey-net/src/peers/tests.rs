//! Peer links over real sockets.

use super::*;
use crate::listen;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    peers: Peers,
    inbound: mpsc::Receiver<(u64, Bytes)>,
    unreachable: mpsc::Receiver<u64>,
    address: String,
}

impl Member {
    async fn recv(&mut self) -> (u64, Bytes) {
        tokio::time::timeout(PATIENCE, self.inbound.recv()).await.expect("a message").unwrap()
    }

    async fn lost(&mut self) -> u64 {
        tokio::time::timeout(PATIENCE, self.unreachable.recv()).await.expect("a notification").unwrap()
    }
}

async fn bind() -> (TcpListener, String) {
    let (listener, address) = listen("raft", "127.0.0.1:0", false).await.unwrap();
    (listener, address.to_string())
}

fn config(id: u64, cluster: &str, members: &[(u64, String)]) -> PeersConfig {
    let backoff = BackoffConfig { initial_ms: 1, max_ms: 20, ..BackoffConfig::default() };
    PeersConfig { backoff, ..PeersConfig::new(id, cluster, members.to_vec()) }
}

fn start(config: PeersConfig, listener: TcpListener) -> Member {
    let address = listener.local_addr().unwrap().to_string();
    let (inbound_in, inbound) = mpsc::channel(4);
    let (unreachable_in, unreachable) = mpsc::channel(16);
    Member { peers: Peers::start(config, listener, inbound_in, unreachable_in), inbound, unreachable, address }
}

async fn group(size: u64) -> (Vec<Member>, Vec<(u64, String)>) {
    let mut listeners = Vec::new();
    let mut members = Vec::new();
    for id in 1..=size {
        let (listener, address) = bind().await;
        listeners.push(listener);
        members.push((id, address));
    }
    let start = |(n, listener)| start(config(n as u64 + 1, "west", &members), listener);
    (listeners.into_iter().enumerate().map(start).collect(), members)
}

/// Sends until the first message of a kind arrives: before the connection stands, messages may be lost.
async fn connect(from: &Member, to: &mut Member, to_id: u64) -> u64 {
    loop {
        assert!(from.peers.send(to_id, Bytes::from_static(b"are you there")));
        if let Ok(Some((id, message))) = tokio::time::timeout(Duration::from_millis(20), to.inbound.recv()).await {
            assert_eq!(message, "are you there");
            return id;
        }
    }
}

async fn skip_greetings(member: &mut Member) -> (u64, Bytes) {
    loop {
        let (from, message) = member.recv().await;
        if message != "are you there" {
            return (from, message);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_whole_and_in_order() {
    let (mut group, _) = group(3).await;
    for (from, to) in [(0, 1), (1, 0), (2, 0), (0, 2)] {
        let [one, two] = group.get_disjoint_mut([from, to]).unwrap();
        assert_eq!(connect(one, two, to as u64 + 1).await, from as u64 + 1);
    }
    let body = |n: usize| Bytes::from(vec![n as u8; [0, 9, 70_000, 5_000_000][n % 4]]);
    for n in 0..40 {
        assert!(group[0].peers.send(2, body(n)));
    }
    let mut next = skip_greetings(&mut group[1]).await;
    for n in 0..40 {
        assert!(next.0 == 1 && next.1 == body(n), "message {n} of {} bytes", next.1.len());
        if n < 39 {
            next = group[1].recv().await;
        }
    }
    assert!(!group[0].peers.send(9, body(1)), "nobody has this id");
    assert!(!group[0].peers.send(1, body(1)), "a node does not send to itself");
    let stats = group[1].peers.stats();
    assert!(stats.messages_in_total.load(Ordering::Relaxed) >= 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_goes_is_reported_and_one_that_comes_back_is_found() {
    let (mut group, mut members) = group(2).await;
    let mut second = group.pop().unwrap();
    let mut first = group.pop().unwrap();
    connect(&first, &mut second, 2).await;
    while first.unreachable.try_recv().is_ok() {}
    second.peers.stop();
    drop(second);
    assert_eq!(first.lost().await, 2);
    // It comes back at another address, as after a replacement.
    let (listener, address) = bind().await;
    members[1].1 = address;
    let mut second = start(config(2, "west", &members), listener);
    first.peers.set_members(members.clone());
    assert_eq!(connect(&first, &mut second, 2).await, 1);
    // A member that was removed is neither served nor heard.
    first.peers.set_members(vec![members[0].clone()]);
    assert!(!first.peers.send(2, Bytes::new()));
    let refused = first.peers.stats().refused_total.load(Ordering::Relaxed);
    let mut stranger = TcpStream::connect(&first.address).await.unwrap();
    let hello = handshake::PeerHello { version: 1, from: 2, to: 1, cluster: b"west".to_vec() };
    stranger.write_all(&hello.encode()).await.unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).await.unwrap();
    assert_eq!(handshake::Answer::decode(&answer).unwrap().verdict, handshake::Verdict::NotMember);
    assert!(first.peers.stats().refused_total.load(Ordering::Relaxed) > refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_belong_together_are_refused() {
    let (listener, address) = bind().await;
    let members = [(1, "127.0.0.1:1".to_owned()), (2, address.clone()), (3, address.clone())];
    let mut second = start(config(2, "west", &members), listener);
    // Another cluster, and another node at the address.
    for (id, cluster, to) in [(1, "east", 2), (1, "west", 3)] {
        let (listener, _) = bind().await;
        let mut first = start(config(id, cluster, &members), listener);
        assert!(first.peers.send(to, Bytes::from_static(b"hello")));
        while first.lost().await != to {}
        assert!(first.peers.stats().refused_total.load(Ordering::Relaxed) > 0);
    }
    assert!(second.inbound.try_recv().is_err());
    let hello =
        |version, from, to, cluster: &str| handshake::PeerHello { version, from, to, cluster: cluster.into() }.encode();
    let table = [
        (hello(2, 1, 2, "west"), Some(handshake::Verdict::Version)),
        (hello(1, 1, 2, "east"), Some(handshake::Verdict::Cluster)),
        (hello(1, 1, 3, "west"), Some(handshake::Verdict::WrongNode)),
        (hello(1, 2, 2, "west"), Some(handshake::Verdict::NotMember)),
        (hello(1, 8, 2, "west"), Some(handshake::Verdict::NotMember)),
        (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(), None),
    ];
    for (hello, verdict) in table {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        // A close with unread bytes is a reset: there is no answer then, either.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(handshake::Answer::decode(&answer).ok().map(|answer| answer.verdict), verdict);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_and_oversized_messages_end_the_connection() {
    let (listener, address) = bind().await;
    let members = [(1, "127.0.0.1:1".to_owned()), (2, address.clone())];
    let limited = PeersConfig { message_bytes_max: 100, ..config(2, "west", &members) };
    let mut second = start(limited, listener);
    assert!(!second.peers.send(1, Bytes::from(vec![0; 101])), "over the limit");
    let hello = handshake::PeerHello { version: 1, from: 1, to: 2, cluster: b"west".to_vec() }.encode();
    let message = |len: u32, body: &[u8], flip: u32| {
        let mut bytes = hello.clone();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&(crc32c::crc32c(body) ^ flip).to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    for bad in [message(4, b"good", 1), message(101, b"", 0), message(u32::MAX, b"", 0)] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(&bad).await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        end.expect("the connection ends").ok();
    }
    assert!(second.inbound.try_recv().is_err());
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&message(4, b"good", 0)).await.unwrap();
    assert_eq!(second.recv().await, (1, Bytes::from_static(b"good")));
    // A newer connection of the same member replaces the older one.
    let mut newer = TcpStream::connect(&address).await.unwrap();
    newer.write_all(&message(5, b"newer", 0)).await.unwrap();
    assert_eq!(second.recv().await, (1, Bytes::from_static(b"newer")));
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the older one ends").ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_peer_costs_bounded_memory() {
    let (listener, address) = bind().await;
    // It accepts, and says nothing.
    let members = [(1, "127.0.0.1:1".to_owned()), (2, address)];
    let (own, _) = bind().await;
    let bounded = PeersConfig { queue_bytes_max: 10_000, ..config(1, "west", &members) };
    let mut first = start(bounded, own);
    for _ in 0..1_000 {
        assert!(first.peers.send(2, Bytes::from(vec![0; 1_000])));
    }
    assert!(first.peers.stats().dropped_total.load(Ordering::Relaxed) >= 980);
    assert_eq!(first.lost().await, 2);
    drop(listener);
}
