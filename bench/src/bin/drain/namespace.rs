//! A network of its own: a thread that has left the machine's network, and does
//! what it is told there. What it starts, threads and processes, stays in that
//! network, which is gone with the last of them, however the benchmark ends.

use std::process::Command;
use std::sync::mpsc::{Sender, channel, sync_channel};

use grey_bench::Outcome;
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace.
pub(crate) struct Namespace(Sender<Job>);

impl Namespace {
    /// Makes one, with its loopback interface up. Needs root.
    pub(crate) fn new() -> Outcome<Self> {
        let (jobs, todo) = channel::<Job>();
        let (said, ready) = sync_channel::<Outcome<()>>(1);
        std::thread::spawn(move || {
            let begun = enter();
            let good = begun.is_ok();
            if said.send(begun).is_ok() && good {
                todo.into_iter().for_each(|job| job());
            }
        });
        ready.recv().map_err(|_| "the thread of a namespace ended")??;
        Ok(Self(jobs))
    }

    /// Does something there and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
        let (result, done) = sync_channel(1);
        let job = move || {
            // Nobody waits any more when the benchmark was cut short.
            let _ = result.send(job());
        };
        self.0.send(Box::new(job)).map_err(|_| "the thread of a namespace ended")?;
        done.recv().map_err(|_| "a task in a namespace did not end")?
    }
}

fn enter() -> Outcome<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("a network namespace cannot be made: {error}; run as root"))?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip link set lo up: {status}").into()),
        Err(error) => Err(format!("ip cannot be started: {error}; cargo xtask setup ip").into()),
    }
}
