//! What can be asked of a window, and what has to be kept to answer it.

use std::fmt;

/// A figure of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The arithmetic mean.
    Avg,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// How many values.
    Count,
    /// The sum.
    Sum,
    /// Standard deviation of the values (of the population, divided by n, not of a sample).
    Stddev,
    /// The value of the earliest time; of several, the least.
    First,
    /// The value of the latest time; of several, the greatest.
    Last,
    /// From the first to the last value, per second; none for a single moment.
    Rate,
    /// The median, within [`crate::RELATIVE_ERROR`].
    P50,
    /// The 95th percentile, within [`crate::RELATIVE_ERROR`].
    P95,
    /// The 99th percentile, within [`crate::RELATIVE_ERROR`].
    P99,
}

impl Field {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Sum,
        Self::Stddev,
        Self::First,
        Self::Last,
        Self::Rate,
        Self::P50,
        Self::P95,
        Self::P99,
    ];

    /// The name in configuration and in an aggregate's attributes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Stddev => "stddev",
            Self::First => "first",
            Self::Last => "last",
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }

    /// The field of a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == text)
    }

    /// The quantile asked for, from 0 to 1, if it is one.
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.50),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an accumulator keeps beyond what costs nothing extra.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// The sum of squared differences from the mean: 16 bytes.
    pub deviation: bool,
    /// A sketch for quantiles: 8 bytes a bin, see [`crate::Sketch`].
    pub sketch: bool,
}

impl Needs {
    /// What the fields need together.
    pub fn of(fields: &[Field]) -> Self {
        Self {
            deviation: fields.contains(&Field::Stddev),
            sketch: fields.iter().any(|field| field.quantile().is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for field in Field::ALL {
            assert_eq!(Field::parse(field.as_str()), Some(field));
            assert_eq!(field.to_string(), field.as_str());
        }
        assert_eq!(Field::parse("AVG"), None);
        assert_eq!(Needs::of(&[Field::Avg, Field::Rate]), Needs::default());
        assert_eq!(Needs::of(&[Field::Stddev, Field::P99]), Needs { deviation: true, sketch: true });
    }
}
