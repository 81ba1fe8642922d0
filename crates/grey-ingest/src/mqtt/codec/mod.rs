//! The wire of MQTT 3.1.1 and 5, without copies: packets are views of the bytes
//! they came in.
//!
//! Decoding is total. Any bytes give a packet, a [`Fault`] or a wish for more,
//! in time linear in their length and without an allocation. Nothing here knows
//! a session, a socket or a clock. `docs/design/mqtt.md` says what is served;
//! `docs/decisions/0006-own-mqtt-codec.md` why the codec is our own.

mod decode;
mod encode;
mod fault;
mod name;
mod packet;
mod property;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::{Frame, Split, decode, split};
pub use encode::{ACK_BYTES, put_ack};
pub use fault::{Fault, ReasonCode};
pub use name::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX, check_filter, check_topic, matches};
pub use packet::{
    Ack, AckKind, ConnAck, Connect, Disconnect, Filters, Packet, Publish, Qos, RetainHandling, SubAck, Subscribe,
    SubscribeOptions, Subscriptions, Unsubscribe, Version, Will,
};
pub use property::{Properties, Property, Scope};
pub use wire::VARINT_MAX;

pub(crate) use decode::{PublishParts, connect_version, publish_parts};
pub(crate) use encode::publish_len;
pub(crate) use name::SHARED_PREFIX;
pub(crate) use wire::text;

/// The default of the largest packet in bytes, headers included.
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
