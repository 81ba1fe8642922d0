//! The doors that devices come in by: an MQTT 3.1.1 and 5 server, and the reader
//! of event payloads that HTTP shares with it.
//!
//! A connection turns what it reads into [`Batch`]es of [`Op`]s for the edge's
//! intake and acknowledges a device only when the edge says that its batch is
//! durable. Programs at the site subscribe through the [`Broker`]. The crate
//! knows neither the intake log nor the rules, and of the outside world only
//! sockets and timers, in [`mqtt::server`].
//!
//! `docs/design/mqtt.md` describes what is served and what happens to bad input.

mod auth;
mod broker;
mod counters;
mod intake;
pub mod mqtt;
pub mod payload;
pub mod topic;

pub use auth::{Admission, AllowAll, Authenticator, Login};
pub use broker::{Broker, BrokerConfig, Retained, RetainedStore};
pub use counters::{Counter, IngestCounters};
pub use intake::{Batch, IntakeSender, Op, Qos2Key, Refusal};
pub use mqtt::client_key;
pub use mqtt::server::serve;
