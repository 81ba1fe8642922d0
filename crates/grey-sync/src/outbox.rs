//! What a sender needs of whoever owns the data.

use bytes::Bytes;
use grey_model::{Epoch, Lane};

use crate::frame::{SiteReport, Status};

/// Why a block could not be read. The sender tries again later; other lanes go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutboxError(pub String);

/// The streams that the sender itself numbers, as its hello says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnStreams {
    /// The life it is in.
    pub epoch: Epoch,
    /// Per lane the next sequence that it would have given when it had
    /// recovered, or 0 in a life that began since. What the tier above knows
    /// beyond that, and was not sent by this process, belongs to a past that
    /// the disk has forgotten.
    pub next_seqs: [u64; 3],
}

/// The source of a [`Sender`](crate::Sender): blocks that wait to go up, in
/// three lanes. Each has a position in its lane; positions only increase and
/// may have holes. A block stays readable until it was acknowledged.
///
/// An owner may put one block in the place of several that follow each other,
/// if it covers exactly their sequences and none of them was given out: asked
/// for any position of theirs, it then gives that block, at the last of them.
///
/// Two places of a lane are read at a time: what was there when a session began
/// ([`Outbox::end`]), oldest first, and what came since. A block that [`Outbox::next`] gave out may arrive at any time from then on.
/// An owner that must drop data on overflow drops blocks that were not given
/// out since the last acknowledgement, lest one be booked as dropped and
/// arrive after all.
pub trait Outbox {
    /// The first block of the lane at or after a position, with its position.
    /// `None` means that there is none yet: the sender asks again after
    /// [`Sender::wake`](crate::Sender::wake) or on its next session.
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError>;

    /// The position after the lane's last block, asked when a session begins:
    /// what lies below is sent as backlog, and what comes later need not wait
    /// for it. `None` means that it is not known: the lane is sent in one order.
    fn end(&mut self, _lane: Lane) -> Option<u64> {
        None
    }

    /// The streams that the sender itself numbers; asked at every hello. A hub
    /// that numbers none answers the default.
    fn own_streams(&mut self) -> OwnStreams {
        OwnStreams::default()
    }

    /// How the sender is doing; asked at every heartbeat.
    fn status(&mut self) -> Status {
        Status::default()
    }

    /// What a hub knows of its sites; asked every
    /// [`sites_interval_ms`](crate::SenderConfig::sites_interval_ms) when the role is hub.
    fn sites(&mut self) -> Vec<SiteReport> {
        Vec::new()
    }
}
