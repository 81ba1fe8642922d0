//! Lanes: order, fairness, and what is in flight.

use super::*;
use crate::testing::{Model, Random, key};
use Lane::{Bulk, Critical, Normal};

const WINDOW: u64 = 1 << 20;

const OPEN: [bool; 3] = [true; 3];

fn lanes() -> Lanes {
    Lanes::new([0; 3], 4, 1, 50)
}

fn fill(lanes: &mut Lanes, lane: Lane, now: u64, outbox: &mut Model) -> Result<bool, Trouble> {
    lanes.fill(lane, Track::Live, now, outbox, &BTreeMap::new(), &mut 0)
}

/// Fills every lane's head and sends one block; returns its lane and position.
fn step(lanes: &mut Lanes, outbox: &mut Model, window: u64) -> Option<(Lane, u64)> {
    step_at(lanes, outbox, window, 0).map(|(lane, _, position)| (lane, position))
}

fn step_at(lanes: &mut Lanes, outbox: &mut Model, window: u64, now: u64) -> Option<(Lane, Track, u64)> {
    for lane in Lane::ALL {
        for track in Track::ALL {
            while lanes.fill(lane, track, now, outbox, &BTreeMap::new(), &mut 0).unwrap() {}
        }
    }
    let room = Room { window_bytes: window, fill_bytes: u64::MAX, blocks_max: 1_000 };
    let Next::Block(choice) = lanes.next(OPEN, room) else { return None };
    let head = lanes.send(now, OPEN, choice)?;
    Some((choice.lane, choice.track, head.position))
}

fn drain(lanes: &mut Lanes, outbox: &mut Model, window: u64) -> Vec<(Lane, u64)> {
    std::iter::from_fn(|| step(lanes, outbox, window)).collect()
}

#[test]
fn critical_goes_first_then_normal_and_bulk_by_weight() {
    let mut outbox = Model::new();
    for _ in 0..100 {
        outbox.push(&key("s", Normal), 1, 10_000, 0);
        outbox.push(&key("s", Bulk), 1, 10_000, 0);
    }
    outbox.push(&key("s", Critical), 1, 10, 0);
    let mut lanes = lanes();
    let order = drain(&mut lanes, &mut outbox, u64::MAX);
    assert_eq!(order.len(), 201);
    assert_eq!(order[0], (Critical, 0));
    for window in order[1..111].windows(50) {
        let normal = window.iter().filter(|(lane, _)| *lane == Normal).count();
        assert!((38..=42).contains(&normal), "{normal} of 50");
    }
}

#[test]
fn the_weights_are_over_bytes_not_blocks() {
    let mut outbox = Model::new();
    for _ in 0..400 {
        outbox.push(&key("s", Normal), 1, 1_000, 0);
    }
    for _ in 0..20 {
        outbox.push(&key("s", Bulk), 1, 50_000, 0);
    }
    let mut lanes = lanes();
    let order = drain(&mut lanes, &mut outbox, u64::MAX);
    // While both wait, a bulk block of 50 kB goes for about 200 normal ones of 1 kB.
    let first_bulk = order.iter().position(|(lane, _)| *lane == Bulk).unwrap();
    let second_bulk = order.iter().skip(first_bulk + 1).position(|(lane, _)| *lane == Bulk).unwrap();
    assert!((120..=260).contains(&first_bulk), "{first_bulk}");
    assert!((120..=260).contains(&second_bulk), "{second_bulk}");
}

#[test]
fn a_steady_normal_lane_never_starves_bulk() {
    let mut outbox = Model::new();
    let mut lanes = lanes();
    outbox.push(&key("s", Bulk), 1, 60_000, 0);
    for n in 1.. {
        outbox.push(&key("s", Normal), 1, 2_000, 0);
        lanes.wake();
        let (lane, _) = step(&mut lanes, &mut outbox, u64::MAX).unwrap();
        assert!(n < 500, "bulk starves");
        if lane == Bulk {
            break;
        }
    }
}

#[test]
fn the_window_holds_but_one_block_may_always_fly() {
    let mut outbox = Model::new();
    for _ in 0..5 {
        outbox.push(&key("s", Bulk), 2, 40_000, 0);
    }
    let mut lanes = lanes();
    assert_eq!(drain(&mut lanes, &mut outbox, 1_000), [(Bulk, 0)]);
    assert_eq!(lanes.in_flight_blocks(), 1);
    lanes.ack(0, &key("s", Bulk), &[0..2]);
    assert_eq!(drain(&mut lanes, &mut outbox, 100_000), [(Bulk, 1), (Bulk, 2)]);
    // A critical block passes a full window, one at a time.
    outbox.push(&key("s", Critical), 1, 10, 0);
    outbox.push(&key("s", Critical), 1, 10, 0);
    lanes.wake();
    assert_eq!(drain(&mut lanes, &mut outbox, 80_000), [(Critical, 0)]);
    lanes.ack(0, &key("s", Critical), &[0..1]);
    assert_eq!(drain(&mut lanes, &mut outbox, 80_000), [(Critical, 1)]);
}

#[test]
fn a_large_block_is_waited_for() {
    let mut outbox = Model::new();
    outbox.push(&key("s", Bulk), 1, 10_000, 0);
    outbox.push(&key("s", Bulk), 1, 90_000, 0);
    let mut lanes = lanes();
    assert_eq!(drain(&mut lanes, &mut outbox, 60_000), [(Bulk, 0)]);
    outbox.push(&key("s", Normal), 1, 10_000, 0);
    lanes.wake();
    // Small normal blocks go before it by their weight, but not for ever.
    let mut normal = 1;
    loop {
        match drain(&mut lanes, &mut outbox, 60_000).as_slice() {
            [] => lanes.ack(0, &key("s", Bulk), &[0..1]),
            [(Normal, _)] => lanes.ack(0, &key("s", Normal), &[0..normal]),
            [(Bulk, 1)] => break,
            other => panic!("{other:?}"),
        };
        outbox.push(&key("s", Normal), 1, 10_000, 0);
        normal += 1;
        lanes.wake();
        assert!(normal < 100);
    }
}

#[test]
fn positions_are_acknowledged_cumulatively() {
    let mut outbox = Model::new();
    for gap in [0, 4, 0] {
        outbox.push(&key("s", Normal), 10, 10, gap);
    }
    let mut lanes = lanes();
    assert_eq!(drain(&mut lanes, &mut outbox, WINDOW), [(Normal, 0), (Normal, 5), (Normal, 6)]);
    assert_eq!(lanes.acked_upto(Normal), 0);
    let ack = |lanes: &mut Lanes, range: Range<u64>| lanes.ack(0, &key("s", Normal), &[range]).blocks;
    assert_eq!(ack(&mut lanes, 10..20), 1);
    assert_eq!(lanes.acked_upto(Normal), 0);
    assert_eq!(ack(&mut lanes, 10..20), 0);
    assert_eq!(ack(&mut lanes, 0..10), 1);
    assert_eq!(lanes.acked_upto(Normal), 6);
    assert_eq!(ack(&mut lanes, 0..100), 1);
    assert_eq!((lanes.acked_upto(Normal), lanes.in_flight_bytes()), (7, 0));
}

#[test]
fn a_block_counts_only_when_its_whole_range_is_covered() {
    let mut outbox = Model::new();
    outbox.push(&key("s", Normal), 10, 10, 0);
    let mut lanes = lanes();
    drain(&mut lanes, &mut outbox, WINDOW);
    let ack = |lanes: &mut Lanes, range: Range<u64>| lanes.ack(0, &key("s", Normal), &[range]).blocks;
    assert_eq!(ack(&mut lanes, 0..4), 0);
    assert_eq!(ack(&mut lanes, 5..10), 0);
    assert_eq!(lanes.ack(0, &key("other", Normal), &[0..10]).blocks, 0);
    assert_eq!(lanes.ack(0, &key("s", Bulk), &[0..10]).blocks, 0);
    assert_eq!(ack(&mut lanes, 4..5), 1);
    assert_eq!(lanes.acked_upto(Normal), 1);
}

#[test]
fn one_acknowledgement_may_complete_many_blocks_and_a_block_may_lie_twice() {
    let mut outbox = Model::new();
    for _ in 0..4 {
        outbox.push(&key("s", Normal), 3, 10, 0);
    }
    let mut again = outbox.lanes[1][1].clone();
    again.position = 9;
    outbox.lanes[1].push(again);
    let mut lanes = lanes();
    assert_eq!(drain(&mut lanes, &mut outbox, WINDOW).len(), 5);
    let bytes = lanes.in_flight_bytes();
    assert_eq!(lanes.ack(0, &key("s", Normal), &[0..12]), Completed { blocks: 5, events: 15, bytes });
    assert_eq!((lanes.acked_upto(Normal), lanes.in_flight_blocks()), (10, 0));
}

#[test]
fn what_was_acknowledged_out_of_order_is_not_sent_again() {
    let mut outbox = Model::new();
    for n in 0..4 {
        outbox.push(&key(if n == 0 { "a" } else { "b" }, Bulk), 1, 10, 0);
    }
    let mut lanes = lanes();
    drain(&mut lanes, &mut outbox, WINDOW);
    lanes.ack(0, &key("b", Bulk), &[0..2]);
    for _ in 0..3 {
        lanes.on_disconnected();
        assert_eq!((lanes.acked_upto(Bulk), lanes.in_flight_blocks()), (0, 0));
        assert_eq!(drain(&mut lanes, &mut outbox, WINDOW), [(Bulk, 0), (Bulk, 3)]);
    }
    lanes.ack(0, &key("a", Bulk), &[0..1]);
    assert_eq!(lanes.acked_upto(Bulk), 3);
}

#[test]
fn covered_blocks_are_passed_over() {
    let mut outbox = Model::new();
    for _ in 0..3 * SKIPS_PER_STEP_MAX {
        outbox.push(&key("s", Normal), 2, 10, 0);
    }
    let covered_to = 5 * SKIPS_PER_STEP_MAX as u64;
    let coverage = BTreeMap::from([(key("s", Normal), [0..covered_to].into_iter().collect::<RangeSet>())]);
    let mut lanes = lanes();
    let mut covered = 0;
    let mut steps = 0;
    while lanes.fill(Normal, Track::Live, 0, &mut outbox, &coverage, &mut covered).unwrap() {
        steps += 1;
    }
    assert_eq!((steps, covered), (2, covered_to / 2));
    assert_eq!(lanes.acked_upto(Normal), covered_to / 2);
    assert_eq!(step(&mut lanes, &mut outbox, WINDOW), Some((Normal, covered_to / 2)));
}

#[test]
fn what_cannot_be_sent_is_trouble_and_not_lost() {
    let mut outbox = Model::new();
    outbox.push(&key("s", Normal), 2, 10, 0);
    let good = outbox.lanes[1][0].block.clone();
    outbox.lanes[1][0].block = Bytes::from_static(b"rubbish that is longer than a checksum");
    let mut lanes = lanes();
    let fill = |lanes: &mut Lanes, outbox: &mut Model, now| fill(lanes, Normal, now, outbox);
    assert!(matches!(fill(&mut lanes, &mut outbox, 0), Err(Trouble::Unsendable { position: 0, .. })));
    lanes.park(Normal, 100);
    assert_eq!(lanes.parked_until(), Some(100));
    let reads = outbox.reads;
    assert!(matches!(fill(&mut lanes, &mut outbox, 99), Ok(false)));
    assert_eq!((outbox.reads, lanes.acked_upto(Normal)), (reads, 0));
    outbox.lanes[1][0].block = good;
    assert!(matches!(fill(&mut lanes, &mut outbox, 100), Ok(false)));
    assert_eq!(step_at(&mut lanes, &mut outbox, WINDOW, 100), Some((Normal, Track::Live, 0)));
}

#[test]
fn an_empty_lane_is_asked_once_until_woken() {
    let mut outbox = Model::new();
    let mut lanes = lanes();
    for _ in 0..5 {
        assert_eq!(step(&mut lanes, &mut outbox, WINDOW), None);
    }
    assert_eq!(outbox.reads, 3);
    assert!(lanes.is_drained());
    lanes.wake();
    assert!(!lanes.is_drained());
    step(&mut lanes, &mut outbox, WINDOW);
    assert_eq!(outbox.reads, 6);
}

/// A lane with four blocks of backlog and two that came since.
fn two_tracks() -> (Lanes, Model) {
    let mut outbox = Model { knows_end: true, ..Model::new() };
    for _ in 0..4 {
        outbox.push(&key("s", Bulk), 1, 20_000, 0);
    }
    let mut lanes = lanes();
    lanes.on_connected(Lane::ALL.map(|lane| outbox.end(lane)));
    for _ in 0..2 {
        outbox.push(&key("s", Bulk), 1, 20_000, 0);
    }
    (lanes, outbox)
}

/// Sends everything and returns the positions in order.
fn positions(lanes: &mut Lanes, outbox: &mut Model) -> Vec<u64> {
    drain(lanes, outbox, WINDOW).into_iter().map(|(_, position)| position).collect()
}

#[test]
fn live_blocks_do_not_wait_for_the_backlog_and_count_when_it_is_done() {
    let (mut lanes, mut outbox) = two_tracks();
    let mut order = positions(&mut lanes, &mut outbox);
    assert!(order[..3].contains(&4), "{order:?}");
    order.sort_unstable();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    assert!(!lanes.has_backlog());
    lanes.ack(0, &key("s", Bulk), &[4..6]);
    assert_eq!(lanes.acked_upto(Bulk), 0);
    lanes.ack(0, &key("s", Bulk), &[0..3]);
    assert_eq!(lanes.acked_upto(Bulk), 3);
    // On the next session only what is missing is sent.
    lanes.on_disconnected();
    lanes.on_connected(Lane::ALL.map(|lane| outbox.end(lane)));
    assert_eq!(positions(&mut lanes, &mut outbox), [3]);
    lanes.ack(0, &key("s", Bulk), &[3..4]);
    assert_eq!((lanes.acked_upto(Bulk), lanes.in_flight_blocks()), (6, 0));
    assert!(lanes.is_drained());
}

#[test]
fn one_block_in_the_place_of_backlog_and_live_blocks_is_sent_once() {
    // What was folded, which cursor reads first, and what is sent in all.
    for (folded, live_first, sent) in [
        (1..3, false, vec![0, 2, 3, 4, 5]),
        (2..6, false, vec![0, 1, 5]),
        (2..6, true, vec![0, 1, 5]),
        (0..6, true, vec![5]),
        (3..5, true, vec![0, 1, 2, 4, 5]),
        (3..5, false, vec![0, 1, 2, 4, 5]),
    ] {
        let (mut lanes, mut outbox) = two_tracks();
        outbox.fold(Bulk, folded.clone());
        let first = if live_first { Track::Live } else { Track::Backlog };
        lanes.fill(Bulk, first, 0, &mut outbox, &BTreeMap::new(), &mut 0).unwrap();
        let mut order = positions(&mut lanes, &mut outbox);
        order.sort_unstable();
        assert_eq!(order, sent, "{folded:?}");
        lanes.ack(0, &key("s", Bulk), &[0..6]);
        assert_eq!((lanes.acked_upto(Bulk), lanes.in_flight_blocks()), (6, 0), "{folded:?}");
    }
}

#[test]
fn positions_that_a_flight_stands_for_are_not_done_before_it() {
    let (mut lanes, mut outbox) = two_tracks();
    outbox.fold(Bulk, 2..6);
    drain(&mut lanes, &mut outbox, WINDOW);
    lanes.ack(0, &key("s", Bulk), &[0..2]);
    assert_eq!(lanes.acked_upto(Bulk), 2);
    lanes.ack(0, &key("s", Bulk), &[2..6]);
    assert_eq!(lanes.acked_upto(Bulk), 6);
}

#[test]
fn live_blocks_acknowledged_for_hours_are_remembered_in_one_piece() {
    let (mut lanes, mut outbox) = two_tracks();
    assert_eq!(positions(&mut lanes, &mut outbox).len(), 6);
    for n in 6..2_000 {
        outbox.push(&key("s", Bulk), 1, 10, 0);
        lanes.wake();
        assert_eq!(positions(&mut lanes, &mut outbox), [n]);
        lanes.ack(0, &key("s", Bulk), std::slice::from_ref(&(4..n + 1)));
    }
    assert_eq!((lanes.acked_upto(Bulk), lanes.lanes[Bulk.index()].acked_ahead.range_count()), (0, 1));
}

/// Against a plain model: any blocks of many streams, any acknowledgements, any disconnects.
#[test]
fn agrees_with_a_plain_model() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut outbox = Model { knows_end: true, ..Model::new() };
        let mut lanes = lanes();
        let mut acked: BTreeMap<StreamKey, RangeSet> = BTreeMap::new();
        for _ in 0..200 {
            let lane = Lane::ALL[random.below(3) as usize];
            let key = key(["a", "b", "c"][random.below(3) as usize], lane);
            match random.below(10) {
                0..=2 => {
                    let (span, gap) = (1 + random.below(5), random.below(3));
                    outbox.push(&key, span, 10, gap);
                    lanes.wake();
                }
                3..=5 => {
                    step(&mut lanes, &mut outbox, 2_000);
                }
                6..=8 => {
                    let start = random.below(30);
                    let range = start..start + 1 + random.below(8);
                    // Only what is in flight is acknowledged for good.
                    lanes.ack(0, &key, std::slice::from_ref(&range));
                    acked.entry(key).or_default().insert(range);
                }
                _ if random.one_in(3) => {
                    lanes.on_disconnected();
                    if seed % 2 == 0 {
                        lanes.on_connected(Lane::ALL.map(|lane| outbox.end(lane)));
                    }
                }
                _ => {}
            }
            let in_flight: usize = lanes.lanes.iter().map(|lane| lane.in_flight.len()).sum();
            let indexed: usize = lanes.keys.values().map(|flights| flights.blocks.len()).sum();
            assert_eq!((lanes.blocks, indexed), (in_flight, in_flight), "seed {seed}");
            for lane in Lane::ALL {
                let upto = lanes.acked_upto(lane);
                for stored in outbox.lanes[lane.index()].iter().filter(|stored| stored.position < upto) {
                    let is_acked = acked.get(&stored.key).is_some_and(|set| set.covers(&stored.range));
                    assert!(is_acked, "seed {seed}: {lane} up to {upto}");
                }
            }
        }
    }
}
