//! Live readings while a backlog drains: sent when they are due, and seen at the
//! hub when a query there answers them.
//!
//! A reading's latency runs from the time that it carries until an answer of a
//! hub's `/v1/events` that holds it was read: it includes the gateway's batch
//! (readings are posted together every 50 ms), the agent's fsync, block and
//! turn on the link, the hub's quorum and its state machine, and up to 20 ms
//! between two looks. It therefore bounds the time to visibility from above.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grey_bench::http::{self, Poster};
use grey_bench::{Outcome, scalar};

use crate::namespace::Namespace;

/// Readings due in this time are posted together.
const BATCH: Duration = Duration::from_millis(50);
/// Between two looks at the hub.
const LOOK: Duration = Duration::from_millis(20);
/// The device of live readings, and their stream: one at a time, so that the value tells which it is.
const STREAM: &str = "live";

/// Now, Unix ms.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Live readings under way.
pub(crate) struct Live {
    /// Ends the posting, and then the watching.
    stop: Arc<AtomicBool>,
    posted_all: Arc<AtomicBool>,
    posted: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
    /// When the first is due, Unix ms.
    began_ms: i64,
    poster: Option<JoinHandle<Outcome<()>>>,
    watcher: Option<JoinHandle<Outcome<Vec<u32>>>>,
}

/// When reading `number` is due, ms after the first.
fn due_ms(number: u64) -> i64 {
    (number as f64 * 1_000.0 / scalar::PER_S) as i64
}

impl Live {
    /// Begins; `site` and `hub` run what they are given in the namespace of each.
    pub(crate) fn start(site: &Namespace, hub: &Namespace, agent: SocketAddr, query: SocketAddr) -> Outcome<Self> {
        let (stop, posted_all) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (posted, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let began_ms = unix_ms();
        let (ending, count) = (stop.clone(), posted.clone());
        let poster = site.run(move || Ok(std::thread::spawn(move || post(agent, began_ms, &ending, &count))))?;
        let (ending, count, known) = (posted_all.clone(), posted.clone(), seen.clone());
        let watcher =
            hub.run(move || Ok(std::thread::spawn(move || watch(query, began_ms, &ending, &count, &known))))?;
        Ok(Self { stop, posted_all, posted, seen, began_ms, poster: Some(poster), watcher: Some(watcher) })
    }

    /// Since the first was due.
    pub(crate) fn seconds(&self) -> f64 {
        (unix_ms() - self.began_ms) as f64 / 1_000.0
    }

    /// Readings that the hub has shown.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends; every reading's latency in ms, sorted.
    pub(crate) fn finish(mut self) -> Outcome<Vec<u32>> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(poster) = self.poster.take() {
            poster.join().map_err(|_| "the poster failed")??;
        }
        self.posted_all.store(true, Ordering::Relaxed);
        let watcher = self.watcher.take().ok_or("it was finished before")?;
        let mut latencies = watcher.join().map_err(|_| "the watcher failed")??;
        let posted = self.posted.load(Ordering::Relaxed);
        if latencies.len() as u64 != posted {
            return Err(format!("of {posted} live readings the hub shows {}", latencies.len()).into());
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.posted_all.store(true, Ordering::Relaxed);
    }
}

fn post(agent: SocketAddr, began_ms: i64, stop: &AtomicBool, posted: &AtomicU64) -> Outcome<()> {
    let mut poster = Poster::connect(agent)?;
    let mut number = 0;
    let mut body = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(BATCH);
        let since_ms = unix_ms() - began_ms;
        body.clear();
        while due_ms(number) <= since_ms {
            let ts = began_ms + due_ms(number);
            body.extend_from_slice(
                format!("{{\"device\":\"{STREAM}\",\"stream\":\"{STREAM}\",\"value\":{number},\"ts\":{ts}}}\n")
                    .as_bytes(),
            );
            number += 1;
        }
        if !body.is_empty() {
            poster.post(&body)?;
            posted.store(number, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Asks the hub for what is new until everything that was posted has been seen.
fn watch(
    query: SocketAddr,
    began_ms: i64,
    stop: &AtomicBool,
    posted: &AtomicU64,
    seen: &AtomicU64,
) -> Outcome<Vec<u32>> {
    const PATIENCE_LOOKS: u32 = 3_000;
    let mut latencies: Vec<Option<u32>> = Vec::new();
    // Everything below has been seen: the query begins there.
    let mut first = 0;
    let mut idle = 0;
    loop {
        let from = began_ms + due_ms(first as u64);
        let page = http::json(query, &format!("/v1/events?stream={STREAM}&limit=10000&from={from}"))?;
        let now = unix_ms();
        for event in page["events"].as_array().into_iter().flatten() {
            let number = event["value"].as_f64().ok_or_else(|| format!("no number in {event}"))? as usize;
            if latencies.len() <= number {
                latencies.resize(number + 1, None);
            }
            if latencies[number].is_none() {
                let latency = (now - began_ms - due_ms(number as u64)).max(0);
                latencies[number] = Some(u32::try_from(latency).unwrap_or(u32::MAX));
                seen.fetch_add(1, Ordering::Relaxed);
                idle = 0;
            }
        }
        while latencies.get(first).is_some_and(Option::is_some) {
            first += 1;
        }
        idle += 1;
        let ended = stop.load(Ordering::Relaxed);
        if ended && (first as u64 == posted.load(Ordering::Relaxed) || idle > PATIENCE_LOOKS) {
            return Ok(latencies.into_iter().flatten().collect());
        }
        std::thread::sleep(LOOK);
    }
}
