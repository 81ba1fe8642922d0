//! An MQTT server whose intake acknowledges everything, to measure what the
//! server costs by itself and to try it out with any MQTT client.
//!
//! ```text
//! cargo run --release -p grey-ingest --example sink -- --listen 127.0.0.1:1883
//! cargo run --release -p grey-ingest --example load -- --connections 50 --messages 5000000
//! ```
//!
//! With `--commit-us` the intake behaves as one that commits groups: it waits
//! that long, then acknowledges everything that has come meanwhile.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use grey_ingest::mqtt::ServerConfig;
use grey_ingest::{Batch, Broker, BrokerConfig, IngestCounters, Op, serve};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

#[derive(Parser)]
#[command(about = "an MQTT server that throws everything away")]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:1883")]
    listen: String,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Microseconds that a commit takes; 0 acknowledges at once.
    #[arg(long, default_value_t = 0)]
    commit_us: u64,
    /// Connections allowed.
    #[arg(long, default_value_t = 20_000)]
    connections_max: usize,
    /// Print every operation.
    #[arg(long)]
    verbose: bool,
}

/// Takes what there is, commits it as a group, and says so.
fn accept(mut intake: mpsc::Receiver<Batch>, commit: Duration, verbose: bool) {
    let mut group = Vec::new();
    while let Some(first) = intake.blocking_recv() {
        group.push(first);
        if !commit.is_zero() {
            std::thread::sleep(commit);
        }
        while let Ok(batch) = intake.try_recv() {
            group.push(batch);
        }
        for batch in group.drain(..) {
            if verbose {
                batch.ops.iter().for_each(print);
            }
            // A connection that is gone does not wait any more.
            let _ = batch.done.send(Ok(()));
        }
    }
}

fn print(op: &Op) {
    println!("{op:?}");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

async fn report(counters: Arc<IngestCounters>) {
    let mut before = 0;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let events = counters.events.get();
        if events != before {
            let open = counters.connections_open();
            eprintln!("{:>9} events/s, {open} connections, {} KiB resident", events - before, resident_kib());
        }
        before = events;
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    runtime.block_on(async {
        let config = Arc::new(ServerConfig { connections_max: args.connections_max, ..ServerConfig::default() });
        let counters = Arc::clone(&config.counters);
        let broker = Broker::new(BrokerConfig::default(), Arc::clone(&counters));
        let (sender, intake) = mpsc::channel(1_024);
        let commit = Duration::from_micros(args.commit_us);
        std::thread::spawn(move || accept(intake, commit, args.verbose));
        let listener = TcpListener::bind(&args.listen).await?;
        println!("listening mqtt {}", listener.local_addr()?);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(report(Arc::clone(&counters)));
        tokio::spawn(async move {
            let _ = tokio::signal::ctrl_c().await;
            let _ = stop.send(true);
        });
        serve(listener, config, sender, broker, stopped).await?;
        counters.visit(|name, label, value| {
            if value > 0 {
                let label = label.map(|(key, value)| format!("{{{key}={value}}}")).unwrap_or_default();
                eprintln!("{name}{label} {value}");
            }
        });
        Ok(())
    })
}
