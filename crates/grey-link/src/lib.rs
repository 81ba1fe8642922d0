//! What a tier knows about its link to the tier above: how long to wait before
//! the next attempt ([`Backoff`]), how well the link does ([`Link`]), what it
//! may carry ([`Budget`], [`Schedule`]) and how much keeps it full ([`RateEstimate`]).
//!
//! Pure state machines: time comes in as monotonic milliseconds (Unix
//! milliseconds where a calendar is meant), randomness as a seed, and what
//! changed goes out as a value. Sockets, clocks and the
//! uplink protocol live above.
//!
//! ```
//! use grey_link::{Backoff, BackoffConfig, Health, Link, LinkConfig, LinkState};
//!
//! let mut link = Link::new(LinkConfig::default(), 0);
//! let mut backoff = Backoff::new(BackoffConfig::default(), 42);
//! link.on_connected(5, Health::default());
//! assert_eq!(link.state(), LinkState::Online);
//!
//! // The session breaks after a minute: the first wait is about 100 ms again.
//! backoff.on_session_end(60_000);
//! let change = link.on_failure(60_005).expect("one failure degrades the link");
//! assert_eq!(change.to, LinkState::Degraded);
//! assert!((90..=110).contains(&backoff.next_delay_ms()));
//! ```

mod backoff;
mod budget;
mod link;
mod rate;
mod schedule;

pub use backoff::{Backoff, BackoffConfig};
pub use budget::{Budget, BudgetConfig, BudgetError, BudgetLimit, BudgetUsage, BudgetWait};
pub use link::{Cause, Health, Link, LinkConfig, LinkState, Transition};
pub use rate::{RateEstimate, SentMark};
pub use schedule::{Schedule, ScheduleError, Window};
