//! Pipelines of others over the same recorded readings: bytewax (PyPI) and
//! Node-RED (npm), installed into the benchmark's own target folder.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::Server;
use crate::{Outcome, http, ports, usage};

/// The versions that are compared with.
const BYTEWAX: &str = "bytewax==0.21.1";
const NODE_RED: &str = "node-red@4.1.15";
/// How long a peer may take over the readings.
const DONE_WITHIN: Duration = Duration::from_secs(300);

/// What a pipeline did and what it took.
#[derive(Debug, Clone, Copy)]
pub struct Piped {
    /// Readings that went through.
    pub readings: u64,
    /// Times that a device's readings began to be above the limit.
    pub alerts: u64,
    /// One-minute windows.
    pub windows: u64,
    /// Seconds for all readings.
    pub seconds: f64,
    /// CPU seconds, user and system.
    pub cpu_s: f64,
    /// Resident bytes at the end; 0 where it was not looked at.
    pub resident: u64,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name)
}

fn flow(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

fn quiet(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}: {}", output.status, said.lines().last().unwrap_or_default()).into())
}

/// Runs the bytewax flow over a file of readings.
pub fn bytewax(recording: &Path) -> Outcome<Piped> {
    let home = folder("bytewax");
    let python = home.join("bin/python");
    if !home.join("done").exists() {
        quiet(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", BYTEWAX]))?;
        std::fs::write(home.join("done"), BYTEWAX)?;
    }
    let output = Command::new(&python).arg(flow("bytewax_flow.py")).arg(recording).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("bytewax: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let told: Value = serde_json::from_slice(&output.stdout)?;
    piped(&told, told["seconds"].as_f64().unwrap_or_default(), told["cpu_s"].as_f64().unwrap_or_default(), 0)
}

fn piped(told: &Value, seconds: f64, cpu_s: f64, resident: u64) -> Outcome<Piped> {
    let number = |key: &str| told[key].as_u64().ok_or_else(|| format!("no {key} in {told}"));
    Ok(Piped {
        readings: number("readings")?,
        alerts: number("alerts")?,
        windows: number("windows")?,
        seconds,
        cpu_s,
        resident,
    })
}

/// Runs the Node-RED flow over readings that it gets over TCP.
pub fn node_red(recording: &[u8], readings: u64, scratch: &Path) -> Outcome<Piped> {
    let home = folder("node-red");
    if !home.join("done").exists() {
        std::fs::create_dir_all(&home)?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--omit=dev", "--prefix"]).arg(&home).arg(NODE_RED);
        quiet(&mut install)?;
        std::fs::write(home.join("done"), NODE_RED)?;
    }
    let free = ports::free(2)?;
    let (ui, tcp) = (free[0], free[1]);
    let text = std::fs::read_to_string(flow("node_red_flow.json"))?;
    std::fs::write(scratch.join("flow.json"), text.replace("\"PORT_TCP\"", &format!("\"{}\"", tcp.port())))?;
    std::fs::write(
        scratch.join("settings.js"),
        format!(
            "module.exports = {{ uiPort: {}, uiHost: '127.0.0.1', httpAdminRoot: false, \
             logging: {{ console: {{ level: 'error' }} }} }};\n",
            ui.port()
        ),
    )?;
    let args = [
        home.join("node_modules/node-red/red.js").into_os_string(),
        "-u".into(),
        scratch.as_os_str().to_owned(),
        "-s".into(),
        scratch.join("settings.js").into(),
        scratch.join("flow.json").into(),
    ];
    let node = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("node"))
        .find(|path| path.is_file())
        .ok_or("node is not installed")?;
    let mut server = Server::start("node-red", &node, &args, scratch)?;
    server.wait("answer", |_| http::json(ui, "/counts").ok())?;
    let (cpu, began) = (usage::cpu_s(server.pid()), Instant::now());
    let mut stream = TcpStream::connect(tcp)?;
    stream.write_all(recording)?;
    loop {
        let told = http::json(ui, "/counts")?;
        if told["readings"].as_u64() >= Some(readings) {
            let seconds = began.elapsed().as_secs_f64();
            return piped(&told, seconds, usage::cpu_s(server.pid()) - cpu, usage::resident(server.pid()));
        }
        server.check()?;
        if began.elapsed() > DONE_WITHIN {
            return Err(format!("Node-RED has {told} after {DONE_WITHIN:?}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
