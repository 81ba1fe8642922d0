//! Measures a whole edge agent under the reference mix at a steady rate:
//! ingestion, decision, local alerts over MQTT and as webhooks, process
//! control, and inference, beside the specification's figures and the disk's
//! own time for a durable write.
//!
//! The sender keeps a fixed schedule, and a latency counts from when a reading
//! was due. Generator and agent share the machine.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::disk::{Probe, SyncTimes, sync_times};
use grey_bench::figures::{mb, print_table, quantile};
use grey_bench::histogram::Histogram;
use grey_bench::mix::{Mix, Unusual};
use grey_bench::paced::{Expect, HookServer, Plan, Sent, run as send};
use grey_bench::{Outcome, Places, exit_code, machine, reference, usage};
use grey_model::{Event, Stamp, Value};
use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet, Rules};

/// How far below the specification's figure a 99th percentile has to be.
const TIMES_BELOW: f64 = 10.0;
/// Writes that measure the disk, before the load and after it.
const DISK_WRITES: usize = 1_000;
/// Seconds of the mix that the engine alone is timed with.
const EVALUATED_S: u64 = 10;

#[derive(Debug, Parser)]
#[command(about = "Measures an edge agent under the reference mix at a steady rate")]
struct Options {
    /// Sites' worth of devices behind the agent; one has 501 readings a second.
    #[arg(long, default_value_t = 20)]
    sites: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// MQTT connections: gateways with devices behind them.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// The simplest rules alone: a threshold and an aggregate.
    #[arg(long)]
    basic: bool,
    /// Exit with 1 when a figure is not far enough below the specification's.
    #[arg(long)]
    gate: bool,
    #[command(flatten)]
    places: Places,
}

/// An operation, what the specification says of it, and what was measured.
struct Line {
    what: &'static str,
    /// Median, 99th percentile and maximum, µs; `None` where it says nothing.
    specified: [Option<f64>; 3],
    /// The same as measured; `None` where there is nothing to measure.
    measured: Option<[f64; 3]>,
    count: u64,
    how: &'static str,
}

fn main() -> ExitCode {
    exit_code("edge", run(&Options::parse()))
}

fn run(options: &Options) -> Outcome<bool> {
    let scratch = options.places.scratch()?;
    let hooks = HookServer::open()?;
    println!("{}", machine());
    let before = sync_times(scratch.path(), DISK_WRITES)?;
    let folder = scratch.path().join("agent");
    let rules = if options.basic { reference::BASIC.to_owned() } else { reference::rules(hooks.address()?, &folder)? };
    let mut agent = Agent::start_with(&options.places, &folder, "aggregates", "4GB", &rules)?;

    // 10 and 5 a second and some: the specification's 50,000 local decisions a minute of 1,000 sites.
    let mix = Mix::new(options.sites, Unusual { hot: 50, high: 400, low: 800, defect: 500 }, 0x67_7265_79);
    let schedule = mix.schedule((options.warm_up + options.seconds) * 1_000_000);
    let base_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let plan = Plan {
        mix: &mix,
        schedule: &schedule,
        address: agent.mqtt,
        connections: options.connections,
        speed: 1.0,
        base_ms,
        warm_up_us: options.warm_up * 1_000_000,
        inflight_max: 1_000,
    };
    let expect = Expect { alerts: true, controls: !options.basic, hooks: !options.basic };
    println!(
        "{} devices on {} connections, {:.0} readings/s for {} s after {} s, QoS 1, durability fsync, no hub\n",
        mix.devices.len(),
        options.connections,
        mix.rate(),
        options.seconds,
        options.warm_up
    );
    let histograms = || NAMES.map(|name| Histogram::read(agent.http, name).ok().flatten().unwrap_or_default());
    let (first, cpu, own_cpu) = (histograms(), usage::cpu_s(agent.pid()), usage::cpu_s(std::process::id()));
    let probe = Probe::start(scratch.path())?;
    let sent = send(&plan, &hooks, expect)?;
    let during = probe.stop()?;
    let (cpu, own_cpu) = (usage::cpu_s(agent.pid()) - cpu, usage::cpu_s(std::process::id()) - own_cpu);
    let last = histograms();
    let inside: Vec<Histogram> = last.iter().zip(&first).map(|(last, first)| last.since(first)).collect();
    agent.check()?;
    let resident = usage::resident_peak(agent.pid());
    let accepted: u64 = ["critical", "normal", "bulk"].iter().map(|lane| agent.accepted(lane)).sum::<Outcome<u64>>()?;
    if accepted < sent.events {
        return Err(format!("{} readings were acknowledged, but the ledger has {accepted}", sent.events).into());
    }
    drop(agent);
    let after = sync_times(scratch.path(), DISK_WRITES)?;

    let alone = if options.basic { reference::BASIC.to_owned() } else { reference::rules_alone(hooks.address()?) };
    let evaluated = evaluations(options, &mix, &alone, base_ms)?;
    let verdicts = report(&sent, &inside, &evaluated, options);
    for (when, times) in [("before", before), ("during", during), ("after", after)] {
        let SyncTimes { p50_us, p99_us, max_us } = times;
        println!("the disk, {when} the run: 4 KiB write + fdatasync p50 {p50_us} µs, p99 {p99_us} µs, max {max_us} µs");
    }
    let late = &sent.latencies.late;
    println!(
        "the generator wrote {:.0} readings/s of {:.0} bytes; it was late by p50 {} µs, p99 {} µs, max {} µs",
        sent.events as f64 / sent.took.as_secs_f64(),
        sent.payload_bytes as f64 / sent.events as f64,
        quantile(late, 0.5),
        quantile(late, 0.99),
        quantile(late, 1.0),
    );
    println!(
        "CPU: agent {:.1} µs a reading ({:.0} % of a core), generator {:.1} µs; agent {} resident at most",
        cpu * 1e6 / sent.events as f64,
        cpu * 100.0 / sent.took.as_secs_f64(),
        own_cpu * 1e6 / sent.events as f64,
        mb(resident),
    );
    println!("alerts, commands, webhooks missing {:?}, unexpected {:?}", sent.missing, sent.unexpected);
    let complete = sent.missing == [0; 3];
    Ok(!options.gate || (verdicts && complete))
}

/// Nanoseconds that the rules take for one reading of the mix, in this process
/// and on one thread, sorted: what the agent's engine does, without the agent.
fn evaluations(options: &Options, mix: &Mix, rules: &str, base_ms: i64) -> Outcome<Vec<u32>> {
    let set = RuleSet::compile(&Rules::from_yaml(rules)?, &NoModels)?;
    let mut engine = Engine::new(Arc::new(set), EngineConfig::new("bench"));
    let mut derived = Derived::default();
    let (mut times, mut payload) = (Vec::new(), Vec::new());
    for due in mix.schedule((options.warm_up + EVALUATED_S) * 1_000_000) {
        payload.clear();
        let time_ms = base_ms + (due.at_us / 1_000) as i64;
        mix.payload(due, time_ms, &mut payload)?;
        let json: serde_json::Value = serde_json::from_slice(&payload)?;
        let device = &mix.devices[due.device as usize];
        let mut event = Event::reading(device.name.clone(), device.class.stream(), 0.0, time_ms);
        event.value = match &json["value"] {
            serde_json::Value::Array(samples) => Value::Vector(samples.iter().filter_map(|x| x.as_f64()).collect()),
            number => Value::Number(number.as_f64().unwrap_or_default()),
        };
        event.unit = json["unit"].as_str().map(Into::into);
        event.id = json["id"].as_str().map(Into::into);
        let began = Instant::now();
        engine.process(&event, Stamp::at_unix_ms(time_ms), &mut derived);
        let took = began.elapsed().as_nanos() as u32;
        derived.events.clear();
        if due.at_us >= options.warm_up * 1_000_000 {
            times.push(took);
        }
    }
    times.sort_unstable();
    Ok(times)
}

/// The agent's own histograms.
const NAMES: [&str; 4] = [
    "grey_edge_decision_seconds",
    "grey_edge_inference_seconds",
    "grey_edge_ingest_seconds",
    "grey_edge_commit_seconds",
];

fn report(sent: &Sent, inside: &[Histogram], evaluated: &[u32], options: &Options) -> bool {
    let ms = |p50: f64, p99: f64, max: f64| [p50, p99, max].map(|ms| Some(ms * 1e3));
    let of = |times: &[u32]| (!times.is_empty()).then(|| [0.5, 0.99, 1.0].map(|q| f64::from(quantile(times, q))));
    let from =
        |histogram: &Histogram| (histogram.count() > 0).then(|| [0.5, 0.99, 1.0].map(|q| histogram.quantile_us(q)));
    let seen = &sent.latencies;
    let line = |what, specified, times: &[u32], how| Line {
        what,
        specified,
        measured: of(times),
        count: times.len() as u64,
        how,
    };
    let own = |what, specified, n: usize| Line {
        what,
        specified,
        measured: from(&inside[n]),
        count: inside[n].count(),
        how: "agent, bucket's upper bound",
    };
    let none = [None; 3];
    let mut lines = vec![
        line("sensor ingestion", ms(0.5, 2.0, 10.0), &seen.acknowledged, "due -> PUBACK, durable"),
        line("  of it since the write", none, &seen.from_write, "written -> PUBACK"),
        own("  of it the group commit", none, 3),
        own("ingest to decision", ms(1.0, 5.0, 20.0), 0),
        Line {
            what: "threshold evaluation",
            specified: ms(1.0, 5.0, 20.0),
            measured: Some([0.5, 0.99, 1.0].map(|q| f64::from(quantile(evaluated, q)) / 1e3)),
            count: evaluated.len() as u64,
            how: "all rules over a reading, in the engine",
        },
        own("local inference", ms(15.0, 45.0, 100.0), 1),
        line("local alert, MQTT", ms(5.0, 20.0, 50.0), &seen.alerts, "due -> subscriber"),
    ];
    if !options.basic {
        lines.push(line("local alert, webhook", ms(5.0, 20.0, 50.0), &seen.hooks, "due -> POST received"));
        lines.push(line("process control", [None, Some(10_000.0), None], &seen.controls, "due -> command received"));
    }
    let micros = |us: f64| match us {
        ..10.0 => format!("{us:.2}"),
        10.0..f64::INFINITY => format!("{us:.0}"),
        _ => "> all buckets".to_owned(),
    };
    let mut all = true;
    let mut rows = Vec::new();
    for Line { what, specified, measured, count, how } in &lines {
        let mut row = vec![(*what).to_owned(), count.to_string()];
        row.extend((0..3).map(|n| measured.map_or("-".to_owned(), |times| micros(times[n]))));
        row.extend(specified.iter().map(|us| us.map_or("-".to_owned(), |us| format!("{us:.0}"))));
        let ratio = measured.zip(specified[1]).map(|(times, us)| us / times[1]);
        row.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}")));
        let verdict = match (specified[1], ratio) {
            (None, _) => "",
            // The agent was asked for figures that it has to have.
            (Some(_), None) if options.basic => "not measured",
            (Some(_), Some(ratio)) if ratio >= TIMES_BELOW => "yes",
            _ => {
                all = false;
                "NO"
            }
        };
        row.push(verdict.to_owned());
        row.push((*how).to_owned());
        rows.push(row);
    }
    let head =
        ["µs", "count", "p50", "p99", "max", "spec p50", "spec p99", "spec max", "p99 ratio", "10x below", "what"];
    print_table(&head, &rows);
    all
}
