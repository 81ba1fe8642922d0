//! What happened in histories of an outbox, by kind, and how often.

use std::fmt;
use std::ops::AddAssign;

use grey_queue::Level;

macro_rules! happenings {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A fault, an action of the outbox, or a rare path that faults are there to provoke.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Happening { $($(#[$doc])* $name,)* }

        impl Happening {
            /// Every kind.
            pub const ALL: &[Happening] = &[$(Happening::$name,)*];

            /// The name in tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Happening::$name => $text,)* }
            }
        }
    };
}

happenings! {
    /// The site lost power.
    PowerLoss = "power loss",
    /// Power went between two changes of the disk.
    PowerOffMidway = "power loss within an operation",
    /// Power went while the directory was being opened.
    PowerOffOpening = "power loss while opening",
    /// Power went within a fold.
    PowerOffFolding = "power loss within a fold",
    /// The process was killed.
    Kill = "process killed",
    /// It was stopped in order.
    OrderlyStop = "orderly stop",
    /// A power loss lost unsynced sectors.
    SectorLost = "unsynced sector lost",
    /// A power loss tore an unsynced write.
    WriteTorn = "unsynced write torn",
    /// A power loss lost an unsynced create, rename or remove.
    NameLost = "unsynced name lost",
    /// A sync failed.
    SyncFailed = "sync failed",
    /// A write failed.
    WriteFailed = "write failed",
    /// A write found the disk full.
    DiskFull = "write on a full disk (ENOSPC)",
    /// The site was started on a full disk.
    OpenedFull = "opened on a full disk",
    /// The clock stepped back.
    ClockBack = "clock stepped back",
    /// The clock stepped forward.
    ClockForward = "clock stepped forward",
    /// A bit was flipped.
    Flip = "bit flipped",
    /// A file was cut.
    Cut = "file cut",
    /// A file was removed.
    Removed = "file removed",
    /// A stretch of a file was overwritten with zeros.
    Zeroed = "stretch zeroed",
    /// The hub could not be reached.
    LinkDown = "link down",
    /// A block arrived and its acknowledgement did not.
    AckLost = "acknowledgement lost (in doubt)",
    /// A block was given out and did not arrive.
    BlockLost = "block lost on its way",
    /// A block arrived whose sequences were known.
    BlockResent = "block resent and recognised",
    /// A device sent again what it had not seen acknowledged.
    DeviceResent = "device resend",
    /// A batch was refused for want of room.
    Refused = "batch refused",
    /// Intake records were replayed.
    Replayed = "intake replayed",
    /// The level was raised to warning.
    ToWarning = "ladder: to warning",
    /// The level was raised to critical.
    ToCritical = "ladder: to critical",
    /// The level was raised to emergency.
    ToEmergency = "ladder: to emergency",
    /// The level was raised to overflow.
    ToOverflow = "ladder: to overflow",
    /// The level fell.
    Down = "ladder: down",
    /// New readings were sampled.
    Sampled = "ladder: new reading sampled out",
    /// Blocks were packed.
    Packed = "fold: packed",
    /// Blocks were thinned.
    Thinned = "fold: thinned",
    /// Blocks were rolled up.
    Rolled = "fold: rolled up",
    /// Blocks were dropped.
    Dropped = "fold: dropped oldest",
    /// New events were dropped.
    DroppedNewest = "ladder: new event dropped",
    /// A fold was not taken over: the lane had changed, or the disk was full.
    FoldNotTaken = "fold: not taken over",
    /// The site accounted for damage.
    DamageTold = "damage accounted for",
}

impl Happening {
    /// A change of level.
    pub(crate) fn of_step(from: Level, to: Level) -> Self {
        match to {
            _ if to < from => Self::Down,
            Level::Normal => Self::Down,
            Level::Warning => Self::ToWarning,
            Level::Critical => Self::ToCritical,
            Level::Emergency => Self::ToEmergency,
            Level::Overflow => Self::ToOverflow,
        }
    }
}

/// How often each kind happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(Vec<u64>);

impl Default for Counts {
    fn default() -> Self {
        Self(vec![0; Happening::ALL.len()])
    }
}

impl Counts {
    /// Counts one.
    pub fn note(&mut self, what: Happening) {
        self.add(what, 1);
    }

    /// Counts several.
    pub fn add(&mut self, what: Happening, count: u64) {
        self.0[what as usize] += count;
    }

    /// How often a kind happened.
    pub fn of(&self, what: Happening) -> u64 {
        self.0[what as usize]
    }

    /// The kinds that never happened.
    pub fn missing(&self) -> Vec<Happening> {
        Happening::ALL.iter().copied().filter(|what| self.of(*what) == 0).collect()
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Happening::ALL.iter().try_for_each(|what| writeln!(f, "  {:40} {:>10}", what.as_str(), self.of(*what)))
    }
}
