//! ONNX graphs through tract; only in builds with the feature `onnx`.
//!
//! A graph of floats with one input and one output. tract chooses its kernels
//! by the machine's instruction set, so the last bits may differ between two
//! machines, but not between two calls on one. It was not written for files
//! that mean harm: what it panics on becomes an error here, and the digest in
//! the manifest keeps damaged files out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Datum as _, Framework as _, InferenceFact, InferenceModelExt as _, IntoRunnable as _, Tensor, TractResult,
    TypedRunnableModel, tvec,
};
use tract_onnx::tract_hir::infer::Factoid as _;

use crate::INPUT_LEN_MAX;
use crate::error::ModelError;

/// Most dimensions of the input.
const RANK_MAX: usize = 8;

/// A graph, optimised for one shape of input.
#[derive(Debug)]
pub(crate) struct Graph {
    plan: Arc<TypedRunnableModel>,
    shape: Vec<usize>,
    outputs: usize,
}

impl Graph {
    /// Reads and optimises a graph for inputs of `input_len` numbers.
    pub(crate) fn read(file: &[u8], input_len: usize) -> Result<Self, ModelError> {
        guarded("cannot be read", || Self::load(file, input_len)).and_then(|graph| graph)
    }

    fn load(file: &[u8], input_len: usize) -> TractResult<Result<Self, ModelError>> {
        let mut reader = file;
        let model = tract_onnx::onnx().model_for_read(&mut reader)?;
        let (inputs, outputs) = (model.input_outlets()?.len(), model.output_outlets()?.len());
        if inputs != 1 || outputs != 1 {
            let problem = format!("the graph has {inputs} inputs and {outputs} outputs, export it with one of each");
            return Ok(Err(ModelError::file(problem)));
        }
        // Unknown are symbols (an exported batch size) and what is not said at all.
        let declared = &model.input_fact(0)?.shape;
        let dims: Vec<Option<usize>> = if declared.is_open() {
            vec![None, None]
        } else {
            let known = |dim: i64| usize::try_from(dim).ok();
            declared.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok()).and_then(known)).collect()
        };
        let shape = match resolve(&dims, input_len) {
            Ok(shape) => shape,
            Err(error) => return Ok(Err(error)),
        };
        let model = model
            .with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), &shape))?
            // A declared batch size must not contradict the one above.
            .with_output_fact(0, InferenceFact::default())?
            .into_optimized()?;
        let fact = model.output_fact(0)?;
        let outputs = fact.shape.as_concrete().map(|shape| shape.iter().product::<usize>());
        let Some(outputs) = outputs.filter(|_| fact.datum_type == f32::datum_type()) else {
            return Ok(Err(ModelError::file("the graph's output must be 32-bit floats of a fixed shape")));
        };
        Ok(Ok(Self { plan: model.into_runnable()?, shape, outputs }))
    }

    /// Numbers that it takes.
    pub(crate) fn inputs(&self) -> usize {
        self.shape.iter().product()
    }

    /// Numbers that it gives.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The outputs for one input of [`Graph::inputs`] numbers.
    pub(crate) fn run(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let outputs = guarded("cannot be run", || {
            let input = Tensor::from_shape(&self.shape, input)?;
            let outputs = self.plan.run(tvec!(input.into()))?;
            let first = outputs.first().map(|output| output.try_as_plain_ram()?.as_slice::<f32>().map(<[f32]>::to_vec));
            first.unwrap_or_else(|| Ok(Vec::new()))
        })?;
        if outputs.len() != self.outputs {
            return Err(ModelError::Shape { what: "outputs", expected: self.outputs, found: outputs.len() });
        }
        Ok(outputs)
    }
}

/// The shape of one input: the first of several dimensions is the batch and becomes 1 if it is open; one more open
/// dimension takes what is left.
fn resolve(dims: &[Option<usize>], input_len: usize) -> Result<Vec<usize>, ModelError> {
    if dims.len() > RANK_MAX {
        return Err(ModelError::file(format!("the input has {} dimensions, at most {RANK_MAX} are read", dims.len())));
    }
    let mut shape: Vec<Option<usize>> = dims.to_vec();
    if let [batch @ None, _, ..] = shape.as_mut_slice() {
        *batch = Some(1);
    }
    let known = shape.iter().flatten().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    let known = known.filter(|known| (1..=INPUT_LEN_MAX).contains(known)).ok_or_else(|| {
        let dims: Vec<String> = dims.iter().map(|dim| dim.map_or("?".to_owned(), |dim| dim.to_string())).collect();
        ModelError::file(format!("the graph's input is {}, use 1 to {INPUT_LEN_MAX} numbers", dims.join(" x ")))
    })?;
    // A second open dimension is 1; what does not fit is then reported as a wrong number of inputs.
    let mut rest = if input_len.is_multiple_of(known) { input_len / known } else { 1 };
    Ok(shape.into_iter().map(|dim| dim.unwrap_or_else(|| std::mem::replace(&mut rest, 1))).collect())
}

/// tract's errors and panics as ours.
fn guarded<T>(what: &str, work: impl FnOnce() -> TractResult<T>) -> Result<T, ModelError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ModelError::file(format!("the graph {what}: {error:#}"))),
        Err(_) => Err(ModelError::file(format!("the graph {what}: the runtime panicked"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_dimensions_follow_from_the_manifest() {
        let shape = |dims: &[Option<usize>], input_len| resolve(dims, input_len).map_err(|error| error.to_string());
        assert_eq!(shape(&[None, Some(8)], 8), Ok(vec![1, 8]));
        assert_eq!(shape(&[Some(1), Some(4), Some(2)], 8), Ok(vec![1, 4, 2]));
        assert_eq!(shape(&[None, None, Some(2)], 8), Ok(vec![1, 4, 2]));
        assert_eq!(shape(&[None], 8), Ok(vec![8]));
        // The batch is never a window: this one is then refused as 8 numbers instead of 16.
        assert_eq!(shape(&[None, Some(8)], 16), Ok(vec![1, 8]));
        assert!(shape(&[Some(0)], 8).is_err());
        assert!(shape(&[Some(usize::MAX), Some(2)], 8).is_err());
        assert!(shape(&[Some(1); 9], 1).is_err());
    }
}
