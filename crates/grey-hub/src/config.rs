//! The configuration of a hub: the `hub:` document.

use std::path::PathBuf;

use grey_config::{
    Api, Backoff, Bandwidth, Check, DialAddress, Durability, Duration, GroupKind, Inactive, InactiveKeys, Lanes,
    LinkKind, ListenAddress, Listener, Member, NodeError, StorageEngine, ThisNode, TierConfig, check_addresses,
    check_listener, check_members, choice, section, this_node, tier_config,
};
use grey_model::SiteId;

#[cfg(test)]
mod tests;

/// Members of a hub's group: beyond seven each write costs more than it protects.
const MEMBERS_MAX: usize = 7;
/// Addresses of coordinators that a hub may be given.
const COORDINATOR_ADDRESSES_MAX: usize = 16;
const SYNC_LISTEN: ListenAddress = ListenAddress::loopback(7100);
const RAFT_LISTEN: ListenAddress = ListenAddress::loopback(7101);
const API_LISTEN: ListenAddress = ListenAddress::loopback(7180);

choice! {
    /// The tier.
    pub enum HubMode {
        /// A regional hub.
        Hub = "hub",
    }
}

section! {
    /// A regional hub.
    pub struct HubConfig {
        /// The hub's name, the same for all members and for ever.
        pub name: SiteId,
        /// Its region, a label of metrics.
        pub location: Option<String> = None,
        /// Its place in the federation.
        pub grey: HubGrey = HubGrey::default(),
        /// The group of its members.
        pub consensus: HubConsensus = HubConsensus::default(),
        /// Roll-ups over its sites.
        pub aggregation: Aggregation = Aggregation::default(),
        /// The way to the coordinator.
        pub connectivity: HubConnectivity = HubConnectivity::default(),
        /// Its sites.
        pub site_management: SiteManagement = SiteManagement::default(),
        /// How often the hub tells the coordinator that it lives, 1s to 1h.
        pub heartbeat_interval: Duration = Duration::from_secs(10),
        /// The HTTP interface.
        pub api: Api = Api::default(),
        /// The listener for sites.
        pub sync: Listener = Listener::default(),
        /// The listener for the other members.
        pub raft: Listener = Listener::default(),
        /// How lanes share the way to the coordinator.
        pub lanes: Lanes = Lanes::default(),
        /// What is kept on disk.
        pub storage: HubStorage = HubStorage::default(),
        /// When a site's block is acknowledged.
        pub durability: Durability = Durability::Fsync,
        /// Allows listeners that other machines reach, without TLS and authentication.
        pub insecure: bool = false,
    }
}

section! {
    /// The hub's place in the federation.
    pub struct HubGrey {
        /// The tier; must be hub here.
        pub mode: HubMode = HubMode::Hub,
        /// The coordinator that the hub belongs to, by name.
        pub parent_cloud: Option<SiteId> = None,
        /// How many sites it is planned for.
        pub managed_sites: Option<u32> = None,
    }
}

section! {
    /// The group of the hub's members.
    pub struct HubConsensus {
        /// Only raft.
        pub kind as "type": GroupKind = GroupKind::Raft,
        /// How many members the group has; must agree with members.
        pub nodes: Option<u32> = None,
        /// How long a member waits for its leader before it stands for election, 100ms to 1m.
        pub election_timeout: Duration = Duration::from_millis(500),
        /// The members, the same list on each. Without it the hub is a group of one.
        pub members: Vec<Member> = Vec::new(),
    }
}

section! {
    /// Roll-ups over the hub's sites.
    pub struct Aggregation {
        /// Length of a window.
        pub window: Option<Duration> = None,
        /// How long roll-ups are kept.
        pub retention: Option<Duration> = None,
    }
}

section! {
    /// The way to the coordinator.
    pub struct HubConnectivity {
        /// The link.
        pub primary: Option<LinkKind> = None,
        /// Its data rate.
        pub bandwidth: Option<Bandwidth> = None,
        /// Time between uploads.
        pub upstream_batch_interval: Option<Duration> = None,
        /// The coordinator's members, host:port each, tried in this order.
        pub coordinator_addresses: Vec<DialAddress> = Vec::new(),
        /// Waiting between attempts to connect.
        pub backoff: Backoff = Backoff::default(),
    }
}

section! {
    /// The hub's sites.
    pub struct SiteManagement {
        /// How often sites are expected to report, 1s to 1h.
        pub heartbeat_interval: Duration = Duration::from_secs(10),
        /// A site that was silent for this long is offline; more than heartbeat_interval.
        pub offline_threshold: Duration = Duration::from_secs(300),
        /// Passes firmware on to sites.
        pub firmware_distribution: Option<bool> = None,
    }
}

section! {
    /// What the hub keeps on disk.
    pub struct HubStorage {
        /// Where. The option --data-dir wins over it.
        pub data_dir: Option<PathBuf> = None,
        /// The engine of keyed state.
        pub engine: StorageEngine = StorageEngine::Redb,
    }
}

tier_config!(HubConfig);

impl HubConfig {
    /// The defaults of a hub that is embedded into a program: a group of one on loopback.
    pub fn default_for_embedding(name: SiteId) -> Self {
        Self {
            name,
            location: None,
            grey: HubGrey::default(),
            consensus: HubConsensus::default(),
            aggregation: Aggregation::default(),
            connectivity: HubConnectivity::default(),
            site_management: SiteManagement::default(),
            heartbeat_interval: Duration::from_secs(10),
            api: Api::default(),
            sync: Listener::default(),
            raft: Listener::default(),
            lanes: Lanes::default(),
            storage: HubStorage::default(),
            durability: Durability::Fsync,
            insecure: false,
        }
    }

    /// Which member this process is (`--node-id`), where it listens, and who the others are.
    pub fn this_node(&self, node_id: Option<u64>) -> Result<ThisNode, NodeError> {
        let configured = [self.raft.listen, self.sync.listen, self.api.listen];
        this_node(&self.consensus.members, node_id, configured, [RAFT_LISTEN, SYNC_LISTEN, API_LISTEN])
    }
}

impl TierConfig for HubConfig {
    const ROOT: &'static str = "hub";
    const LIVE: &'static [&'static str] = &[];

    fn resolve(mut self) -> Self {
        if self.consensus.members.is_empty() {
            self.raft.listen.get_or_insert(RAFT_LISTEN);
            self.sync.listen.get_or_insert(SYNC_LISTEN);
            self.api.listen.get_or_insert(API_LISTEN);
        }
        self
    }

    fn check(&self, check: &mut Check<'_>) {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        for (key, listener) in [("raft", self.raft.listen), ("sync", self.sync.listen), ("api", self.api.listen)] {
            if let Some(address) = listener {
                check_listener(check, &format!("hub.{key}.listen"), address, self.insecure, "hub");
            }
        }
        let members = &self.consensus.members;
        check_members(members, "hub.consensus.members", MEMBERS_MAX, self.insecure, "hub", check);
        if let Some(nodes) = self.consensus.nodes {
            check.within("hub.consensus.nodes", &nodes, 1, MEMBERS_MAX as u32);
            if !members.is_empty() && nodes as usize != members.len() {
                let problem = format!("{nodes} nodes, but {} members are listed", members.len());
                check.reject("hub.consensus.nodes", problem, "their number, or leave it out");
            }
        }
        let election = &self.consensus.election_timeout;
        check.within("hub.consensus.election_timeout", election, Duration::from_millis(100), Duration::from_secs(60));
        let coordinators = &self.connectivity.coordinator_addresses;
        check_addresses(coordinators, "hub.connectivity.coordinator_addresses", COORDINATOR_ADDRESSES_MAX, check);
        self.connectivity.backoff.check("hub.connectivity.backoff", check);
        check.within("hub.heartbeat_interval", &self.heartbeat_interval, second, hour);
        let sites = &self.site_management;
        check.within("hub.site_management.heartbeat_interval", &sites.heartbeat_interval, second, hour);
        let longer = Duration::from_millis(sites.heartbeat_interval.as_millis() + 1);
        let month = Duration::from_secs(30 * 86_400);
        check.within("hub.site_management.offline_threshold", &sites.offline_threshold, longer, month);
        self.lanes.check("hub.lanes", check);
    }

    fn inactive(&self) -> Vec<Inactive> {
        let mut keys = InactiveKeys::new(Self::ROOT);
        keys.note(self.grey.managed_sites.is_some(), "grey.managed_sites", "every site that reports is managed");
        let rollups = "hubs do not roll up yet; what sites send goes up as it is";
        keys.note(self.aggregation.window.is_some(), "aggregation.window", rollups);
        keys.note(self.aggregation.retention.is_some(), "aggregation.retention", rollups);
        let link = "links are not managed yet; the operating system chooses the way";
        keys.note(self.connectivity.primary.is_some(), "connectivity.primary", link);
        keys.note(self.connectivity.bandwidth.is_some(), "connectivity.bandwidth", link);
        let stream = "the uplink streams without waiting for it";
        keys.note(self.connectivity.upstream_batch_interval.is_some(), "connectivity.upstream_batch_interval", stream);
        let expected = self.site_management.heartbeat_interval == SiteManagement::default().heartbeat_interval;
        let own = "each site reports every edge.heartbeat_interval of its own configuration";
        keys.note(!expected, "site_management.heartbeat_interval", own);
        let firmware = self.site_management.firmware_distribution == Some(true);
        keys.note(firmware, "site_management.firmware_distribution", "hubs do not pass firmware on yet");
        keys.into_vec()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.insecure {
            warnings
                .push("hub.insecure: listeners take connections from anyone, without TLS and authentication".into());
        }
        if self.durability == Durability::UnsafeNoFsync {
            warnings.push("hub.durability: a power cut loses blocks that sites were told are safe".into());
        }
        match (self.consensus.nodes, self.consensus.members.len()) {
            (Some(nodes), 0) if nodes > 1 => warnings.push(format!(
                "hub.consensus.nodes is {nodes}, but consensus.members is not set: this hub runs as a group of one"
            )),
            (_, members) if members > 0 && members % 2 == 0 => warnings.push(format!(
                "hub.consensus.members lists {members}: an even group survives no more failures than one member less"
            )),
            _ => {}
        }
        if self.connectivity.coordinator_addresses.is_empty() {
            warnings.push("hub.connectivity.coordinator_addresses is not set: events are kept here until it is".into());
        }
        warnings
    }
}
