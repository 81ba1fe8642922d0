//! What the benchmarks of whole processes share: starting programs in a folder
//! of their own, asking them whether they are ready, reading what they used,
//! and printing figures side by side.

pub mod agent;
pub mod cache;
pub mod disk;
pub mod figures;
pub mod histogram;
pub mod http;
pub mod hub;
pub mod load;
pub mod mix;
pub mod outbox;
pub mod paced;
pub mod peers;
pub mod ports;
pub mod process;
pub mod publisher;
pub mod recording;
pub mod reference;
pub mod scalar;
pub mod usage;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What may fail with anything: a benchmark only reports it.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How a benchmark ends: well only when all that it holds was held.
pub fn exit_code(name: &str, outcome: Outcome<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's folder.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where a benchmark finds programs and leaves its files.
#[derive(Debug, Clone, clap::Args)]
pub struct Places {
    /// Where the tiers' release binaries are [default: target/release of the repository].
    #[arg(long)]
    pub binaries: Option<PathBuf>,
    /// Where the files go; a folder of its own is made there and removed.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    pub dir: PathBuf,
}

impl Places {
    /// One of our programs.
    pub fn binary(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.binaries.clone().unwrap_or_else(|| root().join("target/release"));
        let path = folder.join(name);
        if !path.is_file() {
            let hint = "cargo build --release -p edge-agent -p hub-server -p coordinator";
            return Err(format!("{} is not there: {hint}", path.display()).into());
        }
        Ok(path)
    }

    /// A new folder that is removed with its value.
    pub fn scratch(&self) -> Outcome<tempfile::TempDir> {
        std::fs::create_dir_all(&self.dir)?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&self.dir)?;
        Ok(folder)
    }
}

/// A program of Debian's, which may stand outside a user's PATH.
pub fn debian(name: &str) -> Outcome<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&places).collect();
    folders.push("/usr/sbin".into());
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{name} is not installed: cargo xtask setup {name}").into())
}

/// The first line that a program prints with an argument: what was measured.
pub fn version(program: &Path, argument: &str) -> Outcome<String> {
    let output = std::process::Command::new(program).arg(argument).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// What the figures were taken on.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([':', '\t', ' ']).to_owned();
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{cores} cores ({model}), Linux {}, load before the start {load}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}
