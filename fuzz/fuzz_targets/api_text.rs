//! What clients write in addresses: cursors, filters, times.
#![no_main]

use grey_api::{Cursor, EventQuery, ListQuery};
use grey_model::time::{format_rfc3339_ms, parse_rfc3339_ms, parse_time_ms};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(cursor) = Cursor::decode(text) {
        // Several encodings may decode, but what is written again is read as the same.
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
    }
    let _ = EventQuery::parse(text, 1_772_366_400_000);
    let _ = ListQuery::parse(text);
    if let Ok(ms) = parse_time_ms(text) {
        assert_eq!(parse_rfc3339_ms(&format_rfc3339_ms(ms)), Ok(ms));
    }
});
