//! CSV with a header: RFC 4180 quoting within a line; comma, semicolon or tab.

use grey_model::limits::{ATTRIBUTES_MAX, EVENT_ID_BYTES_MAX, NAME_BYTES_MAX, UNIT_BYTES_MAX};
use grey_model::time::parse_time_ms;
use grey_model::{Event, Name, Quality, Stamp, Value};

use super::{Recorded, Selection};

/// Columns of a header: a name each, and attributes.
const COLUMNS_MAX: usize = 8 + ATTRIBUTES_MAX;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Time,
    Value,
    Device,
    Stream,
    Unit,
    Quality,
    Id,
    /// Any other column is an attribute of its own name.
    Attribute(Name),
}

/// The header, and with it how to read the lines below.
#[derive(Debug, Clone)]
pub(super) struct Header {
    separator: u8,
    columns: Vec<Column>,
}

impl Header {
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let separator = [b',', b';', b'\t'].into_iter().find(|separator| line.contains(separator));
        let separator = separator.ok_or("the first line is neither JSON nor a CSV header")?;
        let names = split(line, separator)?;
        if names.len() > COLUMNS_MAX {
            return Err(format!("the CSV header has {} columns, at most {COLUMNS_MAX} are allowed", names.len()));
        }
        let mut columns: Vec<Column> = Vec::new();
        for name in &names {
            let column = match name.trim().to_ascii_lowercase().as_str() {
                "timestamp" | "ts" | "time" | "datetime" => Column::Time,
                "value" => Column::Value,
                "device" => Column::Device,
                "stream" => Column::Stream,
                "unit" => Column::Unit,
                "quality" => Column::Quality,
                "id" => Column::Id,
                "" => return Err(format!("column {} of the CSV header has no name", columns.len() + 1)),
                _ if name.len() > NAME_BYTES_MAX => return Err("a name of the CSV header is too long".into()),
                _ => Column::Attribute(name.trim().into()),
            };
            if columns.contains(&column) {
                return Err(format!("the CSV header names {:?} twice", name.trim()));
            }
            columns.push(column);
        }
        for (column, name) in [(Column::Time, "timestamp"), (Column::Value, "value")] {
            if !columns.contains(&column) {
                return Err(format!("the CSV header has no column {name}"));
            }
        }
        Ok(Self { separator, columns })
    }

    /// Reads a line. Where no column names the device, it is the selection's or
    /// the recording's own name; the stream likewise, or `value`.
    pub(super) fn read(&self, line: &[u8], selection: &Selection, recording: &str) -> Result<Recorded, String> {
        let fields = split(line, self.separator)?;
        if fields.len() != self.columns.len() {
            return Err(format!("{} columns where the header has {}", fields.len(), self.columns.len()));
        }
        let given = |name: &Option<String>, other: &str| Name::from(name.as_deref().unwrap_or(other));
        let mut event = Event {
            value: Value::Bool(false),
            ..Event::reading(given(&selection.device, stem(recording)), given(&selection.stream, "value"), 0.0, 0)
        };
        for (column, field) in self.columns.iter().zip(fields) {
            let field = field.trim();
            match column {
                Column::Time => event.device_time_ms = time(field)?,
                Column::Value => event.value = value(field)?,
                Column::Device => event.device = field.into(),
                Column::Stream => event.stream = field.into(),
                Column::Unit if field.len() > UNIT_BYTES_MAX => return Err("the unit is too long".into()),
                Column::Unit => event.unit = (!field.is_empty()).then(|| field.into()),
                Column::Quality => event.quality = quality(field)?,
                Column::Id if field.len() > EVENT_ID_BYTES_MAX => return Err("the id is too long".into()),
                Column::Id => event.id = (!field.is_empty()).then(|| field.into()),
                Column::Attribute(_) if field.is_empty() => {}
                Column::Attribute(_) if field.len() > NAME_BYTES_MAX => return Err("an attribute is too long".into()),
                Column::Attribute(name) => event.attributes.push((name.clone(), field.into())),
            }
        }
        Ok(Recorded { event, stamp: None::<Stamp> })
    }
}

/// A file's name without folders and extension.
fn stem(recording: &str) -> &str {
    let stem = std::path::Path::new(recording).file_stem().and_then(|stem| stem.to_str());
    stem.filter(|stem| !stem.is_empty() && *stem != "-").unwrap_or("recording")
}

/// RFC 3339, Unix milliseconds, or a date and time without offset, which is UTC.
fn time(text: &str) -> Result<i64, String> {
    parse_time_ms(text).or_else(|error| parse_time_ms(&format!("{text}Z")).map_err(|_| error.to_string()))
}

fn value(text: &str) -> Result<Value, String> {
    match text {
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        "" => return Err("the value is empty".into()),
        _ => {}
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Number(number)),
        Ok(_) => Err(format!("the value {text} is not finite: NaN and infinities are not allowed")),
        Err(_) => Err(format!("the value {:?} is not a number", shortened(text))),
    }
}

fn quality(text: &str) -> Result<Quality, String> {
    let all = [Quality::Good, Quality::Uncertain, Quality::Bad];
    match text {
        "" => Ok(Quality::Good),
        text => all
            .into_iter()
            .find(|quality| quality.as_str() == text)
            .ok_or_else(|| format!("the quality {:?} is none of good, uncertain, bad", shortened(text))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The fields of a line.
fn split(line: &[u8], separator: u8) -> Result<Vec<String>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8 text".to_owned())?;
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        // One more than a header may have is enough to be told apart from it.
        if fields.len() > COLUMNS_MAX {
            return Ok(fields);
        }
        let separator = char::from(separator);
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = unquote(quoted)?;
            fields.push(field);
            match after.strip_prefix(separator) {
                Some(after) => rest = after,
                None if after.is_empty() => return Ok(fields),
                None => return Err("text follows a closing quote".into()),
            }
        } else {
            match rest.split_once(separator) {
                Some((field, after)) => {
                    fields.push(field.to_owned());
                    rest = after;
                }
                None => {
                    fields.push(rest.to_owned());
                    return Ok(fields);
                }
            }
        }
    }
}

/// The text up to the closing quote, in which two quotes stand for one, and what follows it.
fn unquote(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quote is not closed on its line")?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, after)),
        }
    }
}
