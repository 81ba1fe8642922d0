//! What a seed decides about a history before it begins.

use grey_queue::OnFull;

use super::Break;
use crate::random::Random;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    PowerLoss,
    PowerOffMidway,
    Kill,
    OrderlyStop,
    SyncFailure,
    WriteFailure,
    DiskFull,
    ClockStep,
    LinkDown,
    Damage,
}

const TROUBLES: [(Trouble, u64); 10] = [
    (Trouble::PowerLoss, 8),
    (Trouble::PowerOffMidway, 14),
    (Trouble::Kill, 5),
    (Trouble::OrderlyStop, 4),
    (Trouble::SyncFailure, 4),
    (Trouble::WriteFailure, 3),
    (Trouble::DiskFull, 8),
    (Trouble::ClockStep, 5),
    (Trouble::LinkDown, 12),
    (Trouble::Damage, 0),
];

/// One history.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) steps: u64,
    /// Each kind as often as its weight says.
    pub(crate) troubles: Vec<Trouble>,
    /// A trouble in so many of a hundred steps.
    pub(crate) trouble_percent: u64,
    pub(crate) readings_max: u64,
    pub(crate) outbox_bytes_max: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) block_events_max: u32,
    pub(crate) on_full: [OnFull; 3],
    pub(crate) intake_retention_ms: i64,
    pub(crate) checkpoint_interval_ms: i64,
    /// The link is up in so many of a hundred steps when nothing is wrong with it.
    pub(crate) link_percent: u64,
    pub(crate) broken: Option<Break>,
}

impl Plan {
    pub(crate) fn of(random: &mut Random, broken: Option<Break>) -> Self {
        // Two histories in five have damage: it makes the checks weaker, so the others have none.
        let is_damaged = random.percent(40) && broken.is_none();
        let mut troubles = Vec::new();
        for (trouble, weight) in TROUBLES {
            if random.percent(70) {
                troubles.extend(std::iter::repeat_n(trouble, weight as usize));
            }
        }
        if is_damaged {
            troubles.extend([Trouble::Damage; 12]);
        }
        match broken {
            Some(Break::Fsync | Break::FoldSync) => troubles.extend([Trouble::PowerLoss; 30]),
            Some(Break::Lease) => troubles.extend([Trouble::LinkDown; 10]),
            None => {}
        }
        if troubles.is_empty() {
            troubles.push(Trouble::PowerLoss);
        }
        let policies = [OnFull::Block, OnFull::DropOldest, OnFull::DropNewest];
        Self {
            steps: random.between(40..=120),
            troubles,
            trouble_percent: random.pick(&[5, 12, 25]),
            readings_max: random.pick(&[20, 60, 160]),
            outbox_bytes_max: random.pick(&[80 << 10, 128 << 10, 256 << 10]),
            reserve_bytes: random.pick(&[0, 32 << 10, 64 << 10]),
            segment_bytes: random.pick(&[1 << 10, 4 << 10, 16 << 10]),
            block_events_max: random.pick(&[8, 32, 4_096]),
            on_full: [
                OnFull::Block,
                random.pick(&policies),
                random.pick(&[OnFull::DropOldest, OnFull::DropOldest, OnFull::DropNewest, OnFull::Block]),
            ],
            intake_retention_ms: random.pick(&[0, 2_000, 20_000]),
            checkpoint_interval_ms: random.pick(&[500, 2_000, 8_000]),
            link_percent: random.pick(&[10, 40, 80]),
            broken,
        }
    }
}
