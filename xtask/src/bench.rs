//! `cargo xtask bench NAME`: our figures beside a peer's, in one run.
//!
//! The benchmarks are binaries of `bench/`, outside the workspace, so that
//! nobody compiles the peers who does not measure.

use anyhow::{Result, bail};
use clap::Args;

use crate::setup;
use crate::workspace::{self, cargo, root};

/// Which benchmark.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A binary of bench/: edge, rules, reduction, log, queue, codec, mqtt, hub, backlog, drain, soak. Without it they are listed
    name: Option<String>,
    /// Arguments for the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The tiers' binaries that a benchmark starts by itself.
const NEEDS_BINARIES: [&str; 8] = ["mqtt", "hub", "backlog", "drain", "edge", "rules", "reduction", "soak"];

/// Runs one benchmark, after installing the peers it compares with.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = binaries()?;
    let Some(name) = options.name.as_deref().filter(|name| known.iter().any(|known| known == name)) else {
        bail!("name a benchmark: {}", known.join(", "));
    };
    match name {
        "mqtt" => setup::ensure(&["mosquitto"])?,
        "hub" => setup::ensure(&["etcd"])?,
        "queue" => setup::ensure(&["nats-server"])?,
        "drain" => setup::ensure(&["ip"])?,
        _ => {}
    }
    if NEEDS_BINARIES.contains(&name) {
        crate::federation::Binaries::build()?;
    }
    let manifest = root().join("bench/Cargo.toml");
    let mut command = cargo("run");
    command.arg("--release").arg("--manifest-path").arg(manifest).args(["--bin", name, "--"]).args(&options.rest);
    workspace::run(&mut command)
}

fn binaries() -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    if let Ok(folder) = std::fs::read_dir(root().join("bench/src/bin")) {
        for entry in folder {
            let path = entry?.path();
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    let manifest = std::fs::read_to_string(root().join("bench/Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = manifest.parse()?;
    for bin in manifest.get("bin").and_then(toml::Value::as_array).into_iter().flatten() {
        names.extend(bin.get("name").and_then(toml::Value::as_str).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}
