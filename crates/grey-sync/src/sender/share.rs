//! How two queues share one link: deficit round robin over bytes (Shreedhar
//! and Varghese, 1995), its rounds computed rather than walked through.

/// Bytes of credit per weight and round: small against a window, so that queues alternate smoothly.
const QUANTUM_BYTES: u64 = 16 * 1024;

/// Two queues with weights. What one does not use goes to the other.
#[derive(Debug)]
pub(super) struct Share {
    quantum: [u64; 2],
    deficit: [u64; 2],
    /// The queue that was served last.
    turn: usize,
}

impl Share {
    /// Weights are at least 1; only their ratio counts.
    pub(super) fn new(weights: [u32; 2]) -> Self {
        let quantum = weights.map(|weight| u64::from(weight.max(1)) * QUANTUM_BYTES);
        Self { quantum, deficit: [0; 2], turn: 0 }
    }

    /// Which queue goes next. `heads` are the bytes of what is next in each.
    pub(super) fn choose(&self, heads: [Option<u64>; 2]) -> Option<usize> {
        // The queue whose turn it is wins a tie: `min_by_key` keeps the first.
        [self.turn, 1 - self.turn]
            .into_iter()
            .filter_map(|index| Some((index, self.rounds(index, heads[index]?))))
            .min_by_key(|(_, rounds)| *rounds)
            .map(|(index, _)| index)
    }

    /// The chosen queue is served: both get the credit of the rounds until its turn.
    pub(super) fn serve(&mut self, index: usize, heads: [Option<u64>; 2]) {
        let Some(bytes) = heads[index] else { return };
        let rounds = self.rounds(index, bytes);
        for (queue, head) in heads.iter().enumerate() {
            // A queue without anything waiting saves no credit.
            self.deficit[queue] = match head {
                Some(_) => self.deficit[queue].saturating_add(rounds.saturating_mul(self.quantum[queue])),
                None => 0,
            };
        }
        self.deficit[index] = self.deficit[index].saturating_sub(bytes);
        self.turn = index;
    }

    /// Credit of a session that ended is void.
    pub(super) fn reset(&mut self) {
        self.deficit = [0; 2];
    }

    /// Rounds until the queue has the credit for so many bytes.
    fn rounds(&self, index: usize, bytes: u64) -> u64 {
        bytes.saturating_sub(self.deficit[index]).div_ceil(self.quantum[index])
    }
}
