//! The documented samples, the defaults, and what is said about mistakes.

use std::fs;
use std::path::Path;

use grey_config::{Environment, Format, TierConfig, reference};
use grey_rules::Action;

use super::*;

const REFERENCE: &str = include_str!("../../../../examples/config/edge.yaml");

fn load(text: &str) -> Result<EdgeConfig, String> {
    over(text, &[])
}

fn over(text: &str, variables: &[(&str, &str)]) -> Result<EdgeConfig, String> {
    let environment: Environment = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    EdgeConfig::load_text(Path::new("edge.yaml"), text, Format::Yaml, &environment)
        .map(|loaded| loaded.config)
        .map_err(|errors| errors.to_string())
}

/// The configuration with these lines under `edge:`, as it loads.
fn with(lines: &str) -> Result<EdgeConfig, String> {
    load(&format!("edge:\n  site_id: a\n{lines}"))
}

#[test]
fn the_reference_document_means_what_it_says() {
    let config = load(REFERENCE).unwrap();
    assert_eq!(config.site_id.as_str(), "factory-us-west-015");
    assert_eq!(config.hardware.cpu.unwrap().count(), 4);
    assert_eq!(config.hardware.memory.unwrap().bytes(), 8_000_000_000);
    assert_eq!(config.queue_bytes_max(), 64_000_000_000);
    assert_eq!(config.grey.parent_hub.as_ref().unwrap().as_str(), "regional-hub-us-west");
    assert_eq!(config.consensus.snapshot_interval.as_millis(), 300_000);
    assert_eq!(config.connectivity.backup, Some(LinkKind::Satellite));
    assert_eq!(config.connectivity.offline_buffer.unwrap().as_millis(), 86_400_000);
    let RuleSpec::Threshold(rule) = &config.local_processing.rules[0] else { panic!() };
    assert_eq!(
        (rule.condition.limit(), rule.condition.unit(), rule.action.clone()),
        (Some(85.0), Some("°C"), Action::LocalAlert)
    );
    assert_eq!(config.rule_set().unwrap().explain().len(), 4);
    let inactive: Vec<_> = config.inactive().into_iter().map(|i| i.key_path).collect();
    assert_eq!(
        inactive,
        [
            "edge.hardware.type",
            "edge.hardware.cpu",
            "edge.hardware.memory",
            "edge.connectivity.primary",
            "edge.connectivity.backup",
            "edge.connectivity.offline_buffer",
        ]
    );
    assert!(config.warnings()[0].starts_with("edge.connectivity.hub_addresses is not set"), "{:?}", config.warnings());
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = with("").unwrap();
    assert_eq!(config.ingest.mqtt.listen.to_string(), "127.0.0.1:1883");
    assert_eq!(config.api_listen().to_string(), "127.0.0.1:7080");
    assert_eq!((config.forward, config.durability, config.insecure), (Forward::Aggregates, Durability::Fsync, false));
    assert_eq!(config.queue_bytes_max(), 1_000_000_000);
    assert_eq!(Lane::ALL.map(|lane| config.on_full(lane)), [OnFull::Block, OnFull::Block, OnFull::DropOldest]);
    let queue = config.queue_config();
    assert_eq!((queue.bytes_max, queue.reserve_bytes), (1_000_000_000, 8 << 20));
    assert_eq!((config.lanes.normal.weight, config.lanes.bulk.weight, config.lanes.live_share), (4, 1, 50));
    assert!(config.link_schedule().0 == grey_link::Schedule::always() && config.link_schedule().1);
    assert!(config.storage.encryption.seal().unwrap().0.is_none());
    assert_eq!(config.storage.intake_retention.as_millis(), 3_600_000);
    assert_eq!(config.connectivity.backoff.max.as_millis(), 60_000);
    let embedded = EdgeConfig::default_for_embedding(config.site_id.clone());
    assert_eq!(embedded.resolve(), config);
    assert!(config.inactive().is_empty());
}

#[test]
fn yaml_and_toml_say_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/config");
    let yaml = EdgeConfig::load(&root.join("edge-local.yaml"), &Environment::empty()).unwrap().config;
    let toml = EdgeConfig::load(&root.join("edge-local.toml"), &Environment::empty()).unwrap().config;
    assert_eq!(EdgeConfig::diff(&yaml, &toml), []);
    assert_eq!(yaml, toml);
    assert_eq!(yaml.connectivity.hub_addresses[2].to_string(), "127.0.0.1:7120");
}

#[test]
fn the_effective_configuration_loads_as_itself() {
    for text in [REFERENCE, include_str!("../../../../examples/config/edge-local.yaml"), "edge: {site_id: 'no'}"] {
        let config = load(text).unwrap();
        let printed = config.effective();
        assert_eq!(load(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}")), config);
        assert!(printed.contains("max_bytes: "), "{printed}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = over(
        "edge: {site_id: a}",
        &[
            ("GREY_EDGE__SITE_ID", "b"),
            ("GREY_EDGE__CONNECTIVITY__HUB_ADDRESSES", "[hub-1:7100, hub-2:7100]"),
            ("GREY_EDGE__INGEST__MQTT__LISTEN", "127.0.0.1:0"),
            ("GREY_EDGE__LOCAL_PROCESSING__RULES__0", "{type: threshold, condition: 't > 1'}"),
            ("GREY_HUB__NAME", "other"),
        ],
    )
    .unwrap();
    assert_eq!(config.site_id.as_str(), "b");
    assert_eq!(config.connectivity.hub_addresses.len(), 2);
    assert_eq!(config.local_processing.rules.len(), 1);
    let error = over("edge: {site_id: a}", &[("GREY_EDGE__SITEID", "b")]).unwrap_err();
    assert!(
        error.starts_with("edge.yaml: environment variable GREY_EDGE__SITEID: edge.siteid: unknown key \"siteid\"")
            && error.ends_with("did you mean site_id?"),
        "{error}"
    );
}

#[test]
fn mistakes_are_reported_together_each_at_its_line() {
    let text = "\
edge:
  site_id: factory 15
  hardwear:
    cpu: 4 cores
  consensus:
    type: raft
    snapshot_interval: 5
  connectivity:
    offline_buffer: 24 hours
    hub_addresses: [hub-1, \"hub-2:0\"]
  local_processing:
    enabled: yes
    rules:
      - type: threshold
        condition: \"temperature > 85 bananas\"
      - type: treshold
        condition: x > 1
      - type: aggregate
        interval: 1m
        fields: [avg, median]
";
    let errors = load(text).unwrap_err();
    let expected = [
        "edge.yaml:2:12: edge.site_id: id \"factory 15\" may hold only",
        "edge.yaml:3:3: edge.hardwear: unknown key \"hardwear\"; allowed: site_id, hardware,",
        "edge.yaml:6:11: edge.consensus.type: found \"raft\"; allowed: single-node",
        "edge.yaml:7:24: edge.consensus.snapshot_interval: \"5\" has no unit: write for example \"5s\"",
        "edge.yaml:9:21: edge.connectivity.offline_buffer: \"24 hours\" has the unknown unit \"hours\"",
        "edge.yaml:10:21: edge.connectivity.hub_addresses[0]: \"hub-1\" has no port",
        "edge.yaml:10:28: edge.connectivity.hub_addresses[1]: \"hub-2:0\" has port 0",
        "edge.yaml:12:14: edge.local_processing.enabled: found \"yes\"; allowed: true or false; write true",
        "edge.yaml:15:38: edge.local_processing.rules[0].condition: in \"temperature > 85 bananas\" the unit \"bananas\" is unknown",
        "edge.yaml:16:15: edge.local_processing.rules[1].type: found \"treshold\"; allowed: threshold, anomaly, aggregate, filter, spectrum; did you mean threshold?",
        "edge.yaml:20:23: edge.local_processing.rules[2].fields[1]: found \"median\"; allowed: avg, min,",
    ];
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{errors}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nshould start with\n{expected}");
    }
    assert!(lines[1].ends_with("did you mean hardware?"), "{}", lines[1]);
}

#[test]
fn rules_between_keys_are_checked() {
    for (lines, expected) in [
        (
            "  api: {listen: \"0.0.0.0:7080\"}\n",
            "edge.yaml:3:17: edge.api.listen: 0.0.0.0:7080 is reachable from other machines",
        ),
        ("  ingest: {mqtt: {listen: \"[::]:1883\"}}\n", "edge.ingest.mqtt.listen: [::]:1883 is reachable"),
        ("  ingest: {http: {listen: \"10.0.0.1:80\"}}\n", "edge.ingest.http.listen: 10.0.0.1:80 is reachable"),
        ("  ingest: {mqtt: {topics: [\"grey/{device}\"]}}\n", "edge.ingest.mqtt.topics: topic pattern"),
        ("  ingest: {mqtt: {topics: []}}\n", "edge.ingest.mqtt.topics: no topic pattern"),
        (
            "  ingest: {mqtt: {max_connections: 0}}\n",
            "edge.ingest.mqtt.max_connections: 0 is out of range; allowed: 1 to 1000000",
        ),
        ("  queue: {max_bytes: 1mb}\n", "edge.queue.max_bytes: 1MB is out of range; allowed: 16MB to"),
        ("  queue: {segment_bytes: 1}\n", "edge.queue.segment_bytes: 1B is out of range; allowed: 1MiB to 1GiB"),
        ("  hardware: {storage: 8MB}\n", "edge.queue.max_bytes: 4MB is out of range"),
        ("  heartbeat_interval: 0s\n", "edge.heartbeat_interval: 0s is out of range; allowed: 1s to 1h"),
        ("  connectivity: {hub_addresses: [\"h:1\", \"h:1\"]}\n", "hub_addresses[1]: h:1 is listed twice"),
        (
            "  connectivity: {backoff: {initial: 5m}}\n",
            "edge.connectivity.backoff.max: 1m is out of range; allowed: 5m to 1d",
        ),
        ("  lanes: {bulk: {weight: 0}}\n", "edge.lanes.bulk.weight: 0 is out of range"),
        ("  lanes: {critical: {weight: 2}}\n", "unknown key \"critical\"; allowed: normal, bulk, live_share"),
        ("  lanes: {live_share: 100}\n", "edge.lanes.live_share: 100 is out of range; allowed: 1 to 99"),
        (
            "  connectivity: {budget: {billing_day: 31}}\n",
            "edge.connectivity.budget.billing_day: 31 is out of range; allowed: 1 to 28",
        ),
        ("  connectivity: {schedule: [{from: \"22:00\", to: \"6\"}]}\n", "edge.connectivity.schedule[0]: "),
        (
            "  storage: {encryption: {keys: [{file: k, env: K}]}}\n",
            "edge.storage.encryption.keys[0]: does not name one place; allowed: one of file, env, command",
        ),
        ("  storage: {encryption: {cipher: des}}\n", "found \"des\"; allowed: auto, aes-256-gcm, chacha20-poly1305"),
        ("  durability: fast\n", "found \"fast\"; allowed: fsync, unsafe_no_fsync"),
        ("  forward: aggregate\n", "did you mean aggregates?"),
        ("  grey: {mode: hub}\n", "edge.grey.mode: found \"hub\"; allowed: edge"),
        ("  hardware: 7\n", "found \"7\"; allowed: a section with the keys type, cpu, memory, storage"),
        (
            "  local_processing:\n    rules: [{type: threshold, name: x, condition: a > 1}, {type: threshold, name: x, condition: a > 2}]\n",
            "edge.yaml:4:83: edge.local_processing.rules[1].name: is already the name of rule 1",
        ),
        (
            "  local_processing:\n    rules: [{type: threshold, condition: a > 1, actions: [{webhook: {url: \"https://x/\"}}]}]\n",
            "rules[0].actions[0].webhook.url: \"https://x/\" https is not offered yet, since the agent has no TLS",
        ),
        (
            "  local_processing:\n    rules: [{type: threshold, condition: a > 1, action: {webhook: {url: here}}}]\n",
            "rules[0].action.webhook.url: \"here\" is no address such as http://",
        ),
        (
            "  local_processing:\n    rules: [{type: threshold, condition: a > 1, action: {publish: {topic: \"a/#\"}}}]\n",
            "rules[0].action.publish.topic: \"a/#\" holds a wildcard",
        ),
        ("  local_processing: {workers: 65}\n", "edge.local_processing.workers: 65 is out of range; allowed: 0 to 64"),
        (
            "  local_processing:\n    rules: [{type: aggregate, interval: 1ms}]\n",
            "rules[0].interval: 1ms is out of range; allowed: 100ms to 1w",
        ),
    ] {
        let errors = with(lines).unwrap_err();
        assert!(errors.contains(expected), "{lines}{errors}");
    }
    let open = with("  insecure: true\n  api: {listen: \"0.0.0.0:0\"}\n").unwrap();
    assert!(open.warnings()[0].starts_with("edge.insecure"));
}

#[test]
fn budgets_schedules_and_policies_are_as_written() {
    let config = with(
        "  queue: {max_bytes: 16MB, on_full: {normal: drop_newest}}\n  connectivity:\n    budget: {per_month: 500MB, billing_day: 15}\n    schedule: [{lanes: [bulk], from: \"22:00\", to: \"06:00\", days: [mon-fri]}]\n",
    )
    .unwrap();
    let budget = config.connectivity.budget.to_config();
    assert_eq!((budget.bytes_per_month, budget.billing_day, budget.bytes_per_s), (Some(500_000_000), 15, None));
    let (schedule, exempts_critical) = config.link_schedule();
    // 1970-01-05 was a Monday.
    let monday_ms = 4 * 86_400_000;
    let open = [12, 23].map(|hour| schedule.open(monday_ms + hour * 3_600_000, Lane::Bulk));
    assert_eq!((open, schedule.open(monday_ms, Lane::Normal), exempts_critical), ([false, true], true, true));
    assert_eq!(config.queue_config().on_full[1], grey_queue::OnFull::DropNewest);
    assert_eq!(config.queue_config().reserve_bytes, 2_000_000, "an eighth");
    let said = config.explain();
    assert!(said.iter().any(|line| line.contains("critical: devices wait and nothing is lost")), "{said:?}");
}

#[test]
fn the_first_key_seals_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n").unwrap();
    let keys =
        |path: &Path| with(&format!("  storage: {{encryption: {{keys: [{{file: {}}}]}}}}\n", path.display())).unwrap();
    let (seal, _) = keys(&path).storage.encryption.seal().unwrap();
    assert!(seal.unwrap().sealing().is_some());
    let error = keys(&dir.path().join("none")).storage.encryption.seal().unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn files_that_are_no_configuration_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let errors = EdgeConfig::load(&path, &Environment::empty()).unwrap_err();
        assert_eq!(errors.file(), path);
        errors.errors()[0].to_string()
    };
    assert!(fails("empty.yaml", b"").contains("the file is empty; allowed: a section edge"));
    assert!(fails("comment.toml", b"# nothing\n").contains("the file is empty"));
    assert!(fails("null.yaml", b"edge:\n").contains("the section edge is empty"));
    assert!(fails("list.yaml", b"- 1\n").contains("found a list of 1"));
    assert!(fails("bytes.yaml", b"edge:\n  site_id: \xff\n").contains("line 2 is not UTF-8"));
    assert!(fails("edge.json", b"{}").contains("allowed: .yaml, .yml or .toml"));
    assert!(fails("hub.yaml", b"hub: {name: x}\n").contains("this is a hub's (hub-server) configuration"));
    assert!(fails("typo.yaml", b"egde: {site_id: x}\n").contains("did you mean edge?"));
    assert!(fails("torn.toml", b"[edge\n").contains("not TOML"));
    assert!(fails("torn.yaml", b"edge: {site_id: [\n").contains("not YAML"));
    assert!(fails("large.yaml", &vec![b'#'; 1_100_000]).contains("too large"));

    let missing = EdgeConfig::load(&dir.path().join("none.yaml"), &Environment::empty()).unwrap_err();
    assert!(
        missing.to_string().ends_with("none.yaml: there is no such file; allowed: a configuration file"),
        "{missing}"
    );
    let directory = dir.path().join("dir.yaml");
    fs::create_dir(&directory).unwrap();
    assert!(EdgeConfig::load(&directory, &Environment::empty()).unwrap_err().to_string().contains("is a directory"));
    // The system refuses this read even to root, who is refused no other.
    let unreadable = dir.path().join("loop.yaml");
    std::os::unix::fs::symlink(&unreadable, &unreadable).unwrap();
    assert!(EdgeConfig::load(&unreadable, &Environment::empty()).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_reload_knows_what_needs_a_restart() {
    let old = load(REFERENCE).unwrap();
    let mut new = old.clone();
    assert_eq!(EdgeConfig::diff(&old, &new), []);
    new.forward = Forward::Raw;
    new.connectivity.hub_addresses.push("hub:7100".parse().unwrap());
    new.local_processing.rules.pop();
    new.queue.max_bytes = Some(Size::from_mb(500));
    let changes = EdgeConfig::diff(&old, &new);
    let shown: Vec<_> = changes.iter().map(|c| (c.key_path.as_str(), c.restart)).collect();
    assert_eq!(
        shown,
        [
            ("edge.connectivity.hub_addresses", true),
            ("edge.local_processing.rules", false),
            ("edge.forward", false),
            ("edge.queue.max_bytes", true),
        ]
    );
    assert_eq!((changes[3].before.as_deref(), changes[3].after.as_deref()), (Some("\"64GB\""), Some("\"500MB\"")));
}

#[test]
fn the_manual_lists_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let manual = fs::read_to_string(&path).unwrap();
    let expected = reference::replace_table(&manual, "edge", &reference::markdown(&EdgeConfig::json_schema())).unwrap();
    if std::env::var_os("GREY_UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    } else {
        assert!(manual == expected, "the table of docs/configuration.md is old; run the test with GREY_UPDATE_DOCS=1");
    }
}

#[test]
fn the_schema_describes_the_document() {
    let schema = EdgeConfig::json_schema();
    let edge = &schema["properties"]["edge"];
    assert_eq!(edge["required"], grey_config::json!(["site_id"]));
    assert_eq!(edge["properties"]["forward"]["default"], "aggregates");
    assert_eq!(edge["properties"]["ingest"]["properties"]["mqtt"]["properties"]["listen"]["default"], "127.0.0.1:1883");
    assert_eq!(
        edge["properties"]["local_processing"]["properties"]["rules"]["items"]["oneOf"].as_array().unwrap().len(),
        5
    );
}
