//! Sessions of the tier below, and what they say of their sites.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use grey_ledger::{LanePending, SiteReport, SiteState};
use grey_model::{Epoch, SiteId};
use grey_sync::{Hello, Role, Status};

/// What the leader knows of one sender that spoke to it.
#[derive(Debug, Clone)]
struct Session {
    number: u64,
    role: Role,
    epoch: Epoch,
    connected: bool,
    heard_ms: i64,
    status: Status,
}

/// When a site counts as what, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteThresholds {
    /// Without a sign of life for this long a site is offline.
    pub offline_ms: i64,
    /// With a backlog older than this a connected site is degraded.
    pub degraded_ms: u64,
}

impl Default for SiteThresholds {
    fn default() -> Self {
        Self { offline_ms: 300_000, degraded_ms: 60_000 }
    }
}

/// The sessions of one node. Only a leader has any.
#[derive(Debug)]
pub struct Sessions {
    /// This tier's own name: the hub of its sites.
    name: SiteId,
    thresholds: SiteThresholds,
    by_sender: Mutex<BTreeMap<SiteId, Session>>,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(name: SiteId, thresholds: SiteThresholds) -> Self {
        Self { name, thresholds, by_sender: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SiteId, Session>> {
        self.by_sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sender was let in.
    pub fn opened(&self, number: u64, hello: &Hello, now_ms: i64) {
        let session = Session {
            number,
            role: hello.role,
            epoch: hello.epoch,
            connected: true,
            heard_ms: now_ms,
            status: Status::default(),
        };
        let mut sessions = self.lock();
        let status = sessions.get(&hello.sender).map(|old| old.status.clone()).unwrap_or_default();
        sessions.insert(hello.sender.clone(), Session { status, ..session });
    }

    /// A sender gave a sign of life.
    pub fn heard(&self, number: u64, sender: &SiteId, status: Status, now_ms: i64) {
        if let Some(session) = self.lock().get_mut(sender).filter(|s| s.number == number) {
            session.heard_ms = now_ms;
            session.status = status;
        }
    }

    /// A session ended; a newer one of the same sender stays.
    pub fn closed(&self, number: u64, sender: &SiteId) {
        if let Some(session) = self.lock().get_mut(sender).filter(|s| s.number == number) {
            session.connected = false;
        }
    }

    /// Forgets everything: another node leads now.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Reports of the sites that spoke to this node directly.
    pub fn reports(&self, now_ms: i64) -> Vec<SiteReport> {
        let sessions = self.lock();
        let sites = sessions.iter().filter(|(_, session)| session.role == Role::Edge);
        let report = |(site, session): (&SiteId, &Session)| {
            let state = self.state_of(session.connected, session.heard_ms, &session.status, now_ms);
            report(site, session.epoch, &self.name, state, session.heard_ms, now_ms, &session.status)
        };
        sites.map(report).collect()
    }

    /// The report of a site that a hub sent.
    pub fn report_of_hub(&self, hub: &SiteId, site: &grey_sync::SiteReport, now_ms: i64) -> SiteReport {
        let state = self.state_of(site.connected, site.last_seen_ms, &site.status, now_ms);
        report(&site.site, site.epoch, hub, state, site.last_seen_ms, now_ms, &site.status)
    }

    /// How a replicated report stands now: time may have passed since it was made.
    pub fn state_now(&self, report: &SiteReport, now_ms: i64) -> SiteState {
        let silent = now_ms.saturating_sub(report.last_seen_ms) > self.thresholds.offline_ms;
        if silent { SiteState::Offline } else { report.state }
    }

    fn state_of(&self, connected: bool, heard_ms: i64, status: &Status, now_ms: i64) -> SiteState {
        if !connected || now_ms.saturating_sub(heard_ms) > self.thresholds.offline_ms {
            SiteState::Offline
        } else if status.oldest_pending_age_ms > self.thresholds.degraded_ms {
            SiteState::Degraded
        } else {
            SiteState::Online
        }
    }
}

fn report(
    site: &SiteId,
    epoch: Epoch,
    hub: &SiteId,
    state: SiteState,
    last_seen_ms: i64,
    now_ms: i64,
    status: &Status,
) -> SiteReport {
    SiteReport {
        site: site.clone(),
        epoch,
        hub: hub.clone(),
        state,
        last_seen_ms,
        reported_ms: now_ms,
        pending: status.pending.map(|p| LanePending { events: p.events, bytes: p.bytes }),
        oldest_pending_age_ms: status.oldest_pending_age_ms,
        accepted_total: status.accepted_total,
    }
}

/// A replicated report as a hub sends it upward.
pub fn upward(report: &SiteReport, state: SiteState) -> grey_sync::SiteReport {
    grey_sync::SiteReport {
        site: report.site.clone(),
        epoch: report.epoch,
        connected: state != SiteState::Offline,
        last_seen_ms: report.last_seen_ms,
        status: Status {
            now_ms: report.last_seen_ms,
            pending: report.pending.map(|p| grey_sync::Pending { events: p.events, bytes: p.bytes }),
            oldest_pending_age_ms: report.oldest_pending_age_ms,
            accepted_total: report.accepted_total,
            dropped_total: 0,
        },
    }
}
