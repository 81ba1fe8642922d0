//! A load generator for MQTT servers: many devices that publish with QoS 1 and
//! count every acknowledgement.
//!
//! ```text
//! cargo run --release -p grey-ingest --example load -- \
//!     --address 127.0.0.1:1883 --connections 50 --messages 5000000 --inflight 64 --payload json
//! ```
//!
//! It speaks plain MQTT 3.1.1, so any server can be measured. It takes care to
//! cost little itself: a message is a copy of a template with a few digits
//! patched in, and a whole window leaves in one write. Every packet id has to be
//! acknowledged exactly once; anything else is an error and the exit code is 1.
//! With `--idle N` it holds N connections open and publishes nothing, to measure
//! memory. With `--server-pid` it reports what the server used meanwhile.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

use std::io;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use grey_ingest::mqtt::codec::{Connect, Packet, Properties, Publish, Qos, Split, Version, split};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Payload {
    /// A bare number of six characters.
    Number,
    /// An object with value, ts, unit and a unique id.
    Json,
}

#[derive(Parser, Clone)]
#[command(about = "publish with QoS 1 from many connections and verify every acknowledgement")]
struct Args {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: String,
    /// Connections that publish.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages of all connections together.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages that one connection has unacknowledged at most.
    #[arg(long, default_value_t = 64)]
    inflight: u16,
    /// What is published.
    #[arg(long, value_enum, default_value = "number")]
    payload: Payload,
    /// The topic; {n} is the connection's number.
    #[arg(long, default_value = "grey/bench-{n}/temperature")]
    topic: String,
    /// Threads that the connections are spread over.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What client ids start with.
    #[arg(long, default_value = "bench")]
    client: String,
    /// The server's process id, to report its CPU time and memory.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Hold this many idle connections instead of publishing.
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// How long to hold them, in seconds.
    #[arg(long, default_value_t = 10)]
    hold_s: u64,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Latencies in buckets of about 3%: 32 per power of two of microseconds.
#[derive(Clone)]
struct Latencies {
    buckets: Vec<u64>,
    max_us: u64,
}

impl Latencies {
    const STEPS: u64 = 32;

    fn new() -> Self {
        Self { buckets: vec![0; 64 * Self::STEPS as usize], max_us: 0 }
    }

    fn bucket(us: u64) -> usize {
        if us < Self::STEPS {
            return us as usize;
        }
        let power = 63 - u64::from(us.leading_zeros());
        ((power - 4) * Self::STEPS + (us >> (power - 5)) - Self::STEPS) as usize
    }

    fn floor_us(bucket: usize) -> u64 {
        let (power, step) = (bucket as u64 / Self::STEPS, bucket as u64 % Self::STEPS);
        if power == 0 { step } else { (Self::STEPS + step) << (power - 1) }
    }

    fn add(&mut self, us: u64, count: u64) {
        self.buckets[Self::bucket(us)] += count;
        self.max_us = self.max_us.max(us);
    }

    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.max_us = self.max_us.max(other.max_us);
    }

    fn quantile_us(&self, q: f64) -> u64 {
        let total: u64 = self.buckets.iter().sum();
        let mut left = (total as f64 * q).ceil() as u64;
        for (i, count) in self.buckets.iter().enumerate() {
            if *count >= left {
                return Self::floor_us(i);
            }
            left -= count;
        }
        self.max_us
    }
}

/// One PUBLISH as bytes, with the places of what changes.
struct Template {
    bytes: Vec<u8>,
    id_at: usize,
    value_at: usize,
    /// Where the 12 digits of the unique id's running number stand.
    number_at: Option<usize>,
}

impl Template {
    fn new(args: &Args, connection: usize, run: u64) -> Self {
        let topic = args.topic.replace("{n}", &connection.to_string());
        let payload = match args.payload {
            Payload::Number => "20.000".to_string(),
            Payload::Json => {
                format!(r#"{{"value":20.000,"ts":{run},"unit":"°C","id":"{run:013}-{connection:05}-000000000000"}}"#)
            }
        };
        let mut bytes = Vec::new();
        let packet = Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: &topic,
            packet_id: 1,
            properties: Properties::default(),
            payload: payload.as_bytes(),
        };
        Packet::Publish(packet).encode(Version::V311, &mut bytes);
        let payload_at = bytes.len() - payload.len();
        Self {
            id_at: payload_at - 2,
            value_at: payload_at + if args.payload == Payload::Json { 9 } else { 0 },
            number_at: (args.payload == Payload::Json).then(|| bytes.len() - 2 - 12),
            bytes,
        }
    }

    fn append(&self, out: &mut Vec<u8>, packet_id: u16, number: u64) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[at..];
        message[self.id_at..self.id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
        // 20.000 to 29.999
        digits(&mut message[self.value_at + 1..self.value_at + 2], number / 1_000);
        digits(&mut message[self.value_at + 3..self.value_at + 6], number);
        if let Some(number_at) = self.number_at {
            digits(&mut message[number_at..number_at + 12], number);
        }
    }
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[derive(Default)]
struct Outcome {
    acknowledged: u64,
    out_of_order: u64,
    unexpected: u64,
}

async fn connect(args: &Args, client_id: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(&args.address).await?;
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let packet = Connect {
        version: Version::V311,
        clean: true,
        keep_alive_s: 0,
        properties: Properties::default(),
        client_id,
        will: None,
        username: None,
        password: None,
    };
    Packet::Connect(packet).encode(Version::V311, &mut bytes);
    stream.write_all(&bytes).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer != [0x20, 2, 0, 0] {
        return Err(io::Error::other(format!("{} answered CONNECT with {answer:02x?}", args.address)));
    }
    Ok(stream)
}

/// Publishes `messages` messages and waits for their acknowledgements.
async fn publish(
    mut stream: TcpStream,
    template: Template,
    inflight: u16,
    messages: u64,
    start: Instant,
) -> io::Result<(Outcome, Latencies)> {
    let window = usize::from(inflight.max(1));
    // More ids than the window, so that an id rests before it is used again.
    let ids = (window * 4).min(usize::from(u16::MAX));
    let mut sent_at_us = vec![0_u64; ids + 1];
    let (mut next_id, mut expected_id) = (1, 1);
    let (mut sent, mut outcome, mut latencies) = (0, Outcome::default(), Latencies::new());
    let mut out = Vec::with_capacity(window * template.bytes.len());
    let mut input = Vec::with_capacity(16 * 1024);
    while outcome.acknowledged < messages {
        let unacknowledged = (sent - outcome.acknowledged) as usize;
        // Half a window at a time, so that writes stay large.
        if unacknowledged <= window / 2 && sent < messages {
            let now_us = (start.elapsed().as_micros() as u64).max(1);
            out.clear();
            for _ in unacknowledged..window {
                if sent == messages || sent_at_us[next_id] != 0 {
                    break;
                }
                template.append(&mut out, next_id as u16, sent);
                sent_at_us[next_id] = now_us;
                next_id = next_id % ids + 1;
                sent += 1;
            }
            stream.write_all(&out).await?;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let now_us = start.elapsed().as_micros() as u64;
        let mut used = 0;
        while let Ok(Split::Frame(frame)) = split(&input[used..], 1 << 20) {
            used += frame.len;
            let (0x40, [high, low, ..]) = (frame.first, frame.body) else {
                outcome.unexpected += 1;
                continue;
            };
            let id = usize::from(u16::from_be_bytes([*high, *low]));
            match sent_at_us.get_mut(id) {
                Some(at_us) if *at_us != 0 => {
                    latencies.add(now_us.saturating_sub(*at_us), 1);
                    *at_us = 0;
                    outcome.acknowledged += 1;
                }
                _ => outcome.unexpected += 1,
            }
            outcome.out_of_order += u64::from(id != expected_id);
            expected_id = id % ids + 1;
        }
        input.drain(..used);
    }
    Ok((outcome, latencies))
}

/// CPU seconds of a process, all threads, from the scheduler's nanoseconds.
fn cpu_s(pid: &str) -> f64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let nanos = |task: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(nanos).sum::<u64>() as f64 / 1e9
}

fn resident_kib(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Opens the connections of one thread, waits for all others, then publishes.
fn run_thread(
    args: &Args,
    connections: Vec<usize>,
    run: u64,
    ready: &std::sync::Barrier,
) -> io::Result<(Outcome, Latencies)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for connection in &connections {
            streams.push(connect(args, &format!("{}-{connection}", args.client)).await);
        }
        ready.wait();
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (connection, stream) in connections.into_iter().zip(streams) {
            let template = Template::new(args, connection, run);
            let each = args.messages / args.connections as u64;
            let more = u64::from((connection as u64) < args.messages % args.connections as u64);
            tasks.spawn(publish(stream?, template, args.inflight, each + more, start));
        }
        let (mut total, mut latencies) = (Outcome::default(), Latencies::new());
        while let Some(outcome) = tasks.join_next().await {
            let (outcome, some) = outcome.map_err(io::Error::other)??;
            total.acknowledged += outcome.acknowledged;
            total.out_of_order += outcome.out_of_order;
            total.unexpected += outcome.unexpected;
            latencies.merge(&some);
        }
        Ok((total, latencies))
    })
}

fn hold_idle(args: &Args) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let before = args.server_pid.map(|pid| resident_kib(&pid.to_string()));
        let mut streams = Vec::with_capacity(args.idle);
        for n in 0..args.idle {
            streams.push(connect(args, &format!("{}-idle-{n}", args.client)).await?);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let (Some(pid), Some(before)) = (args.server_pid, before) {
            let after = resident_kib(&pid.to_string());
            let each = (after.saturating_sub(before) * 1024) as f64 / args.idle as f64;
            println!("{} idle connections: {before} -> {after} KiB resident, {each:.0} bytes each", args.idle);
        }
        tokio::time::sleep(Duration::from_secs(args.hold_s)).await;
        Ok(())
    })
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if args.idle > 0 {
        return hold_idle(&args);
    }
    let run = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
    let threads = args.threads.clamp(1, args.connections.max(1));
    let ready = std::sync::Barrier::new(threads + 1);
    let server = args.server_pid.map(|pid| pid.to_string());
    let server_cpu = || server.as_deref().map_or(0.0, cpu_s);
    let (outcome, latencies, elapsed, cpu, server_cpu_s) = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let connections = (0..args.connections).filter(|n| n % threads == thread).collect();
                let (args, ready) = (&args, &ready);
                scope.spawn(move || run_thread(args, connections, run, ready))
            })
            .collect();
        ready.wait();
        let (start, cpu, server_before) = (Instant::now(), cpu_s("self"), server_cpu());
        let (mut total, mut latencies, mut cpu_threads) = (Outcome::default(), Latencies::new(), 0.0);
        while handles.iter().any(|handle| !handle.is_finished()) {
            // The threads' times are gone with them, so they are read while they live.
            cpu_threads = f64::max(cpu_threads, cpu_s("self") - cpu);
            std::thread::sleep(Duration::from_millis(5));
        }
        let elapsed = start.elapsed().as_secs_f64();
        let server_cpu_s = server_cpu() - server_before;
        for handle in handles {
            let (outcome, some) = handle.join().map_err(|_| io::Error::other("a thread failed"))??;
            total.acknowledged += outcome.acknowledged;
            total.out_of_order += outcome.out_of_order;
            total.unexpected += outcome.unexpected;
            latencies.merge(&some);
        }
        io::Result::Ok((total, latencies, elapsed, cpu_threads, server_cpu_s))
    })?;
    let messages = outcome.acknowledged as f64;
    let rate = messages / elapsed;
    let (p50, p99) = (latencies.quantile_us(0.5), latencies.quantile_us(0.99));
    let resident = server.as_deref().map_or(0, resident_kib);
    if args.json {
        println!(
            r#"{{"messages":{},"elapsed_s":{elapsed:.3},"rate":{rate:.0},"client_cpu_us":{:.3},"server_cpu_us":{:.3},"server_rss_kib":{resident},"p50_us":{p50},"p99_us":{p99},"max_us":{},"out_of_order":{},"unexpected":{}}}"#,
            outcome.acknowledged,
            cpu / messages * 1e6,
            server_cpu_s / messages * 1e6,
            latencies.max_us,
            outcome.out_of_order,
            outcome.unexpected
        );
    } else {
        println!("{} messages acknowledged in {elapsed:.2} s: {rate:.0} per second", outcome.acknowledged);
        println!("client CPU {cpu:.2} s, {:.2} us per message", cpu / messages * 1e6);
        if server.is_some() {
            let each = server_cpu_s / messages * 1e6;
            println!("server CPU {server_cpu_s:.2} s, {each:.2} us per message, {resident} KiB resident");
        }
        println!("latency p50 {p50} us, p99 {p99} us, max {} us", latencies.max_us);
        println!("{} out of order, {} unexpected", outcome.out_of_order, outcome.unexpected);
    }
    if outcome.acknowledged != args.messages || outcome.unexpected > 0 {
        std::process::exit(1);
    }
    Ok(())
}
