//! The site's HTTP interface: events in and out, status, queue, ledger, alerts, rules.

mod alerts;
mod body;
mod outbox;
mod rules;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grey_api::{
    Api, EventPage, EventQuery, Format, ListQuery, Metrics, NoQuery, Place, Position, Problem, Readiness, Route,
    events_reply, health_routes, json_reply, list_reply, metrics_route,
};
use grey_ingest::payload::{Request, read_json, read_ndjson};
use grey_ingest::{Batch, Op, Refusal};
use grey_link::{BudgetConfig, LinkState};
use grey_model::time::format_rfc3339_ms;
use grey_model::{Lane, StreamKey};
use grey_net::uplink_client::LinkStatus;
use grey_rules::AlertState;
use serde_json::{Value as Json, json};
use tokio::sync::{oneshot, watch};

use crate::alerts::AlertBook;
use crate::core::{CoreError, EdgeCore, LocalPosition, Progress};
use crate::engine::EngineHandle;
use crate::models::runtimes;
use crate::reload::Reloader;
use crate::time::unix_ms;

/// Bits of a cursor's index below the part of the local store.
const PART_SHIFT: u32 = 62;
/// Dead letters listed at most.
const DEAD_LETTERS_MAX: u64 = 1_000;

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) engine: EngineHandle,
    pub(crate) link: watch::Receiver<Option<LinkStatus>>,
    pub(crate) alerts: AlertBook,
    pub(crate) hub: String,
    pub(crate) has_hub: bool,
    pub(crate) started_ms: i64,
    pub(crate) counters: Arc<grey_ingest::IngestCounters>,
    /// How far the replay is; `None` once it is done.
    pub(crate) recovery: watch::Receiver<Option<Progress>>,
    pub(crate) reloader: Reloader,
    /// What the uplink may carry.
    pub(crate) budget: BudgetConfig,
}

type Shared = State<Arc<Site>>;

/// The routes of an edge agent.
pub(crate) fn api(readiness: &Readiness, metrics: &Metrics) -> Api<Arc<Site>> {
    let object = || json!({"type": "object"});
    let api = Api::new("Grey edge agent", env!("CARGO_PKG_VERSION"))
        .routes(health_routes(readiness))
        .route(metrics_route(metrics))
        .route(
            Route::post("/v1/events", "Take events; answers once they are durable", post_events)
                .takes(&["application/json", "application/x-ndjson"], object())
                .answers(200, "How many were accepted, and what was refused", object()),
        )
        .route(
            Route::get("/v1/events", "Events kept at this site", get_events)
                .queries(&EventQuery::PARAMS)
                .answers_events(),
        )
        .route(Route::get("/v1/status", "How this site is doing", get_status).answers(200, "The status", object()))
        .route(
            Route::get(
                "/v1/queue",
                "What waits for the hub, in which strata, and what was done to make room",
                outbox::get_queue,
            )
            .answers(200, "The outbox", object()),
        )
        .route(
            Route::get("/v1/ledger", "What became of every accepted event", get_ledger)
                .list_parameters()
                .answers_list("ledger", object()),
        )
        .route(
            Route::get("/v1/dead-letters", "Payloads that could not be read", get_dead_letters)
                .answers_list("dead_letters", object()),
        )
        .route(Route::post("/v1/sync", "Send what waits now", post_sync).answers(200, "What waits", object()));
    rules::routes(alerts::routes(api))
}

fn ended() -> Problem {
    Problem::unavailable(1).detail("the edge agent is stopping")
}

async fn visit<T: Send + 'static>(
    site: &Site,
    look: impl FnOnce(&mut EdgeCore) -> T + Send + 'static,
) -> Result<T, Problem> {
    site.engine.visit(look).await.ok_or_else(ended)
}

async fn post_events(
    State(site): Shared,
    ConnectInfo(_): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let request = read_body(&headers, &body);
    let faults = |mut problem: Problem| {
        for rejected in &request.rejected {
            problem.push_fault(Place::Line(rejected.line as u64), rejected.reason.clone());
        }
        problem
    };
    if request.events.is_empty() {
        let detail = format!("none of {} events can be read", request.rejected_total);
        return Err(faults(Problem::invalid_body().detail(detail)));
    }
    let accepted = request.events.len();
    let events = request.events.iter().cloned();
    let ops = events.map(|(event, lane)| Op::Event { event, lane, qos2: None }).collect();
    let (done, durable) = oneshot::channel();
    let full = || Problem::overloaded(1).detail("the intake is busy");
    site.engine.intake.try_send(Batch { ops, arrived: std::time::Instant::now(), done }).map_err(|_| full())?;
    match durable.await {
        Ok(Ok(())) => {}
        Ok(Err(Refusal::Backpressure { retry_after_ms })) => {
            let detail = "too much is waiting for the hub";
            return Err(Problem::overloaded(retry_after_ms.div_ceil(1_000).max(1)).detail(detail));
        }
        Ok(Err(Refusal::Full)) => return Err(Problem::overloaded(10).detail("the disk is full")),
        Ok(Err(refusal)) => return Err(Problem::unavailable(1).detail(refusal.to_string())),
        Err(_) => return Err(ended()),
    }
    let rejected: Vec<Json> = request.rejected.iter().map(|r| json!({"line": r.line, "reason": r.reason})).collect();
    let body = json!({"accepted": accepted, "rejected_total": request.rejected_total, "rejected": rejected});
    let status = if request.rejected_total == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok((status, json_reply(&body)).into_response())
}

/// NDJSON where the client says so, or where a client that says nothing
/// useful (curl's default) sends one object per line.
fn read_body(headers: &HeaderMap, body: &[u8]) -> Request {
    let content = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let says_lines = ["ndjson", "jsonl", "json-seq"].iter().any(|name| content.contains(name));
    let says_json = content.contains("json") && !says_lines;
    let looks_like_lines = || {
        let mut lines = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        lines.clone().count() > 1 && lines.all(|line| line.starts_with(b"{") && line.ends_with(b"}"))
    };
    if says_lines || (!says_json && looks_like_lines()) {
        read_ndjson(body, unix_ms())
    } else {
        read_json(body, unix_ms())
    }
}

async fn get_events(State(site): Shared, format: Format, query: EventQuery) -> Result<Response, Problem> {
    let local = site.engine.local_query();
    let id = visit(&site, |core| core.site().clone()).await?;
    events_reply(query, format, move |query| {
        let (local, id) = (local.clone(), id.clone());
        async move {
            let read = move || -> Result<EventPage, CoreError> {
                let from = match query.after {
                    Some(Position::Log { index, skip }) => LocalPosition {
                        part: (index >> PART_SHIFT) as u8,
                        index: index & ((1 << PART_SHIFT) - 1),
                        offset: skip,
                    },
                    _ => LocalPosition::default(),
                };
                let key = |epoch, lane| StreamKey { site: id.clone(), epoch, lane };
                let wanted = |lane, event: &_| query.matches(&key(grey_model::Epoch(0), lane), event);
                let page = local.page(from, query.page_limit(), &wanted)?;
                let events = page.events.into_iter().map(|e| (key(e.epoch, e.lane), e.seq, e.event)).collect();
                let next = page
                    .next
                    .map(|at| Position::Log { index: u64::from(at.part) << PART_SHIFT | at.index, skip: at.offset });
                Ok(EventPage { events, next })
            };
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(page)) => Ok(page),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a local query failed");
                    Err(Problem::internal().detail(error.to_string()))
                }
                Err(_) => Err(Problem::internal()),
            }
        }
    })
    .await
}

/// What `/v1/status` says of the link; also used for metrics.
pub(crate) fn link_state(site: &Site) -> (LinkState, i64) {
    match &*site.link.borrow() {
        Some(link) => (link.uplink.state, link.unix_ms(link.uplink.since_ms)),
        None if site.has_hub => (LinkState::Offline, site.started_ms),
        None => (LinkState::Island, site.started_ms),
    }
}

async fn get_status(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let look = |core: &mut EdgeCore| {
        let rows = core.ledger();
        let lanes: serde_json::Map<String, Json> = Lane::ALL
            .iter()
            .map(|lane| {
                let bytes = core.queue().lane(*lane).pending.bytes;
                (lane.to_string(), json!({"events": core.pending_events(*lane), "bytes": bytes}))
            })
            .collect();
        json!({
            "site_id": core.site(),
            "epoch": core.epoch(),
            "accepted_total": core.accepted_total(),
            "pending": lanes,
            "oldest_ms": core.queue().oldest_pending_ms(),
            "dropped_total": rows.iter().map(|row| row.tally.dropped).sum::<u64>(),
            "delivered_total": rows.iter().map(|row| row.tally.delivered).sum::<u64>(),
            "reduced_total": rows.iter().map(|row| row.tally.reduced).sum::<u64>(),
            "deduplicated_total": rows.iter().map(|row| row.tally.deduplicated).sum::<u64>(),
            "balanced": rows.iter().all(|row| row.balanced),
            "full": core.is_full(),
            "level": core.queue().level().as_str(),
            "ladder": outbox::ladder_json(core),
            "damage": core.damage(),
            "alerts_firing": core.rules().alerts().iter().filter(|alert| alert.state == AlertState::Firing).count(),
            "webhooks_waiting": core.requests().0,
            "models": core.rules().models().iter().map(rules::model_json).collect::<Vec<_>>(),
            "hot_spots": core.rules().hot_spots().iter().map(rules::hot_spot_json).collect::<Vec<_>>(),
            "dead_letters_total": core.counters().dead_letters,
            "ids_remembered": core.ids_remembered(),
            "disk": core.bytes_on_disk().into_iter().map(|(what, bytes)| (what.to_owned(), json!(bytes)))
                .collect::<serde_json::Map<_, _>>(),
            "disk_available_bytes": core.disk_available(),
        })
    };
    let mut status = visit(&site, look).await?;
    let now_ms = unix_ms();
    let (state, since_ms) = link_state(&site);
    let oldest = status.get("oldest_ms").and_then(Json::as_i64);
    let full = status.get("full").and_then(Json::as_bool).unwrap_or(false);
    let degradation = match state {
        _ if full => "limited",
        LinkState::Offline | LinkState::Island => "degraded",
        LinkState::Online | LinkState::Degraded => "normal",
    };
    if let Some(fields) = status.as_object_mut() {
        fields.remove("oldest_ms");
        let age_s = oldest.map_or(0.0, |at| (now_ms - at).max(0) as f64 / 1_000.0);
        fields.insert("oldest_pending_age_s".into(), json!(age_s));
        fields.insert("state".into(), json!(state.as_str()));
        fields.insert("state_since".into(), json!(format_rfc3339_ms(since_ms)));
        fields.insert("degradation".into(), json!(degradation));
        fields.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        fields.insert("runtimes".into(), json!(runtimes()));
        let recovery = *site.recovery.borrow();
        fields.insert("recovering".into(), json!(recovery.is_some()));
        fields.insert("recovery".into(), json!(recovery));
        fields.insert("uptime_s".into(), json!((now_ms - site.started_ms).max(0) / 1_000));
        fields.insert("mqtt_connections".into(), json!(site.counters.connections_open()));
        let link = site.link.borrow();
        let address = link.as_ref().and_then(|l| l.uplink.session.as_ref()).map(|s| s.address.clone());
        let named = (!site.hub.is_empty()).then(|| site.hub.clone());
        fields.insert("hub".into(), json!(named.or(address)));
        let last_sync = link.as_ref().and_then(|l| l.uplink.last_ack_ms.map(|at| format_rfc3339_ms(l.unix_ms(at))));
        fields.insert("last_sync".into(), json!(last_sync));
        fields.insert("drain".into(), outbox::drain_json(link.as_ref()));
        fields.insert("uplink".into(), link.as_ref().map_or(Json::Null, link_json));
    }
    Ok(json_reply(&status))
}

fn link_json(link: &LinkStatus) -> Json {
    let session = link.uplink.session.as_ref().map(|s| {
        json!({
            "address": s.address, "node": s.node, "term": s.term, "rtt_ms": s.rtt_ms,
            "since": format_rfc3339_ms(link.unix_ms(s.since_ms)),
            "in_flight_bytes": s.in_flight_bytes, "window_bytes": s.window_bytes,
            "in_flight_max_bytes": s.in_flight_max_bytes, "goodput_bytes_per_s": s.goodput_bytes_per_s,
            "has_backlog": s.has_backlog,
        })
    });
    let stats = &link.uplink.stats;
    json!({
        "session": session,
        "attempt": link.uplink.attempt,
        "last_failure": link.uplink.last_failure,
        "sessions_total": stats.sessions, "failures_total": stats.failures, "redirects_total": stats.redirects,
        "bytes_out_total": stats.bytes_out, "bytes_in_total": stats.bytes_in,
        "blocks_out_total": stats.blocks_out, "blocks_acked_total": stats.blocks_acked,
        "events_out_total": stats.events_out, "events_acked_total": stats.events_acked,
    })
}

async fn get_ledger(State(site): Shared, query: ListQuery) -> Result<Response, Problem> {
    let rows = visit(&site, |core| core.ledger()).await?;
    let rows: Vec<_> = rows.into_iter().filter(|row| query.site.as_ref().is_none_or(|s| *s == row.site)).collect();
    Ok(list_reply("ledger", &rows, None))
}

async fn get_dead_letters(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let letters = visit(&site, |core| core.dead_letters(DEAD_LETTERS_MAX)).await?;
    let letters: Vec<Json> = letters.iter().filter_map(|letter| serde_json::from_slice(letter).ok()).collect();
    Ok(list_reply("dead_letters", &letters, None))
}

async fn post_sync(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let flushed = visit(&site, |core| {
        let done = core.flush(unix_ms(), true).map_err(|error| error.to_string());
        let pending: u64 = Lane::ALL.iter().map(|lane| core.pending_events(*lane)).sum();
        done.map(|_| pending)
    })
    .await?;
    let pending = flushed.map_err(|reason| Problem::unavailable(5).detail(reason))?;
    site.engine.outbox_ready.notify_one();
    let (state, _) = link_state(&site);
    Ok(json_reply(&json!({"pending_events": pending, "state": state.as_str()})))
}
