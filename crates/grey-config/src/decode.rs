//! From the tree to checked types, collecting every error instead of
//! stopping at the first.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use grey_model::{Lane, SiteId};
use serde_json::{Value as Json, json};

use crate::error::ConfigError;
use crate::suggest;
use crate::tree::{Entry, Node, Origin, Scalar, Step, Value, quote, steps};

/// A value that can stand in a configuration: read from a node, printed to
/// one, and described by a JSON Schema. [`section!`](crate::section) and
/// [`choice!`](crate::choice) write it.
pub trait Setting: Sized {
    /// Reads the value; `None` when errors were reported to the decoder.
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;
    /// The node that reads back as this value.
    fn render(&self) -> Node;
    /// The JSON Schema of the value.
    fn schema() -> Json;
}

/// Knows the key path of what is being read and collects the errors.
#[derive(Debug, Default)]
pub struct Decoder {
    path: String,
    errors: Vec<ConfigError>,
}

impl Decoder {
    /// A decoder at a key path (`edge`).
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), errors: Vec::new() }
    }

    /// The errors so far.
    pub fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// True while nothing was rejected.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Runs `read` with the key path extended by a key.
    pub fn within<R>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let result = read(self);
        self.path.truncate(before);
        result
    }

    /// Runs `read` with the key path extended by an index.
    pub fn within_index<R>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let result = read(self);
        self.path.truncate(before);
        result
    }

    /// Reports an error at a node.
    pub fn reject(&mut self, node: &Node, problem: impl Into<String>, allowed: impl Into<String>) {
        self.reject_at(node.origin.clone(), problem, allowed, None);
    }

    /// Reports an error at the character `offset` of a scalar's text.
    pub fn reject_within(
        &mut self,
        node: &Node,
        offset: usize,
        problem: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        let origin = match (&node.origin, &node.value) {
            (Origin::File { line, .. }, Value::Scalar(Scalar { exact: Some(before), .. })) => {
                Origin::File { line: *line, column: before + offset as u32 + 1 }
            }
            (origin, _) => origin.clone(),
        };
        self.reject_at(origin, problem, allowed, None);
    }

    /// Reports an error at a place, with a guess at what was meant.
    pub fn reject_at(
        &mut self,
        origin: Origin,
        problem: impl Into<String>,
        allowed: impl Into<String>,
        hint: Option<String>,
    ) {
        let (problem, allowed) = (problem.into(), allowed.into());
        self.errors.push(ConfigError { origin, key_path: self.path.clone(), problem, allowed, hint });
    }

    /// The scalar of a node, or an error that names what was expected.
    pub fn scalar<'n>(&mut self, node: &'n Node, allowed: &str) -> Option<&'n Scalar> {
        match &node.value {
            Value::Scalar(scalar) if !node.is_null() => Some(scalar),
            _ => {
                self.reject(node, format!("found {}", node.describe()), allowed);
                None
            }
        }
    }

    /// A scalar through its `FromStr`; the error completes the sentence `"x" …`.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, node: &Node, allowed: &str) -> Option<T> {
        let scalar = self.scalar(node, allowed)?;
        match scalar.text.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                self.reject(node, format!("{} {why}", quote(&scalar.text)), allowed);
                None
            }
        }
    }

    /// One of several words; an unknown one is reported with the nearest.
    pub fn word(&mut self, node: &Node, words: &[&'static str]) -> Option<&'static str> {
        let scalar = self.scalar(node, &words.join(", "))?;
        let known = words.iter().copied().find(|w| *w == scalar.text);
        if known.is_none() {
            let hint = suggest::nearest(&scalar.text, words.iter().copied()).map(|w| format!("did you mean {w}?"));
            self.reject_at(node.origin.clone(), format!("found {}", quote(&scalar.text)), words.join(", "), hint);
        }
        known
    }

    /// The word of the key `tag` and the section without it.
    pub fn tag(&mut self, node: &Node, tag: &str, words: &[&'static str]) -> Option<(&'static str, Node)> {
        let Value::Map(entries) = &node.value else {
            self.reject(node, format!("found {}", node.describe()), format!("a section with the key {tag}"));
            return None;
        };
        let Some(entry) = entries.iter().find(|e| e.key == tag) else {
            self.within(tag, |d| d.reject(node, "is missing", words.join(", ")));
            return None;
        };
        let word = self.within(tag, |d| d.word(&entry.value, words))?;
        let rest = entries.iter().filter(|e| e.key != tag).cloned().collect();
        Some((word, Node { origin: node.origin.clone(), value: Value::Map(rest) }))
    }

    /// The keys of a section: unknown ones are reported with the nearest known one.
    /// Nothing (`queue:` with every key commented out) is a section without keys.
    pub fn section<'n>(&mut self, node: &'n Node, known: &[&str]) -> Option<Section<'n>> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Scalar(_) if node.is_null() => &[],
            _ => {
                let allowed = format!("a section with the keys {}", known.join(", "));
                self.reject(node, format!("found {}", node.describe()), allowed);
                return None;
            }
        };
        for entry in entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let hint = suggest::nearest(&entry.key, known.iter().copied()).map(|k| format!("did you mean {k}?"));
            let problem = format!("unknown key {}", quote(&entry.key));
            self.within(&entry.key, |d| d.reject_at(entry.origin.clone(), problem, known.join(", "), hint));
        }
        Some(Section { node, entries })
    }
}

/// The keys of one section, being read.
#[derive(Debug, Clone, Copy)]
pub struct Section<'n> {
    node: &'n Node,
    entries: &'n [Entry],
}

impl Section<'_> {
    /// A key that may be left out, or its default.
    pub fn optional<T: Setting>(&self, key: &str, decoder: &mut Decoder, default: impl FnOnce() -> T) -> T {
        let entry = self.entries.iter().find(|e| e.key == key);
        let value = entry.and_then(|e| decoder.within(key, |d| T::decode(&e.value, d)));
        value.unwrap_or_else(default)
    }

    /// A key that must be there.
    pub fn required<T: Setting>(&self, key: &str, decoder: &mut Decoder) -> Option<T> {
        match self.entries.iter().find(|e| e.key == key) {
            Some(entry) => decoder.within(key, |d| T::decode(&entry.value, d)),
            None => {
                decoder.within(key, |d| {
                    d.reject_at(self.node.origin.clone(), "is missing", T::schema_title(), None);
                });
                None
            }
        }
    }
}

/// What a missing key should hold, in words, from its schema.
trait SchemaTitle: Setting {
    fn schema_title() -> String {
        let schema = Self::schema();
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ");
        }
        let text = schema.get("description").or_else(|| schema.get("type")).and_then(Json::as_str);
        text.unwrap_or("a value").trim_end_matches('.').to_owned()
    }
}
impl<T: Setting> SchemaTitle for T {}

/// Second look at a decoded configuration: rules between keys, reported at the
/// key that breaks them.
#[derive(Debug)]
pub struct Check<'n> {
    root: &'n Node,
    decoder: Decoder,
}

impl<'n> Check<'n> {
    /// A check of a document, given its root.
    pub fn new(root: &'n Node) -> Self {
        Self { root, decoder: Decoder::default() }
    }

    /// Reports an error at a full key path (`edge.queue.max_bytes`), at the nearest line that is there.
    pub fn reject(&mut self, key_path: &str, problem: impl Into<String>, allowed: impl Into<String>) {
        let origin = self.root.nearest(key_path).origin.clone();
        self.decoder.path = key_path.into();
        self.decoder.reject_at(origin, problem, allowed, None);
    }

    /// True when the file or the environment sets the key to something, be it not an empty list.
    pub fn is_set(&self, key_path: &str) -> bool {
        let mut node = self.root;
        for step in steps(key_path) {
            let next = match (&node.value, step) {
                (Value::Map(_), Step::Key(key)) => node.get(key),
                (Value::List(items), Step::Index(index)) => items.get(index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return false,
            }
        }
        !node.is_null() && !matches!(&node.value, Value::List(items) if items.is_empty())
    }

    /// Reports a value outside of its bounds.
    pub fn within<T: PartialOrd + Display>(&mut self, key_path: &str, value: &T, least: T, most: T) {
        if *value < least || *value > most {
            self.reject(key_path, format!("{value} is out of range"), format!("{least} to {most}"));
        }
    }

    /// The errors found.
    pub fn into_errors(self) -> Vec<ConfigError> {
        self.decoder.errors
    }
}

/// Writes [`Setting`] for a type that is written as one scalar through its
/// `FromStr` and `Display`, given the name of its kind and what is allowed:
/// `scalar_setting!(Duration, "duration", "a duration such as 30s")`.
#[macro_export]
macro_rules! scalar_setting {
    ($type:ty, $kind:literal, $allowed:expr) => {
        impl $crate::Setting for $type {
            fn decode(node: &$crate::Node, decoder: &mut $crate::Decoder) -> Option<Self> {
                decoder.parse(node, $allowed)
            }

            fn render(&self) -> $crate::Node {
                $crate::Node::plain(self)
            }

            fn schema() -> $crate::Json {
                $crate::json!({ "type": ["string", "number"], "title": $kind, "description": $allowed })
            }
        }
    };
}

scalar_setting!(
    crate::quantity::Duration,
    "duration",
    "a duration with its unit, such as 100ms, 30s, 5m, 24h, 7d or 7y"
);
scalar_setting!(crate::quantity::Size, "size", "a size, such as 128mb, 1gb or 64MiB; a bare number is bytes");
scalar_setting!(crate::quantity::Bandwidth, "bandwidth", "a data rate, such as 50Kbps, 100Mbps or 10Gbps");
scalar_setting!(crate::quantity::Cores, "cores", "a number of processor cores, such as 4 cores");
scalar_setting!(crate::quantity::Storage, "storage", "an amount of storage, such as 128GB or 128GB SSD");

impl Setting for bool {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "true or false";
        let scalar = decoder.scalar(node, allowed)?;
        match (scalar.text.as_str(), scalar.quoted) {
            ("true", false) => Some(true),
            ("false", false) => Some(false),
            (text, quoted) => {
                let hint = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "true" | "y" | "1" => Some("write true, without quotes".into()),
                    "no" | "off" | "false" | "n" | "0" => Some("write false, without quotes".into()),
                    _ => None,
                };
                let found = if quoted { "found the text" } else { "found" };
                decoder.reject_at(node.origin.clone(), format!("{found} {}", quote(text)), allowed, hint);
                None
            }
        }
    }

    fn render(&self) -> Node {
        Node::plain(self)
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

macro_rules! number {
    ($type:ty, $allowed:expr, $schema:tt) => {
        impl Setting for $type {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                let scalar = decoder.scalar(node, $allowed)?;
                if scalar.quoted {
                    let hint = Some("write the number without quotes".into());
                    let problem = format!("found the text {}", quote(&scalar.text));
                    decoder.reject_at(node.origin.clone(), problem, $allowed, hint);
                    return None;
                }
                match scalar.text.replace('_', "").parse::<$type>() {
                    Ok(value) if (value as f64).is_finite() => Some(value),
                    _ => {
                        decoder.reject(node, format!("found {}", quote(&scalar.text)), $allowed);
                        None
                    }
                }
            }

            fn render(&self) -> Node {
                Node::plain(self)
            }

            fn schema() -> Json {
                json!($schema)
            }
        }
    };
}

number!(u16, "a whole number from 0 to 65535", { "type": "integer", "minimum": 0, "maximum": 65_535 });
number!(u32, "a whole number from 0 to 4294967295", { "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32 });
number!(u64, "a whole number from 0", { "type": "integer", "minimum": 0 });
number!(f64, "a finite number", { "type": "number" });

/// Longest free text of a setting in bytes.
const TEXT_BYTES_MAX: usize = 1024;

impl Setting for String {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "a text";
        let scalar = decoder.scalar(node, allowed)?;
        if scalar.text.is_empty() || scalar.text.len() > TEXT_BYTES_MAX || scalar.text.chars().any(char::is_control) {
            let allowed = format!("a text of 1 to {TEXT_BYTES_MAX} bytes without control characters");
            decoder.reject(node, format!("found {}", quote(&scalar.text)), allowed);
            return None;
        }
        Some(scalar.text.clone())
    }

    fn render(&self) -> Node {
        Node::text(self)
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": TEXT_BYTES_MAX })
    }
}

impl Setting for PathBuf {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        String::decode(node, decoder).map(Self::from)
    }

    fn render(&self) -> Node {
        Node::text(self.to_string_lossy())
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "path", "minLength": 1, "description": "a path of the file system" })
    }
}

impl Setting for SiteId {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "an id of 1 to 256 letters, digits, '.', '_', '-' and ':'";
        let scalar = decoder.scalar(node, allowed)?;
        match Self::new(&scalar.text) {
            Ok(id) => Some(id),
            Err(why) => {
                decoder.reject(node, why.to_string(), allowed);
                None
            }
        }
    }

    fn render(&self) -> Node {
        Node::text(self.as_str())
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "id", "pattern": "^[A-Za-z0-9._:-]{1,256}$" })
    }
}

impl Setting for Lane {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let allowed = "critical, normal or bulk";
        let scalar = decoder.scalar(node, allowed)?;
        let lane = scalar.text.parse().ok();
        if lane.is_none() {
            decoder.reject(node, format!("found {}", quote(&scalar.text)), allowed);
        }
        lane
    }

    fn render(&self) -> Node {
        Node::plain(self)
    }

    fn schema() -> Json {
        json!({ "type": "string", "enum": Lane::ALL.map(Lane::as_str) })
    }
}

/// Left out or `null`: not set.
impl<T: Setting> Setting for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if node.is_null() { Some(None) } else { T::decode(node, decoder).map(Some) }
    }

    fn render(&self) -> Node {
        self.as_ref().map_or_else(Node::null, Setting::render)
    }

    fn schema() -> Json {
        T::schema()
    }
}

/// A list; every item's errors are reported.
impl<T: Setting> Setting for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::List(items) = &node.value else {
            decoder.reject(node, format!("found {}", node.describe()), "a list");
            return None;
        };
        let decoded: Vec<Option<T>> =
            items.iter().enumerate().map(|(n, item)| decoder.within_index(n, |d| T::decode(item, d))).collect();
        decoded.into_iter().collect()
    }

    fn render(&self) -> Node {
        Node::new(Value::List(self.iter().map(Setting::render).collect()))
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }
}
