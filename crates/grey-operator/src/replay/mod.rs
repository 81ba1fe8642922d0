//! Runs rules over a recording as the agent would.
//!
//! The site's time is the recording's: an event is accepted at the time that
//! it carries (or at its stamp, where the recording has one), and what is due
//! between two events happens at the time that it is due. Time never goes back.
//! This is the only module that knows the engine.

mod outcome;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use grey_model::{Event, Kind, Name, SiteId, Stamp, Value};
use grey_rules::{AlertState, Derived, Engine, EngineConfig, RuleSpec, Verdict};

pub(crate) use outcome::{Alert, Anomaly, Outcome, Pending, RuleTally, Window};

use crate::recording::{Recorded, Summary};
use crate::rules_file::RulesFile;
use crate::text_table::span;

/// Alerts, anomalies and windows that are kept to be shown; more are only counted.
pub(crate) const KEPT_MAX: usize = 100_000;
/// The site that rules run under where nothing names one.
const SITE: &str = "site";
/// A delay of readings that the reader should know of, in ms.
const DELAY_NOTED_MS: i64 = 60_000;
/// Series whose names are remembered to be counted.
const SERIES_MAX: usize = 1_000_000;

/// Rules over a recording.
pub(crate) struct Replay {
    engine: Engine,
    derived: Derived,
    names: Vec<String>,
    outcome: Outcome,
    /// Positions in `outcome.alerts` of those that fire, by rule and alert id or series.
    firing: BTreeMap<(String, String), usize>,
    /// Positions in `outcome.anomalies` of those that last, likewise.
    found: BTreeMap<(String, String), usize>,
    series: HashSet<(Name, Name)>,
    keep_windows: bool,
    time_ms: i64,
    /// Longest time from a reading to its acceptance.
    delay_ms: i64,
}

impl Replay {
    /// Rules at their start. `site` is the id that they run under; without one it is the file's own.
    pub(crate) fn new(rules: &RulesFile, site: Option<&str>, keep_windows: bool) -> Self {
        let site = site.or(rules.site.as_ref().map(SiteId::as_str)).unwrap_or(SITE);
        let policy = RuleTally {
            name: format!("forward {}", rules.set.forward()),
            kind: "policy".into(),
            ..RuleTally::default()
        };
        let tally = |(index, spec): (usize, &RuleSpec)| RuleTally {
            number: index as u16 + 1,
            name: spec.name(index),
            kind: spec.type_name().into(),
            ..RuleTally::default()
        };
        let tallies: Vec<RuleTally> =
            std::iter::once(policy).chain(rules.rules.rules.iter().enumerate().map(tally)).collect();
        Self {
            engine: Engine::new(Arc::clone(&rules.set), EngineConfig::new(site)),
            derived: Derived::default(),
            names: tallies.iter().map(|tally| tally.name.clone()).collect(),
            outcome: Outcome { rules: tallies, ..Outcome::default() },
            firing: BTreeMap::new(),
            found: BTreeMap::new(),
            series: HashSet::new(),
            keep_windows,
            time_ms: i64::MIN,
            delay_ms: 0,
        }
    }

    /// Takes the next event of the recording.
    pub(crate) fn take(&mut self, recorded: Recorded) {
        let Recorded { mut event, stamp } = recorded;
        let given = stamp.unwrap_or_else(|| Stamp::at_unix_ms(event.device_time_ms));
        let now = if given.unix_ms() < self.time_ms { Stamp::at_unix_ms(self.time_ms) } else { given };
        self.delay_ms = self.delay_ms.max(now.unix_ms().saturating_sub(event.device_time_ms));
        self.advance_to(now.unix_ms());
        event.stamp = now;
        self.note(&event);
        let verdict = self.engine.process(&event, now, &mut self.derived);
        self.outcome.reduction.readings += 1;
        match verdict {
            Verdict::Forward(_) => self.outcome.reduction.forwarded += 1,
            Verdict::Reduced(rule) => {
                if let Some(tally) = self.outcome.rules.get_mut(usize::from(rule.0)) {
                    tally.reduced += 1;
                }
            }
        }
        self.collect();
    }

    /// Lets the site's time go on for `run_on_ms` without events, and sums up.
    pub(crate) fn finish(mut self, run_on_ms: i64, summary: Summary) -> Outcome {
        if self.time_ms > i64::MIN {
            self.advance_to(self.time_ms.saturating_add(run_on_ms));
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        let reading = &mut outcome.recording;
        reading.events = summary.events;
        reading.series = self.series.len() as u64;
        (reading.bad_lines, reading.bad) = (summary.bad_total, summary.bad);
        (reading.left_out, reading.derived_before) = (summary.unwanted, summary.derived);
        let counters = self.engine.counters();
        let counted = [
            ("readings that are no numbers or of bad quality", counters.not_numeric),
            ("values whose unit does not convert", counters.unit_mismatches),
            ("readings too late for their window", counters.late),
            ("readings too far ahead of the site's time", counters.ahead),
            ("alerts over a rate limit, without an event", counters.alerts_suppressed),
            ("readings over a device's rate limit", counters.rate_limited),
            ("times that a model gave no usable answer", counters.model_fallbacks),
            ("series given up for new ones", counters.series_evicted),
        ];
        outcome.counters.extend(counted.into_iter().filter(|(_, count)| *count > 0));
        for status in self.engine.rule_status() {
            let Some(tally) = outcome.rules.get_mut(usize::from(status.rule)) else { continue };
            (tally.late, tally.ahead) = (status.late, status.ahead);
            (tally.suppressed, tally.unit_mismatches) = (status.suppressed, status.unit_mismatches);
            outcome.notes.extend(status.problem.map(|problem| format!("rule {}: {problem}", tally.name)));
        }
        for alert in self.engine.alerts().iter().filter(|alert| alert.state == AlertState::Pending) {
            outcome.pending.push(Pending {
                rule: alert.rule.to_string(),
                device: alert.device.to_string(),
                stream: alert.stream.to_string(),
                since_ms: alert.since_ms,
                value: alert.value,
                unit: alert.unit.as_ref().map(ToString::to_string),
            });
        }
        for tally in self.firing.values().filter_map(|at| self.place(&outcome.alerts[*at].rule)) {
            outcome.rules[tally].firing_at_end += 1;
        }
        if self.engine.next_due_ms().is_some() {
            let note =
                "windows or alerts are still open at the end of the recording; --run-on 5m lets time go on behind it";
            outcome.notes.push(note.into());
        }
        if self.delay_ms > DELAY_NOTED_MS {
            let delay = span(self.delay_ms);
            outcome.notes.push(format!(
                "readings were accepted up to {delay} after their time; --sort tries the rules as if each had come at its time"
            ));
        }
        if summary.has_more {
            outcome.notes.push("the recording is one page of several: its last page has a cursor".into());
        }
        let reduction = &mut outcome.reduction;
        let leaves = reduction.forwarded + reduction.alerts + reduction.anomalies + reduction.windows + reduction.other;
        if reduction.readings > 0 {
            let removed = 100.0 * (1.0 - leaves as f64 / reduction.readings as f64);
            // Cut, not rounded: 100 % is said only where nothing leaves.
            reduction.removed_percent = (removed * 10.0).floor() / 10.0;
        }
        reduction.reduced_by =
            outcome.rules.iter().filter(|t| t.reduced > 0).map(|t| (t.name.clone(), t.reduced)).collect();
        outcome
    }

    fn advance_to(&mut self, to_ms: i64) {
        while let Some(due_ms) = self.engine.next_due_ms().filter(|due| *due <= to_ms && *due > self.time_ms) {
            self.time_ms = due_ms;
            self.engine.advance(Stamp::at_unix_ms(due_ms), &mut self.derived);
            self.collect();
        }
        self.time_ms = self.time_ms.max(to_ms);
    }

    fn note(&mut self, event: &Event) {
        let reading = &mut self.outcome.recording;
        let at = event.device_time_ms;
        reading.from_ms = Some(reading.from_ms.map_or(at, |from| from.min(at)));
        reading.to_ms = Some(reading.to_ms.map_or(at, |to| to.max(at)));
        if self.series.len() < SERIES_MAX {
            self.series.insert((event.device.clone(), event.stream.clone()));
        }
    }

    fn collect(&mut self) {
        if self.derived.events.is_empty() {
            return;
        }
        let mut events = std::mem::take(&mut self.derived.events);
        for derived in events.drain(..) {
            self.outcome.reduction.effects += derived.effects.map_or(0, |effects| effects.len() as u64);
            self.sort_in(&derived.event);
        }
        self.derived.events = events;
    }

    fn sort_in(&mut self, event: &Event) {
        match event.kind {
            Kind::Alert => self.alert(event),
            Kind::Anomaly => self.anomaly(event),
            Kind::Aggregate => self.window(event),
            _ => self.other(event),
        }
    }

    /// The tally of the rule that made an event.
    fn tally(&mut self, event: &Event) -> Option<&mut RuleTally> {
        let at = self.place(attribute(event, "rule")?);
        self.outcome.rules.get_mut(at?)
    }

    /// The rule that an alert's or aggregate's name of it means. Alarms of a
    /// spectrum are named `RULE.FIELD.SEVERITY`.
    fn place(&self, name: &str) -> Option<usize> {
        let of_spectrum = |known: &String| name.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('.'));
        self.names.iter().position(|known| known == name).or_else(|| self.names.iter().position(of_spectrum))
    }

    fn alert(&mut self, event: &Event) {
        self.outcome.reduction.alerts += 1;
        let rule = attribute(event, "rule").unwrap_or_default().to_owned();
        let key = key(event);
        let number = |name| field(event, name);
        let reason = attribute(event, "reason").map(str::to_owned);
        match attribute(event, "state") {
            Some("cleared") => {
                if let Some(at) = self.firing.remove(&key) {
                    let alert = &mut self.outcome.alerts[at];
                    alert.cleared_ms = Some(event.stamp.unix_ms());
                    alert.cleared_event_ms = Some(event.device_time_ms);
                    alert.cleared_value = number("value");
                    alert.reason = reason.or(alert.reason.take());
                }
                if let Some(tally) = self.tally(event) {
                    tally.cleared += 1;
                }
            }
            Some("firing") | None => {
                if let Some(tally) = self.tally(event) {
                    tally.fired += 1;
                }
                if self.outcome.alerts.len() >= KEPT_MAX {
                    return;
                }
                let fired_ms = event.stamp.unix_ms();
                let since = attribute(event, "since").and_then(|since| since.parse().ok());
                self.firing.insert(key, self.outcome.alerts.len());
                self.outcome.alerts.push(Alert {
                    rule,
                    severity: attribute(event, "severity").unwrap_or_default().into(),
                    device: event.device.to_string(),
                    stream: event.stream.to_string(),
                    condition: attribute(event, "condition").unwrap_or_default().into(),
                    fired_ms,
                    pending_ms: since.filter(|since| *since < fired_ms),
                    value: number("value"),
                    limit: number("limit"),
                    unit: event.unit.as_ref().map(ToString::to_string),
                    cleared_ms: None,
                    event_ms: event.device_time_ms,
                    cleared_event_ms: None,
                    cleared_value: None,
                    reason,
                });
            }
            Some(_) => {}
        }
    }

    fn anomaly(&mut self, event: &Event) {
        self.outcome.reduction.anomalies += 1;
        let key = key(event);
        if attribute(event, "state") == Some("cleared") {
            if let Some(at) = self.found.remove(&key) {
                self.outcome.anomalies[at].cleared_ms = Some(event.device_time_ms);
            }
            return;
        }
        if let Some(tally) = self.tally(event) {
            tally.anomalies += 1;
        }
        if self.outcome.anomalies.len() >= KEPT_MAX {
            return;
        }
        let number = |name: &str| field(event, name);
        self.found.insert(key, self.outcome.anomalies.len());
        self.outcome.anomalies.push(Anomaly {
            rule: attribute(event, "rule").unwrap_or_default().into(),
            device: event.device.to_string(),
            stream: event.stream.to_string(),
            at_ms: event.device_time_ms,
            score: number("score"),
            expected: number("expected"),
            seen: number("seen").or_else(|| number("value")),
            unit: event.unit.as_ref().map(ToString::to_string),
            since_ms: attribute(event, "since").and_then(|since| since.parse().ok()),
            cleared_ms: None,
            reason: attribute(event, "reason").map(str::to_owned),
        });
    }

    fn window(&mut self, event: &Event) {
        self.outcome.reduction.windows += 1;
        let partial = attribute(event, "partial").is_some();
        let mut rule = String::new();
        if let Some(tally) = self.tally(event) {
            tally.windows += 1;
            tally.partial_windows += u64::from(partial);
            rule.clone_from(&tally.name);
        }
        if !self.keep_windows || self.outcome.windows.len() >= KEPT_MAX {
            return;
        }
        let fields = match &event.value {
            Value::Fields(fields) => fields.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
            _ => Vec::new(),
        };
        self.outcome.windows.push(Window {
            rule,
            device: event.device.to_string(),
            stream: event.stream.to_string(),
            start_ms: event.device_time_ms,
            length_ms: attribute(event, "window").and_then(|length| length.parse().ok()),
            fields,
            unit: event.unit.as_ref().map(ToString::to_string),
            partial,
        });
    }

    fn other(&mut self, event: &Event) {
        self.outcome.reduction.other += 1;
        *self.outcome.other.entry(format!("{} {}", event.kind.as_str(), event.stream)).or_default() += 1;
    }
}

/// What tells one alert or finding from another: its rule and its id, or its series where it has none.
fn key(event: &Event) -> (String, String) {
    let id = attribute(event, "alert").map_or_else(|| format!("{}\n{}", event.device, event.stream), str::to_owned);
    (attribute(event, "rule").unwrap_or_default().to_owned(), id)
}

fn attribute<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.attributes.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.as_str())
}

fn field(event: &Event, name: &str) -> Option<f64> {
    match &event.value {
        Value::Fields(fields) => fields.iter().find(|(key, _)| &**key == name).map(|(_, value)| *value),
        _ => None,
    }
}
