//! Receipts: what the outbox did to itself, said as events.

use std::fmt;
use std::ops::Range;

use grey_model::{Epoch, Event, Kind, Lane, Name, Quality, RuleId, Seq, SiteId, Stamp, Value};

use crate::ladder::Step;

/// Stream of the receipts for changes of level.
pub const LEVEL_STREAM: &str = "outbox/level";
/// Stream of the receipts for affected ranges.
pub const RANGE_STREAM: &str = "outbox/range";

/// Why a range of sequences does not hold what was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Every second reading of each series was evicted.
    ThinnedOnOverflow,
    /// Readings were folded into aggregates.
    RolledUp,
    /// Evicted.
    DroppedOverflow,
    /// Lost to damage of the medium.
    DroppedDamage,
}

impl Reason {
    /// The name used in receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThinnedOnOverflow => "thinned_on_overflow",
            Self::RolledUp => "rolled_up",
            Self::DroppedOverflow => "dropped_overflow",
            Self::DroppedDamage => "dropped_damage",
        }
    }

    /// The reserved rule that the accounts of such sequences name, where they name one.
    pub fn rule(self) -> Option<RuleId> {
        match self {
            Self::ThinnedOnOverflow => Some(RuleId::THINNED),
            Self::RolledUp => Some(RuleId::ROLLED_UP),
            Self::DroppedOverflow | Self::DroppedDamage => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a receipt is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptKind {
    /// The level changed.
    Step(Step),
    /// Sequences were affected.
    Range {
        /// The lane.
        lane: Lane,
        /// The life of the site.
        epoch: Epoch,
        /// The sequences; among them may be such that were not touched.
        sequences: Range<Seq>,
        /// What was done.
        reason: Reason,
        /// Events that are gone. Of a range lost to damage: its sequences, since nobody
        /// knows how many of them carried an event.
        events: u64,
        /// Aggregates that stand in for them.
        aggregates: u64,
    },
}

/// A receipt of the outbox, to be staged as an event of the critical lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The same for the same step or range, also when it is told again after a crash:
    /// the event's id, by which it is deduplicated.
    pub id: String,
    /// When it was told, Unix ms.
    pub at_ms: i64,
    /// What it is about.
    pub kind: ReceiptKind,
}

impl Receipt {
    /// The event: numbers as fields, names as attributes, the site as the device.
    pub fn into_event(self, site: &SiteId) -> Event {
        let attribute = |name: &str, value: &str| (Name::from(name), Name::from(value));
        let (stream, fields, attributes) = match &self.kind {
            ReceiptKind::Step(Step { from, to, used, limit }) => (
                LEVEL_STREAM,
                vec![("level", *to as u64), ("used", *used), ("limit", *limit)],
                vec![attribute("from", from.as_str()), attribute("to", to.as_str())],
            ),
            ReceiptKind::Range { lane, epoch, sequences, reason, events, aggregates } => (
                RANGE_STREAM,
                vec![
                    ("first", sequences.start),
                    ("last", sequences.end.saturating_sub(1)),
                    ("sequences", sequences.end.saturating_sub(sequences.start)),
                    ("events", *events),
                    ("aggregates", *aggregates),
                ],
                vec![
                    attribute("lane", lane.as_str()),
                    attribute("reason", reason.as_str()),
                    attribute("epoch", &epoch.0.to_string()),
                ],
            ),
        };
        Event {
            device: site.as_str().into(),
            stream: stream.into(),
            kind: Kind::Receipt,
            value: Value::Fields(fields.into_iter().map(|(name, n)| (Name::from(name), n as f64)).collect()),
            device_time_ms: self.at_ms,
            stamp: Stamp::default(),
            quality: Quality::Good,
            unit: None,
            id: Some(self.id.as_str().into()),
            attributes,
        }
    }
}
