//! Sealed logs whose keys change, are missing, or are not what sealed the records.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use grey_disk::{Disk, OpenMode, SimDisk, read_file};
use grey_log::{Checkpoints, Log, LogError, Reason, Recovery, Sealing, inspect};
use grey_seal::{HEAD_BYTES, KeyId, OVERHEAD_BYTES, Seal};

use super::keys::{key, keyring, seal};
use super::plain::{append, assert_holds, exists, fill, payload, scan_all, segments, small};

/// A seal with these keys, the first one current; salts differ from opening to opening.
fn keys(keys: &[u8], salts: u64) -> Option<Seal> {
    (!keys.is_empty()).then(|| seal(keyring(keys, salts), "outbox/bulk"))
}

fn try_open(disk: &SimDisk, seal: Option<&Seal>) -> Result<(Log, Recovery), LogError> {
    Log::open_sealed(Arc::new(disk.clone()), Path::new("log"), small(), seal)
}

fn open(disk: &SimDisk, seal: Option<Seal>) -> Log {
    let (log, recovery) = try_open(disk, seal.as_ref()).expect("the log opens");
    assert_eq!(recovery.damaged, []);
    log
}

fn bytes(disk: &SimDisk, path: &str) -> Vec<u8> {
    read_file(disk, Path::new(path), 1 << 20).expect("read")
}

fn image(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    disk.files().into_iter().map(|(path, _)| (path.clone(), bytes(disk, &path))).collect()
}

fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(path), OpenMode::ReadWrite).expect("open");
    file.set_len(0).expect("cut");
    file.write_at(bytes, 0).expect("write");
}

/// Offset and whole length of each record of a segment.
fn records(file: &[u8]) -> Vec<(usize, usize)> {
    let (mut records, mut at) = (Vec::new(), 64);
    while at + 16 <= file.len() {
        let word = u32::from_le_bytes(file[at + 4..at + 8].try_into().expect("four bytes"));
        let len = 16 + (word & 0x3fff_ffff) as usize;
        if word == 0 {
            break;
        }
        records.push((at, len));
        at += len;
    }
    records
}

/// Makes the checksum of the record at `at` right again.
fn fix_checksum(file: &mut [u8], at: usize, len: usize) {
    let crc = crc32c::crc32c(&file[at + 4..at + len]);
    file[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn each_change_of_the_key_starts_a_segment_and_all_stay_readable() {
    let disk = SimDisk::new(1);
    let mut end = 0;
    let steps: [&[u8]; 6] = [&[], &[1], &[2, 1], &[2, 1], &[3, 2, 1], &[3, 2, 1]];
    for (salts, ring) in steps.into_iter().enumerate() {
        let mut log = open(&disk, keys(ring, salts as u64));
        assert_holds(&log, 0..end);
        fill(&mut log, 7, 3);
        end += 7;
        assert_holds(&log, 0..end);
    }
    let mut log = open(&disk, keys(&[3, 2, 1], 10));
    let in_use = log.keys_in_use();
    assert!([1, 2, 3].iter().all(|n| in_use[&key(*n).id()] >= 1) && in_use.len() == 3, "{in_use:?}");
    assert_eq!(in_use.values().sum::<usize>() + 1, segments(&disk).len(), "and one of plain records");
    fill(&mut log, 100, 5);
    log.trim_front(30).expect("trim");
    assert_eq!(log.keys_in_use().keys().copied().collect::<Vec<_>>(), [key(3).id()], "the old keys may go");
    drop(log);

    let first = open(&disk, keys(&[3], 11)).first_index();
    // Switched off: the key is needed for reading only.
    let reading = Seal::opening(keyring(&[3], 0), "outbox/bulk");
    let mut log = open(&disk, Some(reading));
    fill(&mut log, 5, 5);
    assert_holds(&log, first..end + 105);
    let last = segments(&disk).pop().expect("some").0;
    assert_eq!(bytes(&disk, &last)[8..12], [1, 0, 0, 0], "as without any seal");
}

#[test]
fn an_empty_segment_takes_the_new_key() {
    let disk = SimDisk::new(1);
    let rings: [&[u8]; 4] = [&[1], &[2, 1], &[], &[3]];
    for ring in rings {
        // Each opens with the key of the one before only because nothing was written with it.
        let seal = match ring {
            [] => Some(Seal::opening(keyring(&[2], 0), "outbox/bulk")),
            _ => keys(ring, 7),
        };
        let mut log = open(&disk, seal);
        append(&mut log, 1);
        log.commit().expect("commit");
        log.reset(0).expect("reset");
        assert_eq!(segments(&disk).len(), 1);
    }
    let mut log = open(&disk, keys(&[3], 8));
    fill(&mut log, 9, 2);
    log.truncate_back(0).expect("truncate");
    drop(log);
    let mut log = open(&disk, keys(&[4, 3], 9));
    fill(&mut log, 3, 1);
    assert_eq!(log.keys_in_use().into_iter().collect::<Vec<_>>(), [(key(4).id(), 1)]);
    drop(log);
    assert_holds(&open(&disk, keys(&[4], 10)), 0..3);
}

#[test]
fn a_missing_key_is_named_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, keys(&[1], 1));
    fill(&mut log, 40, 3);
    append(&mut log, 3);
    drop(log.begin_commit().expect("a torn end, to be cut off"));
    disk.kill();
    let before = image(&disk);
    for seal in [None, keys(&[2], 2), keys(&[2, 3], 3)] {
        let error = try_open(&disk, seal.as_ref()).expect_err("no key");
        let LogError::KeyMissing { key_id, path } = &error else { panic!("{error}") };
        assert_eq!(*key_id, key(1).id());
        assert!(segments(&disk).last().is_some_and(|(last, _)| Path::new(last) == path));
        assert!(error.to_string().contains(&key(1).id().to_string()), "{error}");
    }
    assert!(image(&disk) == before);
    assert_holds(&open(&disk, keys(&[2, 1], 4)), 0..43);
}

#[test]
fn a_missing_older_key_is_no_damage() {
    let disk = SimDisk::new(1);
    fill(&mut open(&disk, keys(&[1], 1)), 40, 3);
    fill(&mut open(&disk, keys(&[2, 1], 2)), 40, 3);
    let log = open(&disk, keys(&[2], 3));
    let reader = log.reader();
    for index in [0, 17, 39] {
        for error in [log.read(index).expect_err("no key"), reader.scan(index, 500).expect_err("no key")] {
            assert!(matches!(error, LogError::KeyMissing { key_id, .. } if key_id == key(1).id()), "{error}");
        }
    }
    assert_eq!(reader.scan(40, 1 << 20).expect("scan").len(), 40);
    assert_eq!(reader.damaged(), []);
    assert!(!exists(&disk, "log/quarantine"));
    assert!(log.keys_in_use().contains_key(&key(1).id()));
    drop(log);
    assert_holds(&open(&disk, keys(&[2, 1], 4)), 0..80);
}

#[test]
fn records_that_were_moved_or_made_are_told_from_intact_ones() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, keys(&[1], 1));
    for _ in 0..30 {
        log.append(&[7; 50]).expect("append");
        log.commit().expect("commit");
    }
    drop(log);
    let path = segments(&disk).swap_remove(0).0;
    let good = bytes(&disk, &path);
    let places = records(&good);
    let (at, len) = places[3];

    // The payload of another record, and one that was sealed with nothing.
    let mut moved = good.clone();
    let other = places[5].0;
    moved[at + 16..at + len].copy_from_slice(&good[other + 16..other + len]);
    fix_checksum(&mut moved, at, len);
    let mut plain = good.clone();
    plain[at + 7] &= !0x40;
    fix_checksum(&mut plain, at, len);
    let mut flipped = good;
    flipped[at + len - 1] ^= 1;
    fix_checksum(&mut flipped, at, len);

    for forged in [moved, plain, flipped] {
        let disk = disk.fork(1);
        put(&disk, &path, &forged);
        let log = open(&disk, keys(&[1], 2));
        let reader = log.reader();
        assert_eq!(reader.scan(0, 1 << 20).expect("what is intact comes first").len(), 3);
        for error in [log.read(3).expect_err("forged"), reader.scan(3, 1_000).expect_err("forged")] {
            let LogError::Damaged { lost, offset, reason, .. } = &error else { panic!("{error}") };
            assert_eq!((lost.clone(), *offset, *reason), (3..4, at as u64, Reason::Forged));
            assert!(error.to_string().contains("forged or sealed for another place"));
        }
        assert_eq!(reader.scan(4, 1 << 20).expect("scan").len(), 26);
        assert_eq!(reader.damaged().len(), 1);
        assert_eq!(bytes(&disk, &format!("log/quarantine/{}.at-{at}", &path[4..])), forged[at..at + len]);
    }

    let elsewhere = seal(keyring(&[1], 3), "outbox/normal");
    let log = open(&disk, Some(elsewhere));
    assert!(matches!(log.read(0), Err(LogError::Damaged { reason: Reason::Forged, .. })), "of another log");
}

#[test]
fn a_damaged_header_costs_no_sealed_record() {
    let disk = SimDisk::new(1);
    fill(&mut open(&disk, keys(&[1], 1)), 40, 3);
    fill(&mut open(&disk, keys(&[2, 1], 2)), 10, 3);
    let files = segments(&disk);
    for (path, _) in [&files[0], &files[1], files.last().expect("some")] {
        let disk = disk.fork(1);
        disk.flip(Path::new(path), 55, 1).expect("flip the key's name");
        let (mut log, recovery) = try_open(&disk, keys(&[3, 2, 1], 3).as_ref()).expect("open");
        assert_eq!(recovery.damaged.len(), 1);
        assert_holds(&log, 0..50);
        fill(&mut log, 5, 2);
        assert_holds(&log, 0..55);
        assert_eq!(scan_all(&open_damaged(&disk, &[3, 2, 1]).reader(), 500).0.len(), 55);
    }
    // Without its key it is not given up either: the neighbours tell which one it may be.
    disk.flip(Path::new(&files[1].0), 55, 1).expect("flip");
    let log = open_damaged(&disk, &[2]);
    let first: u64 = files[1].0[4..24].parse().expect("a number");
    assert!(matches!(log.read(first), Err(LogError::KeyMissing { key_id, .. }) if key_id == key(1).id()));
    assert!(!exists(&disk, "log/quarantine"));
}

fn open_damaged(disk: &SimDisk, ring: &[u8]) -> Log {
    try_open(disk, keys(ring, 20).as_ref()).expect("open").0
}

#[test]
fn nothing_readable_reaches_the_disk() {
    let disk = SimDisk::new(1);
    let secret = b"the valve of reactor seven";
    let mut log = open(&disk, keys(&[1], 1));
    let states = Checkpoints::open_sealed(Arc::new(disk.clone()), Path::new("log"), 3, keys(&[1], 2).as_ref());
    let states = states.expect("open");
    for index in 0..50 {
        log.append_parts(&[secret, &payload(index)]).expect("append");
        log.commit().expect("commit");
    }
    states.save(50, &secret.repeat(20)).expect("save");
    disk.flip(Path::new(&segments(&disk)[0].0), 200, 1).expect("flip");
    assert!(log.read(1).is_err(), "evidence is kept");
    let files = image(&disk);
    assert!(files.iter().any(|(path, _)| path.contains("quarantine")));
    for (path, bytes) in files {
        assert!(!bytes.windows(10).any(|window| window == &secret[..10]), "{path}");
    }
}

#[test]
fn no_nonce_comes_twice_whatever_happens_to_the_end() {
    let disk = SimDisk::new(1);
    let ring = keyring(&[1], 1);
    let mut sealed: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut seen = 0;
    for round in 0..60_u64 {
        let mut log = open(&disk, Some(seal(Arc::clone(&ring), "outbox/bulk")));
        fill(&mut log, 3 + round % 4, 2);
        append(&mut log, 2);
        log.truncate_back(log.next_index() - round % 5).expect("truncate");
        log.append(&round.to_le_bytes()).expect("append");
        drop(log.begin_commit().expect("begin"));
        if round % 3 == 0 {
            disk.crash();
        } else {
            disk.kill();
        }
        for (path, _) in segments(&disk) {
            let file = bytes(&disk, &path);
            for (at, len) in records(&file) {
                let Some(record) = file.get(at + 16..at + len).filter(|record| record.len() >= OVERHEAD_BYTES) else {
                    continue;
                };
                let known = sealed.entry(record[..HEAD_BYTES].to_vec()).or_insert_with(|| record.to_vec());
                assert!(known == record, "round {round}: one nonce, two records");
                seen += 1;
            }
        }
    }
    assert!(sealed.len() > 250 && seen > 5_000, "{} {seen}", sealed.len());
}

#[test]
fn power_losses_while_the_keys_change_lose_nothing() {
    let mut losses = 0;
    for seed in 0..600_u64 {
        let disk = SimDisk::new(seed);
        let mut committed = 0;
        let mut off = false;
        for step in 0..6_u8 {
            // Every third time sealing is off.
            let ring: Vec<u8> = (1..=6).map(|n| (n + step) % 6 + 1).collect();
            let seal = match step % 3 {
                2 => Some(Seal::opening(keyring(&ring, seed), "outbox/bulk")),
                _ => keys(&ring, seed * 10 + u64::from(step)),
            };
            if step == 1 {
                disk.power_off_after(seed % 40);
                off = true;
            }
            let Ok((mut log, recovery)) = try_open(&disk, seal.as_ref()) else {
                assert!(off);
                losses += 1;
                off = false;
                disk.crash();
                continue;
            };
            assert_eq!(recovery.damaged, [], "seed {seed}");
            let end = log.durable_end();
            assert!((committed..=committed + 4).contains(&end), "seed {seed}: {end} after {committed}");
            assert_holds(&log, 0..end);
            committed = end;
            let truncates = seed % 4 == 0 && end > 3;
            let is_usable = !truncates || {
                committed = end - 2;
                log.truncate_back(committed).is_ok()
            };
            for _ in (0..seed % 3).filter(|_| is_usable) {
                append(&mut log, 2);
                match log.commit() {
                    Ok(end) => committed = end,
                    Err(_) => break,
                }
            }
            drop(log);
            if disk.is_off() {
                losses += 1;
                off = false;
                disk.crash();
                // What a truncation left in doubt is looked at anew.
                let reading = Seal::opening(keyring(&ring, seed), "outbox/bulk");
                let log = open(&disk, Some(reading));
                assert!(log.durable_end() >= committed);
                committed = log.durable_end();
            }
        }
    }
    assert!(losses > 200, "{losses}");
}

#[test]
fn checkpoints_are_sealed_and_older_keys_open_them() {
    let disk = SimDisk::new(1);
    let states = |ring: &[u8]| {
        let seal = keys(ring, 1);
        Checkpoints::open_sealed(Arc::new(disk.clone()), Path::new("state"), 4, seal.as_ref()).expect("open")
    };
    states(&[]).save(1, b"plain").expect("save");
    states(&[1]).save(2, b"one").expect("save");
    states(&[2, 1]).save(3, b"two").expect("save");
    let both = states(&[3, 2, 1]);
    assert_eq!(both.load_newest(None).expect("load"), Some((3, b"two".to_vec())));
    assert_eq!(both.load_newest(Some(2)).expect("load"), Some((2, b"one".to_vec())));
    assert_eq!(both.load_newest(Some(1)).expect("load"), Some((1, b"plain".to_vec())));

    for ring in [&[][..], &[1]] {
        let error = states(ring).load_newest(None).expect_err("no key");
        assert!(matches!(error, LogError::KeyMissing { key_id, .. } if key_id == key(2).id()), "{error}");
    }
    assert!(!exists(&disk, "state/quarantine"));

    // Under another position, checksum and all.
    let path = |position: u64| format!("state/checkpoint-{position:020}");
    let mut moved = bytes(&disk, &path(2));
    moved[16..24].copy_from_slice(&3_u64.to_le_bytes());
    moved[12..16].fill(0);
    let crc = crc32c::crc32c(&moved);
    moved[12..16].copy_from_slice(&crc.to_le_bytes());
    put(&disk, &path(3), &moved);
    assert_eq!(both.load_newest(None).expect("load"), Some((2, b"one".to_vec())));
    assert!(exists(&disk, &path(3).replace("state/", "state/quarantine/")));
}

#[test]
fn looking_needs_no_key() {
    let disk = SimDisk::new(1);
    fill(&mut open(&disk, keys(&[1], 1)), 40, 3);
    fill(&mut open(&disk, keys(&[2, 1], 2)), 40, 3);
    let before = image(&disk);
    for (seal, intact, unopened) in
        [(None, 0, segments(&disk).len()), (keys(&[1], 3), 40, 0), (keys(&[2, 1], 3), 80, 0)]
    {
        let found = inspect(Arc::new(disk.clone()), Path::new("log"), small(), seal.as_ref()).expect("inspect");
        assert_eq!(found.recovery.damaged, []);
        let key_ids: BTreeSet<_> = found.segments.iter().map(|segment| segment.sealing).map(key_id).collect();
        assert_eq!(key_ids, BTreeSet::from([key(1).id(), key(2).id()]));
        let records: Vec<_> = found.records(|_| {}).collect();
        assert_eq!(records.iter().filter(|record| record.is_ok()).count(), intact);
        let missing = records.iter().filter(|record| matches!(record, Err(LogError::KeyMissing { .. }))).count();
        assert!(missing + intact == records.len() && missing >= unopened, "once for each segment");
    }
    assert!(image(&disk) == before);
}

fn key_id(sealing: Sealing) -> KeyId {
    match sealing {
        Sealing::Sealed(_, key_id) => key_id,
        other => panic!("{other:?}"),
    }
}
