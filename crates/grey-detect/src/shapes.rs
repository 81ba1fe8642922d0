//! Short windows of the series and the distance of the newest from all known ones: a
//! nearest-neighbour detector whose memory is bounded (after Burnaev and Ishimtsev,
//! "Conformalized density- and distance-based anomaly detection in time-series data",
//! 2016, with kept examples instead of all of the past).
//!
//! A window that is far from every example becomes an example itself, in the place of
//! the one that was matched longest ago.
//!
//! Must not know units: it is given values in standard deviations from the mean.

use grey_model::{Reader, WireError, Writer};

use crate::moments::Mean;

/// Values of a window.
pub(crate) const WINDOW: usize = 8;
/// Examples that are kept.
const EXAMPLES_MAX: usize = 48;
/// A window further off than so many mean distances becomes an example.
const NOVEL: f64 = 2.0;
/// Values that the mean distance reaches back.
const REACH: f64 = 8_000.0;
/// Values of a window are taken no further out than this.
const LIMIT: f64 = 1e6;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Example {
    values: [f32; WINDOW],
    matched: u32,
}

/// The examples of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shapes {
    examples: [Example; EXAMPLES_MAX],
    used: u8,
    turn: u32,
    distance: Mean,
}

impl Default for Shapes {
    fn default() -> Self {
        let empty = Example { values: [0.0; WINDOW], matched: 0 };
        Self { examples: [empty; EXAMPLES_MAX], used: 0, turn: 0, distance: Mean::default() }
    }
}

impl Shapes {
    /// The root mean square distance of the window from the nearest example, which it
    /// then matches or joins.
    pub(crate) fn observe(&mut self, window: [f64; WINDOW]) -> f64 {
        let window = window.map(|value| value.clamp(-LIMIT, LIMIT) as f32);
        self.turn = self.turn.saturating_add(1);
        let used = usize::from(self.used);
        let (mut nearest, mut best) = (0, f32::INFINITY);
        for (index, example) in self.examples[..used].iter().enumerate() {
            let square: f32 = example.values.iter().zip(window).map(|(a, b)| (a - b) * (a - b)).sum();
            if square < best {
                (nearest, best) = (index, square);
            }
        }
        let distance = if used == 0 { 0.0 } else { (f64::from(best) / WINDOW as f64).sqrt() };
        if used == 0 || distance > NOVEL * self.distance.mean {
            let place = if used < EXAMPLES_MAX {
                self.used += 1;
                used
            } else {
                let oldest = self.examples.iter().enumerate().min_by_key(|(_, example)| example.matched);
                oldest.map_or(0, |(index, _)| index)
            };
            self.examples[place] = Example { values: window, matched: self.turn };
        } else {
            self.examples[nearest].matched = self.turn;
        }
        self.distance.add(distance, REACH);
        distance
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.used);
        out.put_varint(u64::from(self.turn));
        self.distance.write(out);
        for example in &self.examples[..usize::from(self.used)] {
            for value in example.values {
                out.extend(value.to_le_bytes());
            }
            out.put_varint(u64::from(example.matched));
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut shapes = Self { used: reader.u8()?, ..Self::default() };
        if usize::from(shapes.used) > EXAMPLES_MAX {
            return Err(reader.invalid("number of examples"));
        }
        shapes.turn = reader.count("windows", u64::from(u32::MAX))? as u32;
        shapes.distance = Mean::read(reader)?;
        for example in &mut shapes.examples[..usize::from(shapes.used)] {
            for value in &mut example.values {
                *value = f32::from_bits(reader.u32()?);
                if !value.is_finite() || value.abs() > LIMIT as f32 {
                    return Err(reader.invalid("example"));
                }
            }
            example.matched = reader.count("windows", u64::from(u32::MAX))? as u32;
        }
        Ok(shapes)
    }
}
