//! Evaluation runs ahead of the disk.
//!
//! While one commit of the intake is being synced, the records behind it are
//! evaluated and wait in the intake's buffer: what the rules decide waits for
//! no disk. What must not run ahead waits here: acknowledgements
//! ([`Flights`]), the outbox and checkpoints, whose state a crash would
//! otherwise find without the records that it came from. A failed sync ends
//! the core, so nothing ever has to be taken back; a full disk is met before
//! the evaluation, since only records are taken ahead that space was set aside
//! for, and else the core waits for the disk.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;

use grey_log::{LogError, PendingSync};

use super::{CoreError, EdgeCore};

/// Who runs the syncs of the intake. One is started at a time.
pub trait Syncer: Send + Debug {
    /// Starts a sync.
    fn start(&mut self, sync: PendingSync);

    /// What the started sync said; `None` when it has not ended, which with `wait` is never.
    fn result(&mut self, wait: bool) -> Option<io::Result<()>>;
}

/// Syncs on the caller's thread.
#[derive(Debug, Default)]
pub(super) struct Inline(Option<io::Result<()>>);

impl Syncer for Inline {
    fn start(&mut self, sync: PendingSync) {
        self.0 = Some(sync.run());
    }

    fn result(&mut self, _: bool) -> Option<io::Result<()>> {
        self.0.take()
    }
}

/// Producers whose records are not durable yet, oldest first.
#[derive(Debug)]
pub struct Flights<D>(VecDeque<Flight<D>>);

#[derive(Debug)]
struct Flight<D> {
    /// The intake must be durable up to here.
    end: u64,
    dones: Vec<D>,
    events: u64,
    started_us: u64,
}

impl<D> Default for Flights<D> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<D> Flights<D> {
    pub(super) fn push(&mut self, end: u64, dones: Vec<D>, events: u64, started_us: u64) {
        self.0.push_back(Flight { end, dones, events, started_us });
    }

    /// Takes those that are durable: whom to answer, events, when it began.
    pub(super) fn landed(&mut self, durable_end: u64) -> Option<(Vec<D>, u64, u64)> {
        if self.0.front()?.end > durable_end {
            return None;
        }
        self.0.pop_front().map(|first| (first.dones, first.events, first.started_us))
    }

    /// Takes all.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = D> + '_ {
        self.0.drain(..).flat_map(|flight| flight.dones)
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl EdgeCore {
    /// Lets another thread run the intake's syncs. The default runs them where they are asked for.
    pub fn set_syncer(&mut self, syncer: Box<dyn Syncer>) {
        self.syncer = syncer;
    }

    /// Records below are durable.
    pub fn durable_end(&self) -> u64 {
        self.intake.durable_end()
    }

    /// Waits until the record to come, of so many bytes, may be appended.
    pub(super) fn make_way(&mut self, bytes: usize) -> Result<(), CoreError> {
        if self.in_flight && !self.intake.has_room_ahead(bytes as u64) { self.drain() } else { Ok(()) }
    }

    /// Starts the sync of what was appended, unless one is under way.
    pub(super) fn begin_sync(&mut self) -> Result<(), CoreError> {
        if !self.in_flight
            && let Some(sync) = self.intake.begin_commit()?
        {
            self.syncer.start(sync);
            self.in_flight = true;
        }
        Ok(())
    }

    /// Takes note of a sync that has ended, and starts the next one. With `wait`, waits for it.
    pub(super) fn settle(&mut self, wait: bool) -> Result<(), CoreError> {
        if !self.in_flight {
            return Ok(());
        }
        let Some(result) = self.syncer.result(wait) else { return Ok(()) };
        self.in_flight = false;
        self.intake.end_commit(result)?;
        self.begin_sync().map_err(|error| match error {
            CoreError::Log(full @ LogError::Full { .. }) => CoreError::FilledBehind(full),
            other => other,
        })
    }

    /// Waits until everything that was evaluated is durable.
    pub(super) fn drain(&mut self) -> Result<(), CoreError> {
        while self.in_flight {
            self.settle(true)?;
        }
        Ok(())
    }
}
