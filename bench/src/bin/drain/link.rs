//! A link between two network namespaces, in user space: what is sent into a TUN
//! device of one comes out of a TUN device of the other, at the link's rate,
//! after its delay, and not always.
//!
//! Each direction is a bottleneck with a queue: a packet leaves when the ones
//! before it have left and its own bits have; a full queue drops what comes; what
//! has left may be lost, and arrives after half the round trip. Bytes are those
//! of IP packets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grey_bench::Outcome;
use grey_bench::mix::hash;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::namespace::Namespace;

/// The site's end and the hub's.
pub(crate) const SITE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Largest packet.
const MTU: u16 = 1_500;
/// Shortest queue: a router has some.
const QUEUE_MIN: Duration = Duration::from_millis(100);
/// How long a reader waits for a packet before it looks whether the link is to end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What a link is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) bits_per_s: f64,
    pub(crate) rtt: Duration,
    /// Share of packets that are lost in each direction.
    pub(crate) loss: f64,
}

impl Shape {
    /// Bytes a second of TCP payload at best: without IP and TCP headers (timestamps) and what is lost.
    pub(crate) fn capacity(&self) -> f64 {
        self.bits_per_s / 8.0 * (1_448.0 / 1_500.0) * (1.0 - self.loss)
    }

    /// The bottleneck's queue as a time: the product of rate and round trip, or [`QUEUE_MIN`].
    fn queue(&self) -> Duration {
        self.rtt.max(QUEUE_MIN)
    }
}

/// Counters of one direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Bytes that left the bottleneck, lost ones too.
    pub(crate) bytes: AtomicU64,
    /// Packets lost on the way, and because the queue was full.
    pub(crate) lost: AtomicU64,
    pub(crate) overflowed: AtomicU64,
}

/// A running link; it ends with its value.
pub(crate) struct Link {
    stop: Arc<AtomicBool>,
    up: Arc<AtomicBool>,
    /// From the site to the hub, and back.
    pub(crate) upward: Arc<Direction>,
    pub(crate) downward: Arc<Direction>,
    threads: Vec<JoinHandle<()>>,
}

impl Link {
    /// Makes the devices in both namespaces; the link is down.
    pub(crate) fn new(site: &Namespace, hub: &Namespace, shape: Shape) -> Outcome<Self> {
        let device = |address: Ipv4Addr| {
            move || -> Outcome<SyncDevice> {
                let device = DeviceBuilder::new().name("grey0").ipv4(address, 24, None).mtu(MTU).build_sync()?;
                device.set_nonblocking(true)?;
                Ok(device)
            }
        };
        let ends = [Arc::new(site.run(device(SITE))?), Arc::new(hub.run(device(HUB))?)];
        let (stop, up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        let mut direction = |from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, seed: u64| {
            let counters = Arc::new(Direction::default());
            let (sent, arriving) = channel();
            let bottleneck =
                Bottleneck { shape, seed, counters: counters.clone(), free_at: Instant::now(), packets: 0 };
            let (from, to, stop, up) = (from.clone(), to.clone(), stop.clone(), up.clone());
            threads.push(std::thread::spawn(move || take(&from, bottleneck, &sent, &stop, &up)));
            threads.push(std::thread::spawn(move || deliver(&to, &arriving)));
            counters
        };
        let upward = direction(&ends[0], &ends[1], 1);
        let downward = direction(&ends[1], &ends[0], 2);
        Ok(Self { stop, up, upward, downward, threads })
    }

    /// Up, or down: then nothing arrives and nobody is told.
    pub(crate) fn set(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that failed has said so.
            let _ = thread.join();
        }
    }
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

/// Where packets queue for their turn.
struct Bottleneck {
    shape: Shape,
    seed: u64,
    counters: Arc<Direction>,
    /// When what is in the queue has left.
    free_at: Instant,
    packets: u64,
}

impl Bottleneck {
    /// When a packet that comes now arrives; none if it does not.
    fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let begins = self.free_at.max(now);
        if begins - now > self.shape.queue() {
            self.counters.overflowed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.free_at = begins + Duration::from_secs_f64(bytes as f64 * 8.0 / self.shape.bits_per_s);
        self.counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.packets += 1;
        let random = hash(self.packets ^ self.seed << 56) >> 11;
        if (random as f64) < self.shape.loss * (1_u64 << 53) as f64 {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.free_at + self.shape.rtt / 2)
    }
}

/// Reads packets until the link ends.
fn take(device: &SyncDevice, mut bottleneck: Bottleneck, sent: &Sender<Packet>, stop: &AtomicBool, up: &AtomicBool) {
    let mut buffer = vec![0; usize::from(MTU) + 64];
    while !stop.load(Ordering::Relaxed) {
        match device.recv(&mut buffer) {
            Ok(length) if up.load(Ordering::Relaxed) => {
                if let Some(due) = bottleneck.pass(Instant::now(), length) {
                    if sent.send(Packet { due, bytes: buffer[..length].to_vec() }).is_err() {
                        return;
                    }
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut waiting = [PollFd::new(device, PollFlags::IN)];
                // A signal or the end of the time are both reasons to look again.
                let _ = poll(&mut waiting, Some(&LOOK));
            }
            Err(error) => {
                eprintln!("the link's device cannot be read: {error}");
                return;
            }
        }
    }
}

/// Hands each packet over when it is due; they come in that order.
fn deliver(device: &SyncDevice, arriving: &Receiver<Packet>) {
    for packet in arriving {
        let now = Instant::now();
        if packet.due > now {
            std::thread::sleep(packet.due - now);
        }
        // A device whose queue is full drops a packet, as a network card does.
        let _ = device.send(&packet.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bottleneck_keeps_its_rate_its_delay_its_queue_and_its_loss() {
        let shape = Shape { bits_per_s: 12e6, rtt: Duration::from_millis(40), loss: 0.01 };
        let now = Instant::now();
        let counters = Arc::new(Direction::default());
        let mut link = Bottleneck { shape, seed: 1, counters: counters.clone(), free_at: now, packets: 0 };
        // A packet of 1,500 bytes takes a millisecond, and half the round trip more.
        assert_eq!(link.pass(now, 1_500), Some(now + Duration::from_millis(21)));
        assert_eq!(link.pass(now, 1_500), Some(now + Duration::from_millis(22)));
        // 100 ms of queue are 100 packets more.
        (0..200).for_each(|_| drop(link.pass(now, 1_500)));
        let overflowed = counters.overflowed.load(Ordering::Relaxed);
        assert_eq!(overflowed, 101);
        // One of a hundred is lost.
        let later = now + Duration::from_secs(100);
        (0..20_000).for_each(|n| drop(link.pass(later + Duration::from_millis(n), 1_500)));
        let lost = counters.lost.load(Ordering::Relaxed);
        assert!((150..250).contains(&lost), "{lost}");
    }
}
