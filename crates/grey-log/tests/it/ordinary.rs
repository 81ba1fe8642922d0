//! What a log does when nothing goes wrong.

use grey_disk::RealDisk;

use super::*;

#[test]
fn records_are_visible_once_committed() {
    let disk = SimDisk::new(1);
    let (mut log, recovery) = open(&disk, small());
    assert_eq!(recovery, Recovery::default());
    assert_eq!((log.first_index(), log.next_index(), log.durable_end()), (0, 0, 0));
    let reader = log.reader();
    append(&mut log, 3);
    assert_eq!((log.next_index(), log.durable_end()), (3, 0));
    assert!(reader.scan(0, 1_000).expect("scan").is_empty());
    assert_eq!(log.read(0).expect("read"), None);
    assert_eq!(log.commit().expect("commit"), 3);
    assert_eq!(log.commit().expect("an empty commit"), 3);
    assert_holds(&log, 0..3);
    assert_eq!(reader.durable_end(), 3);
    assert_eq!(log.read(3).expect("read"), None);
    assert_eq!(log.append_parts(&[b"a", b"", b"bc"]).expect("append"), 3);
    log.commit().expect("commit");
    assert_eq!(log.read(3).expect("read").expect("there"), "abc");
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, LogConfig::default());
    append(&mut log, 1_000);
    let before = disk.operations();
    log.commit().expect("commit");
    let after = disk.operations();
    assert_eq!(after.syncs - before.syncs, 1);
    assert_eq!(after.writes - before.writes, 2, "the records, and the marker that is not synced");
}

#[test]
fn small_commits_find_zeros_written_ahead_and_large_ones_write_none() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, LogConfig::default());
    let file_len = || segments(&disk)[0].1;
    let (mut growths, mut before) = (0, file_len());
    for _ in 0..1_000 {
        fill(&mut log, 1, 1);
        growths += u64::from(file_len() != before);
        before = file_len();
        assert_eq!(log.bytes(), before);
    }
    assert!(growths <= 3, "{growths}");
    disk.kill();
    let (mut log, recovery) = open(&disk, LogConfig::default());
    assert_eq!((recovery.torn_bytes, recovery.damaged), (0, vec![]), "zeros are not torn records");
    assert_holds(&log, 0..1_000);
    fill(&mut log, 1, 1);
    drop(log);
    let closed = file_len();
    assert!(closed < before, "a clean end takes the zeros away");
    let (mut log, _) = open(&disk, LogConfig::default());
    fill(&mut log, 1_000, 1_000);
    assert!(file_len() < closed + 1_000 * 150);
    assert_eq!(log.bytes(), file_len());
}

#[test]
fn a_reopened_log_goes_on() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 100, 7);
    let bytes = log.bytes();
    drop(log);
    let (mut log, recovery) = open(&disk, small());
    assert_eq!(recovery, Recovery { records: 100, ..Recovery::default() });
    assert_eq!(log.bytes(), bytes);
    assert!(segments(&disk).len() > 3);
    fill(&mut log, 100, 9);
    assert_holds(&log, 0..200);
}

#[test]
fn scans_of_any_size_and_start_agree() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 150, 11);
    for bytes_max in [0, 1, 17, 500, 1 << 20] {
        assert_eq!(scan_all(&log.reader(), bytes_max).0, (0..150).collect::<Vec<_>>());
    }
    for from in 0..150 {
        let records = log.reader().scan(from, 400).expect("scan");
        assert_eq!(records[0].0, from);
        let size: usize = records.iter().map(|(_, bytes)| bytes.len() + 16).sum();
        assert!(size < 400 + 200, "the bound holds but for the last record: {size}");
    }
    for index in (0..150).rev() {
        assert_eq!(log.read(index).expect("read").expect("there"), payload(index));
    }
}

#[test]
fn a_reader_follows_the_end() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    let reader = log.reader();
    let mut next = 0;
    for round in 0..60 {
        fill(&mut log, 1 + round % 5, 2);
        for (index, bytes) in reader.scan(next, 1 << 20).expect("scan") {
            assert_eq!((index, &bytes[..]), (next, &payload(next)[..]));
            next += 1;
        }
        assert_eq!(next, log.durable_end());
    }
}

#[test]
fn trimming_gives_space_back_by_segments() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 200, 5);
    let (bytes, files) = (log.bytes(), segments(&disk).len());
    log.trim_front(100).expect("trim");
    let first = log.first_index();
    assert!(first <= 100 && first > 50, "{first}");
    assert!(log.bytes() < bytes * 2 / 3 && segments(&disk).len() < files);
    assert_eq!(log.bytes(), segments(&disk).iter().map(|(_, len)| len).sum::<u64>());
    assert_holds(&log, first..200);
    assert_eq!(log.read(first - 1).expect("read"), None);
    assert!(matches!(log.reader().scan(first - 1, 100), Err(LogError::Trimmed { first: told, .. }) if told == first));
    log.trim_front(50).expect("trimming less is nothing");
    assert_eq!(log.first_index(), first);

    append(&mut log, 10);
    log.trim_front(u64::MAX).expect("uncommitted records stay");
    log.commit().expect("commit");
    assert_eq!((log.durable_end(), log.next_index()), (210, 210));
    log.trim_front(u64::MAX).expect("trim all");
    assert_eq!((log.first_index(), log.bytes()), (210, 64), "an idle log holds a header");
    drop(log);
    let (mut log, recovery) = open(&disk, small());
    assert_eq!(recovery, Recovery::default());
    fill(&mut log, 3, 1);
    assert_holds(&log, 210..213);
}

#[test]
fn the_end_can_be_taken_back() {
    for cut in 0..=120 {
        let disk = SimDisk::new(cut);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 90, 4);
        append(&mut log, 15);
        let reader = log.reader();
        reader.scan(0, 1 << 20).expect("a read-ahead buffer that must not survive");
        log.truncate_back(cut).expect("truncate");
        let end = cut.min(105);
        assert_eq!(log.next_index(), end);
        assert_eq!(log.durable_end(), end.min(90));
        log.commit().expect("commit");
        assert_holds(&log, 0..end);
        if cut % 8 == 0 {
            disk.crash();
            (log, _) = open(&disk, small());
            assert_holds(&log, 0..end);
        }
        fill(&mut log, 10, 3);
        assert_holds(&log, 0..end + 10);
        if cut % 8 != 0 {
            assert_eq!(scan_all(&reader, 100).0.len() as u64, end + 10);
        }
    }
}

#[test]
fn a_reset_empties_the_log_and_moves_it() {
    for next in [0, 3, 50, 1_000] {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 50, 4);
        append(&mut log, 1);
        log.reset(next).expect("reset");
        assert_eq!((log.first_index(), log.next_index(), log.durable_end()), (next, next, next));
        disk.crash();
        let (mut log, recovery) = open(&disk, small());
        assert_eq!(recovery, Recovery::default());
        fill(&mut log, 20, 3);
        assert_holds(&log, next..next + 20);
    }
}

#[test]
fn truncating_below_the_first_index_is_a_reset() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 200, 5);
    log.trim_front(100).expect("trim");
    log.truncate_back(10).expect("truncate");
    assert_eq!((log.first_index(), log.next_index()), (10, 10));
}

#[test]
fn limits_are_checked() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    assert!(matches!(log.append(&[0; 4_097]), Err(LogError::TooLarge { len: 4_097, limit: 4_096 })));
    log.append(&[0; 4_096]).expect("a record of the largest size, larger than a segment");
    log.append(&[]).expect("an empty record");
    log.commit().expect("commit");
    assert_eq!(log.read(0).expect("read").expect("there").len(), 4_096);
    assert_eq!(log.read(1).expect("read").expect("there").len(), 0);
    for config in [
        LogConfig { segment_bytes_max: 1_023, ..small() },
        LogConfig { segment_bytes_max: (1 << 32) + 1, ..small() },
        LogConfig { record_bytes_max: 0, ..small() },
    ] {
        assert!(matches!(try_open(&disk, config), Err(LogError::Config { .. })));
    }
}

#[test]
fn indexes_have_an_end_far_away() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    assert!(matches!(log.reset(1 << 63), Err(LogError::Config { .. })));
    log.reset((1 << 63) - 1_000).expect("reset");
    fill(&mut log, 10, 2);
    drop(log);
    let (log, _) = open(&disk, small());
    assert_holds(&log, (1 << 63) - 1_000..(1 << 63) - 990);
}

#[test]
fn records_outlive_a_smaller_limit() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    log.append(&[7; 4_000]).expect("append");
    log.commit().expect("commit");
    fill(&mut log, 100, 10);
    drop(log);
    let (log, recovery) = open(&disk, LogConfig { record_bytes_max: 100, ..small() });
    assert_eq!(recovery.damaged, []);
    assert_eq!(log.read(0).expect("read").expect("there").len(), 4_000);
}

#[test]
fn longer_records_fit_after_the_limit_was_raised() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, LogConfig { record_bytes_max: 100, ..small() });
    log.append(b"short").expect("append");
    log.commit().expect("commit");
    drop(log);
    let (mut log, _) = open(&disk, small());
    log.append(&[7; 1_000]).expect("append");
    log.commit().expect("commit");
    assert_eq!(log.read(1).expect("read").expect("there").len(), 1_000);
    disk.crash();
    let (log, recovery) = open(&disk, LogConfig { record_bytes_max: 100, ..small() });
    assert_eq!(recovery.damaged, []);
    assert_eq!(log.read(1).expect("read").expect("there").len(), 1_000);
}

#[test]
fn opening_reads_the_last_segment_and_headers_only() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 5_000, 10);
    drop(log);
    let files = segments(&disk);
    let (total, last) = (files.iter().map(|(_, len)| len).sum::<u64>(), files.last().expect("some").1);
    let before = disk.operations().bytes_read;
    open(&disk, small());
    let read = disk.operations().bytes_read - before;
    assert!(files.len() > 200);
    assert!(read < 64 * files.len() as u64 + 3 * last + 1_024 && read < total / 2, "{read} of {total} bytes");
}

#[test]
fn it_works_on_the_real_file_system_from_several_threads() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let disk = Arc::new(RealDisk::new(directory.path()));
    let config = LogConfig { segment_bytes_max: 8_192, record_bytes_max: 4_096 };
    let (mut log, _) = Log::open_sealed(disk.clone(), Path::new("a/log"), config, sealing().as_ref()).expect("open");
    let reader = log.reader();
    const END: u64 = 2_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = reader.clone();
            scope.spawn(move || {
                let mut next = 0;
                while next < END {
                    for (index, bytes) in reader.scan(next, 5_000).expect("scan") {
                        assert_eq!((index, &bytes[..]), (next, &payload(next)[..]));
                        next += 1;
                    }
                    std::thread::yield_now();
                }
            });
        }
        fill(&mut log, END, 37);
    });
    drop(log);
    let (log, recovery) = Log::open_sealed(disk, Path::new("a/log"), config, sealing().as_ref()).expect("open");
    assert_eq!(recovery, Recovery { records: END, ..Recovery::default() });
    assert_holds(&log, 0..END);
}
