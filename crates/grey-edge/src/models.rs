//! The site's models: a directory that people put versions into, and copies of
//! those in use, which a replay needs also when the directory has changed.
//!
//! A driver: it touches files and measures how long a model takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use grey_api::metrics::RulesMetrics;
use grey_infer::{Directory, Inference, Library, Manifest, Model, ModelError, ModelRef};
use grey_rules::RuleSet;

/// Copies kept in any case; of more, those that no rule uses go when they are old.
const KEPT_MAX: usize = 16;
/// No replay reaches back further in an agent that runs.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

/// The runtimes that this build has.
pub fn runtimes() -> Vec<&'static str> {
    let mut runtimes = vec!["mlp", "autoencoder", "isolation_forest"];
    if cfg!(feature = "onnx") {
        runtimes.push("onnx");
    }
    runtimes
}

/// Models of a site.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    dir: PathBuf,
    kept: PathBuf,
    metrics: Option<RulesMetrics>,
}

impl Models {
    /// Models in `dir`, which need not be there yet; copies under the data directory.
    pub(crate) fn new(dir: Option<&Path>, data_dir: &Path, metrics: Option<RulesMetrics>) -> Self {
        let dir = dir.map_or_else(|| data_dir.join("models"), Path::to_path_buf);
        Self { dir, kept: data_dir.join("models-kept"), metrics }
    }

    /// Copies the versions that rules were compiled with, durably.
    pub(crate) fn keep(&self, rules: &RuleSet) -> Result<(), ModelError> {
        let pinned = rules.models();
        if pinned.is_empty() {
            return Ok(());
        }
        // A version that cannot be loaded has its place in the rules all the same: a replay passes it over too.
        let Ok(directory) = self.open() else { return Ok(()) };
        pinned.iter().try_for_each(|model| match directory.keep(model, &self.kept) {
            Err(_) if directory.load(model).is_err() => Ok(()),
            kept => kept,
        })
    }

    /// Removes copies that nothing needs any more.
    pub(crate) fn prune(&self, rules: &RuleSet) {
        let in_use = rules.models();
        let Ok(entries) = std::fs::read_dir(&self.kept) else { return };
        let mut unused: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| !in_use.iter().any(|model| *entry.file_name() == *model.digest))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        unused.sort();
        let excess = (unused.len() + in_use.len()).saturating_sub(KEPT_MAX).min(unused.len());
        for (_, path) in unused[..excess].iter().filter(|(at, _)| at.elapsed().is_ok_and(|age| age > KEPT_FOR)) {
            if let Err(error) = std::fs::remove_dir_all(path) {
                tracing::warn!(path = %path.display(), %error, "an old copy of a model cannot be removed");
            }
        }
    }

    /// What the directory has for these names: changes when a version comes or goes.
    pub(crate) fn fingerprint(&self, names: &[String]) -> Vec<String> {
        let describe = |found: Result<ModelRef, (String, ModelError)>| match found {
            Ok(model) => format!("{model} {}", model.digest),
            Err((what, error)) => format!("{what} {error}"),
        };
        names.iter().flat_map(|name| self.versions(name)).map(describe).collect()
    }

    fn open(&self) -> Result<Directory, ModelError> {
        // Without the directory there are still the copies.
        let directory = Directory::open(&self.dir).or_else(|error| Directory::open(&self.kept).map_err(|_| error))?;
        Ok(directory.with_kept(&self.kept))
    }
}

impl Library for Models {
    fn versions(&self, name: &str) -> Vec<Result<ModelRef, (String, ModelError)>> {
        if !self.dir.exists() {
            return Vec::new();
        }
        match Directory::open(&self.dir) {
            Ok(directory) => directory.versions(name),
            Err(error) => vec![Err((self.dir.display().to_string(), error))],
        }
    }

    fn load(&self, model: &ModelRef) -> Result<Arc<dyn Model>, ModelError> {
        let model = self.open()?.load(model)?;
        Ok(match &self.metrics {
            Some(metrics) => Arc::new(Timed { model, metrics: metrics.clone() }),
            None => model,
        })
    }
}

/// A model whose answers are timed.
#[derive(Debug)]
struct Timed {
    model: Arc<dyn Model>,
    metrics: RulesMetrics,
}

impl Model for Timed {
    fn manifest(&self) -> &Manifest {
        self.model.manifest()
    }

    fn infer(&self, input: &[f32], scratch: &mut Vec<f32>) -> Result<Inference, ModelError> {
        let began = Instant::now();
        let found = self.model.infer(input, scratch);
        self.metrics.inferred(began.elapsed());
        found
    }
}
