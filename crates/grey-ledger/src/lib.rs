//! The ledger: what became of every accepted event, as ranges and as counts
//! that are kept apart so that they can contradict each other.
//!
//! - [`Tally`] and [`Row`]: the figures of one stream key.
//! - [`Books`]: the settled past of one lane at a site.
//! - [`Replicated`]: the state machine of hubs and coordinators: coverage,
//!   books, what is still to forward, and which sites are where.
//!
//! Everything here is deterministic and knows no I/O and no clock.
//!
//! Example: `examples/ledger.rs`.

mod books;
mod command;
mod presence;
mod replicated;
mod row;

pub use books::Books;
pub use command::{Command, CommandError};
pub use presence::{LanePending, Presence, SiteReport, SiteState};
pub use replicated::{Applied, PendingBlock, Replicated, Role, SnapshotError, Totals};
pub use row::{RangeRow, Row, Tally};
