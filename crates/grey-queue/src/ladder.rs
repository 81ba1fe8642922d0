//! The ladder: how full the outbox is, in five levels with hysteresis.
//!
//! Pure: it is told what is used and answers with a [`Step`]. What a level does to
//! stored blocks and to new events stands in `docs/design/outbox.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A level is left when usage is this many points of a hundred below where it is entered,
/// so that usage around a limit does not flap.
pub const HYSTERESIS_PERCENT: u64 = 5;

/// How full the outbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Below 70 %: nothing is done to stored blocks but joining small ones.
    #[default]
    Normal,
    /// From 70 %: blocks are packed, without loss, and should be sent at once.
    Warning,
    /// From 85 %: readings of lanes that may lose are thinned, stored and new ones.
    Critical,
    /// From 95 %: stored readings of these lanes are rolled up into aggregates.
    Emergency,
    /// From 100 %, or with a full disk: the policy of each lane decides.
    Overflow,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Level; 5] = [Self::Normal, Self::Warning, Self::Critical, Self::Emergency, Self::Overflow];

    /// Usage from which the level is entered, in percent of the limit.
    pub fn percent(self) -> u64 {
        [0, 70, 85, 95, 100][self as usize]
    }

    /// The name used in status, metrics and receipts.
    pub fn as_str(self) -> &'static str {
        ["normal", "warning", "critical", "emergency", "overflow"][self as usize]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The level before.
    pub from: Level,
    /// The level from now on.
    pub to: Level,
    /// Bytes used when it changed.
    pub used: u64,
    /// The limit in bytes.
    pub limit: u64,
}

/// The level that usage has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ladder {
    level: Level,
}

impl Ladder {
    /// Where it stands.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes note of usage. A full disk counts as 100 %, whatever is used.
    ///
    /// Several levels may be climbed or descended in one step.
    pub fn observe(&mut self, used: u64, limit: u64, disk_full: bool) -> Option<Step> {
        let reaches = |percent: u64| {
            percent == 0 || disk_full || u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
        };
        let entered = Level::ALL.into_iter().rfind(|level| reaches(level.percent())).unwrap_or_default();
        let held = Level::ALL
            .into_iter()
            .rfind(|level| *level <= self.level && reaches(level.percent().saturating_sub(HYSTERESIS_PERCENT)));
        let to = entered.max(held.unwrap_or_default());
        if to == self.level {
            return None;
        }
        let step = Step { from: self.level, to, used, limit };
        self.level = to;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn levels_are_entered_and_left_where_the_table_says() {
        let mut ladder = Ladder::default();
        let mut at = |percent: u64| {
            ladder.observe(percent, 100, false);
            ladder.level()
        };
        use Level::{Critical, Emergency, Normal, Overflow, Warning};
        let up = [(69, Normal), (70, Warning), (84, Warning), (85, Critical), (95, Emergency), (99, Emergency)];
        let down = [(100, Overflow), (95, Overflow), (94, Emergency), (90, Emergency), (89, Critical), (80, Critical)];
        let rest = [(79, Warning), (65, Warning), (64, Normal), (101, Overflow), (10, Normal)];
        for (percent, level) in up.into_iter().chain(down).chain(rest) {
            assert_eq!(at(percent), level, "{percent} %");
        }
    }

    #[test]
    fn a_full_disk_is_a_full_outbox() {
        let mut ladder = Ladder::default();
        let step = ladder.observe(1, 100, true);
        assert_eq!(step, Some(Step { from: Level::Normal, to: Level::Overflow, used: 1, limit: 100 }));
        assert_eq!(ladder.observe(1, 100, true), None);
        assert_eq!(ladder.observe(1, 100, false).map(|step| step.to), Some(Level::Normal));
    }

    proptest! {
        /// Steps join up, and no level is held that usage has left by more than the hysteresis.
        #[test]
        fn steps_tell_the_whole_way(usage in prop::collection::vec((0_u64..130, any::<bool>()), 1..60)) {
            let mut ladder = Ladder::default();
            let mut told = Level::Normal;
            for (used, full) in usage {
                if let Some(step) = ladder.observe(used, 100, full && used % 7 == 0) {
                    prop_assert_eq!(step.from, told);
                    prop_assert_ne!(step.to, told);
                    told = step.to;
                }
                prop_assert_eq!(ladder.level(), told);
                let disk_full = full && used % 7 == 0;
                prop_assert!(disk_full || used + HYSTERESIS_PERCENT >= told.percent());
                prop_assert!(told == Level::Overflow || used < 100);
            }
        }
    }
}
