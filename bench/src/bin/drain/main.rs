//! How fast a site makes up for a day without its hub, over an emulated link,
//! and what happens to live readings meanwhile.
//!
//! The agent runs in one network namespace and a hub of three in another;
//! between them is a link in user space with a rate, a delay and a loss. The
//! link is down while a day of the reference site's readings is fed to the agent,
//! all of which are to go up. Then it comes up, live readings go on at the
//! reference rate, and the drain is measured: until what waited when the link
//! came up has been acknowledged. Afterwards a bare TCP connection sends as many
//! bytes over the same link, with BBR and with cubic.

mod link;
mod live;
mod namespace;
mod plain;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::figures::{Check, mb, print_checks, print_table, quantile};
use grey_bench::http::{self, Poster};
use grey_bench::hub::{Hub, led};
use grey_bench::{Outcome, Places, exit_code, machine, scalar};

use link::{Link, Shape};
use live::{Live, unix_ms};
use namespace::Namespace;

/// Minutes that the specification gives for the sync after an outage.
const SPECIFIED_MIN: f64 = 18.0;
/// Least share of what the link can carry that counts as using it: of its
/// capacity, or of what a bare connection with BBR makes of it for as many bytes,
/// which is less where they are gone before the connection has its pace.
const SHARE_MIN: f64 = 0.9;
/// Live readings' 99th percentile, ms.
const LIVE_P99_MAX_MS: f64 = 2_000.0;
/// Readings of one post while feeding.
const FEED_BATCH: u64 = 5_000;
/// The pace is measured between these shares of the backlog: behind the link's
/// slow start, before its last round trips.
const STEADY: std::ops::Range<f64> = 0.25..0.95;
/// Between two looks at what waits.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Parser)]
#[command(about = "Drains a day's backlog of the reference site over emulated links")]
struct Options {
    /// Hours without a hub.
    #[arg(long, default_value_t = 24.0)]
    hours: f64,
    /// Links as RATE_MBIT/RTT_MS/LOSS_PERCENT.
    #[arg(long, value_delimiter = ',', default_value = "10/50/1,50/500/1", value_parser = shape)]
    links: Vec<Shape>,
    /// Members of the hub.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Longest wait for a drain, in seconds.
    #[arg(long, default_value_t = 1_200)]
    drain_max_s: u64,
    /// Fail when the link is not used or live readings wait.
    #[arg(long)]
    gate: bool,
    #[command(flatten)]
    places: Places,
}

fn shape(text: &str) -> Result<Shape, String> {
    let fail = || format!("{text:?} is not like 10/50/1");
    let numbers: Vec<f64> = text.split('/').map(|part| part.parse().map_err(|_| fail())).collect::<Result<_, _>>()?;
    match numbers.as_slice() {
        [mbit, rtt_ms, percent] if *mbit > 0.0 && *rtt_ms >= 0.0 && (0.0..50.0).contains(percent) => {
            Ok(Shape { bits_per_s: mbit * 1e6, rtt: Duration::from_secs_f64(rtt_ms / 1e3), loss: percent / 100.0 })
        }
        _ => Err(fail()),
    }
}

fn main() -> ExitCode {
    exit_code("drain", run(&Options::parse()))
}

fn run(options: &Options) -> Outcome<bool> {
    println!("{}", machine());
    println!(
        "{} readings of {} h at {:.0}/s, forward: raw; hub-server x{}, durability fsync; the link in user space\n",
        readings(options.hours),
        options.hours,
        scalar::PER_S,
        options.members
    );
    let mut good = true;
    for shape in &options.links {
        good &= over(options, *shape)?;
    }
    Ok(good || !options.gate)
}

fn readings(hours: f64) -> u64 {
    (hours / 24.0 * scalar::PER_DAY as f64) as u64
}

/// What one drain measured.
struct Drained {
    /// Events and bytes that waited.
    events: u64,
    bytes: u64,
    seconds: f64,
    /// Bytes a second in the steady part of the drain, live data with it.
    pace: f64,
    /// Bytes of IP packets upward and downward.
    wire: [u64; 2],
    latencies: Vec<u32>,
}

fn over(options: &Options, shape: Shape) -> Outcome<bool> {
    let (site, hub_side) = (Namespace::new()?, Namespace::new()?);
    let link = Link::new(&site, &hub_side, shape)?;
    let scratch = options.places.scratch()?;
    let (places, folder, members) = (options.places.clone(), scratch.path().join("hub"), options.members);
    let hub = hub_side.run(move || Hub::start(&places, &folder, link::HUB, members))?;
    let addresses: Vec<String> = hub.sync.iter().map(|address| format!("\"{address}\"")).collect();
    let document = format!(
        "edge:\n  site_id: drain\n  durability: fsync\n  forward: raw\n  queue: {{ max_bytes: 32GB }}\n  \
         ingest: {{ mqtt: {{ listen: \"127.0.0.1:0\" }} }}\n  api: {{ listen: \"127.0.0.1:0\" }}\n  \
         connectivity: {{ hub_addresses: [{}], backoff: {{ max: 1s }} }}\n",
        addresses.join(", ")
    );
    let (places, folder) = (options.places.clone(), scratch.path().join("edge"));
    let agent = site.run(move || Agent::start_document(&places, &folder, &document))?;
    let count = readings(options.hours);
    let fed = feed(&site, agent.http, count, options.hours)?;
    let drained = drain(options, &site, &hub_side, &agent, &hub, &link)?;
    drop((agent, hub));
    let plain = |congestion| plain::transfer(&site, &hub_side, drained.bytes.max(1), congestion);
    let (bbr, cubic) = (plain("bbr"), plain("cubic"));
    report(shape, fed, &drained, bbr, cubic)
}

/// Gives the agent its backlog, in the order of the readings' times, which end an hour ago.
fn feed(site: &Namespace, agent: SocketAddr, count: u64, hours: f64) -> Outcome<f64> {
    let began = Instant::now();
    let first_ms = unix_ms() - (hours * 3_600e3) as i64 - 3_600_000;
    site.run(move || {
        let mut poster = Poster::connect(agent)?;
        let mut body = Vec::new();
        let mut sent = 0;
        while sent < count {
            body.clear();
            for number in sent..(sent + FEED_BATCH).min(count) {
                let ts = first_ms + (number as f64 * 1_000.0 / scalar::PER_S) as i64;
                scalar::line(number, ts, "", &mut body)?;
            }
            poster.post(&body)?;
            sent += FEED_BATCH;
        }
        Ok(())
    })?;
    // The last of it is in a block when the count of what waits is whole.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (_, events) = waiting(site, agent)?;
        if events >= count {
            return Ok(began.elapsed().as_secs_f64());
        }
        if Instant::now() > deadline {
            return Err(format!("of {count} readings {events} wait for the hub").into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Bytes and events that wait.
fn waiting(site: &Namespace, agent: SocketAddr) -> Outcome<(u64, u64)> {
    let status = site.run(move || http::json(agent, "/v1/status"))?;
    let sum = |key: &str| {
        let lanes = status["pending"].as_object().into_iter().flat_map(|lanes| lanes.values());
        lanes.filter_map(|lane| lane[key].as_u64()).sum()
    };
    Ok((sum("bytes"), sum("events")))
}

fn drain(
    options: &Options,
    site: &Namespace,
    hub_side: &Namespace,
    agent: &Agent,
    hub: &Hub,
    link: &Link,
) -> Outcome<Drained> {
    let addresses = hub.http.clone();
    let leader = hub_side.run(move || led(&addresses).ok_or_else(|| "the hub has no leader".into()))?;
    let (bytes, events) = waiting(site, agent.http)?;
    let wire = |link: &Link| [&link.upward, &link.downward].map(|direction| direction.bytes.load(Ordering::Relaxed));
    let before = wire(link);
    let live = Live::start(site, hub_side, agent.http, hub.http[leader.member])?;
    let began = Instant::now();
    link.set(true);
    let mut samples = vec![(0.0, bytes)];
    let seconds = loop {
        std::thread::sleep(LOOK);
        let (left, events_left) = waiting(site, agent.http)?;
        let at = began.elapsed().as_secs_f64();
        samples.push((at, left));
        // Live readings always wait for a moment: a second of them is nothing of the backlog.
        if events_left <= (scalar::PER_S * 2.0) as u64 && left < bytes / 100 {
            break at;
        }
        if at > options.drain_max_s as f64 {
            return Err(format!("{} of {} still wait after {at:.0} s", mb(left), mb(bytes)).into());
        }
    };
    let after = wire(link);
    // Some live readings more, over a link that is free.
    let shown = format!("{} of live readings seen after {:.0} s", live.seen(), live.seconds());
    eprintln!("drained {} in {seconds:.1} s, {shown}", mb(bytes));
    let latencies = live.finish()?;
    Ok(Drained {
        events,
        bytes,
        seconds,
        pace: steady(&samples, bytes),
        wire: [after[0] - before[0], after[1] - before[1]],
        latencies,
    })
}

/// Bytes a second at which the backlog shrank between two shares of it.
fn steady(samples: &[(f64, u64)], bytes: u64) -> f64 {
    let reached = |share: f64| {
        let left = (bytes as f64 * (1.0 - share)) as u64;
        samples.iter().find(|(_, waiting)| *waiting <= left).copied()
    };
    match (reached(STEADY.start), reached(STEADY.end)) {
        (Some((from, more)), Some((to, less))) if to > from => (more - less) as f64 / (to - from),
        _ => f64::NAN,
    }
}

fn report(
    shape: Shape,
    fed_s: f64,
    drained: &Drained,
    bbr: Outcome<plain::Transfer>,
    cubic: Outcome<plain::Transfer>,
) -> Outcome<bool> {
    let capacity = shape.capacity();
    println!(
        "{} Mbit/s, {} ms, {} % loss each way: {} readings, {} ({:.2} B each), fed in {fed_s:.0} s",
        shape.bits_per_s / 1e6,
        shape.rtt.as_millis(),
        shape.loss * 100.0,
        drained.events,
        mb(drained.bytes),
        drained.bytes as f64 / drained.events as f64
    );
    println!(
        "  drained in {:.1} s ({:.2} min; the specification's sync of a day: {SPECIFIED_MIN} min); {} up and {} down on the wire, {:.2} times the blocks\n",
        drained.seconds,
        drained.seconds / 60.0,
        mb(drained.wire[0]),
        mb(drained.wire[1]),
        drained.wire[0] as f64 / drained.bytes as f64,
    );
    let row = |name: &str, pace: f64, note: String| {
        let share = format!("{:.1} %", pace / capacity * 100.0);
        vec![name.to_owned(), format!("{:.2}", pace * 8.0 / 1e6), share, note]
    };
    let whole = drained.bytes as f64 / drained.seconds;
    let mut rows = vec![
        row("link less headers and loss", capacity, String::new()),
        row("drain, whole", whole, format!("{:.1} s", drained.seconds)),
        row(
            "drain, behind the slow start",
            drained.pace,
            format!("{:.0} to {:.0} %", STEADY.start * 100.0, STEADY.end * 100.0),
        ),
    ];
    let reached = bbr.as_ref().map_or(capacity, |transfer| transfer.pace().min(capacity));
    for (name, transfer) in [("bare TCP, bbr", bbr), ("bare TCP, cubic", cubic)] {
        match transfer {
            Ok(transfer) => {
                rows.push(row(name, transfer.pace(), format!("{} in {:.1} s", mb(transfer.bytes), transfer.seconds)))
            }
            Err(error) => println!("  {name}: {error}"),
        }
    }
    print_table(&["", "Mbit/s", "of capacity", ""], &rows);
    let ms = |q: f64| f64::from(quantile(&drained.latencies, q));
    println!(
        "  live, due to seen at the hub, ms: p50 {} p99 {} max {} ({} readings)\n",
        ms(0.5),
        ms(0.99),
        ms(1.0),
        drained.latencies.len()
    );
    let checks = [
        Check::new("share of what the link can carry", whole / reached, true, SHARE_MIN, ""),
        Check::new("live readings' p99", ms(0.99), false, LIVE_P99_MAX_MS, " ms"),
        Check::new("drain of the backlog", drained.seconds / 60.0, false, SPECIFIED_MIN, " min"),
    ];
    let good = print_checks(&checks);
    println!();
    Ok(good)
}
