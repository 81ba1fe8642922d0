//! The faults of a run: what is done to the federation, and how it ends.

use std::path::Path;

use grey_disk::SimDisk;

use crate::fault::Fault;
use crate::net::{Ending, Event, Place, Weather};
use crate::plan::Trouble;
use crate::world::World;

impl World {
    /// Does one thing to the federation.
    pub(crate) fn make_trouble(&mut self) -> Result<(), String> {
        let trouble = self.net.random.pick(&self.plan.troubles);
        match trouble {
            Trouble::CutStream => self.cut_stream(),
            Trouble::Partition => self.partition(),
            Trouble::PowerLoss => {
                let place = self.some_place();
                if self.is_up(place) {
                    self.note_crash(place);
                    self.net.note(|| format!("power loss at {}", place.0));
                    self.end_process(place, true);
                }
            }
            Trouble::PowerOffMidway => {
                let place = self.some_place();
                if self.is_up(place) {
                    self.note_crash(place);
                    let changes = self.net.random.below(40);
                    self.disk(place).power_off_after(changes);
                }
            }
            Trouble::Kill => {
                let place = self.some_place();
                if self.is_up(place) {
                    self.net.faults.note(Fault::Kill);
                    self.end_process(place, false);
                }
            }
            Trouble::Storm => {
                let random = &mut self.net.random;
                self.net.weather = Weather {
                    loss_percent: random.pick(&[0, 5, 30]),
                    repeat_percent: random.pick(&[0, 5, 20]),
                    late_percent: random.pick(&[0, 2, 5]),
                    latency_ms: random.pick(&[(1, 4), (1, 40), (20, 150)]),
                    bytes_per_ms: random.pick(&[2, 20, 1_000]),
                };
                let lasts = self.net.random.between(300..=2_500);
                self.net.after(lasts, Event::Over(Ending::Storm));
            }
            Trouble::DiskFull => {
                let place = self.some_place();
                let disk = self.disk(place);
                let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
                disk.set_capacity(Some(used + self.net.random.below(3_000)));
                self.expect_failures(place);
                self.net.note(|| format!("disk of {} fills up", place.0));
                let lasts = self.net.random.between(200..=1_500);
                self.net.after(lasts, Event::Over(Ending::DiskFull(place)));
            }
            Trouble::SyncFailure => {
                let place = self.some_place();
                self.disk(place).fail_next_sync(1);
                self.expect_failures(place);
                self.net.note(|| format!("a sync of {} will fail", place.0));
            }
            Trouble::ClockStep => self.step_clock(),
            Trouble::DiskDamage => self.damage_disk(),
            Trouble::OrderlyRestart => return self.stop_in_order(),
            Trouble::RulesChange => {
                let site = self.net.random.below(self.plan.sites as u64) as usize;
                let rules = self.net.random.pick(&[0, 1, 2]);
                let rules = std::sync::Arc::clone(&self.plan.rules[rules]);
                let result = self.sites[site].set_rules(&mut self.net, rules).map_err(|error| format!("{error:?}"));
                self.survives(Place(site), result)?;
            }
        }
        Ok(())
    }

    /// As on SIGTERM: a checkpoint, and a leader hands over before.
    fn stop_in_order(&mut self) -> Result<(), String> {
        let place = self.some_place();
        if !self.is_up(place) {
            return Ok(());
        }
        self.net.faults.note(Fault::OrderlyStop);
        if !self.is_site(place) && self.member(place).hand_over() {
            let wait = self.net.random.between(50..=600);
            self.net.after(wait, Event::Over(Ending::HandOver(place)));
            return Ok(());
        }
        self.finish_stop(place)
    }

    fn finish_stop(&mut self, place: Place) -> Result<(), String> {
        let result = match self.is_site(place) {
            true => self.sites[place.0].stop(&self.net),
            false => self.member(place).stop(),
        };
        if self.survives(place, result)? {
            self.end_process(place, false);
        }
        Ok(())
    }

    /// A fault that lasts is over.
    pub(crate) fn end_trouble(&mut self, ending: Ending) -> Result<(), String> {
        match ending {
            Ending::HandOver(place) if self.is_up(place) => self.finish_stop(place)?,
            Ending::HandOver(_) => {}
            Ending::Partition(pairs) => self.net.join(&pairs),
            Ending::Storm => self.net.weather = Weather::FAIR,
            Ending::DiskFull(place) => self.disk(place).set_capacity(None),
        }
        Ok(())
    }

    /// Any node; each tier about as often as the others.
    fn some_place(&mut self) -> Place {
        let tier = match self.net.random.below(5) {
            0 | 1 => (0..self.plan.sites).map(Place).collect(),
            2 | 3 => self.hubs(),
            _ => self.coordinators(),
        };
        self.net.random.pick(&tier)
    }

    fn note_crash(&mut self, place: Place) {
        let fault = match () {
            () if self.is_site(place) => Fault::CrashSite,
            () if self.hubs().contains(&place) => Fault::CrashHub,
            () => Fault::CrashCoordinator,
        };
        self.net.faults.note(fault);
    }

    /// From here on the node's process may end by an error of its disk.
    fn expect_failures(&mut self, place: Place) {
        match self.is_site(place) {
            true => self.sites[place.0].has_trouble = true,
            false => self.member(place).has_trouble = true,
        }
    }

    fn cut_stream(&mut self) {
        let conns = self.net.open_conns();
        if !conns.is_empty() {
            let conn = self.net.random.pick(&conns);
            self.net.faults.note(Fault::StreamCut);
            self.net.cut_conn(conn);
        }
    }

    fn partition(&mut self) {
        let sites: Vec<Place> = (0..self.plan.sites).map(Place).collect();
        let (hubs, coordinators) = (self.hubs(), self.coordinators());
        let (fault, from, to) = match self.net.random.below(10) {
            0..=2 => (Fault::PartitionSiteHub, sites, hubs),
            3..=6 => (Fault::PartitionHubHub, hubs.clone(), hubs),
            7 if coordinators.len() > 1 => (Fault::PartitionCoordinators, coordinators.clone(), coordinators),
            _ => (Fault::PartitionHubCoordinator, hubs, coordinators),
        };
        // One node of either side is cut off, or all are.
        let from = if from == to || self.net.random.percent(50) { vec![self.net.random.pick(&from)] } else { from };
        let to = if from.len() > 1 && self.net.random.percent(50) { vec![self.net.random.pick(&to)] } else { to };
        let one_way = self.net.random.percent(20);
        let mut pairs = Vec::new();
        for a in &from {
            for b in to.iter().filter(|b| *b != a) {
                pairs.push((*a, *b));
                if !one_way {
                    pairs.push((*b, *a));
                }
            }
        }
        self.net.faults.note(fault);
        if one_way {
            self.net.faults.note(Fault::PartitionOneWay);
        }
        self.net.note(|| format!("{}: {pairs:?}", fault.as_str()));
        self.net.part(&pairs);
        let lasts = self.net.random.between(100..=2_500);
        self.net.after(lasts, Event::Over(Ending::Partition(pairs)));
    }

    fn step_clock(&mut self) {
        let site = self.net.random.below(self.plan.sites as u64) as usize;
        let size = self.net.random.pick(&[300, 5_000, 65_000, 4_000_000]);
        let step = self.net.random.between(1..=size) as i64;
        let back = self.net.random.percent(50);
        let held = &mut self.sites[site];
        held.skew_ms += if back { -step } else { step };
        held.skew_max_ms = held.skew_max_ms.max(held.skew_ms);
        self.net.faults.note(if back { Fault::ClockBack } else { Fault::ClockForward });
        self.net.note(|| format!("clock of site {} steps {}{step} ms", site + 1, if back { '-' } else { '+' }));
    }

    /// Wipes or damages the disk of one member of a group that can spare it: all others are whole.
    fn damage_disk(&mut self) {
        let group = usize::from(self.plan.coordinators > 1 && self.net.random.percent(25));
        let places = if group == 0 { self.hubs() } else { self.coordinators() };
        let is_whole = places.iter().all(|place| {
            let status = self.member(*place).core.as_ref().map(|core| core.status());
            status.is_some_and(|status| {
                matches!(status.role, grey_consensus::Role::Leader | grey_consensus::Role::Follower)
                    && status.leader.is_some()
            })
        });
        if !is_whole || places.iter().any(|place| self.member(*place).is_suspect) {
            return;
        }
        let place = self.net.random.pick(&places);
        let loses_power = self.net.random.percent(50);
        if self.net.random.percent(40) {
            self.end_process(place, loses_power);
            self.net.faults.note(Fault::DiskWiped);
            self.net.note(|| format!("disk of {} is wiped", place.0));
            let disk = SimDisk::new(self.net.random.next());
            let member = self.member(place);
            member.is_suspect = true;
            member.store.clear();
            let old = std::mem::replace(&mut member.disk, disk);
            self.old_disks.push(old);
            return;
        }
        let files = self.disk(place).files();
        let files: Vec<_> = files
            .into_iter()
            .filter(|(path, len)| *len > 0 && !path.contains("quarantine") && !path.ends_with(".tmp"))
            .collect();
        if files.is_empty() {
            return;
        }
        self.end_process(place, loses_power);
        let (path, _) = &files[self.net.random.below(files.len() as u64) as usize];
        let Some((_, len)) = self.disk(place).files().into_iter().find(|(name, _)| name == path) else { return };
        let (offset, bit) = (self.net.random.below(len.max(1)), self.net.random.below(8) as u8);
        self.member(place).is_suspect = true;
        if self.disk(place).flip(Path::new(path), offset, bit).is_ok() {
            self.net.faults.note(Fault::LogDamaged);
            self.net.note(|| format!("bit {bit} of byte {offset} of {path} of {} is flipped", place.0));
        }
    }
}
