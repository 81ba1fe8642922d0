//! The screen: lines of the story, and below them a table that is redrawn.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::federation::{Federation, Snapshot, sum};
use crate::plant::Plant;

/// Without a terminal the table is a line, printed this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where the demo is told.
#[derive(Debug)]
pub(super) struct View {
    live: bool,
    began: Instant,
    /// Lines of the table that stand on the screen.
    drawn: usize,
    /// Time and acknowledged readings of each site at the last drawing.
    before: Option<(Instant, Vec<u64>)>,
    last_line: Option<Instant>,
    muted: bool,
}

impl View {
    /// Time between two drawings.
    pub(super) const EVERY: Duration = Duration::from_millis(500);

    /// A live view redraws a table; otherwise plain lines are printed.
    pub(super) fn new(live: bool) -> Self {
        Self { live, began: Instant::now(), drawn: 0, before: None, last_line: None, muted: false }
    }

    /// Prints a line that stays.
    pub(super) fn say(&mut self, line: &str) {
        if self.muted {
            return;
        }
        self.wipe();
        println!("{:6.1} s  {line}", self.began.elapsed().as_secs_f64());
    }

    /// Prints nothing more.
    pub(super) fn mute(&mut self) {
        self.muted = true;
    }

    /// Shows the state of everything.
    pub(super) fn show(&mut self, federation: &Federation, snapshot: &Snapshot, plants: &[Plant]) {
        if self.muted {
            return;
        }
        if !self.live {
            if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                self.last_line = Some(Instant::now());
                self.say(&one_line(federation, snapshot, plants));
            }
            return;
        }
        let rates = self.rates(plants);
        let table = table(federation, snapshot, plants, &rates);
        self.wipe();
        print!("{table}");
        // A closed terminal ends the demo by its signal, not here.
        let _ = std::io::stdout().flush();
        self.drawn = table.lines().count();
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            print!("\x1b[{}F\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn rates(&mut self, plants: &[Plant]) -> Vec<f64> {
        let (now, counts) = (Instant::now(), plants.iter().map(Plant::acknowledged).collect::<Vec<_>>());
        let rates = match &self.before {
            Some((then, before)) => {
                let seconds = (now - *then).as_secs_f64().max(0.001);
                counts.iter().zip(before).map(|(now, before)| now.saturating_sub(*before) as f64 / seconds).collect()
            }
            None => vec![0.0; counts.len()],
        };
        if self.before.as_ref().is_none_or(|(then, _)| now - *then > Duration::from_millis(400)) {
            self.before = Some((now, counts));
        }
        rates
    }
}

fn one_line(federation: &Federation, snapshot: &Snapshot, plants: &[Plant]) -> String {
    let mut line = String::new();
    for ((edge, site), plant) in federation.edges.iter().zip(&snapshot.sites).zip(plants) {
        let delivered = sum(snapshot.rows_of(edge.name)).delivered;
        let (state, pending) = (state(site.answers, &site.state), site.pending);
        let _ = write!(
            line,
            "{} {state}, {} acked, {pending} pending, {delivered} delivered; ",
            edge.name,
            plant.acknowledged()
        );
    }
    let leader = snapshot.leader().map_or("none", |leader| federation.hubs[leader].process.name());
    let _ = write!(line, "leader {leader}");
    line
}

fn state(answers: bool, state: &str) -> &str {
    if answers { state } else { "down" }
}

fn table(federation: &Federation, snapshot: &Snapshot, plants: &[Plant], rates: &[f64]) -> String {
    let mut out = String::from("\n  site           state      forwards      rate/s    pending   kB held  delivered\n");
    for (((edge, site), plant), rate) in federation.edges.iter().zip(&snapshot.sites).zip(plants).zip(rates) {
        let _ = writeln!(
            out,
            "  {:14} {:10} {:10} {:9.0} {:10} {:9.1} {:10}   of {} acknowledged",
            edge.name,
            state(site.answers, &site.state),
            edge.forward.as_str(),
            rate,
            site.pending,
            site.pending_bytes as f64 / 1e3,
            sum(snapshot.rows_of(edge.name)).delivered,
            plant.acknowledged(),
        );
    }
    out.push_str("\n  tier           events in  events out      kB in     kB out   reduction (events, bytes)\n");
    for tier in tiers(federation, snapshot, plants) {
        let _ = writeln!(
            out,
            "  {:12} {:11} {:11} {:10.0} {:10}   {}",
            tier.name,
            tier.events_in,
            tier.events_out.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            tier.bytes_in as f64 / 1e3,
            tier.bytes_out.map_or_else(|| "-".to_owned(), |n| format!("{:.0}", n as f64 / 1e3)),
            tier.reduction(),
        );
    }
    let nodes = federation.hubs.iter().zip(&snapshot.hubs);
    let nodes: Vec<String> =
        nodes.map(|(node, view)| format!("{} {}", node.process.name(), state(view.answers, &view.role))).collect();
    let coordinator = if snapshot.coordinator_answers { "" } else { " (does not answer)" };
    let _ = writeln!(out, "\n  {}   coordinator{coordinator}", nodes.join("   "));
    out
}

/// What went into a tier and what came out of it.
#[derive(Debug, Clone)]
pub(super) struct Tier {
    pub(super) name: &'static str,
    pub(super) events_in: u64,
    /// `None` for the last tier.
    pub(super) events_out: Option<u64>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: Option<u64>,
}

impl Tier {
    /// How many times less went out than came in: events, bytes.
    pub(super) fn ratios(&self) -> Option<(f64, f64)> {
        let ratio = |(n, out): (u64, u64)| n as f64 / out.max(1) as f64;
        Some((ratio((self.events_in, self.events_out?)), ratio((self.bytes_in, self.bytes_out?))))
    }

    /// The ratios for the screen.
    pub(super) fn reduction(&self) -> String {
        self.ratios().map_or_else(String::new, |(events, bytes)| format!("{events:.1}x, {bytes:.1}x"))
    }
}

/// The three tiers: events by their ledgers, bytes as counted on the wires.
pub(super) fn tiers(federation: &Federation, snapshot: &Snapshot, plants: &[Plant]) -> [Tier; 3] {
    let counters = plants.iter().map(|plant| &plant.counters);
    let device_bytes = counters.map(|counters| counters.bytes.load(Ordering::Relaxed)).sum();
    let to_hub = federation.edges.iter().map(|edge| edge.link.traffic().up_bytes).sum();
    let to_coordinator = federation.upstream.traffic().up_bytes;
    let sites = sum(snapshot.sites.iter().flat_map(|site| &site.ledger));
    let hub = sum(snapshot.hub_ledger.iter());
    let hub_in = hub.delivered + hub.pending;
    [
        Tier {
            name: "edge",
            events_in: sites.accepted,
            events_out: Some(sites.delivered),
            bytes_in: device_bytes,
            bytes_out: Some(to_hub),
        },
        Tier {
            name: "hub",
            events_in: hub_in,
            events_out: Some(hub.delivered),
            bytes_in: to_hub,
            bytes_out: Some(to_coordinator),
        },
        Tier {
            name: "coordinator",
            events_in: sum(snapshot.ledger.iter()).delivered,
            events_out: None,
            bytes_in: to_coordinator,
            bytes_out: None,
        },
    ]
}
