//! Measures rules: many thresholds on one shared stream, in the engine and
//! through a whole agent over MQTT, beside eKuiper's published figure; and a
//! threshold with a one-minute aggregate beside bytewax and Node-RED over the
//! same recorded readings.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::figures::{Check, mb, print_checks, print_table};
use grey_bench::http::Poster;
use grey_bench::mix::hash;
use grey_bench::peers::{Piped, bytewax, node_red};
use grey_bench::publisher::{Filler, Kind};
use grey_bench::{Outcome, Places, exit_code, machine, outbox, usage};
use grey_model::{Event, Lane, Stamp};
use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet, Rules};

/// eKuiper's documentation of its benchmark with many rules on a shared stream
/// (test/benchmark/multiple_rules in lf-edge/ekuiper): 300 rules, 500 messages
/// a second, 150,000 evaluations a second, on 2 cores.
const EKUIPER_PER_S: f64 = 150_000.0;
/// How far ahead of that to be.
const TIMES_EKUIPER: f64 = 20.0;
/// Devices that send the shared stream.
const DEVICES: usize = 100;
/// Copies of a rule set that its memory is measured with.
const COPIES: usize = 20;
/// Readings of one request.
const LINES_AT_ONCE: usize = 5_000;
/// The first recorded reading, Unix ms: a whole minute.
const START_MS: i64 = 1_767_225_600_000;

#[derive(Debug, Parser)]
#[command(about = "Measures many rules on one stream, and a pipeline beside bytewax and Node-RED")]
struct Options {
    /// Numbers of rules; the limit holds for the last.
    #[arg(long, value_delimiter = ',', default_value = "100,300,1000")]
    rules: Vec<usize>,
    /// Seconds of each measurement in the engine.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Messages of each measurement through the agent.
    #[arg(long, default_value_t = 300_000)]
    messages: u64,
    /// Recorded readings that the pipelines get.
    #[arg(long, default_value_t = 300_000)]
    recorded: usize,
    /// Leave out the engine and the agent with many rules.
    #[arg(long)]
    no_many: bool,
    /// Leave out the pipelines.
    #[arg(long)]
    no_peers: bool,
    #[command(flatten)]
    places: Places,
}

fn main() -> ExitCode {
    exit_code("rules", run(&Options::parse()))
}

fn run(options: &Options) -> Outcome<bool> {
    println!("{}\n", machine());
    let mut checks = Vec::new();
    if !options.no_many {
        in_engine(options, &mut checks)?;
        through_agent(options, &mut checks)?;
    }
    if !options.no_peers {
        beside_peers(options, &mut checks)?;
    }
    Ok(print_checks(&checks))
}

/// Thresholds with limits of their own, of which a reading seldom crosses any.
/// `compound` ones look at two things, so that no table of limits can answer for them.
fn many(rules: usize, compound: bool) -> String {
    let mut text = String::from("{ limits: { alerts_per_minute: 1000000 }, rules: [");
    for n in 0..rules {
        let limit = 100.0 + n as f64 / 10.0;
        let more = if compound { " && quality == 'good'" } else { "" };
        let _ = write!(text, "{{ type: threshold, name: r{n}, condition: \"temperature > {limit}°C{more}\" }}, ");
    }
    text + "] }"
}

fn compile(rules: usize, compound: bool) -> Outcome<Arc<RuleSet>> {
    Ok(Arc::new(RuleSet::compile(&Rules::from_yaml(&many(rules, compound))?, &NoModels)?))
}

fn in_engine(options: &Options, checks: &mut Vec<Check>) -> Outcome<()> {
    let mut rows = Vec::new();
    let kinds = options.rules.iter().flat_map(|rules| [(rules, false), (rules, true)]);
    for (rules, compound) in kinds {
        let set = compile(*rules, compound)?;
        let mut engine = Engine::new(set, EngineConfig::new("bench"));
        let events: Vec<Event> = (0..10_000)
            .map(|n: usize| {
                // One reading in 101 crosses the lowest limits.
                let value = if n.is_multiple_of(101) { 101.0 } else { 20.0 + (hash(n as u64) % 700) as f64 / 10.0 };
                let mut event = Event::reading(format!("press-{}", n % DEVICES), "temperature", value, 0);
                event.unit = Some("°C".into());
                event
            })
            .collect();
        let mut derived = Derived::default();
        let (mut done, mut alerts, began) = (0_u64, 0, Instant::now());
        while began.elapsed() < Duration::from_secs(options.seconds) {
            for event in &events {
                let mut event = event.clone();
                event.device_time_ms = START_MS + done as i64;
                engine.process(&event, Stamp::at_unix_ms(START_MS + done as i64), &mut derived);
                alerts += derived.events.len();
                derived.events.clear();
                done += 1;
            }
        }
        let took = began.elapsed().as_secs_f64();
        let evaluations = done as f64 * *rules as f64 / took;
        drop(engine);
        let (compiled, state) = memory(*rules, compound, &events)?;
        rows.push(vec![
            format!("{rules} {}", if compound { "of two terms" } else { "limits" }),
            format!("{:.0}", done as f64 / took),
            format!("{:.1} M", evaluations / 1e6),
            format!("{:.1}", 1e9 / evaluations),
            format!("{:.0}", evaluations / EKUIPER_PER_S),
            format!("{compiled:.0}"),
            format!("{state:.0}"),
            format!("{:.3}", alerts as f64 / done as f64),
        ]);
        if compound && Some(rules) == options.rules.last() {
            let what =
                format!("evaluations of {rules} rules of two terms against eKuiper's published 150k/s, one thread");
            checks.push(Check::new(&what, evaluations / EKUIPER_PER_S, true, TIMES_EKUIPER, " times"));
        }
    }
    println!("in the engine, one thread, {DEVICES} devices on one stream:\n");
    let head = [
        "rules",
        "events/s",
        "evaluations/s",
        "ns each",
        "times eKuiper's 150k",
        "bytes a rule",
        "bytes a rule and device",
        "alerts an event",
    ];
    print_table(&head, &rows);
    Ok(())
}

/// Bytes of a compiled rule, and of its state for one device, by what the process takes for some copies.
fn memory(rules: usize, compound: bool, events: &[Event]) -> Outcome<(f64, f64)> {
    let pid = std::process::id();
    let before = usage::resident(pid);
    let sets: Vec<Arc<RuleSet>> = (0..COPIES).map(|_| compile(rules, compound)).collect::<Outcome<_>>()?;
    let compiled = usage::resident(pid).saturating_sub(before) as f64 / (COPIES * rules) as f64;
    let before = usage::resident(pid);
    let mut engines: Vec<Engine> = sets.into_iter().map(|set| Engine::new(set, EngineConfig::new("bench"))).collect();
    let mut derived = Derived::default();
    for engine in &mut engines {
        for event in &events[..DEVICES * 2] {
            engine.process(event, Stamp::at_unix_ms(START_MS), &mut derived);
            derived.events.clear();
        }
    }
    let state = usage::resident(pid).saturating_sub(before) as f64 / (COPIES * rules * DEVICES) as f64;
    Ok((compiled, state))
}

fn through_agent(options: &Options, checks: &mut Vec<Check>) -> Outcome<()> {
    let mut rows = Vec::new();
    let mut without = 0;
    for rules in std::iter::once(&0).chain(&options.rules) {
        let scratch = options.places.scratch()?;
        let mut agent = Agent::start_with(&options.places, scratch.path(), "aggregates", "1GB", &many(*rules, true))?;
        let (cpu, began) = (usage::cpu_s(agent.pid()), Instant::now());
        let sent = Filler::start(agent.mqtt, Kind::Readings, 8, options.messages).finish()?;
        let took = began.elapsed().as_secs_f64();
        let cpu = usage::cpu_s(agent.pid()) - cpu;
        agent.check()?;
        let accepted = agent.accepted("bulk")?;
        if accepted != sent {
            return Err(format!("{sent} messages were acknowledged, but the ledger has {accepted}").into());
        }
        let (rate, resident) = (sent as f64 / took, usage::resident_peak(agent.pid()));
        let evaluations = rate * *rules as f64;
        if *rules == 0 {
            without = resident;
        }
        rows.push(vec![
            rules.to_string(),
            format!("{rate:.0}"),
            format!("{:.1} M", evaluations / 1e6),
            format!("{:.0}", evaluations / EKUIPER_PER_S),
            format!("{:.2}", cpu * 1e6 / sent as f64),
            mb(resident),
            if *rules == 0 { "-".into() } else { format!("{:.0}", (resident as f64 - without as f64) / *rules as f64) },
        ]);
        if Some(rules) == options.rules.last() {
            let what = format!("evaluations of {rules} rules through the agent, durable, against the same");
            checks.push(Check::new(&what, evaluations / EKUIPER_PER_S, true, TIMES_EKUIPER, " times"));
        }
    }
    println!("through the agent: 8 connections, 160 devices, MQTT QoS 1, durable before the acknowledgement:\n");
    let head =
        ["rules", "messages/s", "evaluations/s", "times eKuiper's 150k", "CPU µs/message", "resident", "bytes a rule"];
    print_table(&head, &rows);
    Ok(())
}

/// Lines of JSON: a reading a second of each device, seldom above the limit.
fn recording(readings: usize) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    for n in 0..readings {
        let (device, second) = (n % DEVICES, n / DEVICES);
        let hot = hash((device as u64) << 32 | second as u64 / 20).is_multiple_of(30);
        let value = if hot { 88.0 } else { 60.0 } + (hash(n as u64) % 20_000) as f64 / 10_000.0;
        let time = START_MS + second as i64 * 1_000;
        writeln!(
            out,
            "{{\"device\":\"press-{device}\",\"stream\":\"temperature\",\"value\":{value:.3},\"unit\":\"°C\",\"ts\":{time}}}"
        )?;
    }
    Ok(out)
}

/// The agent gets the readings over HTTP, each request durable before its answer.
fn through_grey(options: &Options, recording: &[u8]) -> Outcome<Piped> {
    let scratch = options.places.scratch()?;
    let rules = "{ limits: { alerts_per_minute: 1000000 }, rules: [ \
                 { type: threshold, name: hot, condition: \"temperature > 85°C\" }, \
                 { type: aggregate, interval: 1m, fields: [avg, min, max, count] } ] }";
    let agent = Agent::start_with(&options.places, scratch.path(), "aggregates", "1GB", rules)?;
    let (cpu, began) = (usage::cpu_s(agent.pid()), Instant::now());
    let mut client = Poster::connect(agent.http)?;
    let mut lines = 0;
    let mut from = 0;
    for (at, _) in recording.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        lines += 1;
        if lines % LINES_AT_ONCE == 0 || at + 1 == recording.len() {
            client.post(&recording[from..=at])?;
            from = at + 1;
        }
    }
    let (seconds, cpu_s) = (began.elapsed().as_secs_f64(), usage::cpu_s(agent.pid()) - cpu);
    let resident = usage::resident_peak(agent.pid());
    // The last windows end when their sources have been silent for a while.
    std::thread::sleep(Duration::from_secs(8));
    let data = agent.data();
    agent.stop()?;
    let lanes = outbox::read(&data)?;
    let begins =
        |event: &&Event| event.attributes.iter().any(|(name, value)| &**name == "state" && &**value == "firing");
    let alerts = lanes[Lane::Critical.index()].events.iter().filter(begins).count() as u64;
    let windows = lanes[Lane::Normal.index()].events.len() as u64;
    Ok(Piped { readings: lines as u64, alerts, windows, seconds, cpu_s, resident })
}

fn beside_peers(options: &Options, checks: &mut Vec<Check>) -> Outcome<()> {
    // Whole minutes, so that every window is as good as over with the last reading.
    let readings = options.recorded.next_multiple_of(DEVICES * 60);
    let recorded = recording(readings)?;
    let scratch = options.places.scratch()?;
    let file: &Path = &scratch.path().join("readings.ndjson");
    std::fs::write(file, &recorded)?;
    let grey = through_grey(options, &recorded)?;
    let others = [
        ("bytewax 0.21, one worker, from a file", bytewax(file)),
        ("Node-RED 4.1, over TCP", node_red(&recorded, readings as u64, scratch.path())),
    ];
    let mut rows = Vec::new();
    let row = |name: &str, piped: &Piped| {
        vec![
            name.to_owned(),
            format!("{:.0}", piped.readings as f64 / piped.seconds),
            format!("{:.2}", piped.cpu_s * 1e6 / piped.readings as f64),
            piped.alerts.to_string(),
            piped.windows.to_string(),
            if piped.resident == 0 { "-".to_owned() } else { mb(piped.resident) },
        ]
    };
    rows.push(row("edge-agent, over HTTP, durable", &grey));
    for (name, piped) in &others {
        match piped {
            Ok(piped) => {
                rows.push(row(name, piped));
                let same = (grey.alerts, grey.windows) == (piped.alerts, piped.windows);
                checks.push(Check { text: format!("the same alerts and windows as {name}"), holds: same });
                let per = |piped: &Piped| piped.cpu_s / piped.readings as f64;
                let cpu = per(piped) / per(&grey);
                println!(
                    "edge-agent / {name}: {:.1} times the rate, {cpu:.1} times less CPU a reading",
                    grey.readings as f64 / grey.seconds * piped.seconds / piped.readings as f64,
                );
                checks.push(Check::new(&format!("CPU a reading of {name} against ours"), cpu, true, 1.0, " times"));
            }
            Err(error) => println!("{name}: not measured: {error}"),
        }
    }
    println!(
        "\na threshold and a one-minute aggregate for each of {DEVICES} devices, {} readings:\n",
        options.recorded
    );
    print_table(&["", "readings/s", "CPU µs/reading", "alerts", "windows", "resident"], &rows);
    Ok(())
}
