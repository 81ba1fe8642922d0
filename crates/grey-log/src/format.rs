//! The bytes of a segment and of the marker, and nothing else: names, headers,
//! records. `docs/design/log-format.md` describes them byte by byte.
//!
//! All functions here are total: hostile bytes are "not a header" or "not a record".

use grey_seal::{Algorithm, KeyId, Place, Seal, SealError, Sealer};

/// First bytes of every segment.
const SEGMENT_MAGIC: [u8; 8] = *b"greylog\0";
/// First bytes of every slot of the marker.
const MARKER_MAGIC: [u8; 8] = *b"greymrk\0";
/// Version of both formats; segments whose records are sealed have the next one.
const VERSION: u32 = 1;
const VERSION_SEALED: u32 = 2;
/// Bytes of a segment before its first record.
pub(crate) const HEADER_BYTES: u64 = 64;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 16;
/// Bytes of one slot of the marker.
pub(crate) const MARKER_BYTES: usize = 48;
/// Set in a record's length: the record is the first of its commit, so everything
/// before it was durable when it was written.
const COMMIT_FLAG: u32 = 1 << 31;
/// Set in a record's length: the payload is sealed. Of a plain record it is set only
/// if the payload has exactly the largest length.
const SEALED_FLAG: u32 = 1 << 30;
/// No record can be longer than this, whatever the configuration says.
pub(crate) const RECORD_BYTES_LIMIT: usize = SEALED_FLAG as usize;

/// All indexes are below this, so that none can overflow; a log that takes a record
/// each nanosecond lasts 292 years.
pub(crate) const INDEX_LIMIT: u64 = 1 << 63;

const SUFFIX: &str = ".log";
const DIGITS: usize = 20;

/// The file name of the segment whose first record has this index.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:0DIGITS$}{SUFFIX}")
}

/// The first index from a segment's file name.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|first| *first < INDEX_LIMIT)
}

/// What the records of a segment are sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedWith {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: KeyId,
}

impl SealedWith {
    /// What new records are sealed with, if they are.
    pub(crate) fn wanted(seal: Option<&Seal>) -> Option<Self> {
        seal.and_then(Seal::sealing).map(|(algorithm, key_id)| Self { algorithm, key_id })
    }
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Index of the segment's first record.
    pub(crate) first: u64,
    /// First index of the segment before this one; `first` when there was none.
    pub(crate) previous_first: u64,
    /// Where the segment before this one ended; less than `first` when records
    /// between the two were already known to be lost.
    pub(crate) previous_end: u64,
    /// How often the log was reset before; segments of an older epoch are void.
    pub(crate) epoch: u64,
    /// No record in the segment is longer than this.
    pub(crate) record_bytes_max: u32,
    /// `None`: its records are plain.
    pub(crate) sealed: Option<SealedWith>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        let version = if self.sealed.is_some() { VERSION_SEALED } else { VERSION };
        out[8..12].copy_from_slice(&version.to_le_bytes());
        out[12..16].copy_from_slice(&self.record_bytes_max.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.to_le_bytes());
        out[24..32].copy_from_slice(&self.previous_first.to_le_bytes());
        out[32..40].copy_from_slice(&self.previous_end.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        if let Some(SealedWith { algorithm, key_id }) = self.sealed {
            out[48] = algorithm.code();
            out[52..60].copy_from_slice(&key_id.to_bytes());
        }
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when the bytes are no intact header of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES as usize)?;
        if bytes[0..8] != SEGMENT_MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return None;
        }
        let sealed = match u32_at(bytes, 8) {
            VERSION => None,
            VERSION_SEALED => Some(SealedWith {
                algorithm: Algorithm::from_code(bytes[48])?,
                key_id: KeyId::from_bytes(bytes[52..60].try_into().ok()?),
            }),
            _ => return None,
        };
        let header = Self {
            record_bytes_max: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            previous_first: u64_at(bytes, 24),
            previous_end: u64_at(bytes, 32),
            epoch: u64_at(bytes, 40),
            sealed,
        };
        let is_possible = header.previous_first <= header.previous_end
            && header.previous_end <= header.first
            && header.first.max(header.epoch) < INDEX_LIMIT;
        is_possible.then_some(header)
    }
}

/// The header of a record, as found; only [`RecordHeader::matches`] says whether it
/// is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) crc: u32,
    pub(crate) len: usize,
    pub(crate) starts_commit: bool,
    pub(crate) is_sealed: bool,
    pub(crate) index: u64,
}

impl RecordHeader {
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        let length = u32_at(bytes, 4);
        let (flag, length) = (length & COMMIT_FLAG, length & !COMMIT_FLAG);
        let is_sealed = length > SEALED_FLAG;
        Self {
            crc: u32_at(bytes, 0),
            len: if is_sealed { length & !SEALED_FLAG } else { length } as usize,
            starts_commit: flag != 0,
            is_sealed,
            index: u64_at(bytes, 8),
        }
    }

    /// The index alone, of bytes that may be no header.
    pub(crate) fn index_of(bytes: &[u8]) -> u64 {
        u64_at(bytes, 8)
    }

    /// Header and payload in bytes.
    pub(crate) fn total(&self) -> u64 {
        (RECORD_HEADER_BYTES + self.len) as u64
    }

    /// True when `record`, header and payload, is what was written.
    pub(crate) fn matches(&self, record: &[u8]) -> bool {
        crc32c::crc32c(&record[4..]) == self.crc
    }
}

/// Appends one record to `out`. The parts together are the payload.
pub(crate) fn encode_record(out: &mut Vec<u8>, index: u64, starts_commit: bool, parts: &[&[u8]]) {
    let start = out.len();
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(RECORD_HEADER_BYTES + len);
    out.resize(start + RECORD_HEADER_BYTES, 0);
    for part in parts {
        out.extend_from_slice(part);
    }
    finish_record(out, start, index, starts_commit, 0);
}

/// Appends one record to `out`, sealed. On an error `out` is as it was.
pub(crate) fn encode_sealed(
    out: &mut Vec<u8>,
    (index, place): (u64, &Place),
    starts_commit: bool,
    sealer: &mut Sealer,
    parts: &[&[u8]],
) -> Result<(), SealError> {
    let start = out.len();
    out.resize(start + RECORD_HEADER_BYTES, 0);
    if let Err(error) = sealer.seal(place.as_ref(), parts, out) {
        out.truncate(start);
        return Err(error);
    }
    finish_record(out, start, index, starts_commit, SEALED_FLAG);
    Ok(())
}

/// Fills in the header of the record at `start`, whose payload is there already.
fn finish_record(out: &mut [u8], start: usize, index: u64, starts_commit: bool, flag: u32) {
    let len = out.len() - start - RECORD_HEADER_BYTES;
    let length = len as u32 | flag | if starts_commit { COMMIT_FLAG } else { 0 };
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out[start + 8..start + 16].copy_from_slice(&index.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What the marker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marker {
    /// Raised with every write; of two slots the higher one counts.
    pub(crate) sequence: u64,
    /// See [`SegmentHeader::epoch`].
    pub(crate) epoch: u64,
    /// The log's first index.
    pub(crate) start: u64,
    /// Records below this were durable.
    pub(crate) durable: u64,
    /// Records from `durable` on are being taken back.
    pub(crate) is_cutting: bool,
}

impl Marker {
    pub(crate) fn encode(&self) -> [u8; MARKER_BYTES] {
        let mut out = [0; MARKER_BYTES];
        out[0..8].copy_from_slice(&MARKER_MAGIC);
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.start.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.to_le_bytes());
        out[40..42].copy_from_slice(&(VERSION as u16).to_le_bytes());
        out[42] = u8::from(self.is_cutting);
        let crc = crc32c::crc32c(&out[..44]);
        out[44..48].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when the bytes are no intact slot of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MARKER_BYTES)?;
        let is_known = bytes[0..8] == MARKER_MAGIC && u32_at(bytes, 40) & 0xffff == VERSION;
        if !is_known || u32_at(bytes, 44) != crc32c::crc32c(&bytes[..44]) {
            return None;
        }
        let marker = Self {
            sequence: u64_at(bytes, 8),
            epoch: u64_at(bytes, 16),
            start: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
            is_cutting: bytes[42] != 0,
        };
        let is_possible =
            marker.start <= marker.durable && marker.durable.max(marker.epoch).max(marker.sequence) < INDEX_LIMIT;
        is_possible.then_some(marker)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_sort_as_their_indexes_and_nothing_else_parses() {
        assert_eq!(segment_name(7), "00000000000000000007.log");
        assert_eq!(parse_segment_name(&segment_name(INDEX_LIMIT - 1)), Some(INDEX_LIMIT - 1));
        assert_eq!(parse_segment_name(&segment_name(INDEX_LIMIT)), None);
        assert!(segment_name(9) < segment_name(10));
        for name in ["synced", "7.log", "+0000000000000000007.log", "99999999999999999999.log", "00000000000000000007"]
        {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_length_says_whether_the_payload_is_sealed() {
        let decoded = |length: u32| {
            let mut bytes = [0; RECORD_HEADER_BYTES];
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
            let header = RecordHeader::decode(&bytes);
            (header.len, header.is_sealed, header.starts_commit)
        };
        assert_eq!(decoded(41), (41, false, false));
        assert_eq!(decoded(41 | SEALED_FLAG), (41, true, false));
        assert_eq!(decoded(41 | SEALED_FLAG | COMMIT_FLAG), (41, true, true));
        assert_eq!(decoded(1 << 30), (RECORD_BYTES_LIMIT, false, false), "the longest plain one");
        assert_eq!(decoded(u32::MAX), (RECORD_BYTES_LIMIT - 1, true, true));
    }

    proptest! {
        #[test]
        fn headers_round_trip_and_reject_any_flip(previous_first: u32, more: (u32, u32), epoch: u32,
                                                   record_bytes_max: u32, key: Option<(bool, u64)>,
                                                   flip in 0..64 * 8_usize) {
            let previous_end = u64::from(previous_first) + u64::from(more.0);
            let header = SegmentHeader {
                first: previous_end + u64::from(more.1),
                previous_first: previous_first.into(),
                previous_end,
                epoch: epoch.into(),
                record_bytes_max,
                sealed: key.map(|(is_aes, id)| SealedWith {
                    algorithm: if is_aes { Algorithm::Aes256Gcm } else { Algorithm::ChaCha20Poly1305 },
                    key_id: KeyId::from_bytes(id.to_le_bytes()),
                }),
            };
            let mut bytes = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Some(header));
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert_eq!(SegmentHeader::decode(&bytes), None);
        }

        #[test]
        fn markers_round_trip_and_reject_any_flip(sequence in 0..INDEX_LIMIT, epoch in 0..INDEX_LIMIT, start in 0..1_000_u64, more: u32, is_cutting: bool,
                                                   flip in 0..MARKER_BYTES * 8) {
            let marker = Marker { sequence, epoch, start, durable: start + u64::from(more), is_cutting };
            let mut bytes = marker.encode();
            prop_assert_eq!(Marker::decode(&bytes), Some(marker));
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert_eq!(Marker::decode(&bytes), None);
        }

        #[test]
        fn impossible_numbers_are_nothing(first: u64, previous_first: u64, previous_end: u64, epoch: u64) {
            let header = SegmentHeader { first, previous_first, previous_end, epoch, record_bytes_max: 1, sealed: None };
            let is_possible = previous_first <= previous_end && previous_end <= first && first.max(epoch) < INDEX_LIMIT;
            prop_assert_eq!(SegmentHeader::decode(&header.encode()).is_some(), is_possible);
        }

        #[test]
        fn records_round_trip_and_reject_any_flip(index: u64, starts_commit: bool, payload: Vec<u8>, flip: usize) {
            let mut bytes = Vec::new();
            let (a, b) = payload.split_at(payload.len() / 2);
            encode_record(&mut bytes, index, starts_commit, &[a, b]);
            let header = RecordHeader::decode(bytes[..16].try_into().expect("long enough"));
            prop_assert_eq!((header.index, header.starts_commit, header.len), (index, starts_commit, payload.len()));
            prop_assert!(header.matches(&bytes) && !header.is_sealed);
            let flip = flip % (bytes.len() * 8);
            bytes[flip / 8] ^= 1 << (flip % 8);
            let header = RecordHeader::decode(bytes[..16].try_into().expect("long enough"));
            prop_assert!(!header.matches(&bytes));
        }

        #[test]
        fn hostile_bytes_are_nothing(bytes: Vec<u8>) {
            prop_assert_eq!(SegmentHeader::decode(&bytes), None);
            prop_assert_eq!(Marker::decode(&bytes), None);
        }
    }
}
