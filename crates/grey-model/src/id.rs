//! Who and where: site ids, lanes, epochs, sequences and stamps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// Why a name was refused as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The name is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The name is longer than [`NAME_BYTES_MAX`].
    #[error("id of {0} bytes is longer than the limit of {NAME_BYTES_MAX}")]
    TooLong(usize),
    /// The name has a character outside letters, digits, `.`, `_`, `-` and `:`.
    #[error("id {0:?} may hold only letters, digits, '.', '_', '-' and ':'")]
    Character(String),
    /// The text names no lane.
    #[error("lane {0:?} is unknown, use critical, normal or bulk")]
    Lane(String),
}

/// The id of a site, hub or coordinator. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteId(Arc<str>);

impl SiteId {
    /// Checks and makes an id.
    pub fn new(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(IdError::TooLong(name.len()));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
        if !name.bytes().all(allowed) {
            return Err(IdError::Character(name.chars().take(64).collect()));
        }
        Ok(Self(name.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SiteId {
    type Error = IdError;
    fn try_from(name: String) -> Result<Self, IdError> {
        Self::new(&name)
    }
}

impl From<SiteId> for String {
    fn from(id: SiteId) -> Self {
        id.0.as_ref().into()
    }
}

impl FromStr for SiteId {
    type Err = IdError;
    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The priority class of everything that travels upward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Lane {
    /// Alerts, anomalies and receipts: sent first, never dropped by default.
    Critical = 0,
    /// Aggregates and ordinary state.
    Normal = 1,
    /// Raw readings.
    Bulk = 2,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Critical, Lane::Normal, Lane::Bulk];

    /// Position in arrays indexed by lane.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The lane of a wire byte.
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// The name used in configuration, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        ["critical", "normal", "bulk"][self.index()]
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = IdError;
    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|l| l.as_str() == name).ok_or_else(|| IdError::Lane(name.into()))
    }
}

/// Counts a site's lives: a restored or replaced disk starts a new one, so
/// that its sequences never collide with those of the life before. Made from
/// the wall clock in milliseconds when the data directory is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in one lane of one site's epoch. Starts at 0 and has no holes:
/// each sequence carries an event or an [`Account`](crate::Account) of why not.
pub type Seq = u64;

/// Names one numbered sequence of events: everything that is acknowledged,
/// deduplicated and balanced is so per stream key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    /// The site (or hub) where the sequence was given.
    pub site: SiteId,
    /// The life of that site.
    pub epoch: Epoch,
    /// The lane.
    pub lane: Lane,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.site, self.epoch, self.lane)
    }
}

/// A hybrid-logical-clock time with the uncertainty of the clock behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// 42 bits of Unix milliseconds, 22 bits of counter.
    pub hlc: u64,
    /// Half-width of the interval that true time lies in, in milliseconds.
    pub uncertainty_ms: u32,
}

impl Stamp {
    /// Bits of the logical counter below the milliseconds.
    pub const COUNTER_BITS: u32 = 22;

    /// The physical part in Unix milliseconds.
    pub fn unix_ms(self) -> i64 {
        (self.hlc >> Self::COUNTER_BITS) as i64
    }

    /// A stamp at a physical time with counter 0, for tests and bounds.
    pub fn at_unix_ms(ms: i64) -> Self {
        Self { hlc: (ms.max(0) as u64) << Self::COUNTER_BITS, uncertainty_ms: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_would_break_a_path_or_a_label() {
        assert_eq!(SiteId::new(""), Err(IdError::Empty));
        for bad in ["a/b", "a b", "ä", "a\n", "..\\x"] {
            assert!(matches!(SiteId::new(bad), Err(IdError::Character(_))), "{bad}");
        }
        assert!(matches!(SiteId::new(&"x".repeat(257)), Err(IdError::TooLong(257))));
        assert_eq!(SiteId::new("factory-us-west-015").unwrap().as_str(), "factory-us-west-015");
    }

    #[test]
    fn lanes_round_trip() {
        for lane in Lane::ALL {
            assert_eq!(lane.as_str().parse::<Lane>().unwrap(), lane);
            assert_eq!(Lane::from_u8(lane as u8), Some(lane));
        }
        assert_eq!(Lane::from_u8(3), None);
    }

    #[test]
    fn stamps_keep_their_milliseconds() {
        assert_eq!(Stamp::at_unix_ms(1_760_000_000_123).unix_ms(), 1_760_000_000_123);
    }
}
