//! Whose directory it is. Kept twice with checksums, so that damage to one
//! copy is repaired from the other; the site is told from checkpoints and
//! blocks when both are gone.

use std::io;
use std::path::{Path, PathBuf};

use grey_disk::{Disk, read_file, write_file_atomic};
use grey_model::SiteId;
use serde::{Deserialize, Serialize};

use super::CoreError;

/// The copies; the first is the one that older builds know.
const COPIES: [&str; 2] = ["identity.json", "identity-copy.json"];
/// Where damaged copies go.
const QUARANTINE_DIR: &str = "quarantine";
const BYTES_MAX: u64 = 4096;
/// What a directory has that was used before.
const TRACES: [&str; 4] = ["intake", "outbox", "checkpoints", "ids"];

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) site: String,
    /// The first life; later ones are in the checkpoints.
    pub(super) epoch: u64,
    /// Key of the id fingerprints.
    pub(super) id_key: (u64, u64),
    /// CRC-32C of the file without this field. Files of older builds have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32c: Option<u32>,
}

/// What the copies say.
#[derive(Debug)]
pub(super) enum Found {
    /// At least one is sound; all are now.
    Known(Identity),
    /// Nothing was ever here.
    Fresh,
    /// The directory was used, and whose it is must be told from what else is in it.
    Lost,
}

impl Identity {
    pub(super) fn new(site: &SiteId, epoch: u64, id_key: (u64, u64)) -> Self {
        Self { site: site.as_str().into(), epoch, id_key, crc32c: None }
    }

    fn encode(&self) -> Vec<u8> {
        let body = |identity: &Self| serde_json::to_vec(identity).unwrap_or_default();
        let unsigned = Self { crc32c: None, ..self.clone() };
        let crc32c = Some(crc32c::crc32c(&body(&unsigned)));
        body(&Self { crc32c, ..unsigned })
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let found: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if found.crc32c.is_some() && found.encode() != bytes {
            return Err("its checksum does not fit".into());
        }
        Ok(found)
    }

    /// Reads the copies, and mends one from the other. Changes nothing in a directory of another site.
    pub(super) fn load(disk: &dyn Disk, site: &SiteId, notes: &mut Vec<String>) -> Result<Found, CoreError> {
        let has_traces = TRACES.iter().any(|name| disk.exists(Path::new(name)).unwrap_or(true));
        let mut copies = Vec::new();
        for name in COPIES {
            let path = Path::new(name);
            let copy = match read_file(disk, path, BYTES_MAX) {
                Ok(bytes) => Some(Self::decode(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(Err(error.to_string())),
            };
            if let Some(Ok(identity)) = &copy {
                belongs_to(&identity.site, site, path)?;
            }
            copies.push((path, copy));
        }
        let sound = copies.iter().find_map(|(_, copy)| copy.as_ref()?.as_ref().ok()).cloned();
        for (path, copy) in &copies {
            if let Some(Err(reason)) = copy {
                put_aside(disk, path);
                notes.push(format!("{} is damaged ({reason}) and was put aside", path.display()));
            }
        }
        let Some(identity) = sound else {
            return Ok(if has_traces || copies.iter().any(|(_, copy)| copy.is_some()) {
                Found::Lost
            } else {
                Found::Fresh
            });
        };
        let is_older_build = identity.crc32c.is_none();
        let bytes = identity.encode();
        for (path, copy) in copies {
            let is_whole = matches!(&copy, Some(Ok(found)) if found.crc32c.is_some() && found.encode() == bytes);
            if is_whole {
                continue;
            }
            if copy.is_none() && !is_older_build && has_traces {
                notes.push(format!("{} was missing", path.display()));
            }
            // One copy is enough to go on with.
            if let Err(error) = write(disk, path, &bytes) {
                notes.push(format!("a copy of the identity is missing: {error}"));
            }
        }
        Ok(Found::Known(identity))
    }

    /// Writes both copies.
    pub(super) fn store(&self, disk: &dyn Disk) -> Result<(), CoreError> {
        let bytes = self.encode();
        COPIES.iter().try_for_each(|name| write(disk, Path::new(name), &bytes))
    }
}

/// Refuses what another site wrote.
pub(super) fn belongs_to(found: &str, site: &SiteId, path: &Path) -> Result<(), CoreError> {
    if found == site.as_str() {
        return Ok(());
    }
    Err(CoreError::OtherSite { path: path.into(), found: found.into(), expected: site.clone() })
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), CoreError> {
    write_file_atomic(disk, path, bytes).map_err(|source| CoreError::Io { action: "write", path: path.into(), source })
}

/// Keeps the evidence. Worth having, and never worth failing for.
fn put_aside(disk: &dyn Disk, path: &Path) {
    let dir = Path::new(QUARANTINE_DIR);
    let free = |n: usize| -> Option<PathBuf> {
        let target = dir.join(if n == 0 { path.display().to_string() } else { format!("{}.{n}", path.display()) });
        disk.exists(&target).is_ok_and(|exists| !exists).then_some(target)
    };
    if disk.create_dir_all(dir).is_ok()
        && let Some(target) = (0..16).find_map(free)
        && disk.rename(path, &target).is_ok()
    {
        let _ = disk.sync_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_disk::SimDisk;

    fn site() -> SiteId {
        SiteId::new("site-1").unwrap()
    }

    fn stored() -> (SimDisk, Identity) {
        let disk = SimDisk::new(1);
        let identity = Identity::new(&site(), 1_767_225_600_000, (u64::MAX, 1));
        identity.store(&disk).unwrap();
        (disk, identity)
    }

    fn known(disk: &SimDisk) -> (Identity, Vec<String>) {
        let mut notes = Vec::new();
        match Identity::load(disk, &site(), &mut notes).unwrap() {
            Found::Known(identity) => (Identity { crc32c: None, ..identity }, notes),
            other => panic!("{other:?}"),
        }
    }

    type Blow = Box<dyn Fn(&SimDisk)>;

    #[test]
    fn either_copy_mends_the_other_whatever_became_of_it() {
        let (_, identity) = stored();
        for copy in COPIES {
            let len = identity.encode().len() as u64;
            let blows: Vec<Blow> = (0..len)
                .map(|at| -> Blow { Box::new(move |disk| disk.flip(Path::new(copy), at, (at % 8) as u8).unwrap()) })
                .chain([
                    Box::new(move |disk: &SimDisk| disk.truncate(Path::new(copy), len / 2).unwrap()) as Blow,
                    Box::new(move |disk: &SimDisk| disk.zero(Path::new(copy), 0, len).unwrap()),
                    Box::new(move |disk: &SimDisk| disk.lose(Path::new(copy)).unwrap()),
                ])
                .collect();
            for blow in blows {
                let (disk, identity) = stored();
                disk.create_dir_all(Path::new("intake")).unwrap();
                blow(&disk);
                let (found, notes) = known(&disk);
                assert_eq!((found, notes.len()), (identity.clone(), 1), "{notes:?}");
                assert_eq!(known(&disk), (identity, Vec::new()), "mended");
            }
        }
    }

    #[test]
    fn what_an_older_build_wrote_is_taken_over() {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new(COPIES[0]), grey_disk::OpenMode::CreateNew).unwrap();
        file.write_at(br#"{"site":"site-1","epoch":7,"id_key":[1,2]}"#, 0).unwrap();
        disk.create_dir_all(Path::new("intake")).unwrap();
        let (found, notes) = known(&disk);
        assert_eq!((found, notes), (Identity::new(&site(), 7, (1, 2)), Vec::new()));
        disk.lose(Path::new(COPIES[0])).unwrap();
        assert_eq!(known(&disk).0.epoch, 7, "the copy was made");
    }

    #[test]
    fn another_site_is_refused_also_by_its_copy() {
        let (disk, _) = stored();
        let other = SiteId::new("site-2").unwrap();
        for lost in [None, Some(COPIES[0])] {
            lost.iter().for_each(|name| disk.lose(Path::new(name)).unwrap());
            let error = Identity::load(&disk, &other, &mut Vec::new()).unwrap_err();
            assert!(matches!(error, CoreError::OtherSite { .. }), "{error}");
        }
    }

    #[test]
    fn an_empty_directory_is_fresh_and_a_used_one_without_copies_is_not() {
        let disk = SimDisk::new(1);
        assert!(matches!(Identity::load(&disk, &site(), &mut Vec::new()), Ok(Found::Fresh)));
        disk.create_dir_all(Path::new("outbox")).unwrap();
        assert!(matches!(Identity::load(&disk, &site(), &mut Vec::new()), Ok(Found::Lost)));
    }
}
