//! What goes wrong on purpose, and how often it did.

use std::io;

/// How many faults a [`super::SimDisk`] has injected, by kind. A test that relies
/// on a fault asserts that its counter moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Power losses.
    pub crashes: u64,
    /// Unsynced sectors that a crash lost.
    pub sectors_lost: u64,
    /// Unsynced sectors that survived a crash.
    pub sectors_kept: u64,
    /// Files whose unsynced length a crash lost, wholly or in part.
    pub lengths_lost: u64,
    /// Unsynced creates that a crash lost.
    pub creates_lost: u64,
    /// Unsynced renames that a crash lost.
    pub renames_lost: u64,
    /// Unsynced removes that a crash lost.
    pub removes_lost: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Syncs that only pretended.
    pub syncs_forgotten: u64,
    /// Writes that failed with an I/O error.
    pub writes_failed: u64,
    /// Reads that failed with an I/O error.
    pub reads_failed: u64,
    /// Writes refused because the disk was full.
    pub writes_without_space: u64,
    /// Bits flipped.
    pub flips: u64,
    /// Stretches overwritten with zeros.
    pub zeroed: u64,
    /// Stretches made unreadable.
    pub spoiled: u64,
    /// Files cut.
    pub truncations: u64,
    /// Files removed behind their owner's back.
    pub files_lost: u64,
}

/// How many operations a [`super::SimDisk`] has done, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operations {
    /// Reads.
    pub reads: u64,
    /// Bytes asked for by reads.
    pub bytes_read: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of files and directories, failed ones included.
    pub syncs: u64,
    /// Files cut or extended by length.
    pub cuts: u64,
    /// Files created.
    pub creates: u64,
    /// Files renamed.
    pub renames: u64,
    /// Files removed.
    pub removes: u64,
}

/// Failures still to come.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) failing_syncs: u32,
    pub(super) failing_writes: u32,
    pub(super) failing_reads: u32,
    pub(super) forget_syncs: bool,
    pub(super) changes_left: Option<u64>,
    pub(super) is_off: bool,
}

impl Plan {
    /// Fails once the power is off.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the simulated disk has no power")) } else { Ok(()) }
    }

    /// Counts one change against the planned power loss.
    pub(super) fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => self.is_off = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.check()
    }

    /// The power comes back; a lying disk keeps lying.
    pub(super) fn forget(&mut self) {
        *self = Self { forget_syncs: self.forget_syncs, ..Self::default() };
    }
}
