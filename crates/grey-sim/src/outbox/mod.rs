//! Histories of one site's outbox: a small disk that fills up, loses power, tears and
//! flips, a link that comes and goes, and the ladder that the outbox climbs meanwhile.
//!
//! The same seed gives the same history. In the end all is healed and drained, and the
//! hub must hold or account for every sequence exactly once, as it was first written or
//! as the ladder may change it (`judge`). See `docs/design/simulation.md`.

mod batch;
mod count;
mod damage;
mod folder;
mod hub;
mod judge;
mod plan;
mod site;

use grey_model::Lane;

pub use batch::{Batch, Summary};
pub use count::{Counts, Happening};

use crate::random::Random;
use damage::Damage;
use plan::{Plan, Trouble};
use site::Site;

/// Rounds in which a healed site must come to rest.
const REST_ROUNDS_MAX: u64 = 400;

/// A mistake made on purpose, to show that the checks notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The site acknowledges devices before their events are synced.
    Fsync,
    /// Folds are not synced before what they replace is given back.
    FoldSync,
    /// Blocks that were given to the link are folded like others.
    Lease,
}

/// What came of a history.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// What happened.
    pub counts: Counts,
    /// Readings acknowledged to devices.
    pub acknowledged: u64,
    /// Sequences at the hub.
    pub arrived: u64,
}

/// Runs the history of a seed. With `trace` it is told on the standard error.
pub fn run(seed: u64, broken: Option<Break>, trace: bool) -> Outcome {
    let mut random = Random::new(seed);
    let plan = Plan::of(&mut random, broken);
    let mut history = History {
        site: Site::new(&plan, &mut random),
        plan,
        random,
        counts: Counts::default(),
        damage: Damage::default(),
        trace,
    };
    let wrong = match history.tell() {
        Ok(()) => judge::judge(&history.site, &history.damage),
        Err(what) => vec![what],
    };
    let History { mut site, mut counts, .. } = history;
    site.end(&mut counts);
    let faults = site.disk.faults();
    let of_disk = [
        (Happening::SectorLost, faults.sectors_lost),
        (Happening::WriteTorn, faults.sectors_kept.min(faults.sectors_lost) + faults.lengths_lost),
        (Happening::NameLost, faults.creates_lost + faults.renames_lost + faults.removes_lost),
        (Happening::SyncFailed, faults.syncs_failed),
        (Happening::WriteFailed, faults.writes_failed),
        (Happening::DiskFull, faults.writes_without_space),
    ];
    of_disk.into_iter().for_each(|(what, count)| counts.add(what, count));
    let (acknowledged, arrived) = (site.acknowledged.len() as u64, site.hub.held.len() as u64);
    Outcome { seed, wrong, counts, acknowledged, arrived }
}

struct History {
    plan: Plan,
    random: Random,
    site: Site,
    counts: Counts,
    damage: Damage,
    trace: bool,
}

impl History {
    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>8} {}", self.site.now_ms % 100_000_000, what());
        }
    }

    fn tell(&mut self) -> Result<(), String> {
        self.site.start(&mut self.random, &mut self.counts)?;
        for _ in 0..self.plan.steps {
            self.site.now_ms += self.random.between(10..=1_500) as i64;
            let readings = self.random.below(self.plan.readings_max + 1);
            if readings > 0 {
                self.site.publish(readings);
            }
            if self.random.percent(self.plan.trouble_percent) {
                let trouble = self.random.pick(&self.plan.troubles);
                self.trouble(trouble)?;
            }
            self.round()?;
            if self.random.percent(self.plan.link_percent) {
                self.link(true)?;
            } else {
                self.counts.note(Happening::LinkDown);
                self.site.part();
            }
        }
        self.heal()
    }

    /// A round, and what becomes of a site whose disk fails in it.
    fn round(&mut self) -> Result<(), String> {
        match self.site.round(&mut self.random, &mut self.counts) {
            Ok(()) => Ok(()),
            Err(error) => self.fell(&error.to_string(), error.is_full()),
        }
    }

    /// The core ended with an error, for which there must be a reason.
    fn fell(&mut self, error: &str, is_full: bool) -> Result<(), String> {
        self.note(|| format!("the site ends: {error}"));
        let is_off = self.site.disk.is_off();
        let had_trouble = std::mem::take(&mut self.site.has_trouble);
        if is_off {
            self.counts.note(Happening::PowerOffMidway);
        } else if !had_trouble && !is_full {
            return Err(format!("the site ended by itself: {error}"));
        }
        self.site.end(&mut self.counts);
        self.site.disk.crash();
        self.counts.note(Happening::PowerLoss);
        self.site.start(&mut self.random, &mut self.counts)
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), String> {
        self.note(|| format!("{trouble:?}"));
        match trouble {
            Trouble::PowerLoss => {
                self.counts.note(Happening::PowerLoss);
                self.site.end(&mut self.counts);
                self.site.disk.crash();
                if self.random.percent(30) {
                    self.site.disk.power_off_after(self.random.below(12));
                }
                self.site.start(&mut self.random, &mut self.counts)
            }
            Trouble::PowerOffMidway => {
                self.site.disk.power_off_after(self.random.below(40));
                Ok(())
            }
            Trouble::Kill => {
                self.counts.note(Happening::Kill);
                self.site.end(&mut self.counts);
                self.site.disk.kill();
                self.site.start(&mut self.random, &mut self.counts)
            }
            Trouble::OrderlyStop => {
                self.counts.note(Happening::OrderlyStop);
                let now_ms = self.site.now_ms;
                let stopped = self.site.core.as_mut().map_or(Ok(()), |core| core.checkpoint(now_ms));
                if let Err(error) = stopped
                    && !error.is_full()
                {
                    return self.fell(&error.to_string(), false);
                }
                self.site.look();
                self.site.end(&mut self.counts);
                self.site.disk.kill();
                self.site.start(&mut self.random, &mut self.counts)
            }
            Trouble::SyncFailure => {
                self.site.has_trouble = true;
                self.site.disk.fail_next_sync(1);
                Ok(())
            }
            Trouble::WriteFailure => {
                self.site.has_trouble = true;
                self.site.disk.fail_next_write(1);
                Ok(())
            }
            Trouble::DiskFull => {
                let used: u64 = self.site.disk.files().iter().map(|(_, len)| len).sum();
                let room = self.random.pick(&[0, 2 << 10, 16 << 10, 64 << 10]);
                self.site.disk.set_capacity(Some(used + room));
                for _ in 0..self.random.between(1..=6) {
                    self.site.now_ms += 300;
                    self.round()?;
                }
                if self.random.percent(40) {
                    self.counts.note(Happening::PowerLoss);
                    self.site.end(&mut self.counts);
                    self.site.disk.crash();
                    self.site.disk.set_capacity(Some(used));
                    self.counts.note(Happening::OpenedFull);
                    self.site.start(&mut self.random, &mut self.counts)?;
                    self.round()?;
                }
                self.site.disk.set_capacity(None);
                Ok(())
            }
            Trouble::ClockStep => {
                let step = self.random.between(1..=3_600_000) as i64;
                let is_back = self.random.percent(50);
                self.counts.note(if is_back { Happening::ClockBack } else { Happening::ClockForward });
                self.site.now_ms += if is_back { -step } else { step };
                Ok(())
            }
            Trouble::LinkDown => {
                for _ in 0..self.random.between(3..=12) {
                    self.counts.note(Happening::LinkDown);
                    self.site.now_ms += 400;
                    let readings = self.plan.readings_max;
                    self.site.publish(readings);
                    self.round()?;
                }
                Ok(())
            }
            Trouble::Damage => {
                self.site.end(&mut self.counts);
                if self.random.percent(50) {
                    self.site.disk.crash();
                } else {
                    self.site.disk.kill();
                }
                for _ in 0..self.random.pick(&[1, 1, 1, 2]) {
                    let what = self.damage.strike(&self.site, &mut self.random, &mut self.counts);
                    self.note(|| what);
                }
                self.site.look_again();
                self.site.start(&mut self.random, &mut self.counts)
            }
        }
    }

    fn link(&mut self, is_lossy: bool) -> Result<(), String> {
        if let Err(error) = self.site.meet() {
            return self.fell(&error.to_string(), error.is_full());
        }
        self.site.look();
        for lane in Lane::ALL {
            let blocks = if is_lossy { self.random.below(12) } else { u64::MAX };
            self.site.send(lane, blocks, is_lossy, &mut self.random, &mut self.counts)?;
        }
        Ok(())
    }

    /// Ends all trouble and lets everything come to rest at the hub.
    fn heal(&mut self) -> Result<(), String> {
        self.note(|| "healed".into());
        self.site.disk.set_capacity(None);
        self.site.disk.fail_next_sync(0);
        self.site.disk.fail_next_write(0);
        self.site.disk.power_off_after(u64::MAX);
        for _ in 0..REST_ROUNDS_MAX {
            self.site.now_ms += 1_000;
            self.round()?;
            self.link(false)?;
            let Some(core) = &mut self.site.core else { return Err("the site is down".into()) };
            let is_drained = Lane::ALL.iter().all(|lane| {
                let state = core.queue().lane(*lane);
                let has_all = state.end_seq == core.next_seqs()[lane.index()];
                state.acked == state.end && has_all && core.pending_events(*lane) == 0
            });
            if self.site.is_answered() && is_drained {
                return Ok(());
            }
        }
        Err(format!("the site does not come to rest: {}", self.site.describe()))
    }
}
