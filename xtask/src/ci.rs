//! `cargo xtask ci`: everything that a change must pass, cheapest first.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace::{cargo, run as run_command};
use crate::{demo, deny, layers, sim, suite, tidy};

/// How much of it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seeds of the simulation batch
    #[arg(long, default_value = "0..400", value_name = "A..B")]
    seeds: String,
    /// Seconds that the demo's plant runs
    #[arg(long, default_value_t = 40)]
    demo_seconds: u64,
    /// Stop before the simulation and the demo
    #[arg(long)]
    quick: bool,
}

/// A finished step, for the table at the end.
struct Step {
    name: &'static str,
    took: Duration,
    failure: Option<String>,
}

/// Runs the steps. All cheap checks run, so that one run names every finding;
/// after a step that compiles and fails, nothing more is tried.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut done: Vec<Step> = Vec::new();
    let mut closing = Vec::new();
    let mut step = |name: &'static str, task: &mut dyn FnMut() -> Result<()>| {
        eprintln!("\n== {name}");
        let began = Instant::now();
        let failure = task().err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            eprintln!("{name} failed: {failure}");
        }
        let passed = failure.is_none();
        done.push(Step { name, took: began.elapsed(), failure });
        passed
    };

    let cheap = [
        step("fmt", &mut || run_command(cargo("fmt").args(["--all", "--", "--check"]))),
        step("tidy", &mut tidy::run),
        step("layers", &mut layers::run),
        step("deny", &mut deny::run),
    ];
    let compiled = step("clippy", &mut || {
        let all = ["--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        run_command(cargo("clippy").args(all))
    }) && step("doc", &mut || {
        run_command(cargo("doc").args(["--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
    }) && step("test", &mut || suite::run(&suite::Options::default()).map(|lines| closing = lines));
    if compiled && !options.quick && cheap.iter().all(|passed| *passed) {
        let batch = |outbox| sim::Options { seeds: options.seeds.clone(), seed: None, outbox, rest: Vec::new() };
        let shown = demo::Options::headless(options.demo_seconds);
        let _ = step("sim", &mut || sim::run(&batch(false)))
            && step("outbox", &mut || sim::run(&batch(true)))
            && step("demo", &mut || demo::run(&shown));
    }

    println!("\nstep    seconds  result");
    for step in &done {
        let result = step.failure.as_deref().unwrap_or("passed");
        println!("{:7} {:7.1}  {result}", step.name, step.took.as_secs_f64());
    }
    for line in closing {
        println!("{line}");
    }
    match done.iter().filter(|step| step.failure.is_some()).count() {
        0 => Ok(()),
        failed => bail!("{failed} step(s) failed"),
    }
}
