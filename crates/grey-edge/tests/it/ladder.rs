//! A small outbox that fills up: every level up and down, with receipts; what
//! is lost is what the books say; lanes that block make their devices wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use grey_codec::decode_block;
use grey_disk::{Disk, SimDisk};
use grey_edge::core::{CoreConfig, CoreError, EdgeCore, Flights, Request, RoundDriver};
use grey_ingest::{Op, Refusal};
use grey_model::{Disposition, Event, Kind, Lane, RangeSet, RuleId, SiteId, StreamKey, Value};
use grey_queue::{LEVEL_STREAM, Level, OnFull, QueueConfig, RANGE_STREAM};
use grey_rules::{Forward, NoModels, RuleSet, Rules};

const START_MS: i64 = 1_767_225_600_000;
const BATCH: u64 = 200;

fn config(on_full: [OnFull; 3]) -> CoreConfig {
    let rules = RuleSet::compile(&Rules::new(Vec::new(), Forward::Raw), &NoModels).expect("no rules");
    CoreConfig {
        queue: QueueConfig {
            bytes_max: 1 << 20,
            segment_bytes_max: 64 << 10,
            on_full,
            reserve_bytes: 128 << 10,
            seal: None,
        },
        intake_segment_bytes: 64 << 10,
        intake_bytes_max: 512 << 10,
        intake_retention_ms: 0,
        ..CoreConfig::new(SiteId::new("site-1").expect("a plain name"), Arc::new(rules))
    }
}

/// splitmix64 (Steele, Lea and Flood, 2014).
fn hash(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A reading that compresses badly.
fn reading(n: u64, lane: Lane) -> Op {
    let value = f64::from_bits(0x4030_0000_0000_0000 | hash(n) >> 12);
    let event = Event::reading(format!("press-{}", n % 5), "temperature", value, START_MS + n as i64);
    Op::Event { event, lane: Some(lane), qos2: None }
}

/// Who drives a round.
#[derive(Default)]
struct Clerk {
    now_ms: i64,
    answers: Vec<Result<(), Refusal>>,
}

impl RoundDriver for Clerk {
    type Done = ();
    fn now_ms(&mut self) -> i64 {
        self.now_ms
    }
    fn monotonic_us(&mut self) -> u64 {
        0
    }
    fn answer(&mut self, (): (), answer: Result<(), Refusal>) {
        self.answers.push(answer);
    }
    fn committed(&mut self, _: u64, _: u64) {}
    fn waits_for_space(&mut self, _: &CoreError) {}
    fn requests(&mut self, _: VecDeque<(u64, Request)>) {}
}

/// What arrived above.
#[derive(Default)]
struct Hub {
    covered: BTreeMap<StreamKey, RangeSet>,
    readings: u64,
    /// Readings that aggregates stand for.
    rolled: u64,
    thinned: u64,
    dropped: u64,
    steps: Vec<(String, String)>,
    ranges: u64,
}

impl Hub {
    fn take(&mut self, block: &[u8]) {
        let (header, events) = decode_block(block).expect("a block");
        let covered = self.covered.entry(header.key()).or_default();
        if covered.covers(&header.range()) {
            return;
        }
        assert_eq!(covered.missing(header.range()), [header.range()], "a part of it arrived before");
        covered.insert(header.range());
        for found in events {
            let event = found.event;
            let attribute = |name: &str| event.attributes.iter().find(|(n, _)| &**n == name).map_or("", |(_, v)| v);
            match event.kind {
                Kind::Reading => self.readings += 1,
                Kind::Aggregate => self.rolled += attribute("count").parse::<u64>().expect("a count"),
                Kind::Receipt if *event.stream == *LEVEL_STREAM => {
                    self.steps.push((attribute("from").to_owned(), attribute("to").to_owned()));
                }
                Kind::Receipt if *event.stream == *RANGE_STREAM => {
                    assert!(matches!(event.value, Value::Fields(_)));
                    self.ranges += 1;
                }
                other => panic!("nobody sent {other:?}"),
            }
        }
        for account in &header.accounts {
            match account.disposition {
                Disposition::Reduced(RuleId::THINNED) => self.thinned += account.len(),
                Disposition::DroppedOverflow => self.dropped += account.len(),
                // Its reading is in an aggregate; a receipt that was repeated after a crash counts once.
                Disposition::Reduced(RuleId::ROLLED_UP) | Disposition::Deduplicated => {}
                other => panic!("nothing was {other:?}"),
            }
        }
    }
}

struct Site {
    disk: SimDisk,
    config: CoreConfig,
    core: EdgeCore,
    flights: Flights<()>,
    clerk: Clerk,
    sent: u64,
    /// Readings that were acknowledged.
    acknowledged: u64,
    highest: Level,
}

fn open(disk: &SimDisk, config: &CoreConfig, now_ms: i64) -> EdgeCore {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut core, _) = EdgeCore::open(disk, config.clone(), now_ms, (1, 2)).expect("it opens");
    while !core.replay(64, now_ms).expect("it replays") {}
    core
}

impl Site {
    fn new(seed: u64, config: CoreConfig) -> Self {
        let disk = SimDisk::new(seed);
        let core = open(&disk, &config, START_MS);
        let clerk = Clerk { now_ms: START_MS, ..Clerk::default() };
        Self {
            disk,
            config,
            core,
            flights: Flights::default(),
            clerk,
            sent: 0,
            acknowledged: 0,
            highest: Level::Normal,
        }
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.core = open(&self.disk, &self.config, self.clerk.now_ms);
        self.flights = Flights::default();
    }

    /// A round with a batch; its answer.
    fn round(&mut self, ops: Vec<Op>) -> Option<Result<(), Refusal>> {
        self.clerk.now_ms += 600;
        let batch = (!ops.is_empty()).then_some((ops, ()));
        self.core.round(batch, &mut self.flights, &mut self.clerk).expect("the disk works");
        if !self.flights.is_empty() {
            self.core.round(None, &mut self.flights, &mut self.clerk).expect("the disk works");
        }
        self.highest = self.highest.max(self.core.queue().level());
        self.clerk.answers.pop()
    }

    fn send(&mut self, lane: Lane) -> Option<Result<(), Refusal>> {
        let ops = (self.sent..self.sent + BATCH).map(|n| reading(n, lane)).collect();
        self.sent += BATCH;
        let answer = self.round(ops);
        if answer == Some(Ok(())) {
            self.acknowledged += BATCH;
        }
        answer
    }

    fn drain(&mut self, hub: &mut Hub) {
        for _ in 0..3 {
            self.core.flush(self.clerk.now_ms, true).expect("the disk works");
            let uplink = self.core.uplink();
            for lane in Lane::ALL {
                while let Some((at, block)) = uplink.next(lane, self.core.queue().lane(lane).acked).expect("readable") {
                    hub.take(&block);
                    self.core.acknowledged(lane, at + 1).expect("it settles");
                }
            }
            for _ in 0..4 {
                self.clerk.now_ms += 30_000;
                self.round(Vec::new());
            }
        }
    }

    fn assert_settled(&self, hub: &Hub) {
        assert_eq!(self.core.queue().level(), Level::Normal, "back to where it began");
        for row in self.core.ledger() {
            let key = StreamKey { site: row.site.clone(), epoch: row.epoch, lane: row.lane };
            assert!(row.balanced && row.tally.pending == 0, "{row:?}");
            let covered = hub.covered.get(&key).map_or(0, RangeSet::len);
            assert_eq!(covered, row.accepted, "{key}: every sequence arrived once");
        }
        // A crash may have a step told once more.
        let mut steps = hub.steps.clone();
        steps.dedup();
        let joined = steps.windows(2).all(|pair| pair[0].1 == pair[1].0);
        assert!(joined && hub.steps.last().is_none_or(|(_, to)| to == "normal"), "{:?}", hub.steps);
    }
}

#[test]
fn a_lane_that_may_lose_climbs_and_comes_back() {
    let mut site = Site::new(1, config([OnFull::Block, OnFull::Block, OnFull::DropOldest]));
    for _ in 0..1_500 {
        assert_eq!(site.send(Lane::Bulk), Some(Ok(())), "data keeps flowing");
    }
    assert!(site.highest >= Level::Critical, "{:?}", site.highest);
    assert!(site.core.queue().bytes_on_disk() < 3 << 19, "the limit holds: {}", site.core.queue().bytes_on_disk());
    let ladder = site.core.ladder();
    assert!(ladder.folds > 0 && ladder.steps > 2 && ladder.sampled[2] > 0, "{ladder:?}");
    let mut hub = Hub::default();
    site.drain(&mut hub);
    site.assert_settled(&hub);
    assert!(hub.ranges > 0 && !hub.steps.is_empty());
    assert!(hub.thinned > 0);
    assert_eq!(hub.readings + hub.rolled + hub.thinned + hub.dropped, site.sent, "each reading once");
}

#[test]
fn lanes_that_block_make_their_devices_wait_and_lose_nothing() {
    let mut site = Site::new(2, config([OnFull::Block, OnFull::Block, OnFull::DropNewest]));
    let blocked = (0..4_000).find_map(|_| site.send(Lane::Normal).filter(Result::is_err));
    assert!(matches!(blocked, Some(Err(Refusal::Backpressure { .. }))), "{blocked:?}");
    assert_eq!(site.core.queue().level(), Level::Overflow);
    // Devices of other lanes are answered; one blocked event keeps its whole batch waiting.
    assert_eq!(site.round(vec![reading(site.sent, Lane::Bulk)]), Some(Ok(())));
    let mixed = vec![reading(site.sent + 1, Lane::Bulk), reading(site.sent + 2, Lane::Normal)];
    assert!(matches!(site.round(mixed), Some(Err(Refusal::Backpressure { .. }))));
    let mut hub = Hub::default();
    site.drain(&mut hub);
    site.assert_settled(&hub);
    assert_eq!(
        (hub.readings, hub.rolled, hub.thinned, hub.dropped),
        (site.acknowledged, 0, 0, 1),
        "the one new reading"
    );
    assert_eq!(site.send(Lane::Normal), Some(Ok(())), "and on it goes");
}

#[test]
fn a_crash_at_any_point_counts_nothing_twice() {
    for seed in 0..4 {
        let mut site = Site::new(10 + seed, config([OnFull::Block, OnFull::Block, OnFull::DropOldest]));
        let mut hub = Hub::default();
        for round in 0..600_u64 {
            site.send(Lane::Bulk);
            if hash(seed << 32 | round).is_multiple_of(37) {
                site.crash();
            }
            if round % 211 == 210 {
                // Some blocks are given out, and not acknowledged before a crash.
                let uplink = site.core.uplink();
                let mut from = site.core.queue().lane(Lane::Bulk).acked;
                for _ in 0..5 {
                    let Some((at, block)) = uplink.next(Lane::Bulk, from).expect("readable") else { break };
                    hub.take(&block);
                    from = at + 1;
                }
                site.crash();
            }
        }
        site.drain(&mut hub);
        site.assert_settled(&hub);
        let total = hub.readings + hub.rolled + hub.thinned + hub.dropped;
        assert!((site.acknowledged..=site.sent).contains(&total), "{total} of {}", site.acknowledged);
    }
}

#[test]
fn a_full_disk_costs_what_the_policies_say_and_nothing_else() {
    let mut site = Site::new(3, config([OnFull::Block, OnFull::Block, OnFull::DropOldest]));
    for _ in 0..200 {
        assert_eq!(site.send(Lane::Bulk), Some(Ok(())));
    }
    let used: u64 = site.disk.files().iter().map(|(_, len)| len).sum();
    site.disk.set_capacity(Some(used + (64 << 10)));
    let taken = (0..400).filter(|_| site.send(Lane::Bulk) == Some(Ok(()))).count();
    assert!(taken > 40, "data keeps flowing on a full disk: {taken}");
    assert_eq!(site.highest, Level::Overflow);
    site.crash();
    site.disk.set_capacity(None);
    let mut hub = Hub::default();
    site.drain(&mut hub);
    site.assert_settled(&hub);
    assert!(hub.dropped > 0 && hub.ranges > 0);
    assert_eq!(site.send(Lane::Bulk), Some(Ok(())));
}
