//! Checkpoints: whole states written now and then, each named by the log position it
//! stands for, so that a restart replays little.
//!
//! A checkpoint is written beside the others and appears by a rename, so it is there
//! whole or not at all. One that was damaged later is put aside and the one before it
//! serves, which only makes the replay longer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_disk::{Disk, read_file, write_file_atomic};
use grey_seal::{KeyId, OVERHEAD_BYTES, OpenError, Seal, SealError};

use crate::LogError;
use crate::quarantine::quarantine_file;

const MAGIC: [u8; 8] = *b"greychk\0";
const VERSION: u32 = 1;
/// The state is sealed.
const VERSION_SEALED: u32 = 2;
const HEADER_BYTES: usize = 32;
/// In front of a sealed state, behind the header: algorithm, zeros, key.
const KEY_BYTES: usize = 16;
const PREFIX: &str = "checkpoint-";
const DIGITS: usize = 20;
/// Largest checkpoint in bytes; a state that outgrows it belongs into a store.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 30;

/// A directory of checkpoints.
#[derive(Debug)]
pub struct Checkpoints {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    keep: usize,
    seal: Option<Seal>,
}

/// What a checkpoint file came to.
enum Found {
    State(Vec<u8>),
    KeyMissing(KeyId),
    Damaged,
}

impl Checkpoints {
    /// Opens the checkpoints in `dir`, creating it where missing. The newest `keep`
    /// (at least one) are kept.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, keep: usize) -> Result<Self, LogError> {
        Self::open_sealed(disk, dir, keep, None)
    }

    /// Like [`Checkpoints::open`]; new ones are sealed as `seal` says, and older ones
    /// opened with its keys. It may be the seal of the log that they stand beside.
    pub fn open_sealed(disk: Arc<dyn Disk>, dir: &Path, keep: usize, seal: Option<&Seal>) -> Result<Self, LogError> {
        disk.create_dir_all(dir).map_err(LogError::io("create", dir))?;
        // A record of the log must not pass for a checkpoint.
        let seal = seal.map(|seal| seal.part("checkpoint"));
        Ok(Self { disk, dir: dir.to_owned(), keep: keep.max(1), seal })
    }

    /// Writes the checkpoint for a log position durably, and removes those that are not
    /// kept any more. An earlier one for the same position is replaced.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Full`], [`LogError::Io`], [`LogError::Seal`];
    /// the older ones are still there then.
    pub fn save(&self, position: u64, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.len() as u64 > CHECKPOINT_BYTES_MAX {
            return Err(LogError::TooLarge { len: bytes.len(), limit: CHECKPOINT_BYTES_MAX as usize });
        }
        let path = self.path(position);
        let file = self.encode(position, bytes).map_err(|source| LogError::Seal { path: path.clone(), source })?;
        write_file_atomic(&*self.disk, &path, &file).map_err(LogError::io("write", &path))?;
        let positions = self.list()?;
        let surplus = positions.len().saturating_sub(self.keep);
        // One saved below newer ones is not the one to go.
        self.remove(positions.into_iter().filter(|other| *other != position).take(surplus))
    }

    /// The newest intact checkpoint, or the newest for a position of at most `at_most`,
    /// with its position. Damaged ones on the way are moved to `quarantine/`.
    ///
    /// # Errors
    /// [`LogError::Io`] when the disk cannot be read at all; damage is no error.
    /// [`LogError::KeyMissing`] when the newest intact one is sealed with a key that was
    /// not given: an older one would be no substitute.
    pub fn load_newest(&self, at_most: Option<u64>) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        for position in self.list()?.into_iter().rev().filter(|position| at_most.is_none_or(|limit| *position <= limit))
        {
            let path = self.path(position);
            let overhead = HEADER_BYTES + KEY_BYTES + OVERHEAD_BYTES;
            let found = match read_file(&*self.disk, &path, CHECKPOINT_BYTES_MAX + overhead as u64) {
                Ok(bytes) => self.decode(position, bytes),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    Found::Damaged
                }
                Err(error) => return Err(LogError::io("read", &path)(error)),
            };
            match found {
                Found::State(bytes) => return Ok(Some((position, bytes))),
                Found::KeyMissing(key_id) => return Err(LogError::KeyMissing { key_id, path }),
                Found::Damaged => quarantine_file(&*self.disk, &self.dir, &path),
            };
        }
        Ok(None)
    }

    /// The positions of all checkpoints, lowest first; whether they are intact shows
    /// when they are loaded.
    pub fn list(&self) -> Result<Vec<u64>, LogError> {
        let entries = self.disk.read_dir(&self.dir).map_err(LogError::io("list", &self.dir))?;
        let mut positions: Vec<u64> =
            entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| parse_name(&entry.name)).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    /// Removes the checkpoints for positions below `position`.
    pub fn remove_below(&self, position: u64) -> Result<(), LogError> {
        self.remove(self.list()?.into_iter().filter(|other| *other < position))
    }

    /// Removes the checkpoints for positions above `position`: after a log lost its end,
    /// or a restore, they stand for a history that did not happen.
    pub fn remove_above(&self, position: u64) -> Result<(), LogError> {
        self.remove(self.list()?.into_iter().filter(|other| *other > position))?;
        self.disk.sync_dir(&self.dir).map_err(LogError::io("sync", &self.dir))
    }

    /// Removes the checkpoint for exactly `position`, if there is one: for an owner that
    /// thins by another rule than age.
    pub fn remove_at(&self, position: u64) -> Result<(), LogError> {
        self.remove(self.list()?.into_iter().filter(|other| *other == position))
    }

    fn remove(&self, positions: impl Iterator<Item = u64>) -> Result<(), LogError> {
        for position in positions {
            let path = self.path(position);
            self.disk.remove_file(&path).map_err(LogError::io("remove", &path))?;
        }
        Ok(())
    }

    fn path(&self, position: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{position:0DIGITS$}"))
    }
}

pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl Checkpoints {
    fn encode(&self, position: u64, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let seal = self.seal.as_ref().and_then(|seal| seal.sealing().map(|with| (seal, with)));
        let version = if seal.is_some() { VERSION_SEALED } else { VERSION };
        let mut out = Vec::with_capacity(HEADER_BYTES + KEY_BYTES + bytes.len() + OVERHEAD_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        match seal {
            Some((seal, (algorithm, key_id))) => {
                out.extend_from_slice(&[algorithm.code(), 0, 0, 0, 0, 0, 0, 0]);
                out.extend_from_slice(&key_id.to_bytes());
                seal.sealer()?.seal(seal.place(position).as_ref(), &[bytes], &mut out)?;
            }
            None => out.extend_from_slice(bytes),
        }
        let len = (out.len() - HEADER_BYTES) as u64;
        out[24..32].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    /// The content of a checkpoint file.
    fn decode(&self, position: u64, mut file: Vec<u8>) -> Found {
        let Some(version) = check(position, &mut file) else { return Found::Damaged };
        let mut body = file.split_off(HEADER_BYTES);
        if version == VERSION {
            return Found::State(body);
        }
        let Some((key, sealed)) = body.split_first_chunk_mut::<KEY_BYTES>() else { return Found::Damaged };
        let mut id = [0; 8];
        id.copy_from_slice(&key[8..]);
        let key_id = KeyId::from_bytes(id);
        let Some(seal) = &self.seal else { return Found::KeyMissing(key_id) };
        match seal.open(key_id, position, sealed) {
            Ok(state) => Found::State(state.to_vec()),
            Err(OpenError::KeyMissing { key_id }) => Found::KeyMissing(key_id),
            Err(OpenError::Forged | OpenError::Format) => Found::Damaged,
        }
    }
}

/// The version of an intact checkpoint file.
fn check(position: u64, file: &mut [u8]) -> Option<u32> {
    let version = u32::from_le_bytes(file.get(8..12)?.try_into().ok()?);
    let crc = u32::from_le_bytes(file.get(12..16)?.try_into().ok()?);
    let body_len = u64::from_le_bytes(file.get(24..32)?.try_into().ok()?);
    file[12..16].fill(0);
    let is_intact = file[..8] == MAGIC
        && matches!(version, VERSION | VERSION_SEALED)
        && file[16..24] == position.to_le_bytes()
        && body_len == (file.len() - HEADER_BYTES) as u64
        && crc32c::crc32c(file) == crc;
    is_intact.then_some(version)
}
