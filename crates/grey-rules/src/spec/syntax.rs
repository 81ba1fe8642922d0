//! Settings with a syntax of their own: rates, shares, quantities, groups and
//! maps of texts.

use std::collections::BTreeMap;

use grey_config::{Decoder, Duration, Entry, Json, Node, Origin, Setting, Value, json};
use grey_model::limits::NAME_BYTES_MAX;

/// Entries of a map of texts: it becomes attributes of events, or arguments of a command.
const TEXTS_MAX: usize = 16;
/// Streams that a site may declare.
const STREAMS_MAX: usize = 4096;

fn map(entries: impl IntoIterator<Item = (String, Node)>) -> Node {
    let entry = |(key, value)| Entry { key, origin: Origin::Absent, value };
    Node::new(Value::Map(entries.into_iter().map(entry).collect()))
}

/// A scalar's text with the whole error at its character.
fn scalar<'n>(node: &'n Node, decoder: &mut Decoder, allowed: &str) -> Option<&'n str> {
    decoder.scalar(node, allowed).map(|scalar| scalar.text.as_str())
}

/// How many alerts may begin in a time: `10/1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many, from 1.
    pub count: u32,
    /// In which time, from 1s.
    pub window: Duration,
}

impl Setting for RateLimit {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "a number and a time, such as 10/1h";
        let text = scalar(node, decoder, allowed)?;
        let Some((count, window)) = text.split_once('/') else {
            decoder.reject_within(node, text.chars().count(), format!("in {text:?} the / is missing"), allowed);
            return None;
        };
        let Some(number) = count.trim().parse().ok().filter(|n| *n > 0) else {
            decoder.reject_within(node, 0, format!("in {text:?} {count:?} is no number from 1"), allowed);
            return None;
        };
        match window.trim().parse::<Duration>() {
            Ok(window) if window >= Duration::from_secs(1) => Some(Self { count: number, window }),
            Ok(short) => {
                let offset = count.chars().count() + 1;
                decoder.reject_within(node, offset, format!("in {text:?} {short} is too short"), "a time from 1s");
                None
            }
            Err(why) => {
                let offset = count.chars().count() + 1;
                decoder.reject_within(node, offset, format!("in {text:?} {window:?} {why}"), allowed);
                None
            }
        }
    }

    fn render(&self) -> Node {
        Node::plain(format!("{}/{}", self.count, self.window))
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "rate", "description": "a number and a time, such as 10/1h" })
    }
}

/// Which readings of many go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// A share of them, over 0 and up to 1, chosen by a hash of the reading.
    Share(f64),
    /// The first of every so many of a series, from 1.
    Every(u32),
}

impl Setting for Sample {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "a share such as 10%, or {every: 10}";
        if let Value::Map(_) = &node.value {
            let section = decoder.section(node, &["every"])?;
            let every: u32 = section.required("every", decoder)?;
            if every == 0 {
                decoder.within("every", |d| d.reject(node, "found \"0\"", "a whole number from 1"));
                return None;
            }
            return Some(Self::Every(every));
        }
        let text = scalar(node, decoder, allowed)?;
        let Some(number) = text.trim_end().strip_suffix('%') else {
            decoder.reject_within(node, text.chars().count(), format!("in {text:?} the % is missing"), allowed);
            return None;
        };
        match number.trim().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Some(Self::Share(percent / 100.0)),
            _ => {
                decoder.reject_within(node, 0, format!("found {text:?}"), "over 0% and up to 100%");
                None
            }
        }
    }

    fn render(&self) -> Node {
        match self {
            Self::Share(share) => Node::plain(format!("{}%", share * 100.0)),
            Self::Every(every) => map([("every".to_owned(), Node::plain(every))]),
        }
    }

    fn schema() -> Json {
        json!({ "title": "sample", "description": "a share such as 10%, or {every: 10}", "oneOf": [
            { "type": "string" },
            { "type": "object", "properties": { "every": u32::schema() }, "required": ["every"], "additionalProperties": false },
        ] })
    }
}

/// What has an alert, or a window, of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum GroupBy {
    /// Each device.
    #[default]
    Device,
    /// The site.
    Site,
    /// Each value of an attribute.
    Tag(String),
}

const GROUP_ALLOWED: &str = "device, site, or tag:NAME such as tag:line";

impl GroupBy {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "device" => Some(Self::Device),
            "site" => Some(Self::Site),
            _ => {
                let name = text.strip_prefix("tag:")?;
                let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
                fits.then(|| Self::Tag(name.into()))
            }
        }
    }
}

impl std::fmt::Display for GroupBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::Site => f.write_str("site"),
            Self::Tag(name) => write!(f, "tag:{name}"),
        }
    }
}

impl Setting for GroupBy {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = scalar(node, decoder, GROUP_ALLOWED)?;
        let group = Self::parse(text);
        if group.is_none() {
            decoder.reject(node, format!("found {text:?}"), GROUP_ALLOWED);
        }
        group
    }

    fn render(&self) -> Node {
        Node::plain(self)
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "group", "description": GROUP_ALLOWED })
    }
}

/// What has windows of its own, besides the stream: `[device, stream]`, `site`, `tag:line`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowBy(pub GroupBy);

impl Setting for WindowBy {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "device, stream, site, tag:NAME, or stream with one of them such as [device, stream]";
        let single = std::slice::from_ref(node);
        let items = if let Value::List(items) = &node.value { items.as_slice() } else { single };
        let mut group = None;
        for item in items {
            let text = scalar(item, decoder, allowed)?;
            // A window never mixes streams, so that `stream` alone means all of the site's devices.
            if text == "stream" {
                continue;
            }
            match GroupBy::parse(text) {
                Some(found) if group.is_none() => group = Some(found),
                _ => {
                    decoder.reject(item, format!("found {text:?}"), allowed);
                    return None;
                }
            }
        }
        if items.is_empty() {
            decoder.reject(node, "found an empty list", allowed);
            return None;
        }
        Some(Self(group.unwrap_or(GroupBy::Site)))
    }

    fn render(&self) -> Node {
        Node::new(Value::List(vec![self.0.render(), Node::plain("stream")]))
    }

    fn schema() -> Json {
        json!({ "title": "windows by", "description": "[device, stream], site, stream, or tag:NAME", "oneOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

/// A number with its unit: `0.5°C`, or `0.5`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: Option<String>,
}

impl Setting for Quantity {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "a number from 0, with its unit, such as 0.5°C";
        let text = scalar(node, decoder, allowed)?;
        let end = number_len(text);
        let Some(value) = text[..end].parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0) else {
            decoder.reject_within(node, 0, format!("{text:?} does not begin with a number from 0"), allowed);
            return None;
        };
        let unit = text[end..].trim();
        if !unit.is_empty() && grey_expr::Unit::parse(unit).is_none() {
            let offset = text.chars().count() - text[end..].trim_start().chars().count();
            let problem = format!("in {text:?} the unit {unit:?} is unknown");
            decoder.reject_within(node, offset, problem, "a unit such as °C, °F, K, %, V, kW, mm/s, or none");
            return None;
        }
        Some(Self { value, unit: (!unit.is_empty()).then(|| unit.to_owned()) })
    }

    fn render(&self) -> Node {
        Node::plain(format!("{}{}", self.value, self.unit.as_deref().unwrap_or_default()))
    }

    fn schema() -> Json {
        json!({ "type": ["string", "number"], "title": "quantity", "description": "a number with its unit, such as 0.5°C" })
    }
}

/// Texts by name, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(pub BTreeMap<String, String>);

impl Setting for Texts {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = format!("up to {TEXTS_MAX} names with a text each");
        let Value::Map(entries) = &node.value else {
            if node.is_null() {
                return Some(Self::default());
            }
            decoder.reject(node, format!("found {}", node.describe()), allowed);
            return None;
        };
        if entries.len() > TEXTS_MAX {
            decoder.reject(node, format!("found {} names", entries.len()), allowed);
            return None;
        }
        let mut texts = BTreeMap::new();
        let mut sound = true;
        for entry in entries {
            match decoder.within(&entry.key, |d| String::decode(&entry.value, d)) {
                Some(text) => _ = texts.insert(entry.key.clone(), text),
                None => sound = false,
            }
        }
        sound.then_some(Self(texts))
    }

    fn render(&self) -> Node {
        map(self.0.iter().map(|(name, text)| (name.clone(), Node::text(text))))
    }

    fn schema() -> Json {
        json!({ "type": ["object", "null"], "additionalProperties": { "type": "string" }, "maxProperties": TEXTS_MAX })
    }
}

/// The streams of a site and the unit of each; empty when any stream may exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Streams(pub BTreeMap<String, Option<String>>);

impl Setting for Streams {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "names of streams with a unit each, such as {temperature: °C, state: null}";
        let Value::Map(entries) = &node.value else {
            if node.is_null() {
                return Some(Self::default());
            }
            decoder.reject(node, format!("found {}", node.describe()), allowed);
            return None;
        };
        if entries.len() > STREAMS_MAX {
            decoder.reject(node, format!("found {} streams", entries.len()), format!("up to {STREAMS_MAX}"));
            return None;
        }
        let mut streams = BTreeMap::new();
        let mut sound = true;
        for entry in entries {
            let unit = decoder.within(&entry.key, |d| {
                let unit: Option<String> = Setting::decode(&entry.value, d)?;
                match &unit {
                    Some(text) if grey_expr::Unit::parse(text).is_none() => {
                        let problem = format!("the unit {text:?} is unknown");
                        d.reject(&entry.value, problem, "a unit such as °C, °F, K, %, V, kW, mm/s, or null");
                        None
                    }
                    _ => Some(unit),
                }
            });
            match unit {
                Some(unit) => _ = streams.insert(entry.key.clone(), unit),
                None => sound = false,
            }
        }
        sound.then_some(Self(streams))
    }

    fn render(&self) -> Node {
        let unit = |unit: &Option<String>| unit.as_ref().map_or_else(Node::null, Node::text);
        map(self.0.iter().map(|(name, u)| (name.clone(), unit(u))))
    }

    fn schema() -> Json {
        json!({ "type": ["object", "null"], "additionalProperties": { "type": ["string", "null"] } })
    }
}

/// Bytes of the number that a text starts with.
fn number_len(text: &str) -> usize {
    let digits = |from: usize| from + text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(usize::from(text.starts_with(['-', '+'])));
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    end
}
