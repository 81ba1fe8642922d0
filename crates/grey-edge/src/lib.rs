//! The edge agent as a library: devices' events are made durable, evaluated,
//! and handed to a hub, with or without a link.
//!
//! [`EdgeNode`] is the whole agent in a program of yours. [`core`] is the
//! deterministic state machine below it, [`engine`] the thread that owns that.
//!
//! Example: `examples/edge_node.rs`.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

mod alerts;
pub mod config;
pub mod core;
pub mod engine;
mod http;
mod node;
mod time;

pub use config::EdgeConfig;
pub use node::{EdgeNode, StartError};
