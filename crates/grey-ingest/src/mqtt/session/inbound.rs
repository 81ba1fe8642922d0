//! What a client publishes.

use bytes::Bytes;
use std::sync::Arc;

use super::route::Route;
use super::{Context, Session, Turn};
use crate::broker::Message;
use crate::intake::{Op, Qos2Key};
use crate::mqtt::codec::{AckKind, Fault, Properties, Property, PublishParts, Qos, Scope, Version, put_ack};
use crate::payload;

impl Session {
    pub(super) fn qos2_key(&self, packet_id: u16) -> Qos2Key {
        Qos2Key { client: self.client, packet_id }
    }

    pub(super) fn publish(&mut self, parts: &PublishParts<'_>, cx: Context<'_>, turn: &mut Turn) -> Result<(), Fault> {
        turn.tally.messages[parts.qos as usize] += 1;
        let mut properties = Properties::default();
        let mut topic = parts.topic;
        if !parts.properties.is_empty() {
            properties = Properties::check(parts.properties, Scope::Publish)?;
            topic = resolve_alias(&mut self.aliases, topic, properties, cx.config.topic_alias_maximum)?;
        }
        if topic.is_empty() {
            return Err(if self.version == Version::V5 { Fault::Unexpected } else { Fault::TopicName });
        }
        let route = self.routes.get(topic, &cx.config.topics)?;
        if parts.qos == Qos::ExactlyOnce && self.unreleased.contains_key(&parts.packet_id) {
            // Method A of the standard: whatever comes under this packet id before
            // its release is the same message again.
            turn.tally.duplicates += 1;
            put_ack(&mut turn.acks, AckKind::PubRec, parts.packet_id);
            return Ok(());
        }
        if parts.qos != Qos::AtMostOnce {
            self.unacknowledged += 1;
            if self.version == Version::V5 && self.unacknowledged > u32::from(cx.config.receive_maximum) {
                return Err(Fault::ReceiveMaximum);
            }
        }

        let first_op = turn.ops.len();
        let mut keyed = false;
        match route {
            // Clears a retained message; there is nothing to store.
            _ if parts.retain && parts.payload.is_empty() => {}
            Route::Event { device, stream } => {
                let ops = &mut turn.ops;
                let read = payload::read(parts.payload, device, stream, cx.now_ms, &mut self.memo, |event, lane| {
                    ops.push(Op::Event { event, lane, qos2: None });
                });
                match read {
                    Ok(count) => {
                        turn.tally.events += count as u64;
                        keyed = parts.qos == Qos::ExactlyOnce && count > 0;
                    }
                    Err(error) => dead_letter(turn, topic, parts.payload, error.to_string()),
                }
            }
            Route::DeadLetter(reason) => dead_letter(turn, topic, parts.payload, reason.to_string()),
            Route::Local | Route::Reserved => turn.tally.unmapped += 1,
        }

        let is_local = !matches!(route, Route::Reserved);
        if is_local && (parts.retain || cx.broker.has_subscribers()) {
            let (kept, expires_at_ms) = Message::split_properties(properties, cx.now_ms);
            turn.forwards.push(Arc::new(Message {
                // Remembered topics were checked as text.
                topic: String::from_utf8_lossy(topic).into(),
                payload: Bytes::copy_from_slice(parts.payload),
                qos: parts.qos,
                retain: parts.retain,
                publisher: self.connection,
                properties: kept,
                expires_at_ms,
            }));
        }

        match parts.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                turn.credits += 1;
                put_ack(&mut turn.acks, AckKind::PubAck, parts.packet_id);
            }
            Qos::ExactlyOnce => {
                self.unreleased.insert(parts.packet_id, keyed);
                if keyed {
                    self.key_ops(parts, first_op, turn);
                }
                put_ack(&mut turn.acks, AckKind::PubRec, parts.packet_id);
            }
        }
        Ok(())
    }

    /// Gives the operations of a QoS 2 publish their key.
    fn key_ops(&self, parts: &PublishParts<'_>, first_op: usize, turn: &mut Turn) {
        let key = self.qos2_key(parts.packet_id);
        let mut events: Vec<_> = turn.ops.drain(first_op..).collect();
        // A client that lost its own state numbers anew: what it sends for the
        // first time must not pass for something it never released.
        if !self.clean && !parts.dup {
            turn.ops.push(Op::Release(key));
        }
        if let [Op::Event { qos2, .. }] = events.as_mut_slice() {
            *qos2 = Some(key);
            turn.ops.append(&mut events);
            return;
        }
        let events = events.into_iter().filter_map(|op| match op {
            Op::Event { event, lane, .. } => Some((event, lane)),
            _ => None,
        });
        turn.ops.push(Op::Events { events: events.collect(), qos2: key });
    }
}

fn dead_letter(turn: &mut Turn, topic: &[u8], payload: &[u8], reason: String) {
    turn.tally.dead_letters += 1;
    let topic = String::from_utf8_lossy(topic).into_owned();
    turn.ops.push(Op::DeadLetter { topic, payload: Bytes::copy_from_slice(payload), reason });
}

/// The topic that a PUBLISH means, and the alias that it sets.
fn resolve_alias<'t>(
    aliases: &'t mut Vec<Option<Box<[u8]>>>,
    topic: &'t [u8],
    properties: Properties<'_>,
    aliases_max: u16,
) -> Result<&'t [u8], Fault> {
    let Some(alias) = properties.iter().find_map(|property| match property {
        Property::TopicAlias(alias) => Some(alias),
        _ => None,
    }) else {
        return Ok(topic);
    };
    // 0 was refused with the properties.
    let index = usize::from(alias) - usize::from(alias > 0);
    if index >= usize::from(aliases_max) {
        return Err(Fault::TopicAlias);
    }
    if topic.is_empty() {
        return aliases.get(index).and_then(|known| known.as_deref()).ok_or(Fault::Unexpected);
    }
    // Checked here, so that an alias never stands for an illegal topic.
    crate::mqtt::codec::check_topic(crate::mqtt::codec::text(topic)?)?;
    if aliases.len() <= index {
        aliases.resize(index + 1, None);
    }
    aliases[index] = Some(topic.into());
    Ok(topic)
}
