//! Reading committed records, from any thread.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use grey_seal::LastKey;

use crate::format::{HEADER_BYTES, RECORD_HEADER_BYTES, RecordHeader};
use crate::shared::{SegmentSeal, Shared, SparseIndex, View, lock};
use crate::survey::{MARK_STRIDE_BYTES, Mark, push_mark};
use crate::window::{Parsed, Window, read_around};
use crate::{Damage, LogError};

/// Read ahead by a scan that goes on where the last one ended: small enough to stay in
/// a core's cache, which makes it faster than more would be.
const READ_AHEAD_BYTES: usize = 256 * 1024;
/// Read by a scan that starts somewhere new, at least.
const FIRST_READ_BYTES: usize = 16 * 1024;
/// Sealed records are opened into pieces of this size.
const OPENED_BYTES: usize = 64 * 1024;
/// How often a read is tried again when the owner truncates meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// Reads the committed records of a [`crate::Log`] while its owner goes on writing.
///
/// A clone has read-ahead buffers of its own (512 KiB, or two records of the largest
/// size), so each consumer that reads from front to back should have its own clone.
#[derive(Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
    ahead: Mutex<Option<Ahead>>,
}

/// Where the last scan ended, and what it had read beyond.
#[derive(Debug)]
struct Ahead {
    version: u64,
    segment_first: u64,
    next: Mark,
    chunk: Bytes,
    chunk_offset: u64,
    /// The chunk before, whose memory is used again once its records are dropped.
    spare: Bytes,
    opened: Opened,
}

/// Where sealed records are opened, in copies, and what with.
#[derive(Debug, Default)]
struct Opened {
    key: LastKey,
    buffer: BytesMut,
}

/// What a look for a record came to.
enum Found<T> {
    Here(T),
    Lost(Range<u64>, u64),
}

impl Clone for LogReader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, ahead: Mutex::new(None) }
    }

    /// Index of the first record that is still there, or of the next one when none is.
    pub fn first_index(&self) -> u64 {
        self.shared.state().start
    }

    /// Index behind the last committed record.
    pub fn durable_end(&self) -> u64 {
        self.shared.state().durable_end
    }

    /// The damage found so far, in the order of the indexes: what opening saw, and what
    /// reading came upon since. At most 1,024 stretches are remembered.
    pub fn damaged(&self) -> Vec<Damage> {
        self.shared.damages()
    }

    /// One record; `None` below the first and at or above the durable end.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when the record is lost; reading can go on at `lost.end`.
    /// [`LogError::KeyMissing`] when it is sealed with a key that was not given.
    pub fn read(&self, index: u64) -> Result<Option<Bytes>, LogError> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(view) = self.shared.view(index)? else { return Ok(None) };
            let found = self.find(&view, index, |window, offset, header| {
                let record = window.slice(offset, header.total() as usize)?.filter(|record| header.matches(record));
                Ok(record.map(|record| (offset, header, BytesMut::from(&record[RECORD_HEADER_BYTES..]))))
            })?;
            match found {
                Found::Here((offset, header, mut payload)) => {
                    match self.shared.unseal(&view, header, offset, &mut payload, &mut LastKey::default()) {
                        Ok(plain) => return Ok(Some(payload.freeze().slice(plain))),
                        Err(error) if self.is_current(&view) => return Err(error),
                        Err(_) => {}
                    }
                }
                Found::Lost(lost, offset) if self.is_current(&view) => return Err(self.damaged_at(&view, lost, offset)),
                Found::Lost(..) => {}
            }
        }
        Ok(None)
    }

    /// The records from index `from` on, until their payloads and 16 bytes for each
    /// come to `bytes_max`; at least one if there is one, so empty means the end.
    ///
    /// Sequential scans are fast: payloads are slices of the read-ahead buffer. Copy
    /// what is kept for long, since a slice keeps 256 KiB of neighbours alive.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when the record at `from` is lost; the next scan should
    /// start at `lost.end`. Intact records before a damaged one are returned first.
    /// [`LogError::KeyMissing`] likewise when its key was not given; what follows may be
    /// sealed with it as well. [`LogError::Trimmed`] when `from` is below the first index.
    pub fn scan(&self, from: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        let mut records = Vec::new();
        let mut room = bytes_max;
        let mut ahead = lock(&self.ahead).take().filter(|ahead| ahead.next.index == from);
        let mut attempts = 0;
        let mut next = from;
        while room > 0 || records.is_empty() {
            let Some(view) = self.shared.view(next)? else {
                let first = self.first_index();
                if next < first && records.is_empty() {
                    return Err(LogError::Trimmed { index: next, first });
                }
                break;
            };
            let start = match ahead.take() {
                Some(ahead) if ahead.version == view.version && ahead.segment_first == view.segment.first => ahead,
                _ => match self.start(&view, next)? {
                    Found::Here(start) => start,
                    Found::Lost(lost, offset) => {
                        attempts += 1;
                        if !records.is_empty() {
                            break;
                        }
                        if self.is_current(&view) || attempts == ATTEMPTS_MAX {
                            return Err(self.damaged_at(&view, lost, offset));
                        }
                        continue;
                    }
                },
            };
            let (went, is_intact) = self.take(&view, start, bytes_max, &mut room, &mut records)?;
            next = went.next.index;
            if is_intact {
                ahead = Some(went);
            } else {
                // Whether it is damage, and how much, shows in a check of the segment;
                // what is intact before it is handed out first.
                attempts += 1;
                if !records.is_empty() {
                    break;
                }
                if attempts == ATTEMPTS_MAX {
                    return Err(self.damaged_at(&view, next..next + 1, went.next.offset));
                }
                self.shared.check(&view)?;
            }
        }
        *lock(&self.ahead) = ahead;
        Ok(records)
    }

    /// Where the log has to be cut so that `index` comes next. The mark's index is less
    /// when the records before `index` are lost.
    pub(crate) fn position(&self, index: u64) -> Result<Mark, LogError> {
        let Some(view) = self.shared.view(index)? else { return Ok(Mark { index, offset: HEADER_BYTES }) };
        Ok(match self.find(&view, index, |_, offset, _| Ok(Some(offset)))? {
            Found::Here(offset) => Mark { index, offset },
            Found::Lost(lost, offset) => Mark { index: lost.start, offset },
        })
    }

    /// Takes records from one segment. `false` when something is no record.
    fn take(
        &self,
        view: &View,
        mut ahead: Ahead,
        bytes_max: usize,
        room: &mut usize,
        records: &mut Vec<(u64, Bytes)>,
    ) -> Result<(Ahead, bool), LogError> {
        while ahead.next.index < view.bound && (*room > 0 || records.is_empty()) {
            let at = (ahead.next.offset - ahead.chunk_offset) as usize;
            let rest = ahead.chunk.get(at..).unwrap_or_default();
            let header = rest.first_chunk::<RECORD_HEADER_BYTES>().map(RecordHeader::decode);
            let needed = header.map_or(RECORD_HEADER_BYTES as u64, |header| header.total());
            if header
                .is_some_and(|header| header.len > view.segment.record_bytes_max || header.index != ahead.next.index)
                || ahead.next.offset + needed > view.segment.len
            {
                return Ok((ahead, false));
            }
            let Some(header) = header.filter(|_| needed <= rest.len() as u64) else {
                if !self.load(view, &mut ahead, needed as usize, bytes_max)? {
                    return Ok((ahead, false));
                }
                continue;
            };
            let record = &rest[..needed as usize];
            if !header.matches(record) {
                return Ok((ahead, false));
            }
            let payload = if header.is_sealed || matches!(view.segment.seal, SegmentSeal::Sealed(_)) {
                match self.open(view, header, ahead.next.offset, &record[RECORD_HEADER_BYTES..], &mut ahead.opened) {
                    Ok(payload) => payload,
                    Err(error) if records.is_empty() => return Err(error),
                    Err(_) => {
                        // What is before it is handed out first.
                        *room = 0;
                        return Ok((ahead, true));
                    }
                }
            } else {
                ahead.chunk.slice(at + RECORD_HEADER_BYTES..at + needed as usize)
            };
            *room = room.saturating_sub(RECORD_HEADER_BYTES + payload.len());
            records.push((header.index, payload));
            ahead.next = Mark { index: header.index + 1, offset: ahead.next.offset + needed };
        }
        Ok((ahead, true))
    }

    /// Opens a sealed payload in a copy, behind the ones before it.
    fn open(
        &self,
        view: &View,
        header: RecordHeader,
        offset: u64,
        sealed: &[u8],
        opened: &mut Opened,
    ) -> Result<Bytes, LogError> {
        let Opened { key, buffer } = opened;
        buffer.clear();
        if buffer.capacity() < sealed.len() {
            // The same memory again, once what was opened in it is dropped.
            buffer.reserve(sealed.len().max(OPENED_BYTES));
        }
        buffer.extend_from_slice(sealed);
        let plain = self.shared.unseal(view, header, offset, buffer, key)?;
        buffer.truncate(plain.end);
        let mut record = buffer.split();
        record.advance(plain.start);
        Ok(record.freeze())
    }

    /// Reads on from `ahead.next`. `false` when the file is shorter than it was.
    fn load(&self, view: &View, ahead: &mut Ahead, needed: usize, bytes_max: usize) -> Result<bool, LogError> {
        let is_first = ahead.chunk.is_empty();
        let wanted = if is_first { bytes_max.clamp(FIRST_READ_BYTES, READ_AHEAD_BYTES) } else { READ_AHEAD_BYTES };
        let rest = view.segment.len - ahead.next.offset;
        let spare = std::mem::replace(&mut ahead.spare, std::mem::take(&mut ahead.chunk));
        let mut buffer = spare.try_into_mut().unwrap_or_default();
        buffer.resize((wanted.max(needed) as u64).min(rest) as usize, 0);
        let path = self.shared.path(view.segment.first);
        let read = read_around(&*view.file, &mut buffer, ahead.next.offset).map_err(LogError::io("read", &path))?;
        buffer.truncate(read);
        ahead.chunk = buffer.freeze();
        ahead.chunk_offset = ahead.next.offset;
        Ok(read >= needed)
    }

    /// Where `index` is, to read on from there.
    fn start(&self, view: &View, index: u64) -> Result<Found<Ahead>, LogError> {
        let found = self.find(view, index, |_, offset, _| Ok(Some(offset)))?;
        Ok(match found {
            Found::Here(offset) => Found::Here(Ahead {
                version: view.version,
                segment_first: view.segment.first,
                next: Mark { index, offset },
                chunk: Bytes::new(),
                chunk_offset: offset,
                spare: Bytes::new(),
                opened: Opened::default(),
            }),
            Found::Lost(lost, offset) => Found::Lost(lost, offset),
        })
    }

    /// Looks for a record and lets `take` have it; `None` from it means that the bytes
    /// there are no record after all.
    fn find<T>(
        &self,
        view: &View,
        index: u64,
        take: impl Fn(&mut Window<'_>, u64, RecordHeader) -> std::io::Result<Option<T>>,
    ) -> Result<Found<T>, LogError> {
        let path = self.shared.path(view.segment.first);
        let mut window = Window::new(&*view.file, view.segment.len, view.segment.record_bytes_max)
            .with_chunk(MARK_STRIDE_BYTES as usize);
        let mut attempt = |sparse: &mut SparseIndex| -> std::io::Result<Option<T>> {
            let Some((offset, header)) = walk(&mut window, sparse, index, view.bound)? else { return Ok(None) };
            take(&mut window, offset, header)
        };
        {
            let sparse = self.shared.index(view.segment.first);
            let mut sparse = lock(&sparse);
            if let Some((lost, offset)) = sparse_gap(&sparse, index) {
                return Ok(Found::Lost(lost, offset));
            }
            // An unreadable place on the way is damage like any other.
            if let Ok(Some(here)) = attempt(&mut sparse) {
                return Ok(Found::Here(here));
            }
        }
        // Something on the way is damaged: check the segment and try once more.
        let mut checked = self.shared.check(view)?;
        if let Some((lost, offset)) = sparse_gap(&checked, index) {
            return Ok(Found::Lost(lost, offset));
        }
        window = Window::new(&*view.file, view.segment.len, view.segment.record_bytes_max).salvaging();
        let found = walk(&mut window, &mut checked, index, view.bound)
            .and_then(|found| found.map_or(Ok(None), |(offset, header)| take(&mut window, offset, header)))
            .map_err(LogError::io("read", &path))?;
        Ok(found.map_or(Found::Lost(index..index + 1, HEADER_BYTES), Found::Here))
    }

    fn is_current(&self, view: &View) -> bool {
        self.shared.state().version == view.version
    }

    fn damaged_at(&self, view: &View, lost: Range<u64>, offset: u64) -> LogError {
        let reason = self.shared.reason(lost.start);
        LogError::Damaged { lost, path: self.shared.path(view.segment.first), offset, reason }
    }
}

fn sparse_gap(sparse: &SparseIndex, index: u64) -> Option<(Range<u64>, u64)> {
    sparse.gap_at(index).map(|gap| (gap.lost.clone(), gap.bytes.start))
}

/// Goes from header to header to `index`, remembering marks on new ground. `None`
/// when the way is damaged.
fn walk(
    window: &mut Window<'_>,
    sparse: &mut SparseIndex,
    index: u64,
    bound: u64,
) -> std::io::Result<Option<(u64, RecordHeader)>> {
    let Some(mut at) = sparse.before(index) else { return Ok(None) };
    if index >= sparse.end.index && sparse.end.index < bound {
        at = sparse.end;
    }
    loop {
        let header: Result<RecordHeader, Parsed> = window.header(at.offset)?;
        let Some(header) = header.ok().filter(|header| header.index == at.index) else { return Ok(None) };
        if at == sparse.end {
            push_mark(&mut sparse.marks, at);
            sparse.end = Mark { index: at.index + 1, offset: at.offset + header.total() };
        }
        if at.index == index {
            return Ok(Some((at.offset, header)));
        }
        at = Mark { index: at.index + 1, offset: at.offset + header.total() };
    }
}
