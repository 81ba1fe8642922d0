//! A checked set of rules, ready to run.

use std::sync::Arc;

use grey_config::{Duration, Setting};
use grey_model::{Name, WireError};
use hashbrown::HashMap;

use crate::condition::Condition;
use crate::library::Library;
use crate::spec::{Action, AggregateRule, Field, Forward, RuleSpec, Rules};
use crate::unit::Unit;

/// Rules of one site: each costs time for every event.
pub const RULES_MAX: usize = 4096;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Why rules cannot run, or saved state cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A rule contradicts its own limits or another rule.
    #[error("rule {name}: {key} {problem}; allowed: {allowed}")]
    Rule {
        /// Its position from 0.
        index: usize,
        /// Its name.
        name: String,
        /// The key that is wrong.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What is allowed.
        allowed: String,
    },
    /// More rules than [`RULES_MAX`].
    #[error("{0} rules are over the limit of {RULES_MAX}")]
    TooMany(usize),
    /// Rules cannot be read.
    #[error("the rules cannot be read: {0}")]
    Source(String),
    /// Saved state is damaged.
    #[error("the saved state of the rules cannot be read")]
    Snapshot(#[from] WireError),
    /// Saved state is of another version of the format.
    #[error("the saved state of the rules has version {0}, this build reads version {1}")]
    Version(u8, u8),
    /// Saved state belongs to other rules.
    #[error("the saved state belongs to the rules {saved:016x}, not to {expected:016x}")]
    Changed {
        /// Digest of the rules that the state belongs to.
        saved: u64,
        /// Digest of the rules given.
        expected: u64,
    },
}

/// A threshold, with everything that an alert repeats made once.
#[derive(Debug)]
pub(crate) struct Threshold {
    pub(crate) name: Name,
    pub(crate) condition: Condition,
    pub(crate) condition_name: Name,
    pub(crate) flags: bool,
    pub(crate) severity: Name,
    pub(crate) unit_name: Option<Name>,
    pub(crate) unit: Option<Unit>,
}

/// A windowed aggregate.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) interval_ms: i64,
    pub(crate) fields: Box<[(Field, Name)]>,
    pub(crate) deviates: bool,
    /// The attribute `window`.
    pub(crate) window: (Name, Name),
}

/// Rules that were checked and prepared. Immutable; shared by engines.
#[derive(Debug)]
pub struct RuleSet {
    specs: Vec<RuleSpec>,
    /// The rules as text, byte for byte as they were first saved, so that the
    /// digest outlives a build that writes them differently.
    source: Vec<u8>,
    digest: u64,
    pub(crate) forward: Forward,
    pub(crate) thresholds: Vec<Threshold>,
    /// Which thresholds watch a stream, by position in `thresholds`.
    pub(crate) by_stream: HashMap<Name, Arc<[u16]>>,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) words: Words,
}

/// Names that derived events repeat.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) state: Name,
    pub(crate) firing: Name,
    pub(crate) cleared: Name,
    pub(crate) rule: Name,
    pub(crate) condition: Name,
    pub(crate) severity: Name,
    pub(crate) since: Name,
    pub(crate) reason: Name,
    pub(crate) value: Name,
    pub(crate) limit: Name,
    pub(crate) partial: Name,
    pub(crate) yes: Name,
}

impl Words {
    fn new() -> Self {
        Self {
            state: "state".into(),
            firing: "firing".into(),
            cleared: "cleared".into(),
            rule: "rule".into(),
            condition: "condition".into(),
            severity: "severity".into(),
            since: "since".into(),
            reason: "reason".into(),
            value: "value".into(),
            limit: "limit".into(),
            partial: "partial".into(),
            yes: "true".into(),
        }
    }
}

impl RuleSet {
    /// Checks and prepares rules. The rule at position `n` of the list is rule `n + 1`; 0 is the forwarding policy.
    pub fn compile(rules: &Rules, library: &dyn Library) -> Result<Self, RuleError> {
        let source = rules.render().to_yaml().into_bytes();
        Self::prepare(rules, library, source)
    }

    fn prepare(rules: &Rules, _library: &dyn Library, source: Vec<u8>) -> Result<Self, RuleError> {
        if let Some(error) = Self::check(rules).into_iter().next() {
            return Err(error);
        }
        let (specs, forward) = (rules.rules.as_slice(), rules.forward);
        let digest = fnv1a(&source);
        let mut thresholds = Vec::new();
        let mut aggregates = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            match spec {
                RuleSpec::Threshold(rule) => thresholds.push(Threshold {
                    name: spec.name(index).into(),
                    condition_name: rule.condition.text().into(),
                    condition: rule.condition.clone(),
                    flags: flags(rule),
                    severity: rule.severity.as_str().into(),
                    unit_name: rule.condition.unit().map(Name::from),
                    unit: rule.condition.unit().and_then(Unit::parse),
                }),
                RuleSpec::Aggregate(rule) => aggregates.push(Aggregate {
                    interval_ms: interval(rule).as_millis() as i64,
                    fields: rule.fields.iter().map(|f| (*f, Name::from(f.as_str()))).collect(),
                    deviates: rule.fields.contains(&Field::Stddev),
                    window: ("window".into(), interval(rule).as_millis().to_string().into()),
                }),
                _ => {}
            }
        }
        let mut by_stream: HashMap<Name, Vec<u16>> = HashMap::new();
        for (n, threshold) in thresholds.iter().enumerate() {
            by_stream.entry(threshold.condition.stream().into()).or_default().push(n as u16);
        }
        let by_stream = by_stream.into_iter().map(|(stream, list)| (stream, list.into())).collect();
        Ok(Self {
            specs: specs.to_vec(),
            source,
            digest,
            forward,
            thresholds,
            by_stream,
            aggregates,
            words: Words::new(),
        })
    }

    /// Everything that is wrong with rules beyond what each key says for itself.
    pub fn check(rules: &Rules) -> Vec<RuleError> {
        let specs = rules.rules.as_slice();
        let mut errors = Vec::new();
        if specs.len() > RULES_MAX {
            errors.push(RuleError::TooMany(specs.len()));
        }
        let names: Vec<String> = specs.iter().enumerate().map(|(n, s)| s.name(n)).collect();
        for (index, spec) in specs.iter().enumerate().take(RULES_MAX) {
            let mut reject = |key, problem: String, allowed: String| {
                errors.push(RuleError::Rule { index, name: names[index].clone(), key, problem, allowed });
            };
            if let Some(first) = names[..index].iter().position(|n| *n == names[index]) {
                reject("name", format!("is already the name of rule {}", first + 1), "each name once".into());
            }
            let RuleSpec::Aggregate(rule) = spec else { continue };
            let length = interval(rule);
            if length < INTERVAL_MIN || length > INTERVAL_MAX {
                let problem = format!("{length} is out of range");
                reject("interval", problem, format!("{INTERVAL_MIN} to {INTERVAL_MAX}"));
            }
            let twin = specs[..index]
                .iter()
                .position(|other| matches!(other, RuleSpec::Aggregate(other) if interval(other) == length));
            if let Some(first) = twin {
                let problem = format!("{length} is already the interval of rule {}", first + 1);
                reject("interval", problem, "one aggregate per interval, with all its fields".into());
            }
            if rule.fields.is_empty() {
                reject("fields", "is empty".into(), Field::WORDS.join(", "));
            }
            let repeated = rule.fields.iter().enumerate().find(|(n, field)| rule.fields[..*n].contains(field));
            if let Some((_, field)) = repeated {
                reject("fields", format!("names {field} twice"), "each field once".into());
            }
        }
        errors
    }

    /// A number that is the same for equal rules, on every machine and build.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The forwarding policy.
    pub fn forward(&self) -> Forward {
        self.forward
    }

    /// The rules as text, for a checkpoint; [`RuleSet::from_source`] makes an equal set.
    pub fn source(&self) -> Vec<u8> {
        self.source.clone()
    }

    /// The set that [`RuleSet::source`] saved.
    pub fn from_source(bytes: &[u8], library: &dyn Library) -> Result<Self, RuleError> {
        let text = std::str::from_utf8(bytes).map_err(|e| RuleError::Source(e.to_string()))?;
        Self::prepare(&Rules::from_yaml(text)?, library, bytes.to_vec())
    }

    /// What each rule does, in words, one line each, the forwarding policy first.
    pub fn explain(&self) -> Vec<String> {
        let policy = match self.forward {
            Forward::Raw => "every reading is forwarded",
            Forward::Aggregates => "raw readings stay at the site, except those that a rule flags for upload",
            Forward::Anomalies => "raw readings stay at the site, except those that triggered a rule",
        };
        let mut lines = vec![format!("0 forward {}: {policy}", self.forward)];
        for (index, spec) in self.specs.iter().enumerate() {
            let what = match spec {
                RuleSpec::Threshold(rule) => {
                    let also = if flags(rule) { ", and forward the readings that do" } else { "" };
                    format!("{} alert when a device's {} begins or ceases to hold{also}", rule.severity, rule.condition)
                }
                RuleSpec::Aggregate(rule) => {
                    let fields = rule.fields.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ");
                    format!("{fields} of every device's streams each {}", interval(rule))
                }
                _ => "nothing yet".to_owned(),
            };
            lines.push(format!("{} {}: {what}", index + 1, spec.name(index)));
        }
        lines
    }

    /// What the reader of a configuration should know: rules that do not act, data that goes nowhere.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, spec) in self.specs.iter().enumerate() {
            if let RuleSpec::Anomaly(rule) = spec {
                let model = rule.model.as_deref().unwrap_or_default();
                warnings.push(format!("rule {}: models do not run yet, so {model} flags nothing", spec.name(index)));
            }
        }
        if self.forward == Forward::Aggregates && self.aggregates.is_empty() {
            warnings.push(
                "forward is aggregates, but no rule aggregates: readings are kept at the site and only alerts leave it"
                    .into(),
            );
        }
        warnings
    }
}

/// True when readings that violate the rule are forwarded.
fn flags(rule: &crate::spec::ThresholdRule) -> bool {
    rule.action == Action::FlagAndUpload || rule.actions.contains(&Action::FlagAndUpload)
}

/// The length of a window.
fn interval(rule: &AggregateRule) -> Duration {
    rule.interval.unwrap_or_default()
}

/// FNV-1a: stable everywhere, and no one gains from colliding it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
