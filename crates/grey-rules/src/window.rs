//! One window of one series: the running numbers and what they become.

use grey_model::limits::TEXT_BYTES_MAX;
use grey_model::{Name, Reader, WireError, Writer};

use crate::set::Aggregate;
use crate::spec::Field;
use crate::unit::{Conversion, Unit};

/// Running numbers of a window; empty while `count` is 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Window {
    pub(crate) count: u64,
    /// Where the series stands in its rule's list of open windows.
    pub(crate) open_at: u32,
    sum: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
    /// Welford's running mean and sum of squared deviations, kept only where `stddev` is asked for.
    mean: f64,
    squares: f64,
    pub(crate) unit: Option<Name>,
}

impl Window {
    /// Adds a value. False when its unit does not convert to the window's.
    pub(crate) fn add(&mut self, rule: &Aggregate, value: f64, unit: Option<&Name>) -> bool {
        let value = match (&self.unit, unit) {
            _ if self.count == 0 => {
                self.unit = unit.cloned();
                value
            }
            // A value without unit is taken to be in the series' own.
            (_, None) => value,
            (None, Some(unit)) => {
                self.unit = Some(unit.clone());
                value
            }
            (Some(own), Some(unit)) if own == unit => value,
            (Some(own), Some(unit)) => match conversion(unit, own) {
                Some(conversion) => conversion.apply(value),
                None => return false,
            },
        };
        if self.count == 0 {
            (self.min, self.max, self.first) = (value, value, value);
        } else {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.count += 1;
        self.sum += value;
        self.last = value;
        if rule.deviates {
            let before = value - self.mean;
            self.mean += before / self.count as f64;
            self.squares += before * (value - self.mean);
        }
        true
    }

    /// The window's numbers as the rule asks for them; one that overflowed is left out.
    pub(crate) fn fields(&self, rule: &Aggregate) -> Box<[(Name, f64)]> {
        let count = self.count as f64;
        let number = |field: Field| match field {
            Field::Avg => self.sum / count,
            Field::Min => self.min,
            Field::Max => self.max,
            Field::Count => count,
            Field::Sum => self.sum,
            Field::First => self.first,
            Field::Last => self.last,
            Field::Stddev => (self.squares / count).max(0.0).sqrt(),
            Field::Rate | Field::P50 | Field::P95 | Field::P99 => f64::NAN,
        };
        let fields = rule.fields.iter().map(|(field, name)| (name.clone(), number(*field)));
        fields.filter(|(_, value)| value.is_finite()).collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_varint(self.count);
        if self.count == 0 {
            return;
        }
        for number in [self.sum, self.min, self.max, self.first, self.last, self.mean, self.squares] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.put_blob(self.unit.as_deref().unwrap_or_default().as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = reader.varint()?;
        if count == 0 {
            return Ok(Self::default());
        }
        let mut number = || reader.f64();
        let (sum, min, max, first, last, mean, squares) =
            (number()?, number()?, number()?, number()?, number()?, number()?, number()?);
        let unit = reader.text("unit", TEXT_BYTES_MAX)?;
        let unit = (!unit.is_empty()).then(|| unit.into());
        Ok(Self { count, open_at: 0, sum, min, max, first, last, mean, squares, unit })
    }
}

/// How a value of one unit becomes one of another, if both are known and measure the same.
pub(crate) fn conversion(from: &str, to: &str) -> Option<Conversion> {
    Unit::parse(from)?.conversion_to(Unit::parse(to)?)
}
