//! The parent of a history: the replicated ledger, and beside it every sequence that
//! arrived, with its event or why it has none.

use std::collections::BTreeMap;

use bytes::Bytes;
use grey_codec::decode_block;
use grey_ledger::{Applied, Command, Replicated, Role};
use grey_model::{Disposition, Event, Seq, StreamKey};

/// What a sequence holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Held {
    Event(Event),
    Account(Disposition),
}

/// Sequences by where they were given.
pub(crate) type Sequences = BTreeMap<(StreamKey, Seq), Held>;

/// Takes a block apart. Stamps have a logical part that counts how often a clock was asked,
/// which a replay does not repeat: only their time is kept.
pub(crate) fn sequences_of(block: &Bytes) -> Result<Vec<(StreamKey, Seq, Held)>, String> {
    let (header, events) = decode_block(block).map_err(|error| format!("a block cannot be decoded: {error}"))?;
    let key = header.key();
    let accounts = header
        .accounts
        .iter()
        .flat_map(|account| account.range.clone().map(|seq| (seq, Held::Account(account.disposition))));
    let events = events.into_iter().map(|mut found| {
        found.event.stamp = grey_model::Stamp::at_unix_ms(found.event.stamp.unix_ms());
        (found.seq, Held::Event(found.event))
    });
    let mut all: Vec<_> = accounts.chain(events).map(|(seq, held)| (key.clone(), seq, held)).collect();
    all.sort_by_key(|(_, seq, _)| *seq);
    if all.len() as u64 != u64::from(header.span) || !all.iter().map(|(_, seq, _)| *seq).eq(header.range()) {
        return Err(format!("a block of {key} {:?} holds {} sequences", header.range(), all.len()));
    }
    Ok(all)
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) books: Replicated,
    blocks: u64,
    pub(crate) held: Sequences,
    /// The blocks that brought aggregates, as ranges: what was rolled up was rolled up within one.
    pub(crate) arrived: Vec<(StreamKey, std::ops::Range<Seq>)>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { books: Replicated::new(Role::Keeps), blocks: 0, held: Sequences::new(), arrived: Vec::new() }
    }

    /// Takes a block; true when all of it was known.
    pub(crate) fn take(&mut self, block: &Bytes) -> Result<bool, String> {
        self.blocks += 1;
        let fresh = match self.books.apply(self.blocks, &Command::Block(block.clone()).encode()) {
            Applied::Accepted { fresh } => fresh,
            Applied::Duplicate => return Ok(true),
            other => return Err(format!("the hub does not take a block: {other:?}")),
        };
        let all = sequences_of(block)?;
        if let (Some((key, first, _)), Some((_, last, _))) = (all.first(), all.last()) {
            self.arrived.push((key.clone(), *first..last + 1));
        }
        for (key, seq, held) in all {
            if fresh.iter().any(|range| range.contains(&seq)) {
                self.held.insert((key, seq), held);
            }
        }
        Ok(false)
    }

    /// What a hello's answer says: how far each stream is known here.
    pub(crate) fn ends(&self) -> Vec<(StreamKey, Seq)> {
        let rows = self.books.ledger(None).into_iter();
        let keys = rows.map(|row| StreamKey { site: row.site, epoch: row.epoch, lane: row.lane });
        keys.map(|key| (key.clone(), self.books.coverage(&key).end())).collect()
    }
}
