//! Rows and blocks as a whole: everything comes back bit by bit, nothing
//! hostile gets through.

use grey_model::{
    Account, BlockHeader, Compression, Disposition, Epoch, Event, Kind, Lane, Name, Quality, Reader, RuleId, SiteId,
    Stamp, Value, WireError,
};
use proptest::prelude::*;

use crate::{BlockBuilder, CodecError, Effort, RawBuilder, SeqEvent, decode_block, raw_payloads, row};

mod paged;

/// Equality that tells 0.0 from -0.0 and NaN from nothing.
fn same(a: &Event, b: &Event) -> bool {
    fn bits(value: &Value) -> Vec<u64> {
        match value {
            Value::Number(number) => vec![number.to_bits()],
            Value::Vector(samples) => samples.iter().map(|sample| sample.to_bits()).collect(),
            Value::Fields(fields) => fields.iter().map(|(_, number)| number.to_bits()).collect(),
            _ => Vec::new(),
        }
    }
    let without_numbers = |event: &Event| {
        let value = match &event.value {
            Value::Number(_) => Value::Number(0.0),
            Value::Vector(samples) => Value::Vector(vec![0.0; samples.len()].into()),
            Value::Fields(fields) => Value::Fields(fields.iter().map(|(name, _)| (name.clone(), 0.0)).collect()),
            other => other.clone(),
        };
        Event { value, ..event.clone() }
    };
    bits(&a.value) == bits(&b.value) && without_numbers(a) == without_numbers(b)
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![4 => "[ab]", 1 => Just(String::new()), 1 => "\\PC{0,12}"].prop_map(Name::from)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-5_000_i32..5_000, 0..4).prop_map(|(whole, places)| f64::from(whole) / 10_f64.powi(places)),
        2 => 20.0..30.0_f64,
        1 => prop::num::f64::ANY,
        1 => prop::sample::select(vec![0.0, -0.0, f64::MAX, f64::MIN, 5e-324, -5e-324, 1e15, 9_007_199_254_740_993.0]),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => number().prop_map(Value::Number),
        2 => any::<bool>().prop_map(Value::Bool),
        2 => prop_oneof![any::<i64>(), -50_i64..50].prop_map(Value::Integer),
        1 => "\\PC{0,20}".prop_map(|text| Value::Text(text.into())),
        1 => prop::collection::vec(number(), 0..6).prop_map(|samples| Value::Vector(samples.into())),
        2 => prop::collection::vec((name(), number()), 0..4).prop_map(|fields| Value::Fields(fields.into())),
    ]
}

fn id() -> impl Strategy<Value = Option<Name>> {
    prop_oneof![
        3 => Just(None),
        2 => (0..200_u32).prop_map(|n| Some(Name::from(format!("e-{n:02}")))),
        1 => any::<u128>().prop_map(|n| Some(Name::from(format!("{n:032x}")))),
        1 => name().prop_map(Some),
    ]
}

fn stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![
        6 => (0..50_i64, 0..3_u64, 0..2_u32).prop_map(|(ms, counter, uncertainty_ms)| {
            Stamp { hlc: Stamp::at_unix_ms(1_760_000_000_000 + ms).hlc | counter, uncertainty_ms }
        }),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(hlc, uncertainty_ms)| Stamp { hlc, uncertainty_ms }),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 1_760_000_000_000..1_760_000_000_100_i64,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1]),
    ]
}

prop_compose! {
    fn event()(
        device in name(), stream in name(), kind in 0..6_u8, value in value(), device_time_ms in time(),
        stamp in stamp(), quality in 0..3_u8, plain: bool,
        unit in prop::option::of(prop_oneof![Just("°C".to_owned()), "\\PC{0,8}"].prop_map(Name::from)), id in id(),
        attributes in prop::collection::vec((name(), name()), 0..4),
    ) -> Event {
        Event {
            device, stream, value, device_time_ms, stamp, unit, id,
            kind: if plain { Kind::Reading } else { Kind::from_u8(kind).unwrap() },
            quality: if plain { Quality::Good } else { Quality::from_u8(quality).unwrap() },
            attributes: if plain { Vec::new() } else { attributes },
        }
    }
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd])
}

fn disposition() -> impl Strategy<Value = Disposition> {
    prop_oneof![
        (0..3_u16).prop_map(|rule| Disposition::Reduced(RuleId(rule))),
        Just(Disposition::Deduplicated),
        Just(Disposition::DroppedOverflow),
        Just(Disposition::DroppedDamage),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Event(Box<Event>),
    Account(Disposition, u64),
    Finish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => event().prop_map(|event| Step::Event(Box::new(event))),
        2 => (disposition(), 0..5_u64).prop_map(|(disposition, n)| Step::Account(disposition, n)),
        1 => Just(Step::Finish),
    ];
    prop::collection::vec(step, 0..60)
}

fn builder(compression: Compression, next_seq: u64) -> BlockBuilder {
    BlockBuilder::new(SiteId::new("plant-7").unwrap(), Epoch(3), Lane::Bulk, compression, next_seq)
}

/// A fixed block with something of everything.
fn sample_events() -> Vec<Event> {
    let mut events = Vec::new();
    for at in 0..24_i64 {
        let mut event =
            Event::reading("pump-1", "temperature", 21.5 + at as f64 / 100.0, 1_760_000_000_000 + at * 1_000);
        event.stamp = Stamp { hlc: Stamp::at_unix_ms(event.device_time_ms + 7).hlc, uncertainty_ms: 12 };
        event.unit = Some(Name::from("°C"));
        match at % 8 {
            1 => event.value = Value::Number(1.0 / (at as f64)),
            2 => (event.stream, event.value) = (Name::from("running"), Value::Bool(at % 3 == 0)),
            3 => (event.stream, event.value) = (Name::from("strokes"), Value::Integer(1_000_000 + at)),
            4 => (event.kind, event.value) = (Kind::Log, Value::Text(format!("línea {at}").into())),
            5 => event.value = Value::Vector([0.5, -0.0, at as f64, 1e300].into()),
            6 => {
                let fields = [(Name::from("avg"), 21.25), (Name::from("count"), at as f64)];
                (event.kind, event.value) = (Kind::Aggregate, Value::Fields(fields.into()));
            }
            7 => (event.kind, event.quality) = (Kind::Alert, Quality::Uncertain),
            _ => {}
        }
        event.id = match at % 3 {
            0 => Some(Name::from(format!("pump-1/{at:04}"))),
            1 => Some(Name::from(format!("6ba7b810-9dad-11d1-80b4-{at:012x}"))),
            _ => None,
        };
        if at % 5 == 0 {
            event.attributes = vec![(Name::from("linie"), Name::from("süd")), (Name::from("shift"), Name::from("b"))];
        }
        events.push(event);
    }
    events
}

fn sample_block(compression: Compression) -> Vec<u8> {
    let mut builder = builder(compression, 100);
    assert_eq!(builder.account(Disposition::Reduced(RuleId(7)), 5), 5);
    for event in sample_events() {
        builder.push(&event).unwrap();
    }
    assert_eq!(builder.account(Disposition::Deduplicated, 2), 2);
    builder
        .finish(Stamp { hlc: Stamp::at_unix_ms(1_760_000_060_000).hlc | 9, uncertainty_ms: 12 }, 77)
        .unwrap()
        .to_vec()
}

#[test]
fn an_empty_builder_has_no_block() {
    let mut builder = builder(Compression::Zstd, 5);
    assert_eq!(builder.finish(Stamp::default(), 0), None);
    assert_eq!(builder.account(Disposition::Deduplicated, 0), 0);
    assert_eq!(builder.finish(Stamp::default(), 0), None);
    assert_eq!(builder.next_seq(), 5);
}

#[test]
fn a_block_of_accounts_alone_has_no_payload() {
    let mut builder = builder(Compression::Zstd, 5);
    assert_eq!(builder.account(Disposition::DroppedOverflow, 1 << 40), u64::from(u32::MAX));
    assert_eq!(builder.push(&Event::reading("d", "s", 1.0, 0)), Err(CodecError::Full));
    let block = builder.finish(Stamp::default(), 0).unwrap();
    let (header, events) = decode_block(&block).unwrap();
    assert_eq!((header.span, header.events, header.payload_raw_len, events.len()), (u32::MAX, 0, 0, 0));
    assert_eq!(builder.next_seq(), 5 + u64::from(u32::MAX));
}

#[test]
fn an_event_over_a_limit_leaves_the_builder_as_it_was() {
    let mut builder = builder(Compression::None, 0);
    let good = Event::reading("d", "s", 1.0, 0);
    builder.push(&good).unwrap();
    let before = builder.bytes_estimate();
    let bad = Event { unit: Some(Name::from("x".repeat(33))), ..good.clone() };
    assert!(matches!(builder.push(&bad), Err(CodecError::Limit(_))));
    assert_eq!((builder.bytes_estimate(), builder.events(), builder.next_seq()), (before, 1, 1));
}

#[test]
fn the_largest_events_fit_and_a_block_stays_within_its_limit() {
    use grey_model::limits::{BLOCK_BYTES_MAX, VECTOR_LEN_MAX};
    // Bits without any pattern, by a multiplicative generator.
    let mut state = 1_u64;
    let samples: Vec<f64> = (0..VECTOR_LEN_MAX)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from_bits(state)
        })
        .collect();
    let long = |at: usize| Name::from(format!("{at:0256}"));
    let event = Event {
        device: long(1),
        value: Value::Vector(samples.into()),
        id: Some(Name::from("ä".repeat(128))),
        attributes: (0..32).map(|at| (long(at), long(at + 50))).collect(),
        ..Event::reading("", "s", 0.0, i64::MIN)
    };
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut builder = builder(compression, 0);
        let mut pushed = 0;
        while builder.push(&event).is_ok() {
            pushed += 1;
        }
        assert!(pushed >= 5, "{pushed}");
        let estimate = builder.bytes_estimate();
        let block = builder.finish(Stamp::default(), 0).unwrap();
        assert!(block.len() <= estimate && estimate <= BLOCK_BYTES_MAX, "{} {estimate}", block.len());
        let (_, events) = decode_block(&block).unwrap();
        assert_eq!(events.len(), pushed);
        assert!(events.iter().all(|found| same(&found.event, &event)));
    }
}

#[test]
fn a_full_block_of_the_smallest_events_is_read_back() {
    use grey_model::limits::BLOCK_EVENTS_MAX;
    let mut builder = builder(Compression::Lz4, 0);
    for at in 0..BLOCK_EVENTS_MAX {
        builder.push(&Event::reading("d", "s", 1.0, i64::from(at))).unwrap();
    }
    assert_eq!(builder.push(&Event::reading("d", "s", 1.0, 0)), Err(CodecError::Full));
    let count = builder.events();
    assert_eq!(count, BLOCK_EVENTS_MAX);
    let (_, events) = decode_block(&builder.finish(Stamp::default(), 0).unwrap()).unwrap();
    assert_eq!(events.len(), count as usize);
}

#[test]
fn the_builder_forgets_nothing_and_keeps_nothing_between_blocks() {
    let mut used = builder(Compression::Zstd, 0);
    used.push(&sample_events()[6]).unwrap();
    used.finish(Stamp::default(), 1);
    let mut fresh = builder(Compression::Zstd, 1);
    for event in sample_events() {
        assert_eq!(used.push(&event).unwrap(), fresh.push(&event).unwrap());
    }
    assert_eq!(used.finish(Stamp::default(), 2), fresh.finish(Stamp::default(), 2));
}

#[test]
fn a_header_that_promises_something_else_is_refused() {
    let block = sample_block(Compression::None);
    let view = BlockHeader::parse(&block).unwrap();
    let decode = |change: &dyn Fn(&mut BlockHeader)| {
        let mut header = view.header.clone();
        change(&mut header);
        crate::decode_payload(&header, view.payload)
    };
    assert!(decode(&|_| {}).is_ok());
    assert!(decode(&|header| header.kinds ^= 1).is_err());
    assert!(decode(&|header| header.time_min_ms -= 1).is_err());
    assert!(decode(&|header| header.time_max_ms += 1).is_err());
    assert!(decode(&|header| header.payload_raw_len += 1).is_err());
    assert!(decode(&|header| header.compression = Compression::Lz4).is_err());
    assert!(decode(&|header| header.compression = Compression::Zstd).is_err());
    assert!(decode(&|header| header.events -= 1).is_err());
    assert!(decode(&|header| header.events += 1).is_err());
    assert!(decode(&|header| header.events = 0).is_err());
    // Parsing a block refuses this one already; the payload's reader must not trust that.
    assert!(
        decode(&|header| header.accounts = vec![Account { range: 100..131, disposition: Disposition::Deduplicated }])
            .is_err()
    );
}

#[test]
fn a_small_lie_never_buys_a_large_buffer() {
    let block = sample_block(Compression::None);
    let view = BlockHeader::parse(&block).unwrap();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let header = BlockHeader { compression, payload_raw_len: 60 << 20, ..view.header.clone() };
        assert!(crate::decode_payload(&header, view.payload).is_err());
    }
}

/// A few bytes can decompress to millions of table entries: the limits stand before the tables.
#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let mut strings = vec![1, 0];
    bytes::BufMut::put_slice(&mut strings, &[0x80, 0x80, 0x80, 0x02]); // 2^22 strings
    strings.resize(4_000_000, 0);
    let mut fields = vec![1, 0, 1, 0, 0, 0xff, 0xff, 0x03]; // one empty string, no attributes, 65,535 lists of fields
    fields.extend((0..65_535).flat_map(|_| [0x10].into_iter().chain([0; 16])));
    for raw in [strings, fields] {
        let payload = zstd::bulk::compress(&raw, 3).unwrap();
        assert!(payload.len() < 2_000);
        let block = block_around(&payload, 65_536, Compression::Zstd, raw.len() as u32);
        let error = decode_block(&block).unwrap_err();
        assert!(
            matches!(&error, CodecError::Wire(WireError::OverLimit { what: "strings", .. }))
                || matches!(error, CodecError::Contradiction { what: "more names than a block may hold" }),
            "{error:?}"
        );
    }
}

/// Puts a payload under a header that fits it, checksum and all.
fn block_around(payload: &[u8], events: u32, compression: Compression, raw_len: u32) -> Vec<u8> {
    let block = sample_block(Compression::None);
    let header = BlockHeader::parse(&block).unwrap().header;
    let span = events;
    BlockHeader { events, span, compression, payload_raw_len: raw_len, accounts: Vec::new(), ..header }
        .encode(payload)
        .to_vec()
}

#[test]
fn every_flipped_bit_behind_a_good_checksum_is_survived() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let block = sample_block(compression);
        let view = BlockHeader::parse(&block).unwrap();
        for bit in 0..view.payload.len() * 8 {
            let mut payload = view.payload.to_vec();
            payload[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_block(&view.header.encode(&payload));
        }
        for len in 0..view.payload.len() {
            let cut = view.header.encode(&view.payload[..len]);
            assert!(decode_block(&cut).is_err(), "{compression:?} {len}");
        }
    }
}

/// Compares with a golden file of format version 1, which no later version may change or fail to read.
/// `GREY_BLESS=1 cargo test -p grey-codec` writes the file anew while version 1 is unreleased.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("GREY_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::read(&path).unwrap()
}

#[test]
fn golden_opaque_payloads_are_written_and_read_as_ever() {
    let mut builder = RawBuilder::new(SiteId::new("plant-7").unwrap(), Epoch(3), Lane::Normal, Compression::None, 10);
    let payloads = [&b"{\"temperature\":21.5}"[..], b"", &[0xff; 200]];
    for (payload, seq) in payloads.iter().zip(10..) {
        assert_eq!(builder.push(payload), Ok(seq));
        assert_eq!(builder.account(Disposition::DroppedOverflow, u64::from(seq == 12)), u64::from(seq == 12));
    }
    let block =
        builder.finish(Stamp { hlc: Stamp::at_unix_ms(1_760_000_060_000).hlc, uncertainty_ms: 12 }, 77).unwrap();
    let golden = golden("block-v1-opaque.bin", &block);
    assert_eq!(block, golden);
    let view = BlockHeader::parse(&golden).unwrap();
    let found = raw_payloads(&view).unwrap();
    assert!(found.iter().map(|(_, payload)| payload.to_vec()).eq(payloads.iter().map(|payload| payload.to_vec())));
    assert_eq!((view.header.span, view.header.events, view.header.kinds), (4, 3, 0));
}

#[test]
fn golden_rows_are_written_and_read_as_ever() {
    let mut bytes = Vec::new();
    sample_events().iter().for_each(|event| row::encode(event, &mut bytes));
    let golden = golden("rows-v1.bin", &bytes);
    assert_eq!(bytes, golden);
    let mut reader = Reader::new(&golden);
    for event in sample_events() {
        assert!(same(&row::decode(&mut reader).unwrap(), &event), "{event:?}");
    }
    assert!(reader.is_empty());
}

#[test]
fn golden_blocks_are_read_as_ever() {
    for (name, compression) in [
        ("block-v1-none.bin", Compression::None),
        ("block-v1-lz4.bin", Compression::Lz4),
        ("block-v1-zstd.bin", Compression::Zstd),
    ] {
        let block = sample_block(compression);
        let golden = golden(name, &block);
        if compression == Compression::None {
            // A newer compressor may find fewer bytes; the columns are ours.
            assert_eq!(block, golden);
        }
        let (header, events) = decode_block(&golden).unwrap();
        assert_eq!((header.compression, header.first_seq, header.span, header.intake), (compression, 100, 31, 77));
        assert_eq!(header.accounts.len(), 2);
        for ((found, event), seq) in events.iter().zip(sample_events()).zip(105..) {
            assert!(found.seq == seq && same(&found.event, &event), "{found:?}");
        }
        assert_eq!(events.len(), 24);
    }
}

proptest! {
    #[test]
    fn any_row_round_trips(events in prop::collection::vec(event(), 1..6)) {
        let mut bytes = Vec::new();
        events.iter().for_each(|event| row::encode(event, &mut bytes));
        let mut reader = Reader::new(&bytes);
        for event in &events {
            let found = row::decode(&mut reader).unwrap();
            prop_assert!(same(&found, event), "{found:?} {event:?}");
        }
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn hostile_rows_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), event in event(), at: usize, bit in 0..8) {
        let _ = row::decode(&mut Reader::new(&bytes));
        let mut row = Vec::new();
        row::encode(&event, &mut row);
        for len in 0..row.len() {
            prop_assert!(row::decode(&mut Reader::new(&row[..len])).is_err(), "{len} of {}", row.len());
        }
        let at = at % row.len();
        row[at] ^= 1_u8 << bit;
        let _ = row::decode(&mut Reader::new(&row));
    }

    #[test]
    fn any_blocks_round_trip(steps in steps(), compression in compression(), first in 0..1_000_u64) {
        let mut builder = builder(compression, first);
        let mut again = self::builder(compression, first);
        let (mut events, mut accounts, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = first;
        for step in steps.into_iter().chain([Step::Finish]) {
            match step {
                Step::Event(event) => {
                    prop_assert_eq!(builder.push(&event).unwrap(), next);
                    again.push(&event).unwrap();
                    events.push(SeqEvent { seq: next, event: *event });
                    next += 1;
                }
                Step::Account(disposition, n) => {
                    prop_assert_eq!(builder.account(disposition, n), n);
                    let _ = again.account(disposition, n);
                    accounts.extend((next..next + n).map(|seq| (seq, disposition)));
                    next += n;
                }
                Step::Finish => {
                    let estimate = builder.bytes_estimate();
                    let block = builder.finish(Stamp { hlc: next, uncertainty_ms: 1 }, next);
                    prop_assert_eq!(&block, &again.finish(Stamp { hlc: next, uncertainty_ms: 1 }, next));
                    if let Some(block) = block {
                        prop_assert!(block.len() <= estimate);
                        blocks.push(block);
                    }
                }
            }
        }
        let (mut found_events, mut found_accounts, mut at) = (Vec::new(), Vec::new(), first);
        for block in blocks {
            let (header, decoded) = decode_block(&block).unwrap();
            prop_assert_eq!(header.first_seq, at);
            prop_assert!(header.payload_raw_len as usize <= grey_model::limits::BLOCK_BYTES_MAX);
            at = header.range().end;
            found_accounts.extend(header.accounts.iter().flat_map(|run| run.range.clone().map(|seq| (seq, run.disposition))));
            prop_assert!(header.accounts.windows(2).all(|pair| {
                pair[0].range.end < pair[1].range.start || pair[0].disposition != pair[1].disposition
            }), "neighbouring runs of one disposition are one");
            found_events.extend(decoded);
        }
        prop_assert_eq!(at, next);
        prop_assert_eq!(found_accounts, accounts);
        prop_assert_eq!(found_events.len(), events.len());
        for (found, event) in found_events.iter().zip(&events) {
            prop_assert!(found.seq == event.seq && same(&found.event, &event.event), "{found:?} {event:?}");
        }
    }

    #[test]
    fn mutated_payloads_never_panic(
        events in prop::collection::vec(event(), 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), 0..4_u8, Just(0xff)]), 1..4),
    ) {
        let mut builder = builder(Compression::None, 0);
        for event in &events {
            builder.push(event).unwrap();
        }
        let block = builder.finish(Stamp::default(), 0).unwrap();
        let view = BlockHeader::parse(&block).unwrap();
        let mut payload = view.payload.to_vec();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Ok((header, found)) = decode_block(&view.header.encode(&payload)) {
            prop_assert_eq!(found.len(), events.len());
            // What decodes is an event like any other.
            let mut again = self::builder(header.compression, 0);
            for event in &found {
                prop_assert_eq!(again.push(&event.event).is_ok(), true);
            }
            let (_, twice) = decode_block(&again.finish(Stamp::default(), 0).unwrap()).unwrap();
            prop_assert!(twice.iter().zip(&found).all(|(a, b)| same(&a.event, &b.event)));
        }
    }

    #[test]
    fn hostile_payloads_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..300), events in 0..40_u32, keep in 0..400_usize,
        compression in compression(), raw_len in 0..2_000_u32,
    ) {
        let good = sample_block(Compression::None);
        let good = BlockHeader::parse(&good).unwrap().payload;
        let mut payload = good[..keep.min(good.len())].to_vec();
        payload.extend_from_slice(&body);
        let own_len = payload.len() as u32;
        let _ = decode_block(&block_around(&payload, events, Compression::None, own_len));
        let _ = decode_block(&block_around(&payload, 24, Compression::None, own_len));
        let _ = decode_block(&block_around(&body, events, compression, raw_len));
    }
}
