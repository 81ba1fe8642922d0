//! The replicated outbox: blocks of the log that wait for the tier above.

use std::sync::Arc;

use bytes::Bytes;
use grey_consensus::EntryReader;
use grey_ledger::Command;
use grey_model::Lane;
use grey_sync::{Outbox, OutboxError, Pending, SiteReport, Status};

use crate::core::SharedState;

/// Where a hub's site reports for the tier above come from.
pub type SiteSource = Arc<dyn Fn() -> Vec<SiteReport> + Send + Sync>;

/// Reads waiting blocks; positions are log indexes.
#[derive(Clone)]
pub struct ReplicaOutbox {
    state: SharedState,
    entries: EntryReader,
    sites: SiteSource,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl std::fmt::Debug for ReplicaOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaOutbox").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl ReplicaOutbox {
    /// Reads from a member's state and log. Time comes from `now_ms`, Unix ms.
    pub fn new(
        state: SharedState,
        entries: EntryReader,
        sites: SiteSource,
        now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        Self { state, entries, sites, now_ms }
    }
}

impl Outbox for ReplicaOutbox {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        let Some(waiting) = self.state.read().next_pending(lane, from) else { return Ok(None) };
        let index = waiting.index;
        let entry = self.entries.read(index).map_err(|error| OutboxError(error.to_string()))?;
        let Some(data) = entry else {
            return Err(OutboxError(format!("log entry {index} waits for the tier above but is not in the log")));
        };
        match Command::decode(&data) {
            Ok(Command::Block(block)) => Ok(Some((index, block))),
            _ => Err(OutboxError(format!("log entry {index} is not a block"))),
        }
    }

    fn status(&mut self) -> Status {
        let state = self.state.read();
        let pending = Lane::ALL.map(|lane| {
            let (_, events, bytes) = state.pending(lane);
            Pending { events, bytes }
        });
        let totals = state.totals();
        Status {
            now_ms: (self.now_ms)(),
            pending,
            oldest_pending_age_ms: 0,
            accepted_total: totals.events,
            dropped_total: 0,
        }
    }

    fn sites(&mut self) -> Vec<SiteReport> {
        (self.sites)()
    }
}
