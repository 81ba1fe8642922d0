//! `/healthz` and `/readyz`: is the process alive, and may it be given work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use crate::openapi::Route;
use crate::params::NoQuery;
use crate::reply::json_reply;

/// What a tier needs before it is ready, each condition with the reason why it
/// does not hold yet. Cheap to clone; all clones share the conditions.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// A tier that waits for these conditions, for example `storage` and `consensus`.
    pub fn new(conditions: &[&'static str]) -> Self {
        let starting = |name: &&'static str| (*name, Some("starting".to_owned()));
        Self(Arc::new(Mutex::new(conditions.iter().map(starting).collect())))
    }

    /// The condition holds.
    pub fn ready(&self, condition: &'static str) {
        self.conditions().insert(condition, None);
    }

    /// The condition does not hold, and why.
    pub fn not_ready(&self, condition: &'static str, reason: impl Into<String>) {
        self.conditions().insert(condition, Some(reason.into()));
    }

    /// The tier is going down: no new work from now on.
    pub fn drain(&self) {
        self.not_ready("running", "shutting down");
    }

    /// True when every condition holds.
    pub fn is_ready(&self) -> bool {
        self.conditions().values().all(Option::is_none)
    }

    /// The answer's document.
    fn document(&self) -> (bool, Json) {
        let conditions = self.conditions();
        let ready = conditions.values().all(Option::is_none);
        let reasons: BTreeMap<_, _> =
            conditions.iter().filter_map(|(c, r)| r.as_ref().map(|r| (*c, r.clone()))).collect();
        let holding: Vec<_> = conditions.iter().filter(|(_, reason)| reason.is_none()).map(|(c, _)| *c).collect();
        (ready, json!({"ready": ready, "holding": holding, "waiting_for": reasons}))
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        // Every change is one insert, so a poisoned map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes `/healthz` and `/readyz`.
pub fn health_routes<S: Clone + Send + Sync + 'static>(readiness: &Readiness) -> [Route<S>; 2] {
    let readiness = readiness.clone();
    let conditions = json!({
        "type": "object",
        "required": ["ready", "holding", "waiting_for"],
        "properties": {
            "ready": {"type": "boolean"},
            "holding": {"type": "array", "items": {"type": "string"}},
            "waiting_for": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    });
    [
        Route::get("/healthz", "True as long as the process answers", |_: NoQuery| async {
            json_reply(&json!({"alive": true}))
        })
        .answers(
            200,
            "The process is alive",
            json!({"type": "object", "properties": {"alive": {"const": true}}}),
        ),
        Route::get("/readyz", "Whether the node may be given work, and what it waits for", move |_: NoQuery| {
            let answer = readiness_answer(&readiness);
            async { answer }
        })
        .answers(200, "The node is ready", conditions.clone())
        .answers(503, "The node is not ready", conditions),
    ]
}

fn readiness_answer(readiness: &Readiness) -> Response {
    let (ready, document) = readiness.document();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json_reply(&document)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::Api;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn ask(readiness: &Readiness, path: &str) -> (StatusCode, Json) {
        let router = health_routes(readiness).into_iter().fold(Api::new("test", "0"), Api::route).into_router();
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn a_node_is_ready_when_every_condition_holds() {
        let readiness = Readiness::new(&["storage", "consensus"]);
        let (status, json) = ask(&readiness, "/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(
            json,
            json!({"ready": false, "holding": [], "waiting_for": {"storage": "starting", "consensus": "starting"}})
        );
        readiness.ready("storage");
        readiness.not_ready("consensus", "no leader");
        let (_, json) = ask(&readiness, "/readyz").await;
        assert_eq!(json, json!({"ready": false, "holding": ["storage"], "waiting_for": {"consensus": "no leader"}}));
        readiness.ready("consensus");
        assert_eq!(ask(&readiness, "/readyz").await.0, 200);
        assert!(readiness.is_ready());
        readiness.drain();
        assert_eq!(ask(&readiness, "/readyz").await.0, 503);
        assert_eq!(ask(&readiness, "/healthz").await, (StatusCode::OK, json!({"alive": true})));
    }
}
