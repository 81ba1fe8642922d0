//! A log that survives power losses: append, commit, read, trim.
//!
//! `cargo run -p grey-examples --example log`

use std::path::Path;
use std::sync::Arc;

use grey_disk::RealDisk;
use grey_log::{Log, LogConfig, LogError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let disk = Arc::new(RealDisk::new(directory.path()));
    // Small segments, so that the space of trimmed records shows.
    let config = LogConfig { segment_bytes_max: 4_096, ..LogConfig::default() };
    let (mut log, recovery) = Log::open(disk.clone(), Path::new("readings"), config)?;
    assert_eq!(recovery.records, 0, "a new log is empty");

    // `append` only buffers; `commit` is one write and one fsync for all of them.
    for n in 0..1_000 {
        let index = log.append(format!("reading {n}").as_bytes())?;
        assert_eq!(index, n, "indexes are consecutive");
        assert_eq!(log.read(n)?, None, "nothing is visible before it is durable");
        if n % 100 == 99 {
            assert_eq!(log.commit()?, n + 1);
        }
    }

    // Readers are cheap, work on any thread, and see what was committed.
    let reader = log.reader();
    let counted = std::thread::spawn(move || -> Result<u64, LogError> {
        let (mut from, mut count) = (0, 0);
        loop {
            let page = reader.scan(from, 1_024)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            from = last + 1;
            count += page.len() as u64;
        }
    });
    assert_eq!(counted.join().map_err(|_| "the reader panicked")??, 1_000);

    // Whole segments below the index are deleted; what is needed stays.
    let before = log.bytes();
    log.trim_front(900)?;
    assert!(log.first_index() <= 900 && log.bytes() < before);
    assert_eq!(log.read(900)?.as_deref(), Some(&b"reading 900"[..]));

    // Opened again, it goes on where it was: an index is never given twice.
    drop(log);
    let (mut log, recovery) = Log::open(disk, Path::new("readings"), config)?;
    assert!(recovery.damaged.is_empty() && recovery.torn_bytes == 0, "{recovery:?}");
    assert_eq!(log.append(b"one more")?, 1_000);
    log.commit()?;
    println!("records {} to {} in {} bytes", log.first_index(), log.durable_end(), log.bytes());
    Ok(())
}
