//! Saved state of a detector with any damage: refused, or a detector that is saved as
//! it was read and goes on.
#![no_main]

use grey_detect::Detector;
use grey_model::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut detector) = Detector::read(&mut Reader::new(bytes)) else { return };
    let mut saved = Vec::new();
    detector.write(&mut saved);
    let again = Detector::read(&mut Reader::new(&saved)).expect("just saved");
    let mut twice = Vec::new();
    again.write(&mut twice);
    assert_eq!(saved, twice);
    for (n, value) in [1.0, 9.0, -1e308, 2.0].into_iter().enumerate() {
        let finding = detector.observe(1_760_000_000_000 + n as i64 * 700, value);
        assert!(finding.score.is_nan() || (0.0..=1.0).contains(&finding.score));
    }
});
