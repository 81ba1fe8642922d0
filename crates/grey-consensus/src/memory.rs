//! What a member remembers outside its log: who it is and whether it may vote
//! (`member`), its term and vote (`hard-state`), and where damaged files go.
//!
//! Both files are small, checksummed and replaced atomically. The format is in
//! `docs/design/consensus.md`. This module decides nothing; it keeps what `open`
//! and `join` decide.

use std::path::{Path, PathBuf};

use bytes::BufMut;
use grey_disk::Disk;
use grey_model::{Reader, WireError, Writer};

use crate::ConsensusError;
use crate::config::MEMBERS_MAX;
use crate::entry::NUMBER_MAX;
use crate::wire::{self, Standing};

pub(crate) const MEMBER_FILE: &str = "member";
pub(crate) const HARD_STATE_FILE: &str = "hard-state";
pub(crate) const INSTALL_FILE: &str = "install";
pub(crate) const LOG_DIR: &str = "log";
pub(crate) const CHECKPOINTS_DIR: &str = "checkpoints";
const QUARANTINE_PREFIX: &str = "quarantine-";
const VERSION: u8 = 1;
/// Longest of the small files in bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Longest kept reason in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// What this data directory may be trusted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Memory {
    /// New; has never taken part in anything.
    Fresh,
    /// Lost; the terms of its promises are not known yet.
    Apart,
    /// Lost; every promise that can still matter was made at or below `barrier`.
    Joining {
        /// The highest term that any other member had reached after the loss.
        barrier: u64,
    },
    /// Complete.
    Full,
    /// Found damaged while running; to be quarantined at the next open.
    Damaged {
        /// What was found.
        reason: String,
    },
}

impl Memory {
    /// What peers are told.
    pub(crate) fn standing(&self) -> Standing {
        match self {
            Self::Fresh => Standing::Fresh,
            Self::Apart | Self::Damaged { .. } => Standing::Apart,
            Self::Joining { .. } => Standing::Joining,
            Self::Full => Standing::Full,
        }
    }
}

/// The `member` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: u64,
    /// In ascending order.
    pub(crate) members: Vec<u64>,
    /// Names this data directory from its creation to its loss.
    pub(crate) life: u64,
    pub(crate) memory: Memory,
    /// The lives that this member saw fresh when the group began; empty if it did not.
    pub(crate) genesis: Vec<(u64, u64)>,
}

impl Member {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_varint(self.id);
        out.put_varint(self.members.len() as u64);
        for id in &self.members {
            out.put_varint(*id);
        }
        out.put_u64_le(self.life);
        wire::put_genesis(&self.genesis, &mut out);
        match &self.memory {
            Memory::Joining { barrier } => {
                out.put_u8(2);
                out.put_varint(*barrier);
            }
            Memory::Damaged { reason } => {
                out.put_u8(4);
                let mut end = reason.len().min(REASON_BYTES_MAX);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                out.put_blob(&reason.as_bytes()[..end]);
            }
            memory => out.put_u8(memory.standing().byte()),
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = open_version(bytes)?;
        let id = reader.varint()?;
        let count = reader.count("members", MEMBERS_MAX as u64)?;
        let members = (0..count).map(|_| reader.varint()).collect::<Result<_, _>>()?;
        let life = reader.u64()?;
        let genesis = wire::read_genesis(&mut reader)?;
        let memory = match reader.u8()? {
            0 => Memory::Fresh,
            1 => Memory::Apart,
            2 => Memory::Joining { barrier: reader.count("barrier", NUMBER_MAX)? },
            3 => Memory::Full,
            4 => Memory::Damaged { reason: reader.text("reason", REASON_BYTES_MAX)?.to_owned() },
            _ => return Err(reader.invalid("memory")),
        };
        close(&reader, Self { id, members, life, memory, genesis })
    }
}

/// The `hard-state` file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HardState {
    pub(crate) term: u64,
    /// Who got this member's vote in `term`; 0: nobody yet.
    pub(crate) vote: u64,
    /// A lower bound of what is committed; written when there is occasion.
    pub(crate) commit: u64,
    /// The index of the checkpoint that the log starts after.
    pub(crate) base: u64,
}

impl HardState {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for number in [self.term, self.vote, self.commit, self.base] {
            out.put_varint(number);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = open_version(bytes)?;
        let mut number = || reader.count("hard state", NUMBER_MAX);
        let state = Self { term: number()?, vote: number()?, commit: number()?, base: number()? };
        close(&reader, state)
    }
}

fn open_version(bytes: &[u8]) -> Result<Reader<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? == VERSION { Ok(reader) } else { Err(reader.invalid("file version")) }
}

fn close<T>(reader: &Reader<'_>, value: T) -> Result<T, WireError> {
    if reader.is_empty() { Ok(value) } else { Err(reader.invalid("end of file")) }
}

/// What a small file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept<T> {
    Missing,
    Unreadable,
    Value(T),
}

/// The small files of one data directory.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
}

impl Files<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn member(&self) -> Result<Kept<Member>, ConsensusError> {
        self.read(MEMBER_FILE, Member::decode)
    }

    pub(crate) fn write_member(&self, member: &Member) -> Result<(), ConsensusError> {
        self.write(MEMBER_FILE, member.encode())
    }

    pub(crate) fn hard_state(&self) -> Result<Kept<HardState>, ConsensusError> {
        self.read(HARD_STATE_FILE, HardState::decode)
    }

    pub(crate) fn write_hard_state(&self, state: HardState) -> Result<(), ConsensusError> {
        self.write(HARD_STATE_FILE, state.encode())
    }

    /// The index of a checkpoint whose installation had begun.
    pub(crate) fn install(&self) -> Result<Kept<u64>, ConsensusError> {
        self.read(INSTALL_FILE, |bytes| {
            let mut reader = open_version(bytes)?;
            let index = reader.count("index", NUMBER_MAX)?;
            close(&reader, index)
        })
    }

    pub(crate) fn write_install(&self, index: u64) -> Result<(), ConsensusError> {
        let mut out = vec![VERSION];
        out.put_varint(index);
        self.write(INSTALL_FILE, out)
    }

    pub(crate) fn remove_install(&self) -> Result<(), ConsensusError> {
        let path = self.path(INSTALL_FILE);
        self.disk.remove_file(&path).map_err(ConsensusError::io("remove", &path))?;
        self.disk.sync_dir(self.dir).map_err(ConsensusError::io("sync", self.dir))
    }

    fn read<T>(
        &self,
        name: &str,
        decode: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> Result<Kept<T>, ConsensusError> {
        let path = self.path(name);
        if !self.disk.exists(&path).map_err(ConsensusError::io("look for", &path))? {
            return Ok(Kept::Missing);
        }
        let bytes = match grey_disk::read_file(self.disk, &path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(Kept::Unreadable),
            Err(error) => return Err(ConsensusError::io("read", &path)(error)),
        };
        let Some((covered, sum)) = bytes.split_last_chunk::<4>() else { return Ok(Kept::Unreadable) };
        if crc32c::crc32c(covered) != u32::from_le_bytes(*sum) {
            return Ok(Kept::Unreadable);
        }
        Ok(decode(covered).map_or(Kept::Unreadable, Kept::Value))
    }

    fn write(&self, name: &str, mut bytes: Vec<u8>) -> Result<(), ConsensusError> {
        let path = self.path(name);
        let sum = crc32c::crc32c(&bytes);
        bytes.put_u32_le(sum);
        grey_disk::write_file_atomic(self.disk, &path, &bytes).map_err(ConsensusError::io("write", &path))
    }

    /// True when the directory shows that a member once lived here.
    pub(crate) fn has_past(&self) -> Result<bool, ConsensusError> {
        let entries = self.disk.read_dir(self.dir).map_err(ConsensusError::io("list", self.dir))?;
        Ok(entries.iter().any(|entry| {
            [HARD_STATE_FILE, LOG_DIR, CHECKPOINTS_DIR, INSTALL_FILE].contains(&entry.name.as_str())
                || entry.name.starts_with(QUARANTINE_PREFIX)
        }))
    }

    /// True when a directory of the data directory holds at least one file.
    pub(crate) fn holds_files(&self, name: &str) -> Result<bool, ConsensusError> {
        let path = self.path(name);
        if !self.disk.exists(&path).map_err(ConsensusError::io("look for", &path))? {
            return Ok(false);
        }
        let entries = self.disk.read_dir(&path).map_err(ConsensusError::io("list", &path))?;
        Ok(entries.iter().any(|entry| !entry.is_dir))
    }

    /// Moves everything that a member keeps into the next free `quarantine-N`, the
    /// `member` file last, so that a crash on the way is seen as the loss that it is.
    pub(crate) fn quarantine(&self) -> Result<Option<PathBuf>, ConsensusError> {
        if !self.has_past()?
            && !self.disk.exists(&self.path(MEMBER_FILE)).map_err(ConsensusError::io("look for", self.dir))?
        {
            return Ok(None);
        }
        let mut number = 0_u32;
        let target = loop {
            let path = self.path(&format!("{QUARANTINE_PREFIX}{number}"));
            if !self.disk.exists(&path).map_err(ConsensusError::io("look for", &path))? {
                break path;
            }
            number += 1;
        };
        self.disk.create_dir_all(&target).map_err(ConsensusError::io("create", &target))?;
        for name in [LOG_DIR, CHECKPOINTS_DIR] {
            self.move_tree(&self.path(name), &target.join(name))?;
        }
        for name in [INSTALL_FILE, HARD_STATE_FILE, MEMBER_FILE] {
            let path = self.path(name);
            if self.disk.exists(&path).map_err(ConsensusError::io("look for", &path))? {
                self.disk.rename(&path, &target.join(name)).map_err(ConsensusError::io("quarantine", &path))?;
            }
        }
        for dir in [&target, self.dir] {
            self.disk.sync_dir(dir).map_err(ConsensusError::io("sync", dir))?;
        }
        Ok(Some(target))
    }

    fn move_tree(&self, from: &Path, to: &Path) -> Result<(), ConsensusError> {
        if !self.disk.exists(from).map_err(ConsensusError::io("look for", from))? {
            return Ok(());
        }
        self.disk.create_dir_all(to).map_err(ConsensusError::io("create", to))?;
        for entry in self.disk.read_dir(from).map_err(ConsensusError::io("list", from))? {
            let (source, target) = (from.join(&entry.name), to.join(&entry.name));
            if entry.is_dir {
                self.move_tree(&source, &target)?;
            } else {
                self.disk.rename(&source, &target).map_err(ConsensusError::io("quarantine", &source))?;
            }
        }
        for dir in [to, from] {
            self.disk.sync_dir(dir).map_err(ConsensusError::io("sync", dir))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_disk::SimDisk;

    fn member(memory: Memory) -> Member {
        Member { id: 2, members: vec![1, 2, 3], life: 99, memory, genesis: vec![(1, 5), (2, 99), (3, 6)] }
    }

    #[test]
    fn both_files_round_trip_and_damage_is_seen() {
        let disk = SimDisk::new(1);
        let dir = Path::new("node");
        disk.create_dir_all(dir).expect("create");
        let files = Files { disk: &disk, dir };
        assert_eq!(files.member().expect("read"), Kept::Missing);
        let long = "x".repeat(5000);
        for memory in [
            Memory::Fresh,
            Memory::Apart,
            Memory::Joining { barrier: 7 },
            Memory::Full,
            Memory::Damaged { reason: "bit rot".into() },
        ] {
            files.write_member(&member(memory.clone())).expect("write");
            assert_eq!(files.member().expect("read"), Kept::Value(member(memory)));
        }
        files.write_member(&member(Memory::Damaged { reason: long })).expect("write");
        assert!(matches!(files.member().expect("read"), Kept::Value(_)));
        let state = HardState { term: 3, vote: 1, commit: 1 << 40, base: 17 };
        files.write_hard_state(state).expect("write");
        disk.crash();
        assert_eq!(files.hard_state().expect("read"), Kept::Value(state));
        disk.flip(&files.path(HARD_STATE_FILE), 2, 3).expect("flip");
        assert_eq!(files.hard_state().expect("read"), Kept::Unreadable);
    }

    #[test]
    fn the_file_formats_are_fixed() {
        let disk = SimDisk::new(1);
        let files = Files { disk: &disk, dir: Path::new("") };
        let bytes = |name: &str| {
            let bytes = grey_disk::read_file(&disk, Path::new(name), 1000).expect("read");
            let (covered, sum) = bytes.split_last_chunk::<4>().expect("a sum");
            assert_eq!(crc32c::crc32c(covered), u32::from_le_bytes(*sum));
            covered.to_vec()
        };
        let member = Member {
            id: 2,
            members: vec![1, 2],
            life: 9,
            memory: Memory::Joining { barrier: 300 },
            genesis: vec![(1, 5)],
        };
        files.write_member(&member).expect("write");
        assert_eq!(
            bytes(MEMBER_FILE),
            [1, 2, 2, 1, 2, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0xac, 2]
        );
        files.write_hard_state(HardState { term: 7, vote: 2, commit: 300, base: 5 }).expect("write");
        assert_eq!(bytes(HARD_STATE_FILE), [1, 7, 2, 0xac, 2, 5]);
        files.write_install(300).expect("write");
        assert_eq!(bytes(INSTALL_FILE), [1, 0xac, 2]);
        assert_eq!(files.install().expect("read"), Kept::Value(300));
    }

    #[test]
    fn quarantine_moves_everything_and_deletes_nothing() {
        let disk = SimDisk::new(1);
        let dir = Path::new("node");
        disk.create_dir_all(&dir.join(LOG_DIR)).expect("create");
        let files = Files { disk: &disk, dir };
        files.write_member(&member(Memory::Full)).expect("write");
        grey_disk::write_file_atomic(&disk, &dir.join("log/segment"), b"bytes").expect("write");
        for number in 0..2 {
            let target = files.quarantine().expect("quarantine").expect("something to move");
            assert_eq!(target, dir.join(format!("quarantine-{number}")));
        }
        assert_eq!(files.member().expect("read"), Kept::Missing);
        assert!(files.has_past().expect("list"));
        let kept = grey_disk::read_file(&disk, &dir.join("quarantine-0/log/segment"), 100).expect("read");
        assert_eq!(kept, b"bytes");
    }
}
