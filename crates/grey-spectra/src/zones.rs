//! Evaluation zones after ISO 20816-1: four classes of how much a machine
//! vibrates. The limits come from the configuration, since they depend on the
//! machine's kind, size and foundation; hysteresis is the rules' part.

use crate::spec::SpectrumError;

/// How much a machine vibrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zone {
    /// As newly commissioned.
    A,
    /// Acceptable for unrestricted long-term operation.
    B,
    /// Unsatisfactory for long-term operation: plan a repair.
    C,
    /// Severe enough to cause damage.
    D,
}

impl Zone {
    /// The letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        }
    }
}

/// Limits between the zones, in the unit of the field that they are held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zones {
    good: Option<f64>,
    warning: f64,
    critical: f64,
}

impl Zones {
    /// `good` is the limit between A and B (without it, all below `warning` is
    /// B), `warning` that between B and C, `critical` that between C and D.
    pub fn new(good: Option<f64>, warning: f64, critical: f64) -> Result<Self, SpectrumError> {
        let limits: Vec<f64> = good.into_iter().chain([warning, critical]).collect();
        let rise = limits.windows(2).all(|pair| pair[0] < pair[1]);
        if !rise || limits.iter().any(|limit| !limit.is_finite() || *limit <= 0.0) {
            return Err(SpectrumError::Limits { limits });
        }
        Ok(Self { good, warning, critical })
    }

    /// The limit between B and C.
    pub fn warning(&self) -> f64 {
        self.warning
    }

    /// The limit between C and D.
    pub fn critical(&self) -> f64 {
        self.critical
    }

    /// The zone of a value; a limit itself belongs to the lower zone.
    pub fn zone(&self, value: f64) -> Zone {
        if value > self.critical {
            Zone::D
        } else if value > self.warning {
            Zone::C
        } else if self.good.is_none_or(|good| value > good) {
            Zone::B
        } else {
            Zone::A
        }
    }
}
