//! Models at the edge: what one is asked ([`Manifest`]), where its versions
//! lie ([`Library`], [`Directory`]) and how it answers ([`Model`]).
//!
//! Networks of dense layers, autoencoders and isolation forests have a small
//! format of their own and run in microseconds in every build; ONNX runs in a
//! build with the feature `onnx`. All of them load from the same manifest, and
//! everything about a model is checked when it is loaded, so that a bad one is
//! refused with a name and a place before it has seen a reading.
//!
//! ```
//! use grey_infer::{Activation, DenseBuilder, Manifest, build};
//!
//! // One dense layer: sigmoid(2 * (x - 20) / 5).
//! let file = DenseBuilder::new().layer(1, &[2.0], &[0.0], Activation::Sigmoid).to_bytes();
//! let manifest = format!(
//!     r#"{{"format": 1, "name": "overheated", "version": "1", "runtime": "mlp", "file": "model.grym", "digest": "{}",
//!         "inputs": [{{"stream": "temperature", "unit": "°C", "scaling": {{"mean": 20, "scale": 5}}}}],
//!         "output": {{"kind": "probability", "threshold": 0.9}}}}"#,
//!     grey_infer::digest_of(&file)
//! );
//! let model = build(Manifest::parse(manifest.as_bytes())?, &file)?;
//! let found = model.infer(&[30.0], &mut Vec::new())?;
//! assert!(found.anomalous && found.score > 0.98);
//! # Ok::<(), grey_infer::ModelError>(())
//! ```
//!
//! This crate knows no rule, no engine and no clock. Only [`Directory`]
//! touches files. Formats: `docs/design/models.md`.

mod dense;
mod directory;
mod error;
mod forest;
mod format;
mod library;
mod manifest;
mod model;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(test)]
mod tests;
mod version;

pub use dense::{Activation, Dense, DenseBuilder};
pub use directory::{Directory, MANIFEST_FILE};
pub use error::ModelError;
pub use forest::{Forest, ForestNode, average_path};
pub use format::{LAYERS_MAX, MODEL_BYTES_MAX, NODES_MAX, TREE_DEPTH_MAX, TREES_MAX, WEIGHTS_MAX, WIDTH_MAX};
pub use library::{Library, ModelRef, NoModels, digest_of};
pub use manifest::{
    FEATURES_MAX, INPUT_LEN_MAX, INPUTS_MAX, Input, LABELS_MAX, MANIFEST_BYTES_MAX, Manifest, Numbers, Output,
    OutputKind, Requires, Runtime, Scaling, WINDOW_MAX,
};
pub use model::{Inference, Model, build};
pub use version::Version;
