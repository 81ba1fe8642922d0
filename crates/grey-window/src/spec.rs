//! The definition of a rule's windows, checked once, and its limits.

use crate::error::WindowError;
use crate::field::Needs;

/// The shortest window, hop and gap: below it the numbers travel better as they are.
pub const WINDOW_MS_MIN: i64 = 100;
/// The longest window: a week of a plant.
pub const WINDOW_MS_MAX: i64 = 7 * 86_400_000;
/// The longest lateness, idle time and lead that can be allowed.
pub const LATENESS_MS_MAX: i64 = WINDOW_MS_MAX;
/// Hops a hopping window may consist of.
pub const HOPS_MAX: i64 = 64;
/// Panes or sessions of one key that are open at once: 11 KiB without sketches.
/// [`WindowSpec::new`] allows no definition that needs more; should there be
/// more all the same, the oldest windows close early and as partial.
pub const PANES_MAX: usize = 128;
/// Values of a count window.
pub const COUNT_MAX: u64 = 1_000_000;
/// Times beyond it, on either side of 1970, are refused: 36 million years, and
/// no sum of a time and allowed lengths overflows.
pub const TIME_MS_MAX: i64 = 1 << 60;

/// Panes that lateness may hold open, beyond those of the window itself.
const LATE_PANES_MAX: i64 = PANES_MAX as i64 - HOPS_MAX - 4;

/// How values are put into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assigner {
    /// Windows of one length, one behind the other, aligned to 1970.
    Tumbling {
        /// Length of a window.
        size_ms: i64,
    },
    /// Windows of one length, one starting every hop, aligned to 1970.
    Hopping {
        /// Length of a window.
        size_ms: i64,
        /// The hop: divides the length, at most [`HOPS_MAX`] times.
        every_ms: i64,
    },
    /// The time up to a value, reported at most once in a while.
    Sliding {
        /// Length of a window.
        size_ms: i64,
        /// Event time between two reports, at least.
        every_ms: i64,
    },
    /// Values that follow each other within a gap.
    Session {
        /// Silence that ends a session.
        gap_ms: i64,
        /// A session becomes no longer; what follows is the next one.
        size_max_ms: i64,
    },
    /// A number of values, in the order of their arrival.
    Count {
        /// How many.
        size: u64,
    },
}

/// A checked definition of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WindowSpec {
    /// How values are put into windows.
    pub assigner: Assigner,
    /// What is kept of the values.
    pub needs: Needs,
    /// How much older than the newest event of its key an event may be before
    /// its windows are closed.
    pub lateness_ms: i64,
    /// Silence of a key, in site time, after which its windows close without an event.
    pub idle_ms: i64,
    /// How far ahead of the site's time an event may be.
    pub ahead_max_ms: i64,
}

fn range(what: &'static str, found: i64, min: i64, max: i64) -> Result<(), WindowError> {
    if (min..=max).contains(&found) { Ok(()) } else { Err(WindowError::Range { what, found, min, max }) }
}

impl WindowSpec {
    /// Checks a definition.
    ///
    /// # Errors
    /// A length outside [`WINDOW_MS_MIN`] to [`WINDOW_MS_MAX`], a time allowance outside 0 to
    /// [`LATENESS_MS_MAX`], a hop that does not divide the window or does so too often, or a
    /// lateness that would hold more than [`PANES_MAX`] panes open.
    pub fn new(
        assigner: Assigner,
        needs: Needs,
        lateness_ms: i64,
        idle_ms: i64,
        ahead_max_ms: i64,
    ) -> Result<Self, WindowError> {
        let length = |what, found| range(what, found, WINDOW_MS_MIN, WINDOW_MS_MAX);
        match assigner {
            Assigner::Tumbling { size_ms } => length("window length (ms)", size_ms)?,
            Assigner::Hopping { size_ms, every_ms } => {
                length("window length (ms)", size_ms)?;
                length("hop (ms)", every_ms)?;
                if size_ms % every_ms != 0 {
                    return Err(WindowError::Hop { size_ms, every_ms });
                }
                let found = size_ms / every_ms;
                if found > HOPS_MAX {
                    return Err(WindowError::Hops { size_ms, every_ms, found, max: HOPS_MAX });
                }
            }
            Assigner::Sliding { size_ms, every_ms } => {
                length("window length (ms)", size_ms)?;
                range("report interval (ms)", every_ms, WINDOW_MS_MIN, size_ms)?;
            }
            Assigner::Session { gap_ms, size_max_ms } => {
                length("session gap (ms)", gap_ms)?;
                range("longest session (ms)", size_max_ms, gap_ms, WINDOW_MS_MAX)?;
            }
            Assigner::Count { size } => {
                let found = i64::try_from(size).unwrap_or(i64::MAX);
                range("window length (values)", found, 1, COUNT_MAX as i64)?;
            }
        }
        range("lateness (ms)", lateness_ms, 0, LATENESS_MS_MAX)?;
        range("idle time (ms)", idle_ms, 0, LATENESS_MS_MAX)?;
        range("lead of an event's time (ms)", ahead_max_ms, 0, LATENESS_MS_MAX)?;
        let spec = Self { assigner, needs, lateness_ms, idle_ms, ahead_max_ms };
        if let Some(pane_ms) = spec.pane_ms() {
            // Sessions that are cut at their greatest length may stand twice as close.
            let panes = match assigner {
                Assigner::Session { .. } => LATE_PANES_MAX / 2,
                _ => LATE_PANES_MAX,
            };
            if lateness_ms / pane_ms > panes {
                return Err(WindowError::Lateness { lateness_ms, pane_ms, max: panes });
            }
        }
        Ok(spec)
    }

    /// The length of a pane: within one, values may be accumulated before they
    /// are given to [`crate::KeyWindows::merge_pane`]. None where each value has
    /// to be given by itself.
    pub fn pane_ms(&self) -> Option<i64> {
        match self.assigner {
            Assigner::Tumbling { size_ms } => Some(size_ms.max(1)),
            Assigner::Hopping { every_ms, .. } => Some(every_ms.max(1)),
            Assigner::Session { gap_ms, .. } => Some(gap_ms.max(1)),
            Assigner::Sliding { .. } | Assigner::Count { .. } => None,
        }
    }

    /// The start of the pane that a time lies in. None as in [`WindowSpec::pane_ms`]
    /// and for a time beyond [`TIME_MS_MAX`].
    pub fn pane_of(&self, time_ms: i64) -> Option<i64> {
        let pane_ms = self.pane_ms()?;
        is_time(time_ms).then(|| floor_to(time_ms, pane_ms))
    }

    /// The latest event time that is taken at a site time.
    #[inline]
    pub(crate) fn limit_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.ahead_max_ms).min(TIME_MS_MAX)
    }
}

/// The multiple of a length at or below a time.
#[inline]
pub(crate) fn floor_to(time_ms: i64, length_ms: i64) -> i64 {
    time_ms.saturating_sub(time_ms.rem_euclid(length_ms))
}

/// Whether a time is within [`TIME_MS_MAX`].
pub(crate) fn is_time(time_ms: i64) -> bool {
    (-TIME_MS_MAX..=TIME_MS_MAX).contains(&time_ms)
}
