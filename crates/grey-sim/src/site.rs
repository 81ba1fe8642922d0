//! A site: the production edge core on a simulated disk, its uplink, and the
//! devices around it. Does what `grey-edge`'s engine and node do.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::{Disk, SimDisk};
use grey_edge::core::{CoreConfig, CoreError, EdgeCore, Flights, LanePolicy, Request, RoundDriver};
use grey_ingest::{Op, Refusal};
use grey_model::{Lane, Seq, SiteId, StreamKey};
use grey_queue::{OnFull, QueueConfig, UplinkReader};
use grey_rules::RuleSet;
use grey_sync::{Action, Outbox, OutboxError, OwnStreams, Role, SenderConfig, Status};

use crate::device::{Device, EventKey};
use crate::fault::Fault;
use crate::hasty_disk::HastyDisk;
use crate::net::{Arrival, Event, Net, Place};
use crate::plan::{Break, Plan};
use crate::slow_syncer::SlowSyncer;
use crate::uplink::{Uplink, sender_config};

/// The wall clock when a run begins, Unix ms.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// Intake records replayed in one step.
const REPLAY_STEP: u64 = 8;
/// How often the status for heartbeats is renewed, ms.
const STATUS_INTERVAL_MS: u64 = 200;

/// Whom to answer: device and number of its flight.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    device: usize,
    number: u64,
    connection: u64,
    events: Vec<EventKey>,
}

/// What the uplink told and the core has not heard yet.
#[derive(Debug)]
enum Told {
    Acked { lane: Lane, upto: u64 },
    ParentAhead(Vec<(StreamKey, Seq)>),
}

/// What the uplink's side of a site sees.
#[derive(Debug, Default)]
struct Shared {
    own: OwnStreams,
    status: Status,
    at: u64,
}

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) number: usize,
    config: CoreConfig,
    uplink_config: SenderConfig,
    pub(crate) disk: SimDisk,
    /// It acknowledges before its intake is synced.
    is_hasty: bool,
    pub(crate) boot: u64,
    pub(crate) core: Option<EdgeCore>,
    /// The replay is done.
    is_ready: bool,
    uplink: Option<Uplink>,
    shared: Shared,
    inbox: Vec<(Vec<Op>, Done)>,
    flights: Flights<Done>,
    told: Vec<Told>,
    pub(crate) devices: Vec<Device>,
    /// The newest connection that was heard of each device.
    connections: Vec<u64>,
    /// How far the wall clock is off, ms.
    pub(crate) skew_ms: i64,
    /// The furthest that it ever was ahead.
    pub(crate) skew_max_ms: i64,
    /// Events whose devices were told that they are durable.
    pub(crate) promised: BTreeSet<EventKey>,
    /// Operations of the disk fail for a reason.
    pub(crate) has_trouble: bool,
    /// An older copy of its disk, and the life that was current then.
    pub(crate) copy: Option<SimDisk>,
    /// It was restored from the copy: its memory of that time is gone.
    pub(crate) was_rolled_back: bool,
}

struct Rounds {
    unix_ms: i64,
    answers: Vec<(Done, Result<(), Refusal>)>,
}

impl RoundDriver for Rounds {
    type Done = Done;

    fn now_ms(&mut self) -> i64 {
        self.unix_ms
    }

    fn monotonic_us(&mut self) -> u64 {
        0
    }

    fn answer(&mut self, done: Done, answer: Result<(), Refusal>) {
        self.answers.push((done, answer));
    }

    fn committed(&mut self, _: u64, _: u64) {}

    fn waits_for_space(&mut self, _: &CoreError) {}

    fn requests(&mut self, _: VecDeque<(u64, Request)>) {}
}

struct SiteOutbox<'a> {
    reader: UplinkReader,
    shared: &'a Shared,
    unix_ms: i64,
}

impl Outbox for SiteOutbox<'_> {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        self.reader.next(lane, from).map_err(|error| OutboxError(error.to_string()))
    }

    fn end(&mut self, lane: Lane) -> Option<u64> {
        Some(self.reader.end(lane))
    }

    fn own_streams(&mut self) -> OwnStreams {
        self.shared.own
    }

    fn status(&mut self) -> Status {
        Status { now_ms: self.unix_ms, ..self.shared.status.clone() }
    }
}

impl Site {
    pub(crate) fn new(number: usize, plan: &Plan, net: &mut Net, hubs: Vec<String>, devices: Vec<Device>) -> Self {
        let id = SiteId::new(&format!("site-{}", number + 1)).expect("a plain name");
        let lanes = Lane::ALL.map(|lane| {
            let default = LanePolicy::default_for(lane);
            LanePolicy { block_events_max: plan.block_events_max, linger_ms: default.linger_ms / 4, ..default }
        });
        let config = CoreConfig {
            lanes,
            queue: QueueConfig {
                bytes_max: plan.outbox_bytes_max,
                segment_bytes_max: plan.segment_bytes,
                // Nothing may be dropped here: what gives way has a simulation of its own.
                on_full: [OnFull::Block; 3],
                reserve_bytes: 64 << 10,
                ..QueueConfig::default()
            },
            intake_retention_ms: 1_500,
            intake_segment_bytes: plan.segment_bytes,
            checkpoint_interval_ms: 900,
            checkpoint_bytes: 6 << 10,
            ..CoreConfig::new(id.clone(), Arc::clone(&plan.rules[0]))
        };
        let disk = SimDisk::new(net.random.next());
        Self {
            place: Place(number),
            number,
            config,
            uplink_config: sender_config(id, Role::Edge, hubs, 0),
            disk,
            is_hasty: plan.broken == Some(Break::Fsync),
            boot: 0,
            core: None,
            is_ready: false,
            uplink: None,
            shared: Shared::default(),
            inbox: Vec::new(),
            flights: Flights::default(),
            told: Vec::new(),
            connections: vec![0; devices.len()],
            devices,
            skew_ms: 0,
            skew_max_ms: 0,
            promised: BTreeSet::new(),
            has_trouble: false,
            copy: None,
            was_rolled_back: false,
        }
    }

    /// The site's wall clock.
    pub(crate) fn unix_ms(&self, net: &Net) -> i64 {
        START_MS + net.now as i64 + self.skew_ms
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, net: &mut Net) -> Result<(), CoreError> {
        self.boot += 1;
        let entropy = (net.random.next(), net.random.next());
        let disk: Arc<dyn Disk> = if self.is_hasty {
            Arc::new(HastyDisk::new(self.disk.clone(), |path| path.starts_with("intake")))
        } else {
            Arc::new(self.disk.clone())
        };
        let (mut core, opened) = EdgeCore::open(disk, self.config.clone(), self.unix_ms(net), entropy)?;
        core.set_syncer(Box::new(SlowSyncer::new(net.random.next())));
        if opened.replay > 0 {
            net.faults.note(Fault::IntakeReplayed);
        }
        net.note(|| format!("site {} starts: {opened:?}", self.number + 1));
        self.shared = Shared { own: core.own_streams(), ..Shared::default() };
        self.core = Some(core);
        self.round(net)
    }

    /// Changes the rules, now and for later starts.
    pub(crate) fn set_rules(&mut self, net: &mut Net, rules: Arc<RuleSet>) -> Result<(), CoreError> {
        net.faults.note(Fault::RulesChanged);
        net.note(|| format!("site {} changes its rules", self.number + 1));
        self.config.rules = Arc::clone(&rules);
        let unix_ms = self.unix_ms(net);
        match &mut self.core {
            Some(core) => core.set_rules(rules, unix_ms),
            None => Ok(()),
        }
    }

    /// What the engine does last when it stops in order.
    pub(crate) fn stop(&mut self, net: &Net) -> Result<(), String> {
        let unix_ms = self.unix_ms(net);
        let Some(core) = &mut self.core else { return Ok(()) };
        match core.checkpoint(unix_ms) {
            Err(error) if error.is_full() => Ok(()),
            result => result.map_err(|error| format!("{error:?}")),
        }
    }

    /// Gives every device so many more events.
    pub(crate) fn prolong(&mut self, events: u64) {
        self.devices.iter_mut().for_each(|device| device.prolong(events));
    }

    /// The process is gone.
    pub(crate) fn end(&mut self) {
        self.core = None;
        self.is_ready = false;
        self.uplink = None;
        self.inbox.clear();
        self.flights = Flights::default();
        self.told.clear();
    }

    /// Something of a device arrived.
    pub(crate) fn publish(&mut self, device: usize, number: u64, connection: u64) {
        if !self.is_ready || connection < self.connections[device] {
            return;
        }
        // A new connection of a client ends the old one.
        self.connections[device] = connection;
        if let Some(flight) = self.devices[device].flight.as_ref().filter(|flight| flight.number == number) {
            let done = Done { device, number: flight.number, connection, events: flight.events.clone() };
            self.inbox.push((flight.ops.as_ref().clone(), done));
        }
    }

    /// One round of the engine, then the uplink.
    pub(crate) fn round(&mut self, net: &mut Net) -> Result<(), CoreError> {
        let unix_ms = self.unix_ms(net);
        let Some(core) = &mut self.core else { return Ok(()) };
        for told in self.told.drain(..) {
            match told {
                Told::Acked { lane, upto } => core.acknowledged(lane, upto)?,
                Told::ParentAhead(streams) => {
                    if core.parent_is_ahead(&streams, unix_ms)? {
                        net.faults.note(Fault::NewLife);
                        self.shared.own = core.own_streams();
                        if let Some(uplink) = &mut self.uplink {
                            uplink.wake();
                        }
                    }
                }
            }
        }
        if !self.is_ready {
            self.is_ready = core.replay(REPLAY_STEP, unix_ms)?;
            if !self.is_ready {
                return Ok(());
            }
            self.shared.own = core.own_streams();
        }
        let mut rounds = Rounds { unix_ms, answers: Vec::new() };
        let result = core.round(self.inbox.drain(..), &mut self.flights, &mut rounds);
        let answers = rounds.answers;
        for (done, answer) in answers {
            match answer {
                Ok(()) => self.promised.extend(done.events),
                Err(_) => {
                    net.faults.note(Fault::Backpressure);
                    continue;
                }
            }
            if net.random.percent(4) {
                net.faults.note(Fault::AnswerLost);
                continue;
            }
            let Done { device, number, connection, .. } = done;
            let delay = net.random.between(1..=8);
            net.after(delay, Event::Answered { site: self.number, device, number, connection });
        }
        let has_new = result?;
        let _ = core.take_derived();
        if net.now >= self.shared.at + STATUS_INTERVAL_MS {
            self.shared.status = core.uplink_status(unix_ms);
            self.shared.at = net.now;
        }
        if self.uplink.is_none() {
            let start = Lane::ALL.map(|lane| core.queue().lane(lane).acked);
            let config = SenderConfig { seed: net.random.next(), ..self.uplink_config.clone() };
            self.uplink = Some(Uplink::new(config, start, self.place, self.boot, net.now));
        }
        if let Some(uplink) = self.uplink.as_mut().filter(|_| has_new) {
            uplink.wake();
        }
        Ok(())
    }

    /// Time passed for the uplink.
    pub(crate) fn tick_uplink(&mut self, net: &mut Net) {
        if let Some(uplink) = &mut self.uplink {
            uplink.tick(net);
        }
    }

    /// Lets the uplink write and act. Returns true when the core was told something.
    pub(crate) fn run_uplink(&mut self, net: &mut Net, find: &dyn Fn(&str) -> Option<Place>) -> bool {
        let unix_ms = self.unix_ms(net);
        let (Some(core), Some(uplink)) = (&self.core, &mut self.uplink) else { return false };
        let mut outbox = SiteOutbox { reader: core.uplink(), shared: &self.shared, unix_ms };
        for action in uplink.run(net, &mut outbox, find) {
            match action {
                Action::Acked { lane, upto } => self.told.push(Told::Acked { lane, upto }),
                Action::PeerAhead { streams } => self.told.push(Told::ParentAhead(streams)),
                Action::Rejected { code, message } => {
                    net.note(|| format!("site {}: rejected {code}: {message}", self.number + 1));
                }
                Action::Unsendable { .. } | Action::OutboxFailed { .. } => {
                    net.note(|| format!("site {}: {action:?}", self.number + 1));
                }
                _ => {}
            }
        }
        !self.told.is_empty()
    }

    pub(crate) fn dialed(&mut self, net: &mut Net, conn: u64, stands: bool) {
        if let Some(uplink) = &mut self.uplink {
            uplink.dialed(net, conn, stands);
        }
    }

    pub(crate) fn arrived(&mut self, net: &mut Net, conn: u64, arrival: Arrival) {
        if let Some(uplink) = &mut self.uplink {
            uplink.arrived(net, conn, arrival);
        }
    }

    /// True when nothing waits here: devices are done, the outbox and the windows are empty.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let Some(core) = &self.core else { return Some(format!("site {} is down", self.number + 1)) };
        let who = self.number + 1;
        if !self.is_ready {
            return Some(format!("site {who} is recovering"));
        }
        if !self.flights.is_empty() {
            return Some(format!("site {who}: the disk is slow"));
        }
        if let Some(device) = self.devices.iter().find(|device| !device.is_done()) {
            return Some(format!("site {who}: {} is not done: {:?}", device.name, device.flight));
        }
        if let Some(end) = core.tick_due_ms() {
            return Some(format!("site {who}: a window is open until {end}"));
        }
        let pending: u64 = core.ledger().iter().map(|row| row.tally.pending).sum();
        let blocks: u64 = Lane::ALL.iter().map(|lane| core.queue().lane(*lane).pending.blocks).sum();
        let open = Lane::ALL.iter().any(|lane| core.queue().lane(*lane).end_seq < core.next_seqs()[lane.index()]);
        if pending > 0 || blocks > 0 || open {
            let link = self.uplink.as_ref().map(Uplink::describe);
            return Some(format!("site {who}: {pending} events in {blocks} blocks wait for the hub; {link:?}"));
        }
        None
    }

    /// True when all devices are done.
    pub(crate) fn devices_done(&self) -> bool {
        self.devices.iter().all(Device::is_done)
    }
}
