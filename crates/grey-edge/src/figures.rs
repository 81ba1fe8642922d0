//! What the rules have to show, for metrics.

use grey_api::metrics::{ModelFigures, RuleFigures, RulesFigures};
use grey_rules::AlertState;

use crate::core::EdgeCore;

/// The figures of the rules as they are now.
pub(crate) fn rules_figures(core: &EdgeCore) -> RulesFigures {
    let rules = core.rules();
    let counters = rules.counters();
    let alerts = rules.alerts();
    let of_state = |state| alerts.iter().filter(move |alert| alert.state == state);
    let firing = of_state(AlertState::Firing);
    let acknowledged = firing.clone().filter(|alert| alert.acknowledged.is_some()).count();
    let hot = rules.hot_spots();
    let hot = |kind| (kind, hot.iter().filter(|spot| spot.kind == kind).count() as u64);
    RulesFigures {
        rules: rules
            .rule_status()
            .into_iter()
            .map(|status| RuleFigures {
                rule: status.name.to_string(),
                counts: vec![
                    ("fired", status.fired),
                    ("cleared", status.cleared),
                    ("suppressed", status.suppressed),
                    ("windows", status.windows),
                    ("late", status.late),
                    ("ahead", status.ahead),
                    ("reduced", status.reduced),
                    ("unit_mismatches", status.unit_mismatches),
                ],
            })
            .collect(),
        models: rules
            .models()
            .into_iter()
            .map(|model| ModelFigures {
                rule: model.rule.to_string(),
                model: model.model.to_string(),
                version: model.version.map(|version| version.to_string()).unwrap_or_default(),
                inferences: model.inferences,
                fallbacks: model.fallbacks,
            })
            .collect(),
        alerts: vec![
            ("pending", of_state(AlertState::Pending).count() as u64),
            ("firing", firing.count() as u64),
            ("acknowledged", acknowledged as u64),
        ],
        misplaced: vec![("late", counters.late), ("ahead", counters.ahead)],
        windows: counters.aggregates,
        suppressed: counters.alerts_suppressed,
        silences: rules.silences().len() as u64,
        hot_spots: vec![hot("device"), hot("stream")],
        requests_waiting: core.requests().0 as u64,
        recovery: core.recovery().map(|progress| (progress.replayed, progress.total)),
    }
}
