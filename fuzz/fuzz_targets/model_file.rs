//! Model files of both kinds with any damage: refused, or a model that answers
//! with a number from 0 to 1 or an error.
#![no_main]

use grey_infer::{Dense, Forest};
use libfuzzer_sys::fuzz_target;

/// More inputs only cost time.
const INPUTS_MAX: usize = 4_096;

fuzz_target!(|bytes: &[u8]| {
    // The head is given, so that the input is all content.
    for kind in [1, 2] {
        let file = [b"GRYM".as_slice(), &[1, kind], bytes].concat();
        if let Ok(dense) = Dense::read(&file) {
            if dense.inputs() <= INPUTS_MAX {
                let input: Vec<f32> = (0..dense.inputs()).map(|i| i as f32 - 3.0).collect();
                assert_eq!(dense.forward(&input).expect("right length").len(), dense.outputs());
            }
        }
        if let Ok(forest) = Forest::read(&file) {
            for x in [0.0, -1e30, 1e30] {
                let score = forest.score(&vec![x; forest.features()]).expect("right length");
                assert!((0.0..=1.0).contains(&score), "{score}");
            }
        }
    }
});
