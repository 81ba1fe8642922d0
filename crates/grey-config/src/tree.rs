//! The tree that YAML, TOML and environment variables are read into, each
//! node with the place that it came from.
//!
//! Scalars stay text until a setting asks for a type. A site called `no` or
//! `1e5` is therefore a name and never a truth value or a number.

use std::fmt;
use std::sync::Arc;

use crate::error::ConfigError;

/// Deepest nesting of a document. The deepest known key has six levels.
pub const DEPTH_MAX: usize = 32;
/// Nodes of a document after aliases are expanded: stops small files that unfold into huge trees.
pub const NODES_MAX: usize = 50_000;
/// Bytes of scalar text of a document after aliases are expanded.
pub const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a configuration file.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where a node came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// A line and column of the file, both counted from 1, the column in characters.
    File {
        /// The line.
        line: u32,
        /// The column.
        column: u32,
    },
    /// An environment variable of this name.
    Environment(Arc<str>),
    /// Nowhere: a default, or something that is missing.
    #[default]
    Absent,
}

/// A scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text, without quotes and with escapes resolved.
    pub text: String,
    /// True when it was written in quotes, so that it is text and nothing else.
    pub quoted: bool,
    /// Characters of the file before the first of `text` when each further character of
    /// `text` is one character of the same line; `None` where escapes or line breaks differ.
    pub exact: Option<u32>,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One text, number or truth value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// Keys and their values, in the order written; keys are unique.
    Map(Vec<Entry>),
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it stands.
    pub origin: Origin,
    /// What it is.
    pub value: Value,
}

/// One key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub origin: Origin,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// A node that comes from no file, for defaults and for printing.
    pub fn new(value: Value) -> Self {
        Self { origin: Origin::Absent, value }
    }

    /// A scalar written without quotes: a number, a truth value, a quantity or a name.
    pub fn plain(text: impl fmt::Display) -> Self {
        Self::new(Value::Scalar(Scalar { text: text.to_string(), quoted: false, exact: None }))
    }

    /// A scalar that is text whatever it looks like.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Value::Scalar(Scalar { text: text.into(), quoted: true, exact: None }))
    }

    /// The node that stands for "not set".
    pub fn null() -> Self {
        Self::plain("null")
    }

    /// Reads YAML text; nothing in it is null.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Ok(crate::yaml::parse(text)?.unwrap_or_else(Self::null))
    }

    /// A map without keys.
    pub fn empty_map() -> Self {
        Self::new(Value::Map(Vec::new()))
    }

    /// True when nothing is written, or `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(s) if !s.quoted && matches!(s.text.as_str(), "" | "~" | "null"))
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The entry of a key, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// The node at a key path such as `edge.rules[0].condition`, or the nearest one above it.
    pub fn nearest(&self, key_path: &str) -> &Node {
        let mut node = self;
        for step in steps(key_path) {
            let next = match (&node.value, step) {
                (Value::Map(_), Step::Key(key)) => node.get(key),
                (Value::List(items), Step::Index(index)) => items.get(index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// What the node is, for error messages: `"x"`, `a list of 3`, `nothing`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(_) if self.is_null() => "nothing".into(),
            Value::Scalar(s) => quote(&s.text),
            Value::List(items) if items.is_empty() => "an empty list".into(),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) if entries.is_empty() => "a section without keys".into(),
            Value::Map(entries) => format!("a section with the key {}", quote(&entries[0].key)),
        }
    }
}

/// One step of a key path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of a key path such as `edge.rules[0].condition`.
pub(crate) fn steps(key_path: &str) -> impl Iterator<Item = Step<'_>> {
    key_path.split('.').flat_map(|part| {
        let (key, rest) = part.split_once('[').unwrap_or((part, ""));
        let indexes = rest.split(['[', ']']).filter_map(|n| n.parse().ok()).map(Step::Index);
        (!key.is_empty()).then_some(Step::Key(key)).into_iter().chain(indexes)
    })
}

/// Text in quotes for a message: control characters escaped, cut at 80 characters.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut out = String::from('"');
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if c == '"' || c == '\\' || c.is_control() {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out.push('"');
    out
}

/// Counts what a document unfolds into and refuses more than the limits.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    nodes: usize,
    text_bytes: usize,
}

impl Budget {
    /// Takes one node with so many bytes of text; an error names the limit that was hit.
    pub(crate) fn take(&mut self, text_bytes: usize) -> Result<(), String> {
        self.nodes += 1;
        self.text_bytes += text_bytes;
        if self.nodes > NODES_MAX {
            return Err(format!("the document unfolds into more than {NODES_MAX} values"));
        }
        if self.text_bytes > TEXT_BYTES_MAX {
            return Err(format!("the document unfolds into more than {TEXT_BYTES_MAX} bytes of text"));
        }
        Ok(())
    }

    /// Takes a whole subtree, as an alias repeats it. Stops at the limit.
    pub(crate) fn take_tree(&mut self, node: &Node) -> Result<(), String> {
        match &node.value {
            Value::Scalar(s) => self.take(s.text.len()),
            Value::List(items) => {
                self.take(0)?;
                items.iter().try_for_each(|item| self.take_tree(item))
            }
            Value::Map(entries) => {
                self.take(0)?;
                for entry in entries {
                    self.take(entry.key.len())?;
                    self.take_tree(&entry.value)?;
                }
                Ok(())
            }
        }
    }
}

/// How many levels a tree has.
pub(crate) fn depth(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_paths_split_into_keys_and_indexes() {
        let found: Vec<_> = steps("edge.rules[12].fields[0]").collect();
        assert_eq!(
            found,
            [Step::Key("edge"), Step::Key("rules"), Step::Index(12), Step::Key("fields"), Step::Index(0)]
        );
    }

    #[test]
    fn messages_show_hostile_text_harmlessly() {
        assert_eq!(quote("a\u{1b}[2J\"b"), r#""a\u{1b}[2J\"b""#);
        assert!(quote(&"x".repeat(500)).chars().count() < 90);
        assert_eq!(quote("85°C"), "\"85°C\"");
    }
}
