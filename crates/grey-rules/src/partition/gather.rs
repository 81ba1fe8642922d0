//! Pre-aggregation: within a batch, readings that a hot stream or device sends
//! into windows of the site or of a tag are accumulated by pane, and the
//! window sees one accumulator instead of each reading.
//!
//! Only series that have nothing but windows take part, and only windows whose
//! panes can be merged. What cannot be merged after all (a pane that closed
//! meanwhile, another unit) is put in reading by reading.

use grey_model::Name;
use grey_window::{Accumulator, Placed};

use super::{Partition, Raw, Reading};
use crate::set::{Plan, RuleSet, Scope};

/// Piles of one batch. A hot stream has few: one for each window, group and pane.
const PILES_MAX: usize = 64;

/// Readings of one pane of one window.
#[derive(Debug)]
struct Pile {
    scope: u16,
    key: Name,
    stream: Name,
    /// The window, a position in the plan of the stream.
    position: u32,
    pane_ms: i64,
    unit: Option<Name>,
    accumulator: Accumulator,
    /// Positions in the batch.
    readings: Vec<u32>,
}

/// What a batch has gathered.
#[derive(Debug, Default)]
pub(crate) struct Gathered(Vec<Pile>);

impl Partition {
    /// Takes a reading aside. False: it has to be evaluated like any other.
    pub(crate) fn gather(&mut self, set: &RuleSet, reading: &Reading<'_>, number: u32, into: &mut Gathered) -> bool {
        let (event, Some(value)) = (reading.event, reading.value) else { return false };
        let plans = self.plans(set, &event.stream);
        let windows: usize = plans.iter().map(|plan| plan.windows.len()).sum();
        let pane_of = |plan: &Plan, position: usize| {
            set.aggregates[plan.windows[position].aggregate as usize].window.pane_of(event.device_time_ms)
        };
        let can_all = plans.iter().all(|plan| {
            plan.has_windows_only(set) && (0..plan.windows.len()).all(|position| pane_of(plan, position).is_some())
        });
        if !can_all || into.0.len() + windows > PILES_MAX {
            return false;
        }
        let unit = event.unit.as_ref().filter(|unit| !unit.is_empty());
        for plan in plans.iter() {
            let Some(key) = self.key_of(set, plan, event) else { continue };
            for (position, window) in plan.windows.iter().enumerate() {
                let Some(pane_ms) = pane_of(plan, position) else { continue };
                let is_same = |pile: &Pile| {
                    (pile.scope, pile.position, pile.pane_ms) == (plan.scope, position as u32, pane_ms)
                        && pile.key == key
                        && pile.stream == event.stream
                        && pile.unit.as_ref() == unit
                };
                let at = into.0.iter().position(is_same).unwrap_or_else(|| {
                    into.0.push(Pile {
                        scope: plan.scope,
                        key: key.clone(),
                        stream: event.stream.clone(),
                        position: position as u32,
                        pane_ms,
                        unit: unit.cloned(),
                        accumulator: Accumulator::new(set.aggregates[window.aggregate as usize].window.needs),
                        readings: Vec::new(),
                    });
                    into.0.len() - 1
                });
                if let Some(pile) = into.0.get_mut(at) {
                    pile.accumulator.add(value, event.device_time_ms);
                    pile.readings.push(number);
                }
            }
        }
        true
    }

    /// Puts what was gathered into the windows.
    pub(crate) fn put_gathered<'a>(
        &mut self,
        set: &RuleSet,
        gathered: &mut Gathered,
        reading_of: impl Fn(u32) -> Option<Reading<'a>>,
        raw: &mut Raw,
    ) {
        for pile in gathered.0.drain(..) {
            let Some(first) = pile.readings.first().and_then(|number| reading_of(*number)) else { continue };
            let at = match self.series.find(pile.scope, &pile.key, &pile.stream) {
                Some(at) => at,
                None => {
                    let plans = self.plans(set, &pile.stream);
                    let Some(plan) = plans.iter().find(|plan| plan.scope == pile.scope) else { continue };
                    self.admit(set, plan, &pile.key, &pile.stream, &first, raw)
                }
            };
            let pane = (pile.pane_ms, &pile.accumulator, pile.unit.as_ref());
            if self.merge_into_window(set, at, pile.position, pane, &first, raw) == Some(Placed::Taken) {
                continue;
            }
            for reading in pile.readings.iter().filter_map(|number| reading_of(*number)) {
                self.add_to_windows(set, at, None, Some(pile.position), &reading, raw);
            }
        }
    }

    /// The group that a reading belongs to by a plan of the shared rules.
    pub(super) fn key_of(&self, set: &RuleSet, plan: &Plan, event: &grey_model::Event) -> Option<Name> {
        match &set.scopes[usize::from(plan.scope)] {
            Scope::Device => None,
            Scope::Site => Some(self.site.clone()),
            // What has no such attribute belongs to none of its groups.
            Scope::Tag(tag) => event.attributes.iter().find(|(name, _)| name == tag).map(|(_, value)| value.clone()),
        }
    }
}
