//! Rules as a site's configuration writes them.
//!
//! Plain data with one declaration each; what contradicts another key is
//! found by [`RuleSet::check`](crate::RuleSet::check). Knows nothing of how
//! rules run.

mod action;
mod condition;
mod effect;
mod kinds;
mod syntax;

pub use action::{Action, Command, Method, Publish, Webhook};
pub use condition::Condition;
pub use effect::{Effect, RenderedEffect, Template, TemplateError};
pub use kinds::{
    AggregateRule, AlarmSpec, AnomalyRule, BandSpec, DetectorKind, Field, FilterRule, SpectrumRule, SpectrumWindow,
    ThresholdRule, WindowKind,
};
pub use syntax::{GroupBy, Quantity, RateLimit, Sample, Streams, Texts, WindowBy};

use grey_config::{Decoder, Node, Setting, choice, section, tagged};

use crate::set::RuleError;

/// Alert events of a site in one minute unless `limits.alerts_per_minute` says otherwise.
pub const ALERTS_PER_MINUTE_MAX: u32 = 600;

choice! {
    /// Which raw readings leave the site. Alerts and aggregates always do.
    #[derive(Default)]
    pub enum Forward {
        /// Every reading.
        Raw = "raw",
        /// None, but those that a rule flags for upload.
        #[default]
        Aggregates = "aggregates",
        /// Those that triggered a rule.
        Anomalies = "anomalies",
    }
}

section! {
    /// Bounds on what devices and rules may cause.
    pub struct Limits {
        /// Readings a second that one device may have forwarded; those beyond stay at the site, counted. Default: no limit.
        pub device_rate: Option<u32> = None,
        /// Readings that a device may have forwarded at once. Default: twice device_rate.
        pub device_burst: Option<u32> = None,
        /// Alert events of the whole site in one minute; firings beyond are counted and summed up in one alert.
        pub alerts_per_minute: u32 = ALERTS_PER_MINUTE_MAX,
    }
}

section! {
    /// A version of a model that a rule set was compiled with, so that a replay uses the same.
    pub struct PinnedModel {
        /// The rule's name.
        pub rule: String,
        /// The model's name.
        pub model: String,
        /// Its version.
        pub version: String,
        /// SHA-256 of its manifest, hexadecimal.
        pub digest: String,
    }
}

section! {
    /// The rules of a site and what they are checked against.
    pub struct Rules {
        /// Which raw readings leave the site.
        pub forward: Forward = Forward::Aggregates,
        /// The rules, in order.
        pub rules: Vec<RuleSpec> = Vec::new(),
        /// The streams that exist and the unit of each. With it a condition over another one is an error.
        pub streams: Streams = Streams::default(),
        /// Bounds on what devices and rules may cause.
        pub limits: Limits = Limits::default(),
        /// Versions of models, newest first for each rule. Written by a compiled rule set; left out by people.
        pub pinned: Vec<PinnedModel> = Vec::new(),
    }
}

impl Rules {
    /// Reads rules from YAML: the keys of this section.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn from_yaml(text: &str) -> Result<Self, RuleError> {
        let node = Node::from_yaml(text).map_err(|error| RuleError::Source(error.to_string()))?;
        let mut decoder = Decoder::new("");
        let rules = Self::decode(&node, &mut decoder);
        match (rules, decoder.into_errors().into_iter().next()) {
            (Some(rules), None) => Ok(rules),
            (_, error) => Err(RuleError::Source(error.map_or_else(String::new, |error| error.to_string()))),
        }
    }

    /// Rules without known streams and with default limits.
    pub fn new(rules: Vec<RuleSpec>, forward: Forward) -> Self {
        Self { forward, rules, ..Self::default() }
    }
}

tagged! {
    /// One entry of `local_processing.rules`.
    pub enum RuleSpec {
        /// `type: threshold`
        Threshold(ThresholdRule) = "threshold",
        /// `type: anomaly`
        Anomaly(AnomalyRule) = "anomaly",
        /// `type: aggregate`
        Aggregate(AggregateRule) = "aggregate",
        /// `type: filter`
        Filter(FilterRule) = "filter",
        /// `type: spectrum`
        Spectrum(SpectrumRule) = "spectrum",
    }
}

impl RuleSpec {
    /// The name given or, for the rule at `index` from 0, the default one.
    pub fn name(&self, index: usize) -> String {
        let given = match self {
            Self::Threshold(rule) => &rule.name,
            Self::Anomaly(rule) => &rule.name,
            Self::Aggregate(rule) => &rule.name,
            Self::Filter(rule) => &rule.name,
            Self::Spectrum(rule) => &rule.name,
        };
        given.clone().unwrap_or_else(|| format!("{}-{}", self.type_name(), index + 1))
    }
}
