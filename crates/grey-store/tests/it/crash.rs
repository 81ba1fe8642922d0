//! Power losses at every change to the disk: what was synced is there, and
//! what is there is a prefix of what was written, whole batches only.

use std::ops::Bound::Unbounded;
use std::path::Path;

use grey_disk::SimDisk;
use grey_store::{Batch, Durability, Store, StoreError, StoreOptions, Table, open_on_disk};

const A: Table = Table::new("a");
const B: Table = Table::new("b");
const BATCHES: u32 = 8;
const DIR: &str = "node/state";

fn open(disk: &SimDisk) -> Result<Box<dyn Store>, StoreError> {
    open_on_disk(disk, Path::new(DIR), &StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() })
}

/// Batch `n` moves one row, rewrites another in both tables and adds some weight.
fn batch(n: u32) -> (Batch, Durability) {
    let mut batch = Batch::new();
    batch.put(A, b"n", n.to_le_bytes()).put(B, b"n", n.to_le_bytes());
    batch.put(A, format!("row-{n}"), vec![n as u8; 700]);
    if let Some(before) = n.checked_sub(1) {
        batch.delete(A, format!("row-{before}"));
    }
    // Every third is synced, with the lazy ones before it.
    (batch, if n % 3 == 2 { Durability::Sync } else { Durability::Lazy })
}

/// Writes until an error; returns how many batches are durable for certain, and how many were tried.
fn run(disk: &SimDisk) -> (u32, u32) {
    let Ok(store) = open(disk) else { return (0, 0) };
    let mut durable = 0;
    for n in 0..BATCHES {
        let (batch, durability) = batch(n);
        if store.write(batch, durability).is_err() {
            assert!(matches!(store.get(A, b"n"), Err(StoreError::Poisoned { .. })), "stopped after a failed write");
            return (durable, n + 1);
        }
        if durability == Durability::Sync {
            durable = n + 1;
        }
    }
    (durable, BATCHES)
}

/// How many batches the store holds, having checked that it holds them whole.
fn held(store: &dyn Store) -> u32 {
    let number = |table| {
        let value = store.get(table, b"n").unwrap();
        value.map_or(0, |value| u32::from_le_bytes(value.try_into().unwrap()) + 1)
    };
    let held = number(A);
    assert_eq!(number(B), held, "a batch spans tables");
    let rows = store.scan(A, (Unbounded, Unbounded), 10, false).unwrap();
    let rows: Vec<_> = rows.into_iter().filter(|(key, _)| key != b"n").collect();
    match held.checked_sub(1) {
        None => assert_eq!(rows, []),
        Some(last) => assert_eq!(rows, [(format!("row-{last}").into_bytes(), vec![last as u8; 700])]),
    }
    held
}

#[test]
fn power_may_go_at_any_change() {
    let mut stopped = 0;
    for point in 0.. {
        let mut finished = false;
        for seed in 0..6 {
            let disk = SimDisk::new(seed * 1_000 + point);
            disk.power_off_after(point);
            let (durable, tried) = run(&disk);
            finished = !disk.is_off();
            stopped += u32::from(!finished);
            disk.crash();
            let store = open(&disk).unwrap_or_else(|error| panic!("point {point}, seed {seed}: {error}"));
            let held = held(&*store);
            assert!((durable..=tried).contains(&held), "point {point}, seed {seed}: {held} not in {durable}..={tried}");
            // The store goes on working.
            let (batch, _) = batch(held);
            store.write(batch, Durability::Sync).unwrap();
        }
        if finished {
            break;
        }
    }
    assert!(stopped > 100, "only {stopped} runs were cut short");
}

#[test]
fn a_disk_that_lies_is_caught_by_the_same_check() {
    let caught = (0..40).filter(|&seed| {
        let disk = SimDisk::new(seed);
        assert!(open(&disk).is_ok());
        disk.forget_sync(true);
        let (durable, _) = run(&disk);
        disk.crash();
        match open(&disk) {
            Err(_) => true,
            Ok(store) => {
                let value = store.get(A, b"n");
                !matches!(value, Ok(Some(value)) if u32::from_le_bytes(value.clone().try_into().unwrap()) + 1 >= durable)
            }
        }
    });
    assert!(caught.count() > 10);
}

#[test]
fn a_failed_sync_stops_the_store() {
    let disk = SimDisk::new(7);
    let store = open(&disk).unwrap();
    let (first, _) = batch(0);
    store.write(first, Durability::Sync).unwrap();
    disk.fail_next_sync(1);
    let (second, _) = batch(1);
    let error = store.write(second.clone(), Durability::Sync).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert!(matches!(store.write(second, Durability::Sync), Err(StoreError::Poisoned { .. })));
    drop(store);
    disk.crash();
    assert!((1..=2).contains(&held(&*open(&disk).unwrap())));
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let disk = SimDisk::new(3);
    let store = open(&disk).unwrap();
    let (first, _) = batch(0);
    store.write(first, Durability::Sync).unwrap();
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_capacity(Some(used + 4_096));
    let mut large = Batch::new();
    large.put(B, b"large", vec![1; 8 << 20]);
    let error = store.write(large, Durability::Sync).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    drop(store);
    disk.set_capacity(None);
    let store = open(&disk).unwrap();
    assert_eq!(held(&*store), 1);
    assert_eq!(store.get(B, b"large").unwrap(), None);
}
