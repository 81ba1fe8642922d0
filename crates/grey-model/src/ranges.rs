//! A set of sequences kept as disjoint ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::id::Seq;

/// A set of sequences, stored as sorted disjoint ranges (end exclusive).
/// Sequences mostly arrive in order, so a set of any age is usually one range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeSet {
    /// Start to end of each range; neighbours never touch.
    ranges: BTreeMap<Seq, Seq>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range and returns how many sequences were new.
    pub fn insert(&mut self, range: Range<Seq>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut start, mut end) = (range.start, range.end);
        let mut known = 0;
        // The last range that starts at or before `end` and every one that it reaches back over.
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            known += e.min(range.end).saturating_sub(s.max(range.start));
            start = start.min(s);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
        (range.end - range.start) - known
    }

    /// True when every sequence of the range is in the set.
    pub fn covers(&self, range: &Range<Seq>) -> bool {
        range.is_empty() || self.ranges.range(..=range.start).next_back().is_some_and(|(_, &end)| end >= range.end)
    }

    /// True when the sequence is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        self.covers(&(seq..seq + 1))
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn missing(&self, range: Range<Seq>) -> Vec<Range<Seq>> {
        let mut gaps = Vec::new();
        let mut next = range.start;
        let first = self.ranges.range(..=range.start).next_back().map_or(range.start, |(&s, _)| s);
        for (&start, &end) in self.ranges.range(first..range.end.max(first)) {
            if start > next {
                gaps.push(next..start.min(range.end));
            }
            next = next.max(end);
        }
        if next < range.end {
            gaps.push(next..range.end);
        }
        gaps
    }

    /// The end of the range that starts at 0, or 0: everything below was seen.
    pub fn contiguous_end(&self) -> Seq {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// The first sequence at or after `seq` that is not in the set.
    pub fn next_missing(&self, seq: Seq) -> Seq {
        let below = self.ranges.range(..=seq).next_back();
        below.map_or(seq, |(_, &end)| end.max(seq))
    }

    /// The largest sequence in the set plus one, or 0.
    pub fn end(&self) -> Seq {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// How many sequences are in the set.
    pub fn len(&self) -> u64 {
        self.iter().map(|r| r.end - r.start).sum()
    }

    /// True for the empty set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges the set is stored as.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<Seq>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// Removes every sequence below `seq`.
    pub fn remove_below(&mut self, seq: Seq) {
        let keep = self.ranges.split_off(&seq);
        let crossing = self.ranges.last_key_value().map(|(_, &end)| end).filter(|&end| end > seq);
        self.ranges = keep;
        if let Some(end) = crossing {
            self.ranges.insert(seq, end);
        }
    }
}

impl FromIterator<Range<Seq>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<Seq>>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(
            ranges in prop::collection::vec((0_u64..60, 0_u64..12), 0..20),
            probe in (0_u64..70, 0_u64..12),
            cut in 0_u64..70,
        ) {
            let mut model = BTreeSet::new();
            let mut set = RangeSet::new();
            for (start, len) in ranges {
                let fresh = (start..start + len).filter(|s| model.insert(*s)).count() as u64;
                prop_assert_eq!(set.insert(start..start + len), fresh);
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            let flat: Vec<u64> = set.iter().flatten().collect();
            prop_assert_eq!(&flat, &model.iter().copied().collect::<Vec<_>>());
            let range = probe.0..probe.0 + probe.1;
            prop_assert_eq!(set.covers(&range), range.clone().all(|s| model.contains(&s)));
            let missing: Vec<u64> = set.missing(range.clone()).into_iter().flatten().collect();
            prop_assert_eq!(missing, range.filter(|s| !model.contains(s)).collect::<Vec<_>>());
            set.remove_below(cut);
            model.retain(|s| *s >= cut);
            prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
