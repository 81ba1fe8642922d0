//! TOML text to a [`Node`] tree.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;
use crate::tree::{Budget, DEPTH_MAX, Entry, Node, Origin, Scalar, Value};

/// Reads a TOML document. `None` when there is nothing in it; every syntax error otherwise.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Vec<ConfigError>> {
    let places = Places::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors = errors.iter().map(|e| ConfigError {
            origin: e.span().map_or(Origin::Absent, |span| places.origin(span.start)),
            key_path: String::new(),
            problem: format!("not TOML: {}", e.message()),
            allowed: "a TOML document".into(),
            hint: None,
        });
        return Err(errors.collect());
    }
    let mut reader = Reader { text, places, budget: Budget::default() };
    let root = reader.table(table.get_ref(), table.span(), 1).map_err(|e| vec![*e])?;
    Ok(Some(root).filter(|root| !matches!(&root.value, Value::Map(entries) if entries.is_empty())))
}

/// Byte offsets of the starts of lines.
struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts[line - 1];
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        Origin::File { line: line as u32, column: column as u32 + 1 }
    }
}

struct Reader<'a> {
    text: &'a str,
    places: Places<'a>,
    budget: Budget,
}

impl Reader<'_> {
    fn take(&mut self, span: &Range<usize>, text_bytes: usize, depth: usize) -> Result<Origin, Box<ConfigError>> {
        let origin = self.places.origin(span.start);
        let over = if depth > DEPTH_MAX {
            Err(format!("nested deeper than {DEPTH_MAX} levels"))
        } else {
            self.budget.take(text_bytes)
        };
        match over {
            Ok(()) => Ok(origin),
            Err(problem) => Err(Box::new(ConfigError {
                origin,
                key_path: String::new(),
                problem,
                allowed: "a smaller, flatter document".into(),
                hint: None,
            })),
        }
    }

    fn table(&mut self, table: &DeTable<'_>, span: Range<usize>, depth: usize) -> Result<Node, Box<ConfigError>> {
        let origin = self.take(&span, 0, depth)?;
        let mut entries = Vec::with_capacity(table.len());
        // Sections print and report in the order of the file, not of the parser's map.
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in rows {
            let origin = self.take(&key.span(), key.get_ref().len(), depth)?;
            let value = self.value(value, depth + 1)?;
            entries.push(Entry { key: key.get_ref().clone().into_owned(), origin, value });
        }
        Ok(Node { origin, value: Value::Map(entries) })
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Box<ConfigError>> {
        let span = value.span();
        let (text, quoted) = match value.get_ref() {
            DeValue::Table(table) => return self.table(table, span, depth),
            DeValue::Array(array) => {
                let origin = self.take(&span, 0, depth)?;
                let items = array.iter().map(|item| self.value(item, depth + 1)).collect::<Result<_, _>>()?;
                return Ok(Node { origin, value: Value::List(items) });
            }
            DeValue::String(text) => (text.clone().into_owned(), true),
            DeValue::Integer(number) => {
                let decimal = i64::from_str_radix(number.as_str(), number.radix()).ok();
                (decimal.map_or_else(|| number.as_str().to_owned(), |n| n.to_string()), false)
            }
            DeValue::Float(number) => (number.as_str().to_owned(), false),
            DeValue::Boolean(flag) => (flag.to_string(), false),
            DeValue::Datetime(time) => (time.to_string(), false),
        };
        let origin = self.take(&span, text.len(), depth)?;
        let exact = self.exact(&text, quoted, &span, &origin);
        Ok(Node { origin, value: Value::Scalar(Scalar { text, quoted, exact }) })
    }

    /// Where the characters of a string without escapes stand in the file.
    fn exact(&self, text: &str, quoted: bool, span: &Range<usize>, origin: &Origin) -> Option<u32> {
        let source = self.text.get(span.clone())?;
        let inner = if quoted { source.get(1..source.len().checked_sub(1)?)? } else { source };
        let Origin::File { column, .. } = origin else { return None };
        (inner == text && !text.contains('\n')).then(|| column - 1 + u32::from(quoted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_and_types_are_kept() {
        let text = "[edge]\nsite_id = \"a-1\"\n[[edge.local_processing.rules]]\ninterval = '1m'\nn = 0x10\nb = true\n";
        let root = parse(text).unwrap().unwrap();
        let id = root.nearest("edge.site_id");
        assert_eq!(id.origin, Origin::File { line: 2, column: 11 });
        assert!(matches!(&id.value, Value::Scalar(s) if s.exact == Some(11) && s.quoted));
        assert_eq!(root.nearest("edge.local_processing.rules[0].interval").describe(), "\"1m\"");
        assert_eq!(root.nearest("edge.local_processing.rules[0].n").describe(), "\"16\"");
        assert_eq!(root.nearest("edge.local_processing.rules[0].b").describe(), "\"true\"");
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let errors = parse("a = \nb = 1\nb = 2\nc = [1\n").unwrap_err();
        assert!(errors.len() >= 2, "{errors:?}");
        let lines: std::collections::BTreeSet<_> = errors.iter().map(|e| format!("{:?}", e.origin)).collect();
        assert_eq!(lines.len(), errors.len(), "{errors:?}");
        assert_eq!(parse(" \n").unwrap(), None);
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(parse(&format!("a = {}{}", "[".repeat(60), "]".repeat(60))).is_err());
        assert!(parse(&format!("a = {}", "[".repeat(50_000))).is_err());
        assert!(parse(&format!("{} = 1", vec!["a"; 60].join("."))).is_err());
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "[-\\[\\]{}:=\"'#\\\\ \na-c0-2,._+]{0,80}") {
            let _ = parse(&text);
        }
    }
}
