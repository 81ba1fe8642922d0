//! What people do to alerts, as the intake holds it: refused, or written again
//! as the same operation.
#![no_main]

use grey_model::Reader;
use grey_rules::Operation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(operation) = Operation::decode(&mut Reader::new(bytes)) else { return };
    let mut written = Vec::new();
    operation.encode(&mut written);
    assert_eq!(Operation::decode(&mut Reader::new(&written)), Ok(operation));
});
