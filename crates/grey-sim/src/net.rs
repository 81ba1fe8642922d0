//! Virtual time and the virtual network: what happens when, which messages and
//! bytes arrive, and which do not.
//!
//! Messages between members may be lost, repeated and reordered. An uplink
//! connection is a stream of bytes each way, in order, that may stall and may
//! be cut at any byte. Nothing here knows what is carried.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::fault::{Fault, Faults};
use crate::random::Random;

/// A node: sites first, then hub members, then coordinator members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) usize);

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Client = 0,
    Server = 1,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's timer.
    Tick(Place),
    /// A message between members arrives.
    Raft { from: Place, to: Place, bytes: Bytes },
    /// A connection is asked for at its server.
    Dial { conn: u64 },
    /// The client learns whether its connection stands.
    Dialed { conn: u64, stands: bool },
    /// Something arrives at one end of a connection.
    Stream { conn: u64, to: End },
    /// A node that is down starts.
    Start(Place),
    /// A device acts; ignored when it was woken again since.
    Device { site: usize, device: usize, wake: u64 },
    /// What a device sent arrives at its site.
    Publish { site: usize, device: usize, number: u64, connection: u64 },
    /// The site's answer arrives at the device.
    Answered { site: usize, device: usize, number: u64, connection: u64 },
    /// Somebody copies the disk of a site.
    Copy { site: usize },
    /// The next fault is due.
    Trouble,
    /// A fault ends.
    Over(Ending),
}

/// The end of a fault that lasts.
#[derive(Debug)]
pub(crate) enum Ending {
    Partition(Vec<(Place, Place)>),
    Storm,
    DiskFull(Place),
    /// A leader that stops in order has had time to hand over.
    HandOver(Place),
}

/// How messages and bytes travel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    pub(crate) repeat_percent: u64,
    pub(crate) late_percent: u64,
    pub(crate) latency_ms: (u64, u64),
    /// Bytes of a connection that pass in a millisecond.
    pub(crate) bytes_per_ms: u64,
}

impl Weather {
    pub(crate) const FAIR: Self =
        Self { loss_percent: 0, repeat_percent: 0, late_percent: 0, latency_ms: (1, 4), bytes_per_ms: 1_000 };
}

/// What arrived at one end of a connection.
#[derive(Debug)]
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    /// The other end closed, or the connection broke.
    End,
}

#[derive(Debug, Default)]
struct Pipe {
    queue: VecDeque<Arrival>,
    queued_bytes: usize,
    last_arrival: u64,
}

#[derive(Debug)]
struct Conn {
    places: [Place; 2],
    /// Which run of each end's process holds it.
    boots: [u64; 2],
    /// False once that end has closed it or heard of its end.
    open: [bool; 2],
    /// By receiving end.
    pipes: [Pipe; 2],
    is_cut: bool,
}

/// Bytes of one connection under way beyond which its writer waits.
const PIPE_BYTES_MAX: usize = 4 << 10;
/// Bytes on a link that does not pass are tried again this often.
const RETRANSMIT_MS: u64 = 30;
/// The lateness of a late message: longer than any election timeout.
const LATE_MS: u64 = 1_200;

/// Time, chance and the network of one run.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) faults: Faults,
    pub(crate) steps: u64,
    trace: bool,
    /// Covers everything that happened.
    digest: u32,
    schedule: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    cut: BTreeMap<(Place, Place), u32>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    latest_arrival: BTreeMap<(Place, Place), u64>,
}

impl Net {
    pub(crate) fn new(random: Random, trace: bool) -> Self {
        Self {
            now: 0,
            random,
            weather: Weather::FAIR,
            faults: Faults::default(),
            steps: 0,
            trace,
            digest: 0,
            schedule: BTreeMap::new(),
            sequence: 0,
            cut: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            latest_arrival: BTreeMap::new(),
        }
    }

    /// Lets something happen later.
    pub(crate) fn after(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        self.schedule.insert((self.now + delay_ms, self.sequence), event);
    }

    /// The next event not later than a time; moves time.
    pub(crate) fn next_event(&mut self, until: u64) -> Option<Event> {
        let entry = self.schedule.first_entry().filter(|entry| entry.key().0 <= until);
        let Some(entry) = entry else {
            self.now = self.now.max(until);
            return None;
        };
        self.now = self.now.max(entry.key().0);
        self.steps += 1;
        Some(entry.remove())
    }

    /// Takes note for the trace and for the run's digest.
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} ms  {}", self.now, what());
        }
    }

    /// Makes the digest depend on bytes and on when they mattered.
    pub(crate) fn witness(&mut self, bytes: &[u8]) {
        self.digest = crc32c::crc32c_append(self.digest, &self.now.to_le_bytes());
        self.digest = crc32c::crc32c_append(self.digest, bytes);
    }

    pub(crate) fn digest(&self) -> u32 {
        self.digest
    }

    fn latency(&mut self) -> u64 {
        let (least, most) = self.weather.latency_ms;
        self.random.between(least..=most)
    }

    /// Stops what goes from one node to another, until [`Net::join`] as often.
    pub(crate) fn part(&mut self, pairs: &[(Place, Place)]) {
        for pair in pairs {
            *self.cut.entry(*pair).or_default() += 1;
        }
    }

    pub(crate) fn join(&mut self, pairs: &[(Place, Place)]) {
        for pair in pairs {
            if let Some(count) = self.cut.get_mut(pair) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(pair);
                }
            }
        }
    }

    pub(crate) fn join_all(&mut self) {
        self.cut.clear();
    }

    fn passes(&self, from: Place, to: Place) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Sends a message between members.
    pub(crate) fn send_raft(&mut self, from: Place, to: Place, bytes: Bytes) {
        let weather = self.weather;
        let copies = if self.random.percent(weather.repeat_percent) { 2 } else { 1 };
        self.faults.add(Fault::MessageRepeated, copies - 1);
        for _ in 0..copies {
            if !self.passes(from, to) {
                continue;
            }
            if self.random.percent(weather.loss_percent) {
                self.faults.note(Fault::MessageLost);
                continue;
            }
            let mut delay = self.latency();
            if self.random.percent(weather.late_percent) {
                self.faults.note(Fault::MessageDelayed);
                delay += LATE_MS;
            }
            let at = self.now + delay;
            let latest = self.latest_arrival.entry((from, to)).or_default();
            if at < *latest {
                self.faults.note(Fault::MessageReordered);
            }
            *latest = at.max(*latest);
            self.after(delay, Event::Raft { from, to, bytes: bytes.clone() });
        }
    }

    /// False when a message that arrives now is stopped by a partition.
    pub(crate) fn arrives(&self, from: Place, to: Place) -> bool {
        self.passes(from, to)
    }

    /// Asks for a connection.
    pub(crate) fn dial(&mut self, client: Place, boot: u64, server: Place) -> u64 {
        self.next_conn += 1;
        let conn = Conn {
            places: [client, server],
            boots: [boot, 0],
            open: [true, true],
            pipes: Default::default(),
            is_cut: false,
        };
        self.conns.insert(self.next_conn, conn);
        let delay = self.latency();
        self.after(delay, Event::Dial { conn: self.next_conn });
        self.next_conn
    }

    /// The server of a connection that is asked for; `None` when the request does not arrive.
    pub(crate) fn dialled_server(&mut self, conn: u64) -> Option<Place> {
        let [client, server] = self.conns.get(&conn).filter(|conn| conn.open[0])?.places;
        (self.passes(client, server) && self.passes(server, client)).then_some(server)
    }

    /// Answers a request for a connection. `boot` is the server's run that accepts it.
    pub(crate) fn answer_dial(&mut self, conn: u64, boot: Option<u64>) {
        let Some(held) = self.conns.get_mut(&conn) else { return };
        match boot {
            Some(boot) => held.boots[1] = boot,
            None => held.open[1] = false,
        }
        let delay = self.latency();
        if let Some(held) = self.conns.get_mut(&conn) {
            // Nothing that the server writes overtakes the answer.
            held.pipes[0].last_arrival = self.now + delay;
        }
        self.after(delay, Event::Dialed { conn, stands: boot.is_some() });
    }

    /// Who holds an end, in which run of its process; `None` once that end is done with it.
    pub(crate) fn holder(&self, conn: u64, end: End) -> Option<(Place, u64)> {
        let held = self.conns.get(&conn)?;
        held.open[end as usize].then_some((held.places[end as usize], held.boots[end as usize]))
    }

    /// True while an end may write more.
    pub(crate) fn has_room(&self, conn: u64, from: End) -> bool {
        self.conns.get(&conn).is_some_and(|held| {
            held.open[from as usize] && held.pipes[from.other() as usize].queued_bytes < PIPE_BYTES_MAX
        })
    }

    /// Writes bytes at one end; they arrive in pieces.
    pub(crate) fn write(&mut self, conn: u64, from: End, bytes: &[u8]) {
        if bytes.is_empty() || !self.conns.get(&conn).is_some_and(|held| held.open[from as usize] && !held.is_cut) {
            return;
        }
        let split = if self.random.percent(20) { self.random.below(bytes.len() as u64) as usize } else { 0 };
        let (first, second) = bytes.split_at(split);
        for piece in [first, second] {
            if !piece.is_empty() {
                self.push(conn, from.other(), Arrival::Bytes(piece.to_vec()));
            }
        }
    }

    fn push(&mut self, conn: u64, to: End, arrival: Arrival) {
        let latency = self.latency();
        let bytes_per_ms = self.weather.bytes_per_ms.max(1);
        let Some(held) = self.conns.get_mut(&conn) else { return };
        let pipe = &mut held.pipes[to as usize];
        let bytes = match &arrival {
            Arrival::Bytes(bytes) => bytes.len(),
            Arrival::End => 0,
        };
        let at = (self.now + latency).max(pipe.last_arrival) + bytes as u64 / bytes_per_ms;
        pipe.last_arrival = at;
        pipe.queued_bytes += bytes;
        pipe.queue.push_back(arrival);
        let delay = at - self.now;
        self.after(delay, Event::Stream { conn, to });
    }

    /// One end closes: the other reads what was written, then the end.
    pub(crate) fn close(&mut self, conn: u64, by: End) {
        let Some(held) = self.conns.get_mut(&conn).filter(|held| held.open[by as usize]) else { return };
        held.open[by as usize] = false;
        if held.open[by.other() as usize] {
            self.push(conn, by.other(), Arrival::End);
        }
        self.drop_if_done(conn);
    }

    fn drop_if_done(&mut self, conn: u64) {
        if self.conns.get(&conn).is_some_and(|held| held.open == [false, false]) {
            self.conns.remove(&conn);
        }
    }

    /// Connections that can be cut.
    pub(crate) fn open_conns(&self) -> Vec<u64> {
        self.conns.iter().filter(|(_, held)| held.open == [true, true] && !held.is_cut).map(|(id, _)| *id).collect()
    }

    /// Breaks a connection: in each direction some of what is under way still arrives, the
    /// last piece up to any byte.
    pub(crate) fn cut_conn(&mut self, conn: u64) {
        for to in [End::Client, End::Server] {
            let Some(held) = self.conns.get_mut(&conn) else { return };
            held.is_cut = true;
            let pipe = &mut held.pipes[to as usize];
            let keep = self.random.below(pipe.queue.len() as u64 + 1) as usize;
            let cut_off: Vec<Arrival> = pipe.queue.drain(keep..).collect();
            if let Some(Arrival::Bytes(bytes)) = cut_off.first() {
                let part = bytes[..self.random.below(bytes.len() as u64) as usize].to_vec();
                if !part.is_empty() {
                    pipe.queue.push_back(Arrival::Bytes(part));
                }
            }
            pipe.queue.push_back(Arrival::End);
            pipe.queued_bytes = 0;
            let latency = self.latency();
            // One wake-up for everything that is left; those of before find nothing more.
            self.after(latency + RETRANSMIT_MS, Event::Stream { conn, to });
        }
    }

    /// A process ends: its connections are reset, or just fall silent.
    pub(crate) fn end_process(&mut self, place: Place, resets: bool) {
        let ends: Vec<(u64, End)> = self
            .conns
            .iter()
            .flat_map(|(id, held)| [(*id, End::Client), (*id, End::Server)].map(|(id, end)| (id, end, held)))
            .filter(|(_, end, held)| held.places[*end as usize] == place && held.open[*end as usize])
            .map(|(id, end, _)| (id, end))
            .collect();
        for (conn, end) in ends {
            if resets {
                self.cut_conn(conn);
            }
            if let Some(held) = self.conns.get_mut(&conn) {
                held.open[end as usize] = false;
            }
            self.drop_if_done(conn);
        }
    }

    /// What arrives at an end now. `None` when nothing does: it is stopped on the way, or was
    /// cut off.
    pub(crate) fn take(&mut self, conn: u64, to: End) -> Option<Arrival> {
        let held = self.conns.get_mut(&conn).filter(|held| held.open[to as usize])?;
        let (from_place, to_place) = (held.places[to.other() as usize], held.places[to as usize]);
        if !held.is_cut && self.cut.contains_key(&(from_place, to_place)) {
            self.after(RETRANSMIT_MS, Event::Stream { conn, to });
            return None;
        }
        let pipe = &mut held.pipes[to as usize];
        let arrival = pipe.queue.pop_front()?;
        if let Arrival::Bytes(bytes) = &arrival {
            pipe.queued_bytes = pipe.queued_bytes.saturating_sub(bytes.len());
        }
        let more = !pipe.queue.is_empty() && held.is_cut;
        if matches!(arrival, Arrival::End) {
            held.open[to as usize] = false;
            self.drop_if_done(conn);
        } else if more {
            self.after(0, Event::Stream { conn, to });
        }
        Some(arrival)
    }

    /// An end is not there any more, and its host says so to the other one.
    pub(crate) fn refuse(&mut self, conn: u64, end: End) {
        if let Some(held) = self.conns.get_mut(&conn) {
            held.open[end as usize] = false;
            if held.open[end.other() as usize] {
                self.push(conn, end.other(), Arrival::End);
            }
            self.drop_if_done(conn);
        }
    }
}
