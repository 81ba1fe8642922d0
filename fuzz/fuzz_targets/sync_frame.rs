//! Any bytes through the uplink's decoder, and what they decode to through
//! both state machines: nothing panics, and what decodes encodes to itself.
//! The same bytes as the texts that an uplink keeps and reads: a budget's usage
//! and the windows of a schedule.

#![no_main]

use bytes::BytesMut;
use grey_link::{Budget, BudgetConfig, BudgetUsage, Schedule, Window};
use grey_model::{Lane, SiteId};
use grey_sync::{
    FrameDecoder, Outbox, OutboxError, Outcome, Receiver, ReceiverAction, ReceiverConfig, Sender, SenderConfig,
};
use libfuzzer_sys::fuzz_target;

struct Nothing;

impl Outbox for Nothing {
    fn next(&mut self, _: grey_model::Lane, _: u64) -> Result<Option<(u64, bytes::Bytes)>, OutboxError> {
        Ok(None)
    }
}

/// Gives every frame a right checksum, so that the fuzzer reaches the bodies.
fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(prefix) = bytes.get(at..at + 10) {
        let length = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        let Some(rest) = bytes.get(at + 8..end) else {
            return;
        };
        let crc = crc32c::crc32c(rest);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// Texts that were kept or configured: what is read is written as it was, and any time is borne.
fn texts(bytes: &[u8], now_ms: i64) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(usage) = text.parse::<BudgetUsage>() {
        assert_eq!(usage.to_string().parse(), Ok(usage));
        let config = BudgetConfig { bytes_per_day: Some(10), bytes_per_month: Some(100), ..BudgetConfig::UNLIMITED };
        let mut budget = Budget::new(config, usage).expect("good settings");
        if let Err(wait) = budget.take(now_ms, 1) {
            assert!(wait.until_ms > now_ms);
        }
    }
    if let Ok(window) = text.parse::<Window>() {
        let schedule = Schedule::new([None, None, Some(vec![window])], 0).expect("a good window");
        assert_eq!(schedule.open(now_ms, Lane::Bulk), schedule.next_open(now_ms, Lane::Bulk).is_none());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, bytes)) = data.split_first() else {
        return;
    };
    texts(bytes, 1_760_000_000_000 + i64::from(mode) * 40_000_000);
    let mut bytes = bytes.to_vec();
    if mode & 1 == 0 {
        repair(&mut bytes);
    }
    let site = SiteId::new("s").expect("a good name");
    let config = SenderConfig::new(site, vec!["a:1".into()]);
    let mut sender = Sender::new(config, [0; 3], 0).expect("good settings");
    sender.on_tick(0);
    sender.on_connected(0);
    let mut receiver = Receiver::new(ReceiverConfig::default(), 0);
    let mut decoder = if mode & 2 == 0 { FrameDecoder::for_sender() } else { FrameDecoder::for_receiver() };
    for chunk in bytes.chunks(1 + usize::from(mode >> 2)) {
        decoder.extend(chunk);
        let frame = match decoder.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(error) => {
                receiver.on_frame_error(&error);
                break;
            }
        };
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(out.len(), frame.wire_len());
        let mut again = FrameDecoder::for_sender();
        again.extend(&out);
        assert_eq!(again.next_frame(), Ok(Some(frame.clone())));
        while sender.poll_transmit(0, &mut Nothing).is_some() {}
        sender.on_frame(0, frame.clone());
        while sender.poll_action().is_some() {}
        receiver.on_frame(0, 0, frame);
        while let Some(action) = receiver.poll_action() {
            match action {
                ReceiverAction::Hello(_) => receiver.accept(Vec::new(), 1 << 20, 1),
                ReceiverAction::Propose { token, .. } => receiver.on_committed(token, Outcome::Committed),
                _ => {}
            }
        }
        while receiver.poll_transmit().is_some() {}
    }
});
