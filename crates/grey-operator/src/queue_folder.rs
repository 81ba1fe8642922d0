//! The logs below a directory: which they are, whose, with which keys, and that no agent
//! is at work on them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use grey_disk::{Disk, Lock, RealDisk};
use grey_model::Lane;
use grey_queue::Stratum;
use grey_seal::{KeySource, Keyring, Seal};

use crate::queue::told;
use crate::queue_files::{CHECKPOINT, FileOwner, IDENTITY, LOCK_FILE, MARKER, SEGMENT, owner};
use crate::world::{Failure, World};

const OUTBOX: &str = "outbox";
/// Folders in folders that are looked into.
const DEPTH_MAX: usize = 4;

/// Keys of sealed logs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KeyArgs {
    /// A file with a key that records may be sealed with; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Vec<PathBuf>,
    /// An environment variable with a key
    #[arg(long, value_name = "NAME")]
    pub(crate) key_env: Vec<String>,
    /// A command that prints a key; its words are split at spaces
    #[arg(long, value_name = "COMMAND")]
    pub(crate) key_command: Vec<String>,
}

impl KeyArgs {
    fn load(&self, world: &mut World<'_>) -> Result<Option<Arc<Keyring>>, Failure> {
        let files = self.key_file.iter().cloned().map(KeySource::File);
        let variables = self.key_env.iter().cloned().map(KeySource::Env);
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect();
        let commands = self.key_command.iter().map(|line| KeySource::Command(words(line)));
        let mut keys = Vec::new();
        for source in files.chain(variables).chain(commands) {
            let loaded = source.load().map_err(|error| Failure::Usage(told(&error)))?;
            if let Some(warning) = loaded.warning {
                writeln!(world.err, "warning: {warning}")?;
            }
            keys.push(loaded.key);
        }
        // Without a key nothing is wrong yet: plain logs need none.
        Ok(Keyring::new(keys).ok().map(Arc::new))
    }
}

/// A log's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFolder {
    /// Below the root.
    pub(crate) path: PathBuf,
    /// What it holds, if it is one of the outbox.
    pub(crate) lane: Option<(Lane, Stratum)>,
}

impl LogFolder {
    fn new(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (lane, stratum) = name.split_once('.').unwrap_or((&name, Stratum::Fresh.as_str()));
        let lane = Lane::ALL.into_iter().find(|known| known.as_str() == lane);
        let stratum = Stratum::ALL.into_iter().find(|known| known.as_str() == stratum);
        let lane = lane.zip(stratum);
        Self { path, lane }
    }
}

/// A directory with logs that nobody else works on.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The data directory.
    pub(crate) root: PathBuf,
    /// Lanes first, in the order of their priority, oldest stratum first.
    pub(crate) logs: Vec<LogFolder>,
    /// Folders with checkpoints.
    pub(crate) checkpoints: Vec<PathBuf>,
    pub(crate) files: Vec<FileOwner>,
    disk: Arc<dyn Disk>,
    keyring: Option<Arc<Keyring>>,
    _lock: Option<Lock>,
}

impl Folder {
    /// Finds the logs below a directory and takes its lock, if it has one.
    pub(crate) fn open(dir: &Path, keys: &KeyArgs, world: &mut World<'_>) -> Result<Self, Failure> {
        let keyring = keys.load(world)?;
        let dir = dir.canonicalize().map_err(|error| Failure::unreadable(dir, error))?;
        let root = root_of(&dir);
        let disk = RealDisk::new(&root);
        // Looking makes no lock file where there is none.
        let lock = match root.join(LOCK_FILE).exists() {
            true => Some(disk.lock().map_err(|error| in_use(&root, &error))?),
            false => None,
        };
        let below = dir.strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
        let mut folder = Self {
            root,
            logs: Vec::new(),
            checkpoints: Vec::new(),
            files: Vec::new(),
            disk: Arc::new(disk),
            keyring,
            _lock: lock,
        };
        folder.walk(&below, 0).map_err(|error| Failure::unreadable(&dir, error))?;
        folder.logs.sort_by_key(|log| (log.lane.is_none(), log.lane, log.path.clone()));
        if folder.logs.is_empty() {
            let problem = "there is no log in it; name a data directory, its outbox, or a log's folder";
            return Err(Failure::unreadable(&dir, problem));
        }
        Ok(folder)
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// What opens a log or checkpoints: their purpose is their path in the data directory.
    pub(crate) fn seal(&self, path: &Path) -> Option<Seal> {
        self.keyring.as_ref().map(|keyring| Seal::opening(Arc::clone(keyring), &path.to_string_lossy()))
    }

    /// That this cannot be read.
    pub(crate) fn unreadable(&self, path: &Path, error: &dyn std::error::Error) -> Failure {
        Failure::unreadable(&self.root.join(path), told(error))
    }

    fn walk(&mut self, dir: &Path, depth: usize) -> io::Result<()> {
        let entries = self.disk.read_dir(dir)?;
        let owners: Vec<_> = entries.iter().map(|entry| owner(dir, &entry.name)).collect();
        let has =
            |wanted: &[&str]| entries.iter().zip(&owners).any(|(entry, owner)| !entry.is_dir && wanted.contains(owner));
        if has(&[SEGMENT, MARKER]) {
            self.logs.push(LogFolder::new(dir.to_owned()));
        }
        if has(&[CHECKPOINT]) {
            self.checkpoints.push(dir.to_owned());
        }
        for (entry, owner) in entries.into_iter().zip(owners) {
            let path = dir.join(&entry.name);
            if !entry.is_dir {
                self.files.push(FileOwner { path, bytes: entry.len, owner });
            } else if depth < DEPTH_MAX {
                self.walk(&path, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The data directory that a directory is, or is part of.
fn root_of(dir: &Path) -> PathBuf {
    if [OUTBOX, IDENTITY[0], IDENTITY[1]].iter().any(|name| dir.join(name).exists()) {
        return dir.to_owned();
    }
    let locked = dir.ancestors().take(3).find(|folder| folder.join(LOCK_FILE).is_file());
    let above_outbox = || dir.ancestors().take(2).find(|folder| folder.ends_with(OUTBOX)).and_then(Path::parent);
    locked.or_else(above_outbox).or(dir.parent()).unwrap_or(dir).to_owned()
}

fn in_use(root: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock => Failure::unreadable(root, "an agent is at work on it; stop it first"),
        _ => Failure::unreadable(&root.join(LOCK_FILE), error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_tell_what_they_hold() {
        let lane = |name: &str| LogFolder::new(PathBuf::from("outbox").join(name)).lane;
        assert_eq!(lane("bulk"), Some((Lane::Bulk, Stratum::Fresh)));
        assert_eq!(lane("critical.packed"), Some((Lane::Critical, Stratum::Packed)));
        assert_eq!((lane("intake"), lane("bulk.old"), lane("bulk.")), (None, None, None));
    }

    #[test]
    fn the_data_directory_is_found_from_inside() {
        let temporary = tempfile::tempdir().unwrap();
        let data = temporary.path().join("data");
        fs::create_dir_all(data.join("outbox/bulk")).unwrap();
        for inside in ["", "outbox", "outbox/bulk"] {
            assert_eq!(root_of(&data.join(inside)), data, "{inside}");
        }
        fs::create_dir_all(data.join("intake")).unwrap();
        assert_eq!(root_of(&data.join("intake")), data);
    }
}
