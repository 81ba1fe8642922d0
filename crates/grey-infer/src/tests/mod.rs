//! Tests of the models: golden values, refusals with their names, hostile
//! bytes, and the directory with its fallback and its kept copies.

mod directory;
mod manifest;
mod runtime;

use serde_json::{Value, json};

use crate::{Activation, DenseBuilder, Forest, ForestNode};

/// A manifest that fits `file`, with one input of `features` numbers.
fn manifest(runtime: &str, kind: &str, features: usize, file: &[u8]) -> Value {
    json!({
        "format": 1,
        "name": "edge-anomaly",
        "version": "2",
        "runtime": runtime,
        "file": "model.grym",
        "digest": crate::digest_of(file),
        "inputs": [{"stream": "temperature", "unit": "°C", "features": features}],
        "output": {"kind": kind, "threshold": 0.5},
        "requires": {"grey": ">=0.1"},
    })
}

fn parse(manifest: &Value) -> Result<crate::Manifest, crate::ModelError> {
    crate::Manifest::parse(manifest.to_string().as_bytes())
}

fn build(manifest: &Value, file: &[u8]) -> Result<std::sync::Arc<dyn crate::Model>, crate::ModelError> {
    crate::build(parse(manifest)?, file)
}

/// Two inputs, three hidden, one output: numbers that a page of paper checks.
fn small_mlp() -> Vec<u8> {
    DenseBuilder::new()
        .layer(2, &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0], &[0.0, 0.5, 1.0], Activation::Relu)
        .layer(3, &[1.0, 2.0, -3.0], &[-0.5], Activation::Sigmoid)
        .to_bytes()
}

/// Gives back what it gets, up to ±`gain`.
fn identity(features: usize, gain: f32) -> Vec<u8> {
    let rows: Vec<f32> = (0..features * features).map(|i| if i % (features + 1) == 0 { gain } else { 0.0 }).collect();
    DenseBuilder::new().layer(features, &rows, &vec![0.0; features], Activation::Linear).to_bytes()
}

/// Two trees over two features, grown from 8 points.
fn small_forest() -> Vec<u8> {
    let first = vec![
        ForestNode::Split { feature: 0, threshold: 0.5, left: 1, right: 2 },
        ForestNode::Leaf { points: 7 },
        ForestNode::Leaf { points: 1 },
    ];
    let second = vec![
        ForestNode::Split { feature: 1, threshold: -1.0, left: 1, right: 2 },
        ForestNode::Leaf { points: 1 },
        ForestNode::Split { feature: 0, threshold: 2.0, left: 3, right: 4 },
        ForestNode::Leaf { points: 6 },
        ForestNode::Leaf { points: 1 },
    ];
    Forest::to_bytes(2, 8, &[first, second])
}
