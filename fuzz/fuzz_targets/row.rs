//! Rows of a damaged intake record: an answer and no panic, and what decodes
//! is the same after it was written again.
#![no_main]

use grey_codec::row;
use grey_model::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    while let Ok(event) = row::decode(&mut reader) {
        let mut again = Vec::new();
        row::encode(&event, &mut again);
        let found = row::decode(&mut Reader::new(&again)).expect("just encoded");
        assert_eq!(format!("{found:?}"), format!("{event:?}"));
    }
});
