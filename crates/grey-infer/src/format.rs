//! The model files of our own: a magic number, a version, a kind, and numbers.
//!
//! Binary and little-endian, so that a model of a hundred trees loads in
//! microseconds and a program in any language writes it from plain arrays.
//! Byte by byte: `docs/design/models.md`. Every count is held against its
//! limit and against the bytes that are left before anything is allocated.

use grey_model::{Reader, WireError};

use crate::dense::{Activation, Dense, Layer};
use crate::error::ModelError;
use crate::forest::{Forest, ForestNode, Tree};

/// Longest model file of any runtime in bytes.
pub const MODEL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most layers of a network.
pub const LAYERS_MAX: usize = 32;
/// Most inputs or outputs of a layer.
pub const WIDTH_MAX: usize = crate::INPUT_LEN_MAX;
/// Most weights of a network: 32 MiB.
pub const WEIGHTS_MAX: usize = 8 * 1024 * 1024;
/// Most trees of a forest.
pub const TREES_MAX: usize = 1_024;
/// Most nodes of all trees together: 32 MiB.
pub const NODES_MAX: usize = 2 * 1024 * 1024;
/// Deepest tree: bounds the steps of one inference.
pub const TREE_DEPTH_MAX: u8 = 64;
/// Largest sample that a tree was grown from.
const TREE_SAMPLE_MAX: u32 = 1 << 24;

pub(crate) const MAGIC: &[u8; 4] = b"GRYM";
pub(crate) const VERSION: u8 = 1;
pub(crate) const KIND_DENSE: u8 = 1;
pub(crate) const KIND_FOREST: u8 = 2;
/// Stands for "no feature" in a leaf.
pub(crate) const LEAF: u32 = u32::MAX;
/// Bytes of a node.
const NODE_BYTES: usize = 16;

impl From<WireError> for ModelError {
    fn from(error: WireError) -> Self {
        Self::file(error.to_string())
    }
}

/// Checks the head and returns what follows.
fn open(bytes: &[u8], kind: u8, name: &str) -> Result<(), ModelError> {
    let mut reader = Reader::new(bytes);
    if reader.bytes(MAGIC.len())? != MAGIC {
        return Err(ModelError::file("does not begin with GRYM: it is no model file of this runtime"));
    }
    let version = reader.u8()?;
    if version != VERSION {
        return Err(ModelError::file(format!("version {version} is not known, this build reads {VERSION}")));
    }
    let found = reader.u8()?;
    if found != kind {
        return Err(ModelError::file(format!(
            "kind {found} is not {kind}, {name}, which the manifest's runtime needs"
        )));
    }
    Ok(())
}

fn limited(what: &'static str, found: u64, limit: usize) -> Result<usize, ModelError> {
    if found > limit as u64 {
        return Err(ModelError::TooLarge { what, found, limit: limit as u64 });
    }
    Ok(found as usize)
}

/// `count` finite numbers.
fn floats(reader: &mut Reader<'_>, count: usize, what: impl Fn() -> String) -> Result<Vec<f32>, ModelError> {
    let bytes = reader.bytes(count * size_of::<f32>())?;
    let mut numbers = Vec::with_capacity(count);
    for (position, chunk) in bytes.chunks_exact(size_of::<f32>()).enumerate() {
        let number = f32::from_le_bytes(chunk.try_into().unwrap_or_default());
        if !number.is_finite() {
            return Err(ModelError::not_finite(what(), position, number));
        }
        numbers.push(number);
    }
    Ok(numbers)
}

fn end(reader: &Reader<'_>) -> Result<(), ModelError> {
    if reader.is_empty() {
        return Ok(());
    }
    Err(ModelError::file(format!("{} bytes behind the end, at offset {}", reader.remaining(), reader.offset())))
}

impl Dense {
    /// Reads a network of dense layers.
    pub fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        open(bytes, KIND_DENSE, "dense layers")?;
        let mut reader = Reader::new(&bytes[MAGIC.len() + 2..]);
        let count = limited("layers", u64::from(reader.u16()?), LAYERS_MAX)?;
        if count == 0 {
            return Err(ModelError::file("has no layers"));
        }
        let (mut layers, mut weights): (Vec<Layer>, u64) = (Vec::with_capacity(count), 0);
        for i in 0..count {
            let inputs = limited("inputs of a layer", u64::from(reader.u32()?), WIDTH_MAX)?;
            let outputs = limited("outputs of a layer", u64::from(reader.u32()?), WIDTH_MAX)?;
            let code = reader.u8()?;
            let activation = Activation::from_u8(code)
                .ok_or_else(|| ModelError::file(format!("layer {i}: activation {code} is not known")))?;
            if inputs == 0 || outputs == 0 {
                return Err(ModelError::file(format!(
                    "layer {i}: {inputs} inputs and {outputs} outputs, both must be over 0"
                )));
            }
            if let Some(before) = layers.last()
                && before.outputs() != inputs
            {
                let given = before.outputs();
                return Err(ModelError::file(format!(
                    "layer {i} takes {inputs} numbers, the layer before gives {given}"
                )));
            }
            if activation == Activation::Softmax && i + 1 != count {
                return Err(ModelError::file(format!("layer {i}: softmax stands only at the last layer")));
            }
            weights += inputs as u64 * outputs as u64;
            limited("weights", weights, WEIGHTS_MAX)?;
            let rows = floats(&mut reader, inputs * outputs, || format!("layer {i}: weight"))?;
            let bias = floats(&mut reader, outputs, || format!("layer {i}: bias"))?;
            layers.push(Layer::new(inputs, &rows, bias, activation));
        }
        end(&reader)?;
        Ok(Self::from_layers(layers))
    }
}

impl Forest {
    /// Reads an isolation forest.
    pub fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        open(bytes, KIND_FOREST, "an isolation forest")?;
        let mut reader = Reader::new(&bytes[MAGIC.len() + 2..]);
        let count = limited("trees", u64::from(reader.u16()?), TREES_MAX)?;
        let features = limited("features", u64::from(reader.u32()?), WIDTH_MAX)?;
        let sample = reader.u32()?;
        if count == 0 || features == 0 || !(2..=TREE_SAMPLE_MAX).contains(&sample) {
            return Err(ModelError::file(format!(
                "{count} trees, {features} features, {sample} points a tree: at least 1, 1 and 2 (up to {TREE_SAMPLE_MAX})"
            )));
        }
        let (mut trees, mut total) = (Vec::with_capacity(count), 0);
        for tree in 0..count {
            let nodes = reader.u32()?;
            total += u64::from(nodes);
            limited("nodes", total, NODES_MAX)?;
            if nodes == 0 {
                return Err(ModelError::file(format!("tree {tree} has no nodes")));
            }
            let bytes = reader.bytes(nodes as usize * NODE_BYTES)?;
            let read = read_tree(bytes, nodes, features, sample);
            trees.push(
                read.map_err(|(node, problem)| ModelError::file(format!("tree {tree}, node {node}: {problem}")))?,
            );
        }
        end(&reader)?;
        Ok(Self::from_trees(features, sample, trees))
    }
}

/// Children stand behind their parent, so that there is no cycle; each has one parent, so that it is a tree.
fn read_tree(bytes: &[u8], count: u32, features: usize, sample: u32) -> Result<Tree, (u32, String)> {
    let mut reader = Reader::new(bytes);
    let mut nodes = Vec::with_capacity(count as usize);
    // Depth of each node; none until its parent named it.
    let mut depths: Vec<Option<u8>> = vec![None; count as usize];
    depths[0] = Some(0);
    for i in 0..count {
        let mut field = || reader.u32().map_err(|error| (i, error.to_string()));
        let (feature, threshold, left, right) = (field()?, f32::from_bits(field()?), field()?, field()?);
        let depth = depths[i as usize].ok_or_else(|| (i, "has no parent before it".to_owned()))?;
        if feature == LEAF {
            if left > sample || right != 0 || threshold.to_bits() != 0 {
                return Err((i, format!("a leaf holds at most the tree's {sample} points, and zeros")));
            }
            nodes.push(ForestNode::Leaf { points: left });
            continue;
        }
        if feature as usize >= features {
            return Err((i, format!("feature {feature}, there are {features}")));
        }
        if !threshold.is_finite() {
            return Err((i, format!("threshold {threshold} is not finite")));
        }
        if depth >= TREE_DEPTH_MAX {
            return Err((i, format!("is deeper than {TREE_DEPTH_MAX}")));
        }
        for child in [left, right] {
            let place = depths.get_mut(child as usize).filter(|place| child > i && place.is_none());
            *place.ok_or_else(|| (i, format!("child {child} must stand behind it, and have one parent")))? =
                Some(depth + 1);
        }
        nodes.push(ForestNode::Split { feature, threshold, left, right });
    }
    Ok(Tree::new(&nodes))
}
