//! `grey-sim`: runs seeds of the simulated federation.

#![allow(clippy::disallowed_methods, reason = "a driver: it tells how long a batch took")]

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use grey_sim::{Batch, Break, Outcome, Summary, run};

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
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("seeds are given as FIRST..END")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("there is no seed in that range".into()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let broken = arguments.broken.map(|mistake| match mistake {
        Mistake::Dedup => Break::Dedup,
        Mistake::Fsync => Break::Fsync,
    });
    if let Some(seed) = arguments.seed {
        let outcome = run(seed, broken, arguments.trace);
        println!("{}", outcome.faults);
        println!(
            "seed {seed}: {} events promised, {} delivered, {} steps in {} ms, digest {:016x}",
            outcome.promised, outcome.delivered, outcome.steps, outcome.virtual_ms, outcome.digest
        );
        tell(&outcome, broken);
        return if outcome.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let batch = Batch { seeds: arguments.seeds.clone(), jobs, broken, stop_at_failure: arguments.first };
    let total = batch.seeds.end - batch.seeds.start;
    let started = Instant::now();
    let summary = batch.run(&|done, outcome| {
        if !outcome.wrong.is_empty() {
            tell(outcome, broken);
        }
        if done.is_multiple_of((total / 10).max(1)) {
            eprintln!("{done} of {total} seeds, {:.1} s", started.elapsed().as_secs_f64());
        }
    });
    report(&batch, &summary, started.elapsed().as_secs_f64())
}

fn tell(outcome: &Outcome, broken: Option<Break>) {
    if outcome.wrong.is_empty() {
        return;
    }
    println!("seed {} FAILED", outcome.seed);
    for what in &outcome.wrong {
        println!("  {what}");
    }
    let mistake = match broken {
        Some(Break::Dedup) => " --break dedup",
        Some(Break::Fsync) => " --break fsync",
        None => "",
    };
    println!("  replay: cargo run --release -p grey-sim -- --seed {}{mistake} --trace", outcome.seed);
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
    let missing = summary.missing();
    for fault in &missing {
        println!("never happened: {}", fault.as_str());
    }
    if summary.failures > 0 {
        let seeds: Vec<String> = summary.failed.iter().map(|outcome| outcome.seed.to_string()).collect();
        println!("FAILED: {} seeds, the first: {}", summary.failures, seeds.join(" "));
    }
    if summary.failures == 0 && missing.is_empty() {
        println!("passed");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
