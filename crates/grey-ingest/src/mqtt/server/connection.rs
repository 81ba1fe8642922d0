//! One connection as one future, polled by hand.
//!
//! Everything that a read brings becomes one batch; the batches wait in a FIFO
//! with the acknowledgements that they earn, and all acknowledgements of what
//! became durable leave in one write. A connection stops reading while the
//! intake is full, while its FIFO is full, and while its peer does not read.
//!
//! The future is polled by hand, not written as `async`, because it waits for
//! up to six things at once and must stay small: ten thousand of them idle.

use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::scratch::{Carry, poll_discard};
use crate::mqtt::session::Close;

/// Reads of one connection before others get their turn.
const READS_PER_POLL: usize = 8;
/// Bytes read and thrown away after the last packet: a socket that is closed
/// with unread bytes is reset, and the peer may then never see that packet.
const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time for the peer to close after the last packet.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Capacity that an empty write buffer may keep, in bytes.
const OUT_KEPT_BYTES: usize = 256;

/// The state of one connection's future.
pub(super) struct Connection<S> {
    stream: S,
    carry: Carry,
    client: Client,
    /// Bytes of `client.out` that are written.
    sent: usize,
    broken: bool,
    /// Shut down for writing; the bytes discarded since.
    discarded: Option<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, client: Client) -> Self {
        Self { stream, carry: Carry::default(), client, sent: 0, broken: false, discarded: None }
    }

    /// Drives the connection as far as it goes; ready when it has ended.
    pub(super) fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let mut reads = 0;
        loop {
            if self.client.poll_registry(task) && !self.carry.is_empty() {
                self.carry.consume_kept(|bytes| self.client.consume(bytes));
            }
            // Whatever keeps the connection from reading has just been polled
            // when the reading is tried, so it will wake the task.
            self.client.poll_blocked(task);
            self.client.poll_pending(task);
            self.client.poll_deliveries(task);
            self.poll_write(task);
            if self.client.is_ending() {
                return self.poll_end(task);
            }
            if self.client.takes_input() {
                if reads == READS_PER_POLL {
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                reads += 1;
                if self.poll_read(task) {
                    continue;
                }
            }
            if !self.client.poll_timer(task) {
                return Poll::Pending;
            }
        }
    }

    /// Reads and handles once. Returns whether anything has changed.
    fn poll_read(&mut self, task: &mut Task<'_>) -> bool {
        let Self { stream, carry, client, .. } = self;
        match carry.poll_read(stream, task, |bytes| client.consume(bytes)) {
            Poll::Pending => return false,
            Poll::Ready(Ok(read)) if read > 0 => client.shared().config.counters.bytes_received.add(read as u64),
            Poll::Ready(_) => client.end(Close::Lost),
        }
        true
    }

    fn poll_write(&mut self, task: &mut Task<'_>) {
        while self.sent < self.client.out.len() {
            match Pin::new(&mut self.stream).poll_write(task, &self.client.out[self.sent..]) {
                Poll::Pending => return,
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.sent += written;
                    self.client.shared().config.counters.bytes_sent.add(written as u64);
                }
                Poll::Ready(_) => {
                    self.broken = true;
                    self.client.lose();
                    break;
                }
            }
        }
        self.sent = 0;
        self.client.out.clear();
        if self.client.out.capacity() > OUT_KEPT_BYTES {
            self.client.out = Vec::new();
        }
    }

    /// Waits for what is owed, says goodbye, and lets the peer close first.
    fn poll_end(&mut self, task: &mut Task<'_>) -> Poll<()> {
        if self.client.poll_timer(task) {
            return Poll::Ready(());
        }
        ready!(self.client.poll_farewell());
        self.poll_write(task);
        if self.broken {
            return Poll::Ready(());
        }
        if !self.client.out.is_empty() {
            return Poll::Pending;
        }
        loop {
            match self.discarded {
                None => {
                    if ready!(Pin::new(&mut self.stream).poll_shutdown(task)).is_err() {
                        return Poll::Ready(());
                    }
                    self.discarded = Some(0);
                    self.client.expire_in(DISCARD_TIMEOUT);
                    if self.client.poll_timer(task) {
                        return Poll::Ready(());
                    }
                }
                Some(discarded) if discarded > DISCARD_BYTES_MAX => return Poll::Ready(()),
                Some(discarded) => match ready!(poll_discard(&mut self.stream, task)) {
                    Ok(read) if read > 0 => self.discarded = Some(discarded + read),
                    _ => return Poll::Ready(()),
                },
            }
        }
    }
}
