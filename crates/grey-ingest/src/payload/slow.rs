//! The complete reader: any JSON through `serde_json` into a small tree, then
//! key by key with an error that names the key and what is allowed.

use std::fmt;

use grey_model::limits::{
    ATTRIBUTES_MAX, EVENT_ID_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX, UNIT_BYTES_MAX, VECTOR_LEN_MAX,
};
use grey_model::{Name, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::item::{Item, Scope, lane_of, quality_of};
use super::time::{TIME_MAX_MS, TIME_MIN_MS, parse_rfc3339};
use super::{EVENTS_PER_PAYLOAD_MAX, FIELDS_MAX, PayloadError, Read};
use crate::topic::check_name;

/// A JSON value. Members keep their order and their repetitions; whole numbers
/// are kept apart from others. `serde_json` bounds its depth.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Whole(_) | Self::Real(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Whole(whole) => Some(whole as f64),
            Self::Real(real) => Some(real),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyJson;
        impl<'de> Visitor<'de> for AnyJson {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
                Ok(Json::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Json, E> {
                Ok(Json::Whole(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Json, E> {
                Ok(i64::try_from(v).map_or(Json::Real(v as f64), Json::Whole))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Json, E> {
                Ok(Json::Real(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Json, E> {
                Ok(Json::Text(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(Json::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }
        deserializer.deserialize_any(AnyJson)
    }
}

/// Reads text as JSON.
pub(super) fn parse(payload: &[u8]) -> Result<Json, PayloadError> {
    serde_json::from_slice(payload).map_err(|error| {
        // The words of serde_json end in the place, which is told in our own way.
        let words = error.to_string();
        let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(head, _)| head);
        let (line, column) = (error.line(), error.column());
        if not_finite(payload, line, column) {
            return PayloadError::NotFinite { line, column };
        }
        PayloadError::Syntax { words: words.into(), line, column }
    })
}

/// Whether the place of a syntax error holds `NaN` or an infinity, which JSON
/// does not have but some libraries write.
fn not_finite(payload: &[u8], line: usize, column: usize) -> bool {
    let line = payload.split(|b| *b == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    let near = line.get(column.saturating_sub(2)..).unwrap_or_default();
    let near = near.get(..near.len().min(12)).unwrap_or_default().to_ascii_lowercase();
    [&b"nan"[..], b"inf"].iter().any(|word| near.windows(word.len()).take(3).any(|window| window == *word))
}

/// Reads a whole payload; the first error refuses all of it.
pub(super) fn read(payload: &[u8], scope: Scope) -> Result<Read, PayloadError> {
    match parse(payload)? {
        Json::List(list) => {
            if list.len() > EVENTS_PER_PAYLOAD_MAX {
                return Err(PayloadError::TooMany { found: list.len() });
            }
            let item = |(i, json)| {
                item(json, scope).map_err(|error| PayloadError::Item { number: i + 1, error: Box::new(error) })
            };
            Ok(Read::Many(list.into_iter().enumerate().map(item).collect::<Result<_, _>>()?))
        }
        json => item(json, scope).map(Read::One),
    }
}

/// Reads one element.
pub(super) fn item(json: Json, scope: Scope) -> Result<Item, PayloadError> {
    match json {
        Json::Whole(whole) if scope == Scope::Topic => Ok(Item::of(Value::Integer(whole))),
        Json::Real(real) if scope == Scope::Topic => Ok(Item::of(Value::Number(real))),
        Json::Object(members) => object(members, scope),
        other => Err(PayloadError::Shape { found: other.kind(), objects_only: scope == Scope::Whole }),
    }
}

fn object(members: Vec<(String, Json)>, scope: Scope) -> Result<Item, PayloadError> {
    let mut item = Item::of(Value::Bool(false));
    let mut has_value = false;
    let mut seen: Vec<&'static str> = Vec::new();
    for (key, json) in members {
        let known = match key.as_str() {
            "value" => "value",
            "ts" => "ts",
            "unit" => "unit",
            "id" => "id",
            "quality" => "quality",
            "priority" => "priority",
            "attributes" => "attributes",
            "device" if scope == Scope::Whole => "device",
            "stream" if scope == Scope::Whole => "stream",
            _ => return Err(PayloadError::UnknownKey { key: excerpt(&key), allowed: scope.keys() }),
        };
        if seen.contains(&known) {
            return Err(PayloadError::RepeatedKey { key: known.into() });
        }
        seen.push(known);
        match (known, json) {
            ("value", json) => {
                item.value = value(json)?;
                has_value = true;
            }
            // A device that writes every key always may write null for what it does not have.
            (_, Json::Null) => {}
            ("ts", json) => item.ts = Some(time(&json)?),
            ("unit", json) => item.unit = Some(text("unit", json, UNIT_BYTES_MAX)?),
            ("id", json) => item.id = Some(text("id", json, EVENT_ID_BYTES_MAX)?),
            ("quality", json) => item.quality = word("quality", &json, quality_of, "good, uncertain and bad")?,
            ("priority", json) => item.lane = Some(word("priority", &json, lane_of, "critical, normal and bulk")?),
            ("device", json) => item.device = Some(name("device", json)?),
            ("stream", json) => item.stream = Some(name("stream", json)?),
            (_, json) => item.attributes = attributes(json)?,
        }
    }
    if !has_value {
        return Err(PayloadError::MissingKey { key: "value", allowed: scope.keys() });
    }
    if scope == Scope::Whole {
        for (key, missing) in [("device", item.device.is_none()), ("stream", item.stream.is_none())] {
            if missing {
                return Err(PayloadError::MissingKey { key, allowed: scope.keys() });
            }
        }
    }
    Ok(item)
}

fn invalid(key: impl Into<String>, found: impl Into<String>, allowed: impl Into<String>) -> PayloadError {
    PayloadError::Invalid { key: key.into(), found: found.into(), allowed: allowed.into() }
}

fn value(json: Json) -> Result<Value, PayloadError> {
    Ok(match json {
        Json::Null => {
            let allowed = "a number, text, true or false, an array of numbers and an object of numbers";
            return Err(invalid("value", "null", allowed));
        }
        Json::Bool(v) => Value::Bool(v),
        Json::Whole(v) => Value::Integer(v),
        Json::Real(v) => Value::Number(v),
        Json::Text(v) if v.len() > TEXT_BYTES_MAX => {
            return Err(invalid("value", format!("text of {} bytes", v.len()), format!("{TEXT_BYTES_MAX} bytes")));
        }
        Json::Text(v) => Value::Text(v.into()),
        Json::List(list) => {
            if list.is_empty() || list.len() > VECTOR_LEN_MAX {
                let allowed = format!("1 to {VECTOR_LEN_MAX} numbers");
                return Err(invalid("value", format!("an array of {}", list.len()), allowed));
            }
            let sample = |json: &Json| {
                json.as_number().ok_or_else(|| invalid("value", format!("an array with {}", json.kind()), "numbers"))
            };
            Value::Vector(list.iter().map(sample).collect::<Result<_, _>>()?)
        }
        Json::Object(members) => Value::Fields(fields(members)?),
    })
}

fn fields(members: Vec<(String, Json)>) -> Result<Box<[(Name, f64)]>, PayloadError> {
    if members.is_empty() || members.len() > FIELDS_MAX {
        let found = format!("an object of {} numbers", members.len());
        return Err(invalid("value", found, format!("1 to {FIELDS_MAX}")));
    }
    let mut fields: Vec<(Name, f64)> = Vec::with_capacity(members.len());
    for (key, json) in members {
        check_name("field", &key)?;
        if fields.iter().any(|(name, _)| **name == *key) {
            return Err(PayloadError::RepeatedKey { key: format!("value.{}", excerpt(&key)) });
        }
        let Some(number) = json.as_number() else {
            return Err(invalid(format!("value.{}", excerpt(&key)), json.kind(), "a number"));
        };
        fields.push((key.into(), number));
    }
    Ok(fields.into())
}

fn time(json: &Json) -> Result<i64, PayloadError> {
    const ALLOWED: &str = "an RFC 3339 time such as 2026-03-01T12:00:00Z and Unix milliseconds, of the years 0 to 9999";
    let (ms, found) = match json {
        Json::Text(text) => (parse_rfc3339(text), format!("{:?}", excerpt(text))),
        Json::Whole(ms) => (Some(*ms), ms.to_string()),
        // Fractions of a millisecond are cut. The cast saturates, so that the range check holds.
        Json::Real(ms) => (Some(ms.floor() as i64), ms.to_string()),
        other => (None, other.kind().into()),
    };
    ms.filter(|ms| (TIME_MIN_MS..=TIME_MAX_MS).contains(ms)).ok_or_else(|| invalid("ts", found, ALLOWED))
}

fn text(key: &'static str, json: Json, bytes_max: usize) -> Result<Name, PayloadError> {
    let found = match json {
        Json::Text(text) if !text.is_empty() && text.len() <= bytes_max => return Ok(text.into()),
        Json::Text(text) => format!("text of {} bytes", text.len()),
        other => other.kind().into(),
    };
    Err(invalid(key, found, format!("text of 1 to {bytes_max} bytes")))
}

fn name(key: &'static str, json: Json) -> Result<Name, PayloadError> {
    let Json::Text(text) = json else {
        return Err(invalid(key, json.kind(), "text"));
    };
    check_name(key, &text)?;
    Ok(text.into())
}

fn word<T>(
    key: &'static str,
    json: &Json,
    of: impl Fn(&str) -> Option<T>,
    allowed: &'static str,
) -> Result<T, PayloadError> {
    let Json::Text(text) = json else {
        return Err(invalid(key, json.kind(), allowed));
    };
    of(text).ok_or_else(|| invalid(key, format!("{:?}", excerpt(text)), allowed))
}

fn attributes(json: Json) -> Result<Vec<(Name, Name)>, PayloadError> {
    let Json::Object(members) = json else {
        return Err(invalid("attributes", json.kind(), "an object of text"));
    };
    if members.len() > ATTRIBUTES_MAX {
        return Err(invalid("attributes", members.len().to_string(), format!("at most {ATTRIBUTES_MAX}")));
    }
    let mut attributes: Vec<(Name, Name)> = Vec::with_capacity(members.len());
    for (key, json) in members {
        check_name("attribute", &key)?;
        if attributes.iter().any(|(name, _)| **name == *key) {
            return Err(PayloadError::RepeatedKey { key: format!("attributes.{}", excerpt(&key)) });
        }
        let label = match json {
            Json::Text(text) => text,
            Json::Whole(whole) => whole.to_string(),
            Json::Real(real) => real.to_string(),
            Json::Bool(truth) => truth.to_string(),
            Json::Null => continue,
            other => {
                let allowed = "text, a number, true or false";
                return Err(invalid(format!("attributes.{}", excerpt(&key)), other.kind(), allowed));
            }
        };
        if label.len() > NAME_BYTES_MAX {
            let found = format!("text of {} bytes", label.len());
            let allowed = format!("at most {NAME_BYTES_MAX}");
            return Err(invalid(format!("attributes.{}", excerpt(&key)), found, allowed));
        }
        attributes.push((key.into(), label.into()));
    }
    Ok(attributes)
}

/// The head of a text, short enough for an error.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 48;
    let mut head: String = text.chars().take(CHARS_MAX).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    head
}
