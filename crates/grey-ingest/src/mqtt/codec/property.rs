//! The properties of MQTT 5: checked once when a packet is decoded, read lazily
//! from the same bytes afterwards.

use super::fault::Fault;
use super::wire::{Body, put_binary, put_varint};

/// One property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 1 when the payload is UTF-8 text.
    PayloadFormat(u8),
    /// Seconds that a message may wait for its delivery.
    MessageExpiry(u32),
    /// The application's name for the payload's form.
    ContentType(&'a str),
    /// Where an answer is expected.
    ResponseTopic(&'a str),
    /// What the answer has to carry.
    CorrelationData(&'a [u8]),
    /// The number that a subscription asked to see on its deliveries.
    SubscriptionId(u32),
    /// Seconds that a session outlives its connection.
    SessionExpiry(u32),
    /// The client id that the server chose.
    AssignedClientId(&'a str),
    /// The keep-alive that the server demands, in seconds.
    ServerKeepAlive(u16),
    /// The name of an extended authentication.
    AuthMethod(&'a str),
    /// Its data.
    AuthData(&'a [u8]),
    /// 1 when reason strings are wanted.
    RequestProblemInfo(u8),
    /// Seconds before a will is published.
    WillDelay(u32),
    /// 1 when response information is wanted.
    RequestResponseInfo(u8),
    /// The base of response topics.
    ResponseInfo(&'a str),
    /// Another server to use.
    ServerReference(&'a str),
    /// A reason in words.
    ReasonString(&'a str),
    /// Unacknowledged publishes that the sender of the property can take.
    ReceiveMaximum(u16),
    /// Topic aliases that the sender of the property can take.
    TopicAliasMaximum(u16),
    /// A number for the topic.
    TopicAlias(u16),
    /// The highest QoS that the server serves.
    MaximumQos(u8),
    /// 1 when the server keeps retained messages.
    RetainAvailable(u8),
    /// A pair that belongs to the application.
    UserProperty(&'a str, &'a str),
    /// The largest packet that the sender of the property can take, in bytes.
    MaximumPacketSize(u32),
    /// 1 when wildcard subscriptions are served.
    WildcardAvailable(u8),
    /// 1 when subscription identifiers are served.
    SubscriptionIdAvailable(u8),
    /// 1 when shared subscriptions are served.
    SharedAvailable(u8),
}

impl<'a> Property<'a> {
    /// The identifier on the wire.
    pub fn id(&self) -> u8 {
        match self {
            Self::PayloadFormat(_) => 1,
            Self::MessageExpiry(_) => 2,
            Self::ContentType(_) => 3,
            Self::ResponseTopic(_) => 8,
            Self::CorrelationData(_) => 9,
            Self::SubscriptionId(_) => 11,
            Self::SessionExpiry(_) => 17,
            Self::AssignedClientId(_) => 18,
            Self::ServerKeepAlive(_) => 19,
            Self::AuthMethod(_) => 21,
            Self::AuthData(_) => 22,
            Self::RequestProblemInfo(_) => 23,
            Self::WillDelay(_) => 24,
            Self::RequestResponseInfo(_) => 25,
            Self::ResponseInfo(_) => 26,
            Self::ServerReference(_) => 28,
            Self::ReasonString(_) => 31,
            Self::ReceiveMaximum(_) => 33,
            Self::TopicAliasMaximum(_) => 34,
            Self::TopicAlias(_) => 35,
            Self::MaximumQos(_) => 36,
            Self::RetainAvailable(_) => 37,
            Self::UserProperty(_, _) => 38,
            Self::MaximumPacketSize(_) => 39,
            Self::WildcardAvailable(_) => 40,
            Self::SubscriptionIdAvailable(_) => 41,
            Self::SharedAvailable(_) => 42,
        }
    }

    fn read(body: &mut Body<'a>) -> Result<Self, Fault> {
        let property = match body.varint().map_err(|_| Fault::Property)? {
            1 => Self::PayloadFormat(body.u8()?),
            2 => Self::MessageExpiry(body.u32()?),
            3 => Self::ContentType(body.text()?),
            8 => Self::ResponseTopic(body.text()?),
            9 => Self::CorrelationData(body.binary()?),
            11 => Self::SubscriptionId(body.varint().map_err(|_| Fault::Property)?),
            17 => Self::SessionExpiry(body.u32()?),
            18 => Self::AssignedClientId(body.text()?),
            19 => Self::ServerKeepAlive(body.u16()?),
            21 => Self::AuthMethod(body.text()?),
            22 => Self::AuthData(body.binary()?),
            23 => Self::RequestProblemInfo(body.u8()?),
            24 => Self::WillDelay(body.u32()?),
            25 => Self::RequestResponseInfo(body.u8()?),
            26 => Self::ResponseInfo(body.text()?),
            28 => Self::ServerReference(body.text()?),
            31 => Self::ReasonString(body.text()?),
            33 => Self::ReceiveMaximum(body.u16()?),
            34 => Self::TopicAliasMaximum(body.u16()?),
            35 => Self::TopicAlias(body.u16()?),
            36 => Self::MaximumQos(body.u8()?),
            37 => Self::RetainAvailable(body.u8()?),
            38 => Self::UserProperty(body.text()?, body.text()?),
            39 => Self::MaximumPacketSize(body.u32()?),
            40 => Self::WildcardAvailable(body.u8()?),
            41 => Self::SubscriptionIdAvailable(body.u8()?),
            42 => Self::SharedAvailable(body.u8()?),
            _ => return Err(Fault::Property),
        };
        Ok(property)
    }

    /// Whether the value is one that the standard allows.
    fn check(&self) -> Result<(), Fault> {
        let allowed = match *self {
            Self::PayloadFormat(v)
            | Self::RequestProblemInfo(v)
            | Self::RequestResponseInfo(v)
            | Self::MaximumQos(v)
            | Self::RetainAvailable(v)
            | Self::WildcardAvailable(v)
            | Self::SubscriptionIdAvailable(v)
            | Self::SharedAvailable(v) => v <= 1,
            Self::SubscriptionId(v) => v > 0,
            Self::ReceiveMaximum(v) => v > 0,
            Self::MaximumPacketSize(v) => v > 0,
            Self::TopicAlias(0) => return Err(Fault::TopicAlias),
            Self::ResponseTopic(topic) => memchr::memchr2(b'+', b'#', topic.as_bytes()).is_none(),
            _ => true,
        };
        if allowed { Ok(()) } else { Err(Fault::PropertyRule) }
    }

    /// Appends the property as it stands on the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.id());
        match *self {
            Self::PayloadFormat(v)
            | Self::RequestProblemInfo(v)
            | Self::RequestResponseInfo(v)
            | Self::MaximumQos(v)
            | Self::RetainAvailable(v)
            | Self::WildcardAvailable(v)
            | Self::SubscriptionIdAvailable(v)
            | Self::SharedAvailable(v) => out.push(v),
            Self::ServerKeepAlive(v) | Self::ReceiveMaximum(v) | Self::TopicAliasMaximum(v) | Self::TopicAlias(v) => {
                out.extend_from_slice(&v.to_be_bytes());
            }
            Self::MessageExpiry(v) | Self::SessionExpiry(v) | Self::WillDelay(v) | Self::MaximumPacketSize(v) => {
                out.extend_from_slice(&v.to_be_bytes());
            }
            Self::SubscriptionId(v) => put_varint(out, v),
            Self::ContentType(v)
            | Self::ResponseTopic(v)
            | Self::AssignedClientId(v)
            | Self::AuthMethod(v)
            | Self::ResponseInfo(v)
            | Self::ServerReference(v)
            | Self::ReasonString(v) => put_binary(out, v.as_bytes()),
            Self::CorrelationData(v) | Self::AuthData(v) => put_binary(out, v),
            Self::UserProperty(name, value) => {
                put_binary(out, name.as_bytes());
                put_binary(out, value.as_bytes());
            }
        }
    }
}

/// Where properties stand, which decides which of them are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a CONNECT.
    Connect,
    /// Of the will in a CONNECT.
    Will,
    /// In a CONNACK.
    ConnAck,
    /// In a PUBLISH.
    Publish,
    /// In PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK or UNSUBACK.
    Ack,
    /// In a SUBSCRIBE.
    Subscribe,
    /// In an UNSUBSCRIBE.
    Unsubscribe,
    /// In a DISCONNECT.
    Disconnect,
    /// In an AUTH.
    Auth,
}

const fn mask(ids: &[u8]) -> u64 {
    let mut mask = 0;
    let mut i = 0;
    while i < ids.len() {
        mask |= 1 << ids[i];
        i += 1;
    }
    mask
}

impl Scope {
    /// Bit per identifier that may stand here.
    fn allowed(self) -> u64 {
        match self {
            Self::Connect => const { mask(&[17, 21, 22, 23, 25, 33, 34, 38, 39]) },
            Self::Will => const { mask(&[1, 2, 3, 8, 9, 24, 38]) },
            Self::ConnAck => const { mask(&[17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42]) },
            Self::Publish => const { mask(&[1, 2, 3, 8, 9, 11, 35, 38]) },
            Self::Ack => const { mask(&[31, 38]) },
            Self::Subscribe => const { mask(&[11, 38]) },
            Self::Unsubscribe => const { mask(&[38]) },
            Self::Disconnect => const { mask(&[17, 28, 31, 38]) },
            Self::Auth => const { mask(&[21, 22, 31, 38]) },
        }
    }

    /// Bit per identifier that may stand more than once: user properties
    /// everywhere, subscription identifiers on a delivery.
    fn repeatable(self) -> u64 {
        match self {
            Self::Publish => const { mask(&[11, 38]) },
            _ => const { mask(&[38]) },
        }
    }
}

/// Checked properties of one packet, still in their wire form (without the length).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Checks a property block: known and allowed identifiers, none twice, allowed values.
    pub fn check(block: &'a [u8], scope: Scope) -> Result<Self, Fault> {
        let (allowed, repeatable) = (scope.allowed(), scope.repeatable());
        let mut seen = 0_u64;
        let mut body = Body::new(block);
        while !body.is_empty() {
            let property = Property::read(&mut body)?;
            let bit = 1 << property.id();
            if allowed & bit == 0 {
                return Err(Fault::Property);
            }
            if seen & bit & !repeatable != 0 {
                return Err(Fault::PropertyRule);
            }
            seen |= bit;
            property.check()?;
        }
        Ok(Self(block))
    }

    /// A block that was checked before, or written by this crate.
    pub(crate) fn trusted(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// Reads the length, then checks the block.
    pub(crate) fn read(body: &mut Body<'a>, scope: Scope) -> Result<Self, Fault> {
        match property_block(body)? {
            [] => Ok(Self(&[])),
            block => Self::check(block, scope),
        }
    }

    /// The wire form, without its length.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The properties in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut body = Body::new(self.0);
        std::iter::from_fn(move || if body.is_empty() { None } else { Property::read(&mut body).ok() })
    }

    /// Writes length and block.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u32);
        out.extend_from_slice(self.0);
    }
}

/// A length-prefixed property block, not checked yet.
pub(crate) fn property_block<'a>(body: &mut Body<'a>) -> Result<&'a [u8], Fault> {
    let len = body.varint().map_err(|fault| if fault == Fault::Truncated { fault } else { Fault::Property })?;
    body.take(len as usize)
}
