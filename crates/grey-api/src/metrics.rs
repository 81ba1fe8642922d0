//! Metrics in Prometheus text, on the `metrics` facade.
//!
//! Counters and gauges live in `metrics-exporter-prometheus`. Histograms are
//! our own fixed buckets, because the exporter keeps every sample until
//! somebody scrapes. Figures that are read rather than counted (sites,
//! the process) come from collectors at the moment of a scrape. Every name
//! stands in [`names`]; a family comes from one of the three sources only.

mod edge;
mod exposition;
mod histogram;
pub mod names;
mod process;
mod rules;
mod sites;
mod tiers;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::header::CONTENT_TYPE;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::json;

use crate::openapi::Route;
use crate::params::NoQuery;

pub use edge::{EdgeMetrics, Protocol, RefusalReason};
pub use exposition::Exposition;
use histogram::Histograms;
use names::{Kind, Metric};
pub use rules::{
    EffectKind, EffectMetrics, EffectOutcome, ModelFigures, RULES_SHOWN_MAX, RuleFigures, RulesFigures, RulesMetrics,
};
pub use sites::{SITES_MAX, SiteFigures, SiteLabels, SiteState, SiteTable};
pub(crate) use tiers::HttpMetrics;
pub use tiers::{
    ConsensusMetrics, CoordinatorMetrics, HubFeed, HubMetrics, LedgerMetrics, StorageMetrics, UplinkFigures,
    UplinkMetrics,
};

const METADATA: Metadata<'static> = Metadata::new("grey", Level::INFO, None);
/// The media type of Prometheus text.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The recorder of this process is taken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process has a metrics recorder already; share the first Metrics instead of installing a second")]
pub struct AlreadyInstalled;

/// Figures that are read when somebody scrapes.
pub trait Collector: Send + Sync {
    /// Writes the figures of now.
    fn collect(&self, out: &mut Exposition);
}

/// All metrics of one tier. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: SplitRecorder,
    prometheus: PrometheusHandle,
    collectors: Mutex<Vec<Arc<dyn Collector>>>,
}

impl Metrics {
    /// Metrics of their own, for a tier embedded in a larger process and for tests.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        let recorder = SplitRecorder(Arc::new((recorder, Histograms::default())));
        for metric in names::ALL {
            let (name, help) = (KeyName::from_const_str(metric.name), SharedString::const_str(metric.help));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        let metrics = Self(Arc::new(Inner { recorder, prometheus, collectors: Mutex::default() }));
        metrics.collect_with(Arc::new(process::Process));
        metrics
    }

    /// Metrics that also take what libraries record through the macros of the
    /// `metrics` crate. Once in a process.
    pub fn install() -> Result<Self, AlreadyInstalled> {
        let metrics = Self::new();
        metrics::set_global_recorder(metrics.0.recorder.clone()).map_err(|_| AlreadyInstalled)?;
        Ok(metrics)
    }

    /// The counter of a name and label values. Keep the handle: looking it up costs far more than counting.
    pub fn counter(&self, metric: &'static Metric, labels: &[&str]) -> Counter {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        self.0.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    /// The gauge of a name and label values.
    pub fn gauge(&self, metric: &'static Metric, labels: &[&str]) -> Gauge {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        self.0.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    /// The histogram of a name and label values.
    pub fn histogram(&self, metric: &'static Metric, labels: &[&str]) -> Histogram {
        debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
        self.0.recorder.register_histogram(&key(metric, labels), &METADATA)
    }

    /// Adds figures that are read at every scrape.
    pub fn collect_with(&self, collector: Arc<dyn Collector>) {
        self.collectors().push(collector);
    }

    /// Says which program this is, as `grey_build_info`.
    pub fn build_info(&self, tier: &str, version: &str, revision: &str) {
        self.gauge(&names::BUILD_INFO, &[tier, version, revision]).set(1.0);
    }

    /// Everything in Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        let mut out = Exposition::new();
        self.0.recorder.0.1.collect(&mut out);
        let collectors = self.collectors().clone();
        for collector in collectors {
            collector.collect(&mut out);
        }
        let mut text = self.0.prometheus.render();
        out.write(&mut text);
        text
    }

    fn collectors(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Collector>>> {
        // A push is the only change, so a poisoned list is whole.
        self.0.collectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("collectors", &self.collectors().len()).finish_non_exhaustive()
    }
}

fn key(metric: &'static Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
    let labels = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// Counters and gauges to the exporter, histograms to our buckets.
#[derive(Clone)]
struct SplitRecorder(Arc<(PrometheusRecorder, Histograms)>);

impl Recorder for SplitRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.0.describe_counter(key, unit, description);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.0.describe_gauge(key, unit, description);
    }
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.0.register_counter(key, metadata)
    }
    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.0.register_gauge(key, metadata)
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.1.register(key)
    }
}

/// The route `/metrics`.
pub fn metrics_route<S: Clone + Send + Sync + 'static>(metrics: &Metrics) -> Route<S> {
    let metrics = metrics.clone();
    Route::get("/metrics", "Metrics in Prometheus text format", move |_: NoQuery| {
        let text = metrics.render();
        async { ([(CONTENT_TYPE, TEXT_FORMAT)], text) }
    })
    .answers_as(200, "Prometheus text format 0.0.4", "text/plain", json!({"type": "string"}))
}

#[cfg(test)]
mod tests;
