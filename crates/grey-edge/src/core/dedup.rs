//! Which device events were accepted before: the site's memory of event ids
//! and of MQTT QoS 2 packets.
//!
//! Ids are kept as 64-bit SipHash fingerprints keyed per site, in two
//! generations: when the young one is full the old one is forgotten. At a
//! window of 900,000 ids a false match happens once in 2 * 10^13 events, and
//! would be counted as `deduplicated`, never silently dropped.

use std::collections::BTreeSet;
use std::hash::Hasher;
use std::path::Path;
use std::sync::Arc;

use bytes::BufMut;
use grey_disk::Disk;
use grey_ingest::Qos2Key;
use grey_log::{Log, LogConfig, LogError};
use grey_seal::Seal;
use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// Ids a generation holds: the most that a table of 2^19 slots takes.
pub(crate) const GENERATION_IDS_MAX: usize = (1 << 19) / 8 * 7;
/// QoS 2 packets that wait for their release, over all clients.
const QOS2_MAX: usize = 262_144;
const JOURNAL_SEGMENT_BYTES: u64 = 2 << 20;

/// A hasher for values that are already hashes.
#[derive(Debug, Default, Clone, Copy)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Ids = HashSet<u64, std::hash::BuildHasherDefault<Fingerprint>>;

/// What a checkpoint keeps of the memory; the ids themselves are journalled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DedupState {
    /// Journal records `old..young` are the old generation.
    old: u64,
    /// Journal records `young..end` are the young generation.
    young: u64,
    end: u64,
    /// QoS 2 packets accepted and not released.
    qos2: BTreeSet<(u64, u16)>,
}

impl DedupState {
    /// Begins the memory of ids anew: their fingerprints cannot be told apart without their key.
    pub(crate) fn forget_ids(&mut self) {
        (self.old, self.young) = (self.end, self.end);
    }
}

/// The memory of accepted ids.
#[derive(Debug)]
pub(crate) struct Dedup {
    key: (u64, u64),
    old: Ids,
    young: Ids,
    /// Ids taken since the last journal record, in order.
    fresh: Vec<u64>,
    /// Journal records that are not durable yet: a full disk takes them out of the log again.
    uncommitted: Vec<Vec<u8>>,
    journal: Log,
    state: DedupState,
}

impl Dedup {
    /// Opens the journal and loads the generations that the checkpoint names.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        key: (u64, u64),
        state: DedupState,
        seal: Option<&Seal>,
    ) -> Result<(Self, Vec<String>), LogError> {
        let config = LogConfig { segment_bytes_max: JOURNAL_SEGMENT_BYTES, ..LogConfig::default() };
        let (mut journal, recovery) = Log::open_sealed(Arc::clone(disk), dir, config, seal)?;
        let mut notes: Vec<String> = recovery.damaged.iter().map(ToString::to_string).collect();
        if journal.next_index() < state.end {
            notes.push("the id journal ends before the checkpoint; some resends may be counted twice".into());
            journal.reset(state.end)?;
        } else if journal.next_index() > state.end {
            // Written after the checkpoint: the replay of the intake brings these ids again.
            match journal.truncate_back(state.end) {
                // The place to cut at cannot be found.
                Err(LogError::Damaged { .. }) => journal.reset(state.end)?,
                other => other?,
            }
        }
        let load = |range: std::ops::Range<u64>, notes: &mut Vec<String>| {
            let mut ids = Ids::default();
            for index in range.start.max(journal.first_index())..range.end {
                match journal.read(index) {
                    Ok(Some(record)) => {
                        ids.extend(record.chunks_exact(8).filter_map(|c| c.try_into().ok()).map(u64::from_le_bytes));
                    }
                    Ok(None) => {}
                    Err(error) => notes.push(format!("id journal: {error}")),
                }
            }
            ids
        };
        let old = load(state.old..state.young, &mut notes);
        let young = load(state.young..state.end, &mut notes);
        Ok((Self { key, old, young, fresh: Vec::new(), uncommitted: Vec::new(), journal, state }, notes))
    }

    fn fingerprint(&self, device: &str, id: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(device.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(id.as_bytes());
        hasher.finish()
    }

    /// Notes an id; true when it was noted before.
    pub(crate) fn seen(&mut self, device: &str, id: &str) -> bool {
        let print = self.fingerprint(device, id);
        if self.old.contains(&print) || !self.young.insert(print) {
            return true;
        }
        self.fresh.push(print);
        if self.young.len() >= GENERATION_IDS_MAX {
            self.journal_fresh();
            self.old = std::mem::take(&mut self.young);
            self.state.old = self.state.young;
            self.state.young = self.state.end;
        }
        false
    }

    /// Notes a QoS 2 packet; true when it was noted and not released.
    pub(crate) fn seen_packet(&mut self, key: Qos2Key) -> bool {
        let packet = (key.client, key.packet_id);
        if self.state.qos2.len() >= QOS2_MAX && !self.state.qos2.contains(&packet) {
            return false;
        }
        !self.state.qos2.insert(packet)
    }

    /// Forgets a QoS 2 packet: its client will use the packet id anew.
    pub(crate) fn release(&mut self, key: Qos2Key) {
        self.state.qos2.remove(&(key.client, key.packet_id));
    }

    /// Forgets every QoS 2 packet of a client that starts a clean session.
    pub(crate) fn reset(&mut self, client: u64) {
        let packets: Vec<_> = self.state.qos2.range((client, 0)..=(client, u16::MAX)).copied().collect();
        for packet in packets {
            self.state.qos2.remove(&packet);
        }
    }

    /// Closes a journal record. It is written with the next checkpoint.
    fn journal_fresh(&mut self) {
        if !self.fresh.is_empty() {
            let mut record = Vec::with_capacity(self.fresh.len() * 8);
            self.fresh.iter().for_each(|id| record.put_u64_le(*id));
            self.state.end += 1;
            self.uncommitted.push(record);
            self.fresh.clear();
        }
    }

    /// Makes the ids durable and returns what the checkpoint must keep.
    ///
    /// # Errors
    /// What the log says. After a full disk the ids are still here, and the next checkpoint writes them.
    pub(crate) fn checkpoint(&mut self) -> Result<DedupState, LogError> {
        self.journal_fresh();
        let first = self.state.end - self.uncommitted.len() as u64;
        for (index, record) in (first..).zip(&self.uncommitted) {
            if self.journal.next_index() == index {
                self.journal.append(record)?;
            }
        }
        self.journal.commit()?;
        self.uncommitted.clear();
        Ok(self.state.clone())
    }

    /// Gives back what no kept checkpoint needs.
    pub(crate) fn reclaim(&mut self, oldest: &DedupState) -> Result<(), LogError> {
        self.journal.trim_front(oldest.old)
    }

    /// Ids remembered.
    pub(crate) fn len(&self) -> usize {
        self.old.len() + self.young.len()
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.journal.bytes()
    }
}
