//! What the edge core keeps of itself between two replays.

use grey_model::{Epoch, Seq, SiteId, Stamp};
use grey_queue::QueueState;
use serde::{Deserialize, Serialize};

use super::dedup::DedupState;

const VERSION: u8 = 1;

/// A life of the site that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastLife {
    pub(crate) epoch: Epoch,
    /// Sequences given, by lane.
    pub(crate) accepted: [u64; 3],
}

/// Events of an ended life that must be numbered again in the new one,
/// because the parent knows their sequences as other events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rebirth {
    pub(crate) epoch: Epoch,
    /// Sequences by lane, start and end.
    pub(crate) ranges: [(Seq, Seq); 3],
}

/// The state of the core after applying every intake record below `intake_next`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) site: SiteId,
    pub(crate) epoch: Epoch,
    pub(crate) intake_next: u64,
    pub(crate) stamp: Stamp,
    pub(crate) next_seqs: [Seq; 3],
    pub(crate) accepted: [u64; 3],
    pub(crate) past: Vec<PastLife>,
    pub(crate) rebirth: Option<Rebirth>,
    /// The rules in force, so that a replay after a change of rules still
    /// does what was done before.
    pub(crate) rules_source: Vec<u8>,
    pub(crate) rules_state: Vec<u8>,
    pub(crate) dedup: DedupState,
    pub(crate) queue: QueueState,
    pub(crate) dead_letters: u64,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut out = vec![VERSION];
        out.extend(postcard::to_stdvec(self)?);
        Ok(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|error| error.to_string()),
            Some((version, _)) => Err(format!("checkpoint version {version} is unknown, this build reads {VERSION}")),
            None => Err("checkpoint is empty".into()),
        }
    }
}

/// What the oldest kept checkpoint still needs: reclaiming stops there.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) intake_next: u64,
    pub(crate) queue: QueueState,
    pub(crate) dedup: DedupState,
}
