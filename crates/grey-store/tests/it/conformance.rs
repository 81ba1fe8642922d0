//! What every engine must do, run against each.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;

use grey_store::{
    Batch, Durability, Engine, KEY_BYTES_MAX, KeyRange, Row, Store, StoreError, StoreOptions, Table, VALUE_BYTES_MAX,
    open,
};
use proptest::prelude::*;

const A: Table = Table::new("a");
const AB: Table = Table::new("ab");
const B: Table = Table::new("b");
const ALL: KeyRange<'static> = (Unbounded, Unbounded);

type Rows = Vec<Row>;

pub(crate) fn options(engine: Engine) -> StoreOptions {
    StoreOptions { engine, allow_weak_durability: true, ..StoreOptions::default() }
}

fn open_store(engine: Engine, dir: &Path) -> Box<dyn Store> {
    open(dir, &options(engine)).unwrap()
}

fn put(store: &dyn Store, table: Table, rows: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(table, *key, *value);
    }
    store.write(batch, Durability::Lazy).unwrap();
}

fn keys(store: &dyn Store, table: Table, range: KeyRange<'_>) -> Vec<Vec<u8>> {
    store.scan(table, range, usize::MAX, false).unwrap().into_iter().map(|(key, _)| key).collect()
}

fn reads_what_was_written(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    assert_eq!(store.get(A, b"k").unwrap(), None, "a table that nobody wrote is empty");
    assert_eq!(store.scan(A, ALL, 10, false).unwrap(), Rows::new());
    put(&*store, A, &[(b"k", b"1"), (b"k", b"2"), (b"empty", b"")]);
    assert_eq!(store.get(A, b"k").unwrap().unwrap(), b"2", "the later change of a batch wins");
    assert_eq!(store.get(A, b"empty").unwrap().unwrap(), b"", "an empty value is a value");
    let mut batch = Batch::new();
    batch.delete(A, b"k").delete(A, b"never there").put(B, b"other", b"3");
    store.write(batch, Durability::Lazy).unwrap();
    assert_eq!(store.get(A, b"k").unwrap(), None);
    assert_eq!(store.get(B, b"other").unwrap().unwrap(), b"3");
}

fn orders_by_bytes(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    put(&*store, A, &[(b"\xff", b""), (b"\x00", b""), (b"b", b""), (b"a\x00", b""), (b"a", b""), (b"a\xff", b"")]);
    // Names that are prefixes of each other must not mix.
    put(&*store, AB, &[(b"x", b"")]);
    put(&*store, B, &[(b"y", b"")]);
    let expected: Vec<Vec<u8>> =
        [&b"\x00"[..], b"a", b"a\x00", b"a\xff", b"b", b"\xff"].iter().map(|key| key.to_vec()).collect();
    assert_eq!(keys(&*store, A, ALL), expected);
    let reversed = store.scan(A, ALL, 4, true).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(reversed, expected.iter().rev().take(4).cloned().collect::<Vec<_>>());
    assert_eq!(store.scan(A, ALL, 0, false).unwrap(), Rows::new());
}

fn respects_bounds(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    put(&*store, A, &[(b"1", b""), (b"2", b""), (b"3", b"")]);
    put(&*store, AB, &[(b"2", b"")]);
    let of = |start, end| keys(&*store, A, (start, end)).concat();
    assert_eq!(of(Included(b"2"), Unbounded), b"23");
    assert_eq!(of(Excluded(b"2"), Unbounded), b"3");
    assert_eq!(of(Unbounded, Included(b"2")), b"12");
    assert_eq!(of(Unbounded, Excluded(b"2")), b"1");
    assert_eq!(of(Included(b"2"), Included(b"2")), b"2");
    for empty in [
        (Included(&b"2"[..]), Excluded(&b"2"[..])),
        (Excluded(b"2"), Excluded(b"2")),
        (Included(b"3"), Included(b"1")),
        (Excluded(b"9"), Unbounded),
    ] {
        assert_eq!(keys(&*store, A, empty), Vec::<Vec<u8>>::new(), "{empty:?}");
    }
    let mut batch = Batch::new();
    batch.delete_range(A, (Included(b"3"), Included(b"1")));
    store.write(batch, Durability::Lazy).unwrap();
    assert_eq!(of(Unbounded, Unbounded), b"123", "a range that ends before it starts deletes nothing");
}

fn deletes_ranges_in_order(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    put(&*store, A, &[(b"1", b""), (b"2", b""), (b"3", b""), (b"4", b"")]);
    put(&*store, AB, &[(b"2", b"")]);
    let mut batch = Batch::new();
    batch.put(A, b"25", b"gone").delete_range(A, (Included(b"2"), Excluded(b"4"))).put(A, b"3", b"back");
    store.write(batch, Durability::Lazy).unwrap();
    assert_eq!(keys(&*store, A, ALL).concat(), b"134");
    assert_eq!(store.get(A, b"3").unwrap().unwrap(), b"back");
    let mut batch = Batch::new();
    batch.delete_range(A, ALL).delete_range(B, ALL);
    store.write(batch, Durability::Lazy).unwrap();
    assert_eq!(keys(&*store, A, ALL), Vec::<Vec<u8>>::new());
    assert_eq!(keys(&*store, AB, ALL).concat(), b"2", "the neighbour's table is untouched");
}

fn refuses_a_batch_as_a_whole(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    for (key, value) in
        [(vec![], vec![]), (vec![1; KEY_BYTES_MAX + 1], vec![]), (vec![1], vec![0; VALUE_BYTES_MAX + 1])]
    {
        let mut batch = Batch::new();
        batch.put(A, b"good", b"1").put(A, key, value);
        let error = store.write(batch, Durability::Lazy).unwrap_err();
        assert!(matches!(error, StoreError::Key { .. } | StoreError::Value { .. }), "{error}");
    }
    assert_eq!(store.get(A, b"good").unwrap(), None);
    assert!(matches!(store.get(A, b""), Err(StoreError::Key { bytes: 0, .. })));
    put(&*store, A, &[(&[7; KEY_BYTES_MAX], b"long")]);
    assert_eq!(store.get(A, &[7; KEY_BYTES_MAX]).unwrap().unwrap(), b"long");
}

fn keeps_everything_across_reopening(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..1_048_576_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    {
        let store = open_store(engine, dir.path());
        let mut batch = Batch::new();
        batch.put(A, b"large", large.clone()).put(B, b"small", b"1");
        store.write(batch, Durability::Sync).unwrap();
        put(&*store, A, &[(b"lazy", b"2")]);
        store.write(Batch::new(), Durability::Sync).unwrap();
        put(&*store, A, &[(b"lazy before a clean close", b"3")]);
    }
    let store = open_store(engine, dir.path());
    assert_eq!(store.get(A, b"large").unwrap().unwrap(), large);
    assert_eq!(store.get(B, b"small").unwrap().unwrap(), b"1");
    assert_eq!(store.get(A, b"lazy").unwrap().unwrap(), b"2");
    assert_eq!(store.get(A, b"lazy before a clean close").unwrap().unwrap(), b"3");
    store.compact().unwrap();
    assert_eq!(store.get(A, b"large").unwrap().unwrap(), large);
}

fn holds_many_tables(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<Table> = (0..64).map(|i| Table::new(Box::leak(format!("table-{i}").into_boxed_str()))).collect();
    {
        let store = open_store(engine, dir.path());
        let mut batch = Batch::new();
        for (i, table) in names.iter().enumerate() {
            batch.put(*table, b"k", (i as u64).to_le_bytes());
        }
        store.write(batch, Durability::Sync).unwrap();
    }
    let store = open_store(engine, dir.path());
    for (i, table) in names.iter().enumerate() {
        assert_eq!(store.scan(*table, ALL, 9, false).unwrap(), [(b"k".to_vec(), (i as u64).to_le_bytes().to_vec())]);
    }
}

fn serves_readers_beside_a_writer(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    put(&*store, A, &[(b"1", b"0"), (b"2", b"0")]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..200_u32 {
                let value = round.to_le_bytes();
                put(&*store, A, &[(b"1", &value), (b"2", &value)]);
            }
        });
        while !writer.is_finished() {
            assert_eq!(store.scan(A, ALL, 9, false).unwrap().len(), 2);
        }
    });
    assert_eq!(store.get(A, b"1").unwrap(), store.get(A, b"2").unwrap());
}

fn is_one_handle_at_a_time(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(engine, dir.path());
    let error = open(dir.path(), &options(engine)).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    drop(store);
    open_store(engine, dir.path());
}

/// One step against the model.
#[derive(Debug, Clone)]
enum Step {
    Put(usize, u8, Vec<u8>),
    Delete(usize, u8),
    DeleteRange(usize, Bound<u8>, Bound<u8>),
    Commit(bool),
    Reopen,
    Compact,
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![Just(Unbounded), (0_u8..12).prop_map(Included), (0_u8..12).prop_map(Excluded)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0_u8..12, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(t, k, v)| Step::Put(t, k, v)),
        3 => (0..3_usize, 0_u8..12).prop_map(|(t, k)| Step::Delete(t, k)),
        2 => (0..3_usize, bound(), bound()).prop_map(|(t, s, e)| Step::DeleteRange(t, s, e)),
        5 => any::<bool>().prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
    ]
}

fn inside(key: u8, start: Bound<u8>, end: Bound<u8>) -> bool {
    let after = match start {
        Unbounded => true,
        Included(start) => key >= start,
        Excluded(start) => key > start,
    };
    let before = match end {
        Unbounded => true,
        Included(end) => key <= end,
        Excluded(end) => key < end,
    };
    after && before
}

fn agrees_with_a_map(engine: Engine) {
    let tables = [A, AB, B];
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open_store(engine, dir.path());
        let mut model: [BTreeMap<u8, Vec<u8>>; 3] = Default::default();
        let mut pending = (Batch::new(), model.clone());
        for step in steps {
            match step {
                Step::Put(table, key, value) => {
                    pending.0.put(tables[table], [key], value.clone());
                    pending.1[table].insert(key, value);
                }
                Step::Delete(table, key) => {
                    pending.0.delete(tables[table], [key]);
                    pending.1[table].remove(&key);
                }
                Step::DeleteRange(table, start, end) => {
                    let keys = (start.map(|k| [k]), end.map(|k| [k]));
                    let range = (keys.0.as_ref().map(|k| &k[..]), keys.1.as_ref().map(|k| &k[..]));
                    pending.0.delete_range(tables[table], range);
                    pending.1[table].retain(|key, _| !inside(*key, start, end));
                }
                Step::Commit(sync) => {
                    let durability = if sync { Durability::Sync } else { Durability::Lazy };
                    store.write(std::mem::take(&mut pending.0), durability).unwrap();
                    model = pending.1.clone();
                }
                Step::Reopen => {
                    drop(store);
                    store = open_store(engine, dir.path());
                }
                Step::Compact => store.compact().unwrap(),
            }
            for (table, rows) in tables.iter().zip(&model) {
                let expected: Rows = rows.iter().map(|(key, value)| (vec![*key], value.clone())).collect();
                prop_assert_eq!(store.scan(*table, ALL, usize::MAX, false).unwrap(), expected);
            }
        }
    });
}

macro_rules! conformance {
    ($engine:ident, $variant:expr) => {
        mod $engine {
            use super::*;
            conformance!(
                @tests $variant;
                reads_what_was_written, orders_by_bytes, respects_bounds, deletes_ranges_in_order,
                refuses_a_batch_as_a_whole, keeps_everything_across_reopening, holds_many_tables,
                serves_readers_beside_a_writer, is_one_handle_at_a_time, agrees_with_a_map
            );
        }
    };
    (@tests $variant:expr; $($test:ident),+) => {
        $(#[test] fn $test() { super::$test($variant); })+
    };
}

conformance!(redb, Engine::Redb);
#[cfg(feature = "sled")]
conformance!(sled, Engine::Sled);
