//! A running fleet beside its plan.

use serde::Serialize;

use crate::fleet::Group;
use crate::planning::GroupPlan;
use crate::{bytes_text, span_text};

/// Fewer waiting events say nothing about the bytes of one.
const EVENTS_FOR_AN_AVERAGE: u64 = 10_000;

/// What a site says of itself; what is not known is not held against anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Actual {
    /// Its id.
    pub site: String,
    /// Events a second that it accepts.
    pub events_per_s: Option<f64>,
    /// Events that wait.
    pub pending_events: u64,
    /// Bytes that wait.
    pub pending_bytes: u64,
    /// Bytes that its outbox may have on disk.
    pub capacity_bytes: Option<u64>,
    /// Age of the oldest that waits, seconds.
    pub oldest_s: f64,
}

/// How far actual figures may be off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Share by which a rate or size may differ, such as 0.25.
    pub share: f64,
}

/// One figure of one site beside its plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The site.
    pub site: String,
    /// The group whose plan it is, or empty if no group holds the site.
    pub group: String,
    /// What was compared.
    pub what: &'static str,
    /// As planned.
    pub planned: String,
    /// As it is.
    pub actual: String,
    /// Whether it is within the plan.
    pub within: bool,
}

/// Holds a site against the plan of the first group that its id belongs to.
pub fn audit(groups: &[Group], plans: &[GroupPlan], actual: &Actual, tolerance: Tolerance) -> Vec<Finding> {
    let Some((_, plan)) = groups.iter().zip(plans).find(|(group, _)| group.holds(&actual.site)) else {
        return vec![Finding {
            site: actual.site.clone(),
            group: String::new(),
            what: "site",
            planned: "in no group".to_owned(),
            actual: "exists".to_owned(),
            within: false,
        }];
    };
    let mut findings = Vec::new();
    let mut find = |what, planned: String, actual_text: String, within| {
        let (site, group) = (actual.site.clone(), plan.name.clone());
        findings.push(Finding { site, group, what, planned, actual: actual_text, within });
    };
    if let Some(rate) = actual.events_per_s {
        let planned = plan.raw.events_per_s;
        let within = (rate - planned).abs() <= planned * tolerance.share;
        find("events/s", format!("{planned:.1}"), format!("{rate:.1}"), within);
    }
    if let Some(capacity) = actual.capacity_bytes {
        let within = capacity as f64 >= plan.buffer.bytes;
        find("buffer", bytes_text(plan.buffer.bytes), bytes_text(capacity as f64), within);
    }
    let longest = plan.outages.iter().find(|outage| outage.name == "longest");
    if let Some(longest) = longest {
        let within = actual.pending_bytes as f64 <= longest.backlog_bytes * (1.0 + tolerance.share);
        let planned = format!("at most {}", bytes_text(longest.backlog_bytes));
        find("waiting", planned, bytes_text(actual.pending_bytes as f64), within);
        let drain = longest.drains.iter().filter_map(|drain| drain.seconds).fold(f64::INFINITY, f64::min);
        let age = longest.seconds + if drain.is_finite() { drain } else { 0.0 };
        find("oldest", format!("at most {}", span_text(age)), span_text(actual.oldest_s), actual.oldest_s <= age);
    }
    if actual.pending_events >= EVENTS_FOR_AN_AVERAGE && plan.sent.events_per_s > 0.0 {
        let planned = plan.sent.bytes_per_day / crate::DAY_S / plan.sent.events_per_s;
        let event = actual.pending_bytes as f64 / actual.pending_events as f64;
        let within = event <= planned * (1.0 + tolerance.share);
        find("bytes/event", format!("{planned:.2}"), format!("{event:.2}"), within);
    }
    findings
}
