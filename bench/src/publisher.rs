//! Two plain MQTT 3.1.1 clients: one that fills an outbox with what hardly
//! compresses, and one that subscribes and throws away what it gets.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::Outcome;

/// Bytes of one text: a block holds a handful of them, an agent's read buffer one.
const TEXT_BYTES: usize = 16 * 1024;
/// Bytes of the pool that texts are taken from; a prime, so that they differ.
const POOL_BYTES: usize = 16_777_213;
/// Events of one device and stream, before the next one has its turn.
const EVENTS_PER_DEVICE: u64 = 50;
/// Devices behind one connection.
const DEVICES: u64 = 20;
/// The time of the first reading, Unix ms; one ms later each.
const START_MS: u64 = 1_767_225_600_000;

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Texts of 16 KiB that do not compress: the fastest way to many bytes.
    Texts,
    /// Readings as a gateway sends them: a noisy value, a time, a unit, and a
    /// random 128-bit id, of which 16 bytes cannot be compressed.
    Readings,
}

impl Kind {
    /// Unacknowledged messages of one connection.
    fn window(self) -> u64 {
        match self {
            Self::Texts => 16,
            Self::Readings => 128,
        }
    }
}

/// Publishes with QoS 1 until told to stop, or until enough is acknowledged.
#[derive(Debug)]
pub struct Filler {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Outcome<()>>>,
}

impl Filler {
    /// Starts some connections that publish `messages` together.
    pub fn start(address: SocketAddr, kind: Kind, connections: usize, messages: u64) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pool: Arc<[u8]> =
            if kind == Kind::Texts { random_text(POOL_BYTES + TEXT_BYTES) } else { Vec::new() }.into();
        let share = move |n: u64| messages / connections as u64 + u64::from(n < messages % connections as u64);
        let threads = (0..connections as u64)
            .map(|n| {
                let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
                let writer = Writer { kind, n, pool: pool.clone(), random: Random::seeded(n) };
                std::thread::spawn(move || fill(address, writer, share(n), &stop, &acknowledged))
            })
            .collect();
        Self { stop, acknowledged, threads }
    }

    /// True when a connection gave up, or has published its share.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Sends no more, waits for what is acknowledged, and returns how many messages that were.
    pub fn stop(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits until everything is acknowledged, and returns how many messages that were.
    pub fn finish(self) -> Outcome<u64> {
        for thread in self.threads {
            thread.join().map_err(|_| "a filling thread failed")??;
        }
        Ok(self.acknowledged.load(Ordering::Relaxed))
    }
}

/// Xorshift (Marsaglia, 2003), with the product of xorshift*.
struct Random(u64);

impl Random {
    /// Different for each connection and each run, as ids have to be.
    fn seeded(n: u64) -> Self {
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        Self((nanos ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Printable ASCII without quote and backslash: 6.5 bits a byte, the most that
/// one byte of JSON text carries.
fn random_text(bytes: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let plain = |byte: u8| match byte {
        b'"' => b'}',
        b'\\' => b'~',
        other => other,
    };
    (0..bytes).map(|_| plain(b' ' + ((random.next() >> 32) % 93) as u8)).collect()
}

/// Writes the messages of one connection.
struct Writer {
    kind: Kind,
    n: u64,
    pool: Arc<[u8]>,
    random: Random,
}

impl Writer {
    fn append(&mut self, out: &mut Vec<u8>, number: u64) -> Outcome<()> {
        let id = (number % 65_535 + 1) as u16;
        let mut payload = Vec::with_capacity(128);
        let topic = match self.kind {
            Kind::Texts => {
                let start = (number as usize).wrapping_mul(TEXT_BYTES * 7 + 13).wrapping_add(self.n as usize * 999_983);
                let start = start % POOL_BYTES;
                payload.extend_from_slice(b"{\"value\":\"");
                payload.extend_from_slice(&self.pool[start..start + TEXT_BYTES]);
                payload.extend_from_slice(b"\"}");
                format!("grey/fill-{}/text", self.n)
            }
            Kind::Readings => {
                let device = self.n * DEVICES + number / EVENTS_PER_DEVICE % DEVICES;
                let (value, high, low) = (self.random.next() % 20_000, self.random.next(), self.random.next());
                let (whole, part, time) = (20 + value / 1_000, value % 1_000, START_MS + number);
                write!(
                    payload,
                    "{{\"value\":{whole}.{part:03},\"ts\":{time},\"unit\":\"°C\",\"id\":\"{high:016x}{low:016x}\"}}"
                )?;
                format!("grey/press-{device}/temperature")
            }
        };
        out.push(0x32);
        put_length(out, 2 + topic.len() + 2 + payload.len());
        out.extend((topic.len() as u16).to_be_bytes());
        out.extend(topic.as_bytes());
        out.extend(id.to_be_bytes());
        out.extend(payload);
        Ok(())
    }
}

fn fill(
    address: SocketAddr,
    mut writer: Writer,
    messages: u64,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Outcome<()> {
    let mut stream = connect(address, &format!("fill-{}", writer.n))?;
    let window = writer.kind.window();
    let (mut sent, mut answered) = (0, 0);
    let (mut out, mut input) = (Vec::new(), Vec::new());
    loop {
        let more = sent < messages && !stop.load(Ordering::Relaxed);
        if !more && sent == answered {
            return Ok(());
        }
        // Half a window at a time, so that writes stay large.
        if more && sent - answered <= window / 2 {
            out.clear();
            while sent < messages && sent - answered < window {
                writer.append(&mut out, sent)?;
                sent += 1;
            }
            stream.write_all(&out)?;
        }
        let mut some = [0; 1024];
        let read = stream.read(&mut some)?;
        if read == 0 {
            return Err(format!("{address} closed the connection").into());
        }
        input.extend_from_slice(&some[..read]);
        let whole = input.len() / 4;
        for puback in input.chunks_exact(4) {
            if puback[..2] != [0x40, 2] {
                return Err(format!("{address} sent {puback:02x?} where a PUBACK was due").into());
            }
        }
        input.drain(..whole * 4);
        answered += whole as u64;
        acknowledged.fetch_add(whole as u64, Ordering::Relaxed);
    }
}

/// Subscribes with QoS 0 and reads until the connection ends.
pub fn subscribe(address: SocketAddr, filter: &str) -> Outcome<Subscriber> {
    let mut stream = connect(address, "subscriber")?;
    let mut out = vec![0x82];
    put_length(&mut out, 2 + 2 + filter.len() + 1);
    out.extend(1_u16.to_be_bytes());
    out.extend((filter.len() as u16).to_be_bytes());
    out.extend(filter.as_bytes());
    out.push(0);
    stream.write_all(&out)?;
    let mut suback = [0; 5];
    stream.read_exact(&mut suback)?;
    if suback[0] != 0x90 || suback[4] != 0 {
        return Err(format!("{address} answered SUBSCRIBE with {suback:02x?}").into());
    }
    let reading = stream.try_clone()?;
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = bytes.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reading);
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            counted.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    Ok(Subscriber { stream, bytes })
}

/// An open subscription.
#[derive(Debug)]
pub struct Subscriber {
    stream: TcpStream,
    bytes: Arc<AtomicU64>,
}

impl Subscriber {
    /// Bytes that arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // The reading thread ends with the connection.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Opens a connection and waits for the server's CONNACK.
pub fn connect(address: SocketAddr, client: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut out = vec![0x10];
    put_length(&mut out, 10 + 2 + client.len());
    out.extend(b"\x00\x04MQTT\x04\x02\x00\x00");
    out.extend((client.len() as u16).to_be_bytes());
    out.extend(client.as_bytes());
    stream.write_all(&out)?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    if connack != [0x20, 2, 0, 0] {
        return Err(format!("{address} answered CONNECT with {connack:02x?}").into());
    }
    Ok(stream)
}

/// Writes a remaining length as the protocol has it.
pub fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 127 {
        out.push((length % 128) as u8 | 128);
        length /= 128;
    }
    out.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_need_no_escapes() {
        let text = random_text(100_000);
        assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\')));
    }

    #[test]
    fn lengths_are_those_of_the_protocol() {
        let encoded = |length| {
            let mut out = Vec::new();
            put_length(&mut out, length);
            out
        };
        assert_eq!(encoded(127), [127]);
        assert_eq!(encoded(128), [0x80, 1]);
        assert_eq!(encoded(16_384), [0x80, 0x80, 1]);
    }
}
