//! Reading a payload's columns back into events.

use std::str;

use grey_model::limits::{
    ATTRIBUTES_MAX, BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, EVENT_ID_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX,
    UNIT_BYTES_MAX, VECTOR_LEN_MAX,
};
use grey_model::{Event, Kind, Name, Quality, Reader, Seq, Value};

use crate::block::SeqEvent;
use crate::columns::{
    HAS_ATTRIBUTES, HAS_IDS, HAS_QUALITIES, KIND_BITS, SERIES_BASE, SERIES_EXPECTED, SERIES_NEW, Shape,
};
use crate::error::CodecError;
use crate::id_column;
use crate::limit::FIELDS_MAX;
use crate::number::{NUMBERS_MAX, NumberReader};
use crate::time_column::{read_stamps, read_times};

const STRING_BYTES_MAX: usize = if NAME_BYTES_MAX > EVENT_ID_BYTES_MAX { NAME_BYTES_MAX } else { EVENT_ID_BYTES_MAX };

/// Strings, and places in lists, of one block: a builder counts eight bytes and
/// more for each, so that it never makes more.
const ENTRIES_MAX: u64 = (BLOCK_BYTES_MAX / 8) as u64;

type Attributes = Vec<(Name, Name)>;

impl Tables {
    /// How many series there are.
    pub(crate) fn series_len(&self) -> usize {
        self.series.len()
    }

    /// The kinds of all series, one bit each.
    pub(crate) fn kinds(&self) -> u8 {
        self.series.iter().fold(0, |kinds, series| kinds | 1 << series.kind as u8)
    }

    /// Device and stream of each series.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.series.iter().map(|series| (&series.device, &series.stream))
    }
}

/// What all events of a series share.
#[derive(Debug)]
struct Series {
    device: Name,
    stream: Name,
    unit: Option<Name>,
    kind: Kind,
    shape: Shape,
    fields: usize,
}

/// The tables at the head of a payload.
#[derive(Debug)]
pub(crate) struct Tables {
    strings: Vec<Name>,
    attribute_lists: Vec<Attributes>,
    field_lists: Vec<Vec<Name>>,
    series: Vec<Series>,
}

/// Which events a reader wants: those between two device times, both included, of some series.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    /// By place in the table of series; all without it.
    pub(crate) series: Option<Vec<bool>>,
}

impl Wanted {
    pub(crate) const ALL: Self = Self { from_ms: i64::MIN, to_ms: i64::MAX, series: None };

    /// True when every event is wanted.
    pub(crate) fn is_everything(&self) -> bool {
        self.series.is_none() && self.from_ms == i64::MIN && self.to_ms == i64::MAX
    }

    /// True when no series is wanted.
    pub(crate) fn is_nothing(&self) -> bool {
        self.series.as_ref().is_some_and(|wanted| !wanted.contains(&true))
    }

    fn has(&self, series: u32, time_ms: i64) -> bool {
        (self.from_ms..=self.to_ms).contains(&time_ms)
            && self.series.as_ref().is_none_or(|wanted| wanted.get(series as usize).copied().unwrap_or_default())
    }
}

/// A run of events whose columns stand together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// How many.
    pub(crate) events: usize,
    /// Series met before it.
    pub(crate) known_before: usize,
    /// Series met up to its end.
    pub(crate) known: usize,
    pub(crate) time_min_ms: i64,
    pub(crate) time_max_ms: i64,
}

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) events: Vec<SeqEvent>,
    pub(crate) runs: u32,
    /// Numbers that may still come: all runs of a block together are bounded.
    numbers_left: usize,
}

impl Default for Decoded {
    fn default() -> Self {
        Self { events: Vec::new(), runs: 0, numbers_left: NUMBERS_MAX }
    }
}

/// Reads the flags of a run.
pub(crate) fn read_flags(reader: &mut Reader<'_>) -> Result<u8, CodecError> {
    let flags = reader.u8()?;
    if flags & !(HAS_QUALITIES | HAS_ATTRIBUTES | HAS_IDS) != 0 {
        return Err(reader.invalid("payload flags").into());
    }
    Ok(flags)
}

/// Reads the wanted events of a run to the end of `reader`; `seqs` are those of all its events in order.
pub(crate) fn read_run(
    mut reader: Reader<'_>,
    flags: u8,
    tables: &Tables,
    run: &Run,
    wanted: &Wanted,
    seqs: impl Iterator<Item = Seq>,
    decoded: &mut Decoded,
) -> Result<(), CodecError> {
    let events = run.events;
    let (series_of, lens) = read_series_codes(&mut reader, tables.series.len(), run)?;
    let (order, ranks) = order_of(&series_of, &lens);
    let stamps = read_stamps(&mut reader, events)?;
    let times = read_times(&mut reader, &stamps, &order, &lens)?;
    // Tiers above index blocks by these, so they must be true.
    if times.iter().min() != Some(&run.time_min_ms) || times.iter().max() != Some(&run.time_max_ms) {
        return Err(CodecError::Contradiction { what: "device times" });
    }
    let qualities = if flags & HAS_QUALITIES == 0 { &[][..] } else { reader.bytes(events)? };
    let mut attributes = if flags & HAS_ATTRIBUTES == 0 {
        Vec::new()
    } else {
        read_attributes(&mut reader, &lens, &tables.attribute_lists)?
    };
    let mut ids = if flags & HAS_IDS == 0 {
        Vec::new()
    } else {
        id_column::read(&mut reader, lens.iter().map(|&len| len as usize), events, &tables.strings)?
    };
    let mut values = read_values(reader, tables, &lens, &mut decoded.numbers_left)?;
    if values.len() != events {
        return Err(CodecError::Contradiction { what: "events in the columns" });
    }

    if wanted.is_everything() {
        decoded.events.reserve(events);
    }
    let mut numbered = 0;
    for (at, seq) in (0..events).zip(seqs) {
        numbered += 1;
        let rank = ranks[at] as usize;
        let quality = match qualities.get(rank) {
            None => Quality::Good,
            Some(&byte) => Quality::from_u8(byte).ok_or(CodecError::Contradiction { what: "quality" })?,
        };
        if !wanted.has(series_of[at], times[at]) {
            continue;
        }
        let series = &tables.series[series_of[at] as usize];
        let event = Event {
            device: series.device.clone(),
            stream: series.stream.clone(),
            kind: series.kind,
            value: std::mem::replace(&mut values[rank], Value::Bool(false)),
            device_time_ms: times[at],
            stamp: stamps[at],
            quality,
            unit: series.unit.clone(),
            id: ids.get_mut(rank).and_then(Option::take),
            attributes: attributes.get_mut(rank).map(std::mem::take).unwrap_or_default(),
        };
        decoded.events.push(SeqEvent { seq, event });
    }
    if numbered != events {
        return Err(CodecError::Contradiction { what: "more events than sequences" });
    }
    decoded.runs += 1;
    Ok(())
}

/// Reads strings, lists and series of a block of `events` events.
pub(crate) fn read_tables(reader: &mut Reader<'_>, events: usize) -> Result<Tables, CodecError> {
    let strings = read_strings(reader)?;
    let name = |reader: &mut Reader<'_>, what| -> Result<Name, CodecError> {
        let at = reader.varint()?;
        let name = usize::try_from(at).ok().and_then(|at| strings.get(at));
        name.cloned().ok_or_else(|| reader.invalid(what).into())
    };
    let mut places = ENTRIES_MAX;
    let mut spend = |places_taken: u64| -> Result<(), CodecError> {
        places = places
            .checked_sub(places_taken)
            .ok_or(CodecError::Contradiction { what: "more names than a block may hold" })?;
        Ok(())
    };
    let count = reader.count("attribute lists", events as u64)?;
    let mut attribute_lists = Vec::new();
    for _ in 0..count {
        let len = reader.count("attributes", ATTRIBUTES_MAX as u64)?;
        spend(2 * len)?;
        let pair = |_| Ok((name(reader, "attribute name")?, name(reader, "attribute value")?));
        attribute_lists.push((0..len).map(pair).collect::<Result<Attributes, CodecError>>()?);
    }
    let count = reader.count("field lists", events as u64)?;
    let mut field_lists = Vec::new();
    for _ in 0..count {
        let len = reader.count("fields", FIELDS_MAX as u64)?;
        spend(len)?;
        field_lists.push((0..len).map(|_| name(reader, "field name")).collect::<Result<Vec<Name>, CodecError>>()?);
    }
    let count = reader.count("series", events as u64)?;
    let mut series = Vec::new();
    for _ in 0..count {
        let tag = reader.u8()?;
        let kind = Kind::from_u8(tag & ((1 << KIND_BITS) - 1)).ok_or_else(|| reader.invalid("kind"))?;
        let shape = Shape::from_u8(tag >> KIND_BITS).ok_or_else(|| reader.invalid("value shape"))?;
        let device = name(reader, "device")?;
        let stream = name(reader, "stream")?;
        let unit = match reader.varint()?.checked_sub(1) {
            None => None,
            Some(at) => {
                let unit = usize::try_from(at).ok().and_then(|at| strings.get(at));
                let unit = unit.filter(|unit| unit.len() <= UNIT_BYTES_MAX);
                Some(unit.cloned().ok_or_else(|| reader.invalid("unit"))?)
            }
        };
        let fields = match shape {
            Shape::Fields => reader.count("field list", (field_lists.len() as u64).saturating_sub(1))? as usize,
            _ => 0,
        };
        if shape == Shape::Fields && field_lists.is_empty() {
            return Err(reader.invalid("field list").into());
        }
        series.push(Series { device, stream, unit, kind, shape, fields });
    }
    Ok(Tables { strings, attribute_lists, field_lists, series })
}

fn read_strings(reader: &mut Reader<'_>) -> Result<Vec<Name>, CodecError> {
    // Each string takes a byte for its length.
    let count = reader.count("strings", ENTRIES_MAX.min(reader.remaining() as u64))?;
    let mut ends = Vec::with_capacity(count as usize);
    let mut total = 0_usize;
    for _ in 0..count {
        total += reader.count("string bytes", STRING_BYTES_MAX as u64)? as usize;
        ends.push(total);
    }
    let bytes = reader.bytes(total)?;
    let text = str::from_utf8(bytes).map_err(|_| reader.invalid("strings"))?;
    let mut start = 0;
    let mut strings = Vec::with_capacity(ends.len());
    for end in ends {
        strings.push(Name::from(text.get(start..end).ok_or_else(|| reader.invalid("string"))?));
        start = end;
    }
    Ok(strings)
}

/// The series of each event in order of sequence, and the events of each series.
fn read_series_codes(reader: &mut Reader<'_>, series: usize, run: &Run) -> Result<(Vec<u32>, Vec<u32>), CodecError> {
    let mut lens = vec![0_u32; series];
    let mut followed_by: Vec<Option<u32>> = vec![None; series];
    let mut series_of = Vec::with_capacity(run.events.min(BLOCK_EVENTS_MAX as usize));
    let mut known = run.known_before as u32;
    let mut last: Option<u32> = None;
    for _ in 0..run.events {
        let code = reader.varint()?;
        let at = match code {
            SERIES_EXPECTED => last.and_then(|last| followed_by[last as usize]),
            SERIES_NEW => {
                known += 1;
                Some(known - 1).filter(|&at| (at as usize) < series)
            }
            code => u32::try_from(code - SERIES_BASE).ok().filter(|&at| at < known),
        };
        let at = at.ok_or_else(|| reader.invalid("series"))?;
        lens[at as usize] += 1;
        if let Some(last) = last {
            followed_by[last as usize] = Some(at);
        }
        last = Some(at);
        series_of.push(at);
    }
    if known as usize != run.known {
        return Err(CodecError::Contradiction { what: "series without an event" });
    }
    Ok((series_of, lens))
}

/// The places of the events series by series, and the inverse of that.
fn order_of(series_of: &[u32], lens: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut start = 0;
    let mut next: Vec<u32> = Vec::with_capacity(lens.len());
    for &len in lens {
        next.push(start);
        start += len;
    }
    let mut order = vec![0_u32; series_of.len()];
    let mut ranks = Vec::with_capacity(series_of.len());
    for (at, &series) in series_of.iter().enumerate() {
        let next = &mut next[series as usize];
        order[*next as usize] = at as u32;
        ranks.push(*next);
        *next += 1;
    }
    (order, ranks)
}

fn read_attributes(reader: &mut Reader<'_>, lens: &[u32], lists: &[Attributes]) -> Result<Vec<Attributes>, CodecError> {
    let mut found = Vec::new();
    for &len in lens {
        let mut last = 0;
        for _ in 0..len {
            if let Some(at) = reader.count("attribute list", lists.len() as u64 + 1)?.checked_sub(1) {
                last = at as usize;
            }
            found.push(if last == 0 { Vec::new() } else { lists[last - 1].clone() });
        }
    }
    Ok(found)
}

/// Reads the values of all events, series by series.
fn read_values(
    mut reader: Reader<'_>,
    tables: &Tables,
    lens: &[u32],
    numbers_left: &mut usize,
) -> Result<Vec<Value>, CodecError> {
    let wide = NumberReader::read_wide(&mut reader, *numbers_left)?;
    let text = reader.text("text", reader.remaining())?;
    let numbers = NumberReader::new(reader, wide, *numbers_left);
    let mut reader = ValueReader { numbers, text, floats: Vec::new(), integers: Vec::new() };
    let mut values = Vec::with_capacity(lens.iter().sum::<u32>() as usize);
    for (series, &len) in tables.series.iter().zip(lens) {
        let fields = if series.shape == Shape::Fields { &tables.field_lists[series.fields][..] } else { &[] };
        reader.series(series.shape, len as usize, fields, &mut values)?;
    }
    *numbers_left = reader.end()?;
    Ok(values)
}

/// The streams that values are read from.
#[derive(Debug)]
struct ValueReader<'a> {
    numbers: NumberReader<'a>,
    text: &'a str,
    floats: Vec<f64>,
    integers: Vec<i64>,
}

impl ValueReader<'_> {
    /// Appends the values of a series.
    fn series(&mut self, shape: Shape, len: usize, fields: &[Name], values: &mut Vec<Value>) -> Result<(), CodecError> {
        self.floats.clear();
        self.integers.clear();
        match shape {
            Shape::Number => {
                self.numbers.floats(len, &mut self.floats)?;
                values.extend(self.floats.iter().map(|&number| Value::Number(number)));
            }
            Shape::Integer => {
                self.numbers.integers(len, &mut self.integers)?;
                values.extend(self.integers.iter().map(|&whole| Value::Integer(whole)));
            }
            Shape::Bool => {
                let mut last = 0;
                for _ in 0..len {
                    last ^= self.numbers.byte()?;
                    if last > 1 {
                        return Err(CodecError::Contradiction { what: "truth value" });
                    }
                    values.push(Value::Bool(last == 1));
                }
            }
            Shape::Text => {
                for _ in 0..len {
                    values.push(self.text()?);
                }
            }
            Shape::Vector => {
                for _ in 0..len {
                    values.push(self.vector()?);
                }
            }
            Shape::Fields => {
                for _ in fields {
                    self.numbers.floats(len, &mut self.floats)?;
                }
                for event in 0..len {
                    let named = fields.iter().enumerate();
                    let named = named.map(|(field, name)| (name.clone(), self.floats[field * len + event]));
                    values.push(Value::Fields(named.collect()));
                }
            }
        }
        Ok(())
    }

    fn text(&mut self) -> Result<Value, CodecError> {
        let len = self.numbers.count("text bytes", TEXT_BYTES_MAX)?;
        let (text, rest) = self.text.split_at_checked(len).ok_or(CodecError::Contradiction { what: "text" })?;
        self.text = rest;
        Ok(Value::Text(text.into()))
    }

    fn vector(&mut self) -> Result<Value, CodecError> {
        let len = self.numbers.count("vector samples", VECTOR_LEN_MAX)?;
        let mut samples = Vec::new();
        self.numbers.floats(len, &mut samples)?;
        Ok(Value::Vector(samples.into()))
    }

    /// How many numbers may still come.
    fn end(&self) -> Result<usize, CodecError> {
        if !self.text.is_empty() {
            return Err(CodecError::Contradiction { what: "more text than its columns take" });
        }
        self.numbers.end()
    }
}
