//! What models answer, and which model files are refused.

use proptest::prelude::*;
use serde_json::json;

use super::{build, identity, manifest, parse, small_forest, small_mlp};
use crate::{Activation, Dense, DenseBuilder, Forest, Inference, ModelError, average_path};

fn infer(manifest: &serde_json::Value, file: &[u8], input: &[f32]) -> Result<Inference, ModelError> {
    build(manifest, file)?.infer(input, &mut Vec::new())
}

#[test]
fn a_network_gives_its_golden_values() {
    let file = small_mlp();
    let model = build(&manifest("mlp", "probability", 2, &file), &file).unwrap();
    let mut scratch = Vec::new();
    // Hidden (1, 2.5, 0), sum 1 + 5 - 0.5 = 5.5; hidden (0, 0, 3), sum -9.5.
    for (input, sum) in [([1.0, 2.0], 5.5_f64), ([-1.0, -1.0], -9.5), ([0.0, 0.0], -2.5)] {
        let found = model.infer(&input, &mut scratch).unwrap();
        let expected = 1.0 / (1.0 + (-sum).exp());
        assert!((found.score - expected).abs() < 1e-6, "{input:?}: {found:?}, expected {expected}");
        assert_eq!((found.output, found.anomalous, found.label), (found.score, sum > 0.0, None));
    }
}

#[test]
fn the_order_of_weights_is_by_output() {
    let file =
        DenseBuilder::new().layer(3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[10.0, 20.0], Activation::Linear).to_bytes();
    let dense = Dense::read(&file).unwrap();
    assert_eq!(dense.forward(&[1.0, 10.0, 100.0]).unwrap(), [331.0, 674.0]);
    assert_eq!((dense.inputs(), dense.outputs(), dense.activation()), (3, 2, Activation::Linear));
}

#[test]
fn activations_are_what_they_are_called() {
    let run = |activation: Activation, input: [f32; 3]| {
        let rows = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let file = DenseBuilder::new().layer(3, &rows, &[0.0; 3], activation).to_bytes();
        Dense::read(&file).unwrap().forward(&input).unwrap()
    };
    assert_eq!(run(Activation::Linear, [-1.0, 0.0, 2.0]), [-1.0, 0.0, 2.0]);
    assert_eq!(run(Activation::Relu, [-1.0, 0.0, 2.0]), [0.0, 0.0, 2.0]);
    assert_eq!(run(Activation::Sigmoid, [-200.0, 0.0, 200.0]), [0.0, 0.5, 1.0]);
    assert_eq!(run(Activation::Tanh, [-200.0, 0.0, 200.0]), [-1.0, 0.0, 1.0]);
    // Numbers whose exponentials overflow alone.
    let soft = run(Activation::Softmax, [1000.0, 1000.0 + std::f32::consts::LN_2, -1000.0]);
    assert!((soft[0] - 1.0 / 3.0).abs() < 1e-4 && (soft[1] - 2.0 / 3.0).abs() < 1e-4 && soft[2] == 0.0, "{soft:?}");
    for activation in Activation::ALL {
        assert_eq!(Activation::parse(activation.as_str()), Some(activation));
    }
}

#[test]
fn a_forest_gives_its_golden_values() {
    let file = small_forest();
    let model = build(&manifest("isolation_forest", "score", 2, &file), &file).unwrap();
    let harmonic = |n: f64| n.ln() + 0.577_215_664_901_532_9;
    let c = |n: f64| 2.0 * harmonic(n - 1.0) - 2.0 * (n - 1.0) / n;
    // Steps to the leaf, plus c of the points in it; equal to a threshold goes left.
    for (input, paths) in [
        ([0.0, 0.0], 1.0 + c(7.0) + 2.0 + c(6.0)),
        ([0.5, 0.0], 1.0 + c(7.0) + 2.0 + c(6.0)),
        ([3.0, 0.0], 1.0 + 2.0),
        ([3.0, -1.0], 1.0 + 1.0),
    ] {
        let found = model.infer(&input, &mut Vec::new()).unwrap();
        let expected = f64::exp2(-paths / 2.0 / c(8.0));
        assert!((found.score - expected).abs() < 1e-6, "{input:?}: {found:?}, expected {expected}");
        assert_eq!(found.anomalous, expected >= 0.5);
    }
}

#[test]
fn the_mean_path_is_that_of_the_paper() {
    assert_eq!([average_path(0), average_path(1), average_path(2)], [0.0, 0.0, 1.0]);
    // c(256) is about 10.24.
    assert!((average_path(256) - 10.244).abs() < 1e-3, "{}", average_path(256));
}

#[test]
fn an_autoencoder_scores_what_it_cannot_give_back() {
    // A layer that gives back only what lies in -1..1, by two steps of relu: y = relu(x + 1) - relu(x - 1) - 1.
    let n = 64;
    let (mut first, mut second) = (Vec::new(), vec![0.0_f32; n * 2 * n]);
    for half in 0..2 {
        for i in 0..n {
            first.extend((0..n).map(|j| f32::from(u8::from(i == j))));
            second[i * 2 * n + half * n + i] = if half == 0 { 1.0 } else { -1.0 };
        }
    }
    let bias: Vec<f32> = (0..2 * n).map(|i| if i < n { 1.0 } else { -1.0 }).collect();
    let file = DenseBuilder::new().layer(n, &first, &bias, Activation::Relu).layer(
        2 * n,
        &second,
        &vec![-1.0; n],
        Activation::Linear,
    );
    let file = file.to_bytes();
    let mut manifest = manifest("autoencoder", "reconstruction_error", n, &file);
    // A camera's frame as 64 features, around 100 with a spread of 20.
    manifest["inputs"] = json!([{"stream": "camera-3/features", "features": n, "scaling": {"mean": 100, "scale": 20}}]);
    manifest["output"]["threshold"] = json!(0.25);
    let model = build(&manifest, &file).unwrap();

    let good: Vec<f32> = (0..n).map(|i| 100.0 + 18.0 * (i as f32).sin()).collect();
    let found = model.infer(&good, &mut Vec::new()).unwrap();
    assert!(found.output < 1e-10 && found.score < 1e-9 && !found.anomalous, "{found:?}");

    // A scratch: 4 of 64 features 5 deviations away, of which 1 is given back: 4 * 16 / 64.
    let mut scratched = good;
    scratched[10..14].fill(200.0);
    let found = model.infer(&scratched, &mut Vec::new()).unwrap();
    assert!((found.output - 1.0).abs() < 1e-6 && (found.score - 0.8).abs() < 1e-6 && found.anomalous, "{found:?}");
}

#[test]
fn classes_have_labels_and_a_good_one() {
    let file = DenseBuilder::new().layer(1, &[1.0, 0.0, -1.0], &[0.0; 3], Activation::Softmax).to_bytes();
    let mut manifest = manifest("mlp", "class", 1, &file);
    manifest["output"] = json!({"kind": "class", "index": 1, "threshold": 0.6, "labels": ["low", "good", "high"]});
    let found = infer(&manifest, &file, &[9.0]).unwrap();
    assert_eq!((found.label, found.anomalous), (Some(0), true));
    assert!(found.score > 0.99 && found.score == found.output);
    let found = infer(&manifest, &file, &[-9.0]).unwrap();
    assert_eq!((found.label, found.anomalous), (Some(2), true));
    // All equal: the first of the labels, and two thirds not good.
    let found = infer(&manifest, &file, &[0.0]).unwrap();
    assert_eq!((found.label, found.anomalous), (Some(0), true));

    manifest["output"]["labels"] = json!(["good", "bad"]);
    let expected = ModelError::Shape { what: "outputs", expected: 2, found: 3 };
    assert_eq!(infer(&manifest, &file, &[0.0]), Err(expected));
    // Sums and not probabilities.
    let file = identity(2, 1.0);
    let mut manifest = super::manifest("mlp", "class", 2, &file);
    manifest["output"]["labels"] = json!(["good", "bad"]);
    assert!(infer(&manifest, &file, &[0.2, 0.2]).unwrap_err().to_string().contains("softmax"));
    assert!(infer(&manifest, &file, &[3.0, -2.0]).unwrap_err().to_string().contains("not between 0 and 1"));
}

#[test]
fn rows_of_a_window_are_scaled_feature_by_feature() {
    // Three rows of a scalar and a pair; the network gives the sum of what it sees.
    let file = DenseBuilder::new().layer(9, &[0.001; 9], &[0.0], Activation::Linear).to_bytes();
    let mut manifest = manifest("mlp", "score", 1, &file);
    manifest["window"] = json!(3);
    manifest["inputs"] = json!([
        {"stream": "a", "scaling": {"min": -10, "max": 10}},
        {"stream": "b", "features": 2, "scaling": {"mean": [1, 2], "scale": [0.5, 4]}},
    ]);
    let found = infer(&manifest, &file, &[-10.0, 1.0, 2.0, 0.0, 1.5, 2.0, 10.0, 1.0, 6.0]).unwrap();
    assert!((found.output - 0.001 * (0.5 + 1.0 + 1.0 + 1.0)).abs() < 1e-7, "{found:?}");
}

#[test]
fn what_does_not_fit_its_manifest_is_refused_with_both_numbers() {
    let mlp = small_mlp();
    let shape = |what, expected, found| Err(ModelError::Shape { what, expected, found });
    let mut wrong = manifest("mlp", "score", 3, &mlp);
    assert_eq!(infer(&wrong, &mlp, &[0.0; 3]), shape("numbers of one input", 3, 2));
    wrong = manifest("mlp", "score", 2, &mlp);
    wrong["output"]["index"] = json!(4);
    assert_eq!(infer(&wrong, &mlp, &[0.0; 2]), shape("outputs", 5, 1));
    let forest = small_forest();
    assert_eq!(
        infer(&manifest("isolation_forest", "score", 5, &forest), &forest, &[0.0; 5]),
        shape("numbers of one input", 5, 2)
    );
    let wrong = manifest("autoencoder", "reconstruction_error", 2, &mlp);
    assert_eq!(infer(&wrong, &mlp, &[0.0; 2]), shape("outputs", 2, 1));

    let right = manifest("mlp", "score", 2, &mlp);
    assert_eq!(infer(&right, &mlp, &[0.0; 3]), Err(ModelError::InputLen { expected: 2, found: 3 }));
    let error = build(&right, &forest).unwrap_err();
    assert!(matches!(&error, ModelError::Digest { path, .. } if path == "model.grym"), "{error}");
    let error = build(&manifest("mlp", "score", 2, &forest), &forest).unwrap_err();
    assert_eq!(error.to_string(), "model file: kind 2 is not 1, dense layers, which the manifest's runtime needs");
}

#[test]
fn numbers_that_are_not_finite_are_errors() {
    let file = identity(2, 1.0);
    let wide = manifest("autoencoder", "reconstruction_error", 2, &file);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = infer(&wide, &file, &[0.0, bad]).unwrap_err();
        assert_eq!(error, ModelError::NotFinite { what: "input".into(), position: 1, value: bad.to_string() });
        let weights = DenseBuilder::new().layer(2, &[0.0, bad], &[0.0], Activation::Linear).to_bytes();
        let error = build(&manifest("mlp", "score", 2, &weights), &weights).unwrap_err();
        assert_eq!(error.to_string(), format!("layer 0: weight 1 is {bad}, not a finite number"));
        let bias = DenseBuilder::new().layer(1, &[0.0], &[bad], Activation::Linear).to_bytes();
        let error = build(&manifest("mlp", "score", 1, &bias), &bias).unwrap_err();
        assert_eq!(error.to_string(), format!("layer 0: bias 0 is {bad}, not a finite number"));
    }
    // Finite weights, infinite sums.
    let file = identity(2, f32::MAX);
    let found = infer(&manifest("autoencoder", "reconstruction_error", 2, &file), &file, &[2.0, 0.0]).unwrap_err();
    assert_eq!(found, ModelError::NotFinite { what: "output".into(), position: 0, value: "inf".into() });
    // A relu must not turn a NaN into a zero.
    let file = DenseBuilder::new()
        .layer(1, &[f32::MAX, -f32::MAX], &[0.0, 0.0], Activation::Linear)
        .layer(2, &[f32::MAX, f32::MAX], &[0.0], Activation::Relu)
        .to_bytes();
    let found = infer(&manifest("mlp", "score", 1, &file), &file, &[1e10]).unwrap_err();
    assert!(found.to_string().contains("output 0 is NaN"), "{found}");
    // Scaled out of the range of a float.
    let file = identity(1, 1.0);
    let mut manifest = manifest("autoencoder", "reconstruction_error", 1, &file);
    manifest["inputs"][0]["scaling"] = json!({"mean": 0, "scale": 1e-30});
    let found = infer(&manifest, &file, &[1e20]).unwrap_err();
    assert_eq!(found, ModelError::NotFinite { what: "scaled input".into(), position: 0, value: "inf".into() });
    // The largest errors still have a score.
    let file = identity(1, 0.0);
    let found = infer(&super::manifest("autoencoder", "reconstruction_error", 1, &file), &file, &[f32::MAX]).unwrap();
    assert!(found.anomalous && found.score == 1.0 && found.output.is_finite());
}

#[test]
fn scores_outside_their_range_are_errors() {
    let file = identity(1, 1.0);
    let manifest = manifest("mlp", "score", 1, &file);
    for (input, score) in [(1.000_01, 1.0), (-0.000_01, 0.0)] {
        assert_eq!(infer(&manifest, &file, &[input]).unwrap().score, score);
    }
    for input in [1.1, -0.1, 40.0] {
        let error = infer(&manifest, &file, &[input]).unwrap_err().to_string();
        assert!(error.contains("not between 0 and 1: end the network with a sigmoid"), "{error}");
    }
}

#[test]
fn damaged_networks_are_refused_with_their_place() {
    let file = small_mlp();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = file.clone();
        change(&mut bytes);
        Dense::read(&bytes).unwrap_err().to_string()
    };
    assert!(refused(&|bytes| bytes[0] = b'g').contains("does not begin with GRYM"));
    assert!(refused(&|bytes| bytes[4] = 2).contains("version 2 is not known"));
    assert!(refused(&|bytes| bytes[6] = 0).contains("has no layers"));
    assert!(refused(&|bytes| bytes[6] = 33).contains("layers of 33 is over the limit of 32"));
    assert!(refused(&|bytes| bytes[8] = 0).contains("layer 0: 0 inputs and 3 outputs"));
    assert!(refused(&|bytes| bytes[11] = 9).contains("inputs of a layer of"));
    assert!(refused(&|bytes| bytes[16] = 5).contains("layer 0: activation 5 is not known"));
    assert!(refused(&|bytes| bytes[16] = 4).contains("softmax stands only at the last layer"));
    assert!(refused(&|bytes| bytes.push(0)).contains("1 bytes behind the end"));
    let file = DenseBuilder::new()
        .layer(1, &[1.0], &[0.0], Activation::Relu)
        .layer(2, &[1.0, 1.0], &[0.0], Activation::Relu)
        .to_bytes();
    assert!(Dense::read(&file).unwrap_err().to_string().contains("layer 1 takes 2 numbers, the layer before gives 1"));
    // Sixteen million weights that are not there.
    let mut huge = small_mlp();
    huge[8..16].copy_from_slice(&[0, 16, 0, 0, 0, 16, 0, 0]);
    assert!(Dense::read(&huge).unwrap_err().to_string().contains("weights of 16777216 is over the limit"));
}

#[test]
fn damaged_forests_are_refused_with_their_place() {
    let file = small_forest();
    // The head has 16 bytes, then a count of nodes and 16 bytes each.
    let node = |tree: usize, node: usize| 16 + 4 + 16 * node + if tree == 0 { 0 } else { 4 + 3 * 16 };
    let refused = |at: usize, number: u32| {
        let mut bytes = file.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        Forest::read(&bytes).unwrap_err().to_string()
    };
    assert!(refused(12, 1).contains("1 points a tree"));
    assert!(refused(8, 0).contains("0 features"));
    assert!(refused(16, 0).contains("tree 0 has no nodes"));
    assert!(refused(16, u32::MAX).contains("nodes of 4294967295 is over the limit"));
    assert!(refused(node(0, 0), 2).contains("tree 0, node 0: feature 2, there are 2"));
    assert!(refused(node(0, 0) + 4, f32::NAN.to_bits()).contains("tree 0, node 0: threshold NaN is not finite"));
    // To itself, back, out of the tree, and two parents.
    assert!(refused(node(0, 0) + 8, 0).contains("tree 0, node 0: child 0 must stand behind it"));
    assert!(refused(node(1, 2) + 8, 1).contains("tree 1, node 2: child 1 must stand behind it"));
    assert!(refused(node(1, 2) + 12, 5).contains("tree 1, node 2: child 5"));
    assert!(refused(node(0, 0) + 12, 1).contains("have one parent"));
    assert!(refused(node(0, 1) + 8, 9).contains("a leaf holds at most the tree's 8 points"));
    assert!(refused(node(0, 1), 0).contains("tree 0, node 1"));
    // A chain that is too deep.
    let mut chain = Vec::new();
    for i in 0..70 {
        chain.push(crate::ForestNode::Split { feature: 0, threshold: 0.0, left: 2 * i + 1, right: 2 * i + 2 });
        chain.push(crate::ForestNode::Leaf { points: 1 });
    }
    let error = Forest::read(&Forest::to_bytes(1, 256, &[chain])).unwrap_err();
    assert!(error.to_string().contains("is deeper than 64"), "{error}");
}

#[test]
fn every_cut_and_flip_of_a_model_file_is_no_panic() {
    for (file, runtime, kind) in [(small_mlp(), "mlp", "score"), (small_forest(), "isolation_forest", "score")] {
        for end in 0..file.len() {
            assert!(build(&manifest(runtime, kind, 2, &file[..end]), &file[..end]).is_err(), "{end}");
        }
        for at in 0..file.len() * 8 {
            let mut bytes = file.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(model) = build(&manifest(runtime, kind, 2, &bytes), &bytes) {
                let _ = model.infer(&[0.1, 0.2], &mut Vec::new());
            }
        }
    }
}

/// A file of version 1, byte by byte.
#[test]
fn the_files_of_version_1_stay_readable() {
    let dense: &[u8] = &[
        b'G', b'R', b'Y', b'M', 1, 1, 1, 0, // one layer
        2, 0, 0, 0, 1, 0, 0, 0, 3, // 2 inputs, 1 output, sigmoid
        0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, // weights 1 and -2
        0, 0, 0, 0x3f, // bias 0.5
    ];
    assert_eq!(DenseBuilder::new().layer(2, &[1.0, -2.0], &[0.5], Activation::Sigmoid).to_bytes(), dense);
    let found = Dense::read(dense).unwrap().forward(&[3.0, 1.75]).unwrap();
    assert_eq!(found, [0.5]);
    let forest: &[u8] = &[
        b'G', b'R', b'Y', b'M', 1, 2, 1, 0, // one tree
        1, 0, 0, 0, 4, 0, 0, 0, // 1 feature, 4 points
        3, 0, 0, 0, // 3 nodes
        0, 0, 0, 0, 0, 0, 0x80, 0x3f, 1, 0, 0, 0, 2, 0, 0, 0, // x[0] <= 1: node 1, else node 2
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, // leaf of 3
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // leaf of 1
    ];
    let read = Forest::read(forest).unwrap();
    assert_eq!((read.features(), read.trees()), (1, 1));
    assert!((read.score(&[2.0]).unwrap() - f64::exp2(-1.0 / average_path(4))).abs() < 1e-6);
}

#[cfg(not(feature = "onnx"))]
#[test]
fn without_its_runtime_onnx_says_what_to_do() {
    let file = b"onnx";
    let error = build(&manifest("onnx", "score", 2, file), file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "runtime onnx: this build has no ONNX runtime: use the build with the feature `onnx`, or an mlp, autoencoder \
         or isolation_forest model"
    );
}

#[cfg(feature = "onnx")]
mod onnx {
    use super::*;

    const MLP: &[u8] = include_bytes!("../../tests/data/mlp.onnx");

    /// As `tests/data/make_onnx.py` says.
    fn expected(input: &[f32; 8]) -> f64 {
        let mut sum = -0.25;
        for j in 0..4_usize {
            let hidden: f64 =
                (0..8).map(|i| f64::from(input[i]) * (((i + j) % 5) as f64 - 2.0) / 16.0).sum::<f64>().max(0.0);
            sum += hidden * (j as f64 + 1.0) / 16.0;
        }
        1.0 / (1.0 + (-sum).exp())
    }

    #[test]
    fn a_graph_gives_its_golden_values() {
        let model = build(&manifest("onnx", "probability", 8, MLP), MLP).unwrap();
        let mut scratch = Vec::new();
        for step in 0..20_i16 {
            let input: [f32; 8] = std::array::from_fn(|i| f32::from(step) * (i as f32 - 3.0));
            let found = model.infer(&input, &mut scratch).unwrap();
            assert!((found.score - expected(&input)).abs() < 1e-5, "{found:?}, expected {}", expected(&input));
            assert_eq!(found, model.infer(&input, &mut scratch).unwrap());
        }
    }

    #[test]
    fn a_window_fits_a_graph_of_that_many_numbers() {
        let mut manifest = manifest("onnx", "probability", 1, MLP);
        manifest["window"] = json!(8);
        assert!(infer(&manifest, MLP, &[0.5; 8]).is_ok());
        manifest["window"] = json!(9);
        assert!(matches!(infer(&manifest, MLP, &[0.5; 9]), Err(ModelError::Shape { expected: 9, found: 8, .. })));
        manifest["window"] = json!(16);
        assert!(matches!(infer(&manifest, MLP, &[0.5; 16]), Err(ModelError::Shape { expected: 16, found: 8, .. })));
    }

    #[test]
    fn damaged_graphs_are_errors() {
        for bytes in [&b""[..], b"no graph", &MLP[..100], &[0xff; 64]] {
            assert!(build(&manifest("onnx", "probability", 8, bytes), bytes).is_err());
        }
        for at in (0..MLP.len()).step_by(3) {
            let mut bytes = MLP.to_vec();
            bytes[at] ^= 0x15;
            if let Ok(model) = build(&manifest("onnx", "probability", 8, &bytes), &bytes) {
                let _ = model.infer(&[0.5; 8], &mut Vec::new());
            }
        }
    }
}

proptest! {
    #[test]
    fn hostile_model_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 1_u8..3) {
        let _ = (Dense::read(&bytes).is_ok(), Forest::read(&bytes).is_ok());
        let mut behind_a_head = vec![b'G', b'R', b'Y', b'M', 1, kind];
        behind_a_head.extend(&bytes);
        let _ = (Dense::read(&behind_a_head).is_ok(), Forest::read(&behind_a_head).is_ok());
    }

    #[test]
    fn networks_are_the_plain_sums(
        sizes in prop::collection::vec(1_usize..9, 2..5),
        seed: u64,
    ) {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1_u64 << 24) as f32) * 2.0 - 1.0
        };
        let input: Vec<f32> = (0..sizes[0]).map(|_| next()).collect();
        let (mut values, mut file) = (input.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>(), DenseBuilder::new());
        for pair in sizes.windows(2) {
            let rows: Vec<f32> = (0..pair[0] * pair[1]).map(|_| next()).collect();
            let bias: Vec<f32> = (0..pair[1]).map(|_| next()).collect();
            let output = |o: usize| -> f64 {
                let sum: f64 = (0..pair[0]).map(|i| f64::from(rows[o * pair[0] + i]) * values[i]).sum();
                (sum + f64::from(bias[o])).tanh()
            };
            values = (0..pair[1]).map(output).collect();
            file = file.layer(pair[0], &rows, &bias, Activation::Tanh);
        }
        let dense = Dense::read(&file.to_bytes()).unwrap();
        let (found, again) = (dense.forward(&input).unwrap(), dense.forward(&input).unwrap());
        for (found, expected) in found.iter().zip(&values) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
        prop_assert_eq!(found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), again.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn what_scratch_held_before_does_not_matter(before in prop::collection::vec(any::<f32>(), 0..50), a: f32, b: f32) {
        let file = small_mlp();
        let model = crate::build(parse(&manifest("mlp", "score", 2, &file)).unwrap(), &file).unwrap();
        let mut dirty = before;
        prop_assert_eq!(model.infer(&[a, b], &mut dirty), model.infer(&[a, b], &mut Vec::new()));
    }
}
