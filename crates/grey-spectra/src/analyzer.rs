//! One frame to its numbers. Shared by all series of a rule; holds the plan of
//! the transform, the window's weights and which lines belong to which band.
//!
//! It must not know time or gaps: a frame is `size` samples, equally spaced.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use grey_model::Name;
use realfft::num_complex::Complex64;
use realfft::{RealFftPlanner, RealToComplex};

use crate::samples::usable;
use crate::spec::{SpectrumError, SpectrumSpec};

/// A signal whose RMS is below this share of its mean does not move: what is left is rounding.
const STILL_SHARE: f64 = 1e-12;
/// Below this RMS squares leave the range of a double.
const STILL_RMS: f64 = 1e-150;
/// Peaks lower than this share of the frame's RMS are rounding of the transform.
const PEAK_SHARE_MIN: f64 = 1e-9;

/// Steps of the table that places a tone between two lines: linear between them is exact to 1e-4 lines.
const SHIFT_STEPS: u32 = 64;
/// One of these steps, in lines.
const SHIFT_STEP: f64 = 0.5 / SHIFT_STEPS as f64;

/// The numbers of one frame. The mean is taken off before everything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Time of the frame's last sample, Unix ms.
    pub time_ms: i64,
    /// Root of the mean square, unit of the samples.
    pub rms: f64,
    /// Largest distance from the mean, unit of the samples.
    pub peak: f64,
    /// `peak / rms`: 1.41 for a sine, above 4 when something knocks; 0 for a signal that does not move.
    pub crest: f64,
    /// Fourth standardised moment (Pearson's: 3 for a normal distribution, 1.5 for a sine); 0 for a signal that does
    /// not move.
    pub kurtosis: f64,
    /// Mean of the samples.
    pub mean: f64,
    /// RMS of the velocity from 10 to 1000 Hz in mm/s, when the specification asks for it.
    pub velocity_rms: Option<f64>,
    /// RMS in each band, in the order of the specification, unit of the samples.
    pub bands: Vec<f64>,
    /// Frequency in Hz and amplitude of the highest peaks, highest first; fewer where the spectrum has fewer.
    pub peaks: Vec<(f64, f64)>,
}

impl Features {
    /// All numbers under their names: `rms`, `peak`, `crest`, `kurtosis`, `mean`, `velocity_rms`, `band.<name>`,
    /// `peak<n>_hz`, `peak<n>` (n from 1). [`Analyzer::fields`] does the same without making the names anew.
    pub fn fields(&self, spec: &SpectrumSpec) -> Vec<(Name, f64)> {
        self.named(&spec.field_names())
    }

    fn named(&self, names: &[Name]) -> Vec<(Name, f64)> {
        let first = [self.rms, self.peak, self.crest, self.kurtosis, self.mean];
        let values = first.into_iter().chain(self.velocity_rms).chain(self.bands.iter().copied());
        let values = values.chain(self.peaks.iter().flat_map(|&(hz, amplitude)| [hz, amplitude]));
        names.iter().cloned().zip(values).collect()
    }
}

/// A checked [`SpectrumSpec`], prepared.
#[derive(Clone)]
pub struct Analyzer {
    inner: Arc<Inner>,
}

struct Inner {
    spec: SpectrumSpec,
    names: Vec<Name>,
    hop: usize,
    plan: Arc<dyn RealToComplex<f64>>,
    weights: Vec<f64>,
    /// Power of a line: `|X|² * power`, twice that between the ends.
    power: f64,
    /// Amplitude of a line: `|X| * amplitude`.
    amplitude: f64,
    /// Rising: where between two lines a tone is, by the ratio of these.
    ratios: Vec<f64>,
    bands: Vec<Range<usize>>,
    velocity: Option<Range<usize>>,
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analyzer").field("spec", &self.inner.spec).finish_non_exhaustive()
    }
}

/// Buffers of the transform, made once for a call and used for all its frames.
pub(crate) struct Workspace {
    frame: Vec<f64>,
    lines: Vec<Complex64>,
    scratch: Vec<Complex64>,
    powers: Vec<f64>,
}

impl Analyzer {
    /// Checks and prepares a specification.
    pub fn new(spec: SpectrumSpec) -> Result<Self, SpectrumError> {
        spec.check()?;
        let plan = RealFftPlanner::<f64>::new().plan_fft_forward(spec.size);
        let weights: Vec<f64> = (0..spec.size).map(|n| spec.window.weight(n, spec.size)).collect();
        let sum: f64 = weights.iter().sum();
        let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
        let inner = Inner {
            names: spec.field_names(),
            hop: spec.hop(),
            plan,
            power: 1.0 / (spec.size as f64 * squares),
            amplitude: 2.0 / sum,
            ratios: shift_ratios(spec.window),
            bands: spec.bands.iter().map(|band| spec.lines(band.from_hz, band.to_hz)).collect(),
            velocity: if spec.velocity { spec.velocity_lines() } else { None },
            weights,
            spec,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it computes.
    pub fn spec(&self) -> &SpectrumSpec {
        &self.inner.spec
    }

    /// Names of the fields that [`Analyzer::fields`] gives at most, in its order.
    pub fn field_names(&self) -> &[Name] {
        &self.inner.names
    }

    /// As [`Features::fields`], for features that this analyzer made.
    pub fn fields(&self, features: &Features) -> Vec<(Name, f64)> {
        features.named(&self.inner.names)
    }

    /// Samples from the begin of a frame to that of the next.
    pub(crate) fn hop(&self) -> usize {
        self.inner.hop
    }

    pub(crate) fn workspace(&self) -> Workspace {
        Workspace {
            frame: self.inner.plan.make_input_vec(),
            lines: self.inner.plan.make_output_vec(),
            scratch: self.inner.plan.make_scratch_vec(),
            powers: vec![0.0; self.inner.spec.size / 2 + 1],
        }
    }

    /// The numbers of one frame: exactly `size` finite samples of at most [`SAMPLE_ABS_MAX`](crate::SAMPLE_ABS_MAX)
    /// each, else nothing.
    pub fn analyze(&self, frame: &[f64], time_ms: i64) -> Option<Features> {
        if frame.len() != self.inner.spec.size || !frame.iter().all(|sample| usable(*sample)) {
            return None;
        }
        self.analyze_in(frame, time_ms, &mut self.workspace())
    }

    pub(crate) fn analyze_in(&self, frame: &[f64], time_ms: i64, workspace: &mut Workspace) -> Option<Features> {
        let inner = &*self.inner;
        let n = frame.len() as f64;
        let mean = frame.iter().sum::<f64>() / n;
        let (mut squares, mut peak) = (0.0_f64, 0.0_f64);
        for sample in frame {
            let deviation = sample - mean;
            squares += deviation * deviation;
            peak = peak.max(deviation.abs());
        }
        let rms = (squares / n).sqrt();
        let mut features = Features {
            time_ms,
            rms: 0.0,
            peak: 0.0,
            crest: 0.0,
            kurtosis: 0.0,
            mean,
            velocity_rms: inner.velocity.as_ref().map(|_| 0.0),
            bands: vec![0.0; inner.bands.len()],
            peaks: Vec::new(),
        };
        if rms <= STILL_RMS || rms <= mean.abs() * STILL_SHARE {
            return Some(features);
        }
        // Standardised first, so that the fourth power stays in range.
        let fourth = |sample: &f64| {
            let square = ((sample - mean) / rms).powi(2);
            square * square
        };
        features.kurtosis = frame.iter().map(fourth).sum::<f64>() / n;
        (features.rms, features.peak, features.crest) = (rms, peak, peak / rms);

        for ((place, sample), weight) in workspace.frame.iter_mut().zip(frame).zip(&inner.weights) {
            *place = (sample - mean) * weight;
        }
        let Workspace { frame, lines, scratch, powers } = workspace;
        // Fails only for buffers of a wrong length, and these are the plan's own.
        inner.plan.process_with_scratch(frame, lines, scratch).ok()?;
        for (power, line) in powers.iter_mut().zip(lines.iter()) {
            *power = line.norm_sqr();
        }
        for (band, range) in features.bands.iter_mut().zip(&inner.bands) {
            *band = inner.sum(powers, range.clone(), |_| 1.0).sqrt();
        }
        if let Some(range) = &inner.velocity {
            // m/s² over the angular frequency is m/s; 1000 of it are mm/s.
            let step = std::f64::consts::TAU * inner.spec.resolution_hz();
            let integrate = |k: usize| (1_000.0 / (step * k as f64)).powi(2);
            features.velocity_rms = Some(inner.sum(powers, range.clone(), integrate).sqrt());
        }
        if inner.spec.peaks > 0 {
            features.peaks = inner.peaks(powers, rms);
        }
        Some(features)
    }
}

impl Inner {
    /// Mean square of the lines in `range`, each times `factor`: one-sided, corrected for the window's power.
    fn sum(&self, powers: &[f64], range: Range<usize>, factor: impl Fn(usize) -> f64) -> f64 {
        let last = powers.len() - 1;
        let side = |k: usize| if k == 0 || k == last { 1.0 } else { 2.0 };
        range.map(|k| powers[k] * side(k) * factor(k)).sum::<f64>() * self.power
    }

    /// The highest local maxima.
    fn peaks(&self, powers: &[f64], rms: f64) -> Vec<(f64, f64)> {
        let floor = (rms * PEAK_SHARE_MIN / self.amplitude).powi(2);
        let mut highest: Vec<usize> = Vec::with_capacity(self.spec.peaks + 1);
        for k in 1..powers.len() - 1 {
            if powers[k] <= floor || powers[k] <= powers[k - 1] || powers[k] < powers[k + 1] {
                continue;
            }
            // Equal heights keep their order, the lower frequency first.
            let place = highest.partition_point(|&other| powers[other] >= powers[k]);
            if place < self.spec.peaks {
                highest.insert(place, k);
                highest.truncate(self.spec.peaks);
            }
        }
        highest.into_iter().map(|k| self.refine(powers, k)).collect()
    }

    /// Frequency in Hz and amplitude of the tone nearest to line `k`, from that line and the higher one beside it.
    fn refine(&self, powers: &[f64], k: usize) -> (f64, f64) {
        let (left, right) = (powers[k - 1], powers[k + 1]);
        let ratio = (left.max(right) / powers[k]).sqrt();
        let after = self.ratios.partition_point(|known| *known <= ratio).min(self.ratios.len() - 1).max(1);
        let (low, high) = (self.ratios[after - 1], self.ratios[after]);
        let part = ((ratio - low) / (high - low)).clamp(0.0, 1.0);
        let shift = ((after - 1) as f64 + part) * SHIFT_STEP;
        let amplitude = powers[k].sqrt() * self.amplitude / self.spec.window.response(shift);
        let place = if right > left { k as f64 + shift } else { k as f64 - shift };
        (place * self.spec.resolution_hz(), amplitude)
    }
}

/// For shifts of 0, one step and so on to half a line: how high the second line of a tone stands beside the first.
fn shift_ratios(window: crate::Window) -> Vec<f64> {
    let ratio = |n: u32| {
        let shift = f64::from(n) * SHIFT_STEP;
        window.response(1.0 - shift) / window.response(shift)
    };
    (0..=SHIFT_STEPS).map(ratio).collect()
}
