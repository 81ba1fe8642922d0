//! Members, their disks and the network between them, under virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use grey_disk::SimDisk;
use grey_log::LogConfig;

use super::check::Checker;
use crate::flaws::Flaws;
use crate::random::Random;
use crate::{Condition, Config, Group, Output, ProposeError, Restored, Role};

const TICK_MS: u64 = 50;
/// Entries between two checkpoints.
const CHECKPOINT_ENTRIES: u64 = 15;
/// Entries that the state machine still needs behind the last one.
pub(crate) const FLOOR_ENTRIES: u64 = 25;
const DIR: &str = "group";

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    pub(crate) repeat_percent: u64,
    pub(crate) delay_ms: (u64, u64),
}

impl Weather {
    pub(crate) const FAIR: Self = Self { loss_percent: 0, repeat_percent: 0, delay_ms: (1, 3) };
}

/// What a member is built with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    pub(crate) flaws: Flaws,
    /// The disks pretend to sync.
    pub(crate) forget_sync: bool,
    /// Extra bytes in every checkpoint.
    pub(crate) ballast_bytes: usize,
}

/// The replicated state: everything that was applied.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Machine {
    pub(crate) history: Vec<(u64, Bytes)>,
}

impl Machine {
    fn encode(&self, ballast: usize) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64_le(self.history.len() as u64);
        for (index, data) in &self.history {
            out.put_u64_le(*index);
            out.put_u32_le(data.len() as u32);
            out.put_slice(data);
        }
        out.extend(std::iter::repeat_n(7, ballast));
        out
    }

    fn decode(mut bytes: &[u8]) -> Self {
        let count = bytes.get_u64_le();
        let history = (0..count)
            .map(|_| {
                let index = bytes.get_u64_le();
                let len = bytes.get_u32_le() as usize;
                (index, bytes.copy_to_bytes(len))
            })
            .collect();
        Self { history }
    }
}

pub(crate) fn token_of(data: &[u8]) -> Option<u64> {
    data.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) disk: SimDisk,
    pub(crate) group: Option<Group>,
    pub(crate) machine: Machine,
    pub(crate) applied: u64,
    checkpointed: u64,
    /// Its memory was taken away, and it has not been seen whole since.
    pub(crate) is_suspect: bool,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) checkpoints_received: u64,
}

#[derive(Debug)]
enum Event {
    Tick(u64),
    Deliver { from: u64, to: u64, bytes: Bytes },
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) random: Random,
    pub(crate) nodes: Vec<Node>,
    pub(crate) checker: Checker,
    pub(crate) weather: Weather,
    /// Pairs that cannot reach each other, in the order given.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    pub(crate) plan: Plan,
    pub(crate) readmissions: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    next_token: u64,
}

pub(crate) type Outcome = Result<(), String>;

impl World {
    pub(crate) fn new(count: u64, seed: u64, plan: Plan) -> Self {
        let mut random = Random::new(seed);
        let nodes = (1..=count)
            .map(|id| Node {
                id,
                disk: new_disk(&mut random, plan),
                group: None,
                machine: Machine::default(),
                applied: 0,
                checkpointed: 0,
                is_suspect: false,
                conditions: Vec::new(),
                checkpoints_received: 0,
            })
            .collect();
        let mut world = Self {
            now_ms: 0,
            random,
            nodes,
            checker: Checker::default(),
            weather: Weather::FAIR,
            cut: BTreeSet::new(),
            plan,
            readmissions: 0,
            events: BTreeMap::new(),
            sequence: 0,
            next_token: 1,
        };
        for id in 1..=count {
            let phase = world.random.below(TICK_MS);
            world.at(phase, Event::Tick(id));
        }
        world
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub(crate) fn config(&mut self, id: u64) -> Config {
        Config {
            max_entry_bytes: 8 << 10,
            max_inflight_bytes: 64 << 10,
            checkpoints_keep: 3,
            log: LogConfig { segment_bytes_max: 4 << 10, record_bytes_max: 16 << 10 },
            ..Config::new(id, self.ids(), self.random.next())
        }
    }

    fn at(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + delay_ms, self.sequence), event);
    }

    /// Starts a member that is down.
    pub(crate) fn start(&mut self, id: u64) -> Outcome {
        let config = self.config(id);
        let flaws = self.plan.flaws;
        let node = self.node(id);
        let opened = Group::open(Arc::new(node.disk.clone()), Path::new(DIR), config);
        let (mut group, Restored { checkpoint, condition, .. }) = match opened {
            Ok(opened) => opened,
            Err(_) if node.disk.is_off() => {
                node.disk.crash();
                return Ok(());
            }
            Err(error) => return Err(format!("member {id} does not open: {error:?}")),
        };
        group.flaws = flaws;
        node.machine = Machine::default();
        node.applied = 0;
        if let Some((index, state)) = checkpoint {
            node.machine = Machine::decode(&state);
            node.applied = index;
        }
        node.checkpointed = node.applied;
        if matches!(condition, Condition::Damaged { .. } | Condition::Rejoining) {
            node.is_suspect = true;
        }
        node.conditions.push(condition);
        node.group = Some(group);
        self.drive(id)
    }

    pub(crate) fn start_all(&mut self) -> Outcome {
        for id in self.ids() {
            if self.node(id).group.is_none() {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// Ends a member's process; `loses_power` also loses what its disk had not synced.
    pub(crate) fn stop(&mut self, id: u64, loses_power: bool) {
        self.checker.crashed(id);
        let node = self.node(id);
        if node.group.take().is_some() {
            if loses_power { node.disk.crash() } else { node.disk.kill() }
        }
    }

    /// Takes a stopped member's disk away.
    pub(crate) fn wipe(&mut self, id: u64) {
        let disk = new_disk(&mut self.random, self.plan);
        let node = self.node(id);
        node.disk = disk;
        node.is_suspect = true;
    }

    /// Damages one file of a stopped member. True when something was damaged.
    pub(crate) fn damage(&mut self, id: u64) -> bool {
        let files: Vec<(String, u64)> = self
            .node(id)
            .disk
            .files()
            .into_iter()
            .filter(|(path, len)| *len > 0 && !path.contains("quarantine") && !path.ends_with(".tmp"))
            .collect();
        if files.is_empty() {
            return false;
        }
        let (path, len) = files[self.random.below(files.len() as u64) as usize].clone();
        let (kind, offset, bit) = (self.random.below(8), self.random.below(len), self.random.below(8) as u8);
        let node = self.node(id);
        let path = Path::new(&path);
        let done = match kind {
            0 => node.disk.truncate(path, offset),
            1 => node.disk.lose(path),
            2 => node.disk.zero(path, offset, 64),
            _ => node.disk.flip(path, offset, bit),
        };
        node.is_suspect = true;
        done.is_ok()
    }

    /// Lets time pass until `until_ms`.
    pub(crate) fn run_until(&mut self, until_ms: u64) -> Outcome {
        while let Some(entry) = self.events.first_entry() {
            let at_ms = entry.key().0;
            if at_ms > until_ms {
                break;
            }
            let event = entry.remove();
            self.now_ms = at_ms;
            self.handle(event)?;
        }
        self.now_ms = until_ms;
        Ok(())
    }

    pub(crate) fn run_for(&mut self, ms: u64) -> Outcome {
        self.run_until(self.now_ms + ms)
    }

    fn handle(&mut self, event: Event) -> Outcome {
        match event {
            Event::Tick(id) => {
                self.at(TICK_MS, Event::Tick(id));
                if let Some(group) = &mut self.node(id).group {
                    group.tick();
                }
                self.drive(id)
            }
            Event::Deliver { from, to, bytes } => {
                if self.cut.contains(&(from, to)) {
                    return Ok(());
                }
                let is_sound = self.plan.flaws == Flaws::default();
                if let Some(group) = &mut self.node(to).group
                    && let Err(error) = group.step(from, &bytes)
                    && is_sound
                {
                    return Err(format!("member {to} refused {from}: {error}"));
                }
                self.drive(to)
            }
        }
    }

    /// What a driver does after each input.
    fn drive(&mut self, id: u64) -> Outcome {
        loop {
            let Some(group) = &mut self.node(id).group else { return Ok(()) };
            let mut early = Vec::new();
            let polled = group.poll_with(&mut |to, bytes| early.push((to, bytes)));
            for (to, bytes) in early {
                self.transmit(id, to, bytes);
            }
            let output = match polled {
                Ok(output) => output,
                Err(_) if self.node(id).disk.is_off() => {
                    self.stop(id, true);
                    return Ok(());
                }
                Err(error @ (crate::ConsensusError::Damaged { .. } | crate::ConsensusError::Stopped { .. })) => {
                    // The process ends; somebody starts it again.
                    let node = self.node(id);
                    if !node.is_suspect && !matches!(error, crate::ConsensusError::Stopped { .. }) {
                        return Err(format!("unsafe: member {id} calls its intact data damaged: {error}"));
                    }
                    self.stop(id, false);
                    return Ok(());
                }
                Err(error) => return Err(format!("member {id} failed: {error:?}")),
            };
            let more = output.more;
            self.follow(id, output)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn follow(&mut self, id: u64, output: Output) -> Outcome {
        for (to, bytes) in output.messages {
            self.transmit(id, to, bytes);
        }
        if let Some((index, state)) = output.restored {
            let node = self.node(id);
            node.machine = Machine::decode(&state);
            node.applied = index;
            node.checkpointed = index;
            node.checkpoints_received += 1;
        }
        for entry in output.committed {
            if entry.index <= self.node(id).applied {
                return Err(format!("unsafe: member {id} gave out entry {} again", entry.index));
            }
            self.checker.committed(id, entry.index, entry.term, &entry.data, entry.token)?;
            let node = self.node(id);
            node.machine.history.push((entry.index, entry.data));
            node.applied = entry.index;
        }
        self.node(id).applied = output.applied;
        for token in output.dropped {
            self.checker.dropped(id, token)?;
        }
        for (token, index) in output.reads {
            self.checker.read(id, token, index, output.applied)?;
        }
        let ballast = self.plan.ballast_bytes;
        let node = self.node(id);
        let Some(group) = &mut node.group else { return Ok(()) };
        if output.applied >= node.checkpointed + CHECKPOINT_ENTRIES {
            let state = node.machine.encode(ballast);
            match group.save_checkpoint(output.applied, &state) {
                Ok(()) => node.checkpointed = output.applied,
                Err(_) if node.disk.is_off() => {
                    self.stop(id, true);
                    return Ok(());
                }
                Err(error) if error.is_full() => {}
                Err(error) => return Err(format!("member {id}: {error:?}")),
            }
        }
        group.set_floor(output.applied.saturating_sub(FLOOR_ENTRIES));
        let status = group.status();
        if output.role_changed {
            match status.role {
                Role::Leader => self.checker.leads(id, status.term)?,
                Role::Recovering => {}
                // Damage that reading has not come upon yet stays a suspicion.
                Role::Follower | Role::Candidate
                    if self.node(id).is_suspect && self.node(id).conditions.last() != Some(&Condition::Intact) =>
                {
                    self.node(id).is_suspect = false;
                    self.readmissions += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn transmit(&mut self, from: u64, to: u64, bytes: Bytes) {
        let Weather { loss_percent, repeat_percent, delay_ms } = self.weather;
        let copies = 1 + u64::from(self.random.below(100) < repeat_percent);
        for _ in 0..copies {
            if self.random.below(100) < loss_percent {
                continue;
            }
            let delay = delay_ms.0 + self.random.below(delay_ms.1 - delay_ms.0 + 1);
            self.at(delay, Event::Deliver { from, to, bytes: bytes.clone() });
        }
    }

    /// Proposes at a member. `Ok(None)` when it does not take it.
    pub(crate) fn propose(&mut self, id: u64) -> Result<Option<u64>, String> {
        let token = self.next_token;
        let mut data = token.to_le_bytes().to_vec();
        data.resize(8 + self.random.below(200) as usize, 9);
        let data = Bytes::from(data);
        let Some(group) = &mut self.node(id).group else { return Ok(None) };
        match group.propose(token, data.clone()) {
            Ok(()) => {
                self.next_token += 1;
                self.checker.proposed(id, token, data);
                self.drive(id)?;
                Ok(Some(token))
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::Busy { .. }) => Ok(None),
            Err(error) => Err(format!("member {id}: {error}")),
        }
    }

    /// Asks for a read index at a member.
    pub(crate) fn read(&mut self, id: u64) -> Outcome {
        let token = self.next_token;
        let Some(group) = &mut self.node(id).group else { return Ok(()) };
        if group.read_index(token).is_ok() {
            self.next_token += 1;
            self.checker.asked(token);
            self.drive(id)?;
        }
        Ok(())
    }

    /// Who leads, as the member with the highest such term sees it.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = |node: &Node| {
            let status = node.group.as_ref()?.status();
            (status.role == Role::Leader).then_some((status.term, node.id))
        };
        self.nodes.iter().filter_map(leads).max().map(|(_, id)| id)
    }

    /// Runs until a member leads; fails after `limit_ms`.
    pub(crate) fn run_until_leader(&mut self, limit_ms: u64) -> Result<u64, String> {
        let end = self.now_ms + limit_ms;
        while self.now_ms < end {
            self.run_for(TICK_MS)?;
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
        }
        Err(format!("nobody leads after {limit_ms} ms"))
    }

    /// Ends all faults and requires that the group works again and all members agree.
    pub(crate) fn heal(&mut self, limit_ms: u64) -> Outcome {
        self.weather = Weather::FAIR;
        self.cut.clear();
        for node in &self.nodes {
            if !node.disk.is_off() {
                node.disk.power_off_after(u64::MAX);
            }
        }
        let end = self.now_ms + limit_ms;
        let mut probe = None;
        while self.now_ms < end {
            self.start_all()?;
            self.run_for(4 * TICK_MS)?;
            if let Some(token) = probe {
                // A damaged entry that only reading comes upon sends its member home first.
                if self.checker.acknowledged.contains(&token) && self.agree() && self.read_all() {
                    return self.verify();
                }
            }
            if probe.is_none_or(|token| !self.checker.acknowledged.contains(&token))
                && let Some(leader) = self.leader()
            {
                probe = self.propose(leader)?.or(probe);
            }
        }
        let states: Vec<_> = self.nodes.iter().map(|node| node.group.as_ref().map(Group::status)).collect();
        Err(format!("the group did not recover within {limit_ms} ms: {states:#?}"))
    }

    fn agree(&self) -> bool {
        let last = self.checker.log.last_key_value().map_or(0, |(index, _)| *index);
        self.nodes.iter().all(|node| {
            node.applied >= last
                && node.group.as_ref().is_some_and(|group| matches!(group.status().role, Role::Leader | Role::Follower))
        })
    }

    /// Reads what every member keeps; false when one has to repair itself.
    fn read_all(&mut self) -> bool {
        let mut intact = true;
        for node in self.nodes.iter().filter(|node| node.is_suspect) {
            let Some(group) = &node.group else { continue };
            let reader = group.log_reader();
            let mut next = node.applied.saturating_sub(FLOOR_ENTRIES).max(1);
            while intact && next <= node.applied {
                match reader.scan(next, 1000) {
                    Ok(found) => next = found.next,
                    Err(_) => intact = false,
                }
            }
        }
        intact
    }

    /// Compares everything that every member has applied and kept.
    pub(crate) fn verify(&self) -> Outcome {
        for node in &self.nodes {
            self.checker.history(node.id, node.applied, &node.machine.history)?;
            let Some(group) = &node.group else { continue };
            let (reader, floor) = (group.log_reader(), node.applied.saturating_sub(FLOOR_ENTRIES).max(1));
            let (mut kept, mut next) = (Vec::new(), floor);
            while next <= node.applied {
                let found = reader.scan(next, 1000).map_err(|error| format!("member {}: {error:?}", node.id))?;
                kept.extend(found.entries);
                next = found.next;
            }
            let expected: Vec<(u64, Bytes)> =
                self.checker.log.range(floor..).map(|(index, (_, data))| (*index, data.clone())).collect();
            if kept != expected {
                return Err(format!("member {} does not keep what is needed from {floor} on", node.id));
            }
        }
        self.checker.end()
    }
}

fn new_disk(random: &mut Random, plan: Plan) -> SimDisk {
    let disk = SimDisk::new(random.next());
    disk.forget_sync(plan.forget_sync);
    disk
}
