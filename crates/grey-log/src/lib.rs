//! The one durable primitive of Grey: a log of records with consecutive indexes,
//! segmented, checksummed and group-committed; and [`Checkpoints`] to keep beside it.
//!
//! What it promises:
//!
//! - A record is durable once [`Log::commit`] has returned, and only then visible to readers.
//! - After a crash every committed record is there; of the last, unfinished commit any
//!   number of leading records may be there, each of them whole.
//! - What was damaged on disk is never handed out and never hidden: reading it is
//!   [`LogError::Damaged`] with the exact range of lost indexes, and everything else
//!   stays readable. Indexes are never given out twice.
//! - Opening takes milliseconds and memory stays bounded, whatever the log's size.
//! - After a failed write or sync the log stops until it is opened again; a full disk is
//!   no failure ([`LogError::Full`]).
//!
//! The bytes on disk are described in `docs/design/log-format.md`. The log knows nothing
//! of what its records mean, reads no clock and starts no thread.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use grey_disk::SimDisk;
//! use grey_log::{Log, LogConfig};
//!
//! # fn main() -> Result<(), grey_log::LogError> {
//! let disk = SimDisk::new(1);
//! let (mut log, _) = Log::open(Arc::new(disk.clone()), Path::new("log"), LogConfig::default())?;
//! log.append(b"first")?;
//! log.append(b"second")?;
//! assert_eq!(log.commit()?, 2);
//! log.append(b"never committed")?;
//!
//! disk.crash();
//! let (log, recovery) = Log::open(Arc::new(disk), Path::new("log"), LogConfig::default())?;
//! assert_eq!(recovery.records, 2);
//! let records = log.reader().scan(0, 1_000)?;
//! assert_eq!(records[1].1, "second");
//! # Ok(())
//! # }
//! ```

mod checkpoints;
mod error;
mod format;
mod inspect;
mod log;
mod marker;
mod quarantine;
mod reader;
mod recovery;
mod segment;
mod shared;
mod survey;
mod window;

pub use checkpoints::Checkpoints;
pub use error::{Damage, LogError, Reason, Recovery};
pub use inspect::{
    CheckpointReport, Inspection, MarkerReport, Progress, Records, Sealing, SegmentReport, inspect, repair,
};
pub use log::{Log, LogConfig, PendingSync};
pub use reader::LogReader;
