//! Session windows: values that follow each other within a gap. A value that
//! comes late may bridge two sessions, which then are one.

use crate::accumulator::Accumulator;
use crate::key::{ANEW, Closed, Input, KeyWindows, NEVER, Pane};
use crate::spec::WindowSpec;

impl Pane {
    fn last_ms(&self) -> i64 {
        self.accumulator.times_ms().1
    }

    /// Where a session ends if nothing comes: a gap behind its last value, or where it is full.
    pub(crate) fn end_ms(&self, gap_ms: i64, size_max_ms: i64) -> i64 {
        let end_ms = self.last_ms().saturating_add(gap_ms).min(self.start_ms.saturating_add(size_max_ms));
        end_ms.max(self.last_ms().saturating_add(1))
    }

    /// Takes over a session, or values that were accumulated beforehand, that stands behind.
    fn join(&mut self, other: &Accumulator) {
        self.accumulator.merge(other);
        self.start_ms = self.accumulator.times_ms().0;
    }
}

impl KeyWindows {
    /// False when the session of these times is closed.
    ///
    /// The session before is asked first, then the one behind; two become one
    /// when less than a gap is between them and the whole is not too long.
    pub(crate) fn place_session(
        &mut self,
        spec: &WindowSpec,
        gap_ms: i64,
        size_max_ms: i64,
        (first_ms, last_ms): (i64, i64),
        input: Input<'_>,
    ) -> bool {
        if self.closed_to_ms == ANEW {
            self.closed_to_ms = first_ms;
        }
        if first_ms < self.closed_to_ms {
            return false;
        }
        let mut sessions = self.take_panes();
        let behind = sessions.partition_point(|session| session.start_ms <= first_ms);
        let joins_before = behind.checked_sub(1).filter(|at| {
            let before = &sessions[*at];
            let is_inside = first_ms <= before.last_ms();
            is_inside || (first_ms - before.last_ms() < gap_ms && last_ms - before.start_ms < size_max_ms)
        });
        let joins_behind = sessions.get(behind).is_some_and(|next| {
            next.start_ms <= last_ms || (next.start_ms - last_ms < gap_ms && next.last_ms() - first_ms < size_max_ms)
        });
        let at = match joins_before {
            Some(at) => {
                input.add_to(&mut sessions[at].accumulator, first_ms);
                at
            }
            None if joins_behind => {
                input.add_to(&mut sessions[behind].accumulator, first_ms);
                sessions[behind].start_ms = first_ms;
                behind
            }
            None if self.newest_ms != NEVER && last_ms.saturating_add(gap_ms) <= self.watermark_ms(spec) => {
                self.put_panes(sessions);
                return false;
            }
            None => {
                let mut accumulator = Accumulator::new(spec.needs);
                input.add_to(&mut accumulator, first_ms);
                sessions.insert(behind, Pane { start_ms: first_ms, accumulator });
                behind
            }
        };
        while let Some(next) = sessions.get(at + 1) {
            let own = &sessions[at];
            let overlaps = next.start_ms <= own.last_ms();
            let bridges = next.start_ms - own.last_ms() < gap_ms && next.last_ms() - own.start_ms < size_max_ms;
            if !overlaps && !bridges {
                break;
            }
            let next = sessions.remove(at + 1);
            sessions[at].join(&next.accumulator);
        }
        self.put_panes(sessions);
        true
    }

    pub(crate) fn close_sessions(
        &mut self,
        gap_ms: i64,
        size_max_ms: i64,
        until_ms: i64,
        is_partial: bool,
        out: &mut Vec<Closed>,
    ) {
        if self.oldest().is_none_or(|oldest| oldest.end_ms(gap_ms, size_max_ms) > until_ms) {
            return;
        }
        let mut sessions = self.take_panes();
        let due = sessions.iter().take_while(|session| session.end_ms(gap_ms, size_max_ms) <= until_ms).count();
        let rest = sessions.split_off(due);
        let mut starts = sessions.iter().chain(&rest).skip(1).map(|session| session.start_ms).collect::<Vec<_>>();
        starts.push(i64::MAX);
        for (session, next_ms) in sessions.into_iter().zip(starts) {
            // A session that is full may stand closer than a gap before the next one.
            let end_ms = session.end_ms(gap_ms, size_max_ms).min(next_ms);
            self.closed_to_ms = self.closed_to_ms.max(end_ms);
            out.push(Closed {
                start_ms: session.start_ms,
                end_ms,
                accumulator: session.accumulator,
                partial: is_partial,
            });
        }
        self.put_panes(rest);
    }
}
