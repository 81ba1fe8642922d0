//! The six comparisons of two numbers.

use std::cmp::Ordering;

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
    /// Every operator, longer signs before those that they begin with.
    pub const ALL: [Operator; 6] =
        [Self::GreaterOrEqual, Self::LessOrEqual, Self::Equal, Self::NotEqual, Self::Greater, Self::Less];

    /// The operator's sign.
    pub fn as_str(self) -> &'static str {
        OPERATORS.iter().find(|(_, op)| *op == self).map_or("?", |(sign, _)| sign)
    }

    /// The operator of a sign.
    pub fn parse(sign: &str) -> Option<Self> {
        OPERATORS.iter().find(|(s, _)| *s == sign).map(|(_, op)| *op)
    }

    /// Whether `value` compares to `limit` so. Neither may be NaN.
    #[inline]
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Equal => value == limit,
            Self::NotEqual => value != limit,
        }
    }

    /// Whether two things that are ordered so compare.
    pub(crate) fn orders(self, ordering: Ordering) -> bool {
        match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
        }
    }

    /// The operator with its sides exchanged: `a < b` is `b > a`.
    pub fn mirrored(self) -> Self {
        match self {
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            same => same,
        }
    }

    /// In words, between the two sides.
    pub fn words(self) -> &'static str {
        match self {
            Self::Greater => "is above",
            Self::GreaterOrEqual => "is at least",
            Self::Less => "is below",
            Self::LessOrEqual => "is at most",
            Self::Equal => "is",
            Self::NotEqual => "is not",
        }
    }
}
