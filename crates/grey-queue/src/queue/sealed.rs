//! Sealed outboxes: every stratum, over crashes and changes of keys.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::{Disk, SimDisk, read_file};
use grey_log::LogError;
use grey_model::{BlockHeader, Compression, Epoch, Lane, SiteId, Stamp};
use grey_seal::{Algorithm, Keyring, MasterKey};

use super::*;
use crate::fold::FoldJob;

const DIR: &str = "outbox";

fn key(n: u8) -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|i| n ^ i as u8))
}

fn config(keys: &[u8]) -> QueueConfig {
    let keyring = Keyring::new(keys.iter().map(|n| key(*n)).collect()).unwrap();
    let seal = Seal::new(Arc::new(keyring), Algorithm::auto(), "test");
    QueueConfig { bytes_max: 1 << 20, segment_bytes_max: 4096, seal: Some(seal), ..plain() }
}

fn plain() -> QueueConfig {
    QueueConfig { reserve_bytes: 0, ..QueueConfig::default() }
}

fn open(disk: &SimDisk, config: &QueueConfig, state: Option<QueueState>) -> Result<Queue, QueueError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let site = SiteId::new("s").unwrap();
    Queue::open(&disk, Path::new(DIR), site, config.clone(), state).map(|(queue, repairs)| {
        assert_eq!(repairs, []);
        queue
    })
}

fn write(queue: &mut Queue, blocks: u64) {
    for _ in 0..blocks {
        let first_seq = queue.lane(Lane::Bulk).end_seq;
        let site = SiteId::new("s").unwrap();
        let mut builder = grey_codec::BlockBuilder::new(site, Epoch(1), Lane::Bulk, Compression::Lz4, first_seq);
        for n in first_seq..first_seq + 40 {
            let value = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as f64;
            builder.push(&grey_model::Event::reading("press-4", "plain-to-see", value, n as i64 * 1_000)).unwrap();
        }
        let block = builder.finish(Stamp::at_unix_ms(1), 0).unwrap();
        let header = BlockHeader::parse(&block).unwrap().header;
        queue.write(Lane::Bulk, [(&header, &block)]).unwrap();
    }
}

/// Folds the oldest positions of the bulk lane into a stratum, whatever the level is.
fn fold(queue: &mut Queue, target: Stratum, positions: std::ops::Range<u64>) {
    let job = FoldJob {
        reader: queue.reader(),
        edges: queue.edges(Lane::Bulk),
        lane: Lane::Bulk,
        target,
        generation: queue.lanes[Lane::Bulk.index()].generation,
        positions,
        given: lease::lock(&queue.doubt).given(Lane::Bulk).clone(),
        read_bytes_max: 1 << 20,
    };
    assert!(!queue.apply(job.run()).unwrap().discarded);
}

fn blocks(queue: &Queue) -> Vec<Bytes> {
    let (reader, mut from, mut found) = (queue.reader(), 0, Vec::new());
    while let Some((at, block)) = reader.next(Lane::Bulk, from).unwrap() {
        found.push(block);
        from = at + 1;
    }
    found
}

fn contents(disk: &SimDisk) -> Vec<(String, Bytes)> {
    let files = disk.files().into_iter();
    files.map(|(path, len)| (path.clone(), read_file(disk, Path::new(&path), len + 1).unwrap().into())).collect()
}

fn shows(disk: &SimDisk, text: &str) -> bool {
    contents(disk).iter().any(|(_, bytes)| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// One of each: dropped, rolled, thinned, packed and fresh blocks, in this order.
fn all_strata(disk: &SimDisk, config: &QueueConfig) -> Queue {
    let mut queue = open(disk, config, None).unwrap();
    write(&mut queue, 100);
    for (target, positions) in [Stratum::Dropped, Stratum::Rolled, Stratum::Thinned, Stratum::Packed].into_iter().zip([
        0..20,
        20..40,
        40..60,
        60..80,
    ]) {
        fold(&mut queue, target, positions);
    }
    queue
}

#[test]
fn every_stratum_is_sealed_and_opens_again_with_its_key_alone() {
    let disk = SimDisk::new(1);
    let queue = all_strata(&disk, &config(&[1]));
    for (stratum, log) in Stratum::FOLDED.iter().zip(&queue.lanes[Lane::Bulk.index()].layers) {
        let log = log.as_ref().unwrap();
        assert!(log.durable_end() > log.first_index(), "{stratum}");
        assert_eq!(log.keys_in_use().into_keys().collect::<Vec<_>>(), [key(1).id()], "{stratum}");
    }
    assert_eq!(queue.keys_in_use().into_keys().collect::<Vec<_>>(), [key(1).id()]);
    let (before, state, strata) = (blocks(&queue), queue.state(), queue.strata());
    assert!(!shows(&disk, "plain-to-see"));
    drop(queue);
    disk.crash();

    let evidence = contents(&disk);
    for wrong in [config(&[2]), plain()] {
        let error = open(&disk, &wrong, Some(state.clone())).unwrap_err();
        let QueueError::Log(LogError::KeyMissing { key_id, .. }) = error else { panic!("{error:?}") };
        assert_eq!(key_id, key(1).id());
        assert_eq!(contents(&disk), evidence, "nothing is changed, and nothing quarantined");
    }
    for state in [Some(state), None] {
        let queue = open(&disk, &config(&[1]), state).unwrap();
        assert_eq!((blocks(&queue), queue.strata()), (before.clone(), strata.clone()));
    }

    // What the test looks for would show.
    let disk = SimDisk::new(2);
    let queue = all_strata(&disk, &QueueConfig { seal: None, ..config(&[1]) });
    assert!(shows(&disk, "plain-to-see") && queue.keys_in_use().is_empty());
}

#[test]
fn after_a_change_of_keys_old_blocks_open_and_new_ones_have_the_new_key() {
    let disk = SimDisk::new(3);
    let queue = all_strata(&disk, &config(&[1]));
    let (before, state) = (blocks(&queue), queue.state());
    drop(queue);
    let mut queue = open(&disk, &config(&[2, 1]), Some(state)).unwrap();
    write(&mut queue, 20);
    fold(&mut queue, Stratum::Packed, 80..90);
    let ids = |queue: &Queue| queue.keys_in_use().into_keys().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&queue), [key(1).id(), key(2).id()].into());
    assert_eq!(blocks(&queue)[..3], before[..3]);
    let layers = &queue.lanes[Lane::Bulk.index()].layers;
    let packed = layers[Stratum::Packed.index()].as_ref().unwrap();
    assert!(packed.keys_in_use().contains_key(&key(2).id()), "a stratum goes on with the new key");

    queue.ack(Lane::Bulk, 119).unwrap();
    let state = queue.state();
    queue.reclaim(&state).unwrap();
    drop(queue);
    let mut queue = open(&disk, &config(&[2, 1]), Some(state)).unwrap();
    write(&mut queue, 1);
    queue.ack(Lane::Bulk, 120).unwrap();
    let state = queue.state();
    queue.reclaim(&state).unwrap();
    assert_eq!(queue.lane(Lane::Bulk).pending.blocks, 1);
    assert_eq!(blocks(&queue).len(), 1);
}
