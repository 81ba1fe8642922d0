//! Recordings of any form: events or an error, no panic, and not more events
//! than there could be in so many bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// No form writes an event, or a line to complain about, in fewer bytes.
const EVENT_BYTES_MIN: u64 = 2;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((events, bad)) = grey_operator::read_recording(bytes) {
        assert!((events + bad) * EVENT_BYTES_MIN <= bytes.len() as u64 + EVENT_BYTES_MIN);
    }
});
