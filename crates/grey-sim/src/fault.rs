//! What can go wrong in a run, by kind, and how often it did.

use std::fmt;
use std::ops::AddAssign;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault, or a rare path that faults are there to provoke.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// The name in tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A message between members was lost.
    MessageLost = "raft message lost",
    /// A message between members arrived twice.
    MessageRepeated = "raft message repeated",
    /// A message between members overtook an earlier one.
    MessageReordered = "raft message reordered",
    /// A message between members was held up for longer than an election.
    MessageDelayed = "raft message late",
    /// An uplink connection was cut.
    StreamCut = "uplink cut",
    /// A cut connection ended within a frame.
    MidFrameCut = "uplink cut within a frame",
    /// Sites could not reach hub members.
    PartitionSiteHub = "partition site-hub",
    /// Hub members could not reach each other.
    PartitionHubHub = "partition hub-hub",
    /// Hub members could not reach coordinator members.
    PartitionHubCoordinator = "partition hub-coordinator",
    /// Coordinator members could not reach each other.
    PartitionCoordinators = "partition coordinator-coordinator",
    /// Messages passed in one direction only.
    PartitionOneWay = "partition in one direction",
    /// A site lost power.
    CrashSite = "power loss of a site",
    /// A hub member lost power.
    CrashHub = "power loss of a hub member",
    /// A coordinator member lost power.
    CrashCoordinator = "power loss of a coordinator",
    /// Power went between two changes of a disk.
    PowerOffMidway = "power loss within an operation",
    /// A node was stopped in order: it writes a checkpoint, a leader hands over first.
    OrderlyStop = "orderly stop",
    /// The rules of a site changed.
    RulesChanged = "rules of a site changed",
    /// A process was killed; its writes reached the disk.
    Kill = "process killed",
    /// A power loss lost sectors that were not synced.
    SectorLost = "unsynced sector lost",
    /// A power loss kept some unsynced sectors of a file and lost others, or cut its length.
    WriteTorn = "unsynced write torn",
    /// A power loss lost a create, rename or remove.
    NameLost = "unsynced name lost",
    /// A write was refused for want of space.
    DiskFull = "write on a full disk",
    /// A sync failed.
    SyncFailed = "sync failed",
    /// A site's clock stepped back.
    ClockBack = "clock stepped back",
    /// A site's clock stepped forward.
    ClockForward = "clock stepped forward",
    /// A member's disk was wiped.
    DiskWiped = "member's disk wiped",
    /// A bit of a member's files was flipped.
    LogDamaged = "member's file damaged",
    /// A member found its data damaged or gone and started over.
    MemberRejoined = "member rejoined after a loss",
    /// A device sent again what it had not seen acknowledged.
    DeviceResent = "device resend",
    /// A device's connection broke after the site had answered.
    AnswerLost = "acknowledgement to a device lost",
    /// A site refused a batch for want of room.
    Backpressure = "batch refused",
    /// Another member became leader.
    LeaderChanged = "leader change",
    /// A sender was sent elsewhere.
    Redirected = "redirect",
    /// A block arrived whose sequences were known.
    BlockResent = "block resent and recognised",
    /// A member got its state from the leader's checkpoint.
    CheckpointInstalled = "checkpoint installed from the leader",
    /// A member's log was shortened to what is needed.
    LogCompacted = "replicated log compacted",
    /// A site restarted from a checkpoint and replayed intake records.
    IntakeReplayed = "intake replayed",
    /// A site's disk was replaced by an older copy of it.
    RolledBack = "site restored from an old copy",
    /// A site began a new life because the hub knew more than its disk.
    NewLife = "new life of a rolled-back site",
}

/// How often each kind happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<u64>);

impl Default for Faults {
    fn default() -> Self {
        Self(vec![0; Fault::ALL.len()])
    }
}

impl Faults {
    /// Counts one.
    pub fn note(&mut self, fault: Fault) {
        self.add(fault, 1);
    }

    /// Counts several.
    pub fn add(&mut self, fault: Fault, count: u64) {
        self.0[fault as usize] += count;
    }

    /// How often a kind happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// The kinds that never happened.
    pub fn missing(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.of(*fault) == 0).collect()
    }
}

impl AddAssign<&Faults> for Faults {
    fn add_assign(&mut self, other: &Faults) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(f, "  {:40} {:>10}", fault.as_str(), self.of(*fault))?;
        }
        Ok(())
    }
}
