//! An edge agent as one object: starts every part, names its addresses, and
//! drains on request.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grey_api::metrics::{
    Collector, EdgeMetrics, EffectMetrics, Exposition, Protocol, RulesMetrics, SiteFigures, SiteLabels, SiteState,
    StorageMetrics, UplinkFigures, UplinkMetrics, names,
};
use grey_api::{Metrics, Readiness};
use grey_config::Durability;
use grey_disk::{Disk, RealDisk, UnsyncedDisk};
use grey_infer::ModelError;
use grey_ingest::mqtt::ServerConfig as MqttConfig;
use grey_ingest::topic::{TopicMap, TopicMapError};
use grey_ingest::{Batch, Broker, BrokerConfig, IngestCounters, Op, Refusal};
use grey_ledger::Tally;
use grey_link::{BackoffConfig, BudgetUsage, LinkState};
use grey_model::{Event, Lane};
use grey_net::uplink_client::{self, LinkStatus, Ports};
use grey_net::{ListenError, listen};
use grey_rules::{RuleError, RuleSet};
use grey_seal::KeyError;
use grey_sync::{Action, DrainState, SenderConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::alerts::AlertBook;
use crate::config::EdgeConfig;
use crate::core::{CoreConfig, CoreError, LanePolicy, Progress};
use crate::engine::{Engine, EngineHandle};
use crate::figures::rules_figures;
use crate::http::{Site, api, link_state};
use crate::models::Models;
use crate::outbox::{Look, OutboxFigures};
use crate::reload::{ConfigSource, ReloadError, Reloaded, Reloader};
use crate::reporter::{Acts, Reporter};
use crate::time::unix_ms;
use crate::usage::{BudgetFile, keep_usage};
use crate::webhook::{self, Webhooks};

/// How often figures for metrics are taken.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);
/// How often the model directory is looked at, where it is watched.
const MODELS_INTERVAL: Duration = Duration::from_secs(30);
/// How long stopping may take before what is left is cut off.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Actions of the uplink that wait to be handled.
const ACTIONS_MAX: usize = 256;

/// Why an edge agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The stored state cannot be opened.
    #[error("cannot open the stored state in {path}: {source}", path = path.display())]
    Core {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<CoreError>,
    },
    /// A key cannot be read.
    #[error("the keys of storage.encryption cannot be used: {0}")]
    Key(#[from] KeyError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The rules do not compile.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// A model cannot be kept for replays.
    #[error("a model cannot be kept in the data directory: {0}")]
    Models(#[from] ModelError),
    /// The topic patterns are wrong.
    #[error(transparent)]
    Topics(#[from] TopicMapError),
    /// The engine's thread cannot be started.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

impl StartError {
    /// True when the configuration is what has to be mended: nothing was changed on disk.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Core { source, .. } => source.is_key_missing(),
            _ => false,
        }
    }
}

/// A running edge agent.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use grey_edge::{EdgeConfig, EdgeNode};
/// use grey_model::{Event, SiteId};
///
/// let config = EdgeConfig::default_for_embedding(SiteId::new("plant-7")?);
/// let node = EdgeNode::start(config, "data".as_ref()).await?;
/// node.ingest(Event::reading("press-1", "temperature", 71.5, 1_767_225_600_000)).await?;
/// node.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EdgeNode {
    site: Arc<Site>,
    broker: Broker,
    addresses: Vec<(&'static str, SocketAddr)>,
    notes: Vec<String>,
    readiness: Readiness,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    engine_end: oneshot::Receiver<Result<(), CoreError>>,
}

impl EdgeNode {
    /// Opens the data directory, starts listeners, the engine and the uplink. Events are
    /// taken at once; while a replay runs they wait for their evaluation, and `/readyz` says so.
    pub async fn start(config: EdgeConfig, data_dir: &Path) -> Result<Self, StartError> {
        Self::start_from(config, None, data_dir).await
    }

    /// As [`EdgeNode::start`], with the file that the configuration came from: a reload reads it again.
    pub async fn start_from(
        config: EdgeConfig,
        source: Option<ConfigSource>,
        data_dir: &Path,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let hub = config.grey.parent_hub.as_ref().map(ToString::to_string).unwrap_or_default();
        let labels = SiteLabels { site: config.site_id.clone(), hub: hub.clone(), region: String::new() };
        let rules_metrics = RulesMetrics::new(&metrics, labels.clone());
        let topics = TopicMap::new(&config.ingest.mqtt.topics)?;
        let no_dir = |source| StartError::DataDir { path: data_dir.into(), source };
        std::fs::create_dir_all(data_dir).map_err(no_dir)?;
        let real = RealDisk::new(data_dir);
        let lock = real.lock().map_err(no_dir)?;
        let models_dir = config.local_processing.models.dir.as_deref();
        let models = Models::new(models_dir, data_dir, Some(rules_metrics.clone()));
        let rules = Arc::new(config.rule_set_with(&models)?);
        models.keep(&rules)?;
        rules.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let disk: Arc<dyn Disk> = match config.durability {
            Durability::Fsync => Arc::new(real),
            Durability::UnsafeNoFsync => Arc::new(UnsyncedDisk::new(real)),
        };
        let (seal, warnings) = config.storage.encryption.seal()?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let library = Arc::new(models.clone());
        let core_config = CoreConfig { library, seal, ..core_config(&config, Arc::clone(&rules)) };
        let (engine, handle, opened) = Engine::open(disk, core_config, entropy())
            .map_err(|source| StartError::Core { path: data_dir.into(), source: Box::new(source) })?;

        let mut addresses = Vec::new();
        let mut open = async |kind: &'static str, address: String| -> Result<TcpListener, StartError> {
            let (listener, bound) = listen(kind, &address, config.insecure).await?;
            addresses.push((kind, bound));
            Ok(listener)
        };
        let mqtt = open("mqtt", config.ingest.mqtt.listen.to_string()).await?;
        let http = open("http", config.api_listen().to_string()).await?;
        let http_ingest = match config.ingest.http.listen {
            Some(address) => Some(open("http-ingest", address.to_string()).await?),
            None => None,
        };

        let edge_metrics = EdgeMetrics::new(&metrics, labels.clone());
        let counters = Arc::new(IngestCounters::default());
        metrics.collect_with(Arc::new(MqttFigures { counters: Arc::clone(&counters), labels: labels.clone() }));
        let effects = EffectMetrics::new(&metrics, &labels);
        let broker = Broker::new(BrokerConfig::default(), Arc::clone(&counters));
        let alerts = AlertBook::default();
        let (link_sender, link) = watch::channel(None);
        let (recovery, recovery_watch) = watch::channel(Some(Progress { replayed: 0, total: opened.replay }));
        let site = Arc::new(Site {
            engine: handle.clone(),
            link,
            alerts: alerts.clone(),
            hub,
            has_hub: !config.connectivity.hub_addresses.is_empty(),
            started_ms: unix_ms(),
            recovery: recovery_watch,
            reloader: Reloader::new(config.clone(), &rules, source, models, handle.clone()),
            counters: Arc::clone(&counters),
            budget: config.connectivity.budget.to_config(),
        });
        let readiness = Readiness::new(&["storage"]);
        readiness.not_ready("storage", format!("replaying {} intake records", opened.replay));

        let (end_sender, engine_end) = oneshot::channel();
        let acts = Acts {
            site: config.site_id.clone(),
            alerts,
            broker: broker.clone(),
            metrics: edge_metrics.clone(),
            rules: rules_metrics.clone(),
            effects: effects.clone(),
        };
        let (requests, asked) = webhook::channel();
        let mut events = Reporter {
            metrics: edge_metrics.clone(),
            requests,
            readiness: readiness.clone(),
            recovery: Arc::new(recovery),
        };
        std::thread::Builder::new()
            .name("edge-engine".into())
            .spawn(move || {
                let end = engine.run(&mut events, Box::new(acts));
                // Not before: a dropped node's engine still writes its last checkpoint.
                drop(lock);
                let _ = end_sender.send(end);
            })
            .map_err(StartError::Thread)?;

        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let router = api(&readiness, &metrics).into_router().with_state(Arc::clone(&site));
        for listener in [Some(http), http_ingest].into_iter().flatten() {
            let http_config = grey_api::ServerConfig { metrics: Some(metrics.clone()), ..Default::default() };
            let (router, mut stopping) = (router.clone(), stopping.clone());
            tasks.spawn(async move {
                grey_api::serve(listener, router, http_config, async move { stopped(&mut stopping).await }).await;
            });
        }
        let mqtt_config = MqttConfig {
            topics,
            packet_bytes_max: config.ingest.mqtt.max_packet_bytes.bytes() as usize,
            connections_max: config.ingest.mqtt.max_connections as usize,
            counters,
            ..MqttConfig::default()
        };
        // Devices are let in at once: while the site recovers, what they send is made durable and evaluated later.
        let (intake, to_devices, stop_mqtt) = (handle.intake.clone(), broker.clone(), stopping.clone());
        tasks.spawn(async move {
            if let Err(error) = grey_ingest::serve(mqtt, Arc::new(mqtt_config), intake, to_devices, stop_mqtt).await {
                tracing::error!(%error, "the MQTT listener ended");
            }
        });
        let webhooks = Webhooks {
            requests: asked,
            engine: handle.clone(),
            metrics: effects,
            stop: stopping.clone(),
            seed: entropy().0,
        };
        tasks.spawn(webhook::run(webhooks));
        if site.has_hub {
            handle.online(false);
            let usage = BudgetFile::open(data_dir);
            let uplink = uplink_config(&config, usage.saved());
            tasks.spawn(keep_usage(usage, site.link.clone(), stopping.clone()));
            tasks.spawn(run_uplink(uplink, handle.clone(), link_sender, stopping.clone()));
        }
        let id = config.site_id.as_str();
        let gauges = Gauges {
            edge: edge_metrics,
            rules: rules_metrics,
            uplink: UplinkMetrics::new(&metrics, "edge", id),
            stores: STORES.map(|store| StorageMetrics::new(&metrics, "edge", id, store)),
            capacity: config.queue_bytes_max(),
            outbox: OutboxFigures::new(&metrics, labels, config.connectivity.budget.to_config()),
        };
        if !opened.notes.is_empty() {
            gauges.stores[0].damaged(opened.notes.len() as u64, 0);
        }
        tasks.spawn(watch_models(Arc::clone(&site), stopping.clone()));
        tasks.spawn(take_figures(Arc::clone(&site), gauges, stopping));
        Ok(Self { site, broker, addresses, notes: opened.notes, readiness, metrics, stop, tasks, engine_end })
    }

    /// The bound addresses by kind: `mqtt`, `http`, `http-ingest`.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// What was damaged in the data directory, and what was done about it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The site's own publish and subscribe, for programs in this process.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// What `/metrics` shows, to add to.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// True once the replay is done.
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// Resolves once the replay is done: what is taken from then on is evaluated at once.
    pub async fn recovered(&self) {
        // An error means that the engine has ended.
        let _ = self.site.engine.recovered.clone().wait_for(|done| *done).await;
    }

    /// Takes one event; returns once it is durable. While the site recovers, it is evaluated later.
    pub async fn ingest(&self, event: Event) -> Result<(), Refusal> {
        self.ingest_batch(vec![event]).await
    }

    /// Takes events with one commit; returns once all are durable.
    pub async fn ingest_batch(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let ops = events.into_iter().map(|event| Op::Event { event, lane: None, qos2: None }).collect();
        let (done, durable) = oneshot::channel();
        self.site
            .engine
            .intake
            .send(Batch { ops, arrived: Instant::now(), done })
            .await
            .map_err(|_| Refusal::Stopping)?;
        durable.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Hands everything to the uplink now and waits until the hub has it.
    pub async fn sync(&self) -> Result<(), Refusal> {
        loop {
            let look = |core: &mut crate::core::EdgeCore| {
                let flushed = core.flush(unix_ms(), true).map_err(|error| error.to_string());
                flushed.map(|_| Lane::ALL.iter().all(|lane| core.queue().lane(*lane).pending.blocks == 0))
            };
            match self.site.engine.visit(look).await.ok_or(Refusal::Stopping)? {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(reason) => return Err(Refusal::Failed(reason)),
            }
            self.site.engine.outbox_ready.notify_one();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Changes the rules and the forwarding policy between two events.
    pub async fn set_rules(&self, rules: RuleSet) -> Result<(), String> {
        self.site.engine.set_rules(Arc::new(rules)).await
    }

    /// Reads the configuration file and the model directory again. What can act at once does,
    /// between two events; the rest is named. Any mistake leaves everything as it was.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.site.reloader.reload().await
    }

    /// Resolves when the engine has ended by itself: its disk failed.
    pub async fn failed(&mut self) -> CoreError {
        match (&mut self.engine_end).await {
            Ok(Err(error)) => error,
            _ => std::future::pending().await,
        }
    }

    /// Stops taking events, writes down what was taken, and ends.
    pub async fn stop(mut self) -> Result<(), CoreError> {
        self.readiness.drain();
        self.stop.send_replace(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, drained).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut off");
            self.tasks.abort_all();
        }
        self.site.engine.stop();
        self.engine_end.await.unwrap_or(Ok(()))
    }
}

/// Random words from the operating system, by way of the standard hasher's keys.
fn entropy() -> (u64, u64) {
    let word = || RandomState::new().build_hasher().finish();
    (word(), word())
}

fn core_config(config: &EdgeConfig, rules: Arc<RuleSet>) -> CoreConfig {
    CoreConfig {
        queue: config.queue_config(),
        lanes: Lane::ALL.map(|lane| {
            let policy = LanePolicy::default_for(lane);
            match config.connectivity.sync_interval.filter(|_| lane == Lane::Bulk) {
                Some(interval) => LanePolicy { linger_ms: interval.as_millis(), ..policy },
                None => policy,
            }
        }),
        intake_retention_ms: config.storage.intake_retention.as_millis() as i64,
        intake_bytes_max: config.storage.intake_max_bytes.bytes(),
        workers: usize::from(config.local_processing.workers).max(1),
        checkpoint_interval_ms: config.consensus.snapshot_interval.as_millis() as i64,
        ..CoreConfig::new(config.site_id.clone(), rules)
    }
}

fn uplink_config(config: &EdgeConfig, budget_usage: BudgetUsage) -> SenderConfig {
    let (schedule, schedule_exempts_critical) = config.link_schedule();
    let backoff = &config.connectivity.backoff;
    let addresses = config.connectivity.hub_addresses.iter().map(ToString::to_string).collect();
    let interval_ms = config.heartbeat_interval.as_millis();
    SenderConfig {
        seed: entropy().0,
        agent: concat!("edge-agent/", env!("CARGO_PKG_VERSION")).into(),
        heartbeat_interval_ms: interval_ms,
        heartbeat_timeout_ms: interval_ms * 3,
        normal_weight: config.lanes.normal.weight,
        bulk_weight: config.lanes.bulk.weight,
        live_share_percent: u8::try_from(config.lanes.live_share).unwrap_or(u8::MAX),
        budget: config.connectivity.budget.to_config(),
        budget_usage,
        budget_exempts_critical: config.connectivity.budget.exempt_critical,
        schedule,
        schedule_exempts_critical,
        backoff: BackoffConfig {
            initial_ms: backoff.initial.as_millis(),
            max_ms: backoff.max.as_millis(),
            factor: backoff.factor,
            jitter_percent: backoff.jitter_percent,
            stable_ms: backoff.stable.as_millis(),
        },
        ..SenderConfig::new(config.site_id.clone(), addresses)
    }
}

/// What the MQTT server counts, read when somebody scrapes.
struct MqttFigures {
    counters: Arc<IngestCounters>,
    labels: SiteLabels,
}

impl Collector for MqttFigures {
    fn collect(&self, out: &mut Exposition) {
        let SiteLabels { site, hub, region } = &self.labels;
        self.counters.visit(|counter, label, value| {
            let (metric, last) = match (counter, label) {
                ("messages", Some((_, qos))) => (&names::MQTT_MESSAGES, qos),
                ("malformed", Some((_, reason))) => (&names::MQTT_MALFORMED, reason),
                (counter, _) => (&names::MQTT_COUNTS, counter),
            };
            out.sample(metric, &[site.as_str(), hub, region, last], value as f64);
        });
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for the end of the replay; false when the agent stops before.
async fn is_recovered(handle: &mut EngineHandle, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        done = async { handle.recovered.wait_for(|done| *done).await.is_ok() } => done,
        () = stopped(stop) => false,
    }
}

async fn run_uplink(
    config: SenderConfig,
    mut handle: EngineHandle,
    status: watch::Sender<Option<LinkStatus>>,
    mut stop: watch::Receiver<bool>,
) {
    if !is_recovered(&mut handle, &mut stop).await {
        return;
    }
    let acked = handle.visit(|core| Lane::ALL.map(|lane| core.queue().lane(lane).acked)).await;
    let (sender, mut actions) = mpsc::channel(ACTIONS_MAX);
    let ports = Ports { wakeups: Arc::clone(&handle.outbox_ready), actions: sender, status, shutdown: stop };
    let outbox = handle.outbox();
    let uplink = tokio::spawn(uplink_client::run(config, acked.unwrap_or_default(), outbox, ports));
    while let Some(action) = actions.recv().await {
        match action {
            Action::Acked { lane, upto } => handle.acked(lane, upto),
            Action::PeerAhead { streams } => handle.parent_ahead(streams),
            Action::Established { address, node, term } => {
                tracing::info!(address, node, term, "connected to the hub");
            }
            Action::Unsendable { lane, position, reason } => {
                tracing::error!(%lane, position, reason, "a block cannot be sent");
            }
            Action::OutboxFailed { lane, reason } => tracing::error!(%lane, reason, "the outbox cannot be read"),
            Action::Rejected { code, message } => {
                tracing::error!(?code, message, "the hub refused this site");
            }
            Action::Link(change) => {
                tracing::info!(from = %change.from, to = %change.to, "link");
                handle.online(matches!(change.to, LinkState::Online | LinkState::Degraded));
            }
            Action::Drain(DrainState::Stalled { reason, .. }) => tracing::warn!(%reason, "nothing drains"),
            Action::Drain(state) => tracing::info!(state = state.as_str(), "the outbox drains again"),
            Action::Covered { .. } | Action::Dial { .. } | Action::Close { .. } => {}
        }
    }
    match uplink.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the uplink's settings are wrong"),
        Err(error) => tracing::error!(%error, "the uplink ended"),
    }
}

/// Adopts versions of models that come or go, where the configuration asks for it.
async fn watch_models(site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(MODELS_INTERVAL) => {}
            () = stopped(&mut stop) => return,
        }
        match site.reloader.adopt_models().await {
            Ok(false) => {}
            Ok(true) => tracing::info!("the models' directory has changed, and the rules use what it has now"),
            Err(error) => tracing::error!(%error, "the models' directory has changed, and cannot be used"),
        }
    }
}

/// The stores of a site, as [`EdgeCore::bytes_on_disk`](crate::core::EdgeCore::bytes_on_disk) names them.
const STORES: [&str; 5] = ["intake", "outbox", "ids", "dead_letters", "actions"];

/// The metrics that are states rather than events.
struct Gauges {
    edge: EdgeMetrics,
    rules: RulesMetrics,
    uplink: UplinkMetrics,
    stores: [StorageMetrics; 5],
    capacity: u64,
    outbox: OutboxFigures,
}

impl Gauges {
    fn link(&self, link: &LinkStatus) {
        let stats = &link.uplink.stats;
        let session = link.uplink.session.as_ref();
        self.uplink.set(&UplinkFigures {
            connected: session.is_some(),
            connects: stats.sessions,
            failures: stats.failures,
            redirects: stats.redirects,
            blocks_sent: stats.blocks_out,
            blocks_acknowledged: stats.blocks_acked,
            sent_bytes: stats.bytes_out,
            received_bytes: stats.bytes_in,
            unacknowledged_bytes: session.map_or(0, |s| s.in_flight_bytes),
            round_trip_ms: session.and_then(|s| s.rtt_ms),
        });
    }
}

/// Feeds the metrics that are states rather than events.
async fn take_figures(site: Arc<Site>, gauges: Gauges, mut stop: watch::Receiver<bool>) {
    let metrics = &gauges.edge;
    let mut told = Tally::default();
    let (mut dead_told, mut open_told, mut overflow_told) = (0, 0, 0);
    loop {
        tokio::select! {
            () = tokio::time::sleep(FIGURES_INTERVAL) => {}
            () = stopped(&mut stop) => return,
        }
        let look = |core: &mut crate::core::EdgeCore| {
            let mut tally = Tally::default();
            core.ledger().iter().for_each(|row| tally.add(&row.tally));
            let pending = Lane::ALL.map(|lane| (core.pending_events(lane), core.queue().lane(lane).pending.bytes));
            let oldest = core.queue().oldest_pending_ms();
            (
                tally,
                pending,
                oldest,
                core.accepted_total(),
                core.counters().dead_letters,
                core.queue().bytes_pending(),
                core.bytes_on_disk(),
                core.disk_available(),
                rules_figures(core),
                Look::at(core),
            )
        };
        let Some((tally, pending, oldest, accepted, dead, buffer, disk, free, rules, outbox)) =
            site.engine.visit(look).await
        else {
            return;
        };
        gauges.rules.set(rules);
        metrics.set_accepted_total(accepted);
        metrics.reduced(tally.reduced.saturating_sub(told.reduced));
        metrics.deduplicated(tally.deduplicated.saturating_sub(told.deduplicated));
        let dropped = tally.dropped.saturating_sub(told.dropped);
        let overflow = outbox.dropped_by_overflow();
        let by_overflow = overflow.saturating_sub(overflow_told).min(dropped);
        metrics.dropped_by_overflow(by_overflow);
        metrics.dropped_by_damage(dropped - by_overflow);
        metrics.dead_lettered(dead.saturating_sub(dead_told));
        let open = site.counters.connections_open();
        (open_told..open).for_each(|_| metrics.connection_opened(Protocol::Mqtt));
        (open..open_told).for_each(|_| metrics.connection_closed(Protocol::Mqtt));
        (told, dead_told, open_told, overflow_told) = (tally, dead, open, overflow);
        let (state, _) = link_state(&site);
        let link = site.link.borrow().clone();
        link.iter().for_each(|link| gauges.link(link));
        gauges.outbox.set(outbox, link.as_ref());
        for (store, (_, bytes)) in gauges.stores.iter().zip(disk) {
            store.set_bytes(bytes, free.unwrap_or(0));
        }
        metrics.update_figures(|figures| {
            *figures = SiteFigures {
                state: match state {
                    LinkState::Online => SiteState::Online,
                    LinkState::Degraded => SiteState::Degraded,
                    LinkState::Offline => SiteState::Offline,
                    LinkState::Island => SiteState::Island,
                },
                buffer_bytes: Some(buffer),
                buffer_capacity_bytes: Some(gauges.capacity),
                last_sync_ms: link.and_then(|l| l.uplink.last_ack_ms.map(|at| l.unix_ms(at))),
                pending: Some(pending),
                oldest_pending_age_ms: Some(oldest.map_or(0, |at| (unix_ms() - at).max(0) as u64)),
                ..std::mem::take(figures)
            };
        });
    }
}
