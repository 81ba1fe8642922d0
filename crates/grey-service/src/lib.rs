//! What every daemon of Grey shares: the command line, logs, signals, and
//! exit codes. A daemon exits 0 after an orderly end, 1 after a failure, and
//! 2 when its configuration is wrong.

mod cli;
mod logs;
mod signals;

pub use cli::{CheckArgs, Command, Daemon, Misconfigured, RunArgs, environment, main};
pub use logs::LogFormat;
pub use signals::{Signal, Signals};

/// The version.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The git revision that was built, or `unknown`.
pub const REVISION: &str = env!("GREY_REVISION");

/// Version and git revision, as `--version` prints them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("GREY_REVISION"), ")");

/// Says on standard output where a listener is bound: one line `listening KIND ADDRESS`.
#[allow(clippy::print_stdout, reason = "this line is the interface that supervisors and tests read")]
pub fn announce(kind: &str, address: std::net::SocketAddr) {
    println!("listening {kind} {address}");
}
