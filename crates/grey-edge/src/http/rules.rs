//! The rules in force, and taking over others.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use grey_api::{Api, NoQuery, Place, Problem, Route, json_reply};
use grey_config::Origin;
use grey_rules::{HotSpot, ModelStatus, RuleError, RuleStatus};
use serde_json::{Value as Json, json};

use super::{Shared, Site, visit};
use crate::core::EdgeCore;
use crate::models::runtimes;
use crate::reload::ReloadError;

/// Adds the routes.
pub(super) fn routes(api: Api<Arc<Site>>) -> Api<Arc<Site>> {
    let object = || json!({"type": "object"});
    api.route(Route::get("/v1/rules", "The rules in force, in words, with what each has counted", get_rules).answers(
        200,
        "The rules",
        object(),
    ))
    .route(
        Route::post("/v1/rules/reload", "Read the configuration file and the models again", post_reload).answers(
            200,
            "What changed",
            object(),
        ),
    )
}

fn rule_json(status: &RuleStatus, words: &str) -> Json {
    json!({
        "rule": status.rule, "name": status.name, "type": status.kind, "does": words,
        "fired_total": status.fired, "cleared_total": status.cleared, "suppressed_total": status.suppressed,
        "windows_total": status.windows, "late_total": status.late, "ahead_total": status.ahead,
        "reduced_total": status.reduced, "unit_mismatches_total": status.unit_mismatches,
        "problem": status.problem,
    })
}

/// How models fare, also for the status.
pub(super) fn model_json(model: &ModelStatus) -> Json {
    json!({
        "rule": model.rule, "model": model.model, "version": model.version, "versions": model.versions,
        "inferences_total": model.inferences, "fallbacks_total": model.fallbacks, "problem": model.problem,
    })
}

/// What is hot, also for the status.
pub(super) fn hot_spot_json(spot: &HotSpot) -> Json {
    json!({
        "kind": spot.kind, "name": spot.name, "share": spot.share, "mitigation": spot.mitigation,
        "mitigated_total": spot.mitigated,
    })
}

async fn get_rules(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let look = |core: &mut EdgeCore| {
        let engine = core.rules();
        let set = engine.rules();
        let words = set.explain();
        let rules: Vec<Json> = engine
            .rule_status()
            .iter()
            .map(|status| rule_json(status, words.get(usize::from(status.rule)).map_or("", String::as_str)))
            .collect();
        let counters = engine.counters();
        json!({
            "digest": format!("{:016x}", set.digest()),
            "forward": set.forward().as_str(),
            "explained": words,
            "warnings": set.warnings(),
            "rules": rules,
            "models": engine.models().iter().map(model_json).collect::<Vec<_>>(),
            "runtimes": runtimes(),
            "hot_spots": engine.hot_spots().iter().map(hot_spot_json).collect::<Vec<_>>(),
            "totals": {
                "alerts_fired": counters.alerts_fired, "alerts_cleared": counters.alerts_cleared,
                "alerts_suppressed": counters.alerts_suppressed, "findings": counters.findings,
                "aggregates": counters.aggregates, "late": counters.late, "ahead": counters.ahead,
                "filtered": counters.filtered, "rate_limited": counters.rate_limited,
                "model_fallbacks": counters.model_fallbacks, "not_numeric": counters.not_numeric,
                "unit_mismatches": counters.unit_mismatches, "series_evicted": counters.series_evicted,
            },
            "series": engine.series_count(),
        })
    };
    Ok(json_reply(&visit(&site, look).await?))
}

async fn post_reload(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let reloaded = site.reloader.reload().await.map_err(problem)?;
    tracing::info!(changed = ?reloaded.changed, rules = reloaded.rules_changed, "the configuration was read again");
    Ok(json_reply(&json!({
        "changed": reloaded.changed,
        "needs_restart": reloaded.needs_restart,
        "rules_changed": reloaded.rules_changed,
        "warnings": reloaded.warnings,
    })))
}

fn problem(error: ReloadError) -> Problem {
    let unprocessable = |detail: String| Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY).detail(detail);
    match error {
        ReloadError::NoFile => Problem::conflict().detail(error.to_string()),
        ReloadError::Config(errors) => {
            let file = errors.file().display().to_string();
            let many = errors.errors().len();
            let mut problem = unprocessable(format!("{file} has {many} mistakes; everything stays as it was"));
            for error in errors.errors() {
                let place = match &error.origin {
                    Origin::File { line, column } => {
                        Place::Source { file: file.clone(), line: *line as u64, column: *column as u64 }
                    }
                    _ => Place::Source { file: file.clone(), line: 0, column: 0 },
                };
                problem.push_fault(place, error.to_string());
            }
            problem
        }
        ReloadError::Rules(RuleError::Rule { index, name, key, problem, allowed }) => {
            let detail = format!("rule {name}: {key} {problem}; allowed: {allowed}");
            let pointer = format!("/edge/local_processing/rules/{index}/{}", key.replace('.', "/"));
            unprocessable(detail.clone()).fault(Place::Pointer(pointer), detail)
        }
        ReloadError::Rules(error) => unprocessable(error.to_string()),
        ReloadError::Models(_) | ReloadError::Engine(_) => Problem::unavailable(5).detail(error.to_string()),
    }
}
