//! Ours: the buffer of grey-queue.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_bench::Outcome;
use grey_queue::buffer::{Budget, Buffer, BufferConfig, Codec, Keyring, Lane, MasterKey};

use crate::contestant::{Contestant, Payloads, look};

/// More than any backlog: the limit is not what is measured.
const MAX_BYTES: u64 = 1 << 40;

pub(crate) struct Grey {
    dir: PathBuf,
    buffer: Option<Buffer>,
    config: BufferConfig,
    /// Each acknowledgement is synced.
    is_strict: bool,
}

/// As it comes, and sealed.
pub(crate) fn sealed() -> Outcome<BufferConfig> {
    let keys = Keyring::new(vec![MasterKey::from_bytes([7; 32])])?;
    Ok(BufferConfig::default().with_keys(Arc::new(keys)))
}

/// Without compression.
pub(crate) fn plain() -> BufferConfig {
    BufferConfig::default().with_codec(Codec::Plain)
}

impl Grey {
    pub(crate) fn new(dir: &Path, config: BufferConfig, is_strict: bool) -> Outcome<Self> {
        let mut grey = Self { dir: dir.to_owned(), buffer: None, config: config.with_max_bytes(MAX_BYTES), is_strict };
        grey.reopen()?;
        Ok(grey)
    }
}

impl Contestant for Grey {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let buffer = self.buffer.as_mut().ok_or("closed")?;
        for record in records {
            buffer.append(Lane::Normal, payloads.get(record))?;
        }
        buffer.commit()?;
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.buffer = None;
        self.buffer = Some(Buffer::open(&self.dir, self.config.clone())?);
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let buffer = self.buffer.as_mut().ok_or("closed")?;
        let batch = buffer.peek(Budget { bytes: usize::MAX, items: count })?;
        for item in batch.items() {
            *sum = look(*sum, item.bytes()?);
        }
        buffer.ack(&batch)?;
        if self.is_strict {
            buffer.sync_acks()?;
        }
        Ok(batch.len())
    }
}
