//! The whole federation in one thread, under virtual time, from one seed.
//!
//! Sites, hub members and coordinator members run the production cores on
//! simulated disks and a simulated network. A run has a time of faults, after
//! which everything is healed and must come to rest; then every promise is
//! checked. The same seed gives the same run, bit for bit: a failure is
//! replayed by its seed. See `docs/design/simulation.md`.

mod amnesia;
mod batch;
mod check;
mod device;
mod fault;
mod hasty_disk;
mod member;
mod net;
pub mod outbox;
mod plan;
mod random;
mod site;
mod slow_syncer;
#[cfg(test)]
mod tests;
mod trouble;
mod uplink;
mod world;

pub use batch::{Batch, Summary};
pub use fault::{Fault, Faults};
pub use plan::Break;
pub use world::{Outcome, run};
