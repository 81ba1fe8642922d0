//! What callers asked for and have not been told the end of: proposals and reads.
//!
//! Every token leaves here exactly once: with its committed entry, with its read
//! index, or as dropped. Pure bookkeeping.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ProposeError;

/// Proposals and reads that may be open: bounds the maps here.
const OPEN_MAX: usize = 65_536;

/// Open proposals and reads of one member.
#[derive(Debug)]
pub(crate) struct Requests {
    bytes_max: usize,
    /// Bytes of queued and of proposed data.
    bytes: usize,
    next_number: u64,
    /// Taken, not given to Raft yet: (number, data).
    queue: Vec<(u64, Bytes)>,
    /// Number to token and bytes, of queued and of proposed ones.
    open: BTreeMap<u64, (u64, usize)>,
    /// Tokens of reads that are not given to Raft yet.
    reads_waiting: Vec<u64>,
    /// Rounds of Raft's read index that are under way.
    reads_asked: BTreeMap<u64, Vec<u64>>,
    /// Reads whose index is known: (index, token).
    reads_known: Vec<(u64, u64)>,
    dropped: Vec<u64>,
}

impl Requests {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            next_number: 1,
            queue: Vec::new(),
            open: BTreeMap::new(),
            reads_waiting: Vec::new(),
            reads_asked: BTreeMap::new(),
            reads_known: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn count(&self) -> usize {
        let asked: usize = self.reads_asked.values().map(Vec::len).sum();
        self.open.len() + self.reads_waiting.len() + asked + self.reads_known.len()
    }

    pub(crate) fn busy(&self) -> ProposeError {
        ProposeError::Busy { bytes: self.bytes, proposals: self.count() }
    }

    pub(crate) fn propose(&mut self, token: u64, data: Bytes) -> Result<(), ProposeError> {
        let fits = self.bytes == 0 || self.bytes + data.len() <= self.bytes_max;
        if !fits || self.open.len() >= OPEN_MAX {
            return Err(self.busy());
        }
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += data.len();
        self.open.insert(number, (token, data.len()));
        self.queue.push((number, data));
        Ok(())
    }

    pub(crate) fn read(&mut self, token: u64) -> Result<(), ProposeError> {
        if self.count() >= 2 * OPEN_MAX {
            return Err(self.busy());
        }
        self.reads_waiting.push(token);
        Ok(())
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn has_waiting_reads(&self) -> bool {
        !self.reads_waiting.is_empty()
    }

    pub(crate) fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// The queued proposals, for Raft.
    pub(crate) fn take_queue(&mut self) -> Vec<(u64, Bytes)> {
        std::mem::take(&mut self.queue)
    }

    /// Makes one round of all waiting reads and returns its number.
    pub(crate) fn ask_reads(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.reads_asked.insert(number, std::mem::take(&mut self.reads_waiting));
        number
    }

    /// Raft answered a round.
    pub(crate) fn know_reads(&mut self, number: u64, index: u64) {
        for token in self.reads_asked.remove(&number).unwrap_or_default() {
            self.reads_known.push((index, token));
        }
    }

    /// Reads that may be served once everything up to `applied` is: (token, index).
    pub(crate) fn take_reads(&mut self, applied: u64) -> Vec<(u64, u64)> {
        let mut ready = Vec::new();
        self.reads_known.retain(|(index, token)| {
            let is_ready = *index <= applied;
            if is_ready {
                ready.push((*token, *index));
            }
            !is_ready
        });
        ready
    }

    /// An own proposal committed; its token, unless it was dropped before.
    pub(crate) fn committed(&mut self, number: u64) -> Option<u64> {
        let (token, bytes) = self.open.remove(&number)?;
        self.bytes -= bytes;
        Some(token)
    }

    /// Leadership ended: nothing that is open has a known fate any more.
    pub(crate) fn drop_all(&mut self) {
        self.queue.clear();
        self.bytes = 0;
        self.dropped.extend(std::mem::take(&mut self.open).into_values().map(|(token, _)| token));
        self.dropped.append(&mut self.reads_waiting);
        self.dropped.extend(std::mem::take(&mut self.reads_asked).into_values().flatten());
        self.dropped.extend(std::mem::take(&mut self.reads_known).into_iter().map(|(_, token)| token));
    }

    /// Raft refused these.
    pub(crate) fn drop_queued(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(token) = self.committed(*number) {
                self.dropped.push(token);
            }
        }
    }

    pub(crate) fn take_dropped(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_ends_once_and_bytes_come_back() {
        let mut requests = Requests::new(10);
        requests.propose(100, Bytes::from_static(b"123456")).expect("fits");
        assert!(matches!(
            requests.propose(101, Bytes::from_static(b"12345")),
            Err(ProposeError::Busy { bytes: 6, .. })
        ));
        requests.propose(102, Bytes::from_static(b"1")).expect("fits");
        requests.read(103).expect("room");
        let numbers: Vec<u64> = requests.take_queue().iter().map(|(number, _)| *number).collect();
        let round = requests.ask_reads();
        requests.know_reads(round, 7);
        assert_eq!(requests.take_reads(6), []);
        assert_eq!(requests.take_reads(7), [(103, 7)]);
        assert_eq!(requests.committed(numbers[0]), Some(100));
        assert_eq!(requests.committed(numbers[0]), None);
        requests.drop_all();
        assert_eq!(requests.take_dropped(), [102]);
        assert_eq!(requests.committed(numbers[1]), None);
        requests.propose(104, Bytes::from_static(b"1234567890")).expect("all bytes came back");
    }

    #[test]
    fn one_oversized_proposal_may_pass_alone() {
        let mut requests = Requests::new(10);
        requests.propose(1, Bytes::from(vec![0; 20])).expect("alone");
        assert!(requests.propose(2, Bytes::new()).is_err());
    }
}
