//! The primitives of the MQTT wire: big-endian numbers, variable byte integers
//! and length-prefixed text, read totally and written plainly.

use super::fault::Fault;

/// The largest variable byte integer, and so the largest remaining length.
pub const VARINT_MAX: u32 = 268_435_455;

/// Reads the fields of one packet's body, front to back.
#[derive(Debug, Clone)]
pub(crate) struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        let (&first, rest) = self.rest.split_first().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        let (head, rest) = self.rest.split_first_chunk::<2>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*head))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    /// A variable byte integer of at most four bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::RemainingLength)
    }

    /// A packet id, which is never 0.
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<u16, Fault> {
        match self.u16()? {
            0 => Err(Fault::PacketId),
            id => Ok(id),
        }
    }

    /// A length-prefixed byte string.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A length-prefixed UTF-8 string without U+0000.
    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        text(self.binary()?)
    }

    /// Ends the packet: nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(Fault::Trailing) }
    }
}

/// Checks bytes as an MQTT UTF-8 string. `from_utf8` already refuses surrogates
/// and overlong forms; U+0000 is the only other code point that must be refused.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    if memchr::memchr(0, bytes).is_some() {
        return Err(Fault::Text);
    }
    std::str::from_utf8(bytes).map_err(|_| Fault::Text)
}

/// Writes a variable byte integer. Values over [`VARINT_MAX`] cannot be written and are cut.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u32) {
    debug_assert!(value <= VARINT_MAX, "no packet is that long");
    let mut value = value & VARINT_MAX;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
pub(crate) fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Writes a length-prefixed byte string, cut at 65,535 bytes.
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&bytes[..len]);
}
