//! The state machine that hubs and coordinators replicate: a resend is
//! recognised by its range however late it comes, and every row balances.
//!
//! `cargo run -p grey-examples --example ledger`

use bytes::Bytes;
use grey_codec::BlockBuilder;
use grey_ledger::{Applied, Command, Replicated, Role};
use grey_model::{Compression, Disposition, Epoch, Event, Lane, RuleId, SiteId, Stamp, StreamKey};

/// A block of ten readings and five sequences that a rule kept at the site.
fn block(first_seq: u64) -> Result<Bytes, Box<dyn std::error::Error>> {
    let site = SiteId::new("plant-7")?;
    let mut builder = BlockBuilder::new(site, Epoch(1), Lane::Bulk, Compression::None, first_seq);
    for n in 0..10 {
        builder.push(&Event::reading("press-1", "temperature", f64::from(n), 0))?;
    }
    assert_eq!(builder.account(Disposition::Reduced(RuleId(0)), 5), 5);
    builder.finish(Stamp::default(), 0).ok_or_else(|| "a block is not empty".into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut hub = Replicated::new(Role::Forwards);
    // The log index comes from consensus: every member applies the same commands in the same order.
    let first = Command::Block(block(0)?).encode();
    assert_eq!(hub.apply(1, &first), Applied::Accepted { fresh: std::iter::once(0..15).collect() });
    assert_eq!(hub.apply(2, &first), Applied::Duplicate);

    // The coverage is what the hub answers to a site that comes back: send on from 15.
    let key = StreamKey { site: SiteId::new("plant-7")?, epoch: Epoch(1), lane: Lane::Bulk };
    assert_eq!(hub.coverage(&key).contiguous_end(), 15);

    // A gap is visible at once, and its row still balances: nothing was invented.
    hub.apply(3, &Command::Block(block(30)?).encode());
    let row = hub.ledger(None).remove(0);
    assert!(row.balanced && row.ranges.iter().any(|range| range.standing == "not received"));
    hub.apply(4, &Command::Block(block(15)?).encode());

    // The coordinator acknowledged everything of the lane up to log index 4.
    hub.apply(5, &Command::Forwarded { lane: Lane::Bulk, upto: 4 }.encode());
    let row = hub.ledger(None).remove(0);
    println!("{}/{}: {:?}, resent {}", row.site, row.lane, row.tally, row.resent);
    assert_eq!((row.accepted, row.tally.delivered, row.tally.reduced, row.tally.pending), (45, 30, 15, 0));
    assert!(row.balanced);
    assert_eq!(hub.floor(), 6, "the log below may be reclaimed");

    // A checkpoint is the whole state; garbage is refused, the same on every member.
    assert_eq!(Replicated::restore(&hub.snapshot())?, hub);
    assert!(matches!(hub.apply(6, &Bytes::from_static(b"\xff")), Applied::Refused(_)));
    Ok(())
}
