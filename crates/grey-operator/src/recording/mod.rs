//! Recordings: events that a site once took, from a file.
//!
//! Three forms are read, and told apart by themselves: NDJSON or JSON as
//! `POST /v1/events` takes it, NDJSON or JSON as `GET /v1/events` gives it,
//! and CSV with a header. A line that cannot be read is named, counted and
//! passed over. Memory is bounded by one line, or one JSON document.
//!
//! Nothing here knows rules.

mod csv;
mod json;
mod lines;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

use grey_ingest::payload::{TIME_MAX_MS, TIME_MIN_MS};
use grey_model::limits::NAME_BYTES_MAX;
use grey_model::{Event, Name, Stamp};

use lines::Lines;

/// Longest line in bytes: a vector of the greatest length with room to spare.
pub(crate) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest JSON document that spans lines, in bytes. Longer recordings are NDJSON.
const DOCUMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bad lines that are described; the others are only counted.
const BAD_LINES_MAX: usize = 20;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened or read.
    #[error("{name}: cannot be read: {error}")]
    Io {
        /// The file.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// A line is bad and the reader was told to be strict.
    #[error("{name}:{line}: {reason}")]
    Strict {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The first line is neither JSON nor a CSV header.
    #[error(
        "{name}:1: {problem}; allowed: NDJSON, JSON, or CSV with a header such as timestamp,value or device,stream,ts,value,unit"
    )]
    Header {
        /// The file.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A JSON document is too large to be read whole.
    #[error("{name}: a JSON document of more than {DOCUMENT_BYTES_MAX} bytes; write one event on a line (NDJSON)")]
    TooLarge {
        /// The file.
        name: String,
    },
    /// Rules belong to one site.
    #[error("{name}:{line}: the recording holds events of {first} and of {second}: choose one with --site")]
    Sites {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// One site.
        first: String,
        /// Another one.
        second: String,
    },
    /// Nothing in it is a reading.
    #[error("{name}: there is no reading in it{why}")]
    Empty {
        /// The file.
        name: String,
        /// What there is instead.
        why: String,
    },
}

/// Which events are wanted, and what a recording leaves open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The device: of every line where lines name none, else the only one wanted.
    pub(crate) device: Option<String>,
    /// The stream, likewise.
    pub(crate) stream: Option<String>,
    /// Only this site, where lines name one.
    pub(crate) site: Option<String>,
    /// Only event times at or after this, Unix ms.
    pub(crate) from_ms: Option<i64>,
    /// Only event times before this, Unix ms.
    pub(crate) to_ms: Option<i64>,
    /// The first bad line is an error.
    pub(crate) strict: bool,
}

/// One event of a recording.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorded {
    /// The event.
    pub(crate) event: Event,
    /// When the site accepted it, where the recording says so.
    pub(crate) stamp: Option<Stamp>,
}

/// A line that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct BadLine {
    /// The line, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    /// Events handed on.
    pub(crate) events: u64,
    /// The first bad lines.
    pub(crate) bad: Vec<BadLine>,
    /// All bad lines.
    pub(crate) bad_total: u64,
    /// Alerts, aggregates and other events that rules made when it was recorded.
    pub(crate) derived: u64,
    /// Events of other sites, devices, streams or times than those wanted.
    pub(crate) unwanted: u64,
    /// The site that the events name.
    pub(crate) site: Option<String>,
    /// A saved page says that more pages follow.
    pub(crate) has_more: bool,
}

/// Reads a recording called `name` from its start; `each` gets its events in
/// the order of the file, `progress` the bytes read so far, after every line.
pub(crate) fn read(
    input: &mut dyn BufRead,
    name: &str,
    selection: &Selection,
    progress: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(Recorded),
) -> Result<Summary, RecordingError> {
    let mut reader = Reader { name, selection, each, summary: Summary::default() };
    let io = |error| RecordingError::Io { name: name.into(), error };
    let mut lines = Lines::new(input);
    let first = loop {
        match lines.next_line().map_err(io)? {
            None => break None,
            Some(line) if line.is_blank() => {}
            Some(line) => break Some(line.number),
        }
    };
    let Some(first) = first else { return reader.finish() };
    let text = lines.text();
    if lines.is_too_long() || !matches!(text.first(), Some(b'{' | b'[')) {
        let header =
            csv::Header::parse(text).map_err(|problem| RecordingError::Header { name: name.into(), problem })?;
        while let Some(line) = lines.next_line().map_err(io)? {
            if line.is_blank() {
                continue;
            }
            let read = if line.too_long { Err(too_long()) } else { header.read(lines.text(), reader.selection, name) };
            reader.take(line.number, read.map(|recorded| (recorded, None)))?;
            progress(lines.bytes_read());
        }
    } else if json::is_whole(text) {
        let mut json = json::JsonReader::default();
        let mut number = first;
        loop {
            if lines.is_too_long() {
                reader.bad(number, too_long())?;
            } else if !lines.text().is_empty() {
                json.read(lines.text(), &mut |item| reader.item(number, item))?;
            }
            progress(lines.bytes_read());
            match lines.next_line().map_err(io)? {
                Some(line) => number = line.number,
                None => break,
            }
        }
        reader.summary.has_more |= json.has_more;
    } else {
        let document = lines.rest(DOCUMENT_BYTES_MAX).map_err(io)?;
        let document = document.ok_or_else(|| RecordingError::TooLarge { name: name.into() })?;
        progress(lines.bytes_read());
        let mut json = json::JsonReader::default();
        json.read_document(&document, first, &mut |number, item| reader.item(number, item))?;
        reader.summary.has_more |= json.has_more;
    }
    reader.finish()
}

fn too_long() -> String {
    format!("the line is longer than {LINE_BYTES_MAX} bytes")
}

/// What one line said.
enum Item {
    /// A reading, and the site that it names.
    Reading(Box<Recorded>, Option<String>),
    /// An event that a rule made.
    Derived,
    /// Nothing that can be read.
    Bad(String),
}

struct Reader<'a> {
    name: &'a str,
    selection: &'a Selection,
    each: &'a mut dyn FnMut(Recorded),
    summary: Summary,
}

impl Reader<'_> {
    fn item(&mut self, line: u64, item: Item) -> Result<(), RecordingError> {
        match item {
            Item::Reading(recorded, site) => self.take(line, Ok((*recorded, site))),
            Item::Derived => {
                self.summary.derived += 1;
                Ok(())
            }
            Item::Bad(reason) => self.bad(line, reason),
        }
    }

    fn take(&mut self, line: u64, read: Result<(Recorded, Option<String>), String>) -> Result<(), RecordingError> {
        let (recorded, site) = match read.and_then(|(recorded, site)| checked(recorded).map(|r| (r, site))) {
            Ok(read) => read,
            Err(reason) => return self.bad(line, reason),
        };
        let Selection { device, stream, site: wanted, from_ms, to_ms, .. } = self.selection;
        let event = &recorded.event;
        let differs = |wanted: &Option<String>, is: &Name| wanted.as_ref().is_some_and(|wanted| *wanted != **is);
        if differs(device, &event.device)
            || differs(stream, &event.stream)
            || from_ms.is_some_and(|from| event.device_time_ms < from)
            || to_ms.is_some_and(|to| event.device_time_ms >= to)
            || matches!((wanted, &site), (Some(wanted), Some(site)) if wanted != site)
        {
            self.summary.unwanted += 1;
            return Ok(());
        }
        match (&self.summary.site, site) {
            (Some(first), Some(second)) if *first != second => {
                return Err(RecordingError::Sites { name: self.name.into(), line, first: first.clone(), second });
            }
            (None, Some(site)) => self.summary.site = Some(site),
            _ => {}
        }
        self.summary.events += 1;
        (self.each)(recorded);
        Ok(())
    }

    fn bad(&mut self, line: u64, reason: String) -> Result<(), RecordingError> {
        if self.selection.strict {
            return Err(RecordingError::Strict { name: self.name.into(), line, reason });
        }
        self.summary.bad_total += 1;
        if self.summary.bad.len() < BAD_LINES_MAX {
            self.summary.bad.push(BadLine { line, reason });
        }
        Ok(())
    }

    fn finish(self) -> Result<Summary, RecordingError> {
        let Summary { events, bad_total, derived, unwanted, bad, .. } = &self.summary;
        if *events > 0 {
            return Ok(self.summary);
        }
        let mut why = String::new();
        if let Some(bad) = bad.first() {
            why = format!("; {bad_total} lines cannot be read, the first is line {}: {}", bad.line, bad.reason);
        } else if *unwanted > 0 {
            why = format!("; {unwanted} events are not those asked for");
        } else if *derived > 0 {
            why = format!("; {derived} events are alerts, aggregates or other events that rules made");
        }
        Err(RecordingError::Empty { name: self.name.into(), why })
    }
}

/// Holds an event against what the intake would take.
fn checked(recorded: Recorded) -> Result<Recorded, String> {
    let event = &recorded.event;
    for (what, name) in [("device", &event.device), ("stream", &event.stream)] {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(format!("the {what} must have 1 to {NAME_BYTES_MAX} bytes without control characters"));
        }
    }
    if !(TIME_MIN_MS..=TIME_MAX_MS).contains(&event.device_time_ms) {
        return Err("it has no time: a recording needs one on every event (ts)".into());
    }
    Ok(recorded)
}
