//! The replicated ledger against a plain model.

use super::*;
use grey_model::{Compression, Disposition, Epoch, RuleId, Stamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn block(lane: Lane, first_seq: Seq, events: u32, reduced: u32) -> Bytes {
    let span = events + reduced;
    let end = first_seq + u64::from(span);
    let account = Account { range: end - u64::from(reduced)..end, disposition: Disposition::Reduced(RuleId(0)) };
    let header = BlockHeader {
        site: SiteId::new("site-1").unwrap(),
        epoch: Epoch(7),
        lane,
        first_seq,
        span,
        events,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp::default(),
        kinds: 1,
        intake: 0,
        compression: Compression::None,
        payload_raw_len: 0,
        accounts: if reduced > 0 { vec![account] } else { Vec::new() },
    };
    Command::Block(header.encode(b"")).encode()
}

fn row(state: &Replicated) -> Row {
    state.ledger(None).remove(0)
}

#[test]
fn a_resend_after_any_time_is_a_no_op() {
    let mut hub = Replicated::new(Role::Forwards);
    assert_eq!(
        hub.apply(1, &block(Lane::Bulk, 0, 10, 5)),
        Applied::Accepted { fresh: Vec::from([std::ops::Range { start: 0, end: 15 }]) }
    );
    assert_eq!(hub.apply(2, &block(Lane::Bulk, 0, 10, 5)), Applied::Duplicate);
    assert_eq!(row(&hub).tally, Tally { reduced: 5, pending: 10, ..Tally::default() });
    hub.apply(3, &Command::Forwarded { lane: Lane::Bulk, upto: 2 }.encode());
    assert_eq!(hub.apply(4, &block(Lane::Bulk, 0, 10, 5)), Applied::Duplicate);
    let row = row(&hub);
    assert_eq!((row.accepted, row.resent, row.balanced), (15, 30, true));
    assert_eq!(row.tally, Tally { delivered: 10, reduced: 5, ..Tally::default() });
    assert_eq!(hub.floor(), 5);
}

#[test]
fn a_gap_shows_in_the_row() {
    let mut hub = Replicated::new(Role::Keeps);
    hub.apply(1, &block(Lane::Normal, 4, 4, 0));
    assert_eq!(row(&hub).ranges[0], RangeRow::new(0..4, "not received"));
    assert!(row(&hub).balanced, "what was received is in balance");
}

#[test]
fn a_lost_count_unbalances_the_row() {
    let mut hub = Replicated::new(Role::Forwards);
    hub.apply(1, &block(Lane::Bulk, 0, 10, 0));
    hub.pending[Lane::Bulk.index()].clear();
    assert!(!row(&hub).balanced);
}

#[test]
fn garbage_is_refused_not_fatal() {
    let mut hub = Replicated::new(Role::Forwards);
    for bytes in [&b""[..], b"\0nonsense", b"\x01", b"\x02\xff", b"\x09"] {
        assert!(matches!(hub.apply(1, &Bytes::copy_from_slice(bytes)), Applied::Refused(_)));
    }
}

proptest! {
    #[test]
    fn any_order_and_repetition_counts_each_sequence_once(
        sends in prop::collection::vec((0_u64..12, 1_u32..4, 0_u32..3), 1..40),
        forward_every in 1_usize..5,
    ) {
        let mut hub = Replicated::new(Role::Forwards);
        let mut model = BTreeSet::new();
        let mut index = 0;
        for (n, (slot, events, reduced)) in sends.into_iter().enumerate() {
            index += 1;
            let first = slot * 3;
            let before = model.len();
            model.extend(first..first + u64::from(events + reduced));
            let fresh = match hub.apply(index, &block(Lane::Bulk, first, events, reduced)) {
                Applied::Accepted { fresh } => fresh.into_iter().map(|r| r.end - r.start).sum(),
                Applied::Duplicate => 0,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(fresh, (model.len() - before) as u64);
            if n % forward_every == 0 {
                index += 1;
                hub.apply(index, &Command::Forwarded { lane: Lane::Bulk, upto: index }.encode());
            }
            let restored = Replicated::restore(&hub.snapshot()).unwrap();
            prop_assert_eq!(&restored, &hub);
        }
        let row = row(&hub);
        prop_assert_eq!(row.accepted, model.len() as u64);
        prop_assert_eq!(row.tally.total(), row.accepted);
        prop_assert!(row.balanced);
    }
}

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/replicated-v1.bin");

#[test]
fn snapshot_version_1_stays_readable() {
    let mut hub = Replicated::new(Role::Forwards);
    hub.apply(1, &block(Lane::Bulk, 0, 10, 5));
    hub.apply(2, &block(Lane::Critical, 3, 1, 0));
    hub.apply(3, &Command::Forwarded { lane: Lane::Bulk, upto: 2 }.encode());
    hub.apply(4, &block(Lane::Bulk, 20, 4, 0));
    let report = SiteReport {
        site: SiteId::new("site-1").unwrap(),
        epoch: Epoch(7),
        hub: SiteId::new("hub-1").unwrap(),
        state: crate::SiteState::Degraded,
        last_seen_ms: 1_767_225_600_000,
        reported_ms: 1_767_225_600_500,
        pending: Default::default(),
        oldest_pending_age_ms: 4,
        accepted_total: 30,
    };
    hub.apply(5, &Command::Sites(vec![report]).encode());
    assert_eq!(hub.snapshot(), GOLDEN, "the format changed: give it a new version and keep this file");
    assert_eq!(Replicated::restore(GOLDEN), Ok(hub));
}
