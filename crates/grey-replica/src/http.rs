//! The HTTP interface of a hub or coordinator: status, sites, ledger, events.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use grey_api::{
    Api, EventQuery, Format, ListQuery, NoQuery, Position, Problem, Readiness, Route, dashboard_route, events_reply,
    health_routes, json_reply, list_reply, metrics_route,
};
use grey_consensus::Role;
use grey_ledger::SiteReport;
use grey_model::time::format_rfc3339_ms;
use grey_model::{Lane, SiteId};
use grey_net::uplink_client::LinkStatus;
use grey_net::uplink_server::ServerStats;
use serde_json::{Map, Value as Json, json};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::watch;

use crate::engine::EngineHandle;
use crate::metrics::TierMetrics;
use crate::node::{Member, unix_ms};
use crate::sites::Sessions;

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) tier: &'static str,
    pub(crate) name: SiteId,
    pub(crate) region: String,
    pub(crate) members: Vec<Member>,
    pub(crate) handle: EngineHandle,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) link: watch::Receiver<Option<LinkStatus>>,
    pub(crate) stats: Arc<ServerStats>,
    pub(crate) has_upstream: bool,
    pub(crate) started_ms: i64,
    pub(crate) metrics: Arc<TierMetrics>,
}

type Tier = State<Arc<Shared>>;

/// The routes of a hub or coordinator.
pub(crate) fn api(readiness: &Readiness, metrics: &TierMetrics, dashboard: bool) -> Api<Arc<Shared>> {
    let object = || json!({"type": "object"});
    let api = Api::new("Grey", env!("CARGO_PKG_VERSION"))
        .routes(health_routes(readiness))
        .route(metrics_route(metrics.registry()))
        .route(Route::get("/v1/status", "How this member is doing", get_status).answers(200, "The status", object()))
        .route(
            Route::get("/v1/sites", "The sites that this tier answers for", get_sites)
                .list_parameters()
                .answers_list("sites", object()),
        )
        .route(Route::get("/v1/sites/{id}", "One site", get_site).path_parameter("id", "the site").answers(
            200,
            "The site and its ledger",
            object(),
        ))
        .route(
            Route::get("/v1/ledger", "What became of every sequence of every site", get_ledger)
                .list_parameters()
                .answers_list("ledger", object()),
        )
        .route(
            Route::get("/v1/events", "Events in the order in which this tier accepted them", get_events)
                .queries(&EventQuery::PARAMS)
                .answers_events(),
        );
    if dashboard { api.route(dashboard_route()) } else { api }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        // Neither votes: both learn the log before they take part.
        Role::Recovering | Role::Forming => "learner",
    }
}

async fn get_status(State(tier): Tier, _: NoQuery) -> Response {
    let standing = tier.handle.standing.borrow().clone();
    let status = &standing.consensus;
    let members: Vec<Json> = tier
        .members
        .iter()
        .map(|m| {
            let peer = status.peers.iter().find(|p| p.id == m.id);
            json!({
                "id": m.id, "raft": m.raft, "sync": m.sync, "http": m.http,
                "connected": m.id == status.id || peer.is_some_and(|p| p.is_connected),
                "recovering": peer.is_some_and(|p| p.is_recovering),
                "matched": peer.map(|p| p.matched),
            })
        })
        .collect();
    let now_ms = unix_ms();
    let reports = reports(&tier, now_ms);
    let state = tier.handle.state.read();
    let totals = state.totals();
    let pending: Map<String, Json> = Lane::ALL
        .iter()
        .map(|lane| {
            let (blocks, events, bytes) = state.pending(*lane);
            (lane.to_string(), json!({"blocks": blocks, "events": events, "bytes": bytes}))
        })
        .collect();
    drop(state);
    let online = reports.iter().filter(|(_, state)| *state != "offline").count();
    let stats = &tier.stats;
    json_reply(&json!({
        "tier": tier.tier,
        "name": tier.name,
        "region": tier.region,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": (now_ms - tier.started_ms).max(0) / 1_000,
        "consensus": {
            "id": status.id,
            "role": role_name(status.role),
            "condition": format!("{:?}", status.role).to_lowercase(),
            "term": status.term,
            "leader": status.leader,
            "commit": status.commit,
            "applied": status.applied,
            "first": status.first,
            "last": status.last,
            "floor": status.floor,
            "log_bytes": status.log_bytes,
            "disk_full": status.is_disk_full,
            "serving": standing.leading.is_some(),
            "members": members,
        },
        "sites": {"known": reports.len(), "online": online},
        "pending": pending,
        "totals": {
            "blocks": totals.blocks, "duplicate_blocks": totals.duplicate_blocks,
            "events": totals.events, "bytes": totals.bytes,
            "forwarded_events": totals.forwarded_events, "forwarded_bytes": totals.forwarded_bytes,
        },
        "traffic": {
            "connections": stats.connections.load(Relaxed),
            "bytes_in": stats.bytes_in_total.load(Relaxed), "bytes_out": stats.bytes_out_total.load(Relaxed),
            "blocks_in": stats.blocks_in_total.load(Relaxed), "events_in": stats.events_in_total.load(Relaxed),
            "rejected": stats.rejected_total.load(Relaxed),
        },
        "uplink": if tier.has_upstream { link_json(&tier.link.borrow()) } else { Json::Null },
    }))
}

fn link_json(link: &Option<LinkStatus>) -> Json {
    let Some(link) = link else { return json!({"state": "offline", "note": "only the leader keeps the uplink"}) };
    let session = link.uplink.session.as_ref().map(|s| {
        json!({"address": s.address, "node": s.node, "term": s.term, "rtt_ms": s.rtt_ms,
               "in_flight_bytes": s.in_flight_bytes, "since": format_rfc3339_ms(link.unix_ms(s.since_ms))})
    });
    let stats = &link.uplink.stats;
    json!({
        "state": link.uplink.state.as_str(),
        "state_since": format_rfc3339_ms(link.unix_ms(link.uplink.since_ms)),
        "session": session,
        "last_failure": link.uplink.last_failure,
        "last_sync": link.uplink.last_ack_ms.map(|at| format_rfc3339_ms(link.unix_ms(at))),
        "bytes_out_total": stats.bytes_out, "blocks_out_total": stats.blocks_out, "events_out_total": stats.events_out,
    })
}

/// What is known of each site now, and its state in words: live sessions win over replicated reports.
fn reports(tier: &Shared, now_ms: i64) -> Vec<(SiteReport, &'static str)> {
    let mut all = tier.sessions.reports(now_ms);
    let state = tier.handle.state.read();
    let known: Vec<SiteReport> = state.sites().filter(|r| !all.iter().any(|l| l.site == r.site)).cloned().collect();
    drop(state);
    all.extend(known);
    all.sort_by(|a, b| a.site.cmp(&b.site));
    all.into_iter()
        .map(|report| {
            let word = match tier.sessions.state_now(&report, now_ms) {
                grey_ledger::SiteState::Online => "online",
                grey_ledger::SiteState::Degraded => "degraded",
                grey_ledger::SiteState::Offline => "offline",
                grey_ledger::SiteState::Island => "island",
            };
            (report, word)
        })
        .collect()
}

fn site_json(report: &SiteReport, state: &str) -> Json {
    let pending: Map<String, Json> = Lane::ALL
        .iter()
        .map(|lane| {
            let waiting = report.pending_in(*lane);
            (lane.to_string(), json!({"events": waiting.events, "bytes": waiting.bytes}))
        })
        .collect();
    json!({
        "site": report.site,
        "epoch": report.epoch,
        "hub": report.hub,
        "state": state,
        "last_seen": format_rfc3339_ms(report.last_seen_ms),
        "pending": pending,
        "oldest_pending_age_s": report.oldest_pending_age_ms as f64 / 1_000.0,
        "accepted_total": report.accepted_total,
    })
}

async fn get_sites(State(tier): Tier, query: ListQuery) -> Result<Response, Problem> {
    let after = match &query.after {
        Some(Position::Name(name)) => Some(name.clone()),
        _ => None,
    };
    let all = reports(&tier, unix_ms());
    let mut wanted = all.iter().filter(|(report, _)| {
        query.site.as_ref().is_none_or(|site| *site == report.site)
            && after.as_ref().is_none_or(|after| report.site.as_str() > after.as_str())
    });
    let page: Vec<&(SiteReport, &str)> = wanted.by_ref().take(query.limit).collect();
    let more = wanted.next().is_some();
    let cursor =
        page.last().filter(|_| more).map(|(report, _)| query.cursor(Position::Name(report.site.as_str().to_owned())));
    let entries: Vec<Json> = page.iter().map(|(report, state)| site_json(report, state)).collect();
    Ok(list_reply("sites", &entries, cursor))
}

async fn get_site(State(tier): Tier, Path(id): Path<String>, _: NoQuery) -> Result<Response, Problem> {
    let unknown = || Problem::not_found().detail(format!("no site {id:?} is known here"));
    let site = SiteId::new(&id).map_err(|_| unknown())?;
    let reports = reports(&tier, unix_ms());
    let known = reports.iter().find(|(report, _)| report.site == site);
    let ledger = tier.handle.state.read().ledger(Some(&site));
    if known.is_none() && ledger.is_empty() {
        return Err(unknown());
    }
    let mut json = known.map_or_else(|| json!({"site": site, "state": "offline"}), |(r, s)| site_json(r, s));
    if let Some(fields) = json.as_object_mut() {
        fields.insert("ledger".into(), json!(ledger));
    }
    Ok(json_reply(&json))
}

async fn get_ledger(State(tier): Tier, query: ListQuery) -> Result<Response, Problem> {
    let rows = tier.handle.state.read().ledger(query.site.as_ref());
    let after = match &query.after {
        Some(Position::Stream { key, .. }) => Some(key.clone()),
        _ => None,
    };
    let key =
        |row: &grey_ledger::Row| grey_model::StreamKey { site: row.site.clone(), epoch: row.epoch, lane: row.lane };
    let mut wanted = rows.iter().filter(|row| after.as_ref().is_none_or(|after| key(row) > *after));
    let page: Vec<&grey_ledger::Row> = wanted.by_ref().take(query.limit).collect();
    let more = wanted.next().is_some();
    let cursor = page.last().filter(|_| more).map(|row| query.cursor(Position::Stream { key: key(row), seq: 0 }));
    Ok(list_reply("ledger", &page, cursor))
}

async fn get_events(State(tier): Tier, format: Format, query: EventQuery) -> Result<Response, Problem> {
    events_reply(query, format, move |query| {
        let tier = Arc::clone(&tier);
        async move {
            let read = move || {
                let started = Instant::now();
                let page = tier.handle.page(&query, query.page_limit());
                tier.metrics.queried(started.elapsed());
                page
            };
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(page)) => Ok(page),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a query failed");
                    Err(Problem::internal().detail(error.to_string()))
                }
                Err(_) => Err(Problem::internal()),
            }
        }
    })
    .await
}
