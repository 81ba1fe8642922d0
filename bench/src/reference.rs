//! The rules that the reference mix runs with, as the documentation recommends
//! them to a site.

use std::net::SocketAddr;
use std::path::Path;

use crate::Outcome;

/// A threshold with a local alert, and an aggregate.
pub const BASIC: &str = "{ rules: [\
    { type: threshold, name: high, condition: \"pressure > 8 bar\", action: local_alert }, \
    { type: aggregate, interval: 1m, fields: [avg, min, max, count] } ] }";

/// Thresholds of which one commands a device and one calls a webhook,
/// aggregates, filters, spectra, a detector and a model, whose files are written
/// below the agent's folder.
pub fn rules(hook: SocketAddr, _folder: &Path) -> Outcome<String> {
    Ok(format!(
        "{{ limits: {{ alerts_per_minute: 1000000 }}, rules: [\
        {{ type: threshold, name: hot, condition: \"temperature > 85°C\", clear: \"temperature < 80°C\", action: local_alert }}, \
        {{ type: threshold, name: high, condition: \"pressure > 8 bar\", severity: critical, \
           actions: [local_alert, {{ publish: {{ topic: \"plant/{{device}}/stop\", payload: \"1\", qos: 0 }} }}] }}, \
        {{ type: threshold, name: low, condition: \"pressure < 1 bar\", \
           actions: [local_alert, {{ webhook: {{ url: \"http://{hook}/hook\" }} }}] }}, \
        {{ type: aggregate, interval: 1m, fields: [avg, min, max, count, p95] }}, \
        {{ type: anomaly, detector: general, streams: [pressure, power, temperature], score: 0.99 }}, \
        {{ type: spectrum, streams: [vibration], sample_rate: 640, size: 1024, bands: [{{ name: bearing, from: 80, to: 160 }}] }} \
        ] }}"
    ))
}

/// What the crash harness runs: every kind of window, thresholds with a time and
/// with a clearing limit, detectors, spectra and filters. Windows end by the
/// devices' time alone: the site's own passes differently when it is killed.
pub fn crash_rules() -> String {
    "{ limits: { alerts_per_minute: 1000000 }, rules: [\
     { type: threshold, name: hot, condition: \"temperature > 85°C\", clear: \"temperature < 80°C\", action: local_alert }, \
     { type: threshold, name: high, condition: \"pressure > 8 bar\", severity: critical, action: flag_and_upload }, \
     { type: threshold, name: both, condition: \"power > 9 kW || previous(power) > 9 kW\", action: local_alert }, \
     { type: threshold, name: bad, condition: \"quality == 'bad'\", action: drop }, \
     { type: aggregate, name: minutes, idle: 1h, interval: 1m, fields: [avg, min, max, count, p95] }, \
     { type: aggregate, name: site, idle: 1h, window: hopping, interval: 5m, every: 1m, by: site, streams: [power], fields: [sum, stddev], lateness: 5s }, \
     { type: aggregate, name: sliding, idle: 1h, window: sliding, interval: 10m, every: 1m, streams: [temperature], fields: [first, last, rate] }, \
     { type: aggregate, name: sessions, idle: 1h, window: session, gap: 5m, streams: [power], fields: [count, sum] }, \
     { type: aggregate, name: counts, idle: 1h, window: count, size: 100, streams: [pressure], fields: [p50, p99] }, \
     { type: filter, streams: [pressure], deadband: 0.05 bar, max_interval: 10m }, \
     { type: anomaly, detector: general, streams: [temperature], score: 0.9 }, \
     { type: anomaly, detector: cusum, streams: [power], score: 0.9 }, \
     { type: spectrum, streams: [vibration], sample_rate: 640, size: 1024, bands: [{ name: bearing, from: 80, to: 160 }], \
       alarms: [{ field: rms, warning: 1.5, critical: 2.0 }] } \
     ] }"
    .to_owned()
}
