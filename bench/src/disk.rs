//! What the disk itself takes: the bound on anything that is durable before it
//! is acknowledged.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::Outcome;
use crate::figures::quantile;

const BLOCK_BYTES: usize = 4_096;

/// Microseconds of one 4 KiB write and fdatasync into space that the file has.
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncTimes {
    /// Median.
    pub p50_us: u32,
    /// 99th percentile.
    pub p99_us: u32,
    /// The longest.
    pub max_us: u32,
}

/// Writes and syncs blocks one after the other in a folder.
pub fn sync_times(folder: &Path, count: usize) -> Outcome<SyncTimes> {
    let path = folder.join("sync-times");
    let file = std::fs::File::create(&path)?;
    let block = [0x5a; BLOCK_BYTES];
    for n in 0..count {
        file.write_all_at(&block, (n * BLOCK_BYTES) as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let began = Instant::now();
        file.write_all_at(&block, (n * BLOCK_BYTES) as u64)?;
        file.sync_data()?;
        times.push(began.elapsed().as_micros() as u32);
    }
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(SyncTimes { p50_us: quantile(&times, 0.5), p99_us: quantile(&times, 0.99), max_us: quantile(&times, 1.0) })
}
