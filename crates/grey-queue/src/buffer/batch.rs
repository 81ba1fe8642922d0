//! What a peek gives: items of several lanes, and how far to acknowledge them.

use std::ops::Range;
use std::sync::Arc;

use grey_model::{Event, Lane, Seq};
use serde::de::DeserializeOwned;

use super::acks::Acked;
use super::error::BufferError;
use super::record::{Chunk, Form};

/// How much a peek may give; at least one item comes if one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of payloads; events count with the average of their neighbours.
    pub bytes: usize,
    /// Items.
    pub items: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: 1 << 20, items: usize::MAX }
    }
}

/// Items that the disk lost: committed once, and damaged since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The lane.
    pub lane: Lane,
    /// Their sequences.
    pub range: Range<Seq>,
}

/// A place in a lane to acknowledge up to; outlives the batch that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The lane.
    pub(crate) lane: Lane,
    /// Items below are meant.
    pub(crate) seq: Seq,
    pub(crate) position: u64,
    pub(crate) stored: u64,
}

impl Place {
    fn behind(lane: Lane, chunk: &Chunk, items: usize) -> Self {
        let (position, stored) = if items == chunk.len() {
            (chunk.position + 1, chunk.stored_before + chunk.stored)
        } else {
            (chunk.position, chunk.stored_before)
        };
        Self { lane, seq: chunk.first + items as u64, position, stored }
    }

    /// The lane.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// The sequence behind the last item that is meant.
    pub fn end(&self) -> Seq {
        self.seq
    }

    pub(crate) fn apply_to(&self, acked: &mut Acked) {
        (acked.seq, acked.position, acked.stored) = (self.seq, self.position, self.stored);
    }
}

#[derive(Debug, Clone)]
struct Part {
    lane: Lane,
    chunk: Arc<Chunk>,
    items: Range<usize>,
}

/// Items in the order in which they should be sent. Holding it holds nothing up.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    parts: Vec<Part>,
    items: usize,
    bytes: usize,
    places: [Option<Place>; 3],
    lost: Vec<Lost>,
}

impl Batch {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items
    }

    /// True when nothing waited.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Bytes of the items, as a [`Budget`] counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The items: critical ones first, in order of sequence in each lane.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.parts.iter().flat_map(|part| part.items.clone().map(|at| Item { lane: part.lane, chunk: &part.chunk, at }))
    }

    /// Items that would have come here and that the disk lost.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Where the batch ends in each lane that it has items of.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.places.into_iter().flatten()
    }

    pub(crate) fn push(&mut self, lane: Lane, chunk: &Arc<Chunk>, items: Range<usize>, bytes: usize) {
        self.items += items.len();
        self.bytes += bytes;
        self.places[lane.index()] = Some(Place::behind(lane, chunk, items.end));
        match self.parts.last_mut() {
            Some(last) if Arc::ptr_eq(&last.chunk, chunk) && last.items.end == items.start => {
                last.items.end = items.end;
            }
            _ => self.parts.push(Part { lane, chunk: Arc::clone(chunk), items }),
        }
    }

    /// `behind` is needed when no item follows whose place would be behind.
    pub(crate) fn push_lost(&mut self, lane: Lane, range: Range<Seq>, behind: Option<Place>) {
        if behind.is_some() {
            self.places[lane.index()] = behind;
        }
        self.lost.push(Lost { lane, range });
    }
}

/// One item of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    lane: Lane,
    chunk: &'a Chunk,
    at: usize,
}

impl<'a> Item<'a> {
    /// Its lane.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Its sequence in the lane.
    pub fn seq(&self) -> Seq {
        self.chunk.first + self.at as u64
    }

    /// How it was appended.
    pub fn form(&self) -> Form {
        self.chunk.form
    }

    /// The bytes that were appended.
    ///
    /// # Errors
    /// [`BufferError::Form`] when it is something else.
    pub fn bytes(&self) -> Result<&'a [u8], BufferError> {
        self.payload(Form::Raw)
    }

    /// The value that was appended; postcard does not store the type, so another one of
    /// the same shape is not recognised.
    ///
    /// # Errors
    /// [`BufferError::Form`] when it is something else, [`BufferError::Typed`] when the
    /// bytes are no such value, or more than one.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, BufferError> {
        let payload = self.payload(Form::Typed)?;
        let found = postcard::take_from_bytes(payload)
            .and_then(|(value, rest)| if rest.is_empty() { Ok(value) } else { Err(postcard::Error::SerdeDeCustom) });
        let (lane, seq) = (self.lane, self.seq());
        found.map_err(|source| BufferError::Typed { lane, seq, type_name: std::any::type_name::<T>(), source })
    }

    /// The event that was appended.
    ///
    /// # Errors
    /// [`BufferError::Form`] when it is something else.
    pub fn event(&self) -> Result<&'a Event, BufferError> {
        self.chunk.event(self.at).ok_or_else(|| self.mismatch(Form::Event))
    }

    /// Behind this item: to acknowledge it and all before it in its lane.
    pub fn place(&self) -> Place {
        Place::behind(self.lane, self.chunk, self.at + 1)
    }

    fn payload(&self, asked: Form) -> Result<&'a [u8], BufferError> {
        let payload = self.chunk.payload(self.at).filter(|_| self.form() == asked);
        payload.ok_or_else(|| self.mismatch(asked))
    }

    fn mismatch(&self, asked: Form) -> BufferError {
        BufferError::Form { lane: self.lane, seq: self.seq(), found: self.form(), asked }
    }
}
