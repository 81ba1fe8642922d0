//! A durable on-disk queue for any program, without the rest of Grey.
//!
//! A [`Buffer`] takes payloads (bytes, serde values or events) into three lanes, has them
//! on disk when [`Buffer::commit`] returns, gives them back in order, and forgets them
//! when they are acknowledged. Memory does not depend on the backlog.
//!
//! # The contract
//!
//! - **At least once.** What a commit returned for is delivered until it is acknowledged,
//!   over crashes and power losses. What was appended and not committed may be gone.
//! - **Order is kept within a lane.** Every item has a sequence in its lane: from 0,
//!   rising by one, never given twice. A consumer that remembers the last one sees every
//!   repetition.
//! - **Reading removes nothing.** [`Buffer::peek`] goes on from a cursor, which
//!   [`Buffer::rewind`] puts back to the first item that is not acknowledged. Opening does so, too.
//! - **Acknowledgements are cumulative in a lane**, cost no sync, and are exact after a
//!   killed process. A power loss may undo the last ones, and their items come again;
//!   [`Buffer::sync_acks`] makes them as durable as commits.
//! - **Nothing is lost in silence.** A full buffer says so or drops by a rule that was
//!   chosen ([`OnFull`]); what the disk damaged is told by [`Batch::lost`].
//!
//! Critical items are read first; normal and bulk ones share what is left four to one, by
//! bytes, and neither starves.
//!
//! ```
//! use grey_queue::buffer::{Budget, Buffer, BufferConfig, Lane};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let dir = scratch.path();
//! let mut buffer = Buffer::open(dir, BufferConfig::default())?;
//! buffer.append(Lane::Normal, b"first")?;
//! buffer.append(Lane::Normal, b"second")?;
//! buffer.commit()?; // both are on disk now
//!
//! let batch = buffer.peek(Budget::default())?;
//! for item in batch.items() {
//!     assert!(item.bytes()?.len() > 4, "send it somewhere");
//! }
//! buffer.ack(&batch)?;
//! assert!(buffer.pending().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A directory holds one [grey-log](grey_log) for each lane and the file `acked`; the bytes
//! are described in `docs/guides/disk-queue.md`. One process at a time opens it.
//! The core reads no clock and starts no thread; `AsyncBuffer` (feature `async`) puts it
//! on a thread of its own for tasks to share.

mod acks;
mod batch;
mod config;
mod error;
mod lane;
mod record;
mod store;
#[cfg(test)]
mod tests;

#[cfg(feature = "async")]
mod driver;

pub use batch::{Batch, Budget, Item, Lost, Place};
pub use config::{BufferConfig, Codec};
#[cfg(feature = "async")]
pub use driver::AsyncBuffer;
pub use error::BufferError;
pub use grey_model::{Event, Lane, Seq};
pub use grey_seal::{Keyring, MasterKey};
pub use record::Form;
pub use store::{Buffer, Ends, Pending, Waiting};

pub use crate::{Level, OnFull};
