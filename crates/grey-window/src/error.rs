//! What may be wrong with a window's definition or with a sketch as text.

use grey_model::WireError;

/// Why a window cannot be defined, or a sketch not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// A number is outside its range.
    #[error("{what} of {found} is outside {min} to {max}; choose one within")]
    Range {
        /// Which number, with its unit.
        what: &'static str,
        /// What was given.
        found: i64,
        /// The least that is allowed.
        min: i64,
        /// The most that is allowed.
        max: i64,
    },
    /// The windows of a hopping assigner do not consist of whole hops.
    #[error("a window of {size_ms} ms is no multiple of its hop of {every_ms} ms; choose a hop that divides it")]
    Hop {
        /// The length of a window.
        size_ms: i64,
        /// The distance of two windows.
        every_ms: i64,
    },
    /// A window would consist of too many hops.
    #[error("a window of {size_ms} ms has {found} hops of {every_ms} ms, at most {max} are allowed; hop less often")]
    Hops {
        /// The length of a window.
        size_ms: i64,
        /// The distance of two windows.
        every_ms: i64,
        /// How many hops that makes.
        found: i64,
        /// The limit.
        max: i64,
    },
    /// The allowed lateness would hold too many windows of a key open.
    #[error(
        "a lateness of {lateness_ms} ms holds more than {max} panes of {pane_ms} ms open; allow less or choose longer windows"
    )]
    Lateness {
        /// The allowed lateness.
        lateness_ms: i64,
        /// The length of a pane, or the gap of a session.
        pane_ms: i64,
        /// The limit.
        max: i64,
    },
    /// A sketch's text is not base64.
    #[error("a sketch is base64 in the URL-safe alphabet without padding; this is not: {0}")]
    NotBase64(String),
    /// A sketch's bytes are damaged or of a later version.
    #[error("the bytes of a sketch cannot be read; take it from an event as it was sent")]
    Sketch(#[source] WireError),
}
