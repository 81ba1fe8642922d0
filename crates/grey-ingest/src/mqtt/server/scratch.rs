//! One read buffer per thread instead of one per connection: an idle connection
//! owns no buffer at all.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at a time.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A beginning up to this size is copied in front of the next read; a longer
/// one (of a large packet) grows where it is.
const COPIED_BYTES_MAX: usize = 4 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// What is kept of the byte stream from one read to the next: the beginning of a packet.
#[derive(Debug, Default)]
pub(super) struct Carry {
    bytes: Vec<u8>,
    /// Bytes that the packet needs in all; 0 when nothing is kept.
    needed: usize,
}

impl Carry {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads once and hands what is there now, with what was kept, to
    /// `consume`, which returns how many bytes it used and how many the packet
    /// that is left needs in all. Returns the number of bytes read, 0 at the end
    /// of the stream.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        consume: impl FnOnce(&[u8]) -> (usize, usize),
    ) -> Poll<io::Result<usize>> {
        let kept = self.bytes.len();
        if kept > COPIED_BYTES_MAX {
            return self.poll_read_large(stream, cx, consume);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[kept..]);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            scratch[..kept].copy_from_slice(&self.bytes);
            let bytes = &scratch[..kept + read];
            let (used, needed) = consume(bytes);
            self.keep(&bytes[used..], needed);
            Poll::Ready(Ok(read))
        })
    }

    /// Grows the kept beginning of a large packet: only as fast as the peer
    /// sends, whatever length it announced.
    fn poll_read_large<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        consume: impl FnOnce(&[u8]) -> (usize, usize),
    ) -> Poll<io::Result<usize>> {
        let kept = self.bytes.len();
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let wanted = self.needed.saturating_sub(kept).clamp(1, SCRATCH_BYTES);
            let mut buffer = ReadBuf::new(&mut scratch[..wanted]);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            self.bytes.extend_from_slice(buffer.filled());
            Poll::Ready(io::Result::Ok(buffer.filled().len()))
        });
        let read = ready!(read)?;
        if read > 0 && self.bytes.len() >= self.needed {
            self.consume_kept(consume);
        }
        Poll::Ready(Ok(read))
    }

    /// Hands what was kept to `consume` without reading.
    pub(super) fn consume_kept(&mut self, consume: impl FnOnce(&[u8]) -> (usize, usize)) {
        let (used, needed) = consume(&self.bytes);
        self.bytes.drain(..used);
        self.needed = needed;
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    fn keep(&mut self, rest: &[u8], needed: usize) {
        self.needed = needed;
        if rest.is_empty() {
            if self.bytes.capacity() > 0 {
                self.bytes = Vec::new();
            }
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(rest);
        }
    }
}

/// Reads and discards once, so that a closing peer is not reset over bytes that
/// nobody reads. Returns the number of bytes, 0 at the end of the stream.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    })
}
