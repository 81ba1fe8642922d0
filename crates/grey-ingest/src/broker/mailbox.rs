//! The bounded queue between publishers and one subscriber's connection.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::message::{ConnectionId, Delivery};
use crate::mqtt::codec::Qos;

/// Most deliveries that wait for one subscriber.
pub(super) const MAILBOX_DELIVERIES_MAX: usize = 4_096;
/// Most bytes that wait for one subscriber (payloads are shared, so this bounds the worst case).
pub(super) const MAILBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    /// It waits.
    Queued,
    /// It was dropped: QoS 0 and no room.
    Dropped,
    /// QoS 1 and no room: from now on the subscriber is to be disconnected.
    Overflowed,
    /// The subscriber is gone or about to be disconnected.
    Closed,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    overflowed: bool,
    waker: Option<Waker>,
}

/// One subscriber's queue.
#[derive(Debug)]
pub(crate) struct Mailbox {
    owner: ConnectionId,
    queue: Mutex<Queue>,
}

/// The subscriber was too slow for its QoS 1 deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Mailbox {
    pub(crate) fn new(owner: ConnectionId) -> Self {
        Self { owner, queue: Mutex::default() }
    }

    pub(crate) fn owner(&self) -> ConnectionId {
        self.owner
    }

    pub(super) fn post(&self, delivery: Delivery) -> Posted {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.overflowed {
            return Posted::Closed;
        }
        let bytes = delivery.message.bytes();
        let full = queue.deliveries.len() >= MAILBOX_DELIVERIES_MAX
            || (queue.bytes + bytes > MAILBOX_BYTES_MAX && !queue.deliveries.is_empty());
        let posted = if !full {
            queue.bytes += bytes;
            queue.deliveries.push_back(delivery);
            Posted::Queued
        } else if delivery.qos == Qos::AtMostOnce {
            return Posted::Dropped;
        } else {
            queue.overflowed = true;
            queue.deliveries.clear();
            queue.bytes = 0;
            Posted::Overflowed
        };
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        posted
    }

    /// The next delivery; registers the task when there is none.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Overflow>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.overflowed {
            return Poll::Ready(Err(Overflow));
        }
        if let Some(delivery) = queue.deliveries.pop_front() {
            queue.bytes -= delivery.message.bytes();
            return Poll::Ready(Ok(delivery));
        }
        // An idle subscriber keeps no queue.
        if queue.deliveries.capacity() > 64 {
            queue.deliveries = VecDeque::new();
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
