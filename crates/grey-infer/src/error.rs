//! Why a model cannot be used. One enum for finding, reading, checking and
//! running, since the answer is the same: fall back to the previous version
//! and say which and why.

use std::io;

/// Why a model cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A file or folder is not there.
    #[error("{path} is missing")]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{path}: {problem}")]
    Io {
        /// The file or folder.
        path: String,
        /// What sort of failure.
        kind: io::ErrorKind,
        /// The system's words.
        problem: String,
    },
    /// The manifest is no JSON, or has an unknown or missing key.
    #[error("manifest: {problem}")]
    Manifest {
        /// What and where, with line and column.
        problem: String,
    },
    /// A key of the manifest has a value that is not allowed.
    #[error("manifest: {key}: {problem}")]
    Key {
        /// Path of the key, for example `inputs[1].scaling`.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// More or larger than is allowed.
    #[error("{what} of {found} is over the limit of {limit}")]
    TooLarge {
        /// What is counted, with its unit.
        what: &'static str,
        /// How much was found.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// A file is not the one that the manifest (or the rules in force) were made for.
    #[error("{path}: the digest is {found}, expected {expected}: the file was changed or is damaged")]
    Digest {
        /// The file.
        path: String,
        /// SHA-256 that was promised, hex.
        expected: String,
        /// SHA-256 of what is there, hex.
        found: String,
    },
    /// This build cannot run the model.
    #[error("runtime {runtime}: {problem}")]
    Runtime {
        /// The runtime that the manifest asks for.
        runtime: &'static str,
        /// Why not, and what to do.
        problem: String,
    },
    /// The model asks for another version of Grey.
    #[error("the model requires grey {required}, this is {found}")]
    Requires {
        /// What the manifest asks for.
        required: String,
        /// The version that runs.
        found: String,
    },
    /// The model file cannot be read.
    #[error("model file: {problem}")]
    File {
        /// What is wrong and where.
        problem: String,
    },
    /// The model file does not fit its manifest.
    #[error("{what}: the manifest gives {expected}, the model file has {found}")]
    Shape {
        /// What is compared.
        what: &'static str,
        /// By the manifest.
        expected: usize,
        /// By the model file.
        found: usize,
    },
    /// An inference was asked with an input of a wrong length.
    #[error("the input has {found} numbers, the model takes {expected}")]
    InputLen {
        /// By the manifest.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A weight, an input or an output is NaN or infinite.
    #[error("{what} {position} is {value}, not a finite number")]
    NotFinite {
        /// `weight`, `input` or `output`, with its place.
        what: String,
        /// Which one, from 0.
        position: usize,
        /// What it is, as text: `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// An output is outside what its kind promises.
    #[error("output is {found}, {problem}")]
    Output {
        /// What the model gave.
        found: f64,
        /// What its kind promises, and what to do.
        problem: String,
    },
}

impl ModelError {
    pub(crate) fn key(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key { key: key.into(), problem: problem.into() }
    }

    pub(crate) fn file(problem: impl Into<String>) -> Self {
        Self::File { problem: problem.into() }
    }

    pub(crate) fn not_finite(what: impl Into<String>, position: usize, value: f32) -> Self {
        Self::NotFinite { what: what.into(), position, value: value.to_string() }
    }
}
