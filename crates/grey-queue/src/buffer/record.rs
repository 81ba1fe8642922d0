//! Records of a lane's log: one byte for the form, then a block of many items.
//!
//! The block's `intake` is the number of bytes that the lane's earlier records take, so
//! that opening knows what waits without reading it.

use std::fmt;

use bytes::Bytes;
use grey_codec::{BlockBuilder, CodecError, RawBuilder, RawPayloads, SeqEvent, decode_payload, decode_raw};
use grey_model::{BlockHeader, Compression, Epoch, Event, Lane, Seq, SiteId, Stamp};

/// The form that an item was appended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Bytes: [`Buffer::append`](crate::buffer::Buffer::append).
    Raw = 1,
    /// A serde value in postcard's format: [`Buffer::append_typed`](crate::buffer::Buffer::append_typed).
    Typed = 2,
    /// An event: [`Buffer::append_event`](crate::buffer::Buffer::append_event).
    Event = 3,
}

impl Form {
    fn from_u8(byte: u8) -> Option<Self> {
        [Self::Raw, Self::Typed, Self::Event].into_iter().find(|form| *form as u8 == byte)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw bytes",
            Self::Typed => "a typed value",
            Self::Event => "an event",
        })
    }
}

/// Items are closed into a record when they come to this many bytes: four records, each
/// with its header, fill one read of the log, and LZ4 finds nothing farther away.
const RECORD_BYTES: usize = 64_000;
/// Bytes in front of the block.
pub(crate) const PREFIX_BYTES: usize = 1;

/// The open record of a lane.
#[derive(Debug)]
pub(crate) struct Builder {
    lane: Lane,
    compression: Compression,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Raw(Form, Box<RawBuilder>),
    Event(Box<BlockBuilder>),
}

/// A closed record.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) form: Form,
    pub(crate) block: Bytes,
}

impl Closed {
    pub(crate) fn stored(&self) -> u64 {
        (PREFIX_BYTES + self.block.len()) as u64
    }
}

impl Builder {
    pub(crate) fn new(site: &SiteId, lane: Lane, compression: Compression, next: Seq) -> Self {
        let raw = RawBuilder::new(site.clone(), Epoch(0), lane, compression, next);
        Self { lane, compression, open: Open::Raw(Form::Raw, Box::new(raw)) }
    }

    pub(crate) fn next_seq(&self) -> Seq {
        match &self.open {
            Open::Raw(_, builder) => builder.next_seq(),
            Open::Event(builder) => builder.next_seq(),
        }
    }

    /// Makes ready for an item of `bytes` in a form. What the record was before that has
    /// to be stored first is returned.
    pub(crate) fn prepare(&mut self, site: &SiteId, form: Form, bytes: usize, stored: u64) -> Option<Closed> {
        let is_form = match &self.open {
            Open::Raw(open, _) => *open == form,
            Open::Event(_) => form == Form::Event,
        };
        let closed = if is_form && self.bytes() + bytes <= RECORD_BYTES { None } else { self.finish(stored) };
        if !is_form {
            let next = self.next_seq();
            self.open = match form {
                Form::Event => {
                    Open::Event(Box::new(BlockBuilder::new(site.clone(), Epoch(0), self.lane, self.compression, next)))
                }
                form => Open::Raw(
                    form,
                    Box::new(RawBuilder::new(site.clone(), Epoch(0), self.lane, self.compression, next)),
                ),
            };
        }
        closed
    }

    /// Takes bytes, after [`Builder::prepare`].
    pub(crate) fn push(&mut self, payload: &[u8]) -> Result<Seq, CodecError> {
        match &mut self.open {
            Open::Raw(_, builder) => builder.push(payload),
            Open::Event(_) => Err(CodecError::EventPayload),
        }
    }

    /// Takes an event, after [`Builder::prepare`].
    pub(crate) fn push_event(&mut self, event: &Event) -> Result<Seq, CodecError> {
        match &mut self.open {
            Open::Event(builder) => builder.push(event),
            Open::Raw(..) => Err(CodecError::OpaquePayloads),
        }
    }

    /// Bytes of the open record before compression, at most.
    pub(crate) fn bytes(&self) -> usize {
        match &self.open {
            Open::Raw(_, builder) => builder.bytes_estimate(),
            Open::Event(builder) => builder.bytes_estimate(),
        }
    }

    /// Closes the record; `None` when it holds nothing. `stored` are the bytes of the lane's
    /// records before.
    pub(crate) fn finish(&mut self, stored: u64) -> Option<Closed> {
        let (form, block) = match &mut self.open {
            Open::Raw(form, builder) => (*form, builder.finish(Stamp::default(), stored)?),
            Open::Event(builder) => (Form::Event, builder.finish(Stamp::default(), stored)?),
        };
        Some(Closed { form, block })
    }
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) position: u64,
    pub(crate) form: Form,
    pub(crate) first: Seq,
    pub(crate) end: Seq,
    /// Bytes of the lane's records before this one.
    pub(crate) stored_before: u64,
    /// Bytes of this one.
    pub(crate) stored: u64,
    /// Bytes of its items, about.
    pub(crate) bytes: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Raw(RawPayloads),
    Events(Vec<SeqEvent>),
}

impl Chunk {
    /// Items that are not compressed stay in the memory of `record`.
    pub(crate) fn decode(position: u64, record: &Bytes) -> Result<Self, CodecError> {
        let form = *record.first().ok_or(CodecError::Contradiction { what: "an empty record" })?;
        let form = Form::from_u8(form).ok_or(CodecError::Layout(form))?;
        let block = record.slice(PREFIX_BYTES..);
        let (header, body) = match form {
            Form::Event => {
                let view = BlockHeader::parse(&block)?;
                let events = decode_payload(&view.header, view.payload)?;
                (view.header, Body::Events(events))
            }
            Form::Raw | Form::Typed => {
                let (header, payloads) = decode_raw(&block)?;
                (header, Body::Raw(payloads))
            }
        };
        let range = header.range();
        let chunk = Self {
            position,
            form,
            first: range.start,
            end: range.end,
            stored_before: header.intake,
            stored: record.len() as u64,
            bytes: header.payload_raw_len as usize,
            body,
        };
        if chunk.len() as u64 != chunk.end - chunk.first {
            return Err(CodecError::Contradiction { what: "sequences without an item" });
        }
        Ok(chunk)
    }

    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Raw(payloads) => payloads.len(),
            Body::Events(events) => events.len(),
        }
    }

    /// The bytes of one item; `None` when there is none, or it is an event.
    pub(crate) fn payload(&self, at: usize) -> Option<&[u8]> {
        match &self.body {
            Body::Raw(payloads) => payloads.get(at).map(|(_, payload)| payload),
            Body::Events(_) => None,
        }
    }

    pub(crate) fn event(&self, at: usize) -> Option<&Event> {
        match &self.body {
            Body::Raw(_) => None,
            Body::Events(events) => events.get(at).map(|found| &found.event),
        }
    }

    /// What an item counts for a budget: its bytes, for an event the average of its record.
    pub(crate) fn cost(&self, at: usize) -> usize {
        match &self.body {
            Body::Raw(payloads) => payloads.get(at).map_or(0, |(_, payload)| payload.len()),
            Body::Events(events) => self.bytes.div_ceil(events.len().max(1)),
        }
    }
}
