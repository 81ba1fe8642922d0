//! An engine's state as bytes: equal states give equal bytes, and an engine
//! restored from them behaves as the one that wrote them.
//! `docs/design/rules-state.md` spells the format out.

use std::sync::Arc;

use grey_model::limits::TEXT_BYTES_MAX;
use grey_model::{Name, Reader, Stamp, Writer};

use crate::engine::{Engine, EngineConfig, NO_TIME_MS};
use crate::series::OpenWindows;
use crate::set::{RuleError, RuleSet};
use crate::view::RuleCounters;
use crate::window::Window;

const VERSION: u8 = 1;
/// The last millisecond that a stamp can hold.
const TIME_MS_MAX: i64 = (1 << (64 - Stamp::COUNTER_BITS)) - 1;

impl Engine {
    /// The whole state. [`Engine::restore`] continues exactly here.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.rules.digest().to_le_bytes());
        out.put_varint_signed(self.time_ms);
        let c = &self.counters;
        for count in
            [c.alerts_fired, c.alerts_cleared, c.aggregates, c.not_numeric, c.unit_mismatches, c.series_evicted]
        {
            out.put_varint(count);
        }
        let mut places = vec![0_u32; self.series.len()];
        out.put_varint(self.series.len() as u64);
        for (place, at) in self.series.by_age().enumerate() {
            places[at as usize] = place as u32;
            let series = self.series.get(at);
            out.put_blob(series.device.as_bytes());
            out.put_blob(series.stream.as_bytes());
            for alert in &series.alerts {
                match alert.firing {
                    None => out.push(0),
                    Some((since_ms, value)) => {
                        out.push(1);
                        out.put_varint_signed(since_ms);
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
            }
            series.windows.iter().for_each(|window| window.write(&mut out));
        }
        for open in &self.open {
            out.put_varint(open.slots().count() as u64);
            open.slots().for_each(|at| out.put_varint(u64::from(places[at as usize])));
        }
        out
    }

    /// The engine that wrote the bytes, given the same rules and configuration.
    pub fn restore(rules: Arc<RuleSet>, config: EngineConfig, bytes: &[u8]) -> Result<Self, RuleError> {
        let series_max = config.series_max;
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
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
        engine.counters = RuleCounters {
            alerts_fired: reader.varint()?,
            alerts_cleared: reader.varint()?,
            aggregates: reader.varint()?,
            not_numeric: reader.varint()?,
            unit_mismatches: reader.varint()?,
            series_evicted: reader.varint()?,
            ..RuleCounters::default()
        };
        let count = reader.count("series", series_max as u64)?;
        for _ in 0..count {
            engine.read_series(&mut reader)?;
        }
        let rules = Arc::clone(&engine.rules);
        for (rule, aggregate) in rules.aggregates.iter().enumerate() {
            engine.read_open(&mut reader, rule, aggregate.interval_ms)?;
        }
        if !reader.is_empty() {
            return Err(reader.invalid("end of the state").into());
        }
        Ok(engine)
    }

    fn read_series(&mut self, reader: &mut Reader<'_>) -> Result<(), RuleError> {
        let device = Name::from(reader.text("device", TEXT_BYTES_MAX)?);
        let stream = Name::from(reader.text("stream", TEXT_BYTES_MAX)?);
        if self.series.find(&device, &stream).is_some() {
            return Err(reader.invalid("series, it is there twice").into());
        }
        let rules = Arc::clone(&self.rules);
        let at = self.series.insert(&rules, &device, &stream);
        let series = self.series.get_mut(at);
        for alert in &mut series.alerts {
            alert.firing = match reader.u8()? {
                0 => None,
                1 => Some((reader.varint_signed()?, reader.f64()?)),
                _ => return Err(reader.invalid("alert state").into()),
            };
        }
        for window in &mut series.windows {
            *window = Window::read(reader)?;
            window.open_at = u32::MAX;
        }
        Ok(())
    }

    fn read_open(&mut self, reader: &mut Reader<'_>, rule: usize, interval_ms: i64) -> Result<(), RuleError> {
        let count = reader.count("open windows", self.series.len() as u64)?;
        self.open[rule] = OpenWindows::at(self.time_ms, interval_ms);
        for _ in 0..count {
            // Series were inserted in the order of the list, so that places are slots.
            let slot = reader.count("place of a series", self.series.len() as u64 - 1)? as u32;
            let window = &mut self.series.get_mut(slot).windows[rule];
            if window.count == 0 || window.open_at != u32::MAX {
                return Err(reader.invalid("open window").into());
            }
            window.open_at = self.open[rule].push(slot);
        }
        let open = self.series.by_age().filter(|at| self.series.get(*at).windows[rule].count > 0).count();
        if open as u64 != count {
            return Err(reader.invalid("list of open windows").into());
        }
        Ok(())
    }
}
