//! The state of some keys, and what rules do with their events. It knows no
//! other partition: several can run side by side, each with the events of its
//! own devices. Rules over the whole site have a partition of their own.
//!
//! What it makes goes to [`Raw`]; silences, the site's bound on alerts and
//! effects are decided behind it, in one place.

mod alerts;
mod detect;
mod end;
mod filters;
mod gather;
mod series;
mod thresholds;
mod timers;
mod windows;

use std::sync::Arc;

use grey_model::{Event, Lane, Name, RuleId, Stamp};
use grey_window::Closed;
use hashbrown::HashMap;

use crate::alert::Entry;
use crate::set::{Plan, RuleSet};
use crate::table::Table;
use crate::view::AlertState;

pub(crate) use alerts::acknowledged_event;
pub(crate) use end::Moves;
pub(crate) use gather::Gathered;
pub(crate) use series::{FilterState, Group, ModelState, Series};
pub(crate) use timers::Timers;
pub use windows::sketch_of;

/// Streams whose plans are kept; those of more are made anew for each new series.
const PLANS_MAX: usize = 4096;

/// What one rule has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RuleCounts {
    pub(crate) fired: u64,
    pub(crate) cleared: u64,
    pub(crate) suppressed: u64,
    pub(crate) windows: u64,
    pub(crate) late: u64,
    pub(crate) ahead: u64,
    pub(crate) reduced: u64,
    pub(crate) mismatches: u64,
}

impl RuleCounts {
    pub(crate) fn each(&mut self) -> [&mut u64; 8] {
        [
            &mut self.fired,
            &mut self.cleared,
            &mut self.suppressed,
            &mut self.windows,
            &mut self.late,
            &mut self.ahead,
            &mut self.reduced,
            &mut self.mismatches,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.each().into_iter().zip(other.each()) {
            *sum += *more;
        }
    }
}

/// What is counted for no rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) not_numeric: u64,
    pub(crate) series_evicted: u64,
    pub(crate) rate_limited: u64,
}

impl Totals {
    pub(crate) fn each(&mut self) -> [&mut u64; 3] {
        [&mut self.not_numeric, &mut self.series_evicted, &mut self.rate_limited]
    }
}

/// How a rule's model fares here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ModelUse {
    /// The candidate in use; behind the last: none.
    pub(crate) active: usize,
    pub(crate) inferences: u64,
    pub(crate) fallbacks: u64,
    pub(crate) problem: Option<Name>,
}

/// What happened to an alert.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) fired: bool,
    pub(crate) ended: Ended,
}

/// An alert as it was, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) entry: Entry,
    pub(crate) key: Name,
}

/// An event that a rule made.
#[derive(Debug)]
pub(crate) struct RawEvent {
    pub(crate) lane: Lane,
    pub(crate) event: Event,
    pub(crate) mark: Option<Box<Mark>>,
}

/// A derived number that conditions refer to.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) device: Name,
    pub(crate) stream: Name,
    pub(crate) value: f64,
    pub(crate) unit: Option<Name>,
    pub(crate) time_ms: i64,
}

/// What partitions made, in order.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) events: Vec<RawEvent>,
    pub(crate) feeds: Vec<Feed>,
    /// Alerts that ended without an event.
    pub(crate) ended: Vec<Ended>,
}

impl Raw {
    pub(crate) fn push(&mut self, lane: Lane, event: Event) {
        self.events.push(RawEvent { lane, event, mark: None });
    }

    /// Moves everything of another behind.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.events.append(&mut other.events);
        self.feeds.append(&mut other.feeds);
        self.ended.append(&mut other.ended);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.feeds.is_empty() && self.ended.is_empty()
    }
}

/// What rules say of one reading.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) drop: Option<RuleId>,
    /// It violates a rule that forwards such readings.
    pub(crate) flagged: bool,
    /// An alert began or ended with it.
    pub(crate) crossed: bool,
    pub(crate) lane: Option<Lane>,
    /// A filter or a sample leaves it here.
    pub(crate) filtered: Option<RuleId>,
    /// Its device has used up its rate.
    pub(crate) limited: bool,
    /// It is no single number, but a rule could use it.
    pub(crate) used: bool,
}

impl Outcome {
    /// Adds what other rules say.
    pub(crate) fn join(&mut self, other: &Self) {
        self.drop = self.drop.or(other.drop);
        self.flagged |= other.flagged;
        self.crossed |= other.crossed;
        self.lane = self.lane.or(other.lane);
        self.filtered = self.filtered.or(other.filtered);
        self.used |= other.used;
    }
}

/// A reading, with what is needed beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) event: &'a Event,
    /// Its value, if it is a usable number.
    pub(crate) value: Option<f64>,
    pub(crate) now: Stamp,
    pub(crate) now_ms: i64,
    /// It was derived from others: only conditions look at it.
    pub(crate) is_derived: bool,
}

/// The state of some keys.
#[derive(Debug)]
pub(crate) struct Partition {
    /// It is the one of the rules that are not per device.
    pub(crate) shared: bool,
    pub(crate) site: Name,
    plans: HashMap<Name, Arc<[Arc<Plan>]>>,
    pub(crate) series: Table<Series>,
    pub(crate) groups: Table<Group>,
    pub(crate) timers: Timers,
    /// Per rule.
    pub(crate) counts: Vec<RuleCounts>,
    pub(crate) totals: Totals,
    /// Per model rule.
    pub(crate) models: Vec<ModelUse>,
    /// The last value that a rule could not compare: rule, and what, in words.
    pub(crate) mismatch: HashMap<u16, Name>,
    scratch: Scratch,
}

/// Buffers without meaning between two calls.
#[derive(Debug, Default)]
struct Scratch {
    closed: Vec<Closed>,
    touched: Vec<u32>,
    slots: Vec<grey_expr::Slot>,
    floats: Vec<f32>,
    input: Vec<f32>,
}

impl Partition {
    pub(crate) fn new(set: &RuleSet, site: &Name, series_max: usize, shared: bool) -> Self {
        let models = set.models.iter().map(|rule| ModelUse { active: rule.usable(0), ..ModelUse::default() });
        Self {
            shared,
            site: site.clone(),
            plans: HashMap::new(),
            series: Table::new(series_max),
            groups: Table::new(series_max),
            timers: Timers::default(),
            counts: vec![RuleCounts::default(); set.names.len()],
            totals: Totals::default(),
            models: models.collect(),
            mismatch: HashMap::new(),
            scratch: Scratch::default(),
        }
    }

    /// Evaluates a reading.
    #[inline]
    pub(crate) fn process(&mut self, set: &RuleSet, reading: &Reading<'_>, raw: &mut Raw, outcome: &mut Outcome) {
        if !self.shared {
            let event = reading.event;
            match self.series.find(0, &event.device, &event.stream) {
                Some(at) => self.evaluate(set, at, reading, raw, outcome),
                None => self.process_new(set, reading, raw, outcome),
            }
        } else {
            self.process_shared(set, reading, raw, outcome);
        }
    }

    #[cold]
    fn process_new(&mut self, set: &RuleSet, reading: &Reading<'_>, raw: &mut Raw, outcome: &mut Outcome) {
        let event = reading.event;
        let plans = self.plans(set, &event.stream);
        if let Some(plan) = plans.first() {
            let at = self.admit(set, plan, &event.device, &event.stream, reading, raw);
            self.evaluate(set, at, reading, raw, outcome);
        }
    }

    fn process_shared(&mut self, set: &RuleSet, reading: &Reading<'_>, raw: &mut Raw, outcome: &mut Outcome) {
        let event = reading.event;
        let plans = self.plans(set, &event.stream);
        for plan in plans.iter() {
            let Some(key) = self.key_of(set, plan, event) else { continue };
            let at = match self.series.find(plan.scope, &key, &event.stream) {
                Some(at) => at,
                None => self.admit(set, plan, &key, &event.stream, reading, raw),
            };
            self.evaluate(set, at, reading, raw, outcome);
        }
    }

    /// The plans of a stream.
    pub(crate) fn plans(&mut self, set: &RuleSet, stream: &Name) -> Arc<[Arc<Plan>]> {
        if let Some(plans) = self.plans.get(stream) {
            return Arc::clone(plans);
        }
        let plans = set.plans(stream, self.shared);
        if self.plans.len() < PLANS_MAX {
            self.plans.insert(stream.clone(), Arc::clone(&plans));
        }
        plans
    }

    /// Takes a new series in; it may take the place of an old one.
    fn admit(
        &mut self,
        set: &RuleSet,
        plan: &Arc<Plan>,
        key: &Name,
        stream: &Name,
        reading: &Reading<'_>,
        raw: &mut Raw,
    ) -> u32 {
        if self.series.is_full() {
            self.evict_series(set, reading.now, reading.now_ms, raw);
        }
        self.series.insert(plan.scope, key, stream, Series::new(set, plan))
    }

    /// The group of a series.
    fn group(&mut self, set: &RuleSet, scope: u16, key: &Name, reading: &Reading<'_>, raw: &mut Raw) -> u32 {
        match self.groups.find(scope, key, "") {
            Some(at) => at,
            None => {
                if self.groups.is_full() {
                    self.evict_group(set, reading.now, reading.now_ms, raw);
                }
                self.groups.insert(scope, key, &set.words.empty, Group::default())
            }
        }
    }

    fn evaluate(&mut self, set: &RuleSet, at: u32, reading: &Reading<'_>, raw: &mut Raw, outcome: &mut Outcome) {
        let slot = self.series.get(at);
        let plan = &slot.item.plan;
        let group = if plan.needs_group {
            let (scope, key) = (plan.scope, slot.key.clone());
            Some(self.group(set, scope, &key, reading, raw))
        } else {
            None
        };
        self.check_limits(set, at, reading, raw, outcome);
        if let Some(group) = group {
            self.update_inputs(set, at, group, reading);
        }
        let plan = &self.series.get(at).item.plan;
        let (has_checks, has_findings) =
            (!plan.checks.is_empty(), !plan.detectors.is_empty() || !plan.models.is_empty());
        let (has_spectra, has_filters) = (!plan.spectra.is_empty(), !plan.filters.is_empty());
        let has_windows = !plan.windows.is_empty();
        if has_checks {
            self.check_conditions(set, at, group, reading, raw, outcome);
        }
        if has_findings {
            self.find(set, at, group, reading, raw, outcome);
        }
        if reading.is_derived {
            return;
        }
        if has_spectra {
            outcome.used |= self.transform(set, at, reading, raw);
        }
        if has_windows {
            self.add_to_windows(set, at, group, None, reading, raw);
        }
        if has_filters {
            self.filter(set, at, group, reading, outcome);
        }
    }

    /// Memory that the state takes, in bytes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let series = self.series.by_age().map(|at| {
            let slot = self.series.get(at);
            size_of_val(slot) + slot.item.bytes()
        });
        let groups = self.groups.by_age().map(|at| {
            let slot = self.groups.get(at);
            size_of_val(slot) + slot.item.bytes()
        });
        series.sum::<usize>() + groups.sum::<usize>()
    }

    /// Every alert here: whose, and where it stands.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        let series = self.series.by_age().flat_map(|at| {
            let slot = self.series.get(at);
            slot.item.alerts.0.iter().map(move |entry| (&slot.key, entry))
        });
        let groups = self.groups.by_age().flat_map(|at| {
            let slot = self.groups.get(at);
            slot.item.alerts.0.iter().map(move |entry| (&slot.key, entry))
        });
        series.chain(groups)
    }

    /// The alert of an id, and whose it is.
    pub(crate) fn entry_mut(&mut self, id: u64) -> Option<(Name, &mut Entry)> {
        let series: Vec<u32> = self.series.by_age().collect();
        for at in series {
            if self.series.get(at).item.alerts.0.iter().any(|entry| entry.id == id) {
                let slot = self.series.get_mut(at);
                let key = slot.key.clone();
                return slot.item.alerts.0.iter_mut().find(|entry| entry.id == id).map(|entry| (key, entry));
            }
        }
        let groups: Vec<u32> = self.groups.by_age().collect();
        for at in groups {
            if self.groups.get(at).item.alerts.0.iter().any(|entry| entry.id == id) {
                let slot = self.groups.get_mut(at);
                let key = slot.key.clone();
                return slot.item.alerts.0.iter_mut().find(|entry| entry.id == id).map(|entry| (key, entry));
            }
        }
        None
    }
}

/// The stage of an alert as it is shown; `None` while there is nothing to show.
pub(crate) fn shown_state(entry: &Entry) -> Option<AlertState> {
    match entry.stage {
        crate::alert::Stage::Pending => Some(AlertState::Pending),
        crate::alert::Stage::Firing => Some(AlertState::Firing),
        _ => None,
    }
}
