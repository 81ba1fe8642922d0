//! The core on a simulated disk: what it accepted is what the outbox holds,
//! through crashes at any point.

use super::*;
use grey_codec::decode_block;
use grey_disk::SimDisk;
use grey_ingest::Qos2Key;
use grey_model::{Name, RangeSet};
use grey_queue::OnFull;
use grey_rules::{Forward, NoModels, RuleSpec, Rules};
use proptest::prelude::*;
use std::collections::BTreeMap;

const START_MS: i64 = 1_767_225_600_000;

fn rules(forward: Forward) -> Arc<RuleSet> {
    let yaml = "[{type: threshold, condition: temperature > 85°C, action: local_alert}, \
                {type: aggregate, interval: 1m, fields: [avg, min, max, count]}]";
    let node = grey_config::Node::from_yaml(yaml).unwrap();
    let mut decoder = grey_config::Decoder::new("rules");
    let specs: Vec<RuleSpec> = grey_config::Setting::decode(&node, &mut decoder).unwrap();
    Arc::new(RuleSet::compile(&Rules::new(specs, forward), &NoModels).unwrap())
}

fn config(forward: Forward) -> CoreConfig {
    CoreConfig {
        queue: QueueConfig { bytes_max: 8 << 20, segment_bytes_max: 16 << 10, ..QueueConfig::default() },
        intake_segment_bytes: 16 << 10,
        intake_retention_ms: 60_000,
        ..CoreConfig::new(SiteId::new("site-1").unwrap(), rules(forward))
    }
}

struct Bench {
    disk: SimDisk,
    config: CoreConfig,
    core: EdgeCore,
    now_ms: i64,
}

impl Bench {
    fn new(seed: u64, forward: Forward) -> Self {
        let disk = SimDisk::new(seed);
        let config = config(forward);
        let core = open(&disk, &config, START_MS);
        Self { disk, config, core, now_ms: START_MS }
    }

    fn restart(&mut self) {
        self.disk.crash();
        self.core = open(&self.disk, &self.config, self.now_ms);
    }

    fn accept(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.core.stage(ops).unwrap();
        self.core.commit(self.now_ms, 0).unwrap();
        self.core.apply().unwrap();
    }

    fn events(&self) -> BTreeMap<(u64, Lane, Seq), Event> {
        let mut found = BTreeMap::new();
        for lane in Lane::ALL {
            let mut from = 0;
            while let Some((at, block)) = self.core.outbox().next(lane, from).unwrap() {
                let (header, events) = decode_block(&block).unwrap();
                for mut e in events {
                    // The logical counter depends on how often the clock was asked.
                    e.event.stamp = Stamp::at_unix_ms(e.event.stamp.unix_ms());
                    assert!(found.insert((header.epoch.0, lane, e.seq), e.event).is_none(), "a sequence twice");
                }
                from = at + 1;
            }
        }
        found
    }

    fn assert_balanced(&self) {
        for row in self.core.ledger() {
            assert!(row.balanced, "{row:?}");
        }
    }
}

fn open(disk: &SimDisk, config: &CoreConfig, now_ms: i64) -> EdgeCore {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut core, _) = EdgeCore::open(disk, config.clone(), now_ms, (1, 2)).unwrap();
    while !core.replay(3, now_ms).unwrap() {}
    core
}

fn reading(n: u64, value: f64, id: Option<&str>) -> Op {
    let mut event = Event::reading(format!("press-{}", n % 3), "temperature", value, START_MS + n as i64);
    event.unit = Some(Name::from("°C"));
    event.id = id.map(Name::from);
    Op::Event { event, lane: None, qos2: None }
}

#[test]
fn raw_readings_travel_alerts_go_first_and_aggregates_follow_the_minute() {
    let mut bench = Bench::new(1, Forward::Raw);
    bench.accept((0..10).map(|n| reading(n, 80.0 + n as f64, None)));
    let derived = bench.core.take_derived();
    assert_eq!(
        derived.iter().filter(|d| d.lane == Lane::Critical && d.event.kind == grey_model::Kind::Alert).count(),
        3
    );
    // The minute, what may come late, and how long a source must be silent.
    bench.now_ms += 64_000;
    bench.core.tick(bench.now_ms, 0).unwrap();
    bench.core.flush(bench.now_ms, true).unwrap();
    let events = bench.events();
    let count = |lane| events.keys().filter(|(_, l, _)| *l == lane).count();
    assert_eq!((count(Lane::Critical), count(Lane::Normal), count(Lane::Bulk)), (3, 3, 10));
    bench.assert_balanced();
}

#[test]
fn aggregates_only_keeps_readings_home_and_accounts_for_them() {
    let mut bench = Bench::new(2, Forward::Aggregates);
    bench.accept((0..100).map(|n| reading(n, 20.0, None)));
    bench.core.flush(bench.now_ms, true).unwrap();
    assert!(bench.events().is_empty());
    let ledger = bench.core.ledger();
    let bulk = ledger.iter().find(|row| row.lane == Lane::Bulk).unwrap();
    assert_eq!((bulk.accepted, bulk.tally.reduced, bulk.balanced), (100, 100, true));
    let page = bench.core.local_query().page(LocalPosition::default(), 1000, &|_, _| true).unwrap();
    assert_eq!(page.events.len(), 100, "they can still be asked for at the site");
}

#[test]
fn a_resend_with_the_same_id_counts_once_also_after_a_crash() {
    let mut bench = Bench::new(3, Forward::Raw);
    bench.accept([reading(0, 1.0, Some("a")), reading(3, 2.0, Some("b")), reading(0, 1.0, Some("a"))]);
    bench.restart();
    bench.accept([reading(3, 2.0, Some("b")), reading(0, 3.0, Some("c")), reading(1, 9.0, Some("a"))]);
    bench.core.flush(bench.now_ms, true).unwrap();
    assert_eq!(bench.events().len(), 4, "the same id of another device is another event");
    let ledger = bench.core.ledger();
    assert_eq!(ledger[Lane::Bulk.index()].tally.deduplicated, 2);
    bench.assert_balanced();
}

#[test]
fn a_qos2_packet_counts_once_until_it_is_released() {
    let mut bench = Bench::new(4, Forward::Raw);
    let key = Qos2Key { client: 7, packet_id: 1 };
    let publish = |n| match reading(n, 1.0, None) {
        Op::Event { event, lane, .. } => Op::Event { event, lane, qos2: Some(key) },
        other => other,
    };
    bench.accept([publish(0)]);
    bench.restart();
    bench.accept([publish(0), Op::Release(key), publish(0)]);
    bench.accept([Op::Reset { client: 7 }, publish(0)]);
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].tally.deduplicated, 1);
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].accepted, 4);
}

#[test]
fn acknowledged_blocks_are_delivered_in_the_books_and_leave_the_disk() {
    let mut bench = Bench::new(5, Forward::Raw);
    for round in 0..40 {
        bench.accept((0..200).map(|n| reading(round * 200 + n, n as f64 / 7.0, None)));
        bench.core.flush(bench.now_ms, true).unwrap();
    }
    let before = bench.core.queue().bytes_on_disk();
    for lane in Lane::ALL {
        bench.core.acknowledged(lane, u64::MAX).unwrap();
    }
    for _ in 0..4 {
        bench.core.checkpoint(bench.now_ms).unwrap();
    }
    assert!(bench.core.queue().bytes_on_disk() < before / 4);
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].tally.delivered, 8_000);
    bench.assert_balanced();
    bench.restart();
    bench.assert_balanced();
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].tally.delivered, 8_000);
}

#[test]
fn a_full_outbox_refuses_and_a_full_disk_accepts_nothing() {
    let mut bench = Bench::new(6, Forward::Raw);
    bench.config.queue =
        QueueConfig { bytes_max: 200_000, on_full: [OnFull::Block; 3], reserve_bytes: 0, ..bench.config.queue };
    bench.restart();
    let mut accepted = 0;
    loop {
        bench.core.climb(bench.now_ms).unwrap();
        let ops: Vec<_> = (0..500).map(|n| reading(accepted + n, ((accepted + n) as f64).sin(), None)).collect();
        match bench.core.stage(ops) {
            Ok(()) => {
                bench.core.commit(bench.now_ms, 0).unwrap();
                bench.core.apply().unwrap();
                bench.core.flush(bench.now_ms, true).unwrap();
                accepted += 500;
                assert!(accepted < 1_000_000, "it fills up");
            }
            Err(error) => {
                assert!(matches!(error, StageError::Full { limit: 200_000, .. }));
                break;
            }
        }
    }
    bench.core.acknowledged(Lane::Bulk, u64::MAX).unwrap();
    for _ in 0..4 {
        bench.core.checkpoint(bench.now_ms).unwrap();
    }
    bench.core.climb(bench.now_ms).unwrap();
    bench.disk.set_capacity(Some(0));
    bench.core.stage([reading(1, 1.0, None)]).unwrap();
    assert!(bench.core.commit(bench.now_ms, 0).unwrap_err().is_full());
    bench.core.apply().unwrap();
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].accepted, accepted);
    bench.disk.set_capacity(None);
    bench.core.climb(bench.now_ms).unwrap();
    bench.accept([reading(1, 1.0, None)]);
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].accepted, accepted + 1);
    bench.assert_balanced();
}

#[derive(Default)]
struct Answers(Vec<Result<(), grey_ingest::Refusal>>, i64);

impl RoundDriver for Answers {
    type Done = ();
    fn now_ms(&mut self) -> i64 {
        self.1
    }
    fn monotonic_us(&mut self) -> u64 {
        0
    }
    fn answer(&mut self, (): (), answer: Result<(), grey_ingest::Refusal>) {
        self.0.push(answer);
    }
    fn committed(&mut self, _: u64, _: u64) {}
    fn waits_for_space(&mut self, _: &CoreError) {}

    fn requests(&mut self, _: VecDeque<(u64, Request)>) {}
}

#[test]
fn a_round_tells_the_uplink_of_blocks_that_its_checkpoint_flushed() {
    let mut bench = Bench::new(11, Forward::Raw);
    let (mut flights, mut driver) = (Flights::default(), Answers(Vec::new(), START_MS + 1));
    assert!(
        !bench.core.round([(vec![reading(1, 1.0, None)], ())], &mut flights, &mut driver).unwrap(),
        "the block lingers"
    );
    assert_eq!(driver.0, [Ok(())]);
    // The clock steps back: a checkpoint is due, the block's time is not measured by it.
    driver.1 = START_MS - 10_000;
    assert!(bench.core.round([], &mut flights, &mut driver).unwrap());
    assert!(bench.core.outbox().next(Lane::Bulk, 0).unwrap().is_some());
    assert!(!bench.core.round([], &mut flights, &mut driver).unwrap(), "once");
}

#[test]
fn ids_that_a_full_disk_kept_out_of_the_journal_are_written_later() {
    let mut bench = Bench::new(13, Forward::Raw);
    bench.accept([reading(0, 1.0, Some("a"))]);
    bench.core.flush(bench.now_ms, true).unwrap();
    bench.disk.set_capacity(Some(0));
    assert!(bench.core.checkpoint(bench.now_ms).unwrap_err().is_full());
    bench.disk.set_capacity(None);
    bench.core.checkpoint(bench.now_ms).unwrap();
    bench.restart();
    bench.accept([reading(0, 1.0, Some("a"))]);
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].tally.deduplicated, 1);
}

#[test]
fn another_site_cannot_take_the_directory() {
    let bench = Bench::new(7, Forward::Raw);
    let mut other = bench.config.clone();
    other.site = SiteId::new("site-2").unwrap();
    let Bench { disk, core, .. } = bench;
    drop(core);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let error = EdgeCore::open(disk, other, START_MS, (1, 2)).unwrap_err();
    assert!(matches!(error, CoreError::OtherSite { .. }), "{error}");
}

#[test]
fn a_parent_that_knows_more_starts_a_new_life_and_nothing_is_lost() {
    let mut bench = Bench::new(8, Forward::Raw);
    bench.accept((0..10).map(|n| reading(n, 1.0, None)));
    bench.core.flush(bench.now_ms, true).unwrap();
    let first = bench.core.epoch();
    let key = StreamKey { site: bench.config.site.clone(), epoch: first, lane: Lane::Bulk };
    let ahead = [(key, 50)];
    assert!(bench.core.parent_is_ahead(&ahead, bench.now_ms + 1).unwrap());
    assert!(!bench.core.parent_is_ahead(&ahead, bench.now_ms + 1).unwrap(), "once");
    bench.accept([reading(99, 1.0, None)]);
    bench.core.flush(bench.now_ms, true).unwrap();
    let second = bench.core.epoch();
    assert!(second > first);
    let in_second = bench.events().keys().filter(|(epoch, ..)| *epoch == second.0).count();
    assert_eq!(in_second, 11, "ten that the parent would take for others, and the new one");
    bench.assert_balanced();
    let events = bench.events();
    bench.restart();
    assert_eq!(bench.core.epoch(), second);
    assert_eq!(bench.events(), events);
    bench.assert_balanced();
}

#[test]
fn only_what_was_given_since_the_restore_is_numbered_again() {
    let mut bench = Bench::new(14, Forward::Raw);
    bench.accept((0..10).map(|n| reading(n, 1.0, None)));
    // A copy of the directory: its ten events have the numbers that the hub knows them by.
    bench.disk = bench.disk.fork(1);
    bench.restart();
    assert_eq!(bench.core.own_streams().next_seqs, [0, 0, 10]);
    bench.accept((10..30).map(|n| reading(n, 1.0, None)));
    let first = bench.core.epoch();
    let key = StreamKey { site: bench.config.site.clone(), epoch: first, lane: Lane::Bulk };
    assert!(!bench.core.parent_is_ahead(&[(key.clone(), 10)], bench.now_ms).unwrap());
    // Five of the twenty have the numbers of other events; the hub takes the rest as they are.
    assert!(bench.core.parent_is_ahead(&[(key, 15)], bench.now_ms).unwrap());
    bench.core.flush(bench.now_ms, true).unwrap();
    let again: Vec<i64> =
        bench.events().iter().filter(|((epoch, ..), _)| *epoch != first.0).map(|(_, e)| e.device_time_ms).collect();
    assert_eq!(again, (10..15).map(|n| START_MS + n).collect::<Vec<_>>());
    bench.assert_balanced();
}

#[test]
fn rules_change_between_two_events_and_a_replay_uses_those_in_force_then() {
    let mut bench = Bench::new(9, Forward::Aggregates);
    bench.accept((0..30).map(|n| reading(n, 20.0, None)));
    bench.config.rules = rules(Forward::Raw);
    bench.restart();
    bench.accept((30..40).map(|n| reading(n, 20.0, None)));
    bench.core.flush(bench.now_ms, true).unwrap();
    let row = &bench.core.ledger()[Lane::Bulk.index()];
    assert_eq!((row.accepted, row.tally.reduced, row.tally.pending), (40, 30, 10));
    bench.assert_balanced();
}

#[test]
fn a_lost_end_of_the_intake_costs_no_later_event() {
    let mut bench = Bench::new(11, Forward::Raw);
    for n in 0..20 {
        bench.accept([reading(n, 1.0, None)]);
    }
    bench.core.flush(bench.now_ms, true).unwrap();
    let files = bench.disk.files();
    let (segment, _) = files.iter().rfind(|(path, _)| path.starts_with("intake/") && path.ends_with(".log")).unwrap();
    let segment = std::path::Path::new(segment);
    // Zeros are written ahead of the records.
    let bytes = grey_disk::read_file(&bench.disk, segment, 1 << 20).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bench.disk.truncate(segment, end as u64 - 10).unwrap();
    bench.restart();
    // The outbox is ahead of the intake now: what comes next must not be taken for what it has.
    bench.accept((100..105).map(|n| reading(n, 2.0, None)));
    bench.core.flush(bench.now_ms, true).unwrap();
    let later = bench.events().values().filter(|event| event.value == grey_model::Value::Number(2.0)).count();
    assert_eq!((later, bench.events().len()), (5, 25));
    bench.assert_balanced();
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].accepted, 25);
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_until_the_directory_is_opened_again() {
    let mut bench = Bench::new(12, Forward::Raw);
    bench.accept([reading(0, 1.0, None)]);
    bench.disk.fail_next_sync(1);
    bench.core.stage([reading(1, 2.0, None)]).unwrap();
    let error = bench.core.commit(bench.now_ms, 0).unwrap_err();
    assert!(!error.is_full(), "{error}: waiting does not help");
    bench.core.stage([reading(2, 3.0, None)]).unwrap();
    assert!(bench.core.commit(bench.now_ms, 0).is_err(), "what the disk holds is not known");
    bench.restart();
    bench.accept([reading(3, 4.0, None)]);
    bench.core.flush(bench.now_ms, true).unwrap();
    let values: Vec<f64> = bench.events().values().filter_map(|event| event.value.as_f64()).collect();
    assert!(values.contains(&1.0) && values.contains(&4.0) && !values.contains(&3.0), "{values:?}");
    bench.assert_balanced();
}

#[test]
fn a_wall_clock_that_steps_back_or_ahead_stops_nothing() {
    let mut bench = Bench::new(13, Forward::Raw);
    bench.core.checkpoint(bench.now_ms).unwrap();
    for (n, step_ms) in [0, -3_600_000, 86_400_000, -86_400_000, i64::from(i32::MAX)].into_iter().enumerate() {
        bench.now_ms += step_ms;
        bench.accept([reading(n as u64 * 3, n as f64, Some(&format!("{n}")))]);
        bench.core.tick(bench.now_ms, 0).unwrap();
        bench.core.flush(bench.now_ms, false).unwrap();
        bench.core.maintain(bench.now_ms).unwrap();
    }
    // A restart while the clock is behind what was stamped already.
    bench.now_ms = START_MS - 1_000_000;
    bench.restart();
    bench.accept([reading(15, 5.0, Some("5")), reading(0, 0.0, Some("0"))]);
    bench.core.flush(bench.now_ms, true).unwrap();
    let mut of_device: Vec<(Seq, Stamp, i64)> = Vec::new();
    for ((_, lane, seq), event) in bench.events() {
        // Copies for streams of their own tell of readings that no window took.
        if lane == Lane::Bulk && *event.stream == *"temperature" {
            of_device.push((seq, event.stamp, event.device_time_ms));
        }
    }
    assert_eq!(of_device.len(), 6, "each once: {of_device:?}");
    assert!(of_device.is_sorted_by_key(|(_, stamp, _)| stamp.hlc), "stamps never go back: {of_device:?}");
    assert_eq!(of_device[5].2, START_MS + 15, "the device's own time is left alone");
    bench.assert_balanced();
}

#[test]
fn a_change_of_rules_that_a_crash_interrupts_sends_no_window_twice() {
    // Stopped after each change of the disk in turn.
    for changes in 0..60 {
        let mut bench = Bench::new(12, Forward::Raw);
        bench.accept((0..30).map(|n| reading(n, 20.0, Some(&format!("id-{n}")))));
        bench.core.checkpoint(bench.now_ms).unwrap();
        bench.config.rules = rules(Forward::Aggregates);
        bench.disk.power_off_after(changes);
        let rules = Arc::clone(&bench.config.rules);
        let changed = bench.core.set_rules(rules, bench.now_ms).and_then(|()| bench.core.checkpoint(bench.now_ms));
        bench.disk.power_off_after(u64::MAX);
        bench.restart();
        bench.now_ms += 61_000;
        bench.accept([reading(99, 20.0, None)]);
        bench.now_ms += 70_000;
        bench.core.tick(bench.now_ms, 0).unwrap();
        bench.core.flush(bench.now_ms, true).unwrap();
        let counted: f64 = bench
            .events()
            .values()
            .filter_map(|event| match &event.value {
                grey_model::Value::Fields(fields) => Some(fields.iter().find(|(name, _)| name.as_str() == "count")?.1),
                _ => None,
            })
            .sum();
        assert_eq!(counted, 31.0, "stopped after {changes} changes");
        bench.assert_balanced();
        if changed.is_ok() {
            return;
        }
    }
    panic!("a change of rules takes fewer changes of the disk");
}

#[test]
fn what_is_sent_while_the_site_recovers_is_durable_at_once_and_evaluated_in_its_turn() {
    for crash in [false, true] {
        let mut bench = Bench::new(20, Forward::Raw);
        for n in 0..40 {
            bench.accept([reading(n, 20.0, Some(&format!("{n}")))]);
        }
        bench.disk.crash();
        // The wall clock is behind what was stamped before the crash.
        bench.now_ms -= 5_000;
        let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
        let (core, opened) = EdgeCore::open(disk, bench.config.clone(), bench.now_ms, (1, 2)).unwrap();
        assert_eq!(opened.replay, 40);
        bench.core = core;
        assert!(!bench.core.replay(10, bench.now_ms).unwrap());
        assert_eq!(bench.core.recovery(), Some(Progress { replayed: 10, total: 40 }));
        // A resend of what is not replayed yet, and what is new.
        bench.accept([reading(30, 20.0, Some("30")), reading(40, 90.0, Some("40"))]);
        assert_eq!(bench.core.recovery(), Some(Progress { replayed: 10, total: 41 }));
        assert!(bench.core.take_derived().is_empty(), "the alert comes in its turn");
        assert!(!bench.core.replay(5, bench.now_ms).unwrap());
        bench.accept([reading(41, 20.0, Some("41"))]);
        assert!(!bench.core.flush(bench.now_ms, false).unwrap(), "nothing leaves before its turn");
        if crash {
            bench.restart();
        } else {
            while !bench.core.replay(7, bench.now_ms).unwrap() {}
        }
        assert!(bench.core.is_recovered() && bench.core.recovery().is_none());
        bench.accept([reading(42, 20.0, Some("42")), reading(40, 90.0, Some("40"))]);
        bench.core.flush(bench.now_ms, true).unwrap();
        let events = bench.events();
        let bulk: Vec<_> = events.iter().filter(|((_, lane, _), _)| *lane == Lane::Bulk).map(|(_, e)| e).collect();
        let sent: Vec<_> = bulk.iter().map(|event| event.device_time_ms - START_MS).collect();
        assert_eq!(sent, (0..43).collect::<Vec<_>>(), "each once, in order");
        assert!(bulk.is_sorted_by_key(|event| event.stamp.hlc));
        assert_eq!(events.keys().filter(|(_, lane, _)| *lane == Lane::Critical).count(), 1, "it fired once");
        assert_eq!(bench.core.ledger()[Lane::Bulk.index()].tally.deduplicated, 2);
        bench.assert_balanced();
        // The local query knows no numbers of what was taken meanwhile.
        let page = bench.core.local_query().page(LocalPosition::default(), 1000, &|_, _| true).unwrap();
        let unnumbered = page.events.iter().filter(|e| e.seq == grey_api::UNNUMBERED).count();
        assert_eq!((page.events.len(), unnumbered), (44, 2), "43 readings and an alert");
    }
}

#[test]
fn a_long_record_is_replayed_in_parts_and_devices_need_not_wait_for_it() {
    let mut bench = Bench::new(23, Forward::Raw);
    bench.accept((0..3_000).map(|n| reading(n, if n % 500 == 0 { 90.0 } else { 20.0 }, Some(&format!("{n}")))));
    let undisturbed = bench.core.take_derived().len();
    bench.disk.crash();
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    bench.core = EdgeCore::open(disk, bench.config.clone(), bench.now_ms, (1, 2)).unwrap().0;
    let mut steps = 1;
    while !bench.core.replay(64, bench.now_ms).unwrap() {
        if steps == 1 {
            bench.accept([reading(3_000, 20.0, None)]);
        }
        if steps == 2 {
            // A stop in the midst of the record.
            bench.core.checkpoint(bench.now_ms).unwrap();
            assert_eq!(bench.core.recovery(), Some(Progress { replayed: 1, total: 2 }));
        }
        steps += 1;
    }
    assert!(steps > 2, "{steps}");
    assert_eq!(bench.core.take_derived().len(), undisturbed);
    bench.core.flush(bench.now_ms, true).unwrap();
    let sent = bench.events().into_iter().filter(|((_, lane, _), _)| *lane == Lane::Bulk);
    assert!(sent.map(|(_, event)| event.device_time_ms - START_MS).eq(0..3_001));
    bench.assert_balanced();
}

#[test]
fn a_recovery_takes_no_more_than_may_wait() {
    let mut bench = Bench::new(21, Forward::Raw);
    bench.accept((0..10).map(|n| reading(n, 20.0, None)));
    bench.disk.crash();
    bench.config.intake_bytes_max = 2_000;
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    bench.core = EdgeCore::open(disk, bench.config.clone(), bench.now_ms, (1, 2)).unwrap().0;
    let mut taken = 0;
    let refused = loop {
        match bench.core.stage([reading(taken, 20.0, None)]) {
            Ok(()) => bench.core.commit(bench.now_ms, 0).unwrap(),
            Err(error) => break error,
        }
        taken += 1;
    };
    assert!(matches!(refused, StageError::Full { limit: 2_000, .. }), "{refused}");
    assert!((5..50).contains(&taken));
    while !bench.core.replay(3, bench.now_ms).unwrap() {}
    bench.accept([reading(99, 20.0, None)]);
    assert_eq!(bench.core.ledger()[Lane::Bulk.index()].accepted, 11 + taken);
    bench.assert_balanced();
}

#[test]
fn lost_records_of_a_recovery_are_accounted_for() {
    let mut bench = Bench::new(22, Forward::Raw);
    bench.core.checkpoint(bench.now_ms).unwrap();
    for n in 0..4 {
        bench.accept([reading(n, 20.0, None)]);
    }
    bench.disk.crash();
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    bench.core = EdgeCore::open(disk, bench.config.clone(), bench.now_ms, (1, 2)).unwrap().0;
    assert!(!bench.core.replay(1, bench.now_ms).unwrap());
    // One record each; a mark in the values finds the one to damage.
    for n in 10..15 {
        bench.accept([reading(n, 1234.5 + n as f64, None), reading(n + 10, 2.0, None)]);
    }
    let mark = (1234.5_f64 + 12.0).to_le_bytes();
    let files = bench.disk.files();
    let mut damaged = 0;
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with("intake/") && path.ends_with(".log")) {
        let path = std::path::Path::new(path);
        let bytes = grey_disk::read_file(&bench.disk, path, 1 << 20).unwrap();
        if let Some(at) = bytes.windows(8).position(|window| window == mark) {
            bench.disk.flip(path, at as u64, 3).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    bench.restart();
    bench.accept([reading(99, 20.0, None)]);
    bench.core.flush(bench.now_ms, true).unwrap();
    let row = &bench.core.ledger()[Lane::Bulk.index()];
    assert_eq!((row.accepted, row.tally.dropped, row.tally.pending), (15, 2, 13));
    bench.assert_balanced();
}

#[test]
fn dead_letters_are_kept_with_their_reason() {
    let mut bench = Bench::new(10, Forward::Raw);
    let letter =
        |reason: &str| Op::DeadLetter { topic: "t".into(), payload: Bytes::from_static(b"{"), reason: reason.into() };
    bench.accept([letter("first"), letter("second")]);
    bench.restart();
    let letters = bench.core.dead_letters(10);
    assert_eq!(letters.len(), 2);
    assert!(std::str::from_utf8(&letters[0]).unwrap().contains("second"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Crashed anywhere and replayed, the outbox holds exactly what an
    /// undisturbed run of the same commits holds.
    #[test]
    fn a_crashed_run_equals_an_undisturbed_one(seed: u64, steps in prop::collection::vec((0_u8..8, 0_u64..40), 1..40)) {
        let run = |crash: bool| {
            let mut bench = Bench::new(seed, Forward::Raw);
            let mut n = 0;
            for (step, size) in &steps {
                match step {
                    0..=3 => {
                        let ids: Vec<String> = (0..*size).map(|i| format!("id-{}", (n + i) % 50)).collect();
                        let ops: Vec<Op> =
                            ids.iter().enumerate().map(|(i, id)| reading(n + i as u64, (n % 9) as f64 * 12.0, Some(id))).collect();
                        bench.accept(ops);
                        n += size;
                    }
                    4 => {
                        bench.core.flush(bench.now_ms, true).unwrap();
                    }
                    5 => bench.core.checkpoint(bench.now_ms).unwrap(),
                    6 => {
                        bench.now_ms += 20_000;
                        bench.core.tick(bench.now_ms, 0).unwrap();
                    }
                    _ if crash => bench.restart(),
                    _ => {}
                }
            }
            bench.now_ms += 120_000;
            bench.core.tick(bench.now_ms, 0).unwrap();
            bench.core.flush(bench.now_ms, true).unwrap();
            bench.assert_balanced();
            let mut covered: [RangeSet; 3] = Default::default();
            for lane in Lane::ALL {
                let mut from = 0;
                while let Some((at, block)) = bench.core.outbox().next(lane, from).unwrap() {
                    let header = BlockHeader::parse(&block).unwrap().header;
                    assert_eq!(covered[lane.index()].insert(header.range()), u64::from(header.span));
                    from = at + 1;
                }
                assert_eq!(covered[lane.index()].contiguous_end(), covered[lane.index()].end(), "no gap");
            }
            (bench.events(), bench.core.ledger().into_iter().map(|r| (r.lane, r.accepted, r.tally)).collect::<Vec<_>>())
        };
        prop_assert_eq!(run(true), run(false));
    }
}

/// A site with a settled past, some blocks that wait, and records that no checkpoint has seen.
fn used(seed: u64) -> Bench {
    let mut bench = Bench::new(seed, Forward::Raw);
    // The beginning of the intake is given back.
    (bench.config.intake_retention_ms, bench.config.intake_segment_bytes) = (3_000, 4 << 10);
    bench.restart();
    for round in 0..40 {
        bench.now_ms += 1_000;
        bench.accept((0..20).map(|n| reading(round * 20 + n, 20.0 + n as f64, Some(&format!("{}", round * 20 + n)))));
        if round < 37 {
            bench.core.flush(bench.now_ms, true).unwrap();
        }
        if round == 20 {
            bench.core.acknowledged(Lane::Bulk, 12).unwrap();
        }
        if round % 6 == 5 {
            bench.core.checkpoint(bench.now_ms).unwrap();
        }
    }
    bench.disk.kill();
    bench
}

fn lose(bench: &Bench, prefix: &str) {
    let files = bench.disk.files();
    let doomed: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(prefix)).collect();
    assert!(!doomed.is_empty(), "{prefix}: {files:?}");
    doomed.into_iter().for_each(|(path, _)| bench.disk.lose(path.as_ref()).unwrap());
}

fn reopen(bench: &Bench) -> Result<(EdgeCore, Opened), CoreError> {
    let disk: Arc<dyn Disk> = Arc::new(bench.disk.clone());
    let (mut core, opened) = EdgeCore::open(disk, bench.config.clone(), bench.now_ms, (3, 4))?;
    while !core.replay(3, bench.now_ms)? {}
    Ok((core, opened))
}

#[test]
fn without_any_checkpoint_numbers_go_on_and_nothing_is_emitted_twice() {
    let mut bench = used(30);
    let (next, epoch, before) =
        (bench.core.next_seqs(), bench.core.epoch(), bench.core.uplink_status(0).accepted_total);
    lose(&bench, "checkpoints/");
    let (core, opened) = reopen(&bench).unwrap();
    bench.core = core;
    assert!(opened.notes.iter().any(|note| note.contains("no checkpoint can be read")), "{:?}", opened.notes);
    assert_eq!((bench.core.epoch(), bench.core.next_seqs()), (epoch, next));
    assert_eq!(bench.core.uplink_status(0).accepted_total, before);
    bench.accept([reading(1, 5.0, None)]);
    bench.core.flush(bench.now_ms, true).unwrap();
    let bulk = bench.events().into_iter().filter(|((_, lane, _), _)| *lane == Lane::Bulk);
    let times: Vec<i64> = bulk.map(|(_, event)| event.device_time_ms - START_MS).collect();
    let mut sorted = times.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len() + 1, times.len(), "only the one that was sent again is there twice");
    assert!(times.contains(&799), "the last of those that only the intake had");
    bench.assert_balanced();
    bench.core.acknowledged(Lane::Bulk, u64::MAX).unwrap();
    bench.core.checkpoint(bench.now_ms).unwrap();
    bench.assert_balanced();
}

#[test]
fn where_nothing_tells_the_numbers_a_new_life_begins() {
    for lost in [&["checkpoints/", "intake/"][..], &["checkpoints/", "intake/", "outbox/"]] {
        let mut bench = used(31);
        let epoch = bench.core.epoch();
        lost.iter().for_each(|prefix| lose(&bench, prefix));
        let (core, opened) = reopen(&bench).unwrap();
        bench.core = core;
        assert!(bench.core.epoch() > epoch && bench.core.next_seqs() == [0; 3], "{:?}", opened.notes);
        assert!(opened.notes.iter().any(|note| note.contains("a new life")), "{:?}", opened.notes);
        bench.accept([reading(1, 5.0, None)]);
        bench.core.flush(bench.now_ms, true).unwrap();
        let events = bench.events();
        assert_eq!(events.keys().filter(|(life, ..)| *life > epoch.0).count(), 1);
        assert_eq!(events.len() > 1, lost.len() == 2, "what waits of the life before is sent");
        bench.assert_balanced();
        bench.restart();
        bench.assert_balanced();
    }
}

#[test]
fn a_directory_without_identity_is_still_its_sites() {
    for lost in [&["identity"][..], &["identity", "checkpoints/"]] {
        let mut bench = used(32);
        let (next, epoch) = (bench.core.next_seqs(), bench.core.epoch());
        lost.iter().for_each(|prefix| lose(&bench, prefix));
        let other = Bench {
            disk: bench.disk.clone(),
            config: CoreConfig { site: SiteId::new("site-2").unwrap(), ..bench.config.clone() },
            core: open(&SimDisk::new(1), &bench.config, START_MS),
            now_ms: bench.now_ms,
        };
        assert!(matches!(reopen(&other), Err(CoreError::OtherSite { .. })));
        let (core, opened) = reopen(&bench).unwrap();
        bench.core = core;
        assert!(opened.notes.iter().any(|note| note.contains("identity")), "{:?}", opened.notes);
        assert_eq!((bench.core.epoch(), bench.core.next_seqs()), (epoch, next));
        bench.assert_balanced();
        assert!(reopen(&bench).unwrap().1.notes.is_empty(), "mended");
    }
}
