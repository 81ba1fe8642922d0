//! Frames: golden bytes, and hostile ones.

use super::*;
use crate::frame::*;
use crate::limits::FRAME_BYTES_MAX;
use crate::testing::{EPOCH, block, key, site};
use grey_model::Lane;
use proptest::prelude::*;
use std::path::PathBuf;

fn status() -> Status {
    Status {
        now_ms: 1_760_000_000_123,
        pending: [
            Pending { events: 1, bytes: 200 },
            Pending { events: 300, bytes: 40_000 },
            Pending { events: 5_000_000, bytes: 1 << 33 },
        ],
        oldest_pending_age_ms: 86_400_000,
        accepted_total: u64::MAX,
        dropped_total: 3,
    }
}

/// One frame of each type, with the name of its golden file.
fn frames() -> Vec<(&'static str, Frame)> {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        role: Role::Edge,
        sender: site("factory-us-west-015"),
        epoch: EPOCH,
        next_seqs: [0, 127, u64::MAX],
        agent: "edge-agent 0.1.0".into(),
    };
    let welcome = Welcome {
        protocol: 1,
        node: 3,
        term: 12,
        coverage: vec![(key("factory-us-west-015", Lane::Normal), vec![0..100, 120..127])],
        window_bytes: 4 << 20,
    };
    let report = SiteReport {
        site: site("factory-us-west-016"),
        epoch: EPOCH,
        connected: true,
        last_seen_ms: 1_760_000_000_000,
        status: status(),
    };
    let redirect = Redirect { address: Some("10.0.0.2:7100".into()), reason: "not the leader".into() };
    let reject = Reject { code: RejectCode::BadBlock, message: "block checksum mismatch".into() };
    let ack = Ack { key: key("factory-us-west-015", Lane::Bulk), ranges: vec![0..5, 9..10], window_bytes: 0 };
    vec![
        ("hello", Frame::Hello(hello.clone())),
        ("hello-hub", Frame::Hello(Hello { role: Role::Hub, ..hello })),
        ("welcome", Frame::Welcome(welcome)),
        ("redirect", Frame::Redirect(redirect)),
        ("redirect-nowhere", Frame::Redirect(Redirect { address: None, reason: String::new() })),
        ("reject", Frame::Reject(reject)),
        ("block", Frame::Block(block(&key("factory-us-west-015", Lane::Critical), 5..8, 10))),
        ("ack", Frame::Ack(ack)),
        ("heartbeat", Frame::Heartbeat(Heartbeat { echo: 77, status: status() })),
        ("heartbeat-ack", Frame::HeartbeatAck(HeartbeatAck { now_ms: -1, echo: 77 })),
        ("sites", Frame::Sites(vec![report.clone(), SiteReport { connected: false, ..report }])),
        ("goodbye", Frame::Goodbye(Goodbye { reason: "shutting down".into() })),
    ]
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.to_vec()
}

fn decode_all(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = FrameDecoder::for_sender();
    decoder.extend(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Puts a prefix with a right length and checksum before a body.
fn seal(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut rest = vec![FRAME_VERSION, kind];
    rest.extend_from_slice(body);
    let mut bytes = (rest.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&rest).to_le_bytes());
    bytes.append(&mut rest);
    bytes
}

/// The bytes of every frame are fixed: a build that writes others does not
/// speak to the ones in the field. Run with `GREY_BLESS=1` to write the files of a new frame.
#[test]
fn golden_bytes() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, frame) in frames() {
        let path = folder.join(format!("{name}.bin"));
        let bytes = encode(&frame);
        if std::env::var_os("GREY_BLESS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(bytes, golden, "{name}");
        assert_eq!(decode_all(&golden), Ok(vec![frame.clone()]), "{name}");
        assert_eq!(frame.wire_len(), golden.len(), "{name}");
    }
}

#[test]
fn frames_survive_any_split() {
    let all: Vec<Frame> = frames().into_iter().map(|(_, frame)| frame).collect();
    let bytes: Vec<u8> = all.iter().flat_map(encode).collect();
    for chunk in [1, 2, 7, 64, bytes.len()] {
        let mut decoder = FrameDecoder::for_sender();
        let mut seen = Vec::new();
        for piece in bytes.chunks(chunk) {
            decoder.extend(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, all);
        assert_eq!(decoder.partial_bytes(), 0);
    }
}

#[test]
fn large_blocks_come_through_whole() {
    let large = Frame::Block(block(&key("s", Lane::Bulk), 0..1, BLOCK_BYTES_MAX - 200));
    assert!(large.wire_len() <= FRAME_BYTES_MAX);
    assert_eq!(decode_all(&encode(&large)), Ok(vec![large]));
}

#[test]
fn every_flipped_bit_is_noticed() {
    for (name, frame) in frames() {
        let good = encode(&frame);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A flip in the length may make the frame wait for more; it is never taken for another frame.
            assert!(decode_all(&bad).map_or(true, |frames| frames.is_empty()), "{name} bit {bit}");
        }
    }
}

#[test]
fn an_error_is_final() {
    let mut decoder = FrameDecoder::for_sender();
    decoder.extend(&seal(99, b""));
    assert_eq!(decoder.next_frame(), Err(FrameError::Type(99)));
    decoder.extend(&encode(&Frame::Goodbye(Goodbye { reason: String::new() })));
    assert_eq!(decoder.next_frame(), Err(FrameError::Type(99)));
}

#[test]
fn lengths_are_refused_before_they_are_waited_for() {
    let long = |kind: u8, len: u32| {
        let mut bytes = (len + 2).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 0, FRAME_VERSION, kind]);
        bytes
    };
    let block_max = BLOCK_BYTES_MAX as u32;
    for (kind, len) in [(FrameType::Block, block_max), (FrameType::Ack, CONTROL_BODY_BYTES_MAX as u32)] {
        assert_eq!(decode_all(&long(kind as u8, len)), Ok(vec![]));
        assert!(matches!(decode_all(&long(kind as u8, len + 1)), Err(FrameError::TooLong { .. })));
    }
    let mut stranger = FrameDecoder::for_receiver();
    stranger.extend(&long(FrameType::Block as u8, HELLO_BODY_BYTES_MAX as u32 + 1));
    assert!(matches!(stranger.next_frame(), Err(FrameError::TooLong { limit: HELLO_BODY_BYTES_MAX, .. })));
    for length in [0, 1_u32] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 0, FRAME_VERSION, 1]);
        assert_eq!(decode_all(&bytes), Err(FrameError::TooShort(length)));
    }
}

#[test]
fn other_protocols_are_named_at_once() {
    let error = decode_all(b"GET / HTTP/1.1\r\n").unwrap_err();
    assert_eq!(error, FrameError::Version(b'T'));
    assert!(error.to_string().contains("version 84"));
}

#[test]
fn the_partial_length_is_known_from_the_first_bytes() {
    let bytes = encode(&frames()[0].1);
    let mut decoder = FrameDecoder::for_receiver();
    assert_eq!(decoder.partial_bytes(), 0);
    decoder.extend(&bytes[..3]);
    assert_eq!(decoder.partial_bytes(), PREFIX_BYTES);
    decoder.extend(&bytes[3..5]);
    assert_eq!(decoder.partial_bytes(), bytes.len());
}

#[test]
fn later_versions_may_append_fields() {
    for (name, frame) in frames() {
        if let Frame::Block(_) = frame {
            continue;
        }
        let bytes = encode(&frame);
        let mut body = bytes[PREFIX_BYTES..].to_vec();
        body.extend_from_slice(b"a later field");
        assert_eq!(decode_all(&seal(bytes[9], &body)), Ok(vec![frame]), "{name}");
    }
}

#[test]
fn limits_hold_beyond_the_types() {
    let many: Vec<_> = (0..=ACK_RANGES_MAX as u64).map(|n| 2 * n..2 * n + 1).collect();
    let ack = |ranges: Vec<Range<u64>>| Frame::Ack(Ack { key: key("s", Lane::Bulk), ranges, window_bytes: 0 });
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let bad = [
        ack(many),
        ack(vec![Range { start: 5, end: 5 }]),
        ack(vec![Range { start: 5, end: 4 }]),
        ack(vec![5..6, 2..3]),
        ack(vec![5..7, 6..8]),
        Frame::Goodbye(Goodbye { reason: long.clone() }),
        Frame::Reject(Reject { code: RejectCode::Other(900), message: long }),
        Frame::Redirect(Redirect { address: Some("h".repeat(ADDRESS_BYTES_MAX + 1)), reason: String::new() }),
    ];
    for frame in bad {
        assert!(matches!(decode_all(&encode(&frame)), Err(FrameError::Body { .. })), "{}", frame.name());
    }
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(text("short"), "short");
    let cut = text("ä".repeat(TEXT_BYTES_MAX));
    assert!(cut.len() <= TEXT_BYTES_MAX && cut.len() + 2 > TEXT_BYTES_MAX);
}

#[test]
fn a_full_page_of_sites_fits() {
    let name = "x".repeat(256);
    let report = SiteReport {
        site: site(&name),
        epoch: grey_model::Epoch(u64::MAX),
        connected: true,
        last_seen_ms: i64::MIN,
        status: Status {
            now_ms: i64::MIN,
            pending: [Pending { events: u64::MAX, bytes: u64::MAX }; 3],
            oldest_pending_age_ms: u64::MAX,
            accepted_total: u64::MAX,
            dropped_total: u64::MAX,
        },
    };
    let frame = Frame::Sites(vec![report; SITES_MAX]);
    assert_eq!(decode_all(&encode(&frame)), Ok(vec![frame]));
}

#[test]
fn a_full_welcome_and_a_full_acknowledgement_fit() {
    let name = "x".repeat(256);
    let far = |n: usize| (0..n as u64).map(|n| (1 << 62) + 2 * n..(1 << 62) + 2 * n + 1).collect::<Vec<_>>();
    let coverage = vec![(key(&name, Lane::Bulk), far(COVERAGE_RANGES_MAX)); COVERAGE_KEYS_MAX];
    let welcome = Welcome { protocol: 1, node: u64::MAX, term: u64::MAX, coverage, window_bytes: u64::MAX };
    let ack = Ack { key: key(&name, Lane::Bulk), ranges: far(ACK_RANGES_MAX), window_bytes: u64::MAX };
    for frame in [Frame::Welcome(welcome), Frame::Ack(ack)] {
        assert_eq!(decode_all(&encode(&frame)), Ok(vec![frame]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        let _ = decode_all(&bytes);
    }

    #[test]
    fn hostile_bodies_never_panic(kind in 0_u8..12, body: Vec<u8>) {
        let _ = decode_all(&seal(kind, &body));
    }

    #[test]
    fn mutated_frames_never_panic(which in 0_usize..12, cuts in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let (_, frame) = &frames()[which];
        let bytes = encode(frame);
        let mut body = bytes[PREFIX_BYTES..].to_vec();
        for (at, byte) in cuts {
            let at = at % (body.len() + 1);
            if byte & 1 == 0 { body.insert(at, byte) } else if at < body.len() { body[at] = byte }
        }
        let _ = decode_all(&seal(bytes[9], &body));
    }
}
