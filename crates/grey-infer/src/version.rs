//! The order of a model's versions, after semantic versioning's: numbers
//! compare as numbers, a pre-release comes before its release. Shorter forms
//! such as `2` are common for models and mean `2.0.0`.

use std::cmp::Ordering;
use std::fmt;

/// Longest version in bytes.
const VERSION_BYTES_MAX: usize = 64;
/// Most numbers of a version.
const NUMBERS_MAX: usize = 4;

/// A version: up to four numbers with points between, and a pre-release after a hyphen, for example `2`, `1.10.3`,
/// `2.0-rc.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; NUMBERS_MAX],
    /// Parts of the pre-release; empty for a release.
    pre: Vec<String>,
    text: String,
}

impl Version {
    /// Reads a version.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > VERSION_BYTES_MAX {
            return None;
        }
        let (numbers_text, pre) = match text.split_once('-') {
            None => (text, Vec::new()),
            Some((numbers, pre)) => (numbers, pre.split('.').map(str::to_owned).collect()),
        };
        let pre_fits = |part: &String| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let mut numbers = [0; NUMBERS_MAX];
        for (i, part) in numbers_text.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            *numbers.get_mut(i).filter(|_| digits)? = part.parse().ok()?;
        }
        pre.iter().all(pre_fits).then(|| Self { numbers, pre, text: text.to_owned() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let release = self.pre.is_empty().cmp(&other.pre.is_empty());
        let parts = || {
            let pairs = self.pre.iter().zip(&other.pre);
            let first = pairs.map(|(a, b)| compare_part(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
        };
        // The text last, so that `2` and `2.0`, which are equal versions, still have one order.
        self.numbers.cmp(&other.numbers).then(release).then_with(parts).then_with(|| self.text.cmp(&other.text))
    }
}

/// Numbers before words, numbers as numbers.
fn compare_part(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

/// Whether `version` meets a requirement: parts with commas between, each one of `>=`, `>`, `<=`, `<`, `=` and a
/// version. Nothing when the requirement cannot be read.
pub(crate) fn meets(requirement: &str, version: &Version) -> Option<bool> {
    let mut met = true;
    for part in requirement.split(',') {
        let part = part.trim();
        // Two characters before one, or `>=` would be read as `>`.
        let (operator, rest) = [">=", "<=", ">", "<", "="]
            .into_iter()
            .find_map(|operator| Some((operator, part.strip_prefix(operator)?)))?;
        let limit = Version::parse(rest.trim())?;
        let order = version.numbers.cmp(&limit.numbers);
        met &= match operator {
            ">=" => order.is_ge(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            _ => order.is_eq(),
        };
    }
    Some(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn versions_have_the_order_of_semantic_versioning() {
        let rising =
            ["0.9", "1-alpha", "1-alpha.1", "1-alpha.2", "1-alpha.10", "1-beta", "1", "1.2", "1.10", "2", "10"];
        for pair in rising.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in
            ["", "v2", "1.", ".1", "1..2", "1.2.3.4.5", "1-", "1-a..b", "1/2", "-1", "1 ", "99999999999999999999"]
        {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert_eq!(Version::parse(&"1".repeat(65)), None);
    }

    #[test]
    fn requirements() {
        let here = version("0.3.1");
        for (text, met) in [(">=0.1", true), (">=0.1, <0.3", false), ("<1", true), ("=0.3.1", true), (">0.3.1", false)]
        {
            assert_eq!(meets(text, &here), Some(met), "{text}");
        }
        for text in ["", "0.1", ">=", "~1", ">=0.1,"] {
            assert_eq!(meets(text, &here), None, "{text:?}");
        }
    }
}
