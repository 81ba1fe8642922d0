//! Filters, and the rate of devices: which readings say nothing new.

use grey_expr::Truth;
use grey_model::{Event, RuleId, Value};

use super::series::FilterState;
use super::thresholds::{Evaluation, is_sampled};
use super::{Outcome, Partition, Raw, Reading};
use crate::alert::mix;
use crate::set::{Filter, RuleSet, fnv1a, unit};

/// Thousandths of a reading.
const MILLI: i64 = 1_000;

impl Partition {
    /// Asks the filters of a stream. What is flagged or has no rate left was decided before.
    pub(super) fn filter(
        &mut self,
        set: &RuleSet,
        at: u32,
        group: Option<u32>,
        reading: &Reading<'_>,
        outcome: &mut Outcome,
    ) {
        let Self { series, groups, scratch, site, .. } = self;
        let item = &mut series.get_mut(at).item;
        let event = reading.event;
        for (number, state) in item.plan.filters.iter().zip(item.filters.iter_mut()) {
            let rule = &set.filters[*number as usize];
            if let Some(filter) = rule.filter {
                let group = group.map(|group| &groups.get(group).item);
                let evaluation = Evaluation { event, site, now_ms: reading.now_ms };
                let truth = evaluation.truth(&set.conditions[filter as usize], group, &mut scratch.slots);
                if truth != Truth::True {
                    continue;
                }
            }
            // A reading that is forwarded anyway is what the next ones are compared with.
            let forced = outcome.flagged && outcome.drop.is_none();
            let passes = passes(rule, state, event, reading.value);
            if passes || forced {
                state.value = reading.value;
                state.hash = hash_of(&event.value);
                state.time_ms = Some(event.device_time_ms);
            } else {
                outcome.filtered.get_or_insert(RuleId(rule.rule + 1));
            }
        }
    }

    /// Takes one reading from the rate of its device; false when none is left.
    pub(crate) fn take_rate(&mut self, set: &RuleSet, reading: &Reading<'_>, raw: &mut Raw) -> bool {
        let Some(rate) = set.limits.device_rate else { return true };
        let burst = set.limits.device_burst.unwrap_or(rate.saturating_mul(2));
        let full = i64::from(burst) * MILLI;
        let group = self.group(set, 0, &reading.event.device, reading, raw);
        let budget = &mut self.groups.get_mut(group).item.budget;
        let (left, since_ms) = budget.unwrap_or((full, reading.now_ms));
        let elapsed_ms = reading.now_ms.saturating_sub(since_ms).max(0);
        // A reading a second is one thousandth a millisecond.
        let left = left.saturating_add(elapsed_ms.saturating_mul(i64::from(rate))).min(full);
        let is_left = left >= MILLI;
        *budget = Some((if is_left { left - MILLI } else { left }, reading.now_ms));
        is_left
    }
}

fn passes(rule: &Filter, state: &mut FilterState, event: &Event, value: Option<f64>) -> bool {
    let seen = state.seen;
    state.seen = seen.wrapping_add(1);
    let Some(last_ms) = state.time_ms else {
        return rule.sample.is_none_or(|sample| is_sampled(sample, event, seen));
    };
    let elapsed_ms = event.device_time_ms.saturating_sub(last_ms);
    if rule.max_interval_ms.is_some_and(|most| elapsed_ms >= most) {
        return true;
    }
    if let Some(within_ms) = rule.deduplicate_ms
        && (0..within_ms).contains(&elapsed_ms)
        && state.hash == hash_of(&event.value)
    {
        return false;
    }
    if let (Some(band), Some(value), Some(last)) = (&rule.deadband, value, state.value) {
        let width = width_in_unit_of(band.value, band.unit.as_deref(), event.unit.as_deref());
        // A band in a unit that has nothing to do with the value's holds nothing back.
        if width.is_some_and(|width| (value - last).abs() <= width) {
            return false;
        }
    }
    rule.sample.is_none_or(|sample| is_sampled(sample, event, seen))
}

/// A difference in another unit: the distance of two converted points, so that offsets cancel.
fn width_in_unit_of(width: f64, own: Option<&str>, wanted: Option<&str>) -> Option<f64> {
    match (own, wanted) {
        (Some(own), Some(wanted)) if own != wanted => {
            let conversion = unit(own)?.conversion_to(unit(wanted)?)?;
            Some((conversion.apply(width) - conversion.apply(0.0)).abs())
        }
        _ => Some(width),
    }
}

/// Equal values have equal hashes.
fn hash_of(value: &Value) -> u64 {
    match value {
        Value::Bool(truth) => mix(u64::from(*truth) + 1),
        Value::Integer(number) => mix((*number as f64).to_bits()),
        Value::Number(number) => mix((number + 0.0).to_bits()),
        Value::Text(text) => mix(fnv1a(text.as_bytes())),
        Value::Vector(numbers) => numbers.iter().fold(3, |hash, number| mix(hash ^ number.to_bits())),
        Value::Fields(fields) => {
            fields.iter().fold(5, |hash, (name, number)| mix(hash ^ fnv1a(name.as_bytes()) ^ number.to_bits()))
        }
    }
}
