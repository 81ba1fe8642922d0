//! How rare a strangeness is in its own history.
//!
//! Every view of a series yields a strangeness from 0 upward whose distribution is
//! unknown and differs from series to series. A [`Tail`] counts it in a histogram with
//! bins of a quarter octave and answers with the surprise: how many powers of ten of
//! values it takes to meet one as strange. So views of different kinds can be compared
//! and added without a parameter per series.
//!
//! Must not know what the strangeness is.

use grey_model::{Reader, WireError, Writer};

use crate::number::{log2, log10, read_spread};

/// Bins of the histogram; the first counts a strangeness of nothing.
const BINS: usize = 64;
/// Bins per doubling.
const BINS_PER_OCTAVE: f64 = 4.0;
/// The bin that a strangeness of 1 falls into: from 2^-9 to 2^6.75 are told apart.
const BIN_OF_ONE: f64 = 36.0;
/// Surprise for each doubling over the strangest so far, in powers of ten.
const RECORD_BONUS: f64 = 0.5;
/// Doublings over the strangest so far that are counted.
const RECORD_OCTAVES_MAX: f64 = 2.0;

/// The history of one strangeness.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tail {
    bins: [u16; BINS],
    count: u32,
    max: f64,
}

impl Default for Tail {
    fn default() -> Self {
        Self { bins: [0; BINS], count: 0, max: 0.0 }
    }
}

impl Tail {
    /// The surprise at this strangeness, in powers of ten, before it is added.
    pub(crate) fn surprise(&self, strangeness: f64) -> f64 {
        if self.count == 0 || strangeness <= 0.0 {
            return 0.0;
        }
        let bin = bin_of(strangeness);
        let above: u32 = self.bins[bin + 1..].iter().copied().map(u32::from).sum();
        let reached = f64::from(above) + 0.5 * f64::from(self.bins[bin]) + 0.5;
        let rare = log10((f64::from(self.count) + 1.0) / reached);
        let record = if strangeness > self.max && self.max > 0.0 {
            RECORD_BONUS * log2(strangeness / self.max).min(RECORD_OCTAVES_MAX)
        } else {
            0.0
        };
        rare.max(0.0) + record
    }

    /// Takes a strangeness. At `count_max` all counts are halved, so that the history
    /// reaches back between half of it and all of it.
    pub(crate) fn add(&mut self, strangeness: f64, count_max: u32) {
        if self.count >= count_max {
            // Rounded up: what happened once stays known longest.
            for bin in &mut self.bins {
                *bin = bin.div_ceil(2);
            }
            self.count = self.bins.iter().copied().map(u32::from).sum();
        }
        let bin = &mut self.bins[bin_of(strangeness)];
        if *bin < u16::MAX {
            *bin += 1;
            self.count += 1;
        }
        self.max = strangeness.max(self.max);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for bin in self.bins {
            out.put_varint(u64::from(bin));
        }
        out.extend(self.max.to_le_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut tail = Self::default();
        for bin in &mut tail.bins {
            *bin = reader.count("strangenesses in a bin", u64::from(u16::MAX))? as u16;
        }
        tail.count = tail.bins.iter().copied().map(u32::from).sum();
        tail.max = read_spread(reader, "strangest")?;
        Ok(tail)
    }
}

fn bin_of(strangeness: f64) -> usize {
    if strangeness <= 0.0 {
        return 0;
    }
    (log2(strangeness) * BINS_PER_OCTAVE + BIN_OF_ONE).clamp(1.0, BINS as f64 - 1.0) as usize
}
