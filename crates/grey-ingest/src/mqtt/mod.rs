//! The MQTT 3.1.1 and 5 server for devices.
//!
//! - [`codec`]: bytes to packets and back; knows nothing else.
//! - `session`: the state of one client, a pure state machine over packets.
//! - [`server`]: sockets, tasks and timers.

pub mod codec;
mod config;
pub mod server;
mod session;

pub use config::ServerConfig;
pub use session::client_key;
#[cfg(any(test, feature = "fuzzing"))]
pub use session::exercise;
