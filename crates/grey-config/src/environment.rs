//! Environment variables over a configuration file: `GREY_` and the key path
//! in capitals, joined by `__`, as in `GREY_EDGE__SITE_ID`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::tree::{DEPTH_MAX, Entry, Node, Origin, Scalar, Value, quote};
use crate::yaml;

/// The variables that a configuration may be overridden with. Given by the
/// caller, so that nothing here depends on the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(name, _)| name.starts_with("GREY_")).collect())
    }
}

impl Environment {
    /// No variables.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Lays the variables of `root` over a document. Returns the names of those that were applied.
    pub(crate) fn apply(&self, root: &str, document: &mut Node) -> Result<Vec<String>, Vec<ConfigError>> {
        let prefix = format!("GREY_{}__", root.to_ascii_uppercase());
        let mut applied = Vec::new();
        let mut errors = Vec::new();
        for (name, value) in self.0.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let path: Vec<String> =
                std::iter::once(root).chain(name[prefix.len()..].split("__")).map(str::to_ascii_lowercase).collect();
            match overlay(document, &path, name, value) {
                Ok(()) => applied.push(name.clone()),
                Err(problem) => errors.push(ConfigError {
                    origin: Origin::Environment(name.as_str().into()),
                    key_path: path.join("."),
                    problem,
                    allowed: String::new(),
                    hint: None,
                }),
            }
        }
        if errors.is_empty() { Ok(applied) } else { Err(errors) }
    }
}

fn overlay(document: &mut Node, path: &[String], name: &str, value: &str) -> Result<(), String> {
    if path.len() > DEPTH_MAX {
        return Err(format!("names a key deeper than {DEPTH_MAX} levels"));
    }
    let origin = Origin::Environment(Arc::from(name));
    let mut node = document;
    for (depth, step) in path.iter().enumerate() {
        if node.is_null() {
            // A number can only mean an item of a list, since no key is a number.
            let empty = if step.parse::<usize>().is_ok() { Value::List(Vec::new()) } else { Value::Map(Vec::new()) };
            *node = Node { origin: origin.clone(), value: empty };
        }
        node = match &mut node.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|e| e.key == *step).unwrap_or_else(|| {
                    entries.push(Entry { key: step.clone(), origin: origin.clone(), value: Node::null() });
                    entries.len() - 1
                });
                &mut entries[at].value
            }
            Value::List(items) => {
                let len = items.len();
                let index = step.parse::<usize>().ok().filter(|index| *index <= len);
                let index = index.ok_or_else(|| format!("{} is no position in a list of {len}", quote(step)))?;
                if index == len {
                    items.push(Node::null());
                }
                &mut items[index]
            }
            Value::Scalar(_) => return Err(format!("{} is a value and has no keys", path[..depth].join("."))),
        };
    }
    *node = parse(value, &origin)?;
    Ok(())
}

/// A value in brackets or braces is YAML; anything else is taken as it stands.
fn parse(value: &str, origin: &Origin) -> Result<Node, String> {
    let mut node = if value.trim_start().starts_with(['[', '{']) {
        yaml::parse(value).map_err(|e| e.problem)?.unwrap_or_else(Node::null)
    } else {
        Node::new(Value::Scalar(Scalar { text: value.into(), quoted: false, exact: None }))
    };
    mark(&mut node, origin);
    Ok(node)
}

fn mark(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.value {
        Value::Scalar(scalar) => scalar.exact = None,
        Value::List(items) => items.iter_mut().for_each(|item| mark(item, origin)),
        Value::Map(entries) => {
            for entry in entries {
                entry.origin = origin.clone();
                mark(&mut entry.value, origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn over(yaml: &str, variables: &[(&str, &str)]) -> Result<(serde_json::Value, Vec<String>), String> {
        let mut node = yaml::parse(yaml).unwrap().unwrap();
        let environment: Environment = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        match environment.apply("edge", &mut node) {
            Ok(applied) => Ok((node.to_json(), applied)),
            Err(errors) => Err(errors[0].to_string()),
        }
    }

    #[test]
    fn variables_reach_keys_items_and_what_is_not_there_yet() {
        let (json, applied) = over(
            "edge:\n  site_id: a\n  list: [{x: 1}]\n",
            &[
                ("GREY_EDGE__SITE_ID", "b"),
                ("GREY_EDGE__LIST__0__X", "2"),
                ("GREY_EDGE__LIST__1", "{x: 3}"),
                ("GREY_EDGE__NEW__0__ID", "1"),
                ("GREY_EDGE__API__LISTEN", "127.0.0.1:0"),
                ("GREY_EDGE__HUBS", "[a:1, 'b:2']"),
                ("GREY_HUB__NAME", "ignored"),
                ("GREY_EDGE", "ignored"),
                ("PATH", "ignored"),
            ],
        )
        .unwrap();
        let expected = serde_json::json!({"edge": {
            "site_id": "b", "list": [{"x": 2}, {"x": 3}], "new": [{"id": 1}],
            "api": {"listen": "127.0.0.1:0"}, "hubs": ["a:1", "b:2"],
        }});
        assert_eq!(json, expected);
        assert_eq!(applied.len(), 6);
    }

    #[test]
    fn variables_that_fit_nowhere_are_errors() {
        let error = over("edge: {site_id: a}", &[("GREY_EDGE__SITE_ID__X", "1")]).unwrap_err();
        assert_eq!(
            error,
            "environment variable GREY_EDGE__SITE_ID__X: edge.site_id.x: edge.site_id is a value and has no keys"
        );
        assert!(
            over("edge: {l: [1]}", &[("GREY_EDGE__L__5", "1")]).unwrap_err().contains("no position in a list of 1")
        );
        assert!(over("edge: {}", &[("GREY_EDGE__L", "[1, ")]).unwrap_err().contains("not YAML"));
    }

    proptest! {
        #[test]
        fn hostile_variables_never_panic(name in "[A-Z0-9_]{0,30}", value in "[\\[{}\\]a:,0-9 ]{0,20}") {
            let mut node = yaml::parse("edge: {a: [1], b: 2}").unwrap().unwrap();
            let environment: Environment = [(format!("GREY_EDGE__{name}"), value)].into_iter().collect();
            let _ = environment.apply("edge", &mut node);
        }
    }
}
