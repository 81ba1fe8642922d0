//! What running sites say of themselves, for a plan: two looks at a tier some
//! time apart, so that counters become rates. The tier's own times are the
//! clock.

use std::collections::BTreeMap;

use grey_config::Duration;
use grey_model::time::parse_time_ms;
use grey_plan::Actual;
use serde_json::Value as Json;

use crate::http::Server;
use crate::remote::all_pages;
use crate::world::Failure;

/// One site at one moment.
struct Look {
    actual: Actual,
    /// Events accepted so far, and the tier's time in seconds at which that was so.
    accepted: Option<(u64, f64)>,
}

/// Asks a running edge agent about itself, or a hub or coordinator about all of its sites.
pub(crate) fn ask(server: &str, over: Duration) -> Result<Vec<Actual>, Failure> {
    let server = Server::parse(server)?;
    let before: BTreeMap<String, Option<(u64, f64)>> =
        looks(&server)?.into_iter().map(|look| (look.actual.site, look.accepted)).collect();
    wait(over);
    let rated = |mut look: Look| {
        let first = before.get(&look.actual.site).copied().flatten();
        look.actual.events_per_s = match (first, look.accepted) {
            (Some((events, at)), Some((later, end))) if end > at && later >= events => {
                Some((later - events) as f64 / (end - at))
            }
            _ => None,
        };
        look.actual
    };
    Ok(looks(&server)?.into_iter().map(rated).collect())
}

#[expect(clippy::disallowed_methods, reason = "the command waits between two looks at a tier; it reads no clock")]
fn wait(over: Duration) {
    std::thread::sleep(over.into());
}

fn looks(server: &Server) -> Result<Vec<Look>, Failure> {
    let status = server.get("/v1/status")?;
    if status.get("site_id").is_some() {
        let queue = server.get("/v1/queue")?;
        return Ok(vec![edge(&status, &queue)]);
    }
    let sites = all_pages(server, "/v1/sites", "sites", &[], &mut |_| ())?;
    Ok(sites.iter().map(reported).collect())
}

/// Events and bytes that wait, of all lanes.
fn pending(lanes: &Json) -> (u64, u64) {
    let sum = |key: &str| {
        let lanes = lanes.as_object().into_iter().flat_map(|lanes| lanes.values());
        lanes.filter_map(|lane| lane[key].as_u64()).sum()
    };
    (sum("events"), sum("bytes"))
}

fn edge(status: &Json, queue: &Json) -> Look {
    let (pending_events, pending_bytes) = pending(&status["pending"]);
    let actual = Actual {
        site: status["site_id"].as_str().unwrap_or_default().to_owned(),
        events_per_s: None,
        pending_events,
        pending_bytes,
        capacity_bytes: queue["bytes_max"].as_u64(),
        oldest_s: status["oldest_pending_age_s"].as_f64().unwrap_or(0.0),
    };
    Look { actual, accepted: status["accepted_total"].as_u64().zip(status["uptime_s"].as_f64()) }
}

fn reported(site: &Json) -> Look {
    let (pending_events, pending_bytes) = pending(&site["pending"]);
    let seen = site["last_seen"].as_str().and_then(|text| parse_time_ms(text).ok());
    let actual = Actual {
        site: site["site"].as_str().unwrap_or_default().to_owned(),
        events_per_s: None,
        pending_events,
        pending_bytes,
        capacity_bytes: None,
        oldest_s: site["oldest_pending_age_s"].as_f64().unwrap_or(0.0),
    };
    Look { actual, accepted: site["accepted_total"].as_u64().zip(seen.map(|ms| ms as f64 / 1_000.0)) }
}
