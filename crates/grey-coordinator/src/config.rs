//! The configuration of a coordinator: the `cloud:` document.

use std::path::PathBuf;

use grey_config::{
    Api, Check, Durability, Duration, GroupKind, Inactive, InactiveKeys, ListenAddress, Listener, Member, NodeError,
    StorageEngine, ThisNode, TierConfig, check_listener, check_members, choice, section, this_node, tier_config,
};
use grey_model::SiteId;

#[cfg(test)]
mod tests;

/// Members of a coordinator's group.
const MEMBERS_MAX: usize = 5;
/// Hubs of a federation that may be listed.
const HUBS_MAX: usize = 1_000;
const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
const SYNC_LISTEN: ListenAddress = ListenAddress::loopback(7200);
const RAFT_LISTEN: ListenAddress = ListenAddress::loopback(7201);
const API_LISTEN: ListenAddress = ListenAddress::loopback(7280);

choice! {
    /// The tier.
    pub enum CoordinatorMode {
        /// The coordinator.
        Coordinator = "coordinator",
    }
}

choice! {
    /// How hubs and the coordinator come to agree.
    pub enum SyncStrategy {
        /// After a while.
        Eventual = "eventual",
    }
}

choice! {
    /// Which of two conflicting writes stays.
    pub enum ConflictResolution {
        /// The later one by its stamp.
        Timestamp = "timestamp",
        /// The later one by its stamp; another name for timestamp.
        Lww = "lww",
        /// Both, merged.
        Crdt = "crdt",
        /// The coordinator's.
        CloudWins = "cloud_wins",
        /// The site's.
        EdgeWins = "edge_wins",
    }
}

section! {
    /// A coordinator.
    pub struct CoordinatorConfig {
        /// The coordinator's name, the same for all members and for ever.
        pub name: SiteId,
        /// Its place in the federation.
        pub grey: CoordinatorGrey = CoordinatorGrey::default(),
        /// The group of its members; the same section as grey.consensus.
        pub consensus: CoordinatorConsensus = CoordinatorConsensus::default(),
        /// The hubs.
        pub federation: Federation = Federation::default(),
        /// Where events are kept.
        pub storage: CoordinatorStorage = CoordinatorStorage::default(),
        /// Services that analyse events.
        pub analytics: Analytics = Analytics::default(),
        /// The HTTP interface and dashboard.
        pub api: Api = Api::default(),
        /// The listener for hubs.
        pub sync: Listener = Listener::default(),
        /// The listener for the other members.
        pub raft: Listener = Listener::default(),
        /// When a hub's block is acknowledged.
        pub durability: Durability = Durability::Fsync,
        /// Allows listeners that other machines reach, without TLS and authentication.
        pub insecure: bool = false,
    }
}

section! {
    /// The coordinator's place in the federation.
    pub struct CoordinatorGrey {
        /// The tier; must be coordinator here.
        pub mode: CoordinatorMode = CoordinatorMode::Coordinator,
        /// The group of its members.
        pub consensus: CoordinatorConsensus = CoordinatorConsensus::default(),
    }
}

section! {
    /// The group of the coordinator's members.
    pub struct CoordinatorConsensus {
        /// Only raft.
        pub kind as "type": Option<GroupKind> = None,
        /// How many members the group has; must agree with members.
        pub nodes: Option<u32> = None,
        /// Members are in several regions.
        pub cross_region: Option<bool> = None,
        /// How long a member waits for its leader before it stands for election, 100ms to 1m. Default: 500ms.
        pub election_timeout: Option<Duration> = None,
        /// The members, the same list on each. Without it the coordinator is a group of one.
        pub members: Vec<Member> = Vec::new(),
    }
}

section! {
    /// The hubs of the federation.
    pub struct Federation {
        /// Their names.
        pub hubs: Vec<SiteId> = Vec::new(),
        /// How hubs and the coordinator come to agree.
        pub sync_strategy: Option<SyncStrategy> = None,
        /// Which of two conflicting writes stays.
        pub conflict_resolution: Option<ConflictResolution> = None,
    }
}

section! {
    /// Where events are kept.
    pub struct CoordinatorStorage {
        /// Where on disk. The option --data-dir wins over it.
        pub data_dir: Option<PathBuf> = None,
        /// The engine of keyed state.
        pub engine: StorageEngine = StorageEngine::Redb,
        /// The service that keeps recent events, such as dynamodb.
        pub hot: Option<String> = None,
        /// The service that keeps older events, such as s3-standard.
        pub warm: Option<String> = None,
        /// The service that keeps the archive, such as s3-glacier.
        pub cold: Option<String> = None,
        /// How long each of them keeps events.
        pub tiering: Tiering = Tiering::default(),
    }
}

section! {
    /// How long events are kept.
    pub struct Tiering {
        /// In the hot store, 1m to 10y.
        pub hot_retention: Duration = Duration::from_secs(86_400),
        /// In the warm store; not less than hot_retention.
        pub warm_retention: Option<Duration> = None,
        /// In the archive; not less than warm_retention.
        pub cold_retention: Option<Duration> = None,
    }
}

section! {
    /// Services that analyse events.
    pub struct Analytics {
        /// The service that takes events as they come, such as kinesis-firehose.
        pub streaming: Option<String> = None,
        /// The service for batches, such as emr.
        pub batch: Option<String> = None,
        /// The service that trains models, such as sagemaker.
        pub ml: Option<String> = None,
    }
}

tier_config!(CoordinatorConfig);

impl CoordinatorConfig {
    /// The defaults of a coordinator that is embedded into a program: a group of one on loopback.
    pub fn default_for_embedding(name: SiteId) -> Self {
        Self {
            name,
            grey: CoordinatorGrey::default(),
            consensus: CoordinatorConsensus::default(),
            federation: Federation::default(),
            storage: CoordinatorStorage::default(),
            analytics: Analytics::default(),
            api: Api::default(),
            sync: Listener::default(),
            raft: Listener::default(),
            durability: Durability::Fsync,
            insecure: false,
        }
    }

    /// The members, from whichever of the two sections lists them; empty for a group of one.
    pub fn members(&self) -> &[Member] {
        if self.consensus.members.is_empty() { &self.grey.consensus.members } else { &self.consensus.members }
    }

    /// How long a member waits for its leader before it stands for election.
    pub fn election_timeout(&self) -> Duration {
        self.consensus.election_timeout.or(self.grey.consensus.election_timeout).unwrap_or(ELECTION_TIMEOUT)
    }

    /// How many members the group is said to have.
    fn nodes(&self) -> Option<u32> {
        self.consensus.nodes.or(self.grey.consensus.nodes)
    }

    /// Which member this process is (`--node-id`), where it listens, and who the others are.
    pub fn this_node(&self, node_id: Option<u64>) -> Result<ThisNode, NodeError> {
        let configured = [self.raft.listen, self.sync.listen, self.api.listen];
        this_node(self.members(), node_id, configured, [RAFT_LISTEN, SYNC_LISTEN, API_LISTEN])
    }

    /// The consensus section that says something, for errors: keys of the other one are not set.
    fn consensus_key(&self, here: bool, key: &str) -> String {
        if here { format!("cloud.consensus.{key}") } else { format!("cloud.grey.consensus.{key}") }
    }

    fn check_group(&self, check: &mut Check<'_>) {
        for key in ["type", "nodes", "cross_region", "election_timeout", "members"] {
            let (one, two) = (self.consensus_key(true, key), self.consensus_key(false, key));
            if check.is_set(&one) && check.is_set(&two) {
                check.reject(&one, format!("is also set as {two}"), "one of the two");
            }
        }
        let key = self.consensus_key(!self.consensus.members.is_empty(), "members");
        check_members(self.members(), &key, MEMBERS_MAX, self.insecure, "cloud", check);
        if let Some(nodes) = self.nodes() {
            let key = self.consensus_key(self.consensus.nodes.is_some(), "nodes");
            check.within(&key, &nodes, 1, MEMBERS_MAX as u32);
            let members = self.members().len();
            if members > 0 && nodes as usize != members {
                let problem = format!("{nodes} nodes, but {members} members are listed");
                check.reject(&key, problem, "their number, or leave it out");
            }
        }
        let key = self.consensus_key(self.consensus.election_timeout.is_some(), "election_timeout");
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(60));
        check.within(&key, &self.election_timeout(), least, most);
    }
}

impl TierConfig for CoordinatorConfig {
    const ROOT: &'static str = "cloud";
    const LIVE: &'static [&'static str] = &[];

    fn resolve(mut self) -> Self {
        if self.members().is_empty() {
            self.raft.listen.get_or_insert(RAFT_LISTEN);
            self.sync.listen.get_or_insert(SYNC_LISTEN);
            self.api.listen.get_or_insert(API_LISTEN);
        }
        if self.grey.consensus.election_timeout.is_none() {
            self.consensus.election_timeout.get_or_insert(ELECTION_TIMEOUT);
        }
        self
    }

    fn check(&self, check: &mut Check<'_>) {
        for (key, listener) in [("raft", self.raft.listen), ("sync", self.sync.listen), ("api", self.api.listen)] {
            if let Some(address) = listener {
                check_listener(check, &format!("cloud.{key}.listen"), address, self.insecure, "cloud");
            }
        }
        self.check_group(check);
        let hubs = &self.federation.hubs;
        if hubs.len() > HUBS_MAX {
            check.reject("cloud.federation.hubs", format!("{} hubs", hubs.len()), format!("at most {HUBS_MAX}"));
        }
        for (n, hub) in hubs.iter().enumerate().take(HUBS_MAX) {
            if hubs[..n].contains(hub) {
                check.reject(&format!("cloud.federation.hubs[{n}]"), format!("{hub} is listed twice"), "each hub once");
            }
        }
        let tiering = &self.storage.tiering;
        let minute = Duration::from_secs(60);
        let decade = Duration::from_secs(10 * 365 * 86_400);
        check.within("cloud.storage.tiering.hot_retention", &tiering.hot_retention, minute, decade);
        let warm = tiering.warm_retention.unwrap_or(tiering.hot_retention);
        check.within("cloud.storage.tiering.warm_retention", &warm, tiering.hot_retention, Duration::MAX);
        let cold = tiering.cold_retention.unwrap_or(warm);
        check.within("cloud.storage.tiering.cold_retention", &cold, warm, Duration::MAX);
    }

    fn inactive(&self) -> Vec<Inactive> {
        let mut keys = InactiveKeys::new(Self::ROOT);
        for (section, at) in [(&self.grey.consensus, "grey.consensus"), (&self.consensus, "consensus")] {
            let timing = "set election_timeout to suit the delay between regions";
            keys.note(section.cross_region == Some(true), &format!("{at}.cross_region"), timing);
        }
        let federation = &self.federation;
        keys.note(!federation.hubs.is_empty(), "federation.hubs", "every hub that connects is taken, listed or not");
        let flows = "events flow upward only, so that nothing conflicts yet";
        keys.note(federation.sync_strategy.is_some(), "federation.sync_strategy", flows);
        keys.note(federation.conflict_resolution.is_some(), "federation.conflict_resolution", flows);
        let storage = &self.storage;
        let hot = "recent events are kept in the coordinator itself";
        keys.note(storage.hot.is_some(), "storage.hot", hot);
        let older = "nothing is archived or removed yet: every event stays in the coordinator's own log";
        let day = Tiering::default().hot_retention;
        keys.note(storage.tiering.hot_retention != day, "storage.tiering.hot_retention", older);
        keys.note(storage.warm.is_some(), "storage.warm", older);
        keys.note(storage.cold.is_some(), "storage.cold", older);
        keys.note(storage.tiering.warm_retention.is_some(), "storage.tiering.warm_retention", older);
        keys.note(storage.tiering.cold_retention.is_some(), "storage.tiering.cold_retention", older);
        let analytics = "nothing is sent to services yet; read /v1/events";
        keys.note(self.analytics.streaming.is_some(), "analytics.streaming", analytics);
        keys.note(self.analytics.batch.is_some(), "analytics.batch", analytics);
        keys.note(self.analytics.ml.is_some(), "analytics.ml", analytics);
        keys.into_vec()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.insecure {
            warnings
                .push("cloud.insecure: listeners take connections from anyone, without TLS and authentication".into());
        }
        if self.durability == Durability::UnsafeNoFsync {
            warnings.push("cloud.durability: a power cut loses blocks that hubs were told are safe".into());
        }
        match (self.nodes(), self.members().len()) {
            (Some(nodes), 0) if nodes > 1 => warnings.push(format!(
                "cloud consensus.nodes is {nodes}, but members are not listed: this coordinator runs as a group of one"
            )),
            (_, members) if members > 0 && members % 2 == 0 => warnings.push(format!(
                "cloud consensus.members lists {members}: an even group survives no more failures than one member less"
            )),
            _ => {}
        }
        warnings
    }
}
