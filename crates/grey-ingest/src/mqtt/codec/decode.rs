//! Bytes to packets. Total: any bytes give a packet, a fault, or a wish for more.

use super::fault::{Fault, ReasonCode};
use super::packet::{
    Ack, AckKind, ConnAck, Connect, Disconnect, Filters, Packet, Publish, Qos, SubAck, Subscribe, Subscriptions,
    Unsubscribe, Version, Will,
};
use super::property::{Properties, Scope, property_block};
use super::wire::{Body, text};

/// One packet, cut out of the byte stream but not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// Everything after the fixed header.
    pub body: &'a [u8],
    /// Length of the whole packet in bytes.
    pub len: usize,
}

/// What stands at the front of a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole packet.
    Frame(Frame<'a>),
    /// A part of one, which needs at least this many bytes in all.
    Partial(usize),
}

/// Cuts the first packet out of `bytes`. A length over `packet_bytes_max` is
/// refused as soon as the fixed header says so, before anything is stored.
#[inline]
pub fn split(bytes: &[u8], packet_bytes_max: usize) -> Result<Split<'_>, Fault> {
    let [first, lengths @ ..] = bytes else { return Ok(Split::Partial(2)) };
    let mut remaining = 0_usize;
    for (i, shift) in [0, 7, 14, 21].into_iter().enumerate() {
        let Some(&byte) = lengths.get(i) else { return Ok(Split::Partial(bytes.len() + 1)) };
        remaining |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let header = i + 2;
            let len = header + remaining;
            if len > packet_bytes_max {
                return Err(Fault::PacketTooLarge);
            }
            return Ok(match bytes.get(header..len) {
                Some(body) => Split::Frame(Frame { first: *first, body, len }),
                None => Split::Partial(len),
            });
        }
    }
    Err(Fault::RemainingLength)
}

/// A PUBLISH whose topic and properties are not checked yet. A server that
/// knows the topic's bytes already need not check them again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishParts<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) topic: &'a [u8],
    pub(crate) packet_id: u16,
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
}

#[inline]
pub(crate) fn publish_parts<'a>(frame: &Frame<'a>, version: Version) -> Result<PublishParts<'a>, Fault> {
    let qos = Qos::from_bits(frame.first >> 1 & 3)?;
    let dup = frame.first & 8 != 0;
    if dup && qos == Qos::AtMostOnce {
        return Err(Fault::Qos);
    }
    let mut body = Body::new(frame.body);
    let topic = body.binary()?;
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { body.packet_id()? };
    let properties = if version == Version::V5 { property_block(&mut body)? } else { &[] };
    Ok(PublishParts { dup, qos, retain: frame.first & 1 != 0, topic, packet_id, properties, payload: body.rest() })
}

/// Looks into a packet. `version` is that of the connection; a CONNECT brings its own.
pub fn decode<'a>(frame: &Frame<'a>, version: Version) -> Result<Packet<'a>, Fault> {
    let v5 = version == Version::V5;
    let (kind, flags) = (frame.first >> 4, frame.first & 0x0f);
    let required = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
    if kind != 3 && flags != required {
        return Err(Fault::Header);
    }
    let mut body = Body::new(frame.body);
    let packet = match kind {
        1 => return connect(body).map(Packet::Connect),
        2 => {
            let present = body.u8()?;
            if present > 1 {
                return Err(Fault::ConnectFlags);
            }
            let code = body.u8()?;
            let properties = properties_of(&mut body, v5, Scope::ConnAck)?;
            Packet::ConnAck(ConnAck { session_present: present == 1, code, properties })
        }
        3 => return publish(frame, version).map(Packet::Publish),
        4 => return ack(body, AckKind::PubAck, v5),
        5 => return ack(body, AckKind::PubRec, v5),
        6 => return ack(body, AckKind::PubRel, v5),
        7 => return ack(body, AckKind::PubComp, v5),
        8 => {
            let packet_id = body.packet_id()?;
            let properties = properties_of(&mut body, v5, Scope::Subscribe)?;
            return Ok(Packet::Subscribe(Subscribe {
                packet_id,
                properties,
                filters: Subscriptions::check(body.rest(), version)?,
            }));
        }
        9 => return sub_ack(body, v5).map(Packet::SubAck),
        10 => {
            let packet_id = body.packet_id()?;
            let properties = properties_of(&mut body, v5, Scope::Unsubscribe)?;
            let filters = Filters::check(body.rest())?;
            return Ok(Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }));
        }
        11 => return sub_ack(body, v5).map(Packet::UnsubAck),
        12 => Packet::PingReq,
        13 => Packet::PingResp,
        14 => Packet::Disconnect(disconnect(&mut body, v5, Scope::Disconnect)?),
        15 if v5 => Packet::Auth(disconnect(&mut body, v5, Scope::Auth)?),
        _ => return Err(Fault::Header),
    };
    body.end()?;
    Ok(packet)
}

fn properties_of<'a>(body: &mut Body<'a>, v5: bool, scope: Scope) -> Result<Properties<'a>, Fault> {
    if v5 { Properties::read(body, scope) } else { Ok(Properties::default()) }
}

/// The version that a CONNECT asks for, also where the rest of it is broken, so
/// that the refusal can be told in the client's own words.
pub(crate) fn connect_version(body: &[u8]) -> Option<Version> {
    let mut body = Body::new(body);
    if body.binary().ok()? != b"MQTT" {
        return None;
    }
    match body.u8().ok()? {
        4 => Some(Version::V311),
        5 => Some(Version::V5),
        _ => None,
    }
}

fn connect(mut body: Body<'_>) -> Result<Connect<'_>, Fault> {
    match body.binary()? {
        b"MQTT" => {}
        // MQTT 3.1 calls itself so; it is a version that is not served.
        b"MQIsdp" => return Err(Fault::ProtocolVersion),
        _ => return Err(Fault::ProtocolName),
    }
    let version = match body.u8()? {
        4 => Version::V311,
        5 => Version::V5,
        _ => return Err(Fault::ProtocolVersion),
    };
    let v5 = version == Version::V5;
    let flags = body.u8()?;
    let has = |bit: u8| flags & bit != 0;
    let (clean, has_will, will_retain, has_password, has_username) =
        (has(0x02), has(0x04), has(0x20), has(0x40), has(0x80));
    let will_qos = Qos::from_bits(flags >> 3 & 3)?;
    let without_will = !has_will && (will_retain || will_qos != Qos::AtMostOnce);
    // 3.1.1 allows a password only beside a user name, 5 also without.
    if has(0x01) || without_will || (!v5 && has_password && !has_username) {
        return Err(Fault::ConnectFlags);
    }
    let keep_alive_s = body.u16()?;
    let properties = properties_of(&mut body, v5, Scope::Connect)?;
    let client_id = body.text()?;
    let will = if has_will {
        let properties = properties_of(&mut body, v5, Scope::Will)?;
        let topic = body.text()?;
        super::name::check_topic(topic)?;
        Some(Will { qos: will_qos, retain: will_retain, properties, topic, payload: body.binary()? })
    } else {
        None
    };
    let username = if has_username { Some(body.text()?) } else { None };
    let password = if has_password { Some(body.binary()?) } else { None };
    body.end()?;
    Ok(Connect { version, clean, keep_alive_s, properties, client_id, will, username, password })
}

fn publish<'a>(frame: &Frame<'a>, version: Version) -> Result<Publish<'a>, Fault> {
    let PublishParts { dup, qos, retain, topic, packet_id, properties, payload } = publish_parts(frame, version)?;
    let properties = Properties::check(properties, Scope::Publish)?;
    let topic = text(topic)?;
    if topic.is_empty() {
        // Only an alias of MQTT 5 can stand for a topic.
        if !properties.iter().any(|p| matches!(p, super::Property::TopicAlias(_))) {
            return Err(if version == Version::V5 { Fault::Unexpected } else { Fault::TopicName });
        }
    } else {
        super::name::check_topic(topic)?;
    }
    Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload })
}

fn ack(mut body: Body<'_>, kind: AckKind, v5: bool) -> Result<Packet<'_>, Fault> {
    let packet_id = body.packet_id()?;
    let mut reason = ReasonCode::SUCCESS;
    let mut properties = Properties::default();
    // MQTT 5 may leave out a success, and then the properties too.
    if v5 && !body.is_empty() {
        reason = ReasonCode(body.u8()?);
        if !body.is_empty() {
            properties = Properties::read(&mut body, Scope::Ack)?;
        }
    }
    body.end()?;
    Ok(Packet::Ack(Ack { kind, packet_id, reason, properties }))
}

fn sub_ack(mut body: Body<'_>, v5: bool) -> Result<SubAck<'_>, Fault> {
    let packet_id = body.packet_id()?;
    let properties = properties_of(&mut body, v5, Scope::Ack)?;
    Ok(SubAck { packet_id, properties, codes: body.rest() })
}

fn disconnect<'a>(body: &mut Body<'a>, v5: bool, scope: Scope) -> Result<Disconnect<'a>, Fault> {
    let mut packet = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
    if v5 && !body.is_empty() {
        packet.reason = ReasonCode(body.u8()?);
        if !body.is_empty() {
            packet.properties = Properties::read(body, scope)?;
        }
    }
    Ok(packet)
}
