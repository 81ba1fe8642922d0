//! What the edge core keeps of itself between two replays.

use grey_model::{Epoch, Seq, SiteId, Stamp};
use grey_queue::{QueueState, QueueStateV1};
use serde::{Deserialize, Serialize};

use super::dedup::DedupState;

const VERSION: u8 = 2;
/// Before the outbox had strata.
const VERSION_LANES: u8 = 1;

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
            Some((&VERSION_LANES, body)) => {
                postcard::from_bytes(body).map(CheckpointV1::into_newest).map_err(|error| error.to_string())
            }
            Some((version, _)) => Err(format!("checkpoint version {version} is unknown, this build reads {VERSION}")),
            None => Err("checkpoint is empty".into()),
        }
    }
}

/// The state as builds before the strata of the outbox wrote it.
#[derive(Debug, Serialize, Deserialize)]
struct CheckpointV1 {
    site: SiteId,
    epoch: Epoch,
    intake_next: u64,
    stamp: Stamp,
    next_seqs: [Seq; 3],
    accepted: [u64; 3],
    past: Vec<PastLife>,
    rebirth: Option<Rebirth>,
    rules_source: Vec<u8>,
    rules_state: Vec<u8>,
    dedup: DedupState,
    queue: QueueStateV1,
    dead_letters: u64,
}

impl CheckpointV1 {
    fn into_newest(self) -> Checkpoint {
        let Self { site, epoch, intake_next, stamp, next_seqs, accepted, past, rebirth, .. } = self;
        Checkpoint {
            site,
            epoch,
            intake_next,
            stamp,
            next_seqs,
            accepted,
            past,
            rebirth,
            rules_source: self.rules_source,
            rules_state: self.rules_state,
            dedup: self.dedup,
            queue: self.queue.into(),
            dead_letters: self.dead_letters,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builds_before_the_strata_wrote_is_taken_over() {
        let old = CheckpointV1 {
            site: SiteId::new("site-1").unwrap(),
            epoch: Epoch(7),
            intake_next: 40,
            stamp: Stamp::at_unix_ms(1_000),
            next_seqs: [1, 2, 3],
            accepted: [1, 2, 3],
            past: vec![PastLife { epoch: Epoch(6), accepted: [9, 9, 9] }],
            rebirth: None,
            rules_source: b"rules".to_vec(),
            rules_state: vec![1],
            dedup: DedupState::default(),
            queue: QueueStateV1::default(),
            dead_letters: 5,
        };
        let mut bytes = vec![VERSION_LANES];
        bytes.extend(postcard::to_stdvec(&old).unwrap());
        let new = Checkpoint::decode(&bytes).unwrap();
        assert_eq!((new.epoch, new.intake_next, new.next_seqs, new.dead_letters), (Epoch(7), 40, [1, 2, 3], 5));
        assert_eq!((&new.queue, &new.rules_source[..]), (&QueueState::default(), &b"rules"[..]));
        assert_eq!(Checkpoint::decode(&new.encode().unwrap()).unwrap(), new);
    }
}
