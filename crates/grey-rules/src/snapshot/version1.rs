//! Version 1 of the state: thresholds without anything beside their limit, and
//! windows of the site's time. Read, never written.

use std::sync::Arc;

use grey_model::limits::TEXT_BYTES_MAX;
use grey_model::{Name, Reader, WireError, Writer};
use grey_window::{Accumulator, Placed};

use super::TIME_MS_MAX;
use crate::alert::{Entry, Stage, fnv_id};
use crate::engine::Engine;
use crate::partition::Series;
use crate::set::{RuleSet, Subject, Test};
use crate::spec::RuleSpec;

/// An aggregate's window as version 1 had it.
struct Old {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    mean: f64,
    squares: f64,
    unit: Option<Name>,
}

/// Reads what follows the time.
pub(super) fn read(engine: &mut Engine, reader: &mut Reader<'_>) -> Result<(), WireError> {
    let past = &mut engine.past;
    for count in [
        &mut past.alerts_fired,
        &mut past.alerts_cleared,
        &mut past.aggregates,
        &mut past.not_numeric,
        &mut past.unit_mismatches,
        &mut past.series_evicted,
    ] {
        *count = reader.count("counter", u64::MAX >> 8)?;
    }
    let set = Arc::clone(&engine.rules);
    let series = reader.count("series", engine.config.series_max as u64)?;
    for _ in 0..series {
        read_series(engine, &set, reader)?;
    }
    // Which series had open windows is seen from the windows themselves.
    let aggregates = set.specs().iter().filter(|spec| matches!(spec, RuleSpec::Aggregate(_))).count();
    for _ in 0..aggregates {
        for _ in 0..reader.count("open windows", series)? {
            reader.count("place of a series", series.saturating_sub(1))?;
        }
    }
    Ok(())
}

fn read_series(engine: &mut Engine, set: &RuleSet, reader: &mut Reader<'_>) -> Result<(), WireError> {
    let device = Name::from(reader.text("device", TEXT_BYTES_MAX)?);
    let stream = Name::from(reader.text("stream", TEXT_BYTES_MAX)?);
    let plans = engine.parts.of_mut(&device).plans(set, &stream);
    let Some(plan) = plans.first() else { return Err(reader.invalid("series, no rule wants it")) };
    if engine.parts.of_mut(&device).series.find(0, &device, &stream).is_some() {
        return Err(reader.invalid("series, it is there twice"));
    }
    let mut item = Series::new(set, plan);
    for threshold in &set.thresholds {
        let Test::Limit { on: crate::set::LimitOn::Stream(on), .. } = &threshold.test else { continue };
        let (true, Some(alert)) = (*on == stream, threshold.alert) else { continue };
        match reader.u8()? {
            0 => {}
            1 => {
                let (since_ms, value) = (reader.varint_signed()?, reader.f64()?);
                let name = &set.alerts[alert as usize].name;
                let mut entry = Entry::new(alert);
                debug_assert!(matches!(set.alerts[alert as usize].subject, Subject::Threshold(_)));
                (entry.stage, entry.holds, entry.value) = (Stage::Firing, true, value);
                (entry.since_ms, entry.fired_ms) = (since_ms, since_ms);
                (entry.stream, entry.device) = (stream.clone(), device.clone());
                entry.id = fnv_id(&[name, &device, &stream], &[since_ms, since_ms]);
                item.alerts.0.push(entry);
            }
            _ => return Err(reader.invalid("alert state")),
        }
    }
    item.alerts.0.sort_by_key(|entry| entry.alert);
    let time_ms = engine.time_ms.clamp(0, TIME_MS_MAX);
    for (at, aggregate) in set.aggregates.iter().enumerate() {
        let Some(old) = read_window(reader)? else { continue };
        let position = plan.windows.iter().position(|window| window.aggregate as usize == at);
        let Some(state) = position.and_then(|position| item.windows.get_mut(position)) else {
            return Err(reader.invalid("window"));
        };
        let size_ms = aggregate.window.pane_ms().unwrap_or(1);
        let start_ms = time_ms.div_euclid(size_ms) * size_ms;
        let accumulator = accumulated(&old, start_ms, aggregate.window.needs.deviation)?;
        let mut closed = Vec::new();
        let placed = state.windows.merge_pane(&aggregate.window, start_ms, time_ms, &accumulator, &mut closed);
        if placed != Placed::Taken {
            return Err(reader.invalid("window"));
        }
        state.unit = old.unit;
    }
    engine.parts.of_mut(&device).series.insert(0, &device, &stream, item);
    Ok(())
}

fn read_window(reader: &mut Reader<'_>) -> Result<Option<Old>, WireError> {
    let count = reader.varint()?;
    if count == 0 {
        return Ok(None);
    }
    let mut number = || reader.f64();
    let (sum, min, max, first, last, mean, squares) =
        (number()?, number()?, number()?, number()?, number()?, number()?, number()?);
    let unit = reader.text("unit", TEXT_BYTES_MAX)?;
    let unit = (!unit.is_empty()).then(|| unit.into());
    Ok(Some(Old { count, sum, min, max, first, last, mean, squares, unit }))
}

/// The numbers as an accumulator has them: by way of its bytes, which check them.
fn accumulated(old: &Old, start_ms: i64, deviates: bool) -> Result<Accumulator, WireError> {
    let mut bytes = vec![u8::from(deviates)];
    bytes.put_varint(old.count);
    bytes.put_varint_signed(start_ms);
    bytes.put_varint(0);
    for number in [old.sum, 0.0, old.min, old.max, old.first, old.last] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    if deviates {
        bytes.extend_from_slice(&old.mean.to_le_bytes());
        bytes.extend_from_slice(&old.squares.to_le_bytes());
    }
    Accumulator::read(&mut Reader::new(&bytes))
}
