//! A member of a regional hub: makes what sites send durable on a quorum and hands it to the coordinator.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use grey_config::Loaded;
use grey_hub::HubConfig;
use grey_service::{Daemon, RELEASE, REVISION, RunArgs, Signal, Signals, announce, environment};

struct HubServer;

impl Daemon for HubServer {
    type Config = HubConfig;
    const NAME: &'static str = "hub-server";
    const ABOUT: &'static str =
        "A member of a regional hub: makes what sites send durable on a quorum and hands it to the coordinator";
    const EXAMPLES: &'static str = "Examples:
  hub-server --config hub.yaml --node-id 1 --data-dir /var/lib/grey-hub
  hub-server check --config hub.yaml
  curl http://127.0.0.1:7180/v1/sites";

    fn data_dir(config: &HubConfig) -> Option<PathBuf> {
        config.storage.data_dir.clone()
    }

    fn explain(_: &HubConfig) -> Vec<String> {
        Vec::new()
    }

    async fn run(loaded: Loaded<HubConfig>, args: RunArgs, data_dir: PathBuf) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("cannot listen to signals")?;
        let config = loaded.config;
        let mut node = grey_hub::start(&config, args.node_id, &data_dir).await?;
        node.metrics().build_info("hub", RELEASE, REVISION);
        for note in node.notes() {
            tracing::error!("the data directory was damaged: {note}");
        }
        for (kind, address) in node.addresses() {
            announce(kind, *address);
        }
        tracing::info!(name = %config.name, data = %data_dir.display(), "hub-server is up");
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => say_what_needs_a_restart(&config, &args),
                },
                error = node.failed() => return Err(error).context("the store failed; this member stops"),
            }
        }
        tracing::info!("stopping");
        node.stop().await.context("the last checkpoint could not be written; nothing acknowledged is lost")
    }
}

/// SIGHUP: nothing of this tier changes while it runs, so the file is checked and compared.
fn say_what_needs_a_restart(config: &HubConfig, args: &RunArgs) {
    match HubConfig::load(&args.config, &environment()) {
        Ok(new) => {
            for change in HubConfig::diff(config, &new.config) {
                tracing::warn!(key = change.key_path, "changed in the file, but only a restart applies it");
            }
        }
        Err(errors) => tracing::error!("the configuration in the file is wrong: {errors}"),
    }
}

fn main() -> ExitCode {
    grey_service::main::<HubServer>()
}
