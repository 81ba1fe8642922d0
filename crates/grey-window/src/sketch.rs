//! A quantile sketch with a bounded relative error, so that percentiles of
//! devices can be rolled up to those of a site and of a region.
//!
//! It is DDSketch (Masson, Rim, Lee: DDSketch, a fast and fully-mergeable
//! quantile sketch with relative-error guarantees, VLDB 2019): values are
//! counted in bins whose bounds grow geometrically. In place of a logarithm,
//! which libraries round differently, an octave is divided by the paper's
//! cubic interpolation, scaled so that its coefficients are whole numbers:
//! 35 bins an octave by `((6 s - 21) s + 50) s` of the mantissa `1 + s`. No bin
//! is wider than a factor of e^0.02, hence the error is at most tanh(0.01),
//! just below 1 %, and every machine puts a value into the same bin.
//!
//! One ordered list holds the bins of both signs and of zero. When there are
//! too many, the lowest are counted together: what is left depends on which
//! values came, not on their order or on how parts were merged.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grey_model::{Reader, WireError, Writer};

use crate::error::WindowError;

/// Bins that a sketch keeps apart: 8 KiB, and 29 octaves without a hole. A
/// steady sensor needs some dozen.
pub const BINS_MAX: usize = 1_024;
/// How far a quantile may be from the value of that rank, as a part of it.
pub const RELATIVE_ERROR: f64 = 0.01;

/// Bins an octave is divided into.
const BINS_PER_OCTAVE: i32 = 35;
/// The exponent of the least magnitude that is told from zero.
const EXPONENT_MIN: i32 = -1_022;
const EXPONENT_MAX: i32 = 1_023;
/// The bin of the greatest finite value.
const KEY_MAX: i32 = (EXPONENT_MAX - EXPONENT_MIN + 1) * BINS_PER_OCTAVE;
const MANTISSA_BITS: u32 = 52;
const MANTISSA_MASK: u64 = (1 << MANTISSA_BITS) - 1;
const ONE_BITS: u64 = 1_023 << MANTISSA_BITS;
const VERSION: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bin {
    /// Below zero for negative values, 0 for zero, in the order of the values.
    key: i32,
    /// Never zero; stays at the greatest number.
    count: u32,
}

/// Counts of values in bins of geometrically growing width.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Ascending by key, at most [`BINS_MAX`].
    bins: Vec<Bin>,
}

impl Sketch {
    /// Counts a value. One that is not finite is not counted.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.add_key(key_of(value), 1);
        }
    }

    fn add_key(&mut self, key: i32, count: u32) {
        match self.find(key) {
            Ok(at) => self.bins[at].count = self.bins[at].count.saturating_add(count),
            Err(0) if self.bins.len() >= BINS_MAX => {
                self.bins[0].count = self.bins[0].count.saturating_add(count);
            }
            Err(at) => {
                self.bins.insert(at, Bin { key, count });
                self.collapse();
            }
        }
    }

    /// Where a bin is, or where it would be.
    fn find(&self, key: i32) -> Result<usize, usize> {
        // Most sketches have hardly a hole: a bin is about as far from the first as its key.
        let Some(first) = self.bins.first() else { return Err(0) };
        if key < first.key {
            return Err(0);
        }
        // The bins behind this one have greater keys.
        let guess = ((key - first.key) as usize).min(self.bins.len() - 1);
        if self.bins[guess].key == key {
            return Ok(guess);
        }
        self.bins[..=guess].binary_search_by_key(&key, |bin| bin.key)
    }

    /// Counts the lowest bins together until there are few enough.
    fn collapse(&mut self) {
        let Some(excess) = self.bins.len().checked_sub(BINS_MAX).filter(|excess| *excess > 0) else { return };
        let count = self.bins[..=excess].iter().fold(0_u32, |sum, bin| sum.saturating_add(bin.count));
        self.bins[excess].count = count;
        self.bins.drain(..excess);
    }

    /// Counts everything that the other one has counted. Commutative and associative.
    pub fn merge(&mut self, other: &Self) {
        if self.bins.is_empty() {
            self.bins.clone_from(&other.bins);
            return;
        }
        // Panes of one sensor mostly have the same bins: count into them, and make a
        // new list only from the first bin that is missing.
        let (mut at, mut rest) = (0, other.bins.as_slice());
        while let Some((bin, behind)) = rest.split_first() {
            while self.bins.get(at).is_some_and(|own| own.key < bin.key) {
                at += 1;
            }
            match self.bins.get_mut(at) {
                Some(own) if own.key == bin.key => own.count = own.count.saturating_add(bin.count),
                _ => break,
            }
            rest = behind;
        }
        if rest.is_empty() {
            return;
        }
        let mut merged = Vec::with_capacity(self.bins.len() + rest.len());
        merged.extend_from_slice(&self.bins[..at]);
        let (mut left, mut right) = (self.bins[at..].iter().peekable(), rest.iter().peekable());
        loop {
            match (left.peek().copied(), right.peek().copied()) {
                (Some(one), Some(two)) if one.key == two.key => {
                    merged.push(Bin { key: one.key, count: one.count.saturating_add(two.count) });
                    left.next();
                    right.next();
                }
                (Some(one), two) if two.is_none_or(|two| one.key < two.key) => {
                    merged.push(*one);
                    left.next();
                }
                (_, Some(two)) => {
                    merged.push(*two);
                    right.next();
                }
                _ => break,
            }
        }
        self.bins = merged;
        self.collapse();
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| u64::from(bin.count)).sum()
    }

    /// How many bins are in use.
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.bins.capacity() * size_of::<Bin>()
    }

    /// The value of rank floor(q (n - 1)) of n values in ascending order, from 0,
    /// within [`RELATIVE_ERROR`] of it (magnitudes below 2.3e-308 are zero).
    ///
    /// None without values and for a `q` outside 0 to 1. When more than
    /// [`BINS_MAX`] bins were needed, a quantile among the lowest is too high.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.bins.is_empty() || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = (q * (self.count() - 1) as f64) as u64;
        let mut seen = 0_u64;
        for bin in &self.bins {
            seen += u64::from(bin.count);
            if seen > rank {
                return Some(value_of(bin.key));
            }
        }
        self.bins.last().map(|bin| value_of(bin.key))
    }

    /// Appends the sketch's bytes.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        buffer.push(VERSION);
        buffer.put_varint(self.bins.len() as u64);
        let mut before = None;
        for bin in &self.bins {
            let count = u64::from(bin.count) << 1;
            match before.map(|before| bin.key - before) {
                None => {
                    buffer.put_varint_signed(i64::from(bin.key));
                    buffer.put_varint(count);
                }
                Some(1) => buffer.put_varint(count),
                Some(distance) => {
                    buffer.put_varint(count | 1);
                    buffer.put_varint(i64::from(distance - 2).unsigned_abs());
                }
            }
            before = Some(bin.key);
        }
    }

    /// Reads what [`Sketch::write`] wrote.
    ///
    /// # Errors
    /// Bytes that end early, an unknown version, too many bins, a bin beyond the
    /// greatest value or without a count.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        if reader.u8()? != VERSION {
            return Err(reader.invalid("version of a sketch"));
        }
        let len = reader.count("bins", BINS_MAX as u64)? as usize;
        // A bin takes at least a byte: no allocation beyond the input.
        let mut bins = Vec::with_capacity(len.min(reader.remaining()));
        let mut key = 0_i64;
        for at in 0..len {
            if at == 0 {
                key = reader.varint_signed()?;
            }
            let count = reader.varint()?;
            if count & 1 == 1 {
                if at == 0 {
                    return Err(reader.invalid("first bin"));
                }
                key += reader.count("distance of bins", 2 * KEY_MAX as u64)? as i64 + 2;
            } else if at > 0 {
                key += 1;
            }
            let count = u32::try_from(count >> 1).ok().filter(|count| *count > 0);
            match (i32::try_from(key).ok().filter(|key| key.unsigned_abs() <= KEY_MAX as u32), count) {
                (Some(key), Some(count)) => bins.push(Bin { key, count }),
                _ => return Err(reader.invalid("bin")),
            }
        }
        Ok(Self { bins })
    }

    /// The bytes in URL-safe base64 without padding, for an attribute of an event.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Sketch::to_text`] gave.
    ///
    /// # Errors
    /// Text that is not base64, or bytes that [`Sketch::read`] refuses or does not use up.
    pub fn from_text(text: &str) -> Result<Self, WindowError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| WindowError::NotBase64(error.to_string()))?;
        let mut reader = Reader::new(&bytes);
        let sketch = Self::read(&mut reader).map_err(WindowError::Sketch)?;
        if reader.is_empty() { Ok(sketch) } else { Err(WindowError::Sketch(reader.invalid("end of a sketch"))) }
    }
}

/// In which part of its octave a mantissa is, from its bits.
fn part_of(mantissa: u64) -> i32 {
    let s = f64::from_bits(mantissa | ONE_BITS) - 1.0;
    ((((6.0 * s - 21.0) * s + 50.0) * s) as i32).min(BINS_PER_OCTAVE - 1)
}

/// The bin of a finite value.
fn key_of(value: f64) -> i32 {
    let bits = value.abs().to_bits();
    let exponent = (bits >> MANTISSA_BITS) as i32;
    if exponent == 0 {
        return 0;
    }
    let key = (exponent - 1) * BINS_PER_OCTAVE + part_of(bits & MANTISSA_MASK) + 1;
    if value < 0.0 { -key } else { key }
}

/// The least magnitude of a bin above zero: the inverse of [`key_of`], found by
/// bisection of it, so that they agree to the bit.
fn lower_of(key: i32) -> f64 {
    if key > KEY_MAX {
        return f64::MAX;
    }
    let (octave, part) = ((key - 1) / BINS_PER_OCTAVE, (key - 1) % BINS_PER_OCTAVE);
    let (mut low, mut high) = (0_u64, MANTISSA_MASK);
    while low < high {
        let middle = low + (high - low) / 2;
        if part_of(middle) >= part {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    f64::from_bits(((octave as u64 + 1) << MANTISSA_BITS) | low)
}

/// The value that is as far, relatively, from the lower bound of a bin as from the upper.
fn value_of(key: i32) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let (lower, upper) = (lower_of(key.abs()), lower_of(key.abs() + 1));
    let value = lower * (2.0 / (1.0 + lower / upper));
    if key < 0 { -value } else { value }
}

#[cfg(test)]
#[path = "sketch_tests.rs"]
mod tests;
