//! Sliding windows: the time up to a value, reported at most once in a while.
//!
//! Values wait, in order of time, until the watermark reaches them, so that a
//! report holds what came late. Behind it they are accumulated in blocks, so
//! that a report merges some blocks and adds the few values of a block that is
//! partly out, instead of adding them all.

use std::collections::VecDeque;

use grey_model::{Reader, WireError, Writer};

use crate::accumulator::Accumulator;
use crate::field::Needs;
use crate::key::{ANEW, Closed, KeyWindows, NEVER, Rest};
use crate::spec::{WindowSpec, is_time};

/// Values of one key that a sliding window holds: 64 KiB. The oldest fall out,
/// and reports that miss them say that they are partial.
pub const SAMPLES_MAX: usize = 4_096;

/// Values of a block: near the root of what a window holds.
const BLOCK: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    time_ms: i64,
    value: f64,
}

/// The values of a sliding window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples {
    /// Behind the watermark, ascending.
    released: VecDeque<Sample>,
    /// Ahead of it, ascending by time and value.
    waiting: VecDeque<Sample>,
    /// Accumulators of the released ones, [`BLOCK`] each. Derived, not saved.
    blocks: VecDeque<Accumulator>,
    /// How many values of the first block are out already.
    out_of_first: usize,
    /// The time of the last report.
    reported_ms: i64,
    /// The time of the newest value that fell out for the bound.
    dropped_ms: i64,
}

impl Samples {
    fn new() -> Self {
        Self {
            released: VecDeque::new(),
            waiting: VecDeque::new(),
            blocks: VecDeque::new(),
            out_of_first: 0,
            reported_ms: NEVER,
            dropped_ms: NEVER,
        }
    }

    fn insert(&mut self, sample: Sample) {
        let at = self.waiting.partition_point(|other| {
            other.time_ms < sample.time_ms
                || (other.time_ms == sample.time_ms && other.value.total_cmp(&sample.value).is_le())
        });
        self.waiting.insert(at, sample);
    }

    /// Moves the first value that waits behind the watermark.
    fn release(&mut self, needs: Needs) -> Option<i64> {
        let sample = self.waiting.pop_front()?;
        self.push(sample, needs);
        Some(sample.time_ms)
    }

    fn push(&mut self, sample: Sample, needs: Needs) {
        if (self.out_of_first + self.released.len()).is_multiple_of(BLOCK) {
            self.blocks.push_back(Accumulator::new(needs));
        }
        self.released.push_back(sample);
        if let Some(block) = self.blocks.back_mut() {
            block.add(sample.value, sample.time_ms);
        }
    }

    fn pop(&mut self) -> Option<Sample> {
        let sample = self.released.pop_front()?;
        self.out_of_first += 1;
        if self.out_of_first == BLOCK {
            self.blocks.pop_front();
            self.out_of_first = 0;
        }
        if self.released.is_empty() {
            self.blocks.clear();
            self.out_of_first = 0;
        }
        Some(sample)
    }

    fn report(&mut self, needs: Needs, time_ms: i64, size_ms: i64, is_partial: bool) -> Closed {
        self.evict(time_ms, size_ms);
        let start_ms = time_ms.saturating_sub(size_ms).saturating_add(1);
        let mut accumulator = Accumulator::new(needs);
        let mut blocks = self.blocks.iter();
        if self.out_of_first > 0 {
            blocks.next();
            for sample in self.released.iter().take(BLOCK - self.out_of_first) {
                accumulator.add(sample.value, sample.time_ms);
            }
        }
        for block in blocks {
            accumulator.merge(block);
        }
        self.reported_ms = time_ms;
        Closed {
            start_ms,
            end_ms: time_ms.saturating_add(1),
            accumulator,
            partial: is_partial || self.dropped_ms >= start_ms,
        }
    }

    fn evict(&mut self, time_ms: i64, size_ms: i64) {
        let out_ms = time_ms.saturating_sub(size_ms);
        while self.released.front().is_some_and(|sample| sample.time_ms <= out_ms) {
            self.pop();
        }
    }

    /// The newest released value that no report holds yet.
    fn unreported_ms(&self) -> Option<i64> {
        self.released.back().map(|sample| sample.time_ms).filter(|time_ms| *time_ms > self.reported_ms)
    }

    /// The end of what silence ends next: a value's wait, the report of the last
    /// values, or the need to keep them.
    pub(crate) fn next_end_ms(&self, size_ms: i64) -> Option<i64> {
        if let Some(sample) = self.waiting.front() {
            return Some(sample.time_ms.saturating_add(1));
        }
        let last_ms = self.released.back()?.time_ms;
        Some(last_ms.saturating_add(if self.unreported_ms().is_some() { 1 } else { size_ms }))
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.released.capacity() + self.waiting.capacity()) * size_of::<Sample>()
            + self.blocks.capacity() * size_of::<Accumulator>()
            + self.blocks.iter().map(Accumulator::bytes).sum::<usize>()
    }

    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        buffer.put_varint_signed(self.reported_ms);
        buffer.put_varint_signed(self.dropped_ms);
        buffer.put_varint(self.out_of_first as u64);
        buffer.put_varint(self.released.len() as u64);
        buffer.put_varint(self.waiting.len() as u64);
        let mut before_ms = 0;
        for sample in self.released.iter().chain(&self.waiting) {
            buffer.put_varint_signed(sample.time_ms.wrapping_sub(before_ms));
            buffer.extend_from_slice(&sample.value.to_le_bytes());
            before_ms = sample.time_ms;
        }
    }

    /// Whether the times of a key can be those of its values.
    pub(crate) fn is_sound(&self, newest_ms: i64, closed_to_ms: i64) -> bool {
        self.released.back().is_none_or(|last| last.time_ms <= closed_to_ms && last.time_ms <= newest_ms)
            && self.waiting.back().is_none_or(|last| last.time_ms <= newest_ms)
    }

    pub(crate) fn read(needs: Needs, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut read = Self::new();
        for time_ms in [&mut read.reported_ms, &mut read.dropped_ms] {
            *time_ms = reader.varint_signed()?;
            if *time_ms != NEVER && !is_time(*time_ms) {
                return Err(reader.invalid("time of a report"));
            }
        }
        read.out_of_first = reader.count("values out of a block", BLOCK as u64 - 1)? as usize;
        let released = reader.count("released values", SAMPLES_MAX as u64)?;
        let waiting = reader.count("waiting values", SAMPLES_MAX as u64 - released)?;
        if released + waiting == 0 || (released == 0 && read.out_of_first > 0) {
            return Err(reader.invalid("number of values"));
        }
        let mut before: Option<Sample> = None;
        for at in 0..released + waiting {
            let offset_ms = reader.varint_signed()?;
            let time_ms = before.map_or(0, |before| before.time_ms).wrapping_add(offset_ms);
            let sample = Sample { time_ms, value: reader.f64()? };
            let is_ordered = before.is_none_or(|before| before.time_ms <= time_ms);
            if !is_ordered || !is_time(time_ms) || !sample.value.is_finite() {
                return Err(reader.invalid("value of a window"));
            }
            if at < released {
                if at == 0 && read.out_of_first > 0 {
                    // The first block is only counted: a part of it is out.
                    read.blocks.push_back(Accumulator::new(needs));
                }
                read.push(sample, needs);
            } else {
                read.waiting.push_back(sample);
            }
            before = Some(sample);
        }
        Ok(read)
    }
}

impl KeyWindows {
    /// False when a report of this time has gone out.
    pub(crate) fn place_sample(&mut self, spec: &WindowSpec, time_ms: i64, value: f64) -> bool {
        if self.closed_to_ms == ANEW {
            self.closed_to_ms = time_ms;
        }
        let watermark_ms = if self.newest_ms == NEVER { NEVER } else { self.watermark_ms(spec) };
        if time_ms < self.closed_to_ms.max(watermark_ms) {
            return false;
        }
        let mut rest = match self.rest.take() {
            Some(rest) if matches!(*rest, Rest::Samples(_)) => rest,
            _ => Box::new(Rest::Samples(Samples::new())),
        };
        if let Rest::Samples(samples) = &mut *rest {
            samples.insert(Sample { time_ms, value: value + 0.0 });
            while samples.released.len() + samples.waiting.len() > SAMPLES_MAX {
                if samples.released.is_empty() {
                    let sample = samples.waiting.pop_front();
                    samples.dropped_ms = sample.map_or(NEVER, |sample| sample.time_ms).max(samples.dropped_ms);
                } else if let Some(sample) = samples.pop() {
                    samples.dropped_ms = samples.dropped_ms.max(sample.time_ms);
                }
            }
        }
        self.rest = Some(rest);
        true
    }

    /// Releases values up to a time and reports; all of them, and the last ones, when partial.
    pub(crate) fn close_samples(
        &mut self,
        spec: &WindowSpec,
        size_ms: i64,
        every_ms: i64,
        until_ms: i64,
        is_partial: bool,
        out: &mut Vec<Closed>,
    ) {
        let Some(Rest::Samples(samples)) = self.rest.as_deref_mut() else { return };
        while samples.waiting.front().is_some_and(|sample| sample.time_ms <= until_ms) {
            let Some(time_ms) = samples.release(spec.needs) else { break };
            while samples.waiting.front().is_some_and(|sample| sample.time_ms == time_ms) {
                samples.release(spec.needs);
            }
            samples.evict(time_ms, size_ms);
            self.closed_to_ms = self.closed_to_ms.max(time_ms);
            if samples.reported_ms == NEVER || time_ms >= samples.reported_ms.saturating_add(every_ms) {
                out.push(samples.report(spec.needs, time_ms, size_ms, is_partial));
            }
        }
        if let Some(time_ms) = samples.unreported_ms().filter(|_| is_partial) {
            out.push(samples.report(spec.needs, time_ms, size_ms, true));
        }
    }

    /// After silence, the last values are reported too, and in the end given up.
    pub(crate) fn close_idle_samples(
        &mut self,
        spec: &WindowSpec,
        size_ms: i64,
        every_ms: i64,
        until_ms: i64,
        out: &mut Vec<Closed>,
    ) {
        // The window of a value ends a millisecond behind it.
        self.close_samples(spec, size_ms, every_ms, until_ms.saturating_sub(1), false, out);
        let Some(Rest::Samples(samples)) = self.rest.as_deref_mut() else { return };
        if !samples.waiting.is_empty() {
            return;
        }
        if let Some(time_ms) = samples.unreported_ms().filter(|time_ms| *time_ms < until_ms) {
            out.push(samples.report(spec.needs, time_ms, size_ms, false));
        }
        if samples.released.back().is_none_or(|last| last.time_ms.saturating_add(size_ms) <= until_ms) {
            self.rest = None;
        }
    }
}
