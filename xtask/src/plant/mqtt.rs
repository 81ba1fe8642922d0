//! As much of an MQTT client as a device needs: connect, publish at QoS 1,
//! hear acknowledgements. MQTT 3.1.1 (OASIS 2014) and 5.0 (OASIS 2019).

use anyhow::{Result, bail};

/// Longest packet that a server sends to a device of ours.
const PACKET_BYTES_MAX: usize = 64 * 1024;

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// 3.1.1.
    V3 = 4,
    /// 5.0.
    V5 = 5,
}

/// What a server says to a device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The session is open.
    Connected,
    /// The publication with this packet id is accepted.
    Acknowledged(u16),
    /// Something that needs no reaction.
    Nothing,
}

/// Writes CONNECT with a clean session.
pub(crate) fn connect(version: Version, client: &str, keep_alive_s: u16, out: &mut Vec<u8>) {
    let properties = usize::from(version == Version::V5);
    out.push(0x10);
    length(10 + properties + 2 + client.len(), out);
    string("MQTT", out);
    out.push(version as u8);
    out.push(0b10);
    out.extend(keep_alive_s.to_be_bytes());
    out.extend(std::iter::repeat_n(0, properties));
    string(client, out);
}

/// Writes PUBLISH at QoS 1.
pub(crate) fn publish(version: Version, again: bool, topic: &str, packet_id: u16, payload: &[u8], out: &mut Vec<u8>) {
    let properties = usize::from(version == Version::V5);
    out.push(if again { 0x3a } else { 0x32 });
    length(2 + topic.len() + 2 + properties + payload.len(), out);
    string(topic, out);
    out.extend(packet_id.to_be_bytes());
    out.extend(std::iter::repeat_n(0, properties));
    out.extend(payload);
}

/// PINGREQ.
pub(crate) const PING: [u8; 2] = [0xc0, 0];
/// DISCONNECT, normal.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Takes the first whole packet off the buffer; `None` until one is complete.
/// A refusal by the server is an error.
pub(crate) fn take(version: Version, buffer: &mut Vec<u8>) -> Result<Option<Heard>> {
    let Some((body_at, end)) = bounds(buffer)? else { return Ok(None) };
    let (kind, body) = (buffer[0] >> 4, &buffer[body_at..end]);
    let heard = match (kind, body) {
        (2, [_, 0, ..]) => Heard::Connected,
        (2, [_, code, ..]) => bail!("the server refused the connection with code {code}"),
        (4, [high, low]) => Heard::Acknowledged(u16::from_be_bytes([*high, *low])),
        // 0x10 says that nobody subscribes; from 0x80 on it is a refusal.
        (4, [high, low, code, ..]) if *code < 0x80 => Heard::Acknowledged(u16::from_be_bytes([*high, *low])),
        (4, [_, _, code, ..]) => bail!("the server refused a publication with code {code:#x}"),
        (14, body) if version == Version::V5 => {
            bail!("the server disconnected with code {:#x}", body.first().copied().unwrap_or(0));
        }
        (13, []) => Heard::Nothing,
        _ => bail!("a packet of type {kind} with {} bytes is not expected", body.len()),
    };
    buffer.drain(..end);
    Ok(Some(heard))
}

/// Where the body of the first packet begins and ends, once it is complete.
fn bounds(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut len = 0;
    for (i, byte) in buffer.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let end = 2 + i + len;
            if len > PACKET_BYTES_MAX {
                bail!("a packet of {len} bytes is longer than the limit of {PACKET_BYTES_MAX}");
            }
            return Ok((buffer.len() >= end).then_some((2 + i, end)));
        }
    }
    if buffer.len() > 4 {
        bail!("a packet's length has more than four bytes");
    }
    Ok(None)
}

fn length(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A string of at most 65,535 bytes; ours are topics and client ids.
fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_the_standard_writes_them() {
        let mut out = Vec::new();
        connect(Version::V3, "d", 30, &mut out);
        assert_eq!(out, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x1e\x00\x01d");
        out.clear();
        connect(Version::V5, "d", 30, &mut out);
        assert_eq!(out, b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x01d");
        out.clear();
        publish(Version::V3, false, "a/b", 7, b"1", &mut out);
        assert_eq!(out, b"\x32\x08\x00\x03a/b\x00\x071");
        out.clear();
        publish(Version::V5, true, "a/b", 7, b"1", &mut out);
        assert_eq!(out, b"\x3a\x09\x00\x03a/b\x00\x07\x001");
        out.clear();
        publish(Version::V3, false, "t", 1, &[b'x'; 200], &mut out);
        assert_eq!(out[..3], [0x32, 0xcd, 0x01]);
    }

    #[test]
    fn answers_are_taken_one_by_one_and_only_when_whole() {
        let mut buffer = b"\x20\x03\x00\x00\x00\x40\x02\x00\x07\x40\x04\x00\x08\x10\x00\xd0\x00\x40\x02\x00".to_vec();
        let mut heard = Vec::new();
        while let Some(next) = take(Version::V5, &mut buffer).unwrap() {
            heard.push(next);
        }
        assert_eq!(heard, [Heard::Connected, Heard::Acknowledged(7), Heard::Acknowledged(8), Heard::Nothing]);
        assert_eq!(buffer, b"\x40\x02\x00");
    }

    #[test]
    fn refusals_are_errors() {
        for refusal in [&b"\x20\x02\x00\x05"[..], b"\x40\x03\x00\x07\x97", b"\xe0\x01\x8b", b"\x30\xff\xff\xff\xff\x01"]
        {
            assert!(take(Version::V5, &mut refusal.to_vec()).is_err(), "{refusal:?}");
        }
    }
}
