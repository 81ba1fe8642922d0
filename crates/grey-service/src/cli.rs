//! The command line of a daemon: `run` (the default), `check` and `schema`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use grey_config::{Environment, Loaded, TierConfig};

use crate::logs::{self, LogFormat};

/// Context of an error that only another configuration mends: the daemon exits with 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misconfigured;

impl std::fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the configuration does not fit; nothing was changed on disk")
    }
}

/// What the shared `main` needs of a daemon.
pub trait Daemon {
    /// The tier's configuration.
    type Config: TierConfig;
    /// The program's name.
    const NAME: &'static str;
    /// One sentence for `--help`.
    const ABOUT: &'static str;
    /// Examples for `--help`.
    const EXAMPLES: &'static str;

    /// Where data goes when neither the command line nor the configuration says.
    fn data_dir(config: &Self::Config) -> Option<PathBuf>;

    /// What `check` says beyond the effective configuration, line by line.
    fn explain(config: &Self::Config) -> Vec<String>;

    /// Runs until a signal asks to stop.
    fn run(config: Loaded<Self::Config>, args: RunArgs, data_dir: PathBuf) -> impl Future<Output = anyhow::Result<()>>;
}

/// The arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The configuration file, YAML or TOML by extension
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Where data is kept [default: the configuration's, else ./NAME-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Which member of the configured group this process is (hub and coordinator)
    #[arg(long, value_name = "N")]
    pub node_id: Option<u64>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// The arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration file, YAML or TOML by extension
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run until SIGTERM; SIGHUP reads the configuration again
    Run(RunArgs),
    /// Check a configuration and print what it means; exits 2 when it is wrong
    Check(CheckArgs),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
}

#[derive(Debug, Parser)]
#[command(version = crate::VERSION, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArgs>,
}

/// The `main` of a daemon.
pub fn main<D: Daemon>() -> ExitCode {
    let command = Line::command().name(D::NAME).bin_name(D::NAME).about(D::ABOUT).after_help(D::EXAMPLES);
    let line = match Line::from_arg_matches(&command.get_matches()) {
        Ok(line) => line,
        Err(error) => error.exit(),
    };
    match (line.command, line.run) {
        (Some(Command::Check(args)), _) => check::<D>(&args.config),
        (Some(Command::Schema), _) => schema::<D>(),
        (Some(Command::Run(args)), _) | (None, Some(args)) => run::<D>(args),
        (None, None) => {
            complain(&format!("{}: --config FILE is missing; see --help", D::NAME));
            ExitCode::from(2)
        }
    }
}

/// The environment's variables that are text; others cannot name a key.
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn load<D: Daemon>(path: &Path) -> Result<Loaded<D::Config>, ExitCode> {
    D::Config::load_file(path, &environment()).map_err(|errors| {
        complain(&errors.to_string());
        ExitCode::from(2)
    })
}

fn run<D: Daemon>(args: RunArgs) -> ExitCode {
    let loaded = match load::<D>(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    logs::start(args.log_format);
    warn(&loaded.config);
    let configured = || D::data_dir(&loaded.config);
    let data_dir = args.data_dir.clone().or_else(configured).unwrap_or_else(|| format!("{}-data", D::NAME).into());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("{}: cannot start the runtime: {error}", D::NAME));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(D::run(loaded, args, data_dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", told_once(&error));
            if error.is::<Misconfigured>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// An error and its causes, without those that the text before ends with already.
fn told_once(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.ends_with(&cause) => text,
        cause if text.is_empty() => cause,
        cause => format!("{text}: {cause}"),
    })
}

fn warn<C: TierConfig>(config: &C) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    for inactive in config.inactive() {
        tracing::warn!(key = inactive.key_path, "accepted but not acting yet: {}", inactive.why);
    }
}

#[allow(clippy::print_stdout, reason = "what check prints is its result")]
fn check<D: Daemon>(path: &Path) -> ExitCode {
    let loaded = match load::<D>(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    print!("{}", loaded.config.to_yaml());
    for name in &loaded.overrides {
        println!("# {name} from the environment was applied");
    }
    for line in D::explain(&loaded.config) {
        println!("# {line}");
    }
    for warning in loaded.config.warnings() {
        println!("# warning: {warning}");
    }
    for inactive in loaded.config.inactive() {
        println!("# not acting yet: {}: {}", inactive.key_path, inactive.why);
    }
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout, reason = "the schema is the result")]
fn schema<D: Daemon>() -> ExitCode {
    println!("{:#}", D::Config::document_schema());
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr, reason = "said before logging is set up")]
fn complain(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_its_error_spells_out_is_told_once() {
        let error = anyhow::anyhow!("no such key").context("cannot open d: no such key").context(Misconfigured);
        let told = told_once(&error);
        assert_eq!(told, "the configuration does not fit; nothing was changed on disk: cannot open d: no such key");
        assert_eq!(told_once(&anyhow::anyhow!("b").context("a")), "a: b");
    }
}
