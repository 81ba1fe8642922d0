//! The outbox of a site: three lanes of encoded blocks on disk.
//!
//! Blocks are appended, read from a cursor by the uplink, and settled when the
//! next tier acknowledges them; settled blocks are reclaimed at the next
//! checkpoint. Memory does not depend on the backlog: the queue holds counts
//! and cursors, the log holds blocks.
//!
//! Positions are record indexes of the lane's log. Older blocks may be folded
//! into lower strata as the outbox fills up ([`Ladder`], [`Queue::next_fold`]):
//! packed, thinned, rolled up, dropped. Whatever is done, the blocks of a lane
//! cover its sequences without a gap; what the uplink was given stays as it is;
//! and what was lost on the way is a [`Receipt`].
//!
//! A block that the disk lost is replaced, when it is read, by one that
//! accounts for its sequences as dropped by damage: the loss travels upward
//! instead of a gap.
//!
//! Files, formats and the order of calls: `docs/design/outbox.md`. Not known
//! here: when to send, and what the time is.
//!
//! Example: `examples/outbox.rs`.

pub mod buffer;
mod fold;
mod ladder;
mod lane;
mod lease;
mod queue;
mod reader;
mod receipt;
mod record;
mod reserve;
mod strata;

pub use fold::{Applied, FoldJob, Folded};
pub use ladder::{HYSTERESIS_PERCENT, Ladder, Level, Step};
pub use lane::{LaneState, LaneStateV1, Life, Pending};
pub use lease::UplinkReader;
#[doc(hidden)]
pub use lease::is_lease;
pub use queue::{Admission, OnFull, Queue, QueueConfig, QueueError, QueueState, QueueStateV1, Repair};
pub use reader::{LostBlocks, QueueReader};
pub use receipt::{LEVEL_STREAM, RANGE_STREAM, Reason, Receipt, ReceiptKind};
#[doc(hidden)]
pub use record::decode_record;
pub use strata::{Stratum, StratumStatus};
