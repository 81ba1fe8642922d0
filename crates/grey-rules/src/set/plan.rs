//! What applies to one stream, in one scope. Made when the stream's name is
//! first seen, since rules may name streams with `*`.

use std::sync::Arc;

use grey_expr::Unit;
use grey_model::Name;

use super::{Crossings, LimitOn, Predicate, RuleSet, Scope, Test, unit};
use crate::spec::Field;
use crate::words::clipped;

/// Limits in one unit.
#[derive(Debug)]
pub(crate) struct Band {
    /// The unit, a position in the plan's; `None`: values as they come.
    pub(crate) target: Option<u16>,
    pub(crate) unit: Option<Name>,
    /// The thresholds with alerts whose truth a value may change.
    pub(crate) crossings: Crossings,
    /// Thresholds that decide on readings, in the order of the rules.
    pub(crate) verdicts: Box<[(u32, Predicate)]>,
    /// Every rule with a limit here, for counting.
    pub(crate) rules: Box<[u16]>,
}

/// A condition to be evaluated.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) threshold: u32,
    pub(crate) condition: u32,
    pub(crate) clear: Option<u32>,
    /// Its alerts belong to the series, since it looks at nothing but the event.
    pub(crate) at_series: bool,
    /// It may be evaluated on readings that are no usable number.
    pub(crate) needs_event: bool,
}

/// A window of the stream.
#[derive(Debug)]
pub(crate) struct WindowPlan {
    pub(crate) aggregate: u32,
    /// Fields that conditions refer to, and the derived stream of each.
    pub(crate) feeds: Box<[(Field, Name)]>,
    pub(crate) late: Name,
}

/// An input of a model.
#[derive(Debug)]
pub(crate) struct ModelInput {
    pub(crate) model: u32,
    /// The position in the rule's inputs.
    pub(crate) input: u16,
    pub(crate) target: Option<u16>,
}

/// A spectrum of the stream.
#[derive(Debug)]
pub(crate) struct SpectrumPlan {
    pub(crate) spectrum: u32,
    /// Single values are samples too.
    pub(crate) scalars: bool,
    /// The stream of the derived numbers.
    pub(crate) stream: Name,
    /// For each derived number: the derived stream, if conditions refer to it.
    pub(crate) feeds: Box<[Option<Name>]>,
}

/// What applies to one stream, in one scope.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scope: u16,
    /// Units that values are converted to.
    pub(crate) targets: Box<[(Name, Option<Unit>)]>,
    pub(crate) bands: Box<[Band]>,
    /// Inputs of conditions, and their units.
    pub(crate) inputs: Box<[(u32, Option<u16>)]>,
    pub(crate) checks: Box<[Check]>,
    pub(crate) models: Box<[ModelInput]>,
    pub(crate) windows: Box<[WindowPlan]>,
    pub(crate) detectors: Box<[u32]>,
    pub(crate) spectra: Box<[SpectrumPlan]>,
    pub(crate) filters: Box<[u32]>,
    /// Something is kept of the whole group.
    pub(crate) needs_group: bool,
}

impl Plan {
    /// Nothing but windows that take every reading.
    pub(crate) fn has_windows_only(&self, set: &RuleSet) -> bool {
        let has_no_others = self.bands.is_empty() && self.checks.is_empty() && self.models.is_empty();
        has_no_others
            && self.detectors.is_empty()
            && self.spectra.is_empty()
            && self.filters.is_empty()
            && !self.needs_group
            && self.windows.iter().all(|window| set.aggregates[window.aggregate as usize].filter.is_none())
    }

    fn is_empty(&self) -> bool {
        self.bands.is_empty()
            && self.inputs.is_empty()
            && self.checks.is_empty()
            && self.models.is_empty()
            && self.windows.is_empty()
            && self.detectors.is_empty()
            && self.spectra.is_empty()
            && self.filters.is_empty()
    }
}

#[derive(Default)]
struct Targets(Vec<(Name, Option<Unit>)>);

impl Targets {
    fn get(&mut self, name: Option<&Name>) -> Option<u16> {
        let name = name?;
        let at = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.0.push((name.clone(), unit(name)));
            self.0.len() - 1
        });
        Some(at as u16)
    }
}

impl RuleSet {
    /// What applies to a stream: in the scope of devices, or in all others. Scopes without anything are left out.
    pub(crate) fn plans(&self, stream: &Name, shared: bool) -> Arc<[Arc<Plan>]> {
        let scopes = if shared { 1..self.scopes.len() } else { 0..1 };
        let plans = scopes.map(|scope| self.plan(stream, scope as u16));
        plans.filter(|plan| !plan.is_empty()).map(Arc::new).collect()
    }

    fn plan(&self, stream: &Name, scope: u16) -> Plan {
        let mut targets = Targets::default();
        let is_device = self.scopes.get(usize::from(scope)) == Some(&Scope::Device);
        let bands = if is_device { self.bands(stream, &mut targets) } else { Vec::new() };
        let mut inputs: Vec<(u32, Option<u16>)> = Vec::new();
        for (_, input) in self.watched.iter().filter(|(at, _)| *at == scope) {
            let found = &self.inputs[*input as usize];
            if found.stream == *stream {
                inputs.push((*input, targets.get(found.unit.as_ref())));
            }
        }
        let checks = self.checks(stream, scope);
        let mut models = Vec::new();
        for (n, model) in self.models.iter().enumerate().filter(|_| is_device) {
            for (at, input) in model.inputs.iter().enumerate().filter(|(_, input)| input.stream == *stream) {
                let target = targets.get(input.unit.as_ref());
                models.push(ModelInput { model: n as u32, input: at as u16, target });
            }
        }
        let windows = self.windows(stream, scope);
        let detectors: Vec<u32> = numbered(&self.detectors)
            .filter(|(_, rule)| is_device && rule.streams.matches(stream))
            .map(|(n, _)| n)
            .collect();
        let spectra = if is_device { self.spectra(stream) } else { Vec::new() };
        let filters: Vec<u32> = numbered(&self.filters)
            .filter(|(_, rule)| is_device && rule.streams.matches(stream))
            .map(|(n, _)| n)
            .collect();
        let mut conditions = windows.iter().filter_map(|w| self.aggregates[w.aggregate as usize].filter);
        let mut filtered = filters.iter().filter_map(|f| self.filters[*f as usize].filter);
        let has_inputs = |condition: u32| !self.conditions[condition as usize].inputs.is_empty();
        let needs_group = !inputs.is_empty()
            || !models.is_empty()
            || checks.iter().any(|check| !check.at_series)
            || conditions.any(has_inputs)
            || filtered.any(has_inputs);
        Plan {
            scope,
            targets: targets.0.into(),
            bands: bands.into(),
            inputs: inputs.into(),
            checks: checks.into(),
            models: models.into(),
            windows: windows.into(),
            detectors: detectors.into(),
            spectra: spectra.into(),
            filters: filters.into(),
            needs_group,
        }
    }

    fn bands(&self, stream: &str, targets: &mut Targets) -> Vec<Band> {
        // By unit, in the order in which rules name them.
        let mut units: Vec<Option<&Name>> = Vec::new();
        let limits: Vec<_> = numbered(&self.thresholds)
            .filter_map(|(n, threshold)| match &threshold.test {
                Test::Limit { on, unit, fire, clear } if self.is_on(on, stream) => {
                    Some((n, threshold, unit.as_ref(), *fire, *clear))
                }
                _ => None,
            })
            .collect();
        for (_, _, unit, _, _) in &limits {
            if !units.contains(unit) {
                units.push(*unit);
            }
        }
        units
            .into_iter()
            .map(|own| {
                let here = || limits.iter().filter(move |(_, _, unit, _, _)| *unit == own);
                let crossings = Crossings::new(here().flat_map(|(n, threshold, _, fire, clear)| {
                    let alerts = threshold.alert.is_some();
                    std::iter::once(*fire).chain(*clear).filter(move |_| alerts).map(|predicate| (*n, predicate))
                }));
                let verdicts = here()
                    .filter(|(_, threshold, _, _, _)| !threshold.verdicts.is_none())
                    .map(|(n, _, _, fire, _)| (*n, *fire))
                    .collect();
                let mut rules: Vec<u16> = here().map(|(_, threshold, _, _, _)| threshold.rule).collect();
                rules.dedup();
                Band { target: targets.get(own), unit: own.cloned(), crossings, verdicts, rules: rules.into() }
            })
            .collect()
    }

    fn is_on(&self, on: &LimitOn, stream: &str) -> bool {
        match on {
            LimitOn::Stream(name) => **name == *stream,
            LimitOn::Spectra { spectrum, suffix } => {
                let base = stream.strip_suffix(suffix.as_str());
                base.is_some_and(|base| self.spectra[*spectrum as usize].streams.matches(base))
            }
        }
    }

    fn checks(&self, stream: &str, scope: u16) -> Vec<Check> {
        let mut checks = Vec::new();
        for (n, threshold) in numbered(&self.thresholds) {
            let Test::Condition { condition, clear, scope: own } = &threshold.test else { continue };
            if *own != scope {
                continue;
            }
            let parts = || std::iter::once(*condition).chain(*clear).map(|c| &self.conditions[c as usize]);
            let mut inputs = parts().flat_map(|c| c.inputs.iter()).peekable();
            let looks_at_events_only = inputs.peek().is_none();
            let concerned = if looks_at_events_only {
                threshold.streams.matches(stream)
            } else {
                inputs.any(|input| *self.inputs[*input as usize].stream == *stream)
            };
            if concerned {
                let needs_event = parts().any(|c| c.expr.needs_event());
                let at_series = looks_at_events_only && scope == 0;
                checks.push(Check { threshold: n, condition: *condition, clear: *clear, at_series, needs_event });
            }
        }
        checks
    }

    fn windows(&self, stream: &str, scope: u16) -> Vec<WindowPlan> {
        let mut fed: Vec<Name> = Vec::new();
        let mut windows = Vec::new();
        for (n, aggregate) in numbered(&self.aggregates) {
            if aggregate.scope != scope || !aggregate.streams.matches(stream) {
                continue;
            }
            let mut feeds = Vec::new();
            for (field, name) in &aggregate.fields {
                let derived = clipped(&format!("{stream}.{name}"));
                // Of several rules that derive the same stream the first one does.
                if self.is_referred_to(&derived) && !fed.contains(&derived) {
                    fed.push(derived.clone());
                    feeds.push((*field, derived));
                }
            }
            let late = aggregate.late.clone().unwrap_or_else(|| clipped(&format!("{stream}.late")));
            windows.push(WindowPlan { aggregate: n, feeds: feeds.into(), late });
        }
        windows
    }

    fn spectra(&self, stream: &str) -> Vec<SpectrumPlan> {
        let mut fed: Vec<Name> = Vec::new();
        let mut spectra = Vec::new();
        for (n, spectrum) in numbered(&self.spectra).filter(|(_, s)| s.streams.matches(stream)) {
            let feeds = spectrum.analyzer.field_names().iter().map(|field| {
                let derived = clipped(&format!("{stream}.{field}"));
                let used = self.is_referred_to(&derived) && !fed.contains(&derived);
                used.then(|| {
                    fed.push(derived.clone());
                    derived
                })
            });
            let feeds = feeds.collect();
            let scalars = !spectrum.streams.is_all();
            spectra.push(SpectrumPlan { spectrum: n, scalars, stream: clipped(&format!("{stream}.spectrum")), feeds });
        }
        spectra
    }

    /// True when a condition refers to a derived stream.
    fn is_referred_to(&self, derived: &Name) -> bool {
        self.inputs.iter().any(|input| input.stream == *derived)
            || self.models.iter().any(|model| model.inputs.iter().any(|input| input.stream == *derived))
            || self.thresholds.iter().any(|t| matches!(&t.test, Test::Limit { on, .. } if self.is_on(on, derived)))
    }
}

fn numbered<T>(list: &[T]) -> impl Iterator<Item = (u32, &T)> {
    list.iter().enumerate().map(|(n, item)| (n as u32, item))
}
