//! Packets to bytes.

use super::packet::{Ack, AckKind, Connect, Disconnect, Packet, Publish, SubAck, Version};
use super::wire::{put_binary, put_varint, varint_len};

/// Bytes that [`put_ack`] appends.
pub const ACK_BYTES: usize = 4;

/// Appends a successful acknowledgement, the shortest form in both versions.
#[inline]
pub fn put_ack(out: &mut Vec<u8>, kind: AckKind, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[(kind as u8) << 4 | if kind == AckKind::PubRel { 2 } else { 0 }, 2, high, low]);
}

/// Length of a PUBLISH in bytes, to be held against a client's maximum packet size.
pub(crate) fn publish_len(packet: &Publish<'_>, version: Version) -> usize {
    let body = publish_body_len(packet, version);
    1 + varint_len(body as u32) + body
}

fn publish_body_len(packet: &Publish<'_>, version: Version) -> usize {
    let properties = packet.properties.as_bytes().len();
    let properties = if version == Version::V5 { varint_len(properties as u32) + properties } else { 0 };
    2 + packet.topic.len() + if packet.packet_id == 0 { 0 } else { 2 } + properties + packet.payload.len()
}

fn put_publish(out: &mut Vec<u8>, packet: &Publish<'_>, version: Version) {
    let first = 0x30 | u8::from(packet.dup) << 3 | (packet.qos as u8) << 1 | u8::from(packet.retain);
    out.push(first);
    put_varint(out, publish_body_len(packet, version) as u32);
    put_binary(out, packet.topic.as_bytes());
    if packet.packet_id != 0 {
        out.extend_from_slice(&packet.packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        packet.properties.write(out);
    }
    out.extend_from_slice(packet.payload);
}

fn connect_body(body: &mut Vec<u8>, packet: &Connect<'_>) {
    let v5 = packet.version == Version::V5;
    put_binary(body, b"MQTT");
    body.push(packet.version.level());
    let mut flags = u8::from(packet.clean) << 1;
    if let Some(will) = &packet.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(packet.password.is_some()) << 6 | u8::from(packet.username.is_some()) << 7;
    body.push(flags);
    body.extend_from_slice(&packet.keep_alive_s.to_be_bytes());
    if v5 {
        packet.properties.write(body);
    }
    put_binary(body, packet.client_id.as_bytes());
    if let Some(will) = &packet.will {
        if v5 {
            will.properties.write(body);
        }
        put_binary(body, will.topic.as_bytes());
        put_binary(body, will.payload);
    }
    if let Some(username) = packet.username {
        put_binary(body, username.as_bytes());
    }
    if let Some(password) = packet.password {
        put_binary(body, password);
    }
}

fn ack_body(body: &mut Vec<u8>, packet: &Ack<'_>, v5: bool) {
    body.extend_from_slice(&packet.packet_id.to_be_bytes());
    if v5 && (packet.reason.0 != 0 || !packet.properties.is_empty()) {
        body.push(packet.reason.0);
        packet.properties.write(body);
    }
}

fn sub_ack_body(body: &mut Vec<u8>, packet: &SubAck<'_>, v5: bool) {
    body.extend_from_slice(&packet.packet_id.to_be_bytes());
    if v5 {
        packet.properties.write(body);
    }
    body.extend_from_slice(packet.codes);
}

fn disconnect_body(body: &mut Vec<u8>, packet: &Disconnect<'_>, v5: bool) {
    if v5 && (packet.reason.0 != 0 || !packet.properties.is_empty()) {
        body.push(packet.reason.0);
        packet.properties.write(body);
    }
}

impl Packet<'_> {
    /// Appends the packet as a connection of `version` carries it; fields that
    /// the version does not know are left out. A CONNECT goes by its own version.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let v5 = version == Version::V5;
        let mut body = Vec::new();
        let first = match self {
            Self::Publish(packet) => return put_publish(out, packet, version),
            Self::Connect(packet) => {
                connect_body(&mut body, packet);
                0x10
            }
            Self::ConnAck(packet) => {
                body.extend_from_slice(&[u8::from(packet.session_present), packet.code]);
                if v5 {
                    packet.properties.write(&mut body);
                }
                0x20
            }
            Self::Ack(packet) => {
                ack_body(&mut body, packet, v5);
                (packet.kind as u8) << 4 | if packet.kind == AckKind::PubRel { 2 } else { 0 }
            }
            Self::Subscribe(packet) => {
                body.extend_from_slice(&packet.packet_id.to_be_bytes());
                if v5 {
                    packet.properties.write(&mut body);
                }
                body.extend_from_slice(packet.filters.as_bytes());
                0x82
            }
            Self::SubAck(packet) => {
                sub_ack_body(&mut body, packet, v5);
                0x90
            }
            Self::Unsubscribe(packet) => {
                body.extend_from_slice(&packet.packet_id.to_be_bytes());
                if v5 {
                    packet.properties.write(&mut body);
                }
                body.extend_from_slice(packet.filters.as_bytes());
                0xA2
            }
            Self::UnsubAck(packet) => {
                sub_ack_body(&mut body, packet, v5);
                0xB0
            }
            Self::PingReq => 0xC0,
            Self::PingResp => 0xD0,
            Self::Disconnect(packet) => {
                disconnect_body(&mut body, packet, v5);
                0xE0
            }
            Self::Auth(packet) => {
                disconnect_body(&mut body, packet, v5);
                0xF0
            }
        };
        out.push(first);
        put_varint(out, body.len() as u32);
        out.extend_from_slice(&body);
    }
}
