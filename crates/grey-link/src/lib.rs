//! What a tier knows about its link to the tier above: how long to wait before
//! the next attempt ([`Backoff`]) and how well the link does ([`Link`]).
//!
//! Pure state machines: time comes in as monotonic milliseconds, randomness as
//! a seed, and what changed goes out as a value. Sockets, clocks and the
//! uplink protocol live above.

mod backoff;
mod link;

pub use backoff::{Backoff, BackoffConfig};
pub use link::{Cause, Health, Link, LinkConfig, LinkState, Transition};
