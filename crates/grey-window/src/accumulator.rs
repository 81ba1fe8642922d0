//! What is kept of the values of a window: a few running figures, and a sketch
//! when percentiles are asked for. Accumulators merge, so that panes make
//! windows, and the windows of sites those of a region.
//!
//! Sums are compensated (Neumaier 1974, with Knuth's branchless two-sum);
//! deviations are Welford's (1962), merged by Chan, Golub and LeVeque (1979).
//! A figure that leaves the range of a double is none from then on.

use grey_model::{Reader, WireError, Writer};

use crate::field::{Field, Needs};
use crate::sketch::Sketch;

const DEVIATION: u8 = 1;
const SKETCH: u8 = 2;

/// Running figures of values and their times.
///
/// 80 bytes; deviation and sketch lie in one block of the heap of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Accumulator {
    count: u64,
    /// `f64::INFINITY` once the sum has overflowed; never another number that is not finite.
    sum: f64,
    /// What rounding took from the sum.
    lost: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    first_ms: i64,
    last_ms: i64,
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Extra {
    deviation: Option<Deviation>,
    sketch: Option<Sketch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Deviation {
    mean: f64,
    /// Sum of squared differences from the mean; `f64::INFINITY` once it has overflowed.
    squares: f64,
}

impl Deviation {
    const OVERFLOWED: Self = Self { mean: 0.0, squares: f64::INFINITY };

    fn checked(self) -> Self {
        if self.mean.is_finite() && self.squares.is_finite() { self } else { Self::OVERFLOWED }
    }

    /// `count` includes the value.
    fn add(self, value: f64, count: u64) -> Self {
        let before = value - self.mean;
        let mean = self.mean + before / count as f64;
        Self { mean, squares: self.squares + before * (value - mean) }.checked()
    }

    fn merge(self, own: u64, other: Self, others: u64) -> Self {
        // The same order of operands whoever merges whom, so that it commutes to the bit.
        let swap = (others, other.mean.to_bits()) > (own, self.mean.to_bits());
        let (one, n, two, m) = if swap { (other, others, self, own) } else { (self, own, other, others) };
        let (n, m) = (n as f64, m as f64);
        let (apart, share) = (two.mean - one.mean, m / (n + m));
        let squares = (one.squares + two.squares) + apart * apart * n * share;
        Self { mean: one.mean + apart * share, squares }.checked()
    }
}

/// The rounded sum and its exact error (Knuth, The Art of Computer Programming 2, 4.2.2).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let rest = sum - a;
    (sum, (a - (sum - rest)) + (b - rest))
}

impl Accumulator {
    /// Without values, keeping what is needed.
    pub fn new(needs: Needs) -> Self {
        let extra = (needs.deviation || needs.sketch).then(|| {
            Box::new(Extra {
                deviation: needs.deviation.then(Deviation::default),
                sketch: needs.sketch.then(Sketch::default),
            })
        });
        Self { extra, ..Self::default() }
    }

    /// What is kept.
    pub fn needs(&self) -> Needs {
        self.extra.as_ref().map_or(Needs::default(), |extra| Needs {
            deviation: extra.deviation.is_some(),
            sketch: extra.sketch.is_some(),
        })
    }

    /// Takes a value of a time in Unix milliseconds. One that is not finite is left out.
    /// Negative zero counts as zero.
    #[inline]
    pub fn add(&mut self, value: f64, time_ms: i64) {
        if !value.is_finite() {
            return;
        }
        let value = value + 0.0;
        if self.count == 0 {
            (self.min, self.max) = (value, value);
            (self.first, self.last) = (value, value);
            (self.first_ms, self.last_ms) = (time_ms, time_ms);
        } else {
            if value < self.min {
                self.min = value;
            }
            if value > self.max {
                self.max = value;
            }
            if time_ms >= self.last_ms && (time_ms > self.last_ms || value > self.last) {
                (self.last, self.last_ms) = (value, time_ms);
            }
            if time_ms <= self.first_ms && (time_ms < self.first_ms || value < self.first) {
                (self.first, self.first_ms) = (value, time_ms);
            }
        }
        self.count = self.count.saturating_add(1);
        self.add_sum(value, 0.0);
        if let Some(extra) = &mut self.extra {
            if let Some(deviation) = &mut extra.deviation {
                *deviation = deviation.add(value, self.count);
            }
            if let Some(sketch) = &mut extra.sketch {
                sketch.add(value);
            }
        }
    }

    #[inline]
    fn add_sum(&mut self, sum: f64, lost: f64) {
        let (sum, error) = two_sum(self.sum, sum);
        let lost = (self.lost + lost) + error;
        // Not finite is one state, whatever the signs and the machine's way with NaN.
        (self.sum, self.lost) = if lost.is_finite() && sum.is_finite() { (sum, lost) } else { (f64::INFINITY, 0.0) };
    }

    /// Takes everything that the other one has taken. Commutative to the bit;
    /// associative exactly in count, min, max, first, last and the sketch, and
    /// within rounding in sum and deviation.
    ///
    /// What only one of two non-empty accumulators keeps is lost: a deviation or
    /// percentile of a part of the values would be wrong.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            let needs = self.needs();
            self.clone_from(other);
            self.keep(needs);
            return;
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.first_ms < self.first_ms || (other.first_ms == self.first_ms && other.first < self.first) {
            (self.first, self.first_ms) = (other.first, other.first_ms);
        }
        if other.last_ms > self.last_ms || (other.last_ms == self.last_ms && other.last > self.last) {
            (self.last, self.last_ms) = (other.last, other.last_ms);
        }
        self.add_sum(other.sum, other.lost);
        self.keep(other.needs());
        if let (Some(own), Some(extra)) = (&mut self.extra, &other.extra) {
            if let (Some(one), Some(two)) = (&mut own.deviation, &extra.deviation) {
                *one = one.merge(self.count, *two, other.count);
            }
            if let (Some(one), Some(two)) = (&mut own.sketch, &extra.sketch) {
                one.merge(two);
            }
        }
        self.count = self.count.saturating_add(other.count);
    }

    /// Drops what is not needed.
    fn keep(&mut self, needs: Needs) {
        let Some(extra) = &mut self.extra else { return };
        if !needs.deviation {
            extra.deviation = None;
        }
        if !needs.sketch {
            extra.sketch = None;
        }
        if extra.deviation.is_none() && extra.sketch.is_none() {
            self.extra = None;
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The earliest and the latest time of a value, in Unix milliseconds; none without values.
    pub fn span_ms(&self) -> Option<(i64, i64)> {
        (self.count > 0).then_some((self.first_ms, self.last_ms))
    }

    /// The times as they are kept; meaningless without values.
    pub(crate) fn times_ms(&self) -> (i64, i64) {
        (self.first_ms, self.last_ms)
    }

    /// The sketch, if one is kept.
    pub fn sketch(&self) -> Option<&Sketch> {
        self.extra.as_ref()?.sketch.as_ref()
    }

    /// A figure of the values; none without values (a count is 0), when it is
    /// not kept, not defined, or not finite.
    pub fn get(&self, field: Field) -> Option<f64> {
        if field == Field::Count {
            return Some(self.count as f64);
        }
        if self.count == 0 {
            return None;
        }
        let count = self.count as f64;
        let value = match field {
            Field::Count => count,
            Field::Min => self.min,
            Field::Max => self.max,
            Field::First => self.first,
            Field::Last => self.last,
            Field::Sum => self.sum + self.lost,
            // Rounding must not put a mean outside its values.
            Field::Avg if self.sum.is_finite() => ((self.sum + self.lost) / count).clamp(self.min, self.max),
            Field::Avg => return None,
            Field::Stddev => {
                let deviation = self.extra.as_ref()?.deviation?;
                (deviation.squares.max(0.0) / count).sqrt()
            }
            Field::Rate => {
                // The later is never below the earlier: the difference fits unsigned.
                let span_ms = self.last_ms.wrapping_sub(self.first_ms) as u64;
                if span_ms == 0 {
                    return None;
                }
                (self.last - self.first) / (span_ms as f64 / 1_000.0)
            }
            Field::P50 | Field::P95 | Field::P99 => {
                let sketch = self.sketch()?;
                sketch.quantile(field.quantile()?)?.clamp(self.min, self.max)
            }
        };
        value.is_finite().then_some(value)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| size_of::<Extra>() + extra.sketch.as_ref().map_or(0, Sketch::bytes))
    }

    /// Appends the accumulator's bytes.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let needs = self.needs();
        buffer.push((u8::from(needs.deviation) * DEVIATION) | (u8::from(needs.sketch) * SKETCH));
        buffer.put_varint(self.count);
        if self.count == 0 {
            return;
        }
        buffer.put_varint_signed(self.first_ms);
        buffer.put_varint(self.last_ms.wrapping_sub(self.first_ms) as u64);
        for number in [self.sum, self.lost, self.min, self.max, self.first, self.last] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        let Some(extra) = &self.extra else { return };
        if let Some(deviation) = extra.deviation {
            buffer.extend_from_slice(&deviation.mean.to_le_bytes());
            buffer.extend_from_slice(&deviation.squares.to_le_bytes());
        }
        if let Some(sketch) = &extra.sketch {
            sketch.write(buffer);
        }
    }

    /// Reads what [`Accumulator::write`] wrote.
    ///
    /// # Errors
    /// Bytes that end early or hold figures that no values have.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = reader.u8()?;
        if flags & !(DEVIATION | SKETCH) != 0 {
            return Err(reader.invalid("kind of an accumulator"));
        }
        let needs = Needs { deviation: flags & DEVIATION != 0, sketch: flags & SKETCH != 0 };
        let mut read = Self::new(needs);
        read.count = reader.varint()?;
        if read.count == 0 {
            return Ok(read);
        }
        read.first_ms = reader.varint_signed()?;
        let span_ms = reader.varint()?;
        read.last_ms = read.first_ms.checked_add_unsigned(span_ms).ok_or_else(|| reader.invalid("time"))?;
        read.sum = reader.f64()?;
        read.lost = reader.f64()?;
        read.min = reader.f64()?;
        read.max = reader.f64()?;
        read.first = reader.f64()?;
        read.last = reader.f64()?;
        let is_sum = (read.sum.is_finite() && read.lost.is_finite()) || (read.sum, read.lost) == (f64::INFINITY, 0.0);
        let range = read.min..=read.max;
        let is_range = read.min.is_finite() && read.max.is_finite() && range.contains(&read.first);
        if !is_sum || !is_range || !range.contains(&read.last) {
            return Err(reader.invalid("figures of a window"));
        }
        if let Some(extra) = &mut read.extra {
            if let Some(deviation) = &mut extra.deviation {
                *deviation = Deviation { mean: reader.f64()?, squares: reader.f64()? };
                if deviation.checked() != *deviation {
                    return Err(reader.invalid("deviation"));
                }
            }
            if let Some(sketch) = &mut extra.sketch {
                *sketch = Sketch::read(reader)?;
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
#[path = "accumulator_tests.rs"]
mod tests;
