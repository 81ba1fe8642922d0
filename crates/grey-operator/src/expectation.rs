//! What a test run is expected to give, as a file that a build can hold it against.
//!
//! It holds what rules decide (alerts, anomalies, counts per rule), and
//! nothing that changes with wording or layout.

use std::io::{self, Write};

use grey_model::time::format_rfc3339_ms;
use serde_json::{Value as Json, json};

use crate::replay::Outcome;
use crate::text_table::{number, shown};

/// Differences that are printed; a result with more is another result.
const DIFFERENCES_MAX: usize = 50;

/// The decisions of a run.
pub(crate) fn of(outcome: &Outcome) -> Json {
    let alerts: Vec<Json> = outcome
        .alerts
        .iter()
        .map(|alert| {
            json!({
                "rule": alert.rule, "severity": alert.severity, "device": alert.device, "stream": alert.stream,
                "fired": format_rfc3339_ms(alert.fired_ms), "value": alert.value.map(rounded),
                "cleared": alert.cleared_ms.map(format_rfc3339_ms),
            })
        })
        .collect();
    let anomalies: Vec<Json> = outcome
        .anomalies
        .iter()
        .map(|anomaly| {
            json!({
                "rule": anomaly.rule, "device": anomaly.device, "stream": anomaly.stream,
                "at": format_rfc3339_ms(anomaly.at_ms), "seen": anomaly.seen.map(rounded),
            })
        })
        .collect();
    let rules: serde_json::Map<String, Json> = outcome
        .rules
        .iter()
        .map(|tally| {
            let counts = json!({
                "fired": tally.fired, "cleared": tally.cleared, "anomalies": tally.anomalies,
                "windows": tally.windows, "late": tally.late, "reduced": tally.reduced,
            });
            (tally.name.clone(), counts)
        })
        .collect();
    json!({
        "readings": outcome.reduction.readings,
        "forwarded": outcome.reduction.forwarded,
        "alerts": alerts,
        "anomalies": anomalies,
        "rules": rules,
    })
}

/// A number as it is shown: equal results of another build may differ behind that.
fn rounded(value: f64) -> Json {
    number(value).parse::<f64>().map_or(Json::Null, |value| json!(value))
}

/// Says what differs, `-` expected and `+` found; true when nothing does.
pub(crate) fn compare(expected: &Json, found: &Json, out: &mut dyn Write) -> io::Result<bool> {
    let mut differences = Vec::new();
    for list in ["alerts", "anomalies"] {
        let (old, new) = (items(expected, list), items(found, list));
        let name = list.strip_suffix('s').unwrap_or(list);
        let name = if name == "anomalie" { "anomaly" } else { name };
        differences.extend(old.iter().filter(|item| !new.contains(item)).map(|item| format!("- {name} {item}")));
        differences.extend(new.iter().filter(|item| !old.contains(item)).map(|item| format!("+ {name} {item}")));
        if differences.is_empty() && old != new {
            differences.push(format!("! {list} are the same, but in another order or number"));
        }
    }
    leaves("", expected, found, &mut differences);
    for difference in differences.iter().take(DIFFERENCES_MAX) {
        writeln!(out, "{difference}")?;
    }
    if differences.len() > DIFFERENCES_MAX {
        writeln!(out, "and {} more differences", differences.len() - DIFFERENCES_MAX)?;
    }
    Ok(differences.is_empty())
}

fn items(document: &Json, list: &str) -> Vec<String> {
    document[list].as_array().into_iter().flatten().map(ToString::to_string).collect()
}

/// Differences of everything but lists, by key path.
fn leaves(path: &str, expected: &Json, found: &Json, differences: &mut Vec<String>) {
    let empty = serde_json::Map::new();
    if expected.is_object() || found.is_object() {
        let (old, new) = (expected.as_object().unwrap_or(&empty), found.as_object().unwrap_or(&empty));
        for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
            let path = if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) };
            leaves(&path, &expected[key.as_str()], &found[key.as_str()], differences);
        }
    } else if !(expected.is_array() || found.is_array()) && expected != found {
        let text = |value: &Json| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        differences.push(format!("! {path}: expected {}, found {}", text(expected), text(found)));
    }
}
