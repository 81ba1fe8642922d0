//! Limits of one stream in one unit, arranged so that a value says at once
//! which of them it crosses.
//!
//! Every comparison of a value with a constant changes its truth where the
//! value passes a point: `v > 85` behind 85, `v >= 85` just before it, `v == 85`
//! at both. The points of all rules are kept sorted; the state of a series is
//! how many of them lie below its value. While a value stays between two
//! points, no rule changes, and that is all there is to look at.

use grey_expr::Operator;

/// A comparison with a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Predicate {
    pub(crate) operator: Operator,
    pub(crate) limit: f64,
}

impl Predicate {
    pub(crate) fn holds(self, value: f64) -> bool {
        self.operator.holds(value, self.limit)
    }

    /// The points `t` such that the truth depends on nothing but which of them are below the value.
    fn points(self) -> impl Iterator<Item = f64> {
        let before = self.limit.next_down();
        let (first, second) = match self.operator {
            Operator::Greater | Operator::LessOrEqual => (self.limit, None),
            Operator::GreaterOrEqual | Operator::Less => (before, None),
            Operator::Equal | Operator::NotEqual => (before, Some(self.limit)),
        };
        std::iter::once(first).chain(second)
    }
}

/// The sorted points, and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Crossings {
    points: Box<[f64]>,
    owners: Box<[u32]>,
    /// Every owner once, in order.
    all: Box<[u32]>,
}

impl Crossings {
    pub(crate) fn new(predicates: impl IntoIterator<Item = (u32, Predicate)>) -> Self {
        let mut pairs: Vec<(f64, u32)> = predicates
            .into_iter()
            .flat_map(|(owner, predicate)| predicate.points().map(move |point| (point, owner)))
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut all: Vec<u32> = pairs.iter().map(|(_, owner)| *owner).collect();
        all.sort_unstable();
        all.dedup();
        let (points, owners): (Vec<f64>, Vec<u32>) = pairs.into_iter().unzip();
        Self { points: points.into(), owners: owners.into(), all: all.into() }
    }

    /// How many points lie below a value, given how many did before.
    #[inline]
    pub(crate) fn position(&self, value: f64, before: u32) -> u32 {
        let at = before as usize;
        let above_last = at == 0 || self.points.get(at - 1).is_some_and(|point| *point < value);
        let below_next = self.points.get(at).is_none_or(|point| *point >= value);
        if above_last && below_next { before } else { self.search(value) }
    }

    fn search(&self, value: f64) -> u32 {
        self.points.partition_point(|point| *point < value) as u32
    }

    /// Whose points lie between two positions, in order, each once.
    pub(crate) fn between(&self, a: u32, b: u32, owners: &mut Vec<u32>) {
        owners.clear();
        let (from, to) = (a.min(b) as usize, a.max(b) as usize);
        owners.extend_from_slice(self.owners.get(from..to).unwrap_or_default());
        owners.sort_unstable();
        owners.dedup();
    }

    /// Every owner, in order.
    pub(crate) fn everyone(&self) -> &[u32] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_change_of_truth_is_a_crossing(
            rules in prop::collection::vec((0..6_usize, -4_i32..5), 1..40),
            values in prop::collection::vec(prop_oneof![
                (-9_i32..10).prop_map(|n| f64::from(n) / 2.0), any::<f64>().prop_filter("finite", |v| v.is_finite()),
                Just(-0.0), Just(f64::MIN_POSITIVE),
            ], 1..60),
        ) {
            let predicates: Vec<Predicate> = rules.iter()
                .map(|(op, limit)| Predicate { operator: Operator::ALL[*op], limit: f64::from(*limit) }).collect();
            let crossings = Crossings::new(predicates.iter().enumerate().map(|(n, p)| (n as u32, *p)));
            let mut position = crossings.search(values[0]);
            let mut before = values[0];
            let mut owners = Vec::new();
            for value in values {
                let next = crossings.position(value, position);
                prop_assert_eq!(next, crossings.search(value));
                crossings.between(position, next, &mut owners);
                for (n, predicate) in predicates.iter().enumerate() {
                    if predicate.holds(before) != predicate.holds(value) {
                        prop_assert!(owners.contains(&(n as u32)), "{:?} from {} to {}", predicate, before, value);
                    }
                }
                (position, before) = (next, value);
            }
        }
    }
}
