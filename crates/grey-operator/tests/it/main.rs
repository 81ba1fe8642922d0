//! Whole command lines, with buffers in place of the terminal.

mod plan;
mod queue;
mod remote;
mod rules;

use std::path::{Path, PathBuf};

use clap::Parser;
use grey_config::Environment;
use grey_operator::{Failure, Line, World};

/// How a command line ended.
pub(crate) struct Ended {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) result: Result<(), Failure>,
}

impl Ended {
    /// The exit code that the program would have.
    pub(crate) fn code(&self) -> u8 {
        self.result.as_ref().err().map_or(0, Failure::exit_code)
    }

    /// What the program would say at last.
    pub(crate) fn message(&self) -> String {
        self.result.as_ref().err().map(Failure::message).unwrap_or_default()
    }
}

/// Runs a command line with this on standard input.
pub(crate) fn greyctl_with(input: &[u8], environment: Environment, words: &[&str]) -> Ended {
    let line = Line::try_parse_from(std::iter::once("greyctl").chain(words.iter().copied())).unwrap();
    let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), input);
    let mut world =
        World { out: &mut out, err: &mut err, input: &mut input, environment: &environment, watched: false };
    let result = grey_operator::run(&line, &mut world);
    Ended { out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), result }
}

/// Runs a command line.
pub(crate) fn greyctl(words: &[&str]) -> Ended {
    greyctl_with(b"", Environment::default(), words)
}

/// A file beside this crate.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the examples.
pub(crate) fn example(name: &str) -> String {
    here("../../examples/recordings").join(name).display().to_string()
}
