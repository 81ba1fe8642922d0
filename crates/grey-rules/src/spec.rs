//! Rules as a site's configuration writes them.

use grey_config::{Duration, Severity, choice, section, tagged};

use crate::condition::Condition;

choice! {
    /// What a rule does when it triggers.
    pub enum Action {
        /// Raises an alert.
        LocalAlert = "local_alert",
        /// Raises an alert and forwards the readings that violate the rule.
        FlagAndUpload = "flag_and_upload",
    }
}

choice! {
    /// A number that describes a window.
    pub enum Field {
        /// Arithmetic mean.
        Avg = "avg",
        /// Smallest value.
        Min = "min",
        /// Largest value.
        Max = "max",
        /// How many readings.
        Count = "count",
        /// Sum of the values.
        Sum = "sum",
        /// The first value.
        First = "first",
        /// The last value.
        Last = "last",
        /// Standard deviation of the values (of the population, not of a sample).
        Stddev = "stddev",
    }
}

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
    /// Alerts when a reading crosses a limit, once per crossing, for each device.
    pub struct ThresholdRule {
        /// Its name in alerts. Default: the type and the position in the list, such as threshold-1.
        pub name: Option<String> = None,
        /// When it triggers, such as temperature > 85°C.
        pub condition: Condition,
        /// What it does.
        pub action: Action = Action::LocalAlert,
        /// How urgent its alerts are.
        pub severity: Severity = Severity::Warning,
    }
}

section! {
    /// Flags readings that a model finds unusual. Accepted, not acting yet.
    pub struct AnomalyRule {
        /// Its name. Default: the type and the position in the list, such as anomaly-2.
        pub name: Option<String> = None,
        /// The model's name and version.
        pub model: String,
        /// What it does.
        pub action: Action = Action::FlagAndUpload,
    }
}

section! {
    /// Summarises each device's stream over fixed windows that are aligned to the Unix epoch.
    pub struct AggregateRule {
        /// Its name. Default: the type and the position in the list, such as aggregate-3.
        pub name: Option<String> = None,
        /// Length of a window, 100ms to 7d.
        pub interval: Duration,
        /// The numbers that describe a window.
        pub fields: Vec<Field> = vec![Field::Avg, Field::Min, Field::Max, Field::Count],
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
    }
}

impl RuleSpec {
    /// The name given or, for the rule at `index` from 0, the default one.
    pub fn name(&self, index: usize) -> String {
        let given = match self {
            Self::Threshold(rule) => &rule.name,
            Self::Anomaly(rule) => &rule.name,
            Self::Aggregate(rule) => &rule.name,
        };
        given.clone().unwrap_or_else(|| format!("{}-{}", self.type_name(), index + 1))
    }
}
