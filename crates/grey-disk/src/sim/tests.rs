//! The simulated disk: what it loses, tears and flips, and what it must not.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{read_file, write_file_atomic};

const LIMIT: u64 = 1 << 20;

fn file(disk: &SimDisk, name: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = disk.open(Path::new(name), OpenMode::CreateNew).expect("create");
    file.write_at(bytes, 0).expect("write");
    file
}

fn durable_file(disk: &SimDisk, name: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = file(disk, name, bytes);
    file.sync().expect("sync");
    disk.sync_dir(Path::new("")).expect("sync directory");
    file
}

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    match read_file(disk, Path::new(name), LIMIT) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            None
        }
    }
}

#[test]
fn synced_bytes_survive_and_unsynced_sectors_may_not() {
    let mut images = BTreeSet::new();
    for seed in 0..64 {
        let disk = SimDisk::new(seed);
        let file = durable_file(&disk, "f", &[1; 2 * SECTOR_TEST]);
        file.write_at(&[2; 2 * SECTOR_TEST], 0).expect("overwrite");
        disk.crash();
        let bytes = read(&disk, "f").expect("the file is durable");
        assert_eq!(bytes.len(), 2 * SECTOR_TEST);
        for sector in bytes.chunks(SECTOR_TEST) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is atomic");
        }
        images.insert((bytes[0], bytes[SECTOR_TEST]));
    }
    assert_eq!(images, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]), "all four outcomes occur");
}

const SECTOR_TEST: usize = super::inode::SECTOR;

#[test]
fn an_unsynced_append_survives_in_part() {
    let mut lengths = BTreeSet::new();
    let mut saw_hole = false;
    for seed in 0..256 {
        let disk = SimDisk::new(seed);
        let file = durable_file(&disk, "f", &[1; 100]);
        file.write_at(&[2; 3 * SECTOR_TEST], 100).expect("append");
        disk.crash();
        let bytes = read(&disk, "f").expect("durable");
        assert!(bytes[..100].iter().all(|byte| *byte == 1), "synced bytes survive, seed {seed}");
        saw_hole |= bytes.windows(2).any(|pair| pair == [0, 2]);
        lengths.insert(bytes.len());
    }
    assert!(saw_hole, "a later sector may survive an earlier one");
    assert!(lengths.contains(&100) && lengths.contains(&(100 + 3 * SECTOR_TEST)) && lengths.len() > 2);
}

#[test]
fn an_unsynced_cut_may_be_undone_but_loses_nothing_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..64 {
        let disk = SimDisk::new(seed);
        let file = durable_file(&disk, "f", &[7; 3 * SECTOR_TEST]);
        file.set_len(10).expect("cut");
        disk.crash();
        let bytes = read(&disk, "f").expect("durable");
        outcomes.insert(bytes.len());
        if bytes.len() > 10 {
            assert!(bytes[SECTOR_TEST..].iter().all(|byte| *byte == 7));
        }
    }
    assert_eq!(outcomes, BTreeSet::from([10, 3 * SECTOR_TEST]));
}

#[test]
fn names_are_lost_until_the_directory_is_synced() {
    let (mut created, mut renamed, mut removed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for seed in 0..64 {
        let disk = SimDisk::new(seed);
        durable_file(&disk, "old", b"old");
        durable_file(&disk, "gone", b"gone");
        file(&disk, "new", b"new").sync().expect("sync");
        disk.rename(Path::new("old"), Path::new("moved")).expect("rename");
        disk.remove_file(Path::new("gone")).expect("remove");
        disk.crash();
        created.insert(read(&disk, "new").is_some());
        removed.insert(read(&disk, "gone").is_none());
        let (old, moved) = (read(&disk, "old").is_some(), read(&disk, "moved").is_some());
        assert!(old != moved, "a rename is atomic");
        renamed.insert(moved);
    }
    for outcome in [created, renamed, removed] {
        assert_eq!(outcome.len(), 2, "both outcomes occur");
    }
    let disk = SimDisk::new(3);
    file(&disk, "new", b"new").sync().expect("sync");
    disk.sync_dir(Path::new("")).expect("sync directory");
    disk.crash();
    assert_eq!(read(&disk, "new").as_deref(), Some(&b"new"[..]));
}

#[test]
fn handles_die_with_a_crash() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "f", b"x");
    disk.crash();
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.write_at(b"y", 0).is_err());
    assert!(file.sync().is_err());
    assert_eq!(read(&disk, "f").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let disk = SimDisk::new(1);
    let file = file(&disk, "f", b"unsynced");
    disk.kill();
    assert!(file.sync().is_err(), "its handles are gone");
    assert_eq!(read(&disk, "f").as_deref(), Some(&b"unsynced"[..]));
}

#[test]
fn a_full_disk_takes_a_part_and_recovers() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(1_000));
    let first = file(&disk, "f", &[1; 900]);
    assert_eq!(disk.available_bytes().expect("space"), 100);
    let second = disk.open(Path::new("g"), OpenMode::CreateNew).expect("create");
    let error = second.write_at(&[2; 200], 0).expect_err("full");
    assert!(crate::is_full(&error));
    assert_eq!(second.len().expect("length"), 100, "a part was written");
    second.set_len(0).expect("cut");
    first.write_at(&[3; 900], 0).expect("overwriting needs no space");
    disk.remove_file(Path::new("f")).expect("remove");
    second.write_at(&[2; 1_000], 0).expect("the space is back");
    assert_eq!(disk.faults().writes_without_space, 1);
}

#[test]
fn a_failed_sync_marks_lost_bytes_clean() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..32 {
        let disk = SimDisk::new(seed);
        let file = durable_file(&disk, "f", b"one");
        file.write_at(b"two", 0).expect("write");
        disk.fail_next_sync(1);
        assert!(file.sync().is_err());
        file.sync().expect("the next sync claims success");
        assert_eq!(read(&disk, "f").as_deref(), Some(&b"two"[..]), "the cache still shows it");
        let rewritten = disk.fork(seed);
        disk.crash();
        outcomes.insert(read(&disk, "f").expect("durable"));
        let file = rewritten.open(Path::new("f"), OpenMode::ReadWrite).expect("open");
        file.write_at(b"two", 0).expect("write again");
        file.sync().expect("sync");
        rewritten.crash();
        assert_eq!(read(&rewritten, "f").as_deref(), Some(&b"two"[..]), "writing again helps");
    }
    assert_eq!(outcomes, BTreeSet::from([b"one".to_vec(), b"two".to_vec()]));
}

#[test]
fn a_lying_disk_loses_what_it_said_was_synced() {
    let lost = (0..16).any(|seed| {
        let disk = SimDisk::new(seed);
        disk.forget_sync(true);
        durable_file(&disk, "f", b"x");
        disk.crash();
        assert_eq!(disk.faults().syncs_forgotten, 2);
        read(&disk, "f").is_none_or(|bytes| bytes != b"x")
    });
    assert!(lost);
}

#[test]
fn power_goes_after_the_planned_change() {
    let disk = SimDisk::new(1);
    disk.power_off_after(4);
    durable_file(&disk, "f", b"x").sync().expect_err("off");
    assert!(disk.is_off());
    assert!(disk.open(Path::new("f"), OpenMode::CreateNew).is_err());
    disk.crash();
    assert!(!disk.is_off());
    disk.open(Path::new("g"), OpenMode::CreateNew).expect("on again");
}

#[test]
fn damage_is_durable_and_counted() {
    let disk = SimDisk::new(1);
    durable_file(&disk, "f", &[0xff; 10]);
    disk.flip(Path::new("f"), 1, 0).expect("flip");
    disk.zero(Path::new("f"), 2, 2).expect("zero");
    disk.truncate(Path::new("f"), 5).expect("truncate");
    assert!(disk.flip(Path::new("f"), 5, 0).is_err());
    disk.crash();
    assert_eq!(read(&disk, "f").as_deref(), Some(&[0xff, 0xfe, 0, 0, 0xff][..]));
    disk.lose(Path::new("f")).expect("lose");
    disk.crash();
    assert!(read(&disk, "f").is_none());
    let faults = disk.faults();
    assert_eq!((faults.flips, faults.zeroed, faults.truncations, faults.files_lost), (1, 1, 1, 1));
}

#[test]
fn spoiled_sectors_cannot_be_read_until_written() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "f", &[5; 4 * SECTOR_TEST]);
    disk.spoil(Path::new("f"), SECTOR_TEST as u64 + 10, 1).expect("spoil");
    let mut buffer = [0; SECTOR_TEST];
    for (sector, is_readable) in [true, false, true, true].into_iter().enumerate() {
        assert_eq!(file.read_at(&mut buffer, (sector * SECTOR_TEST) as u64).is_ok(), is_readable);
    }
    assert!(read_file(&disk, Path::new("f"), LIMIT).is_err());
    disk.crash();
    let file = disk.open(Path::new("f"), OpenMode::ReadWrite).expect("open");
    assert!(file.read_at(&mut buffer, SECTOR_TEST as u64).is_err(), "a crash heals nothing");
    file.write_at(&[6; SECTOR_TEST], SECTOR_TEST as u64).expect("write");
    assert_eq!(file.read_at(&mut buffer, SECTOR_TEST as u64).expect("read"), SECTOR_TEST);
    assert_eq!(disk.faults().reads_failed, 3);
}

#[test]
fn atomic_writes_hold_at_every_point() {
    let mut saw = BTreeSet::new();
    for (seed, changes) in (0..400).map(|run| (run, run % 10)) {
        let disk = SimDisk::new(seed);
        write_file_atomic(&disk, Path::new("f"), &[1; 700]).expect("first");
        disk.power_off_after(changes);
        let outcome = write_file_atomic(&disk, Path::new("f"), &[2; 1_400]);
        disk.crash();
        let bytes = read(&disk, "f").expect("one of the two");
        assert!(bytes == [1; 700] || bytes == [2; 1_400], "seed {seed}, {changes} changes");
        if outcome.is_ok() {
            assert_eq!(bytes, [2; 1_400]);
        }
        saw.insert((outcome.is_ok(), bytes[0]));
    }
    assert_eq!(saw, BTreeSet::from([(false, 1), (false, 2), (true, 2)]));
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, usize, u8),
    SetLen(usize),
    Sync,
    FailSync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..4_000, 0_usize..1_500, any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, len, byte)),
        1 => (0_usize..4_000).prop_map(Step::SetLen),
        1 => Just(Step::Sync),
        1 => Just(Step::FailSync),
    ];
    proptest::collection::vec(step, 0..24)
}

proptest! {
    /// Against a model that keeps every version of every byte since it was last surely stored.
    #[test]
    fn every_surviving_byte_was_written_and_every_synced_one_survives(seed: u64, steps in steps()) {
        let disk = SimDisk::new(seed);
        let file = disk.open(Path::new("f"), OpenMode::CreateNew).expect("create");
        disk.sync_dir(Path::new("")).expect("sync directory");
        // Per byte: the versions that may be on the platter, the newest last.
        let mut versions: Vec<Vec<u8>> = vec![vec![0]; 8_192];
        let mut dirty = vec![false; 8_192];
        let mut lengths = vec![0_usize];
        for step in steps {
            let len = *lengths.last().expect("never empty");
            match step {
                Step::Write(at, count, byte) => {
                    file.write_at(&vec![byte; count], at as u64).expect("write");
                    if count > 0 {
                        // Writing marks the sectors around it dirty as well.
                        let touched = len.min(at) / SECTOR_TEST * SECTOR_TEST
                            ..(at + count).next_multiple_of(SECTOR_TEST);
                        dirty[touched].fill(true);
                        versions[at..at + count].iter_mut().for_each(|seen| seen.push(byte));
                        lengths.push(len.max(at + count));
                    }
                }
                Step::SetLen(to) => {
                    file.set_len(to as u64).expect("set length");
                    let range = to.min(len) / SECTOR_TEST * SECTOR_TEST..to.max(len).next_multiple_of(SECTOR_TEST);
                    dirty[range].fill(true);
                    versions[to.min(len)..].iter_mut().for_each(|seen| seen.push(0));
                    lengths.push(to);
                }
                Step::Sync => {
                    file.sync().expect("sync");
                    for (seen, dirty) in versions.iter_mut().zip(&mut dirty) {
                        if std::mem::take(dirty) {
                            *seen = seen.split_off(seen.len() - 1);
                        }
                    }
                    lengths = lengths.split_off(lengths.len() - 1);
                }
                Step::FailSync => {
                    disk.fail_next_sync(1);
                    prop_assert!(file.sync().is_err());
                    dirty.fill(false);
                }
            }
        }
        disk.crash();
        let bytes = read_file(&disk, Path::new("f"), LIMIT).expect("durable");
        let (shortest, longest) = (lengths.iter().min().expect("some"), lengths.iter().max().expect("some"));
        prop_assert!((shortest..=longest).contains(&&bytes.len()), "{} in {lengths:?}", bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            prop_assert!(versions[at].contains(byte) || *byte == 0 && lengths.len() > 1, "byte {at}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_disk(seed: u64, steps in steps()) {
        let run = || {
            let disk = SimDisk::new(seed);
            let file = durable_file(&disk, "f", b"start");
            for step in &steps {
                match step {
                    Step::Write(at, count, byte) => file.write_at(&vec![*byte; *count], *at as u64).expect("write"),
                    Step::SetLen(to) => file.set_len(*to as u64).expect("set length"),
                    Step::Sync | Step::FailSync => file.sync().expect("sync"),
                }
            }
            let fork = disk.fork(seed);
            disk.crash();
            (read(&disk, "f"), disk.faults(), fork.files())
        };
        prop_assert_eq!(run(), run());
    }
}
