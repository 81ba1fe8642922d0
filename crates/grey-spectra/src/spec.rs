//! What to compute from a vibration stream, and the bounds that hold for it.
//!
//! The checks stand here, so that the analysis itself cannot fail. It must not
//! know where the numbers come from.

use grey_model::Name;

/// Shortest frame in samples: below it a band is a bin or two.
pub const SIZE_MIN: usize = 64;
/// Longest frame in samples: the longest vector value of an event.
pub const SIZE_MAX: usize = 65_536;
/// Slowest sampling: a frame of [`SIZE_MIN`] then lasts 18 hours.
pub const SAMPLE_RATE_HZ_MIN: f64 = 0.001;
/// Fastest sampling: ultrasound.
pub const SAMPLE_RATE_HZ_MAX: f64 = 10_000_000.0;
/// Largest share of a frame that the next one repeats: bounds the frames a sample is part of to ten.
pub const OVERLAP_MAX: f64 = 0.9;
/// Most bands of one spectrum.
pub const BANDS_MAX: usize = 32;
/// Most peaks of one spectrum.
pub const PEAKS_MAX: usize = 8;
/// Longest name of a band in bytes.
const BAND_NAME_BYTES_MAX: usize = 64;
/// Where the velocity's range begins (ISO 20816-1, broad-band vibration).
pub const VELOCITY_FROM_HZ: f64 = 10.0;
/// Where the velocity's range ends, or at half the sample rate if that is lower.
pub const VELOCITY_TO_HZ: f64 = 1_000.0;

/// Why a specification was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpectrumError {
    /// A frame's length is out of range.
    #[error("size {found} is not a power of two from {SIZE_MIN} to {SIZE_MAX}, use for example 1024")]
    Size {
        /// The length found, in samples.
        found: usize,
    },
    /// The sample rate is out of range.
    #[error("sample rate {found} Hz is not between {SAMPLE_RATE_HZ_MIN} and {SAMPLE_RATE_HZ_MAX} Hz")]
    SampleRate {
        /// The rate found, in Hz.
        found: f64,
    },
    /// The overlap is out of range.
    #[error("overlap {found} is not between 0 and {OVERLAP_MAX}, use for example 0.5")]
    Overlap {
        /// The share found.
        found: f64,
    },
    /// More of something than is allowed.
    #[error("{found} {what} are over the limit of {limit}")]
    TooMany {
        /// What is counted: `bands` or `peaks`.
        what: &'static str,
        /// How many were given.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A band's name cannot be part of a field's name.
    #[error("band name {name:?}: use 1 to 64 letters, digits, `_` or `-`, each name once")]
    BandName {
        /// The name given.
        name: String,
    },
    /// A band ends before it begins, or outside what the sample rate can show.
    #[error(
        "band {name:?} from {from_hz} to {to_hz} Hz: must begin at 0 or above, end later, and at most at {nyquist_hz} Hz, half the sample rate"
    )]
    BandRange {
        /// The band.
        name: String,
        /// Its begin.
        from_hz: f64,
        /// Its end.
        to_hz: f64,
        /// Half the sample rate.
        nyquist_hz: f64,
    },
    /// A band is narrower than the distance of two lines of the spectrum.
    #[error(
        "band {name:?} holds no line of the spectrum, whose lines are {resolution_hz} Hz apart: widen it or use a larger size"
    )]
    BandEmpty {
        /// The band.
        name: String,
        /// The distance of two lines.
        resolution_hz: f64,
    },
    /// The spectrum does not reach or does not resolve the range of the velocity.
    #[error(
        "velocity needs lines between {VELOCITY_FROM_HZ} and {VELOCITY_TO_HZ} Hz at most {VELOCITY_FROM_HZ} Hz apart; at {sample_rate_hz} Hz and size {size} they are {resolution_hz} Hz apart and end at {nyquist_hz} Hz"
    )]
    Velocity {
        /// The sample rate.
        sample_rate_hz: f64,
        /// The frame's length.
        size: usize,
        /// The distance of two lines.
        resolution_hz: f64,
        /// Half the sample rate.
        nyquist_hz: f64,
    },
    /// Zone limits that do not rise.
    #[error("limits {limits:?}: must be finite, over 0, and rise from one zone to the next")]
    Limits {
        /// The limits given, in order.
        limits: Vec<f64>,
    },
}

/// The shape that a frame is weighted with before the transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Window {
    /// Raised cosine: the usual choice.
    #[default]
    Hann,
    /// Raised cosine on a pedestal: nearer side lobes lower, distant ones higher.
    Hamming,
    /// Five cosine terms: amplitudes to 0.1 % between lines, frequencies blurred.
    FlatTop,
    /// No weighting: for transients that begin and end inside a frame.
    Rectangular,
}

impl Window {
    /// Every shape.
    pub const ALL: [Window; 4] = [Window::Hann, Window::Hamming, Window::FlatTop, Window::Rectangular];

    /// The name used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hann => "hann",
            Self::Hamming => "hamming",
            Self::FlatTop => "flat_top",
            Self::Rectangular => "rectangular",
        }
    }

    /// The shape of a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == text)
    }

    /// The terms of the cosine sum that all shapes are: `a0 - a1 cos(x) + a2 cos(2x) - ...`.
    fn terms(self) -> &'static [f64] {
        match self {
            Self::Hann => &[0.5, 0.5],
            Self::Hamming => &[0.54, 0.46],
            // The common five-term flat top (D'Antona and Ferrero, 2006).
            Self::FlatTop => &[0.215_578_95, 0.416_631_58, 0.277_263_158, 0.083_578_947, 0.006_947_368],
            Self::Rectangular => &[1.0],
        }
    }

    /// The terms with their signs and their orders.
    fn signed(self) -> impl Iterator<Item = (f64, f64)> {
        let signed = |(m, a): (usize, &f64)| (m as f64, if m.is_multiple_of(2) { *a } else { -*a });
        self.terms().iter().enumerate().map(signed)
    }

    /// The weight of sample `n` of `size`, periodic form (DFT-even).
    pub(crate) fn weight(self, n: usize, size: usize) -> f64 {
        let phase = std::f64::consts::TAU * n as f64 / size as f64;
        self.signed().map(|(order, a)| a * (phase * order).cos()).sum()
    }

    /// How high a tone stands in a line that is `shift` lines away from it, 0 to 1: 1 without a shift. It is the
    /// transform of the cosine sum, whose terms share the factor `sin(pi shift)`.
    pub(crate) fn response(self, shift: f64) -> f64 {
        let terms = self.terms();
        if shift < 1e-9 {
            return 1.0;
        }
        if shift > 1.0 - 1e-9 {
            return terms.get(1).map_or(0.0, |first| first / 2.0 / terms[0]);
        }
        let square = shift * shift;
        let sum: f64 = self.signed().map(|(order, a)| a * square / (square - order * order)).sum();
        let angle = std::f64::consts::PI * shift;
        sum / terms[0] * angle.sin() / angle
    }
}

/// A range of frequencies whose energy is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Its name: the field is `band.<name>`.
    pub name: Name,
    /// First frequency that belongs to it, Hz.
    pub from_hz: f64,
    /// First frequency above it, Hz. A band that ends at half the sample rate includes that line.
    pub to_hz: f64,
}

/// What to compute from the frames of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct SpectrumSpec {
    /// Samples a second of one series.
    pub sample_rate_hz: f64,
    /// Samples of one frame, a power of two.
    pub size: usize,
    /// Share of a frame that the next one repeats, 0 to [`OVERLAP_MAX`].
    pub overlap: f64,
    /// Weighting before the transform.
    pub window: Window,
    /// Bands whose RMS is computed.
    pub bands: Vec<Band>,
    /// How many of the highest peaks are reported, 0 to [`PEAKS_MAX`].
    pub peaks: usize,
    /// Whether samples are accelerations in m/s², from which the RMS of the velocity in mm/s is computed.
    pub velocity: bool,
}

impl SpectrumSpec {
    /// Frames of `size` at `sample_rate_hz` with a Hann window and no overlap, no bands, no peaks, no velocity.
    pub fn new(sample_rate_hz: f64, size: usize) -> Self {
        Self { sample_rate_hz, size, overlap: 0.0, window: Window::Hann, bands: Vec::new(), peaks: 0, velocity: false }
    }

    /// Distance of two lines of the spectrum, Hz.
    pub fn resolution_hz(&self) -> f64 {
        self.sample_rate_hz / self.size as f64
    }

    /// Samples from the begin of a frame to that of the next, at least 1.
    pub fn hop(&self) -> usize {
        let repeated = (self.size as f64 * self.overlap).round() as usize;
        self.size.saturating_sub(repeated).max(1)
    }

    /// Names of the fields that [`Features::fields`](crate::Features::fields) gives at most, in its order.
    pub fn field_names(&self) -> Vec<Name> {
        let mut names: Vec<Name> = ["rms", "peak", "crest", "kurtosis", "mean"].map(Name::from).into();
        if self.velocity {
            names.push("velocity_rms".into());
        }
        names.extend(self.bands.iter().map(|band| Name::from(format!("band.{}", band.name))));
        for n in 1..=self.peaks {
            names.push(format!("peak{n}_hz").into());
            names.push(format!("peak{n}").into());
        }
        names
    }

    /// Checks every bound.
    pub fn check(&self) -> Result<(), SpectrumError> {
        if !self.size.is_power_of_two() || !(SIZE_MIN..=SIZE_MAX).contains(&self.size) {
            return Err(SpectrumError::Size { found: self.size });
        }
        if !(SAMPLE_RATE_HZ_MIN..=SAMPLE_RATE_HZ_MAX).contains(&self.sample_rate_hz) {
            return Err(SpectrumError::SampleRate { found: self.sample_rate_hz });
        }
        if !(0.0..=OVERLAP_MAX).contains(&self.overlap) {
            return Err(SpectrumError::Overlap { found: self.overlap });
        }
        for (what, found, limit) in [("bands", self.bands.len(), BANDS_MAX), ("peaks", self.peaks, PEAKS_MAX)] {
            if found > limit {
                return Err(SpectrumError::TooMany { what, found, limit });
            }
        }
        self.bands.iter().enumerate().try_for_each(|(i, band)| self.check_band(i, band))?;
        if self.velocity && self.velocity_lines().is_none() {
            return Err(SpectrumError::Velocity {
                sample_rate_hz: self.sample_rate_hz,
                size: self.size,
                resolution_hz: self.resolution_hz(),
                nyquist_hz: self.sample_rate_hz / 2.0,
            });
        }
        Ok(())
    }

    fn check_band(&self, position: usize, band: &Band) -> Result<(), SpectrumError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let again = self.bands[..position].iter().any(|other| other.name == band.name);
        if band.name.is_empty() || band.name.len() > BAND_NAME_BYTES_MAX || !band.name.chars().all(fits) || again {
            return Err(SpectrumError::BandName { name: band.name.to_string() });
        }
        let nyquist_hz = self.sample_rate_hz / 2.0;
        // Written so that a NaN is refused.
        if !(band.from_hz >= 0.0 && band.to_hz > band.from_hz && band.to_hz <= nyquist_hz) {
            return Err(SpectrumError::BandRange {
                name: band.name.to_string(),
                from_hz: band.from_hz,
                to_hz: band.to_hz,
                nyquist_hz,
            });
        }
        if self.lines(band.from_hz, band.to_hz).is_empty() {
            return Err(SpectrumError::BandEmpty { name: band.name.to_string(), resolution_hz: self.resolution_hz() });
        }
        Ok(())
    }

    /// Lines whose frequency is in `[from_hz, to_hz)`, or up to the last one if the range ends at it.
    pub(crate) fn lines(&self, from_hz: f64, to_hz: f64) -> std::ops::Range<usize> {
        let (resolution_hz, last) = (self.resolution_hz(), self.size / 2);
        let first = (from_hz / resolution_hz).ceil() as usize;
        let end = if to_hz >= self.sample_rate_hz / 2.0 { last + 1 } else { (to_hz / resolution_hz).ceil() as usize };
        first.min(last + 1)..end.min(last + 1)
    }

    /// Lines of the velocity's range, both ends included; none if it is out of reach or not resolved.
    pub(crate) fn velocity_lines(&self) -> Option<std::ops::Range<usize>> {
        let resolution_hz = self.resolution_hz();
        let first = (VELOCITY_FROM_HZ / resolution_hz).ceil() as usize;
        let end = ((VELOCITY_TO_HZ / resolution_hz).floor() as usize).min(self.size / 2) + 1;
        (first >= 1 && first < end && resolution_hz <= VELOCITY_FROM_HZ).then_some(first..end)
    }
}
