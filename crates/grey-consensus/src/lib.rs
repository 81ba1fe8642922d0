//! placeholder
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
pub use group::{Committed, Group, Output, PeerStatus, Role, Status};
pub use open::{Condition, Restored};
pub use reader::{Entries, EntryReader};
