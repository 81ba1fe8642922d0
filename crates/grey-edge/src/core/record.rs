//! The intake record: what one group commit accepted, in order.
//!
//! Layout, little-endian: version (1 or 2), stamp (8), uncertainty (4), epoch (8),
//! three numbers (3 x 8), count of operations (variable), then the operations: a
//! tag byte and
//!
//! ```text
//! 0 event      lane byte (255: by kind), row
//! 1 event      lane byte, client (8), packet id (2), row     MQTT QoS 2
//! 2 release    client (8), packet id (2)
//! 3 reset      client (8)
//! 4 events     client (8), packet id (2), count (variable), then lane byte and row each
//! 5 rules      length (variable), source                      last; in force from here on
//! 6 operation  length (variable), an operator's act on alerts  last
//! ```
//!
//! The numbers of version 1 are the next sequence of each lane before the record.
//! Version 2 is written while the site recovers, when these are not known yet: its
//! numbers are the device events by lane in the earlier records of that recovery.
//!
//! A record without operations is a tick: it moves the rules' time.

use bytes::BufMut;
use grey_codec::{CodecError, row};
use grey_ingest::{Op, Qos2Key};
use grey_model::{Epoch, Lane, Reader, Seq, Stamp, Writer};

const VERSION: u8 = 1;
const VERSION_RECOVERING: u8 = 2;
const LANE_BY_KIND: u8 = 255;
const RULES: u8 = 5;
const OPERATION: u8 = 6;
/// Longest source of a rule set: a record must hold it.
const RULES_BYTES_MAX: usize = 4 << 20;
/// Longest operation: an id, names and a note.
const OPERATION_BYTES_MAX: usize = 64 << 10;
/// Operations in one record: bounds the memory of a replay step.
pub(crate) const OPS_MAX: u64 = 1_000_000;

/// How many events came before a record, by lane: what damage is accounted for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// The next sequence of each lane before this record is applied.
    Next([Seq; 3]),
    /// Device events in the earlier records of the same recovery. What the records
    /// still to be replayed derive is not known when this one is written.
    Recovering([u64; 3]),
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) stamp: Stamp,
    /// The life that the sequences belong to.
    pub(crate) epoch: Epoch,
    pub(crate) before: Before,
    pub(crate) ops: u64,
}

impl RecordHeader {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (version, numbers) = match self.before {
            Before::Next(seqs) => (VERSION, seqs),
            Before::Recovering(counts) => (VERSION_RECOVERING, counts),
        };
        out.put_u8(version);
        out.put_u64_le(self.stamp.hlc);
        out.put_u32_le(self.stamp.uncertainty_ms);
        out.put_u64_le(self.epoch.0);
        numbers.iter().for_each(|number| out.put_u64_le(*number));
        out.put_varint(self.ops);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_RECOVERING {
            return Err(reader.invalid("intake record version").into());
        }
        let stamp = Stamp { hlc: reader.u64()?, uncertainty_ms: reader.u32()? };
        let epoch = Epoch(reader.u64()?);
        let numbers = [reader.u64()?, reader.u64()?, reader.u64()?];
        let before = if version == VERSION { Before::Next(numbers) } else { Before::Recovering(numbers) };
        let ops = reader.count("operations", OPS_MAX)?;
        Ok(Self { stamp, epoch, before, ops })
    }
}

/// Writes one operation. Dead letters have a log of their own and are not written here.
pub(crate) fn encode_op(op: &Op, out: &mut Vec<u8>) -> bool {
    let lane_byte = |lane: &Option<Lane>| lane.map_or(LANE_BY_KIND, |l| l as u8);
    let put_key = |out: &mut Vec<u8>, key: &Qos2Key| {
        out.put_u64_le(key.client);
        out.put_u16_le(key.packet_id);
    };
    match op {
        Op::Event { event, lane, qos2: None } => {
            out.put_u8(0);
            out.put_u8(lane_byte(lane));
            row::encode(event, out);
        }
        Op::Event { event, lane, qos2: Some(key) } => {
            out.put_u8(1);
            out.put_u8(lane_byte(lane));
            put_key(out, key);
            row::encode(event, out);
        }
        Op::Events { events, qos2 } => {
            out.put_u8(4);
            put_key(out, qos2);
            out.put_varint(events.len() as u64);
            for (event, lane) in events {
                out.put_u8(lane_byte(lane));
                row::encode(event, out);
            }
        }
        Op::Release(key) => {
            out.put_u8(2);
            put_key(out, key);
        }
        Op::Reset { client } => {
            out.put_u8(3);
            out.put_u64_le(*client);
        }
        Op::DeadLetter { .. } => return false,
    }
    true
}

/// Reads one operation.
pub(crate) fn decode_op(reader: &mut Reader<'_>) -> Result<Op, CodecError> {
    let read_lane = |reader: &mut Reader<'_>| -> Result<Option<Lane>, CodecError> {
        match reader.u8()? {
            LANE_BY_KIND => Ok(None),
            byte => Ok(Some(Lane::from_u8(byte).ok_or_else(|| reader.invalid("lane"))?)),
        }
    };
    let read_key = |reader: &mut Reader<'_>| -> Result<Qos2Key, CodecError> {
        Ok(Qos2Key { client: reader.u64()?, packet_id: reader.u16()? })
    };
    Ok(match reader.u8()? {
        0 => {
            let lane = read_lane(reader)?;
            Op::Event { event: row::decode(reader)?, lane, qos2: None }
        }
        1 => {
            let lane = read_lane(reader)?;
            let key = read_key(reader)?;
            Op::Event { event: row::decode(reader)?, lane, qos2: Some(key) }
        }
        2 => Op::Release(read_key(reader)?),
        3 => Op::Reset { client: reader.u64()? },
        4 => {
            let qos2 = read_key(reader)?;
            let count = reader.count("events", OPS_MAX)?;
            let mut events = Vec::new();
            for _ in 0..count {
                let lane = read_lane(reader)?;
                events.push((row::decode(reader)?, lane));
            }
            Op::Events { events, qos2 }
        }
        _ => return Err(reader.invalid("operation").into()),
    })
}

/// What a record holds beside devices' operations, after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The source of the rules that are in force from here on.
    Rules(Vec<u8>),
    /// What an operator did to an alert or a silence, as the rules encode it.
    Operation(Vec<u8>),
}

impl Change {
    /// Writes the change as the last operation of a record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (tag, bytes) = match self {
            Self::Rules(source) => (RULES, source),
            Self::Operation(bytes) => (OPERATION, bytes),
        };
        out.put_u8(tag);
        out.put_blob(bytes);
    }
}

/// A record as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) header: RecordHeader,
    pub(crate) ops: Vec<Op>,
    pub(crate) change: Option<Change>,
}

/// Reads a whole record.
pub(crate) fn decode(record: &[u8]) -> Result<Record, CodecError> {
    let mut reader = Reader::new(record);
    let header = RecordHeader::decode(&mut reader)?;
    let mut ops = Vec::with_capacity(header.ops.min(record.len() as u64 / 4) as usize);
    let mut change = None;
    for n in 0..header.ops {
        let tag = record.get(reader.offset()).filter(|_| n + 1 == header.ops);
        match tag {
            Some(&RULES) => {
                reader.u8()?;
                change = Some(Change::Rules(reader.blob("rules", RULES_BYTES_MAX)?.to_vec()));
            }
            Some(&OPERATION) => {
                reader.u8()?;
                change = Some(Change::Operation(reader.blob("operation", OPERATION_BYTES_MAX)?.to_vec()));
            }
            _ => ops.push(decode_op(&mut reader)?),
        }
    }
    if !reader.is_empty() {
        return Err(reader.invalid("end of intake record").into());
    }
    Ok(Record { header, ops, change })
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::Event;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/intake-record-v1.bin");
    const GOLDEN_RECOVERING: &[u8] = include_bytes!("../../tests/golden/intake-record-v2.bin");
    const GOLDEN_OPERATION: &[u8] = include_bytes!("../../tests/golden/intake-record-operation-v1.bin");

    fn ops() -> Vec<Op> {
        let event = |n: f64| Event::reading("press-1", "temperature", n, 1_767_225_600_000);
        let key = Qos2Key { client: 0x0123_4567_89ab_cdef, packet_id: 7 };
        vec![
            Op::Event { event: event(71.5), lane: None, qos2: None },
            Op::Event { event: event(72.5), lane: Some(Lane::Critical), qos2: Some(key) },
            Op::Release(key),
            Op::Reset { client: 9 },
            Op::Events { events: vec![(event(1.0), None), (event(2.0), Some(Lane::Normal))], qos2: key },
        ]
    }

    fn record() -> (RecordHeader, Vec<u8>) {
        record_with(Before::Next([1, 2, 3]))
    }

    fn record_with(before: Before) -> (RecordHeader, Vec<u8>) {
        let ops = ops();
        let stamp = Stamp { hlc: 77 << 22 | 3, uncertainty_ms: 5 };
        let header = RecordHeader { stamp, epoch: Epoch(11), before, ops: ops.len() as u64 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        ops.iter().for_each(|op| assert!(encode_op(op, &mut bytes)));
        (header, bytes)
    }

    #[test]
    fn version_1_stays_readable() {
        let (header, bytes) = record();
        assert_eq!(bytes, GOLDEN, "the format changed: give it a new version and keep this file");
        assert_eq!(decode(GOLDEN).unwrap(), Record { header, ops: ops(), change: None });
    }

    #[test]
    fn version_2_stays_readable() {
        let (header, bytes) = record_with(Before::Recovering([0, 1, 7]));
        assert_eq!(bytes, GOLDEN_RECOVERING, "the format changed: give it a new version and keep this file");
        assert_eq!(decode(GOLDEN_RECOVERING).unwrap(), Record { header, ops: ops(), change: None });
    }

    fn changed(change: &Change) -> (RecordHeader, Vec<u8>) {
        let stamp = Stamp { hlc: 77 << 22, uncertainty_ms: 0 };
        let header = RecordHeader { stamp, epoch: Epoch(11), before: Before::Next([1, 2, 3]), ops: 1 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        change.encode(&mut bytes);
        (header, bytes)
    }

    #[test]
    fn an_operation_stays_readable() {
        let change = Change::Operation(b"acknowledge".to_vec());
        let (header, bytes) = changed(&change);
        assert_eq!(bytes, GOLDEN_OPERATION, "the format changed: give it a new tag and keep this file");
        assert_eq!(decode(GOLDEN_OPERATION).unwrap(), Record { header, ops: Vec::new(), change: Some(change) });
    }

    #[test]
    fn a_change_is_read_back_and_must_be_whole() {
        for change in [Change::Rules(b"rules: []".to_vec()), Change::Operation(b"silence".to_vec())] {
            let (header, bytes) = changed(&change);
            assert_eq!(decode(&bytes).unwrap(), Record { header, ops: Vec::new(), change: Some(change) });
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "length {len}");
            }
        }
    }

    #[test]
    fn cut_records_are_refused() {
        let (_, bytes) = record();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "length {len}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, at in 0_usize..200, with: u8) {
            let _ = decode(&bytes);
            bytes.splice(0..0, record().1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            let _ = decode(&bytes);
        }
    }
}
