//! The isolation forest (F. T. Liu, K. M. Ting, Z.-H. Zhou: Isolation Forest,
//! ICDM 2008): random splits separate an unusual point after few steps.
//!
//! The score is `2^(-E(h) / c(n))`: `h` the steps to the leaf plus `c` of the
//! points that it holds, `n` the points that each tree was grown from. Near 1 is
//! unusual, clearly below 0.5 is usual.

use crate::error::ModelError;
use crate::format::{KIND_FOREST, LEAF, MAGIC, VERSION};

/// The Euler-Mascheroni constant.
const EULER: f64 = 0.577_215_664_901_532_9;

/// `c(n)`: mean steps of an unsuccessful search in a binary tree of `n` points.
pub fn average_path(points: u32) -> f64 {
    match points {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            let n = f64::from(n);
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

/// A node as the model file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ForestNode {
    /// Goes left where `x[feature] <= threshold`, else right.
    Split {
        /// Which number of the input.
        feature: u32,
        /// What it is held against, after scaling.
        threshold: f32,
        /// Position of the left child in the tree, behind this node.
        left: u32,
        /// Position of the right child.
        right: u32,
    },
    /// The end of a path.
    Leaf {
        /// Points of the tree's sample that ended here.
        points: u32,
    },
}

/// A node as it is walked.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    /// [`LEAF`] for a leaf.
    feature: u32,
    /// The threshold; for a leaf the length of the path.
    number: f32,
    left: u32,
    right: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    nodes: Box<[Node]>,
}

impl Tree {
    /// From checked nodes: children in range and behind their parent, the root first.
    pub(crate) fn new(nodes: &[ForestNode]) -> Self {
        let mut depths = vec![0_u32; nodes.len()];
        let mut walked = Vec::with_capacity(nodes.len());
        for (i, node) in nodes.iter().enumerate() {
            walked.push(match *node {
                ForestNode::Split { feature, threshold, left, right } => {
                    for child in [left, right] {
                        depths[child as usize] = depths[i] + 1;
                    }
                    Node { feature, number: threshold, left, right }
                }
                ForestNode::Leaf { points } => {
                    let path = f64::from(depths[i]) + average_path(points);
                    Node { feature: LEAF, number: path as f32, left: 0, right: 0 }
                }
            });
        }
        Self { nodes: walked.into() }
    }

    fn path(&self, input: &[f32]) -> f32 {
        let mut node = self.nodes[0];
        while node.feature != LEAF {
            let left = input[node.feature as usize] <= node.number;
            node = self.nodes[if left { node.left } else { node.right } as usize];
        }
        node.number
    }
}

/// An isolation forest.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    features: usize,
    /// `c` of the points that each tree was grown from.
    norm: f64,
    trees: Vec<Tree>,
}

impl Forest {
    pub(crate) fn from_trees(features: usize, sample: u32, trees: Vec<Tree>) -> Self {
        Self { features, norm: average_path(sample), trees }
    }

    /// Numbers that it takes.
    pub fn features(&self) -> usize {
        self.features
    }

    /// How many trees.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// The score of one input of [`Forest::features`] numbers.
    pub(crate) fn run(&self, input: &[f32]) -> f64 {
        let sum: f64 = self.trees.iter().map(|tree| f64::from(tree.path(input))).sum();
        (-sum / self.trees.len() as f64 / self.norm).exp2()
    }

    /// As it runs in a model, without manifest and scaling: for training and tests.
    pub fn score(&self, input: &[f32]) -> Result<f64, ModelError> {
        if input.len() != self.features {
            return Err(ModelError::InputLen { expected: self.features, found: input.len() });
        }
        Ok(self.run(input))
    }

    /// The model file of trees with their root first. It checks nothing: [`Forest::read`] does.
    pub fn to_bytes(features: u32, sample: u32, trees: &[Vec<ForestNode>]) -> Vec<u8> {
        let count = u16::try_from(trees.len()).unwrap_or(u16::MAX);
        let mut bytes = [MAGIC.as_slice(), &[VERSION, KIND_FOREST], &count.to_le_bytes()].concat();
        let mut put = |number: u32| bytes.extend_from_slice(&number.to_le_bytes());
        put(features);
        put(sample);
        for tree in trees {
            put(u32::try_from(tree.len()).unwrap_or(u32::MAX));
            for node in tree {
                let fields = match *node {
                    ForestNode::Split { feature, threshold, left, right } => {
                        [feature, threshold.to_bits(), left, right]
                    }
                    ForestNode::Leaf { points } => [LEAF, 0, points, 0],
                };
                fields.into_iter().for_each(&mut put);
            }
        }
        bytes
    }
}
