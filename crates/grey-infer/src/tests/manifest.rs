//! Manifests: the documented one is taken, everything else has a name.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{manifest, parse, small_mlp};
use crate::{Manifest, ModelError, Runtime};

/// Changes one key, by its path with `/` between.
fn with(pointer: &str, value: Value) -> Value {
    let mut manifest = manifest("mlp", "score", 2, &small_mlp());
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[key] = value;
    manifest
}

#[track_caller]
fn refused(pointer: &str, value: Value, words: &str) {
    let error = parse(&with(pointer, value)).unwrap_err().to_string();
    assert!(error.contains(words), "{pointer}: {error:?} has no {words:?}");
}

#[test]
fn the_documented_manifest_is_taken() {
    let page = include_str!("../../../../docs/design/models.md");
    let sample = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let read = Manifest::parse(sample.as_bytes()).unwrap();
    assert_eq!(
        (read.name.as_str(), read.version.as_str(), read.runtime),
        ("edge-anomaly", "2", Runtime::IsolationForest)
    );
    assert_eq!((read.row_len(), read.input_len()), (3, 24));
    // What is written can be read.
    assert_eq!(Manifest::parse(read.to_json().as_bytes()).unwrap(), read);
}

#[test]
fn keys_are_checked() {
    refused("/format", json!(2), "format: 2 is not known");
    for name in ["", "a/b", "..", ".hidden", "ä", "a b", &"x".repeat(129)] {
        refused("/name", json!(name), "manifest: name: ");
    }
    for version in ["", "v2", "1/..", "latest"] {
        refused("/version", json!(version), "manifest: version: ");
    }
    for file in ["", "/etc/passwd", "../other/model.grym", "a/b", ".x", "manifest.json", "a\0b", "C:\\x"] {
        refused("/file", json!(file), "without a path");
    }
    for digest in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
        refused("/digest", json!(digest), "64 lower-case hex digits");
    }
    refused("/runtime", json!("tensorflow"), "unknown variant `tensorflow`");
    refused("/inputs", json!([]), "inputs: 0 are given");
    refused("/inputs", json!(vec![json!({"stream": "a"}); 65]), "inputs: 65 are given");
    refused("/inputs", json!([{"stream": "a"}, {"stream": "a"}]), "inputs[1].stream: \"a\": stands twice");
    refused("/inputs/0/stream", json!(""), "inputs[0].stream");
    refused("/inputs/0/unit", json!(""), "inputs[0].unit");
    refused("/inputs/0/features", json!(0), "inputs[0].features: 0 is not 1 to 65536");
    refused("/inputs/0/features", json!(65_537), "inputs[0].features");
    refused("/inputs/0/features", json!(-1), "invalid value");
    refused("/window", json!(0), "window: 0 is not 1 to 4096");
    refused("/every", json!(4_097), "every: 4097 is not 1 to 4096");
    refused("/inputs/0/speed", json!(1), "unknown field `speed`");
    refused("/unknown", json!(1), "unknown field `unknown`");
    let mut absurd = with("/window", json!(4_096));
    absurd["inputs"][0]["features"] = json!(65_536);
    assert_eq!(
        parse(&absurd).unwrap_err().to_string(),
        "input (window times features) in numbers of 268435456 is over the limit of 262144"
    );
}

#[test]
fn scalings_are_checked() {
    let scaling = |value: Value, words: &str| refused("/inputs/0/scaling", value, words);
    scaling(json!({}), "give either mean and scale, or min and max");
    scaling(json!({"mean": 1}), "give either");
    scaling(json!({"mean": 1, "scale": 1, "min": 1}), "give either");
    scaling(json!({"mean": 1, "scale": 0}), "feature 0: scale must be over 0");
    scaling(json!({"mean": 1, "scale": -1}), "scale must be over 0");
    scaling(json!({"mean": 1, "scale": 1e-320}), "not extreme");
    scaling(json!({"min": 1, "max": 1}), "max must be over min");
    scaling(json!({"min": -1.7e308, "max": 1.7e308}), "not extreme");
    scaling(json!({"mean": [1, 2, 3], "scale": 1}), "3 numbers for 2 features");
    scaling(json!({"mean": [1, 2], "scale": [1, 0]}), "feature 1: scale");
    scaling(json!({"mean": "x", "scale": 1}), "a number, or a list");
}

#[test]
fn outputs_are_checked() {
    let output = |value: Value, words: &str| refused("/output", value, words);
    output(json!({"kind": "score", "threshold": 0}), "output.threshold: 0 is not over 0");
    output(json!({"kind": "probability", "threshold": 1.5}), "output.threshold");
    output(json!({"kind": "reconstruction_error", "threshold": -1}), "finite, over 0");
    output(json!({"kind": "score"}), "missing field `threshold`");
    output(json!({"kind": "score", "threshold": 0.5, "labels": ["a", "b"]}), "only the kind `class` has labels");
    output(json!({"kind": "class", "threshold": 0.5}), "at least two");
    output(json!({"kind": "class", "threshold": 0.5, "labels": ["a", ""]}), "output.labels");
    output(json!({"kind": "class", "threshold": 0.5, "labels": ["a", "b"], "index": 2}), "output.index: 2 is no class");
    output(json!({"kind": "reconstruction_error", "threshold": 9, "index": 1}), "has no index");
    for (runtime, name) in [("autoencoder", "reconstruction_error"), ("isolation_forest", "score")] {
        let mut manifest = with("/output/kind", json!("probability"));
        manifest["runtime"] = json!(runtime);
        let error = parse(&manifest).unwrap_err().to_string();
        assert!(error.contains(&format!("the runtime {runtime} gives only {name}")), "{error}");
    }
}

#[test]
fn requirements_are_held_against_this_version() {
    refused("/requires", json!({"grey": "about 1"}), "requires.grey");
    let found = parse(&with("/requires", json!({"grey": ">=0.1, <0.1"}))).unwrap_err();
    let here = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(found, ModelError::Requires { required: ">=0.1, <0.1".into(), found: here });
}

#[test]
fn what_is_no_manifest_says_where() {
    for (text, words) in
        [("", "EOF"), ("{", "line 1"), ("[]", "line 1"), ("{\"format\": 1}", "missing field"), ("\u{0}", "line 1")]
    {
        let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("manifest: ") && error.contains(words), "{error}");
    }
    let nested = "[".repeat(100_000);
    assert!(Manifest::parse(nested.as_bytes()).is_err());
    let large = vec![b' '; crate::MANIFEST_BYTES_MAX + 1];
    assert!(matches!(Manifest::parse(&large), Err(ModelError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn hostile_manifests_never_panic(bytes: Vec<u8>, text in ".{0,200}") {
        let _ = (Manifest::parse(&bytes), Manifest::parse(text.as_bytes()));
    }

    #[test]
    fn a_damaged_manifest_is_refused_or_checked(at in 0_usize..600, byte: u8) {
        let mut bytes = manifest("mlp", "score", 2, &small_mlp()).to_string().into_bytes();
        let place = at % bytes.len();
        bytes[place] = byte;
        if let Ok(read) = Manifest::parse(&bytes) {
            prop_assert_eq!(read.check(), Ok(()));
        }
    }
}
