//! Histograms of fixed buckets: constant memory however seldom they are read,
//! a few nanoseconds an observation.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Histogram, HistogramFn, Key};

use super::exposition::Exposition;
use super::names::{self, LATENCY_BUCKETS};

/// Series over this are not kept: label values that grow without end stay bounded.
const SERIES_MAX: usize = 4_096;

/// One series of a histogram.
#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One for each bound and one for what is over the last.
    counts: Box<[AtomicU64]>,
    /// Bits of the sum, a double.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if value.is_nan() {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(count as u64, Relaxed);
        let add = value * count as f64;
        let _ = self.sum.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + add).to_bits()));
    }
}

/// Every histogram of one recorder.
#[derive(Debug, Default)]
pub(crate) struct Histograms(Mutex<HashMap<Key, Arc<Buckets>>>);

impl Histograms {
    /// The series of a key; one that discards when there are too many.
    pub(crate) fn register(&self, key: &Key) -> Histogram {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = series.get(key) {
            return Histogram::from_arc(Arc::clone(buckets));
        }
        if series.len() >= SERIES_MAX {
            return Histogram::noop();
        }
        let bounds = names::find(key.name()).map_or(&LATENCY_BUCKETS[..], |metric| metric.buckets);
        let buckets = Arc::new(Buckets::new(bounds));
        series.insert(key.clone(), Arc::clone(&buckets));
        Histogram::from_arc(buckets)
    }

    pub(crate) fn collect(&self, out: &mut Exposition) {
        let mut series: Vec<_> = {
            let series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            series.iter().map(|(key, buckets)| (key.clone(), Arc::clone(buckets))).collect()
        };
        series.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, buckets) in series {
            let (name, help) = match names::find(key.name()) {
                Some(metric) => (Cow::Borrowed(metric.name), metric.help),
                None => (Cow::Owned(sanitise(key.name())), ""),
            };
            let labels: Vec<_> = key.labels().map(|l| (sanitise(l.key()), l.value().to_owned())).collect();
            let counts: Vec<u64> = buckets.counts.iter().map(|count| count.load(Relaxed)).collect();
            out.histogram(name, help, &labels, buckets.bounds, &counts, f64::from_bits(buckets.sum.load(Relaxed)));
        }
    }
}

/// A library's name with what Prometheus does not allow replaced.
fn sanitise(name: &str) -> String {
    let allowed = |(at, c): (usize, char)| {
        if c.is_ascii_alphabetic() || c == '_' || (at > 0 && c.is_ascii_digit()) { c } else { '_' }
    };
    name.chars().enumerate().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(histograms: &Histograms) -> String {
        let (mut out, mut text) = (Exposition::new(), String::new());
        histograms.collect(&mut out);
        out.write(&mut text);
        text
    }

    #[test]
    fn observations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let histograms = Histograms::default();
        let series = histograms.register(&Key::from_name(names::COORDINATOR_QUERY_SECONDS.name));
        series.record(0.000_05);
        series.record(0.000_06);
        series.record_many(100.0, 3);
        series.record(f64::NAN);
        let text = text(&histograms);
        for line in [
            "grey_coordinator_query_seconds_bucket{le=\"0.00005\"} 1",
            "grey_coordinator_query_seconds_bucket{le=\"0.0001\"} 2",
            "grey_coordinator_query_seconds_bucket{le=\"30\"} 2",
            "grey_coordinator_query_seconds_bucket{le=\"+Inf\"} 5",
            "grey_coordinator_query_seconds_count 5",
            "grey_coordinator_query_seconds_sum 300.00011",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_same_key_is_the_same_series_and_series_are_bounded() {
        let histograms = Histograms::default();
        histograms.register(&Key::from_name("a.b")).record(1.0);
        histograms.register(&Key::from_name("a.b")).record(1.0);
        assert!(text(&histograms).contains("a_b_count 2\n"));
        for n in 0..2 * SERIES_MAX {
            histograms.register(&Key::from_parts("x", vec![metrics::Label::new("n", n.to_string())])).record(1.0);
        }
        assert_eq!(histograms.0.lock().unwrap().len(), SERIES_MAX);
    }

    #[test]
    fn no_observation_is_lost_between_threads() {
        let histograms = Histograms::default();
        let series = histograms.register(&Key::from_name("t"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| series.record(0.5)));
            }
        });
        let text = text(&histograms);
        assert!(text.contains("t_count 40000\n") && text.contains("t_sum 20000\n"), "{text}");
    }
}
