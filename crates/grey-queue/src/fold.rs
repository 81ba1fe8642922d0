//! Folds: rewriting the oldest blocks of a lane into a lower stratum.
//!
//! A job reads and encodes on a thread of its own; the queue's owner applies what it made.

mod thin;

use std::ops::Range;

use bytes::Bytes;
use grey_codec::{BlockBuilder, CodecError, Effort, SeqEvent, decode_block};
use grey_model::limits::BLOCK_EVENTS_MAX;
use grey_model::{Account, BlockHeader, Compression, Disposition, Event, Kind, Lane, RangeSet, RuleId, Seq};

use crate::lease::touches;
use crate::queue::QueueError;
use crate::reader::{Edges, Found, QueueReader, receipt_header};
use crate::record::Counted;
use crate::strata::Stratum;

/// Payload bytes before compression that one fold takes: what a block may have.
const RAW_BYTES_MAX: u64 = 4 << 20;
/// Blocks that one fold takes.
const SOURCES_MAX: usize = 8_192;
/// Runs of accounts from which on a receipt is not added to any more.
const RECEIPT_ACCOUNTS_MAX: usize = 4_096;

/// Work on stored blocks, for a thread of its own. See [`crate::Queue::next_fold`].
#[derive(Debug)]
pub struct FoldJob {
    pub(crate) reader: QueueReader,
    pub(crate) edges: Edges,
    pub(crate) lane: Lane,
    pub(crate) target: Stratum,
    /// The lane's when the job was made.
    pub(crate) generation: u64,
    pub(crate) positions: Range<u64>,
    /// What may not be changed.
    pub(crate) given: RangeSet,
    pub(crate) read_bytes_max: u64,
}

/// What a [`FoldJob`] made, for [`crate::Queue::apply`].
#[derive(Debug)]
pub struct Folded {
    pub(crate) lane: Lane,
    pub(crate) target: Stratum,
    pub(crate) generation: u64,
    pub(crate) made: Result<Vec<Made>, QueueError>,
}

/// A record in the making.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) positions: Range<u64>,
    pub(crate) header: BlockHeader,
    pub(crate) block: Bytes,
    /// False for a block that is copied as it is.
    pub(crate) is_changed: bool,
    /// It accounts for what the disk lost: what was counted is unknown.
    pub(crate) stands_for_lost: bool,
    pub(crate) sources: u64,
    pub(crate) was: Counted,
    pub(crate) affected: u64,
    pub(crate) aggregates: u64,
    pub(crate) since: Seq,
}

/// What a fold came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The lane.
    pub lane: Lane,
    /// Where the blocks went.
    pub target: Stratum,
    /// Records that it replaced.
    pub replaced: u64,
    /// Records that stand in for them.
    pub records: u64,
    /// Bytes of blocks that it replaced.
    pub bytes_before: u64,
    /// Bytes of blocks that stand in for them.
    pub bytes_after: u64,
    /// True when it was not applied, because the lane had changed meanwhile: nothing
    /// happened, and a later job does it.
    pub discarded: bool,
}

/// A block that is to be folded.
struct Source {
    found: Found,
    header: BlockHeader,
    is_in_doubt: bool,
}

impl FoldJob {
    /// The lane that it works on.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Where the blocks go.
    pub fn target(&self) -> Stratum {
        self.target
    }

    /// Reads, decodes and encodes; writes nothing.
    pub fn run(self) -> Folded {
        let made = if self.target == Stratum::Dropped { self.drop_oldest() } else { self.fold() };
        Folded { lane: self.lane, target: self.target, generation: self.generation, made }
    }

    /// The blocks that the fold takes, in order.
    fn sources(&self) -> Result<Vec<Source>, QueueError> {
        let is_decoded = self.target != Stratum::Dropped;
        let (mut events, mut raw, mut read) = (0, 0, 0);
        let mut sources: Vec<Source> = Vec::new();
        let mut position = self.positions.start;
        while position < self.positions.end && sources.len() < SOURCES_MAX && read < self.read_bytes_max {
            let Some(found) = self.reader.read_any(self.lane, position, &self.edges)? else { break };
            let header = crate::queue::parse(self.lane, found.position(), &found.block)?;
            events += u64::from(header.events);
            raw += u64::from(header.payload_raw_len);
            let is_over = events > u64::from(BLOCK_EVENTS_MAX) || raw > RAW_BYTES_MAX;
            if is_decoded && is_over && !sources.is_empty() {
                break;
            }
            read += found.block.len() as u64;
            position = found.positions.end;
            let is_settled = found.positions.start < self.edges.acked;
            let is_in_doubt = is_settled || found.stands_for_lost || touches(&self.given, &found.positions);
            sources.push(Source { found, header, is_in_doubt });
        }
        Ok(sources)
    }

    fn fold(&self) -> Result<Vec<Made>, QueueError> {
        let mut made = Vec::new();
        let sources = self.sources()?;
        let mut rest = &sources[..];
        while let Some(first) = rest.first() {
            let follows = |pair: &&[Source]| pair[0].continues_with(&pair[1]);
            let len = if first.is_in_doubt { 1 } else { 1 + rest.windows(2).take_while(follows).count() };
            let (group, _) = rest.split_at(len);
            rest = &rest[self.join(group, &mut made)..];
        }
        Ok(made)
    }

    /// One record from as many of the blocks as fit; returns how many were taken. Blocks
    /// that it would gain nothing for stay as they are.
    fn join(&self, group: &[Source], made: &mut Vec<Made>) -> usize {
        let mut len = if group[0].is_in_doubt { 0 } else { group.len() };
        while len > 0 {
            match self.rewrite(&group[..len]) {
                Ok(record) => {
                    let bytes_before: usize = group[..len].iter().map(|source| source.found.block.len()).sum();
                    if record.block.len() < bytes_before {
                        made.push(record);
                    } else {
                        made.extend(group[..len].iter().map(Source::copy));
                    }
                    return len;
                }
                Err(CodecError::Full) => len /= 2,
                // What is no block of events, or one of a later version, is left alone.
                Err(_) if len == 1 => break,
                Err(_) => len = 1,
            }
        }
        made.push(group[0].copy());
        1
    }

    fn rewrite(&self, group: &[Source]) -> Result<Made, CodecError> {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let mut places = Vec::new();
        let mut readings = Vec::new();
        for source in group {
            let (header, events) = decode_block(&source.found.block)?;
            take_places(&header.accounts, events, self.target, &mut places, &mut readings);
        }
        let before = readings.len();
        let (kept, rule) = match self.target {
            Stratum::Rolled => (thin::roll_up(&readings), RuleId::ROLLED_UP),
            Stratum::Thinned => (thin::thin(readings), RuleId::THINNED),
            Stratum::Packed | Stratum::Dropped | Stratum::Fresh => (readings, RuleId::THINNED),
        };
        let after = kept.len();
        let header = &first.header;
        let mut builder =
            BlockBuilder::new(header.site.clone(), header.epoch, header.lane, Compression::Zstd, header.first_seq)
                .with_effort(Effort::Hard);
        let mut kept = kept.into_iter();
        for place in places {
            match place {
                Place::Account(account) => fit(&mut builder, account.disposition, account.len())?,
                Place::Event(event) => {
                    builder.push(&event)?;
                }
                Place::Reading => match kept.next() {
                    Some(event) => {
                        builder.push(&event)?;
                    }
                    None => fit(&mut builder, Disposition::Reduced(rule), 1)?,
                },
            }
        }
        let Some(block) = builder.finish(last.header.stamp, last.header.intake) else {
            return Err(CodecError::Contradiction { what: "a block without sequences" });
        };
        let header = BlockHeader::parse(&block)?.header;
        let affected = if self.target == Stratum::Rolled { before } else { before - after };
        Ok(Made {
            positions: first.found.positions.start..last.found.positions.end,
            is_changed: true,
            stands_for_lost: false,
            sources: group.len() as u64,
            was: group.iter().fold(Counted::default(), |was, source| was.plus(source.counted())),
            affected: affected as u64,
            aggregates: if self.target == Stratum::Rolled { after as u64 } else { 0 },
            since: header.first_seq,
            header,
            block,
        })
    }

    /// Receipts instead of blocks; the one before is gone on with where nothing lies between.
    fn drop_oldest(&self) -> Result<Vec<Made>, QueueError> {
        let mut made: Vec<Made> = Vec::new();
        let start = self.positions.start;
        if let Some(before) = start.checked_sub(1).filter(|before| *before >= self.edges.acked)
            && let Some(found) = self.reader.read_any(self.lane, before, &self.edges)?
            && !found.stands_for_lost
            && !touches(&self.given, &found.positions)
        {
            let header = crate::queue::parse(self.lane, before, &found.block)?;
            if header.events == 0 {
                let source = Source { found, header, is_in_doubt: false };
                made.push(Made { sources: 0, ..source.evict() });
            }
        }
        let goes_on = made.len();
        for source in self.sources()? {
            if source.is_in_doubt {
                made.push(source.copy());
                continue;
            }
            match made.last_mut() {
                Some(last) if last.is_changed && last.takes(&source) => last.add(source.evict()),
                _ => made.push(source.evict()),
            }
        }
        if goes_on > 0 && made.first().is_some_and(|first| first.sources == 0) {
            made.remove(0);
        }
        for record in made.iter_mut().filter(|record| record.is_changed) {
            record.block = record.header.encode(&[]);
        }
        Ok(made)
    }
}

/// One sequence, or a run of them, in the making.
enum Place {
    Account(Account),
    Event(Box<Event>),
    /// A reading was here.
    Reading,
}

/// Takes a block apart: its readings, and what stood where.
fn take_places(
    accounts: &[Account],
    events: Vec<SeqEvent>,
    target: Stratum,
    places: &mut Vec<Place>,
    readings: &mut Vec<Event>,
) {
    let mut accounts = accounts.iter().peekable();
    for SeqEvent { seq, event } in events {
        while let Some(account) = accounts.next_if(|account| account.range.start < seq) {
            places.push(Place::Account(account.clone()));
        }
        if event.kind == Kind::Reading && target != Stratum::Packed {
            places.push(Place::Reading);
            readings.push(event);
        } else {
            places.push(Place::Event(Box::new(event)));
        }
    }
    places.extend(accounts.cloned().map(Place::Account));
}

fn fit(builder: &mut BlockBuilder, disposition: Disposition, n: u64) -> Result<(), CodecError> {
    if builder.account(disposition, n) == n { Ok(()) } else { Err(CodecError::Full) }
}

impl Source {
    fn continues_with(&self, next: &Self) -> bool {
        !next.is_in_doubt && self.header.epoch == next.header.epoch && self.header.range().end == next.header.first_seq
    }

    fn counted(&self) -> Counted {
        Counted::of(&self.header, self.found.block.len())
    }

    /// The block as it is.
    fn copy(&self) -> Made {
        Made {
            positions: self.found.positions.clone(),
            header: self.header.clone(),
            block: self.found.block.clone(),
            is_changed: false,
            stands_for_lost: self.found.stands_for_lost,
            sources: 1,
            was: self.counted(),
            affected: 0,
            aggregates: 0,
            since: self.header.first_seq,
        }
    }

    /// A receipt for the block; encoded once it is complete.
    fn evict(&self) -> Made {
        let Self { found, header, .. } = self;
        let mut accounts: Vec<Account> = Vec::new();
        let mut at = header.first_seq;
        for account in &header.accounts {
            push(&mut accounts, at..account.range.start, Disposition::DroppedOverflow);
            push(&mut accounts, account.range.clone(), account.disposition);
            at = account.range.end;
        }
        push(&mut accounts, at..header.range().end, Disposition::DroppedOverflow);
        let receipt = receipt_header(&header.site, header.epoch, header.lane, header.first_seq, header.span, accounts);
        Made {
            positions: found.positions.clone(),
            header: BlockHeader { stamp: header.stamp, intake: header.intake, ..receipt },
            block: Bytes::new(),
            is_changed: true,
            stands_for_lost: false,
            sources: 1,
            was: self.counted(),
            affected: u64::from(header.events),
            aggregates: 0,
            since: header.first_seq,
        }
    }
}

impl Made {
    /// True when a receipt can go on with the block.
    fn takes(&self, next: &Source) -> bool {
        self.header.epoch == next.header.epoch
            && self.header.range().end == next.header.first_seq
            && self.header.span.checked_add(next.header.span).is_some()
            && self.header.accounts.len() + next.header.accounts.len() < RECEIPT_ACCOUNTS_MAX
            && self.positions.end == next.found.positions.start
    }

    fn add(&mut self, next: Self) {
        for account in &next.header.accounts {
            push(&mut self.header.accounts, account.range.clone(), account.disposition);
        }
        self.header.span += next.header.span;
        (self.header.stamp, self.header.intake) = (next.header.stamp, next.header.intake);
        self.positions.end = next.positions.end;
        if self.sources == 0 {
            self.since = next.since;
        }
        self.sources += next.sources;
        self.was = self.was.plus(next.was);
        self.affected += next.affected;
    }

    /// What the lane counts once it stands for what it replaces.
    pub(crate) fn counted(&self) -> Counted {
        Counted::of(&self.header, self.block.len())
    }
}

fn push(accounts: &mut Vec<Account>, range: Range<Seq>, disposition: Disposition) {
    if range.is_empty() {
        return;
    }
    match accounts.last_mut() {
        Some(last) if last.disposition == disposition && last.range.end == range.start => last.range.end = range.end,
        _ => accounts.push(Account { range, disposition }),
    }
}
