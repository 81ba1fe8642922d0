//! A loaded model: scaling, a runtime, and what its outputs mean.
//!
//! It must not know where a model came from, nor what a rule does with the
//! answer. All it needs between two inferences is given by the caller.

use std::fmt;
use std::sync::Arc;

use crate::dense::Dense;
use crate::error::ModelError;
use crate::forest::Forest;
use crate::manifest::{Manifest, OutputKind, Runtime, Step};
use crate::{MODEL_BYTES_MAX, digest_of};

/// How far outside 0 to 1 rounding may carry a probability.
const PROBABILITY_SLACK: f64 = 1e-4;
/// How far the sum of probabilities of classes may be from 1.
const PROBABILITY_SUM_SLACK: f64 = 1e-2;

/// What a model says about one input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inference {
    /// How unusual, from 0 to 1. For a reconstruction error `e` with threshold `t` it is `e / (e + t)`, 0.5 at the
    /// threshold; for classes 1 minus the probability of the good one; else the output itself.
    pub score: f64,
    /// The number that is held against the manifest's threshold: the score, or the mean squared difference.
    pub output: f64,
    /// Whether `output` reaches the threshold.
    pub anomalous: bool,
    /// The most probable class, a position in the manifest's labels; only for the kind `class`.
    pub label: Option<usize>,
}

/// A loaded model. Equal inputs give equal bits in one build on one machine.
pub trait Model: Send + Sync + fmt::Debug {
    /// What it was loaded with.
    fn manifest(&self) -> &Manifest;

    /// Judges one input of [`Manifest::input_len`] numbers: rows from the oldest to the newest, in each the inputs in
    /// the manifest's order, as measured (in the manifest's units, not scaled). `scratch` is working space without
    /// meaning between calls; handing in the same one saves its allocation.
    fn infer(&self, input: &[f32], scratch: &mut Vec<f32>) -> Result<Inference, ModelError>;
}

/// Makes a model of a manifest and the bytes of its file, after checking that they belong together.
pub fn build(manifest: Manifest, file: &[u8]) -> Result<Arc<dyn Model>, ModelError> {
    manifest.check()?;
    if file.len() > MODEL_BYTES_MAX {
        let (found, limit) = (file.len() as u64, MODEL_BYTES_MAX as u64);
        return Err(ModelError::TooLarge { what: "model file in bytes", found, limit });
    }
    let found = digest_of(file);
    if found != manifest.digest {
        let (path, expected) = (manifest.file, manifest.digest);
        return Err(ModelError::Digest { path, expected, found });
    }
    let input_len = manifest.input_len();
    let (net, inputs, outputs) = match manifest.runtime {
        Runtime::Mlp | Runtime::Autoencoder => {
            let dense = Dense::read(file)?;
            let (inputs, outputs) = (dense.inputs(), dense.outputs());
            (Net::Dense(dense), inputs, outputs)
        }
        Runtime::IsolationForest => {
            let forest = Forest::read(file)?;
            let inputs = forest.features();
            (Net::Forest(forest), inputs, 1)
        }
        Runtime::Onnx => onnx(file, input_len)?,
    };
    if inputs != input_len {
        return Err(ModelError::Shape { what: "numbers of one input", expected: input_len, found: inputs });
    }
    let wanted = match manifest.output.kind {
        OutputKind::ReconstructionError => input_len,
        OutputKind::Class => manifest.output.labels.len(),
        OutputKind::Score | OutputKind::Probability => outputs.max(manifest.output.index + 1),
    };
    if outputs != wanted {
        return Err(ModelError::Shape { what: "outputs", expected: wanted, found: outputs });
    }
    let steps = steps(&manifest)?;
    Ok(Arc::new(Loaded { manifest, steps, net }))
}

#[cfg(not(feature = "onnx"))]
fn onnx(_file: &[u8], _input_len: usize) -> Result<(Net, usize, usize), ModelError> {
    let problem = "this build has no ONNX runtime: use the build with the feature `onnx`, \
                   or an mlp, autoencoder or isolation_forest model";
    Err(ModelError::Runtime { runtime: Runtime::Onnx.as_str(), problem: problem.to_owned() })
}

#[cfg(feature = "onnx")]
fn onnx(file: &[u8], input_len: usize) -> Result<(Net, usize, usize), ModelError> {
    let graph = crate::onnx::Graph::read(file, input_len)?;
    let (inputs, outputs) = (graph.inputs(), graph.outputs());
    Ok((Net::Onnx(graph), inputs, outputs))
}

/// The scaling of one row, feature by feature; empty when nothing is scaled.
fn steps(manifest: &Manifest) -> Result<Vec<Step>, ModelError> {
    if manifest.inputs.iter().all(|input| input.scaling.is_none()) {
        return Ok(Vec::new());
    }
    let mut steps = Vec::with_capacity(manifest.row_len());
    for input in &manifest.inputs {
        match &input.scaling {
            None => steps.resize(steps.len() + input.features, Step::NONE),
            Some(scaling) => {
                let wrong = |problem| ModelError::key(format!("inputs: {}: scaling", input.stream), problem);
                steps.extend(scaling.steps(input.features).map_err(wrong)?);
            }
        }
    }
    Ok(steps)
}

#[derive(Debug)]
enum Net {
    Dense(Dense),
    Forest(Forest),
    #[cfg(feature = "onnx")]
    Onnx(crate::onnx::Graph),
}

#[derive(Debug)]
struct Loaded {
    manifest: Manifest,
    /// Of one row.
    steps: Vec<Step>,
    net: Net,
}

impl Model for Loaded {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn infer(&self, input: &[f32], scratch: &mut Vec<f32>) -> Result<Inference, ModelError> {
        let expected = self.manifest.input_len();
        if input.len() != expected {
            return Err(ModelError::InputLen { expected, found: input.len() });
        }
        finite("input", input)?;
        let working_len = match &self.net {
            Net::Dense(dense) => dense.scratch_len(),
            Net::Forest(_) => 0,
            #[cfg(feature = "onnx")]
            Net::Onnx(_) => 0,
        };
        scratch.clear();
        scratch.resize(expected + working_len, 0.0);
        let (scaled, working) = scratch.split_at_mut(expected);
        self.scale(input, scaled);
        finite("scaled input", scaled)?;
        match &self.net {
            Net::Forest(forest) => self.judge_one(forest.run(scaled)),
            Net::Dense(dense) => self.judge(scaled, dense.run(scaled, working)),
            #[cfg(feature = "onnx")]
            Net::Onnx(graph) => self.judge(scaled, &graph.run(scaled)?),
        }
    }
}

impl Loaded {
    fn scale(&self, input: &[f32], scaled: &mut [f32]) {
        if self.steps.is_empty() {
            scaled.copy_from_slice(input);
            return;
        }
        for (row, place) in input.chunks_exact(self.steps.len()).zip(scaled.chunks_exact_mut(self.steps.len())) {
            for ((x, scaled), step) in row.iter().zip(place).zip(&self.steps) {
                *scaled = ((f64::from(*x) - step.offset) * step.factor) as f32;
            }
        }
    }

    fn judge(&self, scaled: &[f32], outputs: &[f32]) -> Result<Inference, ModelError> {
        finite("output", outputs)?;
        let output = &self.manifest.output;
        match output.kind {
            OutputKind::Score | OutputKind::Probability => {
                // The index was checked against the outputs at load.
                self.judge_one(outputs.get(output.index).map_or(f64::NAN, |output| f64::from(*output)))
            }
            OutputKind::ReconstructionError => {
                let square = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).powi(2);
                let error = scaled.iter().zip(outputs).map(square).sum::<f64>() / scaled.len() as f64;
                let score = error / (error + output.threshold);
                // Both may be so large that the sum is infinite.
                let score = if score.is_finite() { score } else { 1.0 };
                Ok(Inference { score, output: error, anomalous: error >= output.threshold, label: None })
            }
            OutputKind::Class => self.judge_classes(outputs),
        }
    }

    fn judge_one(&self, value: f64) -> Result<Inference, ModelError> {
        let score = probability(value)?;
        let anomalous = score >= self.manifest.output.threshold;
        Ok(Inference { score, output: score, anomalous, label: None })
    }

    fn judge_classes(&self, outputs: &[f32]) -> Result<Inference, ModelError> {
        let (mut sum, mut best, mut good) = (0.0, (0, f64::NEG_INFINITY), 0.0);
        for (i, output) in outputs.iter().enumerate() {
            let share = probability(f64::from(*output))?;
            sum += share;
            // Of equal ones the first.
            if share > best.1 {
                best = (i, share);
            }
            if i == self.manifest.output.index {
                good = share;
            }
        }
        if (sum - 1.0).abs() > PROBABILITY_SUM_SLACK {
            let problem = "the sum of the classes' probabilities, which must be 1: end the network with a softmax";
            return Err(ModelError::Output { found: sum, problem: problem.to_owned() });
        }
        let score = 1.0 - good;
        let anomalous = score >= self.manifest.output.threshold;
        Ok(Inference { score, output: score, anomalous, label: Some(best.0) })
    }
}

/// A number that must be a probability; rounding is taken off.
fn probability(value: f64) -> Result<f64, ModelError> {
    if !(-PROBABILITY_SLACK..=1.0 + PROBABILITY_SLACK).contains(&value) {
        let problem = "which is not between 0 and 1: end the network with a sigmoid or softmax, or give another kind";
        return Err(ModelError::Output { found: value, problem: problem.to_owned() });
    }
    Ok(value.clamp(0.0, 1.0))
}

fn finite(what: &str, values: &[f32]) -> Result<(), ModelError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(position) => Err(ModelError::not_finite(what, position, values[position])),
    }
}
