//! The bodies of `POST /v1/events`: events that bring their own device and stream.

use grey_model::{Event, Lane};

use super::item::{Item, NameMemo, Scope};
use super::{PayloadError, Read, fast, slow};

/// Most events accepted of one request: bounds one intake record.
pub const EVENTS_PER_REQUEST_MAX: usize = 100_000;

/// Most rejected lines that are described; the others are only counted.
pub const REJECTED_MAX: usize = 1_000;

/// A line or element that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The line of NDJSON, or the element of a JSON array, from 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub reason: String,
}

/// What a request's body holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The good events, in order, with the lanes that were asked for.
    pub events: Vec<(Event, Option<Lane>)>,
    /// The first [`REJECTED_MAX`] refused ones.
    pub rejected: Vec<Rejected>,
    /// How many were refused in all.
    pub rejected_total: usize,
}

impl Request {
    fn add(&mut self, line: usize, item: Result<Item, PayloadError>, now_ms: i64) {
        let reason = match item {
            Ok(item) => match self.accept(item, now_ms) {
                Ok(()) => return,
                Err(reason) => reason,
            },
            Err(error) => error.to_string(),
        };
        self.rejected_total += 1;
        if self.rejected.len() < REJECTED_MAX {
            self.rejected.push(Rejected { line, reason });
        }
    }

    fn accept(&mut self, mut item: Item, now_ms: i64) -> Result<(), String> {
        if self.events.len() >= EVENTS_PER_REQUEST_MAX {
            return Err(format!("more than {EVENTS_PER_REQUEST_MAX} events in one request; send the rest in another"));
        }
        let (Some(device), Some(stream)) = (item.device.take(), item.stream.take()) else {
            return Err("device and stream are missing".into());
        };
        self.events.push(item.into_event(device, stream, now_ms));
        Ok(())
    }
}

/// Reads a JSON body: one object, or an array of objects. A bad element does
/// not refuse the others; a body that is not JSON is refused as line 1.
pub fn read_json(body: &[u8], now_ms: i64) -> Request {
    let mut request = Request::default();
    let mut memo = NameMemo::default();
    match fast::read(body, Scope::Whole, &mut memo) {
        Some(Read::One(item)) => request.add(1, Ok(item), now_ms),
        Some(Read::Many(items)) => {
            for (i, item) in items.into_iter().enumerate() {
                request.add(i + 1, Ok(item), now_ms);
            }
        }
        None if body.iter().all(u8::is_ascii_whitespace) => request.add(1, Err(PayloadError::Empty), now_ms),
        None => match slow::parse(body) {
            Ok(slow::Json::List(list)) => {
                for (i, json) in list.into_iter().enumerate() {
                    request.add(i + 1, slow::item(json, Scope::Whole), now_ms);
                }
            }
            Ok(json) => request.add(1, slow::item(json, Scope::Whole), now_ms),
            Err(error) => request.add(1, Err(error), now_ms),
        },
    }
    request
}

/// Reads a body of NDJSON: one object per line; blank lines are skipped. A bad
/// line does not refuse the others.
pub fn read_ndjson(body: &[u8], now_ms: i64) -> Request {
    let mut request = Request::default();
    let mut memo = NameMemo::default();
    for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let item = match fast::read(line, Scope::Whole, &mut memo) {
            Some(Read::One(item)) => Ok(item),
            _ => slow::parse(line).and_then(|json| slow::item(json, Scope::Whole)),
        };
        request.add(i + 1, item, now_ms);
    }
    request
}
