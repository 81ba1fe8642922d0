//! What a block costs: bytes an event and events a second for a reference mix.
//!
//! `cargo run --release -p grey-codec --example ratio`
//!
//! The mix: 64 devices with four streams each report once a second on a clock
//! that jitters by a few milliseconds; the site stamps them on arrival. Blocks
//! hold 4,096 events. Sizes include header, names, times, stamps and checksum.
//! The raw size that ratios refer to is the event as compact JSON.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::time::{Duration, Instant};

use grey_codec::{BlockBuilder, decode_block, row};
use grey_model::{Compression, Epoch, Event, Lane, Name, Reader, SiteId, Stamp, Value};

const BLOCK_EVENTS: usize = 4_096;
const BLOCKS: usize = 24;
const DEVICES: usize = 64;
const STREAMS: [(&str, &str, f64, f64, f64); 4] = [
    // name, unit, start, step, resolution
    ("temperature", "°C", 21.0, 0.05, 0.01),
    ("pressure", "hPa", 1_013.0, 0.2, 0.1),
    ("humidity", "%", 45.0, 0.1, 0.1),
    ("vibration", "mm/s", 2.5, 0.3, 0.001),
];

/// A small seeded generator (xorshift), so that every run measures the same events.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Roughly normal with deviation 1.
    fn normal(&mut self) -> f64 {
        let uniform: f64 = (0..12).map(|_| self.next() as f64 / u64::MAX as f64).sum();
        uniform - 6.0
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// As a sensor with a limited resolution writes them.
    Quantised,
    /// All 52 bits of a double differ.
    FullEntropy,
}

#[derive(Clone, Copy, PartialEq)]
enum Ids {
    None,
    Counting,
    Random,
}

fn events(values: Values, ids: Ids) -> Vec<Event> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let names: Vec<Name> = (0..DEVICES).map(|at| Name::from(format!("sensor-{at:03}"))).collect();
    let streams: Vec<(Name, Name)> = STREAMS.iter().map(|s| (Name::from(s.0), Name::from(s.1))).collect();
    let mut state: Vec<[f64; 4]> = (0..DEVICES).map(|_| STREAMS.map(|s| s.2 + random.normal())).collect();
    let mut events = Vec::new();
    let mut clock = 1_760_000_000_000_i64;
    let mut last = (0_i64, 0_u64);
    'all: loop {
        for device in 0..DEVICES {
            let time = clock + device as i64 * 15 + (random.normal() * 3.0) as i64;
            let arrival = (time + 4 + (random.normal().abs() * 2.0) as i64).max(last.0);
            for stream in 0..4 {
                let (_, _, middle, step, resolution) = STREAMS[stream];
                let value = &mut state[device][stream];
                *value += random.normal() * step + (middle - *value) * 0.01;
                let written = match values {
                    // What a device prints has a decimal point, not an error of representation.
                    Values::Quantised => {
                        let places = (-resolution.log10()).round() as usize;
                        format!("{value:.places$}").parse().unwrap_or_default()
                    }
                    Values::FullEntropy => *value,
                };
                last = if last.0 == arrival { (arrival, last.1 + 1) } else { (arrival, 0) };
                let mut event = Event::reading(names[device].clone(), streams[stream].0.clone(), written, time);
                event.unit = Some(streams[stream].1.clone());
                event.stamp = Stamp { hlc: Stamp::at_unix_ms(last.0).hlc | last.1, uncertainty_ms: 10 };
                event.id = match ids {
                    Ids::None => None,
                    Ids::Counting => Some(Name::from(format!("sensor-{device:03}-{:08}", events.len() / DEVICES))),
                    Ids::Random => Some(Name::from(format!("{:016x}{:016x}", random.next(), random.next()))),
                };
                events.push(event);
                if events.len() == BLOCK_EVENTS * BLOCKS {
                    break 'all;
                }
            }
        }
        clock += 1_000;
    }
    events
}

fn json_bytes(event: &Event) -> usize {
    let Value::Number(value) = event.value else { return 0 };
    let id = event.id.as_ref().map_or(0, |id| id.len() + 8);
    let (device, stream) = (&event.device, &event.stream);
    let unit = event.unit.as_deref().unwrap_or_default();
    let ts = event.device_time_ms;
    id + format!(r#"{{"device":"{device}","stream":"{stream}","value":{value},"unit":"{unit}","ts":{ts}}}"#).len()
}

/// The median of five runs.
fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..5).map(|_| run()).collect();
    times.sort();
    times[2]
}

fn rate(events: usize, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64() / 1e6
}

fn encode(events: &[Event], compression: Compression, block_events: usize) -> Vec<bytes::Bytes> {
    let site = SiteId::new("factory-us-west-015").expect("a valid id");
    let mut builder = BlockBuilder::new(site, Epoch(1_760_000_000_000), Lane::Bulk, compression, 0);
    let mut blocks = Vec::new();
    for chunk in events.chunks(block_events) {
        for event in chunk {
            builder.push(event).expect("the mix keeps every limit");
        }
        blocks.extend(builder.finish(chunk[chunk.len() - 1].stamp, 0));
    }
    blocks
}

fn main() {
    println!(
        "{:<26} {:>6} {:>10} {:>8} {:>12} {:>12}",
        "mix", "method", "B/event", "ratio", "encode M/s", "decode M/s"
    );
    for (name, values, ids) in [
        ("quantised", Values::Quantised, Ids::None),
        ("full entropy", Values::FullEntropy, Ids::None),
        ("quantised, counting ids", Values::Quantised, Ids::Counting),
        ("quantised, random ids", Values::Quantised, Ids::Random),
    ] {
        let events = events(values, ids);
        let json = events.iter().map(json_bytes).sum::<usize>() as f64;
        for (method, compression) in
            [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)]
        {
            let blocks = encode(&events, compression, BLOCK_EVENTS);
            let bytes: usize = blocks.iter().map(|block| block.len()).sum();
            let encoding = median(|| {
                let start = Instant::now();
                std::hint::black_box(encode(&events, compression, BLOCK_EVENTS));
                start.elapsed()
            });
            let decoding = median(|| {
                let start = Instant::now();
                for block in &blocks {
                    std::hint::black_box(decode_block(block).expect("just encoded"));
                }
                start.elapsed()
            });
            println!(
                "{name:<26} {method:>6} {:>10.2} {:>8.1} {:>12.2} {:>12.2}",
                bytes as f64 / events.len() as f64,
                json / bytes as f64,
                rate(events.len(), encoding),
                rate(events.len(), decoding),
            );
        }
        rows(name, &events);
    }
    println!("\nbytes an event by events in a block, quantised");
    println!("{:>8} {:>8} {:>8} {:>8}", "events", "none", "lz4", "zstd");
    let events = &events(Values::Quantised, Ids::None)[..BLOCK_EVENTS];
    for block_events in [1, 16, 64, 256, 1_024, 4_096] {
        let size = |compression| {
            let bytes: usize = encode(events, compression, block_events).iter().map(|block| block.len()).sum();
            bytes as f64 / events.len() as f64
        };
        let (none, lz4, zstd) = (size(Compression::None), size(Compression::Lz4), size(Compression::Zstd));
        println!("{block_events:>8} {none:>8.2} {lz4:>8.2} {zstd:>8.2}");
    }
}

fn rows(name: &str, events: &[Event]) {
    let mut bytes = Vec::new();
    let encoding = median(|| {
        bytes.clear();
        let start = Instant::now();
        events.iter().for_each(|event| row::encode(event, &mut bytes));
        start.elapsed()
    });
    let decoding = median(|| {
        let start = Instant::now();
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() {
            std::hint::black_box(row::decode(&mut reader).expect("just encoded"));
        }
        start.elapsed()
    });
    // What a block of compressed rows would take, for comparison.
    for (method, size) in [
        ("+lz4", compressed(&bytes, |part| lz4::block::compress(part, None, false))),
        ("+zstd", compressed(&bytes, |part| zstd::bulk::compress(part, 3))),
    ] {
        println!("{name:<26} {method:>6} {:>10.2}", size as f64 / events.len() as f64);
    }
    println!(
        "{name:<26} {:>6} {:>10.2} {:>8} {:>12.2} {:>12.2}",
        "rows",
        bytes.len() as f64 / events.len() as f64,
        "",
        rate(events.len(), encoding),
        rate(events.len(), decoding),
    );
}

/// Bytes of rows after compressing about a block's worth at a time.
fn compressed(rows: &[u8], compress: impl Fn(&[u8]) -> std::io::Result<Vec<u8>>) -> usize {
    let block_bytes = rows.len() / BLOCKS;
    rows.chunks(block_bytes).map(|part| compress(part).expect("memory suffices").len()).sum()
}
