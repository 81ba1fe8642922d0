//! What the outbox has to show, for metrics.

use std::sync::{Arc, Mutex, PoisonError};

use grey_api::Metrics;
use grey_api::metrics::{Collector, Exposition, SiteLabels, names};
use grey_link::{BudgetConfig, BudgetUsage};
use grey_model::Lane;
use grey_net::uplink_client::LinkStatus;
use grey_queue::StratumStatus;
use grey_sync::DrainState;

use crate::core::{EdgeCore, LadderCounters};

/// Why an event is not what was accepted, as [`LadderCounters::by_reason`] counts it.
pub(crate) const REASONS: [&str; 6] = ["thinned", "rolled_up", "dropped", "damaged", "sampled", "not_taken"];

/// What was seen at the last look.
#[derive(Debug, Default)]
struct Seen {
    look: Look,
    drain: DrainState,
    usage: BudgetUsage,
}

/// The outbox in metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OutboxFigures {
    labels: SiteLabels,
    budget: BudgetConfig,
    seen: Arc<Mutex<Seen>>,
}

/// What a look on the engine's thread brings.
#[derive(Debug, Default)]
pub(crate) struct Look {
    level: u64,
    used: u64,
    reserved: u64,
    strata: Vec<StratumStatus>,
    counters: LadderCounters,
    damage: u64,
}

impl Look {
    pub(crate) fn at(core: &EdgeCore) -> Self {
        let queue = core.queue();
        Self {
            level: queue.level() as u64,
            used: queue.bytes_on_disk(),
            reserved: queue.bytes_reserved(),
            strata: queue.strata(),
            counters: core.ladder(),
            damage: core.damage().len() as u64,
        }
    }
}

impl Look {
    /// Events that there was no room for, stored or new.
    pub(crate) fn dropped_by_overflow(&self) -> u64 {
        let of_lane = |lane| {
            let [_, _, dropped, _, _, not_taken] = self.counters.by_reason(lane);
            dropped + not_taken
        };
        Lane::ALL.into_iter().map(of_lane).sum()
    }
}

impl OutboxFigures {
    /// Shows itself with the metrics from now on.
    pub(crate) fn new(metrics: &Metrics, labels: SiteLabels, budget: BudgetConfig) -> Self {
        let figures = Self { labels, budget, seen: Arc::default() };
        metrics.collect_with(Arc::new(figures.clone()));
        figures
    }

    pub(crate) fn set(&self, look: Look, link: Option<&LinkStatus>) {
        let (drain, usage) = link.map(|l| (l.uplink.drain.clone(), l.uplink.budget_usage)).unwrap_or_default();
        let seen = Seen { look, drain, usage };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

impl Collector for OutboxFigures {
    fn collect(&self, out: &mut Exposition) {
        let SiteLabels { site, hub, region } = &self.labels;
        let site = [site.as_str(), hub, region];
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let look = &seen.look;
        let counters = &look.counters;
        for (metric, value) in [
            (&names::OUTBOX_LEVEL, look.level),
            (&names::OUTBOX_USED_BYTES, look.used),
            (&names::OUTBOX_RESERVED_BYTES, look.reserved),
            (&names::OUTBOX_STEPS, counters.steps),
            (&names::OUTBOX_FOLDS, counters.folds),
            (&names::OUTBOX_FOLDED_BYTES, counters.folded_bytes),
            (&names::OUTBOX_RANGES, counters.ranges),
            (&names::OUTBOX_DAMAGE, look.damage),
        ] {
            out.sample(metric, &site, value as f64);
        }
        let with = |last: &[&'static str]| [&site[..], last].concat();
        for lane in Lane::ALL {
            for (reason, events) in REASONS.iter().zip(counters.by_reason(lane)) {
                out.sample(&names::OUTBOX_AFFECTED, &with(&[lane.as_str(), reason]), events as f64);
            }
        }
        for stratum in &look.strata {
            let labels = with(&[stratum.lane.as_str(), stratum.stratum.as_str()]);
            out.sample(&names::OUTBOX_STRATUM_BYTES, &labels, stratum.bytes as f64);
        }
        let limits = [
            ("day", self.budget.bytes_per_day, seen.usage.day_bytes),
            ("month", self.budget.bytes_per_month, seen.usage.month_bytes),
        ];
        for (period, limit, used) in limits {
            if let Some(limit) = limit {
                out.sample(&names::OUTBOX_BUDGET_LEFT, &with(&[period]), limit.saturating_sub(used) as f64);
            }
        }
        if let DrainState::Stalled { reason, .. } = &seen.drain {
            out.sample(&names::OUTBOX_STALLED, &with(&[reason.as_str()]), 1.0);
        }
    }
}
