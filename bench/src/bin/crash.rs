//! Kills an edge agent with a rich rule set at random points of a recorded day
//! and compares what left it with what left an agent that was let alone.
//!
//! A device with one connection publishes the day in its order at QoS 1. After
//! each SIGKILL and restart it connects again and resends everything that was
//! not acknowledged; what was stored already is recognised by its id. At the
//! end both outboxes are decoded and compared event by event. Not compared are
//! what legitimately depends on when things happened: the site's stamps (and
//! attributes that are one or are made of one, as an alert's id), the sequences
//! (a resend takes one, too), and where blocks and commits begin.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use grey_bench::agent::Agent;
use grey_bench::mix::hash;
use grey_bench::outbox::{LaneBlocks, read};
use grey_bench::publisher::{connect, put_length};
use grey_bench::recording::{CLOSING_MS, DAY_MS, Message, day};
use grey_bench::{Outcome, Places, exit_code, machine, reference};
use grey_model::{Event, Kind, Lane};
use serde_json::json;

/// Unacknowledged messages of the connection.
const WINDOW: usize = 400;
/// No acknowledgement for so long means that the run is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The device dates its day so far before the present that its closing readings are in the past.
const BEFORE_NOW_MS: i64 = DAY_MS + CLOSING_MS + 3_600_000;
/// Differences that are printed.
const SHOWN_MAX: usize = 10;

#[derive(Debug, Parser)]
#[command(about = "Kills an edge agent during a recorded day and compares what left it with an undisturbed run")]
struct Options {
    /// How often it is killed.
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Chooses the day and the points of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of the day, one message in so many (to try things out).
    #[arg(long, default_value_t = 1)]
    thin: usize,
    /// The simplest rules alone, and alerts alone are compared.
    #[arg(long)]
    basic: bool,
    #[command(flatten)]
    places: Places,
}

fn main() -> ExitCode {
    exit_code("crash", run(&Options::parse()))
}

fn run(options: &Options) -> Outcome<bool> {
    println!("{}", machine());
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    // Whole hours, so that a seed gives the same windows at any minute.
    let start_ms = (now_ms - BEFORE_NOW_MS) / 3_600_000 * 3_600_000;
    let mut messages = day(options.seed, start_ms);
    if options.thin > 1 {
        messages = messages.into_iter().step_by(options.thin).collect();
    }
    println!("{} messages of a day, {} kills, seed {}", messages.len(), options.kills, options.seed);
    let mut points: Vec<usize> =
        (0..options.kills).map(|n| hash(options.seed ^ n << 20) as usize % messages.len()).collect();
    points.sort_unstable();
    let undisturbed = play(options, &messages, &[])?;
    println!("undisturbed: {:.1} s", undisturbed.took.as_secs_f64());
    let killed = play(options, &messages, &points)?;
    println!(
        "{} kills, {} of them during a recovery: {:.1} s, {} messages resent",
        killed.kills,
        killed.early,
        killed.took.as_secs_f64(),
        killed.resent
    );
    compare(&undisturbed, &killed, options, now_ms)
}

/// What an agent's outbox held in the end.
struct Played {
    lanes: [LaneBlocks; 3],
    took: Duration,
    resent: u64,
    kills: u64,
    early: u64,
}

fn play(options: &Options, messages: &[Message], points: &[usize]) -> Outcome<Played> {
    let scratch = options.places.scratch()?;
    let processing = if options.basic { reference::BASIC.to_owned() } else { reference::crash_rules() };
    // A checkpoint every second, so that kills fall before, into and behind many of them.
    let document = format!(
        "edge:\n  site_id: crash\n  durability: fsync\n  forward: anomalies\n  queue: {{ max_bytes: 4GB }}\n  \
         consensus: {{ snapshot_interval: 1s }}\n  \
         ingest: {{ mqtt: {{ listen: \"127.0.0.1:0\" }} }}\n  api: {{ listen: \"127.0.0.1:0\" }}\n  \
         local_processing: {processing}\n"
    );
    let began = Instant::now();
    let mut agent = Agent::start_document(&options.places, scratch.path(), &document)?;
    let mut device = Device::connect(agent.mqtt, 0, messages)?;
    let (mut resent, mut early) = (0, 0);
    for (n, point) in points.iter().enumerate() {
        device.publish_to(*point)?;
        let random = hash(options.seed ^ 0xdead ^ (n as u64) << 16);
        std::thread::sleep(Duration::from_micros(random % 4_000));
        if random.is_multiple_of(5) {
            agent.crash_early(Duration::from_micros((random >> 20) % 60_000))?;
            early += 1;
        }
        let (restarted, _, _) = agent.crash(|| {})?;
        agent = restarted;
        let from = device.acknowledged;
        resent += (device.sent - from) as u64;
        device = Device::connect(agent.mqtt, from, messages)?;
    }
    device.publish_to(messages.len())?;
    device.drain()?;
    drop(device);
    let data = agent.data();
    agent.stop()?;
    let took = began.elapsed();
    Ok(Played { lanes: read(&data)?, took, resent, kills: points.len() as u64 + early, early })
}

/// A device that publishes its messages in order and knows what was acknowledged.
struct Device<'a> {
    stream: TcpStream,
    messages: &'a [Message],
    /// Messages before are acknowledged.
    acknowledged: usize,
    /// Messages before are sent.
    sent: usize,
    input: Vec<u8>,
}

impl<'a> Device<'a> {
    fn connect(address: SocketAddr, from: usize, messages: &'a [Message]) -> Outcome<Self> {
        let stream = connect(address, "recorder")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream, messages, acknowledged: from, sent: from, input: Vec::new() })
    }

    /// Sends until all messages before `end` are on their way.
    fn publish_to(&mut self, end: usize) -> Outcome<()> {
        let mut out = Vec::new();
        while self.sent < end {
            if self.sent - self.acknowledged >= WINDOW {
                self.hear()?;
                continue;
            }
            out.clear();
            let upto = end.min(self.acknowledged + WINDOW);
            for (n, message) in self.messages[..upto].iter().enumerate().skip(self.sent) {
                out.push(0x32);
                put_length(&mut out, 2 + message.topic.len() + 2 + message.payload.len());
                out.extend((message.topic.len() as u16).to_be_bytes());
                out.extend(message.topic.as_bytes());
                out.extend(packet_id(n).to_be_bytes());
                out.extend(message.payload.as_bytes());
            }
            self.stream.write_all(&out)?;
            self.sent = upto;
        }
        Ok(())
    }

    fn drain(&mut self) -> Outcome<()> {
        while self.acknowledged < self.sent {
            self.hear()?;
        }
        Ok(())
    }

    fn hear(&mut self) -> Outcome<()> {
        let mut some = [0; 4_096];
        let count = self.stream.read(&mut some)?;
        if count == 0 {
            return Err("the agent closed the connection".into());
        }
        self.input.extend_from_slice(&some[..count]);
        let whole = self.input.len() / 4 * 4;
        for puback in self.input[..whole].chunks_exact(4) {
            let [0x40, 2, high, low] = *puback else { return Err(format!("{puback:02x?} is no PUBACK").into()) };
            if u16::from_be_bytes([high, low]) != packet_id(self.acknowledged) {
                return Err("acknowledgements are out of order".into());
            }
            self.acknowledged += 1;
        }
        self.input.drain(..whole);
        Ok(())
    }
}

fn packet_id(n: usize) -> u16 {
    (n % 65_535 + 1) as u16
}

/// An event without its stamp, as text that is the same for equal bytes alone.
fn canonical(lane: Lane, event: &Event, began_ms: i64) -> String {
    let Event { device, stream, kind, value, device_time_ms, stamp: _, quality, unit, id, attributes } = event;
    // An alert's id is a hash of, among others, the site's time at its beginning. The recorded
    // day is in the past: a time since this program began is the site's own.
    let is_site_time = |value: &str| value.parse::<i64>().is_ok_and(|ms| ms >= began_ms);
    let attributes: Vec<(&str, &str)> = attributes
        .iter()
        .map(|(name, value)| (&**name, if &**name == "alert" || is_site_time(value) { "*" } else { &**value }))
        .collect();
    // `{:?}` of a double is its shortest text that reads back the same.
    format!(
        "{device_time_ms} {} {lane} {} {} {value:?} {} {unit:?} {id:?} {attributes:?}",
        kind.as_str(),
        device.as_str(),
        stream.as_str(),
        quality.as_str()
    )
}

fn compare(undisturbed: &Played, killed: &Played, options: &Options, began_ms: i64) -> Outcome<bool> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (which, played) in [undisturbed, killed].into_iter().enumerate() {
        for lane in Lane::ALL {
            for event in &played.lanes[lane.index()].events {
                if options.basic && event.kind != Kind::Alert {
                    continue;
                }
                *counts.entry(canonical(lane, event, began_ms)).or_default() += if which == 0 { 1 } else { -1 };
                kinds.entry(event.kind.as_str()).or_default()[which] += 1;
            }
        }
    }
    // Ids differ, but there must be as many of them: each alert has one, from its beginning to its end.
    let ids = |played: &Played| {
        let all = played.lanes.iter().flat_map(|lane| &lane.events).flat_map(|event| &event.attributes);
        all.filter(|(name, _)| &**name == "alert").map(|(_, id)| id.to_string()).collect::<BTreeSet<_>>().len()
    };
    let ids = [ids(undisturbed), ids(killed)];
    let differences: Vec<(&String, &i64)> = counts.iter().filter(|(_, count)| **count != 0).collect();
    for (event, count) in differences.iter().take(SHOWN_MAX) {
        println!("{} {event}", if **count > 0 { "missing" } else { "too much" });
    }
    let number: u64 = differences.iter().map(|(_, count)| count.unsigned_abs()).sum();
    let bytes = |played: &Played| played.lanes.iter().map(|lane| lane.bytes).sum::<u64>();
    println!(
        "{}",
        json!({
            "kills": killed.kills,
            "kills_during_recovery": killed.early,
            "resent_by_the_device": killed.resent,
            "left_the_site": {"undisturbed": kinds.iter().map(|(kind, n)| (*kind, n[0])).collect::<BTreeMap<_, _>>(),
                              "killed": kinds.iter().map(|(kind, n)| (*kind, n[1])).collect::<BTreeMap<_, _>>()},
            "outbox_bytes": {"undisturbed": bytes(undisturbed), "killed": bytes(killed)},
            "alert_ids": ids,
            "differences": number,
            "exact": number == 0 && ids[0] == ids[1],
        })
    );
    Ok(number == 0 && ids[0] == ids[1])
}
