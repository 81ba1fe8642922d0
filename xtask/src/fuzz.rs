//! `cargo xtask fuzz`: the decoders under libFuzzer.
//!
//! The targets are built with the coverage passes of the installed compiler,
//! so that neither a nightly toolchain nor another tool is needed. What a run
//! finds interesting goes to `fuzz/corpus-found/`, which is not committed; the
//! seeds in `fuzz/corpus/` are.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::{cargo, output, root, run as run_command};

/// What to fuzz and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Targets; all of them when none is named
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Only list the targets
    #[arg(long)]
    list: bool,
}

/// What libFuzzer needs to see which input reached what.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Builds and runs the targets one after the other.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = root().join("fuzz");
    let known = targets(&folder)?;
    if options.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    if let Some(strange) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("{strange} is not a fuzz target, use {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };

    // With a target triple, the flags reach the targets and not the build scripts.
    let host = output(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let mut build = cargo("build");
    build.current_dir(&folder).env("RUSTFLAGS", COVERAGE).args(["--release", "--bins", "--target", host]);
    run_command(&mut build)?;

    for name in chosen {
        let found = folder.join("corpus-found").join(name);
        std::fs::create_dir_all(&found)?;
        let mut target = Command::new(folder.join("target").join(host).join("release").join(name));
        target.current_dir(&folder).arg(&found);
        let seeds = folder.join("corpus").join(name);
        if seeds.is_dir() {
            target.arg(seeds);
        }
        target.args(["-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"]);
        target.arg(format!("-max_total_time={}", options.seconds));
        run_command(&mut target).with_context(|| format!("fuzz target {name}; the input is in fuzz/crash-*"))?;
    }
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).context("fuzz/Cargo.toml")?;
    let manifest: toml::Table = manifest.parse().context("fuzz/Cargo.toml")?;
    let bins = manifest.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
    Ok(bins.filter_map(|bin| Some(bin.get("name")?.as_str()?.to_owned())).collect())
}
