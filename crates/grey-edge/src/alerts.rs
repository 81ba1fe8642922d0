//! The latest alert events of a site, for people who look, and their local
//! publication.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use grey_api::{UNNUMBERED, event_json};
use grey_ingest::Broker;
use grey_ingest::mqtt::codec::Qos;
use grey_model::{Epoch, Event, Kind, Lane, SiteId, StreamKey};
use serde_json::Value as Json;

/// Alert events remembered.
const RECENT_MAX: usize = 200;

/// Remembers the latest alert events. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct AlertBook(Arc<Mutex<VecDeque<Json>>>);

impl AlertBook {
    /// The latest alert events, newest first.
    pub(crate) fn recent(&self) -> Vec<Json> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Takes note of an alert and publishes it at the site on `alerts/{device}/{stream}`.
    pub(crate) fn raise(&self, site: &SiteId, event: &Event, broker: &Broker) {
        if !matches!(event.kind, Kind::Alert | Kind::Anomaly) {
            return;
        }
        let json = alert_value(site, event);
        let topic = format!("alerts/{}/{}", event.device, event.stream);
        if let Err(fault) = broker.publish(&topic, json.to_string().into(), Qos::AtLeastOnce, false) {
            tracing::warn!(topic, ?fault, "an alert could not be published at the site");
        }
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(json);
        if recent.len() > RECENT_MAX {
            recent.pop_front();
        }
    }
}

/// An alert as those at the site see it: without epoch and sequence, which are not known when it is told.
fn alert_value(site: &SiteId, event: &Event) -> Json {
    let key = StreamKey { site: site.clone(), epoch: Epoch::default(), lane: Lane::Critical };
    let mut json = serde_json::to_value(event_json(&key, UNNUMBERED, event)).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("epoch");
    }
    json
}

/// The alert as JSON text.
pub(crate) fn alert_json(site: &SiteId, event: &Event) -> String {
    alert_value(site, event).to_string()
}
