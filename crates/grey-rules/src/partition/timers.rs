//! What happens by time alone: a condition that has held for long enough, a
//! window whose source is silent.
//!
//! The heap holds lower bounds. What is due is collected, asked for its true
//! time, and done in the order of time, rule and key, so that neither the
//! heap's own order nor the slots' numbers reach an event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use grey_model::{Name, Stamp};

use super::{Partition, Raw};
use crate::alert::NEVER_MS;
use crate::set::RuleSet;

/// Where a timed thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// An alert of a series.
    SeriesAlert(u32),
    /// An alert of a group.
    GroupAlert(u32),
    /// The windows of a series, a position in its plan.
    Window(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    due_ms: i64,
    what: What,
    at: u32,
    generation: u32,
}

/// Times to look at something.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<Timer>>);

impl Timers {
    /// Looks at something at a time or before, given when it is looked at already.
    #[inline]
    pub(crate) fn set(&mut self, timer_ms: &mut i64, due_ms: i64, what: What, at: u32, generation: u32) {
        if due_ms < *timer_ms {
            *timer_ms = due_ms;
            self.0.push(Reverse(Timer { due_ms, what, at, generation }));
        }
    }

    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.0.peek().map(|Reverse(timer)| timer.due_ms)
    }

    fn pop(&mut self, now_ms: i64) -> Option<Timer> {
        let Reverse(timer) = self.0.peek()?;
        if timer.due_ms > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse(timer)| timer)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Something that is due, in the order in which it is done.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    due_ms: i64,
    rule: u16,
    scope: u16,
    key: Name,
    stream: Name,
    what: What,
    at: u32,
}

impl Partition {
    /// When [`Partition::advance`] has something to look at.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.timers.next_ms()
    }

    /// Does what is due at a time.
    pub(crate) fn advance(&mut self, set: &RuleSet, now: Stamp, now_ms: i64, raw: &mut Raw) {
        loop {
            let mut due = Vec::new();
            while let Some(timer) = self.timers.pop(now_ms) {
                due.extend(self.look(set, timer, now_ms));
            }
            if due.is_empty() {
                return;
            }
            due.sort_unstable();
            for item in due {
                match item.what {
                    What::SeriesAlert(alert) => self.alert_due(set, false, item.at, alert, now, now_ms, raw),
                    What::GroupAlert(alert) => self.alert_due(set, true, item.at, alert, now, now_ms, raw),
                    What::Window(position) => self.window_due(set, item.at, position, now, now_ms, raw),
                }
            }
        }
    }

    /// The thing that a timer means, if it is due by now; else it is looked at again later.
    fn look(&mut self, set: &RuleSet, timer: Timer, now_ms: i64) -> Option<Due> {
        let Timer { due_ms: bound_ms, what, at, generation } = timer;
        let (due_ms, rule, place) = match what {
            What::SeriesAlert(alert) | What::GroupAlert(alert) => {
                let is_group = matches!(what, What::GroupAlert(_));
                let (entries, place) = if is_group {
                    self.groups.current(at, generation)?;
                    let slot = self.groups.get_mut(at);
                    (&mut slot.item.alerts, (slot.scope, slot.key.clone(), slot.stream.clone()))
                } else {
                    self.series.current(at, generation)?;
                    let slot = self.series.get_mut(at);
                    (&mut slot.item.alerts, (slot.scope, slot.key.clone(), slot.stream.clone()))
                };
                let entry = entries.get_mut(alert).filter(|entry| entry.timer_ms == bound_ms)?;
                entry.timer_ms = NEVER_MS;
                let rule = set.alert(alert)?;
                let due_ms = entry.due_ms(rule);
                if due_ms > now_ms && due_ms < NEVER_MS {
                    self.timers.set(&mut entry.timer_ms, due_ms, what, at, generation);
                }
                (due_ms, rule.rule, place)
            }
            What::Window(position) => {
                self.series.current(at, generation)?;
                let slot = self.series.get_mut(at);
                let state = slot.item.windows.get_mut(position as usize).filter(|state| state.timer_ms == bound_ms)?;
                state.timer_ms = NEVER_MS;
                let plan = slot.item.plan.windows.get(position as usize)?;
                let rule = &set.aggregates[plan.aggregate as usize];
                let due_ms = state.windows.due_ms(&rule.window).unwrap_or(NEVER_MS);
                if due_ms > now_ms && due_ms < NEVER_MS {
                    self.timers.set(&mut state.timer_ms, due_ms, what, at, generation);
                }
                (due_ms, rule.rule, (slot.scope, slot.key.clone(), slot.stream.clone()))
            }
        };
        let (scope, key, stream) = place;
        (due_ms <= now_ms).then_some(Due { due_ms, rule, scope, key, stream, what, at })
    }

    /// Sets the timers of everything, after a restore.
    pub(crate) fn set_timers(&mut self, set: &RuleSet) {
        self.timers.clear();
        let series: Vec<u32> = self.series.by_age().collect();
        for at in series {
            let slot = self.series.get_mut(at);
            let generation = slot.generation;
            for entry in &mut slot.item.alerts.0 {
                entry.timer_ms = NEVER_MS;
                if let Some(rule) = set.alert(entry.alert) {
                    let due_ms = entry.due_ms(rule);
                    self.timers.set(&mut entry.timer_ms, due_ms, What::SeriesAlert(entry.alert), at, generation);
                }
            }
            let item = &mut slot.item;
            for (position, (state, plan)) in item.windows.iter_mut().zip(&item.plan.windows).enumerate() {
                state.timer_ms = NEVER_MS;
                let rule = &set.aggregates[plan.aggregate as usize];
                if let Some(due_ms) = state.windows.due_ms(&rule.window) {
                    self.timers.set(&mut state.timer_ms, due_ms, What::Window(position as u32), at, generation);
                }
            }
        }
        let groups: Vec<u32> = self.groups.by_age().collect();
        for at in groups {
            let slot = self.groups.get_mut(at);
            let generation = slot.generation;
            for entry in &mut slot.item.alerts.0 {
                entry.timer_ms = NEVER_MS;
                if let Some(rule) = set.alert(entry.alert) {
                    let due_ms = entry.due_ms(rule);
                    self.timers.set(&mut entry.timer_ms, due_ms, What::GroupAlert(entry.alert), at, generation);
                }
            }
        }
    }

    /// The site's clock was set back: alerts move along; windows see it by themselves.
    pub(crate) fn shift(&mut self, set: &RuleSet, by_ms: i64) {
        let series: Vec<u32> = self.series.by_age().collect();
        for at in series {
            self.series.get_mut(at).item.alerts.0.iter_mut().for_each(|entry| entry.shift(by_ms));
        }
        let groups: Vec<u32> = self.groups.by_age().collect();
        for at in groups {
            let group = &mut self.groups.get_mut(at).item;
            group.alerts.0.iter_mut().for_each(|entry| entry.shift(by_ms));
            group.slots.iter_mut().for_each(|(_, slot)| slot.time_ms = slot.time_ms.saturating_sub(by_ms));
            if let Some((_, at_ms)) = &mut group.budget {
                *at_ms = at_ms.saturating_sub(by_ms);
            }
        }
        self.set_timers(set);
    }
}
