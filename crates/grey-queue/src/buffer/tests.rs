//! The promises of a buffer.

use std::sync::Arc;

use grey_disk::SimDisk;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

const SMALL: BufferConfig = BufferConfig {
    max_bytes: 1 << 30,
    on_full: [OnFull::Block; 3],
    segment_bytes: 4 << 10,
    codec: Codec::Plain,
    keys: None,
};

fn open(disk: &SimDisk, config: &BufferConfig) -> Buffer {
    Buffer::open_on(Arc::new(disk.clone()), config.clone()).unwrap()
}

/// Bytes that do not compress, different for each `n`.
fn noise(n: u64, len: usize) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Lane and sequence of every item that a whole peek gives.
fn rest(buffer: &mut Buffer) -> Vec<(Lane, Seq, Vec<u8>)> {
    let batch = buffer.peek(Budget { bytes: usize::MAX, items: usize::MAX }).unwrap();
    batch.items().map(|item| (item.lane(), item.seq(), item.bytes().unwrap().to_vec())).collect()
}

#[test]
fn what_is_committed_is_read_in_order_and_only_that() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &SMALL);
    for n in 0..100_u64 {
        assert_eq!(buffer.append(Lane::Normal, &noise(n, 200)).unwrap(), n);
    }
    assert!(buffer.peek(Budget::default()).unwrap().is_empty());
    assert_eq!(buffer.commit().unwrap().of(Lane::Normal), 100);
    buffer.append(Lane::Normal, b"later").unwrap();
    let expected: Vec<_> = (0..100).map(|n| (Lane::Normal, n, noise(n, 200))).collect();
    assert_eq!(rest(&mut buffer), expected);
    assert_eq!(rest(&mut buffer), []);
    buffer.rewind();
    assert_eq!(rest(&mut buffer), expected);
    assert_eq!((buffer.pending().items(), buffer.pending().of(Lane::Normal).items), (100, 100));
}

#[test]
fn a_budget_is_kept_and_peeks_go_on() {
    let mut buffer = open(&SimDisk::new(1), &SMALL);
    (0..1_000).for_each(|n| {
        buffer.append(Lane::Bulk, &noise(n, 100)).unwrap();
    });
    buffer.commit().unwrap();
    let mut next = 0;
    for budget in [
        Budget { bytes: 1_000, items: usize::MAX },
        Budget { bytes: usize::MAX, items: 7 },
        Budget { bytes: 1, items: 9 },
        Budget { bytes: 50_000, items: 900 },
    ] {
        let batch = buffer.peek(budget).unwrap();
        assert!(batch.len() <= budget.items && (batch.bytes() <= budget.bytes || batch.len() == 1), "{budget:?}");
        assert!(!batch.is_empty());
        batch.items().for_each(|item| {
            assert_eq!((item.seq(), item.bytes().unwrap()), (next, noise(next, 100).as_slice()));
            next += 1;
        });
    }
    assert!(next > 500);
    let batch = buffer.peek(Budget { bytes: usize::MAX, items: usize::MAX }).unwrap();
    assert_eq!(next + batch.len() as u64, 1_000);
}

#[test]
fn payloads_cost_less_than_four_bytes_each() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &BufferConfig::default());
    for n in 0..10_000 {
        buffer.append(Lane::Normal, &noise(n, 200)).unwrap();
        if n % 1_000 == 999 {
            buffer.commit().unwrap();
        }
    }
    let over = buffer.pending().bytes() - 10_000 * 200;
    assert!(over < 10_000 * 4, "{over}");
    assert!(buffer.bytes_used() < 10_000 * 204 + 2_000, "{}", buffer.bytes_used());
}

#[test]
fn critical_comes_first_and_the_others_share_four_to_one() {
    let mut buffer = open(&SimDisk::new(1), &BufferConfig::default());
    for n in 0..20_000 {
        buffer.append(Lane::Normal, &noise(n, 300)).unwrap();
        buffer.append(Lane::Bulk, &noise(n, 200)).unwrap();
    }
    (0..10).for_each(|n| {
        buffer.append(Lane::Critical, &noise(n, 50)).unwrap();
    });
    buffer.commit().unwrap();
    let mut bytes = [0_usize; 3];
    let mut first = None;
    for _ in 0..100 {
        let batch = buffer.peek(Budget { bytes: 30_000, items: usize::MAX }).unwrap();
        first.get_or_insert(batch.items().next().unwrap().lane());
        batch.items().for_each(|item| bytes[item.lane().index()] += item.bytes().unwrap().len());
    }
    assert_eq!((first, bytes[0]), (Some(Lane::Critical), 500));
    let share = bytes[1] as f64 / bytes[2] as f64;
    assert!((3.5..4.6).contains(&share), "{bytes:?}");
    // What is left is not held back by the other lane's absence.
    let left = rest(&mut buffer);
    assert_eq!(left.len() + bytes[1] / 300 + bytes[2] / 200, 40_000);
}

#[test]
fn acknowledgements_are_cumulative_and_survive_a_kill() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &SMALL);
    for n in 0..300 {
        buffer.append(Lane::Normal, &noise(n, 100)).unwrap();
        buffer.append(Lane::Bulk, &noise(n, 100)).unwrap();
        if n % 50 == 49 {
            buffer.commit().unwrap();
        }
    }
    let batch = buffer.peek(Budget { bytes: usize::MAX, items: usize::MAX }).unwrap();
    let place = batch.items().find(|item| item.lane() == Lane::Normal && item.seq() == 123).unwrap().place();
    buffer.ack_to(place).unwrap();
    assert_eq!((buffer.pending().of(Lane::Normal).items, buffer.pending().of(Lane::Bulk).items), (176, 300));
    // An older place changes nothing.
    buffer.ack_to(batch.items().next().unwrap().place()).unwrap();
    std::mem::forget(buffer);
    disk.kill();
    let mut buffer = open(&disk, &SMALL);
    assert_eq!((buffer.pending().of(Lane::Normal).items, buffer.pending().of(Lane::Bulk).items), (176, 300));
    let left = rest(&mut buffer);
    assert_eq!(left.iter().find(|(lane, ..)| *lane == Lane::Normal).unwrap(), &(Lane::Normal, 124, noise(124, 100)));
    assert_eq!(left.len(), 476);
}

#[test]
fn acknowledged_space_comes_back_and_sequences_go_on() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &SMALL);
    for round in 0..50_u64 {
        (0..20).for_each(|n| {
            buffer.append(Lane::Normal, &noise(n, 200)).unwrap();
        });
        buffer.commit().unwrap();
        let batch = buffer.peek(Budget::default()).unwrap();
        assert_eq!((batch.len(), batch.items().next().unwrap().seq()), (20, round * 20));
        buffer.ack(&batch).unwrap();
        assert!(buffer.bytes_used() < 20_000, "{}", buffer.bytes_used());
    }
    assert!(buffer.pending().is_empty() && buffer.pending().bytes() == 0);
    buffer.close().unwrap();
    let mut buffer = open(&disk, &SMALL);
    assert_eq!(buffer.append(Lane::Normal, b"next").unwrap(), 1_000);
}

#[test]
fn acknowledged_space_comes_back_at_once_when_room_is_short() {
    let config = BufferConfig { max_bytes: 4 << 20, segment_bytes: 64 << 10, ..SMALL };
    let mut buffer = open(&SimDisk::new(1), &config);
    while buffer.append(Lane::Normal, &noise(1, 50_000)).is_ok() {
        buffer.commit().unwrap();
    }
    let used = buffer.bytes_used();
    let batch = buffer.peek(Budget { bytes: 110_000, items: usize::MAX }).unwrap();
    buffer.ack(&batch).unwrap();
    assert_eq!((batch.len(), buffer.bytes_used()), (2, used), "for this much no file is removed");
    buffer.append(Lane::Normal, &noise(2, 50_000)).unwrap();
    assert!(buffer.bytes_used() <= used);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    device: String,
    value: f64,
}

#[test]
fn each_form_is_read_as_it_was_appended_and_no_other() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &SMALL);
    let reading = Reading { device: "press-1".into(), value: 4.5 };
    let event = Event::reading("press-1", "temperature", 21.5, 1_000);
    for _ in 0..2 {
        buffer.append(Lane::Normal, b"raw").unwrap();
        buffer.append_typed(Lane::Normal, &reading).unwrap();
        buffer.append_event(Lane::Normal, &event).unwrap();
    }
    buffer.commit().unwrap();
    let batch = buffer.peek(Budget::default()).unwrap();
    let items: Vec<Item<'_>> = batch.items().collect();
    assert_eq!(items.iter().map(|item| item.seq()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(items[3].bytes().unwrap(), b"raw");
    assert_eq!(items[4].typed::<Reading>().unwrap(), reading);
    assert_eq!(items[5].event().unwrap(), &event);
    let error = items[0].typed::<Reading>().unwrap_err();
    assert_eq!(error.to_string(), "item 0 of lane normal was appended as raw bytes, not as a typed value");
    assert!(matches!(items[1].bytes(), Err(BufferError::Form { found: Form::Typed, .. })));
    assert!(matches!(items[2].typed::<Reading>(), Err(BufferError::Form { found: Form::Event, .. })));
    assert!(matches!(items[1].typed::<u8>(), Err(BufferError::Typed { seq: 1, .. })));
    assert!(matches!(items[1].event(), Err(BufferError::Form { asked: Form::Event, .. })));
}

#[test]
fn a_full_buffer_waits_or_drops_as_it_was_told() {
    let config = BufferConfig { max_bytes: 100_000, ..SMALL };
    let fill = |config: &BufferConfig, lane: Lane| {
        let mut buffer = open(&SimDisk::new(1), config);
        let mut outcome = Ok(0);
        let mut n = 0;
        while outcome.is_ok() && n < 3_000 {
            outcome = buffer.append(lane, &noise(n, 200));
            n += 1;
            if n % 10 == 0 {
                buffer.commit().unwrap();
                assert!(buffer.bytes_used() < 102_000);
            }
        }
        (buffer, outcome)
    };
    let (mut buffer, outcome) = fill(&config, Lane::Normal);
    assert!(outcome.unwrap_err().is_full());
    assert_eq!(buffer.level(), Level::Emergency);
    buffer.commit().unwrap();
    let held = buffer.pending().items();
    assert!(held > 400, "{held}");
    let batch = buffer.peek(Budget { bytes: 50_000, items: usize::MAX }).unwrap();
    buffer.ack(&batch).unwrap();
    buffer.append(Lane::Normal, b"there is room again").unwrap();

    let (buffer, outcome) = fill(&config.clone().with_on_full(Lane::Normal, OnFull::DropNewest), Lane::Normal);
    assert!(outcome.unwrap_err().is_dropped());
    assert_eq!(buffer.pending().of(Lane::Normal).dropped, 1);

    let (mut buffer, outcome) = fill(&config.with_on_full(Lane::Normal, OnFull::DropOldest), Lane::Normal);
    assert_eq!(outcome.unwrap(), 2_999);
    let waiting = buffer.pending().of(Lane::Normal);
    assert_eq!(waiting.items + waiting.dropped, 3_000);
    assert!(waiting.items > 200, "{waiting:?}");
    let left = rest(&mut buffer);
    assert_eq!((left.len() as u64, &left[0].2), (waiting.items, &noise(waiting.dropped, 200)));
}

#[test]
fn the_least_important_lane_gives_way() {
    let config = BufferConfig { max_bytes: 100_000, ..SMALL }.with_on_full(Lane::Bulk, OnFull::DropOldest);
    let mut buffer = open(&SimDisk::new(1), &config);
    for n in 0..300 {
        buffer.append(Lane::Bulk, &noise(n, 200)).unwrap();
        buffer.commit().unwrap();
    }
    let mut taken = 0;
    while buffer.append(Lane::Critical, &noise(taken, 200)).is_ok() {
        buffer.commit().unwrap();
        taken += 1;
        assert!(taken < 1_000);
    }
    let pending = buffer.pending();
    assert_eq!((pending.of(Lane::Critical).items, pending.of(Lane::Critical).dropped), (taken, 0));
    assert_eq!(pending.of(Lane::Bulk).dropped, 300, "all of it gave way");
    assert!(taken > 200, "{taken}");
}

#[test]
fn a_full_disk_keeps_nothing_and_works_again() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &SMALL);
    buffer.append(Lane::Normal, b"first").unwrap();
    buffer.commit().unwrap();
    disk.set_capacity(Some(10_000));
    (0..100).for_each(|n| {
        buffer.append(Lane::Normal, &noise(n, 200)).unwrap();
    });
    assert!(matches!(buffer.commit(), Err(BufferError::DiskFull { lane: Lane::Normal, .. })));
    disk.set_capacity(None);
    assert_eq!(buffer.append(Lane::Normal, b"second").unwrap(), 1);
    buffer.commit().unwrap();
    let left: Vec<_> = rest(&mut buffer).into_iter().map(|(_, seq, bytes)| (seq, bytes)).collect();
    assert_eq!(left, [(0, b"first".to_vec()), (1, b"second".to_vec())]);
}

#[test]
fn what_the_disk_damaged_is_told_and_the_rest_is_read() {
    let disk = SimDisk::new(1);
    let mut buffer = open(&disk, &SMALL);
    for n in 0..100 {
        buffer.append(Lane::Normal, &noise(n, 200)).unwrap();
        if n % 10 == 9 {
            buffer.commit().unwrap();
        }
    }
    drop(buffer);
    let (path, _) =
        disk.files().into_iter().find(|(path, _)| path.starts_with("normal/") && path.ends_with(".log")).unwrap();
    disk.flip(std::path::Path::new(&path), 500, 3).unwrap();
    let mut buffer = open(&disk, &SMALL);
    let batch = buffer.peek(Budget { bytes: usize::MAX, items: usize::MAX }).unwrap();
    assert_eq!(batch.lost(), [Lost { lane: Lane::Normal, range: 0..10 }]);
    assert_eq!(batch.items().map(|item| item.seq()).collect::<Vec<_>>(), (10..100).collect::<Vec<_>>());
    buffer.ack(&batch).unwrap();
    assert!(buffer.pending().is_empty());
}

#[test]
fn sealed_items_need_their_key() {
    let disk = SimDisk::new(1);
    let keys = |bytes: &[u8]| {
        let keys = bytes.iter().map(|byte| MasterKey::from_bytes([*byte; 32])).collect();
        Arc::new(Keyring::with_seeded_salts(keys, 1).unwrap())
    };
    let sealed = |bytes: &[u8]| SMALL.with_keys(keys(bytes));
    let mut buffer = open(&disk, &sealed(&[1]));
    buffer.append(Lane::Normal, b"a secret that is long enough to be found").unwrap();
    buffer.close().unwrap();
    for (path, len) in disk.files() {
        let bytes = grey_disk::read_file(&disk, std::path::Path::new(&path), len).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"a secret"), "{path}");
    }
    let refused = Buffer::open_on(Arc::new(disk.clone()), sealed(&[2]));
    assert!(matches!(refused, Err(BufferError::Log(grey_log::LogError::KeyMissing { .. }))), "{refused:?}");
    let mut buffer = open(&disk, &sealed(&[2, 1]));
    assert_eq!(buffer.append(Lane::Normal, b"with the new key").unwrap(), 1);
    buffer.commit().unwrap();
    let left: Vec<_> = rest(&mut buffer).into_iter().map(|(.., bytes)| bytes).collect();
    assert_eq!(left, [b"a secret that is long enough to be found".to_vec(), b"with the new key".to_vec()]);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Lane, usize),
    Commit,
    Peek(usize),
    Ack,
    AckPart(usize),
    SyncAcks,
    Rewind,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop::sample::select(Lane::ALL.to_vec());
    prop_oneof![
        6 => (lane, prop_oneof![0..300_usize, 3_000..9_000_usize]).prop_map(|(lane, len)| Step::Append(lane, len)),
        3 => Just(Step::Commit),
        2 => (1..20_000_usize).prop_map(Step::Peek),
        2 => Just(Step::Ack),
        1 => (0..20_usize).prop_map(Step::AckPart),
        1 => Just(Step::SyncAcks),
        1 => Just(Step::Rewind),
        1 => Just(Step::Reopen),
    ]
}

/// What must be true of each lane.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    appended: u64,
    committed: u64,
    acked: u64,
    acks_synced: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// A power loss at any change of the disk: nothing committed is lost or out of order, and
    /// only what was not acknowledged durably comes again.
    #[test]
    fn nothing_committed_is_lost_at_a_crash(
        steps in prop::collection::vec(step(), 1..60), seed: u64, off_after in 1..400_u64, is_kill: bool,
    ) {
        let disk = SimDisk::new(seed);
        let mut known = [Known::default(); 3];
        let mut buffer = Some(open(&disk, &SMALL));
        disk.power_off_after(if is_kill { u64::MAX } else { off_after });
        let mut batch = Batch::default();
        let content = |lane: Lane, seq: u64, len: usize| noise(seq * 3 + lane as u64, len);
        let mut lens = [const { Vec::<usize>::new() }; 3];
        for step in steps {
            let Some(open_buffer) = buffer.as_mut() else { break };
            let outcome = match step {
                Step::Append(lane, len) => {
                    let known = &mut known[lane.index()];
                    open_buffer.append(lane, &content(lane, known.appended, len)).map(|seq| {
                        assert_eq!(seq, known.appended);
                        lens[lane.index()].push(len);
                        known.appended += 1;
                    })
                }
                Step::Commit => open_buffer.commit().map(|ends| {
                    for lane in Lane::ALL {
                        assert_eq!(ends.of(lane), known[lane.index()].appended);
                        known[lane.index()].committed = ends.of(lane);
                    }
                }),
                Step::Peek(bytes) => open_buffer.peek(Budget { bytes, items: usize::MAX }).map(|found| batch = found),
                Step::Ack => {
                    batch.places().for_each(|place| {
                        let known = &mut known[place.lane().index()];
                        known.acked = known.acked.max(place.end());
                    });
                    open_buffer.ack(&batch)
                }
                Step::AckPart(at) => match batch.items().nth(at) {
                    Some(item) => {
                        let known = &mut known[item.lane().index()];
                        known.acked = known.acked.max(item.seq() + 1);
                        open_buffer.ack_to(item.place())
                    }
                    None => Ok(()),
                },
                Step::SyncAcks => open_buffer.sync_acks().map(|()| known.iter_mut().for_each(|lane| lane.acks_synced = lane.acked)),
                Step::Rewind => {
                    open_buffer.rewind();
                    Ok(())
                }
                Step::Reopen => {
                    let closed = buffer.take().unwrap().close();
                    closed.and_then(|()| {
                        known.iter_mut().for_each(|lane| {
                            lane.committed = lane.appended;
                            lane.acks_synced = lane.acked;
                        });
                        buffer = Some(Buffer::open_on(Arc::new(disk.clone()), SMALL)?);
                        Ok(())
                    })
                }
            };
            if outcome.is_err() {
                prop_assert!(disk.is_off(), "{:?}", outcome);
                break;
            }
        }
        // Its last words are part of the crash, too.
        std::mem::forget(buffer);
        if is_kill { disk.kill() } else { disk.crash() }
        let mut buffer = open(&disk, &SMALL);
        let found = rest(&mut buffer);
        for lane in Lane::ALL {
            let Known { committed, acked, acks_synced, appended } = known[lane.index()];
            let seqs: Vec<u64> = found.iter().filter(|(of, ..)| *of == lane).map(|(_, seq, _)| *seq).collect();
            let first = seqs.first().copied().unwrap_or(buffer.ends().of(lane));
            prop_assert!(first >= if is_kill { acked } else { acks_synced } && first <= acked, "{lane}: {first} {:?}", known);
            prop_assert!(seqs.iter().copied().eq(first..buffer.ends().of(lane)), "{lane}: {seqs:?}");
            prop_assert!((committed..=appended).contains(&buffer.ends().of(lane)), "{lane}: {:?}", known);
            for (_, seq, bytes) in found.iter().filter(|(of, ..)| *of == lane) {
                prop_assert_eq!(bytes, &content(lane, *seq, lens[lane.index()][*seq as usize]));
            }
        }
    }
}

#[cfg(feature = "async")]
mod asynchronous {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn many_tasks_append_and_one_drains_with_failures() {
        let disk = SimDisk::new(1);
        let shared = AsyncBuffer::spawn(open(&disk, &SMALL)).unwrap();
        let seen = block_on(async {
            let producers: Vec<_> = (0..8_u64)
                .map(|task| {
                    let buffer = shared.clone();
                    tokio::spawn(async move {
                        for n in 0..200 {
                            buffer.append(Lane::Normal, noise(task * 1_000 + n, 64)).await.unwrap();
                        }
                    })
                })
                .collect();
            let mut seen = Vec::new();
            let mut attempts = 0;
            while seen.len() < 1_600 {
                let batch = shared.peek(Budget { bytes: 4_000, items: usize::MAX }).await.unwrap();
                attempts += 1;
                if attempts % 3 == 0 {
                    // The sink failed: what is not acknowledged comes again.
                    shared.rewind().await.unwrap();
                    continue;
                }
                seen.extend(batch.items().map(|item| item.seq()));
                shared.ack(&batch).await.unwrap();
            }
            for producer in producers {
                producer.await.unwrap();
            }
            seen
        });
        assert!(seen.into_iter().eq(0..1_600));
        block_on(async {
            assert!(shared.pending().await.unwrap().is_empty());
            shared.close().await.unwrap();
            assert!(matches!(shared.append(Lane::Normal, &b"late"[..]).await, Err(BufferError::Closed)));
        });
        assert!(open(&disk, &SMALL).pending().is_empty());
        assert!(disk.operations().syncs < 1_600, "commits are shared: {:?}", disk.operations());
    }

    #[test]
    fn a_full_buffer_holds_appends_up_until_something_is_acknowledged() {
        let config = BufferConfig { max_bytes: 40_000, ..SMALL };
        let shared = AsyncBuffer::spawn(open(&SimDisk::new(1), &config)).unwrap();
        block_on(async {
            let buffer = shared.clone();
            let producer = tokio::spawn(async move {
                for n in 0..2_000_u64 {
                    assert_eq!(buffer.append(Lane::Normal, noise(n, 100)).await.unwrap(), n);
                }
            });
            let mut seen = 0;
            while seen < 2_000 {
                let batch = shared.peek(Budget { bytes: 10_000, items: usize::MAX }).await.unwrap();
                seen += batch.len();
                shared.ack(&batch).await.unwrap();
            }
            producer.await.unwrap();
            assert_eq!(shared.pending().await.unwrap().of(Lane::Normal).dropped, 0);
        });
    }
}
