//! The outbox on a simulated disk.

use super::*;
use crate::reader::QueueReader;
use grey_disk::SimDisk;
use grey_model::{Account, Compression, Disposition, Epoch, RuleId, SiteId, Stamp};
use proptest::prelude::*;
use std::path::Path;

const DIR: &str = "outbox";

fn site() -> SiteId {
    SiteId::new("site-1").unwrap()
}

fn block(lane: Lane, first_seq: u64, events: u32, reduced: u32) -> (BlockHeader, Bytes) {
    let span = events + reduced;
    let end = first_seq + u64::from(span);
    let reduced_run =
        Account { range: first_seq + u64::from(events)..end, disposition: Disposition::Reduced(RuleId(0)) };
    let header = BlockHeader {
        site: site(),
        epoch: Epoch(1),
        lane,
        first_seq,
        span,
        events,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp::at_unix_ms(1_000),
        kinds: 1,
        intake: 0,
        compression: Compression::None,
        payload_raw_len: 0,
        accounts: if reduced > 0 { vec![reduced_run] } else { Vec::new() },
    };
    let bytes = header.encode(&[7; 300]);
    (header, bytes)
}

fn open(disk: &SimDisk, state: Option<QueueState>) -> (Queue, Vec<Repair>) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let config =
        QueueConfig { bytes_max: 1 << 20, segment_bytes_max: 4096, reserve_bytes: 0, ..QueueConfig::default() };
    Queue::open(&disk, Path::new(DIR), site(), config, state).unwrap()
}

fn read_all(reader: &QueueReader, lane: Lane) -> Vec<(u64, std::ops::Range<u64>)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((at, block)) = reader.next(lane, from).unwrap() {
        found.push((at, BlockHeader::parse(&block).unwrap().header.range()));
        from = at + 1;
    }
    found
}

fn fill(queue: &mut Queue, lane: Lane, blocks: u64) {
    for n in 0..blocks {
        write(queue, lane, n * 3, 2, 1);
    }
}

fn write(queue: &mut Queue, lane: Lane, first_seq: u64, events: u32, reduced: u32) {
    let (header, bytes) = block(lane, first_seq, events, reduced);
    queue.write(lane, [(&header, &bytes)]).unwrap();
}

#[test]
fn blocks_wait_until_acknowledged_and_then_give_their_space_back() {
    let disk = SimDisk::new(1);
    let (mut queue, _) = open(&disk, None);
    fill(&mut queue, Lane::Bulk, 100);
    assert_eq!(queue.lane(Lane::Bulk).pending.tally.pending, 200);
    assert_eq!(read_all(&queue.reader(), Lane::Bulk).len(), 100);
    let full = queue.bytes_on_disk();
    queue.ack(Lane::Bulk, 90).unwrap();
    assert_eq!(queue.bytes_on_disk(), full, "space returns only after a checkpoint");
    let state = queue.state();
    queue.reclaim(&state).unwrap();
    assert!(queue.bytes_on_disk() < full / 3);
    assert_eq!(queue.lane(Lane::Bulk).pending.blocks, 10);
    let life = &queue.lane(Lane::Bulk).lives[0];
    assert_eq!((life.books.tally().delivered, life.books.tally().reduced), (180, 90));
    assert!(life.books.balanced());
}

#[test]
fn a_restart_counts_what_came_after_the_checkpoint() {
    let disk = SimDisk::new(2);
    let (mut queue, _) = open(&disk, None);
    fill(&mut queue, Lane::Normal, 10);
    let state = queue.state();
    for n in 10..15 {
        write(&mut queue, Lane::Normal, n * 3, 2, 1);
    }
    let expected = queue.state();
    drop(queue);
    disk.crash();
    for state in [Some(state), None] {
        let (queue, repairs) = open(&disk, state);
        assert_eq!(repairs, []);
        assert_eq!(queue.state().lanes[1].pending, expected.lanes[1].pending);
        assert_eq!(queue.lane(Lane::Normal).end_seq, 45);
    }
}

#[test]
fn a_lost_segment_becomes_a_receipt() {
    let disk = SimDisk::new(3);
    let (mut queue, _) = open(&disk, None);
    fill(&mut queue, Lane::Bulk, 60);
    let state = queue.state();
    drop(queue);
    let lane_dir = Path::new(DIR).join("bulk");
    let view: &dyn Disk = &disk;
    let mut segments: Vec<_> =
        view.read_dir(&lane_dir).unwrap().into_iter().filter(|e| !e.is_dir && e.len > 500).collect();
    assert!(segments.len() > 3, "{segments:?}");
    let victim = segments.remove(1);
    view.remove_file(&lane_dir.join(victim.name)).unwrap();
    let (mut queue, _) = open(&disk, Some(state));
    let mut covered = grey_model::RangeSet::new();
    let mut dropped = 0;
    let mut from = 0;
    while let Some((at, block)) = queue.reader().next(Lane::Bulk, from).unwrap() {
        let header = BlockHeader::parse(&block).unwrap().header;
        assert_eq!(covered.insert(header.range()), u64::from(header.span), "no sequence twice");
        dropped += header
            .accounts
            .iter()
            .filter(|a| a.disposition == Disposition::DroppedDamage)
            .map(Account::len)
            .sum::<u64>();
        from = at + 1;
    }
    assert_eq!(covered.contiguous_end(), 180, "no gap");
    assert!(dropped > 0 && dropped < 60, "{dropped}");
    assert_eq!(queue.reader().lost_blocks().len(), 1);
    queue.ack(Lane::Bulk, 60).unwrap();
    let books = &queue.lane(Lane::Bulk).lives[0].books;
    assert_eq!((books.end(), books.tally().dropped, books.balanced()), (180, dropped, true));
    assert_eq!(queue.lane(Lane::Bulk).pending, Pending::default());
}

#[test]
fn sequences_that_are_written_again_behind_a_lost_end_are_not_held_up_by_it() {
    let disk = SimDisk::new(4);
    let (mut queue, _) = open(&disk, None);
    fill(&mut queue, Lane::Bulk, 5);
    drop(queue);
    let mut paths = disk.files().into_iter().map(|(path, _)| path);
    let path = paths.rfind(|path| path.contains("/bulk/") && path.ends_with(".log")).unwrap();
    let bytes = grey_disk::read_file(&disk, Path::new(&path), 1 << 20).unwrap();
    // Zeros are written ahead of the records.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    disk.truncate(Path::new(&path), end as u64 - 10).unwrap();
    let (mut queue, repairs) = open(&disk, None);
    assert_eq!((repairs.len(), queue.lane(Lane::Bulk).end_seq), (1, 12));
    // The owner replays and gives the lost sequences again.
    write(&mut queue, Lane::Bulk, 12, 2, 1);
    let ranges: Vec<_> = read_all(&queue.reader(), Lane::Bulk).into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges, [0..3, 3..6, 6..9, 9..12, 12..15], "each once, and no block without sequences");
    queue.ack(Lane::Bulk, u64::MAX).unwrap();
    let books = &queue.lane(Lane::Bulk).lives[0].books;
    assert_eq!((books.end(), books.tally().dropped, books.tally().delivered), (15, 0, 10));
    assert_eq!(queue.lane(Lane::Bulk).pending, Pending::default());
}

#[test]
fn a_full_disk_takes_nothing_and_loses_nothing() {
    let disk = SimDisk::new(5);
    let (mut queue, _) = open(&disk, None);
    fill(&mut queue, Lane::Bulk, 5);
    let before = queue.state();
    disk.set_capacity(Some(0));
    let (header, bytes) = block(Lane::Bulk, 15, 2, 1);
    assert!(queue.write(Lane::Bulk, [(&header, &bytes)]).is_err());
    assert_eq!(queue.state(), before);
    disk.set_capacity(None);
    queue.write(Lane::Bulk, [(&header, &bytes)]).unwrap();
    assert_eq!(read_all(&queue.reader(), Lane::Bulk).len(), 6);
}

/// The checkpointed state of a version before the strata, in postcard's format: in the normal
/// lane ten blocks as [`fill`] writes them, four of them acknowledged.
const STATE_V1: &[u8] = &[
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // critical
    1, 1, 0, 0, 0, 0, 0, 0, 8, // normal: one life, epoch 1, nothing closed, eight runs
    0, 2, 0, 2, 3, 1, 0, 0, 3, 5, 0, 5, 6, 1, 0, 0, 6, 8, 0, 8, 9, 1, 0, 0, 9, 11, 0, 11, 12, 1, 0, 0, //
    8, 4, 0, 0, 0, // settled: 8 delivered, 4 reduced
    4, 10, 30, 1, // acked, end, sequence, epoch
    6, 218, 18, 0, 6, 0, 0, 12, // waiting
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // bulk
];

#[test]
fn a_state_of_the_version_before_goes_on() {
    let disk = SimDisk::new(6);
    let (mut queue, _) = open(&disk, None);
    fill(&mut queue, Lane::Normal, 10);
    queue.ack(Lane::Normal, 4).unwrap();
    let (old, rest) = postcard::take_from_bytes::<QueueStateV1>(STATE_V1).unwrap();
    assert!(rest.is_empty());
    let state = QueueState::from(old);
    let known = queue.lane(Lane::Normal).clone();
    let LaneState { lives, acked, end, end_seq, epoch, pending, .. } = state.lanes[1].clone();
    assert_eq!(
        (lives, acked, end, end_seq, epoch, pending),
        (known.lives, known.acked, known.end, known.end_seq, known.epoch, known.pending)
    );
    assert_eq!((&state.lanes[0], &state.lanes[2]), (&LaneState::default(), &LaneState::default()));

    for n in 10..15 {
        write(&mut queue, Lane::Normal, n * 3, 2, 1);
    }
    let expected = queue.lane(Lane::Normal).clone();
    drop(queue);
    disk.crash();
    let (mut queue, repairs) = open(&disk, Some(state));
    let found = queue.lane(Lane::Normal);
    assert_eq!(repairs, []);
    assert_eq!((&found.lives, found.pending, found.end_seq), (&expected.lives, expected.pending, 45));
    queue.ack(Lane::Normal, u64::MAX).unwrap();
    let life = &queue.lane(Lane::Normal).lives[0];
    assert_eq!((life.books.end(), life.books.balanced()), (45, true));
    assert_eq!(queue.lane(Lane::Normal).pending, Pending::default());
}

#[test]
fn without_a_reserve_acknowledged_blocks_make_room_on_a_full_disk() {
    let disk = SimDisk::new(8);
    let (mut queue, _) = open(&disk, None);
    assert_eq!(queue.bytes_reserved(), 0);
    disk.set_capacity(Some(disk.files().iter().map(|(_, len)| len).sum::<u64>() + 200_000));
    let mut n = 0;
    let refused = loop {
        let (header, bytes) = block(Lane::Normal, n * 3, 2, 1);
        match queue.write(Lane::Normal, [(&header, &bytes)]) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::Log(LogError::Full { .. })), "{refused:?}");
    queue.disk_full(1);
    queue.observe(2);
    assert_eq!((queue.admission(Lane::Normal), queue.is_disk_full()), (Admission::Block, true));
    queue.ack(Lane::Normal, n / 2).unwrap();
    assert!(queue.wants_reclaim());
    let state = queue.state();
    queue.reclaim(&state).unwrap();
    queue.observe(3);
    assert_eq!(
        (queue.admission(Lane::Normal), queue.is_disk_full(), queue.bytes_reserved()),
        (Admission::Take, false, 0)
    );
    write(&mut queue, Lane::Normal, n * 3, 2, 1);
    assert_eq!(read_all(&queue.reader(), Lane::Normal).len() as u64, n - n / 2 + 1);
}

#[test]
fn the_limit_is_in_bytes() {
    let disk = SimDisk::new(4);
    let (mut queue, _) = open(&disk, None);
    let mut n = 0;
    while !queue.is_full() {
        write(&mut queue, Lane::Bulk, n, 1, 0);
        n += 1;
    }
    assert!(queue.bytes_pending() >= 1 << 20);
    queue.ack(Lane::Bulk, n / 2).unwrap();
    assert!(!queue.is_full());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is appended, acknowledged, checkpointed and crashed: a lane
    /// never has a gap, and pending + settled is what was committed.
    #[test]
    fn crashes_keep_the_lane_whole(seed: u64, steps in prop::collection::vec(0_u8..6, 1..60)) {
        let disk = SimDisk::new(seed);
        let (mut queue, _) = open(&disk, None);
        let mut saved = queue.state();
        let mut next = 0;
        for step in steps {
            match step {
                0..=2 => {
                    write(&mut queue, Lane::Bulk, next, 2, 1);
                    next += 3;
                }
                3 | 4 => {
                    let end = queue.lane(Lane::Bulk).end;
                    let acked = queue.lane(Lane::Bulk).acked;
                    queue.ack(Lane::Bulk, acked + (end - acked) / 2).unwrap();
                    if step == 4 {
                        saved = queue.state();
                        queue.reclaim(&saved).unwrap();
                    }
                }
                _ => {
                    drop(queue);
                    disk.crash();
                    queue = open(&disk, Some(saved.clone())).0;
                    prop_assert_eq!(queue.lane(Lane::Bulk).end_seq, next);
                }
            }
        }
        let state = queue.lane(Lane::Bulk);
        let settled = state.lives.first().map_or(0, |l| l.books.end());
        prop_assert_eq!(settled + state.pending.tally.total(), next);
    }
}
