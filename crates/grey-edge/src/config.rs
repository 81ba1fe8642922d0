//! The configuration of an edge agent: the `edge:` document.

use grey_config::{
    Api, Backoff, Check, Cores, DialAddress, Durability, Duration, Inactive, InactiveKeys, Lanes, LinkKind,
    ListenAddress, Size, Storage, StorageEngine, TierConfig, check_addresses, check_listener, choice, section,
    tier_config,
};
use grey_ingest::topic::{DEFAULT_PATTERN, TopicMap};
use grey_link::Schedule;
use grey_model::{Lane, SiteId};
use grey_queue::QueueConfig;
use grey_rules::{Action, Forward, Library, Limits, NoModels, RuleError, RuleSet, RuleSpec, Rules, Streams};

use crate::models::Models;
use crate::webhook::check_url;
use std::path::PathBuf;

mod encryption;
mod link;
#[cfg(test)]
mod tests;

pub use encryption::{Cipher, Encryption, KeyFrom};
pub use link::{Budget, LinkTime};

/// Addresses of hubs that a site may be given.
const HUB_ADDRESSES_MAX: usize = 16;
/// The outbox's share of `hardware.storage`: the other half is for the intake, the system and logs.
const QUEUE_SHARE_OF_STORAGE: u64 = 2;
/// The reserve is at most this part of the outbox.
const RESERVE_PARTS: u64 = 8;
/// Threads that evaluate events.
const WORKERS_MAX: u16 = 64;
/// The outbox where neither `queue.max_bytes` nor `hardware.storage` says how large.
const QUEUE_BYTES_DEFAULT: Size = Size::from_mb(1_000);

choice! {
    /// The tier.
    pub enum EdgeMode {
        /// An edge agent.
        Edge = "edge",
    }
}

choice! {
    /// How the site agrees with itself.
    pub enum EdgeConsensusKind {
        /// One node, no quorum.
        SingleNode = "single-node",
    }
}

choice! {
    /// What a lane does when the outbox is full.
    pub enum OnFull {
        /// Devices wait: acknowledgements are withheld and HTTP answers 429.
        Block = "block",
        /// The oldest events of the lane go, each accounted for.
        DropOldest = "drop_oldest",
        /// New events of the lane are not taken, each accounted for.
        DropNewest = "drop_newest",
    }
}

section! {
    /// An edge agent.
    pub struct EdgeConfig {
        /// The site's id, the same for ever.
        pub site_id: SiteId,
        /// The machine.
        pub hardware: Hardware = Hardware::default(),
        /// The site's place in the federation.
        pub grey: EdgeGrey = EdgeGrey::default(),
        /// How state is kept.
        pub consensus: EdgeConsensus = EdgeConsensus::default(),
        /// The way to the hub.
        pub connectivity: EdgeConnectivity = EdgeConnectivity::default(),
        /// Rules over what devices send.
        pub local_processing: LocalProcessing = LocalProcessing::default(),
        /// Where devices connect.
        pub ingest: Ingest = Ingest::default(),
        /// The HTTP interface.
        pub api: Api = Api::default(),
        /// Which raw readings leave the site.
        pub forward: Forward = Forward::Aggregates,
        /// The outbox.
        pub queue: QueueLimits = QueueLimits::default(),
        /// How lanes share the link.
        pub lanes: Lanes = Lanes::default(),
        /// What is kept on disk.
        pub storage: EdgeStorage = EdgeStorage::default(),
        /// When a device's event is acknowledged.
        pub durability: Durability = Durability::Fsync,
        /// Allows listeners that other machines reach, without TLS and authentication.
        pub insecure: bool = false,
        /// How often the site tells the hub that it lives, 1s to 1h.
        pub heartbeat_interval: Duration = Duration::from_secs(10),
    }
}

section! {
    /// The machine that the agent runs on.
    pub struct Hardware {
        /// What it is, such as raspberry-pi-4.
        pub kind as "type": Option<String> = None,
        /// Its processor.
        pub cpu: Option<Cores> = None,
        /// Its memory.
        pub memory: Option<Size> = None,
        /// Its disk. Half of it is the default of queue.max_bytes.
        pub storage: Option<Storage> = None,
    }
}

section! {
    /// The site's place in the federation.
    pub struct EdgeGrey {
        /// The tier; must be edge here.
        pub mode: EdgeMode = EdgeMode::Edge,
        /// The hub that the site belongs to, by name.
        pub parent_hub: Option<SiteId> = None,
    }
}

section! {
    /// How the site keeps its state.
    pub struct EdgeConsensus {
        /// Only single-node.
        pub kind as "type": EdgeConsensusKind = EdgeConsensusKind::SingleNode,
        /// Checkpoints, from which a restart continues.
        pub state_snapshots: bool = true,
        /// Time between checkpoints, 1s to 1h. A restart replays what came after the last one.
        pub snapshot_interval: Duration = Duration::from_secs(30),
    }
}

section! {
    /// The way to the hub.
    pub struct EdgeConnectivity {
        /// The usual link.
        pub primary: Option<LinkKind> = None,
        /// The link to fall back on.
        pub backup: Option<LinkKind> = None,
        /// How long the site must be able to buffer without a hub.
        pub offline_buffer: Option<Duration> = None,
        /// Longest time that a raw reading waits for its block while connected, up to 1h.
        pub sync_interval: Option<Duration> = None,
        /// The hub's members, host:port each, tried in this order.
        pub hub_addresses: Vec<DialAddress> = Vec::new(),
        /// Waiting between attempts to connect.
        pub backoff: Backoff = Backoff::default(),
        /// Bytes that the uplink may carry. Default: any.
        pub budget: Budget = Budget::default(),
        /// When lanes may use the uplink. Critical events always may unless an entry names their lane.
        pub schedule: Vec<LinkTime> = Vec::new(),
    }
}

section! {
    /// Rules over what devices send.
    pub struct LocalProcessing {
        /// False runs none of the rules.
        pub enabled: bool = true,
        /// The models that anomaly rules name.
        pub models: ModelSettings = ModelSettings::default(),
        /// The streams that exist and the unit of each. With it a condition over another one is an error.
        pub streams: Streams = Streams::default(),
        /// Bounds on what devices and rules may cause.
        pub limits: Limits = Limits::default(),
        /// Threads that evaluate events besides the one that takes them, 0 to 64.
        pub workers: u16 = 0,
        /// The rules.
        pub rules: Vec<RuleSpec> = Vec::new(),
    }
}

section! {
    /// The models that anomaly rules name.
    pub struct ModelSettings {
        /// Where they are: DIR/NAME/VERSION/manifest.json. Default: models in the data directory.
        pub dir: Option<PathBuf> = None,
        /// Looks every 30 s for versions that came or went. Without it SIGHUP and POST /v1/rules/reload do.
        pub watch: bool = false,
    }
}

section! {
    /// Where devices connect.
    pub struct Ingest {
        /// The MQTT server.
        pub mqtt: Mqtt = Mqtt::default(),
        /// Events over HTTP.
        pub http: HttpIngest = HttpIngest::default(),
    }
}

section! {
    /// The MQTT server for devices.
    pub struct Mqtt {
        /// Where it listens.
        pub listen: ListenAddress = ListenAddress::loopback(1883),
        /// Connections at one time, 1 to 1000000.
        pub max_connections: u32 = 16_384,
        /// Largest packet, 1KiB to 16MiB.
        pub max_packet_bytes: Size = Size::from_mib(1),
        /// Topics that are events: each with {device} and {stream} as levels of their own, + and # as in MQTT filters; the first that matches wins.
        pub topics: Vec<String> = vec![DEFAULT_PATTERN.to_owned()],
    }
}

section! {
    /// Events over HTTP.
    pub struct HttpIngest {
        /// A listener of its own for POST /v1/events. Default: served where api.listen is.
        pub listen: Option<ListenAddress> = None,
    }
}

section! {
    /// The outbox: what waits for the hub.
    pub struct QueueLimits {
        /// Bytes on disk over all lanes, from 16MB. Default: half of hardware.storage, else 1GB.
        pub max_bytes: Option<Size> = None,
        /// Size of a file of the outbox, 1MiB to 1GiB, at most a 64th of max_bytes: the unit in which space comes back.
        pub segment_bytes: Size = Size::from_mib(64),
        /// What each lane does when the outbox is full.
        pub on_full: FullPolicies = FullPolicies::default(),
        /// Disk set aside so that a full disk still has room for what makes room, up to an eighth of max_bytes. 0B: none.
        pub reserve_bytes: Size = Size::from_mib(8),
    }
}

section! {
    /// What each lane does when the outbox is full.
    pub struct FullPolicies {
        /// Alerts, anomalies and receipts.
        pub critical: OnFull = OnFull::Block,
        /// Aggregates and ordinary state.
        pub normal: OnFull = OnFull::Block,
        /// Raw readings.
        pub bulk: OnFull = OnFull::DropOldest,
    }
}

section! {
    /// What the site keeps on disk besides the outbox.
    pub struct EdgeStorage {
        /// Where. The option --data-dir wins over it.
        pub data_dir: Option<PathBuf> = None,
        /// The engine of keyed state.
        pub engine: StorageEngine = StorageEngine::Redb,
        /// How long raw events stay for local queries, 0s to 30d.
        pub intake_retention: Duration = Duration::from_secs(3_600),
        /// Bytes of raw events that stay for local queries, from 16MB.
        pub intake_max_bytes: Size = Size::from_mb(1_000),
        /// Encryption of what is on disk.
        pub encryption: Encryption = Encryption::default(),
    }
}

tier_config!(EdgeConfig);

impl EdgeConfig {
    /// The defaults of a site that is embedded into a program: no hub, no rules, listeners on loopback.
    pub fn default_for_embedding(site_id: SiteId) -> Self {
        Self {
            site_id,
            hardware: Hardware::default(),
            grey: EdgeGrey::default(),
            consensus: EdgeConsensus::default(),
            connectivity: EdgeConnectivity::default(),
            local_processing: LocalProcessing::default(),
            ingest: Ingest::default(),
            api: Api::default(),
            forward: Forward::Aggregates,
            queue: QueueLimits::default(),
            lanes: Lanes::default(),
            storage: EdgeStorage::default(),
            durability: Durability::Fsync,
            insecure: false,
            heartbeat_interval: Duration::from_secs(10),
        }
    }

    /// Where the HTTP interface listens.
    pub fn api_listen(&self) -> ListenAddress {
        self.api.listen.unwrap_or(ListenAddress::loopback(7080))
    }

    /// Bytes that the outbox may use.
    pub fn queue_bytes_max(&self) -> u64 {
        let derived = || self.hardware.storage.map(|s| Size::from_bytes(s.size.bytes() / QUEUE_SHARE_OF_STORAGE));
        self.queue.max_bytes.or_else(derived).unwrap_or(QUEUE_BYTES_DEFAULT).bytes()
    }

    /// What a lane does when the outbox is full.
    pub fn on_full(&self, lane: Lane) -> OnFull {
        match lane {
            Lane::Critical => self.queue.on_full.critical,
            Lane::Normal => self.queue.on_full.normal,
            Lane::Bulk => self.queue.on_full.bulk,
        }
    }

    /// The limits and policies of the outbox.
    pub fn queue_config(&self) -> QueueConfig {
        let bytes_max = self.queue_bytes_max();
        QueueConfig {
            bytes_max,
            segment_bytes_max: self.queue.segment_bytes.bytes(),
            on_full: Lane::ALL.map(|lane| match self.on_full(lane) {
                OnFull::Block => grey_queue::OnFull::Block,
                OnFull::DropOldest => grey_queue::OnFull::DropOldest,
                OnFull::DropNewest => grey_queue::OnFull::DropNewest,
            }),
            reserve_bytes: self.queue.reserve_bytes.bytes().min(bytes_max / RESERVE_PARTS),
            ..QueueConfig::default()
        }
    }

    /// When each lane may use the uplink, and whether critical events always may.
    pub fn link_schedule(&self) -> (Schedule, bool) {
        let times = &self.connectivity.schedule;
        (link::schedule(times), !times.iter().any(|time| time.lanes.contains(&Lane::Critical)))
    }

    /// What becomes of events when there is no room for them, one line.
    fn explain_policies(&self) -> String {
        let lanes: Vec<String> = Lane::ALL
            .iter()
            .map(|lane| {
                let policy = match self.on_full(*lane) {
                    OnFull::Block => "devices wait and nothing is lost",
                    OnFull::DropOldest => {
                        "every second reading goes from 85 %, readings become aggregates from 95 %, and then the oldest go"
                    }
                    OnFull::DropNewest => {
                        "every second reading goes from 85 %, readings become aggregates from 95 %, and then new ones are not taken"
                    }
                };
                format!("{lane}: {policy}")
            })
            .collect();
        let size = Size::from_bytes(self.queue_bytes_max());
        format!(
            "when the outbox of {size} fills up, it is packed from 70 % on; {}; each loss is accounted for",
            lanes.join("; ")
        )
    }

    /// The rules in force: those of `local_processing`, none where it is not enabled. Without models.
    pub fn rule_set(&self) -> Result<RuleSet, RuleError> {
        self.rule_set_with(&NoModels)
    }

    /// The rules in force, with the models of a library.
    pub fn rule_set_with(&self, library: &dyn Library) -> Result<RuleSet, RuleError> {
        let mut rules = self.rules();
        if !self.local_processing.enabled {
            rules.rules.clear();
        }
        RuleSet::compile(&rules, library)
    }

    /// The rules in words, and what becomes of events on disk, one line each. The models are those of `models.dir`, where that is set.
    pub fn explain(&self) -> Vec<String> {
        let dir = self.local_processing.models.dir.as_deref();
        let rules = match dir {
            // Nothing is kept by looking.
            Some(dir) => self.rule_set_with(&Models::new(Some(dir), dir, None)),
            None => self.rule_set(),
        };
        let mut lines = rules.map(|rules| rules.explain()).unwrap_or_default();
        lines.push(self.explain_policies());
        lines.push(self.storage.encryption.explain());
        lines
    }

    fn rules(&self) -> Rules {
        let local = &self.local_processing;
        Rules {
            streams: local.streams.clone(),
            limits: local.limits.clone(),
            ..Rules::new(local.rules.clone(), self.forward)
        }
    }

    /// What actions ask of the world that the rules do not know.
    fn check_actions(&self, check: &mut Check<'_>) {
        for (n, rule) in self.local_processing.rules.iter().enumerate() {
            let (action, actions) = match rule {
                RuleSpec::Threshold(rule) => (&rule.action, &rule.actions),
                RuleSpec::Anomaly(rule) => (&rule.action, &rule.actions),
                _ => continue,
            };
            let numbered = actions.iter().enumerate().map(|(m, action)| (format!("actions[{m}]"), action));
            for (key, action) in std::iter::once(("action".to_owned(), action)).chain(numbered) {
                let key = format!("edge.local_processing.rules[{n}].{key}");
                match action {
                    Action::Webhook(webhook) => {
                        if let Err(problem) = check_url(webhook.url.text()) {
                            let problem = format!("{:?} {problem}", webhook.url.text());
                            check.reject(&format!("{key}.webhook.url"), problem, "http://HOST:PORT/PATH");
                        }
                    }
                    Action::Publish(publish) if publish.topic.text().contains(['+', '#', '\0']) => {
                        let problem = format!("{:?} holds a wildcard", publish.topic.text());
                        check.reject(&format!("{key}.publish.topic"), problem, "one topic");
                    }
                    _ => {}
                }
            }
        }
    }

    fn check_rules(&self, check: &mut Check<'_>) {
        for error in RuleSet::check(&self.rules()) {
            match error {
                RuleError::Rule { index, key, problem, allowed, .. } => {
                    check.reject(&format!("edge.local_processing.rules[{index}].{key}"), problem, allowed);
                }
                error => check.reject("edge.local_processing.rules", error.to_string(), ""),
            }
        }
    }
}

impl TierConfig for EdgeConfig {
    const ROOT: &'static str = "edge";
    const LIVE: &'static [&'static str] = &[
        "local_processing.enabled",
        "local_processing.models.watch",
        "local_processing.streams",
        "local_processing.limits",
        "local_processing.rules",
        "forward",
    ];

    fn resolve(mut self) -> Self {
        self.queue.max_bytes = Some(Size::from_bytes(self.queue_bytes_max()));
        self.api.listen = Some(self.api_listen());
        self
    }

    fn check(&self, check: &mut Check<'_>) {
        let day = Duration::from_secs(86_400);
        let second = Duration::from_secs(1);
        let hour = Duration::from_secs(3_600);
        let most = Size::from_bytes(u64::MAX);
        let mqtt = &self.ingest.mqtt;
        check_listener(check, "edge.ingest.mqtt.listen", mqtt.listen, self.insecure, "edge");
        if let Some(listen) = self.ingest.http.listen {
            check_listener(check, "edge.ingest.http.listen", listen, self.insecure, "edge");
        }
        check_listener(check, "edge.api.listen", self.api_listen(), self.insecure, "edge");
        check.within("edge.ingest.mqtt.max_connections", &mqtt.max_connections, 1, 1_000_000);
        let packet = (Size::from_bytes(1_024), Size::from_mib(16));
        check.within("edge.ingest.mqtt.max_packet_bytes", &mqtt.max_packet_bytes, packet.0, packet.1);
        if let Err(error) = TopicMap::new(&mqtt.topics) {
            check.reject("edge.ingest.mqtt.topics", error.to_string(), "patterns such as grey/{device}/{stream}");
        }
        check_addresses(&self.connectivity.hub_addresses, "edge.connectivity.hub_addresses", HUB_ADDRESSES_MAX, check);
        self.connectivity.backoff.check("edge.connectivity.backoff", check);
        check.within("edge.consensus.snapshot_interval", &self.consensus.snapshot_interval, second, hour);
        check.within("edge.heartbeat_interval", &self.heartbeat_interval, second, hour);
        self.lanes.check("edge.lanes", check);
        let queue_bytes = Size::from_bytes(self.queue_bytes_max());
        check.within("edge.queue.max_bytes", &queue_bytes, Size::from_mb(16), most);
        check.within("edge.queue.segment_bytes", &self.queue.segment_bytes, Size::from_mib(1), Size::from_mib(1_024));
        let retention = Duration::from_millis(30 * day.as_millis());
        check.within("edge.storage.intake_retention", &self.storage.intake_retention, Duration::default(), retention);
        check.within("edge.storage.intake_max_bytes", &self.storage.intake_max_bytes, Size::from_mb(16), most);
        let reserve_max = Size::from_mib(1_024);
        check.within("edge.queue.reserve_bytes", &self.queue.reserve_bytes, Size::from_bytes(0), reserve_max);
        if let Some(interval) = &self.connectivity.sync_interval {
            check.within("edge.connectivity.sync_interval", interval, Duration::default(), hour);
        }
        self.connectivity.budget.check(check);
        link::check_schedule(&self.connectivity.schedule, check);
        self.storage.encryption.check(check);
        check.within("edge.local_processing.workers", &self.local_processing.workers, 0, WORKERS_MAX);
        self.check_rules(check);
        self.check_actions(check);
    }

    fn inactive(&self) -> Vec<Inactive> {
        let mut keys = InactiveKeys::new(Self::ROOT);
        let machine = "it describes the machine; no limit is derived from it yet";
        keys.note(self.hardware.kind.is_some(), "hardware.type", machine);
        keys.note(self.hardware.cpu.is_some(), "hardware.cpu", machine);
        keys.note(self.hardware.memory.is_some(), "hardware.memory", machine);
        let snapshots = "checkpoints are taken all the same, since the replay after a crash would have no end";
        keys.note(!self.consensus.state_snapshots, "consensus.state_snapshots", snapshots);
        let link = "links are not managed yet; the operating system chooses the way";
        keys.note(self.connectivity.primary.is_some(), "connectivity.primary", link);
        keys.note(self.connectivity.backup.is_some(), "connectivity.backup", link);
        let buffer = "the outbox is bounded by queue.max_bytes, not by time";
        keys.note(self.connectivity.offline_buffer.is_some(), "connectivity.offline_buffer", buffer);
        let engine = "the agent keeps no keyed state yet";
        keys.note(self.storage.engine != StorageEngine::Redb, "storage.engine", engine);
        keys.into_vec()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.insecure {
            warnings
                .push("edge.insecure: listeners take connections from anyone, without TLS and authentication".into());
        }
        if self.durability == Durability::UnsafeNoFsync {
            warnings.push("edge.durability: a power cut loses events that devices were told are safe".into());
        }
        if self.connectivity.hub_addresses.is_empty() {
            warnings.push("edge.connectivity.hub_addresses is not set: events are kept here until it is".into());
        }
        if !self.local_processing.enabled && !self.local_processing.rules.is_empty() {
            warnings.push("edge.local_processing.enabled is false: no rule runs".into());
        }
        let dir = self.local_processing.models.dir.as_deref();
        // Where the default directory is, is known when the agent starts.
        let rules = match dir {
            Some(dir) => self.rule_set_with(&Models::new(Some(dir), dir, None)),
            None => self.rule_set(),
        };
        let names_model =
            |n: usize| matches!(&self.local_processing.rules[n], RuleSpec::Anomaly(r) if r.model.is_some());
        let unknown: Vec<String> = (0..self.local_processing.rules.len())
            .filter(|n| dir.is_none() && names_model(*n))
            .map(|n| format!("rule {}:", self.local_processing.rules[n].name(n)))
            .collect();
        let mut rules = rules.map(|rules| rules.warnings()).unwrap_or_default();
        rules.retain(|warning| !unknown.iter().any(|rule| warning.starts_with(rule)));
        warnings.extend(rules.into_iter().map(|warning| match warning.starts_with("forward") {
            true => format!("edge.{warning}"),
            false => format!("edge.local_processing: {warning}"),
        }));
        warnings
    }
}
