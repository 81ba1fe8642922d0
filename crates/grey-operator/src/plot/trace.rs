//! Series for a plot in bounded memory: a bucket of time keeps its first,
//! last, least and greatest value, so that no peak is lost however much is read.

use std::collections::BTreeMap;

use grey_expr::{Conversion, Unit};
use grey_model::{Event, Name, Quality, Value};

/// Buckets of one series: several for each column of a plot.
const BUCKETS_MAX: usize = 16_384;
/// Series that are kept; more are only counted.
const SERIES_MAX: usize = 512;

/// Greatest value drawn: the width of a range must be a number too.
const VALUE_MAX: f64 = 1e300;
/// Conversions that are remembered, one for each stream and unit.
const CONVERSIONS_MAX: usize = 1_024;

/// What a stretch of time held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) first: f64,
    pub(super) last: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Bucket {
    fn of(at_ms: i64, value: f64) -> Self {
        Self { first_ms: at_ms, last_ms: at_ms, first: value, last: value, min: value, max: value }
    }

    /// Takes a later, earlier or overlapping bucket in.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.first_ms < self.first_ms {
            (self.first_ms, self.first) = (other.first_ms, other.first);
        }
        if other.last_ms >= self.last_ms {
            (self.last_ms, self.last) = (other.last_ms, other.last);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trace {
    /// In the order of time.
    pub(super) buckets: Vec<Bucket>,
    /// A bucket holds the times with one quotient by this, in ms.
    width_ms: i64,
}

impl Trace {
    fn new() -> Self {
        Self { buckets: Vec::new(), width_ms: 1 }
    }

    fn add(&mut self, at_ms: i64, value: f64) {
        let bucket = Bucket::of(at_ms, value);
        let key = |at: i64| at.div_euclid(self.width_ms);
        match self.buckets.last_mut() {
            Some(last) if key(last.first_ms) == key(at_ms) => return last.merge(&bucket),
            Some(last) if key(last.first_ms) > key(at_ms) => {
                match self.buckets.binary_search_by_key(&key(at_ms), |bucket| key(bucket.first_ms)) {
                    Ok(at) => return self.buckets[at].merge(&bucket),
                    Err(at) => self.buckets.insert(at, bucket),
                }
            }
            _ => self.buckets.push(bucket),
        }
        while self.buckets.len() > BUCKETS_MAX {
            self.width_ms = self.width_ms.saturating_mul(2);
            let width_ms = self.width_ms;
            self.buckets.dedup_by(|later, earlier| {
                let same = later.first_ms.div_euclid(width_ms) == earlier.first_ms.div_euclid(width_ms);
                if same {
                    earlier.merge(later);
                }
                same
            });
        }
    }

    /// One bucket for each of at most so many columns of equal width over a range of time.
    pub(super) fn columns(&self, from_ms: i64, to_ms: i64, columns: usize) -> Vec<Bucket> {
        let width = (to_ms.saturating_sub(from_ms)).max(1) as f64;
        let column = |at: i64| ((at.saturating_sub(from_ms)) as f64 / width * columns as f64) as i64;
        let mut merged: Vec<Bucket> = Vec::with_capacity(columns.min(self.buckets.len()));
        if self.buckets.len() <= columns {
            return self.buckets.clone();
        }
        for bucket in &self.buckets {
            match merged.last_mut() {
                Some(last) if column(last.first_ms) == column(bucket.first_ms) => last.merge(bucket),
                _ => merged.push(*bucket),
            }
        }
        merged
    }
}

/// All series of a recording.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces {
    /// By stream, then device.
    pub(super) series: BTreeMap<(Name, Name), Trace>,
    /// Readings of series that there was no room for.
    pub(super) beyond: u64,
    /// Readings whose unit does not convert to that of their stream.
    pub(super) foreign: u64,
    /// The unit that a stream is drawn in: the first that it had.
    units: BTreeMap<Name, Name>,
    /// How other units become that one, by stream and unit.
    conversions: BTreeMap<(Name, Name), Option<Conversion>>,
}

/// How a unit becomes another, where both are known and measure the same.
pub(crate) fn conversion(from: &str, to: &str) -> Option<Conversion> {
    Unit::parse(from)?.conversion_to(Unit::parse(to)?)
}

impl Traces {
    /// Takes a reading; what is no usable number is not drawn.
    pub(crate) fn add(&mut self, event: &Event) {
        if event.quality == Quality::Bad {
            return;
        }
        let value = match &event.value {
            // A vector is drawn as the root of the mean of its squares.
            Value::Vector(samples) => {
                Some((samples.iter().map(|x| x * x).sum::<f64>() / samples.len().max(1) as f64).sqrt())
            }
            value => value.as_f64(),
        };
        let Some(value) = value.and_then(|value| self.in_unit(event, value)).filter(|value| value.is_finite()) else {
            return;
        };
        let key = (event.stream.clone(), event.device.clone());
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        self.series.entry(key).or_insert_with(Trace::new).add(event.device_time_ms, value.clamp(-VALUE_MAX, VALUE_MAX));
    }

    /// The unit that a stream is drawn in.
    pub(super) fn unit(&self, stream: &Name) -> Option<&Name> {
        self.units.get(stream)
    }

    /// The value in the unit of its stream. One without unit is taken to be in it.
    fn in_unit(&mut self, event: &Event, value: f64) -> Option<f64> {
        let Some(unit) = event.unit.as_ref().filter(|unit| !unit.is_empty()) else { return Some(value) };
        let Some(own) = self.units.get(&event.stream) else {
            self.units.insert(event.stream.clone(), unit.clone());
            return Some(value);
        };
        if own == unit {
            return Some(value);
        }
        let key = (event.stream.clone(), unit.clone());
        if self.conversions.len() >= CONVERSIONS_MAX && !self.conversions.contains_key(&key) {
            self.foreign += 1;
            return None;
        }
        let conversion = *self.conversions.entry(key).or_insert_with(|| conversion(unit, own));
        self.foreign += u64::from(conversion.is_none());
        conversion.map(|conversion| conversion.apply(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_peak_in_a_million_points_survives() {
        let mut traces = Traces::default();
        for n in 0..1_000_000_i64 {
            let value = if n == 777_777 { 99.0 } else { (n % 10) as f64 };
            traces.add(&Event::reading("d", "s", value, n * 37));
        }
        let trace = traces.series.values().next().unwrap();
        assert!(trace.buckets.len() <= BUCKETS_MAX);
        let columns = trace.columns(0, 37 * 1_000_000, 1_000);
        assert!(columns.len() <= 1_001);
        assert_eq!(columns.iter().filter(|bucket| bucket.max == 99.0).count(), 1);
        assert!(columns.iter().all(|bucket| bucket.min == 0.0));
        assert!(columns.windows(2).all(|pair| pair[0].last_ms < pair[1].first_ms));
    }

    #[test]
    fn order_does_not_matter() {
        let at = |n: i64| (n * 7_919) % 20_011;
        let (mut ordered, mut shuffled) = (Trace::new(), Trace::new());
        (0..20_011).for_each(|n| ordered.add(n * 10, n as f64));
        (0..20_011).for_each(|n| shuffled.add(at(n) * 10, at(n) as f64));
        assert_eq!(ordered, shuffled);
    }
}
