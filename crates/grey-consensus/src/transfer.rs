//! Checkpoints on their way to followers, in chunks, one at a time per peer.
//!
//! The sender keeps a small window of chunks unacknowledged and goes back to the
//! last acknowledgement after a silence. The receiver takes chunks in order only.
//! Pure bookkeeping: it neither encodes nor sends.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::wire::{CHUNK_BYTES_MAX, Chunk, ChunkAck};

/// Chunks on the way to one peer.
const WINDOW_CHUNKS: u64 = 4;

/// A checkpoint that a follower has received whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) from: u64,
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) index_term: u64,
    pub(crate) bytes: Bytes,
}

/// A checkpoint to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) transfer: u64,
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) index_term: u64,
    pub(crate) bytes: Bytes,
}

#[derive(Debug)]
struct Sending {
    checkpoint: Outgoing,
    acknowledged: u64,
    sent: u64,
    idle_ticks: u32,
    retries: u32,
}

impl Sending {
    fn next(&mut self) -> Option<Chunk> {
        let total = self.checkpoint.bytes.len() as u64;
        if self.sent >= total || self.sent - self.acknowledged >= WINDOW_CHUNKS * CHUNK_BYTES_MAX as u64 {
            return None;
        }
        let end = total.min(self.sent + CHUNK_BYTES_MAX as u64);
        let chunk = Chunk {
            transfer: self.checkpoint.transfer,
            term: self.checkpoint.term,
            index: self.checkpoint.index,
            index_term: self.checkpoint.index_term,
            total,
            offset: self.sent,
            bytes: self.checkpoint.bytes.slice(self.sent as usize..end as usize),
        };
        self.sent = end;
        Some(chunk)
    }
}

/// The sending side.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    peers: BTreeMap<u64, Sending>,
}

impl Senders {
    /// Starts a transfer; an earlier one to the same peer is forgotten.
    pub(crate) fn start(&mut self, to: u64, checkpoint: Outgoing) {
        self.peers.insert(to, Sending { checkpoint, acknowledged: 0, sent: 0, idle_ticks: 0, retries: 0 });
    }

    pub(crate) fn stop(&mut self, to: u64) -> bool {
        self.peers.remove(&to).is_some()
    }

    pub(crate) fn stop_all(&mut self) {
        self.peers.clear();
    }

    /// Chunks that may be sent now.
    pub(crate) fn poll(&mut self) -> Vec<(u64, Chunk)> {
        let mut chunks = Vec::new();
        for (to, sending) in &mut self.peers {
            while let Some(chunk) = sending.next() {
                chunks.push((*to, chunk));
            }
        }
        chunks
    }

    /// Notes what has arrived. True when that is all.
    pub(crate) fn acknowledge(&mut self, from: u64, ack: ChunkAck) -> bool {
        let Some(sending) = self.peers.get_mut(&from).filter(|s| s.checkpoint.transfer == ack.transfer) else {
            return false;
        };
        let total = sending.checkpoint.bytes.len() as u64;
        if ack.received > sending.acknowledged && ack.received <= total {
            sending.acknowledged = ack.received;
            sending.sent = sending.sent.max(ack.received);
            sending.idle_ticks = 0;
            sending.retries = 0;
        }
        if sending.acknowledged < total {
            return false;
        }
        self.peers.remove(&from);
        true
    }

    /// Goes back to the last acknowledgement after `patience_ticks` of silence, and
    /// gives a peer up after `retries_max` such silences.
    pub(crate) fn tick(&mut self, patience_ticks: u32, retries_max: u32) -> Vec<u64> {
        let mut given_up = Vec::new();
        self.peers.retain(|to, sending| {
            sending.idle_ticks += 1;
            if sending.idle_ticks >= patience_ticks {
                sending.idle_ticks = 0;
                sending.retries += 1;
                sending.sent = sending.acknowledged;
            }
            let keep = sending.retries <= retries_max;
            if !keep {
                given_up.push(*to);
            }
            keep
        });
        given_up
    }
}

/// The receiving side: one transfer at a time, the last one that was started.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    current: Option<(u64, u64)>,
    bytes: Vec<u8>,
    /// A finished transfer is still acknowledged, in case the acknowledgement was lost.
    finished: Option<(u64, u64, u64)>,
}

impl Receiver {
    /// Takes a chunk; answers with what has arrived, and with the whole once it has.
    pub(crate) fn take(&mut self, from: u64, chunk: &Chunk) -> (Option<ChunkAck>, Option<Received>) {
        let ack = |received| Some(ChunkAck { transfer: chunk.transfer, received });
        if let Some((peer, transfer, total)) = self.finished
            && (peer, transfer) == (from, chunk.transfer)
        {
            return (ack(total), None);
        }
        if self.current != Some((from, chunk.transfer)) {
            if chunk.offset != 0 {
                return (None, None);
            }
            self.current = Some((from, chunk.transfer));
            self.bytes = Vec::new();
        }
        if chunk.offset == self.bytes.len() as u64 {
            self.bytes.extend_from_slice(&chunk.bytes);
        }
        let received = self.bytes.len() as u64;
        if received < chunk.total {
            return (ack(received), None);
        }
        self.current = None;
        self.finished = Some((from, chunk.transfer, received));
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let (term, index, index_term) = (chunk.term, chunk.index, chunk.index_term);
        (ack(received), Some(Received { from, term, index, index_term, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(len: usize) -> Outgoing {
        let bytes: Vec<u8> = (0..len).map(|at| (at / 1000) as u8).collect();
        Outgoing { transfer: 5, term: 2, index: 30, index_term: 1, bytes: bytes.into() }
    }

    #[test]
    fn a_large_checkpoint_arrives_over_a_lossy_link() {
        let len = 10 * CHUNK_BYTES_MAX + 17;
        let (mut senders, mut receiver) = (Senders::default(), Receiver::default());
        senders.start(2, outgoing(len));
        let mut random = crate::random::Random::new(3);
        for _ in 0..200 {
            for (to, chunk) in senders.poll() {
                assert_eq!(to, 2);
                if random.below(3) == 0 {
                    continue;
                }
                let (ack, received) = receiver.take(1, &chunk);
                if let Some(received) = received {
                    assert_eq!(received.bytes, outgoing(len).bytes);
                    assert_eq!((received.from, received.index, received.index_term), (1, 30, 1));
                }
                if ack.is_some_and(|ack| senders.acknowledge(2, ack)) {
                    return;
                }
            }
            assert_eq!(senders.tick(2, 100), []);
        }
        panic!("it never arrived");
    }

    #[test]
    fn a_silent_peer_is_given_up() {
        let mut senders = Senders::default();
        senders.start(2, outgoing(10));
        let given_up: Vec<u64> = (0..20).flat_map(|_| senders.tick(3, 2)).collect();
        assert_eq!(given_up, [2]);
        assert!(!senders.stop(2));
    }

    #[test]
    fn a_lost_last_acknowledgement_is_repeated() {
        let (mut senders, mut receiver) = (Senders::default(), Receiver::default());
        senders.start(2, outgoing(10));
        let chunk = senders.poll().remove(0).1;
        assert!(receiver.take(1, &chunk).1.is_some());
        let (ack, again) = receiver.take(1, &chunk);
        assert_eq!((ack, again), (Some(ChunkAck { transfer: 5, received: 10 }), None));
    }
}
