//! Prometheus text format 0.0.4, grouped by family as the format demands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::names::{Kind, Metric};

/// The figures of one scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<Cow<'static, str>, Family>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: &'static str,
    lines: String,
}

impl Exposition {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a sample of a counter or gauge; label values stand in the metric's order.
    pub fn sample(&mut self, metric: &'static Metric, values: &[&str], value: f64) {
        debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
        let family = self.family(metric.name.into(), metric.kind, metric.help);
        let labels = metric.labels.iter().copied().zip(values.iter().copied());
        line(&mut family.lines, metric.name, "", labels, None, value);
    }

    /// Adds a histogram: how many observations each bucket took (not cumulative, the last without bound) and their sum.
    pub(crate) fn histogram(
        &mut self,
        name: Cow<'static, str>,
        help: &'static str,
        labels: &[(String, String)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let family = self.family(name.clone(), Kind::Histogram, help);
        let pairs = || labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(at).copied().unwrap_or(f64::INFINITY);
            line(&mut family.lines, &name, "_bucket", pairs(), Some(bound), total as f64);
        }
        line(&mut family.lines, &name, "_sum", pairs(), None, sum);
        line(&mut family.lines, &name, "_count", pairs(), None, total as f64);
    }

    fn family(&mut self, name: Cow<'static, str>, kind: Kind, help: &'static str) -> &mut Family {
        self.families.entry(name).or_insert(Family { kind, help, lines: String::new() })
    }

    /// Writes every family at the end of `out`.
    pub(crate) fn write(&self, out: &mut String) {
        out.reserve(self.families.values().map(|f| f.lines.len() + 256).sum());
        for (name, family) in &self.families {
            if !family.help.is_empty() {
                let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
                let _ = writeln!(out, "# HELP {name} {help}");
            }
            let _ = writeln!(out, "# TYPE {name} {}", family.kind.as_str());
            out.push_str(&family.lines);
        }
    }
}

fn line<'a>(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    bound: Option<f64>,
    value: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut open = false;
    for (label, value) in labels {
        out.push(if open { ',' } else { '{' });
        open = true;
        out.push_str(label);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if let Some(bound) = bound {
        out.push_str(if open { ",le=\"" } else { "{le=\"" });
        open = true;
        number(out, bound);
        out.push('"');
    }
    if open {
        out.push('}');
    }
    out.push(' ');
    number(out, value);
    out.push('\n');
}

fn number(out: &mut String, value: f64) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        // Rust writes NaN as Prometheus wants it, and no exponents.
        let _ = write!(out, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn samples_are_grouped_and_escaped() {
        let mut out = Exposition::new();
        out.sample(&names::SITE_ONLINE, &["a", "h\"\\\n", "r"], 1.0);
        out.sample(&names::SITES_MANAGED, &["h", "r"], 2.0);
        out.sample(&names::SITE_ONLINE, &["b", "h", "r"], 0.0);
        let mut text = String::new();
        out.write(&mut text);
        let lines: Vec<_> = text.lines().filter(|l| !l.starts_with("# HELP")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE grey_edge_site_online gauge",
                r#"grey_edge_site_online{site_id="a",hub="h\"\\\n",region="r"} 1"#,
                r#"grey_edge_site_online{site_id="b",hub="h",region="r"} 0"#,
                "# TYPE grey_edge_sites_managed gauge",
                r#"grey_edge_sites_managed{hub="h",region="r"} 2"#,
            ]
        );
    }

    #[test]
    fn histograms_are_cumulative() {
        let mut out = Exposition::new();
        out.histogram("h".into(), "", &[], &[0.1, 1.0], &[3, 0, 2], 7.5);
        let mut text = String::new();
        out.write(&mut text);
        assert_eq!(
            text,
            "# TYPE h histogram\nh_bucket{le=\"0.1\"} 3\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 7.5\nh_count 5\n"
        );
    }
}
