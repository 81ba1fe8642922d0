//! Tokio transport: drives the uplink's sender and receiver over TCP, and
//! carries Raft's messages between the nodes of a group.
//!
//! Everything with a decision in it lives in `grey-sync` and `grey-link`; here
//! are sockets, timers and the clock. The lower tier runs [`uplink_client`],
//! the upper tier [`uplink_server`], a Raft group [`peers`]. Listeners come
//! from [`listen`], which refuses an open port without being told to.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

mod clock;
mod listener;
pub mod peers;
pub mod uplink_client;
pub mod uplink_server;
#[cfg(test)]
mod uplink_tests;
mod wire;

pub use listener::{ListenError, listen};
