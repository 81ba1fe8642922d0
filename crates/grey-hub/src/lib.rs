//! A regional hub as a library: takes what its sites send, makes it durable on
//! a quorum, and hands it to the coordinator.
//!
//! Example: `examples/federation.rs`.

pub mod config;
mod node;

pub use config::HubConfig;
pub use node::{HubError, start};
