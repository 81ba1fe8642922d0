//! Taking over a changed configuration file, or changed models, while the
//! agent runs: everything is checked first, and any mistake leaves everything
//! as it was.

use std::path::PathBuf;
use std::sync::Arc;

use grey_config::{ConfigErrors, Environment};
use grey_infer::ModelError;
use grey_rules::{RuleError, RuleSet, RuleSpec};
use tokio::sync::Mutex;

use crate::config::EdgeConfig;
use crate::engine::EngineHandle;
use crate::models::Models;

/// The file that a configuration came from.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// What is applied over it.
    pub environment: Environment,
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that act from now on.
    pub changed: Vec<String>,
    /// Keys that differ, but that only a restart applies.
    pub needs_restart: Vec<String>,
    /// The rules in force are others than before: by the file, or by a version of a model.
    pub rules_changed: bool,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The agent was not started from a file.
    #[error("this agent was not started from a configuration file")]
    NoFile,
    /// The file is wrong.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The rules are wrong.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// A model cannot be kept.
    #[error("a model cannot be kept: {0}")]
    Models(#[from] ModelError),
    /// The rules could not be changed.
    #[error("the rules stay as they were: {0}")]
    Engine(String),
}

/// Takes over changes, one at a time.
#[derive(Debug)]
pub(crate) struct Reloader {
    source: Option<ConfigSource>,
    models: Models,
    engine: EngineHandle,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    config: EdgeConfig,
    /// What the model directory had when the rules were compiled.
    models: Vec<String>,
    digest: u64,
}

impl Reloader {
    /// Continues from what the agent was started with.
    pub(crate) fn new(
        config: EdgeConfig,
        rules: &RuleSet,
        source: Option<ConfigSource>,
        models: Models,
        engine: EngineHandle,
    ) -> Self {
        let found = models.fingerprint(&model_names(&config));
        let running = Running { config, models: found, digest: rules.digest() };
        Self { source, models, engine, running: Mutex::new(running) }
    }

    /// Reads the file again.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let source = self.source.as_ref().ok_or(ReloadError::NoFile)?;
        let mut running = self.running.lock().await;
        let new = EdgeConfig::load(&source.path, &source.environment).map_err(ReloadError::Config)?.config;
        let mut reloaded = Reloaded { warnings: new.warnings(), ..Reloaded::default() };
        for change in EdgeConfig::diff(&running.config, &new) {
            let list = if change.restart { &mut reloaded.needs_restart } else { &mut reloaded.changed };
            list.push(change.key_path);
        }
        // Only what acts at once is taken over, so that the next reload still names the rest.
        let mut config = running.config.clone();
        let (dir, workers) = (config.local_processing.models.dir.take(), config.local_processing.workers);
        config.local_processing = new.local_processing;
        config.local_processing.models.dir = dir;
        config.local_processing.workers = workers;
        config.forward = new.forward;
        reloaded.rules_changed = self.adopt(&mut running, config).await?;
        Ok(reloaded)
    }

    /// Looks for versions of models that came or went. True when the rules changed with them.
    pub(crate) async fn adopt_models(&self) -> Result<bool, ReloadError> {
        let mut running = self.running.lock().await;
        if !running.config.local_processing.models.watch
            || self.models.fingerprint(&model_names(&running.config)) == running.models
        {
            return Ok(false);
        }
        let config = running.config.clone();
        self.adopt(&mut running, config).await
    }

    /// Compiles, keeps the models, and changes the rules between two events.
    async fn adopt(&self, running: &mut Running, config: EdgeConfig) -> Result<bool, ReloadError> {
        let models = self.models.clone();
        let found = models.fingerprint(&model_names(&config));
        let (config, rules) = tokio::task::spawn_blocking(move || -> Result<_, ReloadError> {
            let rules = config.rule_set_with(&models)?;
            models.keep(&rules)?;
            Ok((config, rules))
        })
        .await
        .map_err(|error| ReloadError::Engine(error.to_string()))??;
        let rules = Arc::new(rules);
        let digest = rules.digest();
        self.engine.set_rules(Arc::clone(&rules)).await.map_err(ReloadError::Engine)?;
        self.models.prune(&rules);
        rules.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let changed = digest != running.digest;
        *running = Running { config, models: found, digest };
        Ok(changed)
    }
}

/// The models that rules name.
fn model_names(config: &EdgeConfig) -> Vec<String> {
    let model = |rule: &RuleSpec| match rule {
        RuleSpec::Anomaly(rule) => rule.model.clone(),
        _ => None,
    };
    config.local_processing.rules.iter().filter_map(model).collect()
}
