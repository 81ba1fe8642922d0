//! The packets of MQTT 3.1.1 and 5 as borrowed views of the bytes they came in.

use super::fault::{Fault, ReasonCode};
use super::property::Properties;
use super::wire::{Body, put_binary, text};

/// The protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5, protocol level 5.
    V5,
}

impl Version {
    /// The protocol level in a CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// How hard delivery is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: no acknowledgement.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS of two wire bits; 3 is a fault.
    #[inline]
    pub fn from_bits(bits: u8) -> Result<Self, Fault> {
        match bits {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(Fault::Qos),
        }
    }
}

/// The will of a client: accepted and checked, not published yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Delivery of the will.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Its properties (MQTT 5).
    pub properties: Properties<'a>,
    /// Where to.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
}

/// CONNECT: the first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol version that all following packets have.
    pub version: Version,
    /// Clean session (3.1.1) or clean start (5).
    pub clean: bool,
    /// Seconds between packets of the client; 0 is no limit.
    pub keep_alive_s: u16,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
    /// The client id; empty asks the server to choose.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
}

/// CONNACK: the answer to a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server kept a session.
    pub session_present: bool,
    /// A return code of 3.1.1 or a reason code of 5; 0 is accepted in both.
    pub code: u8,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
}

/// PUBLISH: a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before.
    pub dup: bool,
    /// How it is acknowledged.
    pub qos: Qos,
    /// To be kept for later subscribers, or kept for this one.
    pub retain: bool,
    /// The topic; empty when a topic alias stands for it.
    pub topic: &'a str,
    /// The packet id; 0 for QoS 0.
    pub packet_id: u16,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

/// Which of the four acknowledgements of a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AckKind {
    /// QoS 1 is done.
    PubAck = 4,
    /// QoS 2, received.
    PubRec = 5,
    /// QoS 2, the sender forgets the message.
    PubRel = 6,
    /// QoS 2 is done.
    PubComp = 7,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Which one.
    pub kind: AckKind,
    /// Of which PUBLISH.
    pub packet_id: u16,
    /// The outcome (MQTT 5; success in 3.1.1).
    pub reason: ReasonCode,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
}

/// What happens to retained messages at a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// They are sent.
    #[default]
    Send = 0,
    /// They are sent if the subscription is new.
    SendIfNew = 1,
    /// They are not sent.
    Skip = 2,
}

/// The options of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscribeOptions {
    /// The highest QoS of deliveries.
    pub qos: Qos,
    /// Do not deliver the client's own publishes (MQTT 5).
    pub no_local: bool,
    /// Deliver the retain flag as it was published (MQTT 5).
    pub retain_as_published: bool,
    /// What to do with retained messages (MQTT 5).
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// Reads the options byte: 3.1.1 has only the QoS.
    pub fn from_bits(bits: u8, version: Version) -> Result<Self, Fault> {
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if bits & reserved != 0 {
            return Err(Fault::SubscribeOptions);
        }
        let retain_handling = match bits >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::Skip,
            _ => return Err(Fault::SubscribeOptions),
        };
        Ok(Self {
            qos: Qos::from_bits(bits & 3)?,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling,
        })
    }

    /// The options byte.
    pub fn to_bits(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// The filters of a SUBSCRIBE, checked, still in their wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriptions<'a> {
    bytes: &'a [u8],
    version: Version,
}

impl<'a> Subscriptions<'a> {
    /// Checks the wire form: at least one filter, legal text, legal options.
    /// The rules of wildcards are the server's, who answers each filter by itself.
    pub fn check(bytes: &'a [u8], version: Version) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(Fault::NoFilter);
        }
        let mut body = Body::new(bytes);
        while !body.is_empty() {
            body.text()?;
            SubscribeOptions::from_bits(body.u8()?, version)?;
        }
        Ok(Self { bytes, version })
    }

    /// Appends one filter in its wire form.
    pub fn write(filter: &str, options: SubscribeOptions, out: &mut Vec<u8>) {
        put_binary(out, filter.as_bytes());
        out.push(options.to_bits());
    }

    /// The filters with their options, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscribeOptions)> + use<'a> {
        let (mut body, version) = (Body::new(self.bytes), self.version);
        std::iter::from_fn(move || {
            let filter = body.text().ok()?;
            Some((filter, SubscribeOptions::from_bits(body.u8().ok()?, version).ok()?))
        })
    }

    /// The wire form.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The filters of an UNSUBSCRIBE, checked, still in their wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a>(&'a [u8]);

impl<'a> Filters<'a> {
    /// Checks the wire form: at least one filter, legal text.
    pub fn check(bytes: &'a [u8]) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(Fault::NoFilter);
        }
        let mut body = Body::new(bytes);
        while !body.is_empty() {
            body.text()?;
        }
        Ok(Self(bytes))
    }

    /// Appends one filter in its wire form.
    pub fn write(filter: &str, out: &mut Vec<u8>) {
        put_binary(out, filter.as_bytes());
    }

    /// The filters, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut body = Body::new(self.0);
        std::iter::from_fn(move || text(body.binary().ok()?).ok())
    }

    /// The wire form.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Named again in the SUBACK.
    pub packet_id: u16,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
    /// What is subscribed.
    pub filters: Subscriptions<'a>,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Named again in the UNSUBACK.
    pub packet_id: u16,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
    /// What is no longer subscribed.
    pub filters: Filters<'a>,
}

/// SUBACK, or an UNSUBACK (whose codes only MQTT 5 has).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Of which request.
    pub packet_id: u16,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
    /// One code per filter.
    pub codes: &'a [u8],
}

/// DISCONNECT, and with a method an AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why (MQTT 5; success in 3.1.1).
    pub reason: ReasonCode,
    /// Properties (MQTT 5).
    pub properties: Properties<'a>,
}

/// Any packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Opens a session.
    Connect(Connect<'a>),
    /// Answers it.
    ConnAck(ConnAck<'a>),
    /// Carries a message.
    Publish(Publish<'a>),
    /// Acknowledges it: PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack(Ack<'a>),
    /// Subscribes.
    Subscribe(Subscribe<'a>),
    /// Answers it.
    SubAck(SubAck<'a>),
    /// Unsubscribes.
    Unsubscribe(Unsubscribe<'a>),
    /// Answers it.
    UnsubAck(SubAck<'a>),
    /// Says that the client is there.
    PingReq,
    /// Answers it.
    PingResp,
    /// Closes the connection.
    Disconnect(Disconnect<'a>),
    /// Extended authentication: decoded, never offered.
    Auth(Disconnect<'a>),
}
