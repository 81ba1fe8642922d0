//! A coordinator's member: its configuration turned into a replicated tier.

use std::path::Path;
use std::time::Duration;

use grey_config::{Durability, NodeError, StorageEngine};
use grey_replica::sites::SiteThresholds;
use grey_replica::{Member, ReplicaConfig, ReplicaNode, StartError};
use grey_store::{Engine, StoreOptions};
use grey_sync::SenderConfig;

use crate::config::CoordinatorConfig;

/// Consensus ticks in an election timeout.
const ELECTION_TICKS: u32 = 10;
/// How often figures of sites are renewed.
const SITES_INTERVAL: Duration = Duration::from_secs(2);

/// Why a coordinator's member could not start.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Which member it is cannot be told.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Starts the member `node_id` of a coordinator; with one member, or none listed, the id may be left out.
pub async fn start(
    config: &CoordinatorConfig,
    node_id: Option<u64>,
    data_dir: &Path,
) -> Result<ReplicaNode, CoordinatorError> {
    let node = config.this_node(node_id)?;
    let listen = [node.raft.to_string(), node.sync.to_string(), node.http.to_string()];
    let member = |m: &grey_config::Member| Member {
        id: m.id,
        raft: m.raft.to_string(),
        sync: m.sync.to_string(),
        http: m.http.to_string(),
    };
    let mut members: Vec<Member> = node.members.iter().map(member).collect();
    if members.is_empty() {
        let [raft, sync, http] = listen.clone();
        members.push(Member { id: node.id, raft, sync, http });
    }
    let replica = ReplicaConfig {
        tier: "coordinator",
        name: config.name.clone(),
        region: String::new(),
        node_id: node.id,
        members,
        listen,
        insecure: config.insecure,
        upstream: Vec::new(),
        uplink: SenderConfig::new(config.name.clone(), Vec::new()),
        tick: Duration::from_millis((config.election_timeout().as_millis() / u64::from(ELECTION_TICKS)).max(1)),
        election_ticks: ELECTION_TICKS..ELECTION_TICKS * 2,
        thresholds: SiteThresholds::default(),
        sites_interval: SITES_INTERVAL,
        store: StoreOptions {
            engine: match config.storage.engine {
                StorageEngine::Redb => Engine::Redb,
                StorageEngine::Sled => Engine::Sled,
            },
            // The index is derived from the log: an engine that loses its tail is only slower to start.
            allow_weak_durability: true,
            ..StoreOptions::default()
        },
        synced: config.durability == Durability::Fsync,
        dashboard: true,
    };
    Ok(ReplicaNode::start(replica, data_dir).await?)
}
