//! Grows an isolation forest from a recording and writes it as a version of a
//! model (Liu, Ting and Zhou, 2008: random splits, 100 trees of 256 points).
//!
//! `cargo run --release -p grey-infer --example train_isolation_forest -- --help`

mod training;

use grey_infer::{Forest, ForestNode, OutputKind, Runtime};
use training::{Failure, Options, Random, Recording, quantile, scaled, write};

const USAGE: &str = "\
Grows an isolation forest from a recording of usual operation.

  --name NAME --version VERSION   of the model
  --stream STREAM                 the readings to learn
  --input FILE                    NDJSON or CSV
  --out DIR                       the model directory
  --device NAME                   only this device's readings [all]
  --window ROWS                   readings in one inference [1]
  --every ROWS                    readings from one inference to the next [1]
  --trees COUNT                   [100]
  --sample POINTS                 points that each tree grows from [256]
  --share PART                    part of the recording that may be flagged [0.001]
  --seed NUMBER                   [1]";
const OPTIONS: [&str; 10] =
    ["name", "version", "stream", "input", "out", "window", "every", "trees", "sample", "share"];

fn main() -> Result<(), Failure> {
    let options = Options::read(USAGE, &[&OPTIONS[..], &["device", "seed"]].concat())?;
    let recording = Recording::read(&options)?;
    let window: usize = options.number("window", 1)?;
    if window == 0 {
        return Err("--window must be at least 1".into());
    }
    let scaling = recording.scaling();
    let points: Vec<Vec<f32>> = recording.windows(window).iter().map(|window| scaled(window, &scaling)).collect();
    let sample = options.number("sample", 256_usize)?.min(points.len());
    if sample < 2 {
        return Err(format!("{} windows are too few to learn from", points.len()).into());
    }
    let mut random = Random(options.number("seed", 1)?);
    let trees: Vec<Vec<ForestNode>> =
        (0..options.number("trees", 100)?).map(|_| tree(&points, sample, &mut random)).collect();
    let features = u32::try_from(points[0].len())?;
    let file = Forest::to_bytes(features, u32::try_from(sample)?, &trees);

    let forest = Forest::read(&file)?;
    let mut scores = points.iter().map(|point| forest.score(point)).collect::<Result<Vec<f64>, _>>()?;
    let share: f64 = options.number("share", 0.001)?;
    // Just above what may be usual; a score below one half is never unusual.
    let threshold = (quantile(&mut scores, (1.0 - share).clamp(0.0, 1.0)) + 1e-6).clamp(0.5, 1.0);
    let (median, highest) = (quantile(&mut scores, 0.5), quantile(&mut scores, 1.0));
    println!("{} windows, scores: median {median:.4}, highest {highest:.4}", points.len());
    write(&options, &recording, scaling, (Runtime::IsolationForest, OutputKind::Score), (window, threshold), &file)
}

/// One tree from a sample without repetition.
fn tree(points: &[Vec<f32>], sample: usize, random: &mut Random) -> Vec<ForestNode> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    for i in 0..sample {
        let other = i + random.below(order.len() - i);
        order.swap(i, other);
    }
    order.truncate(sample);
    let depth_max = usize::BITS - (sample - 1).leading_zeros();
    let mut nodes = Vec::new();
    grow(points, order, depth_max, random, &mut nodes);
    nodes
}

/// Adds a node and all below it; the node stands before its children.
fn grow(points: &[Vec<f32>], here: Vec<usize>, depth_left: u32, random: &mut Random, nodes: &mut Vec<ForestNode>) {
    let place = nodes.len();
    nodes.push(ForestNode::Leaf { points: here.len() as u32 });
    let range = |feature: usize| {
        let values = || here.iter().map(|&i| points[i][feature]);
        (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
    };
    let varying: Vec<usize> = (0..points[0].len()).filter(|&feature| range(feature).0 < range(feature).1).collect();
    if here.len() < 2 || depth_left == 0 || varying.is_empty() {
        return;
    }
    let feature = varying[random.below(varying.len())];
    let (low, high) = range(feature);
    let cut = (f64::from(low) + random.uniform() * (f64::from(high) - f64::from(low))) as f32;
    // Rounding must not put all on one side.
    let threshold = if cut < high { cut } else { low };
    let (left, right): (Vec<usize>, Vec<usize>) = here.iter().partition(|&&i| points[i][feature] <= threshold);
    let left_place = nodes.len() as u32;
    grow(points, left, depth_left - 1, random, nodes);
    let right_place = nodes.len() as u32;
    grow(points, right, depth_left - 1, random, nodes);
    nodes[place] = ForestNode::Split { feature: feature as u32, threshold, left: left_place, right: right_place };
}
