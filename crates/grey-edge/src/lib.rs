//! The edge agent as a library: the deterministic core over the intake log,
//! and the thread that owns it.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

pub mod core;
pub mod engine;
mod time;
