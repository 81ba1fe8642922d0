//! The figures of a replicated tier for `/metrics`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use grey_api::Metrics;
use grey_api::metrics::{
    ConsensusMetrics, CoordinatorMetrics, HubMetrics, LedgerMetrics, SiteFigures, SiteLabels, SiteState, SiteTable,
    UplinkMetrics,
};
use grey_consensus::Role;
use grey_ledger::Totals;
use grey_model::Lane;
use grey_net::uplink_client::LinkStatus;

use crate::engine::{EngineHandle, Standing};
use crate::node::{ReplicaConfig, unix_ms};
use crate::sites::Sessions;

#[derive(Debug)]
enum Tier {
    Hub { hub: Box<HubMetrics>, uplink: Box<UplinkMetrics> },
    Coordinator { coordinator: CoordinatorMetrics },
}

/// Handles to everything that a member counts.
#[derive(Debug)]
pub(crate) struct TierMetrics {
    registry: Metrics,
    tier: Tier,
    consensus: ConsensusMetrics,
    ledger: LedgerMetrics,
    region: String,
    told: Mutex<Totals>,
}

impl TierMetrics {
    pub(crate) fn new(config: &ReplicaConfig) -> Self {
        let registry = Metrics::new();
        let node = config.node_id.to_string();
        let tier = if config.tier == "coordinator" {
            Tier::Coordinator { coordinator: CoordinatorMetrics::new(&registry) }
        } else {
            Tier::Hub {
                hub: Box::new(HubMetrics::new(&registry, config.name.as_str(), &config.region)),
                uplink: Box::new(UplinkMetrics::new(&registry, config.tier, config.name.as_str())),
            }
        };
        Self {
            tier,
            consensus: ConsensusMetrics::new(&registry, config.tier, &node),
            ledger: LedgerMetrics::new(&registry, config.tier, &node),
            region: config.region.clone(),
            told: Mutex::default(),
            registry,
        }
    }

    pub(crate) fn registry(&self) -> &Metrics {
        &self.registry
    }

    fn sites(&self) -> &SiteTable {
        match &self.tier {
            Tier::Hub { hub, .. } => hub.sites(),
            Tier::Coordinator { coordinator } => coordinator.sites(),
        }
    }

    /// A block that this member proposed is durable.
    pub(crate) fn block_committed(&self, events: u32, bytes: usize, took: Duration) {
        self.consensus.applied(took);
        if let Tier::Hub { hub, .. } = &self.tier {
            hub.block_received(events.into(), 0, bytes as u64, took);
        }
    }

    /// The tier above let this hub in.
    pub(crate) fn uplink_connected(&self) {
        if let Tier::Hub { uplink, .. } = &self.tier {
            uplink.connected();
        }
    }

    /// Consensus moved.
    pub(crate) fn standing(&self, standing: &Standing, leader_changed: bool) {
        let status = &standing.consensus;
        self.consensus.set_progress(status.term, status.commit, status.applied);
        if leader_changed {
            self.consensus.leader_changed(status.leader.is_some(), status.role == Role::Leader);
        }
    }

    /// Figures that are states: taken now and then.
    pub(crate) fn figures(&self, handle: &EngineHandle, sessions: &Sessions, leads: bool, link: &Option<LinkStatus>) {
        let now_ms = unix_ms();
        let live = sessions.reports(now_ms);
        let state = handle.state.read();
        let known = state.sites().filter(|r| !live.iter().any(|l| l.site == r.site));
        let rows = live.iter().chain(known).map(|report| {
            let labels =
                SiteLabels { site: report.site.clone(), hub: report.hub.to_string(), region: self.region.clone() };
            let figures = SiteFigures {
                state: match sessions.state_now(report, now_ms) {
                    grey_ledger::SiteState::Online => SiteState::Online,
                    grey_ledger::SiteState::Degraded => SiteState::Degraded,
                    grey_ledger::SiteState::Offline => SiteState::Offline,
                    grey_ledger::SiteState::Island => SiteState::Island,
                },
                accepted_total: Some(report.accepted_total),
                pending: Some(report.pending.map(|p| (p.events, p.bytes))),
                oldest_pending_age_ms: Some(report.oldest_pending_age_ms),
                ..SiteFigures::default()
            };
            (labels, figures)
        });
        self.sites().set_answering(leads);
        self.sites().replace(rows);
        let totals = state.totals();
        let depth: u64 = Lane::ALL.iter().map(|lane| state.pending(*lane).1).sum();
        let ledger = state.ledger(None);
        drop(state);
        self.ledger.set(ledger.len() as u64, ledger.iter().filter(|row| !row.balanced).count() as u64);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.tier {
            Tier::Hub { hub, uplink } => {
                hub.set_queue_depth(depth);
                hub.set_sessions(live.len());
                if leads {
                    hub.uploaded(totals.forwarded_bytes.saturating_sub(told.forwarded_bytes));
                }
                if let Some(session) = link.as_ref().and_then(|link| link.uplink.session.as_ref()) {
                    uplink.set_unacknowledged_bytes(session.in_flight_bytes);
                }
            }
            Tier::Coordinator { coordinator } => coordinator.set_stored(totals.events, totals.bytes),
        }
        *told = totals;
    }
}
