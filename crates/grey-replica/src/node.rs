//! A member of a replicated tier as one object: opens the data directory,
//! starts consensus, the uplink's listener, the uplink to the tier above while
//! it leads, and HTTP; drains on request.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use grey_api::Readiness;
use grey_consensus::{Condition, Role as GroupRole};
use grey_disk::{Disk, RealDisk, UnsyncedDisk};
use grey_ledger::Role;
use grey_model::limits::BLOCK_BYTES_MAX;
use grey_model::{BlockHeader, SiteId};
use grey_net::peers::{Peers, PeersConfig};
use grey_net::uplink_client::{self, LinkStatus, Ports};
use grey_net::uplink_server::{
    self, Completion, HelloAnswer, Leadership, Peer, ServerConfig as UplinkServerConfig, ServerStats, UplinkHost,
};
use grey_net::{ListenError, listen};
use grey_store::{StoreError, StoreOptions};
use grey_sync::{Action, Heartbeat, Hello, ReceiverConfig, ReceiverStats, SenderConfig, SiteReport};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::core::{NewBlock, ReplicaCore, ReplicaError};
use crate::engine::{Engine, EngineError, EngineEvents, EngineHandle, Input, Standing};
use crate::greeting::{greet, leader_address, reports_upward};
use crate::http::{self, Shared};
use crate::index::{BlockIndex, IndexError};
use crate::metrics::TierMetrics;
use crate::outbox::{ReplicaOutbox, SiteSource};
use crate::sites::{Sessions, SiteThresholds};

/// Raft messages that wait for the engine.
const INBOUND_MAX: usize = 4_096;
/// How long stopping may take before what is left is cut off.
const STOP_MAX: Duration = Duration::from_secs(15);

/// One member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, from 1.
    pub id: u64,
    /// `host:port` for consensus.
    pub raft: String,
    /// `host:port` for the tier below.
    pub sync: String,
    /// `host:port` of its HTTP interface.
    pub http: String,
}

/// What a replicated tier is told.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// The tier's name: `hub` or `coordinator`.
    pub tier: &'static str,
    /// The group's name, the same on every member.
    pub name: SiteId,
    /// Where the group is, for metrics.
    pub region: String,
    /// Which member this is.
    pub node_id: u64,
    /// All members.
    pub members: Vec<Member>,
    /// Where this member listens for consensus, the tier below, and HTTP.
    pub listen: [String; 3],
    /// Allows listeners that other machines reach.
    pub insecure: bool,
    /// The tier above, `host:port` of its members; empty for none.
    pub upstream: Vec<String>,
    /// The dial settings towards it.
    pub uplink: SenderConfig,
    /// Time of one consensus tick.
    pub tick: Duration,
    /// Ticks after which a silent leader is replaced, least and most (exclusive).
    pub election_ticks: std::ops::Range<u32>,
    /// When sites count as what.
    pub thresholds: SiteThresholds,
    /// How often what is known of sites is replicated and sent upward.
    pub sites_interval: Duration,
    /// The engine of the block index.
    pub store: StoreOptions,
    /// False acknowledges before the disk is synced: a power cut may lose acknowledged events.
    pub synced: bool,
    /// Serve the dashboard at `/`.
    pub dashboard: bool,
}

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The stored state cannot be opened.
    #[error("cannot open the stored state in {path}: {source}", path = path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<ReplicaError>,
    },
    /// The block index cannot be opened or built.
    #[error("cannot open the block index in {path}: {source}", path = path.display())]
    Index {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<IndexError>,
    },
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The engine's thread cannot be started.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

/// The wall clock, Unix milliseconds.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A random word from the operating system, by way of the standard hasher's keys.
fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A running member of a hub or coordinator.
#[derive(Debug)]
pub struct ReplicaNode {
    addresses: Vec<(&'static str, SocketAddr)>,
    notes: Vec<String>,
    readiness: Readiness,
    handle: EngineHandle,
    metrics: Arc<TierMetrics>,
    peers: Option<Peers>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    engine_end: oneshot::Receiver<Result<(), EngineError>>,
}

impl ReplicaNode {
    /// Opens the data directory and starts every part.
    pub async fn start(config: ReplicaConfig, data_dir: &Path) -> Result<Self, StartError> {
        let no_dir = |source| StartError::DataDir { path: data_dir.into(), source };
        std::fs::create_dir_all(data_dir).map_err(no_dir)?;
        let real = RealDisk::new(data_dir);
        let lock = real.lock().map_err(no_dir)?;
        let disk: Arc<dyn Disk> = if config.synced { Arc::new(real) } else { Arc::new(UnsyncedDisk::new(real)) };
        let mut notes = Vec::new();
        let (core, consensus) = open_core(&config, disk, data_dir, &mut notes)?;
        let index = open_index(data_dir, &config.store, &mut notes)?;
        let (engine, handle) = Engine::new(core, index, config.tick)?;

        let mut addresses = Vec::new();
        let mut open = async |kind: &'static str, address: &str| -> Result<TcpListener, StartError> {
            let (listener, bound) = listen(kind, address, config.insecure).await?;
            addresses.push((kind, bound));
            Ok(listener)
        };
        let [raft_address, sync_address, http_address] = &config.listen;
        let raft = if config.members.len() > 1 { Some(open("raft", raft_address).await?) } else { None };
        let sync = open("sync", sync_address).await?;
        let http = open("http", http_address).await?;

        let metrics = Arc::new(TierMetrics::new(&config));
        let sessions = Arc::new(Sessions::new(config.name.clone(), config.thresholds));
        let outbox_ready = Arc::new(Notify::new());
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let peers = raft.map(|listener| start_peers(&config, &consensus, listener, &handle, &mut tasks));

        let (end_sender, engine_end) = oneshot::channel();
        let mut events =
            Events { peers: peers.clone(), outbox_ready: Arc::clone(&outbox_ready), metrics: Arc::clone(&metrics) };
        std::thread::Builder::new()
            .name(format!("{}-engine", config.tier))
            .spawn(move || {
                let end = engine.run(&mut events);
                // Not before: a dropped node's engine still writes its last checkpoint.
                drop(lock);
                let _ = end_sender.send(end);
            })
            .map_err(StartError::Thread)?;

        if !notes.is_empty() {
            metrics.damaged(notes.len() as u64);
        }
        let readiness = Readiness::new(&["consensus"]);
        let (leadership, leadership_watch) = watch::channel(Leadership::Following { leader: None });
        let (link, link_watch) = watch::channel(None);
        let stats = Arc::new(ServerStats::default());
        let host = Arc::new(Host {
            handle: handle.clone(),
            sessions: Arc::clone(&sessions),
            members: config.members.clone(),
            role: tier_role(&config),
        });
        let server = UplinkServerConfig {
            receiver: ReceiverConfig { node: config.node_id, ..ReceiverConfig::default() },
            ..UplinkServerConfig::default()
        };
        tasks.spawn(uplink_server::serve(sync, server, host, leadership_watch, Arc::clone(&stats), stopping.clone()));

        let shared = Arc::new(Shared {
            tier: config.tier,
            name: config.name.clone(),
            region: config.region.clone(),
            members: config.members.clone(),
            handle: handle.clone(),
            sessions: Arc::clone(&sessions),
            link: link_watch,
            stats,
            has_upstream: !config.upstream.is_empty(),
            started_ms: unix_ms(),
            metrics: Arc::clone(&metrics),
        });
        let router = http::api(&readiness, &metrics, config.dashboard).into_router().with_state(Arc::clone(&shared));
        let http_config =
            grey_api::ServerConfig { metrics: Some(metrics.registry().clone()), ..grey_api::ServerConfig::default() };
        let mut http_stop = stopping.clone();
        tasks.spawn(async move {
            grey_api::serve(http, router, http_config, async move { stopped(&mut http_stop).await }).await;
        });
        let registry = Arc::clone(&metrics);
        let keeper = Keeper {
            config,
            handle: handle.clone(),
            sessions,
            leadership,
            link,
            outbox_ready,
            metrics,
            readiness: readiness.clone(),
            disk: RealDisk::new(data_dir),
            uplink: None,
        };
        tasks.spawn(keeper.run(stopping));
        Ok(Self { addresses, notes, readiness, handle, metrics: registry, peers, stop, tasks, engine_end })
    }

    /// The bound addresses by kind: `raft`, `sync`, `http`.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// What was damaged in the data directory, and what was done about it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What `/metrics` shows, to add to.
    pub fn metrics(&self) -> &grey_api::Metrics {
        self.metrics.registry()
    }

    /// Resolves when the engine has ended by itself: its disk failed.
    pub async fn failed(&mut self) -> EngineError {
        match (&mut self.engine_end).await {
            Ok(Err(error)) => error,
            _ => std::future::pending().await,
        }
    }

    /// Hands leadership over, ends sessions, writes a checkpoint, and ends.
    pub async fn stop(mut self) -> Result<(), EngineError> {
        self.readiness.drain();
        self.handle.send(Input::Stop);
        let ended = tokio::time::timeout(STOP_MAX, &mut self.engine_end).await;
        self.stop.send_replace(true);
        if let Some(peers) = &self.peers {
            peers.stop();
        }
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, drained).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut off");
            self.tasks.abort_all();
        }
        match ended {
            Ok(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}

fn tier_role(config: &ReplicaConfig) -> Role {
    if config.tier == "coordinator" { Role::Keeps } else { Role::Forwards }
}

fn open_core(
    config: &ReplicaConfig,
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    notes: &mut Vec<String>,
) -> Result<(ReplicaCore, grey_consensus::Config), StartError> {
    let members = config.members.iter().map(|member| member.id).collect();
    let mut consensus = grey_consensus::Config::new(config.node_id, members, entropy());
    consensus.tick_ms = config.tick.as_millis() as u64;
    consensus.election_ticks = config.election_ticks.clone();
    let role = tier_role(config);
    let (core, restored) = ReplicaCore::open(disk, Path::new("raft"), role, consensus.clone())
        .map_err(|source| StartError::State { path: data_dir.into(), source: Box::new(source) })?;
    if let Condition::Damaged { .. } = &restored.condition {
        notes.push(format!("the replicated log is damaged ({:?}); this member does not vote until its peers have brought it up to date", restored.condition));
    }
    if let Some(path) = &restored.quarantine {
        notes.push(format!("damaged files are kept in {}", path.display()));
    }
    Ok((core, consensus))
}

/// Opens the block index; one that cannot be read is put aside and built again.
fn open_index(data_dir: &Path, options: &StoreOptions, notes: &mut Vec<String>) -> Result<BlockIndex, StartError> {
    let dir = data_dir.join("index");
    let failed = |source| StartError::Index { path: dir.clone(), source: Box::new(source) };
    match BlockIndex::open(&dir, options) {
        Err(IndexError::Store(error @ StoreError::Damaged { .. })) => {
            let aside = data_dir.join(format!("index-damaged-{}", unix_ms()));
            std::fs::rename(&dir, &aside).map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
            notes.push(format!("the block index was damaged ({error}); it is in {} and built again", aside.display()));
            BlockIndex::open(&dir, options).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

fn start_peers(
    config: &ReplicaConfig,
    consensus: &grey_consensus::Config,
    listener: TcpListener,
    handle: &EngineHandle,
    tasks: &mut JoinSet<()>,
) -> Peers {
    let (inbound, mut received) = mpsc::channel(INBOUND_MAX);
    // Raft learns of silence by its own heartbeats.
    let (unreachable, _) = mpsc::channel(1);
    let members = config.members.iter().map(|member| (member.id, member.raft.clone())).collect();
    let cluster = format!("{}/{}", config.tier, config.name);
    let peers_config = PeersConfig {
        message_bytes_max: consensus.message_bytes_max(),
        seed: entropy(),
        ..PeersConfig::new(config.node_id, cluster, members)
    };
    let engine = handle.clone();
    tasks.spawn(async move {
        while let Some((from, message)) = received.recv().await {
            engine.send(Input::Peer { from, message });
        }
    });
    Peers::start(peers_config, listener, inbound, unreachable)
}

pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Events {
    peers: Option<Peers>,
    outbox_ready: Arc<Notify>,
    metrics: Arc<TierMetrics>,
}

impl EngineEvents for Events {
    fn send(&mut self, to: u64, message: Bytes) {
        if let Some(peers) = &self.peers {
            peers.send(to, message);
        }
    }

    fn applied(&mut self, blocks: &[NewBlock]) {
        self.metrics.blocks_applied(blocks);
        self.outbox_ready.notify_one();
    }

    fn committed(&mut self, events: u32, bytes: usize, took: Duration) {
        self.metrics.block_committed(events, bytes, took);
    }
}

/// Answers the tier below.
struct Host {
    handle: EngineHandle,
    sessions: Arc<Sessions>,
    members: Vec<Member>,
    role: Role,
}

impl Host {
    fn leader_address(&self) -> Option<String> {
        leader_address(&self.handle.standing.borrow().consensus, &self.members)
    }
}

impl UplinkHost for Host {
    fn hello(&self, peer: Peer, hello: &Hello) -> HelloAnswer {
        let (leading, leader) = (self.handle.standing.borrow().leading, self.leader_address());
        let answer = greet(hello, self.role, leading, leader, &self.handle.state.read());
        if matches!(answer, HelloAnswer::Accept { .. }) {
            self.sessions.opened(peer.session, hello, unix_ms());
        }
        answer
    }

    fn propose(&self, _: Peer, block: Bytes, header: BlockHeader, completion: Completion) {
        debug_assert!(block.len() <= BLOCK_BYTES_MAX);
        self.handle.send(Input::Propose { block, events: header.events, completion });
    }

    fn heartbeat(&self, peer: Peer, hello: &Hello, heartbeat: &Heartbeat, _: &ReceiverStats) {
        self.sessions.heard(peer.session, &hello.sender, heartbeat.status.clone(), unix_ms());
    }

    fn sites(&self, _: Peer, hello: &Hello, reports: Vec<SiteReport>) {
        let now_ms = unix_ms();
        let reports = reports.iter().map(|r| self.sessions.report_of_hub(&hello.sender, r, now_ms)).collect();
        self.handle.send(Input::Sites(reports));
    }

    fn disconnected(&self, peer: Peer, hello: &Hello, _: &str, _: &ReceiverStats) {
        self.sessions.closed(peer.session, &hello.sender);
    }
}

/// Follows this member's standing: says who leads, runs the uplink while it
/// leads itself, and replicates what is known of sites.
struct Keeper {
    config: ReplicaConfig,
    handle: EngineHandle,
    sessions: Arc<Sessions>,
    leadership: watch::Sender<Leadership>,
    link: watch::Sender<Option<LinkStatus>>,
    outbox_ready: Arc<Notify>,
    metrics: Arc<TierMetrics>,
    readiness: Readiness,
    disk: RealDisk,
    uplink: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Keeper {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut standing = self.handle.standing.clone();
        let mut sites = tokio::time::interval(self.config.sites_interval);
        sites.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = Vec::new();
        self.follow(&standing.borrow().clone());
        loop {
            tokio::select! {
                changed = standing.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = standing.borrow_and_update().clone();
                    self.follow(&now);
                }
                _ = sites.tick() => {
                    let leads = standing.borrow().leading.is_some();
                    self.report_sites(leads, &mut told);
                }
                () = stopped(&mut stop) => break,
            }
        }
        self.stop_uplink().await;
    }

    fn follow(&mut self, standing: &Standing) {
        let leads = standing.leading.is_some();
        let leadership = if leads {
            Leadership::Leading
        } else {
            Leadership::Following { leader: leader_address(&standing.consensus, &self.config.members) }
        };
        let changed = *self.leadership.borrow() != leadership;
        if changed {
            tracing::info!(role = ?standing.consensus.role, term = standing.consensus.term, leader = ?standing.consensus.leader, "leadership");
            self.leadership.send_replace(leadership);
            if !leads {
                self.sessions.clear();
            }
        }
        self.metrics.standing(standing, changed);
        let waiting = match standing.consensus.role {
            GroupRole::Forming => Some("waiting for the other members of a new group"),
            GroupRole::Recovering => Some("being brought up to date by the other members"),
            _ if standing.consensus.leader.is_none() => Some("no leader is known"),
            GroupRole::Leader if !leads => Some("taking over"),
            _ => None,
        };
        match waiting {
            Some(reason) => self.readiness.not_ready("consensus", reason),
            None => self.readiness.ready("consensus"),
        }
        match (&self.uplink, leads && !self.config.upstream.is_empty()) {
            (None, true) => self.start_uplink(),
            (Some(_), false) => {
                if let Some((stop, _)) = self.uplink.take() {
                    stop.send_replace(true);
                    self.link.send_replace(None);
                }
            }
            _ => {}
        }
    }

    fn start_uplink(&mut self) {
        let (stop, shutdown) = watch::channel(false);
        let (sender, mut actions) = mpsc::channel(256);
        let ports =
            Ports { wakeups: Arc::clone(&self.outbox_ready), actions: sender, status: self.link.clone(), shutdown };
        let (state, sessions) = (self.handle.state.clone(), Arc::clone(&self.sessions));
        let site_source: SiteSource = Arc::new(move || reports_upward(&sessions, &state.read(), unix_ms()));
        let outbox =
            ReplicaOutbox::new(self.handle.state.clone(), self.handle.entries.clone(), site_source, Arc::new(unix_ms));
        let config = SenderConfig { seed: entropy(), ..self.config.uplink.clone() };
        let handle = self.handle.clone();
        let task = tokio::spawn(async move {
            let client = tokio::spawn(uplink_client::run(config, [0; 3], outbox, ports));
            while let Some(action) = actions.recv().await {
                match action {
                    Action::Acked { lane, upto } => handle.send(Input::Forwarded { lane, upto }),
                    Action::Established { address, node, term } => {
                        tracing::info!(address, node, term, "connected to the coordinator");
                    }
                    Action::Unsendable { lane, position, reason } => {
                        tracing::error!(%lane, position, reason, "a block cannot be sent");
                    }
                    Action::OutboxFailed { lane, reason } => tracing::error!(%lane, reason, "the log cannot be read"),
                    Action::Rejected { code, message } => {
                        tracing::error!(?code, message, "the coordinator refused this hub");
                    }
                    Action::Link(change) => tracing::info!(from = %change.from, to = %change.to, "link"),
                    Action::PeerAhead { .. }
                    | Action::Covered { .. }
                    | Action::Dial { .. }
                    | Action::Close { .. }
                    | Action::Drain(_) => {}
                }
            }
            match client.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the uplink's settings are wrong"),
                Err(error) => tracing::error!(%error, "the uplink ended"),
            }
        });
        self.uplink = Some((stop, task));
    }

    async fn stop_uplink(&mut self) {
        if let Some((stop, task)) = self.uplink.take() {
            stop.send_replace(true);
            let _ = task.await;
        }
    }

    fn report_sites(&mut self, leads: bool, told: &mut Vec<grey_ledger::SiteReport>) {
        let now_ms = unix_ms();
        let free_bytes = self.disk.available_bytes().unwrap_or(0);
        self.metrics.figures(&self.handle, &self.sessions, leads, &self.link.borrow(), free_bytes);
        if !leads {
            told.clear();
            return;
        }
        let reports = self.sessions.reports(now_ms);
        if !reports.is_empty() && *told != reports {
            self.handle.send(Input::Sites(reports.clone()));
            *told = reports;
        }
    }
}
