//! A full disk, and disks that fail.

use super::*;

#[test]
fn a_full_disk_costs_the_uncommitted_records_and_nothing_else() {
    for spare in 0..600 {
        let disk = SimDisk::new(spare);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 60, 5);
        let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
        disk.set_capacity(Some(used + spare));
        append(&mut log, 10);
        let before = log.bytes();
        match log.commit() {
            Ok(_) => continue,
            Err(error) => assert!(matches!(error, LogError::Full { .. }), "{error}"),
        }
        assert_eq!((log.next_index(), log.durable_end(), log.bytes()), (60, 60, before));
        assert!(disk.faults().writes_without_space > 0);
        // Still full: the same again.
        append(&mut log, 10);
        assert!(matches!(log.commit(), Err(LogError::Full { .. })));
        assert_holds(&log, 0..60);
        // A crash now finds the log as it was.
        let fork = disk.fork(spare);
        fork.crash();
        fork.set_capacity(None);
        let (crashed, recovery) = open(&fork, small());
        assert_eq!((recovery.damaged, recovery.torn_bytes), (vec![], 0));
        assert_holds(&crashed, 0..60);
        // Space returns by trimming the log itself.
        log.trim_front(50).expect("trimming works on a full disk");
        fill(&mut log, 10, 10);
        assert_holds(&log, log.first_index()..70);
    }
}

#[test]
fn a_disk_without_room_for_zeros_takes_the_commit() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, LogConfig::default());
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_capacity(Some(used + 3_000));
    let mut count = 0;
    loop {
        append(&mut log, 1);
        match log.commit() {
            Ok(_) => count += 1,
            Err(error) => {
                assert!(matches!(error, LogError::Full { .. }), "{error}");
                break;
            }
        }
    }
    assert!(count > 20, "{count}");
    assert_holds(&log, 0..count);
    disk.crash();
    let (log, recovery) = open(&disk, LogConfig::default());
    assert_eq!(recovery.damaged, []);
    assert_holds(&log, 0..count);
}

#[test]
fn a_full_disk_does_not_keep_an_idle_log_from_being_trimmed() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 100, 5);
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_capacity(Some(used));
    log.trim_front(100).expect("trim");
    log.trim_front(100).expect("and once more, with the space of the first");
    assert_eq!(log.bytes(), 64);
}

#[test]
fn a_full_disk_that_refuses_even_the_way_back_poisons() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 10, 5);
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_capacity(Some(used + 100));
    append(&mut log, 10);
    disk.fail_next_sync(1);
    assert!(matches!(log.commit(), Err(LogError::Io { .. })));
    assert!(matches!(log.commit(), Err(LogError::Poisoned { .. })));
    disk.set_capacity(None);
    drop(log);
    let (log, recovery) = open(&disk, small());
    assert_eq!(recovery.damaged, []);
    assert_holds(&log, 0..10);
}

#[test]
fn a_failed_write_poisons_and_loses_nothing_committed() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 10 + seed, 5);
        append(&mut log, 10);
        disk.fail_next_write(1);
        assert!(matches!(log.commit(), Err(LogError::Io { .. })));
        assert!(matches!(log.append(b"x"), Err(LogError::Poisoned { .. })));
        assert_holds(&log, 0..10 + seed);
        drop(log);
        let (mut log, recovery) = open(&disk, small());
        assert_eq!(recovery.damaged, []);
        fill(&mut log, 5, 5);
        assert_holds(&log, 0..15 + seed);
    }
}

#[test]
fn a_failed_read_is_tried_again_and_is_no_damage() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 100, 5);
    let reader = log.reader();
    for failures in 1..6 {
        disk.fail_next_read(failures);
        match reader.scan(0, 100) {
            Ok(records) => assert_eq!(records[0].1, payload(0)),
            Err(error) => assert!(matches!(error, LogError::Io { .. }), "{error}"),
        }
        disk.fail_next_read(failures);
        match reader.read(50) {
            Ok(record) => assert_eq!(record.expect("there"), payload(50)),
            Err(error) => assert!(matches!(error, LogError::Io { .. }), "{error}"),
        }
        disk.fail_next_read(0);
    }
    assert_eq!(reader.damaged(), []);
    assert_holds(&log, 0..100);
    drop(log);
    disk.fail_next_read(u32::MAX);
    assert!(matches!(try_open(&disk, small()), Err(LogError::Io { .. })), "a disk that is gone is not repaired");
    disk.fail_next_read(0);
    let (log, recovery) = open(&disk, small());
    assert_eq!(recovery.damaged, []);
    assert_holds(&log, 0..100);
}

#[test]
fn unreadable_sectors_cost_their_page() {
    let config = LogConfig { segment_bytes_max: 32 << 10, record_bytes_max: 4_096 };
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, config);
    fill(&mut log, 1_500, 10);
    drop(log);
    let files = segments(&disk);
    assert!(files.len() > 3);
    for (position, (path, len)) in files.iter().enumerate() {
        let is_last = position == files.len() - 1;
        for page in 0..len / 4_096 {
            let disk = disk.fork(page);
            disk.spoil(Path::new(path), page * 4_096 + 700, 10).expect("spoil");
            let (mut log, recovery) = open(&disk, config);
            let (found, told) = scan_all(&log.reader(), 1 << 20);
            assert_eq!(told.len(), 1, "{path} page {page}: {told:?}");
            let lost = told[0].end - told[0].start;
            assert!((20..=60).contains(&lost), "a page of 4 KiB holds about fifty: {told:?}");
            assert_eq!(found.len() as u64 + lost, 1_500);
            assert_eq!(read_all(&log), (found.clone(), told.clone()));
            assert_eq!(recovery.lost_durable, is_last.then(|| told[0].clone()));
            fill(&mut log, 20, 5);
            drop(log);
            let (log, _) = open(&disk, config);
            assert_eq!(scan_all(&log.reader(), 1 << 20).0.len(), found.len() + 20);
        }
    }
    // Every page of a file: that one is given up only when others can be read.
    disk.spoil(Path::new("log/synced"), 0, 1).expect("spoil");
    let (log, recovery) = open(&disk, config);
    assert_eq!(recovery.damaged, []);
    assert_holds(&log, 0..1_500);
}
