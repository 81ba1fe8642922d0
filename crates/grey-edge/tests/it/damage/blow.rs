//! What happens to a file behind its owner's back.

use std::ops::Range;
use std::path::Path;

use grey_disk::{Disk, OpenMode, SimDisk, read_file};

use super::plant::hash;

const FILE_BYTES_MAX: u64 = 64 << 20;

/// Damage to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Blow {
    /// One bit of the byte at an offset.
    Flip(u64),
    /// Cut to a length.
    Cut(u64),
    Remove,
    /// A stretch overwritten with zeros.
    Zeros(Range<u64>),
    /// A stretch overwritten with noise.
    Noise(Range<u64>),
    /// Noise behind its end.
    Append,
    /// Its bytes exchanged with those of another file.
    Swap(String),
}

/// The bytes of a file.
pub(crate) fn bytes_of(disk: &SimDisk, path: &str) -> Vec<u8> {
    read_file(disk, Path::new(path), FILE_BYTES_MAX).expect("a file that is listed")
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|n| hash(seed << 32 | n) as u8).collect()
}

fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(path), OpenMode::ReadWrite).expect("a file that is listed");
    file.set_len(bytes.len() as u64).expect("cut");
    file.write_at(bytes, 0).expect("write");
    file.sync().expect("sync");
}

impl Blow {
    /// Does it.
    pub(crate) fn strike(&self, disk: &SimDisk, path: &str) {
        let mut bytes = bytes_of(disk, path);
        let seed = hash(bytes.len() as u64) >> 32;
        let name = Path::new(path);
        let struck = match self {
            Self::Flip(at) => disk.flip(name, *at, (hash(*at) % 8) as u8),
            Self::Cut(len) => disk.truncate(name, *len),
            Self::Remove => disk.lose(name),
            Self::Zeros(range) => disk.zero(name, range.start, range.end - range.start),
            Self::Noise(range) => {
                let (start, end) = (range.start as usize, (range.end as usize).min(bytes.len()));
                bytes[start..end].copy_from_slice(&noise(end - start, seed));
                put(disk, path, &bytes);
                Ok(())
            }
            Self::Append => {
                bytes.extend(noise(300, seed));
                put(disk, path, &bytes);
                Ok(())
            }
            Self::Swap(other) => {
                let others = bytes_of(disk, other);
                put(disk, path, &others);
                put(disk, other, &bytes);
                Ok(())
            }
        };
        struck.expect("a file that is listed");
    }

    /// The bytes of the file that are not any more what they were.
    pub(crate) fn touched(&self, len: u64) -> Range<u64> {
        match self {
            Self::Flip(at) => *at..*at + 1,
            Self::Cut(to) => *to..len,
            Self::Remove | Self::Swap(_) => 0..len,
            Self::Zeros(range) | Self::Noise(range) => range.start..range.end.min(len),
            Self::Append => len..len,
        }
    }
}
