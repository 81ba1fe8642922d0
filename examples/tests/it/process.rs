//! An agent that dies without a word, and starts again.
//!
//! With `GREY_BINARIES` set to a directory that holds `edge-agent` (for
//! example `target/debug`), the agent is a process that gets SIGKILL. Without
//! it the agent lives in this process and is dropped. The promises are the same.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use grey_config::Environment;
use grey_edge::{EdgeConfig, EdgeNode};

use crate::federation::{at, events, start_edge, status};
use crate::http;

fn binary() -> Option<PathBuf> {
    // Relative to the workspace: tests run in the folder of their package.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    std::env::var_os("GREY_BINARIES").map(|dir| workspace.join(dir).join("edge-agent"))
}

/// A process that ends with its owner, also when an assertion fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Dropping either ends it at once.
enum Running {
    Process { _process: Process },
    Node { _node: EdgeNode },
}

struct Agent {
    http: SocketAddr,
    _running: Running,
}

impl Agent {
    async fn start(config: &Path, data: &Path) -> Self {
        let Some(program) = binary() else {
            let config = EdgeConfig::load(config, &Environment::empty()).expect("a sound file").config;
            let node = start_edge(&config, data).await;
            return Self { http: at(node.addresses(), "http"), _running: Running::Node { _node: node } };
        };
        let mut command = Command::new(program);
        command.arg("--config").arg(config).arg("--data-dir").arg(data);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the agent starts");
        let mut process = Process(child);
        let lines = BufReader::new(process.0.stdout.take().expect("its output")).lines();
        let http = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening http ")?.parse().ok());
        let http = http.expect("it says where it listens");
        Self { http, _running: Running::Process { _process: process } }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_again_and_again_keeps_every_acknowledged_event() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (config, data) = (dir.path().join("edge.yaml"), dir.path().join("data"));
    let text = "edge:\n  site_id: plant-1\n  forward: raw\n  api: {listen: \"127.0.0.1:0\"}\n  \
                ingest: {mqtt: {listen: \"127.0.0.1:0\"}}\n";
    std::fs::write(&config, text).expect("a file");
    for round in 0..4_u64 {
        let agent = Agent::start(&config, &data).await;
        crate::until("the agent is ready", async || {
            let answer = http::get(agent.http, "/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        // The first of each round is the resend of the last one before.
        let first = (round * 10).saturating_sub(1);
        let lines = (first..round * 10 + 10)
            .map(|n| format!(r#"{{"device":"press-1","stream":"rpm","value":{n},"id":"{n}"}}"#) + "\n");
        let body: String = lines.collect();
        let answer = http::post(agent.http, "/v1/events", "application/x-ndjson", body.as_bytes()).await;
        assert_eq!(answer.expect("an answer").status, 200);
        let now = status(agent.http).await;
        let all = round * 10 + 10;
        assert_eq!((&now["accepted_total"], &now["deduplicated_total"]), (&(all + round).into(), &round.into()));
        assert_eq!(now["balanced"], true);
        drop(agent);
    }
    let agent = Agent::start(&config, &data).await;
    let kept = events(agent.http, "device=press-1", 1_000).await;
    for n in 0..40 {
        let id = n.to_string();
        assert!(kept.iter().any(|event| event["id"] == id.as_str()), "{n} is kept");
    }
    drop(agent);
}
