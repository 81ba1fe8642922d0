//! What is wrong with a configuration, where, and what is allowed instead.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::tree::Origin;

/// Errors reported for one file; a file with more is the wrong file.
pub const ERRORS_MAX: usize = 100;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands.
    pub origin: Origin,
    /// The key, such as `edge.local_processing.rules[0].condition`; empty for the file as a whole.
    pub key_path: String,
    /// What was found.
    pub problem: String,
    /// What is allowed there; empty when the problem says it.
    pub allowed: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    /// `3:12: edge.site_id: "a b" is not an id; allowed: letters …`, without the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { line, column } => write!(f, "{line}:{column}: ")?,
            Origin::Environment(name) => write!(f, "environment variable {name}: ")?,
            Origin::Absent => {}
        }
        if !self.key_path.is_empty() {
            write!(f, "{}: ", self.key_path)?;
        }
        f.write_str(&self.problem)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with one configuration file and the environment over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    file: PathBuf,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Errors of a file, in the order of the file; at most [`ERRORS_MAX`] are kept.
    pub fn new(file: &Path, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|e| match e.origin {
            Origin::File { line, column } => (0, line, column),
            Origin::Environment(_) => (1, 0, 0),
            Origin::Absent => (2, 0, 0),
        });
        errors.dedup();
        errors.truncate(ERRORS_MAX);
        Self { file: file.to_owned(), errors }
    }

    /// One error that concerns the file as a whole.
    pub fn of_file(file: &Path, problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        let error = ConfigError {
            origin: Origin::Absent,
            key_path: String::new(),
            problem: problem.into(),
            allowed: allowed.into(),
            hint: None,
        };
        Self { file: file.to_owned(), errors: vec![error] }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The errors: those of the file by line, then those of the environment.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    /// One line per error, each beginning with the file's name as compilers print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            let separator = if matches!(error.origin, Origin::File { .. }) { ":" } else { ": " };
            write!(f, "{}{separator}{error}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
