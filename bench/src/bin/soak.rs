//! Days of a site in hours: readings of the reference site at a multiple of
//! their rate, a hub that goes away and comes back, and what the agent holds
//! after each drain.
//!
//! In each cycle the hub is away for a part of the time and the agent's outbox
//! grows; then the hub is there again and it drains. Behind every drain the
//! smallest figures of a few seconds are taken: resident memory, bytes and files
//! of the data directory, open files. The last drain's may not be above the
//! first's: what a day leaves behind, a year would fill a disk with. Every file
//! has to belong to a part of the agent, and its books have to balance in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::figures::{Check, mb, print_checks, print_table};
use grey_bench::http::Poster;
use grey_bench::hub::Hub;
use grey_bench::{Outcome, Places, exit_code, http, machine, scalar, usage};

/// What the data directory may hold, by its first part, and whose it is.
const OWNERS: [(&str, &str); 12] = [
    ("intake", "intake"),
    ("outbox", "outbox"),
    ("ids", "deduplication"),
    ("dead-letters", "dead letters"),
    ("actions", "webhooks"),
    ("checkpoints", "checkpoints"),
    ("models", "models"),
    ("models-kept", "models"),
    ("lock", "process"),
    ("budget", "uplink budget"),
    ("identity.json", "identity"),
    ("identity-copy.json", "identity"),
];
/// Floors may rise by this share from the first drain to the last.
const GROWTH_MAX: f64 = 0.10;
/// What is no growth: a memory allocator's pages, and a log's last segment.
const MEMORY_SLACK: u64 = 8 << 20;
const DISK_SLACK: u64 = 4 << 20;
/// The intake is kept up to a bound of its own for local queries, and rises and
/// falls by segments below it: `intake_max_bytes`, and what comes until the next
/// checkpoint, at most 32 MiB, and a segment.
const INTAKE_BYTES_MAX: u64 = (16 + 32 + 16) << 20;
const FILES_SLACK: u64 = 8;
/// Between two samples.
const LOOK: Duration = Duration::from_millis(250);
/// How long floors are looked for behind a drain.
const FLOOR: Duration = Duration::from_secs(5);
/// Time between two posts.
const POST: Duration = Duration::from_millis(50);

#[derive(Debug, Parser)]
#[command(about = "Runs days of a site in a short time, and looks whether it keeps anything")]
struct Options {
    /// Length of the run in hours.
    #[arg(long, default_value_t = 2.0)]
    hours: f64,
    /// Times the reference site's rate of 167 readings a second.
    #[arg(long, default_value_t = 12.0)]
    speed: f64,
    /// Outages of the hub, evenly over the run.
    #[arg(long, default_value_t = 6)]
    outages: u32,
    /// Share of the time in which the hub is away.
    #[arg(long, default_value_t = 0.4)]
    away: f64,
    #[command(flatten)]
    places: Places,
}

fn main() -> ExitCode {
    exit_code("soak", run(&Options::parse()))
}

/// The agent at one moment.
#[derive(Debug, Clone, Default)]
struct Sample {
    resident: u64,
    disk: u64,
    files: u64,
    descriptors: u64,
    pending: u64,
    owners: BTreeMap<String, u64>,
}

impl Sample {
    fn take(agent: &Agent) -> Outcome<Self> {
        let mut sample = Self {
            resident: usage::resident(agent.pid()),
            descriptors: usage::open_files(agent.pid()) as u64,
            pending: agent.pending()?.0,
            ..Self::default()
        };
        let data = agent.data();
        walk(&data, &data, &mut sample)?;
        Ok(sample)
    }

    /// Bytes on disk but for the intake's.
    fn kept(&self) -> u64 {
        self.disk - self.owners.get("intake").copied().unwrap_or(0)
    }

    /// The smaller of each figure.
    fn floor(self, other: Self) -> Self {
        let smaller = if self.kept() <= other.kept() { &self.owners } else { &other.owners };
        Self {
            resident: self.resident.min(other.resident),
            disk: smaller.values().sum(),
            files: self.files.min(other.files),
            descriptors: self.descriptors.min(other.descriptors),
            pending: self.pending.min(other.pending),
            owners: smaller.clone(),
        }
    }
}

/// Adds up a folder's files by the first part of their path.
fn walk(root: &Path, folder: &Path, sample: &mut Sample) -> Outcome<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // A file may go between the two calls: then it is none.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            if walk(root, &path, sample).is_err() && path.exists() {
                return Err(format!("{} cannot be read", path.display()).into());
            }
            continue;
        }
        let first = path.strip_prefix(root)?.components().next();
        let first = first.map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let owner = OWNERS.iter().find(|(name, _)| *name == first);
        let owner = owner.map_or_else(|| format!("unknown: {first}"), |(_, owner)| (*owner).to_owned());
        *sample.owners.entry(owner).or_default() += metadata.len();
        sample.disk += metadata.len();
        sample.files += 1;
    }
    Ok(())
}

/// Readings under way.
struct Feed {
    stop: Arc<AtomicBool>,
    posted: Arc<AtomicU64>,
    thread: JoinHandle<Outcome<()>>,
}

impl Feed {
    fn start(address: std::net::SocketAddr, speed: f64, hours: f64) -> Self {
        let (stop, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ending, count) = (stop.clone(), posted.clone());
        let thread = std::thread::spawn(move || feed(address, speed, hours, &ending, &count));
        Self { stop, posted, thread }
    }

    /// Ends it; how many readings were acknowledged.
    fn finish(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the feeding thread failed")??;
        Ok(self.posted.load(Ordering::Relaxed))
    }
}

/// Posts what is due; the readings' own times pass `speed` times as fast and end with the run.
fn feed(address: std::net::SocketAddr, speed: f64, hours: f64, stop: &AtomicBool, posted: &AtomicU64) -> Outcome<()> {
    let first_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64 - (hours * speed * 3_600e3) as i64;
    let mut poster = Poster::connect(address)?;
    let began = Instant::now();
    let mut number = 0;
    let mut body = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(POST);
        let due = (began.elapsed().as_secs_f64() * speed * scalar::PER_S) as u64;
        while number < due {
            body.clear();
            // A slow disk makes posts larger, up to a bound.
            for n in number..due.min(number + 10_000) {
                scalar::line(n, first_ms + (n as f64 * 1_000.0 / scalar::PER_S) as i64, "", &mut body)?;
            }
            poster.post(&body)?;
            number = due.min(number + 10_000);
            posted.store(number, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn run(options: &Options) -> Outcome<bool> {
    let cycle = Duration::from_secs_f64(options.hours * 3_600.0 / f64::from(options.outages.max(1)));
    let away = cycle.mul_f64(options.away.clamp(0.0, 0.9));
    println!("{}", machine());
    println!(
        "{:.1} h of a site in {:.2} h: {:.0} readings/s, forward: raw, hub away {} times for {:.0} s ({:.1} h of the site)\n",
        options.hours * options.speed,
        options.hours,
        scalar::PER_S * options.speed,
        options.outages,
        away.as_secs_f64(),
        away.as_secs_f64() * options.speed / 3_600.0
    );
    let scratch = options.places.scratch()?;
    let mut hub = Hub::start(&options.places, &scratch.path().join("hub"), std::net::Ipv4Addr::LOCALHOST, 1)?;
    let document = format!(
        "edge:\n  site_id: soak\n  durability: fsync\n  forward: raw\n  queue: {{ max_bytes: 8GB, segment_bytes: 1MiB }}\n  \
         storage: {{ intake_max_bytes: 16MiB }}\n  consensus: {{ snapshot_interval: 5s }}\n  heartbeat_interval: 2s\n  \
         ingest: {{ mqtt: {{ listen: \"127.0.0.1:0\" }} }}\n  api: {{ listen: \"127.0.0.1:0\" }}\n  \
         connectivity: {{ hub_addresses: [\"{}\"], backoff: {{ max: 1s }} }}\n",
        hub.sync[0]
    );
    let mut agent = Agent::start_document(&options.places, &scratch.path().join("edge"), &document)?;
    let feed = Feed::start(agent.http, options.speed, options.hours);
    let mut floors: Vec<Sample> = Vec::new();
    let mut rows = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let mut intake_most = 0;
    for outage in 1..=options.outages {
        let began = Instant::now();
        hub.stop()?;
        let mut most = Sample::default();
        while began.elapsed() < away {
            std::thread::sleep(LOOK);
            agent.check()?;
            let sample = Sample::take(&agent)?;
            note_unknown(&sample, &mut unknown);
            intake_most = intake_most.max(sample.disk - sample.kept());
            most.pending = most.pending.max(sample.pending);
            most.disk = most.disk.max(sample.disk);
            most.resident = most.resident.max(sample.resident);
        }
        hub.resume()?;
        let back = Instant::now();
        // Two seconds of readings may be on their way.
        let drained = (scalar::PER_S * options.speed * 2.0) as u64;
        while agent.pending()?.1 > drained {
            std::thread::sleep(LOOK);
            agent.check()?;
            if back.elapsed() > cycle.max(Duration::from_secs(120)) {
                return Err(format!("outage {outage} did not drain: {:?} wait", agent.pending()?).into());
            }
        }
        let took = back.elapsed();
        // To the cycle's end, and at least long enough to see a floor.
        let mut floor: Option<Sample> = None;
        let end = Instant::now() + FLOOR.max(cycle.saturating_sub(began.elapsed()));
        while Instant::now() < end {
            std::thread::sleep(LOOK);
            agent.check()?;
            let sample = Sample::take(&agent)?;
            note_unknown(&sample, &mut unknown);
            intake_most = intake_most.max(sample.disk - sample.kept());
            floor = Some(match floor {
                Some(floor) => floor.floor(sample),
                None => sample,
            });
        }
        let floor = floor.ok_or("no sample was taken behind a drain")?;
        rows.push(row(outage, &most, took, &floor));
        floors.push(floor);
    }
    let posted = feed.finish()?;
    let head = ["outage", "waited", "disk", "memory", "drained in", "then disk", "memory", "files", "open"];
    print_table(&head, &rows);
    let last = floors.last().ok_or("there was no outage")?;
    for (owner, bytes) in &last.owners {
        println!("  {owner:16} {}", mb(*bytes));
    }
    println!();
    let balanced = settle(&mut agent, posted)?;
    let grown = |of: &dyn Fn(&Sample) -> u64, slack: u64| {
        let limit = of(&floors[0]) as f64 * (1.0 + GROWTH_MAX) + slack as f64;
        (of(last) as f64, limit)
    };
    let check = |what: &str, (figure, limit): (f64, f64), unit: f64, name: &str| {
        Check::new(what, figure / unit, false, ((limit / unit + 0.01) * 100.0).round() / 100.0, name)
    };
    let checks = [
        check("memory behind the last drain", grown(&|s| s.resident, MEMORY_SLACK), 1e6, " MB"),
        check("disk behind the last drain, without the intake", grown(&Sample::kept, DISK_SLACK), 1e6, " MB"),
        check("the intake at most", (intake_most as f64, INTAKE_BYTES_MAX as f64), 1e6, " MB"),
        check("files behind the last drain", grown(&|s| s.files, FILES_SLACK), 1.0, ""),
        check("open files behind the last drain", grown(&|s| s.descriptors, FILES_SLACK), 1.0, ""),
        Check { text: format!("files without an owner: {}", unknown.join(", ")), holds: unknown.is_empty() },
        Check { text: format!("the books balance over {posted} readings"), holds: balanced },
    ];
    Ok(print_checks(&checks))
}

fn note_unknown(sample: &Sample, unknown: &mut Vec<String>) {
    for owner in sample.owners.keys().filter(|owner| owner.starts_with("unknown")) {
        if !unknown.contains(owner) {
            unknown.push(owner.clone());
        }
    }
}

fn row(outage: u32, most: &Sample, took: Duration, floor: &Sample) -> Vec<String> {
    vec![
        outage.to_string(),
        mb(most.pending),
        mb(most.disk),
        mb(most.resident),
        format!("{:.1} s", took.as_secs_f64()),
        mb(floor.disk),
        mb(floor.resident),
        floor.files.to_string(),
        floor.descriptors.to_string(),
    ]
}

/// Waits until nothing waits; true when everything that was acknowledged was accepted and delivered.
fn settle(agent: &mut Agent, posted: u64) -> Outcome<bool> {
    let began = Instant::now();
    while agent.pending()?.1 > 0 {
        agent.check()?;
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("{:?} still wait a minute after the end", agent.pending()?).into());
        }
        std::thread::sleep(LOOK);
    }
    let status = http::json(agent.http, "/v1/status")?;
    let of = |key: &str| status[key].as_u64().unwrap_or(u64::MAX);
    let (accepted, delivered) = (of("accepted_total"), of("delivered_total"));
    println!("{posted} readings posted, {accepted} accepted with the agent's own, {delivered} delivered\n");
    Ok(status["balanced"] == true
        && accepted >= posted
        && delivered == accepted - of("reduced_total") - of("deduplicated_total")
        && of("dropped_total") == 0)
}
