//! Keys are looked for before anything is opened: with a missing one nothing
//! in the directory is changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_disk::Disk;
use grey_log::{LogConfig, LogError, Sealing, inspect};
use grey_seal::Seal;

use super::CoreError;

/// The logs beside the outbox's.
const LOGS: [&str; 4] = ["intake", "ids", "dead-letters", "actions"];
const OUTBOX: &str = "outbox";

/// Refuses a directory with records that none of the keys opens.
pub(super) fn check(disk: &Arc<dyn Disk>, seal: &Seal) -> Result<(), CoreError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CoreError::Io { action: "list", path, source }
    };
    let mut dirs: Vec<PathBuf> = LOGS.iter().map(PathBuf::from).collect();
    let outbox = Path::new(OUTBOX);
    if disk.exists(outbox).map_err(io(outbox))? {
        let entries = disk.read_dir(outbox).map_err(io(outbox))?;
        dirs.extend(entries.iter().filter(|entry| entry.is_dir).map(|entry| outbox.join(&entry.name)));
    }
    for dir in dirs {
        if !disk.exists(&dir).map_err(io(&dir))? {
            continue;
        }
        for segment in inspect(Arc::clone(disk), &dir, LogConfig::default(), Some(seal))?.segments {
            if let Sealing::Sealed(_, key_id) = segment.sealing
                && seal.keyring().get(key_id).is_none()
            {
                return Err(LogError::KeyMissing { key_id, path: dir.join(segment.name) }.into());
            }
        }
    }
    Ok(())
}
