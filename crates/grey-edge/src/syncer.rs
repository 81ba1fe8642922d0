//! The threads that wait for the intake's disk and that rewrite stored blocks, so that
//! the engine need not.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use grey_log::PendingSync;
use grey_queue::{FoldJob, Folded};
use tokio::sync::Notify;

use crate::core::{Folder, Syncer};

/// Syncs on a thread of its own, which ends with it.
#[derive(Debug)]
pub(crate) struct ThreadSyncer {
    syncs: Sender<PendingSync>,
    results: Receiver<io::Result<()>>,
}

impl ThreadSyncer {
    /// Starts the thread. `ended` is notified when a sync has ended.
    pub(crate) fn start(ended: Arc<Notify>) -> io::Result<Self> {
        let (syncs, jobs) = channel::<PendingSync>();
        let (tell, results) = channel();
        std::thread::Builder::new().name("edge-sync".into()).spawn(move || {
            for job in jobs {
                let result = job.run();
                drop(job);
                if tell.send(result).is_err() {
                    return;
                }
                ended.notify_one();
            }
        })?;
        Ok(Self { syncs, results })
    }
}

impl Syncer for ThreadSyncer {
    fn start(&mut self, sync: PendingSync) {
        // A thread that has ended shows at the result.
        let _ = self.syncs.send(sync);
    }

    fn result(&mut self, wait: bool) -> Option<io::Result<()>> {
        let ended = || Err(io::Error::other("the thread that syncs has ended"));
        if wait {
            return Some(self.results.recv().unwrap_or_else(|_| ended()));
        }
        match self.results.try_recv() {
            Ok(result) => Some(result),
            Err(std::sync::mpsc::TryRecvError::Empty) => None,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Some(ended()),
        }
    }
}

/// Folds on a thread of its own, which ends with it.
#[derive(Debug)]
pub(crate) struct ThreadFolder {
    jobs: Sender<FoldJob>,
    made: Receiver<Folded>,
}

impl ThreadFolder {
    /// Starts the thread. `ended` is notified when a fold is made.
    pub(crate) fn start(ended: Arc<Notify>) -> io::Result<Self> {
        let (jobs, todo) = channel::<FoldJob>();
        let (tell, made) = channel();
        std::thread::Builder::new().name("edge-fold".into()).spawn(move || {
            for job in todo {
                if tell.send(job.run()).is_err() {
                    return;
                }
                ended.notify_one();
            }
        })?;
        Ok(Self { jobs, made })
    }
}

impl Folder for ThreadFolder {
    fn start(&mut self, job: FoldJob) {
        // Without the thread nothing is folded, and lanes do as they do when nothing gives way.
        let _ = self.jobs.send(job);
    }

    fn result(&mut self) -> Option<Folded> {
        self.made.try_recv().ok()
    }
}
