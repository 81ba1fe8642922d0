//! `cargo xtask torture-outbox`: an edge agent on a small disk that is killed (SIGKILL)
//! again and again, while the disk fills up and empties, the link to the hub comes and
//! goes, and devices publish over MQTT and HTTP. After every batch of kills all is
//! healed, and what devices were acknowledged for is compared with what arrived and with
//! the books of every tier.
//!
//! - [`disk`]: a file system of some megabytes in memory, and the ballast that fills it.
//! - [`publisher`]: bulky events over HTTP, which fill the outbox.

mod disk;
mod publisher;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::audit::{Audit, audit};
use crate::demo::{Signals, in_scratch};
use crate::federation::{self, Binaries, Federation, Forward, Scratch, SitePlan, sum};
use crate::plant::{Pace, Plant, Profile};
use disk::SmallDisk;
use publisher::Publisher;

const SITE: &str = "small";
/// MQTT connections, and readings that each may make in one run.
const CLIENTS: u64 = 4;
const READINGS_A_RUN: u64 = 150;
/// How long a run goes on before the kill.
const RUN_MS: std::ops::Range<u64> = 150..1_200;
/// Everything published must be acknowledged this long after all is healed.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(90);
/// The smallest limits that the agent's configuration takes.
const LIMITS: &str =
    "  queue: { max_bytes: 16MB, segment_bytes: 1MiB }\n  storage: { intake_max_bytes: 16MB, intake_retention: 0s }\n";

/// How much of it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Kills of the agent in all
    #[arg(long, default_value_t = 1_000)]
    runs: u64,
    /// Kills on one data directory before all is healed and compared
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Size of the agent's disk, MiB
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u64).range(40..=1_024))]
    disk_mib: u64,
    /// What the faults are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use the binaries of this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// How often each thing happened.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    kills: u64,
    kills_while_recovering: u64,
    kills_on_a_full_disk: u64,
    starts_on_a_full_disk: u64,
    full_disks: u64,
    ended_for_want_of_space: u64,
    links_cut: u64,
    hub_kills: u64,
    answers_refused: u64,
    connections_broken: u64,
    resent: u64,
    outbox_bytes_max: u64,
    batches: u64,
    acknowledged: u64,
    delivered: u64,
    deduplicated: u64,
    given_up: u64,
    lost: u64,
    twice: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("agent killed", self.kills),
            ("  of these while it recovered", self.kills_while_recovering),
            ("  of these on a full disk", self.kills_on_a_full_disk),
            ("agent started on a full disk", self.starts_on_a_full_disk),
            ("disk filled up (ENOSPC)", self.full_disks),
            ("agent ended by itself for want of space", self.ended_for_want_of_space),
            ("link to the hub cut", self.links_cut),
            ("hub killed", self.hub_kills),
            ("HTTP answers that refused (429, 503, 507)", self.answers_refused),
            ("HTTP requests that broke off", self.connections_broken),
            ("MQTT publications sent again", self.resent),
            ("bytes waiting at most", self.outbox_bytes_max),
            ("events acknowledged to publishers", self.acknowledged),
            ("events at the coordinator", self.delivered),
            ("resends recognised", self.deduplicated),
            ("events dropped, thinned or rolled up by the full outbox", self.given_up),
            ("events lost", self.lost),
            ("events twice", self.twice),
        ];
        lines.iter().try_for_each(|(what, count)| writeln!(f, "{count:>12}  {what}"))
    }
}

/// splitmix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

/// Builds, tortures and compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Err(error) = disk::probe() {
        println!("skipped: a small disk in memory cannot be mounted here ({error:#}); run as root");
        return Ok(());
    }
    let binaries = Binaries::at_or_build(options.binaries.as_deref())?;
    let good = in_scratch("torture-outbox", async |scratch| {
        let mut signals = Signals::listen()?;
        signals.or_stop(torture(options, &binaries, scratch)).await
    })?;
    if !good {
        bail!("the books do not agree with what was acknowledged");
    }
    Ok(())
}

async fn torture(options: &Options, binaries: &Binaries, scratch: &Scratch) -> Result<bool> {
    let mut random = Random(options.seed);
    let (mut counts, mut all_good, began) = (Counts::default(), true, Instant::now());
    while counts.kills < options.runs {
        // Each batch has tiers of its own: its publishers begin their ids anew.
        let scratch = scratch.below(&format!("batch-{}", counts.batches));
        let folder = scratch.path().to_owned();
        let disk = SmallDisk::mount(&folder.join("disk"), options.disk_mib << 20)?;
        let kills = options.batch.min(options.runs - counts.kills);
        let mut batch = Batch::start(binaries, &scratch, disk).await?;
        for _ in 0..kills {
            batch.run(&mut random, &mut counts).await?;
        }
        let good = batch.end(&mut counts).await?;
        all_good &= good;
        counts.batches += 1;
        println!(
            "{} of {} kills, {:.0} s: {}",
            counts.kills,
            options.runs,
            began.elapsed().as_secs_f64(),
            if good { "the books agree" } else { "WRONG" }
        );
        if !good {
            // The evidence is the data directory; it goes with the mount.
            batch.keep_data(&folder.join("evidence"))?;
            break;
        }
    }
    print!("{counts}");
    println!(
        "{}",
        json!({
            "kills": counts.kills,
            "full_disks": counts.full_disks,
            "acknowledged": counts.acknowledged,
            "delivered": counts.delivered,
            "given_up": counts.given_up,
            "missing": counts.lost,
            "duplicates": counts.twice,
            "seconds": began.elapsed().as_secs_f64(),
            "exact": all_good,
        })
    );
    Ok(all_good)
}

/// Many kills on one data directory. Declared in the order of their ends: the
/// processes go before the disk under them.
struct Batch {
    federation: Federation,
    plants: Vec<Plant>,
    publisher: Publisher,
    disk: SmallDisk,
    allowed: u64,
    link_is_cut: bool,
}

impl Batch {
    async fn start(binaries: &Binaries, scratch: &Scratch, disk: SmallDisk) -> Result<Self> {
        let site =
            SitePlan { name: SITE, forward: Forward::Raw, data_dir: Some(disk.path().join("data")), more: LIMITS };
        let federation = Federation::start(binaries, scratch, &[site], 1).await?;
        let edge = &federation.edges[0];
        let pace = Pace::Flood { readings: u64::MAX, at_first: 0 };
        let devices = [(Profile::Vibration, CLIENTS as usize)];
        let mut plant = Plant::start(SITE, edge.mqtt, &devices, pace);
        let publisher = Publisher::start(SITE, edge.http, Arc::clone(&plant.counters));
        plant.records.push(Arc::clone(&publisher.record));
        Ok(Self { federation, plants: vec![plant], publisher, disk, allowed: 0, link_is_cut: false })
    }

    /// Some faults, and then a kill.
    async fn run(&mut self, random: &mut Random, counts: &mut Counts) -> Result<()> {
        self.allowed += READINGS_A_RUN;
        self.plants[0].allow(self.allowed);
        self.toggle_link(random, counts);
        if random.percent(5) {
            let hub = &mut self.federation.hubs[0];
            hub.process.kill()?;
            hub.process.start()?;
            counts.hub_kills += 1;
        }
        let fills = random.percent(35);
        if fills {
            tokio::time::sleep(random.millis(0..400)).await;
            // At times a commit or two still fits.
            let room = if random.percent(50) { 0 } else { random.below(256 << 10) };
            self.disk.fill(room)?;
            counts.full_disks += 1;
        }
        tokio::time::sleep(random.millis(RUN_MS)).await;
        let empties_before = random.percent(40);
        if fills && empties_before {
            self.disk.empty()?;
            tokio::time::sleep(random.millis(0..200)).await;
        }
        counts.outbox_bytes_max = counts.outbox_bytes_max.max(self.waiting_bytes().await);
        self.kill(counts)?;
        let is_full = self.disk.is_filled();
        counts.kills_on_a_full_disk += u64::from(is_full);
        if is_full && random.percent(60) {
            counts.starts_on_a_full_disk += 1;
            self.federation.edges[0].process.start()?;
            tokio::time::sleep(random.millis(20..500)).await;
            self.disk.empty()?;
        } else {
            self.disk.empty()?;
            self.federation.edges[0].process.start()?;
        }
        // Now and then the next kill falls into the recovery.
        if random.percent(20) {
            tokio::time::sleep(random.millis(0..60)).await;
            self.kill(counts)?;
            counts.kills_while_recovering += 1;
            self.federation.edges[0].process.start()?;
        }
        self.stands(counts).await
    }

    fn kill(&mut self, counts: &mut Counts) -> Result<()> {
        let process = &mut self.federation.edges[0].process;
        if let Some(status) = process.has_ended() {
            // It may end by itself for one reason only.
            if !process.log_says("space") {
                bail!("the agent ended by itself with {status}; its log ends:\n{}", process.log_tail(20));
            }
            counts.ended_for_want_of_space += 1;
        }
        process.kill()?;
        counts.kills += 1;
        Ok(())
    }

    /// Waits until the agent is ready; one that ended for want of space is started again.
    async fn stands(&mut self, counts: &mut Counts) -> Result<()> {
        let edge = &mut self.federation.edges[0];
        let Err(error) = federation::ready(&mut edge.process, edge.http).await else { return Ok(()) };
        if edge.process.has_ended().is_none() || !edge.process.log_says("space") {
            return Err(error);
        }
        counts.ended_for_want_of_space += 1;
        edge.process.kill()?;
        edge.process.start()?;
        federation::ready(&mut edge.process, edge.http).await
    }

    fn toggle_link(&mut self, random: &mut Random, counts: &mut Counts) {
        let link = &self.federation.edges[0].link;
        if self.link_is_cut && random.percent(12) {
            link.heal();
            self.link_is_cut = false;
        } else if !self.link_is_cut && random.percent(40) {
            link.cut();
            self.link_is_cut = true;
            counts.links_cut += 1;
        }
    }

    async fn waiting_bytes(&self) -> u64 {
        let status = federation::http::get_json(self.federation.edges[0].http, "/v1/status").await;
        let lanes = status.as_ref().ok().and_then(|status| status["pending"].as_object());
        lanes.map_or(0, |lanes| lanes.values().filter_map(|lane| lane["bytes"].as_u64()).sum())
    }

    /// Heals everything, waits until all is acknowledged and handed on, and compares.
    async fn end(&mut self, counts: &mut Counts) -> Result<bool> {
        self.federation.edges[0].link.heal();
        self.stands(counts).await?;
        let watch = self.federation.watch();
        self.publisher.stop(ACKNOWLEDGED_WITHIN).await.context("HTTP")?;
        self.plants[0].stop(ACKNOWLEDGED_WITHIN).await.context("MQTT")?;
        self.federation.check_alive()?;
        let Audit { sites, settled, snapshot } = audit(&self.federation, &watch, &self.plants).await?;
        let (_, finding) = sites.first().context("one site was audited")?;
        let total = sum(snapshot.rows_of(SITE));
        let edge = sum(snapshot.sites[0].ledger.iter());
        let mut wrong = finding.contradictions.clone();
        if !settled {
            wrong.push("something still waits and nothing moves".into());
        }
        for (tier, rows) in [("site", &edge), ("hub", &sum(snapshot.hub_ledger.iter())), ("coordinator", &total)] {
            if !rows.balanced {
                wrong.push(format!("the {tier}'s books do not balance: {rows:?}"));
            }
            if (rows.accepted, rows.dropped, rows.reduced) != (edge.accepted, edge.dropped, edge.reduced) {
                wrong.push(format!("the {tier} says {rows:?}, the site {edge:?}"));
            }
        }
        wrong.iter().for_each(|line| println!("  {line}"));
        let counters = &self.plants[0].counters;
        counts.acknowledged += finding.acknowledged;
        counts.delivered += finding.listed;
        counts.deduplicated += finding.deduplicated;
        counts.given_up += finding.given_up;
        counts.lost += finding.lost;
        counts.twice += finding.duplicated;
        counts.resent += counters.resent.load(Ordering::Relaxed);
        counts.answers_refused += self.publisher.refused();
        counts.connections_broken += self.publisher.broken();
        drop(watch);
        for unclean in self.federation.drain().await {
            println!("  did not end cleanly: {unclean}");
        }
        Ok(wrong.is_empty() && finding.is_clean())
    }

    fn keep_data(&self, to: &std::path::Path) -> Result<()> {
        disk::copy_tree(self.disk.path(), to)
    }
}
