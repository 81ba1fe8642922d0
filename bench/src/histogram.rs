//! Histograms of a server's `/metrics`: what happened between two looks.

use std::net::SocketAddr;

use crate::{Outcome, http};

/// Counts of observations by upper bound.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Vec<(f64, u64)>);

impl Histogram {
    /// Reads the histograms of one name, summed over their labels; `None` when the server has none.
    pub fn read(address: SocketAddr, name: &str) -> Outcome<Option<Self>> {
        let (_, text) = http::get(address, "/metrics")?;
        Ok(Self::parse(&text, name))
    }

    fn parse(text: &str, name: &str) -> Option<Self> {
        let prefix = format!("{name}_bucket{{");
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(&prefix)) {
            let (labels, count) = line.rsplit_once("} ")?;
            let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            let count = count.trim().parse::<f64>().ok()? as u64;
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        (!buckets.is_empty()).then_some(Self(buckets))
    }

    /// What came after an earlier look.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| earlier.0.iter().find(|(known, _)| *known == bound).map_or(0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count.saturating_sub(before(*bound)))).collect())
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.0.last().map_or(0, |(_, count)| *count)
    }

    /// The upper bound of the bucket that the quantile falls into, µs: the true value is not above it.
    pub fn quantile_us(&self, q: f64) -> f64 {
        let rank = (self.count() as f64 * q).ceil().max(1.0) as u64;
        let bucket = self.0.iter().find(|(_, count)| *count >= rank);
        bucket.map_or(f64::NAN, |(bound, _)| bound * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_its_buckets_bound() {
        let text = "x_bucket{a=\"b\",le=\"0.001\"} 90\nx_bucket{a=\"b\",le=\"0.002\"} 100\nx_bucket{a=\"b\",le=\"+Inf\"} 100\n";
        let all = Histogram::parse(text, "x").unwrap();
        assert_eq!((all.count(), all.quantile_us(0.5), all.quantile_us(0.99)), (100, 1_000.0, 2_000.0));
        assert_eq!(all.since(&all).count(), 0);
        assert!(Histogram::parse(text, "y").is_none());
    }
}
