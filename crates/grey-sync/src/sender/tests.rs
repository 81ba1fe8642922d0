//! The sender: sessions, redirects, acknowledgements and timeouts.

use super::*;
use crate::frame::{Goodbye, HeartbeatAck, Pending, SiteReport, Status};
use crate::testing::{EPOCH, Model, key, site};
use grey_link::Cause;
use grey_model::Epoch;
use std::ops::Range;

const WINDOW: u64 = 1 << 20;

fn config() -> SenderConfig {
    SenderConfig {
        agent: "test".into(),
        ..SenderConfig::new(site("s"), vec!["a:1".into(), "b:2".into(), "c:3".into()])
    }
}

/// A sender, its outbox and the time, with what the tests do again and again.
struct Side {
    sender: Sender,
    outbox: Model,
    now: u64,
}

impl Side {
    fn new(config: SenderConfig) -> Self {
        Self { sender: Sender::new(config, [0; 3], 0).unwrap(), outbox: Model::new(), now: 0 }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.sender.poll_action()).filter(|action| !matches!(action, Action::Link(_))).collect()
    }

    fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.sender.poll_transmit(self.now, &mut self.outbox)).collect()
    }

    /// Lets time pass until the sender dials; the address and how long it took.
    fn dial(&mut self) -> (String, u64) {
        let start = self.now;
        for _ in 0..100 {
            for action in self.actions() {
                if let Action::Dial { address, .. } = action {
                    return (address, self.now - start);
                }
            }
            self.now = self.now.max(self.sender.next_timeout().unwrap());
            self.sender.on_tick(self.now);
        }
        panic!("it never dials");
    }

    fn greet(&mut self) -> Hello {
        self.sender.on_connected(self.now);
        match self.frames().as_slice() {
            [Frame::Hello(hello)] => hello.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn frame(&mut self, frame: Frame) {
        self.sender.on_frame(self.now, frame);
    }

    /// A session with the next address and a welcome that covers nothing.
    fn live() -> Self {
        let mut side = Self::new(config());
        side.go_live();
        side
    }

    fn go_live(&mut self) {
        self.dial();
        self.greet();
        self.frame(welcome(vec![]));
        assert!(self.sender.is_live());
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.sender.on_tick(self.now);
    }

    fn fail(&mut self) {
        self.sender.on_disconnected(self.now, "cut");
    }
}

fn welcome(coverage: Vec<(StreamKey, Vec<Range<u64>>)>) -> Frame {
    Frame::Welcome(Welcome { protocol: 1, node: 1, term: 5, coverage, window_bytes: WINDOW })
}

fn ack(lane: Lane, range: Range<u64>) -> Frame {
    Frame::Ack(Ack { key: key("s", lane), ranges: vec![range], window_bytes: WINDOW })
}

fn redirect(address: Option<&str>) -> Frame {
    Frame::Redirect(Redirect { address: address.map(Into::into), reason: "not the leader".into() })
}

fn is_close(actions: &[Action], part: &str) -> bool {
    actions.iter().any(|action| matches!(action, Action::Close { reason } if reason.contains(part)))
}

fn blocks(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| matches!(frame, Frame::Block(_))).count()
}

#[test]
fn a_session_from_the_dial_to_the_acknowledgement() {
    let mut side = Side::new(config());
    side.outbox.push(&key("s", Lane::Normal), 10, 100, 0);
    side.outbox.push(&key("s", Lane::Critical), 2, 100, 3);
    assert_eq!(side.dial(), ("a:1".into(), 0));
    let hello = side.greet();
    assert_eq!((hello.epoch, hello.next_seqs, hello.role), (EPOCH, [2, 10, 0], Role::Edge));
    side.frame(welcome(vec![]));
    assert!(matches!(side.actions()[..], [Action::Established { node: 1, term: 5, .. }]));
    let frames = side.frames();
    assert!(matches!(frames[..], [Frame::Heartbeat(_), Frame::Block(_), Frame::Block(_)]));
    side.frame(ack(Lane::Critical, 0..2));
    assert_eq!(side.actions(), [Action::Acked { lane: Lane::Critical, upto: 4 }]);
    side.frame(ack(Lane::Normal, 0..10));
    assert_eq!(side.actions(), [Action::Acked { lane: Lane::Normal, upto: 1 }]);
    assert_eq!(side.actions(), []);
    let stats = side.sender.status().stats;
    assert_eq!((stats.blocks_out, stats.blocks_acked, stats.events_acked, stats.sessions), (2, 2, 12, 1));
}

#[test]
fn what_the_peer_has_is_not_sent_again() {
    let mut side = Side::new(config());
    for _ in 0..3 {
        side.outbox.push(&key("s", Lane::Normal), 10, 100, 0);
    }
    side.dial();
    side.greet();
    side.frame(welcome(vec![(key("s", Lane::Normal), vec![0..10, 12..30])]));
    let covered = side.actions();
    assert!(covered.iter().any(|a| matches!(a, Action::Covered { coverage, .. } if coverage.len() == 28)));
    assert_eq!(blocks(&side.frames()), 1);
    assert_eq!(side.actions(), [Action::Acked { lane: Lane::Normal, upto: 1 }]);
    side.frame(ack(Lane::Normal, 10..20));
    assert_eq!(side.actions(), [Action::Acked { lane: Lane::Normal, upto: 3 }]);
    assert_eq!(side.sender.status().stats.blocks_covered, 2);
}

#[test]
fn a_peer_that_is_ahead_asks_for_a_new_epoch() {
    let mut side = Side::new(config());
    side.outbox.push(&key("s", Lane::Normal), 10, 100, 0);
    side.dial();
    side.greet();
    let coverage = vec![(key("s", Lane::Bulk), vec![0..1]), (key("s", Lane::Normal), vec![0..11])];
    side.frame(welcome(coverage.clone()));
    let actions = side.actions();
    let ahead: Vec<_> = actions.iter().filter(|action| matches!(action, Action::PeerAhead { .. })).collect();
    let streams = vec![(key("s", Lane::Normal), 11), (key("s", Lane::Bulk), 1)];
    assert_eq!(ahead, [&Action::PeerAhead { streams }]);
    assert!(is_close(&actions, "never gave"));
    assert_eq!(blocks(&side.frames()), 0);
    // The owner starts a new life; the blocks of the old one still go up.
    side.outbox.own = OwnStreams { epoch: Epoch(EPOCH.0 + 1), next_seqs: [0; 3] };
    side.dial();
    assert_eq!(side.greet().epoch, Epoch(EPOCH.0 + 1));
    side.frame(welcome(coverage));
    assert!(side.sender.is_live());
}

#[test]
fn what_was_given_since_the_start_and_not_sent_cannot_be_known_to_the_peer() {
    let mut side = Side::new(config());
    // Restored: ten sequences; twenty more were given before the first session.
    side.outbox.push(&key("s", Lane::Normal), 10, 100, 0);
    let own = side.outbox.own;
    side.outbox.push(&key("s", Lane::Normal), 20, 100, 0);
    side.outbox.own = own;
    side.dial();
    side.greet();
    side.frame(welcome(vec![(key("s", Lane::Normal), vec![0..15])]));
    let streams = vec![(key("s", Lane::Normal), 15)];
    assert!(side.actions().contains(&Action::PeerAhead { streams }), "10 to 15 are other events");
    // A peer that has only what is known here is greeted, and sent the rest; after that it may have all.
    side.dial();
    side.greet();
    side.frame(welcome(vec![(key("s", Lane::Normal), vec![0..10])]));
    assert_eq!(blocks(&side.frames()), 1);
    side.sender.on_disconnected(side.now, "cut");
    side.dial();
    side.greet();
    side.frame(welcome(vec![(key("s", Lane::Normal), vec![0..30])]));
    assert!(side.sender.is_live());
}

#[test]
fn addresses_take_turns_with_growing_waits() {
    let mut side = Side::new(config());
    let mut dialled = Vec::new();
    for _ in 0..14 {
        let (address, waited) = side.dial();
        dialled.push((address, waited));
        side.fail();
    }
    let names: Vec<_> = dialled.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(names[..4], ["a:1", "b:2", "c:3", "a:1"]);
    for (n, (_, waited)) in dialled.iter().enumerate().skip(1) {
        let base = (100_u64 << (n - 1)).min(60_000);
        assert!((base * 9 / 10..=base * 11 / 10).contains(waited) && *waited <= 60_000, "{n}: {waited}");
    }
}

#[test]
fn only_a_stable_session_resets_the_wait_and_is_tried_again_first() {
    let mut side = Side::new(config());
    for _ in 0..5 {
        side.dial();
        side.fail();
    }
    side.dial();
    side.greet();
    side.frame(welcome(vec![]));
    side.pass(50);
    side.fail();
    let (_, waited) = side.dial();
    assert!(waited > 2_000, "{waited}");
    side.greet();
    side.frame(welcome(vec![]));
    side.pass(20_000);
    let address = side.sender.status().session.unwrap().address;
    side.fail();
    let (again, waited) = side.dial();
    assert!(again == address && waited <= 110, "{again} after {waited}");
}

#[test]
fn a_redirect_is_followed_at_once() {
    let mut side = Side::new(config());
    side.dial();
    side.greet();
    side.frame(redirect(Some("leader.example:7100")));
    assert!(is_close(&side.actions()[..1], "redirected to leader.example:7100"));
    // The dial came with the same batch of actions.
    assert!(matches!(side.sender.next_deadline(), Some(until) if until == side.now + 5_000));
    assert_eq!(side.sender.status().stats.failures, 0);
}

#[test]
fn redirect_loops_end_in_waiting() {
    let mut side = Side::new(config());
    let mut waits = Vec::new();
    for n in 0..16 {
        let (_, waited) = side.dial();
        waits.push(waited);
        side.greet();
        side.frame(redirect(Some(if n % 2 == 0 { "b:2" } else { "a:1" })));
    }
    let waited: Vec<usize> = waits.iter().enumerate().filter(|(_, ms)| **ms > 0).map(|(n, _)| n).collect();
    assert_eq!(waited, [5, 10, 15]);
    assert!(waits[10] > waits[5] && waits[15] > waits[10]);
}

#[test]
fn a_redirect_to_nowhere_or_nonsense_waits() {
    for address in [None, Some("not an address"), Some("http://evil:1/")] {
        let mut side = Side::new(config());
        side.dial();
        side.greet();
        side.frame(redirect(address));
        let (next, waited) = side.dial();
        assert!(next == "b:2" && waited >= 90, "{address:?}: {next} after {waited}");
    }
}

#[test]
fn blocks_in_flight_go_to_the_next_leader() {
    let mut side = Side::live();
    for _ in 0..3 {
        side.outbox.push(&key("s", Lane::Bulk), 10, 100, 0);
    }
    side.sender.wake();
    assert_eq!(blocks(&side.frames()), 3);
    side.frame(ack(Lane::Bulk, 0..10));
    side.frame(redirect(Some("c:3")));
    let (address, waited) = side.dial();
    assert_eq!((address.as_str(), waited), ("c:3", 0));
    // What the old leader still says is too late.
    side.frame(ack(Lane::Bulk, 10..20));
    side.greet();
    side.frame(welcome(vec![(key("s", Lane::Bulk), vec![0..10])]));
    assert_eq!(blocks(&side.frames()), 2);
    side.frame(ack(Lane::Bulk, 10..30));
    assert!(side.actions().contains(&Action::Acked { lane: Lane::Bulk, upto: 3 }));
}

#[test]
fn the_window_is_the_receivers() {
    let mut side = Side::live();
    for _ in 0..20 {
        side.outbox.push(&key("s", Lane::Bulk), 1, 5_000, 0);
    }
    let block = side.outbox.lanes[Lane::Bulk.index()][0].block.len() as u64;
    let ack = |ranges, window_bytes| Frame::Ack(Ack { key: key("s", Lane::Bulk), ranges, window_bytes });
    side.frame(ack(vec![], 10 * block));
    side.sender.wake();
    assert_eq!(blocks(&side.frames()), 10);
    side.frame(ack(vec![0..1, 1..2], 8 * block + block / 2));
    assert_eq!(blocks(&side.frames()), 0);
    side.frame(ack(vec![], 10 * block));
    assert_eq!(blocks(&side.frames()), 2);
    let own = SenderConfig { window_bytes_max: 2 * block + block / 2, ..config() };
    let mut side = Side { sender: Sender::new(own, [0; 3], 0).unwrap(), ..side };
    side.now = 0;
    side.go_live();
    assert_eq!(blocks(&side.frames()), 2);
}

#[test]
fn a_silent_peer_is_left() {
    let mut side = Side::live();
    side.frames();
    side.pass(10_000);
    assert!(matches!(side.frames()[..], [Frame::Heartbeat(_)]));
    side.frame(Frame::HeartbeatAck(HeartbeatAck { now_ms: 0, echo: 9_900 }));
    assert_eq!(side.sender.status().session.unwrap().rtt_ms, Some(100));
    side.pass(29_999);
    assert!(side.sender.is_live());
    assert!(matches!(side.frames()[..], [Frame::Heartbeat(_)]));
    side.pass(1);
    assert!(is_close(&side.actions(), "silent for 30000 ms"));
    let (_, waited) = side.dial();
    assert!(waited <= 110);
}

#[test]
fn a_slow_link_gets_the_time_that_its_bytes_take() {
    let mut side = Side::live();
    side.outbox.push(&key("s", Lane::Bulk), 1, 16 * 1024 * 20, 0);
    side.sender.wake();
    side.frames();
    side.pass(49_000);
    assert!(side.sender.is_live());
    side.pass(2_000);
    assert!(!side.sender.is_live());
}

#[test]
fn a_peer_that_stops_acknowledging_is_left() {
    let mut side = Side::live();
    for _ in 0..2 {
        side.outbox.push(&key("s", Lane::Bulk), 1, 100, 0);
    }
    side.sender.wake();
    side.frames();
    let beat = |side: &mut Side, ms| {
        side.pass(ms);
        let echo = side.now;
        side.frame(Frame::HeartbeatAck(HeartbeatAck { now_ms: 0, echo }));
    };
    beat(&mut side, 20_000);
    side.frame(ack(Lane::Bulk, 0..1));
    beat(&mut side, 20_000);
    assert!(side.sender.is_live());
    beat(&mut side, 11_000);
    assert!(is_close(&side.actions(), "stopped acknowledging with 1 blocks"));
}

#[test]
fn dialling_and_greeting_have_limits() {
    let mut side = Side::new(config());
    side.dial();
    side.pass(5_000);
    assert!(is_close(&side.actions(), "no connection within 5000 ms"));
    side.dial();
    side.greet();
    side.pass(10_000);
    assert!(is_close(&side.actions(), "no welcome within 10000 ms"));
}

#[test]
fn frames_out_of_place_end_the_session() {
    let frames = [
        Frame::Block(bytes::Bytes::new()),
        Frame::Sites(vec![]),
        welcome(vec![]),
        Frame::Heartbeat(Heartbeat { echo: 0, status: Status::default() }),
    ];
    for frame in frames {
        let mut side = Side::live();
        side.frame(frame);
        assert!(is_close(&side.actions(), "out of place"));
    }
    let mut early = Side::new(config());
    early.dial();
    early.greet();
    early.frame(ack(Lane::Bulk, 0..1));
    assert!(is_close(&early.actions(), "out of place"));
}

#[test]
fn a_protocol_that_was_not_offered_is_refused() {
    let mut side = Side::new(config());
    side.dial();
    side.greet();
    side.frame(Frame::Welcome(Welcome { protocol: 9, node: 1, term: 1, coverage: vec![], window_bytes: 1 }));
    assert!(is_close(&side.actions(), "protocol 9"));
}

#[test]
fn a_rejection_is_told_and_tried_elsewhere() {
    let mut side = Side::live();
    side.frame(Frame::Reject(Reject { code: RejectCode::Version, message: "1 to 1, 2 to 3".into() }));
    let actions = side.actions();
    assert!(actions.contains(&Action::Rejected { code: RejectCode::Version, message: "1 to 1, 2 to 3".into() }));
    let (address, waited) = side.dial();
    assert!(address == "b:2" && waited >= 90);
    side.greet();
    side.frame(Frame::Goodbye(Goodbye { reason: "rolling restart".into() }));
    assert!(is_close(&side.actions(), "rolling restart"));
}

#[test]
fn the_outbox_may_fail_for_a_while() {
    let mut side = Side::live();
    side.frames();
    side.outbox.push(&key("s", Lane::Normal), 1, 100, 0);
    side.outbox.failures = 3;
    side.sender.wake();
    assert_eq!(blocks(&side.frames()), 0);
    assert_eq!(side.actions().iter().filter(|a| matches!(a, Action::OutboxFailed { .. })).count(), 3);
    assert_eq!(side.sender.next_timeout(), Some(1_000));
    side.pass(1_000);
    assert_eq!(blocks(&side.frames()), 1);
}

#[test]
fn a_damaged_block_holds_its_lane_only() {
    let mut side = Side::live();
    side.outbox.push(&key("s", Lane::Critical), 1, 100, 0);
    side.outbox.push(&key("s", Lane::Bulk), 1, 100, 0);
    side.outbox.lanes[0][0].block = bytes::Bytes::from_static(b"GBK1 but not quite a block");
    side.sender.wake();
    assert_eq!(blocks(&side.frames()), 1);
    assert!(matches!(side.actions()[..], [.., Action::Unsendable { lane: Lane::Critical, position: 0, .. }]));
    // Once the owner has dealt with it, the lane goes on.
    side.outbox.lanes[0].clear();
    side.outbox.push(&key("s", Lane::Critical), 1, 100, 5);
    side.pass(1_000);
    assert_eq!(blocks(&side.frames()), 1);
}

#[test]
fn the_link_state_follows_the_session_and_the_backlog() {
    let mut side = Side::new(config());
    side.outbox.push(&key("s", Lane::Bulk), 1, 100, 0);
    side.outbox.status.oldest_pending_age_ms = 120_000;
    let links = |side: &mut Side| -> Vec<(LinkState, Cause)> {
        let actions = std::iter::from_fn(|| side.sender.poll_action());
        actions.filter_map(|a| if let Action::Link(t) = a { Some((t.to, t.cause)) } else { None }).collect()
    };
    side.dial();
    side.greet();
    side.frame(welcome(vec![]));
    assert_eq!(links(&mut side), [(LinkState::Degraded, Cause::Connected)]);
    side.frames();
    side.frame(ack(Lane::Bulk, 0..1));
    side.outbox.status.oldest_pending_age_ms = 0;
    side.pass(10_000);
    side.frames();
    assert_eq!(links(&mut side), [(LinkState::Online, Cause::CaughtUp)]);
    for _ in 0..3 {
        side.fail();
        side.now = side.sender.next_timeout().unwrap();
        side.sender.on_tick(side.now);
    }
    assert_eq!(links(&mut side), [(LinkState::Degraded, Cause::Failed), (LinkState::Offline, Cause::Failed)]);
    side.now += 3_600_000;
    side.sender.on_tick(side.now);
    assert_eq!(links(&mut side), [(LinkState::Island, Cause::Prolonged)]);
}

#[test]
fn a_hub_reports_its_sites_in_pages() {
    let mut side = Side::new(SenderConfig { role: Role::Hub, ..config() });
    let status = Status { pending: [Pending { events: 1, bytes: 2 }; 3], ..Status::default() };
    let report = SiteReport { site: site("x"), epoch: EPOCH, connected: true, last_seen_ms: 1, status };
    side.outbox.sites = vec![report; SITES_MAX + 1];
    side.go_live();
    let pages: Vec<usize> =
        side.frames().iter().filter_map(|f| if let Frame::Sites(s) = f { Some(s.len()) } else { None }).collect();
    assert_eq!(pages, [SITES_MAX, 1]);
    side.pass(10_000);
    assert_eq!(side.frames().len(), 3);
    // The blocks of many sites go through one sender.
    for name in ["x", "y", "z"] {
        side.outbox.push(&key(name, Lane::Normal), 5, 50, 0);
    }
    side.sender.wake();
    assert_eq!(blocks(&side.frames()), 3);
    for (name, upto) in [("y", 0), ("x", 2), ("z", 3)] {
        side.frame(Frame::Ack(Ack { key: key(name, Lane::Normal), ranges: vec![0..5], window_bytes: WINDOW }));
        let acked = side.actions();
        assert_eq!(acked.contains(&Action::Acked { lane: Lane::Normal, upto }), upto > 0, "{acked:?}");
    }
}

#[test]
fn stopping_says_goodbye_and_is_final() {
    let mut side = Side::live();
    side.sender.stop(side.now, "shutting down");
    assert_eq!(side.frames(), [Frame::Goodbye(Goodbye { reason: "shutting down".into() })]);
    assert!(is_close(&side.actions(), "shutting down"));
    side.fail();
    side.pass(1_000_000);
    assert_eq!((side.actions(), side.sender.next_timeout()), (vec![], None));
    let mut waiting = Side::new(config());
    waiting.sender.stop(0, "never connected");
    waiting.pass(1);
    assert_eq!((waiting.frames().len(), waiting.actions()), (0, vec![]));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let bad = |change: fn(&mut SenderConfig)| {
        let mut config = config();
        change(&mut config);
        Sender::new(config, [0; 3], 0).unwrap_err().to_string()
    };
    assert!(bad(|c| c.addresses.clear()).contains("host:port"));
    assert!(bad(|c| c.addresses.push("hub".into())).contains("\"hub\""));
    assert!(bad(|c| c.bulk_weight = 0).contains("bulk"));
    assert!(bad(|c| c.rate_floor_bytes_per_s = 0).contains("rate floor"));
    assert!(bad(|c| c.heartbeat_timeout_ms = 10_000).contains("heartbeat"));
}
