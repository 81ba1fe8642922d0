//! What is in flight, per lane, and which lane goes next.
//!
//! A lane is read in order of position. A block leaves the outbox's hands when
//! it is sent and is done when acknowledgements cover its whole range. All
//! positions below the first that is still in flight (or below the cursor,
//! when none is) are acknowledged: that is what the owner is told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use grey_model::{BlockHeader, Lane, RangeSet, Seq, StreamKey};

use crate::limits::{ACK_PIECES_MAX, ACKED_AHEAD_MAX, SKIPS_PER_STEP_MAX};
use crate::outbox::Outbox;

/// Bytes of credit per weight and round: small against a window, so that lanes alternate smoothly.
const QUANTUM_BYTES: u64 = 16 * 1024;

/// A block that is next in its lane.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) position: u64,
    pub(super) block: Bytes,
    pub(super) key: StreamKey,
    pub(super) range: Range<Seq>,
    pub(super) events: u32,
}

/// Why a lane cannot go on for now.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The outbox failed.
    Read(String),
    /// The block at the position is none that a receiver would take.
    Unsendable { position: u64, reason: String },
}

#[derive(Debug)]
struct Flight {
    key: StreamKey,
    range: Range<Seq>,
    bytes: u64,
    events: u32,
    sent_ms: u64,
    /// The acknowledged parts, while not all of it is.
    pieces: RangeSet,
}

#[derive(Debug, Default)]
struct LaneState {
    /// The next position to read.
    cursor: u64,
    head: Option<Head>,
    /// The outbox had nothing when last asked.
    dry: bool,
    /// Not to be asked before this time.
    parked_until: Option<u64>,
    deficit: u64,
    in_flight: BTreeMap<u64, Flight>,
    /// Acknowledged positions above one that is not; kept across sessions, for
    /// an acknowledgement holds whoever gave it.
    acked_ahead: BTreeSet<u64>,
}

impl LaneState {
    fn acked_upto(&self) -> u64 {
        self.in_flight.first_key_value().map_or(self.cursor, |(&position, _)| position)
    }
}

#[derive(Debug, Default)]
struct KeyFlights {
    /// First sequence, lane, position.
    blocks: BTreeSet<(Seq, usize, u64)>,
    span_max: u64,
}

/// What acknowledgements completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Completed {
    pub(super) blocks: u64,
    pub(super) events: u64,
}

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: [LaneState; 3],
    keys: BTreeMap<StreamKey, KeyFlights>,
    quantum: [u64; 3],
    /// The lane that was served last.
    turn: usize,
    bytes: u64,
    blocks: usize,
}

impl Lanes {
    pub(super) fn new(start: [u64; 3], normal_weight: u32, bulk_weight: u32) -> Self {
        let lanes = start.map(|cursor| LaneState { cursor, ..LaneState::default() });
        let quantum = [1, normal_weight, bulk_weight].map(|weight| u64::from(weight) * QUANTUM_BYTES);
        Self { lanes, keys: BTreeMap::new(), quantum, turn: Lane::Normal.index(), bytes: 0, blocks: 0 }
    }

    /// Bytes of blocks that were sent and not acknowledged.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.bytes
    }

    /// Blocks that were sent and not acknowledged.
    pub(super) fn in_flight_blocks(&self) -> usize {
        self.blocks
    }

    /// All positions of the lane below this are acknowledged.
    pub(super) fn acked_upto(&self, lane: Lane) -> u64 {
        self.lanes[lane.index()].acked_upto()
    }

    /// Positions of the lane below this are, or are about to be, on the wire.
    pub(super) fn sent_upto(&self, lane: Lane) -> u64 {
        let lane = &self.lanes[lane.index()];
        lane.head.as_ref().map_or(lane.cursor, |head| head.position.saturating_add(1))
    }

    /// When the block that has waited longest was sent.
    pub(super) fn oldest_sent_ms(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|l| l.in_flight.first_key_value().map(|(_, flight)| flight.sent_ms)).min()
    }

    /// True when nothing waits and nothing is in flight, as far as the outbox said.
    pub(super) fn is_drained(&self) -> bool {
        self.blocks == 0 && self.lanes.iter().all(|lane| lane.dry && lane.head.is_none())
    }

    /// The earliest time at which a parked lane may be read again.
    pub(super) fn parked_until(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|lane| lane.parked_until).min()
    }

    /// The outbox may have more.
    pub(super) fn wake(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.dry = false);
    }

    /// The lane is not read again before a time.
    pub(super) fn park(&mut self, lane: Lane, until: u64) {
        self.lanes[lane.index()].parked_until = Some(until);
    }

    /// The session is over: what was in flight is read again.
    pub(super) fn on_disconnected(&mut self) {
        for lane in &mut self.lanes {
            lane.cursor = lane.acked_upto();
            lane.in_flight.clear();
            lane.head = None;
            lane.dry = false;
            lane.parked_until = None;
            lane.deficit = 0;
        }
        self.keys.clear();
        self.bytes = 0;
        self.blocks = 0;
    }

    /// Makes sure that the lane's next block is at hand, if it has one. Blocks
    /// that are acknowledged already are passed over and counted in `covered`.
    /// True when there may be more to pass over.
    pub(super) fn fill(
        &mut self,
        lane: Lane,
        now: u64,
        outbox: &mut dyn Outbox,
        coverage: &BTreeMap<StreamKey, RangeSet>,
        covered: &mut u64,
    ) -> Result<bool, Trouble> {
        let state = &mut self.lanes[lane.index()];
        if state.head.is_some() || state.dry || state.parked_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        state.parked_until = None;
        for _ in 0..SKIPS_PER_STEP_MAX {
            let Some((position, block)) =
                outbox.next(lane, state.cursor).map_err(|error| Trouble::Read(error.to_string()))?
            else {
                state.dry = true;
                state.deficit = 0;
                return Ok(false);
            };
            if position < state.cursor {
                let cursor = state.cursor;
                return Err(Trouble::Read(format!("asked for position {cursor} or later, the outbox gave {position}")));
            }
            if state.acked_ahead.contains(&position) {
                state.cursor = position.saturating_add(1);
                continue;
            }
            let header = match BlockHeader::parse(&block) {
                Ok(view) => view.header,
                Err(error) => return Err(Trouble::Unsendable { position, reason: error.to_string() }),
            };
            if header.span == 0 {
                return Err(Trouble::Unsendable { position, reason: "it covers no sequence".into() });
            }
            let (key, range, events) = (header.key(), header.range(), header.events);
            if coverage.get(&key).is_some_and(|set| set.covers(&range)) {
                state.cursor = position.saturating_add(1);
                *covered += 1;
                continue;
            }
            state.head = Some(Head { position, block, key, range, events });
            return Ok(false);
        }
        Ok(true)
    }

    /// The lane whose block goes next, and the rounds of credit that this takes.
    fn choose(&self) -> Option<(Lane, u64)> {
        if self.lanes[Lane::Critical.index()].head.is_some() {
            return Some((Lane::Critical, 0));
        }
        let other = Lane::Normal.index() + Lane::Bulk.index() - self.turn;
        // The lane whose turn it is wins a tie: `min_by_key` keeps the first.
        [self.turn, other]
            .into_iter()
            .filter_map(|index| {
                let state = &self.lanes[index];
                let head = state.head.as_ref()?;
                let short = (head.block.len() as u64).saturating_sub(state.deficit);
                Some((Lane::ALL[index], short.div_ceil(self.quantum[index])))
            })
            .min_by_key(|(_, rounds)| *rounds)
    }

    /// Takes the block that goes next if it fits: critical first, then normal and
    /// bulk by deficit round robin over bytes. A block that does not fit is
    /// waited for, so that large blocks are not starved by small ones.
    pub(super) fn send(&mut self, now: u64, window_bytes: u64, blocks_max: usize) -> Option<(Lane, Head)> {
        let (lane, rounds) = self.choose()?;
        let state = &self.lanes[lane.index()];
        let bytes = state.head.as_ref().map(|head| head.block.len() as u64)?;
        let fits = self.bytes == 0
            || self.bytes.saturating_add(bytes) <= window_bytes
            || (lane == Lane::Critical && state.in_flight.is_empty());
        if !fits || self.blocks >= blocks_max || state.acked_ahead.len() >= ACKED_AHEAD_MAX {
            return None;
        }
        if lane != Lane::Critical {
            for index in [Lane::Normal.index(), Lane::Bulk.index()] {
                let state = &mut self.lanes[index];
                if state.head.is_some() {
                    state.deficit = state.deficit.saturating_add(rounds.saturating_mul(self.quantum[index]));
                }
            }
            self.turn = lane.index();
        }
        let state = &mut self.lanes[lane.index()];
        let head = state.head.take()?;
        if lane != Lane::Critical {
            state.deficit = state.deficit.saturating_sub(bytes);
        }
        state.cursor = head.position.saturating_add(1);
        let (key, range) = (head.key.clone(), head.range.clone());
        let flights = self.keys.entry(key.clone()).or_default();
        flights.blocks.insert((range.start, lane.index(), head.position));
        flights.span_max = flights.span_max.max(range.end - range.start);
        let flight = Flight { key, range, bytes, events: head.events, sent_ms: now, pieces: RangeSet::new() };
        state.in_flight.insert(head.position, flight);
        self.bytes += bytes;
        self.blocks += 1;
        Some((lane, head))
    }

    /// Sequences of a stream are acknowledged. Those that are not in flight are ignored.
    pub(super) fn ack(&mut self, key: &StreamKey, ranges: &[Range<Seq>]) -> Completed {
        let mut completed = Completed::default();
        for range in ranges {
            let Some(flights) = self.keys.get(key) else {
                break;
            };
            let below_end = flights.blocks.range(..(range.end, 0, 0)).rev();
            let reached: Vec<(usize, u64)> = below_end
                .take_while(|(first, ..)| first.saturating_add(flights.span_max) > range.start)
                .map(|&(_, lane, position)| (lane, position))
                .collect();
            for (lane, position) in reached {
                let Some(flight) = self.lanes[lane].in_flight.get_mut(&position) else {
                    continue;
                };
                let start = range.start.max(flight.range.start);
                let end = range.end.min(flight.range.end);
                if start >= end {
                    continue;
                }
                let is_whole = (start..end) == flight.range || {
                    if flight.pieces.range_count() < ACK_PIECES_MAX {
                        flight.pieces.insert(start..end);
                    }
                    flight.pieces.covers(&flight.range)
                };
                if is_whole {
                    completed.events += self.complete(lane, position);
                    completed.blocks += 1;
                }
            }
        }
        completed
    }

    fn complete(&mut self, lane: usize, position: u64) -> u64 {
        let state = &mut self.lanes[lane];
        let Some(flight) = state.in_flight.remove(&position) else {
            return 0;
        };
        self.bytes -= flight.bytes;
        self.blocks -= 1;
        if let Some(flights) = self.keys.get_mut(&flight.key) {
            flights.blocks.remove(&(flight.range.start, lane, position));
            if flights.blocks.is_empty() {
                self.keys.remove(&flight.key);
            }
        }
        let upto = state.acked_upto();
        if position >= upto {
            state.acked_ahead.insert(position);
        } else if !state.acked_ahead.is_empty() {
            state.acked_ahead = state.acked_ahead.split_off(&upto);
        }
        flight.events.into()
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
