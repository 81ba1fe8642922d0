//! Dense layers: the multilayer perceptron and the autoencoder.
//!
//! Weights are kept by input, so that the inner loop adds one input's share to
//! all outputs: the compiler turns that into vector instructions without
//! changing the order of any sum, and equal inputs give equal bits.

use crate::error::ModelError;
use crate::format::{KIND_DENSE, MAGIC, VERSION};

/// What a layer does to its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Activation {
    /// Nothing.
    Linear = 0,
    /// `max(0, x)`.
    Relu = 1,
    /// Hyperbolic tangent.
    Tanh = 2,
    /// `1 / (1 + exp(-x))`.
    Sigmoid = 3,
    /// `exp(x) / sum of exp`: the last layer of a classifier only.
    Softmax = 4,
}

impl Activation {
    /// Every activation, in the order of their codes.
    pub const ALL: [Activation; 5] = [Self::Linear, Self::Relu, Self::Tanh, Self::Sigmoid, Self::Softmax];

    pub(crate) fn from_u8(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The activation of a name: `linear`, `relu`, `tanh`, `sigmoid`, `softmax`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|activation| activation.as_str() == text)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        ["linear", "relu", "tanh", "sigmoid", "softmax"][self as usize]
    }

    fn apply(self, values: &mut [f32]) {
        match self {
            Self::Linear => {}
            // A comparison and not `max`, which would hide a NaN.
            Self::Relu => values.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
            Self::Tanh => values.iter_mut().for_each(|x| *x = x.tanh()),
            Self::Sigmoid => values.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Self::Softmax => {
                // The largest is taken off first: no exponent overflows.
                let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                values.iter_mut().for_each(|x| *x = (*x - top).exp());
                let sum: f32 = values.iter().sum();
                values.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    outputs: usize,
    /// `outputs` weights of the first input, then of the second, and so on.
    by_input: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Layer {
    /// `rows`: `inputs` weights of the first output, then of the second, and so on.
    pub(crate) fn new(inputs: usize, rows: &[f32], bias: Vec<f32>, activation: Activation) -> Self {
        let outputs = bias.len();
        let mut by_input = Vec::with_capacity(rows.len());
        for input in 0..inputs {
            by_input.extend(rows.iter().skip(input).step_by(inputs));
        }
        Self { outputs, by_input, bias, activation }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    fn inputs(&self) -> usize {
        self.by_input.len() / self.outputs
    }

    fn run(&self, input: &[f32], output: &mut [f32]) {
        output.copy_from_slice(&self.bias);
        // Four inputs at a time: the same sums in the same order, with a quarter of the loads and stores.
        let (fours, rest) = input.as_chunks::<4>();
        let (weights_of_fours, weights_of_rest) = self.by_input.split_at(fours.len() * 4 * self.outputs);
        for ([a, b, c, d], weights) in fours.iter().zip(weights_of_fours.chunks_exact(4 * self.outputs)) {
            let (first, second) = weights.split_at(2 * self.outputs);
            let ((wa, wb), (wc, wd)) = (first.split_at(self.outputs), second.split_at(self.outputs));
            for ((((sum, wa), wb), wc), wd) in output.iter_mut().zip(wa).zip(wb).zip(wc).zip(wd) {
                *sum = *sum + a * wa + b * wb + c * wc + d * wd;
            }
        }
        for (x, weights) in rest.iter().zip(weights_of_rest.chunks_exact(self.outputs)) {
            for (sum, weight) in output.iter_mut().zip(weights) {
                *sum += x * weight;
            }
        }
        self.activation.apply(output);
    }
}

/// A network of dense layers in 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    layers: Vec<Layer>,
    width: usize,
}

impl Dense {
    pub(crate) fn from_layers(layers: Vec<Layer>) -> Self {
        let width = layers.iter().map(Layer::outputs).max().unwrap_or_default();
        Self { layers, width }
    }

    /// Numbers that it takes.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, Layer::inputs)
    }

    /// Numbers that it gives.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Layer::outputs)
    }

    /// What the last layer does to its sums.
    pub fn activation(&self) -> Activation {
        self.layers.last().map_or(Activation::Linear, |layer| layer.activation)
    }

    /// Floats of working space that [`Dense::run`] needs.
    pub(crate) fn scratch_len(&self) -> usize {
        2 * self.width
    }

    /// Runs all layers; the outputs are in the slice that is returned, a part of `scratch`.
    pub(crate) fn run<'s>(&self, input: &[f32], scratch: &'s mut [f32]) -> &'s [f32] {
        let (mut from, mut to) = scratch.split_at_mut(self.width);
        for (i, layer) in self.layers.iter().enumerate() {
            let input = if i == 0 { input } else { &from[..layer.inputs()] };
            layer.run(input, &mut to[..layer.outputs]);
            std::mem::swap(&mut from, &mut to);
        }
        &from[..self.outputs()]
    }

    /// The outputs for one input of [`Dense::inputs`] numbers, without manifest and scaling: for training and tests.
    pub fn forward(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        if input.len() != self.inputs() {
            return Err(ModelError::InputLen { expected: self.inputs(), found: input.len() });
        }
        Ok(self.run(input, &mut vec![0.0; self.scratch_len()]).to_vec())
    }
}

/// Writes the model file of a network, layer by layer. It checks nothing: [`Dense::read`] does.
#[derive(Debug, Clone, Default)]
pub struct DenseBuilder {
    layers: u16,
    body: Vec<u8>,
}

impl DenseBuilder {
    /// Without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer: `rows` has the weights of the first output, then of the second, and so on (`[outputs][inputs]`);
    /// `bias` one number for each output.
    #[must_use]
    pub fn layer(mut self, inputs: usize, rows: &[f32], bias: &[f32], activation: Activation) -> Self {
        self.layers = self.layers.saturating_add(1);
        self.body.extend_from_slice(&u32::try_from(inputs).unwrap_or(u32::MAX).to_le_bytes());
        self.body.extend_from_slice(&u32::try_from(bias.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.body.push(activation as u8);
        for number in rows.iter().chain(bias) {
            self.body.extend_from_slice(&number.to_le_bytes());
        }
        self
    }

    /// The model file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &[VERSION, KIND_DENSE], &self.layers.to_le_bytes()].concat();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}
