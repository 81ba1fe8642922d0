//! Metrics as a scrape shows them, and the documents that use their names.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use grey_model::SiteId;

use super::*;

fn labels(site: &str, hub: &str) -> SiteLabels {
    SiteLabels { site: SiteId::new(site).unwrap(), hub: hub.into(), region: "us-west-2".into() }
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

/// Every name at the start of a sample, suffixes of histograms taken off.
fn families(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|l| l.split(' ').next()).collect()
}

/// One of everything, as three tiers in one process would have it.
fn everything() -> Metrics {
    let metrics = Metrics::new();
    metrics.build_info("edge", "0.1.0", "abc");
    let edge = EdgeMetrics::new(&metrics, labels("s", "h"));
    edge.accepted(5);
    edge.processed(4);
    edge.set_figures(SiteFigures {
        state: SiteState::Degraded,
        buffer_capacity_bytes: Some(1_000),
        last_sync_ms: Some(1_500),
        pending: Some([(1, 10), (2, 20), (3, 30)]),
        oldest_pending_age_ms: Some(250),
        ..Default::default()
    });
    edge.ingested(5, Duration::from_millis(1));
    edge.committed(Duration::from_millis(1));
    edge.refused(RefusalReason::Full, 1);
    edge.connection_opened(Protocol::Mqtt);
    EffectMetrics::new(&metrics, &labels("s", "h")).count(EffectKind::Webhook, EffectOutcome::Retried);
    let rules = RulesMetrics::new(&metrics, labels("s", "h"));
    rules.decided(5, Duration::from_micros(80));
    rules.inferred(Duration::from_micros(3));
    let rule = |n: usize| RuleFigures { rule: format!("rule-{n}"), counts: vec![("fired", 1), ("late", 2)] };
    rules.set(RulesFigures {
        rules: (0..RULES_SHOWN_MAX + 10).map(rule).collect(),
        models: vec![ModelFigures {
            rule: "heat".into(),
            model: "heat".into(),
            version: "2".into(),
            ..Default::default()
        }],
        alerts: vec![("pending", 1), ("firing", 2)],
        misplaced: vec![("late", 3)],
        hot_spots: vec![("device", 1)],
        recovery: Some((10, 40)),
        ..RulesFigures::default()
    });
    UplinkMetrics::new(&metrics, "edge", "s")
        .set(&UplinkFigures { round_trip_ms: Some(40), ..UplinkFigures::default() });
    let hub = HubMetrics::new(&metrics, "h2", "us-west-2");
    hub.block_received(100, 3, 4_096, Duration::from_millis(8));
    hub.sites().set_answering(true);
    hub.sites().set(labels("t", "h2"), SiteFigures::default());
    let coordinator = CoordinatorMetrics::new(&metrics);
    coordinator.hub("h").block_received(1, 0, 1);
    coordinator.delayed(3, Duration::from_secs(2));
    coordinator.queried(Duration::from_millis(3));
    ConsensusMetrics::new(&metrics, "hub", "1").applied(Duration::from_millis(2));
    StorageMetrics::new(&metrics, "hub", "1", "raft").committed(Duration::from_millis(2));
    LedgerMetrics::new(&metrics, "hub", "1").set(3, 0);
    HttpMetrics::new(&metrics).answered(&Method::GET, "/v1/status", StatusCode::OK, Duration::from_millis(1));
    metrics
}

#[test]
fn every_declared_name_is_exported_once_and_nothing_else() {
    let text = everything().render();
    let families = families(&text);
    let unique: BTreeSet<_> = families.iter().copied().collect();
    assert_eq!(families.len(), unique.len(), "a family is split");
    // The edge's MQTT server and outbox bring their figures themselves.
    let brought = |name: &str| name.starts_with("grey_edge_mqtt_") || name.starts_with("grey_edge_outbox_");
    let declared = names::ALL.iter().map(|m| m.name).filter(|name| !brought(name));
    assert_eq!(unique, declared.collect::<BTreeSet<_>>());
}

#[test]
fn the_rules_of_a_site_show_themselves_and_are_bounded() {
    let text = everything().render();
    let site = r#"site_id="s",hub="h",region="us-west-2""#;
    for line in [
        format!(r#"grey_edge_rule_counts_total{{{site},rule="rule-0",what="fired"}} 1"#),
        format!(r#"grey_edge_rule_counts_total{{{site},rule="other",what="late"}} 20"#),
        format!(r#"grey_edge_alerts{{{site},state="firing"}} 2"#),
        format!(r#"grey_edge_model_info{{{site},rule="heat",model="heat",version="2"}} 1"#),
        format!(r#"grey_edge_effects_total{{{site},kind="webhook",outcome="retried"}} 1"#),
        format!("grey_edge_recovering{{{site}}} 1"),
        format!("grey_edge_recovery_replayed_records{{{site}}} 10"),
        format!("grey_edge_decision_seconds_count{{{site}}} 5"),
    ] {
        assert!(has(&text, &line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches("grey_edge_rule_counts_total{").count(), 2 * (RULES_SHOWN_MAX + 1));
}

#[test]
fn a_site_shows_itself() {
    let text = everything().render();
    for line in [
        r#"grey_edge_site_online{site_id="s",hub="h",region="us-west-2"} 1"#,
        r#"grey_edge_site_status{site_id="s",hub="h",region="us-west-2"} 1"#,
        r#"grey_edge_sites_managed{hub="h",region="us-west-2"} 1"#,
        r#"grey_edge_buffer_bytes{site_id="s",hub="h",region="us-west-2"} 60"#,
        r#"grey_edge_buffer_capacity{site_id="s",hub="h",region="us-west-2"} 1000"#,
        r#"grey_edge_accepted_total{site_id="s",hub="h",region="us-west-2"} 5"#,
        r#"grey_edge_events_processed_total{site_id="s",hub="h",region="us-west-2"} 4"#,
        r#"grey_edge_last_sync_timestamp{site_id="s",hub="h",region="us-west-2"} 1.5"#,
        r#"grey_edge_oldest_pending_age_seconds{site_id="s",hub="h",region="us-west-2"} 0.25"#,
        r#"grey_edge_queue_pending_events{site_id="s",hub="h",region="us-west-2",lane="bulk"} 3"#,
        r#"grey_edge_ingest_seconds_count{site_id="s",hub="h",region="us-west-2"} 5"#,
        r#"grey_edge_site_online{site_id="t",hub="h2",region="us-west-2"} 0"#,
        r#"grey_hub_events_received_total{hub="h2",region="us-west-2"} 100"#,
        r#"grey_hub_bytes_received{hub="h2",region="us-west-2"} 4096"#,
    ] {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
}

#[test]
fn only_who_answers_for_sites_exports_them() {
    let metrics = Metrics::new();
    let hub = HubMetrics::new(&metrics, "h", "us-west-2");
    let online = SiteFigures { state: SiteState::Online, ..Default::default() };
    hub.sites().replace([(labels("a", "h"), online.clone()), (labels("b", "h"), SiteFigures::default())]);
    assert!(!metrics.render().contains("grey_edge_site_online{"));
    hub.sites().set_answering(true);
    let text = metrics.render();
    assert_eq!(text.matches("grey_edge_site_online{").count(), 2);
    assert!(has(&text, r#"grey_edge_sites_managed{hub="h",region="us-west-2"} 2"#));
    hub.sites().replace([(labels("b", "h"), online)]);
    assert_eq!(metrics.render().matches("grey_edge_site_online{").count(), 1);
    hub.sites().remove(&SiteId::new("b").unwrap());
    assert_eq!(metrics.render().matches("grey_edge_site_online{").count(), 0);
}

#[test]
fn sites_and_hubs_are_bounded() {
    let metrics = Metrics::new();
    let coordinator = CoordinatorMetrics::new(&metrics);
    coordinator.sites().set_answering(true);
    for n in 0..SITES_MAX + 5 {
        coordinator.sites().set(labels(&format!("s{n}"), "h"), SiteFigures::default());
    }
    for n in 0..300 {
        coordinator.hub(&format!("h{n}")).block_received(1, 0, 1);
    }
    let text = metrics.render();
    assert!(has(&text, "grey_sites_refused 5"));
    assert_eq!(text.matches("grey_coordinator_events_received_total{").count(), 257);
    assert!(has(&text, r#"grey_coordinator_events_received_total{hub="other"} 44"#));
}

#[test]
fn names_follow_prometheus() {
    for metric in names::ALL {
        assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
        assert!(metric.buckets.is_sorted());
        // The two of the specification keep their names although they are counters.
        let older = ["grey_hub_bytes_received", "grey_hub_bytes_uploaded"].contains(&metric.name);
        assert_eq!(metric.kind == Kind::Counter && !older, metric.name.ends_with("_total"), "{}", metric.name);
        assert_eq!(metric.kind == Kind::Histogram, metric.name.ends_with("_seconds") && metric.kind != Kind::Gauge);
    }
}

const DOCUMENT: &str = include_str!("../../../../docs/ops/metrics.md");
const ALERTS: &str = include_str!("../../../../docs/ops/alerts.yml");
const EDGE_DASHBOARD: &str = include_str!("../../../../docs/ops/dashboards/edge-fleet.json");
const HUB_DASHBOARD: &str = include_str!("../../../../docs/ops/dashboards/hubs.json");

#[test]
fn the_document_lists_every_metric_as_it_is() {
    let table = names::table();
    assert!(DOCUMENT.contains(&table), "docs/ops/metrics.md must hold this table:\n{table}");
}

#[test]
fn alerts_and_dashboards_use_only_names_and_labels_that_exist() {
    for (file, text) in [("alerts.yml", ALERTS), ("edge-fleet.json", EDGE_DASHBOARD), ("hubs.json", HUB_DASHBOARD)] {
        let mut used = 0;
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| w.starts_with("grey_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            let known = names::find(word).is_some()
                || base.and_then(names::find).is_some_and(|metric| metric.kind == Kind::Histogram);
            assert!(known, "{file} uses {word}");
            used += 1;
        }
        assert!(used > 4, "{file} uses {used} metrics");
    }
}

#[test]
fn the_alerts_of_the_specification_are_there() {
    for (name, expression, wait, severity) in [
        ("EdgeSiteOffline", "grey_edge_site_online == 0", "10m", "warning"),
        ("EdgeSiteOfflineCritical", "grey_edge_site_online == 0", "1h", "critical"),
        ("EdgeBufferNearFull", "grey_edge_buffer_bytes / grey_edge_buffer_capacity > 0.8", "", "warning"),
        ("HubSyncBacklog", "grey_hub_aggregation_queue_depth > 1000000", "", "warning"),
        (
            "FleetConnectivityDegraded",
            "sum(grey_edge_site_online) / count(grey_edge_site_status) < 0.9",
            "",
            "critical",
        ),
    ] {
        let start = ALERTS.find(&format!("- alert: {name}\n")).unwrap_or_else(|| panic!("{name}"));
        let rule = &ALERTS[start + 2..];
        let rule = &rule[..rule.find("- alert:").unwrap_or(rule.len())];
        assert!(rule.contains(&format!("expr: {expression}\n")), "{name}: {rule}");
        assert_eq!(rule.contains("for: "), !wait.is_empty(), "{name}");
        assert!(rule.contains(&format!("for: {wait}\n")) || wait.is_empty(), "{name}");
        assert!(rule.contains(&format!("severity: {severity}\n")), "{name}");
    }
    assert!(ALERTS.contains("edge-offline.md"));
}

#[test]
fn dashboards_hold_the_queries_of_the_specification() {
    for (text, queries) in [
        (
            EDGE_DASHBOARD,
            &[
                "sum(grey_edge_site_online) / count(grey_edge_site_status) * 100",
                "count(grey_edge_site_online == 0) by (region)",
                "grey_edge_buffer_bytes / grey_edge_buffer_capacity * 100",
                "sum(rate(grey_edge_events_processed_total[5m])) by (site_id)",
                "time() - grey_edge_last_sync_timestamp",
            ][..],
        ),
        (
            HUB_DASHBOARD,
            &[
                "sum(rate(grey_hub_events_received_total[5m])) by (hub)",
                "grey_hub_aggregation_queue_depth",
                "sum(grey_edge_site_online) by (hub) / sum(grey_edge_sites_managed) by (hub) * 100",
                "1 - (grey_hub_bytes_uploaded / grey_hub_bytes_received)",
            ][..],
        ),
    ] {
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let found: Vec<_> = panels
            .iter()
            .flat_map(|panel| panel["targets"].as_array().unwrap())
            .map(|target| target["expr"].as_str().unwrap())
            .collect();
        for query in queries {
            assert!(found.contains(query), "{query} is not in {found:?}");
        }
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
    }
}
