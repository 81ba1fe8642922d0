//! Keyed state with atomic batches.
//!
//! `cargo run -p grey-examples --example store`

use std::ops::Bound;

use grey_store::{Batch, Durability, StoreOptions, Table, open};

const CURSORS: Table = Table::new("cursors");
const NAMES: Table = Table::new("names");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let store = open(directory.path(), &StoreOptions::default())?;

    // A batch is applied whole or not at all, over several tables.
    let mut batch = Batch::new();
    for hub in 0..10_u8 {
        batch.put(CURSORS, [hub], 100_u64.to_be_bytes());
        batch.put(NAMES, [hub], format!("hub-{hub}"));
    }
    store.write(batch, Durability::Sync)?;
    assert_eq!(store.get(NAMES, &[3])?.as_deref(), Some(&b"hub-3"[..]));

    // Ranges come in byte order, or backwards.
    let from_five = (Bound::Included(&[5][..]), Bound::Unbounded);
    let names: Vec<String> = store
        .scan(NAMES, from_five, 3, false)?
        .into_iter()
        .map(|(_, name)| String::from_utf8_lossy(&name).into_owned())
        .collect();
    assert_eq!(names, ["hub-5", "hub-6", "hub-7"]);
    let last = store.scan(CURSORS, (Bound::Unbounded, Bound::Unbounded), 1, true)?;
    assert_eq!(last[0].0, [9]);

    // Operations of a batch take effect in their order.
    let mut batch = Batch::new();
    batch.delete_range(CURSORS, (Bound::Unbounded, Bound::Excluded(&[5][..]))).put(CURSORS, [0], b"again");
    store.write(batch, Durability::Lazy)?;
    assert_eq!(store.scan(CURSORS, (Bound::Unbounded, Bound::Unbounded), 100, false)?.len(), 6);

    // A synced write takes every earlier lazy one along.
    store.write(Batch::new(), Durability::Sync)?;
    drop(store);
    let store = open(directory.path(), &StoreOptions { check_on_open: true, ..StoreOptions::default() })?;
    assert_eq!(store.get(CURSORS, &[0])?.as_deref(), Some(&b"again"[..]));

    // What breaks a limit is refused with its name and size.
    let mut batch = Batch::new();
    batch.put(CURSORS, b"", b"an empty key");
    println!("{}", store.write(batch, Durability::Sync).expect_err("keys have at least one byte"));
    Ok(())
}
