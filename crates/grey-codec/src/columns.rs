//! The events of the open block, and their columns as payload bytes.
//!
//! Events of one device, stream, unit, kind and type of value form a series.
//! What varies from event to event of a series is stored series by series,
//! so that each value stands beside the one that predicts it; the layout is
//! in `docs/design/block-format.md`.

use std::ops::Range;

use grey_model::limits::BLOCK_EVENTS_MAX;
use grey_model::{Event, Stamp, Value, Writer};
use hashbrown::HashTable;

use crate::id_column::IdWriter;
use crate::number::NumberWriter;
use crate::paged::PAGE_EVENTS;
use crate::table::{ListTable, StringTable, hash};
use crate::time_column::{Times, write_stamps};

/// Version of the payload's layout.
pub(crate) const LAYOUT: u8 = 1;
/// Flag: some event's quality is not good, so that there is a column of them.
pub(crate) const HAS_QUALITIES: u8 = 1;
/// Flag: some event has attributes.
pub(crate) const HAS_ATTRIBUTES: u8 = 2;
/// Flag: some event has an id.
pub(crate) const HAS_IDS: u8 = 4;

/// Code of an event whose series is the one that followed last time.
pub(crate) const SERIES_EXPECTED: u64 = 0;
/// Code of an event that begins the next series of the table.
pub(crate) const SERIES_NEW: u64 = 1;
/// Added to a series' place.
pub(crate) const SERIES_BASE: u64 = 2;

/// Type of a series' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shape {
    Bool = 0,
    Integer = 1,
    Number = 2,
    Text = 3,
    Vector = 4,
    Fields = 5,
}

impl Shape {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        [Self::Bool, Self::Integer, Self::Number, Self::Text, Self::Vector, Self::Fields]
            .get(usize::from(byte))
            .copied()
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::Bool,
            Value::Integer(_) => Self::Integer,
            Value::Number(_) => Self::Number,
            Value::Text(_) => Self::Text,
            Value::Vector(_) => Self::Vector,
            Value::Fields(_) => Self::Fields,
        }
    }
}

/// Bits of a series' kind in its tag; the shape stands above them.
pub(crate) const KIND_BITS: u32 = 3;
/// No unit.
const NO_UNIT: u32 = u32::MAX;
const NO_SERIES: u32 = u32::MAX;
const NO_ID: u32 = u32::MAX;

/// What is equal for all events of a series. Names are places in the table of strings.
#[derive(Debug, Clone, Copy)]
struct Series {
    device: u32,
    stream: u32,
    unit: u32,
    kind: u8,
    shape: Shape,
    /// Place in the table of field lists.
    fields: u32,
    /// The series that followed when this one was met last.
    followed_by: u32,
}

/// What varies between the events of a series.
#[derive(Debug, Clone, Copy)]
struct Cell {
    series: u32,
    /// 0 for none, else place in the table of attribute lists plus one.
    attributes: u32,
    stamp: Stamp,
    time_ms: i64,
    /// The value's bits, or its place in an arena.
    word: u64,
    id_start: u32,
    /// Length, or [`NO_ID`].
    id_len: u32,
    quality: u8,
}

/// Most payload bytes that an event takes beside names, ids, texts and vectors: series 3, stamp 7 and 4,
/// uncertainty 6, time 10, quality 1, attributes 3, form of id 1, value 10; and its part of what a series
/// takes in every page, a mean interval of 10 between two and more events and a tag of 1.
const CELL_BYTES_MAX: usize = 45 + 6;
/// Most payload bytes of a series: its tag and four places.
const SERIES_BYTES_MAX: usize = 1 + 4 * 4;
/// Most payload bytes of a string's length and of one mention in a list.
const ENTRY_BYTES_MAX: usize = 8;
/// Most payload bytes of an id beside its text.
const ID_BYTES_MAX: usize = 24;
/// Most payload bytes of a number in a column of its own.
const NUMBER_BYTES_MAX: usize = 11;
/// Layout, counts, and for each page its entry in the directory, flags and stream headers.
const FIXED_BYTES_MAX: usize = 128 + 64 * (BLOCK_EVENTS_MAX as usize / PAGE_EVENTS);

/// Collects events and writes them as columns.
#[derive(Debug)]
pub(crate) struct Columns {
    strings: StringTable,
    attribute_lists: ListTable,
    field_lists: ListTable,
    series: Vec<Series>,
    series_index: HashTable<u32>,
    last_series: u32,
    cells: Vec<Cell>,
    ids: String,
    texts: String,
    samples: Vec<u64>,
    list: Vec<u32>,
    bytes_max: usize,
}

impl Columns {
    pub(crate) fn new() -> Self {
        Self {
            strings: StringTable::default(),
            attribute_lists: ListTable::default(),
            field_lists: ListTable::default(),
            series: Vec::new(),
            series_index: HashTable::new(),
            last_series: NO_SERIES,
            cells: Vec::new(),
            ids: String::new(),
            texts: String::new(),
            samples: Vec::new(),
            list: Vec::new(),
            bytes_max: FIXED_BYTES_MAX,
        }
    }

    /// Events held.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// An upper bound of the payload's bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How far an event may raise [`Columns::bytes_max`] at most.
    pub(crate) fn bytes_max_of(event: &Event) -> usize {
        let names = |bytes: usize| bytes + ENTRY_BYTES_MAX;
        let unit = event.unit.as_ref().map_or(0, |unit| names(unit.len()));
        let id = event.id.as_ref().map_or(0, |id| id.len() + ID_BYTES_MAX);
        let attributes: usize =
            event.attributes.iter().map(|(name, value)| names(name.len()) + names(value.len())).sum();
        let value = match &event.value {
            Value::Bool(_) | Value::Integer(_) | Value::Number(_) => 0,
            Value::Text(text) => text.len(),
            Value::Vector(samples) => samples.len() * NUMBER_BYTES_MAX,
            Value::Fields(fields) => fields.iter().map(|(name, _)| names(name.len()) + NUMBER_BYTES_MAX + 1).sum(),
        };
        CELL_BYTES_MAX
            + SERIES_BYTES_MAX
            + names(event.device.len())
            + names(event.stream.len())
            + 3 * ENTRY_BYTES_MAX
            + unit
            + id
            + attributes
            + value
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, event: &Event) {
        let series = self.series_of(event);
        let attributes = self.attributes_of(event);
        let (id_start, id_len) = match &event.id {
            None => (0, NO_ID),
            Some(id) => {
                let start = self.ids.len() as u32;
                self.ids.push_str(id);
                self.bytes_max += id.len() + ID_BYTES_MAX;
                (start, id.len() as u32)
            }
        };
        let quality = event.quality as u8;
        let word = self.word_of(&event.value);
        self.bytes_max += CELL_BYTES_MAX;
        self.cells.push(Cell {
            series,
            attributes,
            stamp: event.stamp,
            time_ms: event.device_time_ms,
            word,
            id_start,
            id_len,
            quality,
        });
    }

    /// Forgets the events and keeps the memory, unless they were unusually many.
    pub(crate) fn clear(&mut self) {
        const KEEP_BYTES_MAX: usize = 1 << 20;
        if self.bytes_max > KEEP_BYTES_MAX {
            *self = Self::new();
            return;
        }
        self.strings.clear();
        self.attribute_lists.clear();
        self.field_lists.clear();
        self.series.clear();
        self.series_index.clear();
        self.last_series = NO_SERIES;
        self.cells.clear();
        self.ids.clear();
        self.texts.clear();
        self.samples.clear();
        self.bytes_max = FIXED_BYTES_MAX;
    }

    fn series_of(&mut self, event: &Event) -> u32 {
        let expected = self.series.get(self.last_series as usize).map_or(NO_SERIES, |last| last.followed_by);
        let at = if expected != NO_SERIES && self.is_of(expected, event) {
            expected
        } else {
            let hash = series_hash(event);
            match self.series_index.find(hash, |&at| self.is_of(at, event)) {
                Some(&at) => at,
                None => self.add_series(event, hash),
            }
        };
        if let Some(last) = self.series.get_mut(self.last_series as usize) {
            last.followed_by = at;
        }
        self.last_series = at;
        at
    }

    fn is_of(&self, at: u32, event: &Event) -> bool {
        let series = &self.series[at as usize];
        let unit = (series.unit != NO_UNIT).then(|| self.strings.get(series.unit));
        series.kind == event.kind as u8
            && series.shape == Shape::of(&event.value)
            && self.strings.get(series.device) == event.device.as_str()
            && self.strings.get(series.stream) == event.stream.as_str()
            && unit == event.unit.as_deref()
            && match &event.value {
                Value::Fields(fields) => {
                    let names = self.field_lists.get(series.fields).iter().map(|&name| self.strings.get(name));
                    names.eq(fields.iter().map(|(name, _)| name.as_str()))
                }
                _ => true,
            }
    }

    fn add_series(&mut self, event: &Event, hash: u64) -> u32 {
        let series = Series {
            device: self.intern(&event.device),
            stream: self.intern(&event.stream),
            unit: event.unit.as_ref().map_or(NO_UNIT, |unit| self.intern(unit)),
            kind: event.kind as u8,
            shape: Shape::of(&event.value),
            fields: match &event.value {
                Value::Fields(fields) => {
                    let mut list = std::mem::take(&mut self.list);
                    list.clear();
                    list.extend(fields.iter().map(|(name, _)| self.intern(name)));
                    let (at, new) = self.field_lists.intern(&list);
                    self.bytes_max += if new { (list.len() + 1) * ENTRY_BYTES_MAX } else { 0 };
                    // One tag for each field's column.
                    self.bytes_max += list.len();
                    self.list = list;
                    at
                }
                _ => 0,
            },
            followed_by: NO_SERIES,
        };
        self.bytes_max += SERIES_BYTES_MAX;
        let at = self.series.len() as u32;
        self.series.push(series);
        let (series, strings) = (&self.series, &self.strings);
        self.series_index.insert_unique(hash, at, |&at| {
            let series = &series[at as usize];
            hash_of(strings.get(series.device), strings.get(series.stream), series.kind, series.shape)
        });
        at
    }

    fn intern(&mut self, text: &str) -> u32 {
        let before = self.strings.len();
        let at = self.strings.intern(text);
        if self.strings.len() > before {
            self.bytes_max += text.len() + ENTRY_BYTES_MAX;
        }
        at
    }

    fn attributes_of(&mut self, event: &Event) -> u32 {
        if event.attributes.is_empty() {
            return 0;
        }
        let mut list = std::mem::take(&mut self.list);
        list.clear();
        for (name, value) in &event.attributes {
            list.push(self.intern(name));
            list.push(self.intern(value));
        }
        let (at, new) = self.attribute_lists.intern(&list);
        self.bytes_max += if new { (list.len() + 1) * ENTRY_BYTES_MAX } else { 0 };
        self.list = list;
        at + 1
    }

    fn word_of(&mut self, value: &Value) -> u64 {
        let place = |start: usize, len: usize| (start as u64) << 32 | len as u64;
        match value {
            Value::Bool(truth) => u64::from(*truth),
            Value::Integer(whole) => *whole as u64,
            Value::Number(number) => number.to_bits(),
            Value::Text(text) => {
                let start = self.texts.len();
                self.texts.push_str(text);
                self.bytes_max += text.len();
                place(start, text.len())
            }
            Value::Vector(samples) => {
                let start = self.samples.len();
                self.samples.extend(samples.iter().map(|sample| sample.to_bits()));
                self.bytes_max += samples.len() * NUMBER_BYTES_MAX;
                place(start, samples.len())
            }
            Value::Fields(fields) => {
                let start = self.samples.len();
                self.samples.extend(fields.iter().map(|(_, number)| number.to_bits()));
                self.bytes_max += fields.len() * NUMBER_BYTES_MAX;
                place(start, fields.len())
            }
        }
    }

    /// Writes the payload of layout 1 and the places where its statistics
    /// change. The columns must be cleared afterwards.
    pub(crate) fn encode(&mut self) -> Payload {
        let page = self.encode_page(0..self.len(), 0);
        let mut payload = Payload { bytes: Vec::with_capacity(page.columns.bytes.len() + 1024), cuts: Vec::new() };
        payload.bytes.extend_from_slice(&[LAYOUT, page.flags]);
        self.encode_tables(&mut payload.bytes);
        let start = payload.bytes.len();
        payload.cuts.push(start);
        payload.cuts.extend(page.columns.cuts.iter().map(|cut| start + cut));
        payload.bytes.extend_from_slice(&page.columns.bytes);
        payload
    }

    /// Writes the columns of some of the events, of which `known` series were met before. May add prefixes of ids
    /// to the strings.
    pub(crate) fn encode_page(&mut self, events: Range<usize>, known: u32) -> Page {
        let cells = &self.cells[events];
        let mut columns = Payload { bytes: Vec::with_capacity(cells.len() * 16 + 256), cuts: Vec::new() };
        let Payload { bytes: out, cuts } = &mut columns;
        let mut cut = |at| cuts.push(at);
        let (lens, known) = write_series_codes(cells, self.series.len(), known, out);
        let order = order_of(cells, &lens);
        cut(out.len());
        write_stamps(cells.iter().map(|cell| cell.stamp), out, &mut cut);
        let times: Vec<i64> = cells.iter().map(|cell| cell.time_ms).collect();
        let stamps: Vec<i64> = cells.iter().map(|cell| cell.stamp.unix_ms()).collect();
        Times { arrival: &times, stamps: &stamps, order: &order, lens: &lens }.write(out);
        cut(out.len());
        let mut flags = 0;
        if cells.iter().any(|cell| cell.quality != 0) {
            flags |= HAS_QUALITIES;
            out.extend(order.iter().map(|&at| cells[at as usize].quality));
        }
        if cells.iter().any(|cell| cell.attributes != 0) {
            flags |= HAS_ATTRIBUTES;
            write_attributes(cells, &order, &lens, out);
        }
        cut(out.len());
        if cells.iter().any(|cell| cell.id_len != NO_ID) {
            flags |= HAS_IDS;
            encode_ids(cells, &self.ids, &order, &lens, &mut self.strings).write(out, &mut cut);
        }
        let (numbers, text) = self.encode_values(cells, &order, &lens);
        numbers.write_wide(out, &mut cut);
        out.put_blob(text.as_bytes());
        cut(out.len());
        out.extend_from_slice(&numbers.narrow);
        cut(out.len());
        let (time_min_ms, time_max_ms) =
            times.iter().fold((i64::MAX, i64::MIN), |(min, max), &time| (min.min(time), max.max(time)));
        Page { flags, columns, known, time_min_ms, time_max_ms }
    }

    /// Appends strings, lists and series; every page must have been encoded before.
    pub(crate) fn encode_tables(&self, out: &mut Vec<u8>) {
        out.put_varint(self.strings.len() as u64);
        self.strings.lengths().for_each(|len| out.put_varint(len.into()));
        out.extend_from_slice(self.strings.text().as_bytes());
        out.put_varint(self.attribute_lists.len() as u64);
        for at in 0..self.attribute_lists.len() as u32 {
            let list = self.attribute_lists.get(at);
            out.put_varint(list.len() as u64 / 2);
            list.iter().for_each(|&place| out.put_varint(place.into()));
        }
        out.put_varint(self.field_lists.len() as u64);
        for at in 0..self.field_lists.len() as u32 {
            let list = self.field_lists.get(at);
            out.put_varint(list.len() as u64);
            list.iter().for_each(|&place| out.put_varint(place.into()));
        }
        out.put_varint(self.series.len() as u64);
        for series in &self.series {
            out.push(series.kind | (series.shape as u8) << KIND_BITS);
            out.put_varint(series.device.into());
            out.put_varint(series.stream.into());
            out.put_varint(if series.unit == NO_UNIT { 0 } else { u64::from(series.unit) + 1 });
            if series.shape == Shape::Fields {
                out.put_varint(series.fields.into());
            }
        }
    }

    fn encode_values(&self, cells: &[Cell], order: &[u32], lens: &[u32]) -> (NumberWriter, String) {
        let mut numbers = NumberWriter::default();
        let mut text = String::new();
        let mut floats: Vec<u64> = Vec::new();
        let mut integers: Vec<i64> = Vec::new();
        for (series, places) in self.series.iter().zip(groups(order, lens)) {
            let words = places.iter().map(|&at| cells[at as usize].word);
            let parts = words.clone().map(|word| ((word >> 32) as usize, word as u32 as usize));
            match series.shape {
                Shape::Number => {
                    floats.clear();
                    floats.extend(words);
                    numbers.floats(&floats);
                }
                Shape::Integer => {
                    integers.clear();
                    integers.extend(words.map(|word| word as i64));
                    numbers.integers(&integers);
                }
                Shape::Bool => {
                    let mut last = 0;
                    for word in words {
                        numbers.narrow.push((word ^ last) as u8);
                        last = word;
                    }
                }
                Shape::Text => {
                    for (start, len) in parts {
                        numbers.narrow.put_varint(len as u64);
                        text.push_str(&self.texts[start..start + len]);
                    }
                }
                Shape::Vector => {
                    for (start, len) in parts {
                        numbers.narrow.put_varint(len as u64);
                        numbers.floats(&self.samples[start..start + len]);
                    }
                }
                Shape::Fields => {
                    for field in 0..self.field_lists.get(series.fields).len() {
                        floats.clear();
                        floats.extend(parts.clone().map(|(start, _)| self.samples[start + field]));
                        numbers.floats(&floats);
                    }
                }
            }
        }
        (numbers, text)
    }
}

/// The columns of a run of events.
#[derive(Debug)]
pub(crate) struct Page {
    /// Which columns there are.
    pub(crate) flags: u8,
    pub(crate) columns: Payload,
    /// Series met up to the end of the page.
    pub(crate) known: u32,
    pub(crate) time_min_ms: i64,
    pub(crate) time_max_ms: i64,
}

/// Payload bytes, and where in them one column ends and another begins.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) cuts: Vec<usize>,
}

impl Payload {
    /// Puts a byte in front.
    pub(crate) fn prepend(&mut self, byte: u8) {
        self.bytes.insert(0, byte);
        self.cuts.iter_mut().for_each(|cut| *cut += 1);
    }
}

/// Appends the series of each event, and returns the events of each series and how many of these are known now.
fn write_series_codes(cells: &[Cell], series: usize, mut known: u32, out: &mut Vec<u8>) -> (Vec<u32>, u32) {
    let mut lens = vec![0_u32; series];
    let mut followed_by = vec![NO_SERIES; series];
    let mut last = NO_SERIES;
    for &Cell { series: at, .. } in cells {
        let expected = followed_by.get(last as usize).copied().unwrap_or(NO_SERIES);
        if at == expected {
            out.put_varint(SERIES_EXPECTED);
        } else if at >= known {
            known += 1;
            out.put_varint(SERIES_NEW);
        } else {
            out.put_varint(SERIES_BASE + u64::from(at));
        }
        if let Some(follower) = followed_by.get_mut(last as usize) {
            *follower = at;
        }
        lens[at as usize] += 1;
        last = at;
    }
    (lens, known)
}

/// The places of the events, series by series.
fn order_of(cells: &[Cell], lens: &[u32]) -> Vec<u32> {
    let mut next = Vec::with_capacity(lens.len());
    let mut start = 0;
    for &len in lens {
        next.push(start);
        start += len;
    }
    let mut order = vec![0_u32; cells.len()];
    for (at, cell) in cells.iter().enumerate() {
        let next = &mut next[cell.series as usize];
        order[*next as usize] = at as u32;
        *next += 1;
    }
    order
}

fn encode_ids(cells: &[Cell], text: &str, order: &[u32], lens: &[u32], strings: &mut StringTable) -> IdWriter {
    let mut ids = IdWriter::default();
    for series in groups(order, lens) {
        ids.start_series();
        for &at in series {
            let cell = &cells[at as usize];
            let start = cell.id_start as usize;
            ids.push((cell.id_len != NO_ID).then(|| &text[start..start + cell.id_len as usize]), strings);
        }
    }
    ids
}

fn write_attributes(cells: &[Cell], order: &[u32], lens: &[u32], out: &mut Vec<u8>) {
    for series in groups(order, lens) {
        let mut last = 0;
        for &at in series {
            let attributes = cells[at as usize].attributes;
            // 0 for the same as before, else the place plus one.
            out.put_varint(if attributes == last { 0 } else { u64::from(attributes) + 1 });
            last = attributes;
        }
    }
}

/// Splits `order` into its series.
fn groups<'a>(mut order: &'a [u32], lens: &'a [u32]) -> impl Iterator<Item = &'a [u32]> {
    lens.iter().map(move |&len| {
        let (series, rest) = order.split_at((len as usize).min(order.len()));
        order = rest;
        series
    })
}

fn series_hash(event: &Event) -> u64 {
    hash_of(&event.device, &event.stream, event.kind as u8, Shape::of(&event.value))
}

/// Units and fields rarely tell series apart, so they are compared and not hashed.
fn hash_of(device: &str, stream: &str, kind: u8, shape: Shape) -> u64 {
    hash(&[device.as_bytes(), &[0xff, kind, shape as u8], stream.as_bytes()])
}
