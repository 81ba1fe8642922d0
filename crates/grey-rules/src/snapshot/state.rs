//! The bytes of a partition, its series and its groups.

use std::sync::Arc;

use grey_detect::Detector;
use grey_expr::Slot;
use grey_model::limits::TEXT_BYTES_MAX;
use grey_model::{Name, Reader, WireError, Writer};
use grey_spectra::Samples;
use grey_window::KeyWindows;

use crate::alert::{Entries, Entry};
use crate::partition::{FilterState, Group, ModelState, ModelUse, Partition, Series};
use crate::set::{RuleSet, Scope};

/// Largest counter: sums of many do not overflow.
const COUNT_MAX: u64 = u64::MAX >> 8;
/// Numbers that a model's rows may hold in saved state.
const ROWS_MAX: u64 = grey_infer::INPUT_LEN_MAX as u64;

fn put_optional_text(out: &mut Vec<u8>, text: Option<&Name>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        out.put_blob(text.as_bytes());
    }
}

fn flag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, WireError> {
    let place = reader.clone();
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(place.invalid(what)),
    }
}

fn text(reader: &mut Reader<'_>, what: &'static str) -> Result<Name, WireError> {
    reader.text(what, TEXT_BYTES_MAX).map(Name::from)
}

fn optional_text(reader: &mut Reader<'_>, what: &'static str) -> Result<Option<Name>, WireError> {
    if flag(reader, what)? { text(reader, what).map(Some) } else { Ok(None) }
}

/// As many as the rules make it; else the state belongs to others.
fn exactly(reader: &mut Reader<'_>, what: &'static str, expected: usize) -> Result<(), WireError> {
    let place = reader.clone();
    if reader.varint()? == expected as u64 { Ok(()) } else { Err(place.invalid(what)) }
}

impl Partition {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut totals = self.totals;
        totals.each().into_iter().for_each(|count| out.put_varint(*count));
        out.put_varint(self.counts.len() as u64);
        for counts in &self.counts {
            let mut counts = *counts;
            counts.each().into_iter().for_each(|count| out.put_varint(*count));
        }
        out.put_varint(self.models.len() as u64);
        self.models.iter().for_each(|usage| write_usage(usage, out));
        out.put_varint(self.series.len() as u64);
        for at in self.series.by_age() {
            let slot = self.series.get(at);
            write_key(slot.scope, &slot.key, &slot.stream, out);
            write_series(&slot.item, out);
        }
        out.put_varint(self.groups.len() as u64);
        for at in self.groups.by_age() {
            let slot = self.groups.get(at);
            write_key(slot.scope, &slot.key, &slot.stream, out);
            write_group(&slot.item, out);
        }
    }

    pub(super) fn read(&mut self, set: &RuleSet, reader: &mut Reader<'_>) -> Result<(), WireError> {
        for count in self.totals.each() {
            *count = reader.count("counter", COUNT_MAX)?;
        }
        exactly(reader, "number of rules", self.counts.len())?;
        for counts in &mut self.counts {
            for count in counts.each() {
                *count = reader.count("counter", COUNT_MAX)?;
            }
        }
        exactly(reader, "number of models", self.models.len())?;
        for (usage, rule) in self.models.iter_mut().zip(&set.models) {
            *usage = read_usage(reader, rule.candidates.len())?;
        }
        for _ in 0..reader.count("series", self.series.max() as u64)? {
            let (scope, key, stream) = read_key(set, reader)?;
            if self.series.find(scope, &key, &stream).is_some() {
                return Err(reader.invalid("series, it is there twice"));
            }
            let plans = self.plans(set, &stream);
            let Some(plan) = plans.iter().find(|plan| plan.scope == scope) else {
                return Err(reader.invalid("series, no rule wants it"));
            };
            let mut item = Series::new(set, plan);
            read_series(set, &mut item, reader)?;
            self.series.insert(scope, &key, &stream, item);
        }
        for _ in 0..reader.count("groups", self.groups.max() as u64)? {
            let (scope, key, stream) = read_key(set, reader)?;
            let is_own = (scope > 0) == self.shared;
            if !is_own || !stream.is_empty() || self.groups.find(scope, &key, &stream).is_some() {
                return Err(reader.invalid("group"));
            }
            let item = read_group(set, reader)?;
            self.groups.insert(scope, &key, &stream, item);
        }
        Ok(())
    }
}

fn write_key(scope: u16, key: &str, stream: &str, out: &mut Vec<u8>) {
    out.put_varint(u64::from(scope));
    out.put_blob(key.as_bytes());
    out.put_blob(stream.as_bytes());
}

fn read_key(set: &RuleSet, reader: &mut Reader<'_>) -> Result<(u16, Name, Name), WireError> {
    let scope = reader.count("scope", set.scopes.len() as u64 - 1)? as u16;
    let key = text(reader, "device or group")?;
    debug_assert!(matches!(set.scopes[0], Scope::Device));
    Ok((scope, key, text(reader, "stream")?))
}

fn write_usage(usage: &ModelUse, out: &mut Vec<u8>) {
    out.put_varint(usage.active as u64);
    out.put_varint(usage.inferences);
    out.put_varint(usage.fallbacks);
    put_optional_text(out, usage.problem.as_ref());
}

fn read_usage(reader: &mut Reader<'_>, candidates: usize) -> Result<ModelUse, WireError> {
    Ok(ModelUse {
        active: reader.count("version of a model", candidates as u64)? as usize,
        inferences: reader.count("counter", COUNT_MAX)?,
        fallbacks: reader.count("counter", COUNT_MAX)?,
        problem: optional_text(reader, "problem of a model")?,
    })
}

fn write_entries(entries: &Entries, out: &mut Vec<u8>) {
    out.put_varint(entries.0.len() as u64);
    entries.0.iter().for_each(|entry| entry.write(out));
}

fn read_entries(set: &RuleSet, reader: &mut Reader<'_>) -> Result<Entries, WireError> {
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..reader.count("alerts", set.alerts.len() as u64)? {
        let entry = Entry::read(reader, set.alerts.len())?;
        if entries.last().is_some_and(|last| last.alert >= entry.alert) {
            return Err(reader.invalid("order of alerts"));
        }
        entries.push(entry);
    }
    Ok(Entries(entries))
}

fn write_series(series: &Series, out: &mut Vec<u8>) {
    out.put_varint(series.bands.len() as u64);
    series.bands.iter().for_each(|band| out.extend_from_slice(&band.value.to_le_bytes()));
    write_entries(&series.alerts, out);
    out.put_varint(series.windows.len() as u64);
    for state in &series.windows {
        put_optional_text(out, state.unit.as_ref());
        state.windows.write(out);
    }
    out.put_varint(series.detectors.len() as u64);
    series.detectors.iter().for_each(|detector| detector.write(out));
    out.put_varint(series.spectra.len() as u64);
    series.spectra.iter().for_each(|samples| samples.write(out));
    out.put_varint(series.filters.len() as u64);
    series.filters.iter().for_each(|filter| write_filter(filter, out));
    out.put_varint(series.sampled.len() as u64);
    for (rule, seen) in &series.sampled {
        out.put_varint(u64::from(*rule));
        out.put_varint(*seen);
    }
}

fn read_series(set: &RuleSet, series: &mut Series, reader: &mut Reader<'_>) -> Result<(), WireError> {
    let plan = Arc::clone(&series.plan);
    exactly(reader, "number of limits", series.bands.len())?;
    for (state, band) in series.bands.iter_mut().zip(&plan.bands) {
        state.value = reader.f64()?;
        if state.value.is_infinite() {
            return Err(reader.invalid("value"));
        }
        // Not a number: none was seen yet.
        let is_seen = !state.value.is_nan();
        state.value = if is_seen { state.value } else { f64::NAN };
        state.position = if is_seen { band.crossings.position(state.value, 0) } else { 0 };
    }
    series.alerts = read_entries(set, reader)?;
    exactly(reader, "number of windows", series.windows.len())?;
    for (state, plan) in series.windows.iter_mut().zip(&plan.windows) {
        state.unit = optional_text(reader, "unit")?;
        state.windows = KeyWindows::read(&set.aggregates[plan.aggregate as usize].window, reader)?;
    }
    exactly(reader, "number of detectors", series.detectors.len())?;
    for (detector, number) in series.detectors.iter_mut().zip(&plan.detectors) {
        let found = Detector::read(reader)?;
        if found.method() != set.detectors[*number as usize].method {
            return Err(reader.invalid("method of a detector"));
        }
        *detector = found;
    }
    exactly(reader, "number of spectra", series.spectra.len())?;
    for samples in &mut series.spectra {
        *samples = Samples::read(reader)?;
    }
    exactly(reader, "number of filters", series.filters.len())?;
    for filter in &mut series.filters {
        *filter = read_filter(reader)?;
    }
    for _ in 0..reader.count("samples", set.names.len() as u64)? {
        let rule = reader.count("rule", set.names.len() as u64)? as u32;
        if series.sampled.last().is_some_and(|(last, _)| *last >= rule) {
            return Err(reader.invalid("order of samples"));
        }
        series.sampled.push((rule, reader.varint()?));
    }
    Ok(())
}

fn write_filter(filter: &FilterState, out: &mut Vec<u8>) {
    out.push(u8::from(filter.value.is_some()) | u8::from(filter.time_ms.is_some()) << 1);
    if let Some(value) = filter.value {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&filter.hash.to_le_bytes());
    if let Some(time_ms) = filter.time_ms {
        out.put_varint_signed(time_ms);
    }
    out.put_varint(filter.seen);
}

fn read_filter(reader: &mut Reader<'_>) -> Result<FilterState, WireError> {
    let place = reader.clone();
    let flags = reader.u8()?;
    if flags >> 2 != 0 {
        return Err(place.invalid("flags of a filter"));
    }
    let value = if flags & 1 != 0 { Some(reader.f64()?).filter(|value| value.is_finite()) } else { None };
    if flags & 1 != 0 && value.is_none() {
        return Err(place.invalid("value of a filter"));
    }
    let hash = reader.u64()?;
    let time_ms = if flags & 2 != 0 { Some(reader.varint_signed()?) } else { None };
    Ok(FilterState { value, hash, time_ms, seen: reader.varint()? })
}

fn write_group(group: &Group, out: &mut Vec<u8>) {
    out.put_varint(group.slots.len() as u64);
    for (input, slot) in &group.slots {
        out.put_varint(u64::from(*input));
        out.extend_from_slice(&slot.value.to_le_bytes());
        out.extend_from_slice(&slot.previous.to_le_bytes());
        out.put_varint_signed(slot.time_ms);
        out.push(slot.seen);
    }
    write_entries(&group.alerts, out);
    out.put_varint(group.models.len() as u64);
    group.models.iter().for_each(|state| write_model(state, out));
    out.push(u8::from(group.budget.is_some()));
    if let Some((left, since_ms)) = group.budget {
        out.put_varint_signed(left);
        out.put_varint_signed(since_ms);
    }
}

fn read_group(set: &RuleSet, reader: &mut Reader<'_>) -> Result<Group, WireError> {
    let mut group = Group::default();
    for _ in 0..reader.count("inputs", set.inputs.len() as u64)? {
        let place = reader.clone();
        let input = reader.varint()?;
        let is_known = input < set.inputs.len() as u64;
        let slot = Slot {
            value: reader.f64()?,
            previous: reader.f64()?,
            time_ms: reader.varint_signed()?,
            seen: reader.count("values seen", 2)? as u8,
        };
        let in_order = group.slots.last().is_none_or(|(last, _)| u64::from(*last) < input);
        if !is_known || !in_order || !slot.value.is_finite() || !slot.previous.is_finite() {
            return Err(place.invalid("input"));
        }
        group.slots.push((input as u32, slot));
    }
    group.alerts = read_entries(set, reader)?;
    for _ in 0..reader.count("models", set.models.len() as u64)? {
        let state = read_model(set, reader)?;
        if group.models.last().is_some_and(|last| last.model >= state.model) {
            return Err(reader.invalid("order of models"));
        }
        group.models.push(state);
    }
    if flag(reader, "flag of a rate")? {
        group.budget = Some((reader.varint_signed()?, reader.varint_signed()?));
    }
    Ok(group)
}

fn write_model(state: &ModelState, out: &mut Vec<u8>) {
    out.put_varint(u64::from(state.model));
    out.put_varint(state.latest.len() as u64);
    for latest in &state.latest {
        out.push(u8::from(latest.is_some()));
        if let Some(values) = latest {
            out.put_varint(values.len() as u64);
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
    }
    out.put_varint(state.rows.len() as u64);
    state.rows.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    out.put_varint(u64::from(state.since));
}

fn read_model(set: &RuleSet, reader: &mut Reader<'_>) -> Result<ModelState, WireError> {
    let place = reader.clone();
    let model = reader.varint()?;
    let rule = usize::try_from(model).ok().and_then(|model| set.models.get(model));
    let Some(rule) = rule else { return Err(place.invalid("number of a model")) };
    exactly(reader, "number of inputs", rule.inputs.len())?;
    let mut state = ModelState { model: model as u32, ..ModelState::default() };
    for _ in 0..rule.inputs.len() {
        let is_there = flag(reader, "flag of a value")?;
        let values = if is_there { Some(read_floats(reader)?.into_boxed_slice()) } else { None };
        state.latest.push(values);
    }
    state.rows = read_floats(reader)?.into();
    state.since = reader.count("rows", u64::from(u32::MAX))? as u32;
    Ok(state)
}

fn read_floats(reader: &mut Reader<'_>) -> Result<Vec<f32>, WireError> {
    let count = reader.count("numbers", ROWS_MAX)? as usize;
    // Taken at once, so that a false count allocates nothing.
    let bytes = reader.bytes(count * size_of::<f32>())?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}
