//! A file of rules: a whole edge document, or only its `local_processing:` or
//! `rules:`, read as the edge agent reads it, with the same errors.
//!
//! Keys of an edge document that do not concern rules are not looked at.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_config::{
    Check, ConfigErrors, Decoder, Environment, FILE_BYTES_MAX, Format, Inactive, Json, Node, Section, Setting,
    TierConfig, Value,
};
use grey_infer::Directory;
use grey_model::SiteId;
use grey_rules::{Condition, Forward, Library, NoModels, RuleError, RuleSet, RuleSpec, Rules};

/// Rules that were read and compiled.
#[derive(Debug)]
pub(crate) struct RulesFile {
    /// The compiled rules.
    pub(crate) set: Arc<RuleSet>,
    /// The rules as written.
    pub(crate) rules: Rules,
    /// The site that the document names.
    pub(crate) site: Option<SiteId>,
    /// What the reader should know; nothing of it is an error.
    pub(crate) warnings: Vec<String>,
}

/// What is read of each sort of document.
#[derive(Debug, Clone, Default)]
struct Part {
    site: Option<SiteId>,
    enabled: bool,
    models: Option<PathBuf>,
    rules: Rules,
}

/// The keys that are looked at; every other key is somebody else's.
fn known_keys(node: &Node, keys: &[&str]) -> Node {
    match &node.value {
        Value::Map(entries) => {
            let entries = entries.iter().filter(|entry| keys.contains(&entry.key.as_str())).cloned().collect();
            Node { origin: node.origin.clone(), value: Value::Map(entries) }
        }
        _ => node.clone(),
    }
}

impl Part {
    fn of_edge(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        const KEYS: [&str; 3] = ["site_id", "forward", "local_processing"];
        let node = known_keys(node, &KEYS);
        let section = decoder.section(&node, &KEYS)?;
        let site = section.optional("site_id", decoder, || None);
        let forward = section.optional("forward", decoder, Forward::default);
        let processing = section.optional("local_processing", decoder, LocalProcessing::default);
        let Part { enabled, models, rules, .. } = processing.0;
        Some(Self { site, enabled, models, rules: Rules { forward, ..rules } })
    }

    fn of_processing(section: &Section<'_>, decoder: &mut Decoder) -> Self {
        Self {
            site: None,
            enabled: section.optional("enabled", decoder, || true),
            models: section.optional("models", decoder, Models::default).0,
            rules: Rules {
                rules: section.optional("rules", decoder, Vec::new),
                streams: section.optional("streams", decoder, Default::default),
                limits: section.optional("limits", decoder, Default::default),
                ..Rules::default()
            },
        }
    }
}

/// A section that is only read: nothing prints it and no schema shows it.
macro_rules! read_only {
    () => {
        fn render(&self) -> Node {
            Node::null()
        }

        fn schema() -> Json {
            Json::Null
        }
    };
}

#[derive(Debug, Clone)]
struct LocalProcessing(Part);

impl Default for LocalProcessing {
    fn default() -> Self {
        Self(Part { enabled: true, ..Part::default() })
    }
}

impl Setting for LocalProcessing {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        // Threads change nothing of what rules decide, so they are only let stand.
        let known = ["enabled", "models", "streams", "limits", "workers", "rules"];
        let section = decoder.section(node, &known)?;
        Some(Self(Part::of_processing(&section, decoder)))
    }
    read_only!();
}

/// `models`: where they are.
#[derive(Debug, Clone, Default)]
struct Models(Option<PathBuf>);

impl Setting for Models {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let node = known_keys(node, &["dir"]);
        let section = decoder.section(&node, &["dir"])?;
        Some(Self(section.optional("dir", decoder, || None)))
    }
    read_only!();
}

/// Declares a document with one first key that holds rules at `$rules`.
macro_rules! document {
    ($type:ident, $root:literal, $rules:literal, $decode:expr) => {
        #[derive(Debug, Clone)]
        struct $type(Part);

        impl Setting for $type {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                let decode: fn(&Node, &mut Decoder) -> Option<Part> = $decode;
                decode(node, decoder).map(Self)
            }
            read_only!();
        }

        impl TierConfig for $type {
            const ROOT: &'static str = $root;
            const LIVE: &'static [&'static str] = &[];

            fn check(&self, check: &mut Check<'_>) {
                check_rules(&self.0, $rules, check);
            }

            fn inactive(&self) -> Vec<Inactive> {
                Vec::new()
            }

            fn warnings(&self) -> Vec<String> {
                Vec::new()
            }
        }
    };
}

document!(EdgeDocument, "edge", "edge.local_processing.rules", Part::of_edge);
document!(ProcessingDocument, "local_processing", "local_processing.rules", |node, decoder| {
    LocalProcessing::decode(node, decoder).map(|processing| processing.0)
});
document!(RulesDocument, "rules", "rules", |node, decoder| {
    let rules = Rules::new(Vec::decode(node, decoder)?, Forward::default());
    Some(Part { enabled: true, rules, ..Part::default() })
});

fn check_rules(part: &Part, path: &str, check: &mut Check<'_>) {
    for error in RuleSet::check(&part.rules) {
        match error {
            RuleError::Rule { index, key, problem, allowed, .. } => {
                check.reject(&format!("{path}[{index}].{key}"), problem, allowed);
            }
            error => check.reject(path, error.to_string(), ""),
        }
    }
}

/// Reads and compiles a file of rules. Environment variables (`GREY_EDGE__…`)
/// are laid over an edge document, as the agent does.
pub(crate) fn load(path: &Path, environment: &Environment, choice: &Choice) -> Result<RulesFile, ConfigErrors> {
    let (text, format) = read(path)?;
    let none = Environment::default();
    let (part, overrides) = match first_key(&text, format).as_deref() {
        Some("rules") => RulesDocument::load_text(path, &text, format, &none).map(|l| (l.config.0, l.overrides))?,
        Some("local_processing") => {
            ProcessingDocument::load_text(path, &text, format, &none).map(|l| (l.config.0, l.overrides))?
        }
        _ => EdgeDocument::load_text(path, &text, format, environment).map(|l| (l.config.0, l.overrides))?,
    };
    let Part { site, enabled, models, mut rules } = part;
    rules.forward = choice.forward.unwrap_or(rules.forward);
    let mut warnings: Vec<String> =
        overrides.iter().map(|name| format!("{name} from the environment was applied")).collect();
    if !enabled {
        rules.rules = Vec::new();
        warnings.push("local_processing.enabled is false: no rule runs".into());
    }
    let library = library(path, choice.models.as_deref(), models.as_deref(), &rules)?;
    let set = RuleSet::compile(&rules, &*library)
        .map_err(|error| ConfigErrors::of_file(path, error.to_string(), String::new()))?;
    warnings.extend(set.warnings());
    Ok(RulesFile { set: Arc::new(set), rules, site, warnings })
}

/// What the command line says instead of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// The forwarding policy.
    pub(crate) forward: Option<Forward>,
    /// The directory of models.
    pub(crate) models: Option<PathBuf>,
}

/// The models: those of the directory that the command line names, else of the one that the file at `path` names.
///
/// A relative directory in the file is taken from the file's place, so that a
/// site's configuration can be tried wherever it is kept. A directory that
/// the file names is needed only by a rule that asks for a model: a machine
/// that tries rules is not the site.
fn library(
    path: &Path,
    chosen: Option<&Path>,
    named: Option<&Path>,
    rules: &Rules,
) -> Result<Box<dyn Library>, ConfigErrors> {
    let (dir, by) = match (chosen, named) {
        (Some(dir), _) => (dir.to_path_buf(), "--models"),
        (None, Some(dir)) => (path.parent().unwrap_or(Path::new("")).join(dir), "models.dir"),
        (None, None) => return Ok(Box::new(NoModels)),
    };
    let wanted = |spec: &RuleSpec| matches!(spec, RuleSpec::Anomaly(rule) if rule.model.is_some());
    match Directory::open(&dir) {
        Ok(directory) => Ok(Box::new(directory)),
        Err(_) if chosen.is_none() && !rules.rules.iter().any(wanted) => Ok(Box::new(NoModels)),
        Err(error) => Err(ConfigErrors::of_file(
            path,
            format!("the models of {by} cannot be used: {error}"),
            "a folder with NAME/VERSION/manifest.json; --models DIR names another",
        )),
    }
}

/// A limit that a rule holds streams against.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    /// Names of streams; `*` stands for any text. None stand for every stream.
    streams: Vec<String>,
    pub(crate) operator: String,
    pub(crate) value: f64,
    pub(crate) unit: Option<String>,
    /// It ends an alert instead of beginning one.
    pub(crate) clears: bool,
}

impl Limit {
    /// The limit of a condition that compares one stream, or the `value` of any of `streams`, with a number.
    fn of(condition: &Condition, streams: &[String], clears: bool) -> Option<Self> {
        // A name in the place of `value` makes such a condition one over a stream.
        const STAND_IN: &str = "x";
        let of_any = || {
            let rest = condition.text().trim().strip_prefix("value")?;
            Condition::parse(&format!("{STAND_IN}{rest}")).ok().filter(|c| c.stream() == Some(STAND_IN))
        };
        let (comparison, streams) = match condition.stream() {
            Some(stream) => (condition.clone(), vec![stream.to_owned()]),
            None => (of_any()?, streams.to_vec()),
        };
        Some(Self {
            streams,
            operator: comparison.operator()?.as_str().to_owned(),
            value: comparison.limit()?,
            unit: comparison.unit().map(str::to_owned),
            clears,
        })
    }

    /// True when readings of this stream are held against it.
    pub(crate) fn concerns(&self, stream: &str) -> bool {
        self.streams.is_empty() || self.streams.iter().any(|pattern| matches(pattern, stream))
    }
}

/// True when a pattern, in which `*` stands for any text, is the whole of a name.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

impl RulesFile {
    /// Limits of thresholds that compare one stream with a number.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let mut limits: Vec<Limit> = Vec::new();
        for spec in &self.rules.rules {
            let RuleSpec::Threshold(rule) = spec else { continue };
            let fires = Limit::of(&rule.condition, &rule.streams, false);
            let clears = rule.clear.as_ref().and_then(|clear| Limit::of(clear, &rule.streams, true));
            for limit in fires.into_iter().chain(clears) {
                if !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
        }
        limits
    }
}

/// The first key of a document, as far as it can be told.
fn first_key(text: &str, format: Format) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Yaml => match Node::from_yaml(text).ok()?.value {
            Value::Map(entries) => entries.into_iter().next().map(|entry| entry.key),
            _ => None,
        },
        Format::Toml => text.parse::<toml::Table>().ok()?.into_iter().next().map(|(key, _)| key),
    }
}

/// A file of at most [`FILE_BYTES_MAX`] bytes as text.
fn read(path: &Path) -> Result<(String, Format), ConfigErrors> {
    let fail = |problem: String, allowed: &str| ConfigErrors::of_file(path, problem, allowed);
    let format =
        Format::of(path).ok_or_else(|| fail("the file's extension names no format".into(), ".yaml, .yml or .toml"))?;
    let cannot = |error: std::io::Error| fail(format!("cannot be read: {error}"), "a readable file");
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail("is too large for rules".into(), &format!("at most {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("is not UTF-8 text".into(), "a text file in UTF-8"))?;
    Ok((text, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_know_their_streams() {
        let limit = |text: &str, streams: &[&str]| {
            let streams: Vec<String> = streams.iter().map(|stream| (*stream).to_owned()).collect();
            Limit::of(&Condition::parse(text).unwrap(), &streams, false)
        };
        let named = limit("temperature > 85 °C", &["p*"]).unwrap();
        assert_eq!((named.operator.as_str(), named.value, named.unit.as_deref()), (">", 85.0, Some("°C")));
        assert!(named.concerns("temperature") && !named.concerns("pressure"));

        let any = limit("value <= -1.5", &["line-*/temp*", "t"]).unwrap();
        assert_eq!((any.operator.as_str(), any.value, any.unit.as_deref()), ("<=", -1.5, None));
        for (stream, concerned) in [("line-1/temperature", true), ("t", true), ("line-1", false), ("xt", false)] {
            assert_eq!(any.concerns(stream), concerned, "{stream}");
        }
        assert!(limit("value > 1", &[]).unwrap().concerns("anything"));
        for text in ["value.avg > 1", "value > 1 && t > 2", "value + 1 > t", "delta(t) > 3", "device == \"a\""] {
            assert_eq!(limit(text, &[]), None, "{text}");
        }
    }
}
