//! The settled past of one lane at a site: each sequence below the
//! acknowledged end, and what became of it.

use std::collections::VecDeque;
use std::ops::Range;

use grey_model::{Account, Disposition, Seq};
use serde::{Deserialize, Serialize};

use crate::row::{RangeRow, Tally};

/// Runs kept one by one; older ones are merged into the closed part. Bounds
/// memory and checkpoint size at about 100 kB a lane.
const RUNS_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    range: Range<Seq>,
    /// `None` for delivered events.
    disposition: Option<Disposition>,
}

/// The settled sequences of one lane, in order and without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Books {
    /// Everything below is known only as counts.
    closed_to: Seq,
    closed: Tally,
    runs: VecDeque<Run>,
    tally: Tally,
}

impl Books {
    /// Books of a past of which only its end is known any more. It counts as delivered: it was
    /// acknowledged, and the books of the tier above say how.
    pub fn settled_below(end: Seq) -> Self {
        let tally = Tally { delivered: end, ..Tally::default() };
        Self { closed_to: end, closed: tally, runs: VecDeque::new(), tally }
    }

    /// The end of the settled past: the first sequence that is not settled.
    pub fn end(&self) -> Seq {
        self.runs.back().map_or(self.closed_to, |run| run.range.end)
    }

    /// Counts of everything settled.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Settles a block that the next tier acknowledged: its events are
    /// delivered, its accounts stand as they are. Blocks settle in order; a
    /// block that was settled before changes nothing, and a gap is refused.
    ///
    /// Returns false, changing nothing, when the block does not continue the books.
    pub fn settle(&mut self, range: Range<Seq>, accounts: &[Account]) -> bool {
        if range.end <= self.end() {
            return true;
        }
        if range.start != self.end() {
            return false;
        }
        let mut at = range.start;
        for account in accounts {
            self.push(at..account.range.start, None);
            self.push(account.range.clone(), Some(account.disposition));
            at = account.range.end;
        }
        self.push(at..range.end, None);
        true
    }

    fn push(&mut self, range: Range<Seq>, disposition: Option<Disposition>) {
        let n = range.end.saturating_sub(range.start);
        if n == 0 {
            return;
        }
        match disposition {
            None => self.tally.delivered += n,
            Some(d) => self.tally.account(d, n),
        }
        match self.runs.back_mut() {
            Some(last) if last.disposition == disposition => last.range.end = range.end,
            _ => self.runs.push_back(Run { range, disposition }),
        }
        if self.runs.len() > RUNS_MAX
            && let Some(run) = self.runs.pop_front()
        {
            self.closed_to = run.range.end;
            let n = run.range.end - run.range.start;
            match run.disposition {
                None => self.closed.delivered += n,
                Some(d) => self.closed.account(d, n),
            }
        }
    }

    /// True when runs and counts agree: no gap, no overlap, every sequence counted once.
    pub fn balanced(&self) -> bool {
        let mut at = self.closed_to;
        let mut sum = self.closed;
        for run in &self.runs {
            if run.range.start != at || run.range.is_empty() {
                return false;
            }
            at = run.range.end;
            let n = run.range.end - run.range.start;
            match run.disposition {
                None => sum.delivered += n,
                Some(d) => sum.account(d, n),
            }
        }
        sum == self.tally && sum.total() == at
    }

    /// The ranges behind the counts.
    pub fn rows(&self) -> Vec<RangeRow> {
        let closed = (self.closed_to > 0).then(|| RangeRow::new(0..self.closed_to, "settled"));
        let runs = self.runs.iter().map(|run| {
            let standing = run.disposition.map_or_else(|| "delivered".to_owned(), |d| d.to_string());
            RangeRow::new(run.range.clone(), standing)
        });
        closed.into_iter().chain(runs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::RuleId;

    #[test]
    fn settling_is_in_order_idempotent_and_refuses_gaps() {
        let mut books = Books::default();
        let reduced = Account { range: 2..8, disposition: Disposition::Reduced(RuleId(1)) };
        assert!(books.settle(0..10, std::slice::from_ref(&reduced)));
        assert!(books.settle(0..10, &[reduced]));
        assert!(!books.settle(11..12, &[]));
        assert_eq!(books.tally(), Tally { delivered: 4, reduced: 6, ..Tally::default() });
        assert!(books.balanced());
        assert_eq!(books.rows().len(), 3);
        books.tally.delivered += 1;
        assert!(!books.balanced(), "a count that disagrees with the ranges must show");
    }

    #[test]
    fn a_past_that_is_known_only_by_its_end_goes_on_there() {
        let mut books = Books::settled_below(40);
        assert!(!books.settle(41..50, &[]) && books.settle(40..50, &[]) && books.balanced());
        assert_eq!((books.end(), books.tally().delivered), (50, 50));
    }

    #[test]
    fn old_runs_close_without_losing_a_count() {
        let mut books = Books::default();
        for block in 0..RUNS_MAX as u64 {
            let start = block * 4;
            let account = Account { range: start..start + 2, disposition: Disposition::Deduplicated };
            assert!(books.settle(start..start + 4, &[account]));
        }
        assert!(books.runs.len() <= RUNS_MAX && books.closed_to > 0 && books.balanced());
        assert_eq!(books.tally().total(), RUNS_MAX as u64 * 4);
    }
}
