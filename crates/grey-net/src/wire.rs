//! One TCP connection of the uplink: bytes in through the decoder, frames out
//! in batches. Cancel-safe, so that a driver can select over it.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use grey_sync::{Frame, FrameDecoder};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::debug;

/// Bytes waiting to be written beyond which nothing is added: one system call's
/// worth, and as the kernel's unsent bytes a queue before what is urgent.
const OUT_BYTES_MAX: usize = 128 * 1024;
/// Bytes asked for per read: little while a connection idles (a hub has thousands), more as reads come back full.
const READ_BYTES_MIN: usize = 4 * 1024;
/// See [`READ_BYTES_MIN`].
const READ_BYTES_MAX: usize = 256 * 1024;
/// A write buffer that grew beyond this for a large block is given back.
const KEEP_BYTES_MAX: usize = 1024 * 1024;
/// Bytes the kernel may hold unsent: more would put bulk data in front of a critical block.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// Data that the peer's kernel did not confirm for this long means that the path is gone.
#[cfg(target_os = "linux")]
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);
/// An idle path is probed after this long, and this often.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes read and thrown away while the peer takes in the last frame.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long writing the last frames and waiting for the peer to close may take.
const LINGER_MAX: Duration = Duration::from_secs(3);

/// Settings that every connection of this crate gets, and the congestion
/// control that is asked for. A kernel that lacks one still gives a working
/// connection: the protocols have their own timeouts.
///
/// The sizes of the kernel's buffers are left to it: it grows them to what the
/// path holds, up to its `tcp_wmem` and `tcp_rmem`, and never shrinks what was set.
pub(crate) fn tune(stream: &TcpStream, congestion: Option<&str>) {
    let socket = SockRef::from(stream);
    let note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            debug!(what, %error, "the system refuses a socket option");
        }
    };
    note("nodelay", stream.set_nodelay(true));
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    note("keepalive", socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    {
        note("user timeout", socket.set_tcp_user_timeout(Some(UNCONFIRMED_MAX)));
        note("unsent low-water mark", socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX));
        if let Some(name) = congestion {
            note("congestion control", socket.set_tcp_congestion(name.as_bytes()));
        }
    }
    #[cfg(not(target_os = "linux"))]
    if let Some(name) = congestion {
        debug!(name, "the congestion control is the system's own here");
    }
}

/// A connection with its buffers.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    pub(crate) decoder: FrameDecoder,
    out: BytesMut,
    read_bytes: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, decoder: FrameDecoder) -> Self {
        Self { stream, decoder, out: BytesMut::new(), read_bytes: READ_BYTES_MIN }
    }

    /// True while more frames may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX
    }

    /// Adds a frame to what is written next.
    pub(crate) fn push(&mut self, frame: &Frame) {
        frame.encode(&mut self.out);
    }

    /// Reads or writes once, whichever can be. After it the decoder may hold
    /// frames, and there may be room for more. An error or the end of the
    /// stream is the end of the connection.
    pub(crate) async fn step(&mut self) -> io::Result<()> {
        let (mut reader, mut writer) = self.stream.split();
        let buffer = self.decoder.buffer_mut();
        buffer.reserve(self.read_bytes);
        tokio::select! {
            read = reader.read_buf(buffer) => match read? {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")),
                count if count >= self.read_bytes => {
                    self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
                    Ok(())
                }
                _ => {
                    self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
                    Ok(())
                }
            },
            written = writer.write(&self.out), if !self.out.is_empty() => {
                match written? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => self.out.advance(count),
                }
                if self.out.is_empty() && self.out.capacity() > KEEP_BYTES_MAX {
                    self.out = BytesMut::new();
                }
                Ok(())
            }
        }
    }

    /// Writes what is left and waits, for a bounded time, until the peer has
    /// closed: a close with unread input would reset the connection and take
    /// the last frames with it.
    pub(crate) async fn linger(mut self) {
        let end = async {
            self.stream.write_all(&self.out).await?;
            self.stream.shutdown().await?;
            let mut sink = vec![0; 16 * 1024];
            let mut total = 0;
            while total < LINGER_BYTES_MAX {
                match self.stream.read(&mut sink).await? {
                    0 => break,
                    count => total += count,
                }
            }
            io::Result::Ok(())
        };
        // Nobody is left to tell: the peer notices a lost last frame by the close itself.
        let _ = tokio::time::timeout(LINGER_MAX, end).await;
    }
}
