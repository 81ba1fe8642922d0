//! A threshold as the documents write it: `temperature > 85°C`.

use std::fmt;

use grey_config::{Decoder, Json, Node, Setting, Value, json};

use crate::unit::Unit;

/// A comparison of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Longer spellings before those that they begin with.
const OPERATORS: [(&str, Operator); 6] = [
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

impl Operator {
    /// The operator's sign.
    pub fn as_str(self) -> &'static str {
        OPERATORS.iter().find(|(_, op)| *op == self).map_or("?", |(sign, _)| sign)
    }

    pub(crate) fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Equal => value == limit,
            Self::NotEqual => value != limit,
        }
    }
}

/// A condition over one stream: its name, a comparison, a limit, and the limit's unit if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    text: String,
    stream: String,
    operator: Operator,
    limit: f64,
    unit: Option<String>,
}

/// Why a text is no condition, and at which of its characters (from 0).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {}", offset + 1)]
pub struct ConditionError {
    /// Characters before the mistake.
    pub offset: usize,
    /// What is wrong.
    pub problem: String,
    /// What is allowed there.
    pub allowed: &'static str,
}

const OPERATORS_ALLOWED: &str = "one of >, >=, <, <=, ==, !=";

impl Condition {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let offset_of = |rest: &str| text[..text.len() - rest.len()].chars().count();
        let fail =
            |rest: &str, problem: String, allowed| Err(ConditionError { offset: offset_of(rest), problem, allowed });
        let start = text.trim_start();
        let name_len = start.find(|c: char| c.is_whitespace() || "<>=!".contains(c)).unwrap_or(start.len());
        let (stream, rest) = start.split_at(name_len);
        if stream.is_empty() {
            return fail(start, "the stream's name is missing".into(), "a condition such as temperature > 85°C");
        }
        let rest = rest.trim_start();
        let Some((sign, operator)) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)) else {
            let found = rest.chars().take(1).collect::<String>();
            let problem = match found.as_str() {
                "" => "the comparison is missing".into(),
                "=" => "a single = does not compare".into(),
                _ => format!("{found:?} does not compare"),
            };
            return fail(rest, problem, OPERATORS_ALLOWED);
        };
        let rest = rest[sign.len()..].trim_start();
        let number_len = number_len(rest);
        let Some(limit) = rest[..number_len].parse::<f64>().ok().filter(|n| n.is_finite()) else {
            return fail(rest, "the limit is not a number".into(), "a number such as 85 or -12.5");
        };
        let unit = rest[number_len..].trim();
        if !unit.is_empty() && Unit::parse(unit).is_none() {
            let at = rest[number_len..].trim_start();
            return fail(
                at,
                format!("the unit {unit:?} is unknown"),
                "a unit such as °C, °F, K, %, V, kW, mm/s, or none",
            );
        }
        Ok(Self {
            text: text.trim().into(),
            stream: stream.into(),
            operator: *operator,
            limit,
            unit: (!unit.is_empty()).then(|| unit.into()),
        })
    }

    /// The condition as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The stream that it watches.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// How the value compares to the limit.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The limit, in [`Condition::unit`].
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// The limit's unit.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }
}

/// Bytes of the number that a text starts with.
pub(crate) fn number_len(text: &str) -> usize {
    let digits = |from: usize| from + text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(text.starts_with(['-', '+']));
    let mut end = digits(sign);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let signed = end + 1 + usize::from(text[end + 1..].starts_with(['-', '+']));
        // Without digits behind it the letter belongs to the unit.
        if digits(signed) > signed {
            end = digits(signed);
        }
    }
    end
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Setting for Condition {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        match Self::parse(&text) {
            Ok(condition) => Some(condition),
            Err(error) => {
                let Value::Scalar(_) = &node.value else { return None };
                decoder.reject_within(node, error.offset, format!("in {text:?} {}", error.problem), error.allowed);
                None
            }
        }
    }

    fn render(&self) -> Node {
        Node::text(&self.text)
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "condition", "description": "a condition such as temperature > 85°C" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_condition() {
        let c = Condition::parse("temperature > 85°C").unwrap();
        assert_eq!(
            (c.stream(), c.operator(), c.limit(), c.unit()),
            ("temperature", Operator::Greater, 85.0, Some("°C"))
        );
    }

    #[test]
    fn spacing_signs_and_exponents() {
        for (text, stream, sign, limit, unit) in [
            ("t>85", "t", ">", 85.0, None),
            (" line-1/pressure  <=  -1.5 bar ", "line-1/pressure", "<=", -1.5, Some("bar")),
            ("state == 1", "state", "==", 1.0, None),
            ("x != .5%", "x", "!=", 0.5, Some("%")),
            ("x >= 1e3 V", "x", ">=", 1000.0, Some("V")),
            ("x < +2E-2", "x", "<", 0.02, None),
        ] {
            let c = Condition::parse(text).unwrap();
            assert_eq!((c.stream(), c.operator().as_str(), c.limit(), c.unit()), (stream, sign, limit, unit), "{text}");
        }
    }

    #[test]
    fn mistakes_point_at_their_character() {
        for (text, offset, problem) in [
            ("", 0, "name is missing"),
            ("> 85", 0, "name is missing"),
            ("temperature", 11, "comparison is missing"),
            ("temperature = 85", 12, "a single ="),
            ("température is 85", 12, "\"i\" does not compare"),
            ("temperature > hot", 14, "limit is not a number"),
            ("temperature > ", 14, "limit is not a number"),
            ("temperature > 85 bananas", 17, "unit \"bananas\" is unknown"),
            ("temperature > 85°C and x > 1", 16, "is unknown"),
            ("temperature > 1e999", 14, "not a number"),
            ("température >> 85", 13, "not a number"),
        ] {
            let error = Condition::parse(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn hostile_text_never_panics(text in ".{0,40}") {
            let _ = Condition::parse(&text);
        }
        #[test]
        fn near_misses_never_panic(text in "[a-b<>=! .0-9eE+°C-]{0,20}") {
            let _ = Condition::parse(&text);
        }
    }
}
