//! Detectors, models and spectra.

use grey_infer::{Inference, ModelError};
use grey_model::{Event, Kind, Lane, Name, Quality, Value};

use super::alerts::{Cause, Details, Sinks, step};
use super::series::{ModelState, converted};
use super::thresholds::decide;
use super::{Feed, ModelUse, Outcome, Partition, Raw, Reading};
use crate::alert::Level;
use crate::set::{ModelRule, RuleSet, spectrum_unit};
use crate::words::clipped;

impl Partition {
    /// Asks the detectors and models of a stream.
    pub(super) fn find(
        &mut self,
        set: &RuleSet,
        at: u32,
        group: Option<u32>,
        reading: &Reading<'_>,
        raw: &mut Raw,
        outcome: &mut Outcome,
    ) {
        let event = reading.event;
        let Self { series, timers, counts, .. } = self;
        let slot = series.get_mut(at);
        let item = &mut slot.item;
        if let Some(value) = reading.value.filter(|_| !reading.is_derived) {
            for (number, detector) in item.plan.detectors.iter().zip(item.detectors.iter_mut()) {
                let rule = &set.detectors[*number as usize];
                let finding = detector.observe(event.device_time_ms, value);
                let holds = finding.score >= rule.threshold;
                if holds {
                    decide(rule.rule, &rule.verdicts, event, &mut item.sampled, outcome);
                }
                if !holds && item.alerts.is_empty() {
                    continue;
                }
                let cause = Cause {
                    key: &slot.key,
                    stream: &slot.stream,
                    at,
                    generation: slot.generation,
                    is_group: false,
                    event: Some(event),
                    details: Details::Finding(finding),
                    now: reading.now,
                    now_ms: reading.now_ms,
                };
                let level = Level { holds, clears: !holds };
                let mut sinks = Sinks { timers, counts, raw };
                outcome.crossed |= step(set, &mut item.alerts, rule.alert, level, &cause, &mut sinks);
            }
        }
        if let Some(group) = group {
            self.ask_models(set, at, group, reading, raw, outcome);
        }
    }

    fn ask_models(
        &mut self,
        set: &RuleSet,
        at: u32,
        group: u32,
        reading: &Reading<'_>,
        raw: &mut Raw,
        outcome: &mut Outcome,
    ) {
        let Self { series, groups, timers, counts, models, scratch, site, .. } = self;
        let item = &mut series.get_mut(at).item;
        let slot = groups.get_mut(group);
        let event = reading.event;
        let own = event.unit.as_ref().filter(|unit| !unit.is_empty());
        for input in &item.plan.models {
            let rule = &set.models[input.model as usize];
            let usage = &mut models[input.model as usize];
            if usage.active >= rule.candidates.len() {
                continue;
            }
            let numbers: Box<[f32]> = match (&event.value, reading.value) {
                (_, Some(value)) => {
                    let value = converted(&item.plan, &mut item.units, input.target, value, own);
                    match value {
                        Some(value) => Box::new([value as f32]),
                        None => {
                            counts[usize::from(rule.rule)].mismatches += 1;
                            continue;
                        }
                    }
                }
                (Value::Vector(values), None) if event.quality != Quality::Bad => {
                    let convert = |value: &f64| converted(&item.plan, &mut item.units, input.target, *value, own);
                    let values: Option<Vec<f64>> = values.iter().map(convert).collect();
                    match values {
                        Some(values) => values.into_iter().map(|value| value as f32).collect(),
                        None => {
                            counts[usize::from(rule.rule)].mismatches += 1;
                            continue;
                        }
                    }
                }
                _ => continue,
            };
            outcome.used = true;
            let state = model_state(&mut slot.item.models, input.model, rule);
            if let Some(latest) = state.latest.get_mut(usize::from(input.input)) {
                *latest = Some(numbers);
            }
            let stream = &rule.inputs[usize::from(input.input)].stream;
            let (inputs, floats) = (&mut scratch.input, &mut scratch.floats);
            let Some(answer) = ask(set, rule, usage, state, stream, site, reading, raw, inputs, floats) else {
                continue;
            };
            let holds = rule.score.map_or(answer.anomalous, |score| answer.score >= score);
            if holds {
                decide(rule.rule, &rule.verdicts, event, &mut item.sampled, outcome);
            }
            let seen = reading.value.unwrap_or(f64::NAN);
            let details = Details::Answer { score: answer.score, output: answer.output, seen, label: answer.label };
            let cause = Cause {
                key: &slot.key,
                stream: &slot.stream,
                at: group,
                generation: slot.generation,
                is_group: true,
                event: Some(event),
                details,
                now: reading.now,
                now_ms: reading.now_ms,
            };
            let level = Level { holds, clears: !holds };
            let mut sinks = Sinks { timers, counts, raw };
            outcome.crossed |= step(set, &mut slot.item.alerts, rule.alert, level, &cause, &mut sinks);
        }
    }

    /// Gives samples to the spectra of a stream. True when one took them.
    pub(super) fn transform(&mut self, set: &RuleSet, at: u32, reading: &Reading<'_>, raw: &mut Raw) -> bool {
        let event = reading.event;
        if event.quality == Quality::Bad {
            return false;
        }
        let mut used = false;
        let Self { series, counts, .. } = self;
        let slot = series.get_mut(at);
        let item = &mut slot.item;
        for (plan, samples) in item.plan.spectra.iter().zip(item.spectra.iter_mut()) {
            let rule = &set.spectra[plan.spectrum as usize];
            let mut found = Vec::new();
            match (&event.value, reading.value) {
                (Value::Vector(values), _) => samples.push(&rule.analyzer, values, event.device_time_ms, &mut found),
                (_, Some(value)) if plan.scalars => {
                    samples.push(&rule.analyzer, &[value], event.device_time_ms, &mut found);
                }
                _ => continue,
            }
            used = true;
            for features in found {
                counts[usize::from(rule.rule)].windows += 1;
                let fields = rule.analyzer.fields(&features);
                for ((name, value), derived) in fields.iter().zip(&plan.feeds) {
                    if let Some(derived) = derived {
                        raw.feeds.push(Feed {
                            device: slot.key.clone(),
                            stream: derived.clone(),
                            value: *value,
                            unit: spectrum_unit(name, event.unit.as_deref()).map(Name::from),
                            time_ms: features.time_ms,
                        });
                    }
                }
                let fields = fields.into_iter().filter(|(_, value)| value.is_finite());
                let rule = (set.words.rule.clone(), set.names[usize::from(rule.rule)].clone());
                raw.push(
                    Lane::Normal,
                    Event {
                        device: slot.key.clone(),
                        stream: plan.stream.clone(),
                        kind: Kind::Aggregate,
                        value: Value::Fields(fields.collect()),
                        device_time_ms: features.time_ms,
                        stamp: reading.now,
                        quality: Quality::Good,
                        unit: event.unit.clone(),
                        id: None,
                        attributes: vec![rule],
                    },
                );
            }
        }
        used
    }
}

fn model_state<'a>(models: &'a mut Vec<ModelState>, model: u32, rule: &ModelRule) -> &'a mut ModelState {
    let at = match models.binary_search_by_key(&model, |state| state.model) {
        Ok(at) => at,
        Err(at) => {
            models.insert(at, ModelState { model, latest: vec![None; rule.inputs.len()], ..ModelState::default() });
            at
        }
    };
    &mut models[at]
}

/// Asks the model in use, if the reading completes a row and an answer is due; falls back while it has none.
#[allow(clippy::too_many_arguments)]
fn ask(
    set: &RuleSet,
    rule: &ModelRule,
    usage: &mut ModelUse,
    state: &mut ModelState,
    stream: &Name,
    site: &Name,
    reading: &Reading<'_>,
    raw: &mut Raw,
    input: &mut Vec<f32>,
    scratch: &mut Vec<f32>,
) -> Option<Inference> {
    let mut is_new_row = true;
    loop {
        let candidate = rule.candidates.get(usage.active)?;
        let model = candidate.model.as_ref().ok()?;
        let manifest = model.manifest();
        let row_len = manifest.row_len();
        if is_new_row {
            // The first input's readings are the rows; the others stand with their latest value.
            if manifest.inputs.first().is_none_or(|first| *first.stream != **stream) {
                return None;
            }
            let before = state.rows.len();
            for wanted in &manifest.inputs {
                let unit = wanted.unit.as_deref();
                let at = rule
                    .inputs
                    .iter()
                    .position(|known| *known.stream == *wanted.stream && known.unit.as_deref() == unit);
                let latest = at.and_then(|at| state.latest.get(at)?.as_ref());
                match latest.filter(|values| values.len() == wanted.features) {
                    Some(values) => state.rows.extend(values.iter()),
                    None => {
                        state.rows.truncate(before);
                        return None;
                    }
                }
            }
            let keep = manifest.input_len();
            while state.rows.len() > keep {
                state.rows.drain(..row_len.min(state.rows.len()));
            }
            state.since = state.since.saturating_add(1);
            is_new_row = false;
        }
        if state.rows.len() < manifest.input_len() || (state.since as usize) < manifest.every {
            return None;
        }
        input.clear();
        input.extend(state.rows.iter());
        match model.infer(input, scratch) {
            Ok(answer) => {
                state.since = 0;
                usage.inferences += 1;
                return Some(answer);
            }
            // What a device sent is no fault of the model.
            Err(ModelError::NotFinite { what, .. }) if what == "input" => return None,
            Err(error) => {
                fall_back(set, rule, usage, &error, site, reading, raw);
                let next = rule.candidates.get(usage.active).and_then(|c| c.model.as_ref().ok());
                // Rows of another shape are of no use to the next version.
                if next.is_none_or(|next| next.manifest().inputs != model.manifest().inputs) {
                    state.rows.clear();
                    state.since = 0;
                    return None;
                }
            }
        }
    }
}

fn fall_back(
    set: &RuleSet,
    rule: &ModelRule,
    usage: &mut ModelUse,
    error: &ModelError,
    site: &Name,
    reading: &Reading<'_>,
    raw: &mut Raw,
) {
    let words = &set.words;
    let version = |at: usize| rule.candidates.get(at).map_or_else(|| words.none.clone(), |c| c.version.clone());
    let from = version(usage.active);
    usage.active = rule.usable(usage.active + 1);
    usage.fallbacks += 1;
    let reason = clipped(&error.to_string());
    usage.problem = Some(clipped(&format!("version {from}: {reason}")));
    let to = version(usage.active);
    let name = set.names[usize::from(rule.rule)].clone();
    let text = format!("rule {name}: model {} version {from} gave no usable answer ({reason}); now {to}", rule.model);
    raw.push(
        Lane::Critical,
        Event {
            device: site.clone(),
            stream: words.model_fallback.clone(),
            kind: Kind::Log,
            value: Value::Text(text.into()),
            device_time_ms: reading.now_ms,
            stamp: reading.now,
            quality: Quality::Good,
            unit: None,
            id: None,
            attributes: vec![
                (words.rule.clone(), name),
                (words.model.clone(), rule.model.clone()),
                (words.from.clone(), from),
                (words.to.clone(), to),
                (words.reason.clone(), reason),
            ],
        },
    );
}
