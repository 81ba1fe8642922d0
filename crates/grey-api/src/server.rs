//! The HTTP server of a tier: HTTP/1.1 on hyper with bounds on connections,
//! headers, bodies and time, and a drain that ends.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use crate::guard::{LocalAddress, harden};
use crate::metrics::Metrics;
use crate::stall::StallLimit;

/// Pause after a failed accept, for example while no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Connections at a time; more wait in the kernel's queue. Default 512.
    pub connections_max: usize,
    /// Bytes of one request's head, and of a connection's read buffer; at least 8 KiB. Default 16 KiB.
    pub header_bytes_max: usize,
    /// For one head to arrive whole, and for a connection to stay idle. Default 30 s.
    pub header_read_timeout_ms: u64,
    /// From the head to the answer's head, the body's arrival included. Default 30 s.
    pub request_timeout_ms: u64,
    /// For a client to take some more of an answer. Default 30 s.
    pub write_stall_timeout_ms: u64,
    /// Bytes of one body. Default 16 MiB.
    pub body_bytes_max: usize,
    /// Bytes of all bodies being read at a time; requests wait for their share. Default 64 MiB.
    pub bodies_bytes_max: usize,
    /// For open requests to finish once the server stops. Default 10 s.
    pub drain_timeout_ms: u64,
    /// Names besides `localhost` under which a loopback listener answers, for
    /// example behind a proxy on the same machine. Default none.
    pub host_names: Vec<String>,
    /// Where requests are counted; `None` counts nothing.
    pub metrics: Option<Metrics>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connections_max: 512,
            header_bytes_max: 16 * 1024,
            header_read_timeout_ms: 30_000,
            request_timeout_ms: 30_000,
            write_stall_timeout_ms: 30_000,
            body_bytes_max: 16 * 1024 * 1024,
            bodies_bytes_max: 64 * 1024 * 1024,
            drain_timeout_ms: 10_000,
            host_names: Vec::new(),
            metrics: None,
        }
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that were served.
    pub connections: u64,
    /// Connections that were cut off because they did not finish within the deadline.
    pub cut_off: u64,
}

/// Serves `router` until `shutdown` resolves, then lets open requests finish
/// within the drain deadline and cuts off the rest.
///
/// Idle connections are closed at once on shutdown. Every request passes
/// [`harden`]; handlers may extract `ConnectInfo<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let router = harden(router, &config);
    let slots = Arc::new(Semaphore::new(config.connections_max.max(1)));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut drained = Drained::default();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer, slot)) => {
                drained.connections += 1;
                let connection = connection(stream, peer, router.clone(), config.clone(), stopping.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let deadline = tokio::time::sleep(Duration::from_millis(config.drain_timeout_ms));
    let mut deadline = std::pin::pin!(deadline);
    loop {
        tokio::select! {
            ended = connections.join_next() => if ended.is_none() { break },
            () = &mut deadline => {
                drained.cut_off = connections.len() as u64;
                connections.shutdown().await;
                break;
            }
        }
    }
    drained
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: ServerConfig,
    mut stopping: watch::Receiver<bool>,
) {
    let local = stream.local_addr().map(LocalAddress).ok();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        router.clone().call(request)
    });
    let stream = StallLimit::new(stream, Duration::from_millis(config.write_stall_timeout_ms));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_read_timeout_ms))
        .max_buf_size(config.header_bytes_max.max(8 * 1024))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopped = async move {
        // The sender lives as long as the server.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        server: JoinHandle<Drained>,
    }

    async fn start(router: Router, config: ServerConfig) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, router, config, async {
            let _ = stopped.await;
        }));
        Running { address, stop, server }
    }

    async fn connect(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    const CLOSE: &str = "Host: localhost\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn requests_are_answered_and_the_server_drains() {
        let router = Router::new()
            .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }));
        let running = start(router, ServerConfig::default()).await;
        let answer = rest(connect(running.address, &format!("GET / HTTP/1.1\r\n{CLOSE}")).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("127.0.0.1"), "{answer}");
        let answer = rest(connect(running.address, &format!("GET /no HTTP/1.1\r\n{CLOSE}")).await).await;
        assert!(answer.contains("404") && answer.contains("urn:grey:problem:not-found"), "{answer}");
        running.stop.send(()).unwrap();
        assert_eq!(running.server.await.unwrap(), Drained { connections: 2, cut_off: 0 });
    }

    #[tokio::test]
    async fn a_drain_finishes_open_requests_and_closes_idle_connections() {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            get(move || async move {
                entered.notify_one();
                leave.notified().await;
                "finished"
            })
        };
        let running =
            start(Router::new().route("/slow", handler).route("/", get(|| async { "ok" })), ServerConfig::default())
                .await;
        let mut idle = connect(running.address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut head = [0; 12];
        idle.read_exact(&mut head).await.unwrap();
        let slow = connect(running.address, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        entered.notified().await;
        running.stop.send(()).unwrap();
        // The idle connection ends while the slow request still runs.
        rest(idle).await;
        leave.notify_one();
        assert!(rest(slow).await.ends_with("finished"));
        assert_eq!(running.server.await.unwrap().cut_off, 0);
    }

    #[tokio::test]
    async fn the_drain_deadline_cuts_off_what_hangs() {
        let entered = Arc::new(Notify::new());
        let handler = {
            let entered = Arc::clone(&entered);
            get(move || async move {
                entered.notify_one();
                std::future::pending::<()>().await;
            })
        };
        let config = ServerConfig { drain_timeout_ms: 5, ..Default::default() };
        let running = start(Router::new().route("/hang", handler), config).await;
        let hanging = connect(running.address, "GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        entered.notified().await;
        running.stop.send(()).unwrap();
        assert_eq!(running.server.await.unwrap(), Drained { connections: 1, cut_off: 1 });
        assert_eq!(rest(hanging).await, "");
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up() {
        let config = ServerConfig { header_read_timeout_ms: 20, ..Default::default() };
        let running = start(Router::new(), config).await;
        let slow = connect(running.address, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow").await;
        // The end of the stream is the assertion: nothing more is ever sent.
        rest(slow).await;
        // An idle connection is given up too.
        rest(TcpStream::connect(running.address).await.unwrap()).await;
    }

    #[tokio::test]
    async fn a_head_over_the_limit_is_refused() {
        let running = start(Router::new(), ServerConfig::default()).await;
        let head = format!("GET / HTTP/1.1\r\nX-Large: {}\r\n{CLOSE}", "x".repeat(20 * 1024));
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let _ = stream.write_all(head.as_bytes()).await;
        assert!(rest(stream).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_unread() {
        let router =
            Router::new().route("/v1/events", post(|body: bytes::Bytes| async move { body.len().to_string() }));
        let config = ServerConfig { body_bytes_max: 1_000, ..Default::default() };
        let running = start(router, config).await;
        let head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length:";
        let answer = rest(connect(running.address, &format!("{head} 1001\r\n\r\n")).await).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("the limit is 1000 bytes"), "{answer}");
        let body = "x".repeat(1_000);
        let answer = rest(connect(running.address, &format!("{head} 1000\r\n\r\n{body}")).await).await;
        assert!(answer.ends_with("1000"), "{answer}");
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_their_turn() {
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let handler = {
            let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
            get(move || async move {
                most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                inside.fetch_sub(1, Relaxed);
                "ok"
            })
        };
        let config = ServerConfig { connections_max: 2, ..Default::default() };
        let running = start(Router::new().route("/", handler), config).await;
        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(connect(running.address, &format!("GET / HTTP/1.1\r\n{CLOSE}")).await);
        }
        let answers = waiting.into_iter().map(|stream| tokio::spawn(rest(stream)));
        for answer in answers.collect::<Vec<_>>() {
            assert!(answer.await.unwrap().ends_with("ok"));
        }
        assert!((1..=2).contains(&most.load(Relaxed)), "{most:?}");
    }
}
