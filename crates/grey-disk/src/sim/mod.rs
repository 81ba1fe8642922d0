//! A disk in memory that has power losses.
//!
//! Every file keeps its visible bytes and, for each 512-byte sector that was
//! changed since the last sync, what the platter still holds. Every directory
//! keeps its visible and its durable names, and the operations between the two.
//! [`SimDisk::crash`] decides sector by sector and operation by operation, from
//! the seed, what had reached the platter.
//!
//! Everything is deterministic: the same seed and the same calls give the same
//! bytes. The disk must not know what is stored on it.

mod faults;
mod inode;
mod names;
mod random;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use faults::{Faults, Operations};

use crate::path::components;
use crate::{Disk, Entry, File, OpenMode};
use faults::Plan;
use inode::Inode;
use names::Names;
use random::Random;

/// What [`Disk::available_bytes`] says when no capacity was set: 1 TiB.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// A simulated disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: Random,
    names: Names,
    /// Raised by a crash; a handle of an older generation is dead.
    generation: u64,
    capacity: Option<u64>,
    used: u64,
    plan: Plan,
    faults: Faults,
    operations: Operations,
}

type SharedInode = Arc<Mutex<Inode>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held is the test's own failure; the bytes are as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDisk {
    /// An empty disk whose faults are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            names: Names::new(),
            generation: 0,
            capacity: None,
            used: 0,
            plan: Plan::default(),
            faults: Faults::default(),
            operations: Operations::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A disk of its own with the same files, synced and unsynced, whose further
    /// faults are drawn from `seed`. Handles stay with the original.
    pub fn fork(&self, seed: u64) -> Self {
        let state = lock(&self.state);
        let fork = State {
            random: Random::new(seed),
            names: state.names.fork(),
            generation: state.generation,
            capacity: state.capacity,
            used: state.used,
            plan: state.plan.clone(),
            faults: Faults::default(),
            operations: Operations::default(),
        };
        Self { state: Arc::new(Mutex::new(fork)) }
    }

    /// Loses power. Each unsynced sector survives or not; unsynced creates, renames
    /// and removes happen or not, in order or out of it. Open handles are dead
    /// afterwards, and planned failures are forgotten.
    pub fn crash(&self) {
        let state = &mut *lock(&self.state);
        state.generation += 1;
        state.faults.crashes += 1;
        state.plan.forget();
        state.names.crash(&mut state.random, &mut state.faults);
        for inode in state.names.inodes() {
            lock(&inode).crash(&mut state.random, &mut state.faults);
        }
        state.recount();
    }

    /// Loses power after everything written so far has reached the platter: what a
    /// killed process leaves behind, since the kernel still writes its pages out.
    pub fn kill(&self) {
        let state = &mut *lock(&self.state);
        state.generation += 1;
        state.plan.forget();
    }

    /// Flips one bit (0 to 7) of a byte, visible and durable.
    pub fn flip(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        let inode = state.names.file(&components(path)?)?;
        if !lock(&inode).flip(offset, bit) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "flip beyond the end of the file"));
        }
        state.faults.flips += 1;
        Ok(())
    }

    /// Overwrites a stretch with zeros, visible and durable; the length stays.
    pub fn zero(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        let inode = state.names.file(&components(path)?)?;
        lock(&inode).zero(offset, len);
        state.faults.zeroed += 1;
        Ok(())
    }

    /// Makes the sectors of a stretch unreadable until they are written again, as worn
    /// flash does.
    pub fn spoil(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        let inode = state.names.file(&components(path)?)?;
        lock(&inode).spoil(offset, len);
        state.faults.spoiled += 1;
        Ok(())
    }

    /// Cuts a file to `len` bytes, visible and durable.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        let inode = state.names.file(&components(path)?)?;
        lock(&inode).cut(len);
        state.faults.truncations += 1;
        state.recount();
        Ok(())
    }

    /// Removes a file, visibly and durably.
    pub fn lose(&self, path: &Path) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        state.names.lose(&components(path)?)?;
        state.faults.files_lost += 1;
        state.recount();
        Ok(())
    }

    /// Bounds the sum of all file lengths; beyond it writes fail with
    /// [`io::ErrorKind::StorageFull`] after a part was written. `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.state).capacity = bytes;
    }

    /// The next `count` syncs, of files or directories, fail. As on Linux the
    /// affected sectors count as clean afterwards: a later sync succeeds without
    /// having stored them.
    pub fn fail_next_sync(&self, count: u32) {
        lock(&self.state).plan.failing_syncs = count;
    }

    /// The next `count` writes fail with an I/O error, after a part was written.
    pub fn fail_next_write(&self, count: u32) {
        lock(&self.state).plan.failing_writes = count;
    }

    /// The next `count` reads fail with an I/O error.
    pub fn fail_next_read(&self, count: u32) {
        lock(&self.state).plan.failing_reads = count;
    }

    /// While true, syncs succeed without storing anything: a lying disk, to prove
    /// that a check of durability bites.
    pub fn forget_sync(&self, forget: bool) {
        lock(&self.state).plan.forget_syncs = forget;
    }

    /// Lets `count` more changes (writes, syncs, cuts, creates, renames, removes)
    /// happen; the next one and every one after it fail until [`SimDisk::crash`].
    /// Running a scenario with 0, 1, 2 ... stops it at every point in turn.
    pub fn power_off_after(&self, count: u64) {
        lock(&self.state).plan.changes_left = Some(count);
    }

    /// True once the power has gone as planned by [`SimDisk::power_off_after`].
    pub fn is_off(&self) -> bool {
        lock(&self.state).plan.is_off
    }

    /// Faults injected so far, by kind.
    pub fn faults(&self) -> Faults {
        lock(&self.state).faults
    }

    /// Operations done so far, by kind.
    pub fn operations(&self) -> Operations {
        lock(&self.state).operations
    }

    /// The visible files with their lengths in bytes, sorted by path.
    pub fn files(&self) -> Vec<(String, u64)> {
        lock(&self.state).names.files()
    }
}

impl State {
    fn recount(&mut self) {
        self.used = self.names.files().iter().map(|(_, len)| len).sum();
    }

    /// Counts one change against the planned power loss.
    fn change(&mut self) -> io::Result<()> {
        self.plan.change()
    }

    /// Decides what a sync does: `Ok(true)` stores, `Ok(false)` only says so.
    fn sync(&mut self) -> Result<bool, io::Error> {
        self.change()?;
        self.operations.syncs += 1;
        if self.plan.failing_syncs > 0 {
            self.plan.failing_syncs -= 1;
            self.faults.syncs_failed += 1;
            return Err(io::Error::other("injected sync failure"));
        }
        if self.plan.forget_syncs {
            self.faults.syncs_forgotten += 1;
            return Ok(false);
        }
        Ok(true)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let state = &mut *lock(&self.state);
        let parts = components(path)?;
        let inode = match mode {
            OpenMode::Read | OpenMode::ReadWrite => state.names.file(&parts)?,
            OpenMode::CreateNew => {
                state.change()?;
                state.operations.creates += 1;
                state.names.create(&parts)?
            }
        };
        Ok(Box::new(SimFile {
            disk: Arc::clone(&self.state),
            inode,
            generation: state.generation,
            writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        state.plan.check()?;
        state.names.create_dir_all(&components(path)?)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = &mut *lock(&self.state);
        state.plan.check()?;
        state.names.list(&components(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        state.change()?;
        state.operations.renames += 1;
        let replaced = state.names.rename(&components(from)?, &components(to)?)?;
        state.used = state.used.saturating_sub(replaced);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        state.change()?;
        state.operations.removes += 1;
        let freed = state.names.remove(&components(path)?)?;
        state.used = state.used.saturating_sub(freed);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let state = &mut *lock(&self.state);
        let parts = components(path)?;
        if state.sync()? {
            state.names.sync(&parts)?;
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = &mut *lock(&self.state);
        state.plan.check()?;
        Ok(state.names.exists(&components(path)?))
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let state = lock(&self.state);
        Ok(state.capacity.map_or(UNLIMITED_BYTES, |capacity| capacity.saturating_sub(state.used)))
    }
}

/// A handle; it dies with the next crash.
#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<State>>,
    inode: SharedInode,
    generation: u64,
    writable: bool,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.disk);
        if state.generation != self.generation {
            return Err(io::Error::other("stale handle: the disk crashed since it was opened"));
        }
        state.plan.check()?;
        Ok(state)
    }

    fn state_for_change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state()?;
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"));
        }
        state.change()?;
        Ok(state)
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.operations.reads += 1;
        if state.plan.failing_reads > 0 {
            state.plan.failing_reads -= 1;
            state.faults.reads_failed += 1;
            return Err(io::Error::other("injected read failure"));
        }
        let inode = lock(&self.inode);
        state.operations.bytes_read += buf.len() as u64;
        let read = inode.read(buf, offset);
        state.faults.reads_failed += u64::from(read.is_err());
        read
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut guard = self.state_for_change()?;
        let state = &mut *guard;
        let mut inode = lock(&self.inode);
        let (mut allowed, mut error) = (buf.len(), None);
        if state.plan.failing_writes > 0 {
            state.plan.failing_writes -= 1;
            state.faults.writes_failed += 1;
            allowed = state.random.below(buf.len() as u64 + 1) as usize;
            error = Some(io::Error::other("injected write failure"));
        }
        if let (Some(capacity), true) = (state.capacity, inode.is_linked()) {
            let room = inode.len() + capacity.saturating_sub(state.used);
            if offset + allowed as u64 > room {
                allowed = room.saturating_sub(offset) as usize;
                state.faults.writes_without_space += 1;
                error = Some(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
            }
        }
        let before = inode.len();
        inode.write(&buf[..allowed], offset);
        state.operations.writes += 1;
        state.operations.bytes_written += allowed as u64;
        if inode.is_linked() {
            state.used += inode.len() - before;
        }
        error.map_or(Ok(()), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        match state.sync() {
            Ok(true) => lock(&self.inode).sync(),
            Ok(false) => {}
            Err(error) => {
                if !state.plan.is_off {
                    lock(&self.inode).fail_sync(&mut state.random);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut guard = self.state_for_change()?;
        let state = &mut *guard;
        let mut inode = lock(&self.inode);
        let before = inode.len();
        if let (Some(capacity), true) = (state.capacity, inode.is_linked())
            && len > before + capacity.saturating_sub(state.used)
        {
            state.faults.writes_without_space += 1;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        inode.set_len(len);
        state.operations.cuts += 1;
        if inode.is_linked() {
            state.used = (state.used + len).saturating_sub(before);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let _state = self.state()?;
        Ok(lock(&self.inode).len())
    }
}

#[cfg(test)]
mod tests;
