//! Alerts take a step, and what comes of it becomes events.

use grey_detect::Finding;
use grey_model::{Event, Kind, Lane, Name, Quality, Stamp, Value};

use super::timers::What;
use super::{Ended, Mark, Partition, Raw, RawEvent, RuleCounts, Timers};
use crate::alert::{Change, Entries, Entry, Level, Stage, id_text};
use crate::set::{AlertRule, RuleSet, Subject, Test};
use crate::words::clipped;

/// What an alert's event says besides its rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Details {
    /// A number was held against a condition; not a number when there is none.
    Value(f64),
    /// A detector's finding.
    Finding(Finding),
    /// A model's answer: score, output, and the value that it was asked with.
    Answer { score: f64, output: f64, seen: f64, label: Option<usize> },
}

impl Details {
    pub(super) fn value(&self) -> f64 {
        match self {
            Self::Value(value) => *value,
            Self::Finding(finding) => finding.seen,
            Self::Answer { seen, .. } => *seen,
        }
    }
}

/// Whose alert it is, and what moved it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) key: &'a Name,
    /// Of the series; empty for a group.
    pub(super) stream: &'a Name,
    pub(super) at: u32,
    pub(super) generation: u32,
    pub(super) is_group: bool,
    /// `None` when time alone moved it.
    pub(super) event: Option<&'a Event>,
    pub(super) details: Details,
    pub(super) now: Stamp,
    pub(super) now_ms: i64,
}

/// Where what comes of it goes.
#[derive(Debug)]
pub(super) struct Sinks<'a> {
    pub(super) timers: &'a mut Timers,
    pub(super) counts: &'a mut [RuleCounts],
    pub(super) raw: &'a mut Raw,
}

/// Tells an alert what holds. True when it began or ended with an event.
pub(super) fn step(
    set: &RuleSet,
    entries: &mut Entries,
    alert: u32,
    level: Level,
    cause: &Cause<'_>,
    sinks: &mut Sinks<'_>,
) -> bool {
    let Some(rule) = set.alert(alert) else { return false };
    let at = match entries.position(alert) {
        Ok(at) => at,
        Err(_) if !level.holds => return false,
        Err(at) => {
            entries.0.insert(at, Entry::new(alert));
            at
        }
    };
    let Some(entry) = entries.0.get_mut(at) else { return false };
    let was = entry.stage;
    let ended = (was == Stage::Firing && level.clears).then(|| entry.clone());
    let time_ms = cause.event.map_or(cause.now_ms, |event| event.device_time_ms);
    let change = entry.step(rule, (cause.key, cause.stream), level, cause.now_ms, time_ms);
    if matches!(entry.stage, Stage::Pending | Stage::Firing) && was != Stage::Firing {
        let value = cause.details.value();
        if !value.is_nan() || was == Stage::Idle {
            entry.value = value;
        }
        if let (Some(event), false) = (cause.event, was == Stage::Pending) {
            entry.stream = event.stream.clone();
            entry.device = event.device.clone();
        }
    }
    let crossed = emit(set, rule, entry, ended, change, cause, sinks);
    if entry.is_over(rule, cause.now_ms) {
        entries.0.remove(at);
    } else {
        let due_ms = entry.due_ms(rule).max(cause.now_ms.saturating_add(1));
        let what = if cause.is_group { What::GroupAlert(alert) } else { What::SeriesAlert(alert) };
        if due_ms < crate::alert::NEVER_MS {
            sinks.timers.set(&mut entry.timer_ms, due_ms, what, cause.at, cause.generation);
        }
    }
    crossed
}

fn emit(
    set: &RuleSet,
    rule: &AlertRule,
    entry: &Entry,
    ended: Option<Entry>,
    change: Option<Change>,
    cause: &Cause<'_>,
    sinks: &mut Sinks<'_>,
) -> bool {
    let Some(change) = change else { return false };
    let counts = &mut sinks.counts[usize::from(rule.rule)];
    match change {
        Change::Suppressed => {
            counts.suppressed += 1;
            false
        }
        Change::Fired { suppressed } => {
            counts.fired += 1;
            let mut event = alert_event(set, rule, entry, cause, true, None);
            if suppressed > 0 {
                event.attributes.push((set.words.suppressed.clone(), suppressed.to_string().into()));
            }
            let ended = Ended { entry: entry.clone(), key: cause.key.clone() };
            let mark = Some(Box::new(Mark { fired: true, ended }));
            sinks.raw.events.push(RawEvent { lane: Lane::Critical, event, mark });
            true
        }
        Change::Cleared { was_suppressed } => {
            let before = ended.unwrap_or_else(|| entry.clone());
            let ended = Ended { entry: before, key: cause.key.clone() };
            if was_suppressed {
                sinks.raw.ended.push(ended);
                return false;
            }
            counts.cleared += 1;
            let event = alert_event(set, rule, &ended.entry, cause, false, None);
            let mark = Some(Box::new(Mark { fired: false, ended }));
            sinks.raw.events.push(RawEvent { lane: Lane::Critical, event, mark });
            true
        }
    }
}

/// Ends an alert that fires because its group or its rule goes.
pub(super) fn end(
    set: &RuleSet,
    entry: &mut Entry,
    reason: &Name,
    cause: &Cause<'_>,
    counts: &mut [RuleCounts],
    raw: &mut Raw,
) {
    if entry.stage != Stage::Firing {
        return;
    }
    let Some(rule) = set.alert(entry.alert) else { return };
    let ended = Ended { entry: entry.clone(), key: cause.key.clone() };
    if entry.clear(rule, cause.now_ms) == (Change::Cleared { was_suppressed: true }) {
        raw.ended.push(ended);
        return;
    }
    counts[usize::from(rule.rule)].cleared += 1;
    let event = alert_event(set, rule, &ended.entry, cause, false, Some(reason));
    raw.events.push(RawEvent { lane: Lane::Critical, event, mark: Some(Box::new(Mark { fired: false, ended })) });
}

fn alert_event(
    set: &RuleSet,
    rule: &AlertRule,
    entry: &Entry,
    cause: &Cause<'_>,
    fired: bool,
    reason: Option<&Name>,
) -> Event {
    let words = &set.words;
    let is_anomaly = !matches!(rule.subject, Subject::Threshold(_));
    let state = if fired { &words.firing } else { &words.cleared };
    let mut attributes = Vec::with_capacity(8 + rule.tags.len());
    attributes.push((words.state.clone(), state.clone()));
    attributes.push((words.rule.clone(), rule.name.clone()));
    let what = match rule.subject {
        Subject::Threshold(_) => &words.condition,
        Subject::Detector(_) => &words.detector,
        Subject::Model(_) => &words.model,
    };
    attributes.push((what.clone(), rule.condition.clone()));
    attributes.push((words.severity.clone(), rule.severity.clone()));
    let departed = match cause.details {
        Details::Finding(finding) if fired => finding.since_ms,
        _ => None,
    };
    if let Some(since_ms) = departed {
        attributes.push((words.since.clone(), since_ms.to_string().into()));
    } else if !fired || rule.hold_ms > 0 {
        attributes.push((words.since.clone(), entry.since_ms.to_string().into()));
    }
    attributes.push((words.alert.clone(), id_text(entry.id)));
    let device = cause.event.map_or(&entry.device, |event| &event.device);
    if device != cause.key && !device.is_empty() {
        attributes.push((words.device.clone(), device.clone()));
    }
    if let Details::Answer { label: Some(label), .. } = cause.details {
        attributes.push((words.label.clone(), label.to_string().into()));
    }
    attributes.extend(rule.tags.iter().cloned());
    if let Some(reason) = reason {
        attributes.push((words.reason.clone(), reason.clone()));
    }
    let stream = match cause.event {
        Some(event) => &event.stream,
        None if cause.stream.is_empty() => &entry.stream,
        None => cause.stream,
    };
    let value = cause.details.value();
    let value = if value.is_nan() { entry.value } else { value };
    let fields: Vec<(Name, f64)> = match cause.details {
        Details::Finding(finding) => vec![
            (words.score.clone(), finding.score),
            (words.expected.clone(), finding.expected),
            (words.seen.clone(), finding.seen),
        ],
        Details::Answer { score, output, seen, .. } => {
            vec![(words.score.clone(), score), (words.output.clone(), output), (words.seen.clone(), seen)]
        }
        Details::Value(_) if is_anomaly => vec![(words.seen.clone(), value)],
        Details::Value(_) => {
            let limit = rule.limit.map(|limit| (words.limit.clone(), limit));
            std::iter::once((words.value.clone(), value)).chain(limit).collect()
        }
    };
    let fields: Vec<(Name, f64)> = fields.into_iter().filter(|(_, number)| number.is_finite()).collect();
    Event {
        device: cause.key.clone(),
        stream: stream.clone(),
        kind: if is_anomaly { Kind::Anomaly } else { Kind::Alert },
        value: if fields.is_empty() { Value::Bool(fired) } else { Value::Fields(fields.into()) },
        device_time_ms: cause.event.map_or(cause.now_ms, |event| event.device_time_ms),
        stamp: cause.now,
        quality: cause.event.map_or(Quality::Good, |event| event.quality),
        unit: rule.unit.clone().or_else(|| cause.event.and_then(|event| event.unit.clone())),
        id: None,
        attributes,
    }
}

/// The event that says who takes care of an alert.
pub(crate) fn acknowledged_event(set: &RuleSet, entry: &Entry, key: &Name, now: Stamp) -> Option<Event> {
    let rule = set.alert(entry.alert)?;
    let cause = Cause {
        key,
        stream: &entry.stream,
        at: 0,
        generation: 0,
        is_group: false,
        event: None,
        details: Details::Value(entry.value),
        now,
        now_ms: now.unix_ms(),
    };
    let mut event = alert_event(set, rule, entry, &cause, false, None);
    let words = &set.words;
    if let Some((_, state)) = event.attributes.first_mut() {
        *state = words.acknowledged.clone();
    }
    if let Some(acknowledged) = &entry.acknowledged {
        event.attributes.push((words.by.clone(), acknowledged.by.clone()));
        event.attributes.push((words.note.clone(), clipped(&acknowledged.note)));
    }
    Some(event)
}

impl Partition {
    /// An alert whose time has come.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn alert_due(
        &mut self,
        set: &RuleSet,
        is_group: bool,
        at: u32,
        alert: u32,
        now: Stamp,
        now_ms: i64,
        raw: &mut Raw,
    ) {
        let Some(rule) = set.alert(alert) else { return };
        let Self { series, groups, timers, counts, .. } = self;
        let (entries, key, stream, generation, value) = if is_group {
            let slot = groups.get_mut(at);
            (&mut slot.item.alerts, &slot.key, &slot.stream, slot.generation, f64::NAN)
        } else {
            let slot = series.get_mut(at);
            let value = current_value(set, rule, &slot.item);
            (&mut slot.item.alerts, &slot.key, &slot.stream, slot.generation, value)
        };
        let Some(entry) = entries.get_mut(alert) else { return };
        let level = Level { holds: entry.holds, clears: false };
        let value = if value.is_nan() { entry.value } else { value };
        let details = Details::Value(value);
        let cause = Cause { key, stream, at, generation, is_group, event: None, details, now, now_ms };
        step(set, entries, alert, level, &cause, &mut Sinks { timers, counts, raw });
    }
}

/// The value that a limit's alert is held against now.
fn current_value(set: &RuleSet, rule: &AlertRule, series: &super::Series) -> f64 {
    let Subject::Threshold(threshold) = rule.subject else { return f64::NAN };
    let Some(Test::Limit { unit, .. }) = set.thresholds.get(threshold as usize).map(|t| &t.test) else {
        return f64::NAN;
    };
    let band = series.plan.bands.iter().position(|band| band.unit == *unit);
    band.and_then(|band| series.bands.get(band)).map_or(f64::NAN, |state| state.value)
}
