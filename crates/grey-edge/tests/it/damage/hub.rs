//! A parent that keeps what it is sent: the replicated ledger, and beside it every event.

use std::collections::BTreeMap;

use bytes::Bytes;
use grey_codec::decode_block;
use grey_ledger::{Applied, Command, Replicated, Role};
use grey_model::{Disposition, Event, RangeSet, Seq, Stamp, StreamKey};

/// What arrived, once each.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    pub(crate) books: Replicated,
    blocks: u64,
    /// Events by where they stand; the logical part of their stamps counts how often a clock was asked.
    pub(crate) events: BTreeMap<(StreamKey, Seq), Event>,
    /// Sequences that arrived as lost to damage.
    pub(crate) lost: BTreeMap<StreamKey, RangeSet>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { books: Replicated::new(Role::Keeps), blocks: 0, events: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// Takes a block as a hub does: what it covers already is recognised and not taken again.
    pub(crate) fn take(&mut self, block: &Bytes) -> Result<(), String> {
        self.blocks += 1;
        let fresh = match self.books.apply(self.blocks, &Command::Block(block.clone()).encode()) {
            Applied::Accepted { fresh } => fresh,
            Applied::Duplicate => return Ok(()),
            other => return Err(format!("the hub does not take a block: {other:?}")),
        };
        let (header, events) = decode_block(block).map_err(|error| format!("a block cannot be decoded: {error}"))?;
        let key = header.key();
        for mut found in events {
            if fresh.iter().any(|range| range.contains(&found.seq)) {
                found.event.stamp = Stamp::at_unix_ms(found.event.stamp.unix_ms());
                self.events.insert((key.clone(), found.seq), found.event);
            }
        }
        for account in header.accounts.iter().filter(|account| account.disposition == Disposition::DroppedDamage) {
            for range in &fresh {
                let both = range.start.max(account.range.start)..range.end.min(account.range.end);
                if !both.is_empty() {
                    self.lost.entry(key.clone()).or_default().insert(both);
                }
            }
        }
        Ok(())
    }

    /// What a hello's answer says: how far each stream is known here.
    pub(crate) fn ends(&self) -> Vec<(StreamKey, Seq)> {
        let keys = self.books.ledger(None).into_iter().map(|row| StreamKey {
            site: row.site,
            epoch: row.epoch,
            lane: row.lane,
        });
        keys.map(|key| (key.clone(), self.books.coverage(&key).end())).collect()
    }
}
