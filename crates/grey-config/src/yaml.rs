//! YAML text to a [`Node`] tree, from parser events, so that the bounds on
//! depth and on what aliases unfold into hold while reading.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::error::ConfigError;
use crate::tree::{Budget, DEPTH_MAX, Entry, Node, Origin, Scalar, Value, depth, quote};

/// What YAML needs to be, said in errors of the parser itself.
const YAML: &str = "a YAML document";

/// A list or map whose end has not been seen yet.
enum Open {
    List { origin: Origin, anchor: usize, items: Vec<Node> },
    Map { origin: Origin, anchor: usize, entries: Vec<Entry>, key: Option<(String, Origin)> },
}

struct Reader {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    budget: Budget,
    root: Option<Node>,
    documents: usize,
}

/// Reads one YAML document. `None` when there is nothing in it.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, ConfigError> {
    let mut reader =
        Reader { open: Vec::new(), anchors: BTreeMap::new(), budget: Budget::default(), root: None, documents: 0 };
    for step in Parser::new_from_str(text) {
        let (event, span) = step.map_err(|e| {
            let at = e.marker();
            error(origin(at.line(), at.col()), format!("not YAML: {}", e.info()), YAML)
        })?;
        reader.event(event, span)?;
    }
    Ok(reader.root.filter(|root| !root.is_null()))
}

fn origin(line: usize, column: usize) -> Origin {
    Origin::File {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column + 1).unwrap_or(u32::MAX),
    }
}

fn error(origin: Origin, problem: impl Into<String>, allowed: &str) -> ConfigError {
    ConfigError { origin, key_path: String::new(), problem: problem.into(), allowed: allowed.into(), hint: None }
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), ConfigError> {
        let at = origin(span.start.line(), span.start.col());
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(error(at, "a second YAML document starts here", "one document in a file"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let quoted = self.quoted(&at, tag.as_deref(), !plain)?;
                self.budget.take(text.len()).map_err(|why| error(at.clone(), why, "a smaller file"))?;
                let exact = exact(&text, style, span);
                let node = Node { origin: at, value: Value::Scalar(Scalar { text: text.into_owned(), quoted, exact }) };
                self.anchored(anchor, node)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(error(
                        at,
                        "an alias refers to a value that is not complete",
                        "an alias of a value above it",
                    ));
                };
                self.budget.take_tree(node).map_err(|why| error(at.clone(), why, "fewer aliases"))?;
                if self.open.len() + depth(node) > DEPTH_MAX {
                    return Err(too_deep(at));
                }
                let node = node.clone();
                self.place(node)
            }
            Event::SequenceStart(anchor, tag) => {
                self.quoted(&at, tag.as_deref(), false)?;
                self.enter(Open::List { origin: at, anchor, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.quoted(&at, tag.as_deref(), false)?;
                self.enter(Open::Map { origin: at, anchor, entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { origin, anchor, items }) => {
                    self.anchored(anchor, Node { origin, value: Value::List(items) })
                }
                Some(Open::Map { origin, anchor, entries, .. }) => {
                    self.anchored(anchor, Node { origin, value: Value::Map(entries) })
                }
                None => Err(error(at, "a list or section ends that never started", YAML)),
            },
        }
    }

    /// Whether a scalar is text by its tag or its quotes; unknown tags are refused.
    fn quoted(&self, at: &Origin, tag: Option<&Tag>, quoted: bool) -> Result<bool, ConfigError> {
        let Some(tag) = tag else { return Ok(quoted) };
        match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
            (true, "str") => Ok(true),
            (true, "int" | "float" | "bool" | "null" | "seq" | "map") => Ok(false),
            _ => Err(error(
                at.clone(),
                format!("the tag {} is not supported", quote(&tag.to_string())),
                "values without tags",
            )),
        }
    }

    fn enter(&mut self, open: Open) -> Result<(), ConfigError> {
        let (Open::List { origin, .. } | Open::Map { origin, .. }) = &open;
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(error(origin.clone(), "a list or section cannot be a key", "keys that are names"));
        }
        if self.open.len() + 1 >= DEPTH_MAX {
            return Err(too_deep(origin.clone()));
        }
        self.budget.take(0).map_err(|why| error(origin.clone(), why, "a smaller file"))?;
        self.open.push(open);
        Ok(())
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Result<(), ConfigError> {
        if anchor > 0 {
            // The copy that later aliases repeat is paid for like any other.
            self.budget.take_tree(&node).map_err(|why| error(node.origin.clone(), why, "fewer anchors"))?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    /// Puts a complete value where it belongs: next key, value, item, or root.
    fn place(&mut self, node: Node) -> Result<(), ConfigError> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some((key, origin)) => entries.push(Entry { key, origin, value: node }),
                None => {
                    let Value::Scalar(Scalar { text, .. }) = node.value else {
                        return Err(error(node.origin, "a list or section cannot be a key", "keys that are names"));
                    };
                    if text == "<<" {
                        return Err(error(
                            node.origin,
                            "merge keys are not supported",
                            "an alias as the value of a key",
                        ));
                    }
                    if let Some(first) = entries.iter().find(|e| e.key == text) {
                        let line = match first.origin {
                            Origin::File { line, .. } => format!(" in line {line}"),
                            _ => String::new(),
                        };
                        let problem = format!("the key {} is already set{line}", quote(&text));
                        return Err(error(node.origin, problem, "each key once"));
                    }
                    *key = Some((text, node.origin));
                }
            },
        }
        Ok(())
    }
}

fn too_deep(at: Origin) -> ConfigError {
    error(at, format!("nested deeper than {DEPTH_MAX} levels"), "a flatter document")
}

/// Where the characters of a one-line scalar without escapes stand in the file.
fn exact(text: &str, style: ScalarStyle, span: Span) -> Option<u32> {
    let quotes = match style {
        ScalarStyle::Plain => 0,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
        ScalarStyle::Literal | ScalarStyle::Folded => return None,
    };
    let width = span.end.index().checked_sub(span.start.index())?;
    let same = span.start.line() == span.end.line() && width == text.chars().count() + 2 * quotes;
    same.then(|| (span.start.col() + quotes) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fails(text: &str, line: u32, message: &str) {
        let error = parse(text).unwrap_err();
        assert!(matches!(error.origin, Origin::File { line: at, .. } if at == line), "{error:?}");
        assert!(error.problem.contains(message), "{error:?}");
    }

    #[test]
    fn places_are_those_of_an_editor() {
        let root = parse("a:\n  b: 'x > 1'\n  c: [1, zwölf]\n").unwrap().unwrap();
        let b = root.nearest("a.b");
        assert_eq!(b.origin, Origin::File { line: 2, column: 6 });
        let Value::Scalar(scalar) = &b.value else { panic!("{b:?}") };
        assert_eq!((scalar.text.as_str(), scalar.quoted, scalar.exact), ("x > 1", true, Some(6)));
        assert_eq!(root.nearest("a.c[1]").origin, Origin::File { line: 3, column: 10 });
    }

    #[test]
    fn text_is_kept_as_written() {
        let root = parse("a: no\nb: 0x10\nc: '12'\nd: ~\ne:\nf: !!str 7\n").unwrap().unwrap();
        assert_eq!(root.get("a").unwrap().describe(), "\"no\"");
        assert_eq!(root.get("b").unwrap().describe(), "\"0x10\"");
        assert!(root.get("d").unwrap().is_null() && root.get("e").unwrap().is_null());
        assert!(matches!(&root.get("f").unwrap().value, Value::Scalar(s) if s.quoted));
    }

    #[test]
    fn what_is_not_a_configuration_is_refused_with_its_line() {
        fails("a: 1\nb: 2\na: 3\n", 3, "already set in line 1");
        fails("a: [1, 2\nb: 3\n", 2, "not YAML");
        fails("a: 1\n---\nb: 2\n", 2, "second YAML document");
        fails("a: !secret x\n", 1, "tag");
        fails("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys");
        fails("? [a, b]\n: c\n", 1, "cannot be a key");
        fails("a: &x [*x]\n", 1, "not complete");
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("# only a comment\n").unwrap(), None);
        assert_eq!(parse("---\n...\n").unwrap(), None);
    }

    #[test]
    fn small_files_do_not_unfold_into_large_trees() {
        let mut laughs = String::from("l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for n in 1..12 {
            let row = vec![format!("*l{}", n - 1); 10].join(", ");
            laughs.push_str(&format!("l{n}: &l{n} [{row}]\n"));
        }
        assert!(parse(&laughs).unwrap_err().problem.contains("unfolds into more than"));
        for deep in ["[".repeat(5_000), "{a: ".repeat(5_000), "- ".repeat(5_000), "? ".repeat(5_000)] {
            assert!(parse(&deep).is_err());
        }
        let mut chain = String::from("a0: &a0 [x]\n");
        for n in 1..100 {
            chain.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1));
        }
        assert!(parse(&chain).unwrap_err().problem.contains("nested deeper"));
    }

    #[test]
    fn known_parser_traps_end() {
        for trap in
            ["{---", "[---", "{...", "? {---", "\"\\", "'", "|\n", "%YAML 9.9\n---\n", "\u{feff}a: 1", "a:\n\t- b"]
        {
            let _ = parse(trap);
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "[-\\[\\]{}:?&*!|>%#'\"\\\\ \n\ta-c0-2,~<.]{0,80}") {
            let _ = parse(&text);
        }
    }
}
