//! `cargo xtask`: everything that is done to this repository by a command.
//!
//! The checks (`tidy`, `layers`, `deny`) read the tree and the manifests. The
//! rest starts other programs: cargo, the federation's own binaries, peers to
//! measure against. Nothing here is linked into what ships.

#![allow(clippy::disallowed_methods, reason = "a driver: it times real processes by the real clock")]

mod audit;
mod bench;
mod ci;
mod crash_rules;
mod demo;
mod deny;
mod federation;
mod fuzz;
mod layers;
mod plant;
mod setup;
mod sim;
mod spdx;
mod suite;
mod tidy;
mod torture;
mod torture_outbox;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Builds, checks, shows and measures Grey")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start a whole federation with a plant of devices, hurt it, and check the books
    Demo(demo::Options),
    /// Run every test: cargo-nextest where it is installed, and the doc tests
    Test(suite::Options),
    /// Run everything that a change must pass
    Ci(ci::Options),
    /// Check the house style: module sizes and headers, names, links, decision records
    Tidy,
    /// Hold the crate table of ARCHITECTURE.md against the manifests
    Layers,
    /// Hold licences, bans and sources of every dependency against deny.toml
    Deny,
    /// Simulate the federation under faults, one seed after the other
    Sim(sim::Options),
    /// Run a benchmark beside its peers
    Bench(bench::Options),
    /// Fuzz the decoders
    Fuzz(fuzz::Options),
    /// Send a million events through real processes that are killed again and again
    Torture(torture::Options),
    /// Kill an edge agent on a small disk that fills up, a thousand times, and compare the books
    TortureOutbox(torture_outbox::Options),
    /// Kill an edge agent during a recorded day and compare what left it with an undisturbed run
    CrashRules(crash_rules::Options),
    /// Install the programs that a benchmark or check compares with (Debian packages)
    Setup(setup::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => suite::run(&options).map(|_| ()),
        Task::Ci(options) => ci::run(&options),
        Task::Tidy => tidy::run(),
        Task::Layers => layers::run(),
        Task::Deny => deny::run(),
        Task::Sim(options) => sim::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Torture(options) => torture::run(&options),
        Task::TortureOutbox(options) => torture_outbox::run(&options),
        Task::CrashRules(options) => crash_rules::run(&options),
        Task::Setup(options) => setup::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
