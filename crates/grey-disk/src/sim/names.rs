//! The directory tree: visible names, durable names, and the operations between.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::faults::Faults;
use super::inode::Inode;
use super::random::Random;
use super::{SharedInode, lock};
use crate::Entry;

#[derive(Debug, Clone, Default)]
struct Directory {
    visible: BTreeMap<String, SharedInode>,
    durable: BTreeMap<String, SharedInode>,
}

/// A name: its directory's path and its last component.
type Place = (String, String);

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Create(Place, SharedInode),
    Remove(Place, SharedInode),
    Rename(Place, Place, SharedInode),
}

/// All directories by their path; the root is the empty path. Directories are
/// durable from their creation on, as [`crate::Disk::create_dir_all`] promises.
#[derive(Debug)]
pub(super) struct Names {
    directories: BTreeMap<String, Directory>,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { directories: BTreeMap::from([(String::new(), Directory::default())]), pending: Vec::new() }
    }

    /// A deep copy.
    pub(super) fn fork(&self) -> Self {
        let mut copies: BTreeMap<*const Mutex<Inode>, SharedInode> = BTreeMap::new();
        let mut copy = |inode: &SharedInode| {
            let copied = copies.entry(Arc::as_ptr(inode)).or_insert_with(|| Arc::new(Mutex::new(lock(inode).clone())));
            Arc::clone(copied)
        };
        let mut copy_names = |names: &BTreeMap<String, SharedInode>| -> BTreeMap<String, SharedInode> {
            names.iter().map(|(name, inode)| (name.clone(), copy(inode))).collect()
        };
        let mut directories = BTreeMap::new();
        for (path, directory) in &self.directories {
            let copied = Directory { visible: copy_names(&directory.visible), durable: copy_names(&directory.durable) };
            directories.insert(path.clone(), copied);
        }
        let pending = self
            .pending
            .iter()
            .map(|change| match change {
                Change::Create(place, inode) => Change::Create(place.clone(), copy(inode)),
                Change::Remove(place, inode) => Change::Remove(place.clone(), copy(inode)),
                Change::Rename(from, to, inode) => Change::Rename(from.clone(), to.clone(), copy(inode)),
            })
            .collect();
        Self { directories, pending }
    }

    pub(super) fn file(&self, parts: &[&str]) -> io::Result<SharedInode> {
        let (directory, name) = place(parts)?;
        self.directories
            .get(&directory)
            .and_then(|directory| directory.visible.get(&name))
            .cloned()
            .ok_or_else(|| not_found(parts))
    }

    pub(super) fn exists(&self, parts: &[&str]) -> bool {
        self.directories.contains_key(&parts.join("/")) || self.file(parts).is_ok()
    }

    pub(super) fn create(&mut self, parts: &[&str]) -> io::Result<SharedInode> {
        if self.exists(parts) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", parts.join("/"))));
        }
        let (directory, name) = place(parts)?;
        let inode = SharedInode::default();
        let entries = self.directories.get_mut(&directory).ok_or_else(|| not_found(parts))?;
        entries.visible.insert(name.clone(), Arc::clone(&inode));
        self.pending.push(Change::Create((directory, name), Arc::clone(&inode)));
        Ok(inode)
    }

    pub(super) fn create_dir_all(&mut self, parts: &[&str]) -> io::Result<()> {
        for depth in 1..=parts.len() {
            if self.file(&parts[..depth]).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("{} is a file", parts[..depth].join("/")),
                ));
            }
            self.directories.entry(parts[..depth].join("/")).or_default();
        }
        Ok(())
    }

    pub(super) fn list(&self, parts: &[&str]) -> io::Result<Vec<Entry>> {
        let path = parts.join("/");
        let directory = self.directories.get(&path).ok_or_else(|| not_found(parts))?;
        let mut entries: Vec<Entry> = directory
            .visible
            .iter()
            .map(|(name, inode)| Entry { name: name.clone(), len: lock(inode).len(), is_dir: false })
            .collect();
        let prefix = if path.is_empty() { path } else { path + "/" };
        for child in self.directories.keys() {
            if let Some(name) = child.strip_prefix(&prefix)
                && !name.is_empty()
                && !name.contains('/')
            {
                entries.push(Entry { name: name.to_owned(), len: 0, is_dir: true });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Returns how many bytes the replaced file had.
    pub(super) fn rename(&mut self, from: &[&str], to: &[&str]) -> io::Result<u64> {
        let inode = self.file(from)?;
        let (source, target) = (place(from)?, place(to)?);
        if !self.directories.contains_key(&target.0) || self.directories.contains_key(&to.join("/")) {
            return Err(not_found(to));
        }
        if source == target {
            return Ok(0);
        }
        self.unlink_visible(&source);
        let replaced = self.unlink_visible(&target);
        self.link_visible(&target, &inode);
        self.pending.push(Change::Rename(source, target, inode));
        Ok(replaced)
    }

    /// Returns how many bytes became free.
    pub(super) fn remove(&mut self, parts: &[&str]) -> io::Result<u64> {
        let inode = self.file(parts)?;
        let place = place(parts)?;
        let freed = self.unlink_visible(&place);
        self.pending.push(Change::Remove(place, inode));
        Ok(freed)
    }

    /// Removes a file visibly and durably, whatever was pending for it.
    pub(super) fn lose(&mut self, parts: &[&str]) -> io::Result<()> {
        self.remove(parts)?;
        self.sync(&parts[..parts.len() - 1])
    }

    pub(super) fn sync(&mut self, parts: &[&str]) -> io::Result<()> {
        let path = parts.join("/");
        if !self.directories.contains_key(&path) {
            return Err(not_found(parts));
        }
        let (due, rest) = std::mem::take(&mut self.pending).into_iter().partition(|change| change.touches(&path));
        self.pending = rest;
        let due: Vec<Change> = due;
        for change in &due {
            self.apply(change);
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, random: &mut Random, faults: &mut Faults) {
        let pending = std::mem::take(&mut self.pending);
        // A journal loses the end of its history; the standard promises not even that.
        let kept_in_order = random.coin().then(|| random.below(pending.len() as u64 + 1) as usize);
        for (position, change) in pending.iter().enumerate() {
            let is_kept = kept_in_order.map_or_else(|| random.coin(), |kept| position < kept);
            if is_kept {
                self.apply(change);
                continue;
            }
            match change {
                Change::Create(..) => faults.creates_lost += 1,
                Change::Remove(..) => faults.removes_lost += 1,
                Change::Rename(..) => faults.renames_lost += 1,
            }
        }
        for directory in self.directories.values_mut() {
            for inode in directory.visible.values() {
                lock(inode).set_linked(false);
            }
            directory.visible = directory.durable.clone();
        }
        for inode in self.inodes() {
            lock(&inode).set_linked(true);
        }
    }

    /// All visible files' inodes in the order of their paths.
    pub(super) fn inodes(&self) -> Vec<SharedInode> {
        self.directories.values().flat_map(|directory| directory.visible.values().cloned()).collect()
    }

    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        for (path, directory) in &self.directories {
            for (name, inode) in &directory.visible {
                let full = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                files.push((full, lock(inode).len()));
            }
        }
        files.sort_unstable();
        files
    }

    fn unlink_visible(&mut self, (directory, name): &Place) -> u64 {
        let removed = self.directories.get_mut(directory).and_then(|directory| directory.visible.remove(name));
        removed.map_or(0, |inode| {
            let mut inode = lock(&inode);
            inode.set_linked(false);
            inode.len()
        })
    }

    fn link_visible(&mut self, (directory, name): &Place, inode: &SharedInode) {
        lock(inode).set_linked(true);
        if let Some(directory) = self.directories.get_mut(directory) {
            directory.visible.insert(name.clone(), Arc::clone(inode));
        }
    }

    /// Makes one change durable.
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(place, inode) => self.link_durable(place, inode),
            Change::Remove(place, inode) => self.unlink_durable(place, inode),
            Change::Rename(from, to, inode) => {
                self.unlink_durable(from, inode);
                self.link_durable(to, inode);
            }
        }
    }

    fn link_durable(&mut self, (directory, name): &Place, inode: &SharedInode) {
        if let Some(directory) = self.directories.get_mut(directory) {
            directory.durable.insert(name.clone(), Arc::clone(inode));
        }
    }

    fn unlink_durable(&mut self, (directory, name): &Place, inode: &SharedInode) {
        if let Some(directory) = self.directories.get_mut(directory)
            && directory.durable.get(name).is_some_and(|durable| Arc::ptr_eq(durable, inode))
        {
            directory.durable.remove(name);
        }
    }
}

impl Change {
    fn touches(&self, path: &str) -> bool {
        match self {
            Change::Create(place, _) | Change::Remove(place, _) => place.0 == path,
            Change::Rename(from, to, _) => from.0 == path || to.0 == path,
        }
    }
}

fn place(parts: &[&str]) -> io::Result<Place> {
    let (name, directory) = parts
        .split_last()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the disk's root is not a file"))?;
    Ok((directory.join("/"), (*name).to_owned()))
}

fn not_found(parts: &[&str]) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist on the simulated disk", parts.join("/")))
}
