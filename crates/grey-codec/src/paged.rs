//! Large blocks as a sequence of pages.
//!
//! Names and series stand once at the head; the columns of each run of events
//! are a page of their own, compressed alone, with its times in a directory.
//! What a query does not ask for is then not even decompressed.

use std::borrow::Cow;

use grey_model::limits::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX};
use grey_model::{Compression, Reader, Writer};

use crate::columns::{Columns, Payload};
use crate::compress::{Effort, compress, decompress};
use crate::error::CodecError;
use crate::payload::{Run, Tables, read_tables};

/// Version of the layout of pages.
pub(crate) const LAYOUT: u8 = 2;
/// Fewest events in a page that a builder makes, but for the last.
pub(crate) const PAGE_EVENTS: usize = 4_096;
/// Fewest events in a page that a reader accepts: bounds the work for each series of the table.
const PAGE_EVENTS_MIN: u64 = 1_024;

/// A part of the payload that is compressed alone.
#[derive(Debug, Clone, Copy)]
struct Part {
    raw_len: usize,
    start: usize,
    stored_len: usize,
}

/// A page: its place and what the directory says of its events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    part: Part,
    pub(crate) run: Run,
}

/// The head of a paged payload.
#[derive(Debug)]
pub(crate) struct Directory {
    method: Compression,
    pub(crate) tables: Tables,
    pub(crate) pages: Vec<Page>,
    pub(crate) page_events: usize,
}

/// Writes all events as pages. The columns must be cleared afterwards.
pub(crate) fn encode(columns: &mut Columns, method: Compression, effort: Effort) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut parts = Vec::new();
    let mut put = |payload: &Payload, entries: &mut Vec<u8>| {
        let stored = compress(method, effort, payload).1;
        entries.put_varint(payload.bytes.len() as u64);
        entries.put_varint(stored.len() as u64);
        parts.extend_from_slice(&stored);
    };
    let (mut known, mut last_ms) = (0, 0_i64);
    let mut pages = Vec::new();
    let page_events = effort.page_events();
    for start in (0..columns.len()).step_by(page_events) {
        let page = columns.encode_page(start..columns.len().min(start + page_events), known);
        known = page.known;
        pages.push(page);
    }
    let mut head = Payload::default();
    columns.encode_tables(&mut head.bytes);
    put(&head, &mut entries);
    entries.put_varint(page_events as u64);
    for mut page in pages {
        entries.put_varint_signed(page.time_min_ms.wrapping_sub(last_ms));
        entries.put_varint(page.time_max_ms.wrapping_sub(page.time_min_ms) as u64);
        entries.put_varint(page.known.into());
        last_ms = page.time_min_ms;
        page.columns.prepend(page.flags);
        put(&page.columns, &mut entries);
    }
    let mut out = Vec::with_capacity(2 + entries.len() + parts.len());
    out.extend_from_slice(&[LAYOUT, method as u8]);
    out.extend_from_slice(&entries);
    out.extend_from_slice(&parts);
    out
}

impl Directory {
    /// Reads the head of a payload of `events` events.
    pub(crate) fn read(payload: &[u8], events: usize) -> Result<Self, CodecError> {
        let mut reader = Reader::new(payload);
        let layout = reader.u8()?;
        if layout != LAYOUT {
            return Err(CodecError::Layout(layout));
        }
        let method = Compression::from_u8(reader.u8()?).ok_or_else(|| reader.invalid("compression of pages"))?;
        let mut budget = BLOCK_BYTES_MAX as u64;
        let mut end = 0;
        let mut part = |reader: &mut Reader<'_>| -> Result<Part, CodecError> {
            let raw_len = reader.count("page bytes", budget)?;
            // What a builder writes is at most a whole block before compression.
            budget -= raw_len;
            let stored_len = reader.count("stored page bytes", raw_len)? as usize;
            let start = end;
            end += stored_len;
            Ok(Part { raw_len: raw_len as usize, start, stored_len })
        };
        let head = part(&mut reader)?;
        let page_events = reader.count("events in a page", BLOCK_EVENTS_MAX.into())?;
        if page_events < PAGE_EVENTS_MIN {
            return Err(reader.invalid("events in a page").into());
        }
        let page_events = page_events as usize;
        let (mut known, mut last_ms) = (0, 0_i64);
        let mut pages = Vec::new();
        for start in (0..events).step_by(page_events) {
            let time_min_ms = last_ms.wrapping_add(reader.varint_signed()?);
            let time_max_ms = time_min_ms.wrapping_add(reader.varint()? as i64);
            let known_before = known;
            known = reader.count("series", events as u64)? as usize;
            last_ms = time_min_ms;
            let part = part(&mut reader)?;
            let events = (events - start).min(page_events);
            pages.push(Page { part, run: Run { events, known_before, known, time_min_ms, time_max_ms } });
        }
        if reader.remaining() != end {
            return Err(CodecError::Contradiction { what: "pages and their lengths" });
        }
        // From here on a part's place counts from the start of the payload.
        let offset = reader.offset();
        pages.iter_mut().for_each(|page| page.part.start += offset);
        let head = Part { start: offset, ..head };
        let raw = head.read(method, payload)?;
        let mut reader = Reader::new(&raw);
        let tables = read_tables(&mut reader, events)?;
        if !reader.is_empty() {
            return Err(reader.invalid("end of the tables").into());
        }
        if known != tables.series_len() {
            return Err(CodecError::Contradiction { what: "series without an event" });
        }
        Ok(Self { method, tables, pages, page_events })
    }

    /// The columns of a page, before compression.
    pub(crate) fn columns<'a>(&self, page: &Page, payload: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        page.part.read(self.method, payload)
    }
}

impl Part {
    fn read(self, method: Compression, payload: &[u8]) -> Result<Cow<'_, [u8]>, CodecError> {
        let method = if self.stored_len == self.raw_len { Compression::None } else { method };
        let stored = payload.get(self.start..self.start + self.stored_len);
        let stored = stored.ok_or(CodecError::Contradiction { what: "pages and their lengths" })?;
        decompress(method, stored, self.raw_len as u32)
    }
}
