//! `cargo xtask sim`: the federation, or one site's outbox, under virtual time.

use anyhow::Result;
use clap::Args;

use crate::workspace;

/// Which seeds.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seeds to run, as FIRST..END
    #[arg(long, default_value = "0..1000", value_name = "A..B")]
    pub(crate) seeds: String,
    /// One seed instead; add `-- --trace` to see what happens in it
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Histories of one site's outbox instead of the federation: a small disk, damage, and the ladder
    #[arg(long)]
    pub(crate) outbox: bool,
    /// Further arguments for grey-sim, after `--`
    #[arg(last = true)]
    pub(crate) rest: Vec<String>,
}

/// Builds and runs `grey-sim`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = workspace::cargo("run");
    command.args(["--release", "--package", "grey-sim", "--"]);
    match options.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => command.args(["--seeds", &options.seeds]),
    };
    if options.outbox {
        command.arg("--outbox");
    }
    command.args(&options.rest);
    workspace::run(&mut command)
}
