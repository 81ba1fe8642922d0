//! When a turn is measured, and what its writers and servers needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use grey_bench::{Outcome, usage};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::Turn;

/// The measured part of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    from: Instant,
    until: Instant,
}

/// The writers' and the measuring side's common clock.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    warm_up: Duration,
    length: Duration,
    connected: Arc<Barrier>,
    window: watch::Sender<Option<Window>>,
}

/// One writer's latencies.
#[derive(Debug)]
pub(crate) struct Latencies {
    window: Window,
    measured_us: Vec<u32>,
    commits: u64,
}

impl Latencies {
    /// True when the turn is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.window.until
    }

    /// Takes down one commit.
    pub(crate) fn add(&mut self, began: Instant) {
        let now = Instant::now();
        self.commits += 1;
        if began >= self.window.from && now <= self.window.until {
            self.measured_us.push((now - began).as_micros().try_into().unwrap_or(u32::MAX));
        }
    }
}

impl Timing {
    pub(crate) fn new(warm_up_s: u64, seconds: u64, writers: usize) -> Self {
        Self {
            warm_up: Duration::from_secs(warm_up_s),
            length: Duration::from_secs(seconds),
            connected: Arc::new(Barrier::new(writers + 1)),
            window: watch::channel(None).0,
        }
    }

    /// Called by a writer that is connected: waits for the others.
    pub(crate) async fn begin(&self) -> Outcome<Latencies> {
        let mut window = self.window.subscribe();
        self.connected.wait().await;
        let window = window.wait_for(Option::is_some).await?.ok_or("no window")?;
        Ok(Latencies { window, measured_us: Vec::new(), commits: 0 })
    }

    /// Measures while the writers work; returns the turn and how many commits there were in all.
    pub(crate) async fn measure(
        &self,
        mut writers: JoinSet<Outcome<Latencies>>,
        servers: &[u32],
    ) -> Outcome<(Turn, u64)> {
        tokio::select! {
            _ = self.connected.wait() => {}
            Some(early) = writers.join_next() => {
                early??;
                return Err("a writer ended before the start".into());
            }
            () = tokio::time::sleep(Duration::from_secs(60)) => return Err("the writers could not connect in a minute".into()),
        }
        let from = Instant::now() + self.warm_up;
        let until = from + self.length;
        self.window.send_replace(Some(Window { from, until }));
        let used = || {
            let cpu: f64 = servers.iter().map(|pid| usage::cpu_s(*pid)).sum();
            let written: u64 = servers.iter().map(|pid| usage::written(*pid)).sum();
            (cpu, usage::cpu_s(std::process::id()), written)
        };
        tokio::time::sleep_until(from.into()).await;
        let before = used();
        tokio::time::sleep_until(until.into()).await;
        let after = used();
        let (mut latencies, mut commits) = (Vec::new(), 0);
        let ended = async {
            while let Some(writer) = writers.join_next().await {
                let writer = writer??;
                latencies.extend(writer.measured_us);
                commits += writer.commits;
            }
            Outcome::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .map_err(|_| "a writer got no answer in a minute")??;
        latencies.sort_unstable();
        let each = 1.0 / (latencies.len() as f64).max(1.0);
        let turn = Turn {
            per_s: latencies.len() as f64 / self.length.as_secs_f64(),
            servers_cpu_us: (after.0 - before.0) * 1e6 * each,
            writers_cpu_us: (after.1 - before.1) * 1e6 * each,
            written: (after.2 - before.2) as f64 * each,
            latencies,
        };
        Ok((turn, commits))
    }
}
