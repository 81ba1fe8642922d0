//! Measures what an edge agent keeps from leaving its site: the reference mix
//! goes in, and the events and bytes of the outbox are what goes out. Then it
//! proves that nothing that matters was lost on the way: every crossing of a
//! threshold and every window is computed once more from what was sent, without
//! the engine, and held against the alerts and aggregates one by one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::figures::{Check, mb, print_checks, print_table};
use grey_bench::mix::{Class, Due, Mix, Unusual};
use grey_bench::outbox::{LaneBlocks, read};
use grey_bench::paced::{Expect, HookServer, Plan, Sent, run as send};
use grey_bench::{Outcome, Places, exit_code, machine, reference};
use grey_model::{Event, Kind, Lane, Value};

/// Parts of the events and of the bytes that have to stay at the site.
const EVENTS_KEPT_MIN: f64 = 80.0;
const BYTES_KEPT_MIN: f64 = 90.0;
/// One-minute windows.
const WINDOW_MS: i64 = 60_000;
/// After the last reading: until the windows of silent sources have ended by the site's own time.
const SETTLE: Duration = Duration::from_secs(70);
/// Differences that are printed.
const SHOWN_MAX: usize = 10;

#[derive(Debug, Parser)]
#[command(about = "Measures how much of the reference mix stays at the site, and that no alert or window is lost")]
struct Options {
    /// Sites' worth of devices behind the agent; one has 501 readings a second.
    #[arg(long, default_value_t = 20)]
    sites: u64,
    /// Seconds of the mix.
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// The simplest rules alone.
    #[arg(long)]
    basic: bool,
    #[command(flatten)]
    places: Places,
}

fn main() -> ExitCode {
    exit_code("reduction", run(&Options::parse()))
}

fn run(options: &Options) -> Outcome<bool> {
    println!("{}\n", machine());
    let scratch = options.places.scratch()?;
    let hooks = HookServer::open()?;
    let folder = scratch.path().join("agent");
    let rules = if options.basic { reference::BASIC.to_owned() } else { reference::rules(hooks.address()?, &folder)? };
    let agent = Agent::start_with(&options.places, &folder, "aggregates", "20GB", &rules)?;
    // Rarer than where alerts are timed: a plant that runs.
    let mix = Mix::new(options.sites, Unusual { hot: 40, high: 2_000, low: 8_000, defect: 3_000 }, 0x67_7265_79);
    let schedule = mix.schedule(options.seconds * 1_000_000);
    let base_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let plan = Plan {
        mix: &mix,
        schedule: &schedule,
        address: agent.mqtt,
        connections: 100,
        speed: 1.0,
        base_ms,
        warm_up_us: 0,
        inflight_max: 1_000,
    };
    println!("{} devices, {:.0} readings/s for {} s", mix.devices.len(), mix.rate(), options.seconds);
    let sent = send(&plan, &hooks, Expect::default())?;
    std::thread::sleep(SETTLE);
    let data = agent.data();
    agent.stop()?;
    let lanes = read(&data)?;

    let mut checks = Vec::new();
    volumes(&sent, &lanes, &mut checks);
    let naive = Naive::of(&mix, &schedule, base_ms);
    naive.hold_alerts(&lanes, options, &mut checks);
    naive.hold_windows(&lanes, &mut checks);
    Ok(print_checks(&checks))
}

fn volumes(sent: &Sent, lanes: &[LaneBlocks; 3], checks: &mut Vec<Check>) {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for event in lanes.iter().flat_map(|lane| &lane.events) {
        *kinds.entry(event.kind.as_str()).or_default() += 1;
    }
    let events: u64 = kinds.values().sum();
    let bytes: u64 = lanes.iter().map(|lane| lane.bytes).sum();
    let kept = |out: u64, of: u64| 100.0 * (1.0 - out as f64 / of as f64);
    let row = |name: &str, events: u64, bytes: u64, spec: &str, how: &str| {
        vec![
            name.to_owned(),
            events.to_string(),
            mb(bytes),
            format!("{:.2} %", kept(events, sent.events)),
            format!("{:.2} %", kept(bytes, sent.payload_bytes)),
            spec.to_owned(),
            how.to_owned(),
        ]
    };
    let passed_on = "passed on as it came: no windows of its own yet";
    let rows = [
        row("from the devices", sent.events, sent.payload_bytes, "", "JSON payloads, without topics"),
        row("after the edge", events, bytes, "80 %", "measured: the outbox's blocks"),
        row("after the hub", events, bytes, "95 %", passed_on),
        row("in the cloud", events, bytes, "98 %", passed_on),
    ];
    println!();
    print_table(&["", "events", "bytes", "events less", "bytes less", "spec", ""], &rows);
    println!("what left the edge: {kinds:?}");
    for lane in Lane::ALL {
        let LaneBlocks { blocks, bytes, accounted, events } = &lanes[lane.index()];
        println!("  {lane}: {} events, {accounted} accounted for, {blocks} blocks of {}", events.len(), mb(*bytes));
    }
    println!();
    checks.push(Check::new("events that stay", kept(events, sent.events), true, EVENTS_KEPT_MIN, " %"));
    checks.push(Check::new("bytes that stay", kept(bytes, sent.payload_bytes), true, BYTES_KEPT_MIN, " %"));
}

/// What a window's numbers are.
#[derive(Debug, Clone, Copy)]
struct Window {
    sum: f64,
    min: f64,
    max: f64,
    count: f64,
}

/// Everything once more, the plain way.
struct Naive {
    /// Rule, device and time of each reading that began an alert.
    begins: BTreeMap<(String, String, i64), i64>,
    /// By device, stream and start.
    windows: BTreeMap<(String, String, i64), Window>,
}

impl Naive {
    fn of(mix: &Mix, schedule: &[Due], base_ms: i64) -> Self {
        let (mut begins, mut windows) = (BTreeMap::new(), BTreeMap::new());
        let mut firing: BTreeMap<(&str, u32), bool> = BTreeMap::new();
        for due in schedule {
            let Some(value) = mix.value(*due) else { continue };
            let device = &mix.devices[due.device as usize];
            let time_ms = base_ms + (due.at_us / 1_000) as i64;
            let rules: &[(&str, bool, bool)] = match device.class {
                Class::Temperature => &[("hot", value > 85.0, value < 80.0)],
                Class::Plc => &[("high", value > 8.0, value <= 8.0), ("low", value < 1.0, value >= 1.0)],
                _ => &[],
            };
            for (rule, begins_now, ends) in rules {
                let is_firing = firing.entry((rule, due.device)).or_default();
                if *begins_now && !*is_firing {
                    *is_firing = true;
                    *begins.entry(((*rule).to_owned(), device.name.clone(), time_ms)).or_default() += 1;
                } else if *ends {
                    *is_firing = false;
                }
            }
            let start = time_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
            let key = (device.name.clone(), device.class.stream().to_owned(), start);
            let none = Window { sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, count: 0.0 };
            let window: &mut Window = windows.entry(key).or_insert(none);
            window.sum += value;
            window.min = window.min.min(value);
            window.max = window.max.max(value);
            window.count += 1.0;
        }
        Self { begins, windows }
    }

    /// Each crossing against the alerts that left the edge.
    fn hold_alerts(&self, lanes: &[LaneBlocks; 3], options: &Options, checks: &mut Vec<Check>) {
        let mut left = self.begins.clone();
        if options.basic {
            left.retain(|(rule, _, _), _| rule == "high");
        }
        let expected: i64 = left.values().sum();
        let attribute = |event: &Event, name: &str| {
            event.attributes.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.to_string())
        };
        for event in lanes.iter().flat_map(|lane| &lane.events).filter(|event| event.kind == Kind::Alert) {
            let rule = attribute(event, "rule").unwrap_or_default();
            if attribute(event, "state").as_deref() == Some("firing") && ["hot", "high", "low"].contains(&&*rule) {
                *left.entry((rule, event.device.to_string(), event.device_time_ms)).or_default() -= 1;
            }
        }
        let missed: i64 = left.values().filter(|count| **count > 0).sum();
        let invented: i64 = -left.values().filter(|count| **count < 0).sum::<i64>();
        for (crossing, count) in left.iter().filter(|(_, count)| **count != 0).take(SHOWN_MAX) {
            println!("{} {crossing:?}", if *count > 0 { "no alert for" } else { "an alert without a crossing:" });
        }
        let text = format!("{expected} crossings, computed from what was sent: {missed} missed, {invented} invented");
        checks.push(Check { text, holds: expected > 0 && missed == 0 && invented == 0 });
    }

    /// Each window against the aggregates that left the edge.
    fn hold_windows(&self, lanes: &[LaneBlocks; 3], checks: &mut Vec<Check>) {
        let mut left: BTreeMap<_, _> = self.windows.iter().map(|(key, window)| (key.clone(), *window)).collect();
        let (mut wrong, mut unknown, mut shown) = (0, 0, 0);
        let of_devices = |event: &&Event| Class::ALL.iter().any(|class| class.stream() == &*event.stream);
        let aggregates = lanes.iter().flat_map(|lane| &lane.events).filter(|event| event.kind == Kind::Aggregate);
        for event in aggregates.filter(of_devices) {
            let Value::Fields(fields) = &event.value else { continue };
            let field = |name: &str| fields.iter().find(|(known, _)| &**known == name).map(|(_, value)| *value);
            let key = (event.device.to_string(), event.stream.to_string(), event.device_time_ms);
            let Some(window) = left.remove(&key) else {
                unknown += 1;
                if shown < SHOWN_MAX {
                    shown += 1;
                    println!("an aggregate of no window: {event:?}");
                }
                continue;
            };
            let near = |name: &str, value: f64| {
                field(name).is_some_and(|found| (found - value).abs() <= 1e-9 * value.abs().max(1.0))
            };
            let right = near("avg", window.sum / window.count)
                && near("min", window.min)
                && near("max", window.max)
                && near("count", window.count);
            if !right {
                wrong += 1;
                if shown < SHOWN_MAX {
                    shown += 1;
                    println!("wrong: {key:?} is {window:?}, the aggregate has {fields:?}");
                }
            }
        }
        for (key, window) in left.iter().take(SHOWN_MAX) {
            println!("no aggregate for {key:?}: {window:?}");
        }
        let (all, missing) = (self.windows.len(), left.len());
        let text = format!(
            "{all} windows, computed from what was sent: {missing} missing, {wrong} wrong, {unknown} of no window"
        );
        checks.push(Check { text, holds: all > 0 && missing == 0 && wrong == 0 && unknown == 0 });
    }
}
