//! Both ends of an uplink in one process: a site with blocks to send, and a
//! tier above that takes them. Prints how fast they went.
//!
//! `cargo run -p grey-net --example uplink [BLOCKS [PAYLOAD_BYTES]]`

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use grey_model::{BlockHeader, Compression, Epoch, Lane, SiteId, Stamp};
use grey_net::uplink_client::{self, Ports};
use grey_net::uplink_server::{self, Completion, HelloAnswer, Leadership, Peer, ServerConfig, ServerStats, UplinkHost};
use grey_sync::{Action, Heartbeat, Hello, Outbox, OutboxError, OwnStreams, ReceiverStats, SenderConfig, SiteReport};
use tokio::sync::{Notify, mpsc, watch};

/// The upper tier: takes everything. A real one hands `block` to its engine and
/// answers through `completion` once a quorum has it on disk.
struct Tier;

impl UplinkHost for Tier {
    fn hello(&self, peer: Peer, hello: &Hello) -> HelloAnswer {
        println!("{} comes from {}", hello.sender, peer.address);
        HelloAnswer::Accept { coverage: vec![], window_bytes: 4 << 20, term: 1 }
    }
    fn propose(&self, _: Peer, _block: Bytes, _header: BlockHeader, completion: Completion) {
        completion.committed();
    }
    fn heartbeat(&self, _: Peer, _: &Hello, _: &Heartbeat, _: &ReceiverStats) {}
    fn sites(&self, _: Peer, _: &Hello, _: Vec<SiteReport>) {}
    fn disconnected(&self, _: Peer, hello: &Hello, reason: &str, stats: &ReceiverStats) {
        println!("{} left: {reason}; {stats:?}", hello.sender);
    }
}

/// The lower tier's data: the block at position `n` has sequence `n`.
struct Blocks {
    blocks: Vec<Bytes>,
    epoch: Epoch,
}

impl Outbox for Blocks {
    fn next(&mut self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, OutboxError> {
        let block = self.blocks.get(from as usize).filter(|_| lane == Lane::Bulk);
        Ok(block.map(|block| (from, block.clone())))
    }
    fn own_streams(&mut self) -> OwnStreams {
        OwnStreams { epoch: self.epoch, next_seqs: [0, 0, self.blocks.len() as u64] }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(2_000), |text| text.parse())?;
    let payload: usize = arguments.next().map_or(Ok(64 * 1024), |text| text.parse())?;
    let (listener, address) = grey_net::listen("sync", "127.0.0.1:0", false).await?;
    let (_leadership, leads) = watch::channel(Leadership::Leading);
    let (stop_server, server_stops) = watch::channel(false);
    let stats = Arc::new(ServerStats::default());
    let server = uplink_server::serve(listener, ServerConfig::default(), Arc::new(Tier), leads, stats, server_stops);
    let server = tokio::spawn(server);

    let site = SiteId::new("site-1")?;
    let epoch = Epoch(1);
    let blocks: Vec<Bytes> = (0..count).map(|seq| block(&site, epoch, seq, payload)).collect();
    let bytes: usize = blocks.iter().map(Bytes::len).sum();
    let (action_in, mut actions) = mpsc::channel(16);
    let (status_in, status) = watch::channel(None);
    let (stop_client, client_stops) = watch::channel(false);
    let ports =
        Ports { wakeups: Arc::new(Notify::new()), actions: action_in, status: status_in, shutdown: client_stops };
    let config = SenderConfig::new(site, vec![address.to_string()]);
    let start = Instant::now();
    let client = tokio::spawn(uplink_client::run(config, [0; 3], Blocks { blocks, epoch }, ports));
    while let Some(action) = actions.recv().await {
        if matches!(action, Action::Acked { upto, .. } if upto == count) {
            break;
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!("{count} blocks, {:.0} MB/s, {:.0} blocks/s", bytes as f64 / took / 1e6, count as f64 / took);
    stop_client.send_replace(true);
    drop(actions);
    client.await??;
    println!("{:?}", status.borrow().as_ref().map(|status| status.uplink.stats));
    stop_server.send_replace(true);
    server.await?;
    Ok(())
}

fn block(site: &SiteId, epoch: Epoch, seq: u64, payload: usize) -> Bytes {
    let header = BlockHeader {
        site: site.clone(),
        epoch,
        lane: Lane::Bulk,
        first_seq: seq,
        span: 1,
        events: 1,
        time_min_ms: 0,
        time_max_ms: 0,
        stamp: Stamp::default(),
        kinds: 1,
        intake: 0,
        compression: Compression::None,
        payload_raw_len: payload as u32,
        accounts: vec![],
    };
    header.encode(&vec![0; payload])
}
