//! A temporary folder that goes away with its owner, unless something failed
//! and its logs are wanted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes a folder of this process's own.
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("grey-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, kept: false })
    }

    /// A folder in it, which goes with it.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self { path: self.path.join(name), kept: true }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it in place.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // A folder that cannot be removed is the temporary folder's to clean.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
