//! A mean and a variance that forget: plain averages while there are few values, then
//! exponentially weighted (Roberts 1959; the variance as in Finch 2009).
//!
//! Must not know what is averaged.

use grey_model::{Reader, WireError, Writer};

use crate::number::{read_finite, read_spread};

/// Exponentially weighted mean and variance.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    pub(crate) variance: f64,
    pub(crate) count: u32,
}

impl Moments {
    /// Takes a value; `length` is how many values the average reaches back.
    pub(crate) fn add(&mut self, value: f64, length: f64) {
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / length).max(1.0 / f64::from(self.count));
        let departure = value - self.mean;
        self.mean += weight * departure;
        self.variance = (1.0 - weight) * (self.variance + weight * departure * departure);
    }

    /// The standard deviation.
    pub(crate) fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.mean.to_le_bytes());
        out.extend(self.variance.to_le_bytes());
        out.put_varint(u64::from(self.count));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mean = read_finite(reader, "mean")?;
        let variance = read_spread(reader, "variance")?;
        let count = reader.count("values of an average", u64::from(u32::MAX))? as u32;
        Ok(Self { mean, variance, count })
    }
}

/// Exponentially weighted mean alone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Mean {
    pub(crate) mean: f64,
    pub(crate) count: u32,
}

impl Mean {
    /// Takes a value; `length` is how many values the average reaches back.
    pub(crate) fn add(&mut self, value: f64, length: f64) {
        self.count = self.count.saturating_add(1);
        self.mean += (1.0 / length).max(1.0 / f64::from(self.count)) * (value - self.mean);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.mean.to_le_bytes());
        out.put_varint(u64::from(self.count));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mean = read_finite(reader, "mean")?;
        let count = reader.count("values of an average", u64::from(u32::MAX))? as u32;
        Ok(Self { mean, count })
    }
}
