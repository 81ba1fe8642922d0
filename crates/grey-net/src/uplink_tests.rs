//! Client and server over real sockets: an outbox in memory below, a group of
//! nodes with one replicated coverage above.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use grey_link::{BackoffConfig, LinkState};
use grey_model::{BlockHeader, Compression, Epoch, Lane, RangeSet, SiteId, Stamp, StreamKey};
use grey_sync::{
    Action, Frame, FrameDecoder, Goodbye, Heartbeat, Hello, Outbox, OutboxError, OwnStreams, ReceiverConfig,
    ReceiverStats, RejectCode, Role, SenderConfig, SiteReport, Status,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

use crate::listen;
use crate::uplink_client::{LinkStatus, Ports, run};
use crate::uplink_server::{Completion, HelloAnswer, Leadership, Peer, ServerConfig, ServerStats, UplinkHost, serve};

const EPOCH: Epoch = Epoch(77);
/// A test that hangs fails after this.
const PATIENCE: Duration = Duration::from_secs(60);

fn site() -> SiteId {
    SiteId::new("site-1").unwrap()
}

fn block(lane: Lane, range: Range<u64>, payload: usize) -> Bytes {
    let span = (range.end - range.start) as u32;
    let header = BlockHeader {
        site: site(),
        epoch: EPOCH,
        lane,
        first_seq: range.start,
        span,
        events: span,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp::default(),
        kinds: 1,
        intake: 0,
        compression: Compression::None,
        payload_raw_len: payload as u32,
        accounts: vec![],
    };
    header.encode(&vec![7; payload])
}

/// An outbox that the test can fill while the client reads it.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<[Vec<Bytes>; 3]>>);

impl Shelf {
    /// Adds a block of ten sequences at the next position.
    fn push(&self, lane: Lane, payload: usize) {
        let mut lanes = self.0.lock().unwrap();
        let blocks = &mut lanes[lane.index()];
        let first = blocks.len() as u64 * 10;
        blocks.push(block(lane, first..first + 10, payload));
    }

    fn ends(&self) -> [u64; 3] {
        self.0.lock().unwrap().each_ref().map(|blocks| blocks.len() as u64)
    }
}

impl Outbox for Shelf {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        Ok(self.0.lock().unwrap()[lane.index()].get(from as usize).map(|block| (from, block.clone())))
    }

    fn own_streams(&mut self) -> OwnStreams {
        OwnStreams { epoch: EPOCH, next_seqs: self.ends().map(|end| end * 10) }
    }

    fn status(&mut self) -> Status {
        Status { accepted_total: 4_711, ..Status::default() }
    }

    fn sites(&mut self) -> Vec<SiteReport> {
        let status = self.status();
        vec![SiteReport { site: site(), epoch: EPOCH, connected: true, last_seen_ms: 5, status }]
    }
}

/// What the nodes of the group replicate, and what they saw.
#[derive(Default)]
struct Group {
    coverage: Mutex<BTreeMap<StreamKey, RangeSet>>,
    leader: Mutex<Option<usize>>,
    addresses: Mutex<Vec<String>>,
    fresh: AtomicU64,
    accepted: AtomicU64,
    heartbeats: AtomicU64,
    reports: AtomicU64,
    goodbyes: Mutex<Vec<String>>,
    drops_next: AtomicBool,
}

impl Group {
    fn leader_address(&self) -> Option<String> {
        let leader = (*self.leader.lock().unwrap())?;
        Some(self.addresses.lock().unwrap()[leader].clone())
    }
}

/// One node: blocks go through a channel to its engine, as in a real tier.
struct Node {
    id: usize,
    group: Arc<Group>,
    engine: mpsc::UnboundedSender<(BlockHeader, Completion)>,
}

impl UplinkHost for Node {
    fn hello(&self, _: Peer, hello: &Hello) -> HelloAnswer {
        if hello.agent == "unwanted" {
            return HelloAnswer::Reject { code: RejectCode::NotAllowed, message: "unwanted here".into() };
        }
        if *self.group.leader.lock().unwrap() != Some(self.id) {
            return HelloAnswer::Redirect { address: self.group.leader_address() };
        }
        self.group.accepted.fetch_add(1, Ordering::Relaxed);
        let coverage = self.group.coverage.lock().unwrap();
        let own = coverage.iter().filter(|(key, _)| key.site == hello.sender);
        let coverage = own.map(|(key, set)| (key.clone(), set.iter().collect())).collect();
        HelloAnswer::Accept { coverage, window_bytes: 200_000, term: 3 }
    }

    fn propose(&self, _: Peer, _: Bytes, header: BlockHeader, completion: Completion) {
        let _ = self.engine.send((header, completion));
    }

    fn heartbeat(&self, _: Peer, hello: &Hello, heartbeat: &Heartbeat, _: &ReceiverStats) {
        assert_eq!((&hello.sender, heartbeat.status.accepted_total), (&site(), 4_711));
        self.group.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    fn sites(&self, _: Peer, _: &Hello, reports: Vec<SiteReport>) {
        self.group.reports.fetch_add(reports.len() as u64, Ordering::Relaxed);
    }

    fn disconnected(&self, _: Peer, _: &Hello, reason: &str, _: &ReceiverStats) {
        self.group.goodbyes.lock().unwrap_or_else(PoisonError::into_inner).push(reason.to_owned());
    }
}

/// A running server.
struct Server {
    leadership: watch::Sender<Leadership>,
    shutdown: watch::Sender<bool>,
    stats: Arc<ServerStats>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

async fn start_node(group: &Arc<Group>, id: usize, config: ServerConfig) -> Server {
    let (listener, address) = listen("sync", "127.0.0.1:0", false).await.unwrap();
    group.addresses.lock().unwrap().push(address.to_string());
    let (engine, mut proposals) = mpsc::unbounded_channel::<(BlockHeader, Completion)>();
    let state = group.clone();
    tokio::spawn(async move {
        while let Some((header, completion)) = proposals.recv().await {
            if state.drops_next.swap(false, Ordering::Relaxed) {
                drop(completion);
                continue;
            }
            let mut coverage = state.coverage.lock().unwrap();
            let fresh = coverage.entry(header.key()).or_default().insert(header.range());
            state.fresh.fetch_add(fresh, Ordering::Relaxed);
            completion.committed();
        }
    });
    let host = Arc::new(Node { id, group: group.clone(), engine });
    let (leadership, leads) = watch::channel(Leadership::Leading);
    let (shutdown, stop) = watch::channel(false);
    let stats = Arc::new(ServerStats::default());
    let task = tokio::spawn(serve(listener, config, host, leads, stats.clone(), stop));
    Server { leadership, shutdown, stats, address, task }
}

async fn start_group(size: usize) -> (Arc<Group>, Vec<Server>) {
    let group = Arc::new(Group { leader: Mutex::new(Some(0)), ..Group::default() });
    let mut servers = Vec::new();
    for id in 0..size {
        servers.push(start_node(&group, id, ServerConfig::default()).await);
    }
    (group, servers)
}

/// A running client.
struct Client {
    shelf: Shelf,
    wakeups: Arc<Notify>,
    actions: mpsc::Receiver<Action>,
    status: watch::Receiver<Option<LinkStatus>>,
    shutdown: watch::Sender<bool>,
    acked: [u64; 3],
    task: tokio::task::JoinHandle<()>,
}

fn config(addresses: Vec<String>) -> SenderConfig {
    let backoff = BackoffConfig { initial_ms: 1, max_ms: 20, ..BackoffConfig::default() };
    SenderConfig { backoff, ..SenderConfig::new(site(), addresses) }
}

fn start_client(config: SenderConfig, shelf: Shelf) -> Client {
    let (action_in, actions) = mpsc::channel(8);
    let (status_in, status) = watch::channel(None);
    let (shutdown, stop) = watch::channel(false);
    let wakeups = Arc::new(Notify::new());
    let ports = Ports { wakeups: wakeups.clone(), actions: action_in, status: status_in, shutdown: stop };
    let outbox = shelf.clone();
    let task = tokio::spawn(async move { run(config, [0; 3], outbox, ports).await.unwrap() });
    Client { shelf, wakeups, actions, status, shutdown, acked: [0; 3], task }
}

impl Client {
    /// Waits until everything on the shelf is acknowledged.
    async fn drain(&mut self) {
        self.wakeups.notify_one();
        let all = async {
            while self.acked != self.shelf.ends() {
                if let Action::Acked { lane, upto } = self.actions.recv().await.unwrap() {
                    assert!(upto > self.acked[lane.index()]);
                    self.acked[lane.index()] = upto;
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("stuck: {:?}", self.status.borrow()));
    }

    async fn stop(self) {
        self.shutdown.send_replace(true);
        drop(self.actions);
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_arrive_once_through_redirects_and_a_change_of_leader() {
    let (group, servers) = start_group(3).await;
    *group.leader.lock().unwrap() = Some(2);
    let addresses = group.addresses.lock().unwrap().clone();
    let mut client = start_client(config(addresses), Shelf::default());
    for n in 0..300 {
        client.shelf.push(Lane::ALL[n % 3], [50, 5_000, 40_000][n / 3 % 3]);
    }
    client.drain().await;
    // The leader changes while more arrives, again and again.
    for round in 0..6 {
        for n in 0..60 {
            client.shelf.push(Lane::ALL[n % 3], 9_000);
        }
        client.wakeups.notify_one();
        let (old, new) = ((round + 2) % 3, (round + 3) % 3);
        *group.leader.lock().unwrap() = Some(new);
        servers[new].leadership.send_replace(Leadership::Leading);
        let leader = group.leader_address();
        servers[old].leadership.send_replace(Leadership::Following { leader: leader.clone() });
        client.drain().await;
        let is_there = client.status.wait_for(|status| {
            let session = status.as_ref().and_then(|status| status.uplink.session.as_ref());
            session.is_some_and(|session| Some(&session.address) == leader.as_ref())
        });
        tokio::time::timeout(PATIENCE, is_there).await.unwrap().unwrap();
    }
    let total: u64 = client.shelf.ends().iter().map(|end| end * 10).sum();
    assert_eq!(group.fresh.load(Ordering::Relaxed), total);
    let state = client.status.borrow_and_update().clone().unwrap();
    assert_eq!(state.uplink.state, LinkState::Online);
    let stats = state.uplink.stats;
    assert!(stats.redirects >= 6 && stats.sessions >= 7, "{stats:?}");
    assert!(group.heartbeats.load(Ordering::Relaxed) >= 1);
    client.stop().await;
    until("the goodbye", || group.goodbyes.lock().unwrap().iter().any(|g| g.contains("shutting down"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_left_for_another() {
    let (group, mut servers) = start_group(2).await;
    let addresses = group.addresses.lock().unwrap().clone();
    let mut client = start_client(config(addresses), Shelf::default());
    client.shelf.push(Lane::Normal, 100);
    client.drain().await;
    let first = servers.remove(0);
    *group.leader.lock().unwrap() = Some(1);
    first.shutdown.send_replace(true);
    tokio::time::timeout(PATIENCE, first.task).await.unwrap().unwrap();
    for _ in 0..50 {
        client.shelf.push(Lane::Bulk, 20_000);
    }
    client.drain().await;
    assert_eq!(group.fresh.load(Ordering::Relaxed), 510);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_block_is_sent_again() {
    let (group, _servers) = start_group(1).await;
    let addresses = group.addresses.lock().unwrap().clone();
    group.drops_next.store(true, Ordering::Relaxed);
    let mut client = start_client(config(addresses), Shelf::default());
    for _ in 0..20 {
        client.shelf.push(Lane::Critical, 2_000);
    }
    client.drain().await;
    assert_eq!(group.fresh.load(Ordering::Relaxed), 200);
    assert!(group.accepted.load(Ordering::Relaxed) >= 2);
    client.stop().await;
}

/// Passes connections on to `target` and cuts the n-th after a number of bytes
/// that grows with n, in either direction.
async fn cutting_proxy(target: String, cuts: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for n in 0.. {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut to = TcpStream::connect(&target).await.unwrap();
            let mut budget = if n < cuts { 40 + n * n * 397 } else { usize::MAX };
            tokio::spawn(async move {
                let (mut up, mut down) = ([0; 700], [0; 90]);
                while budget > 0 {
                    let moved = tokio::select! {
                        read = from.read(&mut up) => match read {
                            Ok(count) if count > 0 => to.write_all(&up[..count.min(budget)]).await.map(|()| count),
                            _ => break,
                        },
                        read = to.read(&mut down) => match read {
                            Ok(count) if count > 0 => from.write_all(&down[..count.min(budget)]).await.map(|()| count),
                            _ => break,
                        },
                    };
                    match moved {
                        Ok(count) => budget = budget.saturating_sub(count),
                        Err(_) => break,
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_arrive_once_over_a_link_that_keeps_breaking() {
    let (group, servers) = start_group(1).await;
    let proxy = cutting_proxy(servers[0].address.to_string(), 40).await;
    let mut client = start_client(config(vec![proxy]), Shelf::default());
    for n in 0..400 {
        client.shelf.push(Lane::ALL[n % 3], 3_000);
    }
    client.drain().await;
    assert_eq!(group.fresh.load(Ordering::Relaxed), 4_000);
    let status = client.status.borrow().clone().unwrap();
    assert!(status.uplink.stats.failures >= 20, "{:?}", status.uplink.stats);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_reports_its_sites() {
    let (group, _servers) = start_group(1).await;
    let addresses = group.addresses.lock().unwrap().clone();
    let client = start_client(SenderConfig { role: Role::Hub, ..config(addresses) }, Shelf::default());
    until("a report", || group.reports.load(Ordering::Relaxed) > 0).await;
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_the_owner() {
    let (group, _servers) = start_group(1).await;
    let addresses = group.addresses.lock().unwrap().clone();
    let mut client = start_client(SenderConfig { agent: "unwanted".into(), ..config(addresses) }, Shelf::default());
    let refusal = async {
        loop {
            if let Some(Action::Rejected { code, message }) = client.actions.recv().await {
                return (code, message);
            }
        }
    };
    let refusal = tokio::time::timeout(PATIENCE, refusal).await.unwrap();
    assert_eq!(refusal, (RejectCode::NotAllowed, "unwanted here".into()));
    client.stop().await;
}

/// Reads frames until the server closes.
async fn last_frames(stream: &mut TcpStream) -> Vec<Frame> {
    let mut decoder = FrameDecoder::for_sender();
    let read = async {
        while let Ok(count) = stream.read_buf(decoder.buffer_mut()).await {
            if count == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn encode(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        protocol_min: 1,
        protocol_max: 1,
        role: Role::Edge,
        sender: site(),
        epoch: EPOCH,
        next_seqs: [0; 3],
        agent: "raw".into(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_is_answered_by_name_and_closed() {
    let (group, servers) = start_group(1).await;
    let mut stream = TcpStream::connect(servers[0].address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
    match last_frames(&mut stream).await.as_slice() {
        [Frame::Reject(reject)] => {
            assert!(reject.code == RejectCode::BadFrame && reject.message.contains("version"), "{reject:?}");
        }
        other => panic!("{other:?}"),
    }
    let mut stream = TcpStream::connect(servers[0].address).await.unwrap();
    stream.write_all(&encode(&hello())).await.unwrap();
    until("the session", || group.accepted.load(Ordering::Relaxed) == 1).await;
    stream.write_all(&encode(&Frame::Block(Bytes::from_static(b"no block at all")))).await.unwrap();
    match last_frames(&mut stream).await.as_slice() {
        [Frame::Welcome(_), Frame::Reject(reject)] => assert_eq!(reject.code, RejectCode::BadBlock),
        other => panic!("{other:?}"),
    }
    until("the count", || servers[0].stats.rejected_total.load(Ordering::Relaxed) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_read_even_by_a_sender_in_full_flow() {
    let (group, servers) = start_group(1).await;
    let mut stream = TcpStream::connect(servers[0].address).await.unwrap();
    stream.write_all(&encode(&hello())).await.unwrap();
    until("the session", || group.accepted.load(Ordering::Relaxed) == 1).await;
    // Nobody reads these any more once the leadership is lost: the close must not reset the connection.
    servers[0].leadership.send_replace(Leadership::Following { leader: Some("elsewhere:1".into()) });
    for n in 0..50 {
        stream.write_all(&encode(&Frame::Block(block(Lane::Bulk, n * 10..n * 10 + 10, 3_000)))).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let frames = last_frames(&mut stream).await;
    let last = frames.last();
    assert!(matches!(last, Some(Frame::Redirect(r)) if r.address.as_deref() == Some("elsewhere:1")), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_bounded_in_time_and_number() {
    let group = Arc::new(Group { leader: Mutex::new(Some(0)), ..Group::default() });
    let receiver = ReceiverConfig { hello_timeout_ms: 30, ..ReceiverConfig::default() };
    let server = start_node(&group, 0, ServerConfig { receiver, ..ServerConfig::default() }).await;
    // A slow starter is sent away although it keeps sending.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&encode(&hello())[..20]).await.unwrap();
    match last_frames(&mut slow).await.as_slice() {
        [Frame::Goodbye(Goodbye { reason })] => assert!(reason.contains("hello"), "{reason}"),
        other => panic!("{other:?}"),
    }
    drop(slow);
    until("the end of it", || server.stats.connections.load(Ordering::Relaxed) == 0).await;
    let server = start_node(&group, 0, ServerConfig { connections_max: 2, ..ServerConfig::default() }).await;
    let mut standing = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&encode(&hello())).await.unwrap();
        standing.push(stream);
    }
    until("both sessions", || group.accepted.load(Ordering::Relaxed) == 2).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(last_frames(&mut third).await, []);
    assert_eq!(server.stats.refused_total.load(Ordering::Relaxed), 1);
    drop(standing);
    server.shutdown.send_replace(true);
    tokio::time::timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_ends_while_nothing_can_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut client = start_client(config(vec![address]), Shelf::default());
    let failing = client.status.wait_for(|status| status.as_ref().is_some_and(|s| s.uplink.stats.failures > 3));
    tokio::time::timeout(PATIENCE, failing).await.unwrap().unwrap();
    client.stop().await;
}
