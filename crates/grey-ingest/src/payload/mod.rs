//! Event payloads: what a device may write, over MQTT or HTTP.
//!
//! A payload is a bare number, an object with a `value`, or an array of those.
//! The keys of an object are `value`, `ts`, `unit`, `id`, `quality`, `priority`
//! and `attributes`; over HTTP, where no topic says it, also `device` and
//! `stream`. `docs/design/mqtt.md` has the whole contract. Nothing here reads a
//! clock: the time of an event without `ts` is passed in.

mod fast;
mod item;
mod request;
mod slow;
#[cfg(test)]
mod tests;
mod time;

use grey_model::limits::ATTRIBUTES_MAX;
use grey_model::{Event, Lane, Name};

use crate::topic::NameError;
pub use item::NameMemo;
use item::{Item, Scope};
pub use request::{EVENTS_PER_REQUEST_MAX, REJECTED_MAX, Rejected, Request, read_json, read_ndjson};
pub use time::{TIME_MAX_MS, TIME_MIN_MS, parse_rfc3339};

/// Most events in one MQTT payload: bounds what one packet can make of itself in memory.
pub const EVENTS_PER_PAYLOAD_MAX: usize = 10_000;
/// Most named numbers in one value: as many as attributes.
pub const FIELDS_MAX: usize = ATTRIBUTES_MAX;

/// Why a payload was refused: names the key, what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// There is nothing in it.
    #[error("payload is empty: allowed are a number, an object with a value, and an array of those")]
    Empty,
    /// It is not JSON.
    #[error("payload is not JSON: {words} at {}", place(*line, *column))]
    Syntax {
        /// What the parser says.
        words: String,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// It holds NaN or an infinity.
    #[error("NaN and infinities are not allowed, at {}: allowed are finite numbers", place(*line, *column))]
    NotFinite {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// It is JSON of the wrong kind.
    #[error("found {found}: allowed {}", if *objects_only { "are objects" } else { "are a number, and an object with a value" })]
    Shape {
        /// What it is.
        found: &'static str,
        /// Whether bare numbers are allowed.
        objects_only: bool,
    },
    /// A required key is missing.
    #[error("key \"{key}\" is missing: keys are {allowed}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// All keys.
        allowed: &'static str,
    },
    /// A key is not known.
    #[error("key {key:?} is unknown: allowed are {allowed}; other labels belong in attributes")]
    UnknownKey {
        /// The key.
        key: String,
        /// All keys.
        allowed: &'static str,
    },
    /// A key stands twice.
    #[error("key {key:?} stands twice")]
    RepeatedKey {
        /// The key.
        key: String,
    },
    /// A key has a value that is not allowed.
    #[error("key {key:?} is {found}: allowed are {allowed}")]
    Invalid {
        /// The key.
        key: String,
        /// What it is.
        found: String,
        /// What it may be.
        allowed: String,
    },
    /// A name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There are too many events.
    #[error("{found} events in one payload: allowed are at most {EVENTS_PER_PAYLOAD_MAX}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// An element of an array was refused, and the array with it.
    #[error("element {number}: {error}")]
    Item {
        /// Which one, from 1.
        number: usize,
        /// Why; told in this error's own words, so it is not its source.
        error: Box<PayloadError>,
    },
}

fn place(line: usize, column: usize) -> String {
    if line <= 1 { format!("column {column}") } else { format!("line {line}, column {column}") }
}

/// What a payload holds.
#[derive(Debug, PartialEq)]
enum Read {
    One(Item),
    Many(Vec<Item>),
}

fn read_items(payload: &[u8], scope: Scope, memo: &mut NameMemo) -> Result<Read, PayloadError> {
    if let Some(read) = fast::read(payload, scope, memo) {
        return Ok(read);
    }
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Err(PayloadError::Empty);
    }
    slow::read(payload, scope)
}

/// Reads a payload with both readers, which must agree: for the fuzz target and
/// a property test. Returns whether the fast one took it.
#[cfg(any(test, feature = "fuzzing"))]
pub fn assert_readers_agree(payload: &[u8]) -> bool {
    [Scope::Topic, Scope::Whole].into_iter().all(|scope| readers_agree(payload, scope))
}

#[cfg(any(test, feature = "fuzzing"))]
fn readers_agree(payload: &[u8], scope: Scope) -> bool {
    let Some(fast) = fast::read(payload, scope, &mut NameMemo::default()) else { return false };
    match slow::read(payload, scope) {
        // As text, where -0 and 0 differ.
        Ok(slow) => assert_eq!(format!("{fast:?}"), format!("{slow:?}"), "{}", String::from_utf8_lossy(payload)),
        Err(error) => panic!("only the fast reader takes {}: {error}", String::from_utf8_lossy(payload)),
    }
    true
}

/// Reads the payload of a message to a topic that stands for `device` and
/// `stream`. Calls `emit` for every event, in order, or not at all: one bad
/// element refuses the whole payload, which then goes to the dead-letter store
/// as it came. Returns how many events there were.
pub fn read(
    payload: &[u8],
    device: &Name,
    stream: &Name,
    now_ms: i64,
    memo: &mut NameMemo,
    mut emit: impl FnMut(Event, Option<Lane>),
) -> Result<usize, PayloadError> {
    match read_items(payload, Scope::Topic, memo)? {
        Read::One(item) => {
            let (event, lane) = item.into_event(device.clone(), stream.clone(), now_ms);
            emit(event, lane);
            Ok(1)
        }
        Read::Many(items) => {
            let count = items.len();
            for item in items {
                let (event, lane) = item.into_event(device.clone(), stream.clone(), now_ms);
                emit(event, lane);
            }
            Ok(count)
        }
    }
}
