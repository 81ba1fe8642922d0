//! A publisher over HTTP: batches of bulky events, each sent again, with the same ids,
//! until it was answered with 200.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinHandle;

use crate::federation::http;
use crate::plant::{Counters, Record};

const BATCH_EVENTS: u64 = 40;
/// Characters of an event's text, drawn evenly from 64: they compress to three quarters.
const TEXT_CHARS: u64 = 800;
const PAUSE: Duration = Duration::from_millis(20);
const DEVICE: &str = "http-00";

/// The publisher's task.
#[derive(Debug)]
pub(super) struct Publisher {
    /// What was acknowledged.
    pub(super) record: Arc<Record>,
    told: Arc<Told>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Told {
    stop: AtomicBool,
    refused: AtomicU64,
    broken: AtomicU64,
}

impl Publisher {
    /// Publishes from now on.
    pub(super) fn start(site: &str, agent: SocketAddr, counters: Arc<Counters>) -> Self {
        let record = Arc::new(Record::new(site, DEVICE));
        let told = Arc::new(Told::default());
        let task = tokio::spawn(publish(agent, Arc::clone(&record), Arc::clone(&told), counters));
        Self { record, told, task: Some(task) }
    }

    /// Makes no more events and waits until those that it made are acknowledged.
    pub(super) async fn stop(&mut self, within: Duration) -> Result<()> {
        self.told.stop.store(true, Ordering::Relaxed);
        let Some(task) = self.task.take() else { return Ok(()) };
        match tokio::time::timeout(within, task).await {
            Ok(ended) => Ok(ended?),
            Err(_) => bail!("a batch still waits for its acknowledgement after {within:?}"),
        }
    }

    /// Requests that were answered with anything but 200.
    pub(super) fn refused(&self) -> u64 {
        self.told.refused.load(Ordering::Relaxed)
    }

    /// Requests without an answer.
    pub(super) fn broken(&self) -> u64 {
        self.told.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn publish(agent: SocketAddr, record: Arc<Record>, told: Arc<Told>, counters: Arc<Counters>) {
    let mut first = 0;
    while !told.stop.load(Ordering::Relaxed) {
        let numbers = first..first + BATCH_EVENTS;
        let body: String = numbers.clone().map(|n| event(&record, n)).collect();
        loop {
            match http::post(agent, "/v1/events", "application/x-ndjson", body.as_bytes()).await {
                Ok(answer) if answer.status == 200 => break,
                Ok(_) => _ = told.refused.fetch_add(1, Ordering::Relaxed),
                Err(_) => _ = told.broken.fetch_add(1, Ordering::Relaxed),
            }
            tokio::time::sleep(PAUSE).await;
        }
        for n in numbers {
            if record.acknowledge(n) {
                counters.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
        first += BATCH_EVENTS;
        tokio::time::sleep(PAUSE).await;
    }
}

fn event(record: &Record, n: u64) -> String {
    const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // xorshift64 (Marsaglia, 2003).
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        char::from(ALPHABET[(x >> 58) as usize])
    };
    let text: String = (0..TEXT_CHARS).map(|_| next()).collect();
    let ts = 1_767_225_600_000 + n;
    format!(r#"{{"device":"{DEVICE}","stream":"report","id":"{}","ts":{ts},"value":"{text}"}}"#, record.id(n)) + "\n"
}
