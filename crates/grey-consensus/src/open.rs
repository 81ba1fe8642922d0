//! Opening a data directory: what is trusted, what is quarantined, where to start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::Disk;
use grey_log::{Checkpoints, Log, LogError, Recovery};

use crate::checkpoint::{Checkpoint, Kept};
use crate::memory::{CHECKPOINTS_DIR, Files, HardState, Kept as File, LOG_DIR, Member, Memory};
use crate::random::Random;
use crate::runs::Runs;
use crate::store::{Failure, Recent, Store};
use crate::{Config, ConsensusError, entry};

/// What one scan brings while the log's end is read at start, in bytes.
const SCAN_BYTES_MAX: usize = 4 << 20;

/// How a member's data was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A new data directory.
    Fresh,
    /// Everything that was durable is there.
    Intact,
    /// Lost earlier and not yet caught up: it takes part without a vote.
    Rejoining,
    /// Lost now. In a group of several the old files are quarantined and the member
    /// rejoins from its peers. In a group of one only entries below the checkpoint are
    /// gone: the state is whole, and it goes on.
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

/// What [`crate::Group::open`] found.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Where the state machine starts: index and state of the newest checkpoint. The
    /// entries after it come through [`crate::Group::poll`].
    pub checkpoint: Option<(u64, Vec<u8>)>,
    /// How the data was found.
    pub condition: Condition,
    /// The last entry on disk.
    pub last: u64,
    /// Bytes of an unfinished write that were cut off: normal after a crash.
    pub torn_bytes: u64,
    /// Where damaged files went.
    pub quarantine: Option<PathBuf>,
}

/// A directory that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) member: Member,
    pub(crate) store: Option<Store>,
    /// The state machine starts here.
    pub(crate) applied: u64,
    pub(crate) restored: Restored,
}

/// What was read of a member that takes part.
struct Loaded {
    store: Store,
    checkpoint: Option<Checkpoint>,
    torn_bytes: u64,
    /// Lost entries that a group of one can do without.
    harmless: Option<String>,
}

/// Why a directory could not be loaded.
enum LoadError {
    /// It cannot be trusted any more.
    Damaged(String),
    Failed(ConsensusError),
}

impl From<ConsensusError> for LoadError {
    fn from(error: ConsensusError) -> Self {
        match error {
            ConsensusError::Log(error) => error.into(),
            error => Self::Failed(error),
        }
    }
}

impl From<LogError> for LoadError {
    fn from(error: LogError) -> Self {
        match Failure::of(&error) {
            Failure::Damage(reason) => Self::Damaged(reason),
            Failure::Disk(_) => Self::Failed(error.into()),
        }
    }
}

fn damaged<T>(reason: impl Into<String>) -> Result<T, LoadError> {
    Err(LoadError::Damaged(reason.into()))
}

pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: &Config,
    random: &mut Random,
) -> Result<Opened, ConsensusError> {
    disk.create_dir_all(dir).map_err(ConsensusError::io("create", dir))?;
    let files = Files { disk: &**disk, dir };
    let member = match files.member()? {
        File::Missing if files.has_past()? => return start_over(&files, config, random, "its member file is missing"),
        File::Missing => return begin_life(&files, config, random),
        File::Unreadable => return start_over(&files, config, random, "its member file cannot be read"),
        File::Value(member) => member,
    };
    if member.id != config.id || member.members != config.members_sorted() {
        return Err(ConsensusError::Identity {
            path: dir.to_owned(),
            found_id: member.id,
            found_members: member.members,
            id: config.id,
            members: config.members_sorted(),
        });
    }
    let condition = match &member.memory {
        Memory::Fresh => return Ok(without_store(member, Condition::Fresh)),
        Memory::Apart => return Ok(without_store(member, Condition::Rejoining)),
        Memory::Damaged { reason } => {
            let reason = reason.clone();
            return start_over(&files, config, random, &reason);
        }
        Memory::Joining { .. } => Condition::Rejoining,
        Memory::Full => Condition::Intact,
    };
    match load(disk, dir, config) {
        Ok(loaded) => Ok(resume(member, loaded, condition)),
        Err(LoadError::Damaged(reason)) => start_over(&files, config, random, &reason),
        Err(LoadError::Failed(error)) => Err(error),
    }
}

fn without_store(member: Member, condition: Condition) -> Opened {
    let restored = Restored { checkpoint: None, condition, last: 0, torn_bytes: 0, quarantine: None };
    Opened { member, store: None, applied: 0, restored }
}

fn resume(member: Member, loaded: Loaded, condition: Condition) -> Opened {
    let applied = loaded.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.index);
    let restored = Restored {
        checkpoint: loaded.checkpoint.map(|checkpoint| (checkpoint.index, checkpoint.state.to_vec())),
        condition: loaded.harmless.map_or(condition, |reason| Condition::Damaged { reason }),
        last: loaded.store.last(),
        torn_bytes: loaded.torn_bytes,
        quarantine: None,
    };
    Opened { member, store: Some(loaded.store), applied, restored }
}

fn new_member(config: &Config, random: &mut Random, memory: Memory) -> Member {
    Member { id: config.id, members: config.members_sorted(), life: random.name(), memory, genesis: Vec::new() }
}

fn begin_life(files: &Files<'_>, config: &Config, random: &mut Random) -> Result<Opened, ConsensusError> {
    let member = new_member(config, random, Memory::Fresh);
    files.write_member(&member)?;
    Ok(without_store(member, Condition::Fresh))
}

/// Puts away what cannot be trusted and begins a new life that remembers nothing but that.
fn start_over(files: &Files<'_>, config: &Config, random: &mut Random, reason: &str) -> Result<Opened, ConsensusError> {
    let reason = reason.to_owned();
    if config.members.len() == 1 {
        return Err(ConsensusError::OnlyCopyDamaged { path: files.dir.to_owned(), reason });
    }
    let quarantine = files.quarantine()?;
    let member = new_member(config, random, Memory::Apart);
    files.write_member(&member)?;
    let mut opened = without_store(member, Condition::Damaged { reason });
    opened.restored.quarantine = quarantine;
    Ok(opened)
}

/// Creates the log of a member that begins to take part, with what it must remember already.
pub(crate) fn begin(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: &Config,
    hard: HardState,
) -> Result<Store, ConsensusError> {
    let (mut log, _) = Log::open(Arc::clone(disk), &dir.join(LOG_DIR), config.log)?;
    if (log.first_index(), log.next_index()) != (1, 1) {
        log.reset(1)?;
    }
    let checkpoints = Checkpoints::open(Arc::clone(disk), &dir.join(CHECKPOINTS_DIR), usize::MAX)?;
    let mut checkpoints = Kept::new(checkpoints, config.checkpoints_keep)?;
    checkpoints.remove_below(u64::MAX)?;
    Files { disk: &**disk, dir }.write_hard_state(hard)?;
    Ok(new_store(disk, dir, config, log, checkpoints, hard))
}

fn new_store(disk: &Arc<dyn Disk>, dir: &Path, config: &Config, log: Log, checkpoints: Kept, hard: HardState) -> Store {
    Store {
        disk: Arc::clone(disk),
        dir: dir.to_owned(),
        reader: log.reader(),
        log,
        checkpoints,
        members: config.members_sorted(),
        commit_stored: hard.commit,
        hard,
        base_term: 0,
        runs: Runs::new(0, 0),
        // What is under way twice over: sent and not acknowledged, committed and not applied.
        recent: Recent::new(config.max_inflight_bytes.saturating_mul(2)),
        failure: None.into(),
    }
}

fn load(disk: &Arc<dyn Disk>, dir: &Path, config: &Config) -> Result<Loaded, LoadError> {
    let files = Files { disk: &**disk, dir };
    let hard = match files.hard_state()? {
        File::Value(hard) => hard,
        File::Missing => return damaged("its hard state is missing"),
        File::Unreadable => return damaged("its hard state cannot be read"),
    };
    if !files.holds_files(LOG_DIR)? {
        return damaged("its log is missing");
    }
    let (log, recovery) = Log::open(Arc::clone(disk), &dir.join(LOG_DIR), config.log)?;
    let checkpoints = Checkpoints::open(Arc::clone(disk), &dir.join(CHECKPOINTS_DIR), usize::MAX)?;
    if log.next_index() == 0 {
        return damaged("its log was never begun");
    }
    let checkpoints = Kept::new(checkpoints, config.checkpoints_keep)?;
    let mut store = new_store(disk, dir, config, log, checkpoints, hard);
    finish_install(&files, &mut store)?;
    let is_lone = config.members.len() == 1;
    let checkpoint = choose_checkpoint(&mut store, is_lone)?;
    let harmless = judge(&store, &recovery, is_lone, checkpoint.as_ref())?;
    scan_end(&mut store, checkpoint.as_ref())?;
    if let Some(checkpoint) = &checkpoint {
        store.hard.commit = store.hard.commit.max(checkpoint.index);
    }
    Ok(Loaded { store, checkpoint, torn_bytes: recovery.torn_bytes, harmless })
}

/// Ends the installation of a checkpoint that a crash interrupted, or forgets it when
/// the checkpoint had not been written yet.
fn finish_install(files: &Files<'_>, store: &mut Store) -> Result<(), LoadError> {
    match files.install()? {
        File::Missing => Ok(()),
        File::Unreadable => damaged("its install file cannot be read"),
        File::Value(index) => match store.checkpoints.load(index)? {
            Some((_, checkpoint)) => Ok(store.finish_install(&checkpoint)?),
            None => Ok(files.remove_install()?),
        },
    }
}

/// Finds the base and the newest checkpoint; both must fit the log.
fn choose_checkpoint(store: &mut Store, is_lone: bool) -> Result<Option<Checkpoint>, LoadError> {
    let newest = store.checkpoints.load_at_most(u64::MAX)?.map(|(_, checkpoint)| checkpoint);
    if store.hard.base > 0 {
        match store.checkpoints.load(store.hard.base)? {
            Some((_, base)) => store.base_term = base.term,
            // Nobody will ever ask a lone member for its base.
            None if is_lone => match &newest {
                Some(newest) if newest.index > store.hard.base => {
                    (store.hard.base, store.base_term) = (newest.index, newest.term);
                }
                _ => return damaged("no checkpoint can be read"),
            },
            None => {
                return damaged(format!("checkpoint {}, which the log starts after, cannot be read", store.hard.base));
            }
        }
    }
    if store.log.first_index() > store.first() {
        return damaged(format!("the log starts at {}, not at {}", store.log.first_index(), store.first()));
    }
    let reached = newest.as_ref().map_or(0, |checkpoint| checkpoint.index).max(store.hard.commit);
    if reached > store.last() {
        return damaged(format!("the log ends at {} although {reached} was committed", store.last()));
    }
    Ok(newest.filter(|checkpoint| checkpoint.index >= store.hard.base && checkpoint.index > 0))
}

/// Decides whether what the log lost can be done without.
fn judge(
    store: &Store,
    recovery: &Recovery,
    is_lone: bool,
    checkpoint: Option<&Checkpoint>,
) -> Result<Option<String>, LoadError> {
    // Below the base nothing is needed; a lone member needs nothing below its state.
    let needed_from = if is_lone { checkpoint.map_or(1, |c| c.index + 1) } else { store.first() };
    let mut harmless = None;
    let lost = recovery.damaged.iter().map(|damage| &damage.lost).chain(&recovery.lost_durable);
    for lost in lost.filter(|lost| !lost.is_empty()) {
        let reason = format!("entries {} to {} are lost", lost.start, lost.end - 1);
        if lost.end > needed_from {
            return damaged(reason);
        }
        if lost.end > store.first() || is_lone {
            harmless = Some(reason);
        }
    }
    Ok(harmless)
}

/// Reads the log after the checkpoint: checks it, and learns its terms.
fn scan_end(store: &mut Store, checkpoint: Option<&Checkpoint>) -> Result<(), LoadError> {
    let mut next = store.first();
    if let Some(checkpoint) = checkpoint {
        next = checkpoint.index + 1;
        store.runs = checkpoint.runs.clone();
        store.runs.trim(store.hard.base);
    }
    let last = store.last();
    while next <= last {
        let records: Vec<(u64, Bytes)> = store.reader.scan(next, SCAN_BYTES_MAX)?;
        if records.is_empty() {
            return damaged(format!("entry {next} is missing"));
        }
        for (index, record) in records {
            let Ok(entry) = entry::decode(index, &record) else {
                return damaged(format!("entry {index} does not decode"));
            };
            if index != next || entry.term < store.runs.last_term() || entry.term > store.hard.term {
                return damaged(format!("entry {index} of term {} does not follow", entry.term));
            }
            store.runs.push(index, entry.term);
            store.recent.push(entry);
            next += 1;
        }
    }
    Ok(())
}
