//! Saved samples with any damage: refused, or a series that saves what it was
//! restored from, and whose features are finite.
#![no_main]

use std::sync::LazyLock;

use grey_model::Reader;
use grey_spectra::{Analyzer, Samples, SpectrumSpec};
use libfuzzer_sys::fuzz_target;

static ANALYZER: LazyLock<Analyzer> = LazyLock::new(|| {
    let mut spec = SpectrumSpec::new(1_000.0, 64);
    (spec.peaks, spec.overlap) = (3, 0.5);
    Analyzer::new(spec).expect("constant specification")
});

fuzz_target!(|bytes: &[u8]| {
    // The version is given, so that the input is all state.
    let state = [&[1], bytes].concat();
    let Ok(mut samples) = Samples::read(&mut Reader::new(&state)) else { return };
    let (mut saved, mut again) = (Vec::new(), Vec::new());
    samples.write(&mut saved);
    Samples::read(&mut Reader::new(&saved)).expect("just saved").write(&mut again);
    assert_eq!(saved, again);
    let (time_ms, mut out) = (samples.last_ms().unwrap_or_default(), Vec::new());
    let more: Vec<f64> = (0..100).map(|n| f64::from(n % 7)).collect();
    samples.push(&ANALYZER, &more, time_ms.saturating_add(100), &mut out);
    for (name, value) in out.iter().flat_map(|frame| ANALYZER.fields(frame)) {
        assert!(value.is_finite(), "{name} is {value}");
    }
});
