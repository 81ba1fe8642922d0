//! The commands of `greyctl`: rules tried on recordings, with a report and a
//! plot, and readers of a running tier over its HTTP interface.
//!
//! [`run`] does one command line. What it needs of the world stands in
//! [`World`]: where to write, the environment, standard input. Nothing here
//! reads a clock; the only sockets are those of [`http`].
//!
//! `docs/greyctl.md` is the manual.

mod cli;
mod expectation;
mod http;
mod plot;
mod recording;
mod remote;
mod replay;
mod report;
mod rules_command;
mod rules_file;
mod text_table;
mod world;

pub use cli::{Line, command, run};
pub use http::HttpError;
pub use plot::PlotError;
pub use recording::RecordingError;
pub use world::{Failure, World};
