//! Why a sequence carries no event: the receipts that keep the books balanced.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::id::Seq;

/// The number of a rule in its site's rule set; 0 is the forwarding policy itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub u16);

impl RuleId {
    /// Not a rule of the site: a full outbox folded the reading into an aggregate.
    pub const ROLLED_UP: Self = Self(65_535);
    /// Not a rule of the site: a full outbox kept only a sample of the readings.
    pub const THINNED: Self = Self(65_534);

    /// True for numbers that no rule of a site may have.
    pub fn is_reserved(self) -> bool {
        self >= Self::THINNED
    }
}

/// What became of a sequence that travels without its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Filtered, sampled or folded into an aggregate by a rule.
    Reduced(RuleId),
    /// A device's resend of an event that was already accepted.
    Deduplicated,
    /// Dropped because the lane's policy allows it when the buffer is full.
    DroppedOverflow,
    /// Lost to damage of the medium, found and reported.
    DroppedDamage,
}

impl Disposition {
    /// The wire form: a kind byte and a rule number.
    pub fn to_wire(self) -> (u8, u16) {
        match self {
            Self::Reduced(rule) => (0, rule.0),
            Self::Deduplicated => (1, 0),
            Self::DroppedOverflow => (2, 0),
            Self::DroppedDamage => (3, 0),
        }
    }

    /// The inverse of [`Disposition::to_wire`]; `None` for an unknown kind.
    pub fn from_wire(kind: u8, rule: u16) -> Option<Self> {
        Some(match kind {
            0 => Self::Reduced(RuleId(rule)),
            1 => Self::Deduplicated,
            2 => Self::DroppedOverflow,
            3 => Self::DroppedDamage,
            _ => return None,
        })
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reduced(RuleId::ROLLED_UP) => f.write_str("rolled up on overflow"),
            Self::Reduced(RuleId::THINNED) => f.write_str("sampled on overflow"),
            Self::Reduced(RuleId(rule)) => write!(f, "reduced by rule {rule}"),
            Self::Deduplicated => f.write_str("deduplicated"),
            Self::DroppedOverflow => f.write_str("dropped: buffer full"),
            Self::DroppedDamage => f.write_str("dropped: damaged on disk"),
        }
    }
}

/// A run of sequences that share one disposition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The sequences, end exclusive.
    pub range: Range<Seq>,
    /// What became of them.
    pub disposition: Disposition,
}

impl Account {
    /// How many sequences the run covers.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// True for a run of no sequences.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_rules_say_what_happened_and_survive_the_wire() {
        let cases = [
            (RuleId(7), "reduced by rule 7", false),
            (RuleId::THINNED, "sampled on overflow", true),
            (RuleId::ROLLED_UP, "rolled up on overflow", true),
        ];
        for (rule, text, reserved) in cases {
            let disposition = Disposition::Reduced(rule);
            let (kind, number) = disposition.to_wire();
            assert_eq!(Disposition::from_wire(kind, number), Some(disposition));
            assert_eq!((disposition.to_string().as_str(), rule.is_reserved()), (text, reserved));
        }
    }
}
