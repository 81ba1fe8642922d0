//! What the disk itself takes: the bound on anything that is durable before it
//! is acknowledged.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::figures::quantile;

const BLOCK_BYTES: usize = 4_096;
/// Between two blocks of a probe: seldom enough not to be the load itself.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

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

/// Measures the same now and then while something else uses the disk.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<SyncTimes>>,
}

impl Probe {
    /// Starts to write and sync a block in a folder every 50 ms.
    pub fn start(folder: &Path) -> Outcome<Self> {
        let file = std::fs::File::create(folder.join("sync-probe"))?;
        file.write_all_at(&[0; BLOCK_BYTES], 0)?;
        file.sync_all()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                times.push(sync_once(&file, 0)?);
                std::thread::sleep(PROBE_INTERVAL);
            }
            Ok(SyncTimes::of(times))
        });
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) -> Outcome<SyncTimes> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the disk's probe failed")?
    }
}

fn sync_once(file: &std::fs::File, at: usize) -> Outcome<u32> {
    let began = Instant::now();
    file.write_all_at(&[0x5a; BLOCK_BYTES], at as u64)?;
    file.sync_data()?;
    Ok(began.elapsed().as_micros() as u32)
}

impl SyncTimes {
    fn of(mut times: Vec<u32>) -> Self {
        times.sort_unstable();
        Self { p50_us: quantile(&times, 0.5), p99_us: quantile(&times, 0.99), max_us: quantile(&times, 1.0) }
    }
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
        times.push(sync_once(&file, n * BLOCK_BYTES)?);
    }
    std::fs::remove_file(&path)?;
    Ok(SyncTimes::of(times))
}
