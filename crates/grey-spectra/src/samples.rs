//! The state of one series: samples that wait for their frame, and the time of
//! the last one.
//!
//! A spectrum of samples that do not follow each other is wrong without looking
//! wrong, so a jump in time begins a new frame. It must not know which series
//! it is, nor what is done with the frames.

use grey_model::{Reader, WireError, Writer};

use crate::analyzer::{Analyzer, Features, Workspace};
use crate::spec::SIZE_MAX;

/// Largest sample: its fourth power and the sum over the longest frame stay finite.
pub const SAMPLE_ABS_MAX: f64 = 1e60;
/// A jump of up to as many samples is jitter of the device's clock.
const JITTER_SAMPLES: f64 = 4.0;
/// A jump of up to this is the rounding of two times to milliseconds.
const JITTER_MS: f64 = 2.0;
/// A jump of up to this share of an array is jitter too: what gets lost is a whole array.
const JITTER_ARRAY_SHARE: f64 = 0.125;
/// Version of the saved form.
const VERSION: u8 = 1;

/// False for a NaN, too.
pub(crate) fn usable(sample: f64) -> bool {
    sample.abs() <= SAMPLE_ABS_MAX
}

/// Samples of one series that wait for their frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Fewer than a frame.
    buffer: Vec<f64>,
    /// Time of the last sample taken, Unix ms.
    last_ms: Option<i64>,
    restarts: u64,
    stale: u64,
    not_finite: u64,
}

impl Samples {
    /// Takes samples, oldest first, the last one measured at `time_ms` (Unix ms), and adds a frame's features to `out`
    /// each time one is full. Arrays and single samples may alternate.
    ///
    /// - A jump forward of more than 4 samples, 2 ms and an eighth of the array: what was gathered is dropped and the
    ///   frame begins anew ([`Samples::restarts`]).
    /// - Samples from before the last one, by no more than a frame's duration, were taken already or come too late:
    ///   left out ([`Samples::stale`]). From before that, the clock was set back: begun anew.
    /// - A sample that is not finite or over [`SAMPLE_ABS_MAX`] breaks the frame ([`Samples::not_finite`]).
    pub fn push(&mut self, analyzer: &Analyzer, samples: &[f64], time_ms: i64, out: &mut Vec<Features>) {
        let spec = analyzer.spec();
        if samples.is_empty() {
            return;
        }
        let period_ms = 1_000.0 / spec.sample_rate_hz;
        if !self.follows(spec.size as f64 * period_ms, period_ms, samples.len(), time_ms) {
            return;
        }
        self.last_ms = Some(time_ms);
        if self.buffer.len() >= spec.size {
            // Saved under a specification with longer frames.
            self.restart();
        }
        let mut workspace: Option<Workspace> = None;
        for (i, &sample) in samples.iter().enumerate() {
            if !usable(sample) {
                self.not_finite = self.not_finite.saturating_add(1);
                self.restart();
                continue;
            }
            self.buffer.push(sample);
            if self.buffer.len() == spec.size {
                let behind = (samples.len() - 1 - i) as f64 * period_ms;
                let frame_ms = time_ms.saturating_sub(behind.round() as i64);
                let workspace = workspace.get_or_insert_with(|| analyzer.workspace());
                out.extend(analyzer.analyze_in(&self.buffer, frame_ms, workspace));
                self.buffer.drain(..analyzer.hop());
            }
        }
    }

    /// Whether samples that end at `time_ms` are to be taken; begins anew where they do not continue the last ones.
    fn follows(&mut self, frame_ms: f64, period_ms: f64, count: usize, time_ms: i64) -> bool {
        let Some(last_ms) = self.last_ms else { return true };
        let array_ms = period_ms * count as f64;
        let ahead_ms = time_ms.saturating_sub(last_ms) as f64 - array_ms;
        let array_jitter_ms = if count > 1 { array_ms * JITTER_ARRAY_SHARE } else { 0.0 };
        let jitter_ms = (period_ms * JITTER_SAMPLES).max(JITTER_MS).max(array_jitter_ms);
        if ahead_ms.abs() <= jitter_ms {
            return true;
        }
        if ahead_ms < 0.0 && -ahead_ms <= frame_ms.max(array_ms) + jitter_ms {
            self.stale = self.stale.saturating_add(count as u64);
            return false;
        }
        self.restart();
        true
    }

    fn restart(&mut self) {
        // Nothing gathered, nothing lost.
        self.restarts = self.restarts.saturating_add(u64::from(!self.buffer.is_empty()));
        self.buffer.clear();
    }

    /// Samples that wait.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True when no sample waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Time of the last sample taken, Unix ms.
    pub fn last_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// How often a frame was begun anew because of a gap, a clock set back or an unusable sample.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Samples left out because they are older than what was taken.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Samples left out because they are not finite or too large.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity() * size_of::<f64>()
    }

    /// Writes the state: `docs/design/spectra.md` has the form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self.last_ms {
            None => out.push(0),
            Some(last_ms) => {
                out.push(1);
                out.extend_from_slice(&last_ms.to_le_bytes());
            }
        }
        for counter in [self.restarts, self.stale, self.not_finite] {
            out.put_varint(counter);
        }
        out.put_varint(self.buffer.len() as u64);
        for sample in &self.buffer {
            out.extend_from_slice(&sample.to_le_bytes());
        }
    }

    /// Reads what [`Samples::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let version = reader.clone();
        if reader.u8()? != VERSION {
            return Err(version.invalid("version of samples"));
        }
        let flag = reader.clone();
        let last_ms = match reader.u8()? {
            0 => None,
            1 => Some(reader.i64()?),
            _ => return Err(flag.invalid("flag of the last sample's time")),
        };
        let (restarts, stale, not_finite) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let count = reader.count("count of samples", SIZE_MAX as u64 - 1)? as usize;
        // Taken at once, so that a false count allocates nothing.
        let mut samples = Reader::new(reader.bytes(count * size_of::<f64>())?);
        let mut buffer = Vec::with_capacity(count);
        for _ in 0..count {
            let place = samples.clone();
            let sample = samples.f64()?;
            if !usable(sample) {
                return Err(place.invalid("sample"));
            }
            buffer.push(sample);
        }
        Ok(Self { buffer, last_ms, restarts, stale, not_finite })
    }
}
