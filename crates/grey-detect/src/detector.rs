//! The face of the crate: which methods there are, what a detector answers, and how
//! its state is written and read.
//!
//! Must not know what a rule does with a score.

use grey_model::{Reader, WireError};

use crate::cusum::Cusum;
use crate::ewma::Ewma;
use crate::general::{self, General};
use crate::robust::Robust;
use crate::seasonal::Seasonal;

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
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Robust(Box<Robust>),
    Ewma(Ewma),
    Cusum(Cusum),
    Seasonal(Box<Seasonal>),
    General(Box<General>),
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(method: Method) -> Self {
        let state = match method {
            Method::Robust => State::Robust(Box::default()),
            Method::Ewma => State::Ewma(Ewma::default()),
            Method::Cusum => State::Cusum(Cusum::default()),
            Method::Seasonal => State::Seasonal(Box::default()),
            Method::General => State::General(Box::default()),
        };
        Self { state }
    }

    /// How this detector judges.
    pub fn method(&self) -> Method {
        match self.state {
            State::Robust(_) => Method::Robust,
            State::Ewma(_) => Method::Ewma,
            State::Cusum(_) => Method::Cusum,
            State::Seasonal(_) => Method::Seasonal,
            State::General(_) => Method::General,
        }
    }

    /// Judges a value and learns from it.
    ///
    /// `time_ms` is Unix milliseconds of the value; times may be irregular, repeat or
    /// jump, and are used only for the time of day and for `since_ms`. A value that is
    /// not finite is neither judged nor learnt: its score is 0 and it is its own
    /// expectation.
    pub fn observe(&mut self, time_ms: i64, value: f64) -> Finding {
        if !value.is_finite() {
            return Finding { score: 0.0, expected: value, seen: value, since_ms: None };
        }
        match &mut self.state {
            State::Robust(state) => state.observe(time_ms, value),
            State::Ewma(state) => state.observe(time_ms, value),
            State::Cusum(state) => state.observe(time_ms, value),
            State::Seasonal(state) => state.observe(time_ms, value),
            State::General(state) => state.observe(time_ms, value, &general::PARAMETERS),
        }
    }

    /// The score from which a finding of this method is worth an alarm. Every method
    /// scales its score so that this is 0.9: a lower one asks for more alarms, a
    /// higher one for fewer.
    pub fn threshold(method: Method) -> f64 {
        match method {
            Method::Robust | Method::Ewma | Method::Cusum | Method::Seasonal | Method::General => 0.9,
        }
    }

    /// Memory that this detector takes, in bytes. It is fixed by the method.
    pub fn bytes(&self) -> usize {
        let boxed = match self.state {
            State::Robust(_) => size_of::<Robust>(),
            State::Ewma(_) | State::Cusum(_) => 0,
            State::Seasonal(_) => size_of::<Seasonal>(),
            State::General(_) => size_of::<General>(),
        };
        size_of::<Self>() + boxed
    }

    /// Appends the state, at most a few kilobytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(STATE_VERSION);
        out.push(self.method().tag());
        match &self.state {
            State::Robust(state) => state.write(out),
            State::Ewma(state) => state.write(out),
            State::Cusum(state) => state.write(out),
            State::Seasonal(state) => state.write(out),
            State::General(state) => state.write(out),
        }
    }

    /// Reads what [`Detector::write`] wrote; what is read continues bit for bit as the
    /// detector that was written.
    ///
    /// # Errors
    ///
    /// When the bytes end early, are of another version, or hold a number that no
    /// detector can have.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        if reader.u8()? != STATE_VERSION {
            return Err(reader.invalid("version of a detector's state"));
        }
        let tag = reader.u8()?;
        let method = Method::ALL.into_iter().find(|method| method.tag() == tag);
        let state = match method.ok_or_else(|| reader.invalid("detector method"))? {
            Method::Robust => State::Robust(Box::new(Robust::read(reader)?)),
            Method::Ewma => State::Ewma(Ewma::read(reader)?),
            Method::Cusum => State::Cusum(Cusum::read(reader)?),
            Method::Seasonal => State::Seasonal(Box::new(Seasonal::read(reader)?)),
            Method::General => State::General(Box::new(General::read(reader)?)),
        };
        Ok(Self { state })
    }
}

#[cfg(test)]
mod tests;
