//! A recorded day through the core with a rich rule set, on a disk that loses
//! power at two hundred points: what its outbox holds in the end is what the
//! outbox of an undisturbed run holds, byte for byte after decoding.
//!
//! Records and their times are the same in both runs, so nothing may differ
//! but the logical part of the stamps (it counts how often the clock was
//! asked) and where blocks begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use grey_codec::decode_block;
use grey_disk::{Disk, SimDisk};
use grey_edge::core::{CoreConfig, CoreError, EdgeCore, Flights, RoundDriver};
use grey_ingest::{Op, Refusal};
use grey_model::{Event, Kind, Lane, Quality, Seq, SiteId, Stamp, Value};
use grey_queue::QueueConfig;
use grey_rules::{NoModels, RuleSet, Rules};

/// Power losses, over all runs.
const CRASHES: u64 = 200;
/// Runs that they are spread over: each with another seed of the disk.
const RUNS: u64 = 5;
/// Rounds of a day, and how much time passes in each, ms.
const ROUNDS: i64 = 1_440;
const ROUND_MS: i64 = 60_000;
/// The day begins at a whole hour.
const START_MS: i64 = 1_767_225_600_000;

const RULES: &str = "
forward: anomalies
limits: { alerts_per_minute: 100000 }
rules:
  - { type: threshold, name: hot, condition: temperature > 85°C, clear: temperature < 80°C, for: 2m, cooldown: 10m }
  - { type: threshold, name: high, condition: pressure > 8 bar, severity: critical, action: flag_and_upload, rate_limit: 3/1h }
  - { type: threshold, name: line, condition: power > 9 kW, group_by: site, actions: [local_alert, { publish: { topic: \"plant/{device}\" } }] }
  - { type: threshold, name: bad, condition: \"quality == 'bad'\", action: drop }
  - { type: threshold, name: shaking, condition: vibration.rms > 1.5 }
  - { type: aggregate, name: minutes, interval: 5m, fields: [avg, min, max, count, p95] }
  - { type: aggregate, name: site, window: hopping, interval: 30m, every: 5m, by: site, streams: [power], fields: [sum, stddev] }
  - { type: aggregate, name: sliding, window: sliding, interval: 20m, every: 5m, streams: [temperature], fields: [first, last, rate] }
  - { type: aggregate, name: sessions, window: session, gap: 10m, streams: [power], fields: [count, sum] }
  - { type: aggregate, name: counts, window: count, size: 50, streams: [pressure], fields: [p50, p99] }
  - { type: filter, streams: [pressure], deadband: 0.2 bar, max_interval: 1h }
  - { type: anomaly, name: jumps, detector: general, streams: [temperature] }
  - { type: anomaly, name: drift, detector: cusum, streams: [power] }
  - { type: spectrum, streams: [vibration], sample_rate: 640, size: 64, bands: [{ name: bearing, from: 80, to: 160 }], alarms: [{ field: rms, warning: 1.5, critical: 2.0 }] }
";

fn config() -> CoreConfig {
    let rules = RuleSet::compile(&Rules::from_yaml(RULES).unwrap(), &NoModels).unwrap();
    CoreConfig {
        queue: QueueConfig { bytes_max: 64 << 20, segment_bytes_max: 64 << 10, ..QueueConfig::default() },
        intake_segment_bytes: 64 << 10,
        intake_retention_ms: 600_000,
        // Two hours of the day: a crash replays up to 120 records.
        checkpoint_interval_ms: 7_200_000,
        ..CoreConfig::new(SiteId::new("site-1").unwrap(), Arc::new(rules))
    }
}

/// splitmix64 (Steele, Lea and Flood, 2014).
fn hash(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn noise(x: u64) -> f64 {
    (hash(x) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// What devices send in one minute of the day.
fn minute(round: i64) -> Vec<Op> {
    let (n, start) = (round as u64, START_MS + round * ROUND_MS);
    let daily = (round as f64 / 1_440.0 * std::f64::consts::TAU).sin();
    let mut ops = Vec::new();
    let mut send = |device: u64, stream: &str, second: u64, value: Value, unit: &str| {
        let x = hash(n << 24 ^ device << 16 ^ second << 8 ^ stream.len() as u64);
        // Sources fall silent for a quarter of an hour now and then.
        if hash(device ^ (n / 15) << 8 ^ stream.len() as u64).is_multiple_of(17) {
            return;
        }
        let late = x.is_multiple_of(53);
        let time_ms = start + second as i64 * 1_000 - if late { 900_000 } else { 0 };
        let event = Event {
            kind: Kind::Reading,
            value,
            quality: if x.is_multiple_of(101) { Quality::Bad } else { Quality::Good },
            unit: Some(unit.into()),
            id: Some(format!("{n}-{second}").into()),
            attributes: vec![("line".into(), format!("{}", device % 2).into())],
            ..Event::reading(format!("{stream}-{device}"), stream, 0.0, time_ms)
        };
        ops.push(Op::Event { event, lane: None, qos2: None });
    };
    for device in 0..4 {
        let x = n << 8 ^ device;
        let hot = hash(device ^ (n / 45) << 8).is_multiple_of(7);
        let celsius = 70.0 + 6.0 * daily + noise(x) + if hot { 20.0 } else { 0.0 };
        send(device, "temperature", 1, Value::Number(celsius), "°C");
        let watts =
            if hash(x ^ 1).is_multiple_of(300) { 9_700.0 } else { 4_000.0 + 500.0 * daily + 50.0 * noise(x ^ 2) };
        send(device, "power", 20, Value::Number(watts), "W");
    }
    for second in [5, 25, 45] {
        let x = n << 8 ^ second;
        let bar = if hash(x ^ 3).is_multiple_of(250) { 9.0 } else { 5.0 + daily + 0.2 * noise(x ^ 4) };
        send(0, "pressure", second, Value::Number(bar), "bar");
    }
    let strong = hash(n / 60).is_multiple_of(5);
    let sample = |i: u64| {
        let t = (n * 64 + i) as f64 / 640.0;
        let tone = |hz: f64, a: f64| a * (std::f64::consts::TAU * hz * t).sin();
        tone(24.7, 1.0) + tone(118.3, if strong { 3.0 } else { 0.3 }) + 0.1 * noise(n << 8 ^ i)
    };
    send(0, "vibration", 50, Value::Vector((0..64).map(sample).collect()), "m/s²");
    ops
}

/// The clocks of a round.
struct At(i64);

impl RoundDriver for At {
    type Done = ();
    fn now_ms(&mut self) -> i64 {
        self.0
    }
    fn monotonic_us(&mut self) -> u64 {
        0
    }
    fn answer(&mut self, (): (), _: Result<(), Refusal>) {}
    fn committed(&mut self, _: u64, _: u64) {}
    fn waits_for_space(&mut self, error: &CoreError) {
        panic!("the disk is large enough: {error}");
    }

    fn requests(&mut self, _: std::collections::VecDeque<(u64, grey_edge::core::Request)>) {}
}

struct Site {
    disk: SimDisk,
    config: CoreConfig,
    core: EdgeCore,
    flights: Flights<()>,
}

fn open(disk: &SimDisk, config: &CoreConfig, now_ms: i64) -> Result<EdgeCore, CoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut core, _) = EdgeCore::open(disk, config.clone(), now_ms, (1, 2))?;
    while !core.replay(16, now_ms)? {}
    Ok(core)
}

impl Site {
    fn new(seed: u64) -> Self {
        let (disk, config) = (SimDisk::new(seed), config());
        let core = open(&disk, &config, START_MS).unwrap();
        Self { disk, config, core, flights: Flights::default() }
    }

    fn round(&mut self, ops: Vec<Op>, now_ms: i64) -> Result<(), CoreError> {
        let batches = if ops.is_empty() { None } else { Some((ops, ())) };
        self.core.round(batches, &mut self.flights, &mut At(now_ms)).map(|_| ())
    }

    /// Loses power and opens the directory again, which the next loss may interrupt.
    fn restart(&mut self, now_ms: i64, mut planned: impl FnMut() -> Option<u64>) -> u64 {
        let mut crashes = 0;
        loop {
            self.disk.crash();
            crashes += 1;
            if let Some(after) = planned() {
                self.disk.power_off_after(after);
            }
            match open(&self.disk, &self.config, now_ms) {
                Ok(core) => {
                    self.core = core;
                    self.flights = Flights::default();
                    return crashes;
                }
                Err(error) => assert!(self.disk.is_off(), "{error}"),
            }
        }
    }

    /// The outbox, decoded.
    fn events(&self) -> BTreeMap<(u64, Lane, Seq), Event> {
        let mut found = BTreeMap::new();
        for lane in Lane::ALL {
            let mut from = 0;
            while let Some((at, block)) = self.core.outbox().next(lane, from).unwrap() {
                let (header, events) = decode_block(&block).unwrap();
                for mut e in events {
                    e.event.stamp = Stamp::at_unix_ms(e.event.stamp.unix_ms());
                    assert!(found.insert((header.epoch.0, lane, e.seq), e.event).is_none(), "a sequence twice");
                }
                from = at + 1;
            }
        }
        found
    }
}

/// When a round happens: a little after its minute.
fn now_ms(round: i64) -> i64 {
    START_MS + (round + 1) * ROUND_MS
}

#[test]
fn two_hundred_power_losses_in_a_day_change_nothing_that_leaves_the_site() {
    let mut undisturbed = Site::new(1);
    let before = undisturbed.disk.operations();
    let mut totals = Vec::new();
    for round in 0..ROUNDS {
        undisturbed.round(minute(round), now_ms(round)).unwrap();
        totals.push(undisturbed.core.accepted_total());
    }
    let after = undisturbed.disk.operations();
    undisturbed.core.flush(now_ms(ROUNDS), true).unwrap();
    let expected = undisturbed.events();
    let count = |kind| expected.values().filter(|event| event.kind == kind).count();
    let of_rule = |rule: &str| {
        let is_its =
            |event: &&Event| event.attributes.iter().any(|(name, value)| &**name == "rule" && &**value == rule);
        expected.values().filter(is_its).count()
    };
    for rule in ["hot", "high", "line", "shaking", "minutes", "site", "sliding", "sessions", "counts", "jumps", "drift"]
    {
        assert!(of_rule(rule) >= 4, "only {} events of {rule}", of_rule(rule));
    }
    assert!(count(Kind::Alert) > 100 && count(Kind::Anomaly) > 50 && count(Kind::Aggregate) > 5_000);

    let changes = (after.writes + after.syncs) - (before.writes + before.syncs);
    let each = changes / (CRASHES / RUNS);
    let mut crashes = 0;
    for run in 0..RUNS {
        let mut site = Site::new(100 + run);
        let mut left = CRASHES / RUNS;
        let mut draws = 0;
        let mut plan = || {
            draws += 1;
            left = left.checked_sub(1)?;
            // Now and then so soon that it falls into the recovery.
            let soon = hash(run << 8 ^ draws).is_multiple_of(6);
            Some(hash(run << 32 ^ draws) % if soon { 20 } else { each * 3 / 2 })
        };
        if let Some(after) = plan() {
            site.disk.power_off_after(after);
        }
        // Evaluation may be ahead of the disk: a loss may take back whole rounds.
        let mut round = 0;
        while round < ROUNDS {
            let (accepted, n) = (site.core.accepted_total(), round as usize);
            // What is durable is not sent again: the devices were not told, but the record shows it.
            let ops = if accepted > if n == 0 { 0 } else { totals[n - 1] } { Vec::new() } else { minute(round) };
            match site.round(ops, now_ms(round)) {
                Ok(()) => {
                    assert_eq!(site.core.accepted_total(), totals[n], "run {run}, round {round}");
                    round += 1;
                }
                Err(error) => {
                    assert!(site.disk.is_off(), "{error}");
                    crashes += site.restart(now_ms(round), &mut plan);
                    let accepted = site.core.accepted_total();
                    round = totals.partition_point(|total| *total <= accepted) as i64;
                }
            }
        }
        while site.core.flush(now_ms(ROUNDS), true).is_err() {
            crashes += site.restart(now_ms(ROUNDS), &mut plan);
        }
        let found = site.events();
        for ((key, event), (other_key, other)) in expected.iter().zip(&found) {
            assert_eq!((key, event), (other_key, other), "run {run}");
        }
        assert_eq!(found.len(), expected.len(), "run {run}");
    }
    assert!(crashes >= CRASHES * 9 / 10, "only {crashes} crashes happened");
}
