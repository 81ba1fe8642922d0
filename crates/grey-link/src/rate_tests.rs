//! The estimate over a modelled link: one bottleneck that serves in order.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A link that carries so many bytes per second, with a fixed delay there and back.
struct Path {
    bytes_per_s: u64,
    delay_ms: u64,
    /// When the bottleneck is free again, in microseconds.
    free_us: u64,
    flying: VecDeque<(u64, SentMark, u64)>,
    in_flight: u64,
    acked: u64,
    queue_max_ms: u64,
}

impl Path {
    fn new(bytes_per_s: u64, delay_ms: u64) -> Self {
        let flying = VecDeque::new();
        Self { bytes_per_s, delay_ms, free_us: 0, flying, in_flight: 0, acked: 0, queue_max_ms: 0 }
    }

    /// Keeps the link busy with blocks of one size for some time.
    fn run(&mut self, estimate: &mut RateEstimate, from_ms: u64, to_ms: u64, block: u64) {
        for now in from_ms..to_ms {
            while self.flying.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, mark, bytes) = self.flying.pop_front().unwrap();
                self.in_flight -= bytes;
                self.acked += bytes;
                estimate.on_acked(now, mark, bytes);
            }
            while self.in_flight < estimate.in_flight_max() {
                let mark = estimate.on_sent(now, self.in_flight);
                self.free_us = self.free_us.max(now * 1_000) + block * 1_000_000 / self.bytes_per_s;
                self.queue_max_ms = self.queue_max_ms.max((self.free_us / 1_000).saturating_sub(now));
                self.flying.push_back((self.free_us.div_ceil(1_000) + self.delay_ms, mark, block));
                self.in_flight += block;
            }
        }
    }
}

#[test]
fn ramps_up_within_a_few_round_trips() {
    let mut estimate = RateEstimate::new();
    // 50 Mbit/s by satellite: 3.1 MB must be in flight.
    let mut path = Path::new(6_250_000, 500);
    path.run(&mut estimate, 0, 5_500, 32_768);
    assert!(estimate.in_flight_max() > 3_100_000, "{estimate:?}");
}

#[test]
fn what_was_offered_and_not_full_tells_nothing_of_the_link() {
    let mut estimate = RateEstimate::new();
    let mut path = Path::new(1_250_000, 50);
    path.run(&mut estimate, 0, 5_000, 16_384);
    let known = estimate.goodput_bytes_per_s().unwrap();
    for n in 0..100 {
        let now = 10_000 + n * 1_000;
        estimate.on_starved(0);
        let mark = estimate.on_sent(now, 0);
        estimate.on_starved(100);
        estimate.on_acked(now + 60, mark, 100);
    }
    assert_eq!(estimate.goodput_bytes_per_s(), Some(known));
}

#[test]
fn a_link_that_slows_down_is_noticed() {
    let mut estimate = RateEstimate::new();
    let mut path = Path::new(5_000_000, 100);
    path.run(&mut estimate, 0, 10_000, 16_384);
    path.bytes_per_s = 500_000;
    path.run(&mut estimate, 10_000, 40_000, 16_384);
    // Twice what fills the slower link; before, it was more than ten times that.
    let bound = estimate.in_flight_max();
    assert!(bound < 250_000, "{bound}");
}

#[test]
fn a_peer_that_answers_now_early_now_late_does_not_talk_it_down() {
    // Acknowledged with each sync, every 5 to 200 ms; the link would carry 50 MB/s.
    let mut estimate = RateEstimate::new();
    let mut waiting: Vec<(SentMark, u64)> = Vec::new();
    let (mut in_flight, mut sync_at, mut acked, mut last) = (0_u64, 5_u64, 0_u64, 0_u64);
    for now in 0..60_000_u64 {
        if now == sync_at {
            for (mark, bytes) in waiting.drain(..) {
                in_flight -= bytes;
                acked += bytes;
                estimate.on_acked(now, mark, bytes);
            }
            sync_at = now + 5 + ((now * 2_654_435_761) >> 7) % 196;
        }
        let mut room = 50_000_u64;
        while in_flight < estimate.in_flight_max().min(8 << 20) && room >= 10_000 {
            waiting.push((estimate.on_sent(now, in_flight), 10_000));
            in_flight += 10_000;
            room -= 10_000;
        }
        if now == 50_000 {
            last = acked;
        }
    }
    let rate = (acked - last) / 10;
    assert!(rate > 10_000_000, "{rate} bytes per second of what 8 MiB in flight could carry");
}

proptest! {
    #[test]
    fn fills_any_link_and_queues_little(
        kilobytes_per_s in 30_u64..12_500,
        delay_ms in 1_u64..700,
        block in 1_000_u64..30_000,
    ) {
        let bytes_per_s = kilobytes_per_s * 1_000;
        let mut estimate = RateEstimate::new();
        let mut path = Path::new(bytes_per_s, delay_ms);
        path.run(&mut estimate, 0, 10_000, block);
        let (before, _) = (path.acked, path.queue_max_ms = 0);
        path.run(&mut estimate, 10_000, 60_000, block);
        let carried = path.acked - before;
        let able = bytes_per_s * 50;
        prop_assert!(carried * 100 >= able * 95, "{carried} of {able}: {estimate:?}");
        // At most another round trip, the allowance for bursts, and the floor.
        let floor_ms = 3 * (IN_FLIGHT_MIN_BYTES + block) * 1_000 / bytes_per_s;
        let limit = delay_ms + delay_ms / 2 + 4 * BURST_MS + floor_ms;
        prop_assert!(path.queue_max_ms <= limit, "queued {} ms, expected {limit}", path.queue_max_ms);
    }

    #[test]
    fn never_panics_and_never_falls_below_the_floor(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), 0_u8..4), 0..200),
    ) {
        let mut estimate = RateEstimate::new();
        let mut marks = Vec::new();
        for (now, bytes, in_flight, what) in steps {
            match what {
                0 => marks.push(estimate.on_sent(now, in_flight)),
                1 => estimate.on_starved(in_flight),
                _ => if let Some(mark) = marks.pop() { estimate.on_acked(now, mark, bytes) },
            }
            prop_assert!(estimate.in_flight_max() >= IN_FLIGHT_MIN_BYTES);
        }
    }
}
