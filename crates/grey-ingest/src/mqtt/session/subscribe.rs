//! SUBSCRIBE and UNSUBSCRIBE.

use super::outbound::Subscriber;
use super::{Close, Context, Session, Turn};
use crate::mqtt::codec::{
    Packet, Properties, Property, Qos, ReasonCode, SHARED_PREFIX, SubAck, Subscribe, SubscribeOptions, Unsubscribe,
    Version, check_filter,
};

impl Session {
    pub(super) fn subscribe(&mut self, packet: &Subscribe<'_>, cx: Context<'_>, turn: &mut Turn) -> Result<(), Close> {
        let id = packet.properties.iter().find_map(|property| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        });
        let mut codes = Vec::new();
        for (filter, options) in packet.filters.iter() {
            let code = self.subscribe_one(filter, options, id, cx)?;
            // 3.1.1 has one code for every refusal.
            let failed = code.is_error() && self.version == Version::V311;
            codes.push(if failed { ReasonCode::UNSPECIFIED.0 } else { code.0 });
        }
        let answer = SubAck { packet_id: packet.packet_id, properties: Properties::default(), codes: &codes };
        Packet::SubAck(answer).encode(self.version, &mut turn.replies);
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        filter: &str,
        options: SubscribeOptions,
        id: Option<u32>,
        cx: Context<'_>,
    ) -> Result<ReasonCode, Close> {
        if filter.starts_with(SHARED_PREFIX) {
            return Ok(ReasonCode::SHARED_NOT_SUPPORTED);
        }
        if check_filter(filter).is_err() {
            return Ok(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let connection = self.connection;
        let subscriber =
            self.subscriber.get_or_insert_with(|| Box::new(Subscriber::new(cx.broker.clone(), connection)));
        let new = !subscriber.filters.contains(filter);
        if new && subscriber.filters.len() >= cx.config.subscriptions_per_client_max {
            return Ok(ReasonCode::QUOTA_EXCEEDED);
        }
        // QoS 2 deliveries are not served; the standard lets a server grant less.
        let granted = SubscribeOptions { qos: options.qos.min(Qos::AtLeastOnce), ..options };
        let Ok(retained) = subscriber.broker.subscribe(&subscriber.mailbox, filter, granted, id) else {
            return Ok(ReasonCode::QUOTA_EXCEEDED);
        };
        if new {
            subscriber.filters.insert(filter.into());
        }
        subscriber.backlog.extend(retained);
        // A client that subscribes again and again without reading what it asked for.
        if subscriber.backlog.len() > 2 * subscriber.broker.retained_messages_max() {
            return Err(Close::RetainedQuota);
        }
        Ok(ReasonCode(granted.qos as u8))
    }

    pub(super) fn unsubscribe(&mut self, packet: &Unsubscribe<'_>, turn: &mut Turn) {
        let mut codes = Vec::new();
        for filter in packet.filters.iter() {
            let removed = match &mut self.subscriber {
                Some(subscriber) => {
                    subscriber.filters.remove(filter)
                        && subscriber.broker.unsubscribe(subscriber.mailbox.owner(), filter)
                }
                None => false,
            };
            let code = if removed { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED };
            if self.version == Version::V5 {
                codes.push(code.0);
            }
        }
        let answer = SubAck { packet_id: packet.packet_id, properties: Properties::default(), codes: &codes };
        Packet::UnsubAck(answer).encode(self.version, &mut turn.replies);
    }
}
