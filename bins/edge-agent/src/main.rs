//! The agent of a site: takes what devices send, decides locally, and hands
//! everything to a hub exactly once.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use grey_config::Loaded;
use grey_edge::{ConfigSource, EdgeConfig, EdgeNode};
use grey_service::{Daemon, Misconfigured, RELEASE, REVISION, RunArgs, Signal, Signals, announce, environment};

struct EdgeAgent;

impl Daemon for EdgeAgent {
    type Config = EdgeConfig;
    const NAME: &'static str = "edge-agent";
    const ABOUT: &'static str = "The agent of a site: takes what devices send, decides locally, \
                                 and hands everything to a hub exactly once";
    const EXAMPLES: &'static str = "Examples:
  edge-agent --config edge.yaml --data-dir /var/lib/grey
  edge-agent check --config edge.yaml
  GREY_EDGE__FORWARD=raw edge-agent --config edge.yaml
  mosquitto_pub -t grey/press-7/temperature -m 71.5 -q 1
  curl http://127.0.0.1:7080/v1/status";

    fn data_dir(config: &EdgeConfig) -> Option<PathBuf> {
        config.storage.data_dir.clone()
    }

    fn explain(config: &EdgeConfig) -> Vec<String> {
        config.explain()
    }

    async fn run(loaded: Loaded<EdgeConfig>, args: RunArgs, data_dir: PathBuf) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("cannot listen to signals")?;
        let config = loaded.config;
        let source = ConfigSource { path: args.config, environment: environment() };
        let started = EdgeNode::start_from(config.clone(), Some(source), &data_dir).await;
        let mut node = started.map_err(|error| match error.is_configuration() {
            true => anyhow::Error::from(error).context(Misconfigured),
            false => error.into(),
        })?;
        node.metrics().build_info("edge", RELEASE, REVISION);
        for note in node.notes() {
            tracing::error!("the data directory was damaged: {note}");
        }
        for (kind, address) in node.addresses() {
            announce(kind, *address);
        }
        let runtimes = grey_edge::runtimes().join(", ");
        tracing::info!(site = %config.site_id, data = %data_dir.display(), runtimes, "edge agent is up");
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => reload(&node).await,
                },
                error = node.failed() => return Err(error).context("the store failed; nothing more is accepted"),
            }
        }
        tracing::info!("stopping");
        node.stop().await.context("the last checkpoint could not be written; nothing accepted is lost")
    }
}

/// Takes over what a running agent can; any error keeps everything as it is.
async fn reload(node: &EdgeNode) {
    match node.reload().await {
        Ok(reloaded) => {
            for key in &reloaded.needs_restart {
                tracing::warn!(key, "changed in the file, but only a restart applies it");
            }
            for warning in &reloaded.warnings {
                tracing::warn!("{warning}");
            }
            tracing::info!(changed = ?reloaded.changed, "rules, models and forwarding are those of the file now");
        }
        Err(error) => tracing::error!("everything stays as it was: {error}"),
    }
}

fn main() -> ExitCode {
    grey_service::main::<EdgeAgent>()
}
