//! The site of a history: the production edge core on a simulated disk, devices that send
//! again what nobody acknowledged, and a link that the history drives block by block.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use grey_config::{Decoder, Node, Setting};
use grey_disk::{Disk, SimDisk};
use grey_edge::core::{CoreConfig, CoreError, EdgeCore, Flights, LanePolicy, Request, RoundDriver};
use grey_ingest::{Op, Refusal};
use grey_model::{Event, Lane, Name, SiteId};
use grey_queue::{Level, OnFull, QueueConfig};
use grey_rules::{Forward, NoModels, RuleSet, RuleSpec, Rules};

use super::Break;
use super::count::{Counts, Happening};
use super::folder::SlowFolder;
use super::hub::{Held, Hub, Sequences, sequences_of};
use super::plan::Plan;
use crate::hasty_disk::HastyDisk;
use crate::random::Random;
use crate::slow_syncer::SlowSyncer;

const START_MS: i64 = 1_767_225_600_000;
/// Time between two readings of the plant by the devices' clocks, ms.
const READING_MS: i64 = 50;
/// Openings that are tried before the site is given up.
const OPENINGS_MAX: u32 = 12;

/// Readings that are acknowledged together.
#[derive(Debug, Clone)]
struct Batch {
    numbers: std::ops::Range<u64>,
    was_sent: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) disk: SimDisk,
    config: CoreConfig,
    broken: Option<Break>,
    pub(crate) core: Option<EdgeCore>,
    flights: Flights<Batch>,
    /// Not acknowledged, oldest first.
    waiting: VecDeque<Batch>,
    /// The number of the next reading.
    next: u64,
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Every sequence as it was first written.
    pub(crate) written: Sequences,
    looked: [u64; 3],
    pub(crate) now_ms: i64,
    /// A hello was exchanged since the start.
    has_met: bool,
    folder: SlowFolder,
    pub(crate) restarts: u64,
    /// The level as it was last looked at.
    level: Level,
    pub(crate) hub: Hub,
    /// Something was done to the disk, so that an error is no finding.
    pub(crate) has_trouble: bool,
}

/// Who drives a round.
struct Clerk {
    now_ms: i64,
    answers: Vec<(Batch, Result<(), Refusal>)>,
    full: u64,
}

impl RoundDriver for Clerk {
    type Done = Batch;

    fn now_ms(&mut self) -> i64 {
        self.now_ms
    }

    fn monotonic_us(&mut self) -> u64 {
        0
    }

    fn answer(&mut self, done: Batch, answer: Result<(), Refusal>) {
        self.answers.push((done, answer));
    }

    fn committed(&mut self, _: u64, _: u64) {}

    fn waits_for_space(&mut self, _: &CoreError) {
        self.full += 1;
    }

    fn requests(&mut self, _: VecDeque<(u64, Request)>) {}
}

fn rules() -> Arc<RuleSet> {
    let yaml = "[{type: threshold, condition: temperature > 99°C, action: local_alert}]";
    let node = Node::from_yaml(yaml).expect("fixed text");
    let specs: Vec<RuleSpec> = Setting::decode(&node, &mut Decoder::new("rules")).expect("fixed rules");
    Arc::new(RuleSet::compile(&Rules::new(specs, Forward::Raw), &NoModels).expect("fixed rules"))
}

/// The reading of a number, the same whenever it is sent.
fn reading(n: u64) -> (Event, Option<Lane>) {
    let x = Random::new(n).next();
    let celsius = (x >> 11) as f64 / (1_u64 << 53) as f64 * 100.0;
    let time_ms = START_MS + n as i64 * READING_MS;
    let mut event = Event::reading(format!("press-{}", n % 3), "temperature", celsius, time_ms);
    event.unit = Some(Name::from("°C"));
    event.id = Some(Name::from(n.to_string()));
    let lane = match x % 16 {
        0 => Some(Lane::Critical),
        1..=4 => Some(Lane::Normal),
        _ => None,
    };
    (event, lane)
}

/// The number of a reading of the plant.
pub(crate) fn number(event: &Event) -> u64 {
    ((event.device_time_ms - START_MS) / READING_MS) as u64
}

impl Site {
    pub(crate) fn new(plan: &Plan, random: &mut Random) -> Self {
        let lanes = Lane::ALL.map(|lane| {
            let default = LanePolicy::default_for(lane);
            LanePolicy { block_events_max: plan.block_events_max, linger_ms: default.linger_ms / 2, ..default }
        });
        let config = CoreConfig {
            lanes,
            queue: QueueConfig {
                bytes_max: plan.outbox_bytes_max,
                segment_bytes_max: plan.segment_bytes,
                reserve_bytes: plan.reserve_bytes,
                on_full: plan.on_full,
                ..QueueConfig::default()
            },
            intake_retention_ms: plan.intake_retention_ms,
            intake_segment_bytes: plan.segment_bytes,
            checkpoint_interval_ms: plan.checkpoint_interval_ms,
            checkpoint_bytes: 16 << 10,
            ..CoreConfig::new(SiteId::new("site-1").expect("a plain name"), rules())
        };
        Self {
            disk: SimDisk::new(random.next()),
            config,
            broken: plan.broken,
            core: None,
            flights: Flights::default(),
            waiting: VecDeque::new(),
            next: 0,
            acknowledged: BTreeSet::new(),
            written: Sequences::new(),
            looked: [0; 3],
            now_ms: START_MS,
            has_met: false,
            folder: SlowFolder::new(0),
            restarts: 0,
            level: Level::Normal,
            hub: Hub::new(),
            has_trouble: false,
        }
    }

    /// The process is gone; what it had not answered is sent again.
    pub(crate) fn end(&mut self, counts: &mut Counts) {
        if let Some(core) = self.core.take() {
            self.restarts += 1;
            let ladder = core.ladder();
            counts.add(Happening::Sampled, ladder.sampled.iter().sum());
            counts.add(Happening::DroppedNewest, ladder.refused_newest.iter().sum());
            let handed = self.folder.count(counts);
            counts.add(Happening::FoldNotTaken, handed.saturating_sub(ladder.folds));
            counts.add(Happening::PowerOffFolding, u64::from(self.disk.is_off() && self.folder.is_folding()));
        }
        self.flights = Flights::default();
        for batch in &mut self.waiting {
            batch.was_sent = true;
        }
    }

    /// Opens the directory, through as many power losses as are planned meanwhile.
    pub(crate) fn start(&mut self, random: &mut Random, counts: &mut Counts) -> Result<(), String> {
        for _ in 0..OPENINGS_MAX {
            let result = self.open(random, counts);
            match result {
                Ok(core) => {
                    self.core = Some(core);
                    self.has_met = false;
                    self.look();
                    return Ok(());
                }
                Err(_) if self.disk.is_off() => {
                    counts.note(Happening::PowerOffOpening);
                    self.disk.crash();
                }
                Err(error) if error.is_full() => {
                    self.disk.set_capacity(None);
                    self.disk.crash();
                }
                Err(_) if self.has_trouble => {
                    self.has_trouble = false;
                    self.disk.crash();
                }
                Err(error) => return Err(format!("the site does not open: {error}")),
            }
        }
        Err("the site never came to open".into())
    }

    fn open(&mut self, random: &mut Random, counts: &mut Counts) -> Result<EdgeCore, CoreError> {
        let sim = self.disk.clone();
        let disk: Arc<dyn Disk> = match self.broken {
            Some(Break::Fsync) => Arc::new(HastyDisk::new(sim, is_intake)),
            Some(Break::FoldSync) => Arc::new(HastyDisk::new(sim, is_folded)),
            Some(Break::Lease) | None => Arc::new(sim),
        };
        let (mut core, opened) = EdgeCore::open(disk, self.config.clone(), self.now_ms, (1, 2))?;
        core.set_syncer(Box::new(SlowSyncer::new(random.next())));
        self.folder = SlowFolder::new(random.next());
        core.set_folder(Box::new(self.folder.clone()));
        counts.add(Happening::Replayed, u64::from(opened.replay > 0));
        counts.add(Happening::DamageTold, opened.notes.len() as u64);
        while !core.replay(8, self.now_ms)? {}
        self.level = core.queue().level();
        Ok(core)
    }

    /// Devices make so many new readings.
    pub(crate) fn publish(&mut self, readings: u64) {
        self.waiting.push_back(Batch { numbers: self.next..self.next + readings, was_sent: false });
        self.next += readings;
    }

    /// True when devices wait for no answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    /// One round of the engine with everything that devices have to send.
    pub(crate) fn round(&mut self, random: &mut Random, counts: &mut Counts) -> Result<(), CoreError> {
        let Some(core) = &mut self.core else { return Ok(()) };
        let batches: Vec<(Vec<Op>, Batch)> = self
            .waiting
            .drain(..)
            .map(|batch| {
                counts.add(Happening::DeviceResent, u64::from(batch.was_sent));
                let op = |n| {
                    let (event, lane) = reading(n);
                    Op::Event { event, lane, qos2: None }
                };
                (batch.numbers.clone().map(op).collect(), Batch { was_sent: true, ..batch })
            })
            .collect();
        let sent: Vec<Batch> = batches.iter().map(|(_, batch)| batch.clone()).collect();
        let mut clerk = Clerk { now_ms: self.now_ms, answers: Vec::new(), full: 0 };
        let result = core.round(batches, &mut self.flights, &mut clerk);
        counts.add(Happening::DiskFull, clerk.full);
        for (batch, answer) in clerk.answers {
            match answer {
                // The answer may get lost; then the device sends again.
                Ok(()) => {
                    self.acknowledged.extend(batch.numbers.clone());
                    if random.percent(3) {
                        self.waiting.push_back(batch);
                    }
                }
                Err(_) => {
                    counts.note(Happening::Refused);
                    self.waiting.push_back(batch);
                }
            }
        }
        if result.is_err() {
            // Nobody was told; every device sends again.
            self.waiting = sent.into_iter().filter(|b| !self.acknowledged.contains(&b.numbers.start)).collect();
        }
        result?;
        let _ = core.take_derived();
        let level = core.queue().level();
        counts.add(Happening::of_step(self.level, level), u64::from(level != self.level));
        self.level = level;
        self.look();
        Ok(())
    }

    /// Takes note of blocks as they are first written, before anything folds them.
    pub(crate) fn look(&mut self) {
        let Some(core) = &self.core else { return };
        let reader = core.outbox();
        for lane in Lane::ALL {
            while let Ok(Some((at, block))) = reader.next(lane, self.looked[lane.index()]) {
                self.looked[lane.index()] = at + 1;
                for (key, seq, held) in sequences_of(&block).unwrap_or_default() {
                    self.written.entry((key, seq)).or_insert(held);
                }
            }
        }
    }

    /// After damage positions may begin anew.
    pub(crate) fn look_again(&mut self) {
        self.looked = [0; 3];
    }

    /// The link is down.
    pub(crate) fn part(&mut self) {
        if let Some(core) = &mut self.core {
            core.set_online(false);
        }
    }

    /// What a hello brings: the hub may know more than the disk does.
    pub(crate) fn meet(&mut self) -> Result<(), CoreError> {
        if let Some(core) = &mut self.core {
            core.set_online(true);
        }
        let Some(core) = self.core.as_mut().filter(|_| !self.has_met) else { return Ok(()) };
        core.parent_is_ahead(&self.hub.ends(), self.now_ms)?;
        self.has_met = true;
        Ok(())
    }

    /// Gives up to `blocks` blocks of a lane to the link, oldest first. Each arrives or not, and
    /// is acknowledged or not; the first that is not ends it.
    pub(crate) fn send(
        &mut self,
        lane: Lane,
        blocks: u64,
        is_lossy: bool,
        random: &mut Random,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let mut from = self.core.as_ref().map_or(0, |core| core.queue().lane(lane).acked);
        let mut acked = from;
        for _ in 0..blocks {
            let Some(core) = &self.core else { return Ok(()) };
            let given = match self.broken {
                Some(Break::Lease) => core.outbox().next(lane, from),
                _ => core.uplink().next(lane, from),
            };
            let (at, block) = match given {
                Ok(Some(found)) => found,
                Ok(None) => break,
                // The lease cannot be stored: nothing is given out.
                Err(_) if self.has_trouble || self.disk.is_off() => break,
                Err(error) => return Err(format!("the outbox cannot be read: {error}")),
            };
            from = at + 1;
            if is_lossy && random.percent(10) {
                counts.note(Happening::BlockLost);
                break;
            }
            counts.add(Happening::BlockResent, u64::from(self.hub.take(&block)?));
            if is_lossy && random.percent(15) {
                counts.note(Happening::AckLost);
                break;
            }
            acked = from;
        }
        if let Some(core) = &mut self.core
            && let Err(error) = core.acknowledged(lane, acked)
            && !self.has_trouble
            && !self.disk.is_off()
        {
            return Err(format!("an acknowledgement is not taken: {error}"));
        }
        Ok(())
    }

    /// True for a lane that may lose readings when the outbox is full.
    pub(crate) fn may_lose(&self, lane: Lane) -> bool {
        self.config.queue.on_full[lane.index()] != OnFull::Block
    }

    /// For a failure report.
    pub(crate) fn describe(&self) -> String {
        let Some(core) = &self.core else { return "it is down".into() };
        let lanes = Lane::ALL.map(|lane| {
            let state = core.queue().lane(lane);
            (state.acked, state.end, state.end_seq, core.next_seqs()[lane.index()], core.pending_events(lane))
        });
        let queue = core.queue();
        let (level, used, limit) = (queue.level(), queue.bytes_on_disk(), queue.bytes_max());
        let waiting = self.waiting.len();
        format!("level {level}, {used} of {limit} bytes, {waiting} batches wait, lanes {lanes:?}, {:?}", queue.strata())
    }

    /// Readings that were acknowledged and that no block has.
    pub(crate) fn exposed(&self) -> BTreeSet<u64> {
        let written: BTreeSet<u64> = self
            .written
            .values()
            .filter_map(|held| match held {
                Held::Event(event) if event.kind == grey_model::Kind::Reading => Some(number(event)),
                _ => None,
            })
            .collect();
        self.acknowledged.difference(&written).copied().collect()
    }
}

fn is_intake(path: &std::path::Path) -> bool {
    path.starts_with("intake")
}

/// Records of folds, in whichever stratum.
fn is_folded(path: &std::path::Path) -> bool {
    let strata = [".packed", ".thinned", ".rolled", ".dropped"];
    let folder = path.parent().and_then(|folder| folder.to_str()).unwrap_or_default();
    path.starts_with("outbox") && strata.iter().any(|name| folder.ends_with(name))
}
