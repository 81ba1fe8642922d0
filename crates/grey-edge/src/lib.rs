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
mod figures;
mod http;
mod models;
mod node;
mod outbox;
mod reload;
mod reporter;
mod syncer;
mod time;
mod usage;
mod webhook;

pub use config::EdgeConfig;
pub use models::runtimes;
pub use node::{EdgeNode, StartError};
pub use reload::{ConfigSource, ReloadError, Reloaded};
