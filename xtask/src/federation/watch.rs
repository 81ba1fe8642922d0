//! What the tiers say about themselves, asked several times a second.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::http;
use crate::workspace::{list, text};

/// Short enough to time a recovery, long enough not to be a load.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// One line of a tier's ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LedgerRow {
    pub(crate) site: String,
    pub(crate) epoch: u64,
    pub(crate) lane: String,
    pub(crate) accepted: u64,
    pub(crate) reduced: u64,
    pub(crate) delivered: u64,
    pub(crate) deduplicated: u64,
    pub(crate) dropped: u64,
    pub(crate) pending: u64,
    pub(crate) balanced: bool,
}

impl LedgerRow {
    fn read(row: &Value) -> Self {
        let count = |key: &str| row[key].as_u64().unwrap_or(0);
        Self {
            site: text(row, "site").to_owned(),
            epoch: count("epoch"),
            lane: text(row, "lane").to_owned(),
            accepted: count("accepted"),
            reduced: count("reduced"),
            delivered: count("delivered"),
            deduplicated: count("deduplicated"),
            dropped: count("dropped"),
            pending: count("pending"),
            balanced: row["balanced"].as_bool().unwrap_or(false),
        }
    }

    /// Where the sequences were given.
    pub(crate) fn key(&self) -> (String, u64, String) {
        (self.site.clone(), self.epoch, self.lane.clone())
    }
}

/// Adds rows up, into a row without a key.
pub(crate) fn sum<'a>(rows: impl Iterator<Item = &'a LedgerRow>) -> LedgerRow {
    let start = LedgerRow { balanced: true, ..LedgerRow::default() };
    rows.fold(start, |mut sum, row| {
        sum.accepted += row.accepted;
        sum.reduced += row.reduced;
        sum.delivered += row.delivered;
        sum.deduplicated += row.deduplicated;
        sum.dropped += row.dropped;
        sum.pending += row.pending;
        sum.balanced &= row.balanced;
        sum
    })
}

/// What one edge agent said last.
#[derive(Debug, Clone, Default)]
pub(crate) struct SiteView {
    /// False while it does not answer.
    pub(crate) answers: bool,
    pub(crate) state: String,
    pub(crate) pending: u64,
    pub(crate) pending_bytes: u64,
    pub(crate) oldest_pending_s: f64,
    pub(crate) ledger: Vec<LedgerRow>,
}

/// What one member of a group said last.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeView {
    /// False while it does not answer.
    pub(crate) answers: bool,
    pub(crate) role: String,
    pub(crate) term: u64,
}

/// The whole federation at one time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// When it was put together.
    pub(crate) at: Instant,
    /// The sites in the order of their start.
    pub(crate) sites: Vec<SiteView>,
    /// The hub's nodes.
    pub(crate) hubs: Vec<NodeView>,
    /// The hub's ledger, from its leader or else from any node.
    pub(crate) hub_ledger: Vec<LedgerRow>,
    /// The coordinator's ledger.
    pub(crate) ledger: Vec<LedgerRow>,
    /// The coordinator answers.
    pub(crate) coordinator_answers: bool,
}

impl Snapshot {
    /// The hub node that leads: the one of the highest term if two say so.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leaders = self.hubs.iter().enumerate().filter(|(_, hub)| hub.answers && hub.role == "leader");
        leaders.max_by_key(|(_, hub)| hub.term).map(|(i, _)| i)
    }

    /// The coordinator's rows about a site.
    pub(crate) fn rows_of<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a LedgerRow> {
        self.ledger.iter().filter(move |row| row.site == site)
    }
}

/// The asking task and its latest result. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    latest: watch::Receiver<Snapshot>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to ask.
    pub(crate) fn begin(
        coordinator: SocketAddr,
        hubs: Vec<SocketAddr>,
        sites: Vec<(&'static str, SocketAddr)>,
    ) -> Self {
        let first = Snapshot {
            at: Instant::now(),
            sites: vec![SiteView::default(); sites.len()],
            hubs: vec![NodeView::default(); hubs.len()],
            hub_ledger: Vec::new(),
            ledger: Vec::new(),
            coordinator_answers: false,
        };
        let (sender, latest) = watch::channel(first.clone());
        let task = tokio::spawn(async move {
            let mut now = first;
            loop {
                ask(&mut now, coordinator, &hubs, &sites).await;
                if sender.send(now.clone()).is_err() {
                    return;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
        Self { latest, task }
    }

    /// The latest snapshot.
    pub(crate) fn now(&self) -> Snapshot {
        self.latest.borrow().clone()
    }

    /// Waits for a snapshot that satisfies a condition; returns it, or an error
    /// that says what was waited for.
    pub(crate) async fn until(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Snapshot> {
        let mut latest = self.latest.clone();
        match tokio::time::timeout(within, latest.wait_for(|snapshot| holds(snapshot))).await {
            Ok(Ok(snapshot)) => Ok(snapshot.clone()),
            Ok(Err(_)) => bail!("nobody watches the federation any more"),
            Err(_) => bail!("waited {within:?} in vain: {what}"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(now: &mut Snapshot, coordinator: SocketAddr, hubs: &[SocketAddr], sites: &[(&'static str, SocketAddr)]) {
    for (view, (name, address)) in now.sites.iter_mut().zip(sites) {
        match site(name, *address).await {
            Ok(fresh) => *view = fresh,
            // The figures of a site that is away stay on the screen.
            Err(_) => view.answers = false,
        }
    }
    for (view, address) in now.hubs.iter_mut().zip(hubs) {
        *view = node(*address).await.unwrap_or_default();
    }
    let speaker = now.leader().or_else(|| now.hubs.iter().position(|hub| hub.answers));
    if let Some(i) = speaker
        && let Ok(rows) = ledger(hubs[i]).await
    {
        now.hub_ledger = rows;
    }
    match ledger(coordinator).await {
        Ok(rows) => (now.ledger, now.coordinator_answers) = (rows, true),
        Err(_) => now.coordinator_answers = false,
    }
    now.at = Instant::now();
}

async fn site(name: &str, address: SocketAddr) -> Result<SiteView> {
    let status = http::get_json(address, "/v1/status").await?;
    if text(&status, "site_id") != name {
        bail!("{address} is not {name}");
    }
    let lanes = status["pending"].as_object().context("status without `pending`")?;
    let all = |key: &str| lanes.values().filter_map(|lane| lane[key].as_u64()).sum();
    Ok(SiteView {
        answers: true,
        state: text(&status, "state").to_owned(),
        pending: all("events"),
        pending_bytes: all("bytes"),
        oldest_pending_s: status["oldest_pending_age_s"].as_f64().unwrap_or(0.0),
        ledger: ledger(address).await?,
    })
}

async fn node(address: SocketAddr) -> Result<NodeView> {
    let status = http::get_json(address, "/v1/status").await?;
    let consensus = &status["consensus"];
    Ok(NodeView {
        answers: true,
        role: text(consensus, "role").to_owned(),
        term: consensus["term"].as_u64().unwrap_or(0),
    })
}

/// The whole ledger of a tier, over all pages.
async fn ledger(address: SocketAddr) -> Result<Vec<LedgerRow>> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = http::get_json(address, &format!("/v1/ledger{cursor}")).await?;
        let object = page.as_object().context("the ledger is no object")?;
        let lines = object.values().find(|value| value.is_array()).context("the ledger has no list")?;
        rows.extend(list(lines).iter().map(LedgerRow::read));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("?cursor={}", http::escaped(next)),
            None => return Ok(rows),
        }
    }
}

/// Rows by their key, for comparing tiers.
pub(crate) fn by_key(rows: &[LedgerRow]) -> BTreeMap<(String, u64, String), &LedgerRow> {
    rows.iter().map(|row| (row.key(), row)).collect()
}
