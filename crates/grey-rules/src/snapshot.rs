//! An engine's state as bytes: equal states give equal bytes, and an engine
//! restored from them behaves as the one that wrote them.
//! `docs/design/rules-state.md` spells the format out.

mod state;
mod version1;

use std::sync::Arc;

use grey_model::{Reader, Stamp, Writer};

use crate::engine::{Engine, EngineConfig, NO_TIME_MS};
use crate::gate::Gate;
use crate::hot::HotWatch;
use crate::set::{RuleError, RuleSet};
use crate::view::RuleCounters;

const VERSION: u8 = 2;
/// The last millisecond that a stamp can hold.
pub(crate) const TIME_MS_MAX: i64 = (1 << (64 - Stamp::COUNTER_BITS)) - 1;

impl Engine {
    /// The whole state. [`Engine::restore`] continues exactly here.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.rules.digest().to_le_bytes());
        out.put_varint_signed(self.time_ms);
        each_counter(&self.past).into_iter().for_each(|count| out.put_varint(count));
        self.gate.write(&mut out);
        self.hot.write(&mut out);
        self.parts.each().for_each(|part| part.write(&mut out));
        out
    }

    /// The engine that wrote the bytes, given the same rules and configuration.
    ///
    /// # Errors
    /// Bytes of other rules or of a later build, or damage.
    pub fn restore(rules: Arc<RuleSet>, config: EngineConfig, bytes: &[u8]) -> Result<Self, RuleError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version == 0 || version > VERSION {
            return Err(RuleError::Version(version, VERSION));
        }
        let saved = reader.u64()?;
        if saved != rules.digest() {
            return Err(RuleError::Changed { saved, expected: rules.digest() });
        }
        let mut engine = Self::new(rules, config);
        engine.time_ms = reader.varint_signed()?;
        if !(NO_TIME_MS..=TIME_MS_MAX).contains(&engine.time_ms) {
            return Err(reader.invalid("time").into());
        }
        if version == 1 {
            version1::read(&mut engine, &mut reader)?;
        } else {
            read_counters(&mut engine.past, &mut reader)?;
            let set = Arc::clone(&engine.rules);
            let alerts_max = set.alerts.len().saturating_mul(engine.config.series_max.max(1)).saturating_mul(2);
            engine.gate = Gate::read(&mut reader, alerts_max)?;
            engine.hot = HotWatch::read(&mut reader)?;
            for part in engine.parts.each_mut() {
                part.read(&set, &mut reader)?;
            }
        }
        if !reader.is_empty() {
            return Err(reader.invalid("end of the state").into());
        }
        let set = Arc::clone(&engine.rules);
        engine.parts.each_mut().for_each(|part| part.set_timers(&set));
        Ok(engine)
    }
}

/// The counters in the order in which they are saved.
fn each_counter(c: &RuleCounters) -> [u64; 13] {
    [
        c.alerts_fired,
        c.alerts_cleared,
        c.alerts_suppressed,
        c.findings,
        c.aggregates,
        c.late,
        c.ahead,
        c.filtered,
        c.rate_limited,
        c.model_fallbacks,
        c.not_numeric,
        c.unit_mismatches,
        c.series_evicted,
    ]
}

fn read_counters(c: &mut RuleCounters, reader: &mut Reader<'_>) -> Result<(), RuleError> {
    for count in [
        &mut c.alerts_fired,
        &mut c.alerts_cleared,
        &mut c.alerts_suppressed,
        &mut c.findings,
        &mut c.aggregates,
        &mut c.late,
        &mut c.ahead,
        &mut c.filtered,
        &mut c.rate_limited,
        &mut c.model_fallbacks,
        &mut c.not_numeric,
        &mut c.unit_mismatches,
        &mut c.series_evicted,
    ] {
        // Sums of counters must not overflow.
        *count = reader.count("counter", u64::MAX >> 8)?;
    }
    Ok(())
}
