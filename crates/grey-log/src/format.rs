//! The bytes of a segment and of the marker, and nothing else: names, headers,
//! records. `docs/design/log-format.md` describes them byte by byte.
//!
//! All functions here are total: hostile bytes are "not a header" or "not a record".

/// First bytes of every segment.
const SEGMENT_MAGIC: [u8; 8] = *b"greylog\0";
/// First bytes of every slot of the marker.
const MARKER_MAGIC: [u8; 8] = *b"greymrk\0";
/// Version of both formats.
const VERSION: u32 = 1;
/// Bytes of a segment before its first record.
pub(crate) const HEADER_BYTES: u64 = 64;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 16;
/// Bytes of one slot of the marker.
pub(crate) const MARKER_BYTES: usize = 48;
/// Set in a record's length: the record is the first of its commit, so everything
/// before it was durable when it was written.
const COMMIT_FLAG: u32 = 1 << 31;
/// No record can be longer than this, whatever the configuration says.
pub(crate) const RECORD_BYTES_LIMIT: usize = 1 << 30;

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
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.record_bytes_max.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.to_le_bytes());
        out[24..32].copy_from_slice(&self.previous_first.to_le_bytes());
        out[32..40].copy_from_slice(&self.previous_end.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when the bytes are no intact header of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES as usize)?;
        if bytes[0..8] != SEGMENT_MAGIC
            || u32_at(bytes, 8) != VERSION
            || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60])
        {
            return None;
        }
        let header = Self {
            record_bytes_max: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            previous_first: u64_at(bytes, 24),
            previous_end: u64_at(bytes, 32),
            epoch: u64_at(bytes, 40),
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
    pub(crate) index: u64,
}

impl RecordHeader {
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        let length = u32_at(bytes, 4);
        Self {
            crc: u32_at(bytes, 0),
            len: (length & !COMMIT_FLAG) as usize,
            starts_commit: length & COMMIT_FLAG != 0,
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
    let length = len as u32 | if starts_commit { COMMIT_FLAG } else { 0 };
    out.reserve(RECORD_HEADER_BYTES + len);
    let mut header = [0; RECORD_HEADER_BYTES];
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&header);
    for part in parts {
        out.extend_from_slice(part);
    }
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

    proptest! {
        #[test]
        fn headers_round_trip_and_reject_any_flip(previous_first: u32, more: (u32, u32), epoch: u32,
                                                   record_bytes_max: u32, flip in 0..64 * 8_usize) {
            let previous_end = u64::from(previous_first) + u64::from(more.0);
            let header = SegmentHeader {
                first: previous_end + u64::from(more.1),
                previous_first: previous_first.into(),
                previous_end,
                epoch: epoch.into(),
                record_bytes_max,
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
            let header = SegmentHeader { first, previous_first, previous_end, epoch, record_bytes_max: 1 };
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
            prop_assert!(header.matches(&bytes));
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
