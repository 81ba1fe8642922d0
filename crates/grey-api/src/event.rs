//! An event as JSON, with its identity.

use grey_model::time::{format_rfc3339_ms, push_rfc3339_ms};
use grey_model::{Event, Name, Seq, StreamKey};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

/// The sequence of an event whose number the answering tier does not know; `seq` is left out then.
pub const UNNUMBERED: Seq = Seq::MAX;

/// One event of a list, borrowed from wherever it was decoded to.
///
/// | Member | Meaning |
/// |---|---|
/// | `site`, `epoch`, `lane`, `seq` | the identity: unique in the federation for ever; `seq` is left out where it is not known |
/// | `device`, `stream`, `kind`, `value` | what was measured; `value` is a boolean, number, string, array or object of numbers |
/// | `ts` | the device's own time, RFC 3339 in UTC with milliseconds |
/// | `stamp` | the site's hybrid logical clock, its physical part, RFC 3339 |
/// | `hlc` | the same clock whole, 42 bits of milliseconds and 22 of counter, as a decimal string because it exceeds what a double holds |
/// | `uncertainty_ms` | half-width of the interval that true time lies in; left out when 0 |
/// | `received` | when the site accepted it, or this tier where it knows better; RFC 3339 |
/// | `quality` | `good`, `uncertain`, `bad` |
/// | `id`, `unit`, `attributes` | left out where the device gave none |
#[derive(Debug, Clone, Copy)]
pub struct EventJson<'a> {
    key: &'a StreamKey,
    seq: Seq,
    event: &'a Event,
    received_ms: i64,
}

/// The JSON of an event of a stream.
pub fn event_json<'a>(key: &'a StreamKey, seq: Seq, event: &'a Event) -> EventJson<'a> {
    EventJson { key, seq, event, received_ms: event.stamp.unix_ms() }
}

impl EventJson<'_> {
    /// Says when this tier received the event, Unix ms, instead of when the site did.
    #[must_use]
    pub fn received_at(self, received_ms: i64) -> Self {
        Self { received_ms, ..self }
    }

    /// The JSON Schema of the document, for OpenAPI.
    pub fn schema() -> Json {
        let time = json!({"type": "string", "format": "date-time"});
        let text = json!({"type": "string"});
        let count = json!({"type": "integer", "minimum": 0});
        json!({
            "type": "object",
            "required": ["site", "epoch", "lane", "device", "stream", "kind", "value", "ts", "stamp", "hlc", "received", "quality"],
            "properties": {
                "site": text, "epoch": count, "seq": count,
                "lane": {"enum": grey_model::Lane::ALL.map(grey_model::Lane::as_str)},
                "device": text, "stream": text,
                "kind": {"enum": grey_model::Kind::ALL.map(grey_model::Kind::as_str)},
                "value": {"oneOf": [
                    {"type": "boolean"}, {"type": "number"}, {"type": "string"},
                    {"type": "array", "items": {"type": "number"}},
                    {"type": "object", "additionalProperties": {"type": "number"}},
                ]},
                "ts": time, "stamp": time, "received": time,
                "hlc": {"type": "string", "pattern": "^[0-9]+$"},
                "uncertainty_ms": count,
                "quality": {"enum": ["good", "uncertain", "bad"]},
                "id": text, "unit": text,
                "attributes": {"type": "object", "additionalProperties": text},
            },
        })
    }
}

/// Labels as an object, order kept.
struct Attributes<'a>(&'a [(Name, Name)]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { key, seq, event, received_ms } = *self;
        let stamp_ms = event.stamp.unix_ms();
        let mut time = String::with_capacity(24);
        push_rfc3339_ms(event.device_time_ms, &mut time);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("site", key.site.as_str())?;
        map.serialize_entry("epoch", &key.epoch.0)?;
        map.serialize_entry("lane", key.lane.as_str())?;
        if seq != UNNUMBERED {
            map.serialize_entry("seq", &seq)?;
        }
        map.serialize_entry("device", event.device.as_str())?;
        map.serialize_entry("stream", event.stream.as_str())?;
        map.serialize_entry("kind", event.kind.as_str())?;
        map.serialize_entry("value", &event.value)?;
        map.serialize_entry("ts", &time)?;
        time.clear();
        push_rfc3339_ms(stamp_ms, &mut time);
        map.serialize_entry("stamp", &time)?;
        map.serialize_entry("hlc", &format_args!("{}", event.stamp.hlc))?;
        if event.stamp.uncertainty_ms > 0 {
            map.serialize_entry("uncertainty_ms", &event.stamp.uncertainty_ms)?;
        }
        if received_ms == stamp_ms {
            map.serialize_entry("received", &time)?;
        } else {
            map.serialize_entry("received", &format_rfc3339_ms(received_ms))?;
        }
        map.serialize_entry("quality", event.quality.as_str())?;
        if let Some(id) = &event.id {
            map.serialize_entry("id", id.as_str())?;
        }
        if let Some(unit) = &event.unit {
            map.serialize_entry("unit", unit.as_str())?;
        }
        if !event.attributes.is_empty() {
            map.serialize_entry("attributes", &Attributes(&event.attributes))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::{Epoch, Lane, Quality, SiteId, Stamp, Value};

    fn key() -> StreamKey {
        StreamKey {
            site: SiteId::new("factory-us-west-015").unwrap(),
            epoch: Epoch(1_760_000_000_000),
            lane: Lane::Bulk,
        }
    }

    #[test]
    fn a_plain_reading_has_no_more_than_it_needs() {
        let mut event = Event::reading("press-1", "temperature", 21.5, 1_772_366_400_250);
        event.stamp = Stamp { hlc: (1_772_366_400_300 << 22) | 7, uncertainty_ms: 0 };
        let text = serde_json::to_string(&event_json(&key(), 42, &event)).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"site":"factory-us-west-015","epoch":1760000000000,"lane":"bulk","seq":42,"#,
                r#""device":"press-1","stream":"temperature","kind":"reading","value":21.5,"#,
                r#""ts":"2026-03-01T12:00:00.250Z","stamp":"2026-03-01T12:00:00.300Z","hlc":"7433843482243891207","#,
                r#""received":"2026-03-01T12:00:00.300Z","quality":"good"}"#
            )
        );
    }

    #[test]
    fn everything_that_a_device_gave_is_there() {
        let mut event = Event::reading("d", "s", 0.0, -1);
        event.value = Value::Fields(Box::new([("avg".into(), 1.5), ("count".into(), 2.0)]));
        event.quality = Quality::Uncertain;
        event.unit = Some("°C".into());
        event.id = Some("x\"y".into());
        event.attributes = vec![("line".into(), "7".into())];
        event.stamp.uncertainty_ms = 12;
        let json = serde_json::to_value(event_json(&key(), 0, &event).received_at(1_000)).unwrap();
        assert_eq!(json["value"], json!({"avg": 1.5, "count": 2.0}));
        assert_eq!(json["ts"], "1969-12-31T23:59:59.999Z");
        assert_eq!(json["received"], "1970-01-01T00:00:01.000Z");
        assert_eq!(json["uncertainty_ms"], 12);
        assert_eq!((&json["unit"], &json["id"]), (&json!("°C"), &json!("x\"y")));
        assert_eq!(json["attributes"], json!({"line": "7"}));
        assert_eq!(json["quality"], "uncertain");
        let schema = EventJson::schema();
        for member in json.as_object().unwrap().keys() {
            assert!(schema["properties"].get(member).is_some(), "{member} is undocumented");
        }
        for member in schema["required"].as_array().unwrap() {
            assert!(json.get(member.as_str().unwrap()).is_some(), "{member} is missing");
        }
    }
}
