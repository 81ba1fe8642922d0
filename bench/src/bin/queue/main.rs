//! Measures the buffer of `grey-queue` beside what a program would take instead: a bare
//! write and fdatasync loop, segment-buffer, yaque, sled, redb, SQLite and NATS JetStream.
//!
//! Each takes the same incompressible records in durable batches of the same size and is
//! then drained: every record read in order and looked at, and removed, batch by batch. Every turn is a process of its own; in each round everyone has a turn, and the
//! median counts. Then each is filled with a backlog, its memory is looked at, it is
//! killed with SIGKILL, the page cache is emptied, and it is opened again.
//!
//! Not all of them do the same work: who does not sync an append, or a removal, is
//! compared only with others of that kind.

mod contestant;
mod nats;
mod own;
mod peers;
mod table;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use grey_bench::cache::{drop_all, folder_bytes};
use grey_bench::figures::print_checks;
use grey_bench::{Outcome, machine, usage};
use grey_queue::buffer::BufferConfig;
use serde::{Deserialize, Serialize};

use contestant::{Bare, Contestant, Payloads, Random, SegmentQueue, Sled, look};

#[derive(Debug, Clone, Parser)]
#[command(about = "Compares the buffer of grey-queue with other durable queues")]
struct Options {
    /// Records in each round.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Records of those that are slower than the rest by far: sled, redb, SQLite, NATS.
    #[arg(long, default_value_t = 200_000)]
    slow_records: usize,
    /// Records in each durable batch.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of each record.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Payloads of the backlog, in GB (powers of 1000); 0 leaves that part out.
    #[arg(long, default_value_t = 10.0)]
    backlog_gb: f64,
    /// The same for those that are slower by far.
    #[arg(long, default_value_t = 1.0)]
    slow_backlog_gb: f64,
    /// Where the files go; a folder of its own is made there and removed.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    dir: PathBuf,
    /// Rest before each turn, so that the disk has its full allowance, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pause_ms: u64,
    /// Only these, by the name in the table.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Fail when a verdict does.
    #[arg(long)]
    gate: bool,
    /// Used by the benchmark for its own children.
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Whose turn it is, by its place in the list.
    #[arg(long, hide = true, default_value_t = 0)]
    contender: usize,
}

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Turn,
    Fill,
    Reopen,
}

/// What is durable when an operation returns.
#[derive(Debug, Clone, Copy)]
struct Contender {
    name: &'static str,
    is_own: bool,
    /// Appends are synced.
    appends_durably: bool,
    /// Removals are synced.
    removes_durably: bool,
    is_slow: bool,
    /// The bare loop has no way to find its end again.
    reopens: bool,
}

const fn contender(name: &'static str, appends_durably: bool, removes_durably: bool) -> Contender {
    Contender { name, is_own: false, appends_durably, removes_durably, is_slow: false, reopens: true }
}

const BARE: &str = "bare loop";

/// All of them; whether NATS syncs depends on its version.
fn contenders() -> Vec<Contender> {
    let nats_syncs = nats::can_sync().unwrap_or(false);
    let slow = |contender: Contender| Contender { is_slow: true, ..contender };
    vec![
        Contender { reopens: false, ..contender(BARE, true, false) },
        Contender { is_own: true, ..contender("grey", true, true) },
        Contender { is_own: true, ..contender("grey, lazy acks", true, false) },
        Contender { is_own: true, ..contender("grey, no compression", true, true) },
        Contender { is_own: true, ..contender("grey, sealed", true, false) },
        // Its `Maximal` syncs what is written; files are removed without a sync of the directory.
        contender("segment-buffer", true, false),
        contender("yaque", false, false),
        slow(contender("sled", true, true)),
        slow(contender("redb", true, true)),
        slow(contender("sqlite", true, true)),
        slow(contender("nats", nats_syncs, nats_syncs)),
    ]
}

/// Starts one in a folder; with the process that does the work where it is another one.
fn start(contender: &Contender, dir: &Path) -> Outcome<(Box<dyn Contestant>, Option<u32>)> {
    Ok(match contender.name {
        BARE => (Box::new(Bare::new(dir)?), None),
        "grey" => (Box::new(own::Grey::new(dir, BufferConfig::default(), true)?), None),
        "grey, lazy acks" => (Box::new(own::Grey::new(dir, BufferConfig::default(), false)?), None),
        "grey, no compression" => (Box::new(own::Grey::new(dir, own::plain(), true)?), None),
        "grey, sealed" => (Box::new(own::Grey::new(dir, own::sealed()?, false)?), None),
        "segment-buffer" => (Box::new(SegmentQueue::new(dir)?), None),
        "yaque" => (Box::new(peers::Yaque::new(dir)?), None),
        "sled" => (Box::new(Sled::new(dir)?), None),
        "redb" => (Box::new(peers::Redb::new(dir)?), None),
        "sqlite" => (Box::new(peers::Sqlite::new(dir)?), None),
        _ => {
            let nats = nats::Nats::new(dir)?;
            let pid = nats.pid();
            (Box::new(nats), Some(pid))
        }
    })
}

/// What one turn took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Turn {
    records: usize,
    append_s: f64,
    drain_s: f64,
    cpu_s: f64,
    disk_bytes: u64,
}

/// What a backlog takes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Backlog {
    bytes: u64,
    /// While it is written.
    resident: u64,
    reopen_s: f64,
    /// After it was opened again and the first batch was read.
    resident_reopened: u64,
    /// The page cache was empty.
    is_cold: bool,
}

/// CPU seconds of this process and of a server.
fn cpu_s(server: Option<u32>) -> f64 {
    usage::cpu_s(std::process::id()) + server.map_or(0.0, usage::cpu_s)
}

/// Memory of a server, or what a contestant added to this process, which holds the payloads, too.
fn grown(server: Option<u32>, before: u64) -> u64 {
    server.map_or_else(|| usage::resident(std::process::id()).saturating_sub(before), usage::resident)
}

/// A child: one turn.
fn turn(contender: &Contender, options: &Options) -> Outcome<Turn> {
    let payloads = Payloads::new(options.bytes);
    let (mut contestant, server) = start(contender, &options.dir)?;
    // Nobody pays for what another left to the system to write.
    rustix::fs::syncfs(fs::File::open(&options.dir)?)?;
    std::thread::sleep(Duration::from_millis(options.pause_ms));
    let mut cpu = -cpu_s(server);
    let began = Instant::now();
    let mut next = 0;
    while next < options.records {
        let end = (next + options.batch).min(options.records);
        contestant.append(&payloads, next..end)?;
        next = end;
    }
    let append_s = began.elapsed().as_secs_f64();
    let disk_bytes = folder_bytes(&options.dir);
    cpu += cpu_s(server);
    contestant.reopen()?;
    cpu -= cpu_s(server);
    let began = Instant::now();
    let (mut sum, mut drained) = (0, 0);
    loop {
        match contestant.drain(options.batch, &mut sum)? {
            0 => break,
            count => drained += count,
        }
    }
    let drain_s = began.elapsed().as_secs_f64();
    cpu += cpu_s(server);
    let expected = (0..options.records).fold(0, |sum, record| look(sum, payloads.get(record)));
    if (drained, sum) != (options.records, expected) {
        return Err(format!("{} gave back {drained} records, not the ones it was given", contender.name).into());
    }
    Ok(Turn { records: options.records, append_s, drain_s, cpu_s: cpu, disk_bytes })
}

/// A child: fills the folder, tells its memory and waits to be killed.
fn fill(contender: &Contender, options: &Options) -> Outcome<()> {
    let payloads = Payloads::new(options.bytes);
    let before = usage::resident(std::process::id());
    let (mut contestant, server) = start(contender, &options.dir)?;
    let mut next = 0;
    while next < options.records {
        let end = (next + options.batch).min(options.records);
        contestant.append(&payloads, next..end)?;
        next = end;
    }
    let resident = grown(server, before);
    tell(&Backlog { bytes: folder_bytes(&options.dir), resident, ..Backlog::default() })?;
    loop {
        std::thread::park();
    }
}

/// A child: opens what the killed one left, up to the first records.
fn reopen(contender: &Contender, options: &Options) -> Outcome<Backlog> {
    let before = usage::resident(std::process::id());
    let began = Instant::now();
    let (mut contestant, server) = start(contender, &options.dir)?;
    let mut sum = 0;
    let drained = contestant.drain(options.batch, &mut sum)?;
    let reopen_s = began.elapsed().as_secs_f64();
    let resident_reopened = grown(server, before);
    let payloads = Payloads::new(options.bytes);
    let expected = (0..drained).fold(0, |sum, record| look(sum, payloads.get(record)));
    if drained == 0 || sum != expected {
        return Err(format!("{} has lost its first records", contender.name).into());
    }
    Ok(Backlog { reopen_s, resident_reopened, ..Backlog::default() })
}

fn tell(told: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(told)?)?;
    Ok(out.flush()?)
}

/// A child process in a role.
fn child(options: &Options, role: &str, contender: usize, dir: &Path, records: usize) -> Outcome<Child> {
    let number = |value: usize| value.to_string();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", role, "--contender", &number(contender), "--records", &number(records)]);
    command.args(["--batch", &number(options.batch), "--bytes", &number(options.bytes)]);
    command.args(["--pause-ms", &options.pause_ms.to_string(), "--dir"]).arg(dir);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// What a child tells in one line.
fn told<T: for<'a> Deserialize<'a>>(child: &mut Child) -> Outcome<T> {
    let mut line = String::new();
    let out = child.stdout.as_mut().ok_or("a child without an output")?;
    BufReader::new(out).read_line(&mut line)?;
    if line.is_empty() {
        return Err(format!("a child ended with {}", child.wait()?).into());
    }
    Ok(serde_json::from_str(&line)?)
}

fn scratch(options: &Options) -> Outcome<tempfile::TempDir> {
    fs::create_dir_all(&options.dir)?;
    Ok(tempfile::Builder::new().prefix("queue-").tempdir_in(&options.dir)?)
}

/// One backlog: filled, killed, opened again.
fn backlog(options: &Options, contender: usize, records: usize) -> Outcome<Backlog> {
    let folder = scratch(options)?;
    let mut filler = child(options, "fill", contender, folder.path(), records)?;
    let filled: Outcome<Backlog> = told(&mut filler);
    filler.kill()?;
    filler.wait()?;
    let filled = filled?;
    let is_cold = drop_all();
    let is_reopening = contenders()[contender].reopens;
    let reopened: Backlog = if is_reopening {
        let mut opener = child(options, "reopen", contender, folder.path(), records)?;
        let reopened = told(&mut opener)?;
        opener.wait()?;
        reopened
    } else {
        Backlog { reopen_s: f64::NAN, ..Backlog::default() }
    };
    Ok(Backlog { is_cold, bytes: filled.bytes, resident: filled.resident, ..reopened })
}

/// Everything that was measured of one.
struct Measured {
    contender: Contender,
    turns: Vec<Turn>,
    backlog: Option<Backlog>,
}

fn run(options: &Options) -> Outcome<bool> {
    if options.records == 0 || options.batch == 0 || options.rounds == 0 || options.bytes == 0 {
        return Err("--records, --batch, --rounds and --bytes must be at least 1".into());
    }
    let all = contenders();
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|wanted| wanted == name);
    let wanted: Vec<usize> = (0..all.len()).filter(|n| is_wanted(all[*n].name)).collect();
    let machine = machine();
    let mut measured: Vec<Measured> =
        all.iter().map(|contender| Measured { contender: *contender, turns: Vec::new(), backlog: None }).collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let mut order = wanted.clone();
        for position in (1..order.len()).rev() {
            order.swap(position, (random.next() >> 33) as usize % (position + 1));
        }
        for contender in order {
            let folder = scratch(options)?;
            let records = if all[contender].is_slow { options.slow_records } else { options.records };
            let mut process = child(options, "turn", contender, folder.path(), records)?;
            let turn: Turn = told(&mut process)?;
            process.wait()?;
            let rate = |seconds: f64| turn.records as f64 / seconds;
            let (append, drain) = (rate(turn.append_s), rate(turn.drain_s));
            eprintln!("  {}: {append:.0} appended/s, {drain:.0} drained/s", all[contender].name);
            measured[contender].turns.push(turn);
        }
    }
    if options.backlog_gb > 0.0 {
        for contender in wanted {
            let gb = if all[contender].is_slow { options.slow_backlog_gb } else { options.backlog_gb };
            eprintln!("backlog of {gb} GB: {}", all[contender].name);
            measured[contender].backlog = Some(backlog(options, contender, (gb * 1e9) as usize / options.bytes)?);
        }
    }
    measured.retain(|measured| !measured.turns.is_empty());
    println!("{machine}; {}", nats::name());
    println!(
        "{} records ({} of the slow ones) of {} bytes, {} per durable batch, median of {} rounds\n",
        options.records, options.slow_records, options.bytes, options.batch, options.rounds
    );
    table::print(&measured, options);
    Ok(print_checks(&table::checks(&measured)))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let contender = contenders()[options.contender];
    let outcome = match options.role {
        Some(Role::Turn) => turn(&contender, &options).and_then(|turn| tell(&turn)).map(|()| true),
        Some(Role::Fill) => fill(&contender, &options).map(|()| true),
        Some(Role::Reopen) => reopen(&contender, &options).and_then(|backlog| tell(&backlog)).map(|()| true),
        None => run(&options).map(|holds| holds || !options.gate),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
