//! Columns of numbers.
//!
//! A column is the values of one series in order. Each column is transformed
//! to whole numbers in the way that leaves the fewest significant bits: small
//! ones go to the `narrow` stream as variable-length numbers, large ones to
//! the `wide` stream, whose bytes are stored plane by plane so that the
//! compressor meets like with like.

use grey_model::limits::BLOCK_BYTES_MAX;
use grey_model::{Reader, WireError, Writer};

use crate::error::CodecError;

/// Numbers in one block: a builder counts eight bytes and more for each, so that it never makes more.
pub(crate) const NUMBERS_MAX: usize = BLOCK_BYTES_MAX / 8;

/// Decimal places tried: beyond 15 a double's digits are not its own.
const PLACES_MAX: u8 = 15;
const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Whole numbers below this are exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Mean significant bits from which a column is wide: a variable-length number
/// of three bytes and more spoils the statistics of the small ones beside it.
const WIDE_BITS: u64 = 14;

/// Column tag: decimals scaled to whole numbers, as differences; the low four bits are the places.
const DECIMAL: u8 = 0x00;
/// Added to a tag: the numbers are in the wide stream.
const WIDE: u8 = 0x10;
/// Column tag: the bits of the doubles (always wide).
const BITS: u8 = 0x20;
/// Column tag: differences of the bits of the doubles (always wide).
const BIT_DIFFERENCES: u8 = 0x21;
/// Column tag: differences of whole numbers.
const INTEGER: u8 = 0x40;

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Significant bits of a number.
pub(crate) fn bits(value: u64) -> u64 {
    u64::from(64 - value.leading_zeros())
}

/// Collects transformed columns.
#[derive(Debug, Default)]
pub(crate) struct NumberWriter {
    pub(crate) narrow: Vec<u8>,
    pub(crate) wide: Vec<u64>,
    scratch: Vec<i64>,
}

impl NumberWriter {
    /// Writes a column of doubles, given as their bits.
    pub(crate) fn floats(&mut self, column: &[u64]) {
        let Some(&first) = column.first() else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        let decimal = decimal(column, &mut scratch).map(|places| (places, difference_bits(&scratch)));
        let (mut varying, mut any, mut last, mut by_difference) = (0, 0, first, 0);
        for &word in column {
            varying |= word ^ first;
            any |= word;
            by_difference += bits(zigzag(word.wrapping_sub(last) as i64));
            last = word;
        }
        // Both forms store the first double whole. Low bits that are zero in
        // every double are zero in every difference, and then cost nothing.
        let followers = column.len() as u64 - 1;
        let trailing = u64::from(any.trailing_zeros().min(63));
        let plain = 64 - trailing + bits(varying).saturating_sub(trailing) * followers;
        let by_difference = 64 - trailing + by_difference.saturating_sub(trailing * followers);
        match decimal {
            // Decimals read better without a general compressor behind them: they win by a bit each.
            Some((places, cost)) if cost <= plain.min(by_difference) + followers => {
                self.differences(DECIMAL | places, &scratch, cost);
            }
            _ if by_difference < plain => {
                self.narrow.push(BIT_DIFFERENCES);
                let mut last = 0_u64;
                self.wide.extend(column.iter().map(|&word| {
                    let difference = zigzag(word.wrapping_sub(last) as i64);
                    last = word;
                    difference
                }));
            }
            _ => {
                self.narrow.push(BITS);
                self.wide.extend_from_slice(column);
            }
        }
        self.scratch = scratch;
    }

    /// Writes a column of whole numbers.
    pub(crate) fn integers(&mut self, column: &[i64]) {
        if !column.is_empty() {
            self.differences(INTEGER, column, difference_bits(column));
        }
    }

    fn differences(&mut self, tag: u8, column: &[i64], cost: u64) {
        let wide = cost > WIDE_BITS * column.len() as u64;
        self.narrow.push(if wide { tag | WIDE } else { tag });
        let mut last = 0_i64;
        for &value in column {
            let difference = zigzag(value.wrapping_sub(last));
            last = value;
            if wide {
                self.wide.push(difference);
            } else {
                self.narrow.put_varint(difference);
            }
        }
    }

    /// Appends the wide stream: its length, a bit per byte plane that is not all zero, and those planes, highest first.
    /// Calls `cut` after each plane.
    pub(crate) fn write_wide(&self, out: &mut Vec<u8>, mut cut: impl FnMut(usize)) {
        out.put_varint(self.wide.len() as u64);
        let any = self.wide.iter().fold(0, |any, word| any | word);
        let planes = (0..8_u32).filter(|plane| (any >> (plane * 8)) as u8 != 0);
        out.push(planes.clone().fold(0, |mask, plane| mask | 1 << plane));
        for plane in planes.rev() {
            out.extend(self.wide.iter().map(|word| (word >> (plane * 8)) as u8));
            cut(out.len());
        }
    }
}

/// Significant bits of the first number and of the differences between neighbours.
fn difference_bits(column: &[i64]) -> u64 {
    let mut last = 0_i64;
    let mut sum = 0;
    for &value in column {
        sum += bits(zigzag(value.wrapping_sub(last)));
        last = value;
    }
    sum
}

/// The fewest decimal places that give every double back bit by bit, and the
/// doubles scaled by them.
fn decimal(column: &[u64], scaled: &mut Vec<i64>) -> Option<u8> {
    scaled.clear();
    let mut places = 0_u8;
    for &word in column {
        let value = f64::from_bits(word);
        let whole = loop {
            let power = POWERS[usize::from(places)];
            let product = value * power;
            if product.is_nan() || product.abs() >= EXACT_MAX {
                return None;
            }
            let whole = (product + 0.5_f64.copysign(product)) as i64;
            if (whole as f64 / power).to_bits() == word {
                break whole;
            }
            if places == PLACES_MAX {
                return None;
            }
            // What is exact with fewer places stays exact with more: the quotient is the same.
            places += 1;
            for earlier in scaled.iter_mut() {
                *earlier *= 10;
                if earlier.unsigned_abs() >= EXACT_MAX as u64 {
                    return None;
                }
            }
        };
        scaled.push(whole);
    }
    Some(places)
}

/// Reads back what a [`NumberWriter`] wrote, column by column in the same order.
#[derive(Debug)]
pub(crate) struct NumberReader<'a> {
    narrow: Reader<'a>,
    wide: std::vec::IntoIter<u64>,
    /// Numbers that may still come.
    budget: usize,
}

impl<'a> NumberReader<'a> {
    /// Starts at the first column of both streams.
    pub(crate) fn new(narrow: Reader<'a>, wide: Vec<u64>, budget: usize) -> Self {
        Self { narrow, wide: wide.into_iter(), budget }
    }

    /// Reads the wide stream of at most `budget` numbers.
    pub(crate) fn read_wide(reader: &mut Reader<'_>, budget: usize) -> Result<Vec<u64>, WireError> {
        let len = reader.count("wide numbers", budget as u64)? as usize;
        let mask = reader.u8()?;
        let mut wide = vec![0_u64; len];
        for plane in (0..8_u32).rev().filter(|plane| mask & 1 << plane != 0) {
            for (word, &byte) in wide.iter_mut().zip(reader.bytes(len)?) {
                *word |= u64::from(byte) << (plane * 8);
            }
        }
        Ok(wide)
    }

    /// Appends a column of `len` doubles.
    pub(crate) fn floats(&mut self, len: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
        if len == 0 {
            return Ok(());
        }
        self.spend(len)?;
        let tag = self.narrow.u8()?;
        match tag {
            BITS => out.extend(self.wide(len)?.map(f64::from_bits)),
            BIT_DIFFERENCES => {
                let mut last = 0_u64;
                out.extend(self.wide(len)?.map(|word| {
                    last = last.wrapping_add(unzigzag(word) as u64);
                    f64::from_bits(last)
                }));
            }
            tag if tag & !WIDE <= PLACES_MAX => {
                let power = POWERS[usize::from(tag & PLACES_MAX)];
                self.differences(tag, len, |whole| out.push(whole as f64 / power))?;
            }
            _ => return Err(self.narrow.invalid("number column tag").into()),
        }
        Ok(())
    }

    /// Appends a column of `len` whole numbers.
    pub(crate) fn integers(&mut self, len: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
        if len == 0 {
            return Ok(());
        }
        self.spend(len)?;
        let tag = self.narrow.u8()?;
        if tag & !WIDE != INTEGER {
            return Err(self.narrow.invalid("whole number column tag").into());
        }
        self.differences(tag, len, |whole| out.push(whole))
    }

    /// The next variable-length number of the narrow stream.
    pub(crate) fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, WireError> {
        self.narrow.count(what, limit as u64).map(|count| count as usize)
    }

    /// The next byte of the narrow stream.
    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        self.narrow.u8()
    }

    /// Checks that both streams are used up, and returns what is left of the budget.
    pub(crate) fn end(&self) -> Result<usize, CodecError> {
        if self.narrow.is_empty() && self.wide.len() == 0 {
            Ok(self.budget)
        } else {
            Err(self.narrow.invalid("end of the numbers").into())
        }
    }

    fn spend(&mut self, len: usize) -> Result<(), CodecError> {
        let left = self.budget.checked_sub(len);
        self.budget = left.ok_or(CodecError::Contradiction { what: "more numbers than a block may hold" })?;
        Ok(())
    }

    fn differences(&mut self, tag: u8, len: usize, mut put: impl FnMut(i64)) -> Result<(), CodecError> {
        let mut last = 0_i64;
        if tag & WIDE != 0 {
            for word in self.wide(len)? {
                last = last.wrapping_add(unzigzag(word));
                put(last);
            }
        } else {
            for _ in 0..len {
                last = last.wrapping_add(self.narrow.varint_signed()?);
                put(last);
            }
        }
        Ok(())
    }

    fn wide(&mut self, len: usize) -> Result<impl Iterator<Item = u64> + '_, CodecError> {
        if self.wide.len() < len {
            return Err(CodecError::Contradiction { what: "fewer wide numbers than its columns take" });
        }
        Ok(self.wide.by_ref().take(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(columns: &[Vec<u64>]) -> (NumberWriter, Vec<Vec<u64>>) {
        let mut writer = NumberWriter::default();
        columns.iter().for_each(|column| writer.floats(column));
        let mut bytes = Vec::new();
        writer.write_wide(&mut bytes, |_| {});
        let mut reader = Reader::new(&bytes);
        let wide = NumberReader::read_wide(&mut reader, NUMBERS_MAX).unwrap();
        assert!(reader.is_empty());
        let mut reader = NumberReader::new(Reader::new(&writer.narrow), wide, NUMBERS_MAX);
        let found = columns.iter().map(|column| {
            let mut out = Vec::new();
            reader.floats(column.len(), &mut out).unwrap();
            out.into_iter().map(f64::to_bits).collect()
        });
        let found = found.collect();
        reader.end().unwrap();
        (writer, found)
    }

    fn words(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn decimals_take_a_byte_each() {
        let column = words(&[21.5, 21.53, 21.49, 21.6, 21.57]);
        let (writer, found) = round_trip(std::slice::from_ref(&column));
        assert_eq!(found, [column]);
        assert_eq!(writer.narrow, [DECIMAL | 2, 0xcc, 0x21, 6, 7, 22, 5]);
        assert!(writer.wide.is_empty());
    }

    #[test]
    fn what_is_not_decimal_keeps_its_bits() {
        for column in [
            words(&[-0.0, 0.0, -0.0]),
            words(&[f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324]),
            words(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
            words(&[1.0 / 3.0, 2.0 / 3.0, 0.1 + 0.2]),
            words(&[9_007_199_254_740_991.0, 9_007_199_254_740_992.0, 9_007_199_254_740_994.0]),
            words(&[9_007_199_254_740_991.0, 0.1]),
            words(&[1e-15, 1e-16]),
            vec![],
        ] {
            assert_eq!(round_trip(std::slice::from_ref(&column)).1, [column]);
        }
    }

    #[test]
    fn large_numbers_go_to_the_planes() {
        let mut writer = NumberWriter::default();
        writer.integers(&[1 << 40, 2 << 40, 1 << 41]);
        assert_eq!((writer.narrow.as_slice(), writer.wide.len()), (&[INTEGER | WIDE][..], 3));
        let mut writer = NumberWriter::default();
        writer.integers(&[7, 8, 6]);
        assert_eq!(writer.narrow, [INTEGER, 14, 2, 3]);
    }

    #[test]
    fn hostile_lengths_are_refused_before_they_are_allocated() {
        let mut bytes = Vec::new();
        bytes.put_varint(NUMBERS_MAX as u64 + 1);
        bytes.push(0);
        assert!(NumberReader::read_wide(&mut Reader::new(&bytes), NUMBERS_MAX).is_err());
        let mut reader = NumberReader::new(Reader::new(&[BITS]), vec![1, 2], NUMBERS_MAX);
        assert!(reader.floats(usize::MAX, &mut Vec::new()).is_err());
        let mut reader = NumberReader::new(Reader::new(&[INTEGER, 1]), Vec::new(), NUMBERS_MAX);
        assert!(reader.integers(usize::MAX, &mut Vec::new()).is_err());
    }

    fn column() -> impl Strategy<Value = Vec<u64>> {
        let decimal =
            (any::<i32>(), 0..6_usize).prop_map(|(whole, places)| (f64::from(whole) / POWERS[places]).to_bits());
        prop_oneof![
            prop::collection::vec(decimal, 0..20),
            prop::collection::vec(any::<u64>(), 0..20),
            prop::collection::vec((20.0..30.0_f64).prop_map(f64::to_bits), 0..20),
            prop::collection::vec(any::<f32>().prop_map(|value| f64::from(value).to_bits()), 0..20),
        ]
    }

    proptest! {
        #[test]
        fn any_columns_round_trip(columns in prop::collection::vec(column(), 0..8)) {
            prop_assert_eq!(round_trip(&columns).1, columns);
        }

        #[test]
        fn any_integers_round_trip(column: Vec<i64>) {
            let mut writer = NumberWriter::default();
            writer.integers(&column);
            let mut reader = NumberReader::new(Reader::new(&writer.narrow), writer.wide, NUMBERS_MAX);
            let mut found = Vec::new();
            reader.integers(column.len(), &mut found).unwrap();
            prop_assert_eq!(found, column);
        }
    }
}
