//! The name that was probably meant.

/// The candidate with the fewest edits, if they are few for its length.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX).flat_map(char::to_lowercase).collect();
    let edits_max = 1 + name.len() / 4;
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.chars().take(NAME_CHARS_MAX).flat_map(char::to_lowercase).collect();
            let edits = if name.len().abs_diff(other.len()) > edits_max { usize::MAX } else { edits(&name, &other) };
            (edits <= edits_max && edits < other.len()).then_some((edits, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Longer names are compared by their beginning: the work is their product.
const NAME_CHARS_MAX: usize = 64;

/// Levenshtein's distance, one row at a time.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_edits_are_a_suggestion() {
        let names = ["temperature", "pressure", "flow"];
        assert_eq!(nearest("temprature", names), Some("temperature"));
        assert_eq!(nearest("Pressure", names), Some("pressure"));
        assert_eq!(nearest("flo", names), Some("flow"));
        assert_eq!(nearest("vibration", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(edits(&['a', 'b'], &['b']), 1);
    }
}
