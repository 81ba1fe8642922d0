//! The arithmetic of a fleet: from devices, outages, links and prices to buffer
//! size, time offline, time to drain, bandwidth and monthly cost.
//!
//! [`plan`] computes it, [`audit`] holds a running fleet against it, and
//! [`specification`] computes the sizing tables of the specification once more
//! from their own inputs. Everything is a formula over what is given: nothing
//! here reads a file, a clock or a socket. `docs/guides/sizing.md` explains the
//! formulas.
//!
//! Quantities are `f64` in bytes, seconds and bits a second; GB is 10⁹ bytes, a
//! month has 30 days.

mod actual;
mod buffer;
mod fleet;
mod planning;
mod quantity;
pub mod specification;

pub use actual::{Actual, Finding, Tolerance, audit};
pub use buffer::Buffer;
pub use fleet::{Budget, Disk, Fleet, Group, Hardware, Link, Outages, Shared, Source};
pub use planning::{Bandwidth, Cost, Drain, Flow, GroupPlan, Outage, Plan, plan, plan_group};
pub use quantity::{bits_text, bytes_text, money_text, span_text};

/// Seconds of a day.
pub const DAY_S: f64 = 86_400.0;
/// Seconds of a month of 30 days.
pub const MONTH_S: f64 = 30.0 * DAY_S;
/// Bytes of a GB.
pub const GB: f64 = 1e9;
