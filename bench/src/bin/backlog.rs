//! Measures how long an edge agent with a large backlog takes from its start,
//! after SIGKILL, until it is ready; fails when that is too long.
//!
//! The outbox is filled over MQTT with readings that have unique ids, all of
//! which are to go up, and there is no hub. Before each kill more of them come,
//! so that the restart has a part of the intake to replay: just less than the
//! agent lets come together between two checkpoints, the worst case.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::figures::{Check, mb, print_checks, print_table};
use grey_bench::publisher::{Filler, Kind};
use grey_bench::{Outcome, Places, cache, exit_code, machine, usage};

/// Time from the start to ready, seconds.
const READY_S_MAX: f64 = 1.0;

/// Connections that publish: gateways with devices behind them.
const CONNECTIONS: usize = 8;

#[derive(Debug, Parser)]
#[command(about = "Measures an edge agent's restart with a large backlog")]
struct Options {
    /// Events in the outbox.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Restarts; the slowest counts.
    #[arg(long, default_value_t = 3)]
    restarts: usize,
    /// Events before each kill, for the restart to replay. A checkpoint is due after 32 MiB of intake.
    #[arg(long, default_value_t = 300_000)]
    tail: u64,
    /// Restart with what the page cache holds.
    #[arg(long)]
    warm: bool,
    #[command(flatten)]
    places: Places,
}

fn main() -> ExitCode {
    exit_code("backlog", run(&Options::parse()))
}

fn run(options: &Options) -> Outcome<bool> {
    println!("{}\n", machine());
    let scratch = options.places.scratch()?;
    let mut agent = Agent::start(&options.places, scratch.path(), "raw", "100GB")?;
    let publish = |agent: &Agent, events: u64| -> Outcome<()> {
        let acknowledged = Filler::start(agent.mqtt, Kind::Readings, CONNECTIONS, events).finish()?;
        if acknowledged == events { Ok(()) } else { Err(format!("only {acknowledged} of {events} were taken").into()) }
    };
    let began = Instant::now();
    publish(&agent, options.events)?;
    let took = began.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    let (pending, events) = agent.pending()?;
    println!(
        "{events} events in {took:.0} s ({:.0} events/s): {} in the outbox, {} on disk in all, {} resident",
        options.events as f64 / took,
        mb(pending),
        mb(cache::folder_bytes(&agent.data())),
        mb(usage::resident(agent.pid())),
    );
    if events < options.events {
        return Err(format!("{} events were acknowledged, but only {events} are pending", options.events).into());
    }
    let (mut rows, mut sent) = (Vec::new(), options.events);
    let mut slowest = Duration::ZERO;
    for n in 1..=options.restarts {
        publish(&agent, options.tail)?;
        sent += options.tail;
        let mut cold = false;
        let (restarted, took, waited_for) = agent.crash(|| cold = !options.warm && cache::drop_all())?;
        agent = restarted;
        slowest = slowest.max(took);
        let accepted = agent.accepted("bulk")?;
        if accepted != sent {
            return Err(format!("{sent} events were acknowledged, but the ledger has {accepted}").into());
        }
        let replay = waited_for.as_deref().and_then(|text| text.split("replaying ").nth(1)?.split(' ').next());
        rows.push(vec![
            n.to_string(),
            if cold { "dropped" } else { "warm" }.to_owned(),
            format!("{:.0} ms", took.as_secs_f64() * 1e3),
            replay.unwrap_or("not seen").to_owned(),
            mb(usage::resident(agent.pid())),
            mb(usage::resident_peak(agent.pid())),
            accepted.to_string(),
        ]);
    }
    println!();
    let head =
        ["restart", "page cache", "exec to ready", "records to replay", "resident", "at most", "events accepted"];
    print_table(&head, &rows);
    let check = Check::new("slowest restart", slowest.as_secs_f64(), false, READY_S_MAX, " s");
    Ok(print_checks(&[check]))
}
