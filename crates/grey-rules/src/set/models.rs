//! The versions of a rule's model: those that the rules were compiled with.

use grey_infer::{Library, ModelRef};
use grey_model::Name;

use super::{Candidate, Input, ModelRule, Verdicts};
use crate::spec::Rules;
use crate::words::clipped;

/// Loads what is pinned for a rule. A version that cannot be used keeps its place, so that a replay counts the same.
pub(super) fn load(index: usize, name: &str, rules: &Rules, library: &dyn Library) -> ModelRule {
    let rule_name = rules.rules[index].name(index);
    let mut candidates = Vec::new();
    let mut inputs: Vec<Input> = Vec::new();
    for pinned in rules.pinned.iter().filter(|pinned| pinned.rule == rule_name) {
        let found =
            ModelRef { name: pinned.model.clone(), version: pinned.version.clone(), digest: pinned.digest.clone() };
        let model = library.load(&found).map_err(|error| clipped(&error.to_string()));
        if let Ok(model) = &model {
            for input in &model.manifest().inputs {
                let input = Input { stream: input.stream.as_str().into(), unit: input.unit.as_deref().map(Name::from) };
                if !inputs.contains(&input) {
                    inputs.push(input);
                }
            }
        }
        candidates.push(Candidate { version: pinned.version.as_str().into(), model });
    }
    let unusable = library.versions(name).into_iter().filter_map(Result::err);
    let mut problem = unusable.map(|(what, error)| clipped(&format!("{what}: {error}"))).next();
    if candidates.is_empty() && problem.is_none() {
        problem = Some(clipped(&format!("no version of {name} was found")));
    }
    ModelRule {
        rule: index as u16,
        alert: 0,
        model: clipped(name),
        score: None,
        verdicts: Verdicts::default(),
        candidates: candidates.into(),
        problem,
        inputs: inputs.into(),
        identity: 0,
    }
}
