//! The term of every entry, as runs of equal terms, so that the log matching of
//! Raft never waits for the disk and never fails on it.

use std::collections::VecDeque;

/// Runs kept; one is made per election. Older terms are read from the log.
pub(crate) const RUNS_MAX: usize = 16_384;

/// Runs of equal terms; the last one is open towards higher indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// (first index, term), ascending in both.
    runs: VecDeque<(u64, u64)>,
}

impl Runs {
    pub(crate) fn new(index: u64, term: u64) -> Self {
        Self { runs: VecDeque::from([(index, term)]) }
    }

    /// Takes pairs that must ascend strictly in both places.
    pub(crate) fn from_pairs(pairs: Vec<(u64, u64)>) -> Option<Self> {
        let ascends = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        (ascends && pairs.len() <= RUNS_MAX).then(|| Self { runs: pairs.into() })
    }

    /// The runs that cover indexes up to `index`.
    pub(crate) fn up_to(&self, index: u64) -> Vec<(u64, u64)> {
        self.runs.iter().copied().take_while(|(first, _)| *first <= index).collect()
    }

    /// Notes the term of the next index.
    pub(crate) fn push(&mut self, index: u64, term: u64) {
        if self.runs.back().is_none_or(|(_, last)| *last != term) {
            self.runs.push_back((index, term));
        }
        if self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
    }

    /// Forgets `index` and everything above.
    pub(crate) fn truncate(&mut self, index: u64) {
        while self.runs.back().is_some_and(|(first, _)| *first >= index) {
            self.runs.pop_back();
        }
    }

    /// Forgets what is below `index`.
    pub(crate) fn trim(&mut self, index: u64) {
        while self.runs.get(1).is_some_and(|(first, _)| *first <= index) {
            self.runs.pop_front();
        }
    }

    /// The term of an index that the log has; `None` when it is below what is known.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        let after = self.runs.partition_point(|(first, _)| *first <= index);
        Some(self.runs.get(after.checked_sub(1)?)?.1)
    }

    /// The highest term.
    pub(crate) fn last_term(&self) -> u64 {
        self.runs.back().map_or(0, |(_, term)| *term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_cut_and_trimmed() {
        let mut runs = Runs::new(0, 0);
        for (index, term) in [(1, 1), (2, 1), (3, 4), (4, 4), (5, 6)] {
            runs.push(index, term);
        }
        let terms = |runs: &Runs| (0..=5).map(|index| runs.term(index)).collect::<Vec<_>>();
        assert_eq!(terms(&runs), [Some(0), Some(1), Some(1), Some(4), Some(4), Some(6)]);
        assert_eq!(runs.up_to(3), [(0, 0), (1, 1), (3, 4)]);
        runs.truncate(4);
        runs.push(4, 5);
        assert_eq!(runs.term(4), Some(5));
        assert_eq!(runs.term(3), Some(4));
        runs.trim(2);
        assert_eq!(runs.term(0), None);
        assert_eq!(runs.term(2), Some(1));
        assert_eq!(Runs::from_pairs(vec![(3, 1), (4, 1)]), None);
        assert_eq!(Runs::from_pairs(runs.up_to(9)), Some(runs));
    }
}
