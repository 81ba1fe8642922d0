//! A hub of three members, and sites that send it one block after the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use grey_bench::hub::{Hub, led};
use grey_bench::process::Server;
use grey_bench::{Outcome, Places};
use grey_model::{BlockHeader, Compression, Epoch, Lane, SiteId, Stamp};
use grey_net::uplink_client::{self, Ports};
use grey_sync::{Action, Outbox, OutboxError, OwnStreams, SenderConfig};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::timing::{Latencies, Timing};
use crate::{Turn, Work};

const MEMBERS: usize = 3;
/// Actions of an uplink that wait for the writer.
const ACTIONS_MAX: usize = 16;

/// One turn: a new hub, its writers, its figures.
pub(crate) fn turn(places: &Places, folder: &Path, work: &Work, timing: Timing) -> Outcome<Turn> {
    let mut hub = Hub::start(places, folder, Ipv4Addr::LOCALHOST, MEMBERS)?;
    let before = led(&hub.http).ok_or("the hub lost its leader before the start")?;
    let pids: Vec<u32> = hub.servers.iter().map(Server::pid).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (turn, commits) = runtime.block_on(async {
        let mut writers = JoinSet::new();
        for n in 0..work.writers {
            writers.spawn(write(n, hub.sync.clone(), work.clone(), timing.clone()));
        }
        timing.measure(writers, &pids).await
    })?;
    hub.servers.iter_mut().try_for_each(Server::check)?;
    let after = led(&hub.http).ok_or("the hub has no leader after the run")?;
    if after.term != before.term {
        return Err(format!("the leader changed in the run: term {} after {}", after.term, before.term).into());
    }
    if after.blocks < commits {
        return Err(format!("{commits} blocks were acknowledged, but the hub has {}", after.blocks).into());
    }
    Ok(turn)
}

/// A site's outbox of at most one block.
#[derive(Debug, Clone, Default)]
struct Single(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    position: u64,
    block: Option<Bytes>,
}

const EPOCH: Epoch = Epoch(1);

impl Outbox for Single {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_next = lane == Lane::Bulk && held.position >= from;
        Ok(held.block.clone().filter(|_| is_next).map(|block| (held.position, block)))
    }

    fn own_streams(&mut self) -> OwnStreams {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        OwnStreams { epoch: EPOCH, next_seqs: [0, 0, held.position + u64::from(held.block.is_some())] }
    }
}

impl Single {
    fn put(&self, position: u64, block: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Held { position, block: Some(block) };
    }
}

async fn write(n: usize, addresses: Vec<SocketAddr>, work: Work, timing: Timing) -> Outcome<Latencies> {
    let site = SiteId::new(&format!("site-{n}"))?;
    let mut config = SenderConfig::new(site.clone(), addresses.iter().map(ToString::to_string).collect());
    config.in_flight_blocks_max = 1;
    config.seed = n as u64;
    let (outbox, wakeups) = (Single::default(), Arc::new(Notify::new()));
    let (action_in, mut actions) = mpsc::channel(ACTIONS_MAX);
    let (stop, stopping) = watch::channel(false);
    let (status, _status) = watch::channel(None);
    let ports = Ports { wakeups: Arc::clone(&wakeups), actions: action_in, status, shutdown: stopping };
    let uplink = tokio::spawn(uplink_client::run(config, [0; 3], outbox.clone(), ports));
    while !matches!(actions.recv().await.ok_or("the uplink ended")?, Action::Established { .. }) {}

    let mut latencies = timing.begin().await?;
    let mut position = 0;
    while !latencies.is_over() {
        let block = block(&site, position, &work.payload(n, position));
        let began = Instant::now();
        outbox.put(position, block);
        wakeups.notify_one();
        loop {
            match actions.recv().await.ok_or("the uplink ended")? {
                Action::Acked { lane: Lane::Bulk, upto } if upto > position => break,
                Action::Acked { .. } | Action::Covered { .. } | Action::Link(_) => {}
                other => return Err(format!("the session of site-{n} broke: {other:?}").into()),
            }
        }
        latencies.add(began);
        position += 1;
    }
    stop.send_replace(true);
    drop(actions);
    uplink.await??;
    Ok(latencies)
}

/// One event's block around a payload that is opaque to a hub.
fn block(site: &SiteId, seq: u64, payload: &[u8]) -> Bytes {
    let header = BlockHeader {
        site: site.clone(),
        epoch: EPOCH,
        lane: Lane::Bulk,
        first_seq: seq,
        span: 1,
        events: 1,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp::default(),
        kinds: 1,
        intake: seq,
        compression: Compression::None,
        payload_raw_len: payload.len() as u32,
        accounts: Vec::new(),
    };
    header.encode(payload)
}
