//! What happens in the demo, and when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::verdict::{Recovery, Verdict};
use super::view::View;
use crate::federation::{self, Federation, Watch};
use crate::plant::{Pace, Plant, REFERENCE_SITE};

/// The site that is cut off and whose agent is killed: an index of `SITES`.
const HURT: usize = 0;
/// How long a killed process stays away.
const AWAY: Duration = Duration::from_secs(1);
/// Longest wait for any recovery, and for the end of the backlog.
const RECOVER_WITHIN: Duration = Duration::from_secs(120);
/// A backlog that is younger is live traffic.
const LIVE_AGE_S: f64 = 3.0;

/// Runs the plant through its faults and judges the end.
pub(super) async fn tell(federation: &mut Federation, length: Duration, view: &mut View) -> Result<Verdict> {
    let watch = federation.watch();
    let all_answer = |snapshot: &federation::Snapshot| {
        snapshot.coordinator_answers && snapshot.sites.iter().all(|site| site.answers) && snapshot.leader().is_some()
    };
    watch.until("every tier to answer and the hub to have a leader", RECOVER_WITHIN, all_answer).await?;
    let mut plants = start_plants(federation, "");
    let devices: usize = plants.iter().map(|plant| plant.records.len()).sum();
    let began = Instant::now();
    view.say(&format!("{devices} devices in the proportions of the reference deployment begin to report"));

    let mut recovery = Recovery::default();
    let mut stage = Stage { federation, watch: &watch, plants: &plants, view };
    stage.look_on(began + length.mul_f64(0.15)).await?;
    stage.cut_off().await?;
    stage.look_on(began + length.mul_f64(0.30)).await?;
    recovery.hub_leader = Some(stage.kill_hub_leader().await?);
    stage.look_on(began + length.mul_f64(0.50)).await?;
    recovery.link = Some(stage.heal().await?);
    stage.look_on(began + length.mul_f64(0.65)).await?;
    recovery.edge_agent = Some(stage.kill_edge().await?);
    stage.look_on(began + length).await?;

    view.say("the plant stops; every reading that was sent is awaited");
    let ran = began.elapsed();
    for plant in &mut plants {
        plant.stop(RECOVER_WITHIN).await?;
    }
    let verdict = Verdict::reach(federation, &watch, &plants, recovery, ran).await?;
    view.show(federation, &watch.now(), &plants);
    for line in verdict.lines() {
        view.say(&line);
    }
    Ok(verdict)
}

/// Lets everything run on with new readings, until the caller has enough.
pub(super) async fn linger(federation: &mut Federation, view: &mut View) -> Result<()> {
    let watch = federation.watch();
    let plants = start_plants(federation, ".on");
    let mut stage = Stage { federation, watch: &watch, plants: &plants, view };
    loop {
        stage.look_on(Instant::now() + Duration::from_secs(3600)).await?;
    }
}

/// One reference site's devices at every site; a suffix keeps ids unique.
fn start_plants(federation: &Federation, suffix: &str) -> Vec<Plant> {
    let plant = |edge: &federation::Edge| {
        Plant::start(&format!("{}{suffix}", edge.name), edge.mqtt, &REFERENCE_SITE, Pace::Profile)
    };
    federation.edges.iter().map(plant).collect()
}

/// Everything that a scene needs.
struct Stage<'a> {
    federation: &'a mut Federation,
    watch: &'a Watch,
    plants: &'a [Plant],
    view: &'a mut View,
}

impl Stage<'_> {
    /// Lets time pass with the view kept fresh; fails if a process ends by itself.
    async fn look_on(&mut self, until: Instant) -> Result<()> {
        loop {
            self.federation.check_alive()?;
            self.view.show(self.federation, &self.watch.now(), self.plants);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(View::EVERY)).await;
        }
    }

    /// Waits for a condition with the view kept fresh.
    async fn until(&mut self, what: &str, holds: impl Fn(&federation::Snapshot) -> bool) -> Result<Instant> {
        let watch = self.watch;
        let wait = watch.until(what, RECOVER_WITHIN, holds);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                reached = &mut wait => return reached.map(|snapshot| snapshot.at),
                () = tokio::time::sleep(View::EVERY) => {
                    self.view.show(self.federation, &watch.now(), self.plants);
                }
            }
        }
    }

    async fn cut_off(&mut self) -> Result<()> {
        let edge = &self.federation.edges[HURT];
        edge.link.cut();
        self.view.say(&format!("cut {} off from the hub", edge.name));
        Ok(())
    }

    async fn kill_hub_leader(&mut self) -> Result<Duration> {
        self.until("a hub leader", |snapshot| snapshot.leader().is_some()).await?;
        let old = self.watch.now().leader().context("the leader resigned in this instant")?;
        let node = &mut self.federation.hubs[old];
        let killed = Instant::now();
        node.process.kill()?;
        self.view.say(&format!("killed the hub's leader, {} (SIGKILL)", node.process.name()));
        // Recovered: a new leader, and events reach the coordinator again.
        let new = move |snapshot: &federation::Snapshot| {
            snapshot.at > killed && snapshot.leader().is_some_and(|leader| leader != old)
        };
        self.until("a new hub leader", new).await?;
        let before = federation::sum(self.watch.now().ledger.iter()).accepted;
        let flows = move |snapshot: &federation::Snapshot| federation::sum(snapshot.ledger.iter()).accepted > before;
        let took = self.until("events to pass the new hub leader", flows).await? - killed;
        self.view.say(&format!("events pass the new leader after {} ms", took.as_millis()));

        tokio::time::sleep(AWAY.saturating_sub(killed.elapsed())).await;
        let node = &mut self.federation.hubs[old];
        node.process.start()?;
        federation::ready(&mut node.process, node.http).await?;
        self.view.say(&format!("{} is back", node.process.name()));
        Ok(took)
    }

    async fn heal(&mut self) -> Result<Duration> {
        let edge = &self.federation.edges[HURT];
        let backlog = self.watch.now().sites[HURT].pending;
        edge.link.heal();
        let healed = Instant::now();
        self.view.say(&format!("healed the link of {}, {backlog} events wait there", edge.name));
        let caught_up = move |snapshot: &federation::Snapshot| {
            let site = &snapshot.sites[HURT];
            let online = site.answers && site.state == "online";
            snapshot.at > healed && online && (site.pending == 0 || site.oldest_pending_s < LIVE_AGE_S)
        };
        let took = self.until("the cut-off site to catch up", caught_up).await? - healed;
        self.view.say(&format!("its backlog is delivered after {} ms", took.as_millis()));
        Ok(took)
    }

    async fn kill_edge(&mut self) -> Result<Duration> {
        let edge = &mut self.federation.edges[HURT];
        let plant = &self.plants[HURT];
        edge.process.kill()?;
        self.view.say(&format!("killed the agent of {} (SIGKILL)", edge.name));
        let before = plant.acknowledged();
        self.look_on(Instant::now() + AWAY.saturating_sub(View::EVERY)).await?;
        let edge = &mut self.federation.edges[HURT];
        let restarted = Instant::now();
        edge.process.start()?;
        // Recovered: devices are acknowledged again.
        while plant.acknowledged() == before {
            self.federation.check_alive()?;
            if restarted.elapsed() > RECOVER_WITHIN {
                bail!("no device was acknowledged in {RECOVER_WITHIN:?} after the agent's restart");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = restarted.elapsed();
        let edge = &mut self.federation.edges[HURT];
        federation::ready(&mut edge.process, edge.http).await?;
        self.view.say(&format!("its devices are acknowledged again {} ms after the restart", took.as_millis()));
        Ok(took)
    }
}
