//! Runs a rule set over events: a deterministic function of state, event and
//! time. It reads no clock and depends on no order but that of its calls.
//!
//! An event is seen by every rule before it is decided whether it leaves the
//! site. Time is the latest stamp seen; a stamp that is far behind it means
//! that the site's clock was set back, and what waits moves along.

use std::sync::Arc;

use grey_model::{Event, Lane, Name, RuleId, Stamp};

use crate::batch::{Batch, Partitions};
use crate::gate::{Gate, view_of};
use crate::hot::{Hot, HotKind, HotWatch};
use crate::operation::{Operation, OperationError};
use crate::partition::{ModelUse, Moves, Outcome, Partition, Raw, RuleCounts, Totals, acknowledged_event, shown_state};
use crate::set::RuleSet;
use crate::spec::{Forward, RuleSpec};
use crate::view::{
    Acknowledged, AlertState, AlertView, Derived, DerivedEvent, HotSpot, ModelStatus, RuleCounters, RuleStatus,
    SilenceView, Verdict,
};

/// Series kept unless told otherwise: 50,000 devices of two streams.
pub const SERIES_MAX: usize = 100_000;
/// The time of an engine that has seen none.
pub(crate) const NO_TIME_MS: i64 = -1;
/// A stamp this far behind the latest is that of a clock that was set back; one less far behind came late.
const SET_BACK_MS: i64 = 60_000;
/// Derived numbers are fed to conditions once: what these derive is fed to none.
const FEEDS_MAX: usize = 1 << 20;

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

/// Rules and their state.
#[derive(Debug)]
pub struct Engine {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) config: EngineConfig,
    pub(crate) parts: Partitions,
    pub(crate) hot: HotWatch,
    pub(crate) gate: Gate,
    /// The latest time seen, Unix ms.
    pub(crate) time_ms: i64,
    /// Counts of rules that are no longer in force.
    pub(crate) past: RuleCounters,
    raw: Raw,
    /// Room for what rules say of a batch.
    outcomes: Vec<Option<Outcome>>,
    verdicts: Vec<Verdict>,
}

impl Engine {
    /// An engine without state.
    pub fn new(rules: Arc<RuleSet>, config: EngineConfig) -> Self {
        Self {
            parts: Partitions::new(&rules, &config.site, config.series_max),
            hot: HotWatch::default(),
            gate: Gate::default(),
            time_ms: NO_TIME_MS,
            past: RuleCounters::default(),
            raw: Raw::default(),
            outcomes: Vec::new(),
            verdicts: Vec::new(),
            rules,
            config,
        }
    }

    /// The rules that run.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// What it was told of its site.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Series that are known now.
    pub fn series_count(&self) -> usize {
        self.parts.each().map(|part| part.series.len()).sum()
    }

    /// Memory that the state takes, in bytes, roughly.
    pub fn bytes(&self) -> usize {
        self.parts.each().map(Partition::bytes).sum()
    }

    /// Takes one event in. `now` is the stamp of its acceptance. Events that rules make of it are appended to `out`.
    pub fn process(&mut self, event: &Event, now: Stamp, out: &mut Derived) -> Verdict {
        let mut verdicts = std::mem::take(&mut self.verdicts);
        self.process_batch(std::slice::from_ref(event), now.max(event.stamp), &mut verdicts, out);
        let verdict = verdicts.pop().unwrap_or(Verdict::Forward(None));
        self.verdicts = verdicts;
        verdict
    }

    /// Takes events in that were accepted together, in their order; a verdict for each is appended. Of events of
    /// different devices the rules by site or tag see all after the rules by device have; what comes out is the
    /// same with any number of threads.
    pub fn process_batch(&mut self, events: &[Event], now: Stamp, verdicts: &mut Vec<Verdict>, out: &mut Derived) {
        self.move_time(now, out);
        for event in events {
            self.hot.note(&event.device, &event.stream);
        }
        let set = Arc::clone(&self.rules);
        let mut outcomes = std::mem::take(&mut self.outcomes);
        let batch = Batch { events, now, now_ms: self.time_ms };
        self.parts.evaluate(&set, batch, self.config.workers, &mut self.hot, &mut outcomes, &mut self.raw);
        if !self.raw.is_empty() {
            self.hand_on(now, out);
        }
        verdicts.reserve(events.len());
        for (outcome, event) in outcomes.drain(..).zip(events) {
            verdicts.push(outcome.map_or(Verdict::Forward(None), |outcome| self.judge(&outcome, &event.device)));
        }
        self.outcomes = outcomes;
    }

    /// Moves time, so that what waits is done when no event arrives.
    pub fn advance(&mut self, now: Stamp, out: &mut Derived) {
        self.move_time(now, out);
    }

    /// When [`Engine::advance`] may have something to do, Unix ms, if no event comes before.
    pub fn next_due_ms(&self) -> Option<i64> {
        let parts = self.parts.each().map(Partition::next_due_ms);
        parts.chain([self.gate.next_due_ms()]).flatten().min()
    }

    /// Puts other rules in force. Rules that are the same in name and content keep their state; what the
    /// others have open ends here: windows are sent with the attribute `partial`, firing alerts are cleared.
    pub fn change_rules(&mut self, rules: Arc<RuleSet>, now: Stamp, out: &mut Derived) {
        self.move_time(now, out);
        let moves = Moves::between(&self.rules, &rules);
        self.end(&rules, &moves, now, out);
        self.rules = rules;
    }

    /// Ends everything that is open: windows are sent with the attribute `partial`, firing alerts are cleared.
    pub fn finish(&mut self, now: Stamp, out: &mut Derived) {
        self.move_time(now, out);
        let rules = Arc::clone(&self.rules);
        // The counts of the rules stay.
        let moves = Moves { rules: Moves::between(&rules, &rules).rules, ..Moves::default() };
        self.end(&rules, &moves, now, out);
    }

    fn end(&mut self, rules: &RuleSet, moves: &Moves, now: Stamp, out: &mut Derived) {
        let before = Arc::clone(&self.rules);
        let (raw, now_ms) = (&mut self.raw, self.time_ms);
        let mut parts = self.parts.each_mut();
        let mut gone =
            parts.next().map(|part| part.change(&before, rules, moves, now, now_ms, raw)).unwrap_or_default();
        for part in parts {
            gone.extend(part.change(&before, rules, moves, now, now_ms, raw));
        }
        raw.feeds.clear();
        self.gate.pass(&before, &self.config.site, now, now_ms, raw, out);
        for (rule, counts) in gone.rules {
            if let Some(spec) = before.specs().get(usize::from(rule)) {
                add(&mut self.past, spec, &counts);
            }
        }
        self.past.model_fallbacks += gone.fallbacks;
    }

    /// Does what a person asked for.
    ///
    /// # Errors
    /// Nothing was done: there is no such alert or silence, or a limit is reached.
    pub fn operate(&mut self, operation: &Operation, now: Stamp, out: &mut Derived) -> Result<(), OperationError> {
        operation.check()?;
        self.move_time(now, out);
        match operation {
            Operation::Acknowledge { alert, by, note } => self.acknowledge(alert, by, note, now, out),
            Operation::Silence { rule, device, until_ms, by, note } => {
                self.gate.silence(rule.as_deref(), device.as_deref(), *until_ms, by, note, self.time_ms)
            }
            Operation::Unsilence { id } => self.gate.unsilence(id),
        }
    }

    fn acknowledge(
        &mut self,
        alert: &str,
        by: &str,
        note: &str,
        now: Stamp,
        out: &mut Derived,
    ) -> Result<(), OperationError> {
        let unknown = || OperationError::NoAlert(alert.into());
        let id = u64::from_str_radix(alert, 16).ok().filter(|_| alert.len() == 16).ok_or_else(unknown)?;
        let found = self.parts.each_mut().find_map(|part| part.entry_mut(id));
        let (key, entry) = found.ok_or_else(unknown)?;
        if shown_state(entry) != Some(AlertState::Firing) {
            return Err(OperationError::NotFiring(alert.into()));
        }
        let acknowledged = Acknowledged { by: by.into(), at_ms: self.time_ms, note: note.into() };
        entry.acknowledged = Some(Box::new(acknowledged));
        if let Some(event) = acknowledged_event(&self.rules, entry, &key, now) {
            out.events.push(DerivedEvent { lane: Lane::Critical, event, effects: None });
        }
        Ok(())
    }

    /// Alerts that are pending or firing, by device, stream and rule, and then the last that ended, newest first.
    pub fn alerts(&self) -> Vec<AlertView> {
        let mut alerts = Vec::new();
        for (key, entry) in self.parts.each().flat_map(Partition::entries) {
            if shown_state(entry).is_none() {
                continue;
            }
            let Some(rule) = self.rules.alert(entry.alert) else { continue };
            let mut view = view_of(rule, entry, key);
            view.suppressed |= self.gate.is_muted(entry.id);
            view.silenced = self.gate.is_silenced(&rule.name, key, self.time_ms);
            alerts.push(view);
        }
        alerts.sort_by(|a, b| (&a.device, &a.stream, &a.rule, &a.id).cmp(&(&b.device, &b.stream, &b.rule, &b.id)));
        alerts.extend(self.gate.recent());
        alerts
    }

    /// How many alerts fire.
    pub fn firing_count(&self) -> usize {
        let entries = self.parts.each().flat_map(Partition::entries);
        entries.filter(|(_, entry)| shown_state(entry) == Some(AlertState::Firing)).count()
    }

    /// Silences in force.
    pub fn silences(&self) -> Vec<SilenceView> {
        self.gate.silences()
    }

    /// Devices and streams that get far more than their share of the events.
    pub fn hot_spots(&self) -> Vec<HotSpot> {
        let limits = self.rules.limits.device_rate.is_some();
        let spot = |hot: &Hot| HotSpot {
            kind: hot.kind.as_str(),
            name: hot.name.clone(),
            share: hot.share,
            mitigation: match hot.kind {
                HotKind::Device if limits => "rate_limit",
                HotKind::Device => "pre_aggregation",
                // Its devices are spread over partitions, too.
                HotKind::Stream => "split, pre_aggregation",
            },
            mitigated: hot.mitigated,
        };
        self.hot.found().iter().map(spot).collect()
    }

    /// How the models of the rules fare.
    pub fn models(&self) -> Vec<ModelStatus> {
        let status = |(rule, usage): (&crate::set::ModelRule, &ModelUse)| {
            let loading = rule.candidates.iter().find_map(|candidate| candidate.model.as_ref().err());
            ModelStatus {
                rule: self.rules.names[usize::from(rule.rule)].clone(),
                model: rule.model.clone(),
                version: rule.candidates.get(usage.active).map(|candidate| candidate.version.clone()),
                versions: rule.candidates.iter().map(|candidate| candidate.version.clone()).collect(),
                inferences: usage.inferences,
                fallbacks: usage.fallbacks,
                problem: usage.problem.clone().or_else(|| loading.cloned()).or_else(|| rule.problem.clone()),
            }
        };
        let uses = self.model_uses();
        self.rules.models.iter().zip(&uses).map(status).collect()
    }

    /// What was counted since the site's first event.
    pub fn counters(&self) -> RuleCounters {
        let mut counters = self.past;
        for (n, spec) in self.rules.specs().iter().enumerate() {
            add(&mut counters, spec, &self.counts(n));
        }
        counters.alerts_suppressed += self.gate.suppressed_total;
        let mut totals = Totals::default();
        for part in self.parts.each() {
            let mut more = part.totals;
            totals.each().into_iter().zip(more.each()).for_each(|(sum, more)| *sum += *more);
        }
        counters.not_numeric += totals.not_numeric;
        counters.series_evicted += totals.series_evicted;
        counters.rate_limited += totals.rate_limited;
        counters.filtered += totals.rate_limited;
        counters.model_fallbacks += self.model_uses().iter().map(|usage| usage.fallbacks).sum::<u64>();
        counters
    }

    /// What each rule has counted.
    pub fn rule_status(&self) -> Vec<RuleStatus> {
        let models = self.models();
        let status = |(n, spec): (usize, &RuleSpec)| {
            let counts = self.counts(n);
            let name = self.rules.names[n].clone();
            let number = n as u16;
            let mismatch = self.parts.each().find_map(|part| part.mismatch.get(&number));
            let model = models.iter().find(|model| model.rule == name).and_then(|model| model.problem.clone());
            RuleStatus {
                rule: number + 1,
                name,
                kind: spec.type_name(),
                fired: counts.fired,
                cleared: counts.cleared,
                suppressed: counts.suppressed,
                windows: counts.windows,
                late: counts.late,
                ahead: counts.ahead,
                reduced: counts.reduced,
                unit_mismatches: counts.mismatches,
                problem: model.as_ref().or(mismatch).map(ToString::to_string),
            }
        };
        self.rules.specs().iter().enumerate().map(status).collect()
    }

    /// How models fare in all partitions together.
    fn model_uses(&self) -> Vec<ModelUse> {
        let mut uses = vec![ModelUse::default(); self.rules.models.len()];
        for part in self.parts.each() {
            for (sum, more) in uses.iter_mut().zip(&part.models) {
                sum.active = sum.active.max(more.active);
                sum.inferences += more.inferences;
                sum.fallbacks += more.fallbacks;
                sum.problem = sum.problem.take().or_else(|| more.problem.clone());
            }
        }
        uses
    }

    fn counts(&self, rule: usize) -> RuleCounts {
        let mut counts = RuleCounts::default();
        self.parts.each().filter_map(|part| part.counts.get(rule)).for_each(|more| counts.add(more));
        counts
    }

    #[inline]
    fn move_time(&mut self, now: Stamp, out: &mut Derived) {
        let now_ms = now.unix_ms();
        if now_ms > self.time_ms {
            self.time_ms = now_ms;
            self.hot.turn(now_ms);
            if self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
                self.do_due(now, out);
            }
        } else if now_ms < self.time_ms.saturating_sub(SET_BACK_MS) {
            self.set_back(now, out);
        }
    }

    fn do_due(&mut self, now: Stamp, out: &mut Derived) {
        let set = Arc::clone(&self.rules);
        self.gate.advance(&set, &self.config.site, now, self.time_ms, out);
        for part in self.parts.each_mut() {
            part.advance(&set, now, self.time_ms, &mut self.raw);
        }
        self.hand_on(now, out);
    }

    fn set_back(&mut self, now: Stamp, out: &mut Derived) {
        let by_ms = self.time_ms.saturating_sub(now.unix_ms());
        self.time_ms = now.unix_ms();
        let set = Arc::clone(&self.rules);
        self.gate.shift(by_ms);
        self.parts.each_mut().for_each(|part| part.shift(&set, by_ms));
        self.do_due(now, out);
    }

    /// Feeds derived numbers to conditions, and lets everything pass that rules made.
    #[cold]
    fn hand_on(&mut self, now: Stamp, out: &mut Derived) {
        let set = Arc::clone(&self.rules);
        let mut feeds = std::mem::take(&mut self.raw.feeds);
        feeds.truncate(FEEDS_MAX);
        for feed in feeds.drain(..) {
            self.parts.feed_all(&set, &feed, now, self.time_ms, &mut self.raw);
        }
        self.raw.feeds.clear();
        if self.raw.feeds.capacity() < feeds.capacity() {
            self.raw.feeds = feeds;
        }
        self.gate.pass(&set, &self.config.site, now, self.time_ms, &mut self.raw, out);
    }

    /// What becomes of a reading.
    fn judge(&mut self, outcome: &Outcome, device: &str) -> Verdict {
        if let Some(rule) = outcome.drop {
            return self.reduced(rule, device);
        }
        if outcome.flagged {
            return Verdict::Forward(outcome.lane);
        }
        if outcome.limited {
            self.parts.of_mut(device).totals.rate_limited += 1;
            self.hot.limited(device);
            return Verdict::Reduced(RuleId(0));
        }
        if let Some(rule) = outcome.filtered {
            return self.reduced(rule, device);
        }
        let forward = match self.rules.forward {
            Forward::Raw => true,
            Forward::Aggregates => false,
            Forward::Anomalies => outcome.crossed,
        };
        if forward { Verdict::Forward(outcome.lane) } else { Verdict::Reduced(RuleId(0)) }
    }

    fn reduced(&mut self, rule: RuleId, device: &str) -> Verdict {
        if let Some(counts) = self.parts.of_mut(device).counts.get_mut(usize::from(rule.0).wrapping_sub(1)) {
            counts.reduced += 1;
        }
        Verdict::Reduced(rule)
    }
}

/// Adds what one rule counted to the site's counters.
fn add(counters: &mut RuleCounters, spec: &RuleSpec, counts: &RuleCounts) {
    if matches!(spec, RuleSpec::Anomaly(_)) {
        counters.findings += counts.fired;
    } else {
        counters.alerts_fired += counts.fired;
        counters.alerts_cleared += counts.cleared;
    }
    counters.alerts_suppressed += counts.suppressed;
    counters.aggregates += counts.windows;
    counters.late += counts.late;
    counters.ahead += counts.ahead;
    counters.filtered += counts.reduced;
    counters.unit_mismatches += counts.mismatches;
}
