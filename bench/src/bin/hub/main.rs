//! Measures the commits of a hub of three members beside those of a
//! three-member etcd: same disk, same payload, same number of writers, in one run.
//!
//! A writer has one block (or put) on its way and sends the next once it is
//! acknowledged, which means in both cases: a majority has it in its log, and
//! has called fdatasync. In each round both groups have a turn, with new
//! processes and new folders, so that neither has an idle neighbour.
//!
//! A writer of the hub is a site: an uplink session with its own sequence. A
//! writer of etcd is a gRPC client that puts new keys at the leader. The hub has
//! no coordinator configured: what it accepts stays in its log, as what etcd
//! takes stays in its history, which is not compacted.

mod etcd;
mod grey;
mod timing;

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use grey_bench::figures::{median, print_table, quantile};
use grey_bench::{Outcome, Places, debian, machine, version};

use timing::Timing;

/// Bytes of the pool that payloads are taken from; a prime, so that they differ.
const POOL_BYTES: usize = 16_777_213;

#[derive(Debug, Parser)]
#[command(about = "Compares the commits of a three-member hub with those of a three-member etcd")]
struct Options {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of a block's payload, and of a put's value.
    #[arg(long, value_delimiter = ',', default_value = "4096,65536")]
    payload_bytes: Vec<usize>,
    /// Writers at the same time.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    writers: Vec<usize>,
    /// Length of a measurement, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Load before a measurement, in seconds.
    #[arg(long, default_value_t = 1)]
    warm_up_s: u64,
    /// Connections that etcd's writers share. One was the fastest; more cost etcd more.
    #[arg(long, default_value_t = 1)]
    etcd_connections: usize,
    /// Rest before each turn, so that the disk has its full allowance, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pause_ms: u64,
    #[command(flatten)]
    places: Places,
}

/// What one turn measured.
struct Turn {
    /// µs, sorted.
    latencies: Vec<u32>,
    per_s: f64,
    /// CPU seconds of the three members and of the writers, and bytes that the members wrote, each per commit.
    servers_cpu_us: f64,
    writers_cpu_us: f64,
    written: f64,
}

/// What is written, and by how many.
#[derive(Clone)]
struct Work {
    writers: usize,
    payload_bytes: usize,
    pool: Bytes,
}

impl Work {
    /// An incompressible payload, different for each writer and number.
    fn payload(&self, writer: usize, number: u64) -> Bytes {
        let step = (number as usize).wrapping_mul(self.payload_bytes * 7 + 13).wrapping_add(writer * 999_983);
        let start = step % (POOL_BYTES - self.payload_bytes);
        self.pool.slice(start..start + self.payload_bytes)
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hub: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let etcd = debian("etcd")?;
    println!("{}", machine());
    println!(
        "{}, three members, default settings but a quota of 8 GiB; gRPC puts of new keys at the leader",
        version(&etcd, "--version")?
    );
    println!(
        "hub-server, three members, durability fsync, no coordinator; one uplink session a writer, one block in flight each"
    );
    println!("{} rounds of {} s after {} s of warm-up, medians\n", options.rounds, options.seconds, options.warm_up_s);
    let pool: Bytes = random(POOL_BYTES).into();
    for payload_bytes in &options.payload_bytes {
        if *payload_bytes >= POOL_BYTES {
            return Err(format!("--payload-bytes {payload_bytes} is over {POOL_BYTES}").into());
        }
        for writers in &options.writers {
            let work = Work { writers: *writers, payload_bytes: *payload_bytes, pool: pool.clone() };
            compare(options, &work)?;
        }
    }
    Ok(())
}

fn compare(options: &Options, work: &Work) -> Outcome<()> {
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let mut turns = Vec::new();
        for name in ["hub", "etcd"] {
            std::thread::sleep(Duration::from_millis(options.pause_ms));
            let scratch = options.places.scratch()?;
            let timing = Timing::new(options.warm_up_s, options.seconds, work.writers);
            let turn = match name {
                "hub" => grey::turn(&options.places, scratch.path(), work, timing)?,
                _ => etcd::turn(scratch.path(), work, timing, options.etcd_connections)?,
            };
            if turn.latencies.is_empty() {
                return Err(format!("{name}: nothing was committed").into());
            }
            eprintln!("round {round}: {name}: {:.0} commits/s, p50 {} µs", turn.per_s, quantile(&turn.latencies, 0.5));
            turns.push(turn);
        }
        rounds.push(<[Turn; 2]>::try_from(turns).map_err(|_| "a turn is missing")?);
    }
    let of = |figure: &dyn Fn(&[Turn; 2]) -> f64| median(rounds.iter().map(figure));
    let ms = |n: usize, q: f64| of(&|turns| f64::from(quantile(&turns[n].latencies, q))) / 1e3;
    println!("{} bytes, {} writers:\n", work.payload_bytes, work.writers);
    let rows: Vec<Vec<String>> = ["hub-server x3", "etcd x3"]
        .iter()
        .enumerate()
        .map(|(n, name)| {
            vec![
                (*name).to_owned(),
                format!("{:.0}", of(&|turns| turns[n].per_s)),
                format!("{:.2}", ms(n, 0.5)),
                format!("{:.2}", ms(n, 0.99)),
                format!("{:.0}", of(&|turns| turns[n].servers_cpu_us)),
                format!("{:.0}", of(&|turns| turns[n].writers_cpu_us)),
                format!("{:.1}", of(&|turns| turns[n].written) / work.payload_bytes as f64),
            ]
        })
        .collect();
    let head = ["", "commits/s", "p50 ms", "p99 ms", "members' CPU µs", "writers' CPU µs", "bytes written / payload"];
    print_table(&head, &rows);
    let rate = of(&|turns| turns[0].per_s / turns[1].per_s);
    let p50 = of(&|t| f64::from(quantile(&t[0].latencies, 0.5)) / f64::from(quantile(&t[1].latencies, 0.5)));
    let p99 = of(&|t| f64::from(quantile(&t[0].latencies, 0.99)) / f64::from(quantile(&t[1].latencies, 0.99)));
    println!("  hub / etcd: {rate:.2} times the rate, {p50:.2} times the p50, {p99:.2} times the p99\n");
    Ok(())
}

/// Bytes by xorshift (Marsaglia, 2003).
fn random(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
