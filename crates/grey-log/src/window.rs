//! A sliding window over a file: sequential parsing without holding the file.

use std::io;

use grey_disk::File;

use crate::format::{RECORD_HEADER_BYTES, RecordHeader};

/// Read at a time while going through a segment: enough for a disk's streaming
/// speed, little enough for a small gateway.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a system reads from a disk at least, and so loses at least.
const PAGE_BYTES: u64 = 4_096;

/// What stands at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// An intact record.
    Record(RecordHeader),
    /// Bytes that are no record.
    Bad,
    /// The end of the file.
    End,
}

/// A window over the first `len` bytes of a file.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    len: u64,
    record_bytes_max: usize,
    chunk_bytes: usize,
    start: u64,
    bytes: Vec<u8>,
    salvage: Option<Salvage>,
}

/// What reading around unreadable places came to.
#[derive(Debug, Default)]
struct Salvage {
    has_read: bool,
    error: Option<io::Error>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn File, len: u64, record_bytes_max: usize) -> Self {
        Self { file, len, record_bytes_max, chunk_bytes: CHUNK_BYTES, start: 0, bytes: Vec::new(), salvage: None }
    }

    /// Takes what cannot be read for zeros, page by page.
    pub(crate) fn salvaging(mut self) -> Self {
        self.salvage = Some(Salvage::default());
        self
    }

    /// Whether something could not be read.
    ///
    /// # Errors
    /// When nothing could be: then it is the disk that is gone, and not a part of the file.
    pub(crate) fn had_unreadable(self) -> io::Result<bool> {
        match self.salvage {
            Some(Salvage { has_read: false, error: Some(error) }) => Err(error),
            salvage => Ok(salvage.is_some_and(|salvage| salvage.error.is_some())),
        }
    }

    /// Reads less at a time, for a few records near each other.
    pub(crate) fn with_chunk(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// The `count` bytes at `offset`; `None` when the file ends before.
    pub(crate) fn slice(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if offset > self.len || self.len - offset < count as u64 {
            return Ok(None);
        }
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + count as u64 > end {
            let wanted = (count.max(self.chunk_bytes) as u64).min(self.len - offset) as usize;
            self.start = offset;
            self.bytes.resize(wanted, 0);
            let read = match (&mut self.salvage, self.file.read_at(&mut self.bytes, offset)) {
                (_, Ok(read)) => read,
                (None, Err(error)) => return Err(error),
                (Some(salvage), Err(_)) => salvage.read(self.file, &mut self.bytes, offset),
            };
            self.bytes.truncate(read);
            if read < count {
                return Ok(None);
            }
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + count))
    }

    /// The header at `offset` if its length is possible there; the payload is not
    /// looked at. `Ok(Err(_))` is [`Parsed::Bad`] or [`Parsed::End`].
    pub(crate) fn header(&mut self, offset: u64) -> io::Result<Result<RecordHeader, Parsed>> {
        if offset >= self.len {
            return Ok(Err(Parsed::End));
        }
        let limit = self.record_bytes_max;
        let rest = self.len - offset;
        let Some(bytes) = self.slice(offset, RECORD_HEADER_BYTES)?.and_then(|slice| slice.try_into().ok()) else {
            return Ok(Err(Parsed::Bad));
        };
        let header = RecordHeader::decode(bytes);
        Ok(if header.len <= limit && header.total() <= rest { Ok(header) } else { Err(Parsed::Bad) })
    }

    /// The record at `offset`, checked.
    pub(crate) fn record(&mut self, offset: u64) -> io::Result<Parsed> {
        let header = match self.header(offset)? {
            Ok(header) => header,
            Err(parsed) => return Ok(parsed),
        };
        let is_intact = self.slice(offset, header.total() as usize)?.is_some_and(|record| header.matches(record));
        Ok(if is_intact { Parsed::Record(header) } else { Parsed::Bad })
    }
}

impl Salvage {
    fn read(&mut self, file: &dyn File, buf: &mut [u8], offset: u64) -> usize {
        let len = buf.len();
        let mut at = 0;
        while at < len {
            let from = offset + at as u64;
            let page = (PAGE_BYTES - from % PAGE_BYTES).min((len - at) as u64) as usize;
            match file.read_at(&mut buf[at..at + page], from) {
                Ok(0) => return at,
                Ok(read) => {
                    self.has_read = true;
                    at += read;
                }
                Err(error) => {
                    self.error = Some(error);
                    buf[at..at + page].fill(0);
                    at += page;
                }
            }
        }
        at
    }
}

/// Reads what can be read of a stretch, and zeros for the pages that cannot.
///
/// # Errors
/// When no page of it can be read.
pub(crate) fn read_around(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buf, offset).or_else(|error| {
        let mut salvage = Salvage::default();
        let read = salvage.read(file, buf, offset);
        if salvage.has_read { Ok(read) } else { Err(error) }
    })
}
