//! What ends before its time: series that give their place to others, and
//! everything when other rules take over.

use std::sync::Arc;

use grey_model::{Name, Stamp};
use hashbrown::HashMap;

use super::alerts::{Cause, Details, end};
use super::windows::{From, send};
use super::{Group, Partition, Raw, RuleCounts, Series};
use crate::alert::Entries;
use crate::set::{Plan, RuleSet};

/// Why something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Evicted,
    Changed,
}

/// How numbers of one rule set become those of another; what is not in it ends.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    pub(crate) rules: HashMap<u16, u16>,
    pub(crate) alerts: HashMap<u32, u32>,
    pub(crate) aggregates: HashMap<u32, u32>,
    pub(crate) detectors: HashMap<u32, u32>,
    pub(crate) models: HashMap<u32, u32>,
    pub(crate) spectra: HashMap<u32, u32>,
    pub(crate) filters: HashMap<u32, u32>,
    pub(crate) inputs: HashMap<u32, u32>,
    pub(crate) scopes: HashMap<u16, u16>,
}

/// What rules counted that are no longer in force.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    pub(crate) rules: Vec<(u16, RuleCounts)>,
    pub(crate) fallbacks: u64,
}

impl Gone {
    pub(crate) fn extend(&mut self, other: Self) {
        self.rules.extend(other.rules);
        self.fallbacks += other.fallbacks;
    }
}

impl Moves {
    /// What is the same in two rule sets.
    pub(crate) fn between(old: &RuleSet, new: &RuleSet) -> Self {
        fn pairs<T>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> HashMap<u32, u32> {
            let find = |item: &T| new.iter().position(|other| same(item, other));
            old.iter().enumerate().filter_map(|(n, item)| Some((n as u32, find(item)? as u32))).collect()
        }
        fn short(map: HashMap<u32, u32>) -> HashMap<u16, u16> {
            map.into_iter().map(|(a, b)| (a as u16, b as u16)).collect()
        }
        Self {
            rules: short(pairs(&old.identities, &new.identities, |a, b| a == b)),
            alerts: by_identity(old.alerts.iter().map(|a| a.identity), new.alerts.iter().map(|a| a.identity)),
            aggregates: pairs(&old.aggregates, &new.aggregates, |a, b| a.identity == b.identity),
            detectors: pairs(&old.detectors, &new.detectors, |a, b| a.identity == b.identity),
            models: pairs(&old.models, &new.models, |a, b| a.identity == b.identity),
            spectra: pairs(&old.spectra, &new.spectra, |a, b| a.identity == b.identity),
            filters: pairs(&old.filters, &new.filters, |a, b| a.identity == b.identity),
            inputs: pairs(&old.inputs, &new.inputs, |a, b| a == b),
            scopes: short(pairs(&old.scopes, &new.scopes, |a, b| a == b)),
        }
    }
}

fn by_identity(old: impl Iterator<Item = u64>, new: impl Iterator<Item = u64>) -> HashMap<u32, u32> {
    let new: HashMap<u64, u32> = new.enumerate().map(|(n, identity)| (identity, n as u32)).collect();
    old.enumerate().filter_map(|(n, identity)| Some((n as u32, *new.get(&identity)?))).collect()
}

impl Partition {
    /// Gives up the series that was idle longest.
    pub(super) fn evict_series(&mut self, set: &RuleSet, now: Stamp, now_ms: i64, raw: &mut Raw) {
        let at = self.series.victim(Series::is_idle);
        let slot = self.series.get(at);
        let (key, stream, plan) = (slot.key.clone(), slot.stream.clone(), Arc::clone(&slot.item.plan));
        let mut item = self.series.remove(at, Series::new(set, &plan));
        self.close_windows(set, &mut item, (&key, &stream), now, Cut::Evicted, |_| true, raw);
        self.end_alerts(set, &mut item.alerts, (&key, &stream), now, now_ms, Cut::Evicted, |_| true, raw);
        self.totals.series_evicted += 1;
    }

    /// Gives up the group that was idle longest.
    pub(super) fn evict_group(&mut self, set: &RuleSet, now: Stamp, now_ms: i64, raw: &mut Raw) {
        let at = self.groups.victim(Group::is_idle);
        let slot = self.groups.get(at);
        let (key, stream) = (slot.key.clone(), slot.stream.clone());
        let mut item = self.groups.remove(at, Group::default());
        self.end_alerts(set, &mut item.alerts, (&key, &stream), now, now_ms, Cut::Evicted, |_| true, raw);
        self.totals.series_evicted += 1;
    }

    #[allow(clippy::too_many_arguments)]
    fn close_windows(
        &mut self,
        set: &RuleSet,
        item: &mut Series,
        (key, stream): (&Name, &Name),
        now: Stamp,
        cut: Cut,
        ends: impl Fn(u32) -> bool,
        raw: &mut Raw,
    ) {
        let closed = &mut self.scratch.closed;
        for (plan, state) in item.plan.windows.iter().zip(item.windows.iter_mut()) {
            if !ends(plan.aggregate) {
                continue;
            }
            let rule = &set.aggregates[plan.aggregate as usize];
            state.windows.finish(&rule.window, closed);
            let counts = &mut self.counts[usize::from(rule.rule)];
            let from = From { set, rule, plan, key, stream, now };
            let is_cut = matches!(cut, Cut::Evicted | Cut::Changed);
            closed.drain(..).for_each(|closed| send(&from, &closed, state.unit.as_ref(), is_cut, counts, raw));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn end_alerts(
        &mut self,
        set: &RuleSet,
        entries: &mut Entries,
        (key, stream): (&Name, &Name),
        now: Stamp,
        now_ms: i64,
        cut: Cut,
        ends: impl Fn(u32) -> bool,
        raw: &mut Raw,
    ) {
        let reason = match cut {
            Cut::Evicted => &set.words.evicted,
            Cut::Changed => &set.words.changed,
        };
        for entry in entries.0.iter_mut().filter(|entry| ends(entry.alert)) {
            let details = Details::Value(entry.value);
            let cause = Cause { key, stream, at: 0, generation: 0, is_group: false, event: None, details, now, now_ms };
            end(set, entry, reason, &cause, &mut self.counts, raw);
        }
    }

    /// Ends everything that is not in `moves`, in the order of rules and keys, and gives the rest to another set.
    pub(crate) fn change(
        &mut self,
        old: &RuleSet,
        new: &RuleSet,
        moves: &Moves,
        now: Stamp,
        now_ms: i64,
        raw: &mut Raw,
    ) -> Gone {
        let mut parts = Vec::new();
        for at in self.series.by_key() {
            let slot = self.series.get(at);
            let place = (slot.scope, slot.key.clone(), slot.stream.clone());
            let plan = Arc::clone(&slot.item.plan);
            let mut item = std::mem::replace(&mut self.series.get_mut(at).item, Series::new(old, &plan));
            let names = (&place.1, &place.2);
            let mut own = Raw::default();
            let ends = |n: u32| !moves.aggregates.contains_key(&n);
            self.close_windows(old, &mut item, names, now, Cut::Changed, ends, &mut own);
            let ends = |n: u32| !moves.alerts.contains_key(&n);
            self.end_alerts(old, &mut item.alerts, names, now, now_ms, Cut::Changed, ends, &mut own);
            self.series.get_mut(at).item = item;
            parts.push(own);
        }
        for at in self.groups.by_key() {
            let slot = self.groups.get(at);
            let place = (slot.scope, slot.key.clone(), slot.stream.clone());
            let mut item = std::mem::take(&mut self.groups.get_mut(at).item);
            let mut own = Raw::default();
            let ends = |n: u32| !moves.alerts.contains_key(&n);
            let names = (&place.1, &place.2);
            self.end_alerts(old, &mut item.alerts, names, now, now_ms, Cut::Changed, ends, &mut own);
            self.groups.get_mut(at).item = item;
            parts.push(own);
        }
        // Aggregates before alerts, as rules make them.
        let (mut aggregates, mut alerts) = (Vec::new(), Vec::new());
        for part in parts {
            for event in part.events {
                if event.mark.is_some() { alerts.push(event) } else { aggregates.push(event) }
            }
            raw.ended.extend(part.ended);
        }
        raw.events.extend(aggregates);
        raw.events.extend(alerts);
        self.give(new, moves)
    }

    /// Gives what stays to another rule set.
    fn give(&mut self, new: &RuleSet, moves: &Moves) -> Gone {
        let max = self.series.max();
        let mut next = Self::new(new, &self.site, max, self.shared);
        next.totals = self.totals;
        for (old, new) in &moves.rules {
            if let (Some(from), Some(to)) = (self.counts.get(usize::from(*old)), next.counts.get_mut(usize::from(*new)))
            {
                *to = *from;
            }
        }
        for (old, new) in &moves.models {
            if let (Some(from), Some(to)) = (self.models.get(*old as usize), next.models.get_mut(*new as usize)) {
                *to = from.clone();
            }
        }
        for (scope, key, stream, item) in self.series.drain() {
            let Some(scope) = moves.scopes.get(&scope) else { continue };
            let plans = next.plans(new, &stream);
            if let Some(plan) = plans.iter().find(|plan| plan.scope == *scope) {
                let item = moved_series(item, new, plan, moves);
                next.series.insert(*scope, &key, &stream, item);
            }
        }
        for (scope, key, stream, item) in self.groups.drain() {
            if let Some(scope) = moves.scopes.get(&scope) {
                next.groups.insert(*scope, &key, &stream, moved_group(item, moves));
            }
        }
        next.set_timers(new);
        let counts = self.counts.iter().enumerate().map(|(n, counts)| (n as u16, *counts));
        let rules = counts.filter(|(n, _)| !moves.rules.contains_key(n)).collect();
        let uses = self.models.iter().enumerate().filter(|(n, _)| !moves.models.contains_key(&(*n as u32)));
        // `finish` keeps the rules and forgets their state.
        let fallbacks = if moves.scopes.is_empty() { 0 } else { uses.map(|(_, usage)| usage.fallbacks).sum() };
        if moves.scopes.is_empty() {
            next.models = std::mem::take(&mut self.models);
        }
        *self = next;
        Gone { rules, fallbacks }
    }
}

/// A series' state under another plan.
fn moved_series(mut old: Series, set: &RuleSet, plan: &Arc<Plan>, moves: &Moves) -> Series {
    let mut item = Series::new(set, plan);
    // The next reading is held against every limit, as the first of a series is: new rules may hold already.
    item.alerts = moved_alerts(old.alerts, moves);
    for (position, plan) in old.plan.windows.iter().enumerate() {
        let Some(to) = moves.aggregates.get(&plan.aggregate) else { continue };
        let at = item.plan.windows.iter().position(|new| new.aggregate == *to);
        if let (Some(from), Some(to)) = (old.windows.get_mut(position), at.and_then(|at| item.windows.get_mut(at))) {
            *to = std::mem::take(from);
        }
    }
    for (number, detector) in old.plan.detectors.iter().zip(old.detectors) {
        let Some(to) = moves.detectors.get(number) else { continue };
        let at = item.plan.detectors.iter().position(|new| new == to);
        if let Some(to) = at.and_then(|at| item.detectors.get_mut(at)) {
            *to = detector;
        }
    }
    for (plan, samples) in old.plan.spectra.iter().zip(old.spectra) {
        let Some(to) = moves.spectra.get(&plan.spectrum) else { continue };
        let at = item.plan.spectra.iter().position(|new| new.spectrum == *to);
        if let Some(to) = at.and_then(|at| item.spectra.get_mut(at)) {
            *to = samples;
        }
    }
    for (number, state) in old.plan.filters.iter().zip(old.filters) {
        let Some(to) = moves.filters.get(number) else { continue };
        let at = item.plan.filters.iter().position(|new| new == to);
        if let Some(to) = at.and_then(|at| item.filters.get_mut(at)) {
            *to = state;
        }
    }
    let kept = old.sampled.into_iter();
    let moved = kept.filter_map(|(rule, seen)| Some((u32::from(*moves.rules.get(&(rule as u16))?), seen)));
    item.sampled = moved.collect();
    item.sampled.sort_unstable();
    item
}

fn moved_alerts(old: Entries, moves: &Moves) -> Entries {
    let kept = old.0.into_iter().filter_map(|mut entry| {
        entry.alert = *moves.alerts.get(&entry.alert)?;
        Some(entry)
    });
    let mut kept: Vec<_> = kept.collect();
    kept.sort_by_key(|entry| entry.alert);
    Entries(kept)
}

fn moved_group(old: Group, moves: &Moves) -> Group {
    let mut group = Group { budget: old.budget, alerts: moved_alerts(old.alerts, moves), ..Group::default() };
    group.slots = old.slots.into_iter().filter_map(|(input, slot)| Some((*moves.inputs.get(&input)?, slot))).collect();
    group.slots.sort_by_key(|(input, _)| *input);
    let models = old.models.into_iter().filter_map(|mut state| {
        state.model = *moves.models.get(&state.model)?;
        Some(state)
    });
    group.models = models.collect();
    group.models.sort_by_key(|state| state.model);
    group
}
