//! What the uplink was given: the lease, and the reader that keeps it.

use bytes::Bytes;
use grey_model::Lane;

use crate::queue::QueueError;
use crate::reader::QueueReader;

/// What the uplink reads: like [`QueueReader`], but what it gives out is remembered as
/// in doubt, since it may arrive from then on, and is never changed again.
#[derive(Debug, Clone)]
pub struct UplinkReader {
    reader: QueueReader,
}

impl UplinkReader {
    pub(crate) fn new(reader: QueueReader) -> Self {
        Self { reader }
    }

    /// The first block of the lane at or after a position; see [`QueueReader::next`].
    ///
    /// # Errors
    /// As [`QueueReader::next`]; nothing is given out while the lease cannot be stored.
    pub fn next(&self, lane: Lane, from: u64) -> Result<Option<(u64, Bytes)>, QueueError> {
        self.reader.next(lane, from)
    }

    /// The position after the last committed block of the lane.
    pub fn end(&self, lane: Lane) -> u64 {
        self.reader.end(lane)
    }
}
