//! `grey-sim`: runs seeds of the simulated federation.

#![allow(clippy::disallowed_methods, reason = "a driver: it tells how long a batch took")]

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use grey_sim::{Batch, Break, Outcome, Summary, outbox, run};

/// Runs the whole federation under virtual time, one seed after another.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Seeds to run, as FIRST..END
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..100", conflicts_with = "seed")]
    seeds: Range<u64>,
    /// One seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print what happens, with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Threads [default: one a processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Histories of one site's outbox instead: a small disk, damage, and the ladder
    #[arg(long)]
    outbox: bool,
    /// Make a mistake on purpose, to show that the checks notice it
    #[arg(long = "break", value_name = "MISTAKE")]
    broken: Option<Mistake>,
    /// End at the first failure
    #[arg(long)]
    first: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mistake {
    /// The coordinator forgets what it has when it restarts
    Dedup,
    /// Sites acknowledge devices before their events are synced
    Fsync,
    /// With --outbox: folds are not synced before what they replace is given back
    FoldSync,
    /// With --outbox: blocks that were given to the link are folded like others
    Lease,
}

impl Mistake {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn of_federation(self) -> Result<Break, String> {
        match self {
            Self::Dedup => Ok(Break::Dedup),
            Self::Fsync => Ok(Break::Fsync),
            Self::FoldSync | Self::Lease => Err(format!("--break {} needs --outbox", self.name())),
        }
    }

    fn of_outbox(self) -> Result<outbox::Break, String> {
        match self {
            Self::Fsync => Ok(outbox::Break::Fsync),
            Self::FoldSync => Ok(outbox::Break::FoldSync),
            Self::Lease => Ok(outbox::Break::Lease),
            Self::Dedup => Err(format!("--break {} is of the federation, not of --outbox", self.name())),
        }
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("seeds are given as FIRST..END")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("there is no seed in that range".into()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.outbox { histories(&arguments) } else { federation(&arguments) };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn jobs(arguments: &Arguments) -> usize {
    arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1)
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn federation(arguments: &Arguments) -> Result<ExitCode, String> {
    let broken = arguments.broken.map(Mistake::of_federation).transpose()?;
    if let Some(seed) = arguments.seed {
        let outcome = run(seed, broken, arguments.trace);
        println!("{}", outcome.faults);
        println!(
            "seed {seed}: {} events promised, {} delivered, {} steps in {} ms, digest {:016x}",
            outcome.promised, outcome.delivered, outcome.steps, outcome.virtual_ms, outcome.digest
        );
        tell(seed, &outcome.wrong, arguments);
        return Ok(verdict(outcome.wrong.is_empty()));
    }
    let batch =
        Batch { seeds: arguments.seeds.clone(), jobs: jobs(arguments), broken, stop_at_failure: arguments.first };
    let started = Instant::now();
    let progress = Progress::new(arguments, started);
    let summary = batch.run(&|done, outcome: &Outcome| progress.tell(done, outcome.seed, &outcome.wrong));
    Ok(report(&batch, &summary, started.elapsed().as_secs_f64()))
}

fn histories(arguments: &Arguments) -> Result<ExitCode, String> {
    let broken = arguments.broken.map(Mistake::of_outbox).transpose()?;
    if let Some(seed) = arguments.seed {
        let outcome = outbox::run(seed, broken, arguments.trace);
        println!("{}", outcome.counts);
        println!("seed {seed}: {} readings acknowledged, {} sequences arrived", outcome.acknowledged, outcome.arrived);
        tell(seed, &outcome.wrong, arguments);
        return Ok(verdict(outcome.wrong.is_empty()));
    }
    let (seeds, jobs) = (arguments.seeds.clone(), jobs(arguments));
    let batch = outbox::Batch { seeds, jobs, broken, stop_at_failure: arguments.first };
    let started = Instant::now();
    let progress = Progress::new(arguments, started);
    let summary = batch.run(&|done, outcome: &outbox::Outcome| progress.tell(done, outcome.seed, &outcome.wrong));
    let seconds = started.elapsed().as_secs_f64();
    println!("\nfaults and actions of the outbox by kind");
    print!("{}", summary.counts);
    let rate = summary.runs as f64 / seconds;
    println!("\n{} histories in {seconds:.1} s on {jobs} threads ({rate:.0} a second)", summary.runs);
    println!("{} readings acknowledged to devices, {} sequences at the hub", summary.acknowledged, summary.arrived);
    let missing: Vec<&str> = summary.missing().iter().map(|what| what.as_str()).collect();
    let failed = summary.failed.iter().map(|outcome| outcome.seed).collect();
    Ok(conclusion(&missing, summary.failures, failed))
}

/// Says how far a batch is.
struct Progress<'a> {
    arguments: &'a Arguments,
    started: Instant,
}

impl<'a> Progress<'a> {
    fn new(arguments: &'a Arguments, started: Instant) -> Self {
        Self { arguments, started }
    }

    fn tell(&self, done: u64, seed: u64, wrong: &[String]) {
        tell(seed, wrong, self.arguments);
        let total = self.arguments.seeds.end - self.arguments.seeds.start;
        if done.is_multiple_of((total / 10).max(1)) {
            eprintln!("{done} of {total} seeds, {:.1} s", self.started.elapsed().as_secs_f64());
        }
    }
}

fn tell(seed: u64, wrong: &[String], arguments: &Arguments) {
    if wrong.is_empty() {
        return;
    }
    println!("seed {seed} FAILED");
    for what in wrong {
        println!("  {what}");
    }
    let outbox = if arguments.outbox { " --outbox" } else { "" };
    let mistake = arguments.broken.map(|mistake| format!(" --break {}", mistake.name())).unwrap_or_default();
    println!("  replay: cargo run --release -p grey-sim --{outbox} --seed {seed}{mistake} --trace");
}

fn report(batch: &Batch, summary: &Summary, seconds: f64) -> ExitCode {
    println!("\nfaults and rare paths by kind");
    print!("{}", summary.faults);
    println!(
        "\n{} seeds in {seconds:.1} s on {} threads ({:.0} ms of a thread each); {:.1} h of virtual time, {} steps",
        summary.runs,
        batch.jobs,
        seconds * 1_000.0 * batch.jobs as f64 / summary.runs.max(1) as f64,
        summary.virtual_ms as f64 / 3_600_000.0,
        summary.steps
    );
    println!(
        "{} events promised to devices, {} events at the coordinator; digest {:016x}",
        summary.promised, summary.delivered, summary.digest
    );
    let (quiet_ms, seed) = summary.quiet_ms_max;
    println!("at rest {:.1} s after the last fault at the latest (seed {seed})", quiet_ms as f64 / 1_000.0);
    let missing: Vec<&str> = summary.missing().iter().map(|fault| fault.as_str()).collect();
    conclusion(&missing, summary.failures, summary.failed.iter().map(|outcome| outcome.seed).collect())
}

fn conclusion(missing: &[&str], failures: u64, failed: Vec<u64>) -> ExitCode {
    for what in missing {
        println!("never happened: {what}");
    }
    if failures > 0 {
        let seeds: Vec<String> = failed.iter().map(ToString::to_string).collect();
        println!("FAILED: {failures} seeds, the first: {}", seeds.join(" "));
    }
    let good = failures == 0 && missing.is_empty();
    if good {
        println!("passed");
    }
    verdict(good)
}
