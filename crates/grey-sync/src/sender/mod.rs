//! The sending side of the uplink: dials, greets, keeps blocks in flight, and
//! says what is acknowledged.
//!
//! ```text
//!            dial               connected            welcome
//!  waiting ---------> dialling -----------> greeting ---------> live
//!     ^                  |                     |                  |
//!     +------ wait ------+------- wait --------+------ wait ------+
//!                         (a redirect dials again without waiting)
//! ```
//!
//! The owner calls the `on_` functions with what happened, then takes every
//! [`Action`] and, while connected, every frame. It must call
//! [`Sender::on_tick`] no later than [`Sender::next_timeout`] says.

mod config;
mod drain;
mod gate;
mod lanes;
mod route;
mod share;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use grey_link::{Backoff, BudgetUsage, Health, Link, LinkState, Transition};
use grey_model::{Lane, RangeSet, Seq, StreamKey};

pub use config::{SenderConfig, SenderConfigError};
pub use drain::{DrainState, StallReason};
pub use status::{SenderStats, SessionStatus, UplinkStatus};

use crate::frame::{
    Ack, Frame, Goodbye, Heartbeat, Hello, Redirect, Reject, RejectCode, Role, Status, Welcome, by_lane, text,
};
use crate::limits::{CONTROL_QUEUE_MAX, PREFIX_BYTES, PROTOCOL_MAX, PROTOCOL_MIN, SITES_MAX};
use crate::outbox::{Outbox, OwnStreams};
use drain::Watchdog;
use gate::Gate;
use lanes::{Lanes, Next, Room, Track, Trouble};
use route::Route;

/// What the owner of a [`Sender`] has to do or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to an address, then call [`Sender::on_connected`] or [`Sender::on_disconnected`].
    Dial {
        /// `host:port`.
        address: String,
        /// Failed attempts since the last stable session.
        attempt: u32,
    },
    /// Close the connection, or give up making it. No further call about it is needed.
    Close {
        /// Why.
        reason: String,
    },
    /// A session is established.
    Established {
        /// The address that was dialled.
        address: String,
        /// The peer's node id in its group.
        node: u64,
        /// The term that it leads.
        term: u64,
    },
    /// Every position of the lane below `upto` is durable at the tier above. Cumulative.
    Acked {
        /// The lane.
        lane: Lane,
        /// The first position that is not.
        upto: u64,
    },
    /// What the peer has accepted of a stream, as its welcome said.
    Covered {
        /// The stream.
        key: StreamKey,
        /// The sequences.
        coverage: RangeSet,
    },
    /// The peer has sequences of this life that this process cannot have sent:
    /// the state here was restored from an older copy, and the peer would take
    /// events that were given since for those. The owner starts a new epoch;
    /// until its [`OwnStreams`] say so, every session ends here.
    PeerAhead {
        /// Each such stream, with the end of what the peer has of it.
        streams: Vec<(StreamKey, Seq)>,
    },
    /// A block that no receiver would take. Its lane waits, and asks again
    /// every [`SenderConfig::outbox_retry_ms`], until the outbox no longer offers it.
    Unsendable {
        /// The lane.
        lane: Lane,
        /// The block's position.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The outbox could not be read. Its lane waits and asks again.
    OutboxFailed {
        /// The lane.
        lane: Lane,
        /// The outbox's error.
        reason: String,
    },
    /// The peer refused this sender. It tries again elsewhere, but a person should look.
    Rejected {
        /// What kind of error.
        code: RejectCode,
        /// What exactly.
        message: String,
    },
    /// The link changed state.
    Link(Transition),
    /// Nothing drains, for another reason than before, or it drains again.
    Drain(DrainState),
}

#[derive(Debug)]
enum Phase {
    Waiting { until: u64 },
    Dialing { until: u64 },
    Greeting { until: u64, own: Option<OwnStreams> },
    Live(Live),
    Stopped,
}

#[derive(Debug)]
struct Live {
    since: u64,
    node: u64,
    term: u64,
    protocol: u16,
    window_bytes: u64,
    coverage: BTreeMap<StreamKey, RangeSet>,
    heard_ms: u64,
    progress_ms: u64,
    next_heartbeat_ms: u64,
    next_sites_ms: u64,
    rtt_ms: Option<u64>,
}

/// The sending side of one uplink. See the module's text.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    backoff: Backoff,
    link: Link,
    route: Route,
    lanes: Lanes,
    gate: Gate,
    watchdog: Watchdog,
    /// What the tier above refused last, until it welcomes.
    rejected: Option<String>,
    /// By lane why the outbox cannot be sent.
    troubles: [Option<String>; 3],
    phase: Phase,
    control: VecDeque<Frame>,
    actions: VecDeque<Action>,
    /// Per lane the position that the owner was told last.
    told_upto: [u64; 3],
    /// The life that own blocks were last sent of, and by lane the end of what was sent.
    sent: OwnStreams,
    /// As the outbox said at the last hello or heartbeat.
    backlog_age_ms: u64,
    /// When this was called last.
    ticked_ms: u64,
    /// More can be done without waiting for anything.
    is_busy: bool,
    last_failure: Option<String>,
    last_ack_ms: Option<u64>,
    stats: SenderStats,
}

impl Sender {
    /// Starts disconnected at `now` (monotonic milliseconds). `start` is, per
    /// lane, the first position that is not acknowledged.
    pub fn new(config: SenderConfig, start: [u64; 3], now: u64) -> Result<Self, SenderConfigError> {
        config.check()?;
        Ok(Self {
            backoff: Backoff::new(config.backoff, config.seed),
            link: Link::new(config.link, now),
            route: Route::new(config.addresses.clone(), config.redirect_hops_max),
            lanes: Lanes::new(start, config.normal_weight, config.bulk_weight, config.live_share_percent),
            gate: Gate::new(&config)?,
            watchdog: Watchdog::new(config.stall_after_ms),
            rejected: None,
            troubles: [const { None }; 3],
            phase: Phase::Waiting { until: now },
            control: VecDeque::new(),
            actions: VecDeque::new(),
            told_upto: start,
            sent: OwnStreams::default(),
            backlog_age_ms: 0,
            ticked_ms: now,
            is_busy: false,
            last_failure: None,
            last_ack_ms: None,
            stats: SenderStats::default(),
            config,
        })
    }

    /// The connection that [`Action::Dial`] asked for stands.
    pub fn on_connected(&mut self, now: u64) {
        if matches!(self.phase, Phase::Dialing { .. }) {
            self.phase = Phase::Greeting { until: now.saturating_add(self.config.greeting_timeout_ms), own: None };
        }
    }

    /// The connection could not be made, or broke.
    pub fn on_disconnected(&mut self, now: u64, reason: &str) {
        if matches!(self.phase, Phase::Dialing { .. } | Phase::Greeting { .. } | Phase::Live(_)) {
            let reason = format!("{}: {reason}", self.route.current());
            if self.end_session(now) {
                self.route.prefer_current();
            }
            self.wait(now, reason);
        }
    }

    /// A frame arrived. Bytes that are no frame: close the connection and call
    /// [`Sender::on_disconnected`] with the error.
    pub fn on_frame(&mut self, now: u64, frame: Frame) {
        self.stats.bytes_in += frame.wire_len() as u64;
        self.gate.spend(now, frame.wire_len() as u64);
        if let Phase::Live(live) = &mut self.phase {
            live.heard_ms = now;
        }
        match (frame, &mut self.phase) {
            (Frame::Welcome(welcome), Phase::Greeting { own: Some(own), until }) => {
                let (own, since) = (*own, until.saturating_sub(self.config.greeting_timeout_ms));
                self.lanes.on_welcome(now.saturating_sub(since));
                self.on_welcome(now, own, welcome);
            }
            (Frame::Ack(ack), Phase::Live(_)) => self.on_ack(now, &ack),
            (Frame::HeartbeatAck(answer), Phase::Live(live)) => {
                if let Some(rtt) = now.checked_sub(answer.echo) {
                    // As TCP smooths it (RFC 6298): an eighth of each new sample.
                    live.rtt_ms = Some(live.rtt_ms.map_or(rtt, |old| (old.saturating_mul(7) + rtt) / 8));
                }
            }
            (Frame::Redirect(redirect), Phase::Greeting { .. } | Phase::Live(_)) => self.on_redirect(now, redirect),
            (Frame::Reject(Reject { code, message }), Phase::Greeting { .. } | Phase::Live(_)) => {
                self.stats.rejects += 1;
                let reason = format!("rejected ({code}): {message}");
                self.rejected = Some(format!("{code}: {message}"));
                self.actions.push_back(Action::Rejected { code, message });
                self.close(now, reason);
            }
            (Frame::Goodbye(goodbye), Phase::Greeting { .. } | Phase::Live(_)) => {
                let was_stable = self.close(now, format!("the peer said goodbye: {}", goodbye.reason));
                if was_stable {
                    self.route.prefer_current();
                }
            }
            (frame, Phase::Greeting { .. } | Phase::Live(_)) => {
                self.close(now, format!("the peer sent a {} frame out of place", frame.name()));
            }
            // Left over from a connection that is closed already.
            (_, Phase::Waiting { .. } | Phase::Dialing { .. } | Phase::Stopped) => {}
        }
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: u64) {
        match &self.phase {
            Phase::Waiting { until } if now >= *until => self.dial(now),
            Phase::Dialing { until } if now >= *until => {
                let limit = self.config.connect_timeout_ms;
                self.close(now, format!("no connection within {limit} ms"));
            }
            Phase::Greeting { until, .. } if now >= *until => {
                let limit = self.config.greeting_timeout_ms;
                self.close(now, format!("no welcome within {limit} ms"));
            }
            Phase::Live(live) if now >= self.silence_deadline(live) => {
                let silent_ms = now - live.heard_ms;
                self.close(now, format!("the peer was silent for {silent_ms} ms"));
            }
            Phase::Live(live) if self.ack_deadline(live).is_some_and(|deadline| now >= deadline) => {
                let blocks = self.lanes.in_flight_blocks();
                self.close(now, format!("the peer stopped acknowledging with {blocks} blocks in flight"));
            }
            Phase::Live(_) => self.measure(now),
            Phase::Waiting { .. } | Phase::Dialing { .. } | Phase::Greeting { .. } | Phase::Stopped => {}
        }
        let change = self.link.on_tick(now);
        self.tell(change);
        self.watch(now);
    }

    /// The wall clock, which budgets and schedules follow: call it before the
    /// others, as often as it may have changed. Until then Unix time 0 is when
    /// monotonic time is 0.
    pub fn on_clock(&mut self, now: u64, unix_ms: i64) {
        self.gate.on_clock(now, unix_ms);
    }

    /// Looks at what waits while there is no connection, so that a stall is
    /// noticed; while there is one, heartbeats do. Twice a minute is enough.
    pub fn observe(&mut self, now: u64, outbox: &mut dyn Outbox) {
        let status = outbox.status();
        self.note_status(now, &status);
        self.watch(now);
    }

    /// What of the budget is used. The owner saves it now and then and at the
    /// end, and gives it to [`SenderConfig::budget_usage`] of the next process.
    pub fn usage(&self) -> BudgetUsage {
        self.gate.usage()
    }

    /// The outbox may have new blocks.
    pub fn wake(&mut self) {
        self.lanes.wake();
    }

    /// Ends for good: a standing session gets a goodbye, which [`Sender::poll_transmit`] still gives.
    pub fn stop(&mut self, now: u64, reason: &str) {
        if self.is_connected() {
            self.end_session(now);
            self.control.push_back(Frame::Goodbye(Goodbye { reason: text(reason) }));
            self.actions.push_back(Action::Close { reason: reason.to_owned() });
        }
        self.phase = Phase::Stopped;
    }

    /// When [`Sender::on_tick`] and [`Sender::poll_transmit`] must be called
    /// next at the latest, in monotonic milliseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        let transmit = match &self.phase {
            _ if self.is_busy => Some(0),
            Phase::Live(live) => {
                let sites = (self.config.role == Role::Hub).then_some(live.next_sites_ms);
                let gate = self.gate.next_change(self.ticked_ms);
                [Some(live.next_heartbeat_ms), sites, self.lanes.parked_until(), gate].into_iter().flatten().min()
            }
            _ => None,
        };
        transmit.into_iter().chain(self.next_deadline()).min()
    }

    /// When [`Sender::on_tick`] must be called next at the latest while the
    /// socket takes no more bytes, in monotonic milliseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        let phase = match &self.phase {
            Phase::Waiting { until } | Phase::Dialing { until } | Phase::Greeting { until, .. } => Some(*until),
            Phase::Live(live) => {
                [Some(self.silence_deadline(live)), self.ack_deadline(live)].into_iter().flatten().min()
            }
            Phase::Stopped => return None,
        };
        phase.into_iter().chain(self.link.next_timeout()).chain(self.watchdog.stall_at()).min()
    }

    /// The next frame to write. Call until `None`, as often as the socket takes
    /// more; each block is read from the outbox only then.
    pub fn poll_transmit(&mut self, now: u64, outbox: &mut dyn Outbox) -> Option<Frame> {
        let frame = self.next_frame(now, outbox)?;
        let bytes = frame.wire_len() as u64;
        self.stats.bytes_out += bytes;
        if !matches!(frame, Frame::Block(_)) {
            self.gate.spend(now, bytes);
        }
        Some(frame)
    }

    /// The next thing to do. Call until `None` after every other call.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        for (lane, told) in by_lane(self.told_upto) {
            let upto = self.lanes.acked_upto(lane);
            if upto > told {
                self.told_upto[lane.index()] = upto;
                return Some(Action::Acked { lane, upto });
            }
        }
        None
    }

    /// How the link does.
    pub fn state(&self) -> LinkState {
        self.link.state()
    }

    /// True while this side wants the connection that it was told of: frames
    /// and ends of any other are not to be passed on.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Live(_))
    }

    /// True while a session stands.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    /// Everything that a status page says.
    pub fn status(&self) -> UplinkStatus {
        let session = match &self.phase {
            Phase::Live(live) => Some(SessionStatus {
                address: self.route.current().to_owned(),
                node: live.node,
                term: live.term,
                protocol: live.protocol,
                since_ms: live.since,
                rtt_ms: live.rtt_ms,
                window_bytes: live.window_bytes,
                in_flight_max_bytes: self.lanes.rate().in_flight_max(),
                goodput_bytes_per_s: self.lanes.rate().goodput_bytes_per_s(),
                has_backlog: self.lanes.has_backlog(),
                in_flight_bytes: self.lanes.in_flight_bytes(),
                in_flight_blocks: self.lanes.in_flight_blocks(),
            }),
            _ => None,
        };
        let next_dial_ms = match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        };
        UplinkStatus {
            state: self.link.state(),
            since_ms: self.link.since_ms(),
            session,
            attempt: self.backoff.attempt(),
            next_dial_ms,
            last_failure: self.last_failure.clone(),
            last_ack_ms: self.last_ack_ms,
            drain: self.watchdog.state(self.ticked_ms, || self.stall_reason(self.ticked_ms)),
            budget_usage: self.gate.usage(),
            stats: self.stats,
        }
    }

    fn dial(&mut self, now: u64) {
        let address = self.route.next().to_owned();
        self.actions.push_back(Action::Dial { address, attempt: self.backoff.attempt() });
        self.phase = Phase::Dialing { until: now.saturating_add(self.config.connect_timeout_ms) };
    }

    fn on_welcome(&mut self, now: u64, own: OwnStreams, welcome: Welcome) {
        let Welcome { protocol, node, term, coverage, window_bytes } = welcome;
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&protocol) {
            let reason = format!("the peer chose protocol {protocol}, offered were {PROTOCOL_MIN} to {PROTOCOL_MAX}");
            self.close(now, reason);
            return;
        }
        let coverage: BTreeMap<StreamKey, RangeSet> =
            coverage.into_iter().map(|(key, ranges)| (key, ranges.into_iter().collect())).collect();
        let is_own = |key: &StreamKey| key.site == self.config.site && key.epoch == own.epoch;
        let ahead: Vec<(StreamKey, Seq)> = coverage
            .iter()
            .filter(|(key, set)| is_own(key) && set.end() > self.peer_knows_to(&own, key.lane))
            .map(|(key, set)| (key.clone(), set.end()))
            .collect();
        if let Some((key, covered_to)) = ahead.first() {
            let reason = format!("the peer has {key} up to {covered_to}, which this side never gave");
            self.actions.push_back(Action::PeerAhead { streams: ahead });
            self.close(now, reason);
            return;
        }
        self.stats.sessions += 1;
        self.rejected = None;
        let address = self.route.current().to_owned();
        self.actions.push_back(Action::Established { address, node, term });
        let covered = coverage.iter().map(|(key, set)| Action::Covered { key: key.clone(), coverage: set.clone() });
        self.actions.extend(covered);
        self.phase = Phase::Live(Live {
            since: now,
            node,
            term,
            protocol,
            window_bytes: window_bytes.min(self.config.window_bytes_max),
            coverage,
            heard_ms: now,
            progress_ms: now,
            next_heartbeat_ms: now,
            next_sites_ms: now,
            rtt_ms: None,
        });
        let health = self.health(now);
        let change = self.link.on_connected(now, health);
        self.tell(change);
    }

    /// Sequences of the current life below this may be known to a peer: given before this
    /// process began, or sent by it.
    fn peer_knows_to(&self, own: &OwnStreams, lane: Lane) -> Seq {
        let sent = if self.sent.epoch == own.epoch { self.sent.next_seqs[lane.index()] } else { 0 };
        own.next_seqs[lane.index()].max(sent)
    }

    fn note_sent(&mut self, key: &StreamKey, end: Seq) {
        if key.site != self.config.site || key.epoch < self.sent.epoch {
            return;
        }
        if key.epoch > self.sent.epoch {
            self.sent = OwnStreams { epoch: key.epoch, ..OwnStreams::default() };
        }
        let sent = &mut self.sent.next_seqs[key.lane.index()];
        *sent = end.max(*sent);
    }

    fn on_ack(&mut self, now: u64, ack: &Ack) {
        let completed = self.lanes.ack(now, &ack.key, &ack.ranges);
        self.stats.blocks_acked += completed.blocks;
        self.stats.events_acked += completed.events;
        if let Phase::Live(live) = &mut self.phase {
            live.window_bytes = ack.window_bytes.min(self.config.window_bytes_max);
            if completed.blocks > 0 {
                live.progress_ms = now;
                self.last_ack_ms = Some(now);
                self.watchdog.on_acked(now, completed.bytes);
                self.watch(now);
                self.route.on_progress();
                self.measure(now);
            }
        }
    }

    fn on_redirect(&mut self, now: u64, redirect: Redirect) {
        self.stats.redirects += 1;
        let Redirect { address, reason } = redirect;
        let whereto = address.as_deref().unwrap_or("nowhere yet");
        let reason = format!("redirected to {whereto}: {reason}");
        self.end_session(now);
        if self.route.redirect(address.as_deref()) {
            self.last_failure = Some(reason.clone());
            self.actions.push_back(Action::Close { reason });
            self.dial(now);
        } else {
            self.close(now, reason);
        }
    }

    /// Ends the connection from this side and waits before the next. True when it was stable.
    fn close(&mut self, now: u64, reason: String) -> bool {
        let was_stable = self.end_session(now);
        self.actions.push_back(Action::Close { reason: reason.clone() });
        self.wait(now, format!("{}: {reason}", self.route.current()));
        was_stable
    }

    /// Forgets what belongs to the connection. True when it was a stable session.
    fn end_session(&mut self, now: u64) -> bool {
        self.control.clear();
        self.is_busy = false;
        self.lanes.on_disconnected();
        self.gate.forget_refusal();
        self.troubles = [const { None }; 3];
        let Phase::Live(live) = &self.phase else {
            return false;
        };
        let is_stable = self.backoff.on_session_end(now.saturating_sub(live.since));
        if is_stable {
            self.route.on_progress();
        }
        // A second end of the same session, as a close after a redirect, must not count again.
        self.phase = Phase::Waiting { until: now };
        is_stable
    }

    fn wait(&mut self, now: u64, reason: String) {
        self.stats.failures += 1;
        self.last_failure = Some(reason);
        self.route.on_wait();
        let change = self.link.on_failure(now);
        self.tell(change);
        self.phase = Phase::Waiting { until: now.saturating_add(self.backoff.next_delay_ms()) };
    }

    fn tell(&mut self, change: Option<Transition>) {
        self.actions.extend(change.map(Action::Link));
    }

    fn health(&self, now: u64) -> Health {
        let ack_delay_ms = self.lanes.oldest_sent_ms().map_or(0, |sent| now.saturating_sub(sent));
        let backlog_age_ms = if self.lanes.is_drained() { 0 } else { self.backlog_age_ms };
        Health { backlog_age_ms, ack_delay_ms }
    }

    fn measure(&mut self, now: u64) {
        let health = self.health(now);
        let change = self.link.on_health(now, health);
        self.tell(change);
    }

    /// How much waits, as the outbox says.
    fn note_status(&mut self, now: u64, status: &Status) {
        self.ticked_ms = now;
        self.backlog_age_ms = status.oldest_pending_age_ms;
        let pending = status.pending.iter().map(|lane| lane.bytes).fold(0, u64::saturating_add);
        self.watchdog.on_pending(now, pending.max(self.lanes.in_flight_bytes()));
    }

    /// Tells the owner when nothing drains, and when it does again.
    fn watch(&mut self, now: u64) {
        self.ticked_ms = now;
        let state = self.watchdog.state(now, || self.stall_reason(now));
        let news = self.watchdog.news(now, state);
        self.actions.extend(news.map(Action::Drain));
    }

    fn stall_reason(&self, now: u64) -> StallReason {
        let Phase::Live(live) = &self.phase else {
            return match &self.rejected {
                Some(what) => StallReason::Rejected(what.clone()),
                None => StallReason::Offline(self.last_failure.clone().unwrap_or_default()),
            };
        };
        if let Some(why) = self.troubles.iter().flatten().next() {
            return StallReason::OutboxUnreadable(why.clone());
        }
        if self.lanes.in_flight_blocks() > 0 {
            let is_closed = self.lanes.in_flight_bytes() >= live.window_bytes;
            return if is_closed { StallReason::WindowClosed } else { StallReason::NotAcknowledged };
        }
        if let Some(wait) = self.gate.refused() {
            return StallReason::BudgetSpent { limit: wait.limit, until_unix_ms: wait.until_ms };
        }
        match self.gate.next_open_unix_ms(now) {
            Some(until_unix_ms) => StallReason::OutsideSchedule { until_unix_ms },
            None => StallReason::OutboxUnreadable("it says that bytes wait and gives no block".into()),
        }
    }

    fn silence_deadline(&self, live: &Live) -> u64 {
        let patience = self.config.patience_ms(self.lanes.in_flight_bytes());
        live.heard_ms.saturating_add(self.config.heartbeat_timeout_ms).saturating_add(patience)
    }

    /// The peer must acknowledge something in time, and each block within four times that.
    fn ack_deadline(&self, live: &Live) -> Option<u64> {
        let oldest_sent = self.lanes.oldest_sent_ms()?;
        let limit = self.config.ack_timeout_ms.saturating_add(self.config.patience_ms(self.lanes.in_flight_bytes()));
        Some(
            live.progress_ms
                .max(oldest_sent)
                .saturating_add(limit)
                .min(oldest_sent.saturating_add(limit.saturating_mul(4))),
        )
    }

    fn next_frame(&mut self, now: u64, outbox: &mut dyn Outbox) -> Option<Frame> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        match &mut self.phase {
            Phase::Greeting { own: own @ None, .. } => {
                let streams = outbox.own_streams();
                *own = Some(streams);
                // What is not there yet is live data of the session that now begins.
                self.lanes.on_connected(Lane::ALL.map(|lane| outbox.end(lane)));
                let status = outbox.status();
                self.note_status(now, &status);
                Some(Frame::Hello(Hello {
                    protocol_min: PROTOCOL_MIN,
                    protocol_max: PROTOCOL_MAX,
                    role: self.config.role,
                    sender: self.config.site.clone(),
                    epoch: streams.epoch,
                    next_seqs: streams.next_seqs,
                    agent: text(self.config.agent.clone()),
                }))
            }
            Phase::Live(live) if now >= live.next_heartbeat_ms => {
                live.next_heartbeat_ms = now.saturating_add(self.config.heartbeat_interval_ms);
                let status = outbox.status();
                self.note_status(now, &status);
                self.measure(now);
                self.watch(now);
                Some(Frame::Heartbeat(Heartbeat { echo: now, status }))
            }
            Phase::Live(live) if self.config.role == Role::Hub && now >= live.next_sites_ms => {
                live.next_sites_ms = now.saturating_add(self.config.sites_interval_ms);
                let sites = outbox.sites();
                let pages = sites.chunks(SITES_MAX).take(CONTROL_QUEUE_MAX).map(|page| Frame::Sites(page.to_vec()));
                self.control.extend(pages);
                self.control.pop_front().or_else(|| self.next_block(now, outbox))
            }
            Phase::Live(_) => self.next_block(now, outbox),
            _ => None,
        }
    }

    fn next_block(&mut self, now: u64, outbox: &mut dyn Outbox) -> Option<Frame> {
        let Phase::Live(live) = &self.phase else {
            return None;
        };
        self.is_busy = false;
        self.ticked_ms = now;
        let open = self.gate.open(now);
        for lane in Lane::ALL.into_iter().filter(|lane| open[lane.index()]) {
            for track in Track::ALL {
                match self.lanes.fill(lane, track, now, outbox, &live.coverage, &mut self.stats.blocks_covered) {
                    Ok(more) => {
                        self.is_busy |= more;
                        if !self.lanes.is_parked(lane) {
                            self.troubles[lane.index()] = None;
                        }
                    }
                    Err(trouble) => {
                        self.lanes.park(lane, now.saturating_add(self.config.outbox_retry_ms));
                        let (reason, action) = match trouble {
                            Trouble::Read(reason) => (reason.clone(), Action::OutboxFailed { lane, reason }),
                            Trouble::Unsendable { position, reason } => {
                                (reason.clone(), Action::Unsendable { lane, position, reason })
                            }
                        };
                        self.troubles[lane.index()] = Some(reason);
                        self.actions.push_back(action);
                    }
                }
            }
        }
        let room = Room {
            window_bytes: live.window_bytes,
            fill_bytes: self.lanes.rate().in_flight_max(),
            blocks_max: self.config.blocks_max(),
        };
        let choice = match self.lanes.next(open, room) {
            Next::Block(choice) => choice,
            Next::Nothing | Next::Full => {
                self.gate.forget_refusal();
                return None;
            }
        };
        if !self.gate.take(now, choice.lane, choice.bytes + PREFIX_BYTES as u64) {
            self.lanes.on_held_back();
            return None;
        }
        let head = self.lanes.send(now, open, choice)?;
        self.note_sent(&head.key, head.range.end);
        self.stats.blocks_out += 1;
        self.stats.events_out += u64::from(head.events);
        Some(Frame::Block(head.block))
    }
}
