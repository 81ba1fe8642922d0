//! What the outbox and the way out of it have to show: `/v1/queue`, and its part of the status.

use grey_api::{NoQuery, Problem, json_reply};
use grey_link::BudgetLimit;
use grey_model::Lane;
use grey_model::time::format_rfc3339_ms;
use grey_net::uplink_client::LinkStatus;
use grey_queue::OnFull;
use grey_sync::{DrainState, StallReason};
use serde_json::{Value as Json, json};

use axum::extract::State;
use axum::response::Response;

use super::{Shared, visit};
use crate::core::EdgeCore;
use crate::outbox::REASONS;

/// How what waits gets away, and if it does not, why.
pub(super) fn drain_json(link: Option<&LinkStatus>) -> Json {
    let Some(link) = link else { return Json::Null };
    let drain = &link.uplink.drain;
    let mut shown = json!({"state": drain.as_str()});
    match drain {
        DrainState::Idle => {}
        DrainState::Draining { bytes_per_s, eta_s } => {
            shown["bytes_per_s"] = json!(bytes_per_s);
            shown["eta_s"] = json!(eta_s);
        }
        DrainState::Stalled { since_ms, reason } => {
            shown["since"] = json!(format_rfc3339_ms(link.unix_ms(*since_ms)));
            shown["reason"] = json!(reason.as_str());
            shown["detail"] = json!(reason.to_string());
            if let StallReason::BudgetSpent { until_unix_ms, .. } | StallReason::OutsideSchedule { until_unix_ms } =
                reason
            {
                shown["until"] = json!(format_rfc3339_ms(*until_unix_ms));
            }
        }
    }
    shown
}

/// The ladder: where it stands, and what it has done since the start.
pub(super) fn ladder_json(core: &EdgeCore) -> Json {
    let counters = core.ladder();
    let queue = core.queue();
    let affected: serde_json::Map<String, Json> = Lane::ALL
        .iter()
        .map(|lane| {
            let by_reason = REASONS.iter().zip(counters.by_reason(*lane));
            let by_reason: serde_json::Map<_, _> = by_reason.map(|(reason, n)| ((*reason).into(), json!(n))).collect();
            (lane.to_string(), Json::Object(by_reason))
        })
        .collect();
    let last = core.last_step().map(|(at_ms, step)| {
        json!({"at": format_rfc3339_ms(at_ms), "from": step.from.as_str(), "to": step.to.as_str(), "used": step.used})
    });
    json!({
        "level": queue.level().as_str(),
        "disk_full": core.is_disk_full(),
        "last_step": last,
        "steps_total": counters.steps,
        "folds_total": counters.folds,
        "folded_bytes_total": counters.folded_bytes,
        "ranges_affected_total": counters.ranges,
        "events_affected_total": affected,
        "reserved_bytes": queue.bytes_reserved(),
    })
}

fn policy(on_full: OnFull) -> &'static str {
    match on_full {
        OnFull::Block => "block",
        OnFull::DropOldest => "drop_oldest",
        OnFull::DropNewest => "drop_newest",
    }
}

pub(super) async fn get_queue(State(site): Shared, _: NoQuery) -> Result<Response, Problem> {
    let look = |core: &mut EdgeCore| {
        let queue = core.queue();
        let strata = queue.strata();
        let lanes: serde_json::Map<String, Json> = Lane::ALL
            .iter()
            .map(|lane| {
                let state = queue.lane(*lane);
                let strata: Vec<Json> = strata
                    .iter()
                    .filter(|stratum| stratum.lane == *lane)
                    .map(|s| {
                        json!({
                            "stratum": s.stratum.as_str(), "records": s.records, "bytes": s.bytes,
                            "first_position": s.positions.start, "end_position": s.positions.end,
                        })
                    })
                    .collect();
                let entry = json!({
                    "blocks": state.pending.blocks,
                    "bytes": state.pending.bytes,
                    "events": state.pending.tally.pending,
                    "acknowledged_below": state.acked,
                    "end": state.end,
                    "next_sequence": state.end_seq,
                    "on_full": policy(core.on_full(*lane)),
                    "strata": strata,
                });
                (lane.to_string(), entry)
            })
            .collect();
        let lost: Vec<Json> = queue
            .reader()
            .lost_blocks()
            .iter()
            .map(|lost| {
                json!({
                    "lane": lost.lane,
                    "first_sequence": lost.sequences.start, "end_sequence": lost.sequences.end,
                    "reason": lost.reason,
                })
            })
            .collect();
        json!({
            "lanes": lanes,
            "ladder": ladder_json(core),
            "oldest_pending": queue.oldest_pending_ms().map(format_rfc3339_ms),
            "bytes_pending": queue.bytes_pending(),
            "bytes_on_disk": queue.bytes_on_disk(),
            "bytes_max": queue.bytes_max(),
            "full": core.is_full(),
            "lost": lost,
        })
    };
    let mut shown = visit(&site, look).await?;
    let link = site.link.borrow().clone();
    shown["drain"] = drain_json(link.as_ref());
    let usage = link.map(|link| link.uplink.budget_usage).unwrap_or_default();
    let budget = &site.budget;
    shown["budget"] = json!({
        BudgetLimit::Second.as_str(): {"limit_bytes": budget.bytes_per_s},
        BudgetLimit::Day.as_str(): {"limit_bytes": budget.bytes_per_day, "used_bytes": usage.day_bytes},
        BudgetLimit::Month.as_str(): {"limit_bytes": budget.bytes_per_month, "used_bytes": usage.month_bytes},
    });
    Ok(json_reply(&shown))
}
