//! The uplink protocol, without I/O: what a lower tier and an upper tier say
//! to each other so that every block arrives and is acknowledged exactly once.
//!
//! The lower tier always dials. Its [`Sender`] reads blocks from an [`Outbox`],
//! keeps a bounded number of bytes in flight and moves its positions only when
//! the upper tier has acknowledged the sequences. The upper tier runs one
//! [`Receiver`] per connection. Both are state machines: frames and monotonic
//! milliseconds go in, frames and [`Action`]s come out. `grey-net` drives them
//! over TCP; the simulation drives them over a virtual link. The frame layout
//! is in `docs/design/uplink.md`.
//!
//! ```
//! use bytes::Bytes;
//! use grey_model::{Lane, SiteId};
//! use grey_sync::{Action, Frame, Outbox, OutboxError, Receiver, ReceiverAction, ReceiverConfig, Sender, SenderConfig};
//!
//! struct Empty;
//! impl Outbox for Empty {
//!     fn next(&mut self, _: Lane, _: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
//!         Ok(None)
//!     }
//! }
//!
//! let config = SenderConfig::new(SiteId::new("site-1")?, vec!["hub:7100".into()]);
//! let mut sender = Sender::new(config, [0; 3], 0)?;
//! sender.on_tick(0);
//! assert!(matches!(sender.poll_action(), Some(Action::Dial { .. })));
//! sender.on_connected(3);
//! let hello = sender.poll_transmit(3, &mut Empty).expect("the first frame");
//!
//! let mut receiver = Receiver::new(ReceiverConfig::default(), 3);
//! receiver.on_frame(3, 1_760_000_000_000, hello);
//! assert!(matches!(receiver.poll_action(), Some(ReceiverAction::Hello(_))));
//! receiver.accept(vec![], 1 << 20, 1);
//! sender.on_frame(4, receiver.poll_transmit().expect("the welcome"));
//! assert!(sender.is_live());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::single_range_in_vec_init, reason = "lists of ranges are what the tests are about"))]

mod decode;
#[cfg(test)]
mod drain_tests;
mod frame;
pub mod limits;
mod outbox;
mod receiver;
mod sender;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod testing;

pub use decode::{FrameDecoder, FrameError};
pub use frame::{
    Ack, Coverage, Frame, Goodbye, Heartbeat, HeartbeatAck, Hello, Pending, Redirect, Reject, RejectCode, Role,
    SiteReport, Status, Welcome,
};
pub use limits::{PROTOCOL_MAX, PROTOCOL_MIN};
pub use outbox::{Outbox, OutboxError, OwnStreams};
pub use receiver::{Outcome, Receiver, ReceiverAction, ReceiverConfig, ReceiverStats, Token};
pub use sender::{
    Action, DrainState, Sender, SenderConfig, SenderConfigError, SenderStats, SessionStatus, StallReason, UplinkStatus,
};
