//! Where models come from, seen from the rules: names to versions, versions to
//! loaded models. An engine that replays needs exactly the model that was
//! used, so a version in use is named by its digest.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::model::Model;

/// One version of a model, exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the manifest's bytes, lower-case hex. The manifest holds the model file's.
    pub digest: String,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// Where models come from.
pub trait Library: Send + Sync + fmt::Debug {
    /// The versions that a rule may use which names `name`, newest first. A version that cannot be used stands at its
    /// place as an error beside what it is (`name/version`, or a path), so that the fallback can be reported.
    ///
    /// `edge-anomaly-v2` means, where there is no model of that whole name, version 2 of `edge-anomaly`, with the
    /// versions below it to fall back to.
    fn versions(&self, name: &str) -> Vec<Result<ModelRef, (String, ModelError)>>;

    /// Loads exactly this version.
    fn load(&self, model: &ModelRef) -> Result<Arc<dyn Model>, ModelError>;
}

/// A library without any model.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoModels;

impl Library for NoModels {
    fn versions(&self, _name: &str) -> Vec<Result<ModelRef, (String, ModelError)>> {
        Vec::new()
    }

    fn load(&self, model: &ModelRef) -> Result<Arc<dyn Model>, ModelError> {
        Err(ModelError::Missing { path: format!("model {model}") })
    }
}

/// SHA-256 in lower-case hex.
pub fn digest_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
