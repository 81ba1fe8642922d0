//! The tiers as the tests start them: quick timings, loopback, their data below one directory.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use grey_config::{Backoff, Duration, ListenAddress, Member};
use grey_coordinator::CoordinatorConfig;
use grey_edge::{EdgeConfig, EdgeNode};
use grey_hub::HubConfig;
use grey_model::SiteId;
use grey_replica::ReplicaNode;
use grey_rules::Forward;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::{http, until};

/// Lets the system choose.
const ANY_PORT: ListenAddress = ListenAddress::loopback(0);
const HEARTBEAT: Duration = Duration::from_millis(200);

pub(crate) fn site(name: &str) -> SiteId {
    SiteId::new(name).expect("a constant name")
}

/// Ports for members that must know each other before they listen. They lie
/// below those that the system gives out for port 0, so nobody takes them
/// between this look and their use; each process begins at another place.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 220) as u16 * 100;
    std::array::from_fn(|_| {
        let candidates = (0..5_000).map(|_| start + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000 % (32_000 - start));
        candidates.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
    })
}

/// The address of one kind of listener.
pub(crate) fn at(addresses: &[(&'static str, SocketAddr)], kind: &str) -> SocketAddr {
    let found = addresses.iter().find(|(known, _)| *known == kind);
    found.map(|(_, address)| *address).unwrap_or_else(|| panic!("no listener {kind} in {addresses:?}"))
}

fn quick() -> Backoff {
    Backoff { initial: Duration::from_millis(20), max: Duration::from_millis(200), ..Backoff::default() }
}

/// An edge agent that sends everything it gets to one of `hubs`.
pub(crate) fn edge_config(name: &str, hubs: &[String]) -> EdgeConfig {
    let mut config = EdgeConfig::default_for_embedding(site(name));
    config.ingest.mqtt.listen = ANY_PORT;
    config.api.listen = Some(ANY_PORT);
    config.forward = Forward::Raw;
    config.heartbeat_interval = HEARTBEAT;
    config.connectivity.backoff = quick();
    config.connectivity.hub_addresses = hubs.iter().map(|hub| hub.parse().expect("an address")).collect();
    config
}

/// A hub of the given members, or of one on any port.
pub(crate) fn hub_config(name: &str, members: &[Member], coordinators: &[SocketAddr]) -> HubConfig {
    let mut config = HubConfig::default_for_embedding(site(name));
    if members.is_empty() {
        (config.sync.listen, config.api.listen) = (Some(ANY_PORT), Some(ANY_PORT));
    }
    config.consensus.members = members.to_vec();
    config.consensus.election_timeout = Duration::from_millis(400);
    config.heartbeat_interval = HEARTBEAT;
    config.site_management.heartbeat_interval = HEARTBEAT;
    config.connectivity.backoff = quick();
    config.connectivity.coordinator_addresses =
        coordinators.iter().map(|to| to.to_string().parse().expect("an address")).collect();
    config
}

/// Three members on ports of their own.
pub(crate) fn three_members() -> Vec<Member> {
    let ports = free_ports::<9>();
    let own =
        |id: usize, which: usize| format!("127.0.0.1:{}", ports[(id - 1) * 3 + which]).parse().expect("an address");
    (1..=3).map(|id| Member { id: id as u64, raft: own(id, 0), sync: own(id, 1), http: own(id, 2) }).collect()
}

pub(crate) async fn start_coordinator(dir: &Path) -> ReplicaNode {
    let mut config = CoordinatorConfig::default_for_embedding(site("head-office"));
    (config.sync.listen, config.api.listen) = (Some(ANY_PORT), Some(ANY_PORT));
    grey_coordinator::start(&config, None, dir).await.expect("the coordinator starts")
}

/// Starts an edge agent, waiting for one before it that was dropped to let go of the directory.
pub(crate) async fn start_edge(config: &EdgeConfig, dir: &Path) -> EdgeNode {
    let node =
        until("the data directory of the edge agent", async || match EdgeNode::start(config.clone(), dir).await {
            Ok(node) => Some(node),
            Err(error) if error.to_string().contains("in use by another process") => None,
            Err(error) => panic!("the edge agent does not start: {error}"),
        })
        .await;
    until("the edge agent is ready", async || node.is_ready().then_some(())).await;
    node
}

/// Starts a member of a hub, waiting likewise.
pub(crate) async fn start_hub(config: &HubConfig, id: u64, dir: &Path) -> ReplicaNode {
    until("the data directory of the hub", async || {
        match grey_hub::start(config, Some(id), dir).await {
            Ok(node) => Some(node),
            Err(error) if error.to_string().contains("in use by another process") => None,
            // Its listeners end a moment after its engine.
            Err(error) if error.to_string().contains("in use") => None,
            Err(error) => panic!("member {id} of the hub does not start: {error}"),
        }
    })
    .await
}

/// A coordinator of one and a hub of three.
pub(crate) struct Federation {
    pub(crate) coordinator: ReplicaNode,
    pub(crate) hub: HubConfig,
    pub(crate) members: BTreeMap<u64, ReplicaNode>,
    pub(crate) dir: TempDir,
}

impl Federation {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let coordinator = start_coordinator(&dir.path().join("coordinator")).await;
        let hub = hub_config("hub-west", &three_members(), &[at(coordinator.addresses(), "sync")]);
        let mut federation = Self { coordinator, hub, members: BTreeMap::new(), dir };
        for id in 1..=3 {
            federation.start_member(id).await;
        }
        federation.leader().await;
        federation
    }

    pub(crate) fn member_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("hub-{id}"))
    }

    pub(crate) async fn start_member(&mut self, id: u64) {
        let node = start_hub(&self.hub, id, &self.member_dir(id)).await;
        self.members.insert(id, node);
    }

    /// Where sites dial.
    pub(crate) fn hubs(&self) -> Vec<String> {
        self.hub.consensus.members.iter().map(|member| member.sync.to_string()).collect()
    }

    /// The member that leads and serves.
    pub(crate) async fn leader(&self) -> u64 {
        until("a leader of the hub", async || {
            for (id, node) in &self.members {
                let status = status(at(node.addresses(), "http")).await;
                if status["consensus"]["serving"] == true && status["consensus"]["role"] == "leader" {
                    return Some(*id);
                }
            }
            None
        })
        .await
    }

    pub(crate) fn coordinator_http(&self) -> SocketAddr {
        at(self.coordinator.addresses(), "http")
    }

    /// Waits until the coordinator has so many events of a site, and returns all of them.
    pub(crate) async fn arrived(&self, site: &str, count: usize) -> Vec<Json> {
        arrived(self.coordinator_http(), site, count).await
    }

    /// Every ledger row of a site at every tier but its own, each balanced, and nothing pending in the end.
    pub(crate) async fn settled(&self, site: &str) -> Vec<Json> {
        let hub = at(self.members[&self.leader().await].addresses(), "http");
        settled(hub, site).await;
        settled(self.coordinator_http(), site).await
    }

    pub(crate) async fn stop(self) {
        for node in self.members.into_values() {
            node.stop().await.expect("a member of the hub stops");
        }
        self.coordinator.stop().await.expect("the coordinator stops");
    }
}

/// `/v1/status`, or null while nobody answers.
pub(crate) async fn status(http: SocketAddr) -> Json {
    http::get(http, "/v1/status").await.map(|answer| answer.json()).unwrap_or_default()
}

/// All events that match, page by page.
pub(crate) async fn events(http: SocketAddr, query: &str, limit: usize) -> Vec<Json> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/events?{query}&limit={limit}{cursor}");
        let answer = http::get(http, &path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let page = answer.json();
        let found = page["events"].as_array().expect("events");
        assert!(found.len() <= limit);
        all.extend(found.iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// Waits until a tier has so many events of a site, and returns all of them.
pub(crate) async fn arrived(http: SocketAddr, site: &str, count: usize) -> Vec<Json> {
    until(&format!("{count} events of {site}"), async || {
        let found = events(http, &format!("site={site}"), 10_000).await;
        (found.len() >= count).then_some(found)
    })
    .await
}

/// The ledger rows of a site; each must balance at any time.
pub(crate) async fn ledger(http: SocketAddr, site: &str) -> Vec<Json> {
    let answer = http::get(http, &format!("/v1/ledger?site={site}")).await.expect("an answer").json();
    let rows = answer["ledger"].as_array().expect("rows").clone();
    for row in &rows {
        assert_eq!(row["balanced"], true, "{row:#}");
    }
    rows
}

/// The ledger rows of a site once nothing waits any more.
pub(crate) async fn settled(http: SocketAddr, site: &str) -> Vec<Json> {
    until(&format!("nothing of {site} waits"), async || {
        let rows = ledger(http, site).await;
        rows.iter().all(|row| row["pending"] == 0).then_some(rows)
    })
    .await
}

/// One column of ledger rows, added up.
pub(crate) fn sum(rows: &[Json], column: &str) -> u64 {
    rows.iter().map(|row| row[column].as_u64().expect("a count")).sum()
}

/// How often each event is there, by device and id.
pub(crate) fn by_id(events: &[Json]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    for event in events {
        *counts.entry((text(&event["device"]), text(&event["id"]))).or_default() += 1;
    }
    counts
}

/// Asserts that each of `ids` of a device is there once, and nothing else of it.
pub(crate) fn each_once(events: &[Json], device: &str, ids: impl IntoIterator<Item = String>) {
    let mut counts = by_id(events);
    counts.retain(|(of, _), _| of == device);
    for id in ids {
        assert_eq!(counts.remove(&(device.to_owned(), id.clone())), Some(1), "{device} {id}");
    }
    assert!(counts.is_empty(), "more than was sent: {counts:?}");
}
