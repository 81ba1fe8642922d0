//! Trains an autoencoder on a recording and writes it as a version of a model:
//! two layers down, two up, hyperbolic tangents, plain stochastic gradient
//! descent on the squared difference.
//!
//! `cargo run --release -p grey-infer --example train_autoencoder -- --help`

mod training;

use grey_infer::{Activation, Dense, DenseBuilder, OutputKind, Runtime};
use training::{Failure, Options, Random, Recording, quantile, scaled, write};

const USAGE: &str = "\
Trains an autoencoder on a recording of usual operation, of scalars in windows or of feature vectors.

  --name NAME --version VERSION   of the model
  --stream STREAM                 the readings to learn
  --input FILE                    NDJSON or CSV
  --out DIR                       the model directory
  --device NAME                   only this device's readings [all]
  --window ROWS                   readings in one inference [1]
  --every ROWS                    readings from one inference to the next [1]
  --hidden COUNT                  width of the outer layers [the input's, at most 64]
  --code COUNT                    width of the middle [a quarter of --hidden]
  --epochs COUNT                  passes over the recording [60]
  --rate NUMBER                   learning rate [0.01]
  --share PART                    part of the recording that may be flagged [0.001]
  --seed NUMBER                   [1]";
const OPTIONS: [&str; 14] = [
    "name", "version", "stream", "input", "out", "window", "every", "hidden", "code", "epochs", "rate", "share",
    "seed", "device",
];
/// Longest step of one weight: an outlier must not undo what was learnt.
const GRADIENT_MAX: f32 = 1.0;

struct Layer {
    inputs: usize,
    rows: Vec<f32>,
    bias: Vec<f32>,
    tanh: bool,
}

impl Layer {
    /// Uniform weights after Glorot and Bengio (2010).
    fn new(inputs: usize, outputs: usize, tanh: bool, random: &mut Random) -> Self {
        let limit = (6.0 / (inputs + outputs) as f64).sqrt();
        let rows = (0..inputs * outputs).map(|_| ((random.uniform() * 2.0 - 1.0) * limit) as f32).collect();
        Self { inputs, rows, bias: vec![0.0; outputs], tanh }
    }

    fn forward(&self, input: &[f32]) -> Vec<f32> {
        let sum = |(row, bias): (&[f32], &f32)| row.iter().zip(input).map(|(w, x)| w * x).sum::<f32>() + bias;
        let sums = self.rows.chunks_exact(self.inputs).zip(&self.bias).map(sum);
        sums.map(|sum| if self.tanh { sum.tanh() } else { sum }).collect()
    }

    /// Takes a step down the gradient and returns that of the input.
    fn backward(&mut self, input: &[f32], output: &[f32], gradient: &[f32], rate: f32) -> Vec<f32> {
        let mut below = vec![0.0; self.inputs];
        let rows = self.rows.chunks_exact_mut(self.inputs).zip(&mut self.bias);
        for ((row, bias), (output, gradient)) in rows.zip(output.iter().zip(gradient)) {
            let slope = if self.tanh { 1.0 - output * output } else { 1.0 };
            let delta = (gradient * slope).clamp(-GRADIENT_MAX, GRADIENT_MAX);
            for ((weight, x), below) in row.iter_mut().zip(input).zip(&mut below) {
                *below += *weight * delta;
                *weight -= rate * delta * x;
            }
            *bias -= rate * delta;
        }
        below
    }
}

fn main() -> Result<(), Failure> {
    let options = Options::read(USAGE, &OPTIONS)?;
    let recording = Recording::read(&options)?;
    let window: usize = options.number("window", 1)?;
    if window == 0 {
        return Err("--window must be at least 1".into());
    }
    let scaling = recording.scaling();
    let points: Vec<Vec<f32>> = recording.windows(window).iter().map(|window| scaled(window, &scaling)).collect();
    let width = points.first().ok_or("the recording is shorter than a window")?.len();
    let hidden = options.number("hidden", width.min(64))?.max(1);
    let code = options.number("code", hidden.div_ceil(4))?.max(1);
    let mut random = Random(options.number("seed", 1)?);
    let sizes = [width, hidden, code, hidden, width];
    let mut layers: Vec<Layer> =
        sizes.windows(2).enumerate().map(|(i, pair)| Layer::new(pair[0], pair[1], i < 3, &mut random)).collect();

    let epochs: usize = options.number("epochs", 60)?;
    let rate: f32 = options.number("rate", 0.01)?;
    for epoch in 0..epochs {
        // Slower towards the end, so that it settles.
        let error = pass(&mut layers, &points, rate * (1.0 - epoch as f32 / epochs as f32), &mut random);
        if epoch % 10 == 0 || epoch + 1 == epochs {
            println!("pass {:>3}: mean squared difference {error:.5}", epoch + 1);
        }
    }

    let file = layers.iter().fold(DenseBuilder::new(), |file, layer| {
        file.layer(
            layer.inputs,
            &layer.rows,
            &layer.bias,
            if layer.tanh { Activation::Tanh } else { Activation::Linear },
        )
    });
    let file = file.to_bytes();
    let dense = Dense::read(&file)?;
    let mut errors = Vec::with_capacity(points.len());
    for point in &points {
        let given = dense.forward(point)?;
        errors.push(point.iter().zip(&given).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>() / width as f64);
    }
    let share: f64 = options.number("share", 0.001)?;
    let threshold = quantile(&mut errors, (1.0 - share).clamp(0.0, 1.0)).max(1e-6) * 1.000_001;
    let kind = (Runtime::Autoencoder, OutputKind::ReconstructionError);
    write(&options, &recording, scaling, kind, (window, threshold), &file)
}

/// One pass over the points in a new order; returns the mean squared difference.
fn pass(layers: &mut [Layer], points: &[Vec<f32>], rate: f32, random: &mut Random) -> f64 {
    let mut order: Vec<usize> = (0..points.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    let mut sum = 0.0;
    for i in order {
        let mut values = vec![points[i].clone()];
        for layer in layers.iter() {
            let next = layer.forward(&values[values.len() - 1]);
            values.push(next);
        }
        let output = &values[layers.len()];
        let mut gradient: Vec<f32> = output.iter().zip(&points[i]).map(|(y, x)| y - x).collect();
        sum += gradient.iter().map(|d| f64::from(d * d)).sum::<f64>() / gradient.len() as f64;
        for (l, layer) in layers.iter_mut().enumerate().rev() {
            gradient = layer.backward(&values[l], &values[l + 1], &gradient, rate);
        }
    }
    sum / points.len() as f64
}
