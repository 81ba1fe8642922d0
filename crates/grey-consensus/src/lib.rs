//! One replicated log: Raft on `grey-log`, with what Raft leaves open.
//!
//! [`Group`] is one member of a group of one to seven. It is synchronous and
//! deterministic: a driver brings ticks, peers' bytes and requests, calls
//! [`Group::poll`] and does what the [`Output`] says; time, sockets and randomness stay
//! outside, so that a simulation runs whole clusters from one seed.
//!
//! - An entry that is given out as committed is durable on a quorum and stays.
//! - The log is the store: entries stay readable ([`EntryReader`]) from the floor on, on
//!   every member, also on one that got a checkpoint instead of the whole log.
//! - A member that lost its disk, or finds its data damaged, says so, quarantines what it
//!   has, and neither votes nor leads before it is safe.
//! - Nothing that a peer sends panics; an error of the disk ends the group for good.
//!
//! The protocol around Raft (sessions between boots, bootstrap, the way back after a
//! loss), why it is safe, and all formats are in `docs/design/consensus.md`.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use grey_consensus::{Config, Group, Role};
//! use grey_disk::SimDisk;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A group of one elects itself at once. The seed must be fresh randomness.
//! let config = Config::new(1, vec![1], 42);
//! let (mut group, _restored) = Group::open(Arc::new(SimDisk::new(1)), Path::new("group"), config)?;
//! while group.poll()?.more {}
//! assert_eq!(group.status().role, Role::Leader);
//!
//! group.propose(7, "an entry".into())?;
//! let output = group.poll()?;
//! assert_eq!(output.committed[0].token, Some(7));
//! assert_eq!(group.log_reader().read(output.committed[0].index)?.as_deref(), Some(&b"an entry"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! Example: `examples/consensus.rs`.

mod checkpoint;
mod config;
mod entry;
mod error;
#[cfg(test)]
mod flaws;
mod group;
mod guard;
mod join;
mod memory;
mod open;
mod output;
mod random;
mod reader;
mod ready;
mod receive;
mod requests;
mod runs;
mod session;
#[cfg(test)]
mod sim;
mod store;
mod transfer;
mod wire;

pub use config::{CHECKPOINT_BYTES_MAX, Config, MEMBERS_MAX, MESSAGE_OVERHEAD_BYTES_MAX};
pub use error::{ConsensusError, ProposeError, ReadError, StepError};
pub use group::Group;
pub use open::{Condition, Restored};
pub use output::{Committed, Output, PeerStatus, Role, Status};
pub use reader::{Entries, EntryReader};
