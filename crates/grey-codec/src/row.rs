//! One event as a self-delimiting row: the form that the intake log holds.
//!
//! A row is written once per accepted event before the device is
//! acknowledged, so it is cheap rather than small. It holds whatever was
//! accepted: the limits of an event are the ingest's and the block's to
//! enforce, so that a replay never gets stuck on a row. The layout is in
//! `docs/design/row-format.md`.

use bytes::BufMut;
use grey_model::{Event, Kind, Name, Quality, Reader, Stamp, Value, WireError, Writer};

use crate::error::CodecError;
use crate::id_form::{IdForm, RAW_BYTES};

const KIND_BITS: u8 = 0b0000_0111;
const QUALITY_SHIFT: u32 = 3;
const QUALITY_BITS: u8 = 0b0000_0011;
const HAS_UNIT: u8 = 1 << 5;
const HAS_ID: u8 = 1 << 6;
const HAS_ATTRIBUTES: u8 = 1 << 7;

const TAG_BITS: u8 = 0b0000_0111;
const ID_FORM_SHIFT: u32 = 3;

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const INTEGER: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const VECTOR: u8 = 5;
const FIELDS: u8 = 6;

/// Appends the event's row to `out`.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    let mut flags = event.kind as u8 | (event.quality as u8) << QUALITY_SHIFT;
    let id = event.id.as_ref().map(|id| (id, IdForm::of(id)));
    flags |= if event.unit.is_some() { HAS_UNIT } else { 0 };
    flags |= if id.is_some() { HAS_ID } else { 0 };
    flags |= if event.attributes.is_empty() { 0 } else { HAS_ATTRIBUTES };
    out.reserve(48 + event.device.len() + event.stream.len());
    out.put_u8(flags);
    out.put_u8(value_tag(&event.value) | id.as_ref().map_or(0, |(_, (form, _))| (*form as u8) << ID_FORM_SHIFT));
    out.put_u64_le(event.stamp.hlc);
    out.put_varint(event.stamp.uncertainty_ms.into());
    // Mostly within seconds of the stamp; wrapping keeps any value exact.
    out.put_varint_signed(event.device_time_ms.wrapping_sub(event.stamp.unix_ms()));
    out.put_blob(event.device.as_bytes());
    out.put_blob(event.stream.as_bytes());
    encode_value(&event.value, out);
    if let Some(unit) = &event.unit {
        out.put_blob(unit.as_bytes());
    }
    match id {
        None => {}
        Some((id, (IdForm::Text, _))) => out.put_blob(id.as_bytes()),
        Some((_, (_, raw))) => out.put_slice(&raw),
    }
    if !event.attributes.is_empty() {
        out.put_varint(event.attributes.len() as u64);
        for (name, value) in &event.attributes {
            out.put_blob(name.as_bytes());
            out.put_blob(value.as_bytes());
        }
    }
}

fn value_tag(value: &Value) -> u8 {
    match value {
        Value::Bool(false) => FALSE,
        Value::Bool(true) => TRUE,
        Value::Integer(_) => INTEGER,
        Value::Number(_) => NUMBER,
        Value::Text(_) => TEXT,
        Value::Vector(_) => VECTOR,
        Value::Fields(_) => FIELDS,
    }
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(_) => {}
        Value::Integer(integer) => out.put_varint_signed(*integer),
        Value::Number(number) => out.put_u64_le(number.to_bits()),
        Value::Text(text) => out.put_blob(text.as_bytes()),
        Value::Vector(samples) => {
            out.put_varint(samples.len() as u64);
            out.reserve(samples.len() * 8);
            for sample in samples {
                out.put_u64_le(sample.to_bits());
            }
        }
        Value::Fields(fields) => {
            out.put_varint(fields.len() as u64);
            for (name, number) in fields {
                out.put_blob(name.as_bytes());
                out.put_u64_le(number.to_bits());
            }
        }
    }
}

/// Reads one row and leaves the reader behind it. Allocates no more than a
/// small multiple of the bytes that are there.
pub fn decode(reader: &mut Reader<'_>) -> Result<Event, CodecError> {
    let flags = reader.u8()?;
    let kind = Kind::from_u8(flags & KIND_BITS).ok_or_else(|| reader.invalid("kind"))?;
    let quality = Quality::from_u8(flags >> QUALITY_SHIFT & QUALITY_BITS).ok_or_else(|| reader.invalid("quality"))?;
    let tags = reader.u8()?;
    let form = IdForm::from_u8(tags >> ID_FORM_SHIFT).ok_or_else(|| reader.invalid("id form"))?;
    let hlc = reader.u64()?;
    let uncertainty_ms = reader.count("uncertainty", u32::MAX.into())? as u32;
    let stamp = Stamp { hlc, uncertainty_ms };
    let device_time_ms = reader.varint_signed()?.wrapping_add(stamp.unix_ms());
    let device = name(reader, "device")?;
    let stream = name(reader, "stream")?;
    let value = decode_value(tags & TAG_BITS, reader)?;
    let unit = if flags & HAS_UNIT == 0 { None } else { Some(name(reader, "unit")?) };
    let id = match (flags & HAS_ID != 0, form) {
        (false, _) => None,
        (true, IdForm::Text) => Some(name(reader, "id")?),
        (true, form) => form.spell(reader.bytes(RAW_BYTES)?).map(Name::from),
    };
    let mut attributes = Vec::new();
    if flags & HAS_ATTRIBUTES != 0 {
        let count = reader.count("attributes", reader.remaining() as u64 / 2)?;
        attributes.reserve_exact(count as usize);
        for _ in 0..count {
            attributes.push((name(reader, "attribute name")?, name(reader, "attribute value")?));
        }
    }
    Ok(Event { device, stream, kind, value, device_time_ms, stamp, quality, unit, id, attributes })
}

fn name(reader: &mut Reader<'_>, what: &'static str) -> Result<Name, WireError> {
    reader.text(what, reader.remaining()).map(Name::from)
}

fn decode_value(tag: u8, reader: &mut Reader<'_>) -> Result<Value, WireError> {
    Ok(match tag {
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INTEGER => Value::Integer(reader.varint_signed()?),
        NUMBER => Value::Number(reader.f64()?),
        TEXT => Value::Text(reader.text("text", reader.remaining())?.into()),
        VECTOR => {
            let count = reader.count("vector samples", reader.remaining() as u64 / 8)?;
            Value::Vector((0..count).map(|_| reader.f64()).collect::<Result<_, _>>()?)
        }
        FIELDS => {
            let count = reader.count("fields", reader.remaining() as u64 / 9)?;
            let field = |_| Ok((name(reader, "field name")?, reader.f64()?));
            Value::Fields((0..count).map(field).collect::<Result<_, WireError>>()?)
        }
        _ => return Err(reader.invalid("value tag")),
    })
}
