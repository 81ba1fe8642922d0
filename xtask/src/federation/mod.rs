//! A whole federation as real processes on this machine: one coordinator, a
//! hub of several nodes, and edge sites, in one temporary folder.
//!
//! All traffic from a site to the hub, and from the hub to the coordinator,
//! runs through wires of ours ([`wire`]), which count it and can be cut. The
//! federation ends every process that it started when it is dropped.

mod files;
pub(crate) mod http;
mod ports;
mod process;
mod scratch;
mod watch;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) use files::Forward;
pub(crate) use process::Process;
pub(crate) use scratch::Scratch;
pub(crate) use watch::{LedgerRow, SiteView, Snapshot, Watch, by_key, sum};
pub(crate) use wire::Link;

use crate::workspace;
use wire::{Links, Wire};

/// How often a start is tried again when somebody took one of our ports.
const START_ATTEMPTS: u32 = 5;
/// How long a tier may take from its start to `/readyz`.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a tier may take to drain and end after SIGTERM.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);

/// The programs of the tiers, as cargo built them.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// The binaries of a folder, or freshly built ones.
    pub(crate) fn at_or_build(folder: Option<&Path>) -> Result<Self> {
        match folder {
            Some(folder) => Ok(Self { folder: folder.canonicalize().with_context(|| folder.display().to_string())? }),
            None => Self::build(),
        }
    }

    /// Builds the tiers' binaries with cargo's own progress on the terminal.
    pub(crate) fn build() -> Result<Self> {
        let names = ["edge-agent", "hub-server", "coordinator"];
        let mut build = workspace::cargo("build");
        build.args(["--release", "--locked"]).args(names.iter().flat_map(|name| ["--bin", name]));
        workspace::run(&mut build)?;
        let metadata = workspace::metadata(&["--no-deps"])?;
        Ok(Self { folder: PathBuf::from(workspace::text(&metadata, "target_directory")).join("release") })
    }

    fn named(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// One site to start.
#[derive(Debug, Clone)]
pub(crate) struct SitePlan {
    /// Its id.
    pub(crate) name: &'static str,
    /// What it sends up.
    pub(crate) forward: Forward,
    /// Where its data is kept; a folder beside its configuration if nothing is said.
    pub(crate) data_dir: Option<PathBuf>,
    /// Further lines of its configuration, below `edge`.
    pub(crate) more: &'static str,
}

impl SitePlan {
    /// A site as most are.
    pub(crate) const fn new(name: &'static str, forward: Forward) -> Self {
        Self { name, forward, data_dir: None, more: "" }
    }
}

/// One member of a group: where it listens.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    id: u64,
    raft: SocketAddr,
    sync: SocketAddr,
    http: SocketAddr,
    /// Where others reach `sync`: a wire of ours.
    dialled: SocketAddr,
}

/// A node of the hub or of the coordinator.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its process.
    pub(crate) process: Process,
    /// Its HTTP address.
    pub(crate) http: SocketAddr,
}

/// An edge agent.
#[derive(Debug)]
pub(crate) struct Edge {
    /// The site's id.
    pub(crate) name: &'static str,
    /// What it sends up.
    pub(crate) forward: Forward,
    /// Its process.
    pub(crate) process: Process,
    /// Its HTTP address.
    pub(crate) http: SocketAddr,
    /// Where devices connect.
    pub(crate) mqtt: SocketAddr,
    /// Its way to the hub.
    pub(crate) link: Arc<Link>,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Federation {
    /// The coordinator's single node.
    pub(crate) coordinator: Node,
    /// The hub's nodes.
    pub(crate) hubs: Vec<Node>,
    /// The sites.
    pub(crate) edges: Vec<Edge>,
    /// The hub's way to the coordinator.
    pub(crate) upstream: Arc<Link>,
    _wires: Vec<Wire>,
}

impl Federation {
    /// Starts everything and waits until every tier is ready.
    pub(crate) async fn start(
        binaries: &Binaries,
        scratch: &Scratch,
        sites: &[SitePlan],
        hub_nodes: u64,
    ) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let folder = scratch.path().join(format!("start-{attempt}"));
            let mut federation = Self::spawn(binaries, &folder, sites, hub_nodes).await?;
            match federation.ready().await {
                Ok(()) => return Ok(federation),
                Err(error) if attempt < START_ATTEMPTS && federation.lost_a_port() => {
                    eprintln!("somebody took a port ({error:#}), starting again on others");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn spawn(binaries: &Binaries, folder: &Path, sites: &[SitePlan], hub_nodes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut free = ports::free(4 * (hub_nodes as usize + 1) + 2 * sites.len())?.into_iter();
        let mut port = || free.next().context("too few ports were reserved");
        let mut members = Vec::new();
        for id in 1..=hub_nodes {
            members.push(Member { id, raft: port()?, sync: port()?, http: port()?, dialled: port()? });
        }
        let top = Member { id: 1, raft: port()?, sync: port()?, http: port()?, dialled: port()? };

        let to_coordinator = Arc::new(Links::single("hub"));
        let to_hub = Arc::new(Links::named(sites.iter().map(|site| site.name)));
        let mut wires = vec![Wire::open(top.dialled, top.sync, to_coordinator.clone()).await?];
        for member in &members {
            wires.push(Wire::open(member.dialled, member.sync, to_hub.clone()).await?);
        }

        let node = |binary: &str, name: String, member: &Member, config: String| -> Result<Node> {
            let path = folder.join(format!("{name}.yaml"));
            std::fs::write(&path, config)?;
            let mut process = Process::new(&name, binaries.named(binary), folder);
            process.arg("--config").arg(path).arg("--node-id").arg(member.id.to_string());
            process.arg("--data-dir").arg(folder.join(&name));
            process.start()?;
            Ok(Node { process, http: member.http })
        };
        let coordinator = node("coordinator", "coordinator".to_owned(), &top, files::coordinator(&top))?;
        let mut hubs = Vec::new();
        for member in &members {
            let config = files::hub(&members, member, top.dialled);
            hubs.push(node("hub-server", format!("hub-{}", member.id), member, config)?);
        }
        let mut edges = Vec::new();
        for site in sites {
            let (http, mqtt) = (port()?, port()?);
            let path = folder.join(format!("{}.yaml", site.name));
            std::fs::write(&path, files::edge(site, &members, http, mqtt))?;
            let mut process = Process::new(site.name, binaries.named("edge-agent"), folder);
            let data_dir = site.data_dir.clone().unwrap_or_else(|| folder.join(site.name));
            process.arg("--config").arg(path).arg("--data-dir").arg(data_dir);
            process.start()?;
            let link = to_hub.get(site.name).context("every site has a link")?;
            edges.push(Edge { name: site.name, forward: site.forward, process, http, mqtt, link });
        }
        let upstream = to_coordinator.get("hub").context("the hub has a link")?;
        Ok(Self { coordinator, hubs, edges, upstream, _wires: wires })
    }

    async fn ready(&mut self) -> Result<()> {
        let nodes = std::iter::once(&mut self.coordinator).chain(&mut self.hubs);
        let mut waiting: Vec<(&mut Process, SocketAddr)> = nodes.map(|node| (&mut node.process, node.http)).collect();
        waiting.extend(self.edges.iter_mut().map(|edge| (&mut edge.process, edge.http)));
        for (process, http) in waiting {
            ready(process, http).await?;
        }
        Ok(())
    }

    fn lost_a_port(&mut self) -> bool {
        self.processes().any(|process| process.has_ended().is_some() && process.log_says("in use"))
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let nodes = std::iter::once(&mut self.coordinator).chain(&mut self.hubs);
        self.edges.iter_mut().map(|edge| &mut edge.process).chain(nodes.map(|node| &mut node.process))
    }

    /// Fails, with the end of its log, if a process ended that should run.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        for process in self.processes() {
            if let Some(status) = process.has_ended() {
                bail!("{} ended by itself with {status}; its log ends:\n{}", process.name(), process.log_tail(20));
            }
        }
        Ok(())
    }

    /// Follows what the tiers say about themselves.
    pub(crate) fn watch(&self) -> Watch {
        let edges = self.edges.iter().map(|edge| (edge.name, edge.http)).collect();
        Watch::begin(self.coordinator.http, self.hubs.iter().map(|hub| hub.http).collect(), edges)
    }

    /// The addresses a person can try, one line each.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let pid = |process: &Process| process.pid().map_or_else(String::new, |pid| format!("  (pid {pid})"));
        let Node { process, http } = &self.coordinator;
        let mut lines = vec![format!("coordinator   http://{http}/v1/ledger{}", pid(process))];
        for Node { process, http } in &self.hubs {
            lines.push(format!("{:13} http://{http}/v1/status{}", process.name(), pid(process)));
        }
        for Edge { name, process, http, mqtt, .. } in &self.edges {
            lines.push(format!("{name:13} http://{http}/v1/status  mqtt://{mqtt}{}", pid(process)));
        }
        lines
    }

    /// Asks every process to drain and end, sites first; returns those that
    /// did not end with success in time (and were then killed).
    pub(crate) async fn drain(&mut self) -> Vec<String> {
        let mut unclean = Vec::new();
        let deadline = Instant::now() + DRAIN_WITHIN;
        for process in self.processes() {
            if let Err(error) = process.terminate(deadline).await {
                unclean.push(format!("{}: {error:#}", process.name()));
            }
        }
        unclean
    }
}

/// Waits until a process answers `/readyz` with 200.
pub(crate) async fn ready(process: &mut Process, http: SocketAddr) -> Result<()> {
    let began = Instant::now();
    loop {
        if let Some(status) = process.has_ended() {
            bail!(
                "{} ended with {status} before it was ready; its log ends:\n{}",
                process.name(),
                process.log_tail(20)
            );
        }
        if matches!(http::get(http, "/readyz").await, Ok(answer) if answer.status == 200) {
            return Ok(());
        }
        if began.elapsed() > READY_WITHIN {
            bail!("{} was not ready in {READY_WITHIN:?}; its log ends:\n{}", process.name(), process.log_tail(20));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
