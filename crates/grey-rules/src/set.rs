//! A checked set of rules, ready to run. Immutable; shared by engines.

mod check;
mod compile;
mod explain;
mod limits;
mod models;
mod plan;
mod source;

use std::sync::Arc;

use grey_detect::Method;
use grey_expr::{Expr, Unit};
use grey_infer::{Library, Model, ModelRef};
use grey_model::{Lane, Name, WireError};
use grey_spectra::Analyzer;
use grey_window::WindowSpec;

use crate::spec::{Effect, Field, Forward, GroupBy, Limits, Quantity, RuleSpec, Rules, Sample};
use crate::words::Words;

pub(crate) use check::{spectrum_unit, window_field};
pub(crate) use limits::{Crossings, Predicate};
pub(crate) use plan::{Plan, WindowPlan};

/// Rules of one site: their numbers, and one more for the policy, fit an event's account.
pub const RULES_MAX: usize = 4096;

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
    #[error("the saved state of the rules has version {0}, this build reads up to version {1}")]
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

/// What has alerts or windows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    Device,
    Site,
    Tag(Name),
}

impl Scope {
    pub(crate) fn of(group: &GroupBy) -> Self {
        match group {
            GroupBy::Device => Self::Device,
            GroupBy::Site => Self::Site,
            GroupBy::Tag(name) => Self::Tag(name.as_str().into()),
        }
    }
}

/// Names with `*` for any text; none stand for every name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns(pub(crate) Box<[String]>);

impl Patterns {
    pub(crate) fn new(patterns: &[String]) -> Self {
        Self(patterns.into())
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| glob(pattern, name))
    }

    /// True when a pattern names it without `*`.
    pub(crate) fn is_all(&self) -> bool {
        self.0.is_empty()
    }
}

/// True when a pattern, in which `*` stands for any text, is the whole of a name.
pub(crate) fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A value that conditions refer to: a stream, in a unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    pub(crate) stream: Name,
    pub(crate) unit: Option<Name>,
}

/// A condition, and which inputs its slots are.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) expr: Expr,
    pub(crate) inputs: Box<[u32]>,
}

/// The streams that a limit is for.
#[derive(Debug)]
pub(crate) enum LimitOn {
    Stream(Name),
    /// A derived stream of every stream that has spectra by a rule.
    Spectra {
        spectrum: u32,
        suffix: String,
    },
}

/// When a threshold holds.
#[derive(Debug)]
pub(crate) enum Test {
    /// A value of a device's stream is held against constants.
    Limit { on: LimitOn, unit: Option<Name>, fire: Predicate, clear: Option<Predicate> },
    /// Anything else.
    Condition { condition: u32, clear: Option<u32>, scope: u16 },
}

/// What becomes of readings for which a condition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Verdicts {
    pub(crate) drop: bool,
    pub(crate) flag: bool,
    pub(crate) lane: Option<Lane>,
    pub(crate) sample: Option<Sample>,
}

impl Verdicts {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A threshold, or one alarm of a spectrum.
#[derive(Debug)]
pub(crate) struct Threshold {
    pub(crate) rule: u16,
    /// Its alerts, if it raises any.
    pub(crate) alert: Option<u32>,
    pub(crate) test: Test,
    /// For conditions that name no stream.
    pub(crate) streams: Patterns,
    pub(crate) verdicts: Verdicts,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Threshold(u32),
    Detector(u32),
    Model(u32),
}

/// Something that begins and ends, with everything that its events repeat.
#[derive(Debug)]
pub(crate) struct AlertRule {
    pub(crate) rule: u16,
    pub(crate) subject: Subject,
    pub(crate) name: Name,
    /// The condition, or the detector's or model's name.
    pub(crate) condition: Name,
    pub(crate) limit: Option<f64>,
    pub(crate) unit: Option<Name>,
    pub(crate) severity: Name,
    pub(crate) tags: Box<[(Name, Name)]>,
    pub(crate) hold_ms: i64,
    pub(crate) cooldown_ms: i64,
    /// How many may begin in a time, ms.
    pub(crate) rate: Option<(u32, i64)>,
    pub(crate) effects: Option<Arc<[Effect]>>,
    pub(crate) clear_effects: Option<Arc<[Effect]>>,
    /// The same for equal rules.
    pub(crate) identity: u64,
}

/// A windowed aggregate.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) rule: u16,
    pub(crate) scope: u16,
    pub(crate) streams: Patterns,
    pub(crate) filter: Option<u32>,
    pub(crate) window: WindowSpec,
    pub(crate) fields: Box<[(Field, Name)]>,
    /// The attribute `window`; `None`: the length of each.
    pub(crate) length: Option<Name>,
    pub(crate) late: Option<Name>,
    pub(crate) identity: u64,
}

/// A filter.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) rule: u16,
    pub(crate) streams: Patterns,
    pub(crate) filter: Option<u32>,
    pub(crate) deduplicate_ms: Option<i64>,
    pub(crate) deadband: Option<Quantity>,
    pub(crate) max_interval_ms: Option<i64>,
    pub(crate) sample: Option<Sample>,
    pub(crate) identity: u64,
}

/// A detector.
#[derive(Debug)]
pub(crate) struct DetectorRule {
    pub(crate) rule: u16,
    pub(crate) alert: u32,
    pub(crate) streams: Patterns,
    pub(crate) method: Method,
    pub(crate) threshold: f64,
    pub(crate) verdicts: Verdicts,
    pub(crate) identity: u64,
}

/// A version of a model: what it is, and the model if it could be loaded.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) version: Name,
    pub(crate) model: Result<Arc<dyn Model>, Name>,
}

/// A rule with a model.
#[derive(Debug)]
pub(crate) struct ModelRule {
    pub(crate) rule: u16,
    pub(crate) alert: u32,
    pub(crate) model: Name,
    pub(crate) score: Option<f64>,
    pub(crate) verdicts: Verdicts,
    /// Newest first.
    pub(crate) candidates: Box<[Candidate]>,
    /// What was wrong with versions that are no candidates.
    pub(crate) problem: Option<Name>,
    /// Inputs of all candidates: stream and unit.
    pub(crate) inputs: Box<[Input]>,
    pub(crate) identity: u64,
}

impl ModelRule {
    /// The first usable candidate from a position on.
    pub(crate) fn usable(&self, from: usize) -> usize {
        let behind = self.candidates.iter().skip(from).position(|candidate| candidate.model.is_ok());
        behind.map_or(self.candidates.len(), |n| from + n)
    }
}

/// A spectrum.
#[derive(Debug)]
pub(crate) struct Spectrum {
    pub(crate) rule: u16,
    pub(crate) streams: Patterns,
    pub(crate) analyzer: Analyzer,
    pub(crate) identity: u64,
}

/// Rules that were checked and prepared. Immutable; shared by engines.
#[derive(Debug)]
pub struct RuleSet {
    rules: Rules,
    /// The rules as text, byte for byte as they were first saved, so that the
    /// digest outlives a build that writes them differently.
    source: Vec<u8>,
    digest: u64,
    warnings: Vec<String>,
    pub(crate) forward: Forward,
    pub(crate) limits: Limits,
    /// Per rule.
    pub(crate) names: Vec<Name>,
    /// Per rule: the same for equal rules.
    pub(crate) identities: Vec<u64>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) inputs: Vec<Input>,
    /// Which inputs are kept in which scope.
    pub(crate) watched: Vec<(u16, u32)>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) thresholds: Vec<Threshold>,
    pub(crate) alerts: Vec<AlertRule>,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) detectors: Vec<DetectorRule>,
    pub(crate) models: Vec<ModelRule>,
    pub(crate) spectra: Vec<Spectrum>,
    pub(crate) words: Words,
}

impl RuleSet {
    /// Checks and prepares rules. The rule at position `n` of the list is rule `n + 1`; 0 is the forwarding
    /// policy. Versions of models are looked up in the library and written into the source, unless `pinned` names them.
    pub fn compile(rules: &Rules, library: &dyn Library) -> Result<Self, RuleError> {
        let mut rules = rules.clone();
        if rules.pinned.is_empty() {
            rules.pinned = source::pin(&rules, library);
        }
        let source = source::write(&rules);
        Self::prepare(rules, library, source)
    }

    /// The set that [`RuleSet::source`] saved, with the versions of models that it names.
    pub fn from_source(bytes: &[u8], library: &dyn Library) -> Result<Self, RuleError> {
        let text = std::str::from_utf8(bytes).map_err(|e| RuleError::Source(e.to_string()))?;
        Self::prepare(Rules::from_yaml(text)?, library, bytes.to_vec())
    }

    /// Everything that is wrong with rules beyond what each key says for itself.
    pub fn check(rules: &Rules) -> Vec<RuleError> {
        compile::compile(rules, &grey_infer::NoModels).err().unwrap_or_default()
    }

    fn prepare(rules: Rules, library: &dyn Library, source: Vec<u8>) -> Result<Self, RuleError> {
        let digest = fnv1a(&source);
        let mut set = compile::compile(&rules, library)
            .map_err(|errors| errors.into_iter().next().unwrap_or_else(|| RuleError::Source("unknown".into())))?;
        (set.source, set.digest) = (source, digest);
        set.warnings = explain::warnings(&set);
        Ok(set)
    }

    /// A number that is the same for equal rules, on every machine and build.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The forwarding policy.
    pub fn forward(&self) -> Forward {
        self.forward
    }

    /// The rules as they were given, with the versions of their models.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rules as text, for a checkpoint; [`RuleSet::from_source`] makes an equal set.
    pub fn source(&self) -> Vec<u8> {
        self.source.clone()
    }

    /// What each rule does, in words, one line each, the forwarding policy first.
    pub fn explain(&self) -> Vec<String> {
        explain::explain(self)
    }

    /// What the reader of a configuration should know: rules that do not act, data that goes nowhere.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// The versions of models that rules were compiled with, newest first for each rule.
    pub fn models(&self) -> Vec<ModelRef> {
        let pinned = self.rules.pinned.iter();
        let model = |p: &crate::spec::PinnedModel| ModelRef {
            name: p.model.clone(),
            version: p.version.clone(),
            digest: p.digest.clone(),
        };
        pinned.map(model).collect()
    }

    pub(crate) fn specs(&self) -> &[RuleSpec] {
        &self.rules.rules
    }

    /// The alert that a number in saved state or a timer means.
    pub(crate) fn alert(&self, alert: u32) -> Option<&AlertRule> {
        self.alerts.get(alert as usize)
    }

    /// What one reading may cost, in units of about 10 ns.
    pub(crate) fn weight(&self) -> usize {
        let windows = self.aggregates.len() + self.filters.len() + self.thresholds.len();
        2 + windows
            + self.conditions.len()
            + 40 * self.detectors.len()
            + 40 * self.models.len()
            + 20 * self.spectra.len()
    }

    /// True when rules are not per device, so that every event may concern every other.
    pub(crate) fn has_shared(&self) -> bool {
        self.scopes.len() > 1
    }
}

/// A unit by name; `None` when it is unknown.
pub(crate) fn unit(name: &str) -> Option<Unit> {
    Unit::parse(name)
}

/// FNV-1a: stable everywhere, and no one gains from colliding it.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*b*c", "axbyc", true),
            ("a*b*c", "axyc", false),
            ("ab*ba", "aba", false),
            ("a**c", "abc", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern} {name}");
        }
    }
}
