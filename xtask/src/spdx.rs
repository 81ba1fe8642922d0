//! Licence expressions (SPDX 2.3, annex D): enough to ask whether an allowed
//! choice exists. Crates also write the older `MIT/Apache-2.0`.

/// True when the expression can be satisfied with licences that `allowed` accepts.
/// A licence with an exception is asked for as `NAME WITH EXCEPTION`.
/// An expression that cannot be read is an error that names what is wrong.
pub(crate) fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let holds = either(&mut words, allowed)?;
    match words.next() {
        None => Ok(holds),
        Some(word) => Err(format!("{word:?} is not expected in {expression:?}")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut holds = both(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        holds |= both(words, allowed)?;
    }
    Ok(holds)
}

fn both(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut holds = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed)?;
    }
    Ok(holds)
}

fn one(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let holds = either(words, allowed)?;
            words.next_if_eq(&")").map(|_| holds).ok_or_else(|| "a parenthesis is not closed".to_owned())
        }
        None | Some(")" | "OR" | "AND" | "WITH") => Err("a licence is missing".to_owned()),
        Some(name) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => Ok(allowed(&format!("{name} WITH {exception}"))),
            None => Ok(allowed(name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_needs_one_and_a_sum_needs_all() {
        let allowed = |name: &str| matches!(name, "MIT" | "Zlib" | "Apache-2.0 WITH LLVM-exception");
        for (expression, want) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND Apache-2.0", false),
            ("(GPL-3.0-only OR MIT) AND Zlib", true),
            ("GPL-3.0-only OR MIT AND Zlib", true),
            ("GPL-3.0-only OR (MIT AND BSD-3-Clause)", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(satisfied(expression, &allowed), Ok(want), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for expression in ["", "MIT OR", "(MIT", "MIT Zlib", "OR MIT", "MIT)"] {
            assert!(satisfied(expression, &|_| true).is_err(), "{expression:?}");
        }
    }
}
