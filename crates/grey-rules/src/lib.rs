//! The rules of a site: thresholds that alert on crossing, windows that
//! aggregate, filters, detectors, models and spectra, and the policy that
//! decides which raw readings leave the site.
//!
//! [`Rules`] come from the configuration, [`RuleSet::compile`] checks and
//! prepares them, and an [`Engine`] runs them: a deterministic function of its
//! state, the event and the time. Its state fits into a snapshot, and an engine
//! restored from that continues as if nothing had happened. What rules mean is
//! written down in `docs/design/rules.md`.
//!
//! ```
//! use std::sync::Arc;
//! use grey_model::{Event, Stamp};
//! use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet, Rules};
//!
//! let rules = Rules::from_yaml("rules: [{type: threshold, condition: temperature > 85°C}]")?;
//! let rules = Arc::new(RuleSet::compile(&rules, &NoModels)?);
//! let mut engine = Engine::new(rules, EngineConfig::new("site-1"));
//!
//! let mut derived = Derived::default();
//! engine.process(&Event::reading("press-7", "temperature", 91.5, 0), Stamp::at_unix_ms(1_000), &mut derived);
//! assert_eq!(derived.events.len(), 1);
//! # Ok::<(), grey_rules::RuleError>(())
//! ```

mod alert;
mod batch;
mod engine;
mod gate;
mod hot;
mod operation;
mod partition;
mod set;
mod snapshot;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub use engine::{Engine, EngineConfig, SERIES_MAX};
pub use grey_expr::Operator;
pub use grey_infer::{Library, ModelRef, NoModels};
pub use operation::{NOTE_BYTES_MAX, Operation, OperationError, SILENCES_MAX};
pub use partition::sketch_of;
pub use set::{RULES_MAX, RuleError, RuleSet};
pub use spec::{
    ALERTS_PER_MINUTE_MAX, Action, AggregateRule, AlarmSpec, AnomalyRule, BandSpec, Command, Condition, DetectorKind,
    Effect, Field, FilterRule, Forward, GroupBy, Limits, Method, PinnedModel, Publish, Quantity, RateLimit,
    RenderedEffect, RuleSpec, Rules, Sample, SpectrumRule, SpectrumWindow, Streams, Template, TemplateError, Texts,
    ThresholdRule, Webhook, WindowBy, WindowKind,
};
pub use view::{
    Acknowledged, AlertState, AlertView, Derived, DerivedEvent, HotSpot, ModelStatus, RuleCounters, RuleStatus,
    SilenceView, Verdict,
};
