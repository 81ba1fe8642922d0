//! Manifests with any damage: refused, or one that is written as it was read,
//! and whose names lead nowhere else.
#![no_main]

use grey_infer::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    assert!(!manifest.file.contains(['/', '\\']) && !manifest.name.contains(['/', '\\']));
    assert!(manifest.input_len() <= grey_infer::INPUT_LEN_MAX);
    let again = Manifest::parse(manifest.to_json().as_bytes()).expect("just written");
    // Numbers may differ in the last bit.
    assert_eq!((again.name, again.file, again.window), (manifest.name, manifest.file, manifest.window));
});
