//! The one durable primitive of Grey: a log of records with consecutive indexes,
//! segmented, checksummed and group-committed; and checkpoints to keep beside it.

mod error;
mod stub;

pub use error::{Damage, LogError, Reason, Recovery};
pub use stub::{Checkpoints, Log, LogConfig, LogReader};
