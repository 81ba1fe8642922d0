//! The coordinator as a library: keeps every event of the federation once,
//! and answers for all of it.
//!
//! Example: `examples/federation.rs`.

pub mod config;
mod node;

pub use config::CoordinatorConfig;
pub use node::{CoordinatorError, start};
