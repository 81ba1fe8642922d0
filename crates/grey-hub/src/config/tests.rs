//! The documented samples, the defaults, and what is said about mistakes.

use std::path::Path;

use grey_config::{Environment, Format, TierConfig, reference};

use super::*;

const REFERENCE: &str = include_str!("../../../../examples/config/hub.yaml");

fn load(text: &str) -> Result<HubConfig, String> {
    HubConfig::load_text(Path::new("hub.yaml"), text, Format::Yaml, &Environment::empty())
        .map(|loaded| loaded.config)
        .map_err(|errors| errors.to_string())
}

/// The configuration with these lines under the root key, as it loads.
fn with(lines: &str) -> Result<HubConfig, String> {
    load(&format!("hub:\n  name: a\n{lines}"))
}

#[test]
fn the_reference_document_means_what_it_says() {
    let config = load(REFERENCE).unwrap();
    assert_eq!((config.name.as_str(), config.location.as_deref()), ("regional-hub-us-west", Some("us-west-2")));
    assert_eq!(config.grey.managed_sites, Some(100));
    assert_eq!(config.consensus.election_timeout.as_millis(), 500);
    assert_eq!(config.aggregation.retention.unwrap().as_millis(), 7 * 86_400_000);
    assert_eq!(config.connectivity.primary, Some(LinkKind::DedicatedFiber));
    assert_eq!(config.connectivity.bandwidth.unwrap().bits_per_second(), 10_000_000_000);
    assert_eq!(config.site_management.offline_threshold.as_millis(), 300_000);
    let inactive: Vec<_> = config.inactive().into_iter().map(|i| i.key_path).collect();
    assert_eq!(
        inactive,
        [
            "hub.grey.managed_sites",
            "hub.aggregation.window",
            "hub.aggregation.retention",
            "hub.connectivity.primary",
            "hub.connectivity.bandwidth",
            "hub.connectivity.upstream_batch_interval",
            "hub.site_management.firmware_distribution",
        ]
    );
    assert!(config.warnings()[0].contains("nodes is 3"), "{:?}", config.warnings());
    let node = config.this_node(None).unwrap();
    assert_eq!((node.id, node.sync, node.raft, node.http), (1, SYNC_LISTEN, RAFT_LISTEN, API_LISTEN));
}

#[test]
fn a_group_is_one_file_for_all_members() {
    let config = load(include_str!("../../../../examples/config/hub-group.yaml")).unwrap();
    let node = config.this_node(Some(2)).unwrap();
    assert_eq!((node.sync.to_string().as_str(), node.raft.to_string().as_str()), ("127.0.0.1:7110", "127.0.0.1:7111"));
    assert_eq!((node.http.to_string().as_str(), node.members.len()), ("127.0.0.1:7190", 3));
    assert!(config.this_node(None).is_err() && config.this_node(Some(4)).is_err());
    assert!(config.warnings().is_empty() && config.inactive().is_empty());
}

#[test]
fn defaults_are_those_of_an_embedded_hub() {
    let config = with("").unwrap();
    assert_eq!(HubConfig::default_for_embedding(config.name.clone()).resolve(), config);
    assert_eq!((config.durability, config.insecure), (Durability::Fsync, false));
    assert_eq!(config.connectivity.coordinator_addresses, []);
}

#[test]
fn rules_between_keys_are_checked() {
    let member =
        |id: u64, host: &str| format!("{{id: {id}, raft: \"{host}:1\", sync: \"{host}:2\", http: \"{host}:3\"}}");
    let group = |members: &[String]| format!("  consensus: {{members: [{}]}}\n", members.join(", "));
    let local = |id: u64| member(id, &format!("127.0.0.{id}"));
    assert!(with(&group(&[local(1), local(2), local(3)])).is_ok());
    assert!(with(&format!("{}  insecure: true\n", group(&[member(1, "hub-1"), member(2, "10.0.0.2")]))).is_ok());
    for (lines, expected) in [
        (group(&[local(1), local(1)]), "hub.consensus.members[1].id: id 1 is already member 0's"),
        (group(&[member(1, "hub-1")]), "hub.consensus.members[0].raft: 0.0.0.0:1 is reachable from other machines"),
        (group(&(1..=9).map(local).collect::<Vec<_>>()), "9 members; allowed: at most 7"),
        ("  consensus: {nodes: 2, members: [{id: 1}]}\n".into(), "hub.consensus.members[0].raft: is missing"),
        (
            format!("  consensus: {{nodes: 2, members: [{}]}}\n", local(1)),
            "hub.yaml:3:22: hub.consensus.nodes: 2 nodes, but 1 members are listed",
        ),
        (
            "  consensus: {election_timeout: 10ms}\n".into(),
            "election_timeout: 10ms is out of range; allowed: 100ms to 1m",
        ),
        (
            "  sync: {listen: \"0.0.0.0:7100\"}\n".into(),
            "hub.sync.listen: 0.0.0.0:7100 is reachable from other machines",
        ),
        (
            "  site_management: {offline_threshold: 5s}\n".into(),
            "offline_threshold: 5s is out of range; allowed: 10001ms to",
        ),
        ("  connectivity: {bandwidth: 10GB}\n".into(), "\"10GB\" has the unknown unit \"GB\""),
        ("  connectivity: {primary: fibre}\n".into(), "did you mean fiber?"),
        ("  grey: {mode: edge}\n".into(), "found \"edge\"; allowed: hub"),
        ("  site_id: x\n".into(), "unknown key \"site_id\"; allowed: name,"),
    ] {
        let errors = with(&lines).unwrap_err();
        assert!(errors.contains(expected), "{lines}{errors}");
    }
    assert!(load("edge: {site_id: a}").unwrap_err().contains("this is an edge agent's (edge-agent) configuration"));
}

#[test]
fn the_effective_configuration_loads_as_itself() {
    for text in [REFERENCE, include_str!("../../../../examples/config/hub-group.yaml"), "hub: {name: 'no'}"] {
        let config = load(text).unwrap();
        let printed = config.effective();
        assert_eq!(load(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}")), config);
        assert_eq!(HubConfig::diff(&config, &load(&printed).unwrap()), []);
    }
}

#[test]
fn the_manual_lists_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let table = reference::markdown(&HubConfig::json_schema());
    let expected = reference::replace_table(&manual, "hub", &table).unwrap();
    if std::env::var_os("GREY_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(manual == expected, "the table of docs/configuration.md is old; run the test with GREY_UPDATE_DOCS=1");
    }
}
