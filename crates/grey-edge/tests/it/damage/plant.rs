//! A site with a day behind it: every part of its data directory holds something, and
//! some of what it holds was acknowledged by the hub and some was not.

use std::collections::VecDeque;
use std::sync::Arc;

use grey_disk::{Disk, SimDisk};
use grey_edge::core::{CoreConfig, CoreError, EdgeCore, Flights, LanePolicy, Opened, Request, RoundDriver};
use grey_ingest::{Op, Refusal};
use grey_model::{Event, Lane, Name, SiteId};
use grey_queue::QueueConfig;
use grey_rules::{NoModels, RuleSet, Rules};

use super::hub::Hub;

const START_MS: i64 = 1_767_225_600_000;
/// Rounds of the day; a checkpoint in every eighth.
const ROUNDS: u64 = 44;
const RULES: &str = "
forward: raw
rules:
  - { type: threshold, name: hot, condition: temperature > 85°C, clear: temperature < 80°C, actions: [local_alert, { webhook: { url: \"http://127.0.0.1:9/alerts\" } }] }
  - { type: aggregate, name: tens, interval: 10s, fields: [avg, min, max, count] }
";

/// splitmix64 (Steele, Lea and Flood, 2014).
pub(crate) fn hash(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The number of a reading is its device's time.
pub(crate) fn number(event: &Event) -> u64 {
    (event.device_time_ms - START_MS) as u64
}

/// A reading with an id of its own.
pub(crate) fn reading(n: u64) -> Op {
    let x = hash(n);
    let hot = hash(n / 40).is_multiple_of(3);
    let celsius = (x % 1_000) as f64 / 100.0 + if hot { 80.0 } else { 60.0 };
    let mut event = Event::reading(format!("press-{}", n % 3), "temperature", celsius, START_MS + n as i64);
    event.unit = Some(Name::from("°C"));
    event.id = Some(Name::from(format!("{n}")));
    let lane = match n % 11 {
        0 => Some(Lane::Critical),
        1..=3 => Some(Lane::Normal),
        _ => None,
    };
    Op::Event { event, lane, qos2: None }
}

fn config() -> CoreConfig {
    let rules = RuleSet::compile(&Rules::from_yaml(RULES).expect("fixed rules"), &NoModels).expect("fixed rules");
    CoreConfig {
        // Blocks are closed when the plant says so.
        lanes: Lane::ALL.map(|lane| LanePolicy { linger_ms: 3_600_000, ..LanePolicy::default_for(lane) }),
        queue: QueueConfig { segment_bytes_max: 2 << 10, reserve_bytes: 64 << 10, ..QueueConfig::default() },
        intake_segment_bytes: 4 << 10,
        intake_retention_ms: 12_000,
        checkpoint_interval_ms: i64::MAX,
        ..CoreConfig::new(SiteId::new("site-1").expect("a plain name"), Arc::new(rules))
    }
}

/// A site and its hub.
#[derive(Debug)]
pub(crate) struct Plant {
    pub(crate) disk: SimDisk,
    config: CoreConfig,
    pub(crate) core: EdgeCore,
    pub(crate) hub: Hub,
    now_ms: i64,
    /// Readings accepted, from 0 on.
    pub(crate) accepted: u64,
    /// A hello was exchanged since the start.
    has_met: bool,
}

/// Who drives a round.
struct Clerk {
    now_ms: i64,
    requests: VecDeque<(u64, Request)>,
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
        assert_eq!(answer, Ok(()), "there is room");
    }

    fn committed(&mut self, _: u64, _: u64) {}

    fn waits_for_space(&mut self, error: &CoreError) {
        panic!("the disk is large enough: {error}");
    }

    fn requests(&mut self, requests: VecDeque<(u64, Request)>) {
        self.requests.extend(requests);
    }
}

fn open(disk: &SimDisk, config: &CoreConfig, now_ms: i64) -> Result<(EdgeCore, Opened), CoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut core, opened) = EdgeCore::open(disk, config.clone(), now_ms, (1, 2))?;
    while !core.replay(3, now_ms)? {}
    Ok((core, opened))
}

impl Plant {
    /// The day, up to a kill: records that no checkpoint has seen, blocks that the hub has and
    /// blocks that it does not have, requests that nobody answered.
    pub(crate) fn killed(seed: u64) -> Result<Self, CoreError> {
        let (disk, config) = (SimDisk::new(seed), config());
        let (core, _) = open(&disk, &config, START_MS)?;
        let mut plant = Self { disk, config, core, hub: Hub::new(), now_ms: START_MS, accepted: 0, has_met: false };
        for round in 0..ROUNDS {
            plant.accept(6 + hash(round) % 6)?;
            let letter = Op::DeadLetter { topic: "t".into(), payload: "{".into(), reason: format!("round {round}") };
            plant.take(vec![letter])?;
            // The last records are in the intake alone.
            if round + 4 < ROUNDS {
                plant.core.flush(plant.now_ms, true)?;
            }
            if round % 8 == 7 {
                plant.core.checkpoint(plant.now_ms)?;
            }
            if round == 10 || round == 20 {
                plant.drain(3)?;
            }
        }
        plant.disk.kill();
        Ok(plant)
    }

    /// The same directory on a disk of its own, before anything opens it.
    pub(crate) fn copy_of_disk(&self) -> SimDisk {
        self.disk.fork(1)
    }

    /// Opens a copy of the directory, as it is or as it was made.
    pub(crate) fn reopened(&self, disk: SimDisk) -> Result<(Self, Opened), CoreError> {
        let now_ms = self.now_ms + 1_000;
        let (core, opened) = open(&disk, &self.config, now_ms)?;
        let (config, hub, accepted) = (self.config.clone(), self.hub.clone(), self.accepted);
        Ok((Self { disk, config, core, hub, now_ms, accepted, has_met: false }, opened))
    }

    /// Stops and opens again.
    pub(crate) fn reopen(&mut self) -> Result<Opened, CoreError> {
        self.disk.kill();
        let (core, opened) = open(&self.disk, &self.config, self.now_ms)?;
        self.core = core;
        self.has_met = false;
        Ok(opened)
    }

    /// One round of the engine. Of the requests that come out, every third is answered.
    fn take(&mut self, ops: Vec<Op>) -> Result<(), CoreError> {
        let mut clerk = Clerk { now_ms: self.now_ms, requests: VecDeque::new() };
        let mut flights = Flights::default();
        self.core.round([(ops, ())], &mut flights, &mut clerk)?;
        for (request, _) in clerk.requests {
            if request % 3 == 0 {
                self.core.answered(request);
            }
        }
        Ok(())
    }

    /// Readings that nobody sent before, and a second later.
    pub(crate) fn accept(&mut self, readings: u64) -> Result<(), CoreError> {
        self.now_ms += 1_000;
        self.take((self.accepted..self.accepted + readings).map(reading).collect())?;
        self.accepted += readings;
        Ok(())
    }

    /// Readings sent again with their ids.
    pub(crate) fn resend(&mut self, readings: std::ops::Range<u64>) -> Result<(), CoreError> {
        self.take(readings.map(reading).collect())
    }

    /// The hub gets up to so many blocks of each lane and acknowledges them.
    pub(crate) fn drain(&mut self, blocks: usize) -> Result<(), CoreError> {
        if !std::mem::replace(&mut self.has_met, true) {
            self.core.parent_is_ahead(&self.hub.ends(), self.now_ms)?;
        }
        self.core.flush(self.now_ms, true)?;
        let reader = self.core.outbox();
        for lane in Lane::ALL {
            for _ in 0..blocks {
                let Some((at, block)) = reader.next(lane, self.core.queue().lane(lane).acked)? else { break };
                self.hub.take(&block).expect("the hub takes what the site sends");
                self.core.acknowledged(lane, at + 1)?;
            }
        }
        Ok(())
    }

    /// Checkpoints, until only what is needed is kept.
    pub(crate) fn settle(&mut self) -> Result<(), CoreError> {
        for _ in 0..4 {
            self.now_ms += 1_000;
            self.core.checkpoint(self.now_ms)?;
        }
        Ok(())
    }
}
