//! The load on MQTT servers: the generator of `grey-ingest`, as a process of its own.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{Outcome, Places, root};

/// The generator's program.
#[derive(Debug, Clone)]
pub struct Generator(PathBuf);

/// What one run of it asks for.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// The server.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// Connections that publish.
    pub connections: usize,
    /// Messages of all connections together.
    pub messages: u64,
    /// Unacknowledged messages of one connection.
    pub inflight: u16,
    /// `number` or `json`.
    pub payload: &'a str,
}

/// What it measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Messages a second.
    pub rate: f64,
    /// The server's CPU time, µs a message.
    pub server_cpu_us: f64,
    /// The generator's own.
    pub client_cpu_us: f64,
    /// Median time to the acknowledgement, µs.
    pub p50_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
    /// The server's resident bytes at the end.
    pub server_resident: u64,
}

impl Generator {
    /// Builds the generator, unless the binaries are somebody else's.
    pub fn build(places: &Places) -> Outcome<Self> {
        if places.binaries.is_none() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
            let mut build = Command::new(cargo);
            build.current_dir(root()).args(["build", "--release", "--quiet", "-p", "grey-ingest", "--example", "load"]);
            if !build.status()?.success() {
                return Err("the load generator does not build".into());
            }
        }
        Ok(Self(places.binary("examples/load")?))
    }

    /// Publishes and waits for every acknowledgement; anything odd is an error.
    pub fn run(&self, load: &Load<'_>) -> Outcome<Measured> {
        let output = self.command(load).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "the load on {} failed: {}{said}",
                load.address,
                String::from_utf8_lossy(&output.stdout)
            )
            .into());
        }
        let figures: Value = serde_json::from_slice(&output.stdout)?;
        let number = |key: &str| figures[key].as_f64().ok_or_else(|| format!("the generator said no {key}"));
        Ok(Measured {
            rate: number("rate")?,
            server_cpu_us: number("server_cpu_us")?,
            client_cpu_us: number("client_cpu_us")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            server_resident: number("server_rss_kib")? as u64 * 1024,
        })
    }

    /// Publishes while the caller does something else.
    pub fn spawn(&self, load: &Load<'_>) -> Outcome<Background> {
        let child = self.command(load).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Background(child))
    }

    /// Opens connections and holds them.
    pub fn hold(&self, address: SocketAddr, connections: usize) -> Outcome<Background> {
        let mut command = Command::new(&self.0);
        command.arg("--address").arg(address.to_string()).args(["--client", "idle", "--hold-s", "86400"]);
        command.args(["--idle", &connections.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Background(command.spawn()?))
    }

    fn command(&self, load: &Load<'_>) -> Command {
        let mut command = Command::new(&self.0);
        command.arg("--json").args(["--address", &load.address.to_string(), "--payload", load.payload]);
        command.args(["--connections", &load.connections.to_string(), "--messages", &load.messages.to_string()]);
        command.args(["--inflight", &load.inflight.to_string(), "--server-pid", &load.pid.to_string()]);
        command
    }
}

/// A generator at work; killed with its owner.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    /// True when it has ended.
    pub fn has_ended(&mut self) -> Outcome<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
