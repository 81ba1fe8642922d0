//! Spectra of vibration: frames of equally spaced samples become a handful of
//! numbers that a rule can watch (RMS, bands, peaks, velocity, crest factor,
//! kurtosis).
//!
//! A [`SpectrumSpec`] says what to compute, an [`Analyzer`] is the prepared
//! form of it that every series shares, and [`Samples`] is the state of one
//! series: the samples that wait for their frame. The same calls give the same
//! bits, also on another machine of the same architecture: no instruction set
//! is chosen at run time.
//!
//! ```
//! use grey_spectra::{Analyzer, Band, Samples, SpectrumSpec};
//!
//! let mut spec = SpectrumSpec::new(1_000.0, 1_024);
//! spec.bands.push(Band { name: "bearing".into(), from_hz: 80.0, to_hz: 160.0 });
//! let analyzer = Analyzer::new(spec)?;
//!
//! let tone: Vec<f64> = (0..1_024).map(|n| 2.0 * (std::f64::consts::TAU * 0.125 * f64::from(n)).sin()).collect();
//! let (mut series, mut frames) = (Samples::default(), Vec::new());
//! series.push(&analyzer, &tone, 1_760_000_000_000, &mut frames);
//! assert!((frames[0].rms - 2.0_f64.sqrt()).abs() < 1e-9);
//! assert!((frames[0].bands[0] - 2.0_f64.sqrt()).abs() < 1e-6);
//! # Ok::<(), grey_spectra::SpectrumError>(())
//! ```
//!
//! This crate knows no rule, no clock and no configuration format. Formulas
//! and their sources: `docs/design/spectra.md`.

mod analyzer;
mod samples;
mod spec;
#[cfg(test)]
mod tests;
mod zones;

pub use analyzer::{Analyzer, Features};
pub use samples::{SAMPLE_ABS_MAX, Samples};
pub use spec::{
    BANDS_MAX, Band, OVERLAP_MAX, PEAKS_MAX, SAMPLE_RATE_HZ_MAX, SAMPLE_RATE_HZ_MIN, SIZE_MAX, SIZE_MIN, SpectrumError,
    SpectrumSpec, VELOCITY_FROM_HZ, VELOCITY_TO_HZ, Window,
};
pub use zones::{Zone, Zones};
