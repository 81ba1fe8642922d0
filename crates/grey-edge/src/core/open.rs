//! Opening a data directory and replaying the intake.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use grey_clock::HybridClock;
use grey_disk::{Disk, read_file, write_file_atomic};
use grey_log::{Checkpoints, Log, LogConfig, LogError};
use grey_model::{Epoch, Lane, Seq};
use grey_queue::Queue;
use grey_rules::{Derived, Engine, RuleSet};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Kept};
use super::dedup::{Dedup, DedupState};
use super::lane::LaneWriter;
use super::{CHECKPOINTS_KEPT, CoreConfig, CoreCounters, CoreError, EdgeCore, record};

const IDENTITY: &str = "identity.json";
const IDENTITY_BYTES_MAX: u64 = 4096;
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
                let rules = Arc::new(RuleSet::from_source(&c.rules_source)?);
                (Engine::restore(rules, &c.rules_state)?, c.intake_next, c.next_seqs, c.accepted)
            }
            None => (Engine::new(Arc::clone(&config.rules)), intake.first_index(), [0; 3], [0; 3]),
        };
        if intake.next_index() < applied {
            opened.notes.push(format!(
                "the intake ends at record {} but {applied} were applied; it continues there",
                intake.next_index()
            ));
            intake.reset(applied)?;
        }
        let replay_to = intake.durable_end();
        opened.replay = replay_to - applied;
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
            replay_to,
            next_rules,
            boot_seqs: next_seqs,
            staged: Vec::new(),
            staged_bytes: Vec::new(),
            staged_dead: 0,
            committed: None,
            derived: Derived::default(),
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

    /// Applies up to `records` intake records that the last checkpoint did not
    /// see. Returns true when the replay is done; the core takes events then.
    pub fn replay(&mut self, records: u64, now_ms: i64) -> Result<bool, CoreError> {
        if self.rebirth.is_some() {
            self.renumber()?;
        }
        for _ in 0..records {
            if self.is_recovered() {
                break;
            }
            let index = self.applied;
            match self.intake.read(index) {
                Ok(Some(bytes)) => {
                    let record::Record { header, ops, rules } = record::decode(&bytes)?;
                    // A drift beyond the bound is a clock that was set back: the replay only counts upward.
                    let _ = self.clock.restore(header.stamp.max(self.clock.last()));
                    self.bytes_since_checkpoint += bytes.len() as u64;
                    self.apply_record(index, header.stamp, ops.into_iter())?;
                    if let Some(source) = rules {
                        self.apply_rules(Arc::new(RuleSet::from_source(&source)?), header.stamp)?;
                    }
                }
                Ok(None) => self.applied = index + 1,
                Err(LogError::Damaged { lost, path, offset }) => {
                    tracing::error!(path = %path.display(), offset, ?lost, "intake records are lost");
                    self.skip_lost(lost.end.max(index + 1))?;
                }
                Err(error) => return Err(error.into()),
            }
            self.changed = true;
        }
        if !self.is_recovered() {
            return Ok(false);
        }
        for lane in Lane::ALL {
            let lost = self.lanes[lane.index()].end_replay();
            if lost > 0 {
                tracing::error!(%lane, lost, "intake records are lost, but the outbox has their events");
                self.changed = true;
            }
        }
        // What was given up to here has the same numbers in every copy of this directory.
        self.boot_seqs = self.next_seqs();
        if let Some(rules) = self.next_rules.take() {
            self.set_rules(rules, now_ms)?;
        }
        if self.changed {
            self.checkpoint(now_ms)?;
        }
        Ok(true)
    }

    /// Accounts for the events of lost intake records: the next record tells how many there were.
    fn skip_lost(&mut self, next: u64) -> Result<(), CoreError> {
        self.applied = next.min(self.replay_to);
        if self.applied < self.replay_to
            && let Ok(Some(bytes)) = self.intake.read(self.applied)
        {
            let header = record::RecordHeader::decode(&mut grey_model::Reader::new(&bytes))?;
            for lane in Lane::ALL {
                let writer = &mut self.lanes[lane.index()];
                while writer.next_seq() < header.next_seqs[lane.index()] {
                    writer.account(grey_model::Disposition::DroppedDamage, header.stamp, self.applied);
                }
            }
        }
        Ok(())
    }
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
