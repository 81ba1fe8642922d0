//! The receiver: greetings, windows, and senders that misbehave.

use super::*;
use crate::testing::{EPOCH, block, key, site};
use grey_model::Lane;

const WINDOW: u64 = 100_000;

fn hello(role: Role) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        role,
        sender: site("s"),
        epoch: EPOCH,
        next_seqs: [0; 3],
        agent: "test".into(),
    }
}

fn live(role: Role) -> Receiver {
    let mut receiver = Receiver::new(ReceiverConfig { node: 2, ..ReceiverConfig::default() }, 0);
    receiver.on_frame(0, 0, Frame::Hello(hello(role)));
    assert_eq!(receiver.poll_action(), Some(ReceiverAction::Hello(hello(role))));
    receiver.accept(vec![(key("s", Lane::Bulk), vec![0..3])], WINDOW, 9);
    assert!(matches!(receiver.poll_transmit(), Some(Frame::Welcome(Welcome { protocol: 1, node: 2, term: 9, .. }))));
    receiver
}

fn put(receiver: &mut Receiver, lane: Lane, range: Range<u64>, payload: usize) -> Option<Token> {
    receiver.on_frame(0, 0, Frame::Block(block(&key("s", lane), range, payload)));
    match receiver.poll_action() {
        Some(ReceiverAction::Propose { token, .. }) => Some(token),
        _ => None,
    }
}

fn frames(receiver: &mut Receiver) -> Vec<Frame> {
    std::iter::from_fn(|| receiver.poll_transmit()).collect()
}

fn rejection(receiver: &mut Receiver) -> (RejectCode, String) {
    match frames(receiver).pop() {
        Some(Frame::Reject(Reject { code, message })) => {
            assert!(receiver.is_closed() && receiver.stats().rejected == 1);
            (code, message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_are_acknowledged_once_they_are_durable() {
    let mut receiver = live(Role::Edge);
    let first = put(&mut receiver, Lane::Normal, 0..5, 10).unwrap();
    let second = put(&mut receiver, Lane::Normal, 5..9, 10).unwrap();
    let third = put(&mut receiver, Lane::Critical, 0..1, 10).unwrap();
    assert_eq!(frames(&mut receiver), []);
    for token in [third, second, first, first] {
        receiver.on_committed(token, Outcome::Committed);
    }
    let ack = |lane, ranges| Frame::Ack(Ack { key: key("s", lane), ranges, window_bytes: WINDOW });
    assert_eq!(frames(&mut receiver), [ack(Lane::Critical, vec![0..1]), ack(Lane::Normal, vec![0..9])]);
    let stats = receiver.stats();
    assert_eq!((stats.blocks_in, stats.events_in, stats.blocks_committed), (3, 10, 3));
    assert_eq!(receiver.pending_blocks(), 0);
}

#[test]
fn a_dropped_block_makes_the_sender_come_again() {
    let mut receiver = live(Role::Edge);
    let first = put(&mut receiver, Lane::Normal, 0..5, 10).unwrap();
    let second = put(&mut receiver, Lane::Normal, 5..9, 10).unwrap();
    receiver.on_committed(first, Outcome::Committed);
    receiver.on_committed(second, Outcome::Dropped);
    // What became durable is still acknowledged before the goodbye.
    assert!(matches!(frames(&mut receiver)[..], [Frame::Ack(_), Frame::Goodbye(_)]));
    assert!(receiver.is_closed());
    assert!(put(&mut receiver, Lane::Normal, 9..10, 10).is_none());
}

#[test]
fn protocols_that_do_not_meet_are_named_on_both_sides() {
    for (min, max) in [(2, 7), (0, 0), (5, 1)] {
        let mut receiver = Receiver::new(ReceiverConfig::default(), 0);
        let hello = Hello { protocol_min: min, protocol_max: max, ..hello(Role::Edge) };
        receiver.on_frame(0, 0, Frame::Hello(hello));
        let (code, message) = rejection(&mut receiver);
        assert_eq!(code, RejectCode::Version);
        assert!(message.contains(&format!("{min} to {max}")) && message.contains("1 to 1"), "{message}");
    }
    let mut newer = Receiver::new(ReceiverConfig::default(), 0);
    newer.on_frame(0, 0, Frame::Hello(Hello { protocol_max: 9, ..hello(Role::Edge) }));
    newer.accept(vec![], 1, 1);
    assert!(matches!(newer.poll_transmit(), Some(Frame::Welcome(Welcome { protocol: 1, .. }))));
}

#[test]
fn bad_blocks_and_frames_are_named_and_end_the_connection() {
    let good = block(&key("s", Lane::Normal), 0..5, 100);
    for at in [0, 4, 30, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        let mut receiver = live(Role::Edge);
        receiver.on_frame(0, 0, Frame::Block(bad.into()));
        let (code, message) = rejection(&mut receiver);
        assert!(code == RejectCode::BadBlock && message.contains("block"), "{message}");
    }
    let mut receiver = live(Role::Edge);
    receiver.on_frame(0, 0, Frame::Block(block(&key("s", Lane::Normal), 5..5, 0)));
    assert!(rejection(&mut receiver).1.contains("no sequence"));
    let mut receiver = live(Role::Edge);
    receiver.on_frame_error(&FrameError::Type(77));
    assert!(matches!(receiver.poll_action(), Some(ReceiverAction::Close { reason }) if reason.contains("77")));
    assert_eq!(rejection(&mut receiver), (RejectCode::BadFrame, "frame type 77 is unknown".into()));
}

#[test]
fn a_site_speaks_for_itself_only() {
    let mut receiver = live(Role::Edge);
    receiver.on_frame(0, 0, Frame::Block(block(&key("other", Lane::Normal), 0..5, 10)));
    let (code, message) = rejection(&mut receiver);
    assert!(code == RejectCode::NotAllowed && message.contains("other"));
    let mut receiver = live(Role::Edge);
    receiver.on_frame(0, 0, Frame::Sites(vec![]));
    assert_eq!(rejection(&mut receiver).0, RejectCode::NotAllowed);
    let mut hub = live(Role::Hub);
    hub.on_frame(0, 0, Frame::Block(block(&key("other", Lane::Normal), 0..5, 10)));
    assert!(matches!(hub.poll_action(), Some(ReceiverAction::Propose { .. })));
    hub.on_frame(0, 0, Frame::Sites(vec![]));
    assert_eq!(hub.poll_action(), Some(ReceiverAction::Sites(vec![])));
}

#[test]
fn frames_out_of_place_are_refused() {
    let beat = || Frame::Heartbeat(Heartbeat { echo: 1, status: crate::Status::default() });
    let mut early = Receiver::new(ReceiverConfig::default(), 0);
    early.on_frame(0, 0, beat());
    assert_eq!(rejection(&mut early).0, RejectCode::Protocol);
    let mut twice = live(Role::Edge);
    twice.on_frame(0, 0, Frame::Hello(hello(Role::Edge)));
    assert_eq!(rejection(&mut twice).0, RejectCode::Protocol);
    let mut undecided = Receiver::new(ReceiverConfig::default(), 0);
    undecided.on_frame(0, 0, Frame::Hello(hello(Role::Edge)));
    undecided.on_frame(0, 0, beat());
    assert!(matches!(frames(&mut undecided)[..], [Frame::Reject(_)]));
    undecided.accept(vec![], 1, 1);
    assert_eq!(frames(&mut undecided), []);
}

#[test]
fn the_window_is_enforced_with_its_slack() {
    let mut receiver = live(Role::Edge);
    let mut held = 0;
    let mut sent = 0;
    while let Some(_token) = put(&mut receiver, Lane::Bulk, sent..sent + 1, 1 << 20) {
        held += 1 << 20;
        sent += 1;
        assert!(held <= WINDOW + WINDOW_SLACK_BYTES);
    }
    assert!(held + (1 << 20) > WINDOW + WINDOW_SLACK_BYTES - (1 << 20));
    assert_eq!(rejection(&mut receiver).0, RejectCode::FlowControl);
    let mut small = live(Role::Edge);
    for n in 0..PENDING_BLOCKS_MAX as u64 {
        assert!(put(&mut small, Lane::Bulk, n..n + 1, 0).is_some());
    }
    assert!(put(&mut small, Lane::Bulk, 1 << 20..(1 << 20) + 1, 0).is_none());
}

#[test]
fn a_new_window_is_told_even_when_nothing_is_acknowledged() {
    let mut receiver = live(Role::Edge);
    let token = put(&mut receiver, Lane::Bulk, 3..4, 10).unwrap();
    receiver.on_committed(token, Outcome::Committed);
    frames(&mut receiver);
    receiver.set_window(5);
    receiver.set_window(7);
    assert!(
        matches!(&frames(&mut receiver)[..], [Frame::Ack(Ack { ranges, window_bytes: 7, .. })] if ranges.is_empty())
    );
    assert_eq!(frames(&mut receiver), []);
}

#[test]
fn losing_leadership_redirects_but_acknowledges_first() {
    let mut receiver = live(Role::Edge);
    let token = put(&mut receiver, Lane::Bulk, 3..4, 10).unwrap();
    put(&mut receiver, Lane::Bulk, 4..5, 10).unwrap();
    receiver.on_committed(token, Outcome::Committed);
    receiver.redirect(Some("b:2".into()), "lost the election");
    receiver.goodbye("only the first end counts");
    let last = Redirect { address: Some("b:2".into()), reason: "lost the election".into() };
    let frames = frames(&mut receiver);
    assert!(matches!(&frames[..], [Frame::Ack(_), Frame::Redirect(redirect)] if *redirect == last));
}

#[test]
fn strangers_and_the_silent_have_limits() {
    let mut stranger = Receiver::new(ReceiverConfig::default(), 1_000);
    assert_eq!(stranger.next_timeout(), Some(11_000));
    stranger.on_partial(5_000, 10);
    stranger.on_tick(10_999);
    assert!(!stranger.is_closed());
    stranger.on_tick(11_000);
    assert!(matches!(frames(&mut stranger)[..], [Frame::Goodbye(_)]));
    let mut silent = live(Role::Edge);
    let beat = Frame::Heartbeat(Heartbeat { echo: 5, status: crate::Status::default() });
    silent.on_frame(20_000, 1_234, beat);
    assert_eq!(frames(&mut silent), [Frame::HeartbeatAck(HeartbeatAck { now_ms: 1_234, echo: 5 })]);
    assert_eq!(silent.next_timeout(), Some(55_000));
    silent.on_tick(55_000);
    assert!(silent.is_closed());
}

#[test]
fn a_frame_that_trickles_in_must_be_whole_in_time() {
    let mut receiver = live(Role::Edge);
    for now in (0..40_000).step_by(1_000) {
        receiver.on_partial(now, 40 * 1024);
        receiver.on_tick(now);
        assert!(!receiver.is_closed());
    }
    // 35 s and ten more for 40 KiB at 4 KiB/s.
    assert_eq!(receiver.next_timeout(), Some(45_000));
    receiver.on_frame(44_000, 0, Frame::Block(block(&key("s", Lane::Bulk), 0..1, 10)));
    receiver.on_partial(44_000, 0);
    receiver.on_partial(50_000, 100);
    assert_eq!(receiver.next_timeout(), Some(85_024));
    receiver.on_tick(85_024);
    assert!(receiver.is_closed());
}

#[test]
fn who_never_reads_is_left() {
    let mut receiver = live(Role::Edge);
    let beat = Frame::Heartbeat(Heartbeat { echo: 5, status: crate::Status::default() });
    for _ in 0..=CONTROL_QUEUE_MAX {
        receiver.on_frame(0, 0, beat.clone());
        while receiver.poll_action().is_some() {}
    }
    assert!(receiver.is_closed());
    let mut receiver = live(Role::Edge);
    for n in 0..=UNREAD_BLOCKS_MAX as u64 {
        let token = put(&mut receiver, Lane::Bulk, 2 * n..2 * n + 1, 0).unwrap();
        receiver.on_committed(token, Outcome::Committed);
    }
    assert!(receiver.is_closed());
}

#[test]
fn many_ranges_go_out_in_several_frames() {
    let mut receiver = live(Role::Edge);
    let count = ACK_RANGES_MAX as u64 + 5;
    for n in 0..count {
        let token = put(&mut receiver, Lane::Bulk, 2 * n..2 * n + 1, 0).unwrap();
        receiver.on_committed(token, Outcome::Committed);
    }
    let lens: Vec<usize> =
        frames(&mut receiver).iter().map(|f| if let Frame::Ack(ack) = f { ack.ranges.len() } else { 0 }).collect();
    assert_eq!(lens, [ACK_RANGES_MAX, 5]);
}

#[test]
fn a_long_coverage_is_cut_but_keeps_its_end() {
    let ranges: Vec<Range<u64>> = (0..2_000).map(|n| 3 * n..3 * n + 1).collect();
    let cut = bound(ranges.clone());
    assert_eq!((cut.len(), cut.last(), cut[0].clone()), (COVERAGE_RANGES_MAX, ranges.last(), 0..1));
    assert_eq!(bound(vec![1..2, 5..9]), [1..2, 5..9]);
}
