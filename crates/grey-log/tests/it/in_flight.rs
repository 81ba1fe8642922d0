//! Commits whose sync runs elsewhere, while the log takes more.

use std::io;

use super::*;

#[test]
fn records_show_when_the_sync_was_told_of_and_not_before() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 3, 3);
    append(&mut log, 2);
    let sync = log.begin_commit().expect("begin").expect("something to sync");
    assert_eq!((log.durable_end(), log.next_index()), (3, 5));
    append(&mut log, 4);
    assert_eq!((log.durable_end(), log.next_index()), (3, 9));
    assert_eq!(log.end_commit(sync.run()).expect("end"), 5);
    assert_holds(&log, 0..5);
    assert_eq!(log.commit().expect("commit"), 9);
    assert_holds(&log, 0..9);
    drop(log);
    disk.crash();
    assert_holds(&open(&disk, small()).0, 0..9);
}

#[test]
fn a_crash_in_between_keeps_what_was_synced_and_reports_no_damage() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, seed % 40, 1 + seed % 7);
        append(&mut log, 1 + seed % 5);
        let sync = log.begin_commit().expect("begin").expect("something to sync");
        append(&mut log, 3);
        let synced = if seed % 3 == 0 { seed % 40 } else { log.next_index() - 3 };
        if seed % 3 > 0 {
            sync.run().expect("sync");
        }
        if seed % 3 == 2 {
            log.end_commit(Ok(())).expect("end");
        }
        let fork = disk.fork(seed);
        fork.crash();
        let (log, recovery) = open(&fork, small());
        assert_eq!(recovery.damaged, [], "seed {seed}");
        assert!(log.durable_end() >= synced, "seed {seed}: {} of {synced}", log.durable_end());
        assert_holds(&log, 0..log.durable_end());
    }
}

#[test]
fn nothing_else_is_done_to_a_log_in_flight() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    append(&mut log, 10);
    let sync = log.begin_commit().expect("begin").expect("something to sync");
    append(&mut log, 1);
    let is_busy = |result: Result<u64, LogError>| matches!(result, Err(LogError::InFlight { .. }));
    assert!(is_busy(log.commit()));
    assert!(is_busy(log.trim_front(1).map(|()| 0)));
    assert!(is_busy(log.truncate_back(1).map(|()| 0)));
    assert!(is_busy(log.reset(1).map(|()| 0)));
    log.end_commit(sync.run()).expect("end");
    log.commit().expect("commit");
    assert_holds(&log, 0..11);
}

#[test]
fn a_failed_sync_poisons() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 4, 2);
    append(&mut log, 1);
    let _ = log.begin_commit().expect("begin");
    assert!(log.end_commit(Err(io::Error::other("the disk is gone"))).is_err());
    assert!(matches!(log.append(b"more"), Err(LogError::Poisoned { .. })));
    assert_eq!(log.durable_end(), 4);
}

#[test]
fn what_there_is_room_ahead_for_fits_on_a_full_disk() {
    let (mut ahead, mut refused) = (0, 0);
    for spare in 0..300 {
        let disk = SimDisk::new(spare);
        let (mut log, _) = open(&disk, LogConfig { segment_bytes_max: 128 << 10, record_bytes_max: 4_096 });
        fill(&mut log, 20 + spare, 1);
        let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
        disk.set_capacity(Some(used));
        for _ in 0..40 {
            let next = payload(log.next_index());
            if !log.has_room_ahead(next.len() as u64) {
                refused += 1;
                break;
            }
            append(&mut log, 1);
            ahead += 1;
        }
        log.commit().expect("the room was set aside");
        assert_holds(&log, 0..log.next_index());
    }
    assert!(ahead > 300 && refused > 30, "{ahead} {refused}");
}
