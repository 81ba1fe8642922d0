//! What each level does to stored blocks, and what a full disk does.

use std::path::Path;
use std::sync::Arc;

use grey_codec::{BlockBuilder, decode_block};
use grey_disk::{Disk, SimDisk};
use grey_log::LogError;
use grey_model::{BlockHeader, Compression, Disposition, Epoch, Event, Kind, Lane, RuleId, SiteId, Stamp, Value};

use super::*;
use crate::fold::Applied;
use crate::receipt::{Reason, ReceiptKind};

struct Bench {
    disk: SimDisk,
    queue: Queue,
    config: QueueConfig,
    builder: BlockBuilder,
    accepted: u64,
}

fn open(disk: &SimDisk, config: &QueueConfig, state: Option<QueueState>) -> Queue {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Queue::open(&disk, Path::new("outbox"), SiteId::new("s").unwrap(), config.clone(), state).unwrap().0
}

impl Bench {
    fn new(config: QueueConfig) -> Self {
        let disk = SimDisk::new(7);
        let queue = open(&disk, &config, None);
        let site = SiteId::new("s").unwrap();
        let builder = BlockBuilder::new(site, Epoch(1), Lane::Bulk, Compression::Lz4, 0);
        Self { disk, queue, config, builder, accepted: 0 }
    }

    /// Dense readings of four series, one a second each, that do not compress well.
    fn write(&mut self, events: u64) -> Result<(), QueueError> {
        for _ in 0..events {
            let n = self.accepted;
            let noise = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as f64;
            let device = ["a", "b", "c", "d"][(n % 4) as usize];
            self.builder.push(&Event::reading(device, "t", noise, (n / 4) as i64 * 1_000)).unwrap();
            self.accepted += 1;
        }
        let block = self.builder.finish(Stamp::at_unix_ms(1), 0).unwrap();
        let header = BlockHeader::parse(&block).unwrap().header;
        self.queue.write(Lane::Bulk, [(&header, &block)])
    }

    /// Writes until the outbox is at a level.
    fn fill(&mut self, level: Level) {
        while self.queue.level() < level {
            self.write(20).unwrap();
            self.queue.observe(1);
        }
    }

    fn fold(&mut self) -> Vec<Applied> {
        let mut applied = Vec::new();
        while let Some(job) = self.queue.next_fold() {
            applied.push(self.queue.apply(job.run()).unwrap());
            self.queue.observe(2);
        }
        applied
    }

    fn events(&self) -> Vec<Event> {
        let (reader, mut from, mut next_seq) = (self.queue.reader(), 0, None);
        let mut events = Vec::new();
        while let Some((at, block)) = reader.next(Lane::Bulk, from).unwrap() {
            let (header, found) = decode_block(&block).unwrap();
            assert!(next_seq.is_none_or(|next| next == header.first_seq), "no gap and nothing twice");
            next_seq = Some(header.range().end);
            events.extend(found.into_iter().map(|found| found.event));
            from = at + 1;
        }
        assert_eq!(next_seq, Some(self.accepted));
        events
    }

    fn told(&mut self) -> Vec<ReceiptKind> {
        self.queue.take_receipts().into_iter().map(|receipt| receipt.kind).collect()
    }
}

fn config() -> QueueConfig {
    QueueConfig { bytes_max: 400_000, segment_bytes_max: 8_192, reserve_bytes: 0, ..QueueConfig::default() }
}

fn affected(told: &[ReceiptKind], wanted: Reason) -> (u64, u64) {
    told.iter().fold((0, 0), |sum, kind| match kind {
        ReceiptKind::Range { reason, events, aggregates, .. } if *reason == wanted => {
            (sum.0 + events, sum.1 + aggregates)
        }
        _ => sum,
    })
}

#[test]
fn a_backlog_of_small_blocks_is_packed_without_loss() {
    let mut bench = Bench::new(QueueConfig { bytes_max: 100 << 20, ..config() });
    for _ in 0..64 {
        bench.write(100).unwrap();
    }
    let (before, bytes) = (bench.events(), bench.queue.bytes_pending());
    let applied = bench.fold();
    assert_eq!(
        (applied.len(), applied[0].target, applied[0].replaced, applied[0].records),
        (1, Stratum::Packed, 64, 1)
    );
    assert_eq!(bench.events(), before);
    assert!(bench.queue.bytes_pending() < bytes * 9 / 10, "{bytes} {}", bench.queue.bytes_pending());
    assert_eq!(bench.queue.lane(Lane::Bulk).pending.blocks, 1);
    assert_eq!(bench.queue.lane(Lane::Bulk).pending.tally.pending, 6_400);
    assert_eq!(bench.told(), []);
}

#[test]
fn readings_are_thinned_at_the_critical_level() {
    let mut bench = Bench::new(config());
    bench.fill(Level::Critical);
    assert_eq!(bench.queue.admission(Lane::Bulk), Admission::Sample);
    assert_eq!(bench.queue.admission(Lane::Normal), Admission::Take);
    let before = bench.events();
    let applied = bench.fold();
    assert!(applied.iter().any(|applied| applied.target == Stratum::Thinned && !applied.discarded), "{applied:?}");
    let told = bench.told();
    let (evicted, _) = affected(&told, Reason::ThinnedOnOverflow);
    let after = bench.events();
    assert_eq!((before.len() - after.len()) as u64, evicted);
    assert!(evicted as usize >= before.len() / 4, "{evicted}");
    assert_eq!(after[0], before[0], "the first is kept");
    assert!(bench.queue.level() < Level::Critical);
    let tally = bench.queue.lane(Lane::Bulk).pending.tally;
    assert_eq!((tally.reduced, tally.total()), (evicted, bench.accepted));
}

#[test]
fn readings_are_rolled_up_ten_to_one_at_the_emergency_level() {
    let mut bench = Bench::new(config());
    bench.fill(Level::Emergency);
    let before = bench.events();
    bench.fold();
    let told = bench.told();
    let (replaced, aggregates) = affected(&told, Reason::RolledUp);
    assert!(aggregates > 0 && replaced >= 10 * aggregates, "{replaced} readings, {aggregates} aggregates");
    let (mut sum, mut count) = (0.0, 0.0);
    let mut rest = 0;
    for event in bench.events() {
        let Value::Fields(fields) = &event.value else {
            rest += 1;
            continue;
        };
        assert_eq!(event.kind, Kind::Aggregate);
        assert_eq!(fields.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["avg", "min", "max", "count"]);
        sum += fields[0].1 * fields[3].1;
        count += fields[3].1;
    }
    let expected: f64 = before[..before.len() - rest].iter().filter_map(|event| event.value.as_f64()).sum();
    assert_eq!((count as u64, count as usize + rest), (replaced, before.len()));
    assert!((sum / expected - 1.0).abs() < 1e-9, "{sum} {expected}");
}

#[test]
fn the_oldest_gives_way_at_the_limit_and_the_accounts_stay_few() {
    let mut bench = Bench::new(config());
    for _ in 0..600 {
        bench.write(40).unwrap();
        bench.queue.observe(1);
        bench.fold();
        assert!(bench.queue.bytes_on_disk() < bench.config.bytes_max * 11 / 10);
    }
    // What is rolled up is dropped in the end, too.
    bench.queue.disk_full(3);
    for _ in 0..20 {
        let job = bench.queue.next_fold().unwrap();
        assert_eq!(job.target(), Stratum::Dropped);
        bench.queue.apply(job.run()).unwrap();
    }
    bench.events();
    let (dropped, _) = affected(&bench.told(), Reason::DroppedOverflow);
    assert!(dropped > 0);
    let (_, first) = bench.queue.reader().next(Lane::Bulk, 0).unwrap().unwrap();
    let header = BlockHeader::parse(&first).unwrap().header;
    let overflow = |account: &&grey_model::Account| account.disposition == Disposition::DroppedOverflow;
    assert_eq!(header.accounts.iter().filter(overflow).map(grey_model::Account::len).sum::<u64>(), dropped);
    let strata = bench.queue.strata();
    let status = strata.iter().find(|status| status.lane == Lane::Bulk && status.stratum == Stratum::Dropped).unwrap();
    assert!(status.bytes < 20_000 && status.positions.start == 0, "{status:?}");
    let tally = bench.queue.lane(Lane::Bulk).pending.tally;
    assert_eq!((tally.dropped, tally.total()), (dropped, bench.accepted));
}

#[test]
fn a_lane_that_blocks_is_only_packed() {
    let mut bench = Bench::new(QueueConfig { on_full: [OnFull::Block; 3], ..config() });
    bench.fill(Level::Overflow);
    assert_eq!(bench.queue.admission(Lane::Bulk), Admission::Block);
    let before = bench.events();
    assert!(bench.fold().iter().all(|applied| applied.target == Stratum::Packed));
    assert_eq!(bench.events(), before);
}

#[test]
fn the_outbox_goes_on_taking_on_a_full_disk_when_it_may_drop() {
    let mut bench = Bench::new(QueueConfig { bytes_max: 1 << 30, reserve_bytes: 64 << 10, ..config() });
    bench.disk.set_capacity(Some(600_000));
    let mut refused = 0;
    for round in 0..3_000 {
        while let Err(error) = bench.write_again() {
            assert!(matches!(error, QueueError::Log(LogError::Full { .. })), "{error:?}");
            refused += 1;
            bench.queue.disk_full(round);
            assert_eq!(bench.queue.level(), Level::Overflow);
            let job = bench.queue.next_fold().expect("something can be dropped");
            bench.queue.apply(job.run()).unwrap();
        }
        bench.queue.observe(round);
    }
    assert!(refused > 3, "{refused}");
    let newest = bench.events().pop().unwrap();
    assert_eq!(newest.device_time_ms, (bench.accepted - 1) as i64 / 4 * 1_000, "the newest is there");
}

#[test]
fn a_full_disk_of_a_lane_that_blocks_recovers_with_acknowledgements() {
    let on_full = [OnFull::Block; 3];
    let mut bench = Bench::new(QueueConfig { bytes_max: 1 << 30, reserve_bytes: 64 << 10, on_full, ..config() });
    bench.disk.set_capacity(Some(600_000));
    while bench.write_again().is_ok() {}
    bench.queue.disk_full(1);
    assert_eq!((bench.queue.admission(Lane::Bulk), bench.queue.is_disk_full()), (Admission::Block, true));
    assert_eq!(bench.queue.bytes_reserved(), 0);
    let end = bench.queue.lane(Lane::Bulk).end;
    bench.queue.ack(Lane::Bulk, end / 2).unwrap();
    assert!(bench.queue.wants_reclaim());
    let state = bench.queue.state();
    bench.queue.reclaim(&state).unwrap();
    bench.queue.observe(2);
    assert_eq!((bench.queue.admission(Lane::Bulk), bench.queue.bytes_reserved()), (Admission::Take, 64 << 10));
    bench.write_again().unwrap();
}

impl Bench {
    /// Writes, or writes again what was refused.
    fn write_again(&mut self) -> Result<(), QueueError> {
        let end_seq = self.queue.lane(Lane::Bulk).end_seq;
        let site = SiteId::new("s").unwrap();
        self.builder = BlockBuilder::new(site, Epoch(1), Lane::Bulk, Compression::Lz4, end_seq);
        self.accepted = end_seq;
        self.write(40)
    }
}

#[test]
fn what_the_uplink_was_given_is_not_changed_and_a_fold_of_it_is_discarded() {
    let mut bench = Bench::new(config());
    bench.fill(Level::Emergency);
    let job = bench.queue.next_fold().unwrap();
    let (_, given) = bench.queue.uplink().next(Lane::Bulk, 3).unwrap().unwrap();
    assert!(bench.queue.apply(job.run()).unwrap().discarded);
    bench.fold();
    assert_eq!(bench.queue.reader().next(Lane::Bulk, 3).unwrap(), Some((3, given.clone())));
    // Also over a restart, and with it what the lease was ahead.
    drop(std::mem::replace(&mut bench.queue, open(&SimDisk::new(1), &config(), None)));
    bench.disk.crash();
    bench.queue = open(&bench.disk, &bench.config, None);
    bench.queue.disk_full(1);
    for _ in 0..10 {
        let Some(job) = bench.queue.next_fold() else { break };
        bench.queue.apply(job.run()).unwrap();
    }
    assert_eq!(bench.queue.reader().next(Lane::Bulk, 3).unwrap(), Some((3, given)));
}

#[test]
fn receipts_are_told_again_until_a_checkpoint_knows_them() {
    let mut bench = Bench::new(config());
    bench.fill(Level::Emergency);
    bench.fold();
    let before = bench.queue.state();
    let told = bench.queue.take_receipts();
    let after = bench.queue.state();
    assert!(told.len() > 2);
    let ids = |queue: &mut Queue| {
        let mut ids: Vec<_> = queue.take_receipts().into_iter().map(|receipt| receipt.id).collect();
        ids.retain(|id| id.starts_with("outbox-range"));
        ids
    };
    drop(std::mem::replace(&mut bench.queue, open(&SimDisk::new(1), &config(), None)));
    let expected: Vec<_> =
        told.iter().map(|receipt| receipt.id.clone()).filter(|id| id.starts_with("outbox-range")).collect();
    assert_eq!(ids(&mut open(&bench.disk, &bench.config, Some(before))), expected);
    assert_eq!(ids(&mut open(&bench.disk, &bench.config, Some(after))), [""; 0]);
    let event = told[0].clone().into_event(&SiteId::new("s").unwrap());
    assert_eq!((event.kind, &*event.stream), (Kind::Receipt, crate::LEVEL_STREAM));
    grey_codec::check(&event).unwrap();
}

#[test]
fn a_lost_stratum_is_accounted_for_exactly() {
    let mut bench = Bench::new(config());
    bench.fill(Level::Critical);
    bench.fold();
    bench.write(20).unwrap();
    let layers = bench.queue.reader.lock().layers[Lane::Bulk.index()].clone();
    let thinned = layers[Stratum::Thinned.index()].as_ref().unwrap().covers.clone();
    let (state, end) = (bench.queue.state(), bench.queue.lane(Lane::Bulk).end_seq);
    let read = |queue: &Queue, at: u64| {
        BlockHeader::parse(&queue.reader().next(Lane::Bulk, at).unwrap().unwrap().1).unwrap().header
    };
    let behind = read(&bench.queue, thinned.end);
    drop(std::mem::replace(&mut bench.queue, open(&SimDisk::new(1), &config(), None)));
    for (path, _) in bench.disk.files().iter().filter(|(path, _)| path.contains("bulk.thinned")) {
        bench.disk.lose(Path::new(path)).unwrap();
    }
    let mut queue = open(&bench.disk, &bench.config, Some(state));
    let first = read(&queue, 0);
    // The segment that the fold had ended in still has blocks, which serve again.
    assert_eq!((first.first_seq, first.events), (0, 0));
    assert!(first.range().end <= behind.first_seq && first.range().end > 0);
    let lost = queue.reader().lost_blocks();
    assert_eq!(lost.len(), 1);
    queue.ack(Lane::Bulk, u64::MAX).unwrap();
    let life = &queue.lane(Lane::Bulk).lives[0];
    assert_eq!((life.books.end(), life.books.tally().dropped), (end, first.range().end));
    let told = queue.take_receipts();
    assert_eq!(told.iter().filter(|receipt| receipt.id.starts_with("outbox-damage")).count(), 1, "{told:?}");
    assert_eq!(queue.take_receipts(), []);
}

#[test]
fn sampled_rules_are_the_reserved_ones() {
    assert_eq!(Reason::RolledUp.rule(), Some(RuleId::ROLLED_UP));
    assert_eq!(Reason::ThinnedOnOverflow.rule(), Some(RuleId::THINNED));
    assert_eq!(Reason::DroppedDamage.rule(), None);
}
