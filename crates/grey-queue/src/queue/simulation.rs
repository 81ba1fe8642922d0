//! The outbox against a model: random work, crashes, full disks and damage, from a seed.
//!
//! `GREY_QUEUE_SEEDS=FROM..TO` runs other seeds than the usual ones.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_codec::{BlockBuilder, decode_block};
use grey_disk::{Disk, SimDisk};
use grey_log::LogError;
use grey_model::{
    BlockHeader, Compression, Disposition, Epoch, Event, Kind, Lane, RangeSet, RuleId, SiteId, Stamp, Value,
};

use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// What was accepted as a sequence.
#[derive(Clone)]
enum Was {
    Event(Event),
    Account(Disposition),
}

/// What the tier above has of one lane.
#[derive(Default)]
struct Receiver {
    covered: RangeSet,
    blocks: Vec<Bytes>,
}

struct World {
    seed: u64,
    random: Random,
    disk: SimDisk,
    queue: Queue,
    config: QueueConfig,
    now_ms: i64,
    builders: [BlockBuilder; 3],
    accepted: [Vec<Was>; 3],
    unwritten: [VecDeque<(BlockHeader, Bytes)>; 3],
    /// All that was ever made: what the owner could replay.
    made: [Vec<(BlockHeader, Bytes)>; 3],
    receivers: [Receiver; 3],
    /// What was given out at a position, and not settled.
    given: BTreeMap<(Lane, u64), Bytes>,
    cursors: [[u64; 2]; 3],
    checkpoints: VecDeque<QueueState>,
    is_damaged: bool,
    receipts: BTreeMap<String, ReceiptKind>,
    crashes: u32,
}

use crate::receipt::{Reason, ReceiptKind};

const DIR: &str = "outbox";

fn open(disk: &SimDisk, config: &QueueConfig, state: Option<QueueState>) -> Result<Queue, QueueError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let site = SiteId::new("site-1").unwrap();
    Queue::open(&disk, Path::new(DIR), site, config.clone(), state).map(|(queue, _)| queue)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let policy = |random: &mut Random| {
            [OnFull::Block, OnFull::DropOldest, OnFull::DropNewest, OnFull::DropOldest][random.below(4) as usize]
        };
        let config = QueueConfig {
            // The lease takes 32 KiB of it.
            bytes_max: 33_000 + (40_000 << random.below(3)),
            segment_bytes_max: 1024 << random.below(4),
            on_full: [OnFull::Block, policy(&mut random), policy(&mut random)],
            reserve_bytes: [0, 30_000][random.below(2) as usize],
            seal: None,
        };
        let disk = SimDisk::new(seed);
        let queue = open(&disk, &config, None).unwrap();
        let builder = |lane| BlockBuilder::new(SiteId::new("site-1").unwrap(), Epoch(1), lane, Compression::Lz4, 0);
        Self {
            seed,
            random,
            disk,
            queue,
            config,
            now_ms: 1_000,
            builders: Lane::ALL.map(builder),
            accepted: Default::default(),
            unwritten: Default::default(),
            made: Default::default(),
            receivers: Default::default(),
            given: BTreeMap::new(),
            cursors: Default::default(),
            checkpoints: VecDeque::new(),
            is_damaged: false,
            receipts: BTreeMap::new(),
            crashes: 0,
        }
    }

    fn lane(&mut self) -> Lane {
        [Lane::Critical, Lane::Normal, Lane::Bulk, Lane::Bulk][self.random.below(4) as usize]
    }

    fn accept(&mut self, lane: Lane) {
        let n = lane.index();
        let admission = self.queue.admission(lane);
        if admission == Admission::Block || self.unwritten[n].len() > 8 {
            return;
        }
        for _ in 0..=self.random.below(60) {
            let at = self.accepted[n].len() as u64;
            let was = match self.random.below(20) {
                0 => Was::Account(Disposition::Reduced(RuleId(3))),
                1 => Was::Account(Disposition::Deduplicated),
                2 => {
                    let event = Event { kind: Kind::Log, value: Value::Text("x".into()), ..self.reading(at) };
                    Was::Event(event)
                }
                3 => Was::Event(Event { value: Value::Bool(at.is_multiple_of(3)), ..self.reading(at) }),
                4 => Was::Event(Event { value: Value::Integer(at as i64), ..self.reading(at) }),
                _ if admission == Admission::DropNewest => Was::Account(Disposition::DroppedOverflow),
                _ => Was::Event(self.reading(at)),
            };
            match &was {
                Was::Event(event) => assert_eq!(self.builders[n].push(event).unwrap(), at),
                Was::Account(disposition) => assert_eq!(self.builders[n].account(*disposition, 1), 1),
            }
            self.accepted[n].push(was);
        }
        let block = self.builders[n].finish(Stamp::at_unix_ms(self.now_ms), 0).unwrap();
        let made = (BlockHeader::parse(&block).unwrap().header, block);
        self.made[n].push(made.clone());
        self.unwritten[n].push_back(made);
    }

    fn reading(&mut self, at: u64) -> Event {
        let stream = ["t", "p"][self.random.below(2) as usize];
        let value = self.random.below(1 << 30) as f64 / 1024.0;
        Event::reading(["a", "b"][(at % 2) as usize], stream, value, at as i64 * 1_500)
    }

    /// What can go wrong: a full disk goes on, anything else is a crash.
    fn check<T>(&mut self, done: Result<T, QueueError>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(QueueError::Log(LogError::Full { .. })) => {
                self.queue.disk_full(self.now_ms);
                None
            }
            Err(QueueError::Io { source, .. }) if grey_disk::is_full(&source) => None,
            Err(error) => {
                assert!(self.disk.is_off(), "seed {}: {error:?}", self.seed);
                self.crash();
                None
            }
        }
    }

    fn write(&mut self, lane: Lane) {
        let n = lane.index();
        let blocks: Vec<_> = self.unwritten[n].iter().cloned().collect();
        let done = self.queue.write(lane, blocks.iter().map(|(header, block)| (header, block)));
        if self.check(done).is_some() {
            self.unwritten[n].clear();
        }
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.crashes += 1;
        let state = self.checkpoints.back().cloned();
        let mut attempts = 0;
        self.queue = loop {
            match open(&self.disk, &self.config, state.clone()) {
                Ok(queue) => break queue,
                // A full disk may also refuse to open; whoever runs it makes room.
                Err(QueueError::Log(LogError::Full { .. })) if attempts < 1 => self.disk.set_capacity(None),
                Err(error) => panic!("seed {}: {error:?}", self.seed),
            }
            attempts += 1;
        };
        self.cursors = Default::default();
        for lane in Lane::ALL {
            let end = self.queue.lane(lane).end_seq;
            // The owner replays what had not come to the disk.
            let lost = self.made[lane.index()].iter().filter(|(header, _)| header.range().end > end);
            let unwritten = &mut self.unwritten[lane.index()];
            *unwritten = lost.cloned().collect();
            if !self.is_damaged {
                assert!(unwritten.front().is_none_or(|(header, _)| header.first_seq == end), "seed {}", self.seed);
            }
        }
        self.queue.observe(self.now_ms);
        self.check_counts();
    }

    fn read(&mut self, lane: Lane) {
        let cursor = self.random.below(2) as usize;
        let uplink = self.queue.uplink();
        if self.cursors[lane.index()][cursor] == 0 && cursor == 1 {
            self.cursors[lane.index()][1] = uplink.end(lane).saturating_sub(self.random.below(4));
        }
        for _ in 0..self.random.below(4) {
            let from = self.cursors[lane.index()][cursor];
            let found = uplink.next(lane, from);
            let Some(found) = self.check(found) else { return };
            let Some((position, block)) = found else { return };
            self.cursors[lane.index()][cursor] = position + 1;
            self.receive(lane, &block);
            let before = self.given.insert((lane, position), block.clone());
            if !self.is_damaged {
                assert!(
                    before.is_none_or(|before| before == block),
                    "seed {}: {lane} {position} has changed",
                    self.seed
                );
            }
        }
    }

    fn receive(&mut self, lane: Lane, block: &Bytes) {
        let range = BlockHeader::parse(block).unwrap().header.range();
        let receiver = &mut self.receivers[lane.index()];
        let new = receiver.covered.insert(range.clone());
        if new == 0 {
            return;
        }
        if !self.is_damaged {
            assert_eq!(new, range.end - range.start, "seed {}: {lane} {range:?} came in part before", self.seed);
        }
        receiver.blocks.push(block.clone());
    }

    /// Acknowledges what the first cursor was given, or some of it.
    fn ack(&mut self, lane: Lane) {
        let acked = self.queue.lane(lane).acked;
        let to = self.cursors[lane.index()][0].max(acked);
        let given: Vec<u64> = self.given.range((lane, acked)..(lane, to)).map(|g| g.0.1).collect();
        if given.is_empty() {
            return;
        }
        let upto = given[self.random.below(given.len() as u64) as usize] + 1;
        let done = self.queue.ack(lane, upto);
        self.check(done);
        self.check_counts();
        let acked = self.checkpoints.front().map_or(0, |state| state.lanes[lane.index()].acked);
        self.given.retain(|(of, position), _| *of != lane || *position >= acked);
    }

    fn checkpoint(&mut self) {
        for receipt in self.queue.take_receipts() {
            let known = self.receipts.insert(receipt.id, receipt.kind.clone());
            let is_step = matches!(receipt.kind, ReceiptKind::Step(_));
            assert!(is_step || known.is_none_or(|known| known == receipt.kind), "seed {}", self.seed);
        }
        self.checkpoints.push_back(self.queue.state());
        if self.checkpoints.len() > 2 || self.queue.wants_reclaim() {
            while self.checkpoints.len() > 2 || self.queue.wants_reclaim() && self.checkpoints.len() > 1 {
                self.checkpoints.pop_front();
            }
            let oldest = self.checkpoints.front().cloned().unwrap_or_default();
            let done = self.queue.reclaim(&oldest);
            self.check(done);
        }
    }

    fn fold(&mut self) {
        let Some(job) = self.queue.next_fold() else { return };
        let crashes = self.crashes;
        if self.random.below(4) == 0 {
            // The uplink and acknowledgements go on meanwhile.
            let lane = job.lane();
            self.read(lane);
            self.ack(lane);
        }
        if self.crashes != crashes {
            return;
        }
        let folded = job.run();
        if self.random.below(4) == 0 {
            let lane = self.lane();
            self.read(lane);
        }
        if self.crashes != crashes {
            return;
        }
        let done = self.queue.apply(folded);
        self.check(done);
        self.check_counts();
    }

    /// Settled and waiting sequences make the lane, after damage as well.
    fn check_counts(&self) {
        for lane in Lane::ALL {
            let state = self.queue.lane(lane);
            let settled = state.lives.first().map_or(0, |life| life.books.end());
            assert_eq!(settled + state.pending.tally.total(), state.end_seq, "seed {}: {lane}", self.seed);
            if self.is_damaged {
                // Which blocks are lost shows when they are read.
                continue;
            }
            let (reader, mut position, mut pending) = (self.queue.reader(), state.acked, Pending::default());
            while let Some((at, block)) = reader.next(lane, position).unwrap() {
                pending.add(&parse(lane, at, &block).unwrap(), block.len());
                position = at + 1;
            }
            assert_eq!(pending, state.pending, "seed {}: {lane}", self.seed);
        }
    }

    fn damage(&mut self) {
        let files: Vec<_> =
            self.disk.files().into_iter().filter(|(path, len)| path.contains("outbox/") && *len > 0).collect();
        let (path, len) = &files[self.random.below(files.len() as u64) as usize];
        let path = Path::new(path);
        self.is_damaged = true;
        match self.random.below(4) {
            0 => self.disk.lose(path).unwrap(),
            1 => self.disk.truncate(path, self.random.below(*len)).unwrap(),
            2 => self.disk.zero(path, 0, *len).unwrap(),
            _ => self.disk.flip(path, self.random.below(*len), 3).unwrap(),
        }
        // A file that goes away under a running process is an error of the disk.
        if self.random.below(2) == 0 || !self.disk.exists(path).is_ok_and(|exists| exists) {
            self.crash();
        }
    }

    fn step(&mut self, with_damage: bool) {
        self.now_ms += 100;
        let lane = self.lane();
        match self.random.below(40) {
            0..=13 => {
                self.accept(lane);
                self.write(lane);
            }
            14..=19 => self.fold(),
            20..=23 => self.read(lane),
            24..=26 => self.ack(lane),
            27..=29 => {
                self.queue.observe(self.now_ms);
                if self.queue.wants_reclaim() {
                    self.checkpoint();
                }
            }
            30..=32 => self.checkpoint(),
            33 => self.disk.power_off_after(self.random.below(40)),
            34 => self.crash(),
            35 => {
                let used: u64 = self.disk.files().iter().map(|(_, len)| len).sum();
                self.disk.set_capacity(Some(used + self.random.below(20_000)));
            }
            36 => self.disk.set_capacity(None),
            37 if with_damage && self.random.below(5) == 0 => self.damage(),
            _ => self.fold(),
        }
    }

    /// Everything goes up, and is compared with what was accepted.
    fn drain(&mut self) {
        self.disk.set_capacity(None);
        self.disk.power_off_after(u64::MAX);
        self.crash();
        for lane in Lane::ALL {
            self.write(lane);
            assert!(self.unwritten[lane.index()].is_empty());
            let uplink = self.queue.uplink();
            let mut from = self.queue.lane(lane).acked;
            while let Some((position, block)) = uplink.next(lane, from).unwrap() {
                self.receive(lane, &block);
                from = position + 1;
            }
            self.queue.ack(lane, u64::MAX).unwrap();
            let end = self.accepted[lane.index()].len() as u64;
            let covered = &self.receivers[lane.index()].covered;
            let end_seq = self.queue.lane(lane).end_seq;
            assert_eq!(
                (covered.contiguous_end(), covered.len()),
                (end, end),
                "seed {}: {lane} {covered:?} {end_seq}",
                self.seed
            );
            assert_eq!(self.queue.lane(lane).pending, Pending::default(), "seed {}: {lane}", self.seed);
            self.compare(lane);
        }
        self.queue.reclaim(&self.queue.state()).unwrap();
        let left = self.queue.bytes_on_disk();
        assert!(left < 15 * (4096 + 2 * self.config.segment_bytes_max) + 33_000, "seed {}: {left}", self.seed);
    }

    fn compare(&self, lane: Lane) {
        let accepted = &self.accepted[lane.index()];
        let is_whole = self.config.on_full[lane.index()] == OnFull::Block;
        let mut tally = grey_ledger::Tally::default();
        for block in &self.receivers[lane.index()].blocks {
            let (header, events) = decode_block(block).unwrap();
            tally.delivered += u64::from(header.events);
            let mut has = [false; 2];
            for account in &header.accounts {
                tally.account(account.disposition, account.len());
                match account.disposition {
                    Disposition::Reduced(RuleId::THINNED) => has[0] = true,
                    Disposition::Reduced(RuleId::ROLLED_UP) => has[1] = true,
                    Disposition::DroppedDamage => assert!(self.is_damaged, "seed {}", self.seed),
                    Disposition::DroppedOverflow => {}
                    disposition => {
                        let kept = account
                            .range
                            .clone()
                            .all(|seq| matches!(accepted[seq as usize], Was::Account(was) if was == disposition));
                        assert!(kept, "seed {}", self.seed);
                    }
                }
                let is_lossy = has[0] || has[1] || account.disposition == Disposition::DroppedOverflow;
                assert!(!(is_whole && is_lossy), "seed {}: a lane that blocks has lost", self.seed);
            }
            self.compare_events(accepted, &header.range(), &events, has);
        }
        let books = &self.queue.lane(lane).lives[..];
        if let [life] = books
            && !self.is_damaged
        {
            assert!(life.books.balanced());
            assert_eq!(life.books.tally(), tally, "seed {}: {lane}", self.seed);
        }
    }

    fn compare_events(&self, accepted: &[Was], range: &Range<u64>, events: &[grey_codec::SeqEvent], has: [bool; 2]) {
        let (mut count, mut sum, mut other) = (0.0, 0.0, 0);
        for found in events {
            let event = &found.event;
            if event.kind == Kind::Aggregate {
                match &event.value {
                    Value::Fields(fields) => {
                        let field = |name: &str| fields.iter().find(|f| &*f.0 == name).unwrap().1;
                        count += field("count");
                        sum += field("count") * field("avg");
                        assert!(field("min") <= field("avg") + 1e-6 && field("avg") <= field("max") + 1e-6);
                    }
                    _ => other += event.attributes.iter().find(|a| &*a.0 == "count").unwrap().1.parse::<u64>().unwrap(),
                }
            } else if event.kind != Kind::Reading || !(has[0] || has[1]) {
                let Was::Event(was) = &accepted[found.seq as usize] else { panic!("seed {}", self.seed) };
                assert_eq!(was, event, "seed {}", self.seed);
            }
        }
        let was_rolled = events.iter().any(|found| found.event.kind == Kind::Aggregate);
        if was_rolled && !has[0] {
            let readings = accepted[range.start as usize..range.end as usize].iter().filter_map(|was| match was {
                Was::Event(event) if event.kind == Kind::Reading => Some(&event.value),
                _ => None,
            });
            let (mut all, mut expected, mut rest) = (0.0, 0.0, 0);
            for value in readings {
                match value {
                    Value::Bool(_) => rest += 1,
                    value => {
                        all += 1.0;
                        expected += value.as_f64().unwrap();
                    }
                }
            }
            assert_eq!((count, other), (all, rest), "seed {}", self.seed);
            assert!((sum - expected).abs() <= 1e-6 * expected.abs().max(1.0), "seed {}: {sum} {expected}", self.seed);
        }
    }
}

fn run(seed: u64, with_damage: bool) -> World {
    let mut world = World::new(seed);
    let steps = 40 + world.random.below(260);
    for _ in 0..steps {
        world.step(with_damage);
    }
    world.drain();
    world
}

fn seeds(usual: Range<u64>) -> Range<u64> {
    let asked = std::env::var("GREY_QUEUE_SEEDS").ok();
    let parsed = asked.as_deref().and_then(|asked| asked.split_once(".."));
    parsed.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(usual)
}

#[test]
fn every_sequence_goes_up_once_through_crashes_folds_and_full_disks() {
    let mut told = std::collections::BTreeSet::new();
    for seed in seeds(0..300) {
        let world = run(seed, false);
        told.extend(world.receipts.values().filter_map(|kind| match kind {
            ReceiptKind::Range { reason, .. } => Some(*reason),
            ReceiptKind::Step(_) => None,
        }));
    }
    if std::env::var_os("GREY_QUEUE_SEEDS").is_some() {
        return;
    }
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        [Reason::ThinnedOnOverflow, Reason::RolledUp, Reason::DroppedOverflow],
        "all of it happened, and no damage"
    );
}

#[test]
fn what_the_disk_loses_is_accounted_for() {
    for seed in seeds(0..200) {
        run(seed, true);
    }
}
