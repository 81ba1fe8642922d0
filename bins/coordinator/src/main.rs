//! A member of the coordinator: keeps every event of the federation once and answers for it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use grey_config::Loaded;
use grey_coordinator::CoordinatorConfig;
use grey_service::{Daemon, RELEASE, REVISION, RunArgs, Signal, Signals, announce, environment};

struct Coordinator;

impl Daemon for Coordinator {
    type Config = CoordinatorConfig;
    const NAME: &'static str = "coordinator";
    const ABOUT: &'static str =
        "A member of the coordinator: keeps every event of the federation once and answers for it";
    const EXAMPLES: &'static str = "Examples:
  coordinator --config coordinator.yaml --data-dir /var/lib/grey-coordinator
  coordinator check --config coordinator.yaml
  curl 'http://127.0.0.1:7280/v1/events?kind=alert&limit=10'";

    fn data_dir(config: &CoordinatorConfig) -> Option<PathBuf> {
        config.storage.data_dir.clone()
    }

    fn explain(_: &CoordinatorConfig) -> Vec<String> {
        Vec::new()
    }

    async fn run(loaded: Loaded<CoordinatorConfig>, args: RunArgs, data_dir: PathBuf) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("cannot listen to signals")?;
        let config = loaded.config;
        let mut node = grey_coordinator::start(&config, args.node_id, &data_dir).await?;
        node.metrics().build_info("coordinator", RELEASE, REVISION);
        for note in node.notes() {
            tracing::error!("the data directory was damaged: {note}");
        }
        for (kind, address) in node.addresses() {
            announce(kind, *address);
        }
        tracing::info!(name = %config.name, data = %data_dir.display(), "coordinator is up");
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
fn say_what_needs_a_restart(config: &CoordinatorConfig, args: &RunArgs) {
    match CoordinatorConfig::load(&args.config, &environment()) {
        Ok(new) => {
            for change in CoordinatorConfig::diff(config, &new.config) {
                tracing::warn!(key = change.key_path, "changed in the file, but only a restart applies it");
            }
        }
        Err(errors) => tracing::error!("the configuration in the file is wrong: {errors}"),
    }
}

fn main() -> ExitCode {
    grey_service::main::<Coordinator>()
}
