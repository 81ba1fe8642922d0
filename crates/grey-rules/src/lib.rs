//! The rules of a site: thresholds that alert on crossing, windows that
//! aggregate, and the policy that decides which raw readings leave the site.
//!
//! [`RuleSpec`]s come from the configuration, [`RuleSet::compile`] checks and
//! prepares them, and an [`Engine`] runs them: a deterministic function of its
//! state, the event and the time. Its state fits into a snapshot, and an engine
//! restored from that continues as if nothing had happened.
//!
//! ```
//! use std::sync::Arc;
//! use grey_model::{Event, Stamp};
//! use grey_rules::{Derived, Engine, Forward, RuleSet, RuleSpec};
//!
//! let rules = grey_config::Node::from_yaml("[{type: threshold, condition: temperature > 85°C}]").unwrap();
//! let mut decoder = grey_config::Decoder::new("rules");
//! let rules: Vec<RuleSpec> = grey_config::Setting::decode(&rules, &mut decoder).unwrap();
//! let mut engine = Engine::new(Arc::new(RuleSet::compile(&rules, Forward::Aggregates)?));
//!
//! let mut derived = Derived::default();
//! engine.process(&Event::reading("press-7", "temperature", 91.5, 0), Stamp::at_unix_ms(1_000), &mut derived);
//! assert_eq!(derived.events.len(), 1);
//! # Ok::<(), grey_rules::RuleError>(())
//! ```

mod condition;
mod engine;
mod series;
mod set;
mod snapshot;
mod spec;
#[cfg(test)]
mod tests;
mod unit;
mod window;

pub use condition::{Condition, ConditionError, Operator};
pub use engine::{Derived, Engine, OpenAlert, RuleCounters, SERIES_MAX, Verdict};
pub use set::{RULES_MAX, RuleError, RuleSet, Source};
pub use spec::{Action, AggregateRule, AnomalyRule, Field, Forward, RuleSpec, ThresholdRule};
