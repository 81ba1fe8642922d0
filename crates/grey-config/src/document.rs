//! Reading one configuration file, and what every tier does with it: load,
//! check, print, compare.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::decode::{Check, Decoder, Setting};
use crate::environment::Environment;
use crate::error::{ConfigError, ConfigErrors};
use crate::tree::{Entry, FILE_BYTES_MAX, Node, Origin, Value, quote};
use crate::{toml, yaml};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.0.
    Toml,
}

impl Format {
    /// The format of a file by its extension.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<T> {
    /// The checked configuration.
    pub config: T,
    /// The file.
    pub path: PathBuf,
    /// Names of the environment variables that were applied over it.
    pub overrides: Vec<String>,
}

/// A key that is accepted and checked but changes nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inactive {
    /// The key, such as `edge.connectivity.backup`.
    pub key_path: String,
    /// What happens instead.
    pub why: String,
}

/// Collects [`Inactive`] keys of a tier.
#[derive(Debug)]
pub struct InactiveKeys {
    root: &'static str,
    keys: Vec<Inactive>,
}

impl InactiveKeys {
    /// No keys yet, of the tier with this root key.
    pub fn new(root: &'static str) -> Self {
        Self { root, keys: Vec::new() }
    }

    /// Notes a key below the root, if it is set.
    pub fn note(&mut self, set: bool, key: &str, why: &str) {
        if set {
            self.keys.push(Inactive { key_path: format!("{}.{key}", self.root), why: why.into() });
        }
    }

    /// The keys noted.
    pub fn into_vec(self) -> Vec<Inactive> {
        self.keys
    }
}

/// One difference between two configurations of a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `edge.queue.max_bytes`.
    pub key_path: String,
    /// The value before as JSON, if the key was set.
    pub before: Option<String>,
    /// The value after as JSON, if the key is set.
    pub after: Option<String>,
    /// True when only a restart applies it.
    pub restart: bool,
}

/// The other documents' first keys and what reads them, for a helpful answer to the wrong file.
const ROOTS: [(&str, &str); 4] = [
    ("edge", "an edge agent's (edge-agent)"),
    ("hub", "a hub's (hub-server)"),
    ("cloud", "a coordinator's (coordinator)"),
    ("alerts", "an alert list"),
];

/// A tier's configuration: a section under one first key, with rules between its keys.
pub trait TierConfig: Setting + Clone {
    /// The first key of the document: `edge`, `hub`, `cloud`.
    const ROOT: &'static str;
    /// Key paths below the root that a running process takes over on SIGHUP; all else needs a restart.
    const LIVE: &'static [&'static str];

    /// Completes the configuration where one key's default depends on another.
    fn resolve(self) -> Self {
        self
    }

    /// Rules between keys; reports what is broken.
    fn check(&self, check: &mut Check<'_>);

    /// Keys that are set but change nothing yet.
    fn inactive(&self) -> Vec<Inactive>;

    /// What the operator should know before it runs: nothing of it is an error.
    fn warnings(&self) -> Vec<String>;

    /// Reads a file and the environment over it.
    fn load_file(path: &Path, environment: &Environment) -> Result<Loaded<Self>, ConfigErrors> {
        let (text, format) = read(path)?;
        Self::load_text(path, &text, format, environment)
    }

    /// Reads the text of a file and the environment over it; does no I/O.
    fn load_text(
        path: &Path,
        text: &str,
        format: Format,
        environment: &Environment,
    ) -> Result<Loaded<Self>, ConfigErrors> {
        let fail = |errors| ConfigErrors::new(path, errors);
        let (document, overrides) = parse(path, text, format, Self::ROOT, environment)?;
        let node = document.get(Self::ROOT).cloned().unwrap_or_else(Node::empty_map);
        let mut decoder = Decoder::new(Self::ROOT);
        let decoded = Self::decode(&node, &mut decoder);
        let mut errors = decoder.into_errors();
        if let Some(config) = &decoded {
            let mut check = Check::new(&document);
            config.check(&mut check);
            errors.extend(check.into_errors());
        }
        match decoded {
            Some(config) if errors.is_empty() => {
                Ok(Loaded { config: config.resolve(), path: path.to_owned(), overrides })
            }
            _ => Err(fail(errors)),
        }
    }

    /// The tree under the root key, as it prints.
    fn tree(&self) -> Node {
        let root = Entry { key: Self::ROOT.into(), origin: Origin::Absent, value: self.render() };
        Node::new(Value::Map(vec![root]))
    }

    /// The effective configuration as YAML: every key with its value or default. Reads back as this configuration.
    fn to_yaml(&self) -> String {
        self.tree().to_yaml()
    }

    /// The JSON Schema of the document.
    fn document_schema() -> Json {
        document_schema(Self::ROOT, Self::schema())
    }

    /// What differs between two configurations, in the order of the keys.
    fn changes(old: &Self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        compare(Self::ROOT, Some(&old.render()), Some(&new.render()), &mut changes);
        for change in &mut changes {
            let path = change.key_path.strip_prefix(Self::ROOT).unwrap_or_default().trim_start_matches('.');
            change.restart = !Self::LIVE.iter().any(|live| {
                path.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
        }
        changes
    }
}

pub(crate) fn document_schema(root: &str, schema: Json) -> Json {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Grey configuration: {root}"),
        "type": "object",
        "properties": { root: schema },
        "required": [root],
        "additionalProperties": false,
    })
}

/// Reads a file of at most [`FILE_BYTES_MAX`] bytes.
pub(crate) fn read(path: &Path) -> Result<(String, Format), ConfigErrors> {
    let fail = |problem: String, allowed: &str| Err(ConfigErrors::of_file(path, problem, allowed));
    let Some(format) = Format::of(path) else {
        return fail("the file's extension names no format".into(), ".yaml, .yml or .toml");
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return fail("there is no such file".into(), "a configuration file");
        }
        Err(e) => return fail(format!("cannot be read: {e}"), "a readable file"),
    };
    if metadata.is_dir() {
        return fail("is a directory".into(), "a configuration file");
    }
    let mut bytes = Vec::new();
    if let Err(e) = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        return fail(format!("cannot be read: {e}"), "a readable file");
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return fail("is too large for a configuration".into(), &format!("at most {FILE_BYTES_MAX} bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, format)),
        Err(e) => {
            let bytes = e.as_bytes();
            let line = bytes[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            fail(format!("line {line} is not UTF-8 text"), "a text file in UTF-8")
        }
    }
}

/// A document of one root key, with the environment over it.
pub(crate) fn parse(
    path: &Path,
    text: &str,
    format: Format,
    root: &str,
    environment: &Environment,
) -> Result<(Node, Vec<String>), ConfigErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = match format {
        Format::Yaml => yaml::parse(text).map_err(|e| vec![e]),
        Format::Toml => toml::parse(text),
    };
    let mut document = match parsed {
        Ok(Some(document)) => document,
        Ok(None) => return Err(ConfigErrors::of_file(path, "the file is empty", format!("a section {root}"))),
        Err(errors) => return Err(ConfigErrors::new(path, errors)),
    };
    let mut errors = Vec::new();
    match &document.value {
        Value::Map(entries) => {
            for entry in entries.iter().filter(|e| e.key != root) {
                let hint = ROOTS
                    .iter()
                    .find(|(key, _)| *key == entry.key)
                    .map(|(_, whose)| format!("this is {whose} configuration"))
                    .or_else(|| {
                        crate::suggest::nearest(&entry.key, [root]).map(|root| format!("did you mean {root}?"))
                    });
                let problem = format!("unknown key {}", quote(&entry.key));
                let key_path = entry.key.clone();
                let allowed = root.to_owned();
                errors.push(ConfigError { origin: entry.origin.clone(), key_path, problem, allowed, hint });
            }
            if errors.is_empty() && document.get(root).is_none_or(Node::is_null) {
                return Err(ConfigErrors::of_file(path, format!("the section {root} is empty"), "its keys"));
            }
        }
        _ => errors.push(ConfigError {
            origin: document.origin.clone(),
            key_path: String::new(),
            problem: format!("found {}", document.describe()),
            allowed: format!("a section {root}"),
            hint: None,
        }),
    }
    if !errors.is_empty() {
        return Err(ConfigErrors::new(path, errors));
    }
    let overrides = environment.apply(root, &mut document).map_err(|errors| ConfigErrors::new(path, errors))?;
    Ok((document, overrides))
}

/// Leaves that differ. Lists of sections are compared item by item when they have the same length.
fn compare(path: &str, old: Option<&Node>, new: Option<&Node>, changes: &mut Vec<Change>) {
    match (old.map(|n| &n.value), new.map(|n| &n.value)) {
        (Some(Value::Map(a)), Some(Value::Map(b))) => {
            let added = b.iter().filter(|e| a.iter().all(|known| known.key != e.key));
            for key in a.iter().chain(added).map(|e| e.key.as_str()) {
                compare(&format!("{path}.{key}"), old.and_then(|n| n.get(key)), new.and_then(|n| n.get(key)), changes);
            }
        }
        (Some(Value::List(a)), Some(Value::List(b))) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{n}]"), Some(a), Some(b), changes);
            }
        }
        _ => {
            let json = |node: Option<&Node>| node.map(|n| n.to_json().to_string());
            let (before, after) = (json(old), json(new));
            if before != after {
                changes.push(Change { key_path: path.into(), before, after, restart: true });
            }
        }
    }
}

/// Gives a [`TierConfig`] its methods without the trait in scope.
#[macro_export]
macro_rules! tier_config {
    ($type:ty) => {
        impl $type {
            /// Reads a file (YAML or TOML by extension) and the environment over it. Reports everything that is wrong.
            pub fn load(
                path: &::std::path::Path,
                environment: &$crate::Environment,
            ) -> Result<$crate::Loaded<Self>, $crate::ConfigErrors> {
                <Self as $crate::TierConfig>::load_file(path, environment)
            }

            /// The effective configuration as YAML: every key with its value or default. It loads as this configuration.
            pub fn effective(&self) -> String {
                $crate::TierConfig::to_yaml(&$crate::TierConfig::resolve(self.clone()))
            }

            /// The JSON Schema of the document, for editors.
            pub fn json_schema() -> $crate::Json {
                <Self as $crate::TierConfig>::document_schema()
            }

            /// What differs between two configurations, and whether a running process can take it over.
            pub fn diff(old: &Self, new: &Self) -> Vec<$crate::Change> {
                <Self as $crate::TierConfig>::changes(old, new)
            }

            /// Keys that are set, accepted and checked, but change nothing yet.
            pub fn inactive(&self) -> Vec<$crate::Inactive> {
                $crate::TierConfig::inactive(self)
            }

            /// What the operator should know before it runs; nothing of it is an error.
            pub fn warnings(&self) -> Vec<String> {
                $crate::TierConfig::warnings(self)
            }
        }
    };
}
