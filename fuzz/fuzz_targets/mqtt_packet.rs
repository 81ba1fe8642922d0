//! What a client may send: a packet, a fault or a wish for more, and a session
//! that stays consistent whatever it is told.
#![no_main]

use grey_ingest::mqtt::codec::{PACKET_BYTES_MAX, Packet, Split, Version, decode, split};
use grey_ingest::mqtt::exercise;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The first byte chooses the version, how the session starts and how the bytes come.
    let Some((choice, bytes)) = input.split_first() else { return };
    let version = if choice & 1 == 0 { Version::V311 } else { Version::V5 };
    let mut rest = bytes;
    while let Ok(Split::Frame(frame)) = split(rest, PACKET_BYTES_MAX) {
        assert!(frame.len <= rest.len());
        rest = &rest[frame.len..];
        let Ok(packet) = decode(&frame, version) else { continue };
        let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        let Ok(Split::Frame(frame)) = split(&again, usize::MAX) else { panic!("no packet: {again:02x?}") };
        assert_eq!(frame.len, again.len());
        assert_eq!(decode(&frame, version), Ok(packet));
    }
    exercise(version, choice & 2 == 0, bytes, usize::from(choice >> 2) * 4 + 1);
});
