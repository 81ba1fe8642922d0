//! Messages that wait for one peer, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), ready: Notify::new() }
    }

    /// Adds a message and drops the oldest ones that no longer fit; returns how many.
    pub(super) fn push(&self, message: Bytes) -> usize {
        let mut dropped = 0;
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.bytes += message.len();
            state.messages.push_back(message);
            while state.bytes > self.bytes_max && state.messages.len() > 1 {
                let oldest = state.messages.pop_front().map_or(0, |oldest| oldest.len());
                state.bytes -= oldest;
                dropped += 1;
            }
        }
        self.ready.notify_one();
        dropped
    }

    /// The oldest message.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let message = state.messages.pop_front()?;
        state.bytes -= message.len();
        Some(message)
    }

    /// Drops everything and returns how many messages that were.
    pub(super) fn clear(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes = 0;
        std::mem::take(&mut state.messages).len()
    }

    /// Waits until a message was pushed; may also return without one.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_when_it_overflows() {
        let queue = Queue::new(10);
        let dropped: Vec<usize> =
            [4, 4, 4, 2, 30, 1].into_iter().map(|n| queue.push(Bytes::from(vec![0; n]))).collect();
        assert_eq!(dropped, [0, 0, 1, 0, 3, 1]);
        assert_eq!(queue.pop().map(|m| m.len()), Some(1));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn one_message_over_the_limit_is_kept() {
        let queue = Queue::new(10);
        assert_eq!(queue.push(Bytes::from_static(&[0; 30])), 0);
        assert_eq!(queue.clear(), 1);
        assert_eq!(queue.pop(), None);
    }
}
