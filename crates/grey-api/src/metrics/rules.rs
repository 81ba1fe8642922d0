//! The metrics of an edge's rules: what they counted, how long they took, what
//! they caused, and how far a recovery is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::names;
use super::sites::SiteLabels;
use super::{Collector, Exposition, Metrics};

/// Rules with series of their own; those beyond share the label `other`.
pub const RULES_SHOWN_MAX: usize = 256;
/// Models with series of their own.
const MODELS_SHOWN_MAX: usize = 64;

/// What an alert causes outside of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    /// A message to devices.
    Publish = 0,
    /// A device's command.
    Command = 1,
    /// A request to a program.
    Webhook = 2,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectOutcome {
    /// It is done.
    Executed = 0,
    /// It was refused, or given up.
    Failed = 1,
    /// There was no room for it.
    Dropped = 2,
    /// One attempt failed, and another follows.
    Retried = 3,
}

/// Counts effects. Cheap to clone; clones share the figures.
#[derive(Clone)]
pub struct EffectMetrics(Arc<[[Counter; 4]; 3]>);

impl std::fmt::Debug for EffectMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EffectMetrics").finish_non_exhaustive()
    }
}

impl EffectMetrics {
    /// The effects of a site.
    pub fn new(metrics: &Metrics, labels: &SiteLabels) -> Self {
        let counters = ["publish", "command", "webhook"].map(|kind| {
            ["executed", "failed", "dropped", "retried"].map(|outcome| {
                metrics.counter(&names::EFFECTS, &[labels.site.as_str(), &labels.hub, &labels.region, kind, outcome])
            })
        });
        Self(Arc::new(counters))
    }

    /// Counts one.
    pub fn count(&self, kind: EffectKind, outcome: EffectOutcome) {
        self.add(kind, outcome, 1);
    }

    /// Counts several.
    pub fn add(&self, kind: EffectKind, outcome: EffectOutcome, effects: u64) {
        self.0[kind as usize][outcome as usize].increment(effects);
    }
}

/// What one rule has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFigures {
    /// The rule's name.
    pub rule: String,
    /// What was counted, by name: the same names for every rule.
    pub counts: Vec<(&'static str, u64)>,
}

/// How a rule's model fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFigures {
    /// The rule's name.
    pub rule: String,
    /// The model's name.
    pub model: String,
    /// The version in use; empty where the rule rests.
    pub version: String,
    /// Answers given.
    pub inferences: u64,
    /// Times that a version gave no usable answer.
    pub fallbacks: u64,
}

/// Everything about rules that is read rather than counted here.
#[derive(Debug, Clone, Default)]
pub struct RulesFigures {
    /// By rule.
    pub rules: Vec<RuleFigures>,
    /// By model.
    pub models: Vec<ModelFigures>,
    /// Alerts by state.
    pub alerts: Vec<(&'static str, u64)>,
    /// Events that were left out of windows, by reason.
    pub misplaced: Vec<(&'static str, u64)>,
    /// Windows sent.
    pub windows: u64,
    /// Alerts that began without an event.
    pub suppressed: u64,
    /// Silences in force.
    pub silences: u64,
    /// Devices and streams that get far more than their share, by kind.
    pub hot_spots: Vec<(&'static str, u64)>,
    /// Requests that wait for their answer.
    pub requests_waiting: u64,
    /// Records replayed and to replay, while the site recovers.
    pub recovery: Option<(u64, u64)>,
}

/// The rules of a site. Cheap to clone; clones share the figures.
#[derive(Clone)]
pub struct RulesMetrics(Arc<Inner>);

struct Inner {
    labels: SiteLabels,
    figures: Mutex<RulesFigures>,
    decision: Histogram,
    inference: Histogram,
}

impl std::fmt::Debug for RulesMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RulesMetrics").field("labels", &self.0.labels).finish_non_exhaustive()
    }
}

impl RulesMetrics {
    /// The rules of the site that this process is.
    pub fn new(metrics: &Metrics, labels: SiteLabels) -> Self {
        let site = [labels.site.as_str(), &labels.hub, &labels.region];
        let inner = Arc::new(Inner {
            figures: Mutex::default(),
            decision: metrics.histogram(&names::DECISION_SECONDS, &site),
            inference: metrics.histogram(&names::INFERENCE_SECONDS, &site),
            labels,
        });
        metrics.collect_with(Arc::clone(&inner) as Arc<dyn Collector>);
        Self(inner)
    }

    /// Events were evaluated this long after their arrival.
    pub fn decided(&self, events: usize, took: Duration) {
        self.0.decision.record_many(took.as_secs_f64(), events);
    }

    /// A model answered.
    pub fn inferred(&self, took: Duration) {
        self.0.inference.record(took.as_secs_f64());
    }

    /// What the next scrape shows.
    pub fn set(&self, figures: RulesFigures) {
        *self.0.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Collector for Inner {
    fn collect(&self, out: &mut Exposition) {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let SiteLabels { site, hub, region } = &self.labels;
        let site = [site.as_str(), hub, region];
        let with = |last| [site[0], site[1], site[2], last];
        for (state, alerts) in &figures.alerts {
            out.sample(&names::ALERTS_BY_STATE, &with(state), *alerts as f64);
        }
        for (reason, events) in &figures.misplaced {
            out.sample(&names::MISPLACED, &with(reason), *events as f64);
        }
        for (kind, found) in &figures.hot_spots {
            out.sample(&names::HOT_SPOTS, &with(kind), *found as f64);
        }
        out.sample(&names::WINDOWS, &site, figures.windows as f64);
        out.sample(&names::ALERTS_SUPPRESSED, &site, figures.suppressed as f64);
        out.sample(&names::SILENCES, &site, figures.silences as f64);
        out.sample(&names::REQUESTS_WAITING, &site, figures.requests_waiting as f64);
        let (replayed, total) = figures.recovery.unwrap_or_default();
        out.sample(&names::RECOVERING, &site, f64::from(u8::from(figures.recovery.is_some())));
        out.sample(&names::RECOVERY_REPLAYED, &site, replayed as f64);
        out.sample(&names::RECOVERY_TOTAL, &site, total as f64);
        let mut other: Vec<(&'static str, u64)> = Vec::new();
        for (n, rule) in figures.rules.iter().enumerate() {
            for (at, (what, count)) in rule.counts.iter().enumerate() {
                if n < RULES_SHOWN_MAX {
                    let labels = [site[0], site[1], site[2], rule.rule.as_str(), what];
                    out.sample(&names::RULE_COUNTS, &labels, *count as f64);
                } else if let Some((_, sum)) = other.get_mut(at) {
                    *sum += count;
                } else {
                    other.push((what, *count));
                }
            }
        }
        for (what, count) in other {
            out.sample(&names::RULE_COUNTS, &[site[0], site[1], site[2], "other", what], count as f64);
        }
        for model in figures.models.iter().take(MODELS_SHOWN_MAX) {
            let labels = [site[0], site[1], site[2], model.rule.as_str(), model.model.as_str()];
            out.sample(&names::INFERENCES, &labels, model.inferences as f64);
            out.sample(&names::MODEL_FALLBACKS, &labels, model.fallbacks as f64);
            let version =
                [site[0], site[1], site[2], model.rule.as_str(), model.model.as_str(), model.version.as_str()];
            out.sample(&names::MODEL_INFO, &version, 1.0);
        }
    }
}
