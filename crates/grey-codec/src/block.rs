//! Reading a block back into its events.

use grey_model::limits::BLOCK_BYTES_MAX;
use grey_model::{BlockHeader, Compression, Event, HeaderView, Reader, Seq};

use crate::columns::LAYOUT;
use crate::compress::decompress;
use crate::error::CodecError;
use crate::frame::carrying_seqs;
use crate::paged::{self, Directory};
use crate::payload::{Decoded, Run, Tables, Wanted, read_flags, read_run, read_tables};

/// An event and its place in its lane.
#[derive(Debug, Clone, PartialEq)]
pub struct SeqEvent {
    /// The sequence.
    pub seq: Seq,
    /// The event.
    pub event: Event,
}

/// Checks a whole block and reads its header and events, in sequence order.
pub fn decode_block(block: &[u8]) -> Result<(BlockHeader, Vec<SeqEvent>), CodecError> {
    let view = BlockHeader::parse(block)?;
    let events = decode_payload(&view.header, view.payload)?;
    Ok((view.header, events))
}

/// Reads the events of a payload whose header was parsed already, in sequence order.
pub fn decode_payload(header: &BlockHeader, payload: &[u8]) -> Result<Vec<SeqEvent>, CodecError> {
    Content::of(header, payload)?.read(header, payload, &Wanted::ALL, None).map(|read| read.events)
}

/// Reads parts of a block: of a large one only the pages whose device times overlap what is asked for.
#[derive(Debug)]
pub struct BlockReader<'a> {
    view: HeaderView<'a>,
    content: Content,
    pages_decoded: u32,
}

impl<'a> BlockReader<'a> {
    /// Checks a whole block and reads its header and, of a paged block, names and directory.
    pub fn open(block: &'a [u8]) -> Result<Self, CodecError> {
        let view = BlockHeader::parse(block)?;
        let content = Content::of(&view.header, view.payload)?;
        Ok(Self { view, content, pages_decoded: 0 })
    }

    /// The header.
    pub fn header(&self) -> &BlockHeader {
        &self.view.header
    }

    /// All events, in sequence order.
    pub fn events(&mut self) -> Result<Vec<SeqEvent>, CodecError> {
        self.read(&Wanted::ALL, None)
    }

    /// The events between two device times, both included, in sequence order.
    pub fn between(&mut self, from_ms: i64, to_ms: i64) -> Result<Vec<SeqEvent>, CodecError> {
        self.read(&Wanted { from_ms, to_ms, series: None }, None)
    }

    /// As [`BlockReader::between`], of those series alone that `series` picks by device and stream.
    /// It is asked once for each series of the block, and without any no page is decoded.
    pub fn between_of(
        &mut self,
        from_ms: i64,
        to_ms: i64,
        series: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<SeqEvent>, CodecError> {
        self.read(&Wanted { from_ms, to_ms, series: None }, Some(series))
    }

    /// How many pages the block has; one that is not paged counts as one page.
    pub fn pages(&self) -> u32 {
        match &self.content {
            Content::Empty => 0,
            Content::Whole => 1,
            Content::Paged(directory) => directory.pages.len() as u32,
        }
    }

    /// How many pages were decoded by all calls so far.
    pub fn pages_decoded(&self) -> u32 {
        self.pages_decoded
    }

    fn read(&mut self, wanted: &Wanted, series: Option<Series<'_>>) -> Result<Vec<SeqEvent>, CodecError> {
        let read = self.content.read(&self.view.header, self.view.payload, wanted, series)?;
        self.pages_decoded += read.runs;
        Ok(read.events)
    }
}

/// Picks series by device and stream.
type Series<'a> = &'a dyn Fn(&str, &str) -> bool;

/// How a payload is laid out.
#[derive(Debug)]
enum Content {
    /// No events.
    Empty,
    /// One run of columns.
    Whole,
    /// Many.
    Paged(Directory),
}

impl Content {
    fn of(header: &BlockHeader, payload: &[u8]) -> Result<Self, CodecError> {
        if header.payload_raw_len as usize > BLOCK_BYTES_MAX {
            // What a builder writes is at most a whole block before compression.
            return Err(CodecError::Contradiction { what: "a payload larger than a block" });
        }
        if header.events == 0 {
            return if payload.is_empty() && header.payload_raw_len == 0 {
                Ok(Self::Empty)
            } else {
                Err(CodecError::Contradiction { what: "a payload without events" })
            };
        }
        if header.kinds == 0 {
            return Err(CodecError::OpaquePayloads);
        }
        if header.compression != Compression::None || payload.first() != Some(&paged::LAYOUT) {
            return Ok(Self::Whole);
        }
        if payload.len() != header.payload_raw_len as usize {
            return Err(CodecError::Contradiction { what: "length of the payload" });
        }
        let directory = Directory::read(payload, header.events as usize)?;
        // Tiers above index blocks by these, so they must be true.
        let times = || directory.pages.iter().map(|page| page.run);
        if times().map(|run| run.time_min_ms).min() != Some(header.time_min_ms)
            || times().map(|run| run.time_max_ms).max() != Some(header.time_max_ms)
        {
            return Err(CodecError::Contradiction { what: "device times" });
        }
        check_kinds(header, directory.tables.kinds())?;
        Ok(Self::Paged(directory))
    }

    fn read(
        &self,
        header: &BlockHeader,
        payload: &[u8],
        wanted: &Wanted,
        series: Option<Series<'_>>,
    ) -> Result<Decoded, CodecError> {
        let mut read = Decoded::default();
        let overlaps = |min_ms: i64, max_ms: i64| wanted.from_ms <= max_ms && min_ms <= wanted.to_ms;
        match self {
            Self::Empty => {}
            Self::Whole if !overlaps(header.time_min_ms, header.time_max_ms) => {}
            Self::Whole => {
                let raw = decompress(header.compression, payload, header.payload_raw_len)?;
                read_whole(header, &raw, wanted, series, &mut read)?;
            }
            Self::Paged(directory) => {
                let wanted = with_series(wanted, series, &directory.tables);
                if wanted.is_everything() {
                    // Bounded as the header's events are.
                    read.events.reserve_exact(header.events as usize);
                }
                for (at, page) in directory.pages.iter().enumerate() {
                    if !overlaps(page.run.time_min_ms, page.run.time_max_ms) || wanted.is_nothing() {
                        continue;
                    }
                    let raw = directory.columns(page, payload)?;
                    let mut reader = Reader::new(&raw);
                    let flags = read_flags(&mut reader)?;
                    let seqs = carrying_seqs(header).skip(at * directory.page_events);
                    read_run(reader, flags, &directory.tables, &page.run, &wanted, seqs, &mut read)?;
                }
            }
        }
        Ok(read)
    }
}

/// Reads the one run of columns of layout 1.
fn read_whole(
    header: &BlockHeader,
    raw: &[u8],
    wanted: &Wanted,
    series: Option<Series<'_>>,
    read: &mut Decoded,
) -> Result<(), CodecError> {
    let mut reader = Reader::new(raw);
    let layout = reader.u8()?;
    if layout != LAYOUT {
        return Err(CodecError::Layout(layout));
    }
    let flags = read_flags(&mut reader)?;
    let events = header.events as usize;
    let tables = read_tables(&mut reader, events)?;
    check_kinds(header, tables.kinds())?;
    let wanted = with_series(wanted, series, &tables);
    if wanted.is_nothing() {
        return Ok(());
    }
    let known = tables.series_len();
    let (time_min_ms, time_max_ms) = (header.time_min_ms, header.time_max_ms);
    let run = Run { events, known_before: 0, known, time_min_ms, time_max_ms };
    read_run(reader, flags, &tables, &run, &wanted, carrying_seqs(header), read)
}

fn with_series(wanted: &Wanted, series: Option<Series<'_>>, tables: &Tables) -> Wanted {
    let picked = |series: Series<'_>| tables.names().map(|(device, stream)| series(device, stream)).collect();
    Wanted { series: series.map(picked), ..*wanted }
}

/// Tiers above index blocks by their kinds, and every series has an event.
fn check_kinds(header: &BlockHeader, kinds: u8) -> Result<(), CodecError> {
    if header.kinds == kinds { Ok(()) } else { Err(CodecError::Contradiction { what: "kinds" }) }
}
