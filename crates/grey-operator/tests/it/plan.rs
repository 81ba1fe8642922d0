//! `greyctl plan`: the examples, faults of a file, the specification, running sites.

use crate::remote::tier;
use crate::{greyctl, here};

fn example(name: &str) -> String {
    here("../../examples/plan").join(name).display().to_string()
}

/// Text with one space where a table has several.
fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[test]
fn the_reference_deployment_is_sized() {
    let ended = greyctl(&["plan", &example("reference.yaml"), "--compare"]);
    assert_eq!(ended.code(), 0, "{}", ended.message());
    for part in ["basic: 800 sites", "devices send 500.87", "85 % critical", "4g-lte", "total USD"] {
        assert!(squeezed(&ended.out).contains(part), "{part:?} is not in\n{}", ended.out);
    }
    // 50 aggregates a minute and 0.83 alerts a second of 36 bytes, with 3 % around them.
    let json: serde_json::Value =
        serde_json::from_str(&greyctl(&["plan", &example("reference.yaml"), "--output", "json"]).out).unwrap();
    let sent = json["groups"][0]["sent"]["bytes_per_day"].as_f64().unwrap();
    assert!((sent - (50.0 / 60.0 + 0.83) * 36.0 * 1.03 * 86_400.0).abs() < 1.0, "{sent}");
    assert_eq!(json["groups"][0]["warnings"].as_array().unwrap().len(), 0, "{}", json["groups"][0]["warnings"]);
}

#[test]
fn a_buffer_that_is_too_small_is_told() {
    let whole = greyctl(&["plan", &example("raw.yaml"), "--output", "json"]).out;
    let small = greyctl(&["plan", &example("raw.yaml"), "--buffer", "500MB"]).out;
    let json: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let group = &json["groups"][0];
    // 14.4 M events of 4 bytes and 3 %: 59.3 MB a day; 16 days need 1.01 GB in front of 85 % and packing.
    assert!((group["sent"]["bytes_per_day"].as_f64().unwrap() / 59.33e6 - 1.0).abs() < 0.001);
    assert!((group["buffer_bytes_needed"].as_f64().unwrap() / 1.0152e9 - 1.0).abs() < 0.001);
    assert_eq!(group["disk_bytes"].as_f64(), Some(8e9));
    let drain = group["outages"][1]["drains"][0]["seconds"].as_f64().unwrap();
    assert!((drain - 59.33e6 * 1.01 / (1_194_600.0 - 694.0)).abs() < 0.5, "{drain}");
    assert!(
        small.contains(
            "warning: a buffer of 500 MB lasts 7.88 d without loss, the longest outage 16 d: give it 1.02 GB"
        ),
        "{small}"
    );
}

#[test]
fn faults_of_the_file_are_told_with_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.yaml");
    let text = std::fs::read_to_string(example("raw.yaml")).unwrap();
    let wrong = text.replace("links: [4g-lte, satellite]", "links: [5g]").replace("rate_hz: 3.3333", "rate: 3");
    std::fs::write(&path, wrong).unwrap();
    let ended = greyctl(&["plan", &path.display().to_string()]);
    assert_eq!(ended.code(), 2);
    let message = ended.message();
    assert!(message.contains("plan.groups[0].sources[0].rate") && message.contains("rate_hz"), "{message}");
    assert!(message.contains(":19:"), "{message}");
    let wrong = text.replace("links: [4g-lte, satellite]", "links: [5g]").replace("p99: 24h", "p99: 1m");
    std::fs::write(&path, wrong).unwrap();
    let message = greyctl(&["plan", &path.display().to_string()]).message();
    assert!(message.contains("plan.groups[0].links[0]: \"5g\" is no link; allowed: 4g-lte, satellite"), "{message}");
    assert!(message.contains("plan.groups[0].outages.p99"), "{message}");
}

#[test]
fn the_specification_is_computed_again() {
    let ended = greyctl(&["plan", "--spec"]);
    assert_eq!(ended.code(), 0);
    for part in [
        "differs  32 GB, offline, by the fill rate: stated 24 h, computed 26.7 d",
        "follows  total: stated $66,900, computed $66,900",
        "237 Mbit/s",
    ] {
        assert!(ended.out.contains(part), "{part:?} is not in\n{}", ended.out);
    }
    let json: serde_json::Value = serde_json::from_str(&greyctl(&["plan", "--spec", "--output", "json"]).out).unwrap();
    let cells = json["cells"].as_array().unwrap();
    let last = ended.out.lines().last().unwrap();
    let told: f64 = last.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).map(number).sum();
    assert_eq!(told as usize, cells.len());
}

#[test]
fn an_agent_is_held_against_its_plan() {
    const QUEUE: (u16, &str) = (200, r#"{"bytes_max":32000000000}"#);
    const FIRST: (u16, &str) =
        (200, r#"{"site_id":"s","uptime_s":100,"accepted_total":1000,"pending":{},"oldest_pending_age_s":0}"#);
    let (url, thread) = tier(&[
        FIRST,
        QUEUE,
        (
            200,
            r#"{"site_id":"s","uptime_s":110,"accepted_total":2667,"pending":{"bulk":{"events":20000,"bytes":84000}},"oldest_pending_age_s":60}"#,
        ),
        QUEUE,
    ]);
    let ended = greyctl(&["plan", &example("raw.yaml"), "--server", &url, "--over", "0s"]);
    assert_eq!((ended.code(), thread.join().unwrap().len()), (0, 4), "{}{}", ended.out, ended.message());
    for part in ["events/s 166.7 166.7", "bytes/event 4.12 4.20", "1 sites, 0 figures outside"] {
        assert!(squeezed(&ended.out).contains(part), "{part:?} is not in\n{}", ended.out);
    }
    // Twice the rate, a smaller buffer, more than the longest outage leaves.
    let (url, thread) = tier(&[
        FIRST,
        QUEUE,
        (
            200,
            r#"{"site_id":"s","uptime_s":110,"accepted_total":5000,"pending":{"bulk":{"events":9,"bytes":9000000000}},"oldest_pending_age_s":9e6}"#,
        ),
        (200, r#"{"bytes_max":1000}"#),
    ]);
    let ended = greyctl(&["plan", &example("raw.yaml"), "--server", &url, "--over", "0s"]);
    thread.join().unwrap();
    assert_eq!(ended.code(), 1);
    assert!(ended.out.ends_with("1 sites, 4 figures outside the plan\n"), "{}", ended.out);
    assert!(ended.message().contains("differs from the plan of"), "{}", ended.message());
}

#[test]
fn every_site_of_a_hub_is_held_against_its_group() {
    const STATUS: (u16, &str) = (200, r#"{"tier":"hub"}"#);
    let (url, thread) = tier(&[
        STATUS,
        (200, r#"{"sites":[{"site":"factory-1","accepted_total":0,"last_seen":"2026-03-01T00:00:00.000Z"}]}"#),
        STATUS,
        (
            200,
            r#"{"sites":[{"site":"factory-1","accepted_total":5010,"last_seen":"2026-03-01T00:00:10.000Z","pending":{}},{"site":"mine-1"}]}"#,
        ),
    ]);
    let ended = greyctl(&["plan", &example("reference.yaml"), "--server", &url, "--over", "0s"]);
    thread.join().unwrap();
    assert_eq!(ended.code(), 1);
    assert!(ended.out.contains("factory-1  basic  events/s") && ended.out.contains("501.0"), "{}", ended.out);
    assert!(ended.out.contains("mine-1") && ended.out.contains("in no group"), "{}", ended.out);
    assert!(ended.out.ends_with("2 sites, 1 figures outside the plan\n"), "{}", ended.out);
}
