//! What a command needs of the world around it, and how it may end.

use std::io::{BufRead, Write};

use grey_config::{ConfigErrors, Environment};

use crate::http::HttpError;
use crate::plot::PlotError;
use crate::recording::RecordingError;

/// The world around a command; a test gives it buffers.
#[expect(missing_debug_implementations, reason = "streams have nothing to show")]
pub struct World<'a> {
    /// Standard output: results.
    pub out: &'a mut dyn Write,
    /// Standard error: what went wrong, and progress.
    pub err: &'a mut dyn Write,
    /// Standard input, for `--events -`.
    pub input: &'a mut dyn BufRead,
    /// The environment's variables that are text.
    pub environment: &'a Environment,
    /// Whether somebody watches standard error, so that progress is worth showing.
    pub watched: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The rules are wrong: exit code 2. The text holds one line for each error.
    #[error("{0}")]
    Rules(#[from] ConfigErrors),
    /// A combination of options that cannot be: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The plot cannot be made.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A tier cannot be asked, or refused.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
    /// A file cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file as it was named.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something is damaged or lost; it was printed what.
    #[error("{0}")]
    Damaged(String),
    /// Files cannot be looked at, for want of a key or since an agent works on them: exit code 2.
    #[error("{0}")]
    Unreadable(String),
    /// The result is not the expected one; the differences were printed.
    #[error("the result differs from {0}")]
    Differs(String),
}

impl Failure {
    /// The exit code: 2 for wrong rules and options and for what cannot be looked at, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Rules(_) | Self::Usage(_) | Self::Unreadable(_) => 2,
            _ => 1,
        }
    }

    /// What is told on standard error. Errors of a rules file stand there as compilers print them.
    pub fn message(&self) -> String {
        match self {
            Self::Rules(errors) => errors.to_string(),
            other => format!("greyctl: {other}"),
        }
    }

    pub(crate) fn unreadable(path: &std::path::Path, problem: impl std::fmt::Display) -> Self {
        Self::Unreadable(format!("{}: {problem}", path.display()))
    }

    pub(crate) fn file(path: &std::path::Path, problem: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), problem: problem.to_string() }
    }
}
