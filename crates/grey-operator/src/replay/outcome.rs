//! What rules made of a recording: plain data, for reports, plots and comparison.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::recording::BadLine;

/// The whole result.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    /// The recording's part of it.
    pub(crate) recording: Readings,
    /// One entry per rule, in the order of the rules.
    pub(crate) rules: Vec<RuleTally>,
    /// Alerts in the order in which they began; the first [`super::KEPT_MAX`].
    pub(crate) alerts: Vec<Alert>,
    /// Alerts whose condition holds at the end, but not for long enough yet.
    pub(crate) pending: Vec<Pending>,
    /// Findings of detectors and models, in order; the first [`super::KEPT_MAX`].
    pub(crate) anomalies: Vec<Anomaly>,
    /// Windows in the order in which they closed; the first [`super::KEPT_MAX`], where they were asked for.
    pub(crate) windows: Vec<Window>,
    /// Other events that rules made (late readings, notices), by kind and stream.
    pub(crate) other: BTreeMap<String, u64>,
    /// What was counted besides, by name; what stayed 0 is left out.
    pub(crate) counters: BTreeMap<&'static str, u64>,
    /// What would leave the site.
    pub(crate) reduction: Reduction,
    /// What the reader should know.
    pub(crate) notes: Vec<String>,
}

/// What was read.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Readings {
    pub(crate) events: u64,
    pub(crate) series: u64,
    pub(crate) from_ms: Option<i64>,
    pub(crate) to_ms: Option<i64>,
    pub(crate) bad_lines: u64,
    pub(crate) bad: Vec<BadLine>,
    pub(crate) left_out: u64,
    pub(crate) derived_before: u64,
}

/// One rule's part.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct RuleTally {
    /// Its number; 0 is the forwarding policy.
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) fired: u64,
    pub(crate) cleared: u64,
    pub(crate) firing_at_end: u64,
    pub(crate) anomalies: u64,
    pub(crate) windows: u64,
    pub(crate) partial_windows: u64,
    pub(crate) suppressed: u64,
    pub(crate) unit_mismatches: u64,
    pub(crate) late: u64,
    pub(crate) ahead: u64,
    /// Readings that it kept at the site.
    pub(crate) reduced: u64,
}

/// One alert from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Alert {
    pub(crate) rule: String,
    pub(crate) severity: String,
    pub(crate) device: String,
    pub(crate) stream: String,
    pub(crate) condition: String,
    /// Unix ms of the site when it fired.
    pub(crate) fired_ms: i64,
    /// Since when the condition held, Unix ms, where it had to hold for a while.
    pub(crate) pending_ms: Option<i64>,
    pub(crate) value: Option<f64>,
    pub(crate) limit: Option<f64>,
    pub(crate) unit: Option<String>,
    /// Unix ms of the site when it cleared; none while it fires.
    pub(crate) cleared_ms: Option<i64>,
    /// Time of the reading that it fired with, Unix ms.
    pub(crate) event_ms: i64,
    /// Time of the reading that cleared it, Unix ms.
    pub(crate) cleared_event_ms: Option<i64>,
    pub(crate) cleared_value: Option<f64>,
    /// Why it began or ended, where the engine says more than the value does.
    pub(crate) reason: Option<String>,
}

/// An alert that has not fired yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Pending {
    pub(crate) rule: String,
    pub(crate) device: String,
    pub(crate) stream: String,
    pub(crate) since_ms: i64,
    pub(crate) value: f64,
    pub(crate) unit: Option<String>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Anomaly {
    pub(crate) rule: String,
    pub(crate) device: String,
    pub(crate) stream: String,
    pub(crate) at_ms: i64,
    pub(crate) score: Option<f64>,
    pub(crate) expected: Option<f64>,
    pub(crate) seen: Option<f64>,
    pub(crate) unit: Option<String>,
    /// Since when it departs from what is expected, Unix ms.
    pub(crate) since_ms: Option<i64>,
    /// When it ended, Unix ms, where the rule says so.
    pub(crate) cleared_ms: Option<i64>,
    pub(crate) reason: Option<String>,
}

/// One closed window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Window {
    pub(crate) rule: String,
    pub(crate) device: String,
    pub(crate) stream: String,
    pub(crate) start_ms: i64,
    pub(crate) length_ms: Option<i64>,
    pub(crate) fields: Vec<(String, f64)>,
    pub(crate) unit: Option<String>,
    pub(crate) partial: bool,
}

/// What leaves the site of what came in.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Reduction {
    pub(crate) readings: u64,
    pub(crate) forwarded: u64,
    pub(crate) alerts: u64,
    pub(crate) anomalies: u64,
    pub(crate) windows: u64,
    pub(crate) other: u64,
    /// Publications, web hooks and commands that would be carried out.
    pub(crate) effects: u64,
    /// Events that leave the site as a share of those that came in, in percent.
    pub(crate) removed_percent: f64,
    pub(crate) reduced_by: BTreeMap<String, u64>,
}
