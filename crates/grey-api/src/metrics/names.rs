//! Every metric: its name, what it means, and its labels. Dashboards, alerts
//! and `docs/ops/metrics.md` are tested against this list.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// The name in Prometheus text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric that Grey exports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name, with its unit last.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it is in: `seconds`, `bytes`, `events` and so on.
    pub unit: &'static str,
    /// The names of its labels, in the order that values are given in.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// Upper bounds of the buckets of a histogram, ascending.
    pub buckets: &'static [f64],
}

/// Bounds for latencies: from one write to a local disk to a satellite link, in seconds.
pub const LATENCY_BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    30.0,
];
/// Bounds for the answers of models: from a few microseconds to a large network, in seconds.
pub const INFERENCE_BUCKETS: [f64; 15] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.005, 0.01, 0.05,
    0.1, 1.0,
];
/// Bounds for delays that include a site's time offline, in seconds.
pub const DELAY_BUCKETS: [f64; 14] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0, 604_800.0];

const SITE: &[&str] = &["site_id", "hub", "region"];
const SITE_LANE: &[&str] = &["site_id", "hub", "region", "lane"];
const SITE_REASON: &[&str] = &["site_id", "hub", "region", "reason"];
const HUB: &[&str] = &["hub", "region"];
const NODE: &[&str] = &["tier", "node"];

/// Declares each metric once, as a constant and in [`ALL`].
macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$unit:literal] $labels:expr, $help:literal $(, $buckets:expr)?;)*) => {
        $(
            #[doc = $help]
            pub const $ident: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: $labels,
                help: $help,
                buckets: metrics!(@buckets $($buckets)?),
            };
        )*
        /// Every metric.
        pub const ALL: &[&Metric] = &[$(&$ident),*];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { &$buckets };
}

metrics! {
    // A site, as it sees itself or as its hub sees it.
    SITE_ONLINE = Gauge "grey_edge_site_online" ["0 or 1"] SITE, "1 while the site reaches its hub (online or degraded), else 0";
    SITE_STATUS = Gauge "grey_edge_site_status" ["state"] SITE, "State of the site: 0 online, 1 degraded, 2 offline, 3 island";
    SITES_MANAGED = Gauge "grey_edge_sites_managed" ["sites"] HUB, "Sites that the exporter answers for: the number of grey_edge_site_online series it exports for the hub";
    BUFFER_BYTES = Gauge "grey_edge_buffer_bytes" ["bytes"] SITE, "Bytes that wait in the site's store-and-forward buffer";
    BUFFER_CAPACITY = Gauge "grey_edge_buffer_capacity" ["bytes"] SITE, "Bytes that the site's store-and-forward buffer may take";
    EVENTS_PROCESSED = Counter "grey_edge_events_processed_total" ["events"] SITE, "Events that went through the site's rules";
    EVENTS_ACCEPTED = Counter "grey_edge_accepted_total" ["events"] SITE, "Events that the site acknowledged to its devices, all of them durable";
    LAST_SYNC = Gauge "grey_edge_last_sync_timestamp" ["Unix seconds"] SITE, "When the hub last acknowledged something of the site";
    PENDING_EVENTS = Gauge "grey_edge_queue_pending_events" ["events"] SITE_LANE, "Events of a lane that wait for the hub's acknowledgement";
    PENDING_BYTES = Gauge "grey_edge_queue_pending_bytes" ["bytes"] SITE_LANE, "Bytes of a lane that wait for the hub's acknowledgement";
    OLDEST_PENDING_AGE = Gauge "grey_edge_oldest_pending_age_seconds" ["seconds"] SITE, "Age of the oldest event that waits, 0 when none does";
    SITES_REFUSED = Gauge "grey_sites_refused" ["sites"] &[], "Sites left out of this exporter's series because it holds as many as it may";

    // Inside a site.
    EVENTS_REDUCED = Counter "grey_edge_reduced_total" ["events"] SITE, "Events that stayed at the site because a rule filtered, sampled or aggregated them";
    EVENTS_DEDUPLICATED = Counter "grey_edge_deduplicated_total" ["events"] SITE, "Resends by devices that were recognised";
    EVENTS_DROPPED = Counter "grey_edge_dropped_total" ["events"] SITE_REASON, "Events lost for a reason that the ledger names: overflow or damage";
    DEAD_LETTERS = Counter "grey_edge_dead_letters_total" ["messages"] SITE, "Payloads that could not be read and were put aside";
    INTAKE_REFUSED = Counter "grey_edge_refused_total" ["events"] SITE_REASON, "Events that were not accepted and whose device knows: backpressure, full, stopping or failed";
    ALERTS = Counter "grey_edge_alerts_total" ["alerts"] SITE, "Alerts that rules raised";
    INGEST_SECONDS = Histogram "grey_edge_ingest_seconds" ["seconds"] SITE, "From an event's arrival to its acknowledgement, fsync included", LATENCY_BUCKETS;
    COMMIT_SECONDS = Histogram "grey_edge_commit_seconds" ["seconds"] SITE, "One group commit of the intake: write and fsync", LATENCY_BUCKETS;
    MQTT_MESSAGES = Counter "grey_edge_mqtt_messages_total" ["messages"] &["site_id", "hub", "region", "qos"], "PUBLISH packets received, by quality of service";
    MQTT_MALFORMED = Counter "grey_edge_mqtt_malformed_total" ["connections"] SITE_REASON, "MQTT connections closed because a packet broke the protocol, by what was wrong";
    MQTT_COUNTS = Counter "grey_edge_mqtt_counts_total" ["1"] &["site_id", "hub", "region", "what"], "What else the MQTT server counts: connections, bytes, acknowledgements, deliveries, refusals";
    CONNECTIONS = Gauge "grey_edge_connections" ["connections"] &["site_id", "hub", "region", "protocol"], "Open connections of devices and programs: mqtt, http or resp";

    // The outbox of a site, and how it gets away.
    OUTBOX_LEVEL = Gauge "grey_edge_outbox_level" ["level"] SITE, "How full the outbox is: 0 normal, 1 warning (70 %), 2 critical (85 %), 3 emergency (95 %), 4 overflow (100 %, or a full disk)";
    OUTBOX_USED_BYTES = Gauge "grey_edge_outbox_used_bytes" ["bytes"] SITE, "Bytes of disk that the outbox takes, settled blocks that are not given back yet included";
    OUTBOX_RESERVED_BYTES = Gauge "grey_edge_outbox_reserved_bytes" ["bytes"] SITE, "Bytes of disk set aside for a full disk; 0 while the disk is full";
    OUTBOX_STRATUM_BYTES = Gauge "grey_edge_outbox_stratum_bytes" ["bytes"] &["site_id", "hub", "region", "lane", "stratum"], "Bytes of disk of one stratum of a lane: fresh, packed, thinned, rolled or dropped";
    OUTBOX_STEPS = Counter "grey_edge_outbox_steps_total" ["1"] SITE, "Changes of the outbox's level, up and down";
    OUTBOX_FOLDS = Counter "grey_edge_outbox_folds_total" ["1"] SITE, "Rewritings of older blocks into a lower stratum";
    OUTBOX_FOLDED_BYTES = Counter "grey_edge_outbox_folded_bytes_total" ["bytes"] SITE, "Bytes that rewriting older blocks gave back";
    OUTBOX_RANGES = Counter "grey_edge_outbox_ranges_total" ["ranges"] SITE, "Ranges of sequences that receipts were made for: thinned, rolled up, dropped, or lost to damage";
    OUTBOX_AFFECTED = Counter "grey_edge_outbox_affected_total" ["events"] &["site_id", "hub", "region", "lane", "reason"], "Events that do not go up as they were accepted: thinned, rolled_up, dropped or damaged where they were stored, sampled or not_taken when they were new";
    OUTBOX_DAMAGE = Gauge "grey_edge_outbox_damage" ["findings"] SITE, "Findings of damage in the data directory since the start; /v1/status names them";
    OUTBOX_BUDGET_LEFT = Gauge "grey_edge_outbox_budget_left_bytes" ["bytes"] &["site_id", "hub", "region", "period"], "Bytes that the uplink may still carry in this day or billing month, where that is limited";
    OUTBOX_STALLED = Gauge "grey_edge_outbox_stalled" ["0 or 1"] SITE_REASON, "1 while something waits and nothing was acknowledged for a minute, by reason; no series otherwise";

    // The rules of a site.
    DECISION_SECONDS = Histogram "grey_edge_decision_seconds" ["seconds"] SITE, "From an event's arrival to the end of its evaluation by the rules", LATENCY_BUCKETS;
    INFERENCE_SECONDS = Histogram "grey_edge_inference_seconds" ["seconds"] SITE, "One answer of a model", INFERENCE_BUCKETS;
    RULE_COUNTS = Counter "grey_edge_rule_counts_total" ["1"] &["site_id", "hub", "region", "rule", "what"], "What a rule has counted since it is in force: fired, cleared, suppressed, windows, late, ahead, reduced, unit_mismatches";
    ALERTS_BY_STATE = Gauge "grey_edge_alerts" ["alerts"] &["site_id", "hub", "region", "state"], "Alerts that are pending, firing, or firing and acknowledged";
    ALERTS_SUPPRESSED = Counter "grey_edge_alerts_suppressed_total" ["alerts"] SITE, "Alerts that began without an event, because a rule's or the site's rate limit was reached";
    SILENCES = Gauge "grey_edge_silences" ["silences"] SITE, "Silences in force";
    WINDOWS = Counter "grey_edge_windows_total" ["windows"] SITE, "Windows that ended and were sent";
    MISPLACED = Counter "grey_edge_misplaced_total" ["events"] SITE_REASON, "Readings left out of a window: late (after it was sent) or ahead (further ahead of the site's time than allowed)";
    EFFECTS = Counter "grey_edge_effects_total" ["effects"] &["site_id", "hub", "region", "kind", "outcome"], "What alerts caused outside: publish, command or webhook; executed, failed, dropped or retried";
    REQUESTS_WAITING = Gauge "grey_edge_webhooks_waiting" ["requests"] SITE, "Webhooks that are durable and not answered yet";
    MODEL_INFO = Gauge "grey_edge_model_info" ["1"] &["site_id", "hub", "region", "rule", "model", "version"], "Always 1; the labels say which version of a model a rule uses, none when it rests";
    INFERENCES = Counter "grey_edge_inferences_total" ["answers"] &["site_id", "hub", "region", "rule", "model"], "Answers that models gave";
    MODEL_FALLBACKS = Counter "grey_edge_model_fallbacks_total" ["fallbacks"] &["site_id", "hub", "region", "rule", "model"], "Times that a version of a model gave no usable answer and an older one took over, or none was left";
    HOT_SPOTS = Gauge "grey_edge_hot_spots" ["1"] &["site_id", "hub", "region", "kind"], "Devices and streams that get far more than their share of the site's events";
    RECOVERING = Gauge "grey_edge_recovering" ["0 or 1"] SITE, "1 while the site replays its intake after a start";
    RECOVERY_REPLAYED = Gauge "grey_edge_recovery_replayed_records" ["records"] SITE, "Intake records that the replay has applied";
    RECOVERY_TOTAL = Gauge "grey_edge_recovery_records" ["records"] SITE, "Intake records that the replay has to apply";

    // The uplink, of an edge and of a hub.
    UPLINK_CONNECTED = Gauge "grey_uplink_connected" ["0 or 1"] NODE, "1 while a session with the upper tier stands";
    UPLINK_CONNECTS = Counter "grey_uplink_connects_total" ["sessions"] NODE, "Sessions that were established";
    UPLINK_FAILURES = Counter "grey_uplink_failures_total" ["attempts"] NODE, "Attempts that failed and sessions that broke";
    UPLINK_REDIRECTS = Counter "grey_uplink_redirects_total" ["redirects"] NODE, "Times that the upper tier named another node";
    UPLINK_BLOCKS_SENT = Counter "grey_uplink_blocks_sent_total" ["blocks"] NODE, "Blocks sent, resends included";
    UPLINK_BLOCKS_ACKNOWLEDGED = Counter "grey_uplink_blocks_acknowledged_total" ["blocks"] NODE, "Blocks that the upper tier acknowledged";
    UPLINK_SENT_BYTES = Counter "grey_uplink_sent_bytes_total" ["bytes"] NODE, "Bytes sent";
    UPLINK_RECEIVED_BYTES = Counter "grey_uplink_received_bytes_total" ["bytes"] NODE, "Bytes received";
    UPLINK_UNACKNOWLEDGED_BYTES = Gauge "grey_uplink_unacknowledged_bytes" ["bytes"] NODE, "Bytes sent and not acknowledged yet";
    UPLINK_ROUND_TRIP_SECONDS = Gauge "grey_uplink_round_trip_seconds" ["seconds"] NODE, "Round trip of a heartbeat";

    // A hub.
    HUB_EVENTS_RECEIVED = Counter "grey_hub_events_received_total" ["events"] HUB, "Events accepted from edges, each once, counted by the member that accepted them";
    HUB_BLOCKS_RECEIVED = Counter "grey_hub_blocks_received_total" ["blocks"] HUB, "Blocks accepted from edges";
    HUB_DUPLICATE_EVENTS = Counter "grey_hub_duplicate_events_total" ["events"] HUB, "Events that arrived again and were recognised by range";
    HUB_BYTES_RECEIVED = Counter "grey_hub_bytes_received" ["bytes"] HUB, "Bytes of blocks received from edges";
    HUB_BYTES_UPLOADED = Counter "grey_hub_bytes_uploaded" ["bytes"] HUB, "Bytes of blocks acknowledged by the coordinator";
    HUB_QUEUE_DEPTH = Gauge "grey_hub_aggregation_queue_depth" ["events"] HUB, "Events accepted and not yet acknowledged by the coordinator";
    HUB_SESSIONS = Gauge "grey_hub_sessions" ["sessions"] HUB, "Edges connected to this member";
    HUB_ACCEPT_SECONDS = Histogram "grey_hub_accept_seconds" ["seconds"] HUB, "From a block's arrival to its quorum", LATENCY_BUCKETS;

    // The coordinator.
    COORDINATOR_EVENTS_RECEIVED = Counter "grey_coordinator_events_received_total" ["events"] &["hub"], "Events accepted from a hub, each once";
    COORDINATOR_BLOCKS_RECEIVED = Counter "grey_coordinator_blocks_received_total" ["blocks"] &["hub"], "Blocks accepted from a hub";
    COORDINATOR_DUPLICATE_EVENTS = Counter "grey_coordinator_duplicate_events_total" ["events"] &["hub"], "Events that arrived again and were recognised by range";
    COORDINATOR_RECEIVED_BYTES = Counter "grey_coordinator_received_bytes_total" ["bytes"] &["hub"], "Bytes of blocks received from a hub";
    COORDINATOR_STORED_EVENTS = Gauge "grey_coordinator_stored_events" ["events"] &[], "Events that can be queried";
    COORDINATOR_STORED_BYTES = Gauge "grey_coordinator_stored_bytes" ["bytes"] &[], "Bytes of the hot store";
    COORDINATOR_QUERY_SECONDS = Histogram "grey_coordinator_query_seconds" ["seconds"] &[], "One page of an event query", LATENCY_BUCKETS;
    COORDINATOR_DELAY_SECONDS = Histogram "grey_coordinator_event_delay_seconds" ["seconds"] &[], "From the site's stamp to the coordinator's acceptance, time offline included", DELAY_BUCKETS;

    // Consensus of a hub or of the coordinator.
    CONSENSUS_TERM = Gauge "grey_consensus_term" ["term"] NODE, "The Raft term";
    CONSENSUS_IS_LEADER = Gauge "grey_consensus_is_leader" ["0 or 1"] NODE, "1 on the leader";
    CONSENSUS_HAS_LEADER = Gauge "grey_consensus_has_leader" ["0 or 1"] NODE, "1 while the member knows a leader";
    CONSENSUS_COMMIT = Gauge "grey_consensus_commit_index" ["index"] NODE, "Last entry that a quorum holds";
    CONSENSUS_APPLIED = Gauge "grey_consensus_applied_index" ["index"] NODE, "Last entry that the books include";
    CONSENSUS_ELECTIONS = Counter "grey_consensus_elections_total" ["elections"] NODE, "Changes of the leader that the member saw";
    CONSENSUS_SNAPSHOTS = Counter "grey_consensus_snapshots_total" ["snapshots"] NODE, "Checkpoints installed from a peer";
    CONSENSUS_PROPOSE_SECONDS = Histogram "grey_consensus_propose_seconds" ["seconds"] NODE, "From a proposal to its application", LATENCY_BUCKETS;

    // Logs and stores.
    STORAGE_COMMIT_SECONDS = Histogram "grey_storage_commit_seconds" ["seconds"] &["tier", "node", "store"], "One durable commit: write and fsync", LATENCY_BUCKETS;
    STORAGE_BYTES = Gauge "grey_storage_bytes" ["bytes"] &["tier", "node", "store"], "Bytes on disk";
    STORAGE_AVAILABLE_BYTES = Gauge "grey_storage_available_bytes" ["bytes"] &["tier", "node", "store"], "Bytes free on the file system";
    STORAGE_TORN_BYTES = Counter "grey_storage_torn_bytes_total" ["bytes"] &["tier", "node", "store"], "Bytes of torn writes cut off at a start";
    STORAGE_DAMAGED_RECORDS = Counter "grey_storage_damaged_records_total" ["records"] &["tier", "node", "store"], "Records found damaged, skipped and reported";

    // Proof.
    LEDGER_STREAMS = Gauge "grey_ledger_streams" ["streams"] NODE, "Stream keys (site, epoch, lane) in the books";
    LEDGER_UNBALANCED = Gauge "grey_ledger_unbalanced_streams" ["streams"] NODE, "Stream keys whose books do not balance; anything but 0 is a fault";

    // HTTP and the process.
    HTTP_REQUESTS = Counter "grey_http_requests_total" ["requests"] &["method", "route", "status"], "Requests answered";
    HTTP_SECONDS = Histogram "grey_http_request_seconds" ["seconds"] &["route"], "From a request's head to its answer's head", LATENCY_BUCKETS;
    BUILD_INFO = Gauge "grey_build_info" ["1"] &["tier", "version", "revision"], "Always 1; the labels say which program this is";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" ["bytes"] &[], "Resident memory";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" ["bytes"] &[], "Virtual memory";
    PROCESS_CPU = Counter "process_cpu_seconds_total" ["seconds"] &[], "User and system CPU time";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" ["descriptors"] &[], "Open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds" ["descriptors"] &[], "File descriptors that may be open";
    PROCESS_THREADS = Gauge "process_threads" ["threads"] &[], "Threads";
    PROCESS_START = Gauge "process_start_time_seconds" ["Unix seconds"] &[], "When the process started";
}

/// The metric of a name.
pub fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().copied().find(|metric| metric.name == name)
}

/// The table of `docs/ops/metrics.md`, in Markdown.
pub fn table() -> String {
    let mut text = String::from("| Metric | Kind | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for m in ALL {
        let labels = m.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("| `{}` | {} | {} | {labels} | {} |\n", m.name, m.kind.as_str(), m.unit, m.help));
    }
    text
}
