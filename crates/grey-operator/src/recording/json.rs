//! JSON recordings: events as devices post them, and as a tier answers with
//! them, each alone on a line, in a list, or in a saved answer.

use std::collections::BTreeMap;

use grey_ingest::payload::{Request, read_json, read_ndjson};
use grey_model::limits::{ATTRIBUTES_MAX, EVENT_ID_BYTES_MAX, NAME_BYTES_MAX, UNIT_BYTES_MAX, VECTOR_LEN_MAX};
use grey_model::time::parse_time_ms;
use grey_model::{Event, Kind, Quality, Stamp, Value};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Item, Recorded, RecordingError};

/// Bad values of a document after which reading goes on: each may cost a look at the whole document.
const RESUMED_MAX: usize = 100;
/// Stands for "no time given"; no event has it.
const NO_TIME_MS: i64 = i64::MIN;

/// An event as `GET /v1/events` writes it. What it has besides does not matter here.
#[derive(Debug, Deserialize)]
struct Answered {
    device: String,
    stream: String,
    kind: Kind,
    value: Value,
    ts: String,
    site: Option<String>,
    stamp: Option<String>,
    hlc: Option<String>,
    #[serde(default)]
    quality: Quality,
    unit: Option<String>,
    id: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// A saved page of `GET /v1/events`.
#[derive(Debug, Deserialize)]
struct Page {
    events: Vec<Answered>,
    cursor: Option<String>,
}

/// Reads values; remembers which form came last, since the next is likely of the same.
#[derive(Debug, Default)]
pub(super) struct JsonReader {
    answered: bool,
    /// A page had a cursor, and nothing after it.
    pub(super) has_more: bool,
}

/// True when a recording's first line is a value by itself, not the beginning of a document of several lines.
pub(super) fn is_whole(text: &[u8]) -> bool {
    // What is closed like an object but is no JSON is a bad line, not the head of a document.
    text.starts_with(b"{") && text.ends_with(b"}") || serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

impl JsonReader {
    /// Reads one value: an event, a list of them, or a page.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        each: &mut dyn FnMut(Item) -> Result<(), RecordingError>,
    ) -> Result<(), RecordingError> {
        self.has_more = false;
        if text.first() == Some(&b'[') {
            return self.list(text, each);
        }
        if self.answered
            && let Ok(event) = serde_json::from_slice(text)
        {
            return each(item(event));
        }
        let request = read_ndjson(text, NO_TIME_MS);
        if request.rejected_total == 0 {
            self.answered = false;
            return posted(request, each);
        }
        if let Ok(event) = serde_json::from_slice(text) {
            self.answered = true;
            return each(item(event));
        }
        if let Ok(page) = serde_json::from_slice::<Page>(text) {
            self.has_more = page.cursor.is_some();
            return page.events.into_iter().try_for_each(|event| each(item(event)));
        }
        posted(request, each)
    }

    fn list(
        &mut self,
        text: &[u8],
        each: &mut dyn FnMut(Item) -> Result<(), RecordingError>,
    ) -> Result<(), RecordingError> {
        let request = read_json(text, NO_TIME_MS);
        if request.events.is_empty()
            && let Ok(events) = serde_json::from_slice::<Vec<Answered>>(text)
        {
            return events.into_iter().try_for_each(|event| each(item(event)));
        }
        posted(request, each)
    }

    /// Reads a document of several lines: values that follow each other, however they are laid out.
    pub(super) fn read_document(
        &mut self,
        document: &[u8],
        first_line: u64,
        each: &mut dyn FnMut(u64, Item) -> Result<(), RecordingError>,
    ) -> Result<(), RecordingError> {
        let newlines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let (mut rest, mut line) = (document, first_line);
        for _ in 0..RESUMED_MAX {
            let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
            let (mut from, mut error) = (0, None);
            while let Some(value) = values.next() {
                if let Err(wrong) = value {
                    error = Some(wrong);
                    break;
                }
                let raw = &rest[from..values.byte_offset()];
                let leading = raw.len() - raw.trim_ascii_start().len();
                let at = line + newlines(&raw[..leading]);
                self.read(raw.trim_ascii(), &mut |item| each(at, item))?;
                line += newlines(raw);
                from += raw.len();
            }
            let Some(error) = error else { return Ok(()) };
            // What follows the bad value's first line may be good again.
            let raw = &rest[from..];
            let leading = raw.len() - raw.trim_ascii_start().len();
            line += newlines(&raw[..leading]);
            let words = error.to_string();
            let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(head, _)| head);
            each(line, Item::Bad(format!("not JSON: {words}")))?;
            let Some(end) = raw[leading..].iter().position(|byte| *byte == b'\n') else { return Ok(()) };
            rest = &raw[leading + end + 1..];
            line += 1;
        }
        each(line, Item::Bad("too much of the document is not JSON; the rest was not read".into()))
    }
}

fn posted(request: Request, each: &mut dyn FnMut(Item) -> Result<(), RecordingError>) -> Result<(), RecordingError> {
    for (event, _) in request.events {
        each(Item::Reading(Box::new(Recorded { event, stamp: None }), None))?;
    }
    let more = request.rejected_total - request.rejected.len();
    for rejected in request.rejected {
        each(Item::Bad(rejected.reason))?;
    }
    for _ in 0..more {
        each(Item::Bad("cannot be read".into()))?;
    }
    Ok(())
}

fn item(answered: Answered) -> Item {
    if answered.kind != Kind::Reading {
        return Item::Derived;
    }
    let site = answered.site.clone();
    match reading(answered) {
        Ok(recorded) => Item::Reading(Box::new(recorded), site),
        Err(reason) => Item::Bad(reason),
    }
}

fn reading(answered: Answered) -> Result<Recorded, String> {
    let too_long = |text: &Option<String>, max: usize| text.as_ref().is_some_and(|text| text.len() > max);
    if too_long(&answered.unit, UNIT_BYTES_MAX) || too_long(&answered.id, EVENT_ID_BYTES_MAX) {
        return Err("the unit or the id is too long".into());
    }
    let long = |(key, value): (&String, &String)| key.len() > NAME_BYTES_MAX || value.len() > NAME_BYTES_MAX;
    if answered.attributes.len() > ATTRIBUTES_MAX || answered.attributes.iter().any(long) {
        return Err("the attributes are too many or too long".into());
    }
    if matches!(&answered.value, Value::Vector(samples) if samples.len() > VECTOR_LEN_MAX) {
        return Err(format!("the value has more than {VECTOR_LEN_MAX} samples"));
    }
    let device_time_ms = parse_time_ms(&answered.ts).map_err(|error| error.to_string())?;
    // The clock whole where it is given: it orders events within a millisecond.
    let stamp = match (answered.hlc.as_deref().map(str::parse), &answered.stamp) {
        (Some(Ok(hlc)), _) => Some(Stamp { hlc, ..Stamp::default() }),
        (_, Some(text)) => Some(Stamp::at_unix_ms(parse_time_ms(text).map_err(|error| error.to_string())?)),
        _ => None,
    };
    let event = Event {
        device: answered.device.into(),
        stream: answered.stream.into(),
        kind: Kind::Reading,
        value: answered.value,
        device_time_ms,
        stamp: Stamp::default(),
        quality: answered.quality,
        unit: answered.unit.map(Into::into),
        id: answered.id.map(Into::into),
        attributes: answered.attributes.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
    };
    Ok(Recorded { event, stamp })
}
