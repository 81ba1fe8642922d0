//! A disk of some megabytes: a tmpfs of its own, which can be filled to the last byte.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Ballast is written in pieces of this size, and then smaller ones.
const PIECE_BYTES: usize = 1 << 20;
const SMALLEST_PIECE_BYTES: usize = 512;

/// Mounted until dropped.
#[derive(Debug)]
pub(super) struct SmallDisk {
    path: PathBuf,
    ballast: Option<PathBuf>,
}

/// Whether mounting is allowed here.
pub(super) fn probe() -> Result<()> {
    let path = std::env::temp_dir().join(format!("grey-mount-{}", std::process::id()));
    let mounted = SmallDisk::mount(&path, 1 << 20).map(drop);
    // Only an empty folder goes.
    let _ = fs::remove_dir(&path);
    mounted
}

fn quietly(program: &str, args: &[&str], path: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().with_context(|| format!("could not start {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl SmallDisk {
    /// Mounts a tmpfs of so many bytes at a folder.
    pub(super) fn mount(path: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        quietly("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "grey-small-disk"], path)?;
        Ok(Self { path: path.to_owned(), ballast: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_filled(&self) -> bool {
        self.ballast.is_some()
    }

    /// Writes ballast until there is no space, and leaves `room` bytes of it free again.
    pub(super) fn fill(&mut self, room: u64) -> Result<()> {
        let path = self.path.join("ballast");
        let mut file = File::create(&path)?;
        self.ballast = Some(path);
        let mut piece = PIECE_BYTES;
        let bytes = vec![0xb5; PIECE_BYTES];
        let mut written = 0;
        while piece >= SMALLEST_PIECE_BYTES {
            match file.write(&bytes[..piece]) {
                Ok(more) => written += more as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => return Err(error).context("ballast"),
            }
        }
        file.set_len(written.saturating_sub(room)).context("ballast")
    }

    /// Removes the ballast.
    pub(super) fn empty(&mut self) -> Result<()> {
        self.ballast.take().map_or(Ok(()), |path| fs::remove_file(path).context("ballast"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = quietly("umount", &[], &self.path) {
            // Somebody may still hold a file; then it goes when that ends.
            let lazy = quietly("umount", &["--lazy"], &self.path);
            eprintln!("{error:#}; {}", if lazy.is_ok() { "it goes with its last user" } else { "unmount it by hand" });
        }
    }
}

/// Copies a folder, for evidence.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
