//! Alerts and silences: list, look at, acknowledge, silence.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use grey_api::{Api, Cursor, LIMIT_DEFAULT, NoQuery, Params, Place, Position, Problem, Route, json_reply};
use grey_config::Duration;
use grey_model::time::{format_rfc3339_ms, parse_time_ms};
use grey_rules::{AlertState, AlertView, Operation, OperationError, SilenceView};
use serde_json::{Value as Json, json};

use super::body::Body;
use super::{Shared, Site, ended, visit};
use crate::engine::OperateFailure;
use crate::time::unix_ms;

const PARAMETERS: [(&str, &str); 5] = [
    ("state", "only these: pending, firing, cleared; several joined by commas"),
    ("rule", "only this rule's, by name"),
    ("device", "only this device's"),
    ("limit", "entries on the page: 1 to 10000, default 100"),
    ("cursor", "the cursor of the page before"),
];

/// Adds the routes.
pub(super) fn routes(api: Api<Arc<Site>>) -> Api<Arc<Site>> {
    let object = || json!({"type": "object"});
    let text = || json!({"type": "string"});
    let id = "its id, 16 hexadecimal digits";
    let acknowledgement = json!({
        "type": "object", "required": ["by"], "additionalProperties": false,
        "properties": {"by": text(), "note": text()},
    });
    let silence = json!({
        "type": "object", "required": ["by"], "additionalProperties": false,
        "properties": {
            "rule": {"type": "string", "description": "only this rule's alerts, by name"},
            "device": {"type": "string", "description": "only these devices' alerts, * for any text"},
            "until": {"type": "string", "description": "until when, RFC 3339 or Unix milliseconds"},
            "for": {"type": "string", "description": "how long, such as 2h, in place of until"},
            "by": text(), "note": text(),
        },
    });
    api.route(
        Route::get("/v1/alerts", "Alerts, newest first, and the latest changes", get_alerts)
            .queries(&PARAMETERS)
            .answers_list("alerts", object()),
    )
    .route(Route::get("/v1/alerts/{id}", "One alert", get_alert).path_parameter("id", id).answers(
        200,
        "The alert",
        object(),
    ))
    .route(
        Route::post("/v1/alerts/{id}/ack", "Say that somebody takes care of an alert", post_ack)
            .path_parameter("id", id)
            .takes(&["application/json"], acknowledgement)
            .answers(200, "The alert", object()),
    )
    .route(Route::get("/v1/silences", "Silences in force", get_silences).answers_list("silences", object()))
    .route(
        Route::post("/v1/silences", "Leave alerts without effects for a time", post_silence)
            .takes(&["application/json"], silence)
            .answers(201, "The silence", object()),
    )
    .route(Route::delete("/v1/silences/{id}", "End a silence", delete_silence).path_parameter("id", id).answers(
        200,
        "The silence that has ended",
        object(),
    ))
}

/// Which alerts are asked for.
#[derive(Debug)]
pub(super) struct AlertQuery {
    states: Option<Vec<AlertState>>,
    rule: Option<String>,
    device: Option<String>,
    limit: usize,
    after: Option<String>,
    digest: u32,
}

impl AlertQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut params = Params::parse(query, &PARAMETERS.map(|(name, _)| name));
        let states = params.read("state", |text| {
            let all = [AlertState::Pending, AlertState::Firing, AlertState::Cleared];
            let find = |word: &str| all.into_iter().find(|state| state.as_str() == word.trim());
            let states: Option<Vec<_>> = text.split(',').map(find).collect();
            states.ok_or("it must be pending, firing or cleared")
        });
        let rule = params.get("rule").map(str::to_owned);
        let device = params.get("device").map(str::to_owned);
        let limit = params.limit().unwrap_or(LIMIT_DEFAULT);
        let digest = params.digest();
        let after = params.position(digest);
        params.finish()?;
        let after = match after? {
            None => None,
            Some(Position::Name(name)) => Some(name),
            Some(_) => return Err(Problem::invalid_cursor().detail("the cursor is of another list")),
        };
        Ok(Self { states, rule, device, limit, after, digest })
    }

    fn matches(&self, alert: &AlertView) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&alert.state))
            && self.rule.as_ref().is_none_or(|rule| **rule == *alert.rule)
            && self.device.as_ref().is_none_or(|device| **device == *alert.device)
    }
}

impl<S: Sync> FromRequestParts<S> for AlertQuery {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// What the list is sorted by, descending.
fn place(alert: &AlertView) -> String {
    format!("{:014}-{}", alert.since_ms.max(0), alert.id)
}

fn alert_view(alert: &AlertView) -> Json {
    let time = |ms: Option<i64>| ms.map(format_rfc3339_ms);
    let tags: serde_json::Map<String, Json> =
        alert.tags.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
    let acknowledged =
        alert.acknowledged.as_ref().map(|by| json!({"by": by.by, "at": format_rfc3339_ms(by.at_ms), "note": by.note}));
    json!({
        "id": alert.id, "state": alert.state.as_str(), "rule": alert.rule, "condition": alert.condition,
        "severity": alert.severity, "tags": tags, "device": alert.device, "stream": alert.stream,
        "value": alert.value, "unit": alert.unit, "since": format_rfc3339_ms(alert.since_ms),
        "fired": time(alert.fired_ms), "cleared": time(alert.cleared_ms), "acknowledged": acknowledged,
        "silenced": alert.silenced, "suppressed": alert.suppressed,
    })
}

fn silence_view(silence: &SilenceView) -> Json {
    json!({
        "id": silence.id, "rule": silence.rule, "device": silence.device,
        "until": format_rfc3339_ms(silence.until_ms), "by": silence.by, "note": silence.note,
    })
}

async fn get_alerts(State(site): Shared, query: AlertQuery) -> Result<Response, Problem> {
    let mut alerts = visit(&site, |core| core.rules().alerts()).await?;
    alerts.retain(|alert| query.matches(alert));
    let mut alerts: Vec<(String, AlertView)> = alerts.into_iter().map(|alert| (place(&alert), alert)).collect();
    alerts.sort_by(|(a, _), (b, _)| b.cmp(a));
    if let Some(after) = &query.after {
        alerts.retain(|(place, _)| place < after);
    }
    let more = alerts.len() > query.limit;
    alerts.truncate(query.limit);
    let cursor = alerts
        .last()
        .filter(|_| more)
        .map(|(place, _)| Cursor::new(query.digest, Position::Name(place.clone())).encode());
    let page: Vec<Json> = alerts.iter().map(|(_, alert)| alert_view(alert)).collect();
    let mut body = json!({"alerts": page});
    if query.after.is_none() {
        body["recent"] = site.alerts.recent().into();
    }
    if let Some(cursor) = cursor {
        body["cursor"] = cursor.into();
    }
    Ok(json_reply(&body))
}

async fn find(site: &Site, id: String) -> Result<Json, Problem> {
    let wanted = id.clone();
    let found = visit(site, move |core| core.rules().alerts().into_iter().find(|alert| *alert.id == *wanted)).await?;
    let missing = || Problem::not_found().detail(OperationError::NoAlert(id.chars().take(64).collect()).to_string());
    found.as_ref().map(alert_view).ok_or_else(missing)
}

async fn get_alert(State(site): Shared, Path(id): Path<String>, _: NoQuery) -> Result<Response, Problem> {
    Ok(json_reply(&find(&site, id).await?))
}

async fn post_ack(State(site): Shared, Path(id): Path<String>, _: NoQuery, body: Bytes) -> Result<Response, Problem> {
    let mut body = Body::parse(&body)?;
    let (by, note) = (body.required("by"), body.text("note").unwrap_or_default());
    body.finish("by, note")?;
    operate(&site, Operation::Acknowledge { alert: id.clone(), by, note }).await?;
    Ok(json_reply(&find(&site, id).await?))
}

async fn get_silences(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let silences = visit(&site, |core| core.rules().silences()).await?;
    let silences: Vec<Json> = silences.iter().map(silence_view).collect();
    Ok(json_reply(&json!({"silences": silences})))
}

async fn post_silence(State(site): Shared, _: NoQuery, body: Bytes) -> Result<Response, Problem> {
    let mut body = Body::parse(&body)?;
    let (rule, device) = (body.text("rule"), body.text("device"));
    let until = body.read("until", parse_time_ms);
    let lasts = body.read("for", |text| text.parse::<Duration>());
    let (by, note) = (body.required("by"), body.text("note").unwrap_or_default());
    let now_ms = unix_ms();
    let until_ms = match (until, lasts) {
        (Some(until_ms), None) => until_ms,
        (None, Some(lasts)) => now_ms.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX)),
        (Some(_), Some(_)) => {
            body.fault("for", "it is given together with until; one of them is allowed");
            now_ms
        }
        (None, None) => {
            body.fault("until", "it is missing; or say for how long, such as {\"for\": \"2h\"}");
            now_ms
        }
    };
    body.finish("rule, device, until, for, by, note")?;
    let before = visit(&site, |core| core.rules().silences()).await?;
    operate(&site, Operation::Silence { rule, device, until_ms, by, note }).await?;
    let after = visit(&site, |core| core.rules().silences()).await?;
    let new = after.iter().find(|silence| !before.iter().any(|known| known.id == silence.id));
    // One that says the same as another may be that one.
    let view = new.or(after.last()).map(silence_view);
    Ok((StatusCode::CREATED, json_reply(&view)).into_response())
}

async fn delete_silence(State(site): Shared, Path(id): Path<String>, _: NoQuery) -> Result<Response, Problem> {
    let silences = visit(&site, |core| core.rules().silences()).await?;
    let view = silences.iter().find(|silence| *silence.id == *id).map(silence_view);
    operate(&site, Operation::Unsilence { id }).await?;
    Ok(json_reply(&view))
}

async fn operate(site: &Site, operation: Operation) -> Result<(), Problem> {
    site.engine.operate(operation).await.map_err(|failure| match failure {
        OperateFailure::Recovering => Problem::unavailable(1).detail(failure.to_string()),
        OperateFailure::Full => Problem::overloaded(10).detail(failure.to_string()),
        OperateFailure::Ended(_) => ended(),
        OperateFailure::Refused(error) => refused(&error),
    })
}

fn refused(error: &OperationError) -> Problem {
    let detail = error.to_string();
    let unprocessable = || Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY).detail(detail.clone());
    match error {
        OperationError::NoAlert(_) | OperationError::NoSilence(_) => Problem::not_found().detail(detail),
        OperationError::NotFiring(_) => Problem::conflict().detail(detail),
        OperationError::TooMany => Problem::overloaded(60).detail(detail),
        OperationError::TooLong { what, .. } => {
            unprocessable().fault(Place::Pointer(format!("/{what}")), detail.clone())
        }
        OperationError::Silence(_) => unprocessable().fault(Place::Pointer("".into()), detail.clone()),
    }
}
