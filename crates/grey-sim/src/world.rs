//! One run: builds the federation that a seed stands for, lets time pass, and
//! hands every event to the node that it concerns.

use std::collections::BTreeMap;

use grey_ledger::Role;

use crate::check;
use crate::device::{Device, Style};
use crate::fault::{Fault, Faults};
use crate::member::{Member, MemberError, addresses};
use crate::net::{End, Event, Net, Place, Weather};
use crate::plan::{Break, Plan};
use crate::random::Random;
use crate::site::{START_MS, Site};

/// One consensus tick.
pub(crate) const MEMBER_TICK_MS: u64 = 50;
/// How often a site looks at its timers.
pub(crate) const SITE_TICK_MS: u64 = 25;
/// A healed federation must be quiet after this much virtual time.
const QUIET_MS_MAX: u64 = 60_000;
/// A device sends again after this.
const RESEND_MS: u64 = 300;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What is wrong, most telling first; empty when nothing is.
    pub wrong: Vec<String>,
    /// Events of devices that sites promised to keep.
    pub promised: u64,
    /// Events at the coordinator, derived ones included.
    pub delivered: u64,
    /// Faults by kind.
    pub faults: Faults,
    /// Events of the simulation.
    pub steps: u64,
    /// Virtual time, ms.
    pub virtual_ms: u64,
    /// Virtual time from the end of all faults to rest, ms.
    pub quiet_ms: u64,
    /// Of everything that happened and of the final state: equal for equal seeds.
    pub digest: u64,
}

/// Runs one seed.
pub fn run(seed: u64, broken: Option<Break>, trace: bool) -> Outcome {
    let mut world = World::new(seed, broken, trace);
    let mut wrong = Vec::new();
    if let Err(what) = world.live() {
        wrong.push(format!("at {} ms, step {}: {what}", world.net.now, world.net.steps));
    }
    wrong.extend(check::state(&world));
    let (delivered, digest) = check::digest(&world);
    if trace {
        check::inventory(&world).iter().for_each(|line| println!("  {line}"));
    }
    world.collect_disk_faults();
    Outcome {
        seed,
        wrong,
        promised: world.sites.iter().map(|site| site.promised.len() as u64).sum(),
        delivered,
        steps: world.net.steps,
        virtual_ms: world.net.now,
        quiet_ms: world.net.now.saturating_sub(world.plan.fault_ms),
        digest,
        faults: world.net.faults,
    }
}

/// The federation.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) net: Net,
    pub(crate) sites: Vec<Site>,
    /// Hub members, then coordinator members.
    pub(crate) members: Vec<Member>,
    directory: BTreeMap<String, Place>,
    /// Faults happen.
    pub(crate) is_rough: bool,
    /// Disks that were replaced: their faults still count.
    pub(crate) old_disks: Vec<grey_disk::SimDisk>,
}

impl World {
    fn new(seed: u64, broken: Option<Break>, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::of(&mut random, broken);
        let mut net = Net::new(Random::new(random.next()), trace);
        net.note(|| format!("seed {seed}: {plan:?}"));
        let mut directory = BTreeMap::new();
        let hubs = addresses("hub", plan.hubs);
        let coordinators = addresses("coordinator", plan.coordinators);
        for (n, address) in hubs.iter().chain(&coordinators).enumerate() {
            directory.insert(address.clone(), Place(plan.sites + n));
        }
        let sites = (0..plan.sites)
            .map(|n| {
                let (least, most) = (plan.devices_per_site.start, plan.devices_per_site.end);
                let devices = (0..net.random.between(least..=most)).map(|d| {
                    let style = if net.random.percent(60) { Style::Ids } else { Style::Packets };
                    let events = net.random.between(plan.events_per_device.start..=plan.events_per_device.end);
                    Device::new(n, d as usize, style, events)
                });
                let devices = devices.collect();
                Site::new(n, &plan, &mut net, hubs.clone(), devices)
            })
            .collect();
        let tiers = [(Role::Forwards, plan.hubs), (Role::Keeps, plan.coordinators)];
        let members = tiers
            .into_iter()
            .flat_map(|(role, count)| (0..count).map(move |index| (role, index)))
            .map(|(role, index)| Member::new(&plan, &mut net, role, index))
            .collect();
        Self { plan, net, sites, members, directory, is_rough: true, old_disks: Vec::new() }
    }

    /// Places of the hub's and of the coordinator's members.
    pub(crate) fn hubs(&self) -> Vec<Place> {
        (self.plan.sites..self.plan.sites + self.plan.hubs).map(Place).collect()
    }

    pub(crate) fn coordinators(&self) -> Vec<Place> {
        let first = self.plan.sites + self.plan.hubs;
        (first..first + self.plan.coordinators).map(Place).collect()
    }

    pub(crate) fn is_site(&self, place: Place) -> bool {
        place.0 < self.plan.sites
    }

    pub(crate) fn member(&mut self, place: Place) -> &mut Member {
        &mut self.members[place.0 - self.plan.sites]
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.plan.sites + self.members.len()).map(Place)
    }

    /// From the first start to the quiet end.
    fn live(&mut self) -> Result<(), String> {
        for place in self.places() {
            let delay = self.net.random.between(0..=200);
            self.net.after(delay, Event::Start(place));
            let phase = self.net.random.below(MEMBER_TICK_MS);
            self.net.after(phase, Event::Tick(place));
        }
        for site in 0..self.sites.len() {
            for device in 0..self.sites[site].devices.len() {
                let delay = self.net.random.between(100..=1_500);
                self.net.after(delay, Event::Device { site, device, wake: 0 });
            }
        }
        if self.plan.rolls_back {
            let site = self.net.random.below(self.plan.sites as u64) as usize;
            let at = self.net.random.between(500..=self.plan.fault_ms);
            self.net.after(at, Event::Copy { site });
        }
        let first = self.net.random.between(600..=1_500);
        self.net.after(first, Event::Trouble);
        let end = self.plan.fault_ms;
        self.run_until(end)?;
        self.heal()?;
        self.settle()?;
        if self.plan.rolls_back { self.roll_back() } else { Ok(()) }
    }

    /// Restores a site from the copy that was made of its disk. At rest, everything that the
    /// site had promised is at the coordinator: what its disk forgets is not lost by that.
    fn roll_back(&mut self) -> Result<(), String> {
        let Some(site) = self.sites.iter_mut().find(|site| site.copy.is_some()) else { return Ok(()) };
        let Some(copy) = site.copy.take() else { return Ok(()) };
        let place = site.place;
        site.was_rolled_back = true;
        site.prolong(10);
        self.net.faults.note(Fault::RolledBack);
        self.net.note(|| format!("site {} is restored from an old copy", place.0 + 1));
        self.end_process(place, false);
        self.old_disks.push(std::mem::replace(&mut self.sites[place.0].disk, copy));
        for device in 0..self.sites[place.0].devices.len() {
            self.wake_device(place.0, device, 50..=1_000);
        }
        self.settle()
    }

    fn run_until(&mut self, until: u64) -> Result<(), String> {
        while let Some(event) = self.net.next_event(until) {
            self.handle(event)?;
        }
        Ok(())
    }

    /// Ends every fault and brings everything up.
    fn heal(&mut self) -> Result<(), String> {
        self.net.note(|| "all faults end".into());
        self.is_rough = false;
        self.net.weather = Weather::FAIR;
        self.net.join_all();
        for place in self.places() {
            self.disk(place).set_capacity(None);
            self.disk(place).fail_next_sync(0);
            if !self.disk(place).is_off() {
                self.disk(place).power_off_after(u64::MAX);
            }
        }
        for site in &mut self.sites {
            site.skew_ms = site.skew_ms.max(0);
        }
        Ok(())
    }

    /// Lets the healed federation run until nothing waits anywhere.
    fn settle(&mut self) -> Result<(), String> {
        let end = self.net.now + QUIET_MS_MAX;
        let mut is_late = false;
        let mut last = String::new();
        while self.net.now < end {
            self.run_until(self.net.now + 100)?;
            if !is_late && self.sites.iter().all(Site::devices_done) {
                // The minute ends for every window that is open.
                is_late = true;
                for site in &mut self.sites {
                    site.skew_max_ms += 61_000;
                    site.skew_ms = site.skew_max_ms;
                }
            }
            match self.waits_for() {
                None => return Ok(()),
                Some(what) => last = what,
            }
        }
        Err(format!("not quiet {} s after the faults ended: {last}", QUIET_MS_MAX / 1_000))
    }

    fn waits_for(&self) -> Option<String> {
        let sites = self.sites.iter().find_map(Site::waits_for);
        sites.or_else(|| self.members.iter().find_map(Member::waits_for)).or_else(|| {
            // Blocks may still be on their way from member to member.
            let applied = |places: Vec<Place>| {
                let indexes = places.iter().map(|place| &self.members[place.0 - self.plan.sites]);
                let mut applied: Vec<u64> = indexes.filter_map(|m| m.core.as_ref().map(|c| c.applied())).collect();
                applied.dedup();
                (applied.len() > 1).then(|| format!("members of one group have applied {applied:?}"))
            };
            applied(self.hubs()).or_else(|| applied(self.coordinators()))
        })
    }

    pub(crate) fn disk(&mut self, place: Place) -> grey_disk::SimDisk {
        match self.is_site(place) {
            true => self.sites[place.0].disk.clone(),
            false => self.member(place).disk.clone(),
        }
    }

    pub(crate) fn is_up(&self, place: Place) -> bool {
        match self.is_site(place) {
            true => self.sites[place.0].core.is_some(),
            false => self.members[place.0 - self.plan.sites].core.is_some(),
        }
    }

    pub(crate) fn boot(&self, place: Place) -> u64 {
        match self.is_site(place) {
            true => self.sites[place.0].boot,
            false => self.members[place.0 - self.plan.sites].boot,
        }
    }

    pub(crate) fn label(&self, place: Place) -> String {
        match self.is_site(place) {
            true => format!("site {}", place.0 + 1),
            false => self.members[place.0 - self.plan.sites].label(),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tick(place) => self.tick(place),
            Event::Raft { from, to, bytes } => {
                if !self.net.arrives(from, to) {
                    return Ok(());
                }
                self.net.witness(&bytes);
                let Self { net, members, plan, .. } = self;
                let result = members[to.0 - plan.sites].step(net, from, &bytes);
                self.after_member(to, result)
            }
            Event::Dial { conn } => {
                let Some(server) = self.net.dialled_server(conn) else { return Ok(()) };
                if !self.is_up(server) {
                    // A host that is down says nothing; one whose process is down refuses.
                    if self.net.random.percent(50) {
                        self.net.answer_dial(conn, None);
                    }
                    return Ok(());
                }
                let boot = self.boot(server);
                self.net.answer_dial(conn, Some(boot));
                let Self { net, members, plan, .. } = self;
                members[server.0 - plan.sites].accept(net, conn);
                Ok(())
            }
            Event::Dialed { conn, stands } => {
                let Some((client, boot)) = self.net.holder(conn, End::Client) else { return Ok(()) };
                if boot != self.boot(client) {
                    return Ok(());
                }
                match self.is_site(client) {
                    true => self.sites[client.0].dialed(&mut self.net, conn, stands),
                    false => {
                        let Self { net, members, plan, .. } = self;
                        members[client.0 - plan.sites].dialed(net, conn, stands);
                    }
                }
                self.run_uplink(client)
            }
            Event::Stream { conn, to } => self.stream(conn, to),
            Event::Start(place) => self.start(place),
            Event::Device { site, device, wake } => {
                self.device(site, device, wake);
                Ok(())
            }
            Event::Publish { site, device, number, connection } => {
                self.sites[site].publish(device, number, connection);
                // The engine may be busy: what gathers meanwhile is committed together.
                if self.net.random.percent(60) { self.site_round(site) } else { Ok(()) }
            }
            Event::Answered { site, device, number, connection } => {
                let held = &mut self.sites[site].devices[device];
                if held.connection == connection && held.answered(number) {
                    self.wake_device(site, device, 40..=250);
                }
                Ok(())
            }
            Event::Trouble => {
                if self.is_rough {
                    self.make_trouble()?;
                    let gap = self.net.random.between(20..=self.plan.trouble_gap_ms);
                    self.net.after(gap, Event::Trouble);
                }
                Ok(())
            }
            Event::Over(ending) => {
                if self.is_rough {
                    self.end_trouble(ending)
                } else {
                    Ok(())
                }
            }
            Event::Copy { site } => {
                if self.sites[site].core.is_some() && !self.sites[site].disk.is_off() {
                    let seed = self.net.random.next();
                    let copy = self.sites[site].disk.fork(seed);
                    copy.set_capacity(None);
                    copy.kill();
                    self.net.note(|| format!("the disk of site {} is copied", site + 1));
                    self.sites[site].copy = Some(copy);
                }
                Ok(())
            }
        }
    }

    fn tick(&mut self, place: Place) -> Result<(), String> {
        if self.is_site(place) {
            self.net.after(SITE_TICK_MS, Event::Tick(place));
            self.sites[place.0].tick_uplink(&mut self.net);
            return self.site_round(place.0);
        }
        self.net.after(MEMBER_TICK_MS, Event::Tick(place));
        let Self { net, members, plan, .. } = self;
        let result = members[place.0 - plan.sites].tick(net);
        self.after_member(place, result)
    }

    fn site_round(&mut self, site: usize) -> Result<(), String> {
        let result = self.sites[site].round(&mut self.net).map_err(|error| format!("{error:?}"));
        if self.survives(Place(site), result)? { self.run_uplink(Place(site)) } else { Ok(()) }
    }

    fn after_member(&mut self, place: Place, result: Result<(), MemberError>) -> Result<(), String> {
        let result = match result {
            Err(MemberError::Impossible(what)) => return Err(what),
            Err(MemberError::Core(error)) => Err(format!("{error:?}")),
            Ok(()) => Ok(()),
        };
        if self.survives(place, result)? { self.run_uplink(place) } else { Ok(()) }
    }

    fn run_uplink(&mut self, place: Place) -> Result<(), String> {
        let Self { net, members, sites, plan, directory, .. } = self;
        let find = |address: &str| directory.get(address).copied();
        if place.0 < plan.sites {
            // What was told is taken up by the next round.
            sites[place.0].run_uplink(net, &find);
            return Ok(());
        }
        members[place.0 - plan.sites].run_uplink(net, &find);
        Ok(())
    }

    fn stream(&mut self, conn: u64, to: End) -> Result<(), String> {
        let Some((place, boot)) = self.net.holder(conn, to) else {
            // Nobody is there any more. A host that runs says so.
            self.net.refuse(conn, to);
            return Ok(());
        };
        if boot != self.boot(place) || !self.is_up(place) {
            self.net.refuse(conn, to);
            return Ok(());
        }
        let Some(arrival) = self.net.take(conn, to) else { return Ok(()) };
        if let crate::net::Arrival::Bytes(bytes) = &arrival {
            self.net.witness(bytes);
        }
        match (to, self.is_site(place)) {
            (End::Client, true) => {
                self.sites[place.0].arrived(&mut self.net, conn, arrival);
                self.run_uplink(place)
            }
            (End::Client, false) => {
                let Self { net, members, plan, .. } = self;
                members[place.0 - plan.sites].arrived_above(net, conn, arrival);
                self.run_uplink(place)
            }
            (End::Server, _) => {
                let Self { net, members, plan, .. } = self;
                let result = members[place.0 - plan.sites].arrived_below(net, conn, arrival);
                self.after_member(place, result)
            }
        }
    }

    fn start(&mut self, place: Place) -> Result<(), String> {
        if self.is_up(place) {
            return Ok(());
        }
        if self.is_site(place) {
            let result = self.sites[place.0].start(&mut self.net).map_err(|error| format!("{error:?}"));
            self.survives(place, result)?;
            return Ok(());
        }
        let Self { net, members, plan, .. } = self;
        match members[place.0 - plan.sites].start(net) {
            Err(MemberError::Impossible(what)) => Err(what),
            Err(MemberError::Core(error)) => self.survives(place, Err(format!("{error:?}"))).map(|_| ()),
            Ok(()) => self.survives(place, Ok(())).map(|_| ()),
        }
    }

    /// Ends a node whose step failed, if it may fail; an error when nothing was done to it.
    pub(crate) fn survives(&mut self, place: Place, result: Result<(), String>) -> Result<bool, String> {
        let disk = self.disk(place);
        if disk.is_off() {
            self.net.faults.note(Fault::PowerOffMidway);
            self.net.note(|| format!("power of {} goes midway: {:?}", place.0, result.as_ref().err()));
            self.end_process(place, true);
            return Ok(false);
        }
        let Err(error) = result else { return Ok(true) };
        let label = self.label(place);
        let (may_fail, suspect) = match self.is_site(place) {
            true => (self.sites[place.0].has_trouble, false),
            false => (self.member(place).has_trouble, self.member(place).is_suspect),
        };
        if !may_fail && !suspect {
            return Err(format!("{label} failed although nothing was done to it: {error}"));
        }
        self.net.note(|| format!("{label} fails: {error}"));
        let loses_power = self.net.random.percent(30);
        self.end_process(place, loses_power);
        Ok(false)
    }

    /// Ends a process and lets it start again later.
    pub(crate) fn end_process(&mut self, place: Place, loses_power: bool) {
        let resets = self.net.random.percent(if loses_power { 30 } else { 90 });
        self.net.end_process(place, resets);
        let disk = self.disk(place);
        let capacity_stays = self.is_rough;
        match self.is_site(place) {
            true => {
                self.sites[place.0].end();
                self.sites[place.0].has_trouble &= capacity_stays;
            }
            false => {
                self.member(place).end();
                self.member(place).has_trouble &= capacity_stays;
            }
        }
        if loses_power {
            disk.crash();
        } else {
            disk.kill();
        }
        let delay = self.net.random.between(30..=900);
        self.net.after(delay, Event::Start(place));
    }

    fn device(&mut self, site: usize, device: usize, wake: u64) {
        let held = &mut self.sites[site].devices[device];
        if held.wake != wake {
            return;
        }
        let resends = held.flight.is_some();
        let Some(flight) = held.act(&mut self.net.random, START_MS) else { return };
        if resends {
            held.connection += 1;
            held.tries += 1;
            self.net.faults.note(Fault::DeviceResent);
        }
        let connection = held.connection;
        let delay = self.net.random.between(1..=8);
        self.net.after(delay, Event::Publish { site, device, number: flight.number, connection });
        self.wake_device(site, device, RESEND_MS..=RESEND_MS * 2);
    }

    fn wake_device(&mut self, site: usize, device: usize, delay: std::ops::RangeInclusive<u64>) {
        let delay = self.net.random.between(delay);
        let held = &mut self.sites[site].devices[device];
        held.wake += 1;
        self.net.after(delay, Event::Device { site, device, wake: held.wake });
    }

    /// Adds what the disks counted.
    fn collect_disk_faults(&mut self) {
        let mut disks: Vec<_> = self.places().map(|place| self.disk(place)).collect();
        disks.append(&mut self.old_disks);
        for disk in disks {
            let faults = disk.faults();
            let counts = [
                (Fault::SectorLost, faults.sectors_lost),
                (Fault::WriteTorn, faults.sectors_lost.min(faults.sectors_kept) + faults.lengths_lost),
                (Fault::NameLost, faults.creates_lost + faults.renames_lost + faults.removes_lost),
                (Fault::DiskFull, faults.writes_without_space),
                (Fault::SyncFailed, faults.syncs_failed),
            ];
            for (fault, count) in counts {
                self.net.faults.add(fault, count);
            }
        }
    }
}
