//! What is in flight, per lane, and which block goes next.
//!
//! A lane is read by two cursors. What was there when the session began is
//! *backlog* and read oldest first; what came since is *live* and read from
//! there on, so that it need not wait for the backlog. Where the backlog ends
//! the live cursor goes on alone.
//!
//! ```text
//! positions   acked      backlog cursor      boundary      live cursor
//!   ----------|##--#-----^-------------------|####-####----^------->
//!              in flight, acknowledged ahead
//! ```
//!
//! A block leaves the outbox's hands when it is sent and is done when
//! acknowledgements cover its whole range. It then counts for all positions
//! from the one that was asked for up to its own: between them is nothing, or
//! the outbox has put one block in the place of several. Below `acked` all is
//! done: that is what the owner is told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use grey_link::{RateEstimate, SentMark};
use grey_model::{BlockHeader, Lane, RangeSet, Seq, StreamKey};

use super::share::Share;
use crate::limits::{ACK_PIECES_MAX, ACKED_AHEAD_MAX, SKIPS_PER_STEP_MAX};
use crate::outbox::Outbox;

/// A block that is next in its lane.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) position: u64,
    pub(super) block: Bytes,
    pub(super) key: StreamKey,
    pub(super) range: Range<Seq>,
    pub(super) events: u32,
    /// The position that was asked for.
    from: u64,
}

/// Why a lane cannot go on for now.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The outbox failed.
    Read(String),
    /// The block at the position is none that a receiver would take.
    Unsendable { position: u64, reason: String },
}

/// What of a lane a cursor reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Track {
    /// What was there when the session began.
    Backlog = 0,
    /// What came since, or everything once the backlog is sent.
    Live = 1,
}

impl Track {
    pub(super) const ALL: [Track; 2] = [Track::Backlog, Track::Live];
}

#[derive(Debug)]
struct Flight {
    key: StreamKey,
    range: Range<Seq>,
    bytes: u64,
    events: u32,
    mark: SentMark,
    /// The first position that it counts for.
    from: u64,
    /// The acknowledged parts, while not all of it is.
    pieces: RangeSet,
}

#[derive(Debug, Default)]
struct Cursor {
    /// The next position to read.
    next: u64,
    head: Option<Head>,
    /// The outbox had nothing when last asked.
    dry: bool,
}

#[derive(Debug, Default)]
struct LaneState {
    cursors: [Cursor; 2],
    /// The first position of the live cursor in this session.
    boundary: u64,
    /// The backlog is read to its end.
    is_merged: bool,
    /// Not to be asked before this time.
    parked_until: Option<u64>,
    in_flight: BTreeMap<u64, Flight>,
    /// Every position below is done.
    acked: u64,
    /// Positions above that are done; kept across sessions, for an
    /// acknowledgement holds whoever gave it.
    acked_ahead: RangeSet,
}

impl LaneState {
    fn new(start: u64) -> Self {
        let mut state = Self { acked: start, ..Self::default() };
        state.rewind(None);
        state
    }

    /// Reads again from what is acknowledged; `end` is where the backlog ends.
    fn rewind(&mut self, end: Option<u64>) {
        self.boundary = end.unwrap_or(0).max(self.acked);
        self.is_merged = self.boundary == self.acked;
        self.cursors = [self.acked, self.boundary].map(|next| Cursor { next, ..Cursor::default() });
        self.in_flight.clear();
        self.parked_until = None;
    }

    /// Positions are done.
    fn done(&mut self, positions: Range<u64>) {
        self.acked_ahead.insert(positions);
        self.acked = self.acked_ahead.next_missing(self.acked);
        self.acked_ahead.remove_below(self.acked);
    }

    /// Nothing is left between the backlog cursor and the boundary, or one
    /// block at `position` stands for that and for more.
    fn merge(&mut self, position: Option<u64>) {
        let [backlog, live] = &mut self.cursors;
        let from = backlog.next;
        self.is_merged = true;
        let Some(position) = position.filter(|_| from < self.boundary) else {
            let boundary = self.boundary;
            return self.done(from.min(boundary)..boundary);
        };
        if let Some(flight) = self.in_flight.get_mut(&position) {
            flight.from = flight.from.min(from);
        } else if let Some(head) = live.head.as_mut().filter(|head| head.position == position) {
            head.from = head.from.min(from);
        } else if live.next <= position {
            live.next = from;
        } else {
            self.done(from..position.saturating_add(1));
        }
    }

    fn is_drained(&self) -> bool {
        self.cursors[Track::Live as usize].dry
            && self.cursors.iter().all(|cursor| cursor.head.is_none())
            && self.is_merged
    }

    fn head_bytes(&self, track: Track) -> Option<u64> {
        self.cursors[track as usize].head.as_ref().map(|head| head.block.len() as u64)
    }

    /// The block that has been in flight longest. Each cursor sends in order of position.
    fn oldest(&self) -> Option<&Flight> {
        let firsts = [self.in_flight.iter().next(), self.in_flight.range(self.boundary..).next()];
        firsts.into_iter().flatten().map(|(_, flight)| flight).min_by_key(|flight| flight.mark.at_ms())
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
    pub(super) bytes: u64,
}

/// How much may be in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The receiver's window, in bytes.
    pub(super) window_bytes: u64,
    /// What keeps the link full, in bytes: the last block may reach beyond it.
    pub(super) fill_bytes: u64,
    /// Blocks.
    pub(super) blocks_max: usize,
}

/// What [`Lanes::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing waits.
    Nothing,
    /// Something waits, and as much is in flight as may be.
    Full,
    /// A block that may go.
    Block(Choice),
}

/// A block that [`Lanes::send`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) lane: Lane,
    pub(super) track: Track,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: [LaneState; 3],
    keys: BTreeMap<StreamKey, KeyFlights>,
    /// Backlog and live of the critical lane.
    critical: Share,
    /// Backlog and live of the others.
    tracks: Share,
    /// Normal and bulk, by track.
    by_weight: [Share; 2],
    rate: RateEstimate,
    bytes: u64,
    blocks: usize,
}

impl Lanes {
    /// `live_percent` is the share of live data while a backlog drains, 1 to 99.
    pub(super) fn new(start: [u64; 3], normal_weight: u32, bulk_weight: u32, live_percent: u8) -> Self {
        let live = u32::from(live_percent.clamp(1, 99));
        // Half and half is one quantum each.
        let tracks = if live == 50 { [1, 1] } else { [100 - live, live] };
        Self {
            lanes: start.map(LaneState::new),
            keys: BTreeMap::new(),
            critical: Share::new(tracks),
            tracks: Share::new(tracks),
            by_weight: Track::ALL.map(|_| Share::new([normal_weight, bulk_weight])),
            rate: RateEstimate::new(),
            bytes: 0,
            blocks: 0,
        }
    }

    /// Bytes of blocks that were sent and not acknowledged.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.bytes
    }

    /// Blocks that were sent and not acknowledged.
    pub(super) fn in_flight_blocks(&self) -> usize {
        self.blocks
    }

    /// What the link carries, as far as is known.
    pub(super) fn rate(&self) -> &RateEstimate {
        &self.rate
    }

    /// All positions of the lane below this are acknowledged.
    pub(super) fn acked_upto(&self, lane: Lane) -> u64 {
        self.lanes[lane.index()].acked
    }

    /// True while the backlog of some lane is not sent.
    pub(super) fn has_backlog(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_merged)
    }

    /// When the block that has waited longest was sent.
    pub(super) fn oldest_sent_ms(&self) -> Option<u64> {
        self.oldest().map(|flight| flight.mark.at_ms())
    }

    fn oldest(&self) -> Option<&Flight> {
        self.lanes.iter().filter_map(LaneState::oldest).min_by_key(|flight| flight.mark.at_ms())
    }

    /// True when nothing waits and nothing is in flight, as far as the outbox said.
    pub(super) fn is_drained(&self) -> bool {
        self.blocks == 0 && self.lanes.iter().all(LaneState::is_drained)
    }

    /// The earliest time at which a parked lane may be read again.
    pub(super) fn parked_until(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|lane| lane.parked_until).min()
    }

    /// True while the lane is not read because of trouble.
    pub(super) fn is_parked(&self, lane: Lane) -> bool {
        self.lanes[lane.index()].parked_until.is_some()
    }

    /// The outbox may have more.
    pub(super) fn wake(&mut self) {
        self.lanes.iter_mut().flat_map(|lane| &mut lane.cursors).for_each(|cursor| cursor.dry = false);
    }

    /// The lane is not read again before a time.
    pub(super) fn park(&mut self, lane: Lane, until: u64) {
        self.lanes[lane.index()].parked_until = Some(until);
    }

    /// A session begins; `ends` is per lane where the backlog ends, if the outbox knows.
    pub(super) fn on_connected(&mut self, ends: [Option<u64>; 3]) {
        self.restart(ends);
    }

    /// The greeting was answered after so many milliseconds. What was known of the link is
    /// forgotten: another connection may take another path.
    pub(super) fn on_welcome(&mut self, rtt_ms: u64) {
        self.rate = RateEstimate::of_round_trip(rtt_ms);
    }

    /// The session is over: what was in flight is read again.
    pub(super) fn on_disconnected(&mut self) {
        self.restart([None; 3]);
    }

    fn restart(&mut self, ends: [Option<u64>; 3]) {
        for (lane, end) in self.lanes.iter_mut().zip(ends) {
            lane.rewind(end);
        }
        self.critical.reset();
        self.tracks.reset();
        self.by_weight.iter_mut().for_each(Share::reset);
        self.keys.clear();
        self.bytes = 0;
        self.blocks = 0;
    }

    /// Makes sure that the next block of the lane's cursor is at hand, if it has
    /// one. Blocks that are acknowledged already are passed over and counted in
    /// `covered`. True when there may be more to pass over.
    pub(super) fn fill(
        &mut self,
        lane: Lane,
        track: Track,
        now: u64,
        outbox: &mut dyn Outbox,
        coverage: &BTreeMap<StreamKey, RangeSet>,
        covered: &mut u64,
    ) -> Result<bool, Trouble> {
        let state = &mut self.lanes[lane.index()];
        let is_backlog = track == Track::Backlog;
        if state.parked_until.is_some_and(|until| now < until) || (is_backlog && state.is_merged) {
            return Ok(false);
        }
        let cursor = &state.cursors[track as usize];
        if cursor.head.is_some() || cursor.dry {
            return Ok(false);
        }
        state.parked_until = None;
        for _ in 0..SKIPS_PER_STEP_MAX {
            let from = state.acked_ahead.next_missing(state.cursors[track as usize].next.max(state.acked));
            state.cursors[track as usize].next = from;
            if is_backlog && from >= state.boundary {
                state.merge(None);
                return Ok(true);
            }
            let read = outbox.next(lane, from).map_err(|error| Trouble::Read(error.to_string()))?;
            let end_of_backlog = is_backlog && read.as_ref().is_none_or(|(position, _)| *position >= state.boundary);
            if end_of_backlog {
                state.merge(read.map(|(position, _)| position));
                return Ok(true);
            }
            let Some((position, block)) = read else {
                state.cursors[track as usize].dry = true;
                return Ok(false);
            };
            if position < from {
                return Err(Trouble::Read(format!("asked for position {from} or later, the outbox gave {position}")));
            }
            let after = position.saturating_add(1);
            if state.acked_ahead.contains(position) || state.in_flight.contains_key(&position) {
                // One block stands for positions on both sides of what was sent already.
                state.cursors[track as usize].next = after;
                match state.in_flight.get_mut(&position) {
                    Some(flight) => flight.from = flight.from.min(from),
                    None => state.done(from..after),
                }
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
                state.cursors[track as usize].next = after;
                state.done(from..after);
                *covered += 1;
                continue;
            }
            state.cursors[track as usize].head = Some(Head { position, block, key, range, events, from });
            return Ok(false);
        }
        Ok(true)
    }

    /// The block whose turn it is among lanes that are open: critical first,
    /// then live and backlog by their share, in each normal and bulk by weight.
    fn choose(&self, open: [bool; 3]) -> Option<(Lane, Track)> {
        let critical = self.heads_of(Lane::Critical, open);
        if let Some(index) = self.critical.choose(critical) {
            return Some((Lane::Critical, Track::ALL[index]));
        }
        let track = Track::ALL[self.tracks.choose(self.heads_of_tracks(open))?];
        let lane = self.by_weight[track as usize].choose(self.heads_by_weight(track, open))?;
        Some((BY_WEIGHT[lane], track))
    }

    fn heads_of(&self, lane: Lane, open: [bool; 3]) -> [Option<u64>; 2] {
        let state = &self.lanes[lane.index()];
        Track::ALL.map(|track| state.head_bytes(track).filter(|_| open[lane.index()]))
    }

    fn heads_by_weight(&self, track: Track, open: [bool; 3]) -> [Option<u64>; 2] {
        BY_WEIGHT.map(|lane| self.heads_of(lane, open)[track as usize])
    }

    /// The bytes of what would go next on each track.
    fn heads_of_tracks(&self, open: [bool; 3]) -> [Option<u64>; 2] {
        Track::ALL.map(|track| {
            let heads = self.heads_by_weight(track, open);
            self.by_weight[track as usize].choose(heads).and_then(|lane| heads[lane])
        })
    }

    /// The block that may go next. One that does not fit is waited for, so that
    /// large blocks are not starved by small ones; one block may always be in
    /// flight, and one critical block besides. What fills the link is held
    /// against the blocks behind the oldest: that one may have left the link
    /// but for its last bytes, and counts in full until it is acknowledged.
    pub(super) fn next(&mut self, open: [bool; 3], room: Room) -> Next {
        let Some((lane, track)) = self.choose(open) else {
            self.rate.on_starved(self.bytes);
            return Next::Nothing;
        };
        let state = &self.lanes[lane.index()];
        let bytes = state.head_bytes(track).unwrap_or(0);
        let behind = self.bytes - self.oldest().map_or(0, |flight| flight.bytes);
        let fits = self.bytes == 0
            || (self.bytes.saturating_add(bytes) <= room.window_bytes && behind < room.fill_bytes)
            || (lane == Lane::Critical && state.in_flight.is_empty());
        // The first block that is missing may always go: nothing else makes room.
        let is_first = state.cursors[track as usize].head.as_ref().is_some_and(|head| head.from <= state.acked);
        let is_scattered = state.acked_ahead.range_count() >= ACKED_AHEAD_MAX && !is_first;
        if !fits || self.blocks >= room.blocks_max || is_scattered {
            return Next::Full;
        }
        Next::Block(Choice { lane, track, bytes })
    }

    /// The block may not go for now, for reasons other than the link's.
    pub(super) fn on_held_back(&mut self) {
        self.rate.on_starved(self.bytes);
    }

    /// Takes the block that [`Lanes::next`] chose.
    pub(super) fn send(&mut self, now: u64, open: [bool; 3], choice: Choice) -> Option<Head> {
        let Choice { lane, track, bytes } = choice;
        if lane == Lane::Critical {
            self.critical.serve(track as usize, self.heads_of(lane, open));
        } else {
            self.tracks.serve(track as usize, self.heads_of_tracks(open));
            let of = usize::from(lane == BY_WEIGHT[1]);
            self.by_weight[track as usize].serve(of, self.heads_by_weight(track, open));
        }
        let mark = self.rate.on_sent(now, self.bytes);
        let state = &mut self.lanes[lane.index()];
        let cursor = &mut state.cursors[track as usize];
        let head = cursor.head.take()?;
        cursor.next = head.position.saturating_add(1);
        let (key, range) = (head.key.clone(), head.range.clone());
        let flights = self.keys.entry(key.clone()).or_default();
        flights.blocks.insert((range.start, lane.index(), head.position));
        flights.span_max = flights.span_max.max(range.end - range.start);
        let (events, from) = (head.events, head.from);
        let flight = Flight { key, range, bytes, events, mark, from, pieces: RangeSet::new() };
        state.in_flight.insert(head.position, flight);
        self.bytes += bytes;
        self.blocks += 1;
        Some(head)
    }

    /// Sequences of a stream are acknowledged. Those that are not in flight are ignored.
    pub(super) fn ack(&mut self, now: u64, key: &StreamKey, ranges: &[Range<Seq>]) -> Completed {
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
                    self.complete(now, lane, position, &mut completed);
                }
            }
        }
        completed
    }

    fn complete(&mut self, now: u64, lane: usize, position: u64, completed: &mut Completed) {
        let state = &mut self.lanes[lane];
        let Some(flight) = state.in_flight.remove(&position) else {
            return;
        };
        state.done(flight.from..position.saturating_add(1));
        self.bytes -= flight.bytes;
        self.blocks -= 1;
        self.rate.on_acked(now, flight.mark, flight.bytes);
        if let Some(flights) = self.keys.get_mut(&flight.key) {
            flights.blocks.remove(&(flight.range.start, lane, position));
            if flights.blocks.is_empty() {
                self.keys.remove(&flight.key);
            }
        }
        completed.blocks += 1;
        completed.events += u64::from(flight.events);
        completed.bytes += flight.bytes;
    }
}

/// The lanes that share by weight.
const BY_WEIGHT: [Lane; 2] = [Lane::Normal, Lane::Bulk];

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
