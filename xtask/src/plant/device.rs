//! One device: makes readings on its schedule, publishes them at QoS 1, and
//! sends again, with the same id, whatever was not acknowledged when a
//! connection broke.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::mqtt::{self, Heard, Version};
use super::{Counters, Orders, Pace, Profile, Record};

/// Publications that a device keeps under way.
const WINDOW: usize = 128;
/// A server that acknowledges nothing for so long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_S: u16 = 60;
const PING_AFTER: Duration = Duration::from_secs(30);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// A device and its surroundings.
pub(super) struct Device {
    pub(super) agent: SocketAddr,
    pub(super) profile: Profile,
    pub(super) number: usize,
    /// Devices of the same profile at the site.
    pub(super) of: usize,
    pub(super) pace: Pace,
    pub(super) record: Arc<Record>,
    pub(super) counters: Arc<Counters>,
    pub(super) orders: watch::Receiver<Orders>,
}

/// A reading that is not acknowledged yet.
struct Reading {
    n: u64,
    payload: Vec<u8>,
    sent_before: bool,
}

/// What a device knows across its connections.
struct Work {
    /// Number of the next reading.
    next: u64,
    began: Instant,
    began_unix_ms: u64,
    /// To be sent, oldest first.
    waiting: VecDeque<Reading>,
    /// Sent on this connection, with the packet id, oldest first.
    under_way: VecDeque<(u16, Reading)>,
}

impl Device {
    /// Runs until everything that the device had to say is acknowledged.
    pub(super) async fn run(mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut work = Work {
            next: 0,
            began: Instant::now(),
            began_unix_ms: since.as_millis() as u64,
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
        };
        let mut pause = RETRY_FIRST;
        while !self.is_done(&work) {
            let before = work.next;
            // Why a connection broke does not matter to a device: it tries again.
            let _ = self.connection(&mut work).await;
            pause = if work.next > before { RETRY_FIRST } else { (pause * 2).min(RETRY_LAST) };
            while let Some((_, reading)) = work.under_way.pop_back() {
                work.waiting.push_front(Reading { sent_before: true, ..reading });
            }
            if !self.is_done(&work) {
                sleep(pause).await;
            }
        }
    }

    fn is_done(&self, work: &Work) -> bool {
        let has_more = match self.pace {
            Pace::Profile => true,
            Pace::Flood { readings, .. } => work.next < readings,
        };
        let ends = !has_more || self.orders.borrow().stop;
        ends && work.waiting.is_empty() && work.under_way.is_empty()
    }

    /// When the next reading is due; `None` when there is none until new orders.
    fn due(&self, work: &Work) -> Option<Instant> {
        let Orders { stop, allowed } = *self.orders.borrow();
        match self.pace {
            _ if stop => None,
            Pace::Flood { readings, .. } => (work.next < readings.min(allowed)).then_some(work.began),
            Pace::Profile => {
                let phase = self.profile.phase(self.number, self.of);
                Some(work.began + phase + self.profile.period() * u32::try_from(work.next).unwrap_or(u32::MAX))
            }
        }
    }

    /// One connection from CONNECT until everything is said or it breaks.
    async fn connection(&mut self, work: &mut Work) -> Result<()> {
        let version = if self.number.is_multiple_of(2) { Version::V3 } else { Version::V5 };
        let mut stream = timeout(PATIENCE, TcpStream::connect(self.agent)).await??;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        let mut heard = Vec::new();
        mqtt::connect(version, self.record.prefix(), KEEP_ALIVE_S, &mut out);
        stream.write_all(&out).await?;
        match timeout(PATIENCE, next(version, &mut stream, &mut heard)).await?? {
            Heard::Connected => {}
            other => bail!("expected CONNACK, got {other:?}"),
        }
        self.counters.connections.fetch_add(1, Ordering::Relaxed);

        let topic = format!("grey/{}/{}", self.profile.device(self.number), self.profile.stream().0);
        let mut packet_id = 0_u16;
        let mut last_heard = Instant::now();
        let mut last_sent = Instant::now();
        while !self.is_done(work) {
            out.clear();
            while work.under_way.len() < WINDOW {
                let Some(reading) = self.next_reading(work) else { break };
                packet_id = packet_id.checked_add(1).unwrap_or(1);
                mqtt::publish(version, reading.sent_before, &topic, packet_id, &reading.payload, &mut out);
                self.counters.resent.fetch_add(u64::from(reading.sent_before), Ordering::Relaxed);
                if work.under_way.is_empty() {
                    last_heard = Instant::now();
                }
                work.under_way.push_back((packet_id, reading));
            }
            if out.is_empty() && last_sent.elapsed() > PING_AFTER {
                out.extend(mqtt::PING);
            }
            if !out.is_empty() {
                timeout(PATIENCE, stream.write_all(&out)).await??;
                self.counters.bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
                last_sent = Instant::now();
            }

            let idle_until = last_sent + PING_AFTER + Duration::from_millis(1);
            let room = work.under_way.len() < WINDOW;
            let wake = self.due(work).filter(|_| room).map_or(idle_until, |due| due.min(idle_until));
            tokio::select! {
                packet = next(version, &mut stream, &mut heard) => {
                    last_heard = Instant::now();
                    self.take(packet?, work);
                    while let Some(packet) = mqtt::take(version, &mut heard)? {
                        self.take(packet, work);
                    }
                }
                () = sleep_until(wake) => {}
                changed = self.orders.changed() => changed.context("nobody gives this device orders any more")?,
                () = sleep_until(last_heard + PATIENCE), if !work.under_way.is_empty() => {
                    bail!("no acknowledgement in {PATIENCE:?}");
                }
            }
        }
        stream.write_all(&mqtt::DISCONNECT).await?;
        stream.shutdown().await?;
        Ok(())
    }

    fn take(&self, packet: Heard, work: &mut Work) {
        let Heard::Acknowledged(id) = packet else { return };
        // Servers acknowledge in order; looking from the front finds it at once.
        if let Some(at) = work.under_way.iter().position(|(under_way, _)| *under_way == id)
            && let Some((_, reading)) = work.under_way.remove(at)
            && self.record.acknowledge(reading.n)
        {
            self.counters.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next reading to send: one that waits, or a new one that is due.
    fn next_reading(&self, work: &mut Work) -> Option<Reading> {
        if let Some(reading) = work.waiting.pop_front() {
            return Some(reading);
        }
        let due = self.due(work).filter(|due| *due <= Instant::now())?;
        let n = work.next;
        work.next += 1;
        // A reading's time is when it was due, also when it is sent later.
        let ts = match self.pace {
            Pace::Profile => work.began_unix_ms + (due - work.began).as_millis() as u64,
            Pace::Flood { .. } => work.began_unix_ms + work.began.elapsed().as_millis() as u64,
        };
        let unit = self.profile.stream().1;
        let value = self.profile.value(self.number, n);
        let id = self.record.id(n);
        let payload = format!(r#"{{"id":"{id}","ts":{ts},"value":{value:.3},"unit":"{unit}"}}"#).into_bytes();
        Some(Reading { n, payload, sent_before: false })
    }
}

/// Reads until one packet is whole.
async fn next(version: Version, stream: &mut TcpStream, heard: &mut Vec<u8>) -> Result<Heard> {
    loop {
        if let Some(packet) = mqtt::take(version, heard)? {
            return Ok(packet);
        }
        if stream.read_buf(heard).await? == 0 {
            bail!("the server closed the connection");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Plant;
    use std::collections::BTreeMap;
    use tokio::net::TcpListener;

    /// A server that breaks every connection after a few publications, the
    /// last of them unacknowledged. Counts how often each id arrived.
    async fn flaky_server(listener: TcpListener, arrived: Arc<std::sync::Mutex<BTreeMap<String, u32>>>) {
        for breaks_after in [1, 3, usize::MAX] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = Vec::new();
            let mut seen = 0;
            'packets: loop {
                while buffer.len() >= 2 && buffer.len() >= 2 + usize::from(buffer[1]) {
                    let packet: Vec<u8> = buffer.drain(..2 + usize::from(buffer[1])).collect();
                    match packet[0] >> 4 {
                        1 => stream.write_all(&[0x20, 2, 0, 0]).await.unwrap(),
                        3 => {
                            let topic = usize::from(packet[3]);
                            let body: serde_json::Value = serde_json::from_slice(&packet[4 + topic + 2..]).unwrap();
                            *arrived.lock().unwrap().entry(body["id"].as_str().unwrap().to_owned()).or_default() += 1;
                            seen += 1;
                            if seen > breaks_after {
                                break 'packets;
                            }
                            let id = [packet[4 + topic], packet[5 + topic]];
                            stream.write_all(&[0x40, 2, id[0], id[1]]).await.unwrap();
                        }
                        14 => return,
                        other => panic!("packet {other}"),
                    }
                }
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn what_was_not_acknowledged_is_sent_again_under_its_id() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arc::default();
        let server = tokio::spawn(flaky_server(listener, Arc::clone(&arrived)));
        let mut plant = Plant::start("s", address, &[(Profile::Energy, 1)], Pace::Flood { readings: 10, at_first: 10 });
        plant.finished(Duration::from_secs(30)).await.unwrap();
        server.await.unwrap();
        assert_eq!(plant.acknowledged(), 10);
        assert_eq!(plant.records[0].numbers().iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let arrived = arrived.lock().unwrap();
        assert_eq!(arrived.len(), 10, "{arrived:?}");
        assert!(arrived.values().any(|times| *times > 1) && plant.counters.resent.load(Ordering::Relaxed) > 0);
    }
}
