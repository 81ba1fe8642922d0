//! The simple form that the documents use: `line-1/pressure <= -1.5 bar`.
//!
//! Names of streams often hold `-` and `/`, which CEL reads as operators. When a
//! whole text is a name, a comparison, a number and perhaps a unit, the name is
//! one stream, unless the schema knows its parts and not the whole. Everything
//! else is CEL, where such a name stands in backquotes.

use crate::operator::Operator;
use crate::parse::RESERVED;
use crate::scan::in_word;
use crate::schema::Schema;
use crate::unit::Unit;

/// Characters of the name, if the text is of the simple form and CEL would read its name as something else.
pub(crate) fn name_chars(text: &str, schema: &Schema) -> Option<usize> {
    let text = text.trim();
    let length = text.find(|c: char| c.is_whitespace() || "<>=!".contains(c))?;
    let (name, rest) = text.split_at(length);
    if !name.chars().all(in_name) || name.chars().all(in_word) || !name.ends_with(in_word) {
        return None;
    }
    let root = name.split('.').next().unwrap_or(name);
    if RESERVED.contains(&root) || !is_limit(rest.trim_start()) {
        return None;
    }
    // A chain of plain words is a stream and its field in CEL too.
    if name.split('.').all(|part| {
        part.is_ascii() && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && part.chars().all(in_word)
    }) {
        return None;
    }
    let known = schema.knows(name);
    let sum = !known && schema.streams.is_some() && parts_are_known(name, schema);
    let named = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '/') || known;
    (named && !sum).then(|| name.chars().count())
}

/// Whether a character may stand in a name of the simple form.
fn in_name(c: char) -> bool {
    in_word(c) || "-/.:#@$".contains(c)
}

/// Whether a text is a comparison, a number and perhaps a unit.
fn is_limit(rest: &str) -> bool {
    let Some(operator) = Operator::ALL.into_iter().find(|o| rest.starts_with(o.as_str())) else { return false };
    let limit = rest[operator.as_str().len()..].trim_start();
    let digits = limit.trim_start_matches(['-', '+']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    // The unit begins where the number ends; an exponent's letter belongs to the number only with digits behind it.
    let end = digits.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(digits.len());
    let unit = digits[end..].trim();
    let exponent = unit.strip_prefix(['e', 'E']).map(|e| e.trim_start_matches(['-', '+']));
    let after_exponent = exponent.map(|e| e.trim_start_matches(|c: char| c.is_ascii_digit()).trim());
    [Some(unit), after_exponent].into_iter().flatten().any(|u| u.is_empty() || Unit::parse(u).is_some())
        // A single word that is no unit is a mistake in the unit, not a longer condition.
        || unit.chars().all(|c| c.is_alphanumeric())
}

/// Whether every operand of a name read as arithmetic is a known stream; the last may be a number.
fn parts_are_known(name: &str, schema: &Schema) -> bool {
    let (first, last) = name.rsplit_once(['-', '/']).unwrap_or((name, name));
    first.split(['-', '/']).all(|part| schema.knows(part)) && (schema.knows(last) || last.parse::<f64>().is_ok())
}
