//! Bounded little-endian reading and writing of Grey's own formats, so that
//! every decoder checks lengths in one place and none can panic.

use bytes::{BufMut, BytesMut};

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends before the value does.
    #[error("input ends early: {needed} more bytes needed at offset {offset}")]
    Truncated {
        /// Where the value starts.
        offset: usize,
        /// How many bytes are missing.
        needed: usize,
    },
    /// A length or count is over its limit.
    #[error("{what} of {found} is over the limit of {limit} at offset {offset}")]
    OverLimit {
        /// What the number counts.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The limit.
        limit: u64,
        /// Where it stands.
        offset: usize,
    },
    /// A value is outside its domain.
    #[error("invalid {what} at offset {offset}")]
    Invalid {
        /// What the value should have been.
        what: &'static str,
        /// Where it stands.
        offset: usize,
    },
}

/// Reads values from a slice, front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Where the next value starts.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// True when all is read.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// An [`WireError::Invalid`] at the current offset.
    pub fn invalid(&self, what: &'static str) -> WireError {
        WireError::Invalid { what, offset: self.offset }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        if self.remaining() < len {
            return Err(WireError::Truncated { offset: self.offset, needed: len - self.remaining() });
        }
        let slice = &self.bytes[self.offset..self.offset + len];
        self.offset += len;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let slice = self.bytes(N)?;
        Ok(slice.try_into().unwrap_or([0; N]))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, little-endian, two's complement.
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Eight bytes, little-endian IEEE 754.
    pub fn f64(&mut self) -> Result<f64, WireError> {
        self.array().map(f64::from_le_bytes)
    }

    /// A LEB128 variable-length number of at most ten bytes.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.invalid("variable-length number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.invalid("variable-length number"))
    }

    /// A zigzag-coded signed variable-length number.
    pub fn varint_signed(&mut self) -> Result<i64, WireError> {
        let raw = self.varint()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    /// A variable-length count that must not exceed `limit`.
    pub fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, WireError> {
        let offset = self.offset;
        let found = self.varint()?;
        if found > limit {
            return Err(WireError::OverLimit { what, found, limit, offset });
        }
        Ok(found)
    }

    /// A length-prefixed byte string of at most `limit` bytes.
    pub fn blob(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let len = self.count(what, limit as u64)?;
        self.bytes(len as usize)
    }

    /// A length-prefixed UTF-8 string of at most `limit` bytes.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, WireError> {
        let offset = self.offset;
        let bytes = self.blob(what, limit)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::Invalid { what, offset })
    }
}

/// The writing half of [`Reader`], over any growing buffer.
pub trait Writer: BufMut {
    /// Writes a LEB128 variable-length number.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// Writes a zigzag-coded signed variable-length number.
    fn put_varint_signed(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Writes a length-prefixed byte string.
    fn put_blob(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put_slice(bytes);
    }
}

impl Writer for BytesMut {}
impl Writer for Vec<u8> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(value: u64, signed: i64, text in ".{0,40}") {
            let mut buffer = Vec::new();
            buffer.put_varint(value);
            buffer.put_varint_signed(signed);
            buffer.put_blob(text.as_bytes());
            let mut reader = Reader::new(&buffer);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.varint_signed(), Ok(signed));
            prop_assert_eq!(reader.text("text", 200), Ok(text.as_str()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.varint().is_ok() {}
            let mut reader = Reader::new(&bytes);
            while reader.text("text", 16).is_ok() {}
        }
    }
}
