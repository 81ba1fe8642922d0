//! Power losses at every point.

use super::model::{Op, World};
use super::*;

/// Everything a log does, in an order that makes several segments.
fn life() -> Vec<Op> {
    let mut ops = Vec::new();
    let batch = |ops: &mut Vec<Op>, lens: &[usize]| {
        ops.extend(lens.iter().map(|len| Op::Append(*len)));
        ops.push(Op::Commit);
    };
    for _ in 0..3 {
        batch(&mut ops, &[10, 900, 0, 300]);
        batch(&mut ops, &[600, 30]);
        batch(&mut ops, &[1_800]);
    }
    ops.push(Op::Trim(45));
    batch(&mut ops, &[100, 100, 700]);
    ops.push(Op::Truncate(70));
    batch(&mut ops, &[50, 1_200]);
    ops.push(Op::Truncate(10));
    batch(&mut ops, &[5]);
    ops.push(Op::Reopen);
    batch(&mut ops, &[2_000, 2_000]);
    ops.push(Op::Trim(100));
    batch(&mut ops, &[40]);
    ops.push(Op::Reset(5));
    batch(&mut ops, &[60, 60]);
    ops.push(Op::Reset(-4));
    batch(&mut ops, &[70]);
    ops
}

#[test]
fn committed_records_survive_a_power_loss_at_every_change() {
    let (mut runs, mut losses, mut sectors_lost) = (0, 0, 0);
    for changes in 0.. {
        let mut reached_end = true;
        for seed in 0..6 {
            let mut world = World::new(seed * 1_000 + changes);
            world.run(&Op::PowerOff(changes));
            for op in life() {
                world.run(&op);
            }
            world.check();
            runs += 1;
            losses += world.losses;
            sectors_lost += world.disk.faults().sectors_lost;
            reached_end &= world.losses == 0;
        }
        if reached_end {
            break;
        }
    }
    assert!(losses > 300 && losses >= runs - 12, "{losses} losses in {runs} runs");
    assert!(sectors_lost > 100, "the disk did lose sectors: {sectors_lost}");
}

#[test]
fn committed_records_survive_power_losses_during_recovery() {
    let mut losses = 0;
    for seed in 0..300 {
        let mut world = World::new(seed);
        for op in life() {
            if seed % 7 == 0 {
                world.run(&Op::PowerOff(seed % 31));
            }
            world.run(&op);
            if matches!(op, Op::Commit) {
                // The power goes in the middle of opening, up to twice.
                world.run(&Op::PowerOff(seed % 11));
                world.run(&Op::Reopen);
                world.run(&Op::PowerOff(1_000_000));
            }
        }
        world.check();
        losses += world.losses;
    }
    assert!(losses > 1_000, "{losses}");
}

#[test]
fn a_lying_disk_is_caught() {
    // The tests above would notice a log that does not sync.
    let caught = (0..20).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.disk.forget_sync(true);
            world.run(&Op::Append(3_000));
            world.run(&Op::Commit);
            world.run(&Op::Crash);
        })
        .is_err()
    });
    assert!(caught);
}

#[test]
fn a_torn_tail_is_cut_and_is_no_error() {
    let mut torn = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, LogConfig::default());
        fill(&mut log, 20, 5);
        append(&mut log, 30);
        // The write happens, the sync does not.
        disk.power_off_after(1);
        log.commit().expect_err("no power");
        disk.crash();
        let (log, recovery) = open(&disk, LogConfig::default());
        assert_eq!((&recovery.damaged[..], &recovery.lost_durable), (&[][..], &None), "seed {seed}");
        assert!((20..=50).contains(&log.durable_end()));
        assert_holds(&log, 0..log.durable_end());
        torn += u64::from(recovery.torn_bytes > 0);
        let (_, again) = open(&disk, LogConfig::default());
        assert_eq!(again.torn_bytes, 0, "it is cut once");
    }
    assert!(torn > 50, "{torn}");
}

#[test]
fn the_end_is_stored_again_after_a_failed_sync() {
    // After a failed sync the system shows bytes that the disk may not have, and the next
    // sync says that all is well. What opening adopts must be durable all the same.
    let (mut adopted, mut would_have_lost) = (0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 10, 3);
        append(&mut log, 20);
        disk.fail_next_sync(1);
        log.commit().expect_err("the sync fails");
        assert!(matches!(log.append(b"x"), Err(LogError::Poisoned { .. })));
        assert!(matches!(log.commit(), Err(LogError::Poisoned { .. })));
        assert!(matches!(log.trim_front(1), Err(LogError::Poisoned { .. })));
        assert!(matches!(log.truncate_back(1), Err(LogError::Poisoned { .. })));
        assert!(matches!(log.reset(1), Err(LogError::Poisoned { .. })));
        assert_holds(&log, 0..10);
        drop(log);
        disk.kill();
        let without = disk.fork(seed);
        without.crash();
        would_have_lost += u64::from(open(&without, small()).0.durable_end() < 30);
        let (log, _) = open(&disk, small());
        let end = log.durable_end();
        adopted += u64::from(end == 30);
        disk.crash();
        let (log, recovery) = open(&disk, small());
        assert_eq!((log.durable_end(), recovery.damaged), (end, vec![]), "seed {seed}");
        assert_holds(&log, 0..end);
    }
    assert!(adopted > 100 && would_have_lost > 100, "{adopted} {would_have_lost}");
}
