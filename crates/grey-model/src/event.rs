//! An event: one reading, alert, anomaly, aggregate, log line or receipt.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::Stamp;

/// A short shared string: device and stream names repeat in every event, so
/// they are reference counted instead of copied.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What sort of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// A device's measurement.
    Reading = 0,
    /// A summary over a window.
    Aggregate = 1,
    /// A rule that fired or cleared.
    Alert = 2,
    /// A detector's finding.
    Anomaly = 3,
    /// A line of text.
    Log = 4,
    /// A statement about other events.
    Receipt = 5,
}

impl Kind {
    /// Every kind, in wire order.
    pub const ALL: [Kind; 6] = [Kind::Reading, Kind::Aggregate, Kind::Alert, Kind::Anomaly, Kind::Log, Kind::Receipt];

    /// The kind of a wire byte.
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// The name used in queries, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        ["reading", "aggregate", "alert", "anomaly", "log", "receipt"][self as usize]
    }
}

/// How far a reading may be trusted, after OPC UA's three classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Quality {
    /// Usable as it is.
    #[default]
    Good = 0,
    /// Usable with care.
    Uncertain = 1,
    /// Not usable as a measurement.
    Bad = 2,
}

impl Quality {
    /// The quality of a wire byte.
    pub fn from_u8(byte: u8) -> Option<Self> {
        [Self::Good, Self::Uncertain, Self::Bad].get(usize::from(byte)).copied()
    }

    /// The name used in JSON.
    pub fn as_str(self) -> &'static str {
        ["good", "uncertain", "bad"][self as usize]
    }
}

/// What was measured or said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number that a double could not hold exactly, or that was written as one.
    Integer(i64),
    /// A finite number. NaN and infinities are refused at ingest.
    Number(f64),
    /// Text.
    Text(Box<str>),
    /// Equally spaced samples, oldest first.
    Vector(Box<[f64]>),
    /// Named numbers, for example an aggregate's `avg`, `min`, `max` and `count`.
    Fields(#[serde(with = "fields")] Box<[(Name, f64)]>),
}

impl Value {
    /// The value as a number, if it is one (`true` is 1).
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Integer(i) => Some(*i as f64),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Text(_) | Self::Vector(_) | Self::Fields(_) => None,
        }
    }
}

/// Named numbers as a JSON object, order kept.
mod fields {
    use super::Name;
    use serde::de::{MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(fields: &[(Name, f64)], s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            map.serialize_entry(name.as_str(), value)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Box<[(Name, f64)]>, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Box<[(Name, f64)]>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of numbers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, f64>()? {
                    fields.push((Name::from(name), value));
                }
                Ok(fields.into())
            }
        }
        d.deserialize_map(Fields)
    }
}

/// One event as a device or a rule made it. Its identity on the way up,
/// (site, epoch, lane, sequence), stands in the block that carries it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Who measured.
    pub device: Name,
    /// What was measured: the metric's name.
    pub stream: Name,
    /// What sort of event.
    pub kind: Kind,
    /// The measurement or message.
    pub value: Value,
    /// The device's own time in Unix milliseconds; never overwritten.
    pub device_time_ms: i64,
    /// When the site accepted it.
    pub stamp: Stamp,
    /// How far it may be trusted.
    pub quality: Quality,
    /// Unit of the value as the device wrote it.
    pub unit: Option<Name>,
    /// The device's id for the event, which makes its resends idempotent.
    pub id: Option<Name>,
    /// Labels, in the order given.
    pub attributes: Vec<(Name, Name)>,
}

impl Event {
    /// A good-quality reading without unit, id or attributes.
    pub fn reading(device: impl Into<Name>, stream: impl Into<Name>, value: f64, device_time_ms: i64) -> Self {
        Self {
            device: device.into(),
            stream: stream.into(),
            kind: Kind::Reading,
            value: Value::Number(value),
            device_time_ms,
            stamp: Stamp::default(),
            quality: Quality::Good,
            unit: None,
            id: None,
            attributes: Vec::new(),
        }
    }
}
