//! Looking changes nothing and tells what opening does.

use grey_disk::Change;
use grey_log::{Inspection, Progress, Reason, Sealing, inspect, repair};

use super::*;

fn look(disk: &SimDisk) -> Inspection {
    inspect(Arc::new(disk.clone()), Path::new(DIR), small(), sealing().as_ref()).expect("inspect")
}

fn image(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let bytes = |path: &str| grey_disk::read_file(disk, Path::new(path), 1 << 20).expect("read");
    disk.files().into_iter().map(|(path, _)| (path.clone(), bytes(&path))).collect()
}

/// A log with a damaged record, a missing file, a torn end, and things that are none of its.
fn subject() -> SimDisk {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk, small());
    fill(&mut log, 200, 5);
    append(&mut log, 9);
    drop(log.begin_commit().expect("begin"));
    disk.kill();
    let files = segments(&disk);
    let last = files.last().expect("some");
    let end = records_end(&disk, &last.0);
    disk.truncate(Path::new(&last.0), end - 5).expect("a torn end");
    disk.flip(Path::new(&files[1].0), 64 + 20, 1).expect("flip");
    disk.lose(Path::new(&files[3].0)).expect("lose");
    disk.open(Path::new("log/notes.txt"), grey_disk::OpenMode::CreateNew).expect("create");
    let states = Checkpoints::open_sealed(Arc::new(disk.clone()), Path::new(DIR), 2, sealing().as_ref());
    states.expect("open").save(12, b"state").expect("save");
    disk
}

/// Where the last byte stands that is not zero.
fn records_end(disk: &SimDisk, path: &str) -> u64 {
    let bytes = grey_disk::read_file(disk, Path::new(path), 1 << 20).expect("read");
    bytes.iter().rposition(|byte| *byte != 0).expect("some") as u64 + 1
}

#[test]
fn looking_changes_nothing_and_tells_what_opening_finds() {
    let disk = subject();
    let before = image(&disk);
    let found = look(&disk);
    let (mut progress, mut intact, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for record in found.records(|at| progress.push(at)) {
        match record {
            Ok((index, bytes)) => {
                assert_eq!(bytes, payload(index));
                intact.push(index);
            }
            Err(LogError::Damaged { lost: range, reason, .. }) => lost.push((range, reason)),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(image(&disk) == before, "not a byte");

    let fork = disk.fork(9);
    let (log, recovery) = open(&fork, small());
    assert_eq!(found.recovery, recovery);
    assert!(recovery.torn_bytes > 0);
    assert_eq!((found.first_index, found.next_index), (log.first_index(), log.next_index()));
    let (readable, missing) = scan_all(&log.reader(), 500);
    assert_eq!(intact, readable);
    assert_eq!(lost.iter().map(|(range, _)| range.clone()).collect::<Vec<_>>(), missing);
    assert_eq!(lost.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [Reason::Record, Reason::Missing]);
    let Some(Progress { bytes_done, bytes_total }) = progress.last().copied() else { panic!("no progress") };
    assert!(progress.is_sorted_by_key(|at| at.bytes_done) && bytes_done == bytes_total && bytes_total > 10_000);

    assert_eq!(found.segments.len(), segments(&disk).len());
    assert!(found.segments.iter().all(|segment| matches!(segment.sealing, Sealing::Sealed(..)) == IS_SEALED));
    let marker = found.marker.expect("intact");
    assert_eq!((marker.first_index, marker.durable_end, marker.is_cutting), (0, 200, false));
    assert_eq!((found.foreign.as_slice(), found.quarantine.as_slice()), (&[("notes.txt".to_owned(), 0)][..], &[][..]));
    assert_eq!(found.checkpoints.iter().map(|checkpoint| checkpoint.position).collect::<Vec<_>>(), [12]);
    let last = segments(&disk).pop().expect("some").0;
    assert!(found.changes.iter().any(|change| matches!(change, Change::Resized(path, ..) if Path::new(&last) == path)));
}

#[test]
fn a_repaired_log_has_its_evidence_and_nothing_to_do() {
    let disk = subject();
    let recovery = repair(Arc::new(disk.clone()), Path::new(DIR), small(), sealing().as_ref(), |_| {}).expect("repair");
    assert_eq!(recovery.damaged.len(), 2);
    let found = look(&disk);
    assert_eq!(found.recovery.torn_bytes, 0);
    assert_eq!(found.quarantine.len(), 1, "{:?}", found.quarantine);
    assert!(!found.changes.iter().any(|change| !matches!(change, Change::Written(..))), "{:?}", found.changes);
}

#[test]
fn a_directory_without_a_log_is_an_empty_one() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).expect("directory");
    let found = look(&disk);
    assert_eq!((found.next_index, found.records(|_| {}).count(), found.marker), (0, 0, None));
    assert_eq!(disk.files(), []);
    let missing = inspect(Arc::new(disk), Path::new("elsewhere"), small(), None);
    assert!(matches!(missing, Err(LogError::Io { .. })));
}
