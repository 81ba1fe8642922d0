//! The face of the crate: which methods there are, what a detector answers, and how
//! its state is written and read.
//!
//! Must not know what a rule does with a score.

use grey_model::{Reader, WireError};

use crate::ewma::Ewma;

/// The version of the state's layout that [`Detector::write`] writes.
const STATE_VERSION: u8 = 1;

/// How a series is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Method {
    /// Robust z-score: the distance from the median of the recent values in units of
    /// their median absolute deviation.
    Robust,
    /// Exponentially weighted moving average and variance.
    Ewma,
    /// Two-sided cumulative sum of small departures.
    Cusum,
    /// The distance from what this hour of the day and of the week usually is.
    Seasonal,
    /// An ensemble that suits most series.
    #[default]
    General,
}

impl Method {
    /// All methods, the default last.
    pub const ALL: [Self; 5] = [Self::Robust, Self::Ewma, Self::Cusum, Self::Seasonal, Self::General];

    /// The name, as in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Robust => "robust",
            Self::Ewma => "ewma",
            Self::Cusum => "cusum",
            Self::Seasonal => "seasonal",
            Self::General => "general",
        }
    }

    /// The method of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Robust => 0,
            Self::Ewma => 1,
            Self::Cusum => 2,
            Self::Seasonal => 3,
            Self::General => 4,
        }
    }
}

/// What a detector says about one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// From 0, as expected, to 1, an anomaly.
    pub score: f64,
    /// What the value was expected to be, in the series' unit.
    pub expected: f64,
    /// The value that was judged.
    pub seen: f64,
    /// When the departure began, in Unix milliseconds; `None` while there is none.
    pub since_ms: Option<i64>,
}

/// The detector of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    method: Method,
    ewma: Ewma,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(method: Method) -> Self {
        Self { method, ewma: Ewma::default() }
    }

    /// How this detector judges.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Judges a value and learns from it. A value that is not finite is judged 0 and
    /// not learnt.
    pub fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        if !value.is_finite() {
            return Finding { score: 0.0, expected: self.ewma.mean(), seen: value, since_ms: None };
        }
        self.ewma.observe(time_ms, value)
    }

    /// The score from which a finding of this method is worth an alarm.
    pub fn threshold(method: Method) -> f64 {
        match method {
            Method::Robust | Method::Ewma | Method::Cusum | Method::Seasonal | Method::General => 0.9,
        }
    }

    /// Memory that this detector takes, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    /// Appends the state.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(STATE_VERSION);
        out.push(self.method.tag());
        self.ewma.write(out);
    }

    /// Reads what [`Detector::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        if reader.u8()? != STATE_VERSION {
            return Err(reader.invalid("detector state version"));
        }
        let tag = reader.u8()?;
        let method = Method::ALL.into_iter().find(|method| method.tag() == tag);
        let method = method.ok_or_else(|| reader.invalid("detector method"))?;
        Ok(Self { method, ewma: Ewma::read(reader)? })
    }
}
