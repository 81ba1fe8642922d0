//! Printing a tree as YAML and as JSON.

use serde_json::{Map, Number, Value as Json};

use crate::tree::{Node, Scalar, Value};

impl Node {
    /// The tree as YAML in block style; reading it gives the same tree.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match &self.value {
            Value::Scalar(scalar) => push_scalar(&mut out, scalar),
            _ => push_block(&mut out, self, 0),
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }

    /// The tree as JSON; scalars without quotes become numbers and truth values where they are such.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Scalar(_) if self.is_null() => Json::Null,
            Value::Scalar(Scalar { text, quoted: true, .. }) => text.as_str().into(),
            Value::Scalar(Scalar { text, .. }) => match text.as_str() {
                "true" => true.into(),
                "false" => false.into(),
                text => match (text.parse::<u64>(), text.parse::<f64>().ok().and_then(Number::from_f64)) {
                    (Ok(whole), _) => whole.into(),
                    (_, Some(number)) => number.into(),
                    _ => text.into(),
                },
            },
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect::<Map<_, _>>().into()
            }
        }
    }
}

fn push_block(out: &mut String, node: &Node, indent: usize) {
    match &node.value {
        Value::Scalar(scalar) => push_scalar(out, scalar),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::Map(entries) if entries.is_empty() => out.push_str("{}"),
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    push_indent(out, indent);
                }
                out.push_str("- ");
                push_block(out, item, indent + 2);
                end_line(out);
            }
        }
        Value::Map(entries) => {
            for (n, entry) in entries.iter().enumerate() {
                if n > 0 {
                    push_indent(out, indent);
                }
                push_text(out, &entry.key);
                out.push(':');
                if is_block(&entry.value) {
                    out.push('\n');
                    push_indent(out, indent + 2);
                    push_block(out, &entry.value, indent + 2);
                } else {
                    out.push(' ');
                    push_block(out, &entry.value, indent + 2);
                }
                end_line(out);
            }
        }
    }
}

fn is_block(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(_) => false,
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
    }
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn end_line(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

fn push_scalar(out: &mut String, scalar: &Scalar) {
    if !scalar.quoted && (scalar.text.is_empty() || scalar.text == "~" || is_plain(&scalar.text)) {
        out.push_str(&scalar.text);
    } else {
        push_text(out, &scalar.text);
    }
}

/// True where no character could be taken for YAML's own, in any place: numbers, quantities, addresses, names.
fn is_plain(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+', '.']).unwrap_or(text);
    unsigned.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-' | '+' | '/' | ':' | '%'))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
}

/// Text, in quotes unless every reader of YAML takes it for this text without.
fn push_text(out: &mut String, text: &str) {
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control()
                || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}')
                || ('\u{fffe}'..='\u{ffff}').contains(&c) =>
            {
                out.push_str(&format!("\\U{:08x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, Origin};
    use proptest::prelude::*;

    fn bare(node: &Node) -> Node {
        let value = match &node.value {
            Value::Scalar(s) => Value::Scalar(Scalar { exact: None, ..s.clone() }),
            Value::List(items) => Value::List(items.iter().map(bare).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|e| Entry { key: e.key.clone(), origin: Origin::Absent, value: bare(&e.value) })
                    .collect(),
            ),
        };
        Node::new(value)
    }

    /// Quotes that text did not need are not kept.
    fn same(a: &Node, b: &Node) -> bool {
        match (&a.value, &b.value) {
            (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.key == b.key && same(&a.value, &b.value))
            }
            _ => false,
        }
    }

    fn tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![any::<String>().prop_map(Node::text), (0_u64..99).prop_map(Node::plain)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| Node::new(Value::List(items))),
                prop::collection::btree_map("[a-z<~:# ]{1,6}", inner, 0..4).prop_map(|map| {
                    let entries = map.into_iter().filter(|(key, _)| key != "<<");
                    let entries = entries.map(|(key, value)| Entry { key, origin: Origin::Absent, value });
                    Node::new(Value::Map(entries.collect()))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(tree in tree()) {
            let yaml = tree.to_yaml();
            let back = crate::yaml::parse(&yaml).unwrap().unwrap_or_else(Node::null);
            prop_assert!(same(&bare(&back), &tree), "{}\n{:?}", yaml, back);
        }
    }

    #[test]
    fn only_harmless_text_stands_without_quotes() {
        for (text, printed) in [
            ("30s", "30s\n"),
            ("-1.5", "-1.5\n"),
            ("128GB SSD", "128GB SSD\n"),
            ("127.0.0.1:7080", "127.0.0.1:7080\n"),
            ("[::1]:0", "\"[::1]:0\"\n"),
            ("|x", "\"|x\"\n"),
            ("a: b", "\"a: b\"\n"),
            ("- a", "\"- a\"\n"),
            ("a\nb", "\"a\\nb\"\n"),
        ] {
            assert_eq!(Node::plain(text).to_yaml(), printed);
        }
    }

    #[test]
    fn json_types_follow_the_text() {
        let yaml = "a: 1\nb: 1.5\nc: true\nd: '1'\ne: 30s\nf: [x]\ng:\n";
        let json = crate::yaml::parse(yaml).unwrap().unwrap().to_json();
        assert_eq!(json, serde_json::json!({"a": 1, "b": 1.5, "c": true, "d": "1", "e": "30s", "f": ["x"], "g": null}));
    }
}
