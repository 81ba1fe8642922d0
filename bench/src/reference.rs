//! The rules that the reference mix runs with, as the documentation recommends
//! them to a site.

use std::net::SocketAddr;
use std::path::Path;

use crate::Outcome;
use crate::mix::CAMERA_FEATURES;

/// A threshold with a local alert, and an aggregate.
pub const BASIC: &str = "{ rules: [\
    { type: threshold, name: high, condition: \"pressure > 8 bar\", action: local_alert }, \
    { type: aggregate, interval: 1m, fields: [avg, min, max, count] } ] }";

/// Thresholds of which one commands a device and one calls a webhook,
/// aggregates, filters, spectra, a detector and a model, whose files are written
/// below the agent's folder.
pub fn rules(hook: SocketAddr, folder: &Path) -> Outcome<String> {
    let models = folder.join("models");
    write_model(&models)?;
    let models = models.display();
    let rules = rule_list(hook);
    Ok(format!(
        "{{ models: {{ dir: \"{models}\" }}, limits: {LIMITS}, \
         rules: [ {{ type: anomaly, name: defects, model: frame-defects, action: flag_and_upload }}, {rules} ] }}"
    ))
}

/// The same without the model, for an engine that has no model directory.
pub fn rules_alone(hook: SocketAddr) -> String {
    format!("{{ limits: {LIMITS}, rules: [ {} ] }}", rule_list(hook))
}

/// Alerts are timed by the hundred: no limit is to hold them back.
const LIMITS: &str = "{ alerts_per_minute: 1000000 }";

fn rule_list(hook: SocketAddr) -> String {
    format!(
        "{{ type: threshold, name: hot, condition: \"temperature > 85°C\", clear: \"temperature < 80°C\", action: local_alert }}, \
        {{ type: threshold, name: high, condition: \"pressure > 8 bar\", severity: critical, \
           actions: [local_alert, {{ publish: {{ topic: \"plant/{{device}}/stop\", payload: \"1\", qos: 0 }} }}] }}, \
        {{ type: threshold, name: low, condition: \"pressure < 1 bar\", \
           actions: [local_alert, {{ webhook: {{ url: \"http://{hook}/hook\" }} }}] }}, \
        {{ type: aggregate, interval: 1m, fields: [avg, min, max, count, p95] }}, \
        {{ type: anomaly, detector: general, streams: [pressure, power, temperature], score: 0.99 }}, \
        {{ type: spectrum, streams: [vibration], sample_rate: 640, size: 1024, bands: [{{ name: bearing, from: 80, to: 160 }}] }}"
    )
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
     { type: spectrum, streams: [vibration], sample_rate: 640, size: 64, bands: [{ name: bearing, from: 80, to: 160 }], \
       alarms: [{ field: rms, warning: 1.5, critical: 2.0 }] } \
     ] }"
    .to_owned()
}

/// Features of a frame that a defect changes: every fourth.
const CHANGED_EVERY: usize = 4;

/// A network that finds the mix's defects: 32 features, 32 hidden units, one
/// probability. Its weights are given, not trained; what it costs is the same.
fn write_model(models: &Path) -> Outcome<()> {
    let folder = models.join("frame-defects/1");
    std::fs::create_dir_all(&folder)?;
    let mut file = b"GRYM\x01\x01\x02\x00".to_vec();
    let mut layer = |inputs: usize, outputs: usize, activation: u8, weight: &dyn Fn(usize, usize) -> f32, bias: f32| {
        file.extend((inputs as u32).to_le_bytes());
        file.extend((outputs as u32).to_le_bytes());
        file.push(activation);
        (0..outputs).for_each(|o| (0..inputs).for_each(|i| file.extend(weight(o, i).to_le_bytes())));
        (0..outputs).for_each(|_| file.extend(bias.to_le_bytes()));
    };
    layer(CAMERA_FEATURES, CAMERA_FEATURES, 1, &|o, i| f32::from(u8::from(o == i)), 0.0);
    // 40 times the mean of the changed features, whose middle between good (0.5) and bad (0.97) is 0.735.
    let share = 40.0 / (CAMERA_FEATURES / CHANGED_EVERY) as f32;
    layer(CAMERA_FEATURES, 1, 3, &|_, i| if i.is_multiple_of(CHANGED_EVERY) { share } else { 0.0 }, -40.0 * 0.735);
    let path = folder.join("model.grym");
    std::fs::write(&path, file)?;
    let output = std::process::Command::new("sha256sum").arg(&path).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split(' ').next().unwrap_or_default();
    let manifest = serde_json::json!({
        "format": 1, "name": "frame-defects", "version": "1", "runtime": "mlp", "file": "model.grym",
        "digest": digest, "inputs": [{"stream": "features", "features": CAMERA_FEATURES}],
        "output": {"kind": "probability", "threshold": 0.5},
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string())?;
    Ok(())
}
