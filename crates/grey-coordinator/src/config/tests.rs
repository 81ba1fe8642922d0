//! The documented samples, the defaults, and what is said about mistakes.

use std::path::Path;

use grey_config::{Environment, Format, TierConfig, reference};

use super::*;

const REFERENCE: &str = include_str!("../../../../examples/config/coordinator.yaml");

fn load(text: &str) -> Result<CoordinatorConfig, String> {
    CoordinatorConfig::load_text(Path::new("cloud.yaml"), text, Format::Yaml, &Environment::empty())
        .map(|loaded| loaded.config)
        .map_err(|errors| errors.to_string())
}

/// The configuration with these lines under the root key, as it loads.
fn with(lines: &str) -> Result<CoordinatorConfig, String> {
    load(&format!("cloud:\n  name: a\n{lines}"))
}

#[test]
fn the_reference_document_means_what_it_says() {
    let config = load(REFERENCE).unwrap();
    assert_eq!(config.name.as_str(), "grey-cloud-primary");
    assert_eq!((config.grey.consensus.nodes, config.grey.consensus.cross_region), (Some(5), Some(true)));
    assert_eq!(config.federation.hubs.len(), 3);
    assert_eq!(config.federation.conflict_resolution, Some(ConflictResolution::Timestamp));
    let tiering = &config.storage.tiering;
    assert_eq!(tiering.hot_retention.as_millis(), 86_400_000);
    assert_eq!(tiering.cold_retention.unwrap().as_millis(), 7 * 365 * 86_400_000);
    let inactive: Vec<_> = config.inactive().into_iter().map(|i| i.key_path).collect();
    assert_eq!(
        inactive,
        [
            "cloud.grey.consensus.cross_region",
            "cloud.federation.hubs",
            "cloud.federation.sync_strategy",
            "cloud.federation.conflict_resolution",
            "cloud.storage.hot",
            "cloud.storage.warm",
            "cloud.storage.cold",
            "cloud.storage.tiering.warm_retention",
            "cloud.storage.tiering.cold_retention",
            "cloud.analytics.streaming",
            "cloud.analytics.batch",
            "cloud.analytics.ml",
        ]
    );
    assert!(config.warnings()[0].contains("nodes is 5"), "{:?}", config.warnings());
    let node = config.this_node(None).unwrap();
    assert_eq!((node.id, node.sync, node.raft, node.http), (1, SYNC_LISTEN, RAFT_LISTEN, API_LISTEN));
}

#[test]
fn the_group_may_stand_in_either_section() {
    let members = "members: [{id: 7, raft: \"127.0.0.1:1\", sync: \"127.0.0.1:2\", http: \"127.0.0.1:3\"}]";
    for lines in [format!("  consensus: {{{members}}}\n"), format!("  grey: {{consensus: {{{members}}}}}\n")] {
        let config = with(&lines).unwrap();
        assert_eq!((config.members().len(), config.this_node(None).unwrap().id), (1, 7));
        assert_eq!(config.election_timeout().as_millis(), 500);
    }
    let both = with(&format!("  consensus: {{{members}}}\n  grey: {{consensus: {{{members}}}}}\n")).unwrap_err();
    assert!(both.contains("cloud.consensus.members: is also set as cloud.grey.consensus.members"), "{both}");
    let split = with("  consensus: {election_timeout: 2s}\n  grey: {consensus: {type: raft, nodes: 1}}\n").unwrap();
    assert_eq!(split.election_timeout().as_millis(), 2_000);
}

#[test]
fn defaults_are_those_of_an_embedded_coordinator() {
    let config = with("").unwrap();
    assert_eq!(CoordinatorConfig::default_for_embedding(config.name.clone()).resolve(), config);
    let local = load(include_str!("../../../../examples/config/coordinator-local.yaml")).unwrap();
    assert!(local.inactive().is_empty() && local.warnings().is_empty());
}

#[test]
fn rules_between_keys_are_checked() {
    for (lines, expected) in [
        ("  consensus: {nodes: 9}\n", "cloud.consensus.nodes: 9 is out of range; allowed: 1 to 5"),
        (
            "  grey: {consensus: {election_timeout: 5m}}\n",
            "cloud.yaml:3:40: cloud.grey.consensus.election_timeout: 5m is out of range",
        ),
        ("  federation: {hubs: [a, b, a]}\n", "cloud.federation.hubs[2]: a is listed twice"),
        ("  federation: {hubs: [\"a b\"]}\n", "cloud.federation.hubs[0]: id \"a b\""),
        ("  storage: {tiering: {hot_retention: 1s}}\n", "hot_retention: 1s is out of range"),
        (
            "  storage: {tiering: {hot_retention: 7d, warm_retention: 1d}}\n",
            "warm_retention: 1d is out of range; allowed: 1w to",
        ),
        (
            "  storage: {tiering: {warm_retention: 30d, cold_retention: 2d}}\n",
            "cold_retention: 2d is out of range; allowed: 30d to",
        ),
        ("  storage: {tiering: {hot_retention: 24}}\n", "\"24\" has no unit"),
        ("  api: {listen: \"0.0.0.0:7280\"}\n", "cloud.api.listen: 0.0.0.0:7280 is reachable from other machines"),
        ("  federation: {conflict_resolution: newest}\n", "allowed: timestamp, lww, crdt, cloud_wins, edge_wins"),
        ("  grey: {mode: cloud}\n", "found \"cloud\"; allowed: coordinator"),
    ] {
        let errors = with(lines).unwrap_err();
        assert!(errors.contains(expected), "{lines}{errors}");
    }
}

#[test]
fn the_effective_configuration_loads_as_itself() {
    for text in [REFERENCE, include_str!("../../../../examples/config/coordinator-local.yaml"), "cloud: {name: 'no'}"] {
        let config = load(text).unwrap();
        let printed = config.effective();
        assert_eq!(load(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}")), config);
        assert_eq!(CoordinatorConfig::diff(&config, &load(&printed).unwrap()), []);
    }
}

#[test]
fn the_manual_lists_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let table = reference::markdown(&CoordinatorConfig::json_schema());
    let expected = reference::replace_table(&manual, "cloud", &table).unwrap();
    if std::env::var_os("GREY_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(manual == expected, "the table of docs/configuration.md is old; run the test with GREY_UPDATE_DOCS=1");
    }
}
