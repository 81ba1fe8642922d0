//! One lane of the site: gives sequences, builds blocks, counts.

use grey_codec::{BlockBuilder, CodecError};
use grey_ledger::Tally;
use grey_model::{Compression, Disposition, Epoch, Event, Kind, Lane, RuleId, Seq, SiteId, Stamp};
use grey_queue::Admission;

use bytes::Bytes;

/// When a lane's open block is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePolicy {
    /// At this many events.
    pub block_events_max: u32,
    /// At this many bytes before compression.
    pub block_bytes_max: usize,
    /// This long after its first sequence, ms.
    pub linger_ms: u64,
    /// How its payload is compressed.
    pub compression: Compression,
}

impl LanePolicy {
    /// The default of a lane: critical at once and uncompressed, the others
    /// after a moment and with zstd.
    pub fn default_for(lane: Lane) -> Self {
        let (linger_ms, compression) = match lane {
            Lane::Critical => (0, Compression::None),
            Lane::Normal => (100, Compression::Zstd),
            Lane::Bulk => (500, Compression::Zstd),
        };
        Self { block_events_max: 4096, block_bytes_max: 512 << 10, linger_ms, compression }
    }
}

/// A lane that is being filled.
#[derive(Debug)]
pub(crate) struct LaneWriter {
    policy: LanePolicy,
    builder: BlockBuilder,
    /// Sequences below are in the outbox already; a replay only counts them.
    replayed_to: Seq,
    /// The next sequence to give.
    next_seq: Seq,
    /// Sequences from here on are known to be others'.
    limit: Seq,
    /// Sequences given in this life, counted one by one.
    accepted: u64,
    /// What is in the open block.
    open: Tally,
    /// When the open block got its first sequence.
    opened_ms: Option<i64>,
    closed: Vec<Bytes>,
    /// What is in the closed blocks.
    closed_tally: Tally,
    /// What is done with new events.
    admission: Admission,
    /// Nobody waits for more before a block is closed.
    hurries: bool,
    /// Nobody waits for the block: it is closed when it is full, or for a checkpoint.
    is_patient: bool,
    sampled: u64,
    refused: u64,
}

impl LaneWriter {
    /// Continues at `next_seq`; sequences below `outbox_end` are in the outbox already.
    pub(crate) fn new(
        site: SiteId,
        epoch: Epoch,
        lane: Lane,
        policy: LanePolicy,
        next_seq: Seq,
        accepted: u64,
        outbox_end: Seq,
    ) -> Self {
        let builder = BlockBuilder::new(site, epoch, lane, policy.compression, next_seq.max(outbox_end));
        Self {
            policy,
            builder,
            replayed_to: outbox_end,
            next_seq,
            limit: Seq::MAX,
            accepted,
            open: Tally::default(),
            opened_ms: None,
            closed: Vec::new(),
            closed_tally: Tally::default(),
            admission: Admission::Take,
            hurries: false,
            is_patient: false,
            sampled: 0,
            refused: 0,
        }
    }

    /// What is done with new events from now on.
    pub(crate) fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Closes blocks at once, or after their time.
    pub(crate) fn set_hurry(&mut self, hurries: bool) {
        self.hurries = hurries;
    }

    /// Closes blocks when they are full alone, since nobody reads them now.
    pub(crate) fn set_patient(&mut self, is_patient: bool) {
        self.is_patient = is_patient;
    }

    /// New readings that were sampled away.
    pub(crate) fn sampled(&self) -> u64 {
        self.sampled
    }

    /// New events that were not taken.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// What becomes of a new event instead of its place in a block.
    fn turned_away(&mut self, event: &Event) -> Option<Disposition> {
        match self.admission {
            Admission::Sample if event.kind == Kind::Reading && is_sampled_away(self.next_seq) => {
                self.sampled += 1;
                Some(Disposition::Reduced(RuleId::THINNED))
            }
            // What the outbox says of itself is how anybody knows.
            Admission::DropNewest if event.kind != Kind::Receipt => {
                self.refused += 1;
                Some(Disposition::DroppedOverflow)
            }
            _ => None,
        }
    }

    /// Ends the replay. Sequences that the outbox holds, although the records that gave
    /// them are lost, count as given: the next event must not get one of them. Returns how many.
    pub(crate) fn end_replay(&mut self) -> u64 {
        let lost = self.replayed_to.saturating_sub(self.next_seq);
        self.accepted += lost;
        self.next_seq += lost;
        lost
    }

    /// Bounds the sequences that are given next, while what is numbered may not be what was.
    pub(crate) fn set_limit(&mut self, limit: Option<Seq>) {
        self.limit = limit.unwrap_or(Seq::MAX);
    }

    /// True where the limit leaves a sequence to give.
    pub(crate) fn has_room(&self) -> bool {
        self.next_seq < self.limit
    }

    /// Accounts for sequences below `end` that nobody can tell any more what they carried.
    pub(crate) fn lose_to(&mut self, end: Seq, stamp: Stamp, applied: u64) {
        // Those that the outbox holds are only counted.
        let known = self.replayed_to.min(end).saturating_sub(self.next_seq);
        self.next_seq += known;
        self.accepted += known;
        while self.next_seq < end {
            self.account(Disposition::DroppedDamage, stamp, applied);
        }
    }

    fn take_seq(&mut self) -> bool {
        self.accepted += 1;
        self.next_seq += 1;
        self.next_seq > self.replayed_to
    }

    /// Numbers an event that goes up; true when it was not in the outbox before.
    pub(crate) fn forward(&mut self, event: &Event, stamp: Stamp, applied: u64) -> Result<bool, CodecError> {
        let is_new = self.next_seq >= self.replayed_to;
        if is_new && let Some(disposition) = self.turned_away(event) {
            self.account(disposition, stamp, applied);
            return Ok(true);
        }
        if !self.take_seq() {
            return Ok(false);
        }
        let pushed = match self.builder.push(event) {
            Err(CodecError::Full) => {
                self.close(stamp, applied);
                self.builder.push(event)
            }
            other => other,
        };
        match pushed {
            Ok(_) => self.open.pending += 1,
            // Devices' events are checked before they are accepted, so a rule made this one:
            // it stays here, and the books say so.
            Err(CodecError::Limit(_)) => {
                self.add_account(Disposition::Reduced(RuleId(0)), stamp, applied);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.opened(stamp);
        if self.builder.events() >= self.policy.block_events_max
            || self.builder.bytes_estimate() >= self.policy.block_bytes_max
        {
            self.close(stamp, applied);
        }
        Ok(true)
    }

    /// Numbers a sequence that carries no event.
    pub(crate) fn account(&mut self, disposition: Disposition, stamp: Stamp, applied: u64) {
        if self.take_seq() {
            self.add_account(disposition, stamp, applied);
        }
    }

    fn add_account(&mut self, disposition: Disposition, stamp: Stamp, applied: u64) {
        if self.builder.account(disposition, 1) == 0 {
            self.close(stamp, applied);
            // An empty block always takes a sequence.
            let _ = self.builder.account(disposition, 1);
        }
        self.open.account(disposition, 1);
        self.opened(stamp);
    }

    fn opened(&mut self, stamp: Stamp) {
        self.opened_ms.get_or_insert(stamp.unix_ms());
    }

    fn close(&mut self, stamp: Stamp, applied: u64) {
        if let Some(block) = self.builder.finish(stamp, applied) {
            self.closed.push(block);
        }
        self.closed_tally.add(&std::mem::take(&mut self.open));
        self.opened_ms = None;
    }

    /// When the open block is due, Unix ms.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        let linger_ms = match (self.hurries, self.is_patient) {
            (_, true) => return None,
            (true, _) => 0,
            _ => self.policy.linger_ms as i64,
        };
        self.opened_ms.map(|at| at.saturating_add(linger_ms))
    }

    /// A time before the block was opened (a clock that stepped back) counts as due.
    fn open_is_due(&self, now_ms: i64) -> bool {
        self.due_ms().is_some_and(|due| due <= now_ms || self.opened_ms.is_some_and(|at| at > now_ms))
    }

    /// Closes the open block if it is due or if `all`, and hands out what is closed.
    pub(crate) fn take_closed(&mut self, stamp: Stamp, applied: u64, all: bool) -> Vec<Bytes> {
        let has_company = !self.closed.is_empty() && !self.is_patient;
        if all || has_company || self.open_is_due(stamp.unix_ms()) {
            self.close(stamp, applied);
        }
        self.closed_tally = Tally::default();
        std::mem::take(&mut self.closed)
    }

    /// The next sequence to give.
    pub(crate) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Sequences given in this life.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// What is not handed to the outbox yet.
    pub(crate) fn open(&self) -> Tally {
        let mut tally = self.open;
        tally.add(&self.closed_tally);
        tally
    }
}

/// One sequence of two, the same ones in every replay (splitmix64: Steele, Lea and Flood, 2014).
fn is_sampled_away(seq: Seq) -> bool {
    let mut x = seq.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_over_a_limit_takes_its_sequence_and_shows_in_the_books() {
        let policy = LanePolicy::default_for(Lane::Normal);
        let site = SiteId::new("site-1").unwrap();
        let mut writer = LaneWriter::new(site, Epoch(1), Lane::Normal, policy, 0, 0, 0);
        let stamp = Stamp::at_unix_ms(1_000);
        let good = Event::reading("press-1", "temperature", 1.0, 0);
        let long = Event::reading("x".repeat(10_000), "temperature", 1.0, 0);
        for event in [&good, &long, &good] {
            writer.forward(event, stamp, 1).unwrap();
        }
        assert_eq!((writer.open().pending, writer.open().reduced, writer.next_seq()), (2, 1, 3));
        let blocks = writer.take_closed(stamp, 1, true);
        let header = grey_model::BlockHeader::parse(&blocks[0]).unwrap().header;
        assert_eq!((header.span, header.events, header.accounts.len()), (3, 2, 1));
    }
}
