//! What a seed stands for: how large the federation is, how its parts are
//! set, and which faults it meets.

use std::ops::Range;
use std::sync::Arc;

use grey_config::{Decoder, Node, Setting};
use grey_rules::{Forward, NoModels, RuleSet, RuleSpec, Rules};

use crate::random::Random;

/// A mistake that a run can be told to make, to show that the checks notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The coordinator forgets which sequences it has when it restarts.
    Dedup,
    /// The sites acknowledge their devices before the events are synced.
    Fsync,
}

/// Kinds of trouble that a run draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    CutStream,
    Partition,
    PowerLoss,
    PowerOffMidway,
    Kill,
    Storm,
    DiskFull,
    SyncFailure,
    ClockStep,
    DiskDamage,
    OrderlyRestart,
    RulesChange,
}

const TROUBLES: [(Trouble, u64); 12] = [
    (Trouble::CutStream, 16),
    (Trouble::Partition, 10),
    (Trouble::PowerLoss, 12),
    (Trouble::PowerOffMidway, 12),
    (Trouble::Kill, 6),
    (Trouble::Storm, 6),
    (Trouble::DiskFull, 6),
    (Trouble::SyncFailure, 6),
    (Trouble::ClockStep, 6),
    (Trouble::DiskDamage, 4),
    (Trouble::OrderlyRestart, 4),
    (Trouble::RulesChange, 3),
];

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) sites: usize,
    pub(crate) hubs: usize,
    pub(crate) coordinators: usize,
    pub(crate) devices_per_site: Range<u64>,
    pub(crate) events_per_device: Range<u64>,
    /// The rules that a site begins with, and others that it may change to.
    pub(crate) rules: [Arc<RuleSet>; 3],
    /// A site is restored from an older copy of its disk, once all is at rest.
    pub(crate) rolls_back: bool,
    /// Virtual time with faults.
    pub(crate) fault_ms: u64,
    /// Pause between two troubles, at most.
    pub(crate) trouble_gap_ms: u64,
    /// The troubles of this run, each as often as its weight says.
    pub(crate) troubles: Vec<Trouble>,
    /// Bytes that the outbox of a site takes before producers must wait.
    pub(crate) outbox_bytes_max: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) block_events_max: u32,
    /// Entries between two checkpoints of a member.
    pub(crate) checkpoint_entries: u64,
    pub(crate) broken: Option<Break>,
}

impl Plan {
    pub(crate) fn of(random: &mut Random, broken: Option<Break>) -> Self {
        let rules = [(); 3].map(|()| {
            let forward = random.pick(&[Forward::Raw, Forward::Raw, Forward::Aggregates, Forward::Anomalies]);
            let action = random.pick(&["local_alert", "flag_and_upload"]);
            let interval = random.pick(&["1m", "1m", "2s"]);
            Arc::new(rules(action, interval, forward))
        });
        // One run in eight is long.
        let (fault_ms, events_per_device) =
            if random.percent(12) { (20_000..=30_000, 80..160) } else { (4_000..=9_000, 8..40) };
        // Each run meets some kinds of trouble only: rare combinations come up more often so.
        let mut troubles = Vec::new();
        for (trouble, weight) in TROUBLES {
            if random.percent(65) {
                troubles.extend(std::iter::repeat_n(trouble, weight as usize));
            }
        }
        if troubles.is_empty() {
            troubles.push(Trouble::PowerLoss);
        }
        let mut plan = Self {
            sites: random.between(1..=3) as usize,
            hubs: 3,
            coordinators: random.pick(&[1, 3]),
            devices_per_site: 2..4,
            events_per_device,
            rules,
            rolls_back: random.percent(15),
            fault_ms: random.between(fault_ms),
            trouble_gap_ms: random.pick(&[150, 300, 700]),
            troubles,
            // The lease takes 32 KiB of it.
            outbox_bytes_max: random.pick(&[64 << 10, 96 << 10, 1 << 20]),
            segment_bytes: random.pick(&[2 << 10, 8 << 10]),
            block_events_max: random.pick(&[4, 16, 4096]),
            checkpoint_entries: random.pick(&[5, 15, 40]),
            broken,
        };
        match broken {
            Some(Break::Dedup) => plan.coordinators = 1,
            Some(Break::Fsync) => plan.troubles.push(Trouble::PowerLoss),
            None => {}
        }
        plan
    }
}

fn rules(action: &str, interval: &str, forward: Forward) -> RuleSet {
    let yaml = format!(
        "[{{type: threshold, condition: temperature > 85°C, action: {action}}}, \
          {{type: aggregate, interval: {interval}, fields: [avg, min, max, count]}}]"
    );
    let node = Node::from_yaml(&yaml).expect("fixed text");
    let mut decoder = Decoder::new("rules");
    let specs: Vec<RuleSpec> = Setting::decode(&node, &mut decoder).expect("fixed rules");
    RuleSet::compile(&Rules::new(specs, forward), &NoModels).expect("fixed rules")
}
