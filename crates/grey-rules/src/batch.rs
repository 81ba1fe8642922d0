//! Evaluating a batch: devices are spread over partitions, partitions over
//! threads. What comes out does not depend on the number of threads.
//!
//! 1. Each partition takes the readings of its devices in their order, and
//!    feeds the numbers derived from them to the conditions of the same device.
//! 2. The shared partition (rules by site and by tag) takes all of them in order.
//! 3. What was derived there goes back to the partitions of its keys.
//! 4. Everything passes the gate in the order of the readings that it came from.

use grey_model::{Event, Kind, Name, Quality, Stamp};

use crate::hot::HotWatch;
use crate::partition::{Feed, Gathered, Outcome, Partition, Raw, Reading};
use crate::set::{RuleSet, fnv1a};

/// Partitions of the devices. Part of the saved state, so the same for ever.
pub(crate) const PARTITIONS: usize = 8;
/// Series beyond an equal share that a partition has room for: devices do not spread evenly.
const SERIES_SPARE: usize = 16;
/// Work from which threads are worth their start, in units of about 10 ns.
const PARALLEL_WORK_MIN: usize = 40_000;

/// The partition of a device.
#[inline]
pub(crate) fn partition_of(device: &str) -> usize {
    // The product's upper bits depend on all of the hash.
    (fnv1a(device.as_bytes()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize
}

/// What came of one reading, by position in the batch; only of those of which something came.
#[derive(Debug, Clone, Copy)]
struct Span {
    reading: u32,
    events: u32,
    ended: u32,
}

/// One partition's part of a batch.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    readings: Vec<u32>,
    outcomes: Vec<Outcome>,
    raw: Raw,
    spans: Vec<Span>,
    /// Derived numbers, by reading.
    feeds: Vec<(u32, Feed)>,
}

impl Turn {
    fn clear(&mut self) {
        self.readings.clear();
        self.outcomes.clear();
        self.spans.clear();
    }

    /// Notes what came of a reading since the last note. Derived numbers stay for others.
    fn note(&mut self, reading: u32) {
        let (events, ended) = (self.raw.events.len() as u32, self.raw.ended.len() as u32);
        self.spans.push(Span { reading, events, ended });
    }
}

/// Readings of one acceptance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) events: &'a [Event],
    pub(crate) now: Stamp,
    pub(crate) now_ms: i64,
}

impl<'a> Batch<'a> {
    fn reading(&self, at: u32) -> Option<Reading<'a>> {
        let event = self.events.get(at as usize)?;
        let is_good = event.quality != Quality::Bad;
        let value = event.value.as_f64().filter(|value| value.is_finite() && is_good);
        Some(Reading { event, value, now: self.now, now_ms: self.now_ms, is_derived: false })
    }
}

/// A derived number as a reading.
pub(crate) fn derived(feed: &Feed, now: Stamp) -> Event {
    let mut event = Event::reading(feed.device.clone(), feed.stream.clone(), feed.value, feed.time_ms);
    event.unit = feed.unit.clone();
    event.stamp = now;
    event
}

impl Partition {
    /// Feeds a derived number to conditions. What these derive is fed to none.
    pub(crate) fn feed(&mut self, set: &RuleSet, feed: &Feed, now: Stamp, now_ms: i64, raw: &mut Raw) {
        let event = derived(feed, now);
        let reading = Reading { event: &event, value: Some(feed.value), now, now_ms, is_derived: true };
        self.process(set, &reading, raw, &mut Outcome::default());
        raw.feeds.clear();
    }

    /// Takes a partition's readings.
    fn take_turn(&mut self, set: &RuleSet, batch: Batch<'_>, turn: &mut Turn) {
        for at in 0..turn.readings.len() {
            let number = turn.readings[at];
            let Some(reading) = batch.reading(number) else { continue };
            let mut outcome = Outcome::default();
            self.process(set, &reading, &mut turn.raw, &mut outcome);
            turn.outcomes.push(outcome);
            if turn.raw.is_empty() {
                continue;
            }
            let mut feeds = std::mem::take(&mut turn.raw.feeds);
            for feed in &feeds {
                self.feed(set, feed, batch.now, batch.now_ms, &mut turn.raw);
            }
            turn.feeds.extend(feeds.drain(..).map(|feed| (number, feed)));
            turn.note(number);
        }
    }
}

/// Partitions of devices, the shared one, and room for a batch.
#[derive(Debug)]
pub(crate) struct Partitions {
    pub(crate) local: Vec<Partition>,
    pub(crate) shared: Partition,
    turns: Vec<Turn>,
    shared_turn: Turn,
    gathered: Gathered,
    /// The partition of each reading, and its place there.
    places: Vec<Option<(u8, u32)>>,
}

impl Partitions {
    pub(crate) fn new(set: &RuleSet, site: &Name, series_max: usize) -> Self {
        let share = series_max.div_ceil(PARTITIONS);
        let local_max = (share + share / 4 + SERIES_SPARE).min(series_max);
        let local = |_| Partition::new(set, site, local_max, false);
        Self {
            local: (0..PARTITIONS).map(local).collect(),
            shared: Partition::new(set, site, series_max, true),
            turns: (0..PARTITIONS).map(|_| Turn::default()).collect(),
            shared_turn: Turn::default(),
            gathered: Gathered::default(),
            places: Vec::new(),
        }
    }

    /// All of them, the shared one last.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Partition> {
        self.local.iter().chain([&self.shared])
    }

    /// All of them, the shared one last.
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.local.iter_mut().chain([&mut self.shared])
    }

    /// The partition of a device.
    pub(crate) fn of_mut(&mut self, device: &str) -> &mut Partition {
        &mut self.local[partition_of(device)]
    }

    /// Evaluates a batch. Outcomes are appended, `None` for events that are no readings; what was made is in `raw`.
    pub(crate) fn evaluate(
        &mut self,
        set: &RuleSet,
        batch: Batch<'_>,
        workers: usize,
        hot: &mut HotWatch,
        outcomes: &mut Vec<Option<Outcome>>,
        raw: &mut Raw,
    ) {
        if let [_] = batch.events {
            outcomes.push(self.evaluate_one(set, batch, raw));
            return;
        }
        self.turns.iter_mut().for_each(Turn::clear);
        self.places.clear();
        for (number, event) in batch.events.iter().enumerate() {
            let place = (event.kind == Kind::Reading).then(|| {
                let partition = partition_of(&event.device);
                let readings = &mut self.turns[partition].readings;
                readings.push(number as u32);
                (partition as u8, readings.len() as u32 - 1)
            });
            self.places.push(place);
        }
        self.take_turns(set, batch, workers);
        self.take_shared_turn(set, batch, hot);
        let first = outcomes.len();
        outcomes.extend(self.places.iter().map(|place| {
            let (partition, at) = (*place)?;
            self.turns[usize::from(partition)].outcomes.get(at as usize).copied()
        }));
        if set.has_shared() {
            self.join(&mut outcomes[first..]);
        }
        self.limit(set, batch, &mut outcomes[first..]);
        self.agree_on_models();
        self.merge(raw);
        self.feed_back(set, batch, raw);
    }

    /// A batch of one, with the same result and less ceremony.
    fn evaluate_one(&mut self, set: &RuleSet, batch: Batch<'_>, raw: &mut Raw) -> Option<Outcome> {
        let Batch { now, now_ms, .. } = batch;
        let reading = batch.reading(0).filter(|reading| reading.event.kind == Kind::Reading)?;
        let partition = &mut self.local[partition_of(&reading.event.device)];
        let mut outcome = Outcome::default();
        partition.process(set, &reading, raw, &mut outcome);
        let feeds = std::mem::take(&mut raw.feeds);
        for feed in &feeds {
            partition.feed(set, feed, now, now_ms, raw);
        }
        let mut back = Vec::new();
        if set.has_shared() {
            let mut shared = Outcome::default();
            self.shared.process(set, &reading, raw, &mut shared);
            outcome.join(&shared);
            back = std::mem::take(&mut raw.feeds);
            for feed in &feeds {
                self.shared.feed(set, feed, now, now_ms, raw);
            }
        }
        settle(set, &reading, &mut outcome, &mut self.local[partition_of(&reading.event.device)], raw);
        self.agree_on_models();
        for feed in &back {
            self.feed_all(set, feed, now, now_ms, raw);
        }
        Some(outcome)
    }

    fn take_turns(&mut self, set: &RuleSet, batch: Batch<'_>, workers: usize) {
        let mut pairs: Vec<(&mut Partition, &mut Turn)> =
            self.local.iter_mut().zip(&mut self.turns).filter(|(_, turn)| !turn.readings.is_empty()).collect();
        let is_worth_it = batch.events.len().saturating_mul(set.weight()) >= PARALLEL_WORK_MIN;
        if workers < 2 || !is_worth_it || pairs.len() < 2 {
            pairs.into_iter().for_each(|(partition, turn)| partition.take_turn(set, batch, turn));
            return;
        }
        let share = pairs.len().div_ceil(workers);
        std::thread::scope(|scope| {
            let mut shares = pairs.chunks_mut(share);
            let own = shares.next();
            for others in shares {
                scope.spawn(move || {
                    for (partition, turn) in others {
                        partition.take_turn(set, batch, turn);
                    }
                });
            }
            own.into_iter().flatten().for_each(|(partition, turn)| partition.take_turn(set, batch, turn));
        });
    }

    fn take_shared_turn(&mut self, set: &RuleSet, batch: Batch<'_>, hot: &mut HotWatch) {
        self.shared_turn.clear();
        if !set.has_shared() {
            self.turns.iter_mut().for_each(|turn| turn.feeds.clear());
            return;
        }
        let mut feeds: Vec<(u32, Feed)> = self.turns.iter_mut().flat_map(|turn| turn.feeds.drain(..)).collect();
        // Stable: those of one reading keep their order.
        feeds.sort_by_key(|(number, _)| *number);
        let mut feeds = feeds.into_iter().peekable();
        let turn = &mut self.shared_turn;
        for number in 0..batch.events.len() as u32 {
            let mut outcome = Outcome::default();
            if let Some(reading) = batch.reading(number).filter(|reading| reading.event.kind == Kind::Reading) {
                let heat = hot.heat(&reading.event.device, &reading.event.stream);
                if heat.is_some_and(|_| self.shared.gather(set, &reading, number, &mut self.gathered)) {
                    hot.mitigated(heat);
                } else {
                    self.shared.process(set, &reading, &mut turn.raw, &mut outcome);
                }
            }
            turn.outcomes.push(outcome);
            turn.feeds.extend(turn.raw.feeds.drain(..).map(|feed| (number, feed)));
            while let Some((_, feed)) = feeds.next_if(|(of, _)| *of == number) {
                self.shared.feed(set, &feed, batch.now, batch.now_ms, &mut turn.raw);
            }
            if !turn.raw.is_empty() {
                turn.note(number);
            }
        }
        let last = batch.events.len().saturating_sub(1) as u32;
        self.shared.put_gathered(set, &mut self.gathered, |number| batch.reading(number), &mut turn.raw);
        turn.feeds.extend(turn.raw.feeds.drain(..).map(|feed| (last, feed)));
        turn.note(last);
    }

    /// Adds what the shared rules say.
    fn join(&self, outcomes: &mut [Option<Outcome>]) {
        for (outcome, shared) in outcomes.iter_mut().zip(&self.shared_turn.outcomes) {
            if let Some(outcome) = outcome {
                outcome.join(shared);
            }
        }
    }

    /// Counts readings that no rule could use, and holds devices to their rate.
    fn limit(&mut self, set: &RuleSet, batch: Batch<'_>, outcomes: &mut [Option<Outcome>]) {
        for (number, outcome) in outcomes.iter_mut().enumerate() {
            let (Some(outcome), Some(Some((partition, _)))) = (outcome, self.places.get(number)) else { continue };
            let Some(reading) = batch.reading(number as u32) else { continue };
            let partition = &mut self.local[usize::from(*partition)];
            settle(set, &reading, outcome, partition, &mut self.shared_turn.raw);
        }
    }

    /// A model that failed in one partition is given up in all.
    fn agree_on_models(&mut self) {
        for model in 0..self.shared.models.len() {
            let active = self.each().map(|part| part.models[model].active).max().unwrap_or_default();
            self.each_mut().for_each(|part| part.models[model].active = active);
        }
    }

    /// Puts what was made into the order of the readings, those of the shared rules behind the others.
    fn merge(&mut self, raw: &mut Raw) {
        let mut spans: Vec<(u32, usize, u32, u32)> = Vec::new();
        let turns = self.turns.iter().chain([&self.shared_turn]);
        for (of, turn) in turns.enumerate() {
            let (mut events, mut ended) = (0, 0);
            for span in &turn.spans {
                spans.push((span.reading, of, span.events - events, span.ended - ended));
                (events, ended) = (span.events, span.ended);
            }
        }
        if spans.is_empty() {
            // Nothing but what the limits of devices evicted.
            raw.append(&mut self.shared_turn.raw);
            return;
        }
        spans.sort_unstable();
        let turns = self.turns.iter_mut().chain([&mut self.shared_turn]);
        let mut sources: Vec<_> = turns.map(|turn| (turn.raw.events.drain(..), turn.raw.ended.drain(..))).collect();
        for (_, of, events, ended) in spans {
            let (from_events, from_ended) = &mut sources[of];
            raw.events.extend(from_events.take(events as usize));
            raw.ended.extend(from_ended.take(ended as usize));
        }
        for (events, ended) in sources {
            raw.events.extend(events);
            raw.ended.extend(ended);
        }
    }

    /// Numbers derived by the shared rules reach the conditions of their keys.
    fn feed_back(&mut self, set: &RuleSet, batch: Batch<'_>, raw: &mut Raw) {
        for (_, feed) in std::mem::take(&mut self.shared_turn.feeds) {
            self.feed_all(set, &feed, batch.now, batch.now_ms, raw);
        }
    }

    /// Feeds a derived number to the conditions of its key.
    pub(crate) fn feed_all(&mut self, set: &RuleSet, feed: &Feed, now: Stamp, now_ms: i64, raw: &mut Raw) {
        self.of_mut(&feed.device).feed(set, feed, now, now_ms, raw);
        if set.has_shared() {
            self.shared.feed(set, feed, now, now_ms, raw);
        }
    }
}

/// Counts a reading that no rule could use, and holds its device to its rate.
#[inline]
fn settle(set: &RuleSet, reading: &Reading<'_>, outcome: &mut Outcome, partition: &mut Partition, raw: &mut Raw) {
    if reading.value.is_none() && !outcome.used {
        partition.totals.not_numeric += 1;
    }
    if set.limits.device_rate.is_some() && outcome.drop.is_none() && !outcome.flagged {
        outcome.limited = !partition.take_rate(set, reading, raw);
    }
}
