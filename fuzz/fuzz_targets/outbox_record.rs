//! Records of a damaged stratum of the outbox: an answer and no panic, and positions
//! that make sense.
#![no_main]

use grey_queue::decode_record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    if let Some((positions, block)) = decode_record(&bytes) {
        assert!(positions.start < positions.end && block.len() < bytes.len());
        let _ = grey_model::BlockHeader::parse(&block);
    }
});
