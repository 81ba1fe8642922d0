//! What an inference costs: microseconds for models of usual sizes, and for
//! loading them.
//!
//! `cargo run --release -p grey-infer --example inference_cost`, with
//! `--features onnx` also for a graph.
#![allow(clippy::disallowed_methods, reason = "a driver: it measures time")]

use std::hint::black_box;
use std::time::Instant;

use grey_infer::{Activation, DenseBuilder, Forest, ForestNode, Manifest, build, digest_of};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("{:<40} {:>10} {:>12} {:>12}", "model", "bytes", "load us", "infer us");
    measure("isolation forest, 100 trees of 256, 8", "isolation_forest", "score", 8, &forest(8))?;
    measure("mlp 8-16-8-1", "mlp", "score", 8, &dense(&[8, 16, 8, 1], Activation::Sigmoid))?;
    measure("mlp 64-64-32-1", "mlp", "score", 64, &dense(&[64, 64, 32, 1], Activation::Sigmoid))?;
    measure(
        "autoencoder 64-32-8-32-64",
        "autoencoder",
        "reconstruction_error",
        64,
        &dense(&[64, 32, 8, 32, 64], Activation::Linear),
    )?;
    measure(
        "autoencoder 1024-128-32-128-1024",
        "autoencoder",
        "reconstruction_error",
        1024,
        &dense(&[1024, 128, 32, 128, 1024], Activation::Linear),
    )?;
    #[cfg(feature = "onnx")]
    measure("onnx mlp 8-4-1", "onnx", "probability", 8, include_bytes!("../tests/data/mlp.onnx"))?;
    Ok(())
}

fn measure(title: &str, runtime: &str, kind: &str, features: usize, file: &[u8]) -> Result<(), Failure> {
    let manifest = format!(
        r#"{{"format": 1, "name": "m", "version": "1", "runtime": "{runtime}", "file": "m", "digest": "{}",
            "inputs": [{{"stream": "s", "features": {features}, "scaling": {{"mean": 0.5, "scale": 2}}}}],
            "output": {{"kind": "{kind}", "threshold": 0.5}}}}"#,
        digest_of(file)
    );
    let manifest = Manifest::parse(manifest.as_bytes())?;
    let mut load_us = f64::INFINITY;
    for _ in 0..20 {
        let manifest = manifest.clone();
        let started = Instant::now();
        black_box(build(manifest, file)?);
        load_us = load_us.min(started.elapsed().as_nanos() as f64 / 1_000.0);
    }
    let model = build(manifest, file)?;

    let mut state = 1_u64;
    let inputs: Vec<Vec<f32>> =
        (0..256).map(|_| (0..features).map(|_| uniform(&mut state) * 4.0 - 2.0).collect()).collect();
    let mut scratch = Vec::new();
    // The best of many short rounds: what the machine does besides does not count.
    let rounds = (4_000_000 / (file.len() + 500)).clamp(20, 2_000);
    let mut best_ns = f64::INFINITY;
    for _ in 0..rounds {
        for inputs in inputs.chunks(16) {
            let started = Instant::now();
            for input in inputs {
                black_box(model.infer(black_box(input), &mut scratch)?);
            }
            best_ns = best_ns.min(started.elapsed().as_nanos() as f64 / inputs.len() as f64);
        }
    }
    let infer_us = best_ns / 1_000.0;
    println!("{title:<40} {:>10} {load_us:>12.1} {infer_us:>12.3}", file.len());
    Ok(())
}

fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1_u64 << 24) as f32
}

fn dense(sizes: &[usize], last: Activation) -> Vec<u8> {
    let (mut file, mut state) = (DenseBuilder::new(), 7);
    for (i, pair) in sizes.windows(2).enumerate() {
        let limit = (6.0 / (pair[0] + pair[1]) as f32).sqrt();
        let rows: Vec<f32> = (0..pair[0] * pair[1]).map(|_| (uniform(&mut state) * 2.0 - 1.0) * limit).collect();
        let activation = if i + 2 == sizes.len() { last } else { Activation::Relu };
        file = file.layer(pair[0], &rows, &vec![0.0; pair[1]], activation);
    }
    file.to_bytes()
}

/// Full trees of depth 8, as 256 points give them.
fn forest(features: u32) -> Vec<u8> {
    let mut state = 3;
    let mut tree = || -> Vec<ForestNode> {
        let node = |i: u32| match i {
            0..255 => ForestNode::Split {
                feature: (uniform(&mut state) * features as f32) as u32 % features,
                threshold: uniform(&mut state) * 2.0 - 1.25,
                left: 2 * i + 1,
                right: 2 * i + 2,
            },
            _ => ForestNode::Leaf { points: 1 },
        };
        (0..511).map(node).collect()
    };
    let trees: Vec<Vec<ForestNode>> = (0..100).map(|_| tree()).collect();
    Forest::to_bytes(features, 256, &trees)
}
