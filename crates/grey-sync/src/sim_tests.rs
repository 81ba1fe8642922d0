//! Sender and receivers over a virtual network that cuts at any byte, swallows,
//! repeats and reorders, with a group of three nodes whose leader changes.
//! Everything follows from a seed, which a failure names.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::BytesMut;
use grey_model::{Lane, RangeSet, StreamKey};

use crate::decode::FrameDecoder;
use crate::frame::{Ack, Coverage, Frame, Role};
use crate::receiver::{Outcome, Receiver, ReceiverAction, ReceiverConfig, Token};
use crate::sender::{Action, Sender, SenderConfig};
use crate::testing::{EPOCH, Model, Random, key, site};

const NODES: [&str; 3] = ["a:1", "b:2", "c:3"];
const WINDOW: u64 = 4_000;
const LARGEST: usize = 9_000;
/// Bytes that a side's socket takes before it blocks.
const PIPE_BYTES: usize = 12_000;

/// One connection with what is on its way in both directions.
struct Connection {
    number: u64,
    node: usize,
    receiver: Receiver,
    up: Vec<u8>,
    down: Vec<u8>,
    to_receiver: FrameDecoder,
    to_sender: FrameDecoder,
    /// Nothing arrives any more, and nobody is told.
    is_black_hole: bool,
    /// The receiver has closed; what it wrote may still arrive.
    is_ending: bool,
    acks: Vec<Ack>,
}

/// A block on its way through the group; its connection may be gone.
struct Proposal {
    connection: u64,
    token: Token,
    key: StreamKey,
    range: Range<u64>,
}

#[derive(Debug, Default)]
struct Tally {
    cuts: u64,
    elections: u64,
    corruptions: u64,
    black_holes: u64,
    repeated_acks: u64,
    /// Blocks that arrived although they were durable.
    resent: u64,
    /// Blocks that became durable a second time.
    duplicates: u64,
    drops: u64,
}

struct World {
    random: Random,
    now: u64,
    sender: Sender,
    outbox: Model,
    connection: Option<Connection>,
    dialling: Option<String>,
    next_connection: u64,
    leader: Option<usize>,
    proposals: Vec<Proposal>,
    /// The state that the group replicates.
    coverage: BTreeMap<StreamKey, RangeSet>,
    committed: u64,
    acked: [u64; 3],
    tally: Tally,
    /// How slowly the group decides while things go wrong.
    sloth: u64,
    calm: bool,
}

impl World {
    fn new(seed: u64, role: Role) -> Self {
        let config = SenderConfig {
            role,
            seed,
            ack_timeout_ms: 5_000,
            rate_floor_bytes_per_s: 1 << 20,
            ..SenderConfig::new(site("s"), NODES.map(Into::into).to_vec())
        };
        Self {
            random: Random(seed),
            now: 0,
            sender: Sender::new(config, [0; 3], 0).unwrap(),
            outbox: Model { knows_end: role == Role::Edge, ..Model::new() },
            connection: None,
            dialling: None,
            next_connection: 0,
            leader: Some(0),
            proposals: Vec::new(),
            coverage: BTreeMap::new(),
            committed: 0,
            acked: [0; 3],
            tally: Tally::default(),
            sloth: 1 + seed % 16,
            calm: false,
        }
    }

    fn produce(&mut self, role: Role) {
        let lane = Lane::ALL[self.random.below(3) as usize];
        let name = if role == Role::Hub { ["x", "y", "z"][self.random.below(3) as usize] } else { "s" };
        let payload = if self.random.one_in(12) { LARGEST } else { self.random.below(700) as usize };
        let (span, gap) = (1 + self.random.below(9), self.random.below(3));
        self.outbox.push(&key(name, lane), span, payload, gap);
        self.sender.wake();
    }

    /// Lets both sides do what they can without time passing.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(action) = self.sender.poll_action() {
                moved = true;
                self.on_action(action);
            }
            if let Some(connection) = &mut self.connection {
                while connection.up.len() < PIPE_BYTES
                    && let Some(frame) = self.sender.poll_transmit(self.now, &mut self.outbox)
                {
                    moved = true;
                    let mut bytes = BytesMut::new();
                    frame.encode(&mut bytes);
                    connection.up.extend_from_slice(&bytes);
                }
            }
            moved |= self.settle_receiver();
            self.check();
            if !moved {
                return;
            }
        }
    }

    fn on_action(&mut self, action: Action) {
        match action {
            Action::Dial { address, .. } => self.dialling = Some(address),
            Action::Close { .. } => {
                self.connection = None;
                self.dialling = None;
            }
            Action::Acked { lane, upto } => {
                assert!(upto > self.acked[lane.index()], "acknowledgements only grow");
                self.acked[lane.index()] = upto;
                for stored in self.outbox.lanes[lane.index()].iter().filter(|stored| stored.position < upto) {
                    let is_durable = self.coverage.get(&stored.key).is_some_and(|set| set.covers(&stored.range));
                    assert!(is_durable, "{lane} {} is acknowledged and not durable", stored.position);
                }
            }
            Action::PeerAhead { .. } | Action::Unsendable { .. } => panic!("{action:?}"),
            Action::Rejected { .. } => assert!(self.tally.corruptions > 0, "{action:?}"),
            Action::Established { .. }
            | Action::Covered { .. }
            | Action::OutboxFailed { .. }
            | Action::Link(_)
            | Action::Drain(_) => {}
        }
    }

    fn settle_receiver(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let mut moved = false;
        while let Some(action) = connection.receiver.poll_action() {
            moved = true;
            match action {
                ReceiverAction::Hello(hello) => {
                    if self.leader == Some(connection.node) {
                        let own = self.coverage.iter().filter(|(key, _)| key.site == hello.sender);
                        let coverage: Vec<Coverage> =
                            own.map(|(key, set)| (key.clone(), set.iter().collect())).collect();
                        connection.receiver.accept(coverage, WINDOW, 1);
                    } else {
                        let address = self.leader.map(|leader| NODES[leader].to_owned());
                        connection.receiver.redirect(address, "not the leader");
                    }
                }
                ReceiverAction::Propose { token, header, .. } => {
                    let (key, range) = (header.key(), header.range());
                    if self.coverage.get(&key).is_some_and(|set| set.covers(&range)) {
                        self.tally.resent += 1;
                    }
                    self.proposals.push(Proposal { connection: connection.number, token, key, range });
                }
                ReceiverAction::Close { .. } => connection.is_ending = true,
                ReceiverAction::Heartbeat(_) | ReceiverAction::Sites(_) => {}
            }
        }
        let mut frames: Vec<Frame> = std::iter::from_fn(|| connection.receiver.poll_transmit()).collect();
        moved |= !frames.is_empty();
        if !self.calm {
            // Acknowledgements may be swapped and said again at any time.
            for at in 1..frames.len() {
                if matches!(frames[at - 1..=at], [Frame::Ack(_), Frame::Ack(_)]) && self.random.one_in(2) {
                    frames.swap(at - 1, at);
                }
            }
            if !connection.acks.is_empty() && self.random.one_in(20) && !connection.receiver.is_closed() {
                let old = self.random.below(connection.acks.len() as u64) as usize;
                frames.push(Frame::Ack(connection.acks[old].clone()));
                self.tally.repeated_acks += 1;
            }
        }
        for frame in frames {
            if let Frame::Ack(ack) = &frame {
                connection.acks.push(ack.clone());
            }
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            connection.down.extend_from_slice(&bytes);
        }
        moved
    }

    fn check(&self) {
        if let Some(session) = self.sender.status().session {
            let slack = 2 * (LARGEST as u64 + 200);
            assert!(session.in_flight_bytes <= WINDOW + slack, "{} bytes in flight", session.in_flight_bytes);
        }
    }

    fn deliver_up(&mut self, count: usize) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let count = count.min(connection.up.len());
        let bytes: Vec<u8> = connection.up.drain(..count).collect();
        if connection.is_black_hole || connection.receiver.is_closed() {
            return;
        }
        connection.to_receiver.extend(&bytes);
        loop {
            if connection.receiver.hello().is_some() {
                connection.to_receiver.open();
            }
            match connection.to_receiver.next_frame() {
                Ok(Some(frame)) => connection.receiver.on_frame(self.now, 0, frame),
                Ok(None) => break,
                Err(error) => {
                    assert!(self.tally.corruptions > 0, "{error}");
                    connection.receiver.on_frame_error(&error);
                    break;
                }
            }
        }
        connection.receiver.on_partial(self.now, connection.to_receiver.partial_bytes());
    }

    fn deliver_down(&mut self, count: usize) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let count = count.min(connection.down.len());
        let bytes: Vec<u8> = connection.down.drain(..count).collect();
        if connection.is_black_hole {
            return;
        }
        connection.to_sender.extend(&bytes);
        let is_over = connection.is_ending && connection.down.is_empty();
        loop {
            let Some(connection) = self.connection.as_mut().filter(|_| self.sender.is_connected()) else {
                return;
            };
            match connection.to_sender.next_frame() {
                Ok(Some(frame)) => self.sender.on_frame(self.now, frame),
                Ok(None) => break,
                Err(error) => {
                    assert!(self.tally.corruptions > 0, "{error}");
                    self.cut();
                    return;
                }
            }
        }
        if is_over && self.sender.is_connected() {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.connection.take().is_some() && self.sender.is_connected() {
            self.sender.on_disconnected(self.now, "cut");
        }
    }

    fn connect(&mut self) {
        let Some(address) = self.dialling.take() else {
            return;
        };
        let node = NODES.iter().position(|name| *name == address).unwrap();
        if !self.calm && self.random.one_in(5) {
            self.sender.on_disconnected(self.now, "connection refused");
            return;
        }
        self.connection = Some(Connection {
            number: self.next_connection,
            node,
            receiver: Receiver::new(ReceiverConfig::default(), self.now),
            up: Vec::new(),
            down: Vec::new(),
            to_receiver: FrameDecoder::for_receiver(),
            to_sender: FrameDecoder::for_sender(),
            is_black_hole: false,
            is_ending: false,
            acks: Vec::new(),
        });
        self.next_connection += 1;
        self.sender.on_connected(self.now);
    }

    /// Some proposal meets its fate, in any order.
    fn decide(&mut self) {
        if self.proposals.is_empty() || !(self.calm || self.random.one_in(self.sloth)) {
            return;
        }
        let at = self.random.below(self.proposals.len() as u64) as usize;
        let Proposal { connection, token, key, range } = self.proposals.remove(at);
        let is_dropped = !self.calm && self.random.one_in(40);
        if is_dropped {
            self.tally.drops += 1;
        } else {
            let span = range.end - range.start;
            let fresh = self.coverage.entry(key).or_default().insert(range);
            assert!(fresh == 0 || fresh == span, "a block is taken whole or not at all");
            self.committed += fresh;
            self.tally.duplicates += u64::from(fresh == 0);
        }
        let outcome = if is_dropped { Outcome::Dropped } else { Outcome::Committed };
        if let Some(current) = &mut self.connection
            && current.number == connection
        {
            current.receiver.on_committed(token, outcome);
        }
    }

    fn elect(&mut self) {
        self.tally.elections += 1;
        let choice = self.random.below(4) as usize;
        self.leader = (choice < NODES.len()).then_some(choice);
        if let Some(connection) = &mut self.connection
            && self.leader != Some(connection.node)
            && connection.receiver.hello().is_some()
        {
            let address = self.leader.map(|leader| NODES[leader].to_owned());
            connection.receiver.redirect(address, "lost the election");
        }
    }

    fn misfortune(&mut self) {
        match self.random.below(7) {
            0 | 1 => {
                self.tally.cuts += u64::from(self.connection.is_some());
                self.cut();
            }
            2 | 3 => self.elect(),
            4 => self.outbox.failures = self.random.below(4) as u32,
            5 => {
                if let Some(connection) = &mut self.connection
                    && self.random.one_in(4)
                {
                    connection.is_black_hole = true;
                    self.tally.black_holes += 1;
                }
            }
            _ => {
                if let Some(connection) = &mut self.connection {
                    let pipe = if self.random.one_in(2) { &mut connection.up } else { &mut connection.down };
                    if !pipe.is_empty() {
                        let at = self.random.below(pipe.len() as u64) as usize;
                        pipe[at] ^= 1 << self.random.below(8);
                        self.tally.corruptions += 1;
                    }
                }
            }
        }
    }

    /// Time passes: a little, or up to the next deadline.
    fn pass_time(&mut self) {
        let deadlines = [
            self.sender.next_timeout(),
            self.connection.as_ref().filter(|c| !c.is_black_hole).and_then(|c| c.receiver.next_timeout()),
        ];
        let next = deadlines.into_iter().flatten().min().unwrap_or(self.now);
        let quiet = self.connection.as_ref().is_none_or(|c| c.is_black_hole || (c.up.is_empty() && c.down.is_empty()))
            && self.dialling.is_none()
            && self.proposals.is_empty();
        self.now = if quiet { next.max(self.now + 1) } else { self.now + self.random.below(20) };
        self.sender.on_tick(self.now);
        if let Some(connection) = &mut self.connection {
            connection.receiver.on_tick(self.now);
        }
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0 | 1 => {
                let count = self.random.below(3_000) as usize;
                self.deliver_up(count);
            }
            2 | 3 => {
                let count = self.random.below(400) as usize;
                self.deliver_down(count);
            }
            4 => self.connect(),
            5 | 6 => self.decide(),
            _ => self.pass_time(),
        }
        self.settle();
    }

    fn all_acked(&self) -> bool {
        Lane::ALL.into_iter().all(|lane| {
            let end = self.outbox.lanes[lane.index()].last().map_or(0, |last| last.position + 1);
            self.acked[lane.index()] == end
        })
    }

    fn total(&self) -> u64 {
        self.outbox.lanes.iter().flatten().map(|stored| stored.range.end - stored.range.start).sum()
    }

    /// The network heals and there is a leader: everything must arrive.
    fn heal(&mut self) {
        self.calm = true;
        self.leader = self.leader.or(Some(1));
        self.outbox.failures = 0;
        for _ in 0..200_000 {
            if self.all_acked() {
                return;
            }
            self.step();
        }
        panic!("not everything was acknowledged: {:?}, {:?}", self.acked, self.sender.status());
    }
}

fn run(seed: u64, role: Role) -> World {
    let mut world = World::new(seed, role);
    for _ in 0..600 {
        if world.random.one_in(4) {
            world.produce(role);
        }
        if world.random.one_in(30) {
            world.misfortune();
        }
        world.step();
    }
    world.heal();
    assert_eq!(world.committed, world.total(), "every sequence is taken exactly once");
    world
}

/// Runs many seeds and names the one that fails.
fn run_seeds(seeds: Range<u64>, role: Role) -> Tally {
    let mut sum = Tally::default();
    for seed in seeds {
        let world = std::panic::catch_unwind(|| run(seed, role)).unwrap_or_else(|_| panic!("seed {seed} failed"));
        let tally = world.tally;
        sum.cuts += tally.cuts;
        sum.elections += tally.elections;
        sum.corruptions += tally.corruptions;
        sum.black_holes += tally.black_holes;
        sum.repeated_acks += tally.repeated_acks;
        sum.resent += tally.resent;
        sum.duplicates += tally.duplicates;
        sum.drops += tally.drops;
    }
    sum
}

#[test]
fn every_block_arrives_exactly_once_whatever_the_network_does() {
    let edge = run_seeds(0..450, Role::Edge);
    let hub = run_seeds(1_000..1_250, Role::Hub);
    for tally in [edge, hub] {
        // A simulation in which nothing goes wrong proves nothing.
        let Tally { cuts, elections, corruptions, black_holes, repeated_acks, resent, duplicates, drops } = tally;
        for count in [cuts, elections, corruptions, black_holes, repeated_acks, resent, duplicates, drops] {
            assert!(count > 40, "{tally:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let world = run(seed, Role::Edge);
        (world.now, world.next_connection, world.sender.status(), world.random.0)
    };
    assert_eq!(trace(42), trace(42));
    assert_ne!(trace(42), trace(43));
}

/// Moves one byte at a time, and cuts after `limit` bytes in all. Returns how
/// many bytes the first connection carried.
fn run_cut(limit: usize) -> (World, usize) {
    let mut world = World::new(5, Role::Edge);
    world.calm = true;
    for (lane, span, payload) in [
        (Lane::Bulk, 4, 120),
        (Lane::Normal, 3, 60),
        (Lane::Critical, 1, 0),
        (Lane::Bulk, 2, 30),
        (Lane::Normal, 9, 10),
    ] {
        world.outbox.push(&key("s", lane), span, payload, 1);
    }
    let mut carried = 0;
    let mut is_cut = false;
    for _ in 0..100_000 {
        if world.all_acked() {
            return (world, carried);
        }
        world.settle();
        world.connect();
        world.settle();
        let first = world.connection.as_ref().filter(|connection| connection.number == 0);
        let waiting = first.map_or(0, |connection| connection.up.len() + connection.down.len());
        if waiting > 0 {
            if carried == limit && !is_cut {
                is_cut = true;
                world.cut();
                continue;
            }
            carried += 1;
            if world.connection.as_ref().is_some_and(|connection| !connection.up.is_empty()) {
                world.deliver_up(1);
            } else {
                world.deliver_down(1);
            }
        } else {
            world.deliver_up(usize::MAX);
            world.deliver_down(usize::MAX);
        }
        world.settle();
        // The group decides late, so that acknowledgements are on the way at many cuts.
        if world.proposals.len() > 2 || world.connection.as_ref().is_none_or(|connection| connection.up.is_empty()) {
            world.decide();
        }
        if world.connection.is_none() && world.dialling.is_none() {
            world.now = world.sender.next_timeout().unwrap();
            world.sender.on_tick(world.now);
        }
    }
    panic!("cut after {limit} bytes: not everything was acknowledged: {:?}", world.sender);
}

#[test]
fn a_session_may_be_cut_at_every_byte() {
    let (world, whole) = run_cut(usize::MAX);
    assert_eq!((world.next_connection, world.tally.resent), (1, 0));
    assert!(whole > 800, "{whole}");
    let mut resent = 0;
    for limit in 0..whole {
        let (world, _) = run_cut(limit);
        assert_eq!(world.committed, world.total(), "cut after {limit} bytes");
        // The next address redirects to the leader.
        assert!((2..=3).contains(&world.next_connection), "cut after {limit} bytes");
        resent += world.tally.resent;
    }
    // What was committed before the cut is in the welcome; it is never sent twice.
    assert_eq!(resent, 0);
}

#[test]
fn a_new_life_starts_over_and_the_old_one_is_still_delivered() {
    let mut world = World::new(1, Role::Edge);
    world.calm = true;
    // The tier above has more of this life than the restored disk.
    let stream = key("s", Lane::Normal);
    world.coverage.insert(stream.clone(), [0..50].into_iter().collect());
    world.outbox.push(&stream, 20, 10, 0);
    let mut is_told = false;
    for _ in 0..2_000 {
        while let Some(action) = world.sender.poll_action() {
            match action {
                Action::PeerAhead { streams } => {
                    assert_eq!(streams, [(stream.clone(), 50)]);
                    is_told = true;
                    let epoch = grey_model::Epoch(EPOCH.0 + 1);
                    world.outbox.own = crate::OwnStreams { epoch, next_seqs: [0; 3] };
                    let fresh = StreamKey { epoch, ..stream.clone() };
                    if world.outbox.lanes[1].len() == 1 {
                        world.outbox.push(&fresh, 20, 10, 0);
                    }
                }
                other => world.on_action(other),
            }
        }
        if world.all_acked() {
            break;
        }
        world.step_without_actions();
    }
    assert!(is_told && world.all_acked());
    let fresh = StreamKey { epoch: world.outbox.own.epoch, ..stream };
    assert_eq!(world.coverage[&fresh].len(), 20);
}

impl World {
    /// Like [`World::step`], in order and leaving the sender's actions to the caller.
    fn step_without_actions(&mut self) {
        self.connect();
        if let Some(connection) = &mut self.connection {
            while let Some(frame) = self.sender.poll_transmit(self.now, &mut self.outbox) {
                let mut bytes = BytesMut::new();
                frame.encode(&mut bytes);
                connection.up.extend_from_slice(&bytes);
            }
        }
        self.deliver_up(usize::MAX);
        self.settle_receiver();
        self.decide();
        self.settle_receiver();
        self.deliver_down(usize::MAX);
        if self.connection.is_none() && self.dialling.is_none() {
            self.now = self.now.max(self.sender.next_timeout().unwrap_or(self.now));
            self.sender.on_tick(self.now);
        }
    }
}
