//! HTTP pieces that every tier shares: the server and its limits, problem
//! documents, the JSON of events, queries and cursors, metrics, health,
//! self-description, and the dashboard.
//!
//! A driver crate: it owns sockets and reads clocks. It knows the words of
//! `grey-model` and nothing of ledgers, logs or tiers; a tier hands it routes
//! and figures.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

mod cursor;
mod dashboard;
mod event;
mod guard;
mod health;
pub mod metrics;
mod openapi;
mod params;
mod problem;
mod query;
mod reply;
mod server;
mod stall;

pub use cursor::{CURSOR_BYTES_MAX, Cursor, CursorError, Position};
pub use dashboard::dashboard_route;
pub use event::{EventJson, UNNUMBERED, event_json};
pub use guard::harden;
pub use health::{Readiness, health_routes};
pub use metrics::{Metrics, metrics_route};
pub use openapi::{Api, Parameter, Route};
pub use params::{LIMIT_DEFAULT, LIMIT_MAX, ListQuery, NoQuery, Params, QUERY_BYTES_MAX};
pub use problem::{Fault, PROBLEM_FAULTS_MAX, PROBLEM_JSON, Place, Problem, ProblemDocument};
pub use query::EventQuery;
pub use reply::{CURSOR_HEADER, EventPage, Format, NDJSON, events_reply, json_reply, list_reply};
pub use server::{Drained, ServerConfig, serve};

/// Now, in Unix milliseconds. The one place that reads the wall clock here.
fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Now, for measuring how long an answer took.
fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
