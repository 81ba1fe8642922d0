//! What the engine tells while it runs, and what is done about it at once:
//! alerts raised at the site, devices told, requests handed on, figures counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grey_api::Readiness;
use grey_api::metrics::{EdgeMetrics, EffectKind, EffectMetrics, EffectOutcome, RefusalReason, RulesMetrics};
use grey_ingest::mqtt::codec::Qos;
use grey_ingest::{Broker, Refusal};
use grey_model::{Event, Kind, Lane, SiteId};
use grey_rules::{DerivedEvent, Effect, RenderedEffect};
use serde_json::json;
use tokio::sync::watch;

use crate::alerts::AlertBook;
use crate::core::{Progress, Request};
use crate::engine::{Decisions, EngineEvents};
use crate::webhook::RequestSender;

/// Does what alerts ask for the moment that they are decided: no disk is waited for.
#[derive(Debug)]
pub(crate) struct Acts {
    pub(crate) site: SiteId,
    pub(crate) alerts: AlertBook,
    pub(crate) broker: Broker,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) rules: RulesMetrics,
    pub(crate) effects: EffectMetrics,
}

impl Acts {
    fn publish(&self, kind: EffectKind, topic: &str, payload: Bytes, qos: Qos, retain: bool) {
        let outcome = match self.broker.publish(topic, payload, qos, retain) {
            Ok(()) => EffectOutcome::Executed,
            Err(fault) => {
                tracing::warn!(topic, ?fault, "what an alert asks for cannot be published");
                EffectOutcome::Failed
            }
        };
        self.effects.count(kind, outcome);
    }

    fn act(&self, event: &Event, at: usize, effect: &Effect) {
        // The core keeps requests: they must outlive a crash.
        if matches!(effect, Effect::Webhook(_)) {
            return;
        }
        match effect.render(event, self.site.as_str()) {
            RenderedEffect::Publish { topic, payload, qos, retain } => {
                let qos = match qos {
                    0 => Qos::AtMostOnce,
                    1 => Qos::AtLeastOnce,
                    _ => Qos::ExactlyOnce,
                };
                self.publish(EffectKind::Publish, &topic, payload.into(), qos, retain);
            }
            RenderedEffect::Command { device, name, args } => {
                let attribute = |name: &str| event.attributes.iter().find(|(n, _)| &**n == name).map_or("", |(_, v)| v);
                let (alert, state) = (attribute("alert"), attribute("state"));
                let args: serde_json::Map<_, _> = args.into_iter().map(|(name, value)| (name, value.into())).collect();
                let payload = json!({
                    "id": format!("{alert}-{state}-{at}"), "name": name, "args": args, "alert": alert,
                });
                let topic = format!("commands/{device}");
                self.publish(EffectKind::Command, &topic, payload.to_string().into(), Qos::AtLeastOnce, false);
            }
            RenderedEffect::Webhook { .. } => {}
        }
    }
}

impl Decisions for Acts {
    fn derived(&mut self, derived: &DerivedEvent) {
        let DerivedEvent { lane, event, effects } = derived;
        // Devices first.
        for (at, effect) in effects.iter().flat_map(|effects| effects.iter()).enumerate() {
            self.act(event, at, effect);
        }
        if *lane == Lane::Critical && matches!(event.kind, Kind::Alert | Kind::Anomaly) {
            self.metrics.alerts(1);
            tracing::info!(device = %event.device, stream = %event.stream, value = ?event.value, "alert");
            self.alerts.raise(&self.site, event, &self.broker);
        }
    }

    fn decided(&mut self, events: usize, took: Duration) {
        self.rules.decided(events, took);
    }
}

/// Counts what the engine does, and hands on what it asks for.
pub(crate) struct Reporter {
    pub(crate) metrics: EdgeMetrics,
    pub(crate) requests: RequestSender,
    pub(crate) readiness: Readiness,
    pub(crate) recovery: Arc<watch::Sender<Option<Progress>>>,
}

impl EngineEvents for Reporter {
    fn requests(&mut self, requests: VecDeque<(u64, Request)>) {
        for request in requests {
            // Its receiver is gone only when the agent stops; the request is kept for the next start.
            let _ = self.requests.send(request);
        }
    }

    fn recovering(&mut self, progress: Option<Progress>) {
        if *self.recovery.borrow() == progress {
            return;
        }
        match progress {
            Some(Progress { replayed, total }) => {
                self.readiness.not_ready("storage", format!("replayed {replayed} of {total} intake records"));
            }
            None => self.readiness.ready("storage"),
        }
        self.recovery.send_replace(progress);
    }

    fn acknowledged(&mut self, events: usize, took: Duration) {
        self.metrics.ingested(events, took);
    }

    fn refused(&mut self, refusal: &Refusal, events: usize) {
        let reason = match refusal {
            Refusal::Backpressure { .. } => RefusalReason::Backpressure,
            Refusal::Full => RefusalReason::Full,
            Refusal::Stopping => RefusalReason::Stopping,
            Refusal::Failed(_) => RefusalReason::Failed,
        };
        self.metrics.refused(reason, events as u64);
    }

    fn committed(&mut self, events: u64, micros: u64) {
        self.metrics.processed(events);
        self.metrics.committed(Duration::from_micros(micros));
    }
}
