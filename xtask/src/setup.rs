//! `cargo xtask setup`: programs of others that a benchmark or check needs.
//!
//! Nothing is installed unless a command needs it or the user asks. All come
//! from Debian's archive, so that the versions are the ones users have.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace::{self, answers};

/// What to install.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Programs to install; all of them when none is named
    programs: Vec<String>,
}

/// A program and the Debian package that has it.
struct Peer {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const PEERS: [Peer; 7] = [
    Peer { program: "mosquitto", package: "mosquitto", purpose: "bench mqtt" },
    Peer { program: "mosquitto_pub", package: "mosquitto-clients", purpose: "trying the demo by hand" },
    Peer { program: "redis-cli", package: "redis-tools", purpose: "trying state by hand" },
    Peer { program: "etcd", package: "etcd-server", purpose: "bench hub" },
    Peer { program: "nats-server", package: "nats-server", purpose: "bench queue" },
    Peer { program: "ip", package: "iproute2", purpose: "bench drain" },
    Peer { program: "promtool", package: "prometheus", purpose: "checking docs/ops/alerts.yml" },
];

/// Installs what was named.
pub(crate) fn run(options: &Options) -> Result<()> {
    let named: Vec<&str> = options.programs.iter().map(String::as_str).collect();
    let all: Vec<&str> = PEERS.iter().map(|peer| peer.program).collect();
    ensure(if named.is_empty() { &all } else { &named })
}

/// Installs those of the programs that are not there.
pub(crate) fn ensure(programs: &[&str]) -> Result<()> {
    let mut missing = Vec::new();
    for name in programs {
        let Some(peer) = PEERS.iter().find(|peer| peer.program == *name || peer.package == *name) else {
            let known: Vec<&str> = PEERS.iter().map(|peer| peer.program).collect();
            bail!("{name} is not a program that setup knows, use {}", known.join(", "));
        };
        if !is_there(peer) {
            missing.push(peer);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    for peer in &missing {
        eprintln!("setup: {} is missing (package {}, for {})", peer.program, peer.package, peer.purpose);
    }
    let packages: Vec<&str> = missing.iter().map(|peer| peer.package).collect();
    if !rustix::process::geteuid().is_root() {
        bail!("installing needs root: sudo apt-get install {}", packages.join(" "));
    }
    if !answers("apt-get", &["--version"]) {
        bail!("no apt-get here, install by hand: {}", packages.join(" "));
    }
    workspace::run(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    // A daemon that the package would start takes the port that a test wants.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    workspace::run(install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages))?;
    match missing.iter().find(|peer| !is_there(peer)) {
        Some(peer) => bail!("{} is installed but {} does not answer", peer.package, peer.program),
        None => Ok(()),
    }
}

/// True when the program can be started; daemons may live outside a user's PATH.
fn is_there(peer: &Peer) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&places).collect();
    folders.push("/usr/sbin".into());
    folders.iter().any(|folder| folder.join(peer.program).is_file())
}
