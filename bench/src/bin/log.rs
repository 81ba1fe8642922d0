//! Measures `grey-log` against a bare write and fdatasync loop, `sled` and
//! `segment-buffer`, and fails when it falls behind.
//!
//! Each takes the same records in durable batches of the same size, is closed, opened
//! again, and drained: every record read in order and looked at, and its space given
//! back. In each round everyone has a turn, in an order that is drawn anew; a ratio is
//! the median of the rounds' ratios, since a disk, a virtual one above all, is not the
//! same from one minute to the next.

#[path = "queue/contestant.rs"]
mod contestant;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use grey_bench::Outcome;
use grey_bench::cache::folder_bytes;
use grey_disk::RealDisk;
use grey_log::{Log, LogConfig, LogReader};
use grey_seal::{Algorithm, Keyring, MasterKey, Seal};

use contestant::{Bare, Contestant, Payloads, Random, SegmentQueue, Sled, look};

/// Load from which on figures say more about the neighbours than about the contestants.
const BUSY_LOAD: f64 = 1.0;

#[derive(Debug, Parser)]
#[command(about = "Compares grey-log with a bare loop, sled and segment-buffer")]
struct Options {
    /// Records in each round.
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
    /// Records in each durable batch.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of each record.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Where the files go; a directory of its own is made there and removed.
    #[arg(long, default_value = "bench/target")]
    dir: PathBuf,
    /// Rest before each turn, so that the disk has its full allowance, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pause_ms: u64,
    /// Only these, by the name in the table.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

const SEALED: &str = "grey-log sealed";
const NAMES: [&str; 5] = ["bare loop", "grey-log", SEALED, "sled", "segment-buffer"];

fn contestant(name: &str, dir: &Path, options: &Options) -> Outcome<Box<dyn Contestant>> {
    Ok(match name {
        "bare loop" => Box::new(Bare::new(dir)?),
        "grey-log" => Box::new(Grey::new(dir, options, None)?),
        SEALED => Box::new(Grey::new(dir, options, Some(seal()?))?),
        "sled" => Box::new(Sled::new(dir)?),
        _ => Box::new(SegmentQueue::new(dir)?),
    })
}

fn seal() -> Outcome<Seal> {
    let key = MasterKey::from_bytes(std::array::from_fn(|position| position as u8));
    Ok(Seal::new(Arc::new(Keyring::new(vec![key])?), Algorithm::auto(), "bench"))
}

struct Grey {
    disk: Arc<RealDisk>,
    seal: Option<Seal>,
    log: Option<(Log, LogReader)>,
    scan_bytes: usize,
    next: u64,
}

impl Grey {
    fn new(dir: &Path, options: &Options, seal: Option<Seal>) -> Outcome<Self> {
        let disk = Arc::new(RealDisk::new(dir));
        let mut grey = Self { disk, seal, log: None, scan_bytes: options.batch * (options.bytes + 16), next: 0 };
        grey.reopen()?;
        Ok(grey)
    }
}

impl Contestant for Grey {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let (log, _) = self.log.as_mut().ok_or("closed")?;
        for record in records {
            log.append(payloads.get(record))?;
        }
        log.commit()?;
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.log = None;
        let (dir, config) = (Path::new("log"), LogConfig::default());
        let (log, _) = Log::open_sealed(self.disk.clone(), dir, config, self.seal.as_ref())?;
        let reader = log.reader();
        self.log = Some((log, reader));
        Ok(())
    }

    fn drain(&mut self, _: usize, sum: &mut u64) -> Outcome<usize> {
        let (log, reader) = self.log.as_mut().ok_or("closed")?;
        let records = reader.scan(self.next, self.scan_bytes)?;
        *sum = records.iter().fold(*sum, |sum, (_, payload)| look(sum, payload));
        self.next += records.len() as u64;
        log.trim_front(self.next)?;
        Ok(records.len())
    }
}

/// What one contestant took in one round.
#[derive(Debug, Clone, Default)]
struct Measured {
    append: Duration,
    batches: Vec<Duration>,
    reopen: Duration,
    drain: Duration,
    left_bytes: u64,
}

/// One contestant's whole way: append, close, open, drain.
fn measure(name: &str, options: &Options, payloads: &Payloads) -> Outcome<Measured> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let mut contestant = contestant(name, dir.path(), options)?;
    // Nobody pays for what another left to the system to write, or for the allowance
    // of a virtual disk that another used up.
    rustix::fs::syncfs(fs::File::open(dir.path())?)?;
    std::thread::sleep(Duration::from_millis(options.pause_ms));

    let mut measured = Measured::default();
    let mut next = 0;
    let start = Instant::now();
    let mut from = start;
    while next < options.records {
        let end = (next + options.batch).min(options.records);
        contestant.append(payloads, next..end)?;
        next = end;
        let now = Instant::now();
        measured.batches.push(now - from);
        from = now;
    }
    measured.append = start.elapsed();

    let from = Instant::now();
    contestant.reopen()?;
    measured.reopen = from.elapsed();

    let from = Instant::now();
    let (mut sum, mut drained) = (0, 0);
    loop {
        match contestant.drain(options.batch, &mut sum)? {
            0 => break,
            count => drained += count,
        }
    }
    measured.drain = from.elapsed();
    let expected = (0..options.records).fold(0, |sum, record| look(sum, payloads.get(record)));
    if (drained, sum) != (options.records, expected) {
        return Err(format!("{name} gave back {drained} records, not the ones it was given").into());
    }
    measured.left_bytes = folder_bytes(dir.path());
    Ok(measured)
}

/// Everyone once, in an order that is drawn anew.
fn round(names: &[&str], options: &Options, payloads: &Payloads, random: &mut Random) -> Outcome<Vec<Measured>> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    for position in (1..order.len()).rev() {
        order.swap(position, (random.next() >> 33) as usize % (position + 1));
    }
    let mut results = vec![Measured::default(); names.len()];
    for position in order {
        results[position] = measure(names[position], options, payloads)?;
    }
    Ok(results)
}

/// The machine's load over the last minute, where the system tells.
fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            complaints.iter().for_each(|complaint| eprintln!("FAILED: {complaint}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and returns what is not good enough.
fn run(options: &Options) -> Outcome<Vec<String>> {
    if options.records == 0 || options.batch == 0 || options.rounds == 0 || options.bytes == 0 {
        return Err("--records, --batch, --rounds and --bytes must be at least 1".into());
    }
    // What else runs on the machine should disturb little; where this is not allowed, it may.
    let _ = rustix::process::setpriority_process(None, -20);
    if let Some(load) = load_average()
        && load > BUSY_LOAD
    {
        eprintln!("warning: the machine is busy (load {load}); a sync then takes as long as a turn of the scheduler");
    }
    let payloads = Payloads::new(options.bytes);
    fs::create_dir_all(&options.dir)?;
    let is_wanted = |name: &&str| options.only.is_empty() || options.only.iter().any(|wanted| wanted == name);
    let names: Vec<&str> = NAMES.into_iter().filter(is_wanted).collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {}", options.rounds);
        rounds.push(round(&names, options, &payloads, &mut random)?);
    }
    let results = Results { names, rounds };
    println!(
        "{} records of {} bytes, {} per durable batch, median of {} rounds\n",
        options.records, options.bytes, options.batch, options.rounds
    );
    results.print(options.records);
    Ok(results.complaints())
}

struct Results<'a> {
    names: Vec<&'a str>,
    /// By round, then by name.
    rounds: Vec<Vec<Measured>>,
}

type Phase = fn(&Measured) -> Duration;

impl Results<'_> {
    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| *other == name)
    }

    /// How many times faster `own` was than `peer`, in the median of the rounds.
    fn ratio(&self, own: usize, peer: &str, phase: Phase) -> Option<f64> {
        let peer = self.position(peer)?;
        let of = |round: &Vec<Measured>| phase(&round[peer]).as_secs_f64() / phase(&round[own]).as_secs_f64();
        Some(median(self.rounds.iter().map(of)))
    }

    fn print(&self, records: usize) {
        println!(
            "{:<16}{:>12}{:>8}{:>8}{:>12}{:>8}{:>8}{:>10}{:>10}{:>11}{:>10}",
            "",
            "append/s",
            "x bare",
            "x sled",
            "drain/s",
            "x bare",
            "x sled",
            "p50 ms",
            "p99 ms",
            "reopen ms",
            "left MiB"
        );
        for (own, name) in self.names.iter().enumerate() {
            let rate = |phase: Phase| {
                median(self.rounds.iter().map(|round| records as f64 / phase(&round[own]).as_secs_f64()))
            };
            let ratio = |peer: &str, phase: Phase| {
                self.ratio(own, peer, phase).map_or("-".into(), |ratio| format!("{ratio:.2}"))
            };
            let mut batches: Vec<Duration> = self.rounds.iter().flat_map(|round| round[own].batches.clone()).collect();
            batches.sort_unstable();
            let quantile = |per_cent: usize| batches[(batches.len() - 1) * per_cent / 100].as_secs_f64() * 1e3;
            let last = |of: fn(&Measured) -> f64| median(self.rounds.iter().map(|round| of(&round[own])));
            println!(
                "{name:<16}{:>12.0}{:>8}{:>8}{:>12.0}{:>8}{:>8}{:>10.2}{:>10.2}{:>11.1}{:>10.1}",
                rate(|measured| measured.append),
                ratio("bare loop", |measured| measured.append),
                ratio("sled", |measured| measured.append),
                rate(|measured| measured.drain),
                ratio("bare loop", |measured| measured.drain),
                ratio("sled", |measured| measured.drain),
                quantile(50),
                quantile(99),
                last(|measured| measured.reopen.as_secs_f64() * 1e3),
                last(|measured| measured.left_bytes as f64 / f64::from(1 << 20)),
            );
        }
    }

    /// Where grey-log is not as fast as it has to be.
    fn complaints(&self) -> Vec<String> {
        let required = [("bare loop", 0.5), ("sled", 5.0), ("segment-buffer", 1.0)];
        let mut complaints = self.complaints_of("grey-log", &required);
        complaints.extend(self.complaints_of(SEALED, &[("bare loop", 1.0 / 3.0)]));
        complaints
    }

    fn complaints_of(&self, name: &str, required: &[(&str, f64)]) -> Vec<String> {
        let Some(own) = self.position(name) else { return Vec::new() };
        let phases: [(&str, Phase); 2] = [("append", |measured| measured.append), ("drain", |measured| measured.drain)];
        let mut complaints = Vec::new();
        for (peer, required) in required {
            for (what, phase) in phases {
                if let Some(ratio) = self.ratio(own, peer, phase)
                    && ratio < *required
                {
                    complaints
                        .push(format!("{name}: {what} is {ratio:.2} times that of {peer}; {required:.2} is required"));
                }
            }
        }
        complaints
    }
}
