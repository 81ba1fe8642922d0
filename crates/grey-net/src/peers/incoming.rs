//! The connections that other members dialled: read here.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, info, warn};

use super::handshake::{Answer, HELLO_FIXED_BYTES, HandshakeError, PeerHello, VERSION, Verdict};
use super::{MESSAGE_PREFIX_BYTES, Shared};
use crate::uplink_client::stopped;
use crate::wire::tune;

/// Connections at a time: every member a few times over, for those that are about to be replaced.
const CONNECTIONS_MAX: usize = 64;
/// Bytes asked for per read.
const READ_BYTES: usize = 64 * 1024;
/// How long the listener rests after the system refused to accept.
const ACCEPT_REST: Duration = Duration::from_millis(100);

pub(super) struct Incoming {
    shared: Arc<Shared>,
    inbound: mpsc::Sender<(u64, Bytes)>,
    /// Per member, what ends its present connection: a newer one replaces it.
    present: Mutex<BTreeMap<u64, watch::Sender<bool>>>,
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("no hello in time")]
    Timeout,
    #[error("node {from} refused: {verdict}")]
    Refused { from: u64, verdict: Verdict },
    #[error("message of {len} bytes is over the limit of {limit}; it must be the same on every member")]
    TooLong { len: usize, limit: usize },
    #[error("message checksum mismatch")]
    Checksum,
    #[error("this node is stopping")]
    Stopping,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>, inbound: mpsc::Sender<(u64, Bytes)>) -> Self {
        Self { shared, inbound, present: Mutex::default() }
    }

    /// Accepts until it is stopped.
    pub(super) async fn run(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a peer");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                debug!(%address, "too many peer connections, one is refused");
                continue;
            };
            let (this, mut stop) = (this.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stopped(&mut stop) => {}
                    () = this.connection(stream, address) => {}
                }
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream, address: SocketAddr) {
        let limit = Duration::from_millis(self.shared.config.connect_timeout_ms);
        let greeted = tokio::time::timeout(limit, self.greet(&mut stream)).await;
        let from = match greeted.unwrap_or(Err(ReadError::Timeout)) {
            Ok(from) => from,
            Err(error) => {
                self.shared.count(&self.shared.stats.refused_total, 1);
                warn!(%address, %error, "a peer connection was refused");
                return;
            }
        };
        let (replace, mut replaced) = watch::channel(false);
        // Dropping the sender of an older connection ends it.
        self.present.lock().unwrap_or_else(PoisonError::into_inner).insert(from, replace);
        tokio::select! {
            () = stopped(&mut replaced) => debug!(peer = from, %address, "a newer connection replaces this one"),
            error = self.read(from, &mut stream) => info!(peer = from, %address, %error, "peer connection ended"),
        }
    }

    async fn greet(&self, stream: &mut TcpStream) -> Result<u64, ReadError> {
        tune(stream, None);
        let mut bytes = vec![0; HELLO_FIXED_BYTES];
        stream.read_exact(&mut bytes).await?;
        let rest = PeerHello::rest_len(&bytes)?;
        bytes.resize(HELLO_FIXED_BYTES + rest, 0);
        stream.read_exact(&mut bytes[HELLO_FIXED_BYTES..]).await?;
        let hello = PeerHello::decode(&bytes)?;
        let own_id = self.shared.config.own_id;
        let verdict = if hello.version != VERSION {
            Verdict::Version
        } else if hello.cluster != self.shared.cluster() {
            Verdict::Cluster
        } else if hello.to != own_id {
            Verdict::WrongNode
        } else if !self.shared.is_member(hello.from) {
            Verdict::NotMember
        } else {
            Verdict::Welcome
        };
        stream.write_all(&Answer { version: VERSION, verdict, own_id }.encode()).await?;
        match verdict {
            Verdict::Welcome => Ok(hello.from),
            verdict => Err(ReadError::Refused { from: hello.from, verdict }),
        }
    }

    /// Hands messages on until the connection breaks.
    async fn read(&self, from: u64, stream: &mut TcpStream) -> ReadError {
        let mut buffer = BytesMut::new();
        loop {
            match self.next_message(&mut buffer) {
                // The membership may have changed since the handshake.
                Ok(Some(_)) if !self.shared.is_member(from) => {
                    return ReadError::Refused { from, verdict: Verdict::NotMember };
                }
                Ok(Some(message)) => {
                    self.shared.count(&self.shared.stats.messages_in_total, 1);
                    if self.inbound.send((from, message)).await.is_err() {
                        return ReadError::Stopping;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return error,
            }
            buffer.reserve(READ_BYTES);
            match stream.read_buf(&mut buffer).await {
                Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed it").into(),
                Ok(count) => self.shared.count(&self.shared.stats.bytes_in_total, count),
                Err(error) => return error.into(),
            }
        }
    }

    fn next_message(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, ReadError> {
        let Some([l0, l1, l2, l3, c0, c1, c2, c3]) = buffer.first_chunk::<MESSAGE_PREFIX_BYTES>().copied() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let limit = self.shared.config.message_bytes_max;
        if len > limit {
            return Err(ReadError::TooLong { len, limit });
        }
        if buffer.len() < MESSAGE_PREFIX_BYTES + len {
            return Ok(None);
        }
        buffer.advance(MESSAGE_PREFIX_BYTES);
        let message = buffer.split_to(len).freeze();
        if crc32c::crc32c(&message) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(ReadError::Checksum);
        }
        Ok(Some(message))
    }
}
