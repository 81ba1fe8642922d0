//! A day's backlog and fresh data over one modelled link: a rate, a delay, a
//! kernel that keeps little unsent, and a receiver that takes time to make a
//! block durable. Time jumps from event to event, so that days pass in seconds.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use grey_link::{BudgetConfig, BudgetLimit, BudgetUsage, Schedule};
use grey_model::time::parse_rfc3339_ms;
use grey_model::{Lane, StreamKey};

use crate::frame::{Frame, Pending, Status};
use crate::outbox::{Outbox, OutboxError, OwnStreams};
use crate::receiver::{Outcome, Receiver, ReceiverAction, ReceiverConfig, Token};
use crate::sender::{Action, DrainState, Sender, SenderConfig, StallReason};
use crate::testing::{EPOCH, block, key, site};

/// Bytes that queue between the sender and the link: what a kernel keeps unsent.
const QUEUE_BYTES: u64 = 128 * 1024;
/// As much as a router that never drops, before which the kernel keeps nothing.
const BLOATED_QUEUE_BYTES: u64 = 64 << 20;
const DAY_MS: u64 = 86_400_000;

struct Item {
    payload: usize,
    born_ms: u64,
    acked: bool,
}

/// An outbox whose blocks are made when they are read: position and sequence are the same.
#[derive(Default)]
struct Mill {
    lanes: [Vec<Item>; 3],
    pending: [u64; 3],
    is_broken: bool,
}

impl Mill {
    fn push(&mut self, lane: Lane, payload: usize, born_ms: u64) {
        self.lanes[lane.index()].push(Item { payload, born_ms, acked: false });
        self.pending[lane.index()] += payload as u64;
    }
}

impl Outbox for Mill {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        if self.is_broken {
            return Err(OutboxError("the disk sulks".into()));
        }
        let item = self.lanes[lane.index()].get(from as usize);
        Ok(item.map(|item| (from, block(&key("s", lane), from..from + 1, item.payload))))
    }

    fn end(&mut self, lane: Lane) -> Option<u64> {
        Some(self.lanes[lane.index()].len() as u64)
    }

    fn own_streams(&mut self) -> OwnStreams {
        OwnStreams { epoch: EPOCH, next_seqs: Lane::ALL.map(|lane| self.lanes[lane.index()].len() as u64) }
    }

    fn status(&mut self) -> Status {
        Status { pending: self.pending.map(|bytes| Pending { events: 0, bytes }), ..Status::default() }
    }
}

/// What is produced while the simulation runs.
#[derive(Debug, Clone, Copy)]
struct Source {
    lane: Lane,
    payload: usize,
    every_ms: u64,
}

struct Drain {
    now: u64,
    sender: Sender,
    outbox: Mill,
    receiver: Receiver,
    window_bytes: u64,
    bytes_per_s: u64,
    delay_ms: u64,
    queue_bytes: u64,
    commit_ms: u64,
    /// When the link has carried what it was given, in microseconds.
    free_us: u64,
    up: VecDeque<(u64, Frame)>,
    down: VecDeque<(u64, Frame)>,
    commits: VecDeque<(u64, Token, StreamKey, Range<u64>)>,
    sources: Vec<(u64, Source)>,
    /// Positions from here on are produced during the run.
    boundary: [u64; 3],
    /// How long what was produced during the run took to be durable, by lane.
    latencies: [Vec<u64>; 3],
    carried_bytes: u64,
    drained: Vec<DrainState>,
    is_deaf: bool,
    unix_start_ms: i64,
    arrivals: BTreeMap<(Lane, u64), u64>,
}

impl Drain {
    fn new(config: SenderConfig, bytes_per_s: u64, delay_ms: u64) -> Self {
        Self {
            now: 0,
            sender: Sender::new(config, [0; 3], 0).unwrap(),
            outbox: Mill::default(),
            receiver: Receiver::new(ReceiverConfig::default(), 0),
            window_bytes: 8 << 20,
            bytes_per_s,
            delay_ms,
            queue_bytes: QUEUE_BYTES,
            commit_ms: 8,
            free_us: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            commits: VecDeque::new(),
            sources: Vec::new(),
            boundary: [0; 3],
            latencies: Default::default(),
            carried_bytes: 0,
            drained: Vec::new(),
            is_deaf: false,
            unix_start_ms: 0,
            arrivals: BTreeMap::new(),
        }
    }

    fn backlog(&mut self, lane: Lane, bytes: u64, payload: usize) {
        for _ in 0..bytes / payload as u64 {
            self.outbox.push(lane, payload, 0);
        }
        self.boundary[lane.index()] = self.outbox.lanes[lane.index()].len() as u64;
    }

    fn source(&mut self, lane: Lane, payload: usize, every_ms: u64) {
        self.sources.push((self.now + every_ms, Source { lane, payload, every_ms }));
    }

    fn backlog_left(&self) -> bool {
        let is_left = |lane: Lane| {
            self.outbox.lanes[lane.index()][..self.boundary[lane.index()] as usize]
                .last()
                .is_some_and(|last| !last.acked)
                || self.sender.status().session.is_none_or(|session| session.has_backlog)
        };
        Lane::ALL.into_iter().any(is_left)
    }

    fn pending_bytes(&self) -> u64 {
        self.outbox.pending.iter().sum()
    }

    fn settle(&mut self) {
        loop {
            let mut moved = false;
            self.sender.on_clock(self.now, self.unix_start_ms + self.now as i64);
            while let Some(action) = self.sender.poll_action() {
                moved = true;
                match action {
                    Action::Dial { .. } => {
                        self.receiver = Receiver::new(ReceiverConfig::default(), self.now);
                        self.sender.on_connected(self.now);
                    }
                    Action::Close { .. } => {
                        self.up.clear();
                        self.down.clear();
                        self.commits.clear();
                    }
                    Action::Drain(state) => self.drained.push(state),
                    Action::Rejected { .. } | Action::Unsendable { .. } | Action::PeerAhead { .. } => {
                        panic!("{action:?}")
                    }
                    _ => {}
                }
            }
            let unsent_us = self.queue_bytes * 1_000_000 / self.bytes_per_s;
            while self.free_us <= self.now * 1_000 + unsent_us
                && self.sender.is_connected()
                && let Some(frame) = self.sender.poll_transmit(self.now, &mut self.outbox)
            {
                moved = true;
                let bytes = frame.wire_len() as u64;
                self.free_us = self.free_us.max(self.now * 1_000) + bytes * 1_000_000 / self.bytes_per_s;
                self.up.push_back((self.free_us.div_ceil(1_000) + self.delay_ms, frame));
            }
            while let Some(action) = self.receiver.poll_action() {
                moved = true;
                match action {
                    ReceiverAction::Hello(_) => {
                        let coverage = Lane::ALL.map(|lane| {
                            let items = self.outbox.lanes[lane.index()].iter().enumerate();
                            let acked: grey_model::RangeSet =
                                items.filter(|(_, item)| item.acked).fold(Default::default(), |mut set, (n, _)| {
                                    set.insert(n as u64..n as u64 + 1);
                                    set
                                });
                            (key("s", lane), acked.iter().collect())
                        });
                        self.receiver.accept(coverage.to_vec(), self.window_bytes, 1);
                    }
                    ReceiverAction::Propose { token, header, .. } if !self.is_deaf => {
                        self.commits.push_back((self.now + self.commit_ms, token, header.key(), header.range()));
                    }
                    ReceiverAction::Close { reason } => panic!("{reason}"),
                    _ => {}
                }
            }
            while let Some(frame) = self.receiver.poll_transmit() {
                moved = true;
                self.down.push_back((self.now + self.delay_ms, frame));
            }
            if !moved {
                return;
            }
        }
    }

    /// Goes to the next event.
    fn step(&mut self, end_ms: u64) {
        self.settle();
        let kernel = self.sender.is_connected().then(|| {
            let unsent_us = self.queue_bytes * 1_000_000 / self.bytes_per_s;
            (self.free_us.saturating_sub(unsent_us)).div_ceil(1_000)
        });
        let times = [
            self.up.front().map(|(at, _)| *at),
            self.down.front().map(|(at, _)| *at),
            self.commits.front().map(|(at, ..)| *at),
            self.sources.iter().map(|(at, _)| *at).min(),
            self.sender.next_timeout(),
            self.receiver.next_timeout(),
            kernel.filter(|at| *at > self.now),
        ];
        self.now = times.into_iter().flatten().min().unwrap_or(end_ms).max(self.now + 1).min(end_ms);
        for index in 0..self.sources.len() {
            while self.sources[index].0 <= self.now {
                let (at, source) = self.sources[index];
                self.outbox.push(source.lane, source.payload, at);
                self.sources[index].0 = at + source.every_ms;
                self.sender.wake();
            }
        }
        while self.up.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, frame) = self.up.pop_front().unwrap();
            self.receiver.on_frame(self.now, 0, frame);
        }
        while self.commits.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, token, key, range) = self.commits.pop_front().unwrap();
            self.receiver.on_committed(token, Outcome::Committed);
            for seq in range {
                *self.arrivals.entry((key.lane, seq)).or_default() += 1;
                let item = &mut self.outbox.lanes[key.lane.index()][seq as usize];
                if std::mem::replace(&mut item.acked, true) {
                    continue;
                }
                self.outbox.pending[key.lane.index()] -= item.payload as u64;
                self.carried_bytes += item.payload as u64;
                if seq >= self.boundary[key.lane.index()] {
                    self.latencies[key.lane.index()].push(self.now - item.born_ms);
                }
            }
        }
        while self.down.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, frame) = self.down.pop_front().unwrap();
            self.sender.on_frame(self.now, frame);
        }
        self.sender.on_tick(self.now);
        self.receiver.on_tick(self.now);
    }

    fn run_until(&mut self, end_ms: u64) {
        while self.now < end_ms {
            self.step(end_ms);
        }
    }

    fn run_while(&mut self, mut goes_on: impl FnMut(&Self) -> bool) {
        let mut steps = 0_u64;
        while goes_on(self) {
            self.step(u64::MAX);
            steps += 1;
            assert!(steps < 20_000_000, "it never ends: {:?}", self.sender.status());
        }
    }

    fn p99_ms(&self, lane: Lane) -> u64 {
        let mut sorted = self.latencies[lane.index()].clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 99 / 100).or(sorted.last()).copied().unwrap_or(0)
    }

    fn assert_nothing_twice(&self) {
        let twice = self.arrivals.iter().find(|(_, count)| **count > 1);
        assert_eq!(twice, None);
    }
}

fn config() -> SenderConfig {
    SenderConfig::new(site("s"), vec!["a:1".into()])
}

/// Drains a day at 10 kB/s while as much comes in.
fn drain_a_day(bytes_per_s: u64, delay_ms: u64, queue_bytes: u64) {
    let mut drain = Drain::new(config(), bytes_per_s, delay_ms);
    drain.queue_bytes = queue_bytes;
    drain.backlog(Lane::Critical, 2_000_000, 2_000);
    drain.backlog(Lane::Normal, 260_000_000, 60_000);
    drain.backlog(Lane::Bulk, 600_000_000, 250_000);
    drain.source(Lane::Critical, 300, 1_000);
    drain.source(Lane::Normal, 750, 250);
    drain.source(Lane::Bulk, 3_400, 500);
    drain.run_while(|drain| drain.now < 1_000 || drain.backlog_left());
    let able = drain.carried_bytes * 1_000 / bytes_per_s;
    assert!(drain.now * 100 <= able * 110, "{} ms for what takes {able} ms", drain.now);
    for lane in Lane::ALL {
        let p99 = drain.p99_ms(lane);
        assert!(p99 < 2_000, "{lane}: {p99} ms");
    }
    assert_eq!(drain.drained, []);
    drain.assert_nothing_twice();
}

#[test]
fn a_day_drains_at_the_rate_of_a_radio_link_and_live_data_does_not_wait() {
    drain_a_day(1_250_000, 25, QUEUE_BYTES);
    drain_a_day(1_250_000, 25, BLOATED_QUEUE_BYTES);
}

#[test]
fn a_day_drains_at_the_rate_of_a_satellite_and_live_data_does_not_wait() {
    drain_a_day(6_250_000, 250, QUEUE_BYTES);
    drain_a_day(6_250_000, 250, BLOATED_QUEUE_BYTES);
}

/// Bytes carried of backlog and of live data, by lane, of 10 s.
fn shares(config: SenderConfig, live_bytes_per_s: usize) -> ([u64; 3], [u64; 3]) {
    let mut drain = Drain::new(config, 1_250_000, 25);
    drain.backlog(Lane::Normal, 20_000_000, 30_000);
    drain.backlog(Lane::Bulk, 20_000_000, 30_000);
    drain.source(Lane::Normal, live_bytes_per_s / 20, 100);
    drain.source(Lane::Bulk, live_bytes_per_s / 20, 100);
    drain.run_until(10_000);
    let sum = |lane: Lane, range: Range<usize>| {
        drain.outbox.lanes[lane.index()][range].iter().filter(|item| item.acked).map(|item| item.payload as u64).sum()
    };
    let split = |lane: Lane| drain.boundary[lane.index()] as usize;
    let backlog = Lane::ALL.map(|lane| sum(lane, 0..split(lane)));
    let live = Lane::ALL.map(|lane| sum(lane, split(lane)..drain.outbox.lanes[lane.index()].len()));
    (backlog, live)
}

#[test]
fn live_data_has_its_share_and_the_backlog_the_other_and_no_lane_starves() {
    let total = |lanes: [u64; 3]| lanes.iter().sum::<u64>();
    for percent in [20, 50, 80] {
        // Twice what the link carries.
        let config = SenderConfig { live_share_percent: percent, ..config() };
        let ([_, normal, bulk], live) = shares(config, 2_500_000);
        let all = normal + bulk + total(live);
        let of_live = total(live) * 100 / all;
        assert!(of_live.abs_diff(percent.into()) <= 5, "{of_live} % of {all}, wanted {percent}");
        for (normal, bulk) in [(normal, bulk), (live[1], live[2])] {
            let ratio = normal * 10 / bulk.max(1);
            assert!((30..=50).contains(&ratio), "{normal} to {bulk}");
        }
    }
    // What live data does not use goes to the backlog.
    let (backlog, live) = shares(config(), 100_000);
    assert!(total(live) > 900_000, "{live:?}");
    assert!(total(backlog) > 10_000_000, "{backlog:?}");
}

#[test]
fn a_session_that_breaks_while_both_drain_sends_nothing_twice() {
    let mut drain = Drain::new(config(), 1_250_000, 25);
    drain.backlog(Lane::Bulk, 30_000_000, 30_000);
    drain.source(Lane::Bulk, 3_000, 200);
    for _ in 0..8 {
        let until = drain.now + 3_000;
        drain.run_until(until);
        // What is on its way arrives or not; the receiver tells with the next welcome.
        drain.up.clear();
        drain.down.clear();
        drain.commits.clear();
        drain.sender.on_disconnected(drain.now, "cut");
        assert!(drain.sender.status().session.is_none());
    }
    drain.run_while(|drain| drain.backlog_left());
    drain.assert_nothing_twice();
    assert!(drain.outbox.lanes[2].iter().filter(|item| item.acked).count() > 1_000);
}

fn unix(text: &str) -> i64 {
    parse_rfc3339_ms(text).unwrap()
}

#[test]
fn a_budget_holds_over_days_and_billing_months_and_restarts() {
    const LIMIT: u64 = 30_000_000;
    const MONTH: u64 = 100_000_000;
    let budget = BudgetConfig {
        bytes_per_day: Some(LIMIT),
        bytes_per_month: Some(MONTH),
        billing_day: 3,
        ..BudgetConfig::UNLIMITED
    };
    let start = unix("2026-02-27T18:00:00Z");
    let mut usage = BudgetUsage::default();
    let mut carried = 0;
    let mut by_day = Vec::new();
    let mut outbox = Mill::default();
    for _ in 0..600_000_000 / 50_000 {
        outbox.push(Lane::Bulk, 50_000, 0);
    }
    let mut first = 0;
    // Each run is a process: it goes on where the one before ended.
    for day in 0..8 {
        let config = SenderConfig { budget, budget_usage: usage, ..config() };
        let mut drain = Drain::new(config, 2_000_000, 20);
        drain.sender =
            Sender::new(SenderConfig { budget, budget_usage: usage, ..self::config() }, [0, 0, first], 0).unwrap();
        drain.outbox = std::mem::take(&mut outbox);
        drain.unix_start_ms = if day == 0 { start } else { unix("2026-02-28T00:00:00Z") + (day - 1) * DAY_MS as i64 };
        drain.run_until(if day == 0 { DAY_MS / 4 - 1 } else { DAY_MS - 1 });
        let stats = drain.sender.status().stats;
        by_day.push(stats.bytes_out + stats.bytes_in);
        carried += stats.bytes_out + stats.bytes_in;
        usage = drain.sender.usage().to_string().parse().unwrap();
        first = drain.outbox.lanes[2].iter().position(|item| !item.acked).unwrap() as u64;
        outbox = drain.outbox;
        // Signs of life go on after the last block: that is all that there is beyond.
        assert!(carried <= LIMIT * (day as u64 + 1) + 1_000_000, "day {day}: {by_day:?}");
    }
    // Until the 3rd of March three days and some, then the month is used up on the fourth day of it.
    let before = by_day[..4].iter().sum::<u64>();
    assert!((MONTH * 95 / 100..=MONTH + 1_000_000).contains(&before), "{by_day:?}");
    assert!(by_day.iter().take(3).all(|bytes| *bytes + 1_500_000 >= LIMIT), "{by_day:?}");
    let after = by_day[4..].iter().sum::<u64>();
    assert!((MONTH * 95 / 100..=MONTH + 1_000_000).contains(&after), "{by_day:?}");
}

#[test]
fn a_rate_limit_is_kept_and_not_taken_for_the_links() {
    let budget = BudgetConfig { bytes_per_s: Some(100_000), ..BudgetConfig::UNLIMITED };
    let mut drain = Drain::new(SenderConfig { budget, ..config() }, 1_250_000, 25);
    drain.backlog(Lane::Bulk, 50_000_000, 20_000);
    drain.run_until(60_000);
    assert!((5_800_000..=6_200_000).contains(&drain.carried_bytes), "{}", drain.carried_bytes);
}

#[test]
fn a_lane_waits_for_its_window_and_critical_does_not() {
    let windows = vec!["22:00-06:00".parse().unwrap()];
    let schedule = Schedule::new([Some(windows.clone()), None, Some(windows)], 0).unwrap();
    let mut drain = Drain::new(SenderConfig { schedule, ..config() }, 1_250_000, 25);
    drain.unix_start_ms = unix("2026-03-02T20:00:00Z");
    for lane in Lane::ALL {
        drain.backlog(lane, 1_000_000, 10_000);
    }
    let acked = |drain: &Drain, lane: Lane| drain.outbox.lanes[lane.index()].iter().filter(|item| item.acked).count();
    drain.run_until(2 * 3_600_000 - 1_000);
    assert_eq!(Lane::ALL.map(|lane| acked(&drain, lane)), [100, 100, 0]);
    let reason = StallReason::OutsideSchedule { until_unix_ms: unix("2026-03-02T22:00:00Z") };
    assert!(
        matches!(&drain.drained[..], [DrainState::Stalled { reason: told, .. }] if *told == reason),
        "{:?}",
        drain.drained
    );
    drain.run_until(2 * 3_600_000 + 10_000);
    assert_eq!(acked(&drain, Lane::Bulk), 100);
    assert!(!matches!(drain.drained.last(), Some(DrainState::Stalled { .. })));
}

/// The reasons that the owner was told, in order.
fn reasons(drain: &Drain) -> Vec<&'static str> {
    let kind = |state: &DrainState| match state {
        DrainState::Stalled { reason, .. } => reason.as_str(),
        DrainState::Idle | DrainState::Draining { .. } => "over",
    };
    drain.drained.iter().map(kind).collect()
}

#[test]
fn the_watchdog_says_once_why_nothing_drains() {
    let mut drain = Drain::new(SenderConfig { ack_timeout_ms: 600_000, ..config() }, 1_250_000, 25);
    drain.backlog(Lane::Bulk, 5_000_000, 10_000);
    drain.is_deaf = true;
    drain.run_until(120_000);
    assert_eq!(reasons(&drain), ["not_acknowledged"]);
    let Some(DrainState::Stalled { since_ms, .. }) = drain.drained.first() else { panic!() };
    assert!(*since_ms < 1_000, "{since_ms}");
    drain.sender.on_disconnected(drain.now, "cut");
    drain.is_deaf = false;
    drain.run_until(140_000);
    assert_eq!(reasons(&drain), ["not_acknowledged", "over"]);
    assert_eq!(drain.pending_bytes(), 0);
    assert_eq!(drain.sender.status().drain, DrainState::Idle);

    // A window that is closed, an outbox that fails, a budget.
    let mut drain = Drain::new(SenderConfig { ack_timeout_ms: 600_000, ..config() }, 1_250_000, 25);
    drain.backlog(Lane::Bulk, 500_000, 10_000);
    (drain.is_deaf, drain.window_bytes) = (true, 5_000);
    drain.run_until(100_000);
    assert_eq!(reasons(&drain), ["window_closed"]);

    let mut drain = Drain::new(config(), 1_250_000, 25);
    drain.backlog(Lane::Bulk, 500_000, 10_000);
    drain.outbox.is_broken = true;
    drain.run_until(100_000);
    assert_eq!(reasons(&drain), ["outbox_unreadable"]);

    let budget = BudgetConfig { bytes_per_day: Some(200_000), ..BudgetConfig::UNLIMITED };
    let mut drain = Drain::new(SenderConfig { budget, ..config() }, 1_250_000, 25);
    drain.backlog(Lane::Bulk, 500_000, 10_000);
    drain.run_until(100_000);
    let Some(DrainState::Stalled { reason: StallReason::BudgetSpent { limit, until_unix_ms }, .. }) =
        drain.drained.first()
    else {
        panic!("{:?}", drain.drained)
    };
    assert_eq!((*limit, *until_unix_ms), (BudgetLimit::Day, DAY_MS as i64));
}

#[test]
fn a_stall_is_noticed_without_a_session() {
    let mut sender = Sender::new(config(), [0; 3], 0).unwrap();
    let mut outbox = Mill::default();
    outbox.push(Lane::Bulk, 1_000, 0);
    let mut told = Vec::new();
    for _ in 0..1_000 {
        let now = sender.next_timeout().unwrap();
        if now > 200_000 {
            break;
        }
        sender.on_tick(now);
        sender.observe(now, &mut outbox);
        while let Some(action) = sender.poll_action() {
            match action {
                Action::Dial { .. } => sender.on_disconnected(now, "connection refused"),
                Action::Drain(state) => told.push(state),
                _ => {}
            }
        }
    }
    assert!(
        matches!(&told[..], [DrainState::Stalled { reason: StallReason::Offline(why), .. }] if why.contains("refused")),
        "{told:?}"
    );
}
