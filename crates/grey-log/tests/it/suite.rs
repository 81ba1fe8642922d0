//! The tests that are the same for plain and for sealed logs.

mod checkpoints;
mod crash;
mod damage;
mod full;
mod hostile;
mod in_flight;
mod inspection;
mod model;
mod ordinary;

use std::path::Path;
use std::sync::Arc;

use grey_disk::{Disk, SimDisk};
use grey_log::{Checkpoints, Log, LogConfig, LogError, LogReader, Recovery};
use grey_seal::Seal;

use super::keys::{current, seal};

const DIR: &str = "log";

/// True in the tests of sealed logs.
pub(crate) const IS_SEALED: bool = matches!(module_path!().as_bytes(), b"it::sealed");
/// By how much a record of these tests is longer on disk than its payload.
const RECORD_OVERHEAD: u64 = 16 + if IS_SEALED { grey_seal::OVERHEAD_BYTES as u64 } else { 0 };

fn sealing() -> Option<Seal> {
    IS_SEALED.then(|| seal(current(), DIR))
}

/// Small segments, so that a few records make several.
pub(crate) fn small() -> LogConfig {
    LogConfig { segment_bytes_max: 2_048, record_bytes_max: 4_096 }
}

fn try_open(disk: &SimDisk, config: LogConfig) -> Result<(Log, Recovery), LogError> {
    Log::open_sealed(Arc::new(disk.clone()), Path::new(DIR), config, sealing().as_ref())
}

fn open(disk: &SimDisk, config: LogConfig) -> (Log, Recovery) {
    try_open(disk, config).expect("the log opens")
}

/// A payload that tells its index, of a length that varies with it.
pub(crate) fn payload(index: u64) -> Vec<u8> {
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let len = 8 + (state >> 56) as usize % 120;
    let mut bytes = index.to_le_bytes().to_vec();
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.push((state >> 33) as u8);
    }
    bytes
}

pub(crate) fn append(log: &mut Log, count: u64) {
    for _ in 0..count {
        let index = log.next_index();
        assert_eq!(log.append(&payload(index)).expect("append"), index);
    }
}

/// Appends and commits `count` records, `batch` at a time.
pub(crate) fn fill(log: &mut Log, count: u64, batch: u64) {
    let mut left = count;
    while left > 0 {
        append(log, left.min(batch));
        log.commit().expect("commit");
        left -= left.min(batch);
    }
}

/// All indexes that can be read by scanning, after checking every payload; and the
/// lost ranges met on the way.
pub(crate) fn scan_all(reader: &LogReader, bytes_max: usize) -> (Vec<u64>, Vec<std::ops::Range<u64>>) {
    let (mut found, mut lost_ranges) = (Vec::new(), Vec::new());
    let mut next = reader.first_index();
    loop {
        match reader.scan(next, bytes_max) {
            Ok(records) if records.is_empty() => return (found, lost_ranges),
            Ok(records) => {
                for (index, bytes) in records {
                    assert_eq!(index, next, "no index is skipped silently");
                    assert_eq!(bytes, payload(index), "record {index}");
                    found.push(index);
                    next = index + 1;
                }
            }
            Err(LogError::Damaged { lost, .. }) => {
                assert!(lost.contains(&next), "{lost:?} at {next}");
                next = lost.end;
                lost_ranges.push(lost);
            }
            Err(error) => panic!("scan at {next}: {error}"),
        }
    }
}

/// The same through single reads.
fn read_all(log: &Log) -> (Vec<u64>, Vec<std::ops::Range<u64>>) {
    let (mut found, mut lost_ranges) = (Vec::new(), Vec::new());
    let mut next = log.first_index();
    while next < log.durable_end() {
        match log.read(next) {
            Ok(bytes) => {
                assert_eq!(bytes.expect("between first and durable end"), payload(next));
                found.push(next);
                next += 1;
            }
            Err(LogError::Damaged { lost, .. }) => {
                assert!(lost.contains(&next), "{lost:?} at {next}");
                next = lost.end;
                lost_ranges.push(lost);
            }
            Err(error) => panic!("read {next}: {error}"),
        }
    }
    (found, lost_ranges)
}

/// Asserts that exactly `indexes` are readable, both ways.
pub(crate) fn assert_holds(log: &Log, indexes: impl IntoIterator<Item = u64>) {
    let expected: Vec<u64> = indexes.into_iter().collect();
    assert_eq!(scan_all(&log.reader(), 300).0, expected);
    assert_eq!(read_all(log).0, expected);
}

/// Paths of the segment files, in order.
pub(crate) fn segments(disk: &SimDisk) -> Vec<(String, u64)> {
    disk.files().into_iter().filter(|(path, _)| path.ends_with(".log") && path.starts_with("log/0")).collect()
}

pub(crate) fn exists(disk: &SimDisk, path: &str) -> bool {
    disk.exists(Path::new(path)).expect("exists")
}
