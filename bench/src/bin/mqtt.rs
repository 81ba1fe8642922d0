//! Measures the edge agent beside Debian's mosquitto under the same QoS 1 load,
//! and the agent's memory; fails when a limit is not kept.
//!
//! In each round every server has a turn, with a new process and a new folder.
//! A turn is a warm-up and a measured run of the load generator. A ratio is the
//! median of the rounds' ratios.
//!
//! What is compared is not the same work. The agent has an event on disk
//! (fdatasync) before it acknowledges it, evaluates a threshold and an aggregate
//! over it, and accounts for it; mosquitto only acknowledges, since nobody
//! subscribes, or passes on to one subscriber.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::figures::{Check, mb, median, print_checks, print_table};
use grey_bench::load::{Background, Generator, Load, Measured};
use grey_bench::process::Server;
use grey_bench::publisher::{Filler, Kind, Subscriber, subscribe};
use grey_bench::{Outcome, Places, cache, debian, machine, ports, usage, version};

/// The rate must be this many times mosquitto's.
const RATE_RATIO_MIN: f64 = 4.0;
/// CPU time per message must be below this part of mosquitto's.
const CPU_RATIO_MAX: f64 = 0.5;
/// Memory of an idle agent, MB.
const IDLE_MB_MAX: f64 = 20.0;
/// Memory with connections and a backlog, MB.
const LOADED_MB_MAX: f64 = 64.0;
/// Connections that fill the outbox.
const FILLERS: usize = 8;
/// Connections in the memory test.
const CONNECTIONS: usize = 2_000;
/// Room for a memory test's outbox beyond the backlog that was asked for.
const QUEUE_SLACK_GB: f64 = 3.0;

#[derive(Debug, Parser)]
#[command(about = "Compares the edge agent with mosquitto, and measures its memory")]
struct Options {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages of one run.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// What is published: number, json (value, ts, unit, unique id), or both.
    #[arg(long, value_delimiter = ',', default_value = "number,json")]
    payload: Vec<String>,
    /// Unacknowledged messages of one connection; the first is the one that limits hold for (20 is libmosquitto's default).
    #[arg(long, value_delimiter = ',', default_value = "20,64")]
    inflight: Vec<u16>,
    /// Connections that publish.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Rest before each turn, so that the disk has its full allowance, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pause_ms: u64,
    /// Leave out the comparison.
    #[arg(long)]
    no_rate: bool,
    /// Leave out the memory test.
    #[arg(long)]
    no_memory: bool,
    /// The memory test's backlog, in GB (powers of 1000).
    #[arg(long, default_value_t = 5.0)]
    backlog_gb: f64,
    #[command(flatten)]
    places: Places,
}

#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Mosquitto,
    MosquittoSubscribed,
    Agent,
}

impl Contender {
    const ALL: [Self; 3] = [Self::Mosquitto, Self::MosquittoSubscribed, Self::Agent];

    fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto, no subscriber",
            Self::MosquittoSubscribed => "mosquitto, 1 subscriber",
            Self::Agent => "edge-agent, durable",
        }
    }
}

/// mosquitto with nothing in its way: no persistence, no limits, no log.
struct Mosquitto {
    server: Server,
    address: SocketAddr,
    subscriber: Option<Subscriber>,
}

const MOSQUITTO_SETTINGS: &str =
    "allow_anonymous true, persistence false, max_inflight_messages 0, max_queued_messages 0, log_type error";

impl Mosquitto {
    fn start(folder: &Path, subscribed: bool) -> Outcome<Self> {
        std::fs::create_dir_all(folder)?;
        let address = ports::free(1)?[0];
        let mut config = format!("listener {} 127.0.0.1\n", address.port());
        config.extend(MOSQUITTO_SETTINGS.split(", ").map(|line| format!("{line}\n")));
        let path = folder.join("mosquitto.conf");
        std::fs::write(&path, config)?;
        let args: [OsString; 2] = ["-c".into(), path.into()];
        let mut server = Server::start("mosquitto", &debian("mosquitto")?, &args, folder)?;
        server.wait("listen", |_| std::net::TcpStream::connect(address).ok())?;
        let subscriber = if subscribed { Some(subscribe(address, "grey/#")?) } else { None };
        Ok(Self { server, address, subscriber })
    }
}

struct Bench {
    options: Options,
    generator: Generator,
}

impl Bench {
    /// One turn: a server of its own, a warm-up, a measured run.
    fn turn(&self, contender: Contender, payload: &str, inflight: u16) -> Outcome<Measured> {
        let scratch = self.options.places.scratch()?;
        let run = |address, pid| -> Outcome<Measured> {
            let (connections, messages) = (self.options.connections, self.options.messages);
            let load = Load { address, pid, connections, messages, inflight, payload };
            let _ = self.generator.run(&Load { messages: messages / 10, ..load })?;
            std::thread::sleep(Duration::from_millis(self.options.pause_ms));
            self.generator.run(&load)
        };
        if contender == Contender::Agent {
            let mut agent = Agent::start(&self.options.places, scratch.path(), "aggregates", "1GB")?;
            let measured = run(agent.mqtt, agent.pid())?;
            agent.check()?;
            let (accepted, sent) = (agent.accepted("bulk")?, self.options.messages + self.options.messages / 10);
            if accepted != sent {
                return Err(format!("{sent} messages were acknowledged, but the ledger has {accepted}").into());
            }
            return Ok(measured);
        }
        let mut peer = Mosquitto::start(scratch.path(), contender == Contender::MosquittoSubscribed)?;
        let measured = run(peer.address, peer.server.pid())?;
        peer.server.check()?;
        if peer.subscriber.as_ref().is_some_and(|subscriber| subscriber.bytes() == 0) {
            return Err("the subscriber got nothing".into());
        }
        Ok(measured)
    }

    fn compare(&self, payload: &str, inflight: u16, is_limit: bool, checks: &mut Vec<Check>) -> Outcome<()> {
        let mut rounds: Vec<[Measured; 3]> = Vec::new();
        for round in 1..=self.options.rounds {
            let mut turns = Vec::new();
            for contender in Contender::ALL {
                let measured = self.turn(contender, payload, inflight)?;
                let Measured { rate, server_cpu_us, .. } = measured;
                eprintln!("round {round}: {}: {rate:.0} messages/s, {server_cpu_us:.2} µs CPU each", contender.name());
                turns.push(measured);
            }
            rounds.push(turns.try_into().map_err(|_| "a turn is missing")?);
        }
        let of = |figure: &dyn Fn(&[Measured; 3]) -> f64| median(rounds.iter().map(figure));
        println!("payload {payload}, {} connections, {inflight} in flight each:\n", self.options.connections);
        let rows: Vec<Vec<String>> = (0..3)
            .map(|n| {
                vec![
                    Contender::ALL[n].name().to_owned(),
                    format!("{:.0}", of(&|turn| turn[n].rate)),
                    format!("{:.2}", of(&|turn| turn[n].server_cpu_us)),
                    format!("{:.2}", of(&|turn| turn[n].p50_us) / 1e3),
                    format!("{:.2}", of(&|turn| turn[n].p99_us) / 1e3),
                    mb(of(&|turn| turn[n].server_resident as f64) as u64),
                    format!("{:.2}", of(&|turn| turn[n].client_cpu_us)),
                ]
            })
            .collect();
        let head = ["", "messages/s", "CPU µs/message", "p50 ms", "p99 ms", "resident", "generator µs/message"];
        print_table(&head, &rows);
        for (n, peer) in Contender::ALL.iter().enumerate().take(2) {
            let rate = of(&|turn| turn[2].rate / turn[n].rate);
            let cpu = of(&|turn| turn[2].server_cpu_us / turn[n].server_cpu_us);
            println!("  edge-agent / {}: {rate:.2} times the rate, {cpu:.2} of the CPU per message", peer.name());
            if is_limit && *peer == Contender::Mosquitto {
                checks.push(Check::new(
                    &format!("rate against mosquitto, {payload}"),
                    rate,
                    true,
                    RATE_RATIO_MIN,
                    " times",
                ));
                checks.push(Check::new(
                    &format!("CPU against mosquitto, {payload}"),
                    cpu,
                    false,
                    CPU_RATIO_MAX,
                    " times",
                ));
            }
        }
        println!();
        Ok(())
    }

    fn memory(&self, checks: &mut Vec<Check>) -> Outcome<()> {
        let scratch = self.options.places.scratch()?;
        let queue = format!("{}MB", ((self.options.backlog_gb + QUEUE_SLACK_GB) * 1e3) as u64);
        let mut agent = Agent::start(&self.options.places, scratch.path(), "raw", &queue)?;
        let mut rows = Vec::new();
        let mut note = |what: &str, pid: u32| {
            let (now, peak) = (usage::resident(pid), usage::resident_peak(pid));
            eprintln!("{what}: {} resident, {} at most", mb(now), mb(peak));
            rows.push(vec![what.to_owned(), mb(now), mb(peak)]);
            usage::forget_peak(pid);
            now
        };
        std::thread::sleep(Duration::from_secs(3));
        let idle = note("idle", agent.pid());

        let held = self.hold(&agent)?;
        note(&format!("{CONNECTIONS} connections, silent"), agent.pid());
        self.publish(&mut agent)?;
        note(&format!("{CONNECTIONS} more connections that published at full rate, over"), agent.pid());

        let began = Instant::now();
        let filler = Filler::start(agent.mqtt, Kind::Texts, FILLERS, u64::MAX);
        let wanted = (self.options.backlog_gb * 1e9) as u64;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            agent.check()?;
            let (pending, _) = agent.pending()?;
            if pending >= wanted {
                break;
            }
            if filler.has_ended() {
                filler.finish()?;
                return Err(format!("filling ended at {}", mb(pending)).into());
            }
        }
        let texts = filler.stop()?;
        let (pending, events) = agent.pending()?;
        let took = began.elapsed().as_secs();
        println!("backlog: {} in the outbox, {events} events; {texts} texts in {took} s\n", mb(pending));
        note("backlog, while it was filled", agent.pid());
        std::thread::sleep(Duration::from_secs(3));
        note(&format!("{CONNECTIONS} connections, silent, and the backlog"), agent.pid());

        // The same on top of the backlog, with everybody publishing.
        drop(held);
        let loaded = self.publish(&mut agent)?;
        note(&format!("{CONNECTIONS} connections publish at full rate over the backlog"), agent.pid());

        let held = self.hold(&agent)?;
        let (restarted, took, _) = agent.crash(|| drop(held))?;
        agent = restarted;
        let _held = self.hold(&agent)?;
        let again = note(&format!("killed and restarted: the backlog, {CONNECTIONS} connections"), agent.pid());
        println!("the agent's memory (ready {:.2} s after the restart):\n", took.as_secs_f64());
        print_table(&["", "resident", "at most"], &rows);
        checks.push(Check::new("memory, idle", idle as f64 / 1e6, false, IDLE_MB_MAX, " MB"));
        let loaded = loaded.max(again) as f64 / 1e6;
        let what = format!("memory, {CONNECTIONS} connections and {} of backlog, at most", mb(pending));
        checks.push(Check::new(&what, loaded, false, LOADED_MB_MAX, " MB"));
        println!("on disk: {}\n", mb(cache::folder_bytes(&agent.data())));
        Ok(())
    }

    /// Opens silent connections and waits until the agent has them.
    fn hold(&self, agent: &Agent) -> Outcome<Background> {
        let mut held = self.generator.hold(agent.mqtt, CONNECTIONS)?;
        while agent.connections()? < CONNECTIONS as u64 {
            if held.has_ended()? {
                return Err(format!("{CONNECTIONS} connections cannot be opened; see ulimit -n").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_secs(1));
        Ok(held)
    }

    /// Publishes readings with unique ids over many connections, and returns the most memory meanwhile.
    fn publish(&self, agent: &mut Agent) -> Outcome<u64> {
        let (address, pid, messages) = (agent.mqtt, agent.pid(), self.options.messages * 2);
        let load = Load { address, pid, connections: CONNECTIONS, messages, inflight: 20, payload: "json" };
        usage::forget_peak(pid);
        let mut load = self.generator.spawn(&load)?;
        let mut most = 0;
        while !load.has_ended()? {
            most = most.max(usage::resident(pid));
            agent.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(most)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mqtt: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Outcome<bool> {
    let generator = Generator::build(&options.places)?;
    let bench = Bench { options, generator };
    let Options { rounds, messages, .. } = bench.options;
    println!("{}", machine());
    let mut checks = Vec::new();
    if !bench.options.no_rate {
        println!("{} ({MOSQUITTO_SETTINGS})", version(&debian("mosquitto")?, "-h")?);
        println!("edge-agent: durability fsync, forward aggregates, a threshold and a 1-minute aggregate, no hub");
        println!("{rounds} rounds of {messages} messages at QoS 1, medians\n");
        for payload in &bench.options.payload {
            for (n, inflight) in bench.options.inflight.iter().enumerate() {
                bench.compare(payload, *inflight, n == 0, &mut checks)?;
            }
        }
    }
    if !bench.options.no_memory {
        bench.memory(&mut checks)?;
    }
    Ok(print_checks(&checks))
}
