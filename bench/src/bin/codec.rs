//! Measures the block codec: what a reading of the reference mix costs in bytes
//! by size of block, compressor and effort, everything included; how columns of
//! doubles compare with the schemes of the literature; and what a dictionary
//! between small blocks would gain.

use std::hint::black_box;

use bytes::Bytes;
use clap::Parser;
use grey_bench::figures::{Check, print_checks, print_table};
use grey_bench::mix::{Class, Mix, Unusual, hash};
use grey_bench::{Outcome, machine};
use grey_codec::{BlockBuilder, BlockReader, Effort, decode_block};
use grey_model::limits::BLOCK_EVENTS_MAX;
use grey_model::{BlockHeader, Compression, Epoch, Event, Lane, Name, Quality, SiteId, Stamp, Value};

/// Bytes a reading, in blocks of the default lane policy.
const QUANTISED_MAX: f64 = 4.0;
const FULL_ENTROPY_MAX: f64 = 10.0;
/// Events in a block of the default lane policy.
const BLOCK_EVENTS: usize = 4_096;
/// Doubles in a column that is measured: a block's.
const COLUMN: usize = 4_096;
/// A figure of speed is taken over so much time of a processor.
const MEASURED_S: f64 = 0.1;
/// The mix starts here, Unix ms.
const START_MS: i64 = 1_767_225_600_000;
/// One in so many readings is of uncertain quality.
const UNCERTAIN_EVERY: u64 = 200;

#[derive(Debug, Parser)]
#[command(about = "Measures bytes a reading and speed of the block codec beside other schemes")]
struct Options {
    /// Readings of the mix.
    #[arg(long, default_value_t = 262_144)]
    readings: usize,
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    println!("{}\n", machine());
    let quantised = readings(options.readings, true);
    let full = readings(options.readings, false);
    let checks = sizes(&quantised, &full)?;
    pages(&quantised)?;
    columns()?;
    dictionaries(&quantised)?;
    if !print_checks(&checks) {
        return Err("the codec is over a limit".into());
    }
    Ok(())
}

/// The scalar readings of one site in order of arrival: temperatures, RMS vibration, meters, PLC pressures.
/// Clocks of devices are off by up to two seconds and jitter by a millisecond or two; a group commit
/// stamps what arrived in about ten milliseconds.
fn readings(count: usize, quantised: bool) -> Vec<Event> {
    let mix = Mix::new(1, Unusual { hot: 0, high: 0, low: 0, defect: 0 }, 7);
    let noise = |x: u64| (hash(x) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
    let seconds = count as u64 / 300 + 120;
    let names: Vec<Name> = mix.devices.iter().map(|device| Name::from(device.name.as_str())).collect();
    let stream = |class: Class| match class {
        Class::Temperature => ("temperature", "°C", 1),
        Class::Vibration => ("vibration_rms", "mm/s", 3),
        Class::Meter => ("power", "W", 1),
        Class::Plc | Class::Camera => ("pressure", "bar", 3),
    };
    let labels = Class::ALL.map(|class| (Name::from(stream(class).0), Name::from(stream(class).1)));
    let scalar = mix.schedule(seconds * 1_000_000);
    let scalar = scalar.into_iter().filter(|due| mix.devices[due.device as usize].class != Class::Camera);
    let mut commit_ms = 0;
    let mut events = Vec::with_capacity(count);
    for due in scalar.take(count) {
        let class = mix.devices[due.device as usize].class;
        let (n, device) = (u64::from(due.number), u64::from(due.device));
        let jitter = noise(device << 32 ^ n);
        let slow = (n as f64 / 40.0 + device as f64).sin();
        let value = match class {
            Class::Temperature => 62.0 + 6.0 * slow + 0.4 * jitter,
            Class::Vibration => 1.8 + 0.3 * (n as f64 / 600.0 + device as f64).sin() + 0.05 * jitter,
            Class::Meter => 4_200.0 + 900.0 * slow + 60.0 * jitter,
            Class::Plc | Class::Camera => 5.0 + 0.8 * (n as f64 / 900.0).sin() + 0.05 * jitter,
        };
        let scale = 10_f64.powi(stream(class).2);
        let value = if quantised { (value * scale).round() / scale } else { value };
        let at_ms = due.at_us as i64 / 1_000;
        if at_ms >= commit_ms {
            commit_ms = at_ms + 9 + (hash(at_ms as u64) % 4) as i64;
        }
        let clock_ms = (hash(device) % 4_000) as i64 - 2_000 + (hash(device ^ n << 20) % 3) as i64;
        let (name, unit) = &labels[class as usize];
        let mut event =
            Event::reading(names[due.device as usize].clone(), name.clone(), value, START_MS + at_ms + clock_ms);
        event.unit = Some(unit.clone());
        event.stamp = Stamp { hlc: Stamp::at_unix_ms(START_MS + commit_ms).hlc, uncertainty_ms: 10 };
        if hash(n << 16 ^ device).is_multiple_of(UNCERTAIN_EVERY) {
            event.quality = Quality::Uncertain;
        }
        events.push(event);
    }
    events
}

fn blocks(events: &[Event], block_events: usize, compression: Compression, effort: Effort) -> Outcome<Vec<Bytes>> {
    let site = SiteId::new("factory-us-west-015")?;
    let mut builder =
        BlockBuilder::new(site, Epoch(1_767_225_600_000), Lane::Bulk, compression, 1 << 30).with_effort(effort);
    let mut blocks = Vec::new();
    for chunk in events.chunks(block_events) {
        for event in chunk {
            builder.push(event)?;
        }
        blocks.extend(builder.finish(chunk[chunk.len() - 1].stamp, 1 << 20));
    }
    Ok(blocks)
}

/// Processor seconds of this thread so far: what else the machine does is not counted.
fn on_cpu() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(ns / 1e9)
}

/// Processor seconds of one run, of as many as take a while: the clock's step is a scheduler's tick.
fn seconds(mut run: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    run()?;
    let start = on_cpu()?;
    let mut runs = 0;
    loop {
        run()?;
        runs += 1;
        let took = on_cpu()? - start;
        if took >= MEASURED_S {
            return Ok(took / f64::from(runs));
        }
    }
}

fn each(bytes: usize, count: usize) -> f64 {
    bytes as f64 / count as f64
}

fn total(blocks: &[Bytes]) -> usize {
    blocks.iter().map(Bytes::len).sum()
}

/// The compressors with their efforts.
const METHODS: [(&str, Compression, Effort); 6] = [
    ("none", Compression::None, Effort::Normal),
    ("lz4", Compression::Lz4, Effort::Normal),
    ("lz4 hard", Compression::Lz4, Effort::Hard),
    ("zstd fast", Compression::Zstd, Effort::Fast),
    ("zstd", Compression::Zstd, Effort::Normal),
    ("zstd hard", Compression::Zstd, Effort::Hard),
];

/// Bytes and speed of the mix. The checks are of zstd in blocks of the default lane policy.
fn sizes(quantised: &[Event], full: &[Event]) -> Outcome<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, events, limit) in
        [("quantised", quantised, QUANTISED_MAX), ("full-entropy doubles", full, FULL_ENTROPY_MAX)]
    {
        println!("Bytes a reading, {name}, everything included; millions a second and core at {BLOCK_EVENTS}");
        let mut rows = Vec::new();
        for (method, compression, effort) in METHODS {
            let mut row = vec![method.to_owned()];
            for block_events in [16, 64, 512, BLOCK_EVENTS, BLOCK_EVENTS_MAX as usize] {
                let bytes = total(&blocks(events, block_events, compression, effort)?);
                row.push(format!("{:.2}", each(bytes, events.len())));
                if block_events == BLOCK_EVENTS && (method == "zstd" || method == "lz4") {
                    checks.push(Check::new(
                        &format!("{name}, {method}"),
                        each(bytes, events.len()),
                        false,
                        limit,
                        " B",
                    ));
                }
            }
            let encoding = seconds(|| {
                black_box(blocks(events, BLOCK_EVENTS, compression, effort)?);
                Ok(())
            })?;
            let encoded = blocks(events, BLOCK_EVENTS, compression, effort)?;
            let decoding = seconds(|| {
                for block in &encoded {
                    black_box(decode_block(block)?);
                }
                Ok(())
            })?;
            row.extend([encoding, decoding].map(|time| format!("{:.1}", events.len() as f64 / time / 1e6)));
            rows.push(row);
        }
        let mut row = vec!["JSON lines, zstd -3".to_owned()];
        for block_events in [16, 64, 512, BLOCK_EVENTS, BLOCK_EVENTS_MAX as usize] {
            let mut bytes = 0;
            for chunk in events.chunks(block_events) {
                bytes += zstd::bulk::compress(json(chunk).as_bytes(), 3)?.len();
            }
            row.push(format!("{:.2}", each(bytes, events.len())));
        }
        rows.push(row);
        print_table(&["readings in a block", "16", "64", "512", "4,096", "65,536", "encode", "decode"], &rows);
    }
    Ok(checks)
}

/// What the same readings are as compact JSON, a line each.
fn json(events: &[Event]) -> String {
    let line = |event: &Event| {
        let Value::Number(value) = event.value else { return String::new() };
        let quality = if event.quality == Quality::Good { "good" } else { "uncertain" };
        format!(
            r#"{{"device":"{}","stream":"{}","value":{value},"unit":"{}","ts":{},"stamp":{},"quality":"{quality}"}}"#,
            event.device,
            event.stream,
            event.unit.as_deref().unwrap_or_default(),
            event.device_time_ms,
            event.stamp.unix_ms(),
        ) + "\n"
    };
    events.iter().map(line).collect()
}

/// What ten seconds out of a large block costs to read.
fn pages(events: &[Event]) -> Outcome<()> {
    println!("Reading ten seconds out of a block (zstd), and all of it, in microseconds");
    let mut rows = Vec::new();
    for block_events in [BLOCK_EVENTS, 16_384, BLOCK_EVENTS_MAX as usize] {
        let events = &events[..block_events.min(events.len())];
        let block = &blocks(events, block_events, Compression::Zstd, Effort::Normal)?[0];
        let middle = events[events.len() / 2].device_time_ms;
        let mut decoded = (0, 0);
        let part = seconds(|| {
            let mut reader = BlockReader::open(block)?;
            black_box(reader.between(middle, middle + 10_000)?);
            decoded = (reader.pages_decoded(), reader.pages());
            Ok(())
        })?;
        let whole = seconds(|| {
            black_box(decode_block(block)?);
            Ok(())
        })?;
        let (found, all) = decoded;
        let bytes = format!("{:.3}", each(block.len(), events.len()));
        let times = [part, whole].map(|time| format!("{:.0}", time * 1e6));
        rows.push([vec![block_events.to_string(), bytes, format!("{found} of {all}")], times.to_vec()].concat());
    }
    print_table(&["readings", "B each", "pages decoded", "ten seconds", "all"], &rows);
    Ok(())
}

/// Columns of doubles by our scheme and others, each followed by zstd -3.
fn columns() -> Outcome<()> {
    println!(
        "Columns of {COLUMN} doubles: bytes a value (with zstd -3 behind it); millions a second in and out, zstd apart"
    );
    let mut rows = Vec::new();
    for (name, column) in samples() {
        let mut row = vec![name.to_owned()];
        let ours = vector_block(&column, Compression::Zstd)?;
        let plain = vector_block(&column, Compression::None)?;
        let encoding = seconds(|| {
            black_box(vector_block(&column, Compression::None)?);
            Ok(())
        })?;
        let decoding = seconds(|| {
            black_box(decode_block(&plain)?);
            Ok(())
        })?;
        row.push(cell(column_bytes(&plain)?, column_bytes(&ours)?, encoding, decoding));
        for (_, encode, decode) in SCHEMES {
            let bytes = encode(&column);
            let found = decode(&bytes, column.len());
            if !found.iter().map(|x| x.to_bits()).eq(column.iter().map(|x| x.to_bits())) {
                return Err(format!("{name}: a scheme did not give its doubles back").into());
            }
            let encoding = seconds(|| {
                black_box(encode(&column));
                Ok(())
            })?;
            let decoding = seconds(|| {
                black_box(decode(&bytes, column.len()));
                Ok(())
            })?;
            row.push(cell(bytes.len(), zstd::bulk::compress(&bytes, 3)?.len(), encoding, decoding));
        }
        rows.push(row);
    }
    print_table(&["", "ours", "Gorilla", "ALP-RD", "plain"], &rows);
    Ok(())
}

fn cell(bytes: usize, compressed: usize, encoding: f64, decoding: f64) -> String {
    let [encoding, decoding] = [encoding, decoding].map(|time| COLUMN as f64 / time / 1e6);
    format!("{:.2} ({:.2}) {encoding:.0}/{decoding:.0}", each(bytes, COLUMN), each(compressed, COLUMN))
}

/// A block of one vector: a column and little else.
fn vector_block(column: &[f64], compression: Compression) -> Outcome<Bytes> {
    let mut event = Event::reading("d", "s", 0.0, 0);
    event.value = Value::Vector(column.into());
    Ok(blocks(std::slice::from_ref(&event), 1, compression, Effort::Normal)?.remove(0))
}

/// Bytes of the payload, without the frame.
fn column_bytes(block: &[u8]) -> Outcome<usize> {
    Ok(BlockHeader::parse(block)?.payload.len())
}

/// Columns as sensors give them.
fn samples() -> Vec<(&'static str, Vec<f64>)> {
    let uniform = |x: u64| (hash(x) >> 11) as f64 / (1_u64 << 53) as f64;
    let normal = |x: u64| (0..12).map(|n| uniform(x * 12 + n)).sum::<f64>() - 6.0;
    let walk = |start: f64, step: f64| {
        let steps = (0..COLUMN as u64).scan(start, |at, n| {
            *at += normal(n) * step;
            Some(*at)
        });
        steps.collect::<Vec<f64>>()
    };
    let all = |value: &dyn Fn(u64) -> f64| (0..COLUMN as u64).map(value).collect::<Vec<f64>>();
    let round = |column: Vec<f64>, places: i32| {
        let scale = 10_f64.powi(places);
        column.into_iter().map(|x| (x * scale).round() / scale).collect::<Vec<f64>>()
    };
    vec![
        ("walk, 1 decimal", round(walk(20.0, 0.1), 1)),
        ("walk, 2 decimals", round(walk(20.0, 0.05), 2)),
        ("noise, 3 decimals", round(all(&|n| 5.0 + 0.3 * normal(n)), 3)),
        ("whole numbers", round(walk(1e6, 40.0), 0)),
        ("constant", vec![21.5; COLUMN]),
        ("walk, doubles", walk(20.0, 0.05)),
        ("noise, doubles", all(&|n| 20.0 + 10.0 * uniform(n))),
        ("noise around 0", all(&normal)),
        ("sine and noise", all(&|n| 5.0 + 0.8 * (n as f64 / 900.0).sin() + 0.05 * normal(n))),
        ("smooth sine", all(&|n| 5.0 + 0.8 * (n as f64 / 900.0).sin())),
        ("single precision", all(&|n| f64::from((20.0 + normal(n)) as f32))),
    ]
}

/// A scheme: its name, its writer and its reader.
type Scheme = (&'static str, fn(&[f64]) -> Vec<u8>, fn(&[u8], usize) -> Vec<f64>);

const SCHEMES: [Scheme; 3] = [
    ("Gorilla", gorilla_encode, gorilla_decode),
    ("ALP-RD", rd_encode, rd_decode),
    ("plain", plain_encode, plain_decode),
];

fn plain_encode(column: &[f64]) -> Vec<u8> {
    column.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn plain_decode(bytes: &[u8], _: usize) -> Vec<f64> {
    bytes.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap_or_default())).collect()
}

/// Bits from the highest of a byte to the lowest.
#[derive(Debug, Default)]
struct BitWriter {
    bytes: Vec<u8>,
    buffer: u128,
    held: u32,
}

impl BitWriter {
    fn put(&mut self, value: u64, bits: u32) {
        self.buffer = self.buffer << bits | u128::from(value);
        self.held += bits;
        while self.held >= 8 {
            self.held -= 8;
            self.bytes.push((self.buffer >> self.held) as u8);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.held > 0 {
            self.bytes.push((self.buffer << (8 - self.held)) as u8);
        }
        self.bytes
    }
}

#[derive(Debug)]
struct BitReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    buffer: u128,
    held: u32,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter(), buffer: 0, held: 0 }
    }

    fn get(&mut self, bits: u32) -> u64 {
        while self.held < bits {
            self.buffer = self.buffer << 8 | u128::from(self.bytes.next().copied().unwrap_or_default());
            self.held += 8;
        }
        self.held -= bits;
        (self.buffer >> self.held) as u64 & (u64::MAX.checked_shr(64 - bits).unwrap_or(0))
    }
}

/// Pelkonen et al., "Gorilla: a fast, scalable, in-memory time series database", VLDB 2015: 4.1.2.
fn gorilla_encode(column: &[f64]) -> Vec<u8> {
    let mut out = BitWriter::default();
    let (mut last, mut lead, mut trail) = (0_u64, 64, 64);
    for value in column {
        let xor = value.to_bits() ^ last;
        last = value.to_bits();
        if xor == 0 {
            out.put(0, 1);
            continue;
        }
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if lead + trail < 64 && leading >= lead && trailing >= trail {
            out.put(0b10, 2);
        } else {
            (lead, trail) = (leading, trailing);
            out.put(0b11, 2);
            out.put(u64::from(lead), 5);
            out.put(u64::from(63 - lead - trail), 6);
        }
        out.put(xor >> trail, 64 - lead - trail);
    }
    out.finish()
}

fn gorilla_decode(bytes: &[u8], len: usize) -> Vec<f64> {
    let mut bits = BitReader::new(bytes);
    let (mut last, mut lead, mut trail) = (0_u64, 0, 0);
    let mut next = || {
        if bits.get(1) == 1 {
            if bits.get(1) == 1 {
                lead = bits.get(5) as u32;
                trail = 63 - lead - bits.get(6) as u32;
            }
            last ^= bits.get(64 - lead - trail) << trail;
        }
        f64::from_bits(last)
    };
    (0..len).map(|_| next()).collect()
}

/// Afroozeh, Kuffó and Boncz, "ALP: adaptive lossless floating-point compression", SIGMOD 2024: 3.4, ALP for real
/// doubles. The left bits of a double are one of eight in a dictionary or an exception, the right ones are stored.
fn rd_encode(column: &[f64]) -> Vec<u8> {
    let best = (48..64).map(|right| rd_with(column, right)).min_by_key(Vec::len);
    best.unwrap_or_default()
}

fn rd_with(column: &[f64], right: u32) -> Vec<u8> {
    let mut counts = std::collections::BTreeMap::new();
    column.iter().for_each(|value| *counts.entry(value.to_bits() >> right).or_insert(0_usize) += 1);
    let mut lefts: Vec<(usize, u64)> = counts.into_iter().map(|(left, count)| (count, left)).collect();
    lefts.sort_by(|a, b| b.cmp(a));
    lefts.truncate(8);
    let index = lefts.len().next_power_of_two().trailing_zeros();
    let mut exceptions = Vec::new();
    let mut out = BitWriter::default();
    out.put(u64::from(right), 8);
    out.put(lefts.len() as u64, 8);
    lefts.iter().for_each(|(_, left)| out.put(*left, 16));
    for (at, value) in column.iter().enumerate() {
        let left = value.to_bits() >> right;
        let place = lefts.iter().position(|(_, known)| *known == left);
        if place.is_none() {
            exceptions.push((at as u64, left));
        }
        out.put(place.unwrap_or(0) as u64, index);
        out.put(value.to_bits() & ((1 << right) - 1), right);
    }
    exceptions.iter().for_each(|(at, left)| {
        out.put(*at, 16);
        out.put(*left, 16);
    });
    out.put(exceptions.len() as u64, 16);
    out.finish()
}

fn rd_decode(bytes: &[u8], len: usize) -> Vec<f64> {
    let mut bits = BitReader::new(bytes);
    let right = bits.get(8) as u32;
    let lefts: Vec<u64> = (0..bits.get(8)).map(|_| bits.get(16)).collect();
    let index = lefts.len().next_power_of_two().trailing_zeros();
    let next = |bits: &mut BitReader<'_>| lefts[bits.get(index) as usize] << right | bits.get(right);
    let mut words: Vec<u64> = (0..len).map(|_| next(&mut bits)).collect();
    // The count of exceptions stands at the end, in what is left beside 32 bits for each.
    let left = bits.held as usize + bits.bytes.len() * 8;
    for _ in 0..left.saturating_sub(16) / 32 {
        let at = bits.get(16) as usize;
        words[at] = bits.get(16) << right | words[at] & ((1 << right) - 1);
    }
    words.into_iter().map(f64::from_bits).collect()
}

/// Small blocks with what a dictionary between them would save: the payload again, compressed with the
/// uncompressed payload of the block before as a prefix, or with a dictionary trained on the first half.
fn dictionaries(events: &[Event]) -> Outcome<()> {
    println!("Bytes a reading of small blocks with a dictionary, frame included");
    let mut rows = Vec::new();
    for block_events in [10, 30, 100, 500] {
        let count = (events.len() / block_events).min(2_000);
        let events = &events[..count * block_events];
        let frame = |block: &Bytes| -> Outcome<(usize, Vec<u8>)> {
            let payload = BlockHeader::parse(block)?.payload;
            Ok((block.len() - payload.len(), payload.to_vec()))
        };
        let plain = blocks(events, block_events, Compression::None, Effort::Normal)?;
        let plain: Vec<(usize, Vec<u8>)> = plain.iter().map(frame).collect::<Outcome<_>>()?;
        let today = blocks(events, block_events, Compression::Zstd, Effort::Normal)?;
        let (training, rest) = plain.split_at(plain.len() / 2);
        let samples: Vec<&[u8]> = training.iter().map(|(_, payload)| payload.as_slice()).collect();
        let trained = zstd::dict::from_samples(&samples, 16 << 10)?;
        let (mut by_training, mut by_running, mut frames, mut last) =
            (0, 0, 0, training[training.len() - 1].1.as_slice());
        for (frame, payload) in rest {
            frames += frame;
            by_training += zstd::bulk::Compressor::with_dictionary(3, &trained)?.compress(payload)?.len();
            by_running += zstd::bulk::Compressor::with_dictionary(3, last)?.compress(payload)?.len();
            last = payload;
        }
        let count = rest.len() * block_events;
        let today = total(&today[training.len()..]);
        let figures = [frames, today, by_running + frames, by_training + frames]
            .map(|bytes| format!("{:.2}", each(bytes, count)));
        rows.push([vec![block_events.to_string()], figures.to_vec()].concat());
    }
    print_table(&["readings in a block", "frame alone", "zstd", "block before", "trained"], &rows);
    Ok(())
}
