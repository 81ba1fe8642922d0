//! The file `acked`: how far each lane was acknowledged.
//!
//! Two slots of 512 bytes are written in turn, without a sync: exact after a killed
//! process, and after a power loss at worst what the last sync left. An older state only
//! brings items again. Layout of a slot, little-endian: magic `greyack\0`, sequence of the
//! write (8), for each lane acknowledged sequence, position, stored bytes, dropped items and
//! end sequence (8 each), CRC-32C of all before (4).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::BufMut;
use grey_disk::{Disk, File, OpenMode, is_full};
use grey_model::{Reader, Seq, WireError};

use super::error::BufferError;

const NAME: &str = "acked";
const MAGIC: [u8; 8] = *b"greyack\0";
/// A sector, so that a torn write harms one slot.
const SLOT_BYTES: u64 = 512;
const STATE_BYTES: usize = 8 + 8 + 3 * 5 * 8;
const CRC_BYTES: usize = 4;

/// What is remembered of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Acked {
    /// Items below are acknowledged or dropped.
    pub(crate) seq: Seq,
    /// Position of the record that holds `seq`, or of the next one.
    pub(crate) position: u64,
    /// Bytes of the lane's records below `position`.
    pub(crate) stored: u64,
    /// Items that gave way, ever.
    pub(crate) dropped: u64,
    /// Behind the last committed item, so that no sequence is given twice when the disk
    /// loses the end of the log.
    pub(crate) end: Seq,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct AckFile {
    file: Arc<dyn File>,
    path: PathBuf,
    sequence: u64,
    is_synced: bool,
}

impl AckFile {
    pub(crate) fn open(disk: &dyn Disk) -> Result<(Self, [Acked; 3]), BufferError> {
        let path = PathBuf::from(NAME);
        let is_there = disk.exists(&path).map_err(BufferError::io("open", NAME))?;
        let mode = if is_there { OpenMode::ReadWrite } else { OpenMode::CreateNew };
        let file: Arc<dyn File> = Arc::from(disk.open(&path, mode).map_err(BufferError::io("open", NAME))?);
        if !is_there {
            disk.sync_dir(&PathBuf::new()).map_err(BufferError::io("sync", "."))?;
        }
        let mut newest: Option<(u64, [Acked; 3])> = None;
        for slot in 0..2 {
            let mut bytes = [0; STATE_BYTES + CRC_BYTES];
            // What cannot be read knows nothing: items come again.
            let read = file.read_at(&mut bytes, slot * SLOT_BYTES).unwrap_or(0);
            if let Ok(found) = decode(&bytes[..read])
                && newest.is_none_or(|newest| newest.0 < found.0)
            {
                newest = Some(found);
            }
        }
        let (sequence, lanes) = newest.unwrap_or_default();
        Ok((Self { file, path, sequence, is_synced: false }, lanes))
    }

    /// Notes a state, to be found after a killed process and perhaps after a power loss.
    pub(crate) fn hint(&mut self, lanes: &[Acked; 3]) -> Result<(), BufferError> {
        let sequence = self.sequence + 1;
        let written = self.file.write_at(&encode(sequence, lanes), sequence % 2 * SLOT_BYTES);
        match written {
            Ok(()) => {
                self.sequence = sequence;
                self.is_synced = false;
                Ok(())
            }
            // A full disk must not keep anybody from acknowledging: items come again at worst.
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(BufferError::io("write", &self.path)(error)),
        }
    }

    /// Makes the last hint durable.
    pub(crate) fn sync(&mut self) -> Result<(), BufferError> {
        if !self.is_synced {
            self.file.sync().map_err(BufferError::io("sync", &self.path))?;
            self.is_synced = true;
        }
        Ok(())
    }
}

fn encode(sequence: u64, lanes: &[Acked; 3]) -> Vec<u8> {
    let mut out = Vec::with_capacity(STATE_BYTES + CRC_BYTES);
    out.put_slice(&MAGIC);
    out.put_u64_le(sequence);
    for lane in lanes {
        [lane.seq, lane.position, lane.stored, lane.dropped, lane.end]
            .into_iter()
            .for_each(|value| out.put_u64_le(value));
    }
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out
}

fn decode(bytes: &[u8]) -> Result<(u64, [Acked; 3]), WireError> {
    let mut reader = Reader::new(bytes);
    let state = reader.bytes(STATE_BYTES)?;
    if reader.u32()? != crc32c::crc32c(state) || !state.starts_with(&MAGIC) {
        return Err(reader.invalid("acknowledgements"));
    }
    let mut reader = Reader::new(&state[MAGIC.len()..]);
    let sequence = reader.u64()?;
    let mut lanes = [Acked::default(); 3];
    for lane in &mut lanes {
        *lane = Acked {
            seq: reader.u64()?,
            position: reader.u64()?,
            stored: reader.u64()?,
            dropped: reader.u64()?,
            end: reader.u64()?,
        };
    }
    Ok((sequence, lanes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_round_trip_and_damage_is_seen(values in prop::array::uniform15(any::<u64>()), at: prop::sample::Index, bit in 0..8) {
            let lane = |n: usize| Acked {
                seq: values[n], position: values[n + 1], stored: values[n + 2], dropped: values[n + 3], end: values[n + 4],
            };
            let lanes = [lane(0), lane(5), lane(10)];
            let mut bytes = encode(7, &lanes);
            prop_assert_eq!(decode(&bytes), Ok((7, lanes)));
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(decode(&bytes).is_err());
            prop_assert!(decode(&bytes[..at]).is_err());
        }
    }
}
