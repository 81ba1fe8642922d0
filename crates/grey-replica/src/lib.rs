//! A replicated tier: consensus, books, uplink in and uplink out. Hubs and
//! coordinators are compositions of this crate.
//!
//! [`core`] is the deterministic part, which the simulation runs too;
//! [`engine`] the thread that owns it; [`ReplicaNode`] the whole member.
//!
//! Example: `examples/federation.rs`.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

pub mod core;
pub mod engine;
pub mod greeting;
mod http;
pub mod index;
mod metrics;
mod node;
pub mod outbox;
pub mod sites;

pub use node::{Member, ReplicaConfig, ReplicaNode, StartError};
