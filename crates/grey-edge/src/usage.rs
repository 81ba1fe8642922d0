//! What was used of the link's budget, kept over restarts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use grey_link::BudgetUsage;
use grey_net::uplink_client::LinkStatus;
use tokio::sync::watch;

/// Its name in the data directory.
const FILE: &str = "budget";
/// How often it is written while it changes: so much may be granted anew after a power loss.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// A longer file is none of ours.
const BYTES_MAX: usize = 256;

/// The file. A driver: it touches the file system itself.
#[derive(Debug)]
pub(crate) struct BudgetFile {
    path: PathBuf,
    saved: BudgetUsage,
}

impl BudgetFile {
    /// Reads what was saved; a damaged file counts as an empty one, and says so.
    pub(crate) fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let saved = match std::fs::read(&path) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes[..bytes.len().min(BYTES_MAX)]).unwrap_or_default();
                text.trim().parse().unwrap_or_else(|_| {
                    tracing::error!(path = %path.display(), "what was used of the link's budget cannot be read: it counts from nothing");
                    BudgetUsage::default()
                })
            }
            Err(_) => BudgetUsage::default(),
        };
        Self { path, saved }
    }

    /// What a process before had used.
    pub(crate) fn saved(&self) -> BudgetUsage {
        self.saved
    }

    fn save(&mut self, usage: BudgetUsage) {
        if usage == self.saved {
            return;
        }
        let draft = self.path.with_extension("tmp");
        let written = std::fs::write(&draft, usage.to_string()).and_then(|()| std::fs::rename(&draft, &self.path));
        match written {
            Ok(()) => self.saved = usage,
            Err(error) => tracing::warn!(%error, "what is used of the link's budget cannot be kept"),
        }
    }
}

/// Writes what is used now and then, and at the end.
pub(crate) async fn keep_usage(
    mut file: BudgetFile,
    link: watch::Receiver<Option<LinkStatus>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(SAVE_INTERVAL) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let usage = link.borrow().as_ref().map(|link| link.uplink.budget_usage);
        usage.into_iter().for_each(|usage| file.save(usage));
        if stopping {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_kept_and_a_damaged_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = BudgetFile::open(dir.path());
        let usage = BudgetUsage { day: 20_000, day_bytes: 7, month: 19_990, month_bytes: 70 };
        file.save(usage);
        assert_eq!(BudgetFile::open(dir.path()).saved(), usage);
        std::fs::write(dir.path().join(FILE), [0xff; 300]).unwrap();
        assert_eq!(BudgetFile::open(dir.path()).saved(), BudgetUsage::default());
    }
}
