//! What can be wrong with what a client sent, and the reason code that says so.

use std::fmt;

/// A reason code of MQTT 5, as it stands in CONNACK, SUBACK, DISCONNECT and the
/// acknowledgements. Values are those of section 2.4 of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReasonCode(pub u8);

impl ReasonCode {
    /// Success, normal disconnection, granted QoS 0.
    pub const SUCCESS: Self = Self(0x00);
    /// An unsubscribe named a filter that was not subscribed.
    pub const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    /// Not otherwise named.
    pub const UNSPECIFIED: Self = Self(0x80);
    /// The bytes are not a packet.
    pub const MALFORMED_PACKET: Self = Self(0x81);
    /// A packet that is not allowed here.
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    /// The server failed to do its part.
    pub const IMPLEMENTATION_SPECIFIC: Self = Self(0x83);
    /// The protocol version is not served.
    pub const UNSUPPORTED_VERSION: Self = Self(0x84);
    /// The client id is well formed but not allowed.
    pub const CLIENT_ID_INVALID: Self = Self(0x85);
    /// User name or password is wrong.
    pub const BAD_CREDENTIALS: Self = Self(0x86);
    /// The client may not do this.
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    /// Try again later.
    pub const SERVER_BUSY: Self = Self(0x89);
    /// The server stops.
    pub const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    /// The authentication method is not offered.
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8C);
    /// Nothing was heard for one and a half keep-alive intervals.
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    /// Another connection uses the same client id.
    pub const SESSION_TAKEN_OVER: Self = Self(0x8E);
    /// The filter is well formed but not allowed.
    pub const TOPIC_FILTER_INVALID: Self = Self(0x8F);
    /// The topic is well formed but not allowed.
    pub const TOPIC_NAME_INVALID: Self = Self(0x90);
    /// The packet id of a PUBREL or PUBREC is unknown.
    pub const PACKET_ID_NOT_FOUND: Self = Self(0x92);
    /// More unacknowledged publishes than the receive maximum.
    pub const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    /// The topic alias is 0 or over the maximum.
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    /// The packet is over the maximum size.
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    /// A limit of the server was reached.
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    /// Shared subscriptions are not offered.
    pub const SHARED_NOT_SUPPORTED: Self = Self(0x9E);

    /// True for 0x80 and above.
    pub fn is_error(self) -> bool {
        self.0 >= 0x80
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $code:ident;)*) => {
        /// Why a packet was refused. Each has a counter and, in MQTT 5, a reason code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// Every fault, in the order of its counter.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// The label of the fault's counter.
            pub fn as_str(self) -> &'static str {
                match self { $(Fault::$name => $label,)* }
            }

            /// The reason code that MQTT 5 clients are told.
            pub fn reason(self) -> ReasonCode {
                match self { $(Fault::$name => ReasonCode::$code,)* }
            }
        }
    };
}

faults! {
    /// The remaining length has a fifth byte.
    RemainingLength = "remaining_length", MALFORMED_PACKET;
    /// The packet is over the maximum size.
    PacketTooLarge = "packet_too_large", PACKET_TOO_LARGE;
    /// The packet type 0, or reserved flag bits that are set.
    Header = "header", MALFORMED_PACKET;
    /// A field reaches beyond its packet.
    Truncated = "truncated", MALFORMED_PACKET;
    /// Bytes follow the last field.
    Trailing = "trailing_bytes", MALFORMED_PACKET;
    /// Text that is not UTF-8 or holds U+0000.
    Text = "text", MALFORMED_PACKET;
    /// Both QoS bits set, or DUP on QoS 0.
    Qos = "qos", MALFORMED_PACKET;
    /// Packet id 0.
    PacketId = "packet_id", PROTOCOL_ERROR;
    /// A topic that is empty, too long, too deep or holds a wildcard.
    TopicName = "topic_name", TOPIC_NAME_INVALID;
    /// A filter that is empty, too long, too deep or misplaces a wildcard.
    TopicFilter = "topic_filter", TOPIC_FILTER_INVALID;
    /// A property that is unknown, not allowed here, or has an impossible value.
    Property = "property", MALFORMED_PACKET;
    /// A property that stands twice, or has a value that the standard forbids.
    PropertyRule = "property_rule", PROTOCOL_ERROR;
    /// The protocol name is not `MQTT`.
    ProtocolName = "protocol_name", UNSUPPORTED_VERSION;
    /// A protocol level other than 4 and 5.
    ProtocolVersion = "protocol_version", UNSUPPORTED_VERSION;
    /// CONNECT flags that contradict each other.
    ConnectFlags = "connect_flags", MALFORMED_PACKET;
    /// A client id that is too long, or empty where one is required.
    ClientId = "client_id", CLIENT_ID_INVALID;
    /// A packet that a client must not send now.
    Unexpected = "unexpected_packet", PROTOCOL_ERROR;
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter.
    NoFilter = "no_filter", PROTOCOL_ERROR;
    /// Reserved bits or a retain handling of 3 in subscription options.
    SubscribeOptions = "subscribe_options", MALFORMED_PACKET;
    /// A topic alias of 0, over the maximum, or never set.
    TopicAlias = "topic_alias", TOPIC_ALIAS_INVALID;
    /// More unacknowledged publishes than the receive maximum.
    ReceiveMaximum = "receive_maximum", RECEIVE_MAXIMUM_EXCEEDED;
    /// An authentication method, none is offered.
    AuthMethod = "auth_method", BAD_AUTHENTICATION_METHOD;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet refused: {}", self.as_str().replace('_', " "))
    }
}

impl std::error::Error for Fault {}
