//! Damaged files: an error that names the file and what to do, the evidence
//! left in place, no panic, and never a wrong value.

use std::fs;
use std::ops::Bound::Unbounded;
use std::path::{Path, PathBuf};

use grey_store::{Batch, Durability, Engine, Store, StoreError, StoreOptions, Table, open};

use crate::conformance::options;

const T: Table = Table::new("t");
const ROWS: u32 = 400;

fn value(key: u32) -> Vec<u8> {
    (0..100).map(|i| (key.wrapping_mul(31).wrapping_add(i)) as u8).collect()
}

fn fill(engine: Engine, dir: &Path) {
    let store = open(dir, &options(engine)).unwrap();
    let mut batch = Batch::new();
    for key in 0..ROWS {
        batch.put(T, key.to_be_bytes(), value(key));
    }
    store.write(batch, Durability::Sync).unwrap();
}

/// Every answer is right or an error; returns how many errors there were.
fn read_all(store: &dyn Store) -> usize {
    let mut errors = 0;
    for key in 0..ROWS {
        match store.get(T, &key.to_be_bytes()) {
            Ok(Some(found)) => assert_eq!(found, value(key), "key {key}"),
            Ok(None) | Err(StoreError::Damaged { .. } | StoreError::Poisoned { .. } | StoreError::Io { .. }) => {
                errors += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    match store.scan(T, (Unbounded, Unbounded), usize::MAX, false) {
        Ok(rows) => rows.iter().for_each(|(key, found)| {
            let key: [u8; 4] = key.as_slice().try_into().unwrap();
            assert_eq!(*found, value(u32::from_be_bytes(key)));
        }),
        Err(error) => assert!(!matches!(error, StoreError::Key { .. }), "{error}"),
    }
    errors
}

fn redb_file(dir: &Path) -> PathBuf {
    dir.join("state.redb")
}

#[test]
fn a_truncated_database_says_so_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    fill(Engine::Redb, dir.path());
    let good = fs::read(redb_file(dir.path())).unwrap();
    let mut refused = 0;
    for len in [0, 1, 8, 63, 64, 300, 511, 4_096, good.len() / 2, good.len() - 1] {
        fs::write(redb_file(dir.path()), &good[..len]).unwrap();
        match open(dir.path(), &StoreOptions::default()) {
            Ok(store) => {
                read_all(&*store);
            }
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, StoreError::Damaged { .. }), "{len}: {error:?}");
                assert!(text.contains("state.redb") && text.contains("backup"), "{text}");
                assert_eq!(fs::read(redb_file(dir.path())).unwrap(), good[..len], "{len}: the evidence is kept");
                refused += 1;
            }
        }
    }
    assert!(refused >= 7, "{refused}");
}

#[test]
fn a_database_that_is_none_says_so_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = vec![0x5a; 100_000];
    fs::write(redb_file(dir.path()), &garbage).unwrap();
    let error = open(dir.path(), &StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert_eq!(fs::read(redb_file(dir.path())).unwrap(), garbage);
}

#[test]
fn a_flipped_bit_is_an_error_and_never_a_wrong_value() {
    let dir = tempfile::tempdir().unwrap();
    fill(Engine::Redb, dir.path());
    let good = fs::read(redb_file(dir.path())).unwrap();
    let used: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    let mut noticed = 0;
    // A spread of positions over all bytes in use: headers, branches, leaves.
    for step in 0..150 {
        let at = used[step * used.len() / 150];
        let mut bad = good.clone();
        bad[at] ^= 1 << (step % 8);
        fs::write(redb_file(dir.path()), &bad).unwrap();
        match open(dir.path(), &StoreOptions::default()) {
            Ok(store) => noticed += usize::from(read_all(&*store) > 0),
            Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => noticed += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(noticed > 75, "only {noticed} of 150 flips were noticed");
}

#[test]
fn a_checked_opening_finds_damage_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fill(Engine::Redb, dir.path());
    let mut bytes = fs::read(redb_file(dir.path())).unwrap();
    let needle = value(200);
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at + 50] ^= 1;
    fs::write(redb_file(dir.path()), &bytes).unwrap();
    let checked = StoreOptions { check_on_open: true, ..StoreOptions::default() };
    let error = open(dir.path(), &checked).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[cfg(feature = "sled")]
#[test]
fn sled_never_answers_wrongly_either() {
    let dir = tempfile::tempdir().unwrap();
    fill(Engine::Sled, dir.path());
    let log = dir.path().join("state.sled").join("db");
    let good = fs::read(&log).unwrap();
    let used: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    for step in 0..40 {
        let at = used[step * used.len() / 40];
        let mut bad = good.clone();
        bad[at] ^= 1 << (step % 8);
        fs::write(&log, &bad).unwrap();
        match open(dir.path(), &options(Engine::Sled)) {
            Ok(store) => {
                read_all(&*store);
            }
            // After a failed opening sled lets go of its lock in the background.
            Err(StoreError::Damaged { .. } | StoreError::Io { .. } | StoreError::Locked { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}
