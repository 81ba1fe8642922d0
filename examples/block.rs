//! Events into a block and back: numbered, compressed, checked.
//!
//! `cargo run -p grey-examples --example block`

use grey_codec::{BlockBuilder, BlockReader, decode_block};
use grey_model::{BlockHeader, Compression, Disposition, Epoch, Event, Lane, Name, RuleId, SiteId, Stamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let site = SiteId::new("plant-7")?;
    let (device, stream) = (Name::from("press-1"), Name::from("temperature"));
    let mut builder = BlockBuilder::new(site, Epoch(1), Lane::Bulk, Compression::Zstd, 0);

    // A thousand readings; names are shared, not copied.
    for n in 0..1_000_i64 {
        let celsius = 70.0 + (n % 40) as f64 / 10.0;
        builder.push(&Event::reading(device.clone(), stream.clone(), celsius, 1_767_225_600_000 + n * 250))?;
    }
    // The next 500 stay at the site, but their sequences are accounted for: a lane has no holes.
    assert_eq!(builder.account(Disposition::Reduced(RuleId(0)), 500), 500);
    let stamp = Stamp::at_unix_ms(1_767_225_850_000);
    let block = builder.finish(stamp, 0).ok_or("there is something to finish")?;
    println!("1,000 readings in {} bytes", block.len());
    assert!(block.len() < 5_000, "columns compress well");

    // The header alone says what a tier above needs to know.
    let header = BlockHeader::parse(&block)?.header;
    assert_eq!((header.range(), header.events), (0..1_500, 1_000));
    assert_eq!(header.key().to_string(), "plant-7/1/bulk");

    // The events come back as they were, each with its sequence.
    let (_, events) = decode_block(&block)?;
    assert_eq!(events[999].seq, 999);
    assert_eq!(events[999].event.device_time_ms, 1_767_225_600_000 + 999 * 250);

    // Or only those of a range of time; a block of more than 4,096 events decodes no more pages than it needs.
    let mut reader = BlockReader::open(&block)?;
    let second = reader.between(1_767_225_700_000, 1_767_225_700_999)?;
    assert_eq!(second.iter().map(|found| found.seq).collect::<Vec<_>>(), [400, 401, 402, 403]);

    // A flipped bit anywhere is noticed.
    for at in 0..block.len() {
        let mut damaged = block.to_vec();
        damaged[at] ^= 1;
        assert!(decode_block(&damaged).is_err(), "byte {at}");
    }

    // The builder goes on with the next sequence.
    let seq = builder.push(&Event::reading(device, stream, 71.0, 0))?;
    assert_eq!(seq, 1_500);
    Ok(())
}
