//! Devices that publish on a fixed schedule over MQTT (QoS 1), and in the same
//! thread whoever waits for what the agent does about it: a subscriber of
//! alerts and commands, and a server for webhooks.
//!
//! A latency counts from when a reading was due, not from when it could be
//! written: an agent that makes its devices wait does not thereby look faster
//! (coordinated omission). One thread with epoll, so that the generator takes
//! little of the machine that it shares with the agent, and all times are of
//! one clock.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::Outcome;
use crate::mix::{Class, Due, Mix};
use crate::publisher::{connect, put_length};

/// Readiness reports taken at a time.
const EVENTS_AT_ONCE: usize = 256;
/// How long answers may take after the last reading.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// Below this wait the loop looks again instead of sleeping, µs.
const SPIN_BELOW_US: u64 = 15;
const SUBSCRIBER: u64 = 1 << 32;
const LISTENER: u64 = SUBSCRIBER + 1;
const HOOKS: u64 = SUBSCRIBER + 2;

/// What is to be sent.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The devices.
    pub mix: &'a Mix,
    /// Their readings, in order of time.
    pub schedule: &'a [Due],
    /// Where to.
    pub address: SocketAddr,
    /// Connections that the devices are spread over.
    pub connections: usize,
    /// Times as fast as the schedule says; the devices' own times stay on it.
    pub speed: f64,
    /// The devices' time at the start of the schedule, Unix ms.
    pub base_ms: i64,
    /// Readings due before are sent and not measured, µs.
    pub warm_up_us: u64,
    /// Unacknowledged readings of one connection; further ones wait, and their latency grows.
    pub inflight_max: usize,
}

/// Latencies from when a reading was due, µs, sorted.
#[derive(Debug, Default)]
pub struct Latencies {
    /// To its PUBACK: it is durable.
    pub acknowledged: Vec<u32>,
    /// The same from when it was written.
    pub from_write: Vec<u32>,
    /// To when it was written: what the generator itself was late.
    pub late: Vec<u32>,
    /// To the alert's arrival at an MQTT subscriber.
    pub alerts: Vec<u32>,
    /// To the arrival of a rule's own publish.
    pub controls: Vec<u32>,
    /// To the arrival of a webhook.
    pub hooks: Vec<u32>,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Sent {
    /// Latencies of the measured part.
    pub latencies: Latencies,
    /// Readings, the warm-up's too.
    pub events: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// From the first reading's time to the last acknowledgement.
    pub took: Duration,
    /// Alerts, commands and webhooks that were due and did not come.
    pub missing: [u64; 3],
    /// Those that came and were not due.
    pub unexpected: [u64; 3],
}

/// Where the agent sends its webhooks.
#[derive(Debug)]
pub struct HookServer(TcpListener);

impl HookServer {
    /// Listens on loopback.
    pub fn open() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Where it listens.
    pub fn address(&self) -> Outcome<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}

struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Due and written times of what is not acknowledged, µs after the start.
    waiting: VecDeque<(u64, u64)>,
    /// Due, while the window is full.
    delayed: VecDeque<Due>,
    next_id: u16,
    next_ack: u16,
}

struct Hook {
    stream: TcpStream,
    input: Vec<u8>,
}

/// Readings for which something has to come, oldest first, by device.
type Expected = Vec<VecDeque<u64>>;

struct Loop<'a> {
    plan: &'a Plan<'a>,
    poll: OwnedFd,
    start: Instant,
    links: Vec<Link>,
    subscriber: Option<(TcpStream, Vec<u8>)>,
    listener: &'a HookServer,
    hooks: Vec<Option<Hook>>,
    expect: Expect,
    expected: [Expected; 3],
    sent: Sent,
    open: u64,
    heads: Vec<Vec<u8>>,
    payload: Vec<u8>,
}

/// Which of a [`Plan`]'s readings something is expected for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect {
    /// A pressure above 8 bar: an alert of the rule `high` on `alerts/DEVICE/pressure`.
    pub alerts: bool,
    /// The same: a message on `plant/DEVICE/stop`.
    pub controls: bool,
    /// A pressure below 1 bar: a POST that names the device.
    pub hooks: bool,
}

/// Sends everything, waits for every acknowledgement and for what is expected.
pub fn run(plan: &Plan<'_>, listener: &HookServer, expect: Expect) -> Outcome<Sent> {
    let slack = std::num::NonZeroU64::new(1);
    rustix::thread::set_current_timer_slack(slack)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut links = Vec::new();
    for n in 0..plan.connections {
        let stream = connect(plan.address, &format!("gateway-{n}"))?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(n as u64), epoll::EventFlags::IN)?;
        let (out, input) = (Vec::new(), Vec::new());
        let (waiting, delayed) = (VecDeque::new(), VecDeque::new());
        links.push(Link { stream, out, input, waiting, delayed, next_id: 1, next_ack: 1 });
    }
    let subscriber = if expect.alerts || expect.controls {
        let stream = subscribe(plan.address, &["alerts/#", "plant/#"])?;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(SUBSCRIBER), epoll::EventFlags::IN)?;
        Some((stream, Vec::new()))
    } else {
        None
    };
    epoll::add(&poll, &listener.0, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let head = |device: &crate::mix::Device| {
        let topic = format!("grey/{}/{}", device.name, device.class.stream());
        let mut head = (topic.len() as u16).to_be_bytes().to_vec();
        head.extend_from_slice(topic.as_bytes());
        head
    };
    let none = || vec![VecDeque::new(); plan.mix.devices.len()];
    let mut run = Loop {
        plan,
        poll,
        start: Instant::now() + Duration::from_millis(20),
        links,
        subscriber,
        listener,
        hooks: Vec::new(),
        expect,
        expected: [none(), none(), none()],
        sent: Sent::default(),
        open: 0,
        heads: plan.mix.devices.iter().map(head).collect(),
        payload: Vec::new(),
    };
    run.go()?;
    let mut sent = run.sent;
    let Latencies { acknowledged, from_write, late, alerts, controls, hooks } = &mut sent.latencies;
    for times in [acknowledged, from_write, late, alerts, controls, hooks] {
        times.sort_unstable();
    }
    Ok(sent)
}

fn subscribe(address: SocketAddr, filters: &[&str]) -> Outcome<TcpStream> {
    let mut stream = connect(address, "operator")?;
    let mut body = 1_u16.to_be_bytes().to_vec();
    for filter in filters {
        body.extend((filter.len() as u16).to_be_bytes());
        body.extend(filter.as_bytes());
        body.push(0);
    }
    let mut out = vec![0x82];
    put_length(&mut out, body.len());
    out.extend(body);
    stream.write_all(&out)?;
    let mut answer = vec![0; 4 + filters.len()];
    stream.read_exact(&mut answer)?;
    if answer[0] != 0x90 || answer[4..].iter().any(|code| *code > 2) {
        return Err(format!("{address} answered SUBSCRIBE with {answer:02x?}").into());
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Loop<'_> {
    /// Microseconds since the start of the schedule, 0 before it.
    fn now_us(&self) -> u64 {
        Instant::now().saturating_duration_since(self.start).as_micros() as u64
    }

    /// When a reading is due on the run's clock.
    fn due_us(&self, due: Due) -> u64 {
        if self.plan.speed == 1.0 { due.at_us } else { (due.at_us as f64 / self.plan.speed) as u64 }
    }

    fn go(&mut self) -> Outcome<()> {
        let schedule = self.plan.schedule;
        let mut next = 0;
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut last_progress = Instant::now();
        loop {
            let now = self.now_us();
            let started = Instant::now() >= self.start;
            let mut touched = Vec::new();
            while started && next < schedule.len() && self.due_us(schedule[next]) <= now {
                let due = schedule[next];
                next += 1;
                let link = due.device as usize % self.links.len();
                self.queue(link, due)?;
                touched.push(link);
            }
            for link in touched {
                self.write(link)?;
            }
            let waiting = self.expected.iter().flatten().any(|times| !times.is_empty());
            if next == schedule.len() && self.open == 0 {
                self.sent.took = self.sent.took.max(Duration::from_micros(self.now_us()));
                if !waiting {
                    return Ok(());
                }
            }
            let wait_us = match schedule.get(next) {
                Some(due) => self.due_us(*due).saturating_sub(self.now_us()),
                None => 1_000,
            };
            let wait_us = if wait_us < SPIN_BELOW_US { 0 } else { wait_us.min(10_000) };
            let timeout = Timespec { tv_sec: 0, tv_nsec: (wait_us * 1_000) as _ };
            events.clear();
            epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
            for event in &events {
                match event.data.u64() {
                    SUBSCRIBER => self.heard()?,
                    LISTENER => self.accept()?,
                    hook @ HOOKS.. => self.hooked((hook - HOOKS) as usize)?,
                    link => self.acknowledged(link as usize)?,
                }
            }
            if !events.is_empty() || next < schedule.len() {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > ANSWERS_WITHIN && self.open > 0 {
                return Err(format!("{} readings were not acknowledged", self.open).into());
            } else if waiting && last_progress.elapsed() > ANSWERS_WITHIN / 10 {
                for (missing, expected) in self.sent.missing.iter_mut().zip(&self.expected) {
                    *missing = expected.iter().map(|times| times.len() as u64).sum();
                }
                return Ok(());
            }
        }
    }

    /// Appends a reading to its connection's buffer, unless its window is full.
    fn queue(&mut self, link: usize, due: Due) -> Outcome<()> {
        if self.links[link].waiting.len() >= self.plan.inflight_max || !self.links[link].delayed.is_empty() {
            self.links[link].delayed.push_back(due);
            return Ok(());
        }
        let (at, now, expect) = (self.due_us(due), self.now_us(), self.expect);
        self.payload.clear();
        let time_ms = self.plan.base_ms + (due.at_us / 1_000) as i64;
        self.plan.mix.payload(due, time_ms, &mut self.payload)?;
        let head = &self.heads[due.device as usize];
        let link = &mut self.links[link];
        link.out.push(0x32);
        put_length(&mut link.out, head.len() + 2 + self.payload.len());
        link.out.extend_from_slice(head);
        link.out.extend_from_slice(&link.next_id.to_be_bytes());
        link.out.extend_from_slice(&self.payload);
        link.next_id = link.next_id.checked_add(1).unwrap_or(1);
        link.waiting.push_back((at, now));
        self.open += 1;
        self.sent.events += 1;
        self.sent.payload_bytes += self.payload.len() as u64;
        if self.plan.mix.devices[due.device as usize].class == Class::Plc
            && let Some(value) = self.plan.mix.value(due)
        {
            let wanted = [expect.alerts && value > 8.0, expect.controls && value > 8.0, expect.hooks && value < 1.0];
            for (expected, _) in self.expected.iter_mut().zip(wanted).filter(|(_, wanted)| *wanted) {
                expected[due.device as usize].push_back(at);
            }
        }
        Ok(())
    }

    fn write(&mut self, link: usize) -> Outcome<()> {
        let link = &mut self.links[link];
        while !link.out.is_empty() {
            match link.stream.write(&link.out) {
                Ok(count) => drop(link.out.drain(..count)),
                // The agent is behind; what is left goes with the next reading or acknowledgement.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, n: usize) -> Outcome<()> {
        let now = self.now_us();
        let mut some = [0; 4_096];
        let count = match self.links[n].stream.read(&mut some) {
            Ok(0) => return Err(format!("{} closed a connection", self.plan.address).into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let link = &mut self.links[n];
        link.input.extend_from_slice(&some[..count]);
        let whole = link.input.len() / 4 * 4;
        for puback in link.input[..whole].chunks_exact(4) {
            let id = u16::from_be_bytes([puback[2], puback[3]]);
            if puback[..2] != [0x40, 2] || id != link.next_ack {
                return Err(format!("{puback:02x?} where PUBACK {} was due", link.next_ack).into());
            }
            link.next_ack = link.next_ack.checked_add(1).unwrap_or(1);
            let (due, written) = link.waiting.pop_front().ok_or("an acknowledgement of nothing")?;
            self.open -= 1;
            if due >= self.plan.warm_up_us {
                let latencies = &mut self.sent.latencies;
                latencies.acknowledged.push(now.saturating_sub(due) as u32);
                latencies.from_write.push(now.saturating_sub(written) as u32);
                latencies.late.push(written.saturating_sub(due) as u32);
            }
        }
        link.input.drain(..whole);
        let mut delayed = std::mem::take(&mut self.links[n].delayed);
        while self.links[n].waiting.len() < self.plan.inflight_max
            && let Some(due) = delayed.pop_front()
        {
            self.queue(n, due)?;
        }
        self.links[n].delayed = delayed;
        if !self.links[n].out.is_empty() {
            self.write(n)?;
        }
        Ok(())
    }

    /// The subscriber got something.
    fn heard(&mut self) -> Outcome<()> {
        let now = self.now_us();
        let Some((stream, input)) = &mut self.subscriber else { return Ok(()) };
        let mut some = [0; 16 * 1_024];
        match stream.read(&mut some) {
            Ok(0) => return Err("the subscriber was disconnected".into()),
            Ok(count) => input.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some((topic, payload, end)) = publish_at(&input[from..]) {
            let mut levels = topic.split('/');
            match (levels.next(), levels.next()) {
                (Some("alerts"), Some(device)) if is_firing(payload, "high") => found.push((0, device.to_owned())),
                (Some("plant"), Some(device)) => found.push((1, device.to_owned())),
                _ => {}
            }
            from += end;
        }
        input.drain(..from);
        for (what, device) in found {
            self.came(what, &device, now);
        }
        Ok(())
    }

    fn came(&mut self, what: usize, device: &str, now: u64) {
        let index = self.plan.mix.devices.iter().position(|known| known.name == device);
        let Some(due) = index.and_then(|index| self.expected[what][index].pop_front()) else {
            self.sent.unexpected[what] += 1;
            return;
        };
        if due >= self.plan.warm_up_us {
            let took = now.saturating_sub(due) as u32;
            let latencies = &mut self.sent.latencies;
            [&mut latencies.alerts, &mut latencies.controls, &mut latencies.hooks][what].push(took);
        }
    }

    fn accept(&mut self) -> Outcome<()> {
        loop {
            let stream = match self.listener.0.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let n = self.hooks.iter().position(Option::is_none).unwrap_or(self.hooks.len());
            epoll::add(&self.poll, &stream, epoll::EventData::new_u64(HOOKS + n as u64), epoll::EventFlags::IN)?;
            let hook = Some(Hook { stream, input: Vec::new() });
            if n == self.hooks.len() {
                self.hooks.push(hook);
            } else {
                self.hooks[n] = hook;
            }
            self.hooked(n)?;
        }
    }

    /// A webhook's connection has something to read.
    fn hooked(&mut self, n: usize) -> Outcome<()> {
        let now = self.now_us();
        let Some(Some(hook)) = self.hooks.get_mut(n) else { return Ok(()) };
        let mut some = [0; 16 * 1_024];
        match hook.stream.read(&mut some) {
            Ok(count @ 1..) => hook.input.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            _ => {
                // Closed sockets leave the epoll set by themselves.
                self.hooks[n] = None;
                return Ok(());
            }
        }
        let mut found = Vec::new();
        while let Some((body, end)) = request_at(&hook.input) {
            let text = String::from_utf8_lossy(body);
            let device = text.split("\"device\":\"").nth(1).and_then(|rest| rest.split('"').next());
            found.push((device.unwrap_or_default().to_owned(), text.contains("firing")));
            hook.input.drain(..end);
            hook.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        for (device, firing) in found {
            if firing {
                self.came(2, &device, now);
            }
        }
        Ok(())
    }
}

/// True for an alert of a rule that begins.
fn is_firing(payload: &[u8], rule: &str) -> bool {
    let text = String::from_utf8_lossy(payload);
    text.contains("firing") && text.contains(&format!("\"rule\":\"{rule}\""))
}

/// Topic, payload and length of a whole PUBLISH at the start of some bytes; other packets have no topic.
fn publish_at(bytes: &[u8]) -> Option<(&str, &[u8], usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte < 128 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    let end = at + length;
    if bytes[0] >> 4 != 3 {
        return Some(("", &[], end));
    }
    let topic_length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let topic = std::str::from_utf8(body.get(2..2 + topic_length)?).ok()?;
    let id = if bytes[0] & 6 == 0 { 0 } else { 2 };
    Some((topic, body.get(2 + topic_length + id..)?, end))
}

/// Body and length of a whole HTTP request at the start of some bytes.
fn request_at(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next()?.trim().parse().ok());
    let end = head + length.unwrap_or(0);
    Some((bytes.get(head..end)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_requests_are_taken_when_they_are_whole() {
        let packet = b"\x32\x09\x00\x03a/bXXhi";
        assert_eq!(publish_at(packet), Some(("a/b", &b"hi"[..], 11)));
        assert_eq!(publish_at(&packet[..10]), None);
        let request = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nokPOST";
        assert_eq!(request_at(request), Some((&b"ok"[..], 41)));
        assert_eq!(request_at(&request[..40]), None);
    }
}
