//! A member of the hub or the coordinator: the production replica core on a
//! simulated disk, with its uplink sessions. Does what `grey-replica`'s engine
//! and node do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::BytesMut;
use grey_consensus::{Condition, Config, Role as GroupRole};
use grey_disk::{Disk, SimDisk};
use grey_ledger::{Replicated, Role};
use grey_log::LogConfig;
use grey_model::SiteId;
use grey_net::uplink_server::HelloAnswer;
use grey_replica::core::{CheckpointPolicy, NewBlock, ReplicaCore, ReplicaError};
use grey_replica::greeting::{greet, leader_address, reports_upward};
use grey_replica::outbox::{ReplicaOutbox, SiteSource};
use grey_replica::sites::{Sessions, SiteThresholds};
use grey_sync::{Action, FrameDecoder, Hello, Outcome, Receiver, ReceiverAction, ReceiverConfig, SenderConfig, Token};

use crate::amnesia;
use crate::fault::Fault;
use crate::net::{Arrival, End, Net, Place};
use crate::plan::{Break, Plan};
use crate::site::START_MS;
use crate::uplink::{Uplink, sender_config};

/// How often what is known of sites is replicated, ms.
const SITES_INTERVAL_MS: u64 = 900;

/// Why a member's process ended by itself.
#[derive(Debug)]
pub(crate) enum MemberError {
    Core(ReplicaError),
    /// What must never happen.
    Impossible(String),
}

impl From<ReplicaError> for MemberError {
    fn from(error: ReplicaError) -> Self {
        Self::Core(error)
    }
}

/// A connection of the tier below.
#[derive(Debug)]
struct Session {
    receiver: Receiver,
    decoder: FrameDecoder,
    accepted: Option<Hello>,
}

/// What a member knows when it answers its sessions.
#[derive(Debug)]
struct Desk {
    role: Role,
    members: Vec<grey_replica::Member>,
    known: Arc<Sessions>,
    /// Proposals of sessions: connection and the receiver's token.
    proposed: BTreeMap<u64, (u64, Token)>,
    next_token: u64,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) place: Place,
    pub(crate) id: u64,
    pub(crate) role: Role,
    /// The first place of its group.
    group: usize,
    desk: Desk,
    upstream: Option<SenderConfig>,
    plan: Plan,
    pub(crate) disk: SimDisk,
    pub(crate) boot: u64,
    pub(crate) core: Option<ReplicaCore>,
    sessions: BTreeMap<u64, Session>,
    clock: Arc<AtomicI64>,
    uplink: Option<Uplink>,
    leads: bool,
    sites_at: u64,
    told_sites: Vec<grey_ledger::SiteReport>,
    /// Blocks that this member took in, as its index would keep them.
    pub(crate) store: BTreeMap<u64, NewBlock>,
    first_seen: u64,
    /// Its durable data was damaged or wiped and it has not been readmitted. Damage that
    /// nothing comes upon stays a suspicion.
    pub(crate) is_suspect: bool,
    /// It noticed, and started over.
    has_started_over: bool,
    pub(crate) has_trouble: bool,
}

/// Addresses of a group's uplink listeners, in the order of its members.
pub(crate) fn addresses(tier: &str, count: usize) -> Vec<String> {
    (1..=count).map(|id| format!("{tier}-{id}:7100")).collect()
}

impl Member {
    pub(crate) fn new(plan: &Plan, net: &mut Net, role: Role, index: usize) -> Self {
        let (tier, count, group) = match role {
            Role::Forwards => ("hub", plan.hubs, plan.sites),
            Role::Keeps => ("coordinator", plan.coordinators, plan.sites + plan.hubs),
        };
        let name = SiteId::new(&format!("{tier}-a")).expect("a plain name");
        let member = |(n, sync): (usize, String)| grey_replica::Member {
            id: n as u64 + 1,
            raft: format!("{tier}-{}:7000", n + 1),
            sync,
            http: format!("{tier}-{}:8080", n + 1),
        };
        let upstream = match role {
            Role::Forwards => {
                Some(sender_config(name.clone(), grey_sync::Role::Hub, addresses("coordinator", plan.coordinators), 0))
            }
            Role::Keeps => None,
        };
        Self {
            place: Place(group + index),
            id: index as u64 + 1,
            role,
            group,
            desk: Desk {
                role,
                members: addresses(tier, count).into_iter().enumerate().map(member).collect(),
                known: Arc::new(Sessions::new(name, SiteThresholds::default())),
                proposed: BTreeMap::new(),
                next_token: 0,
            },
            upstream,
            plan: plan.clone(),
            disk: SimDisk::new(net.random.next()),
            boot: 0,
            core: None,
            sessions: BTreeMap::new(),
            clock: Arc::new(AtomicI64::new(START_MS)),
            uplink: None,
            leads: false,
            sites_at: 0,
            told_sites: Vec::new(),
            store: BTreeMap::new(),
            first_seen: 0,
            is_suspect: false,
            has_started_over: false,
            has_trouble: false,
        }
    }

    /// For traces and failures.
    pub(crate) fn label(&self) -> String {
        let tier = if self.role == Role::Forwards { "hub" } else { "coordinator" };
        format!("{tier} {}", self.id)
    }

    fn config(&self, net: &mut Net) -> Config {
        Config {
            election_ticks: 6..12,
            max_entry_bytes: 32 << 10,
            max_inflight_bytes: 48 << 10,
            checkpoints_keep: 3,
            log: LogConfig { segment_bytes_max: self.plan.segment_bytes, record_bytes_max: 128 << 10 },
            ..Config::new(self.id, (1..=self.desk.members.len() as u64).collect(), net.random.next())
        }
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, net: &mut Net) -> Result<(), MemberError> {
        self.boot += 1;
        let config = self.config(net);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let forgets = self.plan.broken == Some(Break::Dedup) && self.role == Role::Keeps;
        let restore = if forgets { amnesia::restore } else { Replicated::restore };
        let (mut core, restored) = ReplicaCore::open_with(disk, Path::new("raft"), self.role, config, restore)?;
        core.set_checkpoint_policy(CheckpointPolicy {
            entries_max: self.plan.checkpoint_entries,
            ..CheckpointPolicy::default()
        });
        net.note(|| format!("{} starts: {:?}, log to {}", self.label(), restored.condition, restored.last));
        match restored.condition {
            Condition::Damaged { reason } if !self.is_suspect => {
                return Err(MemberError::Impossible(format!("{} finds intact data damaged: {reason}", self.label())));
            }
            Condition::Damaged { .. } => {
                net.faults.note(Fault::MemberRejoined);
                self.has_started_over = true;
            }
            // An empty disk: the member learns from the others that it has a past.
            Condition::Fresh => self.has_started_over = self.is_suspect,
            Condition::Intact | Condition::Rejoining => {}
        }
        // What the index got after the checkpoint comes again.
        self.store.split_off(&(core.applied() + 1));
        self.first_seen = core.status().first;
        self.core = Some(core);
        self.drive(net)
    }

    /// Hands leadership over before a stop; false when there is nothing to hand over.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.core.as_mut().is_some_and(ReplicaCore::transfer_leadership)
    }

    /// What a member does last when it stops in order.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let Some(core) = &mut self.core else { return Ok(()) };
        core.checkpoint().map_err(|error| format!("{error:?}"))
    }

    /// The process is gone.
    pub(crate) fn end(&mut self) {
        self.core = None;
        self.sessions.clear();
        self.desk.known.clear();
        self.desk.proposed.clear();
        self.uplink = None;
        self.leads = false;
        self.told_sites.clear();
    }

    /// A tick of the consensus clock and of the links.
    pub(crate) fn tick(&mut self, net: &mut Net) -> Result<(), MemberError> {
        let Some(core) = &mut self.core else { return Ok(()) };
        core.tick();
        for session in self.sessions.values_mut() {
            session.receiver.on_tick(net.now);
        }
        if let Some(uplink) = &mut self.uplink {
            uplink.tick(net);
        }
        if net.now >= self.sites_at + SITES_INTERVAL_MS {
            self.sites_at = net.now;
            self.report_sites(net);
        }
        self.drive(net)
    }

    fn report_sites(&mut self, net: &Net) {
        let Some(core) = self.core.as_mut().filter(|core| core.leading().is_some()) else { return };
        let reports = self.desk.known.reports(START_MS + net.now as i64);
        if !reports.is_empty() && self.told_sites != reports && core.propose_sites(reports.clone()).is_ok() {
            self.told_sites = reports;
        }
    }

    /// A message of another member.
    pub(crate) fn step(&mut self, net: &mut Net, from: Place, bytes: &[u8]) -> Result<(), MemberError> {
        let peer = (from.0 - self.group) as u64 + 1;
        let Some(core) = &mut self.core else { return Ok(()) };
        if let Err(error) = core.step(peer, bytes) {
            return Err(MemberError::Impossible(format!("{} refuses a message of {peer}: {error}", self.label())));
        }
        self.drive(net)
    }

    /// What the engine does after each batch of inputs.
    pub(crate) fn drive(&mut self, net: &mut Net) -> Result<(), MemberError> {
        self.clock.store(START_MS + net.now as i64, Ordering::Relaxed);
        loop {
            let Some(core) = &mut self.core else { return Ok(()) };
            let mut messages = Vec::new();
            let polled = core.poll(&mut |to, message| messages.push((to, message)));
            let place = |to: u64| Place(self.group + to as usize - 1);
            for (to, message) in messages {
                net.send_raft(self.place, place(to), message);
            }
            let round = polled?;
            for (to, message) in round.messages {
                net.send_raft(self.place, place(to), message);
            }
            if round.restored {
                net.faults.note(Fault::CheckpointInstalled);
                self.store.clear();
            }
            if !round.blocks.is_empty()
                && let Some(uplink) = &mut self.uplink
            {
                uplink.wake();
            }
            for block in round.blocks {
                self.store.insert(block.index, block);
            }
            for (token, outcome) in round.outcomes {
                if let Some((conn, token)) = self.desk.proposed.remove(&token)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.receiver.on_committed(token, outcome);
                }
            }
            if core.is_checkpoint_due() {
                core.checkpoint()?;
            }
            let first = core.status().first;
            if first > self.first_seen {
                net.faults.note(Fault::LogCompacted);
                self.first_seen = first;
            }
            if !round.more {
                break;
            }
        }
        self.follow(net);
        self.serve(net);
        Ok(())
    }

    /// Follows this member's standing: sessions and the uplink are the leader's.
    fn follow(&mut self, net: &mut Net) {
        let Some(core) = &self.core else { return };
        let status = core.status();
        if self.has_started_over && matches!(status.role, GroupRole::Leader | GroupRole::Follower) {
            (self.is_suspect, self.has_started_over) = (false, false);
        }
        let leads = core.leading().is_some();
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        net.note(|| format!("{} {} in term {}", self.label(), if leads { "leads" } else { "follows" }, status.term));
        if leads {
            net.faults.note(Fault::LeaderChanged);
            if let Some(config) = &self.upstream {
                let config = SenderConfig { seed: net.random.next(), ..config.clone() };
                self.uplink = Some(Uplink::new(config, [0; 3], self.place, self.boot, net.now));
            }
            return;
        }
        let leader = leader_address(&status, &self.desk.members);
        for session in self.sessions.values_mut().filter(|session| session.accepted.is_some()) {
            session.receiver.redirect(leader.clone(), "this node no longer leads");
        }
        self.desk.known.clear();
        self.told_sites.clear();
        if let Some(mut outbox) = self.outbox()
            && let Some(uplink) = self.uplink.take()
        {
            uplink.stop(net, &mut outbox);
        }
    }

    fn outbox(&self) -> Option<ReplicaOutbox> {
        let core = self.core.as_ref()?;
        let (known, state, clock) = (Arc::clone(&self.desk.known), core.state(), Arc::clone(&self.clock));
        let sites: SiteSource = Arc::new(move || reports_upward(&known, &state.read(), clock.load(Ordering::Relaxed)));
        let clock = Arc::clone(&self.clock);
        Some(ReplicaOutbox::new(core.state(), core.entries(), sites, Arc::new(move || clock.load(Ordering::Relaxed))))
    }

    /// A connection was asked for.
    pub(crate) fn accept(&mut self, net: &Net, conn: u64) {
        let config = ReceiverConfig {
            node: self.id,
            hello_timeout_ms: 500,
            heartbeat_timeout_ms: 1_000,
            rate_floor_bytes_per_s: 1 << 20,
        };
        let receiver = Receiver::new(config, net.now);
        let session = Session { receiver, decoder: FrameDecoder::for_receiver(), accepted: None };
        self.sessions.insert(conn, session);
    }

    /// Something arrived at the server's end of a connection.
    pub(crate) fn arrived_below(&mut self, net: &mut Net, conn: u64, arrival: Arrival) -> Result<(), MemberError> {
        let (Some(core), Some(session)) = (&mut self.core, self.sessions.get_mut(&conn)) else { return Ok(()) };
        let Arrival::Bytes(bytes) = arrival else {
            if session.decoder.partial_bytes() > 0 {
                net.faults.note(Fault::MidFrameCut);
            }
            self.close(conn);
            return Ok(());
        };
        let unix_ms = START_MS + net.now as i64;
        session.decoder.extend(&bytes);
        loop {
            match session.decoder.next_frame() {
                Ok(Some(frame)) => session.receiver.on_frame(net.now, unix_ms, frame),
                Ok(None) => break,
                Err(error) => {
                    session.receiver.on_frame_error(&error);
                    break;
                }
            }
            // A hello opens the decoder before the next frame is looked at.
            self.desk.act(core, net, conn, session);
        }
        session.receiver.on_partial(net.now, session.decoder.partial_bytes());
        self.desk.act(core, net, conn, session);
        self.drive(net)
    }

    /// Writes what the sessions have to say.
    fn serve(&mut self, net: &mut Net) {
        let Some(core) = &mut self.core else { return };
        let mut ended = Vec::new();
        for (conn, session) in &mut self.sessions {
            self.desk.act(core, net, *conn, session);
            let closed = session.receiver.is_closed();
            while closed || net.has_room(*conn, End::Server) {
                let Some(frame) = session.receiver.poll_transmit() else { break };
                let mut bytes = BytesMut::new();
                frame.encode(&mut bytes);
                net.write(*conn, End::Server, &bytes);
            }
            if closed {
                ended.push(*conn);
            }
        }
        for conn in ended {
            net.close(conn, End::Server);
            self.close(conn);
        }
    }

    fn close(&mut self, conn: u64) {
        if let Some(hello) = self.sessions.remove(&conn).and_then(|session| session.accepted) {
            self.desk.known.closed(conn, &hello.sender);
        }
    }

    /// Lets the uplink write and act. Returns true when the core was told something.
    pub(crate) fn run_uplink(&mut self, net: &mut Net, find: &dyn Fn(&str) -> Option<Place>) -> bool {
        let Some(mut outbox) = self.uplink.is_some().then(|| self.outbox()).flatten() else { return false };
        let (Some(core), Some(uplink)) = (&mut self.core, &mut self.uplink) else { return false };
        let mut told = false;
        for action in uplink.run(net, &mut outbox, find) {
            match action {
                Action::Acked { lane, upto } => {
                    core.forwarded(lane, upto);
                    told = true;
                }
                Action::Rejected { .. } | Action::Unsendable { .. } | Action::OutboxFailed { .. } => {
                    net.note(|| format!("uplink of the hub: {action:?}"));
                }
                _ => {}
            }
        }
        told
    }

    pub(crate) fn dialed(&mut self, net: &mut Net, conn: u64, stands: bool) {
        if let Some(uplink) = &mut self.uplink {
            uplink.dialed(net, conn, stands);
        }
    }

    pub(crate) fn arrived_above(&mut self, net: &mut Net, conn: u64, arrival: Arrival) {
        if let Some(uplink) = &mut self.uplink {
            uplink.arrived(net, conn, arrival);
        }
    }

    /// What this member still has to do before all is quiet.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let Some(core) = &self.core else { return Some(format!("{} is down", self.label())) };
        let status = core.status();
        if !matches!(status.role, GroupRole::Leader | GroupRole::Follower) || status.leader.is_none() {
            return Some(format!("{} is {:?}, leader {:?}", self.label(), status.role, status.leader));
        }
        if status.last != status.applied {
            return Some(format!("{} has applied {} of {}", self.label(), status.applied, status.last));
        }
        let pending: u64 = grey_model::Lane::ALL.iter().map(|lane| core.state().read().pending(*lane).0).sum();
        if pending > 0 {
            let link = self.uplink.as_ref().map(Uplink::describe);
            return Some(format!("{}: {pending} blocks wait for the coordinator; {link:?}", self.label()));
        }
        None
    }

    /// Bytes of the state, for comparison and for the digest.
    pub(crate) fn state(&self) -> Option<Replicated> {
        self.core.as_ref().map(|core| core.state().read().clone())
    }
}

impl Desk {
    /// Does what a session's receiver asks for.
    fn act(&mut self, core: &mut ReplicaCore, net: &mut Net, conn: u64, session: &mut Session) {
        let unix_ms = START_MS + net.now as i64;
        while let Some(action) = session.receiver.poll_action() {
            match action {
                ReceiverAction::Hello(hello) => {
                    let leader = leader_address(&core.status(), &self.members);
                    match greet(&hello, self.role, core.leading(), leader, &core.state().read()) {
                        HelloAnswer::Accept { coverage, window_bytes, term } => {
                            self.known.opened(conn, &hello, unix_ms);
                            session.receiver.accept(coverage, window_bytes, term);
                            session.decoder.open();
                            session.accepted = Some(hello);
                        }
                        HelloAnswer::Redirect { address } => {
                            session.receiver.redirect(address, "this node does not lead");
                        }
                        HelloAnswer::Reject { code, message } => session.receiver.reject(code, &message),
                    }
                }
                ReceiverAction::Propose { token, block, header } => {
                    if core.state().read().coverage(&header.key()).covers(&header.range()) {
                        net.faults.note(Fault::BlockResent);
                    }
                    self.next_token += 1;
                    match core.propose_block(self.next_token, block) {
                        Ok(()) => {
                            self.proposed.insert(self.next_token, (conn, token));
                        }
                        Err(_) => session.receiver.on_committed(token, Outcome::Dropped),
                    }
                }
                ReceiverAction::Heartbeat(heartbeat) => {
                    if let Some(hello) = &session.accepted {
                        self.known.heard(conn, &hello.sender, heartbeat.status, unix_ms);
                    }
                }
                ReceiverAction::Sites(reports) => {
                    if let Some(hello) = &session.accepted {
                        let report = |report| self.known.report_of_hub(&hello.sender, report, unix_ms);
                        // Lost with leadership is harmless: the next report comes soon.
                        let _ = core.propose_sites(reports.iter().map(report).collect());
                    }
                }
                ReceiverAction::Close { .. } => {}
            }
        }
    }
}
