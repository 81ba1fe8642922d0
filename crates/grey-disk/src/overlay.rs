//! A disk over another one that keeps every change to itself: to look at files in use
//! or as evidence with the code that would otherwise repair them, and to see what it
//! would do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::path::components;
use crate::{Disk, Entry, File, OpenMode};

/// Bytes are kept in pieces of this size.
const PAGE_BYTES: u64 = 4_096;

/// Changes stay in memory; the disk below is only read. What was opened for reading
/// shows the file as it was then.
#[derive(Debug, Clone)]
pub struct OverlayDisk {
    below: Arc<dyn Disk>,
    changed: Arc<Mutex<Changed>>,
}

/// One difference between an [`OverlayDisk`] and the disk below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file that is not there below, with its length in bytes.
    Created(PathBuf, u64),
    /// A file with other bytes, and how many of its pages of 4 KiB differ.
    Written(PathBuf, u64),
    /// A file of another length: before and after, in bytes.
    Resized(PathBuf, u64, u64),
    /// A file that is there below and would be gone.
    Removed(PathBuf),
}

#[derive(Debug, Default)]
struct Changed {
    files: BTreeMap<PathBuf, Arc<Mutex<Node>>>,
    dirs: BTreeSet<PathBuf>,
    removed: BTreeSet<PathBuf>,
}

/// A file that was opened for writing.
#[derive(Debug)]
struct Node {
    below: Option<Box<dyn File>>,
    /// Bytes of the file below that still show.
    shown: u64,
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn normal(path: &Path) -> io::Result<PathBuf> {
    Ok(components(path)?.into_iter().collect())
}

impl OverlayDisk {
    /// An overlay without changes.
    pub fn new(below: Arc<dyn Disk>) -> Self {
        Self { below, changed: Arc::default() }
    }

    /// How the files differ from those below, by name.
    ///
    /// # Errors
    /// When the disk below cannot be read.
    pub fn changes(&self) -> io::Result<Vec<Change>> {
        let changed = lock(&self.changed);
        let mut changes: Vec<Change> = changed.removed.iter().cloned().map(Change::Removed).collect();
        for (path, node) in &changed.files {
            let node = lock(node);
            if !self.below.exists(path)? {
                changes.push(Change::Created(path.clone(), node.len));
                continue;
            }
            // Another file may have taken the name.
            let below = self.below.open(path, OpenMode::Read)?;
            let len = below.len()?;
            if len != node.len {
                changes.push(Change::Resized(path.clone(), len, node.len));
            }
            let written = node.pages_unlike(&*below, len.min(node.len))?;
            if written > 0 {
                changes.push(Change::Written(path.clone(), written));
            }
        }
        Ok(changes)
    }

    /// The changed file, or the one below made ready to be changed.
    fn node(&self, changed: &mut Changed, path: &Path) -> io::Result<Arc<Mutex<Node>>> {
        if let Some(node) = changed.files.get(path) {
            return Ok(Arc::clone(node));
        }
        if changed.removed.contains(path) {
            return Err(not_found(path));
        }
        let below = self.below.open(path, OpenMode::Read)?;
        let len = below.len()?;
        Ok(changed.put(path, Node { below: Some(below), shown: len, len, pages: BTreeMap::new() }))
    }

    fn is_there(&self, changed: &Changed, path: &Path) -> io::Result<bool> {
        let is_made = changed.files.contains_key(path) || changed.dirs.contains(path);
        Ok(is_made || !changed.removed.contains(path) && self.below.exists(path)?)
    }

    /// Marks the file of the disk below as gone, if there is one.
    fn hide(&self, changed: &mut Changed, path: &Path) -> io::Result<()> {
        if self.below.exists(path)? {
            changed.removed.insert(path.to_owned());
        }
        Ok(())
    }
}

impl Changed {
    fn put(&mut self, path: &Path, node: Node) -> Arc<Mutex<Node>> {
        let node = Arc::new(Mutex::new(node));
        self.files.insert(path.to_owned(), Arc::clone(&node));
        node
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let path = normal(path)?;
        let mut changed = lock(&self.changed);
        let node = match mode {
            OpenMode::Read if !changed.files.contains_key(&path) => {
                return if changed.removed.contains(&path) {
                    Err(not_found(&path))
                } else {
                    self.below.open(&path, OpenMode::Read)
                };
            }
            OpenMode::Read | OpenMode::ReadWrite => self.node(&mut changed, &path)?,
            OpenMode::CreateNew => {
                if self.is_there(&changed, &path)? {
                    let told = format!("{} exists", path.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, told));
                }
                let parent = path.parent().unwrap_or(Path::new(""));
                if parent != Path::new("") && !self.is_there(&changed, parent)? {
                    return Err(not_found(parent));
                }
                changed.removed.remove(&path);
                changed.put(&path, Node { below: None, shown: 0, len: 0, pages: BTreeMap::new() })
            }
        };
        Ok(Box::new(OverlayFile { node, is_writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        let mut changed = lock(&self.changed);
        for dir in path.ancestors().filter(|dir| *dir != Path::new("")) {
            if !self.is_there(&changed, dir)? {
                changed.dirs.insert(dir.to_owned());
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let path = normal(path)?;
        let changed = lock(&self.changed);
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        match self.below.read_dir(&path) {
            Ok(found) => {
                let kept = found.into_iter().filter(|entry| !changed.removed.contains(&path.join(&entry.name)));
                entries.extend(kept.map(|entry| (entry.name.clone(), entry)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && changed.dirs.contains(&path) => {}
            Err(error) => return Err(error),
        }
        let dirs = changed.dirs.iter().map(|dir| (dir, 0, true));
        let files = changed.files.iter().map(|(file, node)| (file, lock(node).len, false));
        for (made, len, is_dir) in dirs.chain(files).filter(|(made, ..)| made.parent() == Some(&path)) {
            let name = made.file_name().unwrap_or_default().to_string_lossy().into_owned();
            entries.insert(name.clone(), Entry { name, len, is_dir });
        }
        Ok(entries.into_values().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from)?, normal(to)?);
        let mut changed = lock(&self.changed);
        let node = self.node(&mut changed, &from)?;
        changed.files.remove(&from);
        self.hide(&mut changed, &from)?;
        changed.removed.remove(&to);
        changed.files.insert(to, node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        let mut changed = lock(&self.changed);
        if !self.is_there(&changed, &path)? {
            return Err(not_found(&path));
        }
        changed.files.remove(&path);
        self.hide(&mut changed, &path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.is_there(&lock(&self.changed), &normal(path)?)
    }

    fn available_bytes(&self) -> io::Result<u64> {
        self.below.available_bytes()
    }
}

#[derive(Debug)]
struct OverlayFile {
    node: Arc<Mutex<Node>>,
    is_writable: bool,
}

impl OverlayFile {
    fn write<T>(&self, change: impl FnOnce(&mut Node) -> io::Result<T>) -> io::Result<T> {
        if !self.is_writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open for reading only"));
        }
        change(&mut lock(&self.node))
    }
}

impl File for OverlayFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        lock(&self.node).read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(|node| node.write_at(buf, offset))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(|node| node.set_len(len))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.node).len)
    }
}

impl Node {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = (buf.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        let buf = &mut buf[..len];
        if buf.is_empty() {
            return Ok(0);
        }
        buf.fill(0);
        let shown = (len as u64).min(self.shown.saturating_sub(offset)) as usize;
        if let Some(below) = self.below.as_ref().filter(|_| shown > 0) {
            below.read_at(&mut buf[..shown], offset)?;
        }
        let end = offset + len as u64;
        for (page, bytes) in self.pages.range(offset / PAGE_BYTES..=(end - 1) / PAGE_BYTES) {
            let start = page * PAGE_BYTES;
            let (from, to) = (start.max(offset), (start + PAGE_BYTES).min(end));
            buf[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(len)
    }

    fn write_at(&mut self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let (page, within) = (offset / PAGE_BYTES, (offset % PAGE_BYTES) as usize);
            let count = buf.len().min(PAGE_BYTES as usize - within);
            let mut bytes = vec![0; PAGE_BYTES as usize].into_boxed_slice();
            self.read_at(&mut bytes, page * PAGE_BYTES)?;
            bytes[within..within + count].copy_from_slice(&buf[..count]);
            self.pages.insert(page, bytes);
            buf = &buf[count..];
            offset += count as u64;
            self.len = self.len.max(offset);
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len < self.len {
            self.shown = self.shown.min(len);
            self.pages.retain(|page, _| page * PAGE_BYTES < len);
            if let Some(bytes) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                bytes[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.len = len;
        Ok(())
    }

    /// How many of the kept pages differ from another file below `len`.
    fn pages_unlike(&self, other: &dyn File, len: u64) -> io::Result<u64> {
        let mut unlike = 0;
        let mut bytes = vec![0; PAGE_BYTES as usize];
        for (page, kept) in self.pages.iter().filter(|(page, _)| *page * PAGE_BYTES < len) {
            let count = (len - page * PAGE_BYTES).min(PAGE_BYTES) as usize;
            bytes.fill(0);
            other.read_at(&mut bytes[..count], page * PAGE_BYTES)?;
            unlike += u64::from(bytes[..count] != kept[..count]);
        }
        Ok(unlike)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(path, len) => write!(f, "create {} of {len} bytes", path.display()),
            Self::Written(path, pages) => write!(f, "write {pages} pages of 4 KiB in {}", path.display()),
            Self::Resized(path, before, after) if after < before => {
                write!(f, "cut {} from {before} to {after} bytes", path.display())
            }
            Self::Resized(path, before, after) => {
                write!(f, "extend {} from {before} to {after} bytes", path.display())
            }
            Self::Removed(path) => write!(f, "remove {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SimDisk, read_file};

    #[test]
    fn changes_show_above_and_not_below() {
        let below = SimDisk::new(1);
        below.create_dir_all(Path::new("dir")).expect("directory");
        for (name, len) in [("dir/cut", 10_000), ("dir/moved", 5_000), ("dir/gone", 10), ("dir/same", 6_000)] {
            let file = below.open(Path::new(name), OpenMode::CreateNew).expect("create");
            file.write_at(&vec![7; len], 0).expect("write");
        }
        let files = below.files();
        let disk = OverlayDisk::new(Arc::new(below.clone()));
        let write = |name: &str, bytes: &[u8], at| {
            disk.open(Path::new(name), OpenMode::ReadWrite).expect("open").write_at(bytes, at).expect("write");
        };
        disk.open(Path::new("dir/cut"), OpenMode::ReadWrite).expect("open").set_len(5_000).expect("cut");
        write("dir/cut", b"xx", 4_095);
        write("dir/same", &[7; 3_000], 1_000);
        disk.rename(Path::new("dir/moved"), Path::new("dir/here")).expect("rename");
        disk.remove_file(Path::new("dir/gone")).expect("remove");
        let path = |name: &str| PathBuf::from(format!("dir/{name}"));
        let changes = disk.changes().expect("readable");
        assert_eq!(
            changes,
            [
                Change::Removed(path("gone")),
                Change::Removed(path("moved")),
                Change::Resized(path("cut"), 10_000, 5_000),
                Change::Written(path("cut"), 2),
                Change::Created(path("here"), 5_000),
            ]
        );
        let cut = read_file(&disk, Path::new("dir/cut"), 1 << 20).expect("read");
        assert_eq!((cut.len(), &cut[4_090..4_100]), (5_000, &[7, 7, 7, 7, 7, b'x', b'x', 7, 7, 7][..]));
        let names: Vec<String> =
            disk.read_dir(Path::new("dir")).expect("list").into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["cut", "here", "same"]);
        assert!(
            below.files() == files && read_file(&below, Path::new("dir/cut"), 1 << 20).expect("read") == [7; 10_000]
        );
    }
}
