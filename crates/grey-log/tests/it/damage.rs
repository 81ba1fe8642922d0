//! Damage: any byte flipped, any file cut, zeroed or gone. Nothing wrong is ever read,
//! everything intact is, and the loss is told exactly.

use std::ops::Range;

use grey_log::{Damage, Reason};

use super::*;

/// A small log of several segments that was closed cleanly, and where its records are:
/// path, bytes and index of each.
struct Subject {
    disk: SimDisk,
    records: Vec<(String, Range<u64>, u64)>,
    end: u64,
}

fn subject() -> Subject {
    let disk = SimDisk::new(7);
    let (mut log, _) = open(&disk, LogConfig { segment_bytes_max: 1_024, record_bytes_max: 1_024 });
    let mut records = Vec::new();
    let (mut path, mut offset) = (String::new(), 0);
    for commit in 0..16_u64 {
        let count = 1 + commit % 4;
        append(&mut log, count);
        let first = log.durable_end();
        log.commit().expect("commit");
        let last = segments(&disk).pop().expect("some").0;
        if last != path {
            (path, offset) = (last, 64);
        }
        for index in first..log.durable_end() {
            let len = RECORD_OVERHEAD + payload(index).len() as u64;
            records.push((path.clone(), offset..offset + len, index));
            offset += len;
        }
    }
    let end = log.durable_end();
    assert!(segments(&disk).len() >= 3);
    Subject { disk, records, end }
}

fn only(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

fn config() -> LogConfig {
    LogConfig { segment_bytes_max: 1_024, record_bytes_max: 1_024 }
}

/// Opens a damaged log, asserts that exactly `lost` is lost, that this is told, and
/// that the log goes on. Returns what opening told.
fn assert_loses(disk: &SimDisk, end: u64, lost: &[u64], what: &str) -> Recovery {
    let (mut log, recovery) = open(disk, config());
    assert_eq!(log.next_index(), end, "{what}: no index is given out twice");
    let reader = log.reader();
    for scan_bytes in [1, 1 << 20] {
        let (found, told) = scan_all(&reader, scan_bytes);
        let expected: Vec<u64> = (0..end).filter(|index| !lost.contains(index)).collect();
        assert_eq!(found, expected, "{what}");
        assert_eq!(told.into_iter().flatten().collect::<Vec<_>>(), lost, "{what}");
    }
    assert_eq!(read_all(&log).1.into_iter().flatten().collect::<Vec<_>>(), lost, "{what}");
    let remembered: Vec<u64> = reader.damaged().into_iter().flat_map(|damage| damage.lost).collect();
    assert_eq!(remembered, lost, "{what}: {:?}", reader.damaged());
    if let Some(told) = &recovery.lost_durable {
        assert!(lost.contains(&told.start) && lost.contains(&(told.end - 1)), "{what}");
    }
    fill(&mut log, 10, 3);
    let expected: Vec<u64> = (0..end + 10).filter(|index| !lost.contains(index)).collect();
    assert_eq!(scan_all(&log.reader(), 500).0, expected, "{what}");
    recovery
}

#[test]
fn any_flipped_byte_costs_at_most_its_record() {
    let subject = subject();
    let mut told_at_open = 0;
    for (path, len) in segments(&subject.disk) {
        for offset in 0..len {
            let disk = subject.disk.fork(offset);
            disk.flip(Path::new(&path), offset, (offset % 8) as u8).expect("flip");
            let hit = subject.records.iter().find(|(of, bytes, _)| *of == path && bytes.contains(&offset));
            let lost: Vec<u64> = hit.map(|(_, _, index)| *index).into_iter().collect();
            let recovery = assert_loses(&disk, subject.end, &lost, &format!("{path} byte {offset}"));
            if offset < 64 {
                assert_eq!(recovery.damaged[0].reason, Reason::Header);
                assert_eq!(recovery.lost_durable, None);
            }
            told_at_open += u64::from(recovery.lost_durable.is_some());
            if !lost.is_empty() {
                let evidence = format!("log/quarantine/{}.at-{}", &path[4..], hit.expect("hit").1.start);
                assert!(exists(&disk, &evidence), "{evidence}");
            }
        }
    }
    assert!(told_at_open > 50, "damage in the last segment shows at once: {told_at_open}");
}

#[test]
fn the_marker_is_not_needed() {
    let subject = subject();
    let len = subject.disk.files().iter().find(|(path, _)| path == "log/synced").expect("there").1;
    for offset in 0..len {
        let disk = subject.disk.fork(offset);
        disk.flip(Path::new("log/synced"), offset, 3).expect("flip");
        assert_eq!(assert_loses(&disk, subject.end, &[], "marker").damaged, []);
    }
    for cut in 0..len {
        let disk = subject.disk.fork(cut);
        disk.truncate(Path::new("log/synced"), cut).expect("truncate");
        assert_loses(&disk, subject.end, &[], "marker cut");
    }
    subject.disk.lose(Path::new("log/synced")).expect("lose");
    assert_eq!(assert_loses(&subject.disk, subject.end, &[], "marker gone").damaged, []);
}

#[test]
fn a_segment_cut_anywhere_loses_what_is_cut() {
    let subject = subject();
    for (path, len) in segments(&subject.disk) {
        for cut in 0..len {
            let disk = subject.disk.fork(cut);
            disk.truncate(Path::new(&path), cut).expect("truncate");
            let lost: Vec<u64> = subject
                .records
                .iter()
                .filter(|(of, bytes, _)| *of == path && bytes.end > cut)
                .map(|(_, _, index)| *index)
                .collect();
            assert_loses(&disk, subject.end, &lost, &format!("{path} cut at {cut}"));
        }
    }
}

#[test]
fn files_that_are_zeroed_or_gone_lose_their_records() {
    let subject = subject();
    let all = segments(&subject.disk);
    for (position, (path, len)) in all.iter().enumerate() {
        let lost: Vec<u64> =
            subject.records.iter().filter(|(of, _, _)| of == path).map(|(_, _, index)| *index).collect();
        let range = *lost.first().expect("some")..*lost.last().expect("some") + 1;

        let disk = subject.disk.fork(1);
        disk.zero(Path::new(path), 0, *len).expect("zero");
        let recovery = assert_loses(&disk, subject.end, &lost, &format!("{path} zeroed"));
        let is_last = position == all.len() - 1;
        assert!(!recovery.damaged.is_empty());
        assert_eq!(recovery.lost_durable, is_last.then(|| range.clone()));

        let disk = subject.disk.fork(2);
        disk.lose(Path::new(path)).expect("lose");
        let recovery = assert_loses(&disk, subject.end, &lost, &format!("{path} gone"));
        let reason = if is_last { Reason::Tail } else { Reason::Missing };
        assert_eq!(
            recovery.damaged.iter().map(|damage| (damage.lost.clone(), damage.reason)).collect::<Vec<_>>(),
            [(range.clone(), reason)]
        );
        assert_eq!(recovery.lost_durable, Some(range.clone()));
        let (_, again) = open(&disk, config());
        assert_eq!(again.lost_durable, Some(range), "told at every opening, until it is trimmed");
    }
}

#[test]
fn several_missing_files_are_one_exact_range() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, config());
    fill(&mut log, 100, 3);
    drop(log);
    let files = segments(&disk);
    let first_of = |path: &str| path[4..24].parse::<u64>().expect("a number");
    for (path, _) in &files[2..5] {
        disk.lose(Path::new(path)).expect("lose");
    }
    let lost: Vec<u64> = (first_of(&files[2].0)..first_of(&files[5].0)).collect();
    assert_loses(&disk, 100, &lost, "three files");

    for (path, _) in segments(&disk) {
        disk.lose(Path::new(&path)).expect("lose");
    }
    let (mut log, recovery) = open(&disk, config());
    assert_eq!(recovery.lost_durable, Some(0..110), "all of it");
    assert_eq!((log.first_index(), log.next_index()), (0, 110));
    assert_eq!(scan_all(&log.reader(), 100), (vec![], only(0..110)));
    log.trim_front(50).expect("trim within what is lost");
    assert_eq!(scan_all(&log.reader(), 100), (vec![], only(50..110)));
    fill(&mut log, 5, 5);
    log.trim_front(112).expect("trim");
    drop(log);
    let (log, recovery) = open(&disk, config());
    assert_eq!(recovery.damaged, [], "what is lost is trimmed");
    assert_holds(&log, 110..115);
}

#[test]
fn many_damaged_records_are_each_told() {
    let subject = subject();
    for seed in 0..300_u64 {
        let disk = subject.disk.fork(seed);
        let mut state = seed + 1;
        let mut lost: Vec<u64> = Vec::new();
        for _ in 0..1 + seed % 6 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (path, bytes, index) = &subject.records[(state >> 33) as usize % subject.records.len()];
            if lost.contains(index) {
                continue;
            }
            let offset = bytes.start + (state >> 20) % (bytes.end - bytes.start);
            disk.flip(Path::new(path), offset, (state >> 17) as u8).expect("flip");
            lost.push(*index);
        }
        lost.sort_unstable();
        assert_loses(&disk, subject.end, &lost, &format!("seed {seed}"));
    }
}

#[test]
fn a_sector_of_garbage_is_stepped_over() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk, LogConfig::default());
    fill(&mut log, 400, 10);
    drop(log);
    let (path, len) = segments(&disk).pop().expect("one");
    for sector in (1..len / 512).step_by(3) {
        let disk = disk.fork(sector);
        disk.zero(Path::new(&path), sector * 512, 512).expect("zero");
        let (log, recovery) = open(&disk, LogConfig::default());
        let (found, told) = scan_all(&log.reader(), 1 << 20);
        assert_eq!(told.len(), 1);
        assert!((1..=12).contains(&(told[0].end - told[0].start)), "{told:?}");
        assert_eq!(found.len() as u64, 400 - (told[0].end - told[0].start));
        assert_eq!(recovery.lost_durable, Some(told[0].clone()));
    }
}

#[test]
fn durable_records_cut_off_the_end_are_known_to_be_lost() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, config());
    fill(&mut log, 12, 3);
    // Killed, not closed: the marker is as the last commit left it.
    disk.kill();
    drop(log);
    let (path, len) = segments(&disk).pop().expect("some");
    disk.truncate(Path::new(&path), len - 10).expect("truncate");
    let (log, recovery) = open(&disk, config());
    assert_eq!(recovery.lost_durable, Some(11..12));
    assert_eq!(log.next_index(), 12);
    assert!(matches!(log.read(11), Err(LogError::Damaged { lost, .. }) if lost == (11..12)));
}

#[test]
fn damage_shows_to_a_reader_that_was_there_before() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 200, 5);
    let reader = log.reader();
    assert_eq!(reader.scan(0, 1 << 20).expect("scan").len(), 200);
    assert_eq!(reader.read(3).expect("read").expect("there"), payload(3));
    let offset = 64 + (0..3).map(|index| RECORD_OVERHEAD + payload(index).len() as u64).sum::<u64>();
    disk.flip(Path::new(&segments(&disk)[0].0), offset + 20, 1).expect("flip");
    assert!(
        matches!(reader.read(3), Err(LogError::Damaged { lost, offset: at, .. }) if lost == (3..4) && at == offset)
    );
    assert_eq!(reader.scan(0, 1 << 20).expect("what is intact comes first").len(), 3);
    assert!(matches!(reader.scan(3, 1 << 20), Err(LogError::Damaged { lost, .. }) if lost == (3..4)));
    assert_eq!(reader.scan(4, 1 << 20).expect("scan").len(), 196);
    let path = Path::new("log/00000000000000000000.log").to_owned();
    assert_eq!(reader.damaged(), [Damage { lost: 3..4, path, offset, reason: Reason::Record }]);
}

#[test]
fn truncation_and_trimming_work_around_damage() {
    for cut in 1..30 {
        let disk = SimDisk::new(cut);
        let (mut log, _) = open(&disk, config());
        fill(&mut log, 30, 3);
        drop(log);
        let (path, len) = segments(&disk).swap_remove(1);
        disk.zero(Path::new(&path), 100, len - 100).expect("zero");
        let (mut log, _) = open(&disk, config());
        let (found, told) = scan_all(&log.reader(), 100);
        assert_eq!(told.len(), 1);
        log.truncate_back(cut).expect("truncate");
        assert_eq!((log.next_index(), log.durable_end()), (cut, cut));
        let kept: Vec<u64> = found.into_iter().filter(|index| *index < cut).collect();
        assert_eq!(scan_all(&log.reader(), 100).0, kept);
        fill(&mut log, 5, 2);
        disk.crash();
        let (mut log, _) = open(&disk, config());
        let expected: Vec<u64> = kept.iter().copied().chain(cut..cut + 5).collect();
        assert_eq!(scan_all(&log.reader(), 100).0, expected, "cut at {cut}");
        log.trim_front(cut + 5).expect("trim");
        fill(&mut log, 2, 2);
        drop(log);
        let (log, _) = open(&disk, config());
        assert_eq!(log.next_index(), cut + 7);
    }
}

#[test]
fn a_damaged_length_makes_nobody_read_much() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, LogConfig::default());
    fill(&mut log, 100, 10);
    drop(log);
    let (path, len) = segments(&disk).pop().expect("one");
    for bit in 0..8 {
        let disk = disk.fork(bit);
        for byte in 4..8 {
            disk.flip(Path::new(&path), 64 + byte, bit as u8).expect("flip");
        }
        let before = disk.operations().bytes_read;
        let (log, _) = open(&disk, LogConfig::default());
        assert_eq!(scan_all(&log.reader(), 1 << 20).1, only(0..1));
        let read = disk.operations().bytes_read - before;
        assert!(read < 40 * len, "{read} bytes for a file of {len}");
    }
}

#[test]
fn foreign_files_are_left_alone_and_misnamed_ones_put_aside() {
    let subject = subject();
    let disk = &subject.disk;
    for name in ["log/notes.txt", "log/12.log"] {
        disk.open(Path::new(name), grey_disk::OpenMode::CreateNew).expect("create");
    }
    let files = segments(disk);
    let lost: Vec<u64> =
        subject.records.iter().filter(|(of, _, _)| *of == files[1].0).map(|(_, _, index)| *index).collect();
    disk.rename(Path::new(&files[1].0), Path::new("log/00000000000000099999.log")).expect("rename");
    disk.sync_dir(Path::new("log")).expect("sync");
    assert_loses(disk, subject.end, &lost, "misnamed");
    assert!(exists(disk, "log/notes.txt") && exists(disk, "log/12.log"));
    assert!(exists(disk, "log/quarantine/00000000000000099999.log"));
}
