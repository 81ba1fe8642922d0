//! The connection to one peer: dialled here, written here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use grey_link::Backoff;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::handshake::{ANSWER_BYTES, Answer, HandshakeError, PeerHello, VERSION, Verdict};
use super::queue::Queue;
use super::{MESSAGE_PREFIX_BYTES, Shared};
use crate::clock::Clock;
use crate::uplink_client::stopped;
use crate::wire::tune;

/// Messages are put together until a write has this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// A write buffer that grew beyond this for a large message is given back.
const KEEP_BYTES_MAX: usize = 1024 * 1024;

pub(super) struct Outgoing {
    shared: Arc<Shared>,
    id: u64,
    address: String,
    queue: Arc<Queue>,
    unreachable: mpsc::Sender<u64>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("refused: {0}")]
    Refused(Verdict),
}

impl Outgoing {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: u64,
        address: String,
        queue: Arc<Queue>,
        unreachable: mpsc::Sender<u64>,
    ) -> Self {
        Self { shared, id, address, queue, unreachable }
    }

    /// Runs until it is stopped.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.run_for_ever() => {}
        }
    }

    async fn run_for_ever(&self) {
        let clock = Clock::new();
        let seed = self.shared.config.seed.wrapping_mul(0x9e37_79b9).wrapping_add(self.id);
        let mut backoff = Backoff::new(self.shared.config.backoff, seed);
        let mut last_trouble = String::new();
        loop {
            let (lasted_ms, trouble) = match self.dial().await {
                Ok(stream) => {
                    info!(peer = self.id, address = %self.address, "peer connected");
                    let since = clock.now_ms();
                    let error = self.write(stream).await;
                    (clock.now_ms() - since, format!("connection lost: {error}"))
                }
                Err(error) => {
                    if matches!(error, DialError::Refused(_) | DialError::Handshake(_)) {
                        self.shared.count(&self.shared.stats.refused_total, 1);
                    }
                    (0, error.to_string())
                }
            };
            // The same trouble over and over is one line of the log.
            if trouble != last_trouble {
                warn!(peer = self.id, address = %self.address, %trouble, "peer unreachable");
                last_trouble = trouble;
            }
            let lost = self.queue.clear();
            self.shared.count(&self.shared.stats.dropped_total, lost);
            let _ = self.unreachable.try_send(self.id);
            if backoff.on_session_end(lasted_ms) {
                last_trouble.clear();
            }
            tokio::time::sleep(Duration::from_millis(backoff.next_delay_ms())).await;
            // What came while waiting is what Raft wants now: it is kept for the attempt.
        }
    }

    async fn dial(&self) -> Result<TcpStream, DialError> {
        let limit = Duration::from_millis(self.shared.config.connect_timeout_ms);
        let connected = tokio::time::timeout(limit, TcpStream::connect(&self.address)).await;
        let mut stream = connected.map_err(|_| DialError::Timeout)??;
        tune(&stream, None);
        let greeted = tokio::time::timeout(limit, self.greet(&mut stream)).await;
        greeted.map_err(|_| DialError::Timeout)??;
        Ok(stream)
    }

    async fn greet(&self, stream: &mut TcpStream) -> Result<(), DialError> {
        let hello = PeerHello {
            version: VERSION,
            from: self.shared.config.own_id,
            to: self.id,
            cluster: self.shared.cluster().to_vec(),
        };
        stream.write_all(&hello.encode()).await?;
        let mut bytes = [0; ANSWER_BYTES];
        stream.read_exact(&mut bytes).await?;
        let answer = Answer::decode(&bytes)?;
        match answer.verdict {
            Verdict::Welcome if answer.own_id != self.id => Err(DialError::Refused(Verdict::WrongNode)),
            Verdict::Welcome => Ok(()),
            verdict => Err(DialError::Refused(verdict)),
        }
    }

    /// Writes what is queued until the connection breaks.
    async fn write(&self, mut stream: TcpStream) -> io::Error {
        let (mut reader, mut writer) = stream.split();
        let mut out = BytesMut::new();
        let mut byte = [0; 1];
        loop {
            let mut count = 0;
            while out.len() < BATCH_BYTES
                && let Some(message) = self.queue.pop()
            {
                out.reserve(MESSAGE_PREFIX_BYTES + message.len());
                out.put_u32_le(message.len() as u32);
                out.put_u32_le(crc32c::crc32c(&message));
                out.put_slice(&message);
                count += 1;
            }
            self.shared.count(&self.shared.stats.messages_out_total, count);
            tokio::select! {
                written = writer.write(&out), if !out.is_empty() => match written {
                    Ok(0) => return io::ErrorKind::WriteZero.into(),
                    Ok(count) => {
                        self.shared.count(&self.shared.stats.bytes_out_total, count);
                        out.advance(count);
                        if out.is_empty() && out.capacity() > KEEP_BYTES_MAX {
                            out = BytesMut::new();
                        }
                    }
                    Err(error) => return error,
                },
                // The other side never writes after its answer; this notices when it closes.
                read = reader.read(&mut byte) => match read {
                    Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed it"),
                    Ok(_) => return io::Error::new(io::ErrorKind::InvalidData, "the peer wrote out of turn"),
                    Err(error) => return error,
                },
                () = self.queue.ready(), if out.is_empty() => {}
            }
        }
    }
}
