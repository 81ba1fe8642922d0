//! A block from a peer: whatever its bytes, an answer and no panic.
//!
//! The checksum is put right, because behind a wrong one nothing is reached;
//! what decodes must be encodable again and decode to the same.
#![no_main]

use grey_codec::{BlockBuilder, decode_block};
use grey_model::Stamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_block(bytes);
    let mut block = bytes.to_vec();
    let Some(body) = block.len().checked_sub(4) else { return };
    let crc = crc32c::crc32c(&block[..body]);
    block[body..].copy_from_slice(&crc.to_le_bytes());
    let Ok((header, events)) = decode_block(&block) else { return };
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
