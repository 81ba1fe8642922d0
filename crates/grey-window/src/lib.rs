//! Windows on event time: how readings of one key are put into tumbling,
//! hopping, sliding, session and count windows, what is kept of them, and when
//! a window closes.
//!
//! [`KeyWindows`] is a state machine without a clock: it is given the time of
//! an event and the site's time, and gives back the windows that close. Rules
//! at a site and roll-ups at a hub run the same code, and a replay of the same
//! calls gives the same bits. [`Accumulator`] and [`Sketch`] merge, so that
//! parts computed at different places add up to the whole.
//!
//! This crate knows no rule, no event and no name: who owns a key, which unit
//! a value has and what becomes of a result is the caller's.
//!
//! The semantics and the bytes of the state are in `docs/design/windows.md`.

mod accumulator;
mod error;
mod field;
mod key;
mod panes;
mod session;
mod sketch;
mod sliding;
mod spec;

pub use accumulator::Accumulator;
pub use error::WindowError;
pub use field::{Field, Needs};
pub use key::{Closed, KeyWindows, Placed};
pub use sketch::{BINS_MAX, RELATIVE_ERROR, Sketch};
pub use sliding::SAMPLES_MAX;
pub use spec::{
    Assigner, COUNT_MAX, HOPS_MAX, LATENESS_MS_MAX, PANES_MAX, TIME_MS_MAX, WINDOW_MS_MAX, WINDOW_MS_MIN, WindowSpec,
};
