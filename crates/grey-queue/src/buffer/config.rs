//! Limits and choices of a buffer.

use std::sync::Arc;

use grey_model::{Compression, Lane};
use grey_seal::{Algorithm, Keyring, Seal};

use crate::OnFull;

/// How payloads are compressed on disk, about 60 KiB of them at a time. What does not get
/// smaller is stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Not at all: least CPU time.
    Plain,
    /// LZ4: little CPU time.
    #[default]
    Lz4,
    /// Zstandard: least bytes.
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::Plain => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Limits and choices of a buffer. They may change from one opening to the next.
#[derive(Debug, Clone)]
pub struct BufferConfig {
    /// Bytes on disk over all lanes that are not exceeded.
    pub max_bytes: u64,
    /// What an append does when there is no room, for each lane by [`Lane::index`].
    ///
    /// - [`OnFull::Block`]: it is refused with [`BufferError::Full`](crate::buffer::BufferError::Full);
    ///   the asynchronous handle waits until there is room.
    /// - [`OnFull::DropOldest`]: the oldest committed items give way, those of the least important
    ///   such lane first.
    /// - [`OnFull::DropNewest`]: it is refused with
    ///   [`BufferError::Dropped`](crate::buffer::BufferError::Dropped), and counted.
    pub on_full: [OnFull; 3],
    /// Size of a file in bytes: space comes back one or two files at a time, and opening
    /// reads at most one of each lane, and the first bytes of all. At most an eighth of `max_bytes` is used, at least 64 KiB.
    pub segment_bytes: u64,
    /// How payloads are compressed.
    pub codec: Codec,
    /// Keys that items are sealed with on disk: the first one for new items, the others for
    /// older ones. Sequences and lengths stay readable. Without keys nothing is sealed.
    pub keys: Option<Arc<Keyring>>,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            on_full: [OnFull::Block; 3],
            segment_bytes: 32 << 20,
            codec: Codec::default(),
            keys: None,
        }
    }
}

impl BufferConfig {
    /// The same with a limit in bytes.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The same with a policy for one lane.
    #[must_use]
    pub fn with_on_full(mut self, lane: Lane, policy: OnFull) -> Self {
        self.on_full[lane.index()] = policy;
        self
    }

    /// The same with a compression.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// The same with keys to seal items with.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keyring>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// How a lane is sealed.
    pub(crate) fn seal(&self, lane: Lane) -> Option<Seal> {
        let purpose = format!("buffer/{lane}");
        self.keys.as_ref().map(|keys| Seal::new(Arc::clone(keys), Algorithm::auto(), &purpose))
    }

    /// Smallest file that is used, unless less is asked for.
    const SEGMENT_BYTES_FLOOR: u64 = 64 << 10;

    pub(crate) fn segment_bytes_used(&self) -> u64 {
        self.segment_bytes.min((self.max_bytes / 8).max(Self::SEGMENT_BYTES_FLOOR))
    }
}
