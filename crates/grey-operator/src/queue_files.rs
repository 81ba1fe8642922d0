//! The files of a data directory beside the records of logs: whose they are, and whether
//! checkpoints, the copies of the identity and the lease are sound.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_disk::{Disk, read_file};
use grey_log::{Checkpoints, LogError};
use grey_queue::is_lease;

use crate::queue::told;
use crate::queue_folder::Folder;
use crate::world::Failure;

pub(crate) const LOCK_FILE: &str = "lock";
/// The copies of the site's identity.
pub(crate) const IDENTITY: [&str; 2] = ["identity.json", "identity-copy.json"];
const LEASE: &str = "outbox/lease";
pub(crate) const MARKER_FILE: &str = "synced";
/// Longer ones are no identity and no lease.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(crate) const SEGMENT: &str = "segment";
pub(crate) const MARKER: &str = "marker";
pub(crate) const CHECKPOINT: &str = "checkpoint";
const UNKNOWN: &str = "unknown";

/// A file below the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileOwner {
    /// Below the root.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) owner: &'static str,
}

/// What a file of this name in this folder of a data directory is.
pub(crate) fn owner(dir: &Path, name: &str) -> &'static str {
    let is_numbered = |digits: &str| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if dir.ends_with("quarantine") {
        return "evidence of damage";
    }
    if name.ends_with(".tmp") {
        return "unfinished write";
    }
    if dir.starts_with("models") || dir.starts_with("models-kept") {
        return "model";
    }
    match (dir.to_str().unwrap_or_default(), name) {
        ("", LOCK_FILE) => "lock of the agent",
        ("", "budget") => "what the link used of its budget",
        ("", name) if IDENTITY.contains(&name) => "identity of the site",
        ("outbox", "lease") => "lease of the uplink",
        ("outbox", "reserve") => "space set aside",
        (_, MARKER_FILE) => MARKER,
        (_, name) if name.strip_suffix(".log").is_some_and(is_numbered) => SEGMENT,
        (_, name) if name.strip_prefix("checkpoint-").is_some_and(is_numbered) => CHECKPOINT,
        _ => UNKNOWN,
    }
}

/// What is wrong.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Damaged or lost.
    pub(crate) problems: Vec<String>,
    /// Not to be read without a key.
    pub(crate) sealed: Vec<String>,
}

/// Reads every checkpoint. Damaged ones are moved to `quarantine/` on the disk that is
/// given: an overlay, where nothing is to be changed. Returns how many are intact.
pub(crate) fn read_checkpoints(folder: &Folder, disk: &Arc<dyn Disk>, found: &mut Findings) -> Result<u64, Failure> {
    let mut intact = 0;
    for dir in &folder.checkpoints {
        let fail = |error| folder.unreadable(dir, &error);
        let seal = folder.seal(dir);
        let checkpoints = Checkpoints::open_sealed(Arc::clone(disk), dir, 1, seal.as_ref()).map_err(fail)?;
        for position in checkpoints.list().map_err(fail)? {
            match checkpoints.load_newest(Some(position)) {
                Ok(Some((loaded, _))) if loaded == position => intact += 1,
                Err(error @ LogError::KeyMissing { .. }) => found.sealed.push(told(&error)),
                Err(error) => return Err(fail(error)),
                Ok(_) => found.problems.push(format!(
                    "{}: the checkpoint for position {position} is damaged; an older one or the intake serves",
                    dir.display()
                )),
            }
        }
    }
    Ok(intact)
}

/// Looks at the copies of the identity and at the lease, where they belong to what is looked at.
pub(crate) fn read_small_files(folder: &Folder, found: &mut Findings) -> Result<(), Failure> {
    let has = |path: &str| folder.files.iter().any(|file| file.path == Path::new(path));
    let read = |path: &str| {
        let path = Path::new(path);
        read_file(&*folder.disk(), path, FILE_BYTES_MAX).map_err(|error| folder.unreadable(path, &error))
    };
    let copies: Vec<(&str, Option<Vec<u8>>)> = IDENTITY
        .into_iter()
        .map(|name| Ok((name, if has(name) { Some(read(name)?) } else { None })))
        .collect::<Result<_, Failure>>()?;
    let sound = copies.iter().filter_map(|(_, copy)| copy.as_ref()).find(|copy| is_identity(copy));
    for (name, copy) in &copies {
        let state = match copy {
            Some(copy) if is_identity(copy) => continue,
            Some(_) => "is damaged",
            // Older builds keep one.
            None if sound.is_none_or(|sound| !has_checksum(sound)) => continue,
            None => "is missing",
        };
        let mended = if sound.is_some() { "; the agent mends it from the other copy" } else { "" };
        found.problems.push(format!("{name} {state}{mended}"));
    }
    if has(LEASE) && !is_lease(&read(LEASE)?) {
        found.problems.push(format!("{LEASE} is damaged: all that waits counts as given to the uplink"));
    }
    Ok(())
}

const CHECKSUM: &[u8] = b",\"crc32c\":";

fn has_checksum(copy: &[u8]) -> bool {
    copy.windows(CHECKSUM.len()).any(|part| part == CHECKSUM)
}

/// Whether this is an identity: the last field is the CRC-32C of the document without it.
fn is_identity(copy: &[u8]) -> bool {
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(copy).is_err() {
        return false;
    }
    let Some(at) = copy.windows(CHECKSUM.len()).rposition(|part| part == CHECKSUM) else { return true };
    let checksum = crc32c::crc32c(&[&copy[..at], b"}"].concat());
    copy[at + CHECKSUM.len()..] == *format!("{checksum}}}").as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_tell_the_owner() {
        for (path, expected) in [
            ("intake/00000000000000000007.log", SEGMENT),
            ("intake/7.log", UNKNOWN),
            ("ids/synced", MARKER),
            ("checkpoints/checkpoint-00000000000000000007", CHECKPOINT),
            ("identity.json", "identity of the site"),
            ("outbox/identity.json", UNKNOWN),
            ("outbox/lease", "lease of the uplink"),
            ("outbox/bulk/lease", UNKNOWN),
            ("outbox/bulk/quarantine/00000000000000000000.log.at-96", "evidence of damage"),
            ("models-kept/pump/1/model.onnx", "model"),
            ("notes.txt", UNKNOWN),
        ] {
            let path = Path::new(path);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(owner(path.parent().unwrap(), name), expected, "{}", path.display());
        }
    }

    #[test]
    fn an_identity_is_held_against_its_checksum() {
        let body = br#"{"site":"site-1","epoch":7,"id_key":[1,2]}"#;
        assert!(is_identity(body), "of an older build");
        let checksum = crc32c::crc32c(body);
        let sound = format!(r#"{{"site":"site-1","epoch":7,"id_key":[1,2],"crc32c":{checksum}}}"#);
        assert!(is_identity(sound.as_bytes()));
        assert!(!is_identity(sound.replace("site-1", "site-2").as_bytes()));
        assert!(!is_identity(b"{\"site\":") && !is_identity(&[]));
    }
}
