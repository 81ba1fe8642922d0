//! Tumbling and hopping windows, made of panes: a value is put into the one
//! pane of its hop, and a window is the merger of its panes when it closes
//! (Li et al.: No pane, no gain, SIGMOD Record 2005). Empty windows do not
//! exist: a gap of years costs no step.

use crate::accumulator::Accumulator;
use crate::key::{ANEW, Closed, Input, KeyWindows, NEVER, Pane, Rest};
use crate::spec::{WindowSpec, floor_to};

impl KeyWindows {
    /// False when the windows of these times are closed.
    pub(crate) fn place_pane(
        &mut self,
        spec: &WindowSpec,
        size_ms: i64,
        every_ms: i64,
        (first_ms, last_ms): (i64, i64),
        input: Input<'_>,
    ) -> bool {
        let (size_ms, every_ms) = (size_ms.max(1), every_ms.max(1));
        let start_ms = floor_to(first_ms, every_ms);
        if floor_to(last_ms, every_ms) != start_ms {
            return false;
        }
        if self.closed_to_ms == ANEW {
            // Its windows may have been closed before the clock was set back; none closes twice.
            self.closed_to_ms = start_ms.saturating_add(size_ms);
        }
        // Windows that were empty when time passed them are closed too, else a
        // straggler would be the only value of one.
        let closed_to_ms = self.passed_ms(spec, every_ms);
        if start_ms.saturating_add(size_ms) <= closed_to_ms {
            return false;
        }
        self.closed_to_ms = closed_to_ms;
        if !self.newest.accumulator.is_empty() && self.newest.start_ms == start_ms {
            input.add_to(&mut self.newest.accumulator, first_ms);
            return true;
        }
        let mut panes = self.take_panes();
        let at = panes.partition_point(|pane| pane.start_ms < start_ms);
        if panes.get(at).is_none_or(|pane| pane.start_ms != start_ms) {
            panes.insert(at, Pane { start_ms, accumulator: Accumulator::new(spec.needs) });
        }
        input.add_to(&mut panes[at].accumulator, first_ms);
        self.put_panes(panes);
        true
    }

    /// Up to where windows are closed, also those that were empty.
    fn passed_ms(&self, spec: &WindowSpec, every_ms: i64) -> i64 {
        if self.newest_ms == NEVER {
            return self.closed_to_ms;
        }
        self.closed_to_ms.max(floor_to(self.watermark_ms(spec), every_ms))
    }

    /// The end of the first window that is not closed and holds a pane that starts here or later.
    fn end_from(closed_to_ms: i64, start_ms: i64, every_ms: i64) -> i64 {
        let end_ms = start_ms.saturating_add(every_ms);
        if closed_to_ms < end_ms { end_ms } else { floor_to(closed_to_ms, every_ms).saturating_add(every_ms) }
    }

    /// Whether an event of this time would close a window.
    #[inline]
    pub(crate) fn closes_panes(&self, spec: &WindowSpec, every_ms: i64, time_ms: i64) -> bool {
        let start_ms = match self.rest.as_deref() {
            Some(Rest::Panes(panes)) => panes.first().map_or(self.newest.start_ms, |pane| pane.start_ms),
            _ => self.newest.start_ms,
        };
        let end_ms = Self::end_from(self.closed_to_ms, start_ms, every_ms.max(1));
        time_ms.saturating_sub(spec.lateness_ms) >= end_ms
    }

    pub(crate) fn next_pane_end_ms(&self, spec: &WindowSpec, every_ms: i64) -> Option<i64> {
        let every_ms = every_ms.max(1);
        Some(Self::end_from(self.passed_ms(spec, every_ms), self.oldest()?.start_ms, every_ms))
    }

    pub(crate) fn close_panes(
        &mut self,
        spec: &WindowSpec,
        size_ms: i64,
        every_ms: i64,
        until_ms: i64,
        is_partial: bool,
        out: &mut Vec<Closed>,
    ) {
        let (size_ms, every_ms) = (size_ms.max(1), every_ms.max(1));
        match self.oldest() {
            Some(oldest) if Self::end_from(self.closed_to_ms, oldest.start_ms, every_ms) <= until_ms => {}
            _ => return,
        }
        let mut panes = self.take_panes();
        // Panes below it are in no window that is still open.
        let mut first = 0;
        while let Some(oldest) = panes.get(first) {
            let end_ms = Self::end_from(self.closed_to_ms, oldest.start_ms, every_ms);
            if end_ms > until_ms {
                break;
            }
            let start_ms = end_ms.saturating_sub(size_ms);
            let len = panes[first..].partition_point(|pane| pane.start_ms < end_ms);
            let done = panes[first..].partition_point(|pane| pane.start_ms.saturating_add(size_ms) <= end_ms);
            let accumulator = if len == 1 && done == 1 {
                std::mem::take(&mut panes[first].accumulator)
            } else {
                let mut whole = Accumulator::new(spec.needs);
                for pane in &panes[first..first + len] {
                    whole.merge(&pane.accumulator);
                }
                whole
            };
            if !accumulator.is_empty() {
                out.push(Closed { start_ms, end_ms, accumulator, partial: is_partial });
            }
            self.closed_to_ms = end_ms;
            first += done;
        }
        panes.drain(..first);
        self.put_panes(panes);
    }
}
