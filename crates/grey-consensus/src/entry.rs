//! How an entry of the replicated log is written into a record of `grey-log`, and
//! how an entry says whose proposal it is.
//!
//! Record: format `u8` = 1, term varint, context blob, data (the rest). The index
//! is the record's own. Context: empty for the entry that opens a leader's term;
//! tag 1 for a proposal (member varint, boot `u64`, number varint); tag 2 for a
//! readmission, whose data names the member and its life.

use bytes::{BufMut, Bytes};
use grey_model::{Reader, WireError, Writer};
use raft::eraftpb::Entry;

/// Format byte of a record.
const FORMAT: u8 = 1;
/// Longest context in bytes: tag, member, boot, number.
pub(crate) const CONTEXT_BYTES_MAX: usize = 40;
/// What a record or a wire entry adds to its data, at most, in bytes.
pub(crate) const RECORD_OVERHEAD_BYTES_MAX: usize = 64;
/// Terms and indexes stay below this, so that arithmetic on them cannot overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Opens a leader's term; carries nothing.
    TermStart,
    /// A caller's data.
    Proposal(ProposalId),
    /// A member that lost its memory counts again from here on.
    Readmit {
        /// The member.
        member: u64,
        /// The life of its data directory.
        life: u64,
    },
}

/// Whose proposal an entry is. A position in a queue would not do: entries are
/// overwritten, and a restarted member must not take its predecessor's for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProposalId {
    pub(crate) member: u64,
    pub(crate) boot: u64,
    pub(crate) number: u64,
}

impl Purpose {
    pub(crate) fn encode(self) -> (Bytes, Bytes) {
        let mut context = Vec::with_capacity(CONTEXT_BYTES_MAX);
        match self {
            Self::TermStart => (Bytes::new(), Bytes::new()),
            Self::Proposal(id) => {
                context.put_u8(1);
                context.put_varint(id.member);
                context.put_u64_le(id.boot);
                context.put_varint(id.number);
                (context.into(), Bytes::new())
            }
            Self::Readmit { member, life } => {
                context.put_u8(2);
                let mut data = Vec::with_capacity(18);
                data.put_varint(member);
                data.put_u64_le(life);
                (context.into(), data.into())
            }
        }
    }

    pub(crate) fn decode(context: &[u8], data: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(context);
        if reader.is_empty() {
            return if data.is_empty() { Ok(Self::TermStart) } else { Err(reader.invalid("entry without purpose")) };
        }
        let purpose = match reader.u8()? {
            1 => Self::Proposal(ProposalId { member: reader.varint()?, boot: reader.u64()?, number: reader.varint()? }),
            2 => {
                let mut data = Reader::new(data);
                let purpose = Self::Readmit { member: data.varint()?, life: data.u64()? };
                if !data.is_empty() {
                    return Err(data.invalid("end of readmission"));
                }
                purpose
            }
            _ => return Err(reader.invalid("entry purpose")),
        };
        if reader.is_empty() { Ok(purpose) } else { Err(reader.invalid("end of context")) }
    }

    pub(crate) fn of(entry: &Entry) -> Result<Self, WireError> {
        Self::decode(&entry.context, &entry.data)
    }
}

/// The head of an entry's record; the entry's data follows it.
pub(crate) fn encode_head(entry: &Entry) -> Vec<u8> {
    let mut head = Vec::with_capacity(RECORD_OVERHEAD_BYTES_MAX);
    head.put_u8(FORMAT);
    head.put_varint(entry.term);
    head.put_blob(&entry.context);
    head
}

/// Reads an entry back from its record. The data shares the record's memory.
pub(crate) fn decode(index: u64, record: &Bytes) -> Result<Entry, WireError> {
    let mut reader = Reader::new(record);
    if reader.u8()? != FORMAT {
        return Err(reader.invalid("entry format"));
    }
    let term = reader.count("term", NUMBER_MAX)?;
    let context_len = reader.count("context", CONTEXT_BYTES_MAX as u64)? as usize;
    let context_at = reader.offset();
    reader.bytes(context_len)?;
    let mut entry = Entry { term, index, ..Entry::default() };
    entry.context = record.slice(context_at..context_at + context_len);
    entry.data = record.slice(context_at + context_len..);
    Purpose::of(&entry)?;
    Ok(entry)
}

/// Bytes that an entry takes in a record or in a message, roughly.
pub(crate) fn cost(entry: &Entry) -> usize {
    entry.data.len() + RECORD_OVERHEAD_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(entry: &Entry) -> Bytes {
        let mut record = encode_head(entry);
        record.extend_from_slice(&entry.data);
        record.into()
    }

    fn entry(purpose: Purpose, data: &'static [u8]) -> Entry {
        let (context, own) = purpose.encode();
        let data = if own.is_empty() { Bytes::from_static(data) } else { own };
        Entry { term: 7, index: 9, data, context, ..Entry::default() }
    }

    #[test]
    fn every_purpose_round_trips() {
        let id = ProposalId { member: 3, boot: u64::MAX, number: 1 << 40 };
        for entry in [
            entry(Purpose::TermStart, b""),
            entry(Purpose::Proposal(id), b""),
            entry(Purpose::Proposal(id), b"data"),
            entry(Purpose::Readmit { member: 2, life: 5 }, b""),
        ] {
            let record = record(&entry);
            assert!(record.len() <= cost(&entry));
            let read = decode(9, &record).expect("round trip");
            assert_eq!(read, entry);
            assert_eq!(Purpose::of(&read), Purpose::of(&entry));
        }
    }

    #[test]
    fn the_record_format_is_fixed() {
        let id = ProposalId { member: 1, boot: 2, number: 3 };
        let record = record(&entry(Purpose::Proposal(id), b"xy"));
        assert_eq!(&record[..], [1, 7, 11, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, b'x', b'y']);
    }

    proptest! {
        #[test]
        fn hostile_records_never_panic(bytes: Vec<u8>) {
            let _ = decode(1, &bytes.into());
        }
    }
}
