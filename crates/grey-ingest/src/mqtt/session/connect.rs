//! The first packet of a connection, and its answer.

use std::hash::Hasher;
use std::net::SocketAddr;

use grey_model::limits::NAME_BYTES_MAX;
use siphasher::sip::SipHasher13;

use super::route::RouteCache;
use super::{Close, Context, Session, Turn};
use crate::auth::{Admission, Login};
use crate::broker::ConnectionId;
use crate::intake::Op;
use crate::mqtt::codec::{
    ConnAck, Connect, Fault, Frame, Packet, Properties, Property, ReasonCode, VARINT_MAX, Version, connect_version,
    decode,
};
use crate::payload::NameMemo;

/// QoS 1 deliveries in flight to a client that does not say how many it takes.
const WINDOW_DEFAULT: u16 = 256;

/// A number for a client id that stays the same over restarts and releases:
/// SipHash-1-3 with a key of zeros. It names QoS 2 publishes in the intake log.
pub fn client_key(client_id: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(client_id.as_bytes());
    hasher.finish()
}

/// A CONNECT that was accepted; the session starts once an older connection of
/// the same client is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) client_id: Box<str>,
    pub(crate) keep_alive_s: u16,
    version: Version,
    assigned: bool,
    clean: bool,
    session_expiry_s: u32,
    window: u16,
    packet_bytes_max: usize,
}

/// A CONNECT that was refused: what to answer, if anything, before the connection closes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) answer: Vec<u8>,
    pub(crate) close: Close,
}

/// Judges the first packet. `auto_id` makes the id of a client that has none.
pub(crate) fn open(
    frame: &Frame<'_>,
    peer: Option<SocketAddr>,
    cx: Context<'_>,
    auto_id: impl FnOnce() -> String,
) -> Result<Opening, Rejection> {
    if frame.first >> 4 != 1 {
        return Err(Rejection { answer: Vec::new(), close: Close::Fault(Fault::Unexpected) });
    }
    // The version of the argument does not matter: a CONNECT brings its own.
    let connect = match decode(frame, Version::V5) {
        Ok(Packet::Connect(connect)) => connect,
        Ok(_) => return Err(fault(Fault::Unexpected, None)),
        Err(error) => return Err(fault(error, connect_version(frame.body))),
    };
    let version = connect.version;
    let Wishes { session_expiry_s, window, packet_bytes_max, auth_method } = wishes(connect.properties);
    if auth_method {
        return Err(fault(Fault::AuthMethod, Some(version)));
    }
    let illegal_id = connect.client_id.len() > NAME_BYTES_MAX
        || (connect.client_id.is_empty() && !connect.clean && version == Version::V311);
    if illegal_id {
        return Err(fault(Fault::ClientId, Some(version)));
    }
    let Connect { client_id, username, password, .. } = connect;
    match cx.config.authenticator.check(&Login { client_id, username, password, peer }) {
        Admission::Granted => {}
        refused => {
            cx.config.counters.logins_refused.add(1);
            let (v311, v5) = match refused {
                Admission::NotAuthorized => (5, ReasonCode::NOT_AUTHORIZED),
                _ => (4, ReasonCode::BAD_CREDENTIALS),
            };
            let code = if version == Version::V5 { v5.0 } else { v311 };
            return Err(Rejection { answer: conn_ack(version, code, Properties::default()), close: Close::Rejected });
        }
    }
    if connect.will.is_some() {
        cx.config.counters.wills_ignored.add(1);
        tracing::debug!(client_id, "the client's will is accepted but will not be published");
    }
    let assigned = client_id.is_empty();
    Ok(Opening {
        client_id: if assigned { auto_id().into() } else { client_id.into() },
        keep_alive_s: connect.keep_alive_s,
        version,
        assigned,
        // A client id made just now has no past.
        clean: connect.clean || assigned,
        session_expiry_s,
        window: if version == Version::V5 { window } else { WINDOW_DEFAULT },
        packet_bytes_max,
    })
}

struct Wishes {
    session_expiry_s: u32,
    window: u16,
    packet_bytes_max: usize,
    auth_method: bool,
}

fn wishes(properties: Properties<'_>) -> Wishes {
    let mut wishes =
        Wishes { session_expiry_s: 0, window: u16::MAX, packet_bytes_max: VARINT_MAX as usize + 5, auth_method: false };
    for property in properties.iter() {
        match property {
            Property::SessionExpiry(seconds) => wishes.session_expiry_s = seconds,
            Property::ReceiveMaximum(window) => wishes.window = window,
            Property::MaximumPacketSize(bytes) => wishes.packet_bytes_max = bytes as usize,
            Property::AuthMethod(_) | Property::AuthData(_) => wishes.auth_method = true,
            _ => {}
        }
    }
    wishes
}

/// The answer to a faulty CONNECT: 3.1.1 has words for a version and a client
/// id only, and for what is no MQTT there are none.
fn fault(fault: Fault, version: Option<Version>) -> Rejection {
    let answer = match (version, fault) {
        (Some(Version::V5), _) => conn_ack(Version::V5, fault.reason().0, Properties::default()),
        (_, Fault::ProtocolVersion) => conn_ack(Version::V311, 1, Properties::default()),
        (Some(Version::V311), Fault::ClientId) => conn_ack(Version::V311, 2, Properties::default()),
        _ => Vec::new(),
    };
    Rejection { answer, close: Close::Fault(fault) }
}

fn conn_ack(version: Version, code: u8, properties: Properties<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Packet::ConnAck(ConnAck { session_present: false, code, properties }).encode(version, &mut out);
    out
}

impl Opening {
    /// Starts the session: the CONNACK is the turn's first reply, and a clean
    /// start its first operation.
    pub(crate) fn start(self, connection: ConnectionId, cx: Context<'_>, turn: &mut Turn) -> Session {
        let mut block = Vec::new();
        if self.version == Version::V5 {
            if self.session_expiry_s > 0 {
                Property::SessionExpiry(0).write(&mut block);
            }
            Property::ReceiveMaximum(cx.config.receive_maximum.max(1)).write(&mut block);
            Property::MaximumPacketSize(u32::try_from(cx.config.packet_bytes_max).unwrap_or(u32::MAX))
                .write(&mut block);
            Property::TopicAliasMaximum(cx.config.topic_alias_maximum).write(&mut block);
            Property::SharedAvailable(0).write(&mut block);
            if self.assigned {
                Property::AssignedClientId(&self.client_id).write(&mut block);
            }
        }
        turn.replies.extend(conn_ack(self.version, 0, Properties::trusted(&block)));
        let client = client_key(&self.client_id);
        if self.clean {
            turn.ops.push(Op::Reset { client });
        }
        Session {
            connection,
            version: self.version,
            client,
            clean: self.clean,
            unacknowledged: 0,
            unreleased: hashbrown::HashMap::new(),
            aliases: Vec::new(),
            routes: RouteCache::default(),
            memo: NameMemo::default(),
            subscriber: None,
            window: self.window,
            client_packet_bytes_max: self.packet_bytes_max,
        }
    }
}
