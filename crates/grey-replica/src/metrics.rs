//! The figures of a replicated tier for `/metrics`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use grey_api::Metrics;
use grey_api::metrics::{
    ConsensusMetrics, CoordinatorMetrics, HubMetrics, LedgerMetrics, SiteFigures, SiteLabels, SiteState, SiteTable,
    StorageMetrics, UplinkFigures, UplinkMetrics,
};
use grey_consensus::Role;
use grey_ledger::Totals;
use grey_model::{BlockHeader, Lane};
use grey_net::uplink_client::LinkStatus;

use crate::core::NewBlock;
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
    storage: StorageMetrics,
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
            storage: StorageMetrics::new(&registry, config.tier, &node, "raft"),
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

    /// Blocks were applied; on the last tier, how long their events took to get here.
    pub(crate) fn blocks_applied(&self, blocks: &[NewBlock]) {
        let Tier::Coordinator { coordinator } = &self.tier else { return };
        let now_ms = unix_ms();
        for header in blocks.iter().filter_map(|new| BlockHeader::parse(&new.block).ok()).map(|view| view.header) {
            let delay_ms = now_ms.saturating_sub(header.stamp.unix_ms()).max(0) as u64;
            coordinator.delayed(header.events as usize, Duration::from_millis(delay_ms));
        }
    }

    /// A page of events was read.
    pub(crate) fn queried(&self, took: Duration) {
        if let Tier::Coordinator { coordinator } = &self.tier {
            coordinator.queried(took);
        }
    }

    /// The data directory was damaged when it was opened.
    pub(crate) fn damaged(&self, records: u64) {
        self.storage.damaged(records, 0);
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
    pub(crate) fn figures(
        &self,
        handle: &EngineHandle,
        sessions: &Sessions,
        leads: bool,
        link: &Option<LinkStatus>,
        free_bytes: u64,
    ) {
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
        self.storage.set_bytes(handle.standing.borrow().consensus.log_bytes, free_bytes);
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
                let figures = link.as_ref().map(|link| {
                    let stats = &link.uplink.stats;
                    let session = link.uplink.session.as_ref();
                    UplinkFigures {
                        connected: session.is_some(),
                        connects: stats.sessions,
                        failures: stats.failures,
                        redirects: stats.redirects,
                        blocks_sent: stats.blocks_out,
                        blocks_acknowledged: stats.blocks_acked,
                        sent_bytes: stats.bytes_out,
                        received_bytes: stats.bytes_in,
                        unacknowledged_bytes: session.map_or(0, |s| s.in_flight_bytes),
                        round_trip_ms: session.and_then(|s| s.rtt_ms),
                    }
                });
                uplink.set(&figures.unwrap_or_default());
            }
            Tier::Coordinator { coordinator } => coordinator.set_stored(totals.events, totals.bytes),
        }
        *told = totals;
    }
}
