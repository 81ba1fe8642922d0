//! Windows: readings go in, aggregates come out, what comes too late or too
//! early goes to a stream of its own.

use grey_expr::Truth;
use grey_model::limits::{ATTRIBUTES_MAX, NAME_BYTES_MAX};
use grey_model::{Event, Kind, Lane, Name, Quality, Stamp, Value};
use grey_window::{Accumulator, Closed, Placed, Sketch};

use super::thresholds::Evaluation;
use super::timers::What;
use super::{Feed, Partition, Raw, Reading, RuleCounts};
use crate::set::{Aggregate, RuleSet, WindowPlan, unit, window_field};
use crate::spec::Field;

impl Partition {
    /// Puts a reading into the windows of its series, or only into the one at a position of its plan.
    pub(super) fn add_to_windows(
        &mut self,
        set: &RuleSet,
        at: u32,
        group: Option<u32>,
        only: Option<u32>,
        reading: &Reading<'_>,
        raw: &mut Raw,
    ) {
        let Some(value) = reading.value else { return };
        let Self { series, groups, timers, counts, scratch, site, .. } = self;
        let slot = series.get_mut(at);
        let generation = slot.generation;
        let item = &mut slot.item;
        let event = reading.event;
        for (position, (plan, state)) in item.plan.windows.iter().zip(item.windows.iter_mut()).enumerate() {
            if only.is_some_and(|only| only != position as u32) {
                continue;
            }
            let rule = &set.aggregates[plan.aggregate as usize];
            if let Some(filter) = rule.filter {
                let group = group.map(|group| &groups.get(group).item);
                let evaluation = Evaluation { event, site, now_ms: reading.now_ms };
                let truth = evaluation.truth(&set.conditions[filter as usize], group, &mut scratch.slots);
                if truth != Truth::True {
                    continue;
                }
            }
            let counts = &mut counts[usize::from(rule.rule)];
            let own = event.unit.as_ref().filter(|unit| !unit.is_empty());
            let Some(value) = in_unit(&mut state.unit, value, own) else {
                counts.mismatches += 1;
                continue;
            };
            let closed = &mut scratch.closed;
            let placed = state.windows.add(&rule.window, event.device_time_ms, reading.now_ms, value, closed);
            match placed {
                Placed::Taken => {}
                Placed::Late => {
                    counts.late += 1;
                    raw.push(Lane::Bulk, misplaced(event, &plan.late, &set.words.late, set, rule));
                }
                Placed::Ahead => {
                    counts.ahead += 1;
                    raw.push(Lane::Bulk, misplaced(event, &plan.late, &set.words.ahead, set, rule));
                }
            }
            if !closed.is_empty() {
                let from = From { set, rule, plan, key: &slot.key, stream: &slot.stream, now: reading.now };
                closed.drain(..).for_each(|closed| send(&from, &closed, state.unit.as_ref(), false, counts, raw));
            }
            if let Some(due_ms) = state.windows.due_ms(&rule.window) {
                timers.set(&mut state.timer_ms, due_ms, What::Window(position as u32), at, generation);
            }
        }
    }

    /// Puts a pane that was accumulated beforehand (its start, its values, their unit) into a window.
    /// `None`: its unit is not the window's.
    pub(super) fn merge_into_window(
        &mut self,
        set: &RuleSet,
        at: u32,
        position: u32,
        (pane_ms, pane, own): (i64, &Accumulator, Option<&Name>),
        reading: &Reading<'_>,
        raw: &mut Raw,
    ) -> Option<Placed> {
        let Self { series, timers, counts, scratch, .. } = self;
        let slot = series.get_mut(at);
        let generation = slot.generation;
        let item = &mut slot.item;
        let plan = item.plan.windows.get(position as usize)?;
        let state = item.windows.get_mut(position as usize)?;
        if own.is_some() && state.unit.is_some() && state.unit.as_ref() != own {
            return None;
        }
        let rule = &set.aggregates[plan.aggregate as usize];
        let closed = &mut scratch.closed;
        let placed = state.windows.merge_pane(&rule.window, pane_ms, reading.now_ms, pane, closed);
        if placed == Placed::Taken && state.unit.is_none() {
            state.unit = own.cloned();
        }
        let counts = &mut counts[usize::from(rule.rule)];
        let from = From { set, rule, plan, key: &slot.key, stream: &slot.stream, now: reading.now };
        closed.drain(..).for_each(|closed| send(&from, &closed, state.unit.as_ref(), false, counts, raw));
        if let Some(due_ms) = state.windows.due_ms(&rule.window) {
            timers.set(&mut state.timer_ms, due_ms, What::Window(position), at, generation);
        }
        Some(placed)
    }

    /// Windows whose source has been silent for long enough.
    pub(super) fn window_due(&mut self, set: &RuleSet, at: u32, position: u32, now: Stamp, now_ms: i64, raw: &mut Raw) {
        let Self { series, timers, counts, scratch, .. } = self;
        let slot = series.get_mut(at);
        let generation = slot.generation;
        let item = &mut slot.item;
        let (Some(plan), Some(state)) =
            (item.plan.windows.get(position as usize), item.windows.get_mut(position as usize))
        else {
            return;
        };
        let rule = &set.aggregates[plan.aggregate as usize];
        let closed = &mut scratch.closed;
        state.windows.advance(&rule.window, now_ms, closed);
        let counts = &mut counts[usize::from(rule.rule)];
        let from = From { set, rule, plan, key: &slot.key, stream: &slot.stream, now };
        closed.drain(..).for_each(|closed| send(&from, &closed, state.unit.as_ref(), false, counts, raw));
        if let Some(due_ms) = state.windows.due_ms(&rule.window) {
            let due_ms = due_ms.max(now_ms.saturating_add(1));
            timers.set(&mut state.timer_ms, due_ms, What::Window(position), at, generation);
        }
    }
}

/// Where a window comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) set: &'a RuleSet,
    pub(super) rule: &'a Aggregate,
    pub(super) plan: &'a WindowPlan,
    pub(super) key: &'a Name,
    pub(super) stream: &'a Name,
    pub(super) now: Stamp,
}

/// A value in the unit of its window, which is that of the first value that had one.
#[inline]
fn in_unit(window: &mut Option<Name>, value: f64, own: Option<&Name>) -> Option<f64> {
    match (window.as_ref(), own) {
        // A value without unit is taken to be in the series' own.
        (_, None) => Some(value),
        (None, Some(unit)) => {
            *window = Some(unit.clone());
            Some(value)
        }
        (Some(window), Some(own)) if window == own => Some(value),
        (Some(window), Some(own)) => Some(unit(own)?.conversion_to(unit(window)?)?.apply(value)),
    }
}

/// A number of a window; none when it does not exist or overflowed.
fn number(closed: &Closed, field: Field) -> Option<f64> {
    closed.accumulator.get(window_field(field))
}

/// Makes the event of a window, and feeds conditions over it.
pub(super) fn send(
    from: &From<'_>,
    closed: &Closed,
    own: Option<&Name>,
    is_cut: bool,
    counts: &mut RuleCounts,
    raw: &mut Raw,
) {
    let From { set, rule, plan, key, stream, now } = *from;
    let words = &set.words;
    let length = match &rule.length {
        Some(length) => length.clone(),
        None => closed.end_ms.saturating_sub(closed.start_ms).to_string().into(),
    };
    let mut attributes = Vec::with_capacity(4);
    attributes.push((words.window.clone(), length));
    attributes.push((words.rule.clone(), set.names[usize::from(rule.rule)].clone()));
    if is_cut || closed.partial {
        attributes.push((words.partial.clone(), words.yes.clone()));
    }
    if let Some(sketch) = closed.accumulator.sketch() {
        push_sketch(&words.sketch, &sketch.to_text(), &mut attributes);
    }
    let fields = rule.fields.iter().filter_map(|(field, name)| Some((name.clone(), number(closed, *field)?)));
    let event = Event {
        device: key.clone(),
        stream: stream.clone(),
        kind: Kind::Aggregate,
        value: Value::Fields(fields.collect()),
        device_time_ms: closed.start_ms,
        stamp: now,
        quality: Quality::Good,
        unit: own.cloned(),
        id: None,
        attributes,
    };
    raw.push(Lane::Normal, event);
    counts.windows += 1;
    for (field, derived) in &plan.feeds {
        if let Some(value) = number(closed, *field) {
            let has_unit = !matches!(field, Field::Count | Field::Rate);
            raw.feeds.push(Feed {
                device: key.clone(),
                stream: derived.clone(),
                value,
                unit: own.filter(|_| has_unit).cloned(),
                time_ms: closed.start_ms,
            });
        }
    }
}

/// The sketch as attributes that an event may carry: `sketch`, and where it is longer `sketch2`, `sketch3` …,
/// to be put together in this order. What an event cannot hold is left out, all of it.
fn push_sketch(name: &Name, text: &str, attributes: &mut Vec<(Name, Name)>) {
    let pieces = text.len().div_ceil(NAME_BYTES_MAX);
    if attributes.len() + pieces > ATTRIBUTES_MAX {
        return;
    }
    for (n, piece) in text.as_bytes().chunks(NAME_BYTES_MAX).enumerate() {
        let name = if n == 0 { name.clone() } else { format!("{name}{}", n + 1).into() };
        // Base64: a character is a byte.
        attributes.push((name, String::from_utf8_lossy(piece).into_owned().into()));
    }
}

/// The sketch that an aggregate's event carries, which merges with those of other windows.
pub fn sketch_of(event: &Event) -> Option<Sketch> {
    let mut text = String::new();
    for n in 1..=ATTRIBUTES_MAX {
        let name = if n == 1 { "sketch".to_owned() } else { format!("sketch{n}") };
        let Some((_, piece)) = event.attributes.iter().find(|(known, _)| **known == *name) else { break };
        text.push_str(piece);
    }
    if text.is_empty() { None } else { Sketch::from_text(&text).ok() }
}

/// A copy of a reading that no window took.
fn misplaced(event: &Event, stream: &Name, why: &Name, set: &RuleSet, rule: &Aggregate) -> Event {
    let mut copy = event.clone();
    copy.stream = stream.clone();
    // The original has the id; a copy with the same one would look like a resend.
    copy.id = None;
    copy.attributes.truncate(ATTRIBUTES_MAX - 1);
    copy.attributes.push((why.clone(), set.names[usize::from(rule.rule)].clone()));
    copy
}
