//! `cargo xtask torture`: a million events through real processes, while the
//! edge agent and the hub's leader are killed again and again, and then the
//! comparison of what devices were acknowledged for with what arrived.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::audit::{Audit, audit};
use crate::demo::{Signals, in_scratch};
use crate::federation::{self, Binaries, Federation, Forward, Node, Scratch, SitePlan, Watch};
use crate::plant::{Pace, Plant, Profile};

/// The site sends every reading up, so that each can be looked for by its id.
const SITE: SitePlan = SitePlan::new("tortured", Forward::Raw);
const HUB_NODES: u64 = 3;
/// How long a killed process stays away.
const AWAY: Duration = Duration::from_millis(300);
/// No acknowledgement for so long means that the run is stuck.
const PROGRESS_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How much of it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Readings in all, each with an id of its own
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How often the agent, and how often the hub's leader, is killed (SIGKILL)
    #[arg(long, default_value_t = 5)]
    kills: u64,
    /// MQTT connections
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    clients: u64,
    /// Use the binaries of this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// Builds, runs and compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binaries = Binaries::at_or_build(options.binaries.as_deref())?;
    let exact = in_scratch("torture", async |scratch| {
        let mut signals = Signals::listen()?;
        signals.or_stop(torture(options, &binaries, scratch)).await
    })?;
    if !exact {
        bail!("the coordinator does not hold exactly what was acknowledged");
    }
    Ok(())
}

/// True when the coordinator holds exactly what was acknowledged.
async fn torture(options: &Options, binaries: &Binaries, scratch: &Scratch) -> Result<bool> {
    let mut federation = Federation::start(binaries, scratch, &[SITE], HUB_NODES).await?;
    let watch = federation.watch();
    let each = options.events.div_ceil(options.clients);
    let events = each * options.clients;
    let agent = federation.edges[0].mqtt;
    let devices = [(Profile::Vibration, usize::try_from(options.clients)?)];
    // One part of the readings for each blow and one after the last. A part is
    // let go when the blow before is over, so that every blow falls under load.
    let blows = options.kills * 2;
    let part = |n: u64| each * n / (blows + 1);
    let pace = Pace::Flood { readings: each, at_first: part(1) };
    let mut plants = vec![Plant::start(SITE.name, agent, &devices, pace)];
    println!("{events} readings from {} connections, {} kills each", options.clients, options.kills);

    let began = Instant::now();
    for blow in 1..=blows {
        let middle = (part(blow - 1) + part(blow)) / 2;
        reach(&mut federation, &plants[0], middle * options.clients).await?;
        if blow % 2 == 1 {
            kill_agent(&mut federation).await?;
        } else {
            kill_leader(&mut federation, &watch).await?;
        }
        plants[0].allow(part(blow + 1));
    }
    reach(&mut federation, &plants[0], events).await?;
    let took = began.elapsed();
    plants[0].finished(PROGRESS_WITHIN).await?;
    let rate = events as f64 / took.as_secs_f64();
    println!("all {events} acknowledged after {:.1} s ({rate:.0}/s, outages included)", took.as_secs_f64());

    let Audit { sites, settled, .. } = audit(&federation, &watch, &plants).await?;
    let (_, finding) = sites.first().context("one site was audited")?;
    for line in &finding.contradictions {
        println!("{line}");
    }
    let resent = plants[0].counters.resent.load(Ordering::Relaxed);
    let clean = settled && finding.is_clean() && finding.acknowledged == events && finding.readings == events;
    println!(
        "{}",
        json!({
            "acknowledged": finding.acknowledged,
            "delivered": finding.readings,
            "missing": finding.lost,
            "duplicates": finding.duplicated,
            "resent_by_devices": resent,
            "resends_recognised": finding.deduplicated,
            "agent_kills": options.kills,
            "leader_kills": options.kills,
            "seconds": took.as_secs_f64(),
            "exact": clean,
        })
    );
    drop(watch);
    for unclean in federation.drain().await {
        println!("did not end cleanly: {unclean}");
    }
    Ok(clean)
}

/// Waits until so many readings are acknowledged.
async fn reach(federation: &mut Federation, plant: &Plant, goal: u64) -> Result<()> {
    let (mut last, mut since, mut said) = (plant.acknowledged(), Instant::now(), Instant::now());
    loop {
        let now = plant.acknowledged();
        if now >= goal {
            return Ok(());
        }
        federation.check_alive()?;
        if now > last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > PROGRESS_WITHIN {
            bail!("stuck at {now} of {goal}: nothing was acknowledged for {PROGRESS_WITHIN:?}");
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            println!("{now} acknowledged");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn kill_agent(federation: &mut Federation) -> Result<()> {
    let edge = &mut federation.edges[0];
    edge.process.kill()?;
    tokio::time::sleep(AWAY).await;
    let began = Instant::now();
    edge.process.start()?;
    federation::ready(&mut edge.process, edge.http).await?;
    println!("killed the agent; ready {} ms after its restart", began.elapsed().as_millis());
    Ok(())
}

async fn kill_leader(federation: &mut Federation, watch: &Watch) -> Result<()> {
    let snapshot = watch.until("a hub leader", PROGRESS_WITHIN, |snapshot| snapshot.leader().is_some()).await?;
    let leader = snapshot.leader().context("no leader")?;
    let Node { process, http } = &mut federation.hubs[leader];
    let killed = Instant::now();
    process.kill()?;
    let follows =
        |snapshot: &federation::Snapshot| snapshot.at > killed && snapshot.leader().is_some_and(|new| new != leader);
    let new = watch.until("a new hub leader", PROGRESS_WITHIN, follows).await?;
    println!(
        "killed the hub's leader, {}; the next one leads after {} ms",
        process.name(),
        (new.at - killed).as_millis()
    );
    process.start()?;
    federation::ready(process, *http).await
}
