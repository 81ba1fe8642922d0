//! Opening a data directory and replaying the intake.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use grey_clock::HybridClock;
use grey_codec::CodecError;
use grey_disk::Disk;
use grey_ingest::Op;
use grey_log::{Checkpoints, Log, LogConfig, LogError};
use grey_model::{BlockHeader, Epoch, Lane, Seq, Stamp};
use grey_queue::{Queue, QueueConfig};
use grey_rules::{Derived, Engine, EngineConfig, Operation, RuleSet};

use super::actions::Actions;
use super::apply::{Nobody, Scratch};
use super::checkpoint::{Checkpoint, Kept, PastLife};
use super::dedup::{Dedup, DedupState};
use super::identity::{Found, Identity, belongs_to};
use super::keys;
use super::ladder::Pressure;
use super::lane::LaneWriter;
use super::origin::{Origin, last_block};
use super::record::{Before, Change, RecordHeader};
use super::{CHECKPOINTS_KEPT, CoreConfig, CoreCounters, CoreError, EdgeCore, record};

/// Operations of one step of the replay: some milliseconds, in which devices wait for their turn.
const STEP_OPS: usize = 1_024;
/// Records looked at from the end for the last stamp, should they be damaged.
const STAMP_LOOKS_MAX: u64 = 1_024;
/// What the outbox sets aside for a full disk.
const RESERVE: &str = "outbox/reserve";
/// Notes of damage kept.
const DAMAGE_MAX: usize = 256;
/// How far a stamp may run ahead of the wall clock, ms.
const CLOCK_DRIFT_MAX_MS: u32 = grey_clock::MAX_DRIFT_MS_DEFAULT;

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
        let found = Self::try_open(Arc::clone(&disk), config.clone(), now_ms, entropy);
        match found {
            // What is set aside for a full disk is there for this.
            Err(error) if error.is_full() && disk.remove_file(Path::new(RESERVE)).is_ok() => {
                Self::try_open(disk, config, now_ms, entropy)
            }
            found => found,
        }
    }

    fn try_open(
        disk: Arc<dyn Disk>,
        config: CoreConfig,
        now_ms: i64,
        entropy: (u64, u64),
    ) -> Result<(Self, Opened), CoreError> {
        let mut opened = Opened::default();
        let seal = |purpose: &str| config.seal.as_ref().map(|seal| seal.with_purpose(purpose));
        if let Some(seal) = &config.seal {
            keys::check(&disk, seal)?;
        }
        let found = Identity::load(&*disk, &config.site, &mut opened.notes)?;
        let fresh = Identity::new(&config.site, now_ms.max(1) as u64, entropy);
        if let Found::Fresh = found {
            fresh.store(&*disk)?;
            opened.fresh = true;
        }
        let place = Path::new("checkpoints");
        let checkpoints =
            Checkpoints::open_sealed(Arc::clone(&disk), place, CHECKPOINTS_KEPT, seal("checkpoints").as_ref())?;
        let checkpoint = load(&checkpoints, &mut opened)?;
        if let Some(checkpoint) = &checkpoint {
            belongs_to(checkpoint.site.as_str(), &config.site, Path::new("checkpoints"))?;
        }
        let intake_config = LogConfig { segment_bytes_max: config.intake_segment_bytes, ..LogConfig::default() };
        let (mut intake, recovery) =
            Log::open_sealed(Arc::clone(&disk), Path::new("intake"), intake_config, seal("intake").as_ref())?;
        opened.notes.extend(recovery.damaged.iter().map(ToString::to_string));
        let dead_config = LogConfig { segment_bytes_max: 8 << 20, ..LogConfig::default() };
        let (dead, lost) =
            Log::open_sealed(Arc::clone(&disk), Path::new("dead-letters"), dead_config, seal("dead-letters").as_ref())?;
        opened.notes.extend(lost.damaged.iter().map(ToString::to_string));

        let (actions, notes) = Actions::open(&disk, Path::new("actions"), seal("actions").as_ref())?;
        opened.notes.extend(notes);

        let queue_state = checkpoint.as_ref().map(|c| c.queue.clone());
        let queue_config = QueueConfig { seal: config.seal.clone(), ..config.queue.clone() };
        let (mut queue, repairs) =
            Queue::open(&disk, Path::new("outbox"), config.site.clone(), queue_config, queue_state)?;
        opened.notes.extend(repairs.into_iter().map(|r| format!("outbox lane {}: {}", r.lane, r.what)));
        let is_lost = matches!(found, Found::Lost);
        let identity = match found {
            Found::Known(identity) => identity,
            Found::Fresh => fresh,
            Found::Lost => {
                if let Some(block) = Lane::ALL.iter().find_map(|lane| last_block(&queue, *lane)) {
                    belongs_to(block.site.as_str(), &config.site, Path::new("outbox"))?;
                }
                fresh.store(&*disk)?;
                opened.notes.push(format!(
                    "both copies of the identity are gone; what else is in the directory is of {}. The key of the id \
                     fingerprints is new: what devices sent before and send again counts once more",
                    config.site
                ));
                fresh
            }
        };
        let origin = match &checkpoint {
            Some(checkpoint) => Origin::of_checkpoint(checkpoint),
            None => Origin::of_logs(&intake, &queue, Epoch(identity.epoch), now_ms, &mut opened),
        };
        if checkpoint.is_none() {
            for lane in Lane::ALL {
                let first =
                    queue.reader().next(lane, 0)?.and_then(|(_, block)| Some(BlockHeader::parse(&block).ok()?.header));
                let (epoch, below) = match first {
                    Some(block) => (block.epoch, block.first_seq),
                    None => (origin.epoch, origin.next_seqs[lane.index()]),
                };
                queue.assume_settled(lane, epoch, below);
            }
        }
        let Origin { epoch, applied, next_seqs, accepted, past, is_blind } = origin;
        let mut dedup_state = checkpoint.as_ref().map_or_else(DedupState::default, |c| c.dedup.clone());
        if is_lost {
            dedup_state.forget_ids();
        }
        let (dedup, notes) = Dedup::open(&disk, Path::new("ids"), identity.id_key, dedup_state, seal("ids").as_ref())?;
        opened.notes.extend(notes);

        let mut clock = HybridClock::new(CLOCK_DRIFT_MAX_MS);
        let rules = match &checkpoint {
            Some(c) => {
                let _ = clock.restore(c.stamp);
                let rules = Arc::new(RuleSet::from_source(&c.rules_source, &*config.library)?);
                Engine::restore(rules, engine_config(&config), &c.rules_state)?
            }
            None => Engine::new(Arc::clone(&config.rules), engine_config(&config)),
        };
        if intake.first_index() > applied {
            let missing = applied..intake.first_index();
            opened.notes.push(format!("intake records {} to {} are missing", missing.start, missing.end));
        }
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
            past,
            rebirth: checkpoint.as_ref().and_then(|c| c.rebirth.clone()),
            checkpoints,
            kept: VecDeque::from_iter(kept),
            applied,
            recovery: Some(recovery),
            part: None,
            is_shaken: is_blind,
            damage: opened.notes.clone(),
            live_applied: [0; 3],
            next_rules,
            boot_seqs: next_seqs,
            staged: Vec::new(),
            staged_bytes: Vec::new(),
            staged_dead: 0,
            staged_receipts: 0,
            pressure: Pressure::default(),
            is_online: true,
            committed: None,
            syncer: Box::new(super::pipeline::Inline::default()),
            in_flight: false,
            derived: Derived::default(),
            scratch: Scratch::default(),
            listener: Box::new(Nobody),
            actions,
            fresh_derived: Vec::new(),
            unwritten: Default::default(),
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
                    self.begin_record(index, record, is_live);
                    self.replay_part(&mut budget)?;
                }
                Ok(None) => {
                    self.applied = index + 1;
                    self.is_shaken = true;
                }
                Err(LogError::Damaged { lost, path, offset, .. }) => {
                    tracing::error!(path = %path.display(), offset, ?lost, "intake records are lost");
                    self.note_damage(format!(
                        "{} is damaged at byte {offset}: intake records {lost:?} are lost",
                        path.display()
                    ));
                    self.skip_lost(lost.end.max(index + 1), to)?;
                }
                Err(error) => return Err(error.into()),
            }
            self.changed = true;
        }
        self.end_boot();
        if self.recovery.as_ref().is_some_and(|recovery| self.applied < recovery.to) {
            if self.part.is_none() && self.bytes_since_checkpoint >= self.config.checkpoint_bytes {
                self.checkpoint(now_ms).or_else(|error| self.met_full_disk(error, now_ms))?;
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
            set.or_else(|error| self.met_full_disk(error, now_ms))?;
        }
        if self.changed {
            self.checkpoint(now_ms).or_else(|error| self.met_full_disk(error, now_ms))?;
        }
        Ok(true)
    }

    fn begin_record(&mut self, index: u64, record: record::Record, is_live: bool) {
        let record::Record { header, ops, change } = record;
        if !is_live {
            self.align(index, &header);
        }
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

    /// Brings the numbers to what a record says they were before it: after damage a replay
    /// derives something else, and what is missing was lost. While the rules' memory is not what it
    /// was, nothing takes a number that the next record says was not given.
    fn align(&mut self, index: u64, header: &RecordHeader) {
        if header.epoch > self.epoch {
            self.begin_life(header.epoch);
        }
        self.lanes.iter_mut().for_each(|writer| writer.set_limit(None));
        let Before::Next(seqs) = header.before else { return };
        for (writer, seq) in self.lanes.iter_mut().zip(seqs) {
            if writer.next_seq() == seq {
                continue;
            }
            self.is_shaken = true;
            writer.lose_to(seq, header.stamp, index);
        }
        if !self.is_shaken {
            return;
        }
        let next = self.intake.read(index + 1).ok().flatten();
        let next = next.and_then(|bytes| RecordHeader::decode(&mut grey_model::Reader::new(&bytes)).ok());
        if let Some(RecordHeader { before: Before::Next(seqs), epoch, .. }) = next
            && epoch == self.epoch
        {
            self.lanes.iter_mut().zip(seqs).for_each(|(writer, seq)| writer.set_limit(Some(seq)));
        }
    }

    /// Goes on in a life that the checkpoint did not know: everything of the one before it is in
    /// the outbox, and so is what was numbered again as it began.
    pub(super) fn begin_life(&mut self, epoch: Epoch) {
        self.past.push(PastLife { epoch: self.epoch, accepted: self.lanes.each_ref().map(LaneWriter::accepted) });
        self.rebirth = None;
        self.epoch = epoch;
        self.keep_counts();
        self.lanes = lane_writers(&self.config, epoch, [0; 3], [0; 3], &self.queue);
        self.set_online(self.is_online);
        self.admit_lanes();
    }

    fn note_damage(&mut self, what: String) {
        if self.damage.len() < DAMAGE_MAX && !self.damage.contains(&what) {
            self.damage.push(what);
        }
        self.is_shaken = true;
    }

    /// The records that were there when the directory was opened are applied.
    fn end_boot(&mut self) {
        let applied = self.applied;
        match &mut self.recovery {
            Some(recovery) if !recovery.has_booted && applied >= recovery.boot_to => recovery.has_booted = true,
            _ => return,
        }
        let newest = Lane::ALL.map(|lane| self.queue.lane(lane).epoch).into_iter().max().unwrap_or_default();
        if newest > self.epoch {
            self.begin_life(newest);
        }
        self.is_shaken = false;
        for lane in Lane::ALL {
            self.lanes[lane.index()].set_limit(None);
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
            let header = RecordHeader::decode(&mut grey_model::Reader::new(&bytes))?;
            if header.epoch > self.epoch {
                self.begin_life(header.epoch);
            }
            for (n, writer) in self.lanes.iter_mut().enumerate() {
                let end = match header.before {
                    Before::Next(seqs) => seqs[n],
                    // What the lost records derived is not known; a device's events are.
                    Before::Recovering(counts) => writer.next_seq() + counts[n].saturating_sub(self.live_applied[n]),
                };
                writer.lose_to(end, header.stamp, self.applied);
            }
        }
        Ok(())
    }
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
        let outbox_end = match state.epoch.cmp(&epoch) {
            Ordering::Less => 0,
            Ordering::Equal => state.end_seq,
            // A life that has ended is in the outbox as a whole.
            Ordering::Greater => Seq::MAX,
        };
        LaneWriter::new(config.site.clone(), epoch, lane, config.lanes[n], next_seqs[n], accepted[n], outbox_end)
    })
}

/// The newest checkpoint that can be read; older ones are fallbacks.
fn load(checkpoints: &Checkpoints, opened: &mut Opened) -> Result<Option<Checkpoint>, CoreError> {
    let listed = checkpoints.list()?;
    let mut at_most = None;
    let mut used = None;
    while let Some((position, bytes)) = checkpoints.load_newest(at_most)? {
        match Checkpoint::decode(&bytes) {
            Ok(checkpoint) => {
                used = Some((position, checkpoint));
                break;
            }
            Err(reason) => opened.notes.push(format!("checkpoint {position} is passed over: {reason}")),
        }
        let Some(below) = position.checked_sub(1) else { break };
        at_most = Some(below);
    }
    let kept = checkpoints.list()?;
    for position in listed.into_iter().filter(|position| !kept.contains(position)) {
        opened.notes.push(format!("checkpoint {position} is damaged and was put aside"));
    }
    Ok(used.map(|(_, checkpoint)| checkpoint))
}
