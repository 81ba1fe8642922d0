//! What the options promise and refuse.

use grey_store::{Batch, Durability, Engine, StoreError, StoreOptions, Table, open};

const T: Table = Table::new("t");

fn one_row() -> Batch {
    let mut batch = Batch::new();
    batch.put(T, b"k", b"v");
    batch
}

#[test]
fn a_directory_belongs_to_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state.sled")).unwrap();
    let error = open(dir.path(), &StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::OtherEngine { found: "sled", wanted: "redb", .. }), "{error}");
    assert!(!dir.path().join("state.redb").exists());
}

#[cfg(not(feature = "sled"))]
#[test]
fn an_engine_that_was_not_built_says_how_to_build_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { engine: Engine::Sled, ..StoreOptions::default() };
    let error = open(dir.path(), &options).unwrap_err();
    assert!(error.to_string().contains("cargo feature \"sled\""), "{error}");
}

#[cfg(feature = "sled")]
#[test]
fn sled_refuses_a_promise_that_it_cannot_keep() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { engine: Engine::Sled, ..StoreOptions::default() };
    let store = open(dir.path(), &options).unwrap();
    let error = store.write(one_row(), Durability::Sync).unwrap_err();
    assert!(matches!(error, StoreError::WeakDurability { engine: "sled" }), "{error}");
    assert_eq!(store.get(T, b"k").unwrap(), None, "nothing of a refused batch is applied");
    store.write(one_row(), Durability::Lazy).unwrap();
    assert_eq!(store.get(T, b"k").unwrap().unwrap(), b"v");
}

#[test]
fn a_creation_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.redb.new"), b"half a header").unwrap();
    let store = open(dir.path(), &StoreOptions { engine: Engine::Redb, ..StoreOptions::default() }).unwrap();
    store.write(one_row(), Durability::Sync).unwrap();
    assert!(!dir.path().join("state.redb.new").exists());
}

#[test]
fn compaction_gives_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &StoreOptions::default()).unwrap();
    let mut batch = Batch::new();
    for key in 0..64_u32 {
        batch.put(T, key.to_be_bytes(), vec![key as u8; 65_536]);
    }
    store.write(batch, Durability::Sync).unwrap();
    let size = || std::fs::metadata(dir.path().join("state.redb")).unwrap().len();
    let full = size();
    let mut batch = Batch::new();
    batch.delete_range(T, (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded));
    store.write(batch, Durability::Sync).unwrap();
    store.compact().unwrap();
    assert!(size() * 2 < full, "{} of {full} bytes left", size());
}
