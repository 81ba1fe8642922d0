//! The windows of one key: which are open, how far event time has come, and
//! when something closes. The arithmetic of each kind of window is in
//! `panes`, `session` and `sliding`.
//!
//! Time of a key is the time of its newest event, less the allowed lateness
//! (the watermark). The site's clock decides two things only: whether an event
//! is too far ahead to be believed, and when a silent key has been waited for
//! long enough. A clock that jumps can therefore end a window early, and never
//! put a value into a window that does not hold its time.

use grey_model::{Reader, WireError, Writer};

use crate::accumulator::Accumulator;
use crate::sliding::Samples;
use crate::spec::{Assigner, LATENESS_MS_MAX, PANES_MAX, TIME_MS_MAX, WINDOW_MS_MAX, WindowSpec, is_time};

/// No time yet.
pub(crate) const NEVER: i64 = i64::MIN;
/// What was closed lies ahead of the clock that was set back: the next event says
/// where windows begin anew.
pub(crate) const ANEW: i64 = i64::MAX;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placed {
    /// It is in its windows.
    Taken,
    /// Every window that it belongs to is closed, or it cannot be in any: its
    /// value is not finite (a caller sorts these out before) or its time is
    /// more than 36 million years ago. No window changed.
    Late,
    /// Its time is further ahead of the site's than allowed. No window changed.
    Ahead,
}

/// A window that has closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// The first moment of the window, Unix ms.
    pub start_ms: i64,
    /// The first moment behind it: every value's time is in `start_ms..end_ms`.
    /// A sliding window ends one millisecond behind the value that it ends with.
    pub end_ms: i64,
    /// What was in it.
    pub accumulator: Accumulator,
    /// True when it closed before its time, or lost values to a bound.
    pub partial: bool,
}

/// A piece of a window, or a session.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Pane {
    /// Its first moment; of a session, its first value's time.
    pub(crate) start_ms: i64,
    /// Never empty, but in [`KeyWindows::newest`], where it says that nothing is open.
    pub(crate) accumulator: Accumulator,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// Below the newest, ascending, never empty.
    Panes(Vec<Pane>),
    /// Of a sliding window.
    Samples(Samples),
}

impl Pane {
    /// Whether it can have been made under a definition, behind another pane.
    fn is_sound(&self, spec: &WindowSpec, key: &KeyWindows, before: Option<&Self>) -> bool {
        let (first_ms, last_ms) = self.accumulator.times_ms();
        if self.accumulator.is_empty() || !is_time(first_ms) || !is_time(last_ms) || last_ms > key.newest_ms {
            return false;
        }
        let is_behind = before.is_none_or(|before| before.start_ms < self.start_ms);
        let is_in_pane = || [first_ms, last_ms].into_iter().all(|time| spec.pane_of(time) == Some(self.start_ms));
        match spec.assigner {
            Assigner::Tumbling { size_ms } | Assigner::Hopping { size_ms, .. } => {
                let pane_ms = spec.pane_ms().unwrap_or(size_ms);
                let is_aligned = key.closed_to_ms == NEVER || key.closed_to_ms.rem_euclid(pane_ms) == 0;
                let is_open = self.start_ms.saturating_add(size_ms) > key.closed_to_ms.max(key.watermark_ms(spec));
                is_behind && is_in_pane() && is_aligned && is_open
            }
            Assigner::Session { .. } => {
                let is_apart = before.is_none_or(|before| before.accumulator.times_ms().1 < first_ms);
                is_apart && self.start_ms == first_ms && first_ms >= key.closed_to_ms
            }
            Assigner::Count { size } => {
                before.is_none() && self.start_ms == -TIME_MS_MAX && self.accumulator.count() < size
            }
            Assigner::Sliding { .. } => false,
        }
    }
}

/// Whether a time or a window's bound around it is within the limits.
fn is_bound(time_ms: i64) -> bool {
    let slack_ms = 2 * (WINDOW_MS_MAX + LATENESS_MS_MAX);
    (-TIME_MS_MAX - slack_ms..=TIME_MS_MAX + slack_ms).contains(&time_ms)
}

/// A value, or values that were accumulated beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Value(f64),
    Pane(&'a Accumulator),
}

impl Input<'_> {
    pub(crate) fn add_to(self, accumulator: &mut Accumulator, time_ms: i64) {
        match self {
            Self::Value(value) => accumulator.add(value, time_ms),
            Self::Pane(pane) => accumulator.merge(pane),
        }
    }
}

/// The open windows of one key under one definition.
///
/// 120 bytes, and nothing on the heap while a single pane is open that keeps
/// neither deviation nor sketch. It belongs to the definition it was used with.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyWindows {
    /// The newest time of an event that was taken.
    pub(crate) newest_ms: i64,
    /// Windows up to here are closed.
    pub(crate) closed_to_ms: i64,
    /// The site's time when an event was last taken.
    pub(crate) heard_ms: i64,
    /// The newest pane; empty when none is open.
    pub(crate) newest: Pane,
    pub(crate) rest: Option<Box<Rest>>,
}

impl Default for KeyWindows {
    fn default() -> Self {
        Self { newest_ms: NEVER, closed_to_ms: NEVER, heard_ms: NEVER, newest: Pane::default(), rest: None }
    }
}

impl KeyWindows {
    /// Puts a value of an event time into its windows, at a site time (all Unix
    /// ms), and appends the windows that its time closes.
    #[inline]
    pub fn add(&mut self, spec: &WindowSpec, time_ms: i64, now_ms: i64, value: f64, out: &mut Vec<Closed>) -> Placed {
        let limit_ms = spec.limit_ms(now_ms);
        let is_plain = time_ms <= limit_ms && self.newest_ms <= limit_ms && now_ms >= self.heard_ms;
        if is_plain && value.is_finite() && now_ms <= TIME_MS_MAX && self.fits_newest(spec, time_ms) {
            self.newest.accumulator.add(value, time_ms);
            self.newest_ms = self.newest_ms.max(time_ms);
            self.heard_ms = now_ms;
            return Placed::Taken;
        }
        if !value.is_finite() {
            return Placed::Late;
        }
        self.place(spec, (time_ms, time_ms), now_ms, Input::Value(value), out)
    }

    /// Puts values that were accumulated beforehand into their windows.
    ///
    /// All of them must lie in the pane of `pane_time_ms` (see
    /// [`WindowSpec::pane_of`]), else they are refused as late: they could not be
    /// told apart any more. An empty accumulator is taken and changes nothing. A count
    /// window takes it whole and may then hold more than its number of values;
    /// a sliding one takes a single value only.
    pub fn merge_pane(
        &mut self,
        spec: &WindowSpec,
        pane_time_ms: i64,
        now_ms: i64,
        pane: &Accumulator,
        out: &mut Vec<Closed>,
    ) -> Placed {
        let Some((first_ms, last_ms)) = pane.span_ms() else { return Placed::Taken };
        let is_one_pane = match spec.assigner {
            Assigner::Count { .. } => true,
            Assigner::Sliding { .. } => pane.count() == 1,
            _ => [first_ms, last_ms]
                .into_iter()
                .all(|time| spec.pane_of(time).is_some() && spec.pane_of(time) == spec.pane_of(pane_time_ms)),
        };
        if !is_one_pane {
            return Placed::Late;
        }
        self.place(spec, (first_ms, last_ms), now_ms, Input::Pane(pane), out)
    }

    /// True when a value belongs to the newest pane and its time closes nothing.
    #[inline]
    fn fits_newest(&self, spec: &WindowSpec, time_ms: i64) -> bool {
        let count = self.newest.accumulator.count();
        if count == 0 || time_ms < self.newest.start_ms {
            return false;
        }
        // Not below -TIME_MS_MAX, as the start of a pane is not: no overflow.
        let offset_ms = time_ms - self.newest.start_ms;
        match spec.assigner {
            Assigner::Tumbling { size_ms: pane_ms } | Assigner::Hopping { every_ms: pane_ms, .. } => {
                offset_ms < pane_ms && (time_ms <= self.newest_ms || !self.closes_panes(spec, pane_ms, time_ms))
            }
            Assigner::Session { gap_ms, size_max_ms } => {
                let last_ms = self.newest.accumulator.times_ms().1;
                offset_ms < size_max_ms && time_ms >= last_ms && time_ms - last_ms < gap_ms && self.rest.is_none()
            }
            Assigner::Count { size } => count + 1 < size,
            Assigner::Sliding { .. } => false,
        }
    }

    /// Any value or pane, the long way.
    fn place(
        &mut self,
        spec: &WindowSpec,
        (first_ms, last_ms): (i64, i64),
        now_ms: i64,
        input: Input<'_>,
        out: &mut Vec<Closed>,
    ) -> Placed {
        let now_ms = now_ms.clamp(-TIME_MS_MAX, TIME_MS_MAX);
        self.set_back(spec, now_ms, out);
        if last_ms > spec.limit_ms(now_ms) {
            return Placed::Ahead;
        }
        if first_ms < -TIME_MS_MAX {
            return Placed::Late;
        }
        let is_taken = match spec.assigner {
            Assigner::Tumbling { size_ms } => self.place_pane(spec, size_ms, size_ms, (first_ms, last_ms), input),
            Assigner::Hopping { size_ms, every_ms } => {
                self.place_pane(spec, size_ms, every_ms, (first_ms, last_ms), input)
            }
            Assigner::Session { gap_ms, size_max_ms } => {
                self.place_session(spec, gap_ms, size_max_ms, (first_ms, last_ms), input)
            }
            Assigner::Sliding { .. } => {
                let value = match input {
                    Input::Value(value) => Some(value),
                    Input::Pane(pane) => pane.get(crate::Field::First),
                };
                value.is_some_and(|value| self.place_sample(spec, first_ms, value))
            }
            Assigner::Count { .. } => {
                if self.newest.accumulator.is_empty() {
                    self.newest = Pane { start_ms: -TIME_MS_MAX, accumulator: Accumulator::new(spec.needs) };
                }
                input.add_to(&mut self.newest.accumulator, first_ms);
                true
            }
        };
        if !is_taken {
            return Placed::Late;
        }
        self.newest_ms = self.newest_ms.max(last_ms);
        self.heard_ms = now_ms;
        self.close_early(spec, out);
        self.close_to(spec, self.watermark_ms(spec), false, out);
        Placed::Taken
    }

    /// Closes windows by the site's time, when the key has been silent.
    pub fn advance(&mut self, spec: &WindowSpec, now_ms: i64, out: &mut Vec<Closed>) {
        let now_ms = now_ms.clamp(-TIME_MS_MAX, TIME_MS_MAX);
        self.set_back(spec, now_ms, out);
        if self.newest_ms == NEVER || matches!(spec.assigner, Assigner::Count { .. }) {
            return;
        }
        // Where event time would be by now, had the source gone on at the site's pace.
        let reached_ms = now_ms.min(self.newest_ms.saturating_add(now_ms.saturating_sub(self.heard_ms)));
        let until_ms = reached_ms.saturating_sub(spec.lateness_ms).saturating_sub(spec.idle_ms);
        if self.next_end_ms(spec).is_some_and(|end_ms| end_ms <= until_ms) {
            self.close_idle(spec, until_ms, out);
        }
    }

    /// The site time at which [`KeyWindows::advance`] would close something, if no
    /// event comes and the clock is not set back.
    pub fn due_ms(&self, spec: &WindowSpec) -> Option<i64> {
        if self.newest_ms == NEVER || matches!(spec.assigner, Assigner::Count { .. }) {
            return None;
        }
        let end_ms = self.next_end_ms(spec)?;
        // The inverse of what `advance` computes.
        let behind_ms = self.heard_ms.saturating_sub(self.newest_ms).max(0);
        Some(end_ms.saturating_add(behind_ms).saturating_add(spec.lateness_ms).saturating_add(spec.idle_ms))
    }

    /// Closes every window as partial. What comes later begins anew behind them.
    pub fn finish(&mut self, spec: &WindowSpec, out: &mut Vec<Closed>) {
        self.close_to(spec, i64::MAX, true, out);
        if matches!(self.rest.as_deref(), Some(Rest::Samples(_))) {
            self.rest = None;
        }
    }

    /// True when no window is open. What was closed is still known: a key that is
    /// forgotten takes an event of a closed window as the first of a new one.
    pub fn is_empty(&self) -> bool {
        self.newest.accumulator.is_empty() && self.rest.is_none()
    }

    /// Bytes of memory, with what lies on the heap.
    pub fn bytes(&self) -> usize {
        let rest = match self.rest.as_deref() {
            None => 0,
            Some(Rest::Panes(panes)) => {
                size_of::<Rest>()
                    + panes.capacity() * size_of::<Pane>()
                    + panes.iter().map(|pane| pane.accumulator.bytes()).sum::<usize>()
            }
            Some(Rest::Samples(samples)) => size_of::<Rest>() + samples.bytes(),
        };
        size_of::<Self>() + self.newest.accumulator.bytes() + rest
    }

    pub(crate) fn watermark_ms(&self, spec: &WindowSpec) -> i64 {
        self.newest_ms.saturating_sub(spec.lateness_ms)
    }

    /// When the site's clock was set back, what it called now is too far ahead to be
    /// believed: what is open is closed as partial, and windows begin anew with the next event.
    fn set_back(&mut self, spec: &WindowSpec, now_ms: i64, out: &mut Vec<Closed>) {
        self.heard_ms = self.heard_ms.min(now_ms);
        let is_timed = !matches!(spec.assigner, Assigner::Count { .. });
        if is_timed && self.newest_ms > spec.limit_ms(now_ms) {
            self.finish(spec, out);
            self.newest_ms = NEVER;
            self.closed_to_ms = ANEW;
        }
    }

    /// Closes the oldest windows while too many panes are open.
    fn close_early(&mut self, spec: &WindowSpec, out: &mut Vec<Closed>) {
        while let Some(Rest::Panes(panes)) = self.rest.as_deref() {
            if panes.len() < PANES_MAX {
                break;
            }
            let Some(end_ms) = self.last_end_of_oldest_ms(spec) else { break };
            let before = panes.len();
            self.close_to(spec, end_ms, true, out);
            if matches!(self.rest.as_deref(), Some(Rest::Panes(panes)) if panes.len() >= before) {
                break;
            }
        }
    }

    /// Closes every window that ends at or before a time.
    fn close_to(&mut self, spec: &WindowSpec, until_ms: i64, is_partial: bool, out: &mut Vec<Closed>) {
        match spec.assigner {
            Assigner::Tumbling { size_ms } => self.close_panes(spec, size_ms, size_ms, until_ms, is_partial, out),
            Assigner::Hopping { size_ms, every_ms } => {
                self.close_panes(spec, size_ms, every_ms, until_ms, is_partial, out);
            }
            Assigner::Session { gap_ms, size_max_ms } => {
                self.close_sessions(gap_ms, size_max_ms, until_ms, is_partial, out);
            }
            Assigner::Sliding { size_ms, every_ms } => {
                self.close_samples(spec, size_ms, every_ms, until_ms, is_partial, out);
            }
            Assigner::Count { size } => {
                let count = self.newest.accumulator.count();
                if count >= size || (is_partial && count > 0) {
                    let accumulator = std::mem::take(&mut self.newest).accumulator;
                    let (start_ms, last_ms) = accumulator.times_ms();
                    out.push(Closed {
                        start_ms,
                        end_ms: last_ms.saturating_add(1),
                        partial: count < size,
                        accumulator,
                    });
                }
            }
        }
    }

    fn close_idle(&mut self, spec: &WindowSpec, until_ms: i64, out: &mut Vec<Closed>) {
        match spec.assigner {
            Assigner::Sliding { size_ms, every_ms } => self.close_idle_samples(spec, size_ms, every_ms, until_ms, out),
            _ => self.close_to(spec, until_ms, false, out),
        }
    }

    /// The end of the window that closes next.
    fn next_end_ms(&self, spec: &WindowSpec) -> Option<i64> {
        match spec.assigner {
            Assigner::Tumbling { size_ms } => self.next_pane_end_ms(spec, size_ms),
            Assigner::Hopping { every_ms, .. } => self.next_pane_end_ms(spec, every_ms),
            Assigner::Session { gap_ms, size_max_ms } => {
                self.oldest().map(|session| session.end_ms(gap_ms, size_max_ms))
            }
            Assigner::Sliding { size_ms, .. } => match self.rest.as_deref() {
                Some(Rest::Samples(samples)) => samples.next_end_ms(size_ms),
                _ => None,
            },
            Assigner::Count { .. } => None,
        }
    }

    fn last_end_of_oldest_ms(&self, spec: &WindowSpec) -> Option<i64> {
        let oldest = self.oldest()?;
        match spec.assigner {
            Assigner::Tumbling { size_ms } | Assigner::Hopping { size_ms, .. } => {
                Some(oldest.start_ms.saturating_add(size_ms))
            }
            Assigner::Session { gap_ms, size_max_ms } => Some(oldest.end_ms(gap_ms, size_max_ms)),
            Assigner::Sliding { .. } | Assigner::Count { .. } => None,
        }
    }

    pub(crate) fn oldest(&self) -> Option<&Pane> {
        match self.rest.as_deref() {
            Some(Rest::Panes(panes)) if !panes.is_empty() => panes.first(),
            _ => (!self.newest.accumulator.is_empty()).then_some(&self.newest),
        }
    }

    /// All panes, ascending; give them back with [`KeyWindows::put_panes`].
    pub(crate) fn take_panes(&mut self) -> Vec<Pane> {
        let mut panes = match self.rest.take().map(|rest| *rest) {
            Some(Rest::Panes(panes)) => panes,
            _ => Vec::new(),
        };
        if !self.newest.accumulator.is_empty() {
            panes.push(std::mem::take(&mut self.newest));
        }
        panes
    }

    pub(crate) fn put_panes(&mut self, mut panes: Vec<Pane>) {
        self.newest = panes.pop().unwrap_or_default();
        self.rest = if panes.is_empty() { None } else { Some(Box::new(Rest::Panes(panes))) };
    }
}

const PANES: u8 = 0;
const SAMPLES: u8 = 1;

impl KeyWindows {
    /// Appends the state's bytes.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let kind = if matches!(self.rest.as_deref(), Some(Rest::Samples(_))) { SAMPLES } else { PANES };
        buffer.push(kind);
        for time_ms in [self.newest_ms, self.closed_to_ms, self.heard_ms] {
            buffer.put_varint_signed(time_ms);
        }
        if let Some(Rest::Samples(samples)) = self.rest.as_deref() {
            samples.write(buffer);
            return;
        }
        let rest = match self.rest.as_deref() {
            Some(Rest::Panes(panes)) => panes.as_slice(),
            _ => &[],
        };
        let newest = (!self.newest.accumulator.is_empty()).then_some(&self.newest);
        buffer.put_varint((rest.len() + usize::from(newest.is_some())) as u64);
        for pane in rest.iter().chain(newest) {
            buffer.put_varint_signed(pane.start_ms);
            pane.accumulator.write(buffer);
        }
    }

    /// Reads what [`KeyWindows::write`] wrote, for the definition it was used with.
    ///
    /// # Errors
    /// Bytes that end early, are over a limit, or hold times and figures that no
    /// windows have.
    pub fn read(spec: &WindowSpec, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = reader.u8()?;
        let mut read = Self::default();
        for time_ms in [&mut read.newest_ms, &mut read.closed_to_ms, &mut read.heard_ms] {
            *time_ms = reader.varint_signed()?;
            if !matches!(*time_ms, NEVER | ANEW) && !is_bound(*time_ms) {
                return Err(reader.invalid("time of a window"));
            }
        }
        if read.newest_ms > TIME_MS_MAX || read.heard_ms > TIME_MS_MAX {
            return Err(reader.invalid("time of an event"));
        }
        let is_sliding = matches!(spec.assigner, Assigner::Sliding { .. });
        match kind {
            SAMPLES if is_sliding => {
                let samples = Samples::read(spec.needs, reader)?;
                if !samples.is_sound(read.newest_ms, read.closed_to_ms) {
                    return Err(reader.invalid("values of a window"));
                }
                read.rest = Some(Box::new(Rest::Samples(samples)));
            }
            PANES => {
                let len = reader.count("panes", if is_sliding { 0 } else { PANES_MAX as u64 })?;
                let mut panes: Vec<Pane> = Vec::new();
                for _ in 0..len {
                    let pane = Pane { start_ms: reader.varint_signed()?, accumulator: Accumulator::read(reader)? };
                    if !pane.is_sound(spec, &read, panes.last()) {
                        return Err(reader.invalid("pane of a window"));
                    }
                    panes.push(pane);
                }
                read.put_panes(panes);
            }
            _ => return Err(reader.invalid("kind of windows")),
        }
        // What is open has been heard of, or no event could follow.
        let is_unheard = [read.newest_ms, read.heard_ms].contains(&NEVER) || read.closed_to_ms == ANEW;
        if !read.is_empty() && is_unheard {
            return Err(reader.invalid("time of an event"));
        }
        Ok(read)
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
