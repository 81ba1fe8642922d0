//! Did you mean: the nearest known word to an unknown one.

/// The candidate that differs from `word` by the fewest edits, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const WORD_CHARS_MAX: usize = 64;
    let fold = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = fold(word);
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    let (edits, candidate) = candidates.into_iter().map(|c| (distance(&word, &fold(c)), c)).min_by_key(|(d, _)| *d)?;
    let near = length.max(candidate.chars().count()).div_ceil(3);
    (edits <= near.min(4) && edits < length.max(2)).then_some(candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let keys = ["site_id", "hardware", "connectivity", "local_processing", "queue", "id"];
        for (typo, meant) in [
            ("site-id", "site_id"),
            ("siteid", "site_id"),
            ("conectivity", "connectivity"),
            ("local_procesing", "local_processing"),
            ("Queue", "queue"),
            ("queeu", "queue"),
        ] {
            assert_eq!(nearest(typo, keys), Some(meant), "{typo}");
        }
        for stranger in ["tls", "x", "zzzzzz", ""] {
            assert_eq!(nearest(stranger, keys), None, "{stranger}");
        }
        assert_eq!(distance("ab", "ba"), 1);
    }
}
