//! Who takes part in the benchmarks of logs and queues: payloads, what a contestant does,
//! and those that are in both.

use std::fs;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use grey_bench::Outcome;
use segment_buffer::{DurabilityPolicy, FlushPolicy, SegmentBuffer, SegmentConfig};
use serde::{Deserialize, Serialize};

/// Bytes of the pool that payloads are taken from; a prime, so that they differ.
const POOL_BYTES: usize = 16_777_213;
/// Size of the bare loop's files, as the log's segments.
const BARE_FILE_BYTES: u64 = 64 << 20;
/// What the bare loop's reader buffers.
const BARE_READ_BYTES: usize = 1 << 20;

/// Incompressible payloads without a cost of their own.
pub(crate) struct Payloads {
    pool: Vec<u8>,
    bytes: usize,
}

impl Payloads {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let pool = (0..POOL_BYTES + bytes).map(|_| (random.next() >> 32) as u8).collect();
        Self { pool, bytes }
    }

    pub(crate) fn get(&self, record: usize) -> &[u8] {
        let start = record.wrapping_mul(self.bytes * 7 + 13) % POOL_BYTES;
        &self.pool[start..start + self.bytes]
    }
}

/// Xorshift (Marsaglia, 2003).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Looks at every byte of a record, as any consumer would.
pub(crate) fn look(sum: u64, payload: &[u8]) -> u64 {
    let words = payload.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    words.fold(sum, |sum, word| sum.rotate_left(1) ^ word)
}

/// One way to store records.
pub(crate) trait Contestant {
    /// Takes one batch and returns once it is durable.
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()>;
    /// Closes and opens again, ready to be drained.
    fn reopen(&mut self) -> Outcome<()>;
    /// Reads about one batch, gives its space back, and returns how many records it had.
    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize>;
}

/// What anyone would write first: length and bytes, one write and one sync a batch.
pub(crate) struct Bare {
    dir: PathBuf,
    file: fs::File,
    number: usize,
    written: u64,
    buffer: Vec<u8>,
    /// The file that is being drained.
    reading: Option<(usize, BufReader<fs::File>)>,
}

impl Bare {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let file = fs::File::create_new(dir.join("0"))?;
        Ok(Self { dir: dir.to_owned(), file, number: 0, written: 0, buffer: Vec::new(), reading: None })
    }

    fn path(&self, number: usize) -> PathBuf {
        self.dir.join(number.to_string())
    }
}

impl Contestant for Bare {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        self.buffer.clear();
        for record in records {
            let payload = payloads.get(record);
            self.buffer.write_all(&(payload.len() as u32).to_le_bytes())?;
            self.buffer.write_all(payload)?;
        }
        if self.written + self.buffer.len() as u64 > BARE_FILE_BYTES {
            self.number += 1;
            self.written = 0;
            self.file = fs::File::create_new(self.path(self.number))?;
        }
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        Ok(self.file.sync_data()?)
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.reading = Some((0, BufReader::with_capacity(BARE_READ_BYTES, fs::File::open(self.path(0))?)));
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let mut drained = 0;
        while let Some((number, reader)) = self.reading.as_mut().filter(|_| drained < count) {
            let mut prefix = [0; 4];
            match reader.read_exact(&mut prefix) {
                Ok(()) => {
                    self.buffer.resize(u32::from_le_bytes(prefix) as usize, 0);
                    reader.read_exact(&mut self.buffer)?;
                    *sum = look(*sum, &self.buffer);
                    drained += 1;
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    let done = *number;
                    fs::remove_file(self.path(done))?;
                    self.reading = None;
                    if done < self.number {
                        let file = fs::File::open(self.path(done + 1))?;
                        self.reading = Some((done + 1, BufReader::with_capacity(BARE_READ_BYTES, file)));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(drained)
    }
}

pub(crate) struct Sled {
    dir: PathBuf,
    db: Option<sled::Db>,
    next: u64,
}

impl Sled {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let mut sled = Self { dir: dir.to_owned(), db: None, next: 0 };
        sled.reopen()?;
        Ok(sled)
    }
}

impl Contestant for Sled {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let db = self.db.as_ref().ok_or("closed")?;
        let mut writes = sled::Batch::default();
        for record in records {
            writes.insert(&(record as u64).to_be_bytes(), payloads.get(record));
        }
        db.apply_batch(writes)?;
        db.flush()?;
        Ok(())
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.db = None;
        self.db = Some(sled::Config::new().path(&self.dir).flush_every_ms(None).open()?);
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let db = self.db.as_ref().ok_or("closed")?;
        let mut removals = sled::Batch::default();
        let mut drained = 0;
        for entry in db.range(self.next.to_be_bytes()..).take(count) {
            let (key, payload) = entry?;
            *sum = look(*sum, &payload);
            removals.remove(key);
            drained += 1;
        }
        self.next += drained as u64;
        db.apply_batch(removals)?;
        db.flush()?;
        Ok(drained)
    }
}

/// Bytes as bytes: the default form would be a list of numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Blob(#[serde(with = "serde_bytes")] Vec<u8>);

pub(crate) struct SegmentQueue {
    dir: PathBuf,
    buffer: Option<SegmentBuffer<Blob>>,
    next: u64,
}

impl SegmentQueue {
    pub(crate) fn new(dir: &Path) -> Outcome<Self> {
        let mut buffer = Self { dir: dir.to_owned(), buffer: None, next: 0 };
        buffer.reopen()?;
        Ok(buffer)
    }
}

impl Contestant for SegmentQueue {
    fn append(&mut self, payloads: &Payloads, records: Range<usize>) -> Outcome<()> {
        let buffer = self.buffer.as_ref().ok_or("closed")?;
        buffer.append_all(records.map(|record| Blob(payloads.get(record).to_vec())))?;
        Ok(buffer.flush()?)
    }

    fn reopen(&mut self) -> Outcome<()> {
        self.buffer = None;
        let config = SegmentConfig::builder()
            .flush_policy(FlushPolicy::Manual)
            .durability(DurabilityPolicy::Maximal)
            .max_size_bytes(u64::MAX)
            .build();
        let buffer = SegmentBuffer::open(&self.dir, config)?;
        self.next = buffer.stats().head_sequence;
        self.buffer = Some(buffer);
        Ok(())
    }

    fn drain(&mut self, count: usize, sum: &mut u64) -> Outcome<usize> {
        let buffer = self.buffer.as_ref().ok_or("closed")?;
        let records = buffer.read_from(self.next, count)?;
        if let Some(last) = (records.len() as u64).checked_sub(1) {
            *sum = records.iter().fold(*sum, |sum, record| look(sum, &record.0));
            buffer.delete_acked(self.next + last)?;
            self.next += last + 1;
        }
        Ok(records.len())
    }
}
