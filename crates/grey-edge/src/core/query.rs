//! Local queries: raw events from the intake, derived ones from the outbox.
//!
//! Both are read as far back as they are kept. A page ends at its limit of
//! events or of bytes read, whichever comes first, so that a query over a
//! large log stays short and continues by its position.

use grey_api::UNNUMBERED;
use grey_codec::decode_block;
use grey_ingest::Op;
use grey_log::{LogError, LogReader};
use grey_model::{Epoch, Event, Lane, Seq};
use grey_queue::QueueReader;
use hashbrown::HashSet;

use super::CoreError;
use super::record;

/// Bytes one page may read.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// An event with its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalEvent {
    /// The life of the site.
    pub epoch: Epoch,
    /// The lane.
    pub lane: Lane,
    /// The sequence; [`UNNUMBERED`] where the intake does not tell.
    pub seq: Seq,
    /// The event.
    pub event: Event,
}

/// Where a page ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalPosition {
    /// 0: the intake; 1: the critical lane of the outbox; 2: its normal lane.
    pub part: u8,
    /// The record of the intake, or the position in the lane.
    pub index: u64,
    /// How many events of that record are done.
    pub offset: u32,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LocalPage {
    /// The events, in order of acceptance.
    pub events: Vec<LocalEvent>,
    /// Where to go on; `None` at the end.
    pub next: Option<LocalPosition>,
}

/// A read-only view for queries.
#[derive(Debug, Clone)]
pub struct LocalQuery {
    intake: LogReader,
    outbox: QueueReader,
}

impl LocalQuery {
    pub(super) fn new(intake: LogReader, outbox: QueueReader) -> Self {
        Self { intake, outbox }
    }

    /// One page of the events that `wanted` picks, from a position on.
    pub fn page(
        &self,
        from: LocalPosition,
        limit: usize,
        wanted: &dyn Fn(Lane, &Event) -> bool,
    ) -> Result<LocalPage, CoreError> {
        let mut page = LocalPage::default();
        let mut position = from;
        let mut budget = PAGE_BYTES_MAX;
        let mut seen: HashSet<(String, String)> = HashSet::new();
        while position.part <= 2 {
            let Some((next, bytes, events)) = self.record(position)? else {
                position = LocalPosition { part: position.part + 1, index: 0, offset: 0 };
                continue;
            };
            for (n, found) in events.into_iter().enumerate().skip(position.offset as usize) {
                if !wanted(found.lane, &found.event) {
                    continue;
                }
                // The intake holds a device's resends too.
                if let Some(id) = &found.event.id
                    && !seen.insert((found.event.device.to_string(), id.to_string()))
                {
                    continue;
                }
                if page.events.len() == limit {
                    page.next = Some(LocalPosition { offset: n as u32, ..position });
                    return Ok(page);
                }
                page.events.push(found);
            }
            position = LocalPosition { index: next, offset: 0, ..position };
            budget = budget.saturating_sub(bytes);
            if budget == 0 {
                page.next = Some(position);
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// The events of the record at or after a position, and the index after it.
    fn record(&self, position: LocalPosition) -> Result<Option<(u64, usize, Vec<LocalEvent>)>, CoreError> {
        let lane = match position.part {
            0 => return self.intake_record(position.index),
            1 => Lane::Critical,
            _ => Lane::Normal,
        };
        let Some((at, block)) = self.outbox.next(lane, position.index)? else { return Ok(None) };
        let (header, events) = decode_block(&block)?;
        let derived = events.into_iter().filter(|e| e.event.kind != grey_model::Kind::Reading);
        let events = derived.map(|e| LocalEvent { epoch: header.epoch, lane, seq: e.seq, event: e.event }).collect();
        Ok(Some((at + 1, block.len(), events)))
    }

    fn intake_record(&self, index: u64) -> Result<Option<(u64, usize, Vec<LocalEvent>)>, CoreError> {
        let index = index.max(self.intake.first_index());
        let bytes = match self.intake.read(index) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(LogError::Damaged { lost, .. }) => return Ok(Some((lost.end.max(index + 1), 0, Vec::new()))),
            Err(error) => return Err(error.into()),
        };
        let record::Record { header, ops, .. } = record::decode(&bytes)?;
        let mut seqs = match header.before {
            record::Before::Next(seqs) => seqs,
            record::Before::Recovering(_) => [UNNUMBERED; 3],
        };
        let mut events = Vec::with_capacity(ops.len());
        for op in ops {
            let of_op = match op {
                Op::Event { event, lane, .. } => vec![(event, lane)],
                Op::Events { events, .. } => events,
                _ => continue,
            };
            for (mut event, lane) in of_op {
                let lane = lane.unwrap_or(Lane::Bulk);
                let seq = seqs[lane.index()];
                seqs[lane.index()] = seq.saturating_add(1);
                event.stamp = header.stamp;
                events.push(LocalEvent { epoch: header.epoch, lane, seq, event });
            }
        }
        Ok(Some((index + 1, bytes.len(), events)))
    }
}
