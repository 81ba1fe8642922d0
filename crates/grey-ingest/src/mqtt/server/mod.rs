//! Sockets, tasks and timers of the MQTT server.
//!
//! [`serve`] accepts connections and gives each a task of its own. The task is
//! one small future (`connection`) around one state (`client`); it owns no
//! read buffer (`scratch`), and its write buffer is given back when it idles.

#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock")]

mod client;
mod connection;
mod registry;
mod scratch;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::ServerConfig;
use super::session::Context;
use crate::broker::Broker;
use crate::intake::IntakeSender;
use client::Client;
use connection::Connection;
use registry::Registry;

/// Pause after a failed accept: usually all file descriptors are in use, and
/// only time brings some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which the kernel probes a peer, so that connections without
/// a keep-alive of MQTT do not outlive their device for ever.
const TCP_KEEPALIVE: Duration = Duration::from_secs(300);

/// What all connections of a server share.
#[derive(Debug)]
struct Shared {
    config: Arc<ServerConfig>,
    intake: IntakeSender,
    broker: Broker,
    auto_ids: AtomicU64,
}

impl Shared {
    fn context(&self) -> Context<'_> {
        Context { config: &self.config, broker: &self.broker, now_ms: (self.config.clock)() }
    }

    /// A client id for a client that brings none: unique among those connected,
    /// and its past is reset whatever it was.
    fn auto_client_id(&self) -> String {
        format!("auto-{:016x}", self.auto_ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// Serves devices on a listener until `shutdown` turns true (or its sender is
/// gone). Then every connection is told so, may wait for what the intake still
/// owes it, and is closed; the call returns when all are gone, at the latest
/// after [`ServerConfig::drain_timeout_ms`] and two seconds.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    intake: IntakeSender,
    broker: Broker,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let drain = Duration::from_millis(config.drain_timeout_ms) + Duration::from_secs(2);
    let server = Server::new(config, intake, broker);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(connection) = server.accept(stream, peer) {
                        tokio::spawn(connection);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // The guard that the wait returns must not live on: it is not Send.
            () = async { drop(shutdown.wait_for(|stop| *stop).await) } => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(drain, server.stop()).await.is_err() {
        tracing::warn!("connections are left that did not end in time");
    }
    Ok(())
}

/// Serves connections that come from elsewhere than a plain listener.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
}

impl Server {
    /// A server without a listener.
    pub fn new(config: Arc<ServerConfig>, intake: IntakeSender, broker: Broker) -> Self {
        let shared = Arc::new(Shared { config, intake, broker, auto_ids: AtomicU64::new(0) });
        Self { shared, registry: Arc::default() }
    }

    /// Prepares a TCP connection: no delay, probes.
    fn accept(&self, stream: TcpStream, peer: SocketAddr) -> Option<impl Future<Output = ()> + Send + use<>> {
        let set = stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE)));
        if let Err(error) = set {
            // The peer is gone already, or the options are not offered; neither matters to others.
            tracing::debug!(%peer, %error, "socket options not set");
        }
        self.attach(stream, Some(peer))
    }

    /// The task of one connection, to be spawned; `None` if there are too many
    /// or the server stops. Also for streams under TLS, and in memory.
    pub fn attach<S>(&self, stream: S, peer: Option<SocketAddr>) -> Option<impl Future<Output = ()> + Send + use<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.shared.config;
        let Some(place) = self.registry.enter(config.connections_max) else {
            config.counters.connections_over_limit.add(1);
            tracing::debug!(?peer, limit = config.connections_max, "connection refused: too many");
            return None;
        };
        config.counters.connections_opened.add(1);
        let client = Client::new(peer, Arc::clone(&self.shared), place);
        Some(Running { connection: Connection::new(stream, client), _closed: Closed(Arc::clone(&self.shared)) })
    }

    /// Tells all connections to end, admits no more, and waits until they are gone.
    pub async fn stop(&self) {
        self.registry.stop();
        self.registry.emptied().await;
    }
}

/// A connection as a task: the state itself, with nothing around it.
struct Running<S> {
    connection: Connection<S>,
    // Dropped last, so that a connection is counted as closed once its place is free.
    _closed: Closed,
}

/// Counts a connection's end, however it comes.
struct Closed(Arc<Shared>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.config.counters.connections_closed.add(1);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Running<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        self.connection.poll(task)
    }
}
