//! Where a replay begins, and with which numbers. The newest checkpoint says
//! so; without one the intake and the outbox do. A numbering is never begun
//! anew over an old one: where nothing tells the numbers, a new life begins.

use grey_log::{Log, LogError};
use grey_model::{BlockHeader, Epoch, Lane, Reader, Seq};
use grey_queue::Queue;

use super::checkpoint::{Checkpoint, PastLife};
use super::open::Opened;
use super::record::{Before, RecordHeader};

/// The beginning of a replay.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) epoch: Epoch,
    /// The first intake record to apply.
    pub(super) applied: u64,
    pub(super) next_seqs: [Seq; 3],
    /// Sequences given before, counted one by one.
    pub(super) accepted: [u64; 3],
    pub(super) past: Vec<PastLife>,
    /// The state of the rules that belongs there is not known.
    pub(super) is_blind: bool,
}

impl Origin {
    /// Continues from a checkpoint.
    pub(super) fn of_checkpoint(checkpoint: &Checkpoint) -> Self {
        Self {
            epoch: checkpoint.epoch,
            applied: checkpoint.intake_next,
            next_seqs: checkpoint.next_seqs,
            accepted: checkpoint.accepted,
            past: checkpoint.past.clone(),
            is_blind: false,
        }
    }

    /// Continues from what the logs say, or begins a new life after the directory's first one.
    pub(super) fn of_logs(intake: &Log, queue: &Queue, first_life: Epoch, now_ms: i64, opened: &mut Opened) -> Self {
        if let Some((index, header, seqs)) = first_numbered(intake) {
            let epoch = header.epoch;
            let next_seqs = Lane::ALL.map(|lane| {
                let (state, told) = (queue.lane(lane), seqs[lane.index()]);
                if state.epoch == epoch && state.end_seq > 0 {
                    // What lies between is lost, and accounted for as the replay begins.
                    state.end_seq.min(told)
                } else if state.epoch > epoch || (state.end > 0 && state.end_seq == 0) {
                    told
                } else {
                    0
                }
            });
            let is_blind = index > 0 || seqs != [0; 3];
            if is_blind {
                opened.notes.push(format!(
                    "no checkpoint can be read: the intake is replayed from record {index} on, rules begin without \
                     memory, and ids of events before it are forgotten"
                ));
            }
            return Self { epoch, applied: index, next_seqs, accepted: next_seqs, past: Vec::new(), is_blind };
        }
        let last = Lane::ALL.map(|lane| last_block(queue, lane));
        let of_outbox = last.iter().flatten().map(|header| header.epoch).max();
        // Records that the outbox has the events of must not be applied again.
        let done = last.iter().flatten().map(|header| header.intake).max().unwrap_or(0);
        let applied = done.clamp(intake.first_index(), intake.durable_end());
        let is_empty = of_outbox.is_none() && intake.next_index() == 0;
        let begun =
            Self { epoch: first_life, applied, next_seqs: [0; 3], accepted: [0; 3], past: Vec::new(), is_blind: false };
        if is_empty && opened.fresh {
            return begun;
        }
        // Also where nothing is left at all: there may have been something.
        let epoch = Epoch((now_ms.max(1) as u64).max(of_outbox.unwrap_or_default().max(first_life).0 + 1));
        opened.notes.push(format!(
            "neither a checkpoint nor the intake tells how far the site had numbered its events: a new life, {epoch}, \
             begins"
        ));
        let end_of = |lane: Lane| match &last[lane.index()] {
            Some(header) if Some(header.epoch) == of_outbox => header.range().end,
            _ => 0,
        };
        let past = of_outbox.map(|epoch| PastLife { epoch, accepted: Lane::ALL.map(end_of) });
        Self { epoch, past: past.into_iter().collect(), is_blind: !is_empty, ..begun }
    }
}

/// The first record that says what the next sequences are. Those before it were taken while
/// the site recovered; that recovery had ended, and what came of them is in the outbox.
fn first_numbered(intake: &Log) -> Option<(u64, RecordHeader, [Seq; 3])> {
    let mut index = intake.first_index();
    while index < intake.durable_end() {
        match intake.read(index) {
            Ok(Some(bytes)) => {
                if let Ok(header) = RecordHeader::decode(&mut Reader::new(&bytes))
                    && let Before::Next(seqs) = header.before
                {
                    return Some((index, header, seqs));
                }
                index += 1;
            }
            Err(LogError::Damaged { lost, .. }) => index = lost.end.max(index + 1),
            Ok(None) | Err(_) => index += 1,
        }
    }
    None
}

/// The last block of a lane that can be read.
pub(super) fn last_block(queue: &Queue, lane: Lane) -> Option<BlockHeader> {
    let (reader, state) = (queue.reader(), queue.lane(lane));
    let (_, block) = reader.next(lane, state.end.checked_sub(1)?).ok()??;
    Some(BlockHeader::parse(&block).ok()?.header)
}
