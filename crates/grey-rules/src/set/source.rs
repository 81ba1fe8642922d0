//! Rules as the text that a checkpoint holds: what stands at its default is
//! left out, so that a later build with more keys writes the same text.

use grey_config::{Node, Setting, Value};
use grey_infer::Library;

use crate::spec::{PinnedModel, RuleSpec, Rules};

/// Versions of one model that a rule may fall back to.
pub(super) const CANDIDATES_MAX: usize = 4;

pub(super) fn write(rules: &Rules) -> Vec<u8> {
    let mut node = rules.render();
    let plain = Rules::default().render();
    if let Value::Map(entries) = &mut node.value {
        for entry in entries.iter_mut().filter(|entry| entry.key == "rules") {
            if let Value::List(items) = &mut entry.value.value {
                for (item, spec) in items.iter_mut().zip(&rules.rules) {
                    *item = rendered(spec);
                }
            }
        }
        // The policy and the rules are what every version had: always there.
        entries.retain(|entry| {
            matches!(entry.key.as_str(), "forward" | "rules") || plain.get(&entry.key) != Some(&entry.value)
        });
    }
    node.to_yaml().into_bytes()
}

/// A rule without the keys that stand at their defaults.
pub(super) fn rendered(spec: &RuleSpec) -> Node {
    let minimal = match spec {
        RuleSpec::Threshold(_) => "{type: threshold, condition: x > 0}",
        RuleSpec::Anomaly(_) => "{type: anomaly}",
        RuleSpec::Aggregate(_) => "{type: aggregate}",
        RuleSpec::Filter(_) => "{type: filter}",
        RuleSpec::Spectrum(_) => "{type: spectrum, sample_rate: 1}",
    };
    let mut decoder = grey_config::Decoder::new("");
    let plain = Node::from_yaml(minimal).ok().and_then(|node| RuleSpec::decode(&node, &mut decoder));
    let plain = plain.map_or_else(Node::empty_map, |plain| plain.render());
    let mut node = spec.render();
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|entry| {
            matches!(entry.key.as_str(), "type" | "condition" | "sample_rate")
                || plain.get(&entry.key) != Some(&entry.value)
        });
    }
    node
}

/// The versions that a library has now of the models that rules name.
pub(super) fn pin(rules: &Rules, library: &dyn Library) -> Vec<PinnedModel> {
    let mut pinned = Vec::new();
    for (index, spec) in rules.rules.iter().enumerate() {
        let RuleSpec::Anomaly(rule) = spec else { continue };
        let Some(name) = &rule.model else { continue };
        let versions = library.versions(name).into_iter().filter_map(Result::ok).take(CANDIDATES_MAX);
        pinned.extend(versions.map(|found| PinnedModel {
            rule: spec.name(index),
            model: found.name,
            version: found.version,
            digest: found.digest,
        }));
    }
    pinned
}
