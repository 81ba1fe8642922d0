//! A hub's member: its configuration turned into a replicated tier.

use std::path::Path;
use std::time::Duration;

use grey_config::{Durability, NodeError, StorageEngine};
use grey_link::BackoffConfig;
use grey_replica::sites::SiteThresholds;
use grey_replica::{Member, ReplicaConfig, ReplicaNode, StartError};
use grey_store::{Engine, StoreOptions};
use grey_sync::{Role, SenderConfig};

use crate::config::HubConfig;

/// Consensus ticks in an election timeout.
const ELECTION_TICKS: u32 = 10;

/// Why a hub's member could not start.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Which member it is cannot be told.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Starts the member `node_id` of a hub; with one member, or none listed, the id may be left out.
pub async fn start(config: &HubConfig, node_id: Option<u64>, data_dir: &Path) -> Result<ReplicaNode, HubError> {
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
    let upstream: Vec<String> = config.connectivity.coordinator_addresses.iter().map(ToString::to_string).collect();
    let backoff = &config.connectivity.backoff;
    let heartbeat_ms = config.heartbeat_interval.as_millis();
    let uplink = SenderConfig {
        role: Role::Hub,
        agent: concat!("hub-server/", env!("CARGO_PKG_VERSION")).into(),
        heartbeat_interval_ms: heartbeat_ms,
        heartbeat_timeout_ms: heartbeat_ms * 3,
        sites_interval_ms: heartbeat_ms,
        normal_weight: config.lanes.normal.weight,
        bulk_weight: config.lanes.bulk.weight,
        live_share_percent: u8::try_from(config.lanes.live_share).unwrap_or(u8::MAX),
        backoff: BackoffConfig {
            initial_ms: backoff.initial.as_millis(),
            max_ms: backoff.max.as_millis(),
            factor: backoff.factor,
            jitter_percent: backoff.jitter_percent,
            stable_ms: backoff.stable.as_millis(),
        },
        ..SenderConfig::new(config.name.clone(), upstream.clone())
    };
    let replica = ReplicaConfig {
        tier: "hub",
        name: config.name.clone(),
        region: config.location.clone().unwrap_or_default(),
        node_id: node.id,
        members,
        listen,
        insecure: config.insecure,
        upstream,
        uplink,
        tick: Duration::from_millis((config.consensus.election_timeout.as_millis() / u64::from(ELECTION_TICKS)).max(1)),
        election_ticks: ELECTION_TICKS..ELECTION_TICKS * 2,
        thresholds: SiteThresholds {
            offline_ms: config.site_management.offline_threshold.as_millis() as i64,
            ..SiteThresholds::default()
        },
        sites_interval: Duration::from_millis(config.site_management.heartbeat_interval.as_millis()),
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
        dashboard: false,
    };
    Ok(ReplicaNode::start(replica, data_dir).await?)
}
