//! How two members make sure that they mean each other.
//!
//! The dialler says who it is and whom it means; the other side answers with a
//! verdict, and closes unless it is [`Verdict::Welcome`]. Layout, little-endian:
//!
//! ```text
//! hello:  magic "GRP1" 4 | version 2 | name bytes 2 | from 8 | to 8 | name | CRC-32C of all before 4
//! answer: magic "GRP1" 4 | version 2 | verdict 2 | own id 8 | CRC-32C of all before 4
//! ```

use std::fmt;

use bytes::BufMut;
use grey_model::{Reader, WireError};

const MAGIC: [u8; 4] = *b"GRP1";
/// The protocol between members.
pub(super) const VERSION: u16 = 1;
/// Longest cluster name in bytes.
pub(super) const CLUSTER_BYTES_MAX: usize = 255;
/// The part of a hello before the name.
pub(super) const HELLO_FIXED_BYTES: usize = 24;
/// The length of an answer.
pub(super) const ANSWER_BYTES: usize = 20;
const CRC_BYTES: usize = 4;

/// What the accepting side says to a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Welcome,
    Version,
    Cluster,
    WrongNode,
    NotMember,
    Unknown(u16),
}

impl Verdict {
    fn to_wire(self) -> u16 {
        match self {
            Self::Welcome => 0,
            Self::Version => 1,
            Self::Cluster => 2,
            Self::WrongNode => 3,
            Self::NotMember => 4,
            Self::Unknown(code) => code,
        }
    }

    fn from_wire(code: u16) -> Self {
        match code {
            0 => Self::Welcome,
            1 => Self::Version,
            2 => Self::Cluster,
            3 => Self::WrongNode,
            4 => Self::NotMember,
            code => Self::Unknown(code),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome => f.write_str("welcome"),
            Self::Version => write!(f, "the protocol versions differ, this build speaks {VERSION}"),
            Self::Cluster => {
                f.write_str("the nodes belong to different clusters, check the group's name and addresses")
            }
            Self::WrongNode => f.write_str("another node answers at that address, check the members' addresses"),
            Self::NotMember => f.write_str("the dialling node is not in the other's list of members"),
            Self::Unknown(code) => write!(f, "refused with code {code}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerHello {
    pub(super) version: u16,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) cluster: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) version: u16,
    pub(super) verdict: Verdict,
    pub(super) own_id: u64,
}

/// Why bytes are no handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("not a peer of this kind: it starts with {0:02x?}")]
    Magic([u8; 4]),
    #[error("handshake checksum mismatch")]
    Checksum,
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl PeerHello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HELLO_FIXED_BYTES + self.cluster.len() + CRC_BYTES);
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        out.put_u16_le(self.cluster.len() as u16);
        out.put_u64_le(self.from);
        out.put_u64_le(self.to);
        out.put_slice(&self.cluster);
        seal(out)
    }

    /// How many bytes follow the fixed part, as it says.
    pub(super) fn rest_len(fixed: &[u8]) -> Result<usize, HandshakeError> {
        let mut reader = Reader::new(fixed);
        check_magic(&mut reader)?;
        reader.u16()?;
        let len = usize::from(reader.u16()?);
        if len > CLUSTER_BYTES_MAX {
            return Err(reader.invalid("cluster name length").into());
        }
        Ok(len + CRC_BYTES)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut reader = Reader::new(unseal(bytes)?);
        check_magic(&mut reader)?;
        let version = reader.u16()?;
        let len = usize::from(reader.u16()?);
        let (from, to) = (reader.u64()?, reader.u64()?);
        let cluster = reader.bytes(len)?.to_vec();
        Ok(Self { version, from, to, cluster })
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ANSWER_BYTES);
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        out.put_u16_le(self.verdict.to_wire());
        out.put_u64_le(self.own_id);
        seal(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut reader = Reader::new(unseal(bytes)?);
        check_magic(&mut reader)?;
        let version = reader.u16()?;
        let verdict = Verdict::from_wire(reader.u16()?);
        Ok(Self { version, verdict, own_id: reader.u64()? })
    }
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.put_u32_le(crc);
    bytes
}

fn unseal(bytes: &[u8]) -> Result<&[u8], HandshakeError> {
    let body_len = bytes.len().saturating_sub(CRC_BYTES);
    let (body, trailer) = bytes.split_at(body_len);
    if Reader::new(trailer).u32()? != crc32c::crc32c(body) {
        // A stranger's bytes are better named by what they start with.
        check_magic(&mut Reader::new(body))?;
        return Err(HandshakeError::Checksum);
    }
    Ok(body)
}

fn check_magic(reader: &mut Reader<'_>) -> Result<(), HandshakeError> {
    let magic: [u8; 4] = reader.bytes(4)?.try_into().unwrap_or_default();
    if magic == MAGIC { Ok(()) } else { Err(HandshakeError::Magic(magic)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> PeerHello {
        PeerHello { version: 1, from: 2, to: 3, cluster: b"hub-west".to_vec() }
    }

    #[test]
    fn round_trips() {
        let bytes = hello().encode();
        assert_eq!(PeerHello::rest_len(&bytes[..HELLO_FIXED_BYTES]), Ok(bytes.len() - HELLO_FIXED_BYTES));
        assert_eq!(PeerHello::decode(&bytes), Ok(hello()));
        for code in 0..9 {
            let answer = Answer { version: 1, verdict: Verdict::from_wire(code), own_id: 7 };
            let bytes = answer.encode();
            assert_eq!(bytes.len(), ANSWER_BYTES);
            assert_eq!(Answer::decode(&bytes), Ok(answer));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let bytes = hello().encode();
        assert_eq!(bytes[..24], *b"GRP1\x01\0\x08\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(bytes[24..32], *b"hub-west");
        let answer = Answer { version: 1, verdict: Verdict::WrongNode, own_id: 7 }.encode();
        assert_eq!(answer[..16], *b"GRP1\x01\0\x03\0\x07\0\0\0\0\0\0\0");
    }

    #[test]
    fn damage_is_noticed() {
        for bytes in [hello().encode(), Answer { version: 1, verdict: Verdict::Cluster, own_id: 7 }.encode()] {
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(PeerHello::decode(&bad).is_err() && Answer::decode(&bad).is_err());
            }
            for len in 0..bytes.len() {
                assert!(PeerHello::decode(&bytes[..len]).is_err() && Answer::decode(&bytes[..len]).is_err());
            }
        }
        assert!(matches!(PeerHello::rest_len(b"GET / HTTP/1.1\r\nHost: x\r\n"), Err(HandshakeError::Magic(_))));
    }
}
