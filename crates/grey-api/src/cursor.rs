//! Where a page of a list ended, as text that a client hands back unread.
//!
//! A cursor is base64url of: version byte, list byte, digest of the query
//! (4 bytes), the position, and a CRC-32C of it all. The checksum finds
//! accidents, not forgers: a position is only where to go on reading, it
//! grants nothing, and every reader of one checks its bounds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BufMut;
use grey_model::limits::NAME_BYTES_MAX;
use grey_model::{Epoch, Lane, Reader, Seq, SiteId, StreamKey, WireError, Writer};

use crate::problem::{Place, Problem};

const VERSION: u8 = 1;
/// Longest cursor as text: the largest position with room to grow.
pub const CURSOR_BYTES_MAX: usize = 1_024;

/// Why text is not a cursor of this list and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The text is not what a cursor looks like.
    #[error("the cursor is damaged; start again without it")]
    Damaged,
    /// A later version wrote it.
    #[error("the cursor is of version {0}, this node reads version {VERSION}; start again without it")]
    Version(u8),
    /// It was given out for other parameters.
    #[error("the cursor belongs to another query; keep every parameter but 'limit' and 'cursor' as it was")]
    OtherQuery,
}

impl From<CursorError> for Problem {
    fn from(error: CursorError) -> Self {
        Problem::invalid_cursor().fault(Place::Parameter("cursor".into()), error.to_string())
    }
}

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// In a log: the next entry to read, and how many events of it were given out already.
    Log {
        /// Index of the entry.
        index: u64,
        /// Events of that entry to skip.
        skip: u32,
    },
    /// In a list sorted by name: after this one.
    Name(String),
    /// In a list sorted by stream key and sequence: after this sequence.
    Stream {
        /// The stream.
        key: StreamKey,
        /// The last sequence given out.
        seq: Seq,
    },
    /// In a list sorted by time, then stream key, then sequence: after this event.
    Time {
        /// Device time in Unix milliseconds.
        time_ms: i64,
        /// The stream.
        key: StreamKey,
        /// The sequence.
        seq: Seq,
    },
}

/// A position within the answer to one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Digest of the parameters that the answer depends on.
    pub query: u32,
    /// Where the next page starts.
    pub position: Position,
}

impl Cursor {
    /// A cursor of a query with this digest.
    pub fn new(query: u32, position: Position) -> Self {
        Self { query, position }
    }

    /// The text for the client.
    pub fn encode(&self) -> String {
        let mut out = Vec::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u32_le(self.query);
        match &self.position {
            Position::Log { index, skip } => {
                out.put_u8(0);
                out.put_varint(*index);
                out.put_varint(u64::from(*skip));
            }
            Position::Name(name) => {
                out.put_u8(1);
                out.put_blob(name.as_bytes());
            }
            Position::Stream { key, seq } => {
                out.put_u8(2);
                put_key(&mut out, key, *seq);
            }
            Position::Time { time_ms, key, seq } => {
                out.put_u8(3);
                out.put_varint_signed(*time_ms);
                put_key(&mut out, key, *seq);
            }
        }
        out.put_u32_le(crc32c::crc32c(&out));
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads what [`Cursor::encode`] wrote. Total on any text.
    pub fn decode(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Damaged)?;
        let (body, stored) = bytes.split_last_chunk::<4>().ok_or(CursorError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*stored) {
            return Err(CursorError::Damaged);
        }
        let mut reader = Reader::new(body);
        match reader.u8() {
            Ok(VERSION) => read_body(&mut reader).map_err(|_| CursorError::Damaged),
            Ok(version) => Err(CursorError::Version(version)),
            Err(_) => Err(CursorError::Damaged),
        }
    }

    /// The position, if the cursor was given out for the query with this digest.
    pub fn position_in(self, query: u32) -> Result<Position, CursorError> {
        if self.query == query { Ok(self.position) } else { Err(CursorError::OtherQuery) }
    }
}

fn put_key(out: &mut Vec<u8>, key: &StreamKey, seq: Seq) {
    out.put_blob(key.site.as_str().as_bytes());
    out.put_varint(key.epoch.0);
    out.put_u8(key.lane as u8);
    out.put_varint(seq);
}

fn read_key(reader: &mut Reader<'_>) -> Result<(StreamKey, Seq), WireError> {
    let site = SiteId::new(reader.text("site", NAME_BYTES_MAX)?).map_err(|_| reader.invalid("site"))?;
    let epoch = Epoch(reader.varint()?);
    let lane = Lane::from_u8(reader.u8()?).ok_or_else(|| reader.invalid("lane"))?;
    Ok((StreamKey { site, epoch, lane }, reader.varint()?))
}

fn read_body(reader: &mut Reader<'_>) -> Result<Cursor, WireError> {
    let query = reader.u32()?;
    let position = match reader.u8()? {
        0 => Position::Log { index: reader.varint()?, skip: reader.count("events to skip", u32::MAX.into())? as u32 },
        1 => Position::Name(reader.text("name", NAME_BYTES_MAX)?.to_owned()),
        2 => {
            let (key, seq) = read_key(reader)?;
            Position::Stream { key, seq }
        }
        3 => {
            let time_ms = reader.varint_signed()?;
            let (key, seq) = read_key(reader)?;
            Position::Time { time_ms, key, seq }
        }
        _ => return Err(reader.invalid("position")),
    };
    if !reader.is_empty() {
        return Err(reader.invalid("trailing bytes"));
    }
    Ok(Cursor { query, position })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = StreamKey> {
        ("[a-z0-9.:_-]{1,256}", any::<u64>(), 0_u8..3).prop_map(|(site, epoch, lane)| StreamKey {
            site: SiteId::new(&site).unwrap(),
            epoch: Epoch(epoch),
            lane: Lane::from_u8(lane).unwrap(),
        })
    }

    fn position() -> impl Strategy<Value = Position> {
        prop_oneof![
            (any::<u64>(), any::<u32>()).prop_map(|(index, skip)| Position::Log { index, skip }),
            "[a-zà-ü]{0,100}".prop_map(Position::Name),
            (key(), any::<u64>()).prop_map(|(key, seq)| Position::Stream { key, seq }),
            (any::<i64>(), key(), any::<u64>()).prop_map(|(time_ms, key, seq)| Position::Time { time_ms, key, seq }),
        ]
    }

    proptest! {
        #[test]
        fn round_trips(query: u32, position in position()) {
            let cursor = Cursor::new(query, position);
            let text = cursor.encode();
            prop_assert!(text.len() <= CURSOR_BYTES_MAX);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(Cursor::decode(&text), Ok(cursor));
        }

        #[test]
        fn one_changed_character_is_noticed(query: u32, position in position(), at: prop::sample::Index, to in "[A-Za-z0-9_-]") {
            let cursor = Cursor::new(query, position);
            let text = cursor.encode();
            let at = at.index(text.len());
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            prop_assert_eq!(Cursor::decode(&changed).is_ok(), changed == text);
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,80}", mut bytes: Vec<u8>) {
            let _ = Cursor::decode(&text);
            bytes.put_u32_le(crc32c::crc32c(&bytes));
            let _ = Cursor::decode(&URL_SAFE_NO_PAD.encode(&bytes));
        }
    }

    #[test]
    fn a_cursor_of_another_query_or_version_says_so() {
        let cursor = Cursor::new(7, Position::Log { index: 1, skip: 2 });
        assert_eq!(cursor.clone().position_in(7), Ok(Position::Log { index: 1, skip: 2 }));
        assert_eq!(cursor.position_in(8), Err(CursorError::OtherQuery));
        let mut bytes = vec![9];
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        assert_eq!(Cursor::decode(&URL_SAFE_NO_PAD.encode(&bytes)), Err(CursorError::Version(9)));
    }

    #[test]
    fn the_format_of_version_1_stays() {
        let cursor = Cursor::new(0x0102_0304, Position::Log { index: 300, skip: 5 });
        assert_eq!(cursor.encode(), "AQQDAgEArAIFy7QG6w");
    }
}
