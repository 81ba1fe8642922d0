//! Runs a rule set over events: a deterministic function of state, event and
//! time. It reads no clock and depends on no order but that of its calls.
//!
//! Time is the latest stamp seen and never goes back. A reading belongs to the
//! window that is open at that time, so a clock that steps back cannot reopen
//! a window that was already sent.

use std::sync::Arc;

use grey_model::{Event, Kind, Lane, Name, Quality, RuleId, Stamp, Value};

use crate::operation::{Operation, OperationError};
use crate::series::{OpenWindows, SeriesTable};
use crate::set::{RuleSet, Threshold};
use crate::spec::Forward;
use crate::view::{
    AlertState, AlertView, Derived, DerivedEvent, HotSpot, ModelStatus, RuleCounters, RuleStatus, SilenceView, Verdict,
};
use crate::window::conversion;

/// Series kept unless told otherwise: 50,000 devices of two streams.
pub const SERIES_MAX: usize = 100_000;

/// The time of an engine that has seen none.
pub(crate) const NO_TIME_MS: i64 = -1;

/// What an engine is told of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// The site's name: the device of events that no device made.
    pub site: Name,
    /// Series kept; one beyond takes the place of the one that was idle longest.
    pub series_max: usize,
    /// Threads that evaluate batches; 0 and 1: the caller's alone.
    pub workers: usize,
}

impl EngineConfig {
    /// The defaults of a site: [`SERIES_MAX`] series, no threads.
    pub fn new(site: impl Into<Name>) -> Self {
        Self { site: site.into(), series_max: SERIES_MAX, workers: 1 }
    }
}

/// Why a window or alert ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Evicted,
    RulesChanged,
}

/// Rules and their state.
#[derive(Debug)]
pub struct Engine {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) config: EngineConfig,
    pub(crate) series: SeriesTable,
    /// Per aggregate of the set.
    pub(crate) open: Vec<OpenWindows>,
    /// The latest time seen, Unix ms.
    pub(crate) time_ms: i64,
    pub(crate) counters: RuleCounters,
}

impl Engine {
    /// An engine without state.
    pub fn new(rules: Arc<RuleSet>, config: EngineConfig) -> Self {
        let open = rules.aggregates.iter().map(|_| OpenWindows::default()).collect();
        Self {
            rules,
            series: SeriesTable::new(config.series_max),
            config,
            open,
            time_ms: NO_TIME_MS,
            counters: RuleCounters::default(),
        }
    }

    /// The rules that run.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// What was counted.
    pub fn counters(&self) -> RuleCounters {
        self.counters
    }

    /// Series that are known now.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Takes one event in. `now` is the stamp of its acceptance. Events that rules make of it are appended to `out`.
    pub fn process(&mut self, event: &Event, now: Stamp, out: &mut Derived) -> Verdict {
        self.move_time(now.max(event.stamp), out);
        if event.kind != Kind::Reading {
            return Verdict::Forward(None);
        }
        let triggered = match event.value.as_f64() {
            Some(value) if value.is_finite() && event.quality != Quality::Bad => self.evaluate(event, value, now, out),
            _ => {
                self.counters.not_numeric += 1;
                Triggered::default()
            }
        };
        let forward = match self.rules.forward {
            Forward::Raw => true,
            Forward::Aggregates => triggered.flagged,
            Forward::Anomalies => triggered.flagged || triggered.crossed,
        };
        if forward { Verdict::Forward(None) } else { Verdict::Reduced(RuleId(0)) }
    }

    /// Moves time, so that windows end when no event arrives.
    pub fn advance(&mut self, now: Stamp, out: &mut Derived) {
        self.move_time(now, out);
    }

    /// Takes events in one after the other; a verdict for each is appended.
    pub fn process_batch(&mut self, events: &[Event], now: Stamp, verdicts: &mut Vec<Verdict>, out: &mut Derived) {
        verdicts.extend(events.iter().map(|event| self.process(event, now, out)));
    }

    /// When [`Engine::advance`] has something to do, Unix ms, if no event comes before.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.open.iter().filter(|open| !open.is_empty()).map(|open| open.end_ms).min()
    }

    /// Puts other rules in force. Rules that are the same in name and content keep their state; what the
    /// others have open ends here.
    pub fn change_rules(&mut self, rules: Arc<RuleSet>, now: Stamp, out: &mut Derived) {
        self.finish(now, out);
        let time_ms = self.time_ms;
        *self = Self::new(rules, self.config.clone());
        self.time_ms = time_ms;
    }

    /// Does what a person asked for.
    pub fn operate(&mut self, operation: &Operation, _now: Stamp, _out: &mut Derived) -> Result<(), OperationError> {
        operation.check()?;
        match operation {
            Operation::Acknowledge { alert, .. } => Err(OperationError::NoAlert(alert.clone())),
            Operation::Silence { .. } => Err(OperationError::TooMany),
            Operation::Unsilence { id } => Err(OperationError::NoSilence(id.clone())),
        }
    }

    /// Silences in force.
    pub fn silences(&self) -> Vec<SilenceView> {
        Vec::new()
    }

    /// Devices and streams that get far more than their share of the events.
    pub fn hot_spots(&self) -> Vec<HotSpot> {
        Vec::new()
    }

    /// How the models of the rules fare.
    pub fn models(&self) -> Vec<ModelStatus> {
        Vec::new()
    }

    /// What each rule has counted.
    pub fn rule_status(&self) -> Vec<RuleStatus> {
        Vec::new()
    }

    /// Ends everything that is open, before other rules take over: windows are
    /// sent with the attribute `partial`, firing alerts are cleared.
    pub fn finish(&mut self, now: Stamp, out: &mut Derived) {
        self.move_time(now, out);
        for rule in 0..self.open.len() {
            self.close_windows(rule, now, out, Some(Cut::RulesChanged));
        }
        let firing: Vec<u32> =
            self.series.by_age().filter(|at| self.series.get(*at).alerts.iter().any(|a| a.firing.is_some())).collect();
        for at in firing {
            self.clear_alerts(at, now, out, Cut::RulesChanged);
        }
    }

    /// Alerts that are pending or firing, by device, stream and rule, and the last that ended.
    pub fn alerts(&self) -> Vec<AlertView> {
        let mut alerts = Vec::new();
        for at in self.series.by_age() {
            let series = self.series.get(at);
            let watching = series.watching.iter().flat_map(|w| w.iter());
            for (state, rule) in series.alerts.iter().zip(watching) {
                let Some((since_ms, value)) = state.firing else { continue };
                let rule = &self.rules.thresholds[usize::from(*rule)];
                alerts.push(AlertView {
                    id: "".into(),
                    state: AlertState::Firing,
                    rule: rule.name.clone(),
                    condition: rule.condition_name.clone(),
                    severity: rule.severity.clone(),
                    tags: Vec::new(),
                    device: series.device.clone(),
                    stream: series.stream.clone(),
                    value,
                    unit: rule.unit_name.clone(),
                    since_ms,
                    fired_ms: Some(since_ms),
                    cleared_ms: None,
                    acknowledged: None,
                    silenced: false,
                    suppressed: false,
                });
            }
        }
        alerts.sort_by(|a, b| (&a.device, &a.stream, &a.rule).cmp(&(&b.device, &b.stream, &b.rule)));
        alerts
    }

    fn move_time(&mut self, now: Stamp, out: &mut Derived) {
        let now_ms = now.unix_ms();
        if now_ms <= self.time_ms {
            return;
        }
        self.time_ms = now_ms;
        for rule in 0..self.open.len() {
            if now_ms >= self.open[rule].end_ms {
                self.close_windows(rule, now, out, None);
                let interval_ms = self.rules.aggregates[rule].interval_ms;
                self.open[rule].move_to(now_ms, interval_ms);
            }
        }
    }

    /// Sends every open window of a rule.
    fn close_windows(&mut self, rule: usize, now: Stamp, out: &mut Derived, cut: Option<Cut>) {
        let slots = self.open[rule].take();
        out.events.reserve(slots.len());
        for &at in &slots {
            self.send_window(at, rule, now, out, cut);
        }
        self.open[rule].reuse(slots);
    }

    fn send_window(&mut self, at: u32, rule: usize, now: Stamp, out: &mut Derived, cut: Option<Cut>) {
        let aggregate = &self.rules.aggregates[rule];
        let words = &self.rules.words;
        let start_ms = self.open[rule].start_ms;
        let series = self.series.get_mut(at);
        let window = &mut series.windows[rule];
        let mut attributes = vec![aggregate.window.clone()];
        if cut.is_some() {
            attributes.push((words.partial.clone(), words.yes.clone()));
        }
        let event = Event {
            device: series.device.clone(),
            stream: series.stream.clone(),
            kind: Kind::Aggregate,
            value: Value::Fields(window.fields(aggregate)),
            device_time_ms: start_ms,
            stamp: now,
            quality: Quality::Good,
            unit: window.unit.take(),
            id: None,
            attributes,
        };
        window.clear();
        out.events.push(DerivedEvent { lane: Lane::Normal, event: event, effects: None });
        self.counters.aggregates += 1;
    }

    fn evaluate(&mut self, event: &Event, value: f64, now: Stamp, out: &mut Derived) -> Triggered {
        let rules = Arc::clone(&self.rules);
        if rules.aggregates.is_empty() && !rules.by_stream.contains_key(&*event.stream) {
            return Triggered::default();
        }
        let at = self.slot(event, now, out);
        let unit = event.unit.as_ref().filter(|unit| !unit.is_empty());
        let triggered = self.check_thresholds(&rules, at, event, value, unit, now, out);
        for (rule, aggregate) in rules.aggregates.iter().enumerate() {
            let window = &mut self.series.get_mut(at).windows[rule];
            let first = window.count == 0;
            if !window.add(aggregate, value, unit) {
                self.counters.unit_mismatches += 1;
            } else if first {
                window.open_at = self.open[rule].push(at);
            }
        }
        triggered
    }

    #[allow(clippy::too_many_arguments)]
    fn check_thresholds(
        &mut self,
        rules: &RuleSet,
        at: u32,
        event: &Event,
        value: f64,
        unit: Option<&Name>,
        now: Stamp,
        out: &mut Derived,
    ) -> Triggered {
        let mut triggered = Triggered::default();
        let series = self.series.get_mut(at);
        let Some(watching) = &series.watching else { return triggered };
        for (position, rule) in watching.iter().enumerate() {
            let threshold = &rules.thresholds[usize::from(*rule)];
            let state = &mut series.alerts[position];
            let Some(value) = in_unit_of(threshold, state, value, unit) else {
                self.counters.unit_mismatches += 1;
                continue;
            };
            let holds = threshold.condition.operator().holds(value, threshold.condition.limit());
            triggered.flagged |= holds && threshold.flags;
            match (holds, state.firing) {
                (true, None) => {
                    state.firing = Some((self.time_ms, value));
                    self.counters.alerts_fired += 1;
                    out.events.push(DerivedEvent {
                        lane: Lane::Critical,
                        event: alert(rules, threshold, event, value, now, None),
                        effects: None,
                    });
                    triggered.crossed = true;
                }
                (false, Some((since_ms, _))) => {
                    state.firing = None;
                    self.counters.alerts_cleared += 1;
                    out.events.push(DerivedEvent {
                        lane: Lane::Critical,
                        event: alert(rules, threshold, event, value, now, Some(since_ms)),
                        effects: None,
                    });
                    triggered.crossed = true;
                }
                _ => {}
            }
        }
        triggered
    }

    /// The series' slot; a new series may take the place of an old one.
    fn slot(&mut self, event: &Event, now: Stamp, out: &mut Derived) -> u32 {
        if let Some(at) = self.series.find(&event.device, &event.stream) {
            return at;
        }
        if !self.series.is_full() {
            return self.series.insert(&self.rules, &event.device, &event.stream);
        }
        let at = self.series.victim();
        for rule in 0..self.open.len() {
            let window = &self.series.get(at).windows[rule];
            if window.count > 0 {
                let position = window.open_at;
                self.send_window(at, rule, now, out, Some(Cut::Evicted));
                let series = &mut self.series;
                self.open[rule]
                    .remove(position, |slot, position| series.get_mut(slot).windows[rule].open_at = position);
            }
        }
        self.clear_alerts(at, now, out, Cut::Evicted);
        self.counters.series_evicted += 1;
        let rules = Arc::clone(&self.rules);
        self.series.replace(at, &rules, &event.device, &event.stream);
        at
    }

    /// Ends the firing alerts of a series whose value is not known.
    fn clear_alerts(&mut self, at: u32, now: Stamp, out: &mut Derived, cut: Cut) {
        let rules = Arc::clone(&self.rules);
        let series = self.series.get_mut(at);
        let Some(watching) = &series.watching else { return };
        for (state, rule) in series.alerts.iter_mut().zip(watching.iter()) {
            let Some((since_ms, value)) = state.firing.take() else { continue };
            let threshold = &rules.thresholds[usize::from(*rule)];
            let mut source = Event::reading(series.device.clone(), series.stream.clone(), value, self.time_ms);
            source.stamp = now;
            let mut event = alert(&rules, threshold, &source, value, now, Some(since_ms));
            let reason = match cut {
                Cut::Evicted => "series_evicted",
                Cut::RulesChanged => "rules_changed",
            };
            event.attributes.push((rules.words.reason.clone(), reason.into()));
            out.events.push(DerivedEvent { lane: Lane::Critical, event: event, effects: None });
            self.counters.alerts_cleared += 1;
        }
    }
}

/// What thresholds say of one reading.
#[derive(Debug, Clone, Copy, Default)]
struct Triggered {
    /// It violates a rule that flags for upload.
    flagged: bool,
    /// An alert began or ended with it.
    crossed: bool,
}

/// The value in the condition's unit. A value or a condition without unit is compared as it stands.
fn in_unit_of(
    threshold: &Threshold,
    state: &mut crate::series::AlertState,
    value: f64,
    unit: Option<&Name>,
) -> Option<f64> {
    let (Some(own), Some(unit)) = (&threshold.unit_name, unit) else { return Some(value) };
    if own == unit {
        return Some(value);
    }
    if state.converted.as_ref().is_none_or(|(known, _)| known != unit) {
        state.converted = Some((unit.clone(), threshold.unit.and_then(|_| conversion(unit, own))));
    }
    let (_, conversion) = state.converted.as_ref()?;
    conversion.map(|c| c.apply(value))
}

fn alert(
    rules: &RuleSet,
    threshold: &Threshold,
    event: &Event,
    value: f64,
    now: Stamp,
    since_ms: Option<i64>,
) -> Event {
    let words = &rules.words;
    let state = if since_ms.is_some() { &words.cleared } else { &words.firing };
    let mut attributes = vec![
        (words.state.clone(), state.clone()),
        (words.rule.clone(), threshold.name.clone()),
        (words.condition.clone(), threshold.condition_name.clone()),
        (words.severity.clone(), threshold.severity.clone()),
    ];
    if let Some(since_ms) = since_ms {
        attributes.push((words.since.clone(), since_ms.to_string().into()));
    }
    let limit = threshold.condition.limit();
    Event {
        device: event.device.clone(),
        stream: event.stream.clone(),
        kind: Kind::Alert,
        value: Value::Fields([(words.value.clone(), value), (words.limit.clone(), limit)].into()),
        device_time_ms: event.device_time_ms,
        stamp: now,
        quality: event.quality,
        unit: threshold.unit_name.clone().or_else(|| event.unit.clone()),
        id: None,
        attributes,
    }
}
