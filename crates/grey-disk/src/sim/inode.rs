//! One file: its visible bytes, and what the platter holds where the two differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::faults::Faults;
use super::random::Random;

/// What a disk writes atomically, in bytes.
pub(super) const SECTOR: usize = 512;

/// A sector's bytes on the platter, as far as the file was long then.
#[derive(Debug, Clone)]
struct Platter {
    bytes: Vec<u8>,
    /// A failed sync marked the sector clean without storing it: only a new write
    /// makes it reach the platter.
    is_stale: bool,
}

/// Invariant: a sector that starts below `durable_len` differs from the platter only
/// if it is in `undo`; what lies at or above `durable_len` is not on the platter.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    bytes: Vec<u8>,
    durable_len: usize,
    undo: BTreeMap<usize, Platter>,
    is_unlinked: bool,
    /// Sectors that cannot be read until they are written again.
    spoiled: BTreeSet<usize>,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// True while a visible name leads here.
    pub(super) fn is_linked(&self) -> bool {
        !self.is_unlinked
    }

    pub(super) fn set_linked(&mut self, linked: bool) {
        self.is_unlinked = !linked;
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(rest) = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)) else {
            return Ok(0);
        };
        let len = rest.len().min(buf.len());
        let start = offset as usize;
        if len > 0 && self.spoiled.range(start / SECTOR..(start + len).div_ceil(SECTOR)).next().is_some() {
            return Err(io::Error::other("injected unreadable sector"));
        }
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    pub(super) fn spoil(&mut self, offset: u64, len: u64) {
        let (from, to) = (offset as usize, ((offset + len) as usize).min(self.bytes.len()));
        self.spoiled.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        let start = offset as usize;
        let end = start + buf.len();
        if buf.is_empty() {
            return;
        }
        self.spoiled.retain(|sector| !(start / SECTOR..end.div_ceil(SECTOR)).contains(sector));
        // A hole is written too: its zeros are new bytes.
        self.touch(start.min(self.bytes.len()), end);
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(buf);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let len = len as usize;
        let before = self.bytes.len();
        self.spoiled.retain(|sector| sector * SECTOR < len);
        self.touch(len.min(before), len.max(before));
        self.bytes.resize(len, 0);
    }

    /// Remembers the platter's bytes of the sectors in `start..end` before they change.
    fn touch(&mut self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        for sector in start / SECTOR..end.min(self.durable_len).div_ceil(SECTOR) {
            if let Some(platter) = self.undo.get_mut(&sector) {
                platter.is_stale = false;
                continue;
            }
            let from = sector * SECTOR;
            if start >= self.durable_len {
                continue;
            }
            let to = (from + SECTOR).min(self.durable_len).min(self.bytes.len());
            let bytes = self.bytes.get(from..to).map(<[u8]>::to_vec).unwrap_or_default();
            self.undo.insert(sector, Platter { bytes, is_stale: false });
        }
    }

    pub(super) fn sync(&mut self) {
        let len = self.bytes.len();
        self.undo.retain(|sector, platter| platter.is_stale && sector * SECTOR < len);
        self.durable_len = len;
    }

    /// A sync that fails: the length is stored, of the unsynced sectors some are, and
    /// none is dirty any more.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let len = self.bytes.len();
        let grown = if len > self.durable_len { self.durable_len / SECTOR..len.div_ceil(SECTOR) } else { 0..0 };
        for sector in grown {
            let from = sector * SECTOR;
            let kept = self.durable_len.saturating_sub(from).min(SECTOR);
            let bytes = self.bytes[from..(from + kept).min(len)].to_vec();
            self.undo.entry(sector).or_insert(Platter { bytes, is_stale: false });
        }
        self.durable_len = len;
        self.undo.retain(|sector, platter| sector * SECTOR < len && (platter.is_stale || random.coin()));
        for platter in self.undo.values_mut() {
            platter.is_stale = true;
        }
    }

    pub(super) fn crash(&mut self, random: &mut Random, faults: &mut Faults) {
        let (durable, visible) = (self.durable_len, self.bytes.len());
        let len = crash_len(durable, visible, random);
        if len != visible {
            faults.lengths_lost += 1;
        }
        // Sectors beyond the old length: stored, or zeros where the length says there is something.
        for sector in durable.div_ceil(SECTOR)..visible.min(len).div_ceil(SECTOR) {
            if random.coin() {
                faults.sectors_kept += 1;
            } else {
                faults.sectors_lost += 1;
                let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(visible));
                self.bytes[from..to].fill(0);
            }
        }
        // The old tail's sector, if it grew without being remembered.
        if durable % SECTOR != 0 && len > durable && !self.undo.contains_key(&(durable / SECTOR)) {
            let to = (durable / SECTOR + 1) * SECTOR;
            if random.coin() {
                faults.sectors_kept += 1;
            } else {
                faults.sectors_lost += 1;
                let to = to.min(visible);
                self.bytes[durable..to].fill(0);
            }
        }
        self.bytes.resize(len.max(durable), 0);
        for (sector, platter) in std::mem::take(&mut self.undo) {
            let from = sector * SECTOR;
            let was_cut_off = from >= visible;
            if !platter.is_stale && !was_cut_off && random.coin() {
                faults.sectors_kept += 1;
                continue;
            }
            faults.sectors_lost += 1;
            let to = (from + SECTOR).min(self.bytes.len());
            let restored = platter.bytes.len().min(to - from);
            self.bytes[from..from + restored].copy_from_slice(&platter.bytes[..restored]);
            self.bytes[from + restored..to].fill(0);
        }
        self.bytes.truncate(len);
        self.durable_len = len;
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        let offset = offset as usize;
        let Some(byte) = self.bytes.get_mut(offset) else { return false };
        *byte ^= 1 << (bit & 7);
        if let Some(platter) = self.undo.get_mut(&(offset / SECTOR))
            && let Some(byte) = platter.bytes.get_mut(offset % SECTOR)
        {
            *byte ^= 1 << (bit & 7);
        }
        true
    }

    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let from = (offset as usize).min(self.bytes.len());
        let to = (offset.saturating_add(len) as usize).min(self.bytes.len());
        self.bytes[from..to].fill(0);
        for (sector, platter) in &mut self.undo {
            for (at, byte) in platter.bytes.iter_mut().enumerate() {
                if (from..to).contains(&(sector * SECTOR + at)) {
                    *byte = 0;
                }
            }
        }
    }

    /// Cuts visibly and durably.
    pub(super) fn cut(&mut self, len: u64) {
        let len = len as usize;
        if len >= self.bytes.len() {
            return;
        }
        self.bytes.truncate(len);
        self.durable_len = self.durable_len.min(len);
        self.undo.retain(|sector, platter| {
            platter.bytes.truncate(len.saturating_sub(sector * SECTOR));
            sector * SECTOR < len
        });
    }
}

/// The length after a crash: the old one, the new one, or for a file that grew
/// something between.
fn crash_len(durable: usize, visible: usize, random: &mut Random) -> usize {
    if durable == visible {
        return visible;
    }
    match random.below(3) {
        0 => durable,
        1 if visible > durable => {
            let cut = durable + random.below((visible - durable) as u64) as usize;
            (cut / SECTOR * SECTOR).max(durable)
        }
        _ => visible,
    }
}
