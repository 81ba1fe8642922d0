//! A state that forgot which sequences it has: what a receiver without
//! deduplication would hold after a restart. Only for [`crate::Break::Dedup`].
//!
//! The mirror below is the layout of a ledger snapshot, so that the mistake is
//! made from outside and no test hook stands in the ledger itself.

use std::collections::VecDeque;

use grey_ledger::{PendingBlock, Presence, Replicated, Role, SnapshotError, Tally, Totals};
use grey_model::{Seq, StreamKey};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Books {
    covered: Vec<(Seq, Seq)>,
    settled: Vec<(Seq, Seq)>,
    accepted: u64,
    accounts: Tally,
    delivered: u64,
    resent: u64,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    role: Role,
    keys: Vec<(StreamKey, Books)>,
    pending: [VecDeque<PendingBlock>; 3],
    sites: Vec<Presence>,
    totals: Totals,
    applied: u64,
}

/// Restores a state without its coverage.
pub(crate) fn restore(bytes: &[u8]) -> Result<Replicated, SnapshotError> {
    let Some((version, body)) = bytes.split_first() else { return Replicated::restore(bytes) };
    let mut snapshot: Snapshot = postcard::from_bytes(body)?;
    snapshot.keys.iter_mut().for_each(|(_, books)| books.covered.clear());
    let mut forgetful = vec![*version];
    forgetful.extend(postcard::to_stdvec(&snapshot)?);
    Replicated::restore(&forgetful)
}
