//! What the outbox's ladder asks of the core: receipts told through the
//! intake, folds run elsewhere, space given back early, and new events taken,
//! sampled or refused lane by lane.

use std::fmt::Debug;

use grey_ingest::Op;
use grey_model::{Event, Lane};
use grey_queue::{Admission, FoldJob, Folded, HYSTERESIS_PERCENT, Level, OnFull, Reason, Receipt, ReceiptKind, Step};

use super::record::encode_op;
use super::{CoreError, EdgeCore, StageError};

/// Folds taken over in one round where they run on the caller's thread.
const FOLDS_PER_ROUND: usize = 4;
/// Shortest time between two checkpoints that are taken to give space back, ms.
const RELIEF_INTERVAL_MS: i64 = 1_000;
/// Bytes of closed blocks that may wait for room in the outbox before everybody waits.
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;
/// Free bytes that devices leave to folds and checkpoints on a full disk where nothing is set aside.
const TIGHT_BYTES: u64 = 256 << 10;
/// Receipts that wait for the intake: beyond, the outbox is not asked for more.
const RECEIPTS_WAITING_MAX: usize = 1_024;

/// Who runs folds. One is started at a time.
pub trait Folder: Send + Debug {
    /// Starts a fold.
    fn start(&mut self, job: FoldJob);

    /// What the started fold made; `None` while it runs.
    fn result(&mut self) -> Option<Folded>;
}

/// Folds on the caller's thread.
#[derive(Debug, Default)]
pub(super) struct InlineFolder(Option<Folded>);

impl Folder for InlineFolder {
    fn start(&mut self, job: FoldJob) {
        self.0 = Some(job.run());
    }

    fn result(&mut self) -> Option<Folded> {
        self.0.take()
    }
}

/// What was lost or made coarser, and what was done for it, since the core was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LadderCounters {
    /// Changes of level.
    pub steps: u64,
    /// Folds taken over.
    pub folds: u64,
    /// Bytes that folds gave back.
    pub folded_bytes: u64,
    /// Stored events affected, by lane, and in the order thinned, rolled up, dropped, lost to damage.
    pub affected: [[u64; 4]; 3],
    /// New readings of each lane that were sampled away.
    pub sampled: [u64; 3],
    /// New events of each lane that were not taken.
    pub refused_newest: [u64; 3],
    /// Ranges of sequences that receipts were made for.
    pub ranges: u64,
}

impl LadderCounters {
    /// Events of a lane that are not what was accepted: thinned, rolled up, dropped, lost to
    /// damage, sampled away when new, and not taken when new.
    pub fn by_reason(&self, lane: Lane) -> [u64; 6] {
        let n = lane.index();
        let [thinned, rolled_up, dropped, damaged] = self.affected[n];
        [thinned, rolled_up, dropped, damaged, self.sampled[n], self.refused_newest[n]]
    }
}

/// The core's part of the ladder.
#[derive(Debug)]
pub(super) struct Pressure {
    folder: Box<dyn Folder>,
    folding: bool,
    /// Receipts that the intake does not have yet.
    untold: Vec<Event>,
    counters: LadderCounters,
    relieved_ms: i64,
    /// What was settled then, by lane.
    relieved_acked: [u64; 3],
    last_step: Option<(i64, Step)>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            folder: Box::new(InlineFolder::default()),
            folding: false,
            untold: Vec::new(),
            counters: LadderCounters::default(),
            relieved_ms: i64::MIN,
            relieved_acked: [0; 3],
            last_step: None,
        }
    }
}

impl EdgeCore {
    /// Lets another thread run the folds of the outbox. The default runs them where they are due.
    pub fn set_folder(&mut self, folder: Box<dyn Folder>) {
        self.pressure.folder = folder;
    }

    /// What the ladder did since the core was opened.
    pub fn ladder(&self) -> LadderCounters {
        let LadderCounters { mut sampled, mut refused_newest, .. } = self.pressure.counters;
        for (n, lane) in self.lanes.iter().enumerate() {
            sampled[n] += lane.sampled();
            refused_newest[n] += lane.refused();
        }
        LadderCounters { sampled, refused_newest, ..self.pressure.counters }
    }

    /// Keeps what lanes have counted, before they begin anew.
    pub(super) fn keep_counts(&mut self) {
        let counted = self.ladder();
        self.pressure.counters.sampled = counted.sampled;
        self.pressure.counters.refused_newest = counted.refused_newest;
    }

    /// The latest change of level, and when it was, Unix ms.
    pub fn last_step(&self) -> Option<(i64, Step)> {
        self.pressure.last_step
    }

    /// What a lane does when the outbox is full.
    pub fn on_full(&self, lane: Lane) -> OnFull {
        self.config.queue.on_full[lane.index()]
    }

    /// True when devices of some lane have to wait.
    pub fn is_full(&self) -> bool {
        Lane::ALL.iter().any(|lane| self.queue.admission(*lane) == Admission::Block)
            || (self.queue.is_disk_full() && self.is_tight())
    }

    /// True while a full disk has not been found to have room again.
    pub fn is_disk_full(&self) -> bool {
        self.queue.is_disk_full()
    }

    /// Looks at how full the outbox is, and does what its level asks for. True when the uplink
    /// should send now.
    pub(super) fn climb(&mut self, now_ms: i64) -> Result<bool, CoreError> {
        let step = self.queue.observe(now_ms);
        let stepped = step.is_some_and(|step| self.stepped(step, now_ms));
        self.admit_lanes();
        self.fold(now_ms)?;
        let due = now_ms < self.pressure.relieved_ms
            || now_ms.saturating_sub(self.pressure.relieved_ms) >= RELIEF_INTERVAL_MS;
        let wants = || self.queue.wants_reclaim() || self.queue.is_disk_full() || self.has_drained();
        if due && self.is_recovered() && wants() {
            self.pressure.relieved_ms = now_ms;
            self.pressure.relieved_acked = self.acked();
            self.relieve(now_ms).or_else(|error| self.met_full_disk(error, now_ms))?;
        }
        Ok(stepped)
    }

    fn acked(&self) -> [u64; 3] {
        Lane::ALL.map(|lane| self.queue.lane(lane).acked)
    }

    /// What keeps the level up is settled, and only the older checkpoints hold it.
    fn has_drained(&self) -> bool {
        let left_at = Level::Warning.percent() - HYSTERESIS_PERCENT;
        self.queue.level() > Level::Normal
            && u128::from(self.queue.bytes_pending()) * 100 < u128::from(self.queue.bytes_max()) * u128::from(left_at)
            && self.acked() != self.pressure.relieved_acked
    }

    fn stepped(&mut self, step: Step, now_ms: i64) -> bool {
        let Step { from, to, used, limit } = step;
        if to > from {
            tracing::warn!(%from, %to, used, limit, "the outbox fills up");
        } else {
            tracing::info!(%from, %to, used, limit, "the outbox has more room");
        }
        self.pressure.counters.steps += 1;
        self.pressure.last_step = Some((now_ms, step));
        to > from
    }

    /// Every lane does with new events what the level says; from the first level on blocks do not linger.
    pub(super) fn admit_lanes(&mut self) {
        let hurries = self.queue.level() >= Level::Warning;
        for lane in Lane::ALL {
            let writer = &mut self.lanes[lane.index()];
            writer.set_admission(self.queue.admission(lane));
            writer.set_hurry(hurries);
        }
    }

    /// Takes over what a fold made, and starts the next one that is due.
    fn fold(&mut self, now_ms: i64) -> Result<(), CoreError> {
        for _ in 0..FOLDS_PER_ROUND {
            if self.pressure.folding {
                let Some(folded) = self.pressure.folder.result() else { return Ok(()) };
                self.pressure.folding = false;
                match self.queue.apply(folded) {
                    Ok(applied) => {
                        self.changed = true;
                        let counters = &mut self.pressure.counters;
                        counters.folds += u64::from(!applied.discarded);
                        counters.folded_bytes += applied.bytes_before.saturating_sub(applied.bytes_after);
                    }
                    Err(error) => {
                        let error = CoreError::from(error);
                        if !error.is_full() {
                            return Err(error);
                        }
                        self.met_full_disk(error, now_ms)?;
                        return Ok(());
                    }
                }
                if let Some(step) = self.queue.observe(now_ms) {
                    self.stepped(step, now_ms);
                }
            }
            let Some(job) = self.queue.next_fold() else { return Ok(()) };
            self.pressure.folder.start(job);
            self.pressure.folding = true;
        }
        Ok(())
    }

    /// Saves a checkpoint and lets the older ones go, so that settled blocks are given back at once.
    fn relieve(&mut self, now_ms: i64) -> Result<(), CoreError> {
        self.checkpoint(now_ms)?;
        let Some(newest) = self.kept.pop_back() else { return Ok(()) };
        self.kept.clear();
        self.checkpoints.remove_below(newest.intake_next)?;
        self.queue.reclaim(&newest.queue)?;
        self.dedup.reclaim(&newest.dedup)?;
        if self.queue.is_disk_full() {
            // Raw events for local queries are worth less than what waits.
            self.intake.trim_front(newest.intake_next)?;
            self.intake_marks.retain(|(_, index)| *index >= newest.intake_next);
        }
        self.kept.push_back(newest);
        Ok(())
    }

    /// Takes note of a full disk: what was set aside is let go. Any other error is handed back.
    pub(super) fn met_full_disk(&mut self, error: CoreError, now_ms: i64) -> Result<(), CoreError> {
        if !error.is_full() {
            return Err(error);
        }
        if !self.queue.is_disk_full() {
            tracing::error!(%error, "the disk is full: what is set aside for it is let go");
        }
        if let Some(step) = self.queue.disk_full(now_ms) {
            self.stepped(step, now_ms);
        }
        self.admit_lanes();
        Ok(())
    }

    /// Stages receipts of the outbox as events, in front of what devices send.
    pub(super) fn stage_receipts(&mut self) {
        if !self.is_recovered() {
            return;
        }
        if self.pressure.untold.len() < RECEIPTS_WAITING_MAX {
            for receipt in self.queue.take_receipts() {
                self.count_receipt(&receipt);
                self.pressure.untold.push(receipt.into_event(&self.config.site));
            }
        }
        for event in &self.pressure.untold {
            let op = Op::Event { event: event.clone(), lane: Some(Lane::Critical), qos2: None };
            encode_op(&op, &mut self.staged_bytes);
            self.staged.push(op);
        }
        self.staged_receipts = self.pressure.untold.len();
    }

    /// What was staged is in the intake's buffer.
    pub(super) fn receipts_written(&mut self) {
        self.pressure.untold.drain(..std::mem::take(&mut self.staged_receipts).min(self.pressure.untold.len()));
    }

    /// Receipts that the intake does not have.
    pub(super) fn has_untold(&self) -> bool {
        !self.pressure.untold.is_empty()
    }

    fn count_receipt(&mut self, receipt: &Receipt) {
        let ReceiptKind::Range { lane, epoch, sequences, reason, events, aggregates } = &receipt.kind else { return };
        let counters = &mut self.pressure.counters;
        counters.ranges += 1;
        let n = match reason {
            Reason::ThinnedOnOverflow => 0,
            Reason::RolledUp => 1,
            Reason::DroppedOverflow => 2,
            Reason::DroppedDamage => 3,
        };
        counters.affected[lane.index()][n] += events;
        tracing::warn!(%lane, %epoch, ?sequences, %reason, events, aggregates, "stored events were affected");
    }

    /// Refuses operations where their lane, or all of them, must wait.
    pub(super) fn check_room(&self, ops: &[Op]) -> Result<(), StageError> {
        let full = || {
            let (pending, limit) = (self.queue.bytes_on_disk(), self.queue.bytes_max());
            Err(StageError::Full { pending, limit })
        };
        let unwritten: usize = self.unwritten.iter().flatten().map(|(_, block)| block.len()).sum();
        if unwritten > UNWRITTEN_BYTES_MAX || (self.queue.is_disk_full() && self.is_tight()) {
            return full();
        }
        let blocked = Lane::ALL.map(|lane| self.queue.admission(lane) == Admission::Block);
        if blocked == [false; 3] {
            return Ok(());
        }
        let is_blocked = |lane: &Option<Lane>| blocked[lane.unwrap_or(Lane::Bulk).index()];
        let waits = ops.iter().any(|op| match op {
            Op::Event { lane, .. } => is_blocked(lane),
            Op::Events { events, .. } => events.iter().any(|(_, lane)| is_blocked(lane)),
            Op::Release(_) | Op::Reset { .. } | Op::DeadLetter { .. } => false,
        });
        if waits { full() } else { Ok(()) }
    }

    /// What a full disk has left is for folds, receipts and checkpoints.
    fn is_tight(&self) -> bool {
        let needed = (self.config.queue.reserve_bytes / 2).max(TIGHT_BYTES);
        self.disk.available_bytes().is_ok_and(|free| free < needed)
    }
}
