//! An etcd of three members, and clients that put one key after the other.
//!
//! The few messages of etcd's gRPC interface that are needed are written down
//! here (`api/etcdserverpb/rpc.proto` of etcd 3.4), so that no compiler for
//! them has to be installed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use grey_bench::process::Server;
use grey_bench::{Outcome, debian, http, ports};
use prost::Message;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::timing::{Latencies, Timing};
use crate::{Turn, Work};

const MEMBERS: usize = 3;
/// Room for the longest run: the default of 2 GB would stop it.
const QUOTA_BYTES: u64 = 8 << 30;

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "6")]
    raft_term: u64,
}

/// One call.
async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Outcome<A>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

struct Etcd {
    servers: Vec<Server>,
    clients: Vec<SocketAddr>,
}

impl Etcd {
    fn start(folder: &Path) -> Outcome<Self> {
        let free = ports::free(2 * MEMBERS)?;
        let (clients, peers) = free.split_at(MEMBERS);
        let url = |address: &SocketAddr| format!("http://{address}");
        let cluster: Vec<String> = peers.iter().enumerate().map(|(n, peer)| format!("m{n}={}", url(peer))).collect();
        let mut servers = Vec::new();
        for n in 0..MEMBERS {
            let args: Vec<OsString> = [
                ("--name", format!("m{n}")),
                ("--data-dir", folder.join(format!("data-{n}")).display().to_string()),
                ("--listen-client-urls", url(&clients[n])),
                ("--advertise-client-urls", url(&clients[n])),
                ("--listen-peer-urls", url(&peers[n])),
                ("--initial-advertise-peer-urls", url(&peers[n])),
                ("--initial-cluster", cluster.join(",")),
                ("--initial-cluster-state", "new".to_owned()),
                ("--quota-backend-bytes", QUOTA_BYTES.to_string()),
                ("--log-level", "warn".to_owned()),
                ("--logger", "zap".to_owned()),
            ]
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value.into()])
            .collect();
            servers.push(Server::start(&format!("etcd-{n}"), &debian("etcd")?, &args, folder)?);
        }
        for (server, client) in servers.iter_mut().zip(clients) {
            server.wait("be healthy", |_| match http::get(*client, "/health") {
                Ok((200, body)) if body.contains("true") => Some(()),
                _ => None,
            })?;
        }
        Ok(Self { servers, clients: clients.to_vec() })
    }

    /// The leader's address and its term.
    async fn leader(&self) -> Outcome<(SocketAddr, u64)> {
        for client in &self.clients {
            let channel = Endpoint::from_shared(format!("http://{client}"))?.connect().await?;
            let status: StatusResponse = call(&channel, "/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok((*client, status.raft_term));
            }
        }
        Err("etcd has no leader".into())
    }
}

/// One turn: a new etcd, its writers, its figures.
pub(crate) fn turn(folder: &Path, work: &Work, timing: Timing, connections: usize) -> Outcome<Turn> {
    let mut etcd = Etcd::start(folder)?;
    let pids: Vec<u32> = etcd.servers.iter().map(Server::pid).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let turn = runtime.block_on(async {
        let (leader, term) = etcd.leader().await?;
        let mut channels = Vec::new();
        for _ in 0..connections.clamp(1, work.writers) {
            let endpoint = Endpoint::from_shared(format!("http://{leader}"))?.tcp_nodelay(true);
            channels.push(endpoint.connect().await?);
        }
        let mut writers = JoinSet::new();
        for n in 0..work.writers {
            writers.spawn(write(n, channels[n % channels.len()].clone(), work.clone(), timing.clone()));
        }
        let (turn, commits) = timing.measure(writers, &pids).await?;
        let last: PutResponse = put(&channels[0], "last".into(), Bytes::new()).await?;
        let revision = last.header.map_or(0, |header| header.revision);
        if (revision as u64) < commits {
            return Err(format!("{commits} puts were acknowledged, but etcd is at revision {revision}").into());
        }
        match etcd.leader().await? {
            (_, after) if after != term => {
                Err(format!("the leader changed in the run: term {after} after {term}").into())
            }
            _ => Outcome::Ok(turn),
        }
    })?;
    etcd.servers.iter_mut().try_for_each(Server::check)?;
    Ok(turn)
}

async fn put(channel: &Channel, key: Bytes, value: Bytes) -> Outcome<PutResponse> {
    call(channel, "/etcdserverpb.KV/Put", PutRequest { key, value }).await
}

async fn write(n: usize, channel: Channel, work: Work, timing: Timing) -> Outcome<Latencies> {
    let mut latencies = timing.begin().await?;
    let mut number = 0;
    while !latencies.is_over() {
        let value = work.payload(n, number);
        let key: Bytes = format!("site-{n}/{number}").into();
        let began = Instant::now();
        put(&channel, key, value).await?;
        latencies.add(began);
        number += 1;
    }
    Ok(latencies)
}
