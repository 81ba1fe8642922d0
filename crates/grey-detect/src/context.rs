//! How well the level of a value follows from the two before it.
//!
//! Values are put into a few levels between the least and the greatest seen, and each
//! pair of levels counts what followed. The strangeness of a value is the length of
//! its code in bits under these counts, the shorter context being used where the
//! longer one knows little (as in prediction by partial matching, Cleary and Witten
//! 1984). It sees orders of values that never happened, though each value is usual.
//!
//! Must not know units.

use grey_model::{Reader, WireError, Writer};

use crate::number::{log2, read_finite};

/// Levels that values are put into.
const LEVELS: usize = 8;
/// Counts of a context are halved at this.
const COUNT_MAX: u16 = 4_096;

/// The counts of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Context {
    least: f64,
    greatest: f64,
    /// What followed: by the level before, the level before that, the level itself.
    counts: [u16; LEVELS * LEVELS * LEVELS],
    before: u8,
    earlier: u8,
    empty: bool,
}

impl Default for Context {
    fn default() -> Self {
        let counts = [0; LEVELS * LEVELS * LEVELS];
        Self { least: 0.0, greatest: 0.0, counts, before: 0, earlier: 0, empty: true }
    }
}

impl Context {
    /// How far a value lies beyond all before it, as a share of their range: positive
    /// above, negative below, 0 within.
    pub(crate) fn beyond(&self, value: f64) -> f64 {
        let range = self.greatest - self.least;
        if self.empty || range <= 0.0 {
            return 0.0;
        }
        let beyond = (value - self.greatest).max(0.0) - (self.least - value).max(0.0);
        (beyond / range).clamp(-1e12, 1e12)
    }

    /// The length of the value's code in bits; the value is then counted.
    pub(crate) fn observe(&mut self, value: f64) -> f64 {
        if self.empty {
            (self.least, self.greatest, self.empty) = (value, value, false);
        }
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
        let range = self.greatest - self.least;
        let share = if range > 0.0 { (value - self.least) / range } else { 0.0 };
        let level = ((share * LEVELS as f64) as usize).min(LEVELS - 1);
        let short = usize::from(self.before) * LEVELS * LEVELS;
        let long = short + usize::from(self.earlier) * LEVELS;
        let sum = |counts: &[u16]| f64::from(counts.iter().copied().map(u32::from).sum::<u32>());
        let shorts = &self.counts[short..short + LEVELS * LEVELS];
        let of_level: u32 = shorts.iter().skip(level).step_by(LEVELS).copied().map(u32::from).sum();
        let by_short = (f64::from(of_level) + 0.5 / LEVELS as f64) / (sum(shorts) + 0.5);
        let longs = &mut self.counts[long..long + LEVELS];
        let by_long = (f64::from(longs[level]) + by_short) / (sum(longs) + 1.0);
        longs[level] += 1;
        if longs[level] >= COUNT_MAX {
            for count in longs {
                *count = count.div_ceil(2);
            }
        }
        (self.earlier, self.before) = (self.before, level as u8);
        -log2(by_long)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.empty));
        out.extend(self.least.to_le_bytes());
        out.extend(self.greatest.to_le_bytes());
        out.push(self.before);
        out.push(self.earlier);
        for count in self.counts {
            out.put_varint(u64::from(count));
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut context = Self { empty: reader.u8()? != 0, ..Self::default() };
        context.least = read_finite(reader, "least value")?;
        context.greatest = read_finite(reader, "greatest value")?;
        context.before = reader.u8()?;
        context.earlier = reader.u8()?;
        if usize::from(context.before.max(context.earlier)) >= LEVELS {
            return Err(reader.invalid("level"));
        }
        for count in &mut context.counts {
            *count = reader.count("counts of a context", u64::from(COUNT_MAX))? as u16;
        }
        Ok(context)
    }
}
