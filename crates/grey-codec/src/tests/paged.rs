//! Large blocks: pages of events that are read alone.

use proptest::prelude::*;

use super::*;
use crate::BlockReader;
use crate::columns::Columns;
use crate::paged::{self, PAGE_EVENTS};

/// A second between two readings; the last device appears in the third page, other columns in the second alone.
fn large(events: usize) -> Vec<Event> {
    let reading = |at: usize| {
        let device = if at > 2 * PAGE_EVENTS { at % 4 } else { at % 3 };
        let time = 1_760_000_000_000 + at as i64 * 1_000;
        let mut event = Event::reading(format!("pump-{device}"), "pressure", (at * 7 % 640) as f64 / 100.0, time);
        event.stamp = Stamp { hlc: Stamp::at_unix_ms(time / 10 * 10 + 12).hlc, uncertainty_ms: 3 };
        if at / PAGE_EVENTS == 1 {
            event.quality = if at.is_multiple_of(9) { Quality::Bad } else { Quality::Good };
            event.id = Some(Name::from(format!("late/{device}/{at}")));
            event.attributes = vec![(Name::from("shift"), Name::from("b"))];
        }
        event
    };
    (0..events).map(reading).collect()
}

fn block_of(events: &[Event], compression: Compression, effort: Effort) -> Vec<u8> {
    let mut builder = builder(compression, 100).with_effort(effort);
    assert_eq!(builder.account(Disposition::Reduced(RuleId::THINNED), 5), 5);
    for (at, event) in events.iter().enumerate() {
        builder.push(event).unwrap();
        if at == 5_000 {
            assert_eq!(builder.account(Disposition::Deduplicated, 3), 3);
        }
    }
    let estimate = builder.bytes_estimate();
    let block = builder.finish(Stamp { hlc: Stamp::at_unix_ms(1_760_000_060_000).hlc, uncertainty_ms: 12 }, 77);
    let block = block.unwrap().to_vec();
    assert!(block.len() <= estimate);
    block
}

fn seq_of(at: usize) -> u64 {
    at as u64 + if at > 5_000 { 108 } else { 105 }
}

fn assert_same(found: &[SeqEvent], events: &[Event], from: usize) {
    assert_eq!(found.len(), events.len());
    for (at, (found, event)) in found.iter().zip(events).enumerate() {
        assert!(found.seq == seq_of(from + at) && same(&found.event, event), "{at}: {found:?} {event:?}");
    }
}

#[test]
fn pages_hold_what_the_block_holds() {
    for count in [PAGE_EVENTS, PAGE_EVENTS + 1, 3 * PAGE_EVENTS, 40_000] {
        let events = large(count);
        for (compression, effort) in [
            (Compression::None, Effort::Normal),
            (Compression::Lz4, Effort::Hard),
            (Compression::Zstd, Effort::Fast),
            (Compression::Zstd, Effort::Hard),
        ] {
            let block = block_of(&events, compression, effort);
            let (header, found) = decode_block(&block).unwrap();
            assert_eq!((header.events as usize, header.intake), (count, 77));
            assert_same(&found, &events, 0);
            let mut reader = BlockReader::open(&block).unwrap();
            assert_eq!(reader.pages() as usize, count.div_ceil(effort.page_events()));
            assert_eq!(reader.events().unwrap(), found);
        }
    }
}

#[test]
fn a_range_of_time_decodes_its_pages_alone() {
    let events = large(40_000);
    let block = block_of(&events, Compression::Zstd, Effort::Normal);
    let time = |at: usize| events[at].device_time_ms;
    let decoded = |from_ms, to_ms| {
        let mut reader = BlockReader::open(&block).unwrap();
        let found = reader.between(from_ms, to_ms).unwrap();
        (found, reader.pages_decoded())
    };
    let (found, pages) = decoded(time(9_000), time(9_100));
    assert_same(&found, &events[9_000..=9_100], 9_000);
    assert_eq!(pages, 1);
    let (found, pages) = decoded(time(PAGE_EVENTS - 1), time(PAGE_EVENTS));
    assert_same(&found, &events[PAGE_EVENTS - 1..=PAGE_EVENTS], PAGE_EVENTS - 1);
    assert_eq!(pages, 2);
    assert_eq!(decoded(time(0) - 10, time(0) - 1), (Vec::new(), 0));
    assert_eq!(decoded(i64::MAX, i64::MIN).1, 0);
    assert_eq!(decoded(i64::MIN, i64::MAX).1, 10);

    let mut reader = BlockReader::open(&block).unwrap();
    let found = reader.between_of(time(0), time(99), &|device, stream| (device, stream) == ("pump-2", "pressure"));
    assert_eq!(
        found.unwrap().iter().map(|found| found.seq - 105).collect::<Vec<_>>(),
        (2..99).step_by(3).collect::<Vec<_>>()
    );
    assert_eq!(reader.between_of(time(0), time(99), &|_, stream| stream == "flow"), Ok(Vec::new()));
    assert_eq!((reader.pages_decoded(), reader.header().events), (1, 40_000));
}

#[test]
fn a_small_block_is_one_page() {
    let events = large(100);
    let block = block_of(&events, Compression::Lz4, Effort::Normal);
    let mut reader = BlockReader::open(&block).unwrap();
    let found = reader.between(events[10].device_time_ms, events[12].device_time_ms).unwrap();
    assert_same(&found, &events[10..=12], 10);
    assert_eq!(reader.between(0, 1), Ok(Vec::new()));
    assert_eq!((reader.pages(), reader.pages_decoded()), (1, 1));
    let mut accounts = builder(Compression::Zstd, 0);
    assert_eq!(accounts.account(Disposition::DroppedOverflow, 9), 9);
    let block = accounts.finish(Stamp::default(), 0).unwrap();
    let mut reader = BlockReader::open(&block).unwrap();
    assert_eq!((reader.pages(), reader.events()), (0, Ok(Vec::new())));
}

#[test]
fn golden_pages_are_read_as_ever() {
    let events = large(9_000);
    let plain = block_of(&events, Compression::None, Effort::Normal);
    // A newer compressor may find fewer bytes; the columns are ours.
    assert_eq!(crc32c::crc32c(&plain), GOLDEN_PLAIN_CRC, "{:#x}", crc32c::crc32c(&plain));
    let golden = golden("block-v1-pages-zstd.bin", &block_of(&events, Compression::Zstd, Effort::Normal));
    assert_same(&decode_block(&golden).unwrap().1, &events, 0);
}

/// The checksum of the golden block before compression, which would be large.
const GOLDEN_PLAIN_CRC: u32 = 0x4867_4bc7;

/// The sample as pages, which the builder does not make of so few events but every reader takes.
fn small_pages(compression: Compression) -> Vec<u8> {
    let mut columns = Columns::new();
    sample_events().iter().for_each(|event| columns.push(event));
    let payload = paged::encode(&mut columns, compression, Effort::Normal);
    let header = BlockHeader::parse(&sample_block(Compression::None)).unwrap().header;
    let raw_len = payload.len() as u32;
    BlockHeader { payload_raw_len: raw_len, ..header }.encode(&payload).to_vec()
}

#[test]
fn every_flipped_bit_of_a_page_behind_a_good_checksum_is_survived() {
    let golden = golden("block-v1-pages-none.bin", &small_pages(Compression::None));
    assert_eq!(golden, small_pages(Compression::None));
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let block = small_pages(compression);
        let (_, found) = decode_block(&block).unwrap();
        assert!(found.iter().zip(sample_events()).all(|(found, event)| same(&found.event, &event)));
        let view = BlockHeader::parse(&block).unwrap();
        for bit in 0..view.payload.len() * 8 {
            let mut payload = view.payload.to_vec();
            payload[bit / 8] ^= 1 << (bit % 8);
            if let Ok((_, found)) = decode_block(&view.header.encode(&payload)) {
                assert_eq!(found.len(), 24);
            }
        }
        for len in 0..view.payload.len() {
            assert!(decode_block(&view.header.encode(&view.payload[..len])).is_err(), "{compression:?} {len}");
        }
    }
}

#[test]
fn damage_to_pages_is_survived() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let events: Vec<Event> = (0..2 * PAGE_EVENTS + 1).map(|at| Event::reading("d", "s", 1.0, at as i64)).collect();
        let block = block_of(&events, compression, Effort::Normal);
        let view = BlockHeader::parse(&block).unwrap();
        let step = view.payload.len().div_ceil(400);
        for at in (0..view.payload.len()).step_by(step) {
            let mut damaged = view.payload.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let mut block = view.header.encode(&damaged).to_vec();
            if let Ok((_, found)) = decode_block(&block) {
                assert_eq!(found.len(), events.len());
            }
            block[0x54] ^= 1;
            assert!(decode_block(&block).is_err());
            assert!(decode_block(&view.header.encode(&view.payload[..at])).is_err(), "{compression:?} {at}");
        }
    }
}

#[test]
fn a_directory_that_lies_is_refused_before_it_is_believed() {
    let block = block_of(&large(5_000), Compression::Zstd, Effort::Normal);
    let view = BlockHeader::parse(&block).unwrap();
    let decode = |payload: &[u8], change: &dyn Fn(&mut BlockHeader)| {
        let mut header = view.header.clone();
        header.payload_raw_len = payload.len() as u32;
        change(&mut header);
        crate::decode_payload(&header, payload)
    };
    assert!(decode(view.payload, &|_| {}).is_ok());
    assert!(decode(view.payload, &|header| header.kinds ^= 2).is_err());
    assert!(decode(view.payload, &|header| header.time_min_ms -= 1).is_err());
    assert!(decode(view.payload, &|header| header.time_max_ms += 1).is_err());
    assert!(decode(view.payload, &|header| header.events += 5_000).is_err());
    assert!(decode(view.payload, &|header| header.payload_raw_len += 1).is_err());
    assert!(decode(view.payload, &|header| header.compression = Compression::Zstd).is_err());
    // 64 MiB of head from four bytes; three pages of 4 MiB; pages of one event.
    let huge = [2, 2, 0x80, 0x80, 0x80, 0x20, 4, 0, 0, 0, 0];
    let error = decode(&huge, &|_| {}).unwrap_err();
    assert!(matches!(error, CodecError::Wire(WireError::OverLimit { what: "page bytes", .. })), "{error:?}");
    let page = [0, 1, 1, 0xff, 0xff, 0xff, 1, 4];
    let sum = [&[2, 2, 1, 1, 0x80, 0x08][..], &page, &page].concat();
    let error = decode(&sum, &|_| {}).unwrap_err();
    assert!(matches!(error, CodecError::Wire(WireError::OverLimit { what: "page bytes", .. })), "{error:?}");
    let error = decode(&[2, 2, 1, 1, 1, 0], &|_| {}).unwrap_err();
    assert!(matches!(error, CodecError::Wire(WireError::Invalid { what: "events in a page", .. })), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_events_round_trip_in_pages(
        kinds in prop::collection::vec(event(), 1..40), count in PAGE_EVENTS + 1..9_000, compression in compression(),
    ) {
        let events: Vec<Event> = kinds.into_iter().cycle().take(count).collect();
        let (_, found) = decode_block(&block_of(&events, compression, Effort::Fast)).unwrap();
        assert_same(&found, &events, 0);
    }
}
