//! `cargo xtask demo`: a whole federation on this machine, with a plant of
//! devices, faults, and a verdict.
//!
//! - [`story`]: what happens when.
//! - [`view`]: what is on the screen meanwhile.
//! - [`verdict`]: the books at the end.

mod story;
mod verdict;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::federation::{Binaries, Federation, Forward, Scratch, SitePlan};

/// Nodes of the hub.
const HUB_NODES: u64 = 3;
/// The sites. The one that is hurt most sends every reading up, so that each
/// can be checked by its id at the coordinator.
static SITES: [SitePlan; 3] = [
    SitePlan::new("plant-north", Forward::Raw),
    SitePlan::new("plant-south", Forward::Aggregates),
    SitePlan::new("plant-west", Forward::Aggregates),
];

/// How the demo runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Seconds that the plant runs, faults included (at least 20)
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
    /// Plain lines; the last one is a JSON object with the verdict
    #[arg(long)]
    headless: bool,
    /// Keep everything running after the verdict, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Use the binaries of this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

impl Options {
    /// Plain lines for a number of seconds.
    pub(crate) fn headless(seconds: u64) -> Self {
        Self { seconds, headless: true, keep: false, binaries: None }
    }
}

/// Builds, runs and judges.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binaries = Binaries::at_or_build(options.binaries.as_deref())?;
    let done = in_scratch("demo", async |scratch| {
        let mut signals = Signals::listen()?;
        let mut view = view::View::new(!options.headless && std::io::stdout().is_terminal());
        view.say("starting a coordinator, three hub nodes and three sites");
        let started = Federation::start(&binaries, scratch, &SITES, HUB_NODES);
        let mut federation = signals.or_stop(started).await?;
        let addresses = federation.addresses();
        addresses.iter().for_each(|line| view.say(line));

        let length = Duration::from_secs(options.seconds);
        let verdict = signals.or_stop(story::tell(&mut federation, length, &mut view)).await?;
        if options.keep {
            view.say("everything runs on until Ctrl-C:");
            addresses.iter().for_each(|line| view.say(line));
        }
        if options.headless && options.keep {
            println!("{}", verdict.json());
            view.mute();
        }
        if options.keep {
            // Ends by a signal, which is how --keep is meant to end, or by a failure.
            match signals.or_stop(story::linger(&mut federation, &mut view)).await {
                Err(error) if !error.is::<Stopped>() => return Err(error),
                _ => {}
            }
        }
        let drained = async { anyhow::Ok(federation.drain().await) };
        for unclean in signals.or_stop(drained).await? {
            view.say(&format!("did not end cleanly: {unclean}"));
        }
        if options.headless && !options.keep {
            println!("{}", verdict.json());
        }
        Ok(verdict.balanced())
    });
    match done {
        Ok(true) => Ok(()),
        Ok(false) => bail!("the books do not balance"),
        Err(error) => {
            if options.headless {
                println!("{}", serde_json::json!({ "balanced": false, "error": format!("{error:#}") }));
            }
            Err(error)
        }
    }
}

/// Runs a task on this thread with a temporary folder. The folder stays for
/// inspection if the task fails or finds against what it looked at (false).
pub(crate) fn in_scratch(purpose: &str, task: impl AsyncFnOnce(&Scratch) -> Result<bool>) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut scratch = Scratch::new(purpose)?;
    let done = runtime.block_on(task(&scratch));
    let wanted = match &done {
        Ok(good) => !good,
        Err(error) => !error.is::<Stopped>(),
    };
    if wanted {
        scratch.keep();
        eprintln!("logs and data are left in {}", scratch.path().display());
    }
    done
}

/// Somebody asked this program to end.
#[derive(Debug)]
pub(crate) struct Stopped(&'static str);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; every process is ended", self.0)
    }
}

impl std::error::Error for Stopped {}

/// The signals that end the program. What was being done is dropped, and every
/// process that it owned is killed with it.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("a signal handler could not be installed");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The work's result, or [`Stopped`] when a signal comes first.
    pub(crate) async fn or_stop<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            _ = self.interrupt.recv() => Err(Stopped("interrupted").into()),
            _ = self.terminate.recv() => Err(Stopped("terminated").into()),
            _ = self.hang_up.recv() => Err(Stopped("the terminal is gone").into()),
        }
    }
}
