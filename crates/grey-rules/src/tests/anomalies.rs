//! Detectors, models and spectra.

use std::fmt;

use grey_infer::{Activation, DenseBuilder, Manifest, Model, ModelError, build, digest_of};
use grey_model::{Event, Kind, Value};

use super::*;

#[test]
fn a_detector_finds_what_stands_out_once() {
    let mut engine = engine("[{type: anomaly, detector: ewma, streams: [t], score: 0.9, tags: {team: a}}]");
    let mut readings: Vec<_> =
        (0..500).map(|n| ("a", "t", 20.0 + f64::from(n % 7) * 0.1, i64::from(n) * 1_000)).collect();
    readings.extend((500..503).map(|n| ("a", "t", 95.0, i64::from(n) * 1_000)));
    readings.extend((503..520).map(|n| ("a", "t", 20.3, i64::from(n) * 1_000)));
    let (derived, verdicts) = feed(&mut engine, &readings);
    let found: Vec<_> = derived.iter().filter(|(_, e)| attribute(e, "state") == Some("firing")).collect();
    let spike = found.iter().find(|(_, e)| e.stamp.unix_ms() == 500_000).expect("the spike is found");
    assert_eq!((spike.0, spike.1.kind), (Lane::Critical, Kind::Anomaly));
    let numbers = fields(&spike.1);
    assert!(
        numbers["score"] >= 0.9 && numbers["seen"] == 95.0 && (numbers["expected"] - 20.3).abs() < 5.0,
        "{numbers:?}"
    );
    assert_eq!((attribute(&spike.1, "detector"), attribute(&spike.1, "team")), (Some("ewma"), Some("a")));
    assert_eq!(verdicts[500], Verdict::Forward(None), "it is flagged and uploaded");
    assert_eq!(engine.counters().findings as usize, found.len());
}

/// A library of models in memory.
#[derive(Debug)]
struct Shelf(Vec<(ModelRef, Arc<dyn Model>)>);

impl Library for Shelf {
    fn versions(&self, name: &str) -> Vec<Result<ModelRef, (String, ModelError)>> {
        self.0.iter().filter(|(model, _)| model.name == name).map(|(model, _)| Ok(model.clone())).collect()
    }

    fn load(&self, model: &ModelRef) -> Result<Arc<dyn Model>, ModelError> {
        let found = self.0.iter().find(|(known, _)| known == model).map(|(_, model)| Arc::clone(model));
        found.ok_or_else(|| ModelError::Missing { path: model.to_string() })
    }
}

/// A model that is sure of `t > 80`, of a window of rows, by one dense layer.
fn good(version: &str, inputs: &str, weights: &[f32]) -> Arc<dyn Model> {
    let file = DenseBuilder::new().layer(weights.len(), weights, &[-80.0], Activation::Sigmoid).to_bytes();
    let manifest = format!(
        r#"{{"format": 1, "name": "hot", "version": "{version}", "runtime": "mlp", "file": "m.grym", "digest": "{}",
            "inputs": [{inputs}], "output": {{"kind": "probability", "threshold": 0.9}}}}"#,
        digest_of(&file)
    );
    build(Manifest::parse(manifest.as_bytes()).unwrap(), &file).unwrap()
}

/// A model that answers a few times and then gives no number.
struct Failing(Manifest);

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

impl Model for Failing {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn infer(&self, input: &[f32], scratch: &mut Vec<f32>) -> Result<grey_infer::Inference, ModelError> {
        if input.first().is_some_and(|value| *value > 100.0) {
            return Err(ModelError::NotFinite { what: "output".into(), position: 0, value: "NaN".into() });
        }
        good("1", CELSIUS, &[1.0]).infer(input, scratch)
    }
}

const CELSIUS: &str = r#"{"stream": "t", "unit": "°C"}"#;

fn reference(version: &str) -> ModelRef {
    ModelRef { name: "hot".into(), version: version.into(), digest: format!("{version:0>64}") }
}

fn shelf() -> Shelf {
    let failing: Arc<dyn Model> = Arc::new(Failing(good("2", CELSIUS, &[1.0]).manifest().clone()));
    Shelf(vec![(reference("2"), failing), (reference("1"), good("1", CELSIUS, &[1.0]))])
}

const MODEL_RULE: &str = "[{type: anomaly, name: m, model: hot, action: flag_and_upload}]";

#[test]
fn a_model_that_fails_gives_its_place_to_the_version_before() {
    let rules = RuleSet::compile(&parsed(MODEL_RULE, Forward::Aggregates), &shelf()).unwrap();
    assert_eq!(rules.models(), [reference("2"), reference("1")]);
    assert_eq!(rules.explain()[1], "1 m: warning finding of the model hot 2");
    let mut engine = Engine::new(Arc::new(rules), config(10));
    let (derived, verdicts) = feed(&mut engine, &[("a", "t", 70.0, 1), ("a", "t", 90.0, 2), ("a", "t", 91.0, 3)]);
    assert_eq!(states(&derived), ["2 firing"]);
    assert_eq!((derived[0].1.kind, attribute(&derived[0].1, "model")), (Kind::Anomaly, Some("hot")));
    assert_eq!(verdicts[1..], [Verdict::Forward(None), Verdict::Forward(None)]);
    assert_eq!(engine.models()[0].version.as_deref(), Some("2"));
    // Version 2 gives no number here; version 1 answers at once.
    let (derived, _) = feed(&mut engine, &[("a", "t", 101.0, 4), ("a", "t", 20.0, 5)]);
    let log = &derived[0].1;
    assert_eq!((log.kind, &*log.stream, &*log.device), (Kind::Log, "model_fallback", "site-1"));
    let shown = ["rule", "from", "to"].map(|name| attribute(log, name).unwrap());
    assert_eq!(shown, ["m", "2", "1"]);
    assert!(attribute(log, "reason").unwrap().contains("NaN"));
    assert_eq!(attribute(&derived[1].1, "state"), Some("cleared"));
    let status = &engine.models()[0];
    assert_eq!((status.version.as_deref(), status.fallbacks, status.inferences), (Some("1"), 1, 5));
    assert!(status.problem.as_ref().unwrap().contains("NaN"));
    // The engine goes on with version 1 after a restart, with the same versions, whatever the library has by then.
    let source = engine.rules().source();
    let mut later = shelf();
    later.0.insert(0, (reference("3"), good("3", CELSIUS, &[1.0])));
    let rules = Arc::new(RuleSet::from_source(&source, &later).unwrap());
    assert_eq!(rules.digest(), engine.rules().digest());
    let again = Engine::restore(rules, config(10), &engine.snapshot()).unwrap();
    assert_eq!(again.models(), engine.models());
    assert_ne!(
        RuleSet::compile(&parsed(MODEL_RULE, Forward::Aggregates), &later).unwrap().digest(),
        again.rules().digest()
    );
    assert_eq!(engine.counters().model_fallbacks, 1);
}

#[test]
fn a_rule_without_a_usable_model_rests() {
    let rules = Arc::new(RuleSet::compile(&parsed(MODEL_RULE, Forward::Raw), &NoModels).unwrap());
    let mut engine = Engine::new(rules, config(10));
    assert_eq!(feed(&mut engine, &[("a", "t", 99.0, 1)]).0, []);
    assert_eq!(engine.models()[0].version, None);
    assert!(engine.rule_status()[0].problem.as_ref().unwrap().contains("no version of hot"));
}

#[test]
fn a_model_sees_several_streams_in_its_units() {
    let inputs = r#"{"stream": "t", "unit": "°C"}, {"stream": "load"}"#;
    let shelf = Shelf(vec![(reference("1"), good("1", inputs, &[1.0, 0.5]))]);
    let rules = RuleSet::compile(&parsed(MODEL_RULE, Forward::Raw), &shelf).unwrap();
    let mut engine = Engine::new(Arc::new(rules), config(10));
    let mut derived = Derived::default();
    let mut send = |stream: &str, value: f64, unit: Option<&str>, ms: i64| {
        let mut event = Event::reading("a", stream, value, ms);
        event.unit = unit.map(Into::into);
        engine.process(&event, at(ms), &mut derived);
        derived.events.drain(..).count()
    };
    assert_eq!(send("t", 90.0, Some("°C"), 1), 0, "the load is not known yet");
    assert_eq!(send("load", 1.0, None, 2), 0, "a row begins with the first input");
    assert_eq!(send("t", 176.0, Some("°F"), 3), 0, "that is 80 °C");
    assert_eq!(send("t", 194.0, Some("°F"), 4), 1, "and that 90");
}

#[test]
fn spectra_become_streams_that_alarms_look_at() {
    let yaml = "
- type: spectrum
  name: bearing
  streams: [vibration]
  sample_rate: 1000
  size: 1024
  bands: [{name: high, from: 90, to: 110}]
  alarms: [{field: rms, warning: 1.0, critical: 5.0}]
- {type: threshold, name: band, condition: vibration.band.high > 0.5}
";
    let mut engine = engine(yaml);
    let mut derived = Derived::default();
    for (n, amplitude) in [(1, 1.0), (2, 4.0), (3, 1.0)] {
        let samples: Vec<f64> =
            (0..1024).map(|i| amplitude * (std::f64::consts::TAU * 100.0 * f64::from(i) / 1000.0).sin()).collect();
        let mut event = Event::reading("motor", "vibration", 0.0, n * 1_024);
        event.value = Value::Vector(samples.into());
        engine.process(&event, at(n * 1_024), &mut derived);
    }
    let shown: Vec<String> = derived
        .events
        .iter()
        .map(|d| {
            let state = attribute(&d.event, "state").unwrap_or("-");
            format!("{} {} {state}", attribute(&d.event, "rule").unwrap(), d.event.stream)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "bearing vibration.spectrum -",
            "band vibration.band.high firing",
            "bearing vibration.spectrum -",
            "bearing.rms.warning vibration.rms firing",
            "bearing vibration.spectrum -",
            "bearing.rms.warning vibration.rms cleared",
        ]
    );
    assert_eq!(engine.counters().not_numeric, 0, "arrays are what the rule is for");
}
