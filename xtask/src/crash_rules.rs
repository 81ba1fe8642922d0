//! `cargo xtask crash-rules`: a recorded day through an edge agent that is killed
//! again and again, and the comparison of what left it with an undisturbed run.
//!
//! The work is done by `bench/src/bin/crash.rs`: it decodes blocks, and nothing
//! of the workspace's crates is linked into this program.

use anyhow::Result;
use clap::Args;

use crate::federation::Binaries;
use crate::workspace::{self, cargo, root};

/// What is passed on.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments for the harness, such as `--kills 200 --seed 7`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the tiers' binaries and the harness, and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    Binaries::build()?;
    let manifest = root().join("bench/Cargo.toml");
    let mut command = cargo("run");
    command.arg("--release").arg("--manifest-path").arg(manifest);
    workspace::run(command.args(["--bin", "crash", "--"]).args(&options.rest))
}
