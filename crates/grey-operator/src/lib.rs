//! The commands of `greyctl`: rules tried on recordings, with a report and a
//! plot, readers of a running tier over its HTTP interface, the outbox of a stopped agent,
//! and the sizing of a fleet.
//!
//! [`run`] does one command line. What it needs of the world stands in
//! [`World`]: where to write, the environment, standard input. Nothing here
//! reads a clock; the only sockets are those of `http`.
//!
//! `docs/greyctl.md` is the manual.

mod cli;
mod expectation;
mod http;
mod plan;
mod plan_file;
mod plan_site;
mod plot;
mod queue;
mod queue_blocks;
mod queue_export;
mod queue_files;
mod queue_folder;
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

/// Reads bytes as a recording, for the fuzz target: how many events and bad lines it holds.
#[cfg(fuzzing)]
pub fn read_recording(mut bytes: &[u8]) -> Result<(u64, u64), RecordingError> {
    let selection = recording::Selection::default();
    recording::read(&mut bytes, "fuzz", &selection, &mut |_| (), &mut |_| ()).map(|s| (s.events, s.bad_total))
}
