//! What is known of one series and of one group.

use std::collections::VecDeque;
use std::sync::Arc;

use grey_detect::Detector;
use grey_expr::{Conversion, Slot};
use grey_model::Name;
use grey_spectra::Samples;
use grey_window::KeyWindows;

use crate::alert::{Entries, Entry, NEVER_MS};
use crate::set::{Plan, RuleSet, unit};

/// Where a series stands among the limits of one unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BandState {
    /// The last value, in the band's unit; not a number before the first.
    pub(crate) value: f64,
    /// How many points lie below it.
    pub(crate) position: u32,
}

/// The windows of a series by one rule.
#[derive(Debug, Default)]
pub(crate) struct WindowState {
    pub(crate) windows: KeyWindows,
    /// The unit of the first value that had one: others are converted to it.
    pub(crate) unit: Option<Name>,
    /// The time that the engine looks at it by itself; not part of its state.
    pub(crate) timer_ms: i64,
}

/// What a filter remembers of a series.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct FilterState {
    /// The last value forwarded, if it was a number.
    pub(crate) value: Option<f64>,
    /// A hash of it, whatever it was.
    pub(crate) hash: u64,
    /// Its device's time.
    pub(crate) time_ms: Option<i64>,
    /// Readings counted.
    pub(crate) seen: u64,
}

/// How values of the unit that a series last came in become those that rules want.
#[derive(Debug)]
pub(crate) struct UnitCache {
    unit: Name,
    /// Per unit of the plan; `None`: it does not convert.
    conversions: Box<[Option<Conversion>]>,
}

/// Everything that is known of one stream of a device, or of a group.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) plan: Arc<Plan>,
    /// A cache, no state.
    pub(crate) units: Option<Box<UnitCache>>,
    pub(crate) bands: Box<[BandState]>,
    pub(crate) alerts: Entries,
    pub(crate) windows: Box<[WindowState]>,
    pub(crate) detectors: Box<[Detector]>,
    pub(crate) spectra: Box<[Samples]>,
    pub(crate) filters: Box<[FilterState]>,
    /// Readings counted for samples, by threshold.
    pub(crate) sampled: Vec<(u32, u64)>,
}

impl Series {
    pub(crate) fn new(set: &RuleSet, plan: &Arc<Plan>) -> Self {
        let band = BandState { value: f64::NAN, position: 0 };
        let window = |_| WindowState { timer_ms: NEVER_MS, ..WindowState::default() };
        let detector = |at: &u32| Detector::new(set.detectors[*at as usize].method);
        Self {
            units: None,
            bands: plan.bands.iter().map(|_| band).collect(),
            alerts: Entries::default(),
            windows: plan.windows.iter().map(window).collect(),
            detectors: plan.detectors.iter().map(detector).collect(),
            spectra: plan.spectra.iter().map(|_| Samples::default()).collect(),
            filters: plan.filters.iter().map(|_| FilterState::default()).collect(),
            sampled: Vec::new(),
            plan: Arc::clone(plan),
        }
    }

    /// True when nothing that is open is lost with it.
    pub(crate) fn is_idle(&self) -> bool {
        self.alerts.are_idle() && self.windows.iter().all(|state| state.windows.is_empty())
    }

    /// Memory on the heap, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.units.as_ref().map_or(0, |cache| size_of_val(&**cache) + size_of_val(&*cache.conversions))
            + size_of_val(&*self.bands)
            + self.alerts.0.capacity() * size_of::<Entry>()
            + self
                .windows
                .iter()
                .map(|w| size_of::<WindowState>() - size_of::<KeyWindows>() + w.windows.bytes())
                .sum::<usize>()
            + self.detectors.iter().map(Detector::bytes).sum::<usize>()
            + self.spectra.iter().map(Samples::bytes).sum::<usize>()
            + size_of_val(&*self.filters)
            + self.sampled.capacity() * size_of::<(u32, u64)>()
    }
}

/// A value in the unit of a target; `None` when its own does not convert.
#[inline]
pub(crate) fn converted(
    plan: &Plan,
    units: &mut Option<Box<UnitCache>>,
    target: Option<u16>,
    value: f64,
    own: Option<&Name>,
) -> Option<f64> {
    let (Some(target), Some(own)) = (target, own) else { return Some(value) };
    let target = usize::from(target);
    if plan.targets.get(target).is_some_and(|(name, _)| name == own) {
        return Some(value);
    }
    if units.as_ref().is_none_or(|cache| cache.unit != *own) {
        *units = Some(Box::new(cache(plan, own)));
    }
    let cache = units.as_ref()?;
    let conversion = (*cache.conversions.get(target)?)?;
    Some(conversion.apply(value))
}

#[cold]
fn cache(plan: &Plan, own: &Name) -> UnitCache {
    let from = unit(own);
    let conversion = |(_, to): &(Name, Option<grey_expr::Unit>)| from?.conversion_to((*to)?);
    UnitCache { unit: own.clone(), conversions: plan.targets.iter().map(conversion).collect() }
}

/// What a model remembers of a group.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ModelState {
    /// Which model rule.
    pub(crate) model: u32,
    /// The last value of each of the rule's inputs.
    pub(crate) latest: Vec<Option<Box<[f32]>>>,
    /// The last rows, oldest first.
    pub(crate) rows: VecDeque<f32>,
    /// Rows since the last answer.
    pub(crate) since: u32,
}

/// Everything that is known of one group: a device, the site, or an attribute's value.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The latest values of the inputs of conditions, sorted by input.
    pub(crate) slots: Vec<(u32, Slot)>,
    pub(crate) alerts: Entries,
    pub(crate) models: Vec<ModelState>,
    /// What is left of the device's rate: thousandths of a reading, as of a time.
    pub(crate) budget: Option<(i64, i64)>,
}

impl Group {
    pub(crate) fn slot(&self, input: u32) -> Slot {
        let at = self.slots.binary_search_by_key(&input, |(known, _)| *known);
        at.ok().and_then(|at| self.slots.get(at)).map_or_else(Slot::default, |(_, slot)| *slot)
    }

    pub(crate) fn set(&mut self, input: u32, value: f64, now_ms: i64) {
        let at = match self.slots.binary_search_by_key(&input, |(known, _)| *known) {
            Ok(at) => at,
            Err(at) => {
                self.slots.insert(at, (input, Slot::default()));
                at
            }
        };
        if let Some((_, slot)) = self.slots.get_mut(at) {
            slot.previous = slot.value;
            slot.value = value;
            slot.time_ms = now_ms;
            slot.seen = (slot.seen + 1).min(2);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.alerts.are_idle()
    }

    /// Memory on the heap, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let model = |state: &ModelState| {
            size_of::<ModelState>()
                + state.rows.capacity() * 4
                + state.latest.iter().flatten().map(|v| v.len() * 4 + 16).sum::<usize>()
        };
        self.slots.capacity() * size_of::<(u32, Slot)>()
            + self.alerts.0.capacity() * size_of::<Entry>()
            + self.models.iter().map(model).sum::<usize>()
    }
}
