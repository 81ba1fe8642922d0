//! The general-purpose compressors under the columns.

use std::borrow::Cow;

use grey_model::Compression;

use crate::error::CodecError;

/// Zstandard's default: the level that measured best for columns (see decision record 0003).
const ZSTD_LEVEL: i32 = 3;

/// Compresses `raw` as asked, or leaves it when that does not make it smaller.
pub(crate) fn compress(method: Compression, raw: &[u8]) -> (Compression, Cow<'_, [u8]>) {
    let smaller = match method {
        Compression::None => None,
        Compression::Lz4 => lz4::block::compress(raw, None, false).ok(),
        Compression::Zstd => zstd::bulk::compress(raw, ZSTD_LEVEL).ok(),
    };
    match smaller.filter(|bytes| bytes.len() < raw.len()) {
        Some(bytes) => (method, Cow::Owned(bytes)),
        None => (Compression::None, Cow::Borrowed(raw)),
    }
}

/// Undoes [`compress`]; `raw_len` must have been checked against its limit.
pub(crate) fn decompress(method: Compression, stored: &[u8], raw_len: u32) -> Result<Cow<'_, [u8]>, CodecError> {
    let expected = raw_len as usize;
    let (name, raw) = match method {
        Compression::None => ("plain", Some(Cow::Borrowed(stored))),
        // LZ4 cannot shrink below one byte in 255, so a short input never justifies a large buffer.
        Compression::Lz4 if expected > stored.len().saturating_mul(255) => ("lz4", None),
        Compression::Lz4 => ("lz4", lz4::block::decompress(stored, Some(raw_len as i32)).ok().map(Cow::Owned)),
        Compression::Zstd => ("zstd", zstd::bulk::decompress(stored, expected).ok().map(Cow::Owned)),
    };
    raw.filter(|raw| raw.len() == expected).ok_or(CodecError::Compression {
        method: name,
        stored: stored.len(),
        expected: raw_len,
    })
}
