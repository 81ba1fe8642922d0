//! Saved state of the rules with any damage: refused, or an engine that runs
//! and saves what it was restored from.
#![no_main]

use std::sync::{Arc, LazyLock};

use grey_model::{Event, Stamp};
use grey_rules::{Derived, Engine, EngineConfig, NoModels, RuleSet};
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
    let source = b"rules:\n  - {type: threshold, condition: t > 5}\n  - {type: aggregate, interval: 1s, fields: [avg, p95]}\n  - {type: threshold, condition: t > 4 && u > 1, for: 1s}\n  - {type: anomaly, detector: robust}\n  - {type: filter, deadband: 1}\n  - {type: aggregate, window: session, gap: 1s, by: site}\n";
    Arc::new(RuleSet::from_source(source, &NoModels).expect("constant rules"))
});

fuzz_target!(|bytes: &[u8]| {
    // The version and the digest are given, so that the input is all state.
    let mut state = vec![2];
    state.extend_from_slice(&RULES.digest().to_le_bytes());
    state.extend_from_slice(bytes);
    let Ok(mut engine) = Engine::restore(Arc::clone(&RULES), EngineConfig::new("s"), &state) else { return };
    let saved = engine.snapshot();
    let again = Engine::restore(Arc::clone(&RULES), EngineConfig::new("s"), &saved).expect("just saved");
    assert_eq!(again.snapshot(), saved);
    let mut derived = Derived::default();
    for (n, value) in [1.0, 9.0, 2.0].into_iter().enumerate() {
        let now_ms = 1_760_000_000_000 + n as i64 * 700;
        engine.process(&Event::reading("d", "t", value, now_ms), Stamp::at_unix_ms(now_ms), &mut derived);
    }
    engine.finish(Stamp::at_unix_ms(1_760_000_009_000), &mut derived);
});
