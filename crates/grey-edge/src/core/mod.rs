//! The edge as a deterministic state machine over its intake log.
//!
//! Owned by one thread. Each round: [`EdgeCore::stage`] what devices sent,
//! [`EdgeCore::commit`] it with one fsync, acknowledge the devices,
//! [`EdgeCore::apply`] the rules, and [`EdgeCore::flush`] blocks that are due
//! into the outbox. [`EdgeCore::checkpoint`] shortens the replay.
//!
//! What must hold: the state after record *n* is a function of the records up
//! to *n* alone. Time enters as the stamp of a record; nothing here reads a
//! clock, a socket or the environment.

mod actions;
mod apply;
mod books;
mod checkpoint;
mod dedup;
mod identity;
mod keys;
mod ladder;
mod lane;
mod open;
mod origin;
mod pipeline;
mod query;
mod record;
mod round;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use grey_clock::HybridClock;
use grey_codec::CodecError;
use grey_disk::Disk;
use grey_ingest::Op;
use grey_log::{Checkpoints, Log, LogError};
use grey_model::{BlockError, BlockHeader, Epoch, Event, Lane, Seq, SiteId, Stamp, StreamKey};
use grey_queue::{Queue, QueueConfig, QueueError, QueueReader, UplinkReader};
use grey_rules::{Derived, DerivedEvent, Engine, Library, NoModels, RuleError, RuleSet};
use grey_seal::Seal;

use checkpoint::{Checkpoint, Kept, PastLife, Rebirth};
use dedup::Dedup;
use lane::LaneWriter;
use record::{Before, Change, OPS_MAX, RecordHeader, encode_op};

pub use actions::Request;
pub use apply::{Listener, OperateError};
pub use ladder::{Folder, LadderCounters};
pub use lane::LanePolicy;
pub use open::{Opened, Progress};
pub use pipeline::{Flights, Syncer};
pub use query::{LocalEvent, LocalPage, LocalPosition, LocalQuery};
pub use round::RoundDriver;

/// Bytes of one intake record before a commit is due.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Checkpoints kept; reclaiming stops at the oldest.
const CHECKPOINTS_KEPT: usize = 3;
/// Bytes of dead letters kept; older ones go first.
const DEAD_LETTER_BYTES_MAX: u64 = 64 << 20;

/// How the core behaves.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The site's id. A data directory belongs to one site for ever.
    pub site: SiteId,
    /// What is evaluated and forwarded.
    pub rules: Arc<RuleSet>,
    /// Where the models of a checkpoint's rules, and of those in the intake, come from.
    pub library: Arc<dyn Library>,
    /// Threads that evaluate events, 1: the engine's alone.
    pub workers: usize,
    /// When blocks are closed, by lane index.
    pub lanes: [LanePolicy; 3],
    /// Limits of the outbox.
    pub queue: QueueConfig,
    /// What records on disk are sealed with and opened with; `None`: they are plain.
    pub seal: Option<Seal>,
    /// How long raw events stay for local queries, ms.
    pub intake_retention_ms: i64,
    /// Bytes of the intake log beyond what a replay needs.
    pub intake_bytes_max: u64,
    /// Size of an intake segment.
    pub intake_segment_bytes: u64,
    /// A checkpoint is due after this time with changes, ms.
    pub checkpoint_interval_ms: i64,
    /// A checkpoint is due after this many intake bytes: bounds the replay.
    pub checkpoint_bytes: u64,
}

impl CoreConfig {
    /// The defaults of a site with a rule set.
    pub fn new(site: SiteId, rules: Arc<RuleSet>) -> Self {
        Self {
            site,
            rules,
            library: Arc::new(NoModels),
            workers: 1,
            lanes: Lane::ALL.map(LanePolicy::default_for),
            queue: QueueConfig::default(),
            seal: None,
            intake_retention_ms: 3_600_000,
            intake_bytes_max: 1 << 30,
            intake_segment_bytes: 32 << 20,
            checkpoint_interval_ms: 30_000,
            checkpoint_bytes: 32 << 20,
        }
    }
}

/// Why the core could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// A log failed. [`CoreError::is_full`] tells whether waiting may help.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The outbox failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file system refused an operation.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The directory is another site's.
    #[error("{path} belongs to site {found}, not {expected}: use that site's id or another data directory", path = path.display())]
    OtherSite {
        /// The identity file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: SiteId,
    },
    /// The rules of a checkpoint, or their state, cannot be loaded.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// An event could not be encoded or decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A block that was just built does not parse.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A checkpoint could not be written.
    #[error("checkpoint cannot be written: {0}")]
    Checkpoint(#[from] postcard::Error),
    /// The disk filled up under events that were evaluated and not acknowledged.
    #[error(
        "the disk had no room for what was evaluated ahead of it ({0}); free space and start again: devices send again what was not acknowledged"
    )]
    FilledBehind(LogError),
}

impl CoreError {
    /// True when what is on disk is sealed with a key that was not given: nothing was changed, and
    /// nothing is lost.
    pub fn is_key_missing(&self) -> bool {
        matches!(
            self,
            Self::Log(LogError::KeyMissing { .. }) | Self::Queue(QueueError::Log(LogError::KeyMissing { .. }))
        )
    }

    /// True when the disk is full: nothing was lost, and trying again later may succeed.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Log(log) | Self::Queue(QueueError::Log(log)) => matches!(log, LogError::Full { .. }),
            Self::Queue(QueueError::Io { source, .. }) | Self::Io { source, .. } => grey_disk::is_full(source),
            _ => false,
        }
    }
}

/// Why an operation was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// The outbox is full, or more was taken while recovering than may wait: producers must wait.
    #[error("the site is full: {pending} of {limit} bytes wait")]
    Full {
        /// Bytes waiting.
        pending: u64,
        /// The limit.
        limit: u64,
    },
    /// The replay after a restart has not begun.
    #[error("the site has not begun to recover")]
    Recovering,
}

/// Counters since the core was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreCounters {
    /// Intake records committed.
    pub commits: u64,
    /// Device events committed.
    pub events: u64,
    /// Bytes committed to the intake.
    pub intake_bytes: u64,
    /// Blocks handed to the outbox.
    pub blocks: u64,
    /// Bytes handed to the outbox.
    pub block_bytes: u64,
    /// Dead letters stored.
    pub dead_letters: u64,
    /// Events that rules derived (alerts, aggregates).
    pub derived: u64,
    /// Checkpoints saved.
    pub checkpoints: u64,
}

/// The edge core. See the module's page.
#[derive(Debug)]
pub struct EdgeCore {
    config: CoreConfig,
    epoch: Epoch,
    intake: Log,
    dead: Log,
    queue: Queue,
    rules: Engine,
    clock: HybridClock,
    dedup: Dedup,
    lanes: [LaneWriter; 3],
    past: Vec<PastLife>,
    rebirth: Option<Rebirth>,
    checkpoints: Checkpoints,
    kept: VecDeque<Kept>,
    /// Records below are applied.
    applied: u64,
    /// What the replay has to do; it ends when this does.
    recovery: Option<open::Recovery>,
    /// The record that is being replayed, where it takes more than one step.
    part: Option<open::Part>,
    /// The replay met damage: rules do not remember what they did.
    is_shaken: bool,
    /// What was found damaged since the core was opened.
    damage: Vec<String>,
    /// Device events by lane in the applied records of the latest recovery: tells what lost records held.
    live_applied: [u64; 3],
    /// Rules to change to once the replay is done.
    next_rules: Option<Arc<RuleSet>>,
    /// The next sequences when this process had recovered, by lane: those below have the same
    /// numbers in every copy of this directory.
    boot_seqs: [Seq; 3],
    staged: Vec<Op>,
    staged_bytes: Vec<u8>,
    staged_dead: u64,
    /// How many of the staged operations are receipts of the outbox; they stand first.
    staged_receipts: usize,
    pressure: ladder::Pressure,
    /// Somebody takes blocks.
    is_online: bool,
    committed: Option<(Stamp, u64)>,
    syncer: Box<dyn Syncer>,
    /// A commit of the intake is being synced; records behind it wait in the intake's buffer.
    in_flight: bool,
    derived: Derived,
    scratch: apply::Scratch,
    fresh_derived: Vec<DerivedEvent>,
    listener: Box<dyn Listener>,
    actions: actions::Actions,
    /// Closed blocks whose records are not durable yet, or that the outbox has no room for.
    unwritten: [VecDeque<(BlockHeader, Bytes)>; 3],
    last_record_ms: i64,
    last_checkpoint_ms: i64,
    bytes_since_checkpoint: u64,
    changed: bool,
    intake_marks: VecDeque<(i64, u64)>,
    counters: CoreCounters,
    /// Blocks handed to the outbox when a round last said so.
    announced_blocks: u64,
    disk: Arc<dyn Disk>,
}

impl EdgeCore {
    /// Takes operations for the next commit: all of them, or none where one is for a lane that
    /// must wait. Nothing is accepted yet.
    pub fn stage(&mut self, ops: impl IntoIterator<Item = Op>) -> Result<(), StageError> {
        let ops: Vec<Op> = ops.into_iter().collect();
        if let Some(recovery) = &self.recovery {
            if self.rebirth.is_some() {
                return Err(StageError::Recovering);
            }
            // The replay must come after what is taken meanwhile.
            if recovery.live_bytes >= self.config.intake_bytes_max {
                return Err(StageError::Full { pending: recovery.live_bytes, limit: self.config.intake_bytes_max });
            }
        }
        self.check_room(&ops)?;
        for op in ops {
            match op {
                Op::DeadLetter { topic, payload, reason } => self.stage_dead(&topic, &payload, &reason),
                Op::Event { event, .. } if over_limit(&event).is_some() => self.stage_refused(&event),
                Op::Events { events, .. } if events.iter().any(|(event, _)| over_limit(event).is_some()) => {
                    events.iter().for_each(|(event, _)| self.stage_refused(event));
                }
                op => {
                    encode_op(&op, &mut self.staged_bytes);
                    self.staged.push(op);
                }
            }
        }
        Ok(())
    }

    fn stage_refused(&mut self, event: &Event) {
        let reason = over_limit(event).unwrap_or_else(|| "another event of the same publish is over a limit".into());
        self.stage_dead(&format!("{}/{}", event.device, event.stream), b"", &reason);
    }

    fn stage_dead(&mut self, topic: &str, payload: &[u8], reason: &str) {
        let letter = serde_json::json!({
            "topic": topic,
            "reason": reason,
            "payload": String::from_utf8_lossy(&payload[..payload.len().min(65_536)]),
            "payload_bytes": payload.len(),
        });
        // A full buffer shows at the commit; nothing is acknowledged before that.
        if self.dead.append(letter.to_string().as_bytes()).is_ok() {
            self.staged_dead += 1;
        }
    }

    /// True when the next commit should not wait for more.
    pub fn wants_commit(&self) -> bool {
        self.staged_bytes.len() >= RECORD_BYTES_MAX || self.staged.len() as u64 >= OPS_MAX / 2
    }

    /// Makes everything staged durable with one intake record. After `Ok` the
    /// devices may be acknowledged and [`EdgeCore::apply`] must follow. After
    /// an error nothing of it is accepted. While the site recovers, the record stands
    /// behind those that are still to be replayed, and is applied in its turn.
    pub fn commit(&mut self, now_ms: i64, uncertainty_ms: u32) -> Result<(), CoreError> {
        self.write(now_ms, uncertainty_ms)?;
        self.drain()
    }

    /// As [`EdgeCore::commit`], but the record may still be on its way to the disk:
    /// nobody may be acknowledged before [`EdgeCore::durable_end`] is behind it.
    fn write(&mut self, now_ms: i64, uncertainty_ms: u32) -> Result<(), CoreError> {
        let mut result = self.try_write(now_ms, uncertainty_ms);
        if let Err(error) = result {
            // With what was set aside there may be room.
            let met = self.met_full_disk(error, now_ms);
            result = met.and_then(|()| self.try_write(now_ms, uncertainty_ms));
        }
        self.staged_bytes.clear();
        if result.is_err() {
            self.staged.clear();
            self.staged_dead = 0;
            self.staged_receipts = 0;
        } else {
            self.receipts_written();
        }
        result
    }

    fn try_write(&mut self, now_ms: i64, uncertainty_ms: u32) -> Result<(), CoreError> {
        if self.staged_dead > 0 {
            let letters = std::mem::take(&mut self.staged_dead);
            self.dead.commit()?;
            self.counters.dead_letters += letters;
        }
        if self.staged.is_empty() {
            return Ok(());
        }
        self.write_record(now_ms, uncertainty_ms, None)
    }

    /// Hands a record of what is staged, or of a change, to the intake.
    fn write_record(&mut self, now_ms: i64, uncertainty_ms: u32, change: Option<&Change>) -> Result<(), CoreError> {
        let stamp = self.clock.now(now_ms, uncertainty_ms);
        let before = match &self.recovery {
            Some(recovery) => Before::Recovering(recovery.live_events),
            None => Before::Next(self.next_seqs()),
        };
        let ops = change.map_or(self.staged.len() as u64, |_| 1);
        let mut head = Vec::with_capacity(64);
        RecordHeader { stamp, epoch: self.epoch, before, ops }.encode(&mut head);
        if let Some(change) = change {
            change.encode(&mut head);
        }
        let bytes = (head.len() + if change.is_some() { 0 } else { self.staged_bytes.len() }) as u64;
        self.make_way(bytes as usize)?;
        let body: &[u8] = if change.is_some() { &[] } else { &self.staged_bytes };
        let index = self.intake.append_parts(&[&head, body])?;
        self.begin_sync()?;
        self.counters.commits += 1;
        self.counters.intake_bytes += bytes;
        self.last_record_ms = now_ms;
        self.changed = true;
        match &mut self.recovery {
            Some(recovery) => {
                recovery.took(index, bytes, &self.staged);
                self.staged.clear();
            }
            None => {
                self.bytes_since_checkpoint += bytes;
                self.committed = Some((stamp, index));
            }
        }
        Ok(())
    }

    /// Hands blocks that are due (or all) to the outbox and makes them
    /// durable. Returns true when the uplink has something new to send.
    pub fn flush(&mut self, now_ms: i64, all: bool) -> Result<bool, CoreError> {
        // A replay flushes at its checkpoints alone: `docs/design/edge-core.md` says why.
        if self.recovery.is_some() && !all {
            return Ok(false);
        }
        let stamp = self.clock.now(now_ms, 0);
        if all {
            self.drain()?;
        }
        // A request that its alert asks for must not be forgotten once the outbox has the alert.
        self.actions.commit()?;
        let mut first_error = None;
        let mut any = false;
        for lane in Lane::ALL {
            let unwritten = &mut self.unwritten[lane.index()];
            for block in self.lanes[lane.index()].take_closed(stamp, self.applied, all) {
                unwritten.push_back((BlockHeader::parse(&block)?.header, block));
            }
            // The outbox must never hold what a crash may still take from the intake.
            let durable_end = self.intake.durable_end();
            let ready = unwritten.iter().take_while(|(header, _)| header.intake <= durable_end).count();
            if ready == 0 {
                continue;
            }
            match self.queue.write(lane, unwritten.iter().take(ready).map(|(header, block)| (header, block))) {
                Ok(()) => {
                    any = true;
                    self.counters.blocks += ready as u64;
                    self.counters.block_bytes +=
                        unwritten.drain(..ready).map(|(_, block)| block.len() as u64).sum::<u64>();
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) => Err(error.into()),
            None => Ok(any),
        }
    }

    /// A request was answered, or is given up.
    pub fn answered(&mut self, request: u64) {
        self.actions.done(request);
        self.changed = true;
    }

    /// Requests that wait for their answer, and those that there was no room for.
    pub fn requests(&self) -> (usize, u64) {
        (self.actions.waiting(), self.actions.dropped())
    }

    fn has_unwritten(&self) -> bool {
        self.unwritten.iter().any(|blocks| !blocks.is_empty())
    }

    /// When [`EdgeCore::flush`] has something to do, Unix ms.
    pub fn flush_due_ms(&self) -> Option<i64> {
        let now_if_unwritten = self.has_unwritten().then_some(self.last_record_ms);
        self.lanes.iter().filter_map(LaneWriter::due_ms).chain(now_if_unwritten).min()
    }

    /// The parent acknowledged every block of the lane below an outbox position.
    pub fn acknowledged(&mut self, lane: Lane, upto: u64) -> Result<(), CoreError> {
        self.changed = true;
        Ok(self.queue.ack(lane, upto)?)
    }

    /// The parent knows sequences of this life that this directory never gave, of each stream
    /// up to an end: it is older than what was sent from it (restored, or rolled back). Starts
    /// a new life; events that were given since the start and have numbers that the parent
    /// knows as others are numbered again in it. Does nothing for any other life.
    pub fn parent_is_ahead(&mut self, streams: &[(StreamKey, Seq)], now_ms: i64) -> Result<bool, CoreError> {
        let covered_to = |lane: Lane| {
            let own = streams.iter().filter(|(key, _)| key.epoch == self.epoch && key.site == self.config.site);
            own.filter(|(key, _)| key.lane == lane).map(|(_, end)| *end).max().unwrap_or(0)
        };
        let covered_to = Lane::ALL.map(covered_to);
        if !self.is_recovered() || covered_to.iter().zip(&self.boot_seqs).all(|(covered, boot)| covered <= boot) {
            return Ok(false);
        }
        self.flush(now_ms, true)?;
        let given = self.next_seqs();
        let ranges = Lane::ALL.map(|lane| {
            let n = lane.index();
            (self.boot_seqs[n], covered_to[n].clamp(self.boot_seqs[n], given[n]))
        });
        let interrupted = Rebirth { epoch: self.epoch, ranges };
        self.begin_life(Epoch((now_ms.max(0) as u64).max(self.epoch.0 + 1)));
        self.rebirth = Some(interrupted);
        self.boot_seqs = [0; 3];
        self.checkpoint(now_ms)?;
        self.renumber()?;
        self.checkpoint(now_ms)?;
        Ok(true)
    }

    /// Numbers the events of an interrupted life again. Deterministic, so a crash in the midst repeats it.
    fn renumber(&mut self) -> Result<(), CoreError> {
        let Some(Rebirth { epoch, ranges }) = self.rebirth.take() else { return Ok(()) };
        let reader = self.queue.reader();
        for lane in Lane::ALL {
            let (start, end) = ranges[lane.index()];
            let mut position = self.queue.lane(lane).acked;
            while let Some((at, block)) = reader.next(lane, position)? {
                position = at + 1;
                let (header, events) = grey_codec::decode_block(&block)?;
                if header.epoch != epoch || header.range().end <= start || header.first_seq >= end {
                    continue;
                }
                for found in events.into_iter().filter(|e| (start..end).contains(&e.seq)) {
                    let stamp = found.event.stamp;
                    self.lanes[lane.index()].forward(&found.event, stamp, self.applied)?;
                }
            }
        }
        self.changed = true;
        Ok(())
    }

    /// Saves a checkpoint if one is due and lets go of what no kept checkpoint needs.
    pub fn maintain(&mut self, now_ms: i64) -> Result<(), CoreError> {
        // Left over where the disk was full when the replay ended.
        if self.is_recovered()
            && let Some(rules) = self.next_rules.clone()
        {
            self.set_rules(rules, now_ms)?;
            self.next_rules = None;
        }
        let elapsed = now_ms.saturating_sub(self.last_checkpoint_ms);
        let due = elapsed >= self.config.checkpoint_interval_ms
            || elapsed < 0
            || self.bytes_since_checkpoint >= self.config.checkpoint_bytes;
        if due && self.changed && self.is_recovered() {
            self.checkpoint(now_ms)?;
        }
        Ok(())
    }

    /// Flushes everything and saves a checkpoint.
    pub fn checkpoint(&mut self, now_ms: i64) -> Result<(), CoreError> {
        self.end_part()?;
        if self.has_untold() && self.staged.is_empty() && self.is_recovered() {
            // What the outbox has told of counts as told from here on.
            self.stage_receipts();
            self.write(now_ms, 0)?;
            self.apply()?;
        }
        self.flush(now_ms, true)?;
        let checkpoint = Checkpoint {
            site: self.config.site.clone(),
            epoch: self.epoch,
            intake_next: self.applied,
            stamp: self.clock.last(),
            next_seqs: self.next_seqs(),
            accepted: self.lanes.each_ref().map(LaneWriter::accepted),
            past: self.past.clone(),
            rebirth: self.rebirth.clone(),
            rules_source: self.rules.rules().source(),
            rules_state: self.rules.snapshot(),
            dedup: self.dedup.checkpoint()?,
            queue: self.queue.state(),
            dead_letters: self.counters.dead_letters,
        };
        self.actions.checkpoint()?;
        self.checkpoints.save(checkpoint.intake_next, &checkpoint.encode()?)?;
        self.counters.checkpoints += 1;
        self.last_checkpoint_ms = now_ms;
        self.bytes_since_checkpoint = 0;
        self.changed = false;
        self.intake_marks.push_back((now_ms, checkpoint.intake_next));
        let kept = Kept { intake_next: checkpoint.intake_next, queue: checkpoint.queue, dedup: checkpoint.dedup };
        self.kept.push_back(kept);
        while self.kept.len() > CHECKPOINTS_KEPT {
            self.kept.pop_front();
        }
        self.reclaim(now_ms)
    }

    fn reclaim(&mut self, now_ms: i64) -> Result<(), CoreError> {
        let Some(oldest) = self.kept.front().filter(|_| self.kept.len() == CHECKPOINTS_KEPT) else { return Ok(()) };
        self.queue.reclaim(&oldest.queue)?;
        self.dedup.reclaim(&oldest.dedup)?;
        while let Some(&(at, index)) = self.intake_marks.front() {
            let old = at < now_ms.saturating_sub(self.config.intake_retention_ms) || at > now_ms;
            let large = self.intake.bytes() > self.config.intake_bytes_max;
            if index > oldest.intake_next || !(old || large) {
                break;
            }
            self.intake_marks.pop_front();
            self.intake.trim_front(index)?;
        }
        if self.dead.bytes() > DEAD_LETTER_BYTES_MAX {
            let middle = self.dead.first_index() + (self.dead.next_index() - self.dead.first_index()) / 2;
            self.dead.trim_front(middle)?;
        }
        Ok(())
    }

    /// Blocks of the outbox, to look at.
    pub fn outbox(&self) -> QueueReader {
        self.queue.reader()
    }

    /// Where the uplink reads its blocks: what it gives out is never changed again.
    pub fn uplink(&self) -> UplinkReader {
        self.queue.uplink()
    }

    /// Tells whether somebody takes blocks. While nobody does, those of the lower lanes are
    /// closed when they are full, or for a checkpoint, so that they are large.
    pub fn set_online(&mut self, is_online: bool) {
        for lane in [Lane::Normal, Lane::Bulk] {
            self.lanes[lane.index()].set_patient(!is_online);
        }
        self.is_online = is_online;
    }

    /// Where local queries read, on any thread.
    pub fn local_query(&self) -> LocalQuery {
        LocalQuery::new(self.intake.reader(), self.queue.reader())
    }

    /// The outbox, for status.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The site's current life.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The site's id.
    pub fn site(&self) -> &SiteId {
        &self.config.site
    }

    /// The next sequence of each lane.
    pub fn next_seqs(&self) -> [Seq; 3] {
        self.lanes.each_ref().map(LaneWriter::next_seq)
    }

    /// Sequences given in all lives and lanes, derived events included.
    pub fn accepted_total(&self) -> u64 {
        let past: u64 = self.past.iter().flat_map(|life| life.accepted).sum();
        past + self.lanes.iter().map(LaneWriter::accepted).sum::<u64>()
    }

    /// Events of one lane that wait for the parent, the open block included.
    pub fn pending_events(&self, lane: Lane) -> u64 {
        let unwritten: u64 = self.unwritten[lane.index()].iter().map(|(header, _)| u64::from(header.events)).sum();
        self.queue.lane(lane).pending.tally.pending + self.lanes[lane.index()].open().pending + unwritten
    }

    /// Counters since the core was opened.
    pub fn counters(&self) -> CoreCounters {
        self.counters
    }

    /// The rule engine, for status.
    pub fn rules(&self) -> &Engine {
        &self.rules
    }

    /// Ids remembered for deduplication.
    pub fn ids_remembered(&self) -> usize {
        self.dedup.len()
    }

    /// Bytes on disk by what they are for.
    pub fn bytes_on_disk(&self) -> [(&'static str, u64); 5] {
        [
            ("intake", self.intake.bytes()),
            ("outbox", self.queue.bytes_on_disk()),
            ("ids", self.dedup.bytes()),
            ("dead_letters", self.dead.bytes()),
            ("actions", self.actions.bytes()),
        ]
    }

    /// The newest dead letters as JSON lines, at most `limit`.
    pub fn dead_letters(&self, limit: u64) -> Vec<Bytes> {
        let end = self.dead.durable_end();
        let start = self.dead.first_index().max(end.saturating_sub(limit));
        (start..end).rev().filter_map(|index| self.dead.read(index).ok().flatten()).collect()
    }

    /// What was found damaged since the core was opened, and what was done about it.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Free bytes on the disk of the data directory.
    pub fn disk_available(&self) -> Option<u64> {
        self.disk.available_bytes().ok()
    }
}

fn over_limit(event: &Event) -> Option<String> {
    grey_codec::check(event).err().map(|error| error.to_string())
}
