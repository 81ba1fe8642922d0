//! The general-purpose compressors under the columns.

use std::borrow::Cow;
use std::io::{self, Write};

use grey_model::Compression;
use lz4::block::CompressionMode;

use crate::columns::Payload;
use crate::error::CodecError;
use crate::paged::PAGE_EVENTS;

/// How much time a block's compression may take. Readers need not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Zstandard level 1: for sites short of processor time.
    Fast,
    /// Zstandard level 3: what measured best for columns (see decision record 0003).
    #[default]
    Normal,
    /// Zstandard level 12, LZ4's search for the best match, pages of 16,384 events
    /// instead of 4,096: for what waits anyway.
    Hard,
}

impl Effort {
    fn zstd_level(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Normal => 3,
            Self::Hard => 12,
        }
    }

    /// Events in a page. Blocks of no more are not paged.
    pub(crate) fn page_events(self) -> usize {
        match self {
            Self::Fast | Self::Normal => PAGE_EVENTS,
            Self::Hard => 4 * PAGE_EVENTS,
        }
    }

    fn lz4_mode(self) -> Option<CompressionMode> {
        match self {
            Self::Fast | Self::Normal => None,
            Self::Hard => Some(CompressionMode::HIGHCOMPRESSION(9)),
        }
    }
}

/// Columns shorter than this share a Zstandard block with their neighbours: a block has its own table of codes.
const ZSTD_COLUMN_BYTES_MIN: usize = 1024;

/// Compresses a payload as asked, or leaves it when that does not make it smaller.
pub(crate) fn compress(method: Compression, effort: Effort, payload: &Payload) -> (Compression, Cow<'_, [u8]>) {
    let smaller = match method {
        Compression::None => None,
        Compression::Lz4 => lz4::block::compress(&payload.bytes, effort.lz4_mode(), false).ok(),
        Compression::Zstd => zstd_columns(payload, effort).ok(),
    };
    match smaller.filter(|bytes| bytes.len() < payload.bytes.len()) {
        Some(bytes) => (method, Cow::Owned(bytes)),
        None => (Compression::None, Cow::Borrowed(&payload.bytes)),
    }
}

/// One Zstandard frame with a block boundary between columns, so that each is coded by its own statistics.
fn zstd_columns(payload: &Payload, effort: Effort) -> io::Result<Vec<u8>> {
    let mut encoder =
        zstd::stream::write::Encoder::new(Vec::with_capacity(payload.bytes.len() / 2), effort.zstd_level())?;
    encoder.set_pledged_src_size(Some(payload.bytes.len() as u64))?;
    encoder.include_contentsize(false)?;
    let mut start = 0;
    for &cut in &payload.cuts {
        if cut - start >= ZSTD_COLUMN_BYTES_MIN {
            encoder.write_all(&payload.bytes[start..cut])?;
            encoder.flush()?;
            start = cut;
        }
    }
    encoder.write_all(&payload.bytes[start..])?;
    encoder.finish()
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
