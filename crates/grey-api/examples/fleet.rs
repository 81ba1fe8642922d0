//! A made-up fleet behind the shared HTTP pieces: problems, paging, metrics,
//! self-description and the dashboard, without any tier behind them.
//!
//! `cargo run -p grey-api --example fleet` prints the address to open.

use axum::response::Response;
use grey_api::metrics::{HubMetrics, SiteFigures, SiteLabels, SiteState};
use grey_api::{
    Api, EventPage, EventQuery, Format, ListQuery, Metrics, NoQuery, Position, Problem, Readiness, Route, ServerConfig,
    dashboard_route, events_reply, health_routes, json_reply, list_reply, metrics_route, serve,
};
use grey_model::time::format_rfc3339_ms;
use grey_model::{Epoch, Event, Lane, SiteId, Stamp, StreamKey};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

const SITES: usize = 1_000;
const EVENTS: u64 = 25_000;
const NOON_MS: i64 = 1_772_366_400_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let metrics = Metrics::install()?;
    metrics.build_info("example", env!("CARGO_PKG_VERSION"), "none");
    let hub = HubMetrics::new(&metrics, "regional-hub-us-west", "us-west-2");
    hub.sites().set_answering(true);
    for n in 0..SITES {
        let labels = SiteLabels { site: site_id(n)?, hub: "regional-hub-us-west".into(), region: "us-west-2".into() };
        let figures = SiteFigures {
            state: state(n),
            buffer_capacity_bytes: Some(1 << 30),
            accepted_total: Some(n as u64),
            processed_total: Some(n as u64),
            last_sync_ms: Some(NOON_MS),
            pending: Some([(0, 0), (n as u64, 64 * n as u64), (0, 0)]),
            ..Default::default()
        };
        hub.sites().set(labels, figures);
    }
    let readiness = Readiness::new(&["storage"]);
    readiness.ready("storage");
    let router = Api::new("A made-up fleet", env!("CARGO_PKG_VERSION"))
        .routes(health_routes(&readiness))
        .route(metrics_route(&metrics))
        .route(dashboard_route())
        .route(Route::get("/v1/status", "Where the node stands", status).answers(
            200,
            "Status",
            json!({"type": "object"}),
        ))
        .route(Route::get("/v1/sites", "The sites", sites).list_parameters().answers_list("sites", json!({})))
        .route(Route::get("/v1/ledger", "The books", ledger).list_parameters().answers_list("ledger", json!({})))
        .route(Route::get("/v1/events", "The events", events).answers_events())
        .into_router();

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening http {}", listener.local_addr()?);
    let config = ServerConfig { metrics: Some(metrics), ..Default::default() };
    let drained = serve(listener, router, config, async {
        let _ = tokio::signal::ctrl_c().await;
        readiness.drain();
    })
    .await;
    println!("served {} connections", drained.connections);
    Ok(())
}

fn site_id(n: usize) -> Result<SiteId, grey_model::IdError> {
    SiteId::new(&format!("factory-us-west-{n:04}"))
}

fn state(n: usize) -> SiteState {
    match n % 40 {
        7 => SiteState::Degraded,
        13 => SiteState::Offline,
        39 => SiteState::Island,
        _ => SiteState::Online,
    }
}

async fn status(_: NoQuery) -> Response {
    json_reply(&json!({
        "name": "grey-cloud-primary",
        "version": env!("CARGO_PKG_VERSION"),
        "consensus": {"id": 1, "role": "leader", "term": 7, "leader": 1, "commit": 90_211, "applied": 90_211, "members": [1, 2, 3]},
    }))
}

/// The page of a list that is sorted by site.
fn page(query: &ListQuery, entry: impl Fn(usize, &str) -> Json) -> (Vec<Json>, Option<grey_api::Cursor>) {
    let names: Vec<_> = (0..SITES).filter_map(|n| site_id(n).ok()).collect();
    let start = match &query.after {
        Some(Position::Name(after)) => names.partition_point(|name| name.as_str() <= after.as_str()),
        _ => 0,
    };
    let wanted = |name: &SiteId| query.site.as_ref().is_none_or(|site| site == name);
    let mut rows = names.iter().enumerate().skip(start).filter(|(_, name)| wanted(name)).peekable();
    let mut entries = Vec::new();
    let mut last = None;
    while entries.len() < query.limit
        && let Some((n, name)) = rows.next()
    {
        entries.push(entry(n, name.as_str()));
        last = Some(name);
    }
    let more = rows.peek().is_some();
    let cursor = last.filter(|_| more).map(|name| query.cursor(Position::Name(name.as_str().into())));
    (entries, cursor)
}

async fn sites(query: ListQuery) -> Response {
    let (entries, cursor) = page(&query, |n, name| {
        json!({
            "site": name,
            "hub": "regional-hub-us-west",
            "state": state(n).as_str(),
            "last_seen": format_rfc3339_ms(NOON_MS - 60_000 * n as i64),
            "pending": {
                "critical": {"events": n % 3, "bytes": 60 * (n % 3)},
                "normal": {"events": n, "bytes": 64 * n},
                "bulk": {"events": 0, "bytes": 0},
            },
            "accepted_total": 1_000 * n,
        })
    });
    list_reply("sites", &entries, cursor)
}

async fn ledger(query: ListQuery) -> Response {
    let (entries, cursor) = page(&query, |n, name| {
        json!({
            "site": name, "epoch": 1, "lane": "normal",
            "accepted": 1_000 * n, "delivered": 999 * n, "reduced": 0, "deduplicated": 0, "dropped": 0, "pending": n,
            "balanced": n != 500, "ranges": {},
        })
    });
    list_reply("ledger", &entries, cursor)
}

async fn events(query: EventQuery, format: Format) -> Result<Response, Problem> {
    events_reply(query, format, read_page).await
}

async fn read_page(query: EventQuery) -> Result<EventPage, Problem> {
    let key = |lane| -> Result<StreamKey, Problem> {
        Ok(StreamKey { site: site_id(15).map_err(|_| Problem::internal())?, epoch: Epoch(1), lane })
    };
    let key = key(Lane::Bulk)?;
    let from = match query.after {
        Some(Position::Log { index, .. }) => index,
        _ => 0,
    };
    let limit = query.page_limit();
    let mut events = Vec::new();
    for seq in from..EVENTS {
        let mut event =
            Event::reading("press-1", "temperature", 20.0 + (seq % 100) as f64 / 10.0, NOON_MS + 1_000 * seq as i64);
        event.stamp = Stamp::at_unix_ms(event.device_time_ms + 20);
        event.unit = Some("°C".into());
        if !query.matches(&key, &event) {
            continue;
        }
        if events.len() == limit {
            return Ok(EventPage { events, next: Some(Position::Log { index: seq, skip: 0 }) });
        }
        events.push((key.clone(), seq, event));
    }
    Ok(EventPage { events, next: None })
}
