//! What an engine shows of itself: alerts, silences, models, counters.

use grey_model::{Event, Lane, Name, RuleId};
use std::sync::Arc;

use crate::spec::Effect;

/// What becomes of an event on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is forwarded, in this lane if a rule chose one.
    Forward(Option<Lane>),
    /// It stays at the site; the rule (or policy 0) accounts for it.
    Reduced(RuleId),
}

/// An event that a rule made.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivedEvent {
    /// The lane that it travels in.
    pub lane: Lane,
    /// The event.
    pub event: Event,
    /// What is to be done outside, once, when the event is new.
    pub effects: Option<Arc<[Effect]>>,
}

/// Events that rules made, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Derived {
    /// The events.
    pub events: Vec<DerivedEvent>,
}

/// What an engine has counted since the site's first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCounters {
    /// Alerts that began.
    pub alerts_fired: u64,
    /// Alerts that ended.
    pub alerts_cleared: u64,
    /// Alerts that began without an event, over a rate limit.
    pub alerts_suppressed: u64,
    /// Findings of detectors and models.
    pub findings: u64,
    /// Windows sent.
    pub aggregates: u64,
    /// Readings too late for their window.
    pub late: u64,
    /// Readings too far ahead of the site's time.
    pub ahead: u64,
    /// Readings left at the site by drop, filters, samples and rate limits of devices.
    pub filtered: u64,
    /// Readings over a device's rate limit.
    pub rate_limited: u64,
    /// Times that a model gave no usable answer and an older version took over, or none was left.
    pub model_fallbacks: u64,
    /// Readings that no rule could use: text, bad quality, not finite.
    pub not_numeric: u64,
    /// Comparisons and additions left out because the event's unit does not convert.
    pub unit_mismatches: u64,
    /// Series given up because the table was full.
    pub series_evicted: u64,
}

/// What one rule has counted since it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStatus {
    /// Its position in the list, from 1.
    pub rule: u16,
    /// Its name.
    pub name: Name,
    /// `threshold`, `anomaly`, `aggregate`, `filter` or `spectrum`.
    pub kind: &'static str,
    /// Alerts or findings that began.
    pub fired: u64,
    /// Alerts or findings that ended.
    pub cleared: u64,
    /// Firings without an event, over a rate limit.
    pub suppressed: u64,
    /// Windows or spectra sent.
    pub windows: u64,
    /// Readings too late for their window.
    pub late: u64,
    /// Readings too far ahead of the site's time.
    pub ahead: u64,
    /// Readings that it left at the site.
    pub reduced: u64,
    /// Values left out because their unit does not convert.
    pub unit_mismatches: u64,
    /// What keeps it from working, in words.
    pub problem: Option<String>,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// The condition holds, but not for long enough yet.
    Pending,
    /// It fires.
    Firing,
    /// It has ended.
    Cleared,
}

impl AlertState {
    /// The word in events and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Cleared => "cleared",
        }
    }
}

/// Who takes care of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who.
    pub by: Name,
    /// Since when, Unix ms by the site's clock.
    pub at_ms: i64,
    /// What they say.
    pub note: Name,
}

/// An alert that is pending, firing, or one of the last that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertView {
    /// 16 hexadecimal digits, the same after a restart.
    pub id: Name,
    /// Where it stands.
    pub state: AlertState,
    /// The rule's name.
    pub rule: Name,
    /// The rule's condition, or the detector's or model's name.
    pub condition: Name,
    /// `info`, `warning` or `critical`.
    pub severity: Name,
    /// The rule's tags.
    pub tags: Vec<(Name, Name)>,
    /// The device, the site, or the attribute's value.
    pub device: Name,
    /// The stream that it began with.
    pub stream: Name,
    /// The value that it began with, in the unit of the condition.
    pub value: f64,
    /// That unit.
    pub unit: Option<Name>,
    /// Since when the condition holds, Unix ms by the site's clock.
    pub since_ms: i64,
    /// When it fired.
    pub fired_ms: Option<i64>,
    /// When it ended.
    pub cleared_ms: Option<i64>,
    /// Who takes care of it.
    pub acknowledged: Option<Acknowledged>,
    /// It has no effects now.
    pub silenced: bool,
    /// It fired over a rate limit, without an event.
    pub suppressed: bool,
}

/// A silence in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceView {
    /// 16 hexadecimal digits.
    pub id: Name,
    /// The rule's name; `None`: every rule.
    pub rule: Option<Name>,
    /// The devices, `*` for any text; `None`: every device.
    pub device: Option<Name>,
    /// Until when, Unix ms by the site's clock.
    pub until_ms: i64,
    /// Who.
    pub by: Name,
    /// Why.
    pub note: Name,
}

/// A device or stream that gets far more than its share of the site's events.
#[derive(Debug, Clone, PartialEq)]
pub struct HotSpot {
    /// `device` or `stream`.
    pub kind: &'static str,
    /// Its name.
    pub name: Name,
    /// Its share of the events of the last window, 0 to 1.
    pub share: f64,
    /// What is done about it.
    pub mitigation: &'static str,
    /// Events that this was done to.
    pub mitigated: u64,
}

/// How a rule's model fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatus {
    /// The rule's name.
    pub rule: Name,
    /// The model's name.
    pub model: Name,
    /// The version in use; `None`: the rule rests.
    pub version: Option<Name>,
    /// Every version that was found, newest first.
    pub versions: Vec<Name>,
    /// Answers given.
    pub inferences: u64,
    /// Times that a version gave no usable answer.
    pub fallbacks: u64,
    /// What was last wrong, in words.
    pub problem: Option<Name>,
}
