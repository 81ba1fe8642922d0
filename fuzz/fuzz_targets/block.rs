//! A block from a peer: whatever its bytes, an answer and no panic.
//!
//! The checksum is put right, because behind a wrong one nothing is reached;
//! what decodes must be encodable again and decode to the same, and a range of
//! time must be the same part of it.
#![no_main]

use grey_codec::{BlockBuilder, BlockReader, RawBuilder, SeqEvent, decode_block, raw_payloads};
use grey_model::{BlockHeader, Stamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_block(bytes);
    let mut block = bytes.to_vec();
    let Some(body) = block.len().checked_sub(4) else { return };
    let crc = crc32c::crc32c(&block[..body]);
    block[body..].copy_from_slice(&crc.to_le_bytes());
    opaque(&block);
    let Ok((header, events)) = decode_block(&block) else { return };
    parts(&block, &events);
    let mut builder = BlockBuilder::new(header.site, header.epoch, header.lane, header.compression, 0);
    for found in &events {
        if builder.push(&found.event).is_err() {
            return;
        }
    }
    if let Some(again) = builder.finish(Stamp::default(), 0) {
        let (_, found) = decode_block(&again).expect("just encoded");
        assert_eq!(found.len(), events.len());
        for (one, other) in found.iter().zip(&events) {
            assert_eq!(format!("{:?}", one.event), format!("{:?}", other.event));
        }
    }
});

fn parts(block: &[u8], events: &[SeqEvent]) {
    let Some(middle) = events.get(events.len() / 2) else { return };
    let from_ms = middle.event.device_time_ms;
    let mut reader = BlockReader::open(block).expect("it was decoded");
    let found = reader.between(from_ms, i64::MAX).expect("it was decoded");
    let expected = events.iter().filter(|found| found.event.device_time_ms >= from_ms);
    assert!(found.iter().map(|found| found.seq).eq(expected.map(|found| found.seq)));
    assert!(reader.pages_decoded() <= reader.pages());
}

fn opaque(block: &[u8]) {
    let Ok(view) = BlockHeader::parse(block) else { return };
    let Ok(payloads) = raw_payloads(&view) else { return };
    let header = view.header;
    let mut builder = RawBuilder::new(header.site, header.epoch, header.lane, header.compression, 0);
    for (_, payload) in payloads.iter() {
        if builder.push(&payload).is_err() {
            return;
        }
    }
    if let Some(again) = builder.finish(Stamp::default(), 0) {
        let again = BlockHeader::parse(&again).expect("just encoded");
        let again = raw_payloads(&again).expect("just encoded");
        assert!(again.iter().map(|(_, payload)| payload).eq(payloads.iter().map(|(_, payload)| payload)));
    }
}
