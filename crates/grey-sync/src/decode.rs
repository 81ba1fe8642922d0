//! Bytes to frames. Total on hostile bytes, and never holds more than one
//! frame's worth of them beyond what it was handed.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use grey_model::limits::BLOCK_BYTES_MAX;
use serde::de::DeserializeOwned;

use crate::frame::{FRAME_VERSION, Frame, FrameType};
use crate::limits::{
    ACK_RANGES_MAX, ADDRESS_BYTES_MAX, CONTROL_BODY_BYTES_MAX, COVERAGE_KEYS_MAX, COVERAGE_RANGES_MAX,
    HELLO_BODY_BYTES_MAX, PREFIX_BYTES, SITES_MAX, TEXT_BYTES_MAX,
};

/// Blocks up to this size are copied out of the read buffer, so that one that
/// is kept for long does not keep a whole buffer of others.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// Why bytes are not a frame. The connection cannot go on after one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is too small for version and type.
    #[error("frame length {0} is too small")]
    TooShort(u32),
    /// The layout is of a version that this build does not know.
    #[error("frame version {0} is unknown, this build reads version {FRAME_VERSION}; upgrade the older side")]
    Version(u8),
    /// The type is unknown.
    #[error("frame type {0} is unknown")]
    Type(u8),
    /// The body is over the limit of its type.
    #[error("{frame} frame of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// The frame's type.
        frame: &'static str,
        /// Bytes of its body.
        len: usize,
        /// The limit for it.
        limit: usize,
    },
    /// The checksum does not match.
    #[error("{frame} frame checksum mismatch: sent {sent:08x}, computed {computed:08x}")]
    Checksum {
        /// The frame's type.
        frame: &'static str,
        /// The checksum in the frame.
        sent: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// The body does not decode.
    #[error("{frame} frame is malformed: {reason}")]
    Body {
        /// The frame's type.
        frame: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Collects the bytes of one connection and cuts them into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
    /// False until the first frame may be anything but a hello.
    open: bool,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// For the side that was dialled: until [`FrameDecoder::open`] it takes small frames only.
    pub fn for_receiver() -> Self {
        Self::default()
    }

    /// For the side that dials.
    pub fn for_sender() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The other side has introduced itself: frames of full size may come.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Adds bytes that arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer to read a socket into; only append to it.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes on the wire of the frame that has begun to arrive: 0 when none
    /// has, at least 1 when its length is not known yet.
    pub fn partial_bytes(&self) -> usize {
        match self.buffer.first_chunk::<4>() {
            Some(length) => (u32::from_le_bytes(*length) as usize).saturating_add(8),
            None => usize::from(!self.buffer.is_empty()) * PREFIX_BYTES,
        }
    }

    /// The next whole frame. After an error every later call gives the same error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let frame = self.take();
        if let Err(error) = &frame {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        }
        frame
    }

    fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3, version, kind] = *prefix;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let sent = u32::from_le_bytes([c0, c1, c2, c3]);
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = FrameType::from_u8(kind).ok_or(FrameError::Type(kind))?;
        let len = (length as usize).checked_sub(2).ok_or(FrameError::TooShort(length))?;
        let limit = match kind {
            _ if !self.open => HELLO_BODY_BYTES_MAX,
            FrameType::Block => BLOCK_BYTES_MAX,
            _ => CONTROL_BODY_BYTES_MAX,
        };
        if len > limit {
            return Err(FrameError::TooLong { frame: kind.name(), len, limit });
        }
        if self.buffer.len() < PREFIX_BYTES + len {
            return Ok(None);
        }
        let computed = crc32c::crc32c(&self.buffer[8..PREFIX_BYTES + len]);
        if sent != computed {
            return Err(FrameError::Checksum { frame: kind.name(), sent, computed });
        }
        self.buffer.advance(PREFIX_BYTES);
        if kind == FrameType::Block {
            let block = if len <= COPY_BYTES_MAX {
                let copy = Bytes::copy_from_slice(&self.buffer[..len]);
                self.buffer.advance(len);
                copy
            } else {
                self.buffer.split_to(len).freeze()
            };
            return Ok(Some(Frame::Block(block)));
        }
        let frame = decode_body(kind, &self.buffer[..len])?;
        self.buffer.advance(len);
        Ok(Some(frame))
    }
}

fn decode_body(kind: FrameType, body: &[u8]) -> Result<Frame, FrameError> {
    let malformed = |reason: String| FrameError::Body { frame: kind.name(), reason };
    let frame = match kind {
        FrameType::Hello => take(body).map(Frame::Hello),
        FrameType::Welcome => take(body).map(Frame::Welcome),
        FrameType::Redirect => take(body).map(Frame::Redirect),
        FrameType::Reject => take(body).map(Frame::Reject),
        FrameType::Block => Ok(Frame::Block(Bytes::copy_from_slice(body))),
        FrameType::Ack => take(body).map(Frame::Ack),
        FrameType::Heartbeat => take(body).map(Frame::Heartbeat),
        FrameType::HeartbeatAck => take(body).map(Frame::HeartbeatAck),
        FrameType::Sites => take(body).map(Frame::Sites),
        FrameType::Goodbye => take(body).map(Frame::Goodbye),
    };
    let frame = frame.map_err(malformed)?;
    check(&frame).map_err(malformed)?;
    Ok(frame)
}

/// Bytes behind the fields that this version knows belong to a later one and are ignored.
fn take<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    postcard::take_from_bytes(body).map(|(value, _)| value).map_err(|error| error.to_string())
}

/// The limits that the types cannot express.
fn check(frame: &Frame) -> Result<(), String> {
    let count = |what: &str, found: usize, limit: usize| {
        if found > limit { Err(format!("{found} {what}, at most {limit} are allowed")) } else { Ok(()) }
    };
    let text = |text: &str| count("bytes of text", text.len(), TEXT_BYTES_MAX);
    match frame {
        Frame::Hello(hello) => text(&hello.agent),
        Frame::Welcome(welcome) => {
            count("streams", welcome.coverage.len(), COVERAGE_KEYS_MAX)?;
            welcome.coverage.iter().try_for_each(|(_, ranges)| {
                count("ranges", ranges.len(), COVERAGE_RANGES_MAX)?;
                check_ranges(ranges)
            })
        }
        Frame::Redirect(redirect) => {
            count("bytes of address", redirect.address.as_ref().map_or(0, String::len), ADDRESS_BYTES_MAX)?;
            text(&redirect.reason)
        }
        Frame::Reject(reject) => text(&reject.message),
        Frame::Goodbye(goodbye) => text(&goodbye.reason),
        Frame::Ack(ack) => {
            count("ranges", ack.ranges.len(), ACK_RANGES_MAX)?;
            check_ranges(&ack.ranges)
        }
        Frame::Sites(sites) => count("sites", sites.len(), SITES_MAX),
        Frame::Block(_) | Frame::Heartbeat(_) | Frame::HeartbeatAck(_) => Ok(()),
    }
}

fn check_ranges(ranges: &[Range<u64>]) -> Result<(), String> {
    let mut at = 0;
    for range in ranges {
        if range.start < at || range.is_empty() {
            return Err(format!("range {}..{} is empty or out of order", range.start, range.end));
        }
        at = range.end;
    }
    Ok(())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
