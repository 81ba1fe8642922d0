//! What a rule's keys must be beyond what each says for itself, and the parts
//! of a rule that other crates check.

use std::collections::BTreeMap;

use grey_config::Duration;
use grey_detect::Method;
use grey_expr::Schema;
use grey_model::limits::NAME_BYTES_MAX;
use grey_spectra::{Analyzer, Band, SpectrumSpec, Window};
use grey_window::{Assigner, Needs, WindowSpec};

use super::{Patterns, RuleError, compile};
use crate::spec::{
    Action, AggregateRule, AnomalyRule, DetectorKind, Effect, Field, FilterRule, Limits, RuleSpec, Rules, SpectrumRule,
    SpectrumWindow, Texts, ThresholdRule, WindowKind,
};

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Longest time that an alert waits, rests or is counted over.
const WAIT_MAX: Duration = Duration::from_secs(30 * 86_400);
const IDLE_MAX: Duration = Duration::from_secs(86_400);
/// Panes that a hopping or sliding window is made of.
const PANES_MAX: u64 = 64;
/// How late readings may be by default.
const LATENESS_MS_DEFAULT: u64 = 2_000;

struct With<'a>(&'a mut dyn FnMut(&'static str, String, String));

impl With<'_> {
    fn reject(&mut self, key: &'static str, problem: impl Into<String>, allowed: impl Into<String>) {
        (self.0)(key, problem.into(), allowed.into());
    }

    fn within(&mut self, key: &'static str, value: Duration, least: Duration, most: Duration) {
        if value < least || value > most {
            self.reject(key, format!("{value} is out of range"), format!("{least} to {most}"));
        }
    }
}

/// Reports what is wrong with one rule by itself.
pub(super) fn rule(spec: &RuleSpec, reject: &mut dyn FnMut(&'static str, String, String)) {
    let mut with = With(reject);
    match spec {
        RuleSpec::Threshold(rule) => threshold(rule, &mut with),
        RuleSpec::Anomaly(rule) => anomaly(rule, &mut with),
        RuleSpec::Aggregate(rule) => aggregate(rule, &mut with),
        RuleSpec::Filter(rule) => filter(rule, &mut with),
        RuleSpec::Spectrum(rule) => spectrum(rule, &mut with),
    }
}

fn threshold(rule: &ThresholdRule, with: &mut With<'_>) {
    with.within("for", rule.hold, Duration::default(), WAIT_MAX);
    with.within("cooldown", rule.cooldown, Duration::default(), WAIT_MAX);
    if let Some(rate) = rule.rate_limit {
        with.within("rate_limit", rate.window, Duration::from_secs(1), WAIT_MAX);
    }
    tags(&rule.tags, with);
    actions(&rule.action, &Action::LocalAlert, &rule.actions, with);
    let list = compile::actions(&rule.action, &rule.actions);
    let raises =
        list.iter().any(|a| matches!(a, Action::LocalAlert | Action::FlagAndUpload) || Effect::of(a).is_some());
    if !raises {
        let alert_keys = [
            ("clear", rule.clear.is_some()),
            ("for", rule.hold > Duration::default()),
            ("cooldown", rule.cooldown > Duration::default()),
            ("rate_limit", rule.rate_limit.is_some()),
        ];
        for (key, _) in alert_keys.iter().filter(|(_, given)| *given) {
            with.reject(key, "is given, but the rule raises no alert", "an action such as local_alert beside it");
        }
    }
}

/// Tags become attributes.
fn tags(tags: &Texts, with: &mut With<'_>) {
    for (name, value) in &tags.0 {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || value.len() > NAME_BYTES_MAX {
            let problem = format!("has a name of {} and a text of {} bytes", name.len(), value.len());
            with.reject("tags", problem, format!("1 to {NAME_BYTES_MAX} bytes each"));
        }
    }
}

fn actions(one: &Action, default: &Action, list: &[Action], with: &mut With<'_>) {
    if one != default && !list.is_empty() {
        with.reject("action", "is given beside actions", "action or actions");
    }
    for action in list.iter().chain(std::iter::once(one)) {
        if let Action::Publish(publish) = action {
            if publish.qos > 2 {
                with.reject("actions", format!("publishes with qos {}", publish.qos), "qos 0, 1 or 2");
            }
            let topic = publish.topic.text();
            if topic.contains(['+', '#']) || topic.starts_with('$') {
                let problem = format!("publishes to {topic:?}");
                with.reject("actions", problem, "a topic without +, # and a leading $");
            }
        }
        if let Action::Webhook(webhook) = action {
            let url = webhook.url.text();
            if !url.starts_with("http://") && !url.starts_with("https://") {
                with.reject("actions", format!("the webhook {url:?} is no URL"), "http://… or https://…");
            }
        }
    }
    for (n, action) in list.iter().enumerate() {
        let same = |other: &Action| std::mem::discriminant(other) == std::mem::discriminant(action);
        if Effect::of(action).is_none() && list[..n].iter().any(same) {
            with.reject("actions", format!("names {action} twice"), "each action once");
        }
    }
    let decides = |wanted: fn(&Action) -> bool| list.iter().any(wanted);
    if decides(|a| *a == Action::Drop)
        && decides(|a| matches!(a, Action::FlagAndUpload | Action::Sample(_) | Action::SetLane(_)))
    {
        with.reject("actions", "drops readings that it also forwards", "drop, or one that forwards");
    }
}

fn anomaly(rule: &AnomalyRule, with: &mut With<'_>) {
    match (&rule.model, rule.detector) {
        (Some(_), Some(_)) => with.reject("detector", "is given beside a model", "model or detector"),
        (Some(_), None) if !rule.streams.is_empty() => {
            with.reject("streams", "is given, but a model names its streams itself", "streams with a detector");
        }
        (None, None) => {
            let words = DetectorKind::WORDS.join(", ");
            with.reject("model", "is missing", format!("a model's name, or detector with one of {words}"));
        }
        _ => {}
    }
    if rule.score.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
        with.reject("score", format!("{} is out of range", rule.score.unwrap_or_default()), "0 to 1");
    }
    with.within("cooldown", rule.cooldown, Duration::default(), WAIT_MAX);
    if let Some(rate) = rule.rate_limit {
        with.within("rate_limit", rate.window, Duration::from_secs(1), WAIT_MAX);
    }
    tags(&rule.tags, with);
    actions(&rule.action, &Action::FlagAndUpload, &rule.actions, with);
}

fn aggregate(rule: &AggregateRule, with: &mut With<'_>) {
    use WindowKind::{Count, Hopping, Session, Sliding, Tumbling};
    let kind = rule.window;
    let keys = [
        ("interval", rule.interval.is_some(), matches!(kind, Tumbling | Hopping | Sliding), kind == Session),
        ("every", rule.every.is_some(), matches!(kind, Hopping), kind == Sliding),
        ("gap", rule.gap.is_some(), kind == Session, false),
        ("size", rule.size.is_some(), kind == Count, false),
    ];
    for (key, given, needed, allowed) in keys {
        if needed && !given {
            with.reject(key, format!("is missing for a {kind} window"), format!("{key} with its value"));
        }
        if given && !needed && !allowed {
            with.reject(key, format!("says nothing for a {kind} window"), "leave it out");
        }
    }
    for (key, value) in [("interval", rule.interval), ("every", rule.every), ("gap", rule.gap)] {
        if let Some(value) = value {
            with.within(key, value, INTERVAL_MIN, INTERVAL_MAX);
        }
    }
    if let (Some(interval), Some(every), Hopping | Sliding) = (rule.interval, rule.every, kind)
        && every.as_millis() > 0
    {
        let (length, step) = (interval.as_millis(), every.as_millis());
        if kind == Hopping && (length % step != 0 || length / step > PANES_MAX) {
            let allowed = format!("a time that {interval} is 1 to {PANES_MAX} times");
            with.reject("every", format!("{every} does not divide {interval}"), allowed);
        }
        if step > length {
            with.reject("every", format!("{every} is longer than {interval}"), format!("up to {interval}"));
        }
    }
    if rule.size == Some(0) {
        with.reject("size", "0 is out of range", "1 to 4294967295");
    }
    if let Some(lateness) = rule.lateness {
        with.within("lateness", lateness, Duration::default(), IDLE_MAX);
    }
    with.within("idle", rule.idle, Duration::default(), IDLE_MAX);
    with.within("ahead_max", rule.ahead_max, Duration::default(), IDLE_MAX);
    if let Some(late) = &rule.late
        && late.len() > NAME_BYTES_MAX
    {
        with.reject("late", format!("has {} bytes", late.len()), format!("up to {NAME_BYTES_MAX} bytes"));
    }
    if rule.fields.is_empty() {
        with.reject("fields", "is empty", Field::WORDS.join(", "));
    }
    let repeated = rule.fields.iter().enumerate().find(|(n, field)| rule.fields[..*n].contains(field));
    if let Some((_, field)) = repeated {
        with.reject("fields", format!("names {field} twice"), "each field once");
    }
}

fn filter(rule: &FilterRule, with: &mut With<'_>) {
    if rule.deduplicate.is_none() && rule.deadband.is_none() && rule.sample.is_none() {
        with.reject("type", "filters nothing", "one of deduplicate, deadband, sample");
    }
    if rule.max_interval.is_some() && rule.deadband.is_none() && rule.deduplicate.is_none() && rule.sample.is_none() {
        with.reject("max_interval", "says nothing by itself", "deadband beside it");
    }
    for (key, value) in [("deduplicate", rule.deduplicate), ("max_interval", rule.max_interval)] {
        if let Some(value) = value {
            with.within(key, value, Duration::from_millis(1), WAIT_MAX);
        }
    }
}

fn spectrum(rule: &SpectrumRule, with: &mut With<'_>) {
    let spec = spectrum_spec(rule);
    if let Err(error) = Analyzer::new(spec.clone()) {
        with.reject(spectrum_key(&error.to_string()), error.to_string(), "see the settings of a spectrum");
        return;
    }
    let fields = spec.field_names();
    for (n, alarm) in rule.alarms.iter().enumerate() {
        if rule.alarms[..n].iter().any(|other| other.field == alarm.field) {
            with.reject("alarms", format!("names {} twice", alarm.field), "each derived stream once");
        }
        if !fields.iter().any(|field| **field == *alarm.field) {
            let known = fields.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ");
            with.reject("alarms", format!("{:?} is no derived stream", alarm.field), known);
        }
        let limits = [alarm.warning, alarm.critical];
        if limits == [None, None] {
            with.reject("alarms", format!("{} has no limit", alarm.field), "warning, critical, or both");
        }
        if let [Some(warning), Some(critical)] = limits
            && warning > critical
        {
            let problem = format!("{} warns at {warning}, over the critical {critical}", alarm.field);
            with.reject("alarms", problem, "a warning below the critical limit");
        }
    }
}

/// The key that a spectrum's error is about.
fn spectrum_key(error: &str) -> &'static str {
    let keys = [("band", "bands"), ("overlap", "overlap"), ("peaks", "peaks"), ("rate", "sample_rate")];
    keys.iter().find(|(word, _)| error.contains(word)).map_or("size", |(_, key)| key)
}

/// Bounds of a rule set as a whole.
pub(super) fn limits(limits: &Limits, errors: &mut Vec<RuleError>) {
    if limits.device_rate == Some(0) || limits.device_burst == Some(0) || limits.alerts_per_minute == 0 {
        errors.push(RuleError::Source("limits: a limit of 0 lets nothing through; use a number from 1".into()));
    }
    if limits.device_burst.is_some() && limits.device_rate.is_none() {
        errors.push(RuleError::Source("limits: device_burst needs device_rate".into()));
    }
}

/// What conditions may refer to: the known streams, and what rules derive of them.
pub(super) fn schema(rules: &Rules) -> Schema {
    let known = &rules.streams.0;
    let mut schema = Schema { streams: (!known.is_empty()).then(|| known.clone()), fields: BTreeMap::new() };
    for (stream, own) in known {
        for spec in &rules.rules {
            match spec {
                RuleSpec::Aggregate(rule) if Patterns::new(&rule.streams).matches(stream) => {
                    for field in &rule.fields {
                        let has_unit = !matches!(field, Field::Count | Field::Rate);
                        let field_unit = own.clone().filter(|_| has_unit);
                        schema.fields.entry(format!("{stream}.{field}")).or_insert(field_unit);
                    }
                }
                RuleSpec::Spectrum(rule) if Patterns::new(&rule.streams).matches(stream) => {
                    for field in spectrum_spec(rule).field_names() {
                        let field_unit = spectrum_unit(&field, own.as_deref());
                        schema.fields.entry(format!("{stream}.{field}")).or_insert(field_unit);
                    }
                }
                _ => {}
            }
        }
    }
    schema
}

/// True for the name of a number that a rule derives.
pub(super) fn is_derived(rules: &Rules, name: &str) -> bool {
    let is_of = |streams: &[String], field: &str| {
        let stream = name.strip_suffix(field).and_then(|rest| rest.strip_suffix('.'));
        stream.is_some_and(|stream| Patterns::new(streams).matches(stream))
    };
    rules.rules.iter().any(|spec| match spec {
        RuleSpec::Aggregate(rule) => rule.fields.iter().any(|field| is_of(&rule.streams, field.as_str())),
        RuleSpec::Spectrum(rule) => spectrum_spec(rule).field_names().iter().any(|field| is_of(&rule.streams, field)),
        _ => false,
    })
}

/// The unit of a number that a spectrum derives, given that of the samples.
pub(crate) fn spectrum_unit(field: &str, own: Option<&str>) -> Option<String> {
    match field {
        "velocity_rms" => Some("mm/s".into()),
        "crest" | "kurtosis" => None,
        field if field.ends_with("_hz") => Some("Hz".into()),
        _ => own.map(str::to_owned),
    }
}

/// The window of a rule.
pub(super) fn window(rule: &AggregateRule) -> Result<WindowSpec, String> {
    let size_ms = rule.interval.map_or(0, |interval| interval.as_millis() as i64);
    let every_ms = rule.every.map_or(size_ms, |every| every.as_millis() as i64);
    let assigner = match rule.window {
        WindowKind::Tumbling => Assigner::Tumbling { size_ms },
        WindowKind::Hopping => Assigner::Hopping { size_ms, every_ms },
        WindowKind::Sliding => {
            Assigner::Sliding { size_ms, every_ms: rule.every.map_or(1_000.min(size_ms), |_| every_ms) }
        }
        WindowKind::Session => Assigner::Session {
            gap_ms: rule.gap.map_or(0, |gap| gap.as_millis() as i64),
            size_max_ms: rule.interval.unwrap_or(INTERVAL_MAX).as_millis() as i64,
        },
        WindowKind::Count => Assigner::Count { size: u64::from(rule.size.unwrap_or(1)) },
    };
    let longest = rule.interval.or(rule.gap).unwrap_or_default().as_millis();
    let lateness = rule.lateness.map_or(LATENESS_MS_DEFAULT.min(longest / 10), Duration::as_millis);
    let fields: Vec<grey_window::Field> = rule.fields.iter().map(|field| window_field(*field)).collect();
    WindowSpec::new(
        assigner,
        Needs::of(&fields),
        lateness as i64,
        rule.idle.as_millis() as i64,
        rule.ahead_max.as_millis() as i64,
    )
    .map_err(|error| error.to_string())
}

/// A field as windows know it.
pub(crate) fn window_field(field: Field) -> grey_window::Field {
    match field {
        Field::Avg => grey_window::Field::Avg,
        Field::Min => grey_window::Field::Min,
        Field::Max => grey_window::Field::Max,
        Field::Count => grey_window::Field::Count,
        Field::Sum => grey_window::Field::Sum,
        Field::First => grey_window::Field::First,
        Field::Last => grey_window::Field::Last,
        Field::Stddev => grey_window::Field::Stddev,
        Field::Rate => grey_window::Field::Rate,
        Field::P50 => grey_window::Field::P50,
        Field::P95 => grey_window::Field::P95,
        Field::P99 => grey_window::Field::P99,
    }
}

/// A detector as its crate knows it.
pub(super) fn method(kind: DetectorKind) -> Method {
    match kind {
        DetectorKind::Robust => Method::Robust,
        DetectorKind::Ewma => Method::Ewma,
        DetectorKind::Cusum => Method::Cusum,
        DetectorKind::Seasonal => Method::Seasonal,
        DetectorKind::General => Method::General,
    }
}

fn spectrum_spec(rule: &SpectrumRule) -> SpectrumSpec {
    let mut spec = SpectrumSpec::new(rule.sample_rate, rule.size as usize);
    spec.overlap = rule.overlap;
    spec.window = match rule.window {
        SpectrumWindow::Hann => Window::Hann,
        SpectrumWindow::Hamming => Window::Hamming,
        SpectrumWindow::FlatTop => Window::FlatTop,
        SpectrumWindow::Rectangular => Window::Rectangular,
    };
    let band =
        |band: &crate::spec::BandSpec| Band { name: band.name.as_str().into(), from_hz: band.from, to_hz: band.to };
    spec.bands = rule.bands.iter().map(band).collect();
    spec.peaks = rule.peaks as usize;
    spec.velocity = rule.velocity || rule.alarms.iter().any(|alarm| alarm.field == "velocity_rms");
    spec
}

/// The analyzer of a rule.
pub(super) fn analyzer(rule: &SpectrumRule) -> Result<Analyzer, String> {
    Analyzer::new(spectrum_spec(rule)).map_err(|error| error.to_string())
}
