//! Limits and conditions.

use grey_expr::{Expr, Inputs, Slot, Truth};
use grey_model::{Event, Name, RuleId};

use super::alerts::{Cause, Details, Sinks, step};
use super::series::{Group, converted};
use super::{Outcome, Partition, Raw, Reading};
use crate::alert::{Level, mix};
use crate::set::{Condition, Predicate, RuleSet, Test, Verdicts, fnv1a};
use crate::spec::Sample;

impl Partition {
    /// Holds a value against the limits of its stream.
    pub(super) fn check_limits(
        &mut self,
        set: &RuleSet,
        at: u32,
        reading: &Reading<'_>,
        raw: &mut Raw,
        outcome: &mut Outcome,
    ) {
        let Some(value) = reading.value else { return };
        let Self { series, timers, counts, scratch, mismatch, .. } = self;
        let slot = series.get_mut(at);
        let item = &mut slot.item;
        let event = reading.event;
        let own = event.unit.as_ref().filter(|unit| !unit.is_empty());
        for (band, state) in item.plan.bands.iter().zip(item.bands.iter_mut()) {
            let Some(value) = converted(&item.plan, &mut item.units, band.target, value, own) else {
                for rule in &band.rules {
                    counts[usize::from(*rule)].mismatches += 1;
                    note_mismatch(mismatch, *rule, event, band.unit.as_ref());
                }
                continue;
            };
            for (threshold, predicate) in &band.verdicts {
                if predicate.holds(value) {
                    let threshold = &set.thresholds[*threshold as usize];
                    decide(threshold.rule, &threshold.verdicts, event, &mut item.sampled, outcome);
                }
            }
            let position = band.crossings.position(value, state.position);
            let is_first = state.value.is_nan();
            let before = std::mem::replace(&mut state.position, position);
            state.value = value;
            if position == before && !is_first {
                continue;
            }
            let touched = &mut scratch.touched;
            if is_first {
                touched.clear();
                touched.extend_from_slice(band.crossings.everyone());
            } else {
                band.crossings.between(before, position, touched);
            }
            let cause = Cause {
                key: &slot.key,
                stream: &slot.stream,
                at,
                generation: slot.generation,
                is_group: false,
                event: Some(event),
                details: Details::Value(value),
                now: reading.now,
                now_ms: reading.now_ms,
            };
            let mut sinks = Sinks { timers, counts, raw };
            for threshold in touched.iter() {
                let threshold = &set.thresholds[*threshold as usize];
                if let (Test::Limit { fire, clear, .. }, Some(alert)) = (&threshold.test, threshold.alert) {
                    let level = level_of(*fire, *clear, value);
                    outcome.crossed |= step(set, &mut item.alerts, alert, level, &cause, &mut sinks);
                }
            }
        }
    }

    /// Keeps the latest values of what conditions refer to.
    pub(super) fn update_inputs(&mut self, set: &RuleSet, at: u32, group: u32, reading: &Reading<'_>) {
        let Some(value) = reading.value else { return };
        let item = &mut self.series.get_mut(at).item;
        let group = &mut self.groups.get_mut(group).item;
        let own = reading.event.unit.as_ref().filter(|unit| !unit.is_empty());
        for (input, target) in &item.plan.inputs {
            match converted(&item.plan, &mut item.units, *target, value, own) {
                Some(value) => group.set(*input, value, reading.now_ms),
                None => {
                    for check in item.plan.checks.iter() {
                        let rule = set.thresholds[check.threshold as usize].rule;
                        let uses = |c: u32| set.conditions[c as usize].inputs.contains(input);
                        if uses(check.condition) || check.clear.is_some_and(uses) {
                            self.counts[usize::from(rule)].mismatches += 1;
                            let wanted = set.inputs[*input as usize].unit.as_ref();
                            note_mismatch(&mut self.mismatch, rule, reading.event, wanted);
                        }
                    }
                }
            }
        }
    }

    /// Evaluates the conditions that a reading concerns.
    pub(super) fn check_conditions(
        &mut self,
        set: &RuleSet,
        at: u32,
        group: Option<u32>,
        reading: &Reading<'_>,
        raw: &mut Raw,
        outcome: &mut Outcome,
    ) {
        let Self { series, groups, timers, counts, scratch, site, .. } = self;
        let slot = series.get_mut(at);
        let item = &mut slot.item;
        let event = reading.event;
        let mut group = group.map(|group| (group, groups.get_mut(group)));
        let slots = &mut scratch.slots;
        let mut gathered: Option<&[u32]> = None;
        let evaluate = Evaluation { event, site, now_ms: reading.now_ms };
        for check in &item.plan.checks {
            if reading.value.is_none() && !check.needs_event {
                continue;
            }
            let condition = &set.conditions[check.condition as usize];
            let state = group.as_ref().map(|(_, slot)| &slot.item);
            // Rules over the same streams mostly stand together.
            if gathered != Some(&condition.inputs) {
                gather(condition, state, slots);
                gathered = Some(&condition.inputs);
            }
            let truth = evaluate.truth_of(condition, slots);
            let is_quiet = match &group {
                Some((_, slot)) if !check.at_series => slot.item.alerts.is_empty(),
                _ => item.alerts.is_empty(),
            };
            // What does not hold and has no alert is most of all.
            if truth != Truth::True && is_quiet {
                continue;
            }
            let threshold = &set.thresholds[check.threshold as usize];
            if truth == Truth::True && !threshold.verdicts.is_none() {
                decide(threshold.rule, &threshold.verdicts, event, &mut item.sampled, outcome);
            }
            let Some(alert) = threshold.alert else { continue };
            let ends = check.clear.map(|clear| {
                gathered = None;
                evaluate.truth(&set.conditions[clear as usize], state, slots)
            });
            // What cannot be said neither begins nor ends anything.
            let holds = match truth {
                Truth::True => true,
                Truth::False => false,
                Truth::Unknown => continue,
            };
            let clears = !holds && ends.is_none_or(Truth::is_true);
            let level = Level { holds, clears };
            let details = Details::Value(reading.value.unwrap_or(f64::NAN));
            let mut sinks = Sinks { timers, counts, raw };
            let (entries, key, stream, at, generation) = match (&mut group, check.at_series) {
                (Some((group, slot)), false) => {
                    (&mut slot.item.alerts, &slot.key, &slot.stream, *group, slot.generation)
                }
                _ => (&mut item.alerts, &slot.key, &slot.stream, at, slot.generation),
            };
            let is_group = !check.at_series;
            let (now, now_ms) = (reading.now, reading.now_ms);
            let cause = Cause { key, stream, at, generation, is_group, event: Some(event), details, now, now_ms };
            outcome.crossed |= step(set, entries, alert, level, &cause, &mut sinks);
        }
    }
}

fn level_of(fire: Predicate, clear: Option<Predicate>, value: f64) -> Level {
    let holds = fire.holds(value);
    Level { holds, clears: !holds && clear.is_none_or(|clear| clear.holds(value)) }
}

/// What a condition is evaluated with besides its inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evaluation<'a> {
    pub(super) event: &'a Event,
    pub(super) site: &'a str,
    pub(super) now_ms: i64,
}

impl Evaluation<'_> {
    pub(super) fn truth(&self, condition: &Condition, group: Option<&Group>, slots: &mut Vec<Slot>) -> Truth {
        gather(condition, group, slots);
        self.truth_of(condition, slots)
    }

    /// With the inputs gathered already.
    fn truth_of(&self, condition: &Condition, slots: &[Slot]) -> Truth {
        let expr: &Expr = &condition.expr;
        expr.eval(&Inputs { slots, event: self.event, site: self.site, now_ms: self.now_ms })
    }
}

/// The latest values of a condition's inputs.
fn gather(condition: &Condition, group: Option<&Group>, slots: &mut Vec<Slot>) {
    slots.clear();
    slots.extend(condition.inputs.iter().map(|input| group.map_or_else(Slot::default, |group| group.slot(*input))));
}

/// Applies what a rule decides about a reading.
pub(super) fn decide(
    rule: u16,
    verdicts: &Verdicts,
    event: &Event,
    sampled: &mut Vec<(u32, u64)>,
    outcome: &mut Outcome,
) {
    let id = RuleId(rule + 1);
    if verdicts.drop {
        outcome.drop.get_or_insert(id);
    }
    outcome.flagged |= verdicts.flag;
    if let (Some(lane), None) = (verdicts.lane, outcome.lane) {
        outcome.lane = Some(lane);
    }
    if let Some(sample) = verdicts.sample {
        let key = u32::from(rule);
        let at = match sampled.binary_search_by_key(&key, |(known, _)| *known) {
            Ok(at) => at,
            Err(at) => {
                sampled.insert(at, (key, 0));
                at
            }
        };
        let seen = sampled.get_mut(at).map_or(0, |(_, seen)| {
            *seen += 1;
            *seen - 1
        });
        if !is_sampled(sample, event, seen) {
            outcome.filtered.get_or_insert(id);
        }
    }
}

/// Whether a reading is of the sample, given how many came before it.
pub(super) fn is_sampled(sample: Sample, event: &Event, seen: u64) -> bool {
    match sample {
        Sample::Every(every) => seen.is_multiple_of(u64::from(every.max(1))),
        Sample::Share(share) => {
            let device = fnv1a(event.device.as_bytes()) ^ fnv1a(event.stream.as_bytes()).rotate_left(17);
            let hash = mix(device ^ mix(event.device_time_ms as u64 ^ seen.rotate_left(32)));
            // The upper 53 bits as a number from 0 to 1.
            ((hash >> 11) as f64) * (1.0 / 9_007_199_254_740_992.0) < share
        }
    }
}

fn note_mismatch(mismatch: &mut hashbrown::HashMap<u16, Name>, rule: u16, event: &Event, wanted: Option<&Name>) {
    let own = event.unit.as_deref().unwrap_or_default();
    let wanted = wanted.map_or("", |unit| unit.as_str());
    let text = format!("cannot compare {own} with {wanted} ({} of device {})", event.stream, event.device);
    mismatch.insert(rule, text.into());
}
