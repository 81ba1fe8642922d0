//! An edge agent of ours as a process.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::Server;
use crate::{Outcome, Places, http};

/// An edge agent and its data.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    folder: PathBuf,
    server: Server,
    /// Where devices connect.
    pub mqtt: SocketAddr,
    /// Its HTTP interface.
    pub http: SocketAddr,
}

impl Agent {
    /// Starts an agent in a folder and waits until it is ready. It has no hub;
    /// every event is fsynced before its acknowledgement, and it evaluates a
    /// threshold and an aggregate. `forward` and `queue` are as in its document.
    pub fn start(places: &Places, folder: &Path, forward: &str, queue_max: &str) -> Outcome<Self> {
        let rules = "[{ type: threshold, condition: \"temperature > 85°C\", action: local_alert }, \
                     { type: aggregate, interval: 1m, fields: [avg, min, max, count] }]";
        Self::start_with(places, folder, forward, queue_max, &format!("{{ rules: {rules} }}"))
    }

    /// The same with rules of the caller's: `local_processing` is what stands
    /// under that key of the agent's document, as YAML on one line.
    pub fn start_with(
        places: &Places,
        folder: &Path,
        forward: &str,
        queue_max: &str,
        local_processing: &str,
    ) -> Outcome<Self> {
        let document = format!(
            "edge:\n  site_id: bench\n  durability: fsync\n  forward: {forward}\n  queue: {{ max_bytes: {queue_max} }}\n  \
             ingest: {{ mqtt: {{ listen: \"127.0.0.1:0\" }} }}\n  api: {{ listen: \"127.0.0.1:0\" }}\n  \
             local_processing: {local_processing}\n"
        );
        Self::start_document(places, folder, &document)
    }

    /// The same with a document that is the caller's as a whole.
    pub fn start_document(places: &Places, folder: &Path, document: &str) -> Outcome<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("edge.yaml"), document)?;
        let program = places.binary("edge-agent")?;
        let mut server = spawn(&program, folder)?;
        let (mqtt, http) = (server.address("mqtt")?, server.address("http")?);
        server.ready(http)?;
        Ok(Self { program, folder: folder.to_owned(), server, mqtt, http })
    }

    /// SIGKILL, something in between, and a start on the same data. Returns
    /// how long it took from exec to ready, and what it said it was waiting for.
    pub fn crash(self, between: impl FnOnce()) -> Outcome<(Self, std::time::Duration, Option<String>)> {
        let Self { program, folder, server, .. } = self;
        server.kill()?;
        between();
        let mut server = spawn(&program, &folder)?;
        let http = server.address("http")?;
        let waited_for = server.ready(http)?;
        let took = server.running();
        let mqtt = server.address("mqtt")?;
        Ok((Self { program, folder, server, mqtt, http }, took, waited_for))
    }

    /// SIGKILL and a start on the same data that is killed again after a time,
    /// in the midst of its recovery as a rule. [`Agent::crash`] is to follow.
    pub fn crash_early(&mut self, after: std::time::Duration) -> Outcome<()> {
        let killed = std::mem::replace(&mut self.server, spawn(&self.program, &self.folder)?);
        killed.kill()?;
        std::thread::sleep(after);
        Ok(())
    }

    /// Lets it drain (SIGTERM) and waits until it has ended.
    pub fn stop(self) -> Outcome<()> {
        self.server.terminate()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// An error if it ended by itself.
    pub fn check(&mut self) -> Outcome<()> {
        self.server.check()
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Events of one lane that it accepted, by its ledger.
    pub fn accepted(&self, lane: &str) -> Outcome<u64> {
        let ledger = http::json(self.http, "/v1/ledger")?;
        let rows = ledger["ledger"].as_array().ok_or("the ledger has no rows")?;
        if rows.iter().any(|row| row["balanced"] != Value::Bool(true)) {
            return Err(format!("the ledger is not balanced: {ledger}").into());
        }
        Ok(rows.iter().filter(|row| row["lane"] == lane).filter_map(|row| row["accepted"].as_u64()).sum())
    }

    /// MQTT connections that are open.
    pub fn connections(&self) -> Outcome<u64> {
        let status = http::json(self.http, "/v1/status")?;
        Ok(status["mqtt_connections"].as_u64().ok_or_else(|| format!("no mqtt_connections in {status}"))?)
    }

    /// Bytes and events that wait for the hub.
    pub fn pending(&self) -> Outcome<(u64, u64)> {
        let status = http::json(self.http, "/v1/status")?;
        let lanes = status["pending"].as_object().ok_or_else(|| format!("no pending in {status}"))?;
        let sum = |key: &str| lanes.values().filter_map(|lane| lane[key].as_u64()).sum();
        Ok((sum("bytes"), sum("events")))
    }
}

fn spawn(program: &Path, folder: &Path) -> Outcome<Server> {
    let args: [OsString; 4] =
        ["--config".into(), folder.join("edge.yaml").into(), "--data-dir".into(), folder.join("data").into()];
    Server::start("edge-agent", program, &args, folder)
}
