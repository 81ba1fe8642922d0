//! Opening a data directory and replaying the intake.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use grey_clock::HybridClock;
use grey_codec::CodecError;
use grey_disk::{Disk, read_file, write_file_atomic};
use grey_ingest::Op;
use grey_log::{Checkpoints, Log, LogConfig, LogError};
use grey_model::{Epoch, Lane, Seq, Stamp};
use grey_queue::Queue;
use grey_rules::{Derived, Engine, EngineConfig, Operation, RuleSet};
use serde::{Deserialize, Serialize};

use super::actions::Actions;
use super::apply::{Nobody, Scratch};
use super::checkpoint::{Checkpoint, Kept};
use super::dedup::{Dedup, DedupState};
use super::lane::LaneWriter;
use super::record::{Before, Change};
use super::{CHECKPOINTS_KEPT, CoreConfig, CoreCounters, CoreError, EdgeCore, record};

const IDENTITY: &str = "identity.json";
const IDENTITY_BYTES_MAX: u64 = 4096;
/// Operations of one step of the replay: some milliseconds, in which devices wait for their turn.
const STEP_OPS: usize = 1_024;
/// Records looked at from the end for the last stamp, should they be damaged.
const STAMP_LOOKS_MAX: u64 = 1_024;
/// How far a stamp may run ahead of the wall clock, ms.
const CLOCK_DRIFT_MAX_MS: u32 = grey_clock::MAX_DRIFT_MS_DEFAULT;

/// Whose directory it is.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    site: String,
    /// The first life; later ones are in the checkpoints.
    epoch: u64,
    /// Key of the id fingerprints.
    id_key: (u64, u64),
}

/// What opening found.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// The directory was empty.
    pub fresh: bool,
    /// Intake records to replay.
    pub replay: u64,
    /// What was damaged, and what was done about it.
    pub notes: Vec<String>,
}

/// What a replay has to do.
#[derive(Debug)]
pub(super) struct Recovery {
    /// The first record that is replayed.
    from: u64,
    /// Records below were there when the directory was opened.
    boot_to: u64,
    /// That part is done.
    has_booted: bool,
    /// Records below are to be applied; it grows while devices send.
    to: u64,
    /// Device events by lane that were taken meanwhile.
    pub(super) live_events: [u64; 3],
    /// Bytes that were taken meanwhile and are not applied.
    pub(super) live_bytes: u64,
}

impl Recovery {
    /// Notes a record that was written behind those that are replayed.
    pub(super) fn took(&mut self, index: u64, bytes: u64, ops: &[Op]) {
        self.to = index + 1;
        self.live_bytes += bytes;
        self.live_events = plus(self.live_events, count(ops));
    }
}

/// A record that is replayed in parts, so that devices need not wait for the whole of it.
#[derive(Debug)]
pub(super) struct Part {
    index: u64,
    stamp: Stamp,
    ops: std::vec::IntoIter<Op>,
    change: Option<Change>,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Intake records applied.
    pub replayed: u64,
    /// Intake records to apply; more come while devices send.
    pub total: u64,
}

impl EdgeCore {
    /// Opens or creates the data directory at the disk's root. `entropy` keys
    /// the id fingerprints of a new directory. [`EdgeCore::replay`] must follow
    /// until [`EdgeCore::is_recovered`].
    pub fn open(
        disk: Arc<dyn Disk>,
        config: CoreConfig,
        now_ms: i64,
        entropy: (u64, u64),
    ) -> Result<(Self, Opened), CoreError> {
        let mut opened = Opened::default();
        let identity = identity(&disk, &config, now_ms, entropy, &mut opened)?;
        let checkpoints = Checkpoints::open(Arc::clone(&disk), Path::new("checkpoints"), CHECKPOINTS_KEPT)?;
        let checkpoint = load(&checkpoints, &mut opened)?;
        let intake_config = LogConfig { segment_bytes_max: config.intake_segment_bytes, ..LogConfig::default() };
        let (mut intake, recovery) = Log::open(Arc::clone(&disk), Path::new("intake"), intake_config)?;
        opened.notes.extend(recovery.damaged.iter().map(ToString::to_string));
        let dead_config = LogConfig { segment_bytes_max: 8 << 20, ..LogConfig::default() };
        let (dead, _) = Log::open(Arc::clone(&disk), Path::new("dead-letters"), dead_config)?;

        let (actions, notes) = Actions::open(&disk, Path::new("actions"))?;
        opened.notes.extend(notes);

        let epoch = checkpoint.as_ref().map_or(Epoch(identity.epoch), |c| c.epoch);
        let queue_state = checkpoint.as_ref().map(|c| c.queue.clone());
        let (queue, repairs) =
            Queue::open(&disk, Path::new("outbox"), config.site.clone(), config.queue.clone(), queue_state)?;
        opened.notes.extend(repairs.into_iter().map(|r| format!("outbox lane {}: {}", r.lane, r.what)));
        let dedup_state = checkpoint.as_ref().map_or_else(DedupState::default, |c| c.dedup.clone());
        let (dedup, notes) = Dedup::open(&disk, Path::new("ids"), identity.id_key, dedup_state)?;
        opened.notes.extend(notes);

        let mut clock = HybridClock::new(CLOCK_DRIFT_MAX_MS);
        let (rules, applied, next_seqs, accepted) = match &checkpoint {
            Some(c) => {
                let _ = clock.restore(c.stamp);
                let rules = Arc::new(RuleSet::from_source(&c.rules_source, &*config.library)?);
                (
                    Engine::restore(rules, engine_config(&config), &c.rules_state)?,
                    c.intake_next,
                    c.next_seqs,
                    c.accepted,
                )
            }
            None => {
                (Engine::new(Arc::clone(&config.rules), engine_config(&config)), intake.first_index(), [0; 3], [0; 3])
            }
        };
        if intake.next_index() < applied {
            opened.notes.push(format!(
                "the intake ends at record {} but {applied} were applied; it continues there",
                intake.next_index()
            ));
            intake.reset(applied)?;
        }
        let boot_to = intake.durable_end();
        opened.replay = boot_to - applied;
        // Devices are stamped while the replay runs: after everything that was stamped before.
        if let Some(last) = last_stamp(&intake, applied) {
            let _ = clock.restore(last);
        }
        let recovery =
            Recovery { from: applied, boot_to, has_booted: false, to: boot_to, live_events: [0; 3], live_bytes: 0 };
        let lanes = lane_writers(&config, epoch, next_seqs, accepted, &queue);
        // The replay may end with others than it begins with: these take over when it is done.
        let next_rules = Some(Arc::clone(&config.rules));
        let kept = checkpoint.as_ref().map(|c| Kept {
            intake_next: c.intake_next,
            queue: c.queue.clone(),
            dedup: c.dedup.clone(),
        });
        let counters =
            CoreCounters { dead_letters: checkpoint.as_ref().map_or(0, |c| c.dead_letters), ..CoreCounters::default() };
        let core = Self {
            epoch,
            intake,
            dead,
            queue,
            rules,
            clock,
            dedup,
            lanes,
            past: checkpoint.as_ref().map(|c| c.past.clone()).unwrap_or_default(),
            rebirth: checkpoint.as_ref().and_then(|c| c.rebirth.clone()),
            checkpoints,
            kept: VecDeque::from_iter(kept),
            applied,
            recovery: Some(recovery),
            part: None,
            live_applied: [0; 3],
            next_rules,
            boot_seqs: next_seqs,
            staged: Vec::new(),
            staged_bytes: Vec::new(),
            staged_dead: 0,
            committed: None,
            syncer: Box::new(super::pipeline::Inline::default()),
            in_flight: false,
            derived: Derived::default(),
            scratch: Scratch::default(),
            listener: Box::new(Nobody),
            actions,
            fresh_derived: Vec::new(),
            unwritten: Default::default(),
            outbox_refused: false,
            last_record_ms: now_ms,
            last_checkpoint_ms: now_ms,
            bytes_since_checkpoint: 0,
            changed: checkpoint.is_none(),
            intake_marks: VecDeque::from([(now_ms, applied)]),
            counters,
            announced_blocks: 0,
            disk,
            config,
        };
        Ok((core, opened))
    }

    /// True once the replay after a restart is done.
    pub fn is_recovered(&self) -> bool {
        self.recovery.is_none()
    }

    /// How far the replay is; `None` once it is done.
    pub fn recovery(&self) -> Option<Progress> {
        let recovery = self.recovery.as_ref()?;
        Some(Progress { replayed: self.applied - recovery.from, total: recovery.to - recovery.from })
    }

    /// Applies the rest of a record that is replayed in parts: no checkpoint may lie within one.
    pub(super) fn end_part(&mut self) -> Result<(), CoreError> {
        let mut budget = usize::MAX;
        self.replay_part(&mut budget)
    }

    /// Applies intake records that the last checkpoint did not see, up to `records` or
    /// `STEP_OPS` operations. What is taken between two calls is replayed too. Returns
    /// true when the replay is done.
    pub fn replay(&mut self, records: u64, now_ms: i64) -> Result<bool, CoreError> {
        if self.rebirth.is_some() {
            self.renumber()?;
        }
        let mut budget = STEP_OPS;
        for _ in 0..records {
            self.end_boot();
            let Some(recovery) = &self.recovery else { return Ok(true) };
            let (index, to, is_live) = (self.applied, recovery.to, recovery.has_booted);
            if index >= to || budget == 0 {
                break;
            }
            if self.part.is_some() {
                self.replay_part(&mut budget)?;
                continue;
            }
            if index >= self.intake.durable_end() {
                self.drain()?;
            }
            match self.intake.read(index) {
                Ok(Some(bytes)) => {
                    let record = record::decode(&bytes)?;
                    self.bytes_since_checkpoint += bytes.len() as u64;
                    if let Some(recovery) = self.recovery.as_mut().filter(|_| is_live) {
                        recovery.live_bytes = recovery.live_bytes.saturating_sub(bytes.len() as u64);
                    }
                    self.begin_record(index, record);
                    self.replay_part(&mut budget)?;
                }
                Ok(None) => self.applied = index + 1,
                Err(LogError::Damaged { lost, path, offset }) => {
                    tracing::error!(path = %path.display(), offset, ?lost, "intake records are lost");
                    self.skip_lost(lost.end.max(index + 1), to)?;
                }
                Err(error) => return Err(error.into()),
            }
            self.changed = true;
        }
        self.end_boot();
        if self.recovery.as_ref().is_some_and(|recovery| self.applied < recovery.to) {
            if self.part.is_none() && self.bytes_since_checkpoint >= self.config.checkpoint_bytes {
                self.checkpoint(now_ms).or_else(when_full)?;
            }
            return Ok(false);
        }
        self.recovery = None;
        self.last_checkpoint_ms = now_ms;
        if let Some(rules) = self.next_rules.take() {
            let set = self.set_rules(Arc::clone(&rules), now_ms);
            if set.as_ref().is_err_and(CoreError::is_full) {
                self.next_rules = Some(rules);
            }
            set.or_else(when_full)?;
        }
        if self.changed {
            self.checkpoint(now_ms).or_else(when_full)?;
        }
        Ok(true)
    }

    fn begin_record(&mut self, index: u64, record: record::Record) {
        let record::Record { header, ops, change } = record;
        // A drift beyond the bound is a clock that was set back: the replay only counts upward.
        let _ = self.clock.restore(header.stamp.max(self.clock.last()));
        self.live_applied = match header.before {
            Before::Next(_) => [0; 3],
            Before::Recovering(counts) => plus(counts, count(&ops)),
        };
        self.part = Some(Part { index, stamp: header.stamp, ops: ops.into_iter(), change });
    }

    /// Applies as much of the record at hand as the budget of operations allows.
    fn replay_part(&mut self, budget: &mut usize) -> Result<(), CoreError> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        let before = part.ops.len();
        self.apply_ops(part.index, part.stamp, part.ops.by_ref().take(*budget))?;
        *budget = budget.saturating_sub(before - part.ops.len() + 1);
        if part.ops.len() > 0 {
            self.part = Some(part);
            return Ok(());
        }
        let Part { index, stamp, change, .. } = part;
        self.end_record(index, stamp)?;
        match change {
            Some(Change::Rules(source)) => {
                let rules = RuleSet::from_source(&source, &*self.config.library)?;
                self.apply_rules(Arc::new(rules), stamp)?;
            }
            Some(Change::Operation(bytes)) => {
                let operation = Operation::decode(&mut grey_model::Reader::new(&bytes)).map_err(CodecError::from)?;
                // What was refused then is refused again.
                let _ = self.apply_operation(&operation, stamp)?;
            }
            None => {}
        }
        Ok(())
    }

    /// The records that were there when the directory was opened are applied.
    fn end_boot(&mut self) {
        let applied = self.applied;
        match &mut self.recovery {
            Some(recovery) if !recovery.has_booted && applied >= recovery.boot_to => recovery.has_booted = true,
            _ => return,
        }
        for lane in Lane::ALL {
            let lost = self.lanes[lane.index()].end_replay();
            if lost > 0 {
                tracing::error!(%lane, lost, "intake records are lost, but the outbox has their events");
                self.changed = true;
            }
        }
        self.actions.end_replay();
        // What was given up to here has the same numbers in every copy of this directory.
        self.boot_seqs = self.next_seqs();
    }

    /// Accounts for the events of lost intake records: the next record tells how many there were.
    fn skip_lost(&mut self, next: u64, to: u64) -> Result<(), CoreError> {
        self.applied = next.min(to);
        if self.applied < to
            && let Ok(Some(bytes)) = self.intake.read(self.applied)
        {
            let header = record::RecordHeader::decode(&mut grey_model::Reader::new(&bytes))?;
            for lane in Lane::ALL {
                let n = lane.index();
                let writer = &mut self.lanes[n];
                let end = match header.before {
                    Before::Next(seqs) => seqs[n],
                    // What the lost records derived is not known; a device's events are.
                    Before::Recovering(counts) => writer.next_seq() + counts[n].saturating_sub(self.live_applied[n]),
                };
                while writer.next_seq() < end {
                    writer.account(grey_model::Disposition::DroppedDamage, header.stamp, self.applied);
                }
            }
        }
        Ok(())
    }
}

/// The replay goes on when the disk is full; what it could not write is written later.
fn when_full(error: CoreError) -> Result<(), CoreError> {
    if !error.is_full() {
        return Err(error);
    }
    tracing::error!(%error, "the disk is full; nothing is accepted until there is space");
    Ok(())
}

/// Device events of a record by lane.
fn count(ops: &[Op]) -> [u64; 3] {
    let mut counts = [0; 3];
    let mut add = |lane: &Option<Lane>| counts[lane.unwrap_or(Lane::Bulk).index()] += 1;
    for op in ops {
        match op {
            Op::Event { lane, .. } => add(lane),
            Op::Events { events, .. } => events.iter().for_each(|(_, lane)| add(lane)),
            Op::Release(_) | Op::Reset { .. } | Op::DeadLetter { .. } => {}
        }
    }
    counts
}

fn plus(a: [u64; 3], b: [u64; 3]) -> [u64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// The stamp of the last record that can be read.
fn last_stamp(intake: &Log, from: u64) -> Option<Stamp> {
    let end = intake.durable_end();
    (from.max(end.saturating_sub(STAMP_LOOKS_MAX))..end).rev().find_map(|index| {
        let bytes = intake.read(index).ok()??;
        Some(record::RecordHeader::decode(&mut grey_model::Reader::new(&bytes)).ok()?.stamp)
    })
}

/// What the rules are told of the site.
fn engine_config(config: &CoreConfig) -> EngineConfig {
    EngineConfig { workers: config.workers, ..EngineConfig::new(config.site.as_str()) }
}

/// Writers that continue each lane after what the outbox holds of the life.
pub(super) fn lane_writers(
    config: &CoreConfig,
    epoch: Epoch,
    next_seqs: [Seq; 3],
    accepted: [u64; 3],
    queue: &Queue,
) -> [LaneWriter; 3] {
    Lane::ALL.map(|lane| {
        let n = lane.index();
        let state = queue.lane(lane);
        let outbox_end = if state.epoch == epoch { state.end_seq } else { 0 };
        LaneWriter::new(config.site.clone(), epoch, lane, config.lanes[n], next_seqs[n], accepted[n], outbox_end)
    })
}

fn identity(
    disk: &Arc<dyn Disk>,
    config: &CoreConfig,
    now_ms: i64,
    entropy: (u64, u64),
    opened: &mut Opened,
) -> Result<Identity, CoreError> {
    let path = Path::new(IDENTITY);
    let io = |action| move |source| CoreError::Io { action, path: path.into(), source };
    if !disk.exists(path).map_err(io("look for"))? {
        opened.fresh = true;
        let epoch = now_ms.max(1) as u64;
        let identity = Identity { site: config.site.as_str().into(), epoch, id_key: entropy };
        let bytes = serde_json::to_vec(&identity).unwrap_or_default();
        write_file_atomic(disk.as_ref(), path, &bytes).map_err(io("write"))?;
        return Ok(identity);
    }
    let bytes = read_file(disk.as_ref(), path, IDENTITY_BYTES_MAX).map_err(io("read"))?;
    let identity: Identity = serde_json::from_slice(&bytes)
        .map_err(|error| CoreError::Identity { path: path.into(), reason: error.to_string() })?;
    if identity.site != config.site.as_str() {
        let expected = config.site.clone();
        return Err(CoreError::OtherSite { path: path.into(), found: identity.site, expected });
    }
    Ok(identity)
}

/// The newest checkpoint that can be read; older ones are fallbacks.
fn load(checkpoints: &Checkpoints, opened: &mut Opened) -> Result<Option<Checkpoint>, CoreError> {
    let mut at_most = None;
    while let Some((position, bytes)) = checkpoints.load_newest(at_most)? {
        match Checkpoint::decode(&bytes) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(reason) => opened.notes.push(format!("checkpoint {position} is passed over: {reason}")),
        }
        let Some(below) = position.checked_sub(1) else { break };
        at_most = Some(below);
    }
    Ok(None)
}
