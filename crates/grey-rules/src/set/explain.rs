//! What rules do, in words.

use std::fmt::Write as _;

use super::{RuleSet, compile};
use crate::spec::{
    Action, AggregateRule, AnomalyRule, Effect, FilterRule, Forward, GroupBy, RuleSpec, SpectrumRule, ThresholdRule,
    WindowKind,
};

/// One line for the forwarding policy and one for each rule.
pub(super) fn explain(set: &RuleSet) -> Vec<String> {
    let policy = match set.forward {
        Forward::Raw => "every reading is forwarded",
        Forward::Aggregates => "raw readings stay at the site, except those that a rule flags for upload",
        Forward::Anomalies => "raw readings stay at the site, except those that triggered a rule",
    };
    let mut lines = vec![format!("0 forward {}: {policy}", set.forward)];
    for (index, spec) in set.specs().iter().enumerate() {
        let what = match spec {
            RuleSpec::Threshold(rule) => threshold(rule),
            RuleSpec::Aggregate(rule) => aggregate(rule),
            RuleSpec::Anomaly(rule) => anomaly(set, index, rule),
            RuleSpec::Filter(rule) => filter(rule),
            RuleSpec::Spectrum(rule) => spectrum(rule),
        };
        lines.push(format!("{} {}: {what}", index + 1, set.names[index]));
    }
    lines
}

fn of(group: &GroupBy) -> String {
    match group {
        GroupBy::Device => "a device's".into(),
        GroupBy::Site => "the site's".into(),
        GroupBy::Tag(tag) => format!("the {tag}'s"),
    }
}

fn streams(list: &[String], all: &str) -> String {
    if list.is_empty() { all.into() } else { list.join(", ") }
}

fn threshold(rule: &ThresholdRule) -> String {
    let list = compile::actions(&rule.action, &rule.actions);
    let raises =
        list.iter().any(|a| matches!(a, Action::LocalAlert | Action::FlagAndUpload) || Effect::of(a).is_some());
    let whose = of(&rule.group_by);
    let mut line = if raises {
        let clear = rule.clear.as_ref().map_or_else(|| "ceases to hold".into(), |c| format!("is over, at {c}"));
        let hold = if rule.hold.as_millis() > 0 { format!(" for {}", rule.hold) } else { String::new() };
        format!("{} alert when {whose} {} begins to hold{hold} or {clear}", rule.severity, rule.condition)
    } else {
        format!("readings for which {whose} {} holds", rule.condition)
    };
    if let Some(rate) = rule.rate_limit {
        let _ = write!(line, ", at most {} in {}", rate.count, rate.window);
    }
    if rule.cooldown.as_millis() > 0 {
        let _ = write!(line, ", not again for {}", rule.cooldown);
    }
    for action in list {
        match action {
            Action::LocalAlert => {}
            Action::FlagAndUpload => line.push_str(", and forward the readings that do"),
            Action::Drop => line.push_str(" stay at the site"),
            other => _ = write!(line, ", {other}"),
        }
    }
    line
}

fn aggregate(rule: &AggregateRule) -> String {
    let fields = rule.fields.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ");
    let whose = match &rule.by.0 {
        GroupBy::Device => "every device's".to_owned(),
        GroupBy::Site => "the whole site's".to_owned(),
        GroupBy::Tag(tag) => format!("every {tag}'s"),
    };
    let streams = streams(&rule.streams, "streams");
    let interval = rule.interval.unwrap_or_default();
    let when = match rule.window {
        WindowKind::Tumbling => format!("each {interval}"),
        WindowKind::Hopping => format!("over {interval}, each {}", rule.every.unwrap_or_default()),
        WindowKind::Sliding => format!("over the last {interval}"),
        WindowKind::Session => format!("until {} without a reading", rule.gap.unwrap_or_default()),
        WindowKind::Count => format!("each {} readings", rule.size.unwrap_or_default()),
    };
    let filter = rule.filter.as_ref().map_or_else(String::new, |filter| format!(" where {filter}"));
    format!("{fields} of {whose} {streams}{filter} {when}")
}

fn anomaly(set: &RuleSet, index: usize, rule: &AnomalyRule) -> String {
    let score = rule.score.map_or_else(String::new, |score| format!(" from a score of {score}"));
    let Some(model) = set.models.iter().find(|model| usize::from(model.rule) == index) else {
        let detector = rule.detector.unwrap_or_default();
        return format!(
            "{} finding of the {detector} detector in {}{score}",
            rule.severity,
            streams(&rule.streams, "every stream")
        );
    };
    match model.candidates.get(model.usable(0)) {
        Some(candidate) => {
            format!("{} finding of the model {} {}{score}", rule.severity, model.model, candidate.version)
        }
        None => format!("nothing: {}", problem(model)),
    }
}

fn problem(model: &super::ModelRule) -> String {
    let of_candidates = model.candidates.iter().find_map(|candidate| candidate.model.as_ref().err());
    let problem = of_candidates.or(model.problem.as_ref());
    problem.map_or_else(|| format!("no version of {} can be used", model.model), ToString::to_string)
}

fn filter(rule: &FilterRule) -> String {
    let mut parts = Vec::new();
    if let Some(time) = rule.deduplicate {
        parts.push(format!("repeat the last value within {time}"));
    }
    if let Some(band) = &rule.deadband {
        let unit = band.unit.as_deref().unwrap_or_default();
        parts.push(format!("differ from the last one forwarded by up to {}{unit}", band.value));
    }
    if let Some(sample) = rule.sample {
        parts.push(format!("are not of the {}", Action::Sample(sample).to_string().trim_start_matches("sample ")));
    }
    let at_least = rule.max_interval.map_or_else(String::new, |time| format!(", but one goes on each {time}"));
    let filter = rule.filter.as_ref().map_or_else(String::new, |filter| format!(" where {filter}"));
    format!("readings of {}{filter} stay that {}{at_least}", streams(&rule.streams, "every stream"), parts.join(" or "))
}

fn spectrum(rule: &SpectrumRule) -> String {
    let alarms = rule.alarms.iter().map(|alarm| alarm.field.as_str()).collect::<Vec<_>>().join(", ");
    let alarms = if alarms.is_empty() { String::new() } else { format!(", alerts over limits of {alarms}") };
    let of = streams(&rule.streams, "every array");
    format!("spectra of {of}, {} samples at {} Hz{alarms}", rule.size, rule.sample_rate)
}

/// Rules that do not act, data that goes nowhere.
pub(super) fn warnings(set: &RuleSet) -> Vec<String> {
    let mut warnings = Vec::new();
    for model in &set.models {
        let name = &set.names[usize::from(model.rule)];
        let usable = model.usable(0);
        if usable == model.candidates.len() {
            warnings.push(format!("rule {name}: it rests, since {}", problem(model)));
        } else if usable > 0 {
            let version = &model.candidates[usable].version;
            warnings.push(format!("rule {name}: version {version} stands in, since {}", problem(model)));
        } else if let Some(problem) = &model.problem {
            warnings.push(format!("rule {name}: a version cannot be used: {problem}"));
        }
    }
    if set.forward == Forward::Aggregates && set.aggregates.is_empty() {
        warnings.push(
            "forward is aggregates, but no rule aggregates: readings are kept at the site and only alerts leave it"
                .into(),
        );
    }
    warnings
}
