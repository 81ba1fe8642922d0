//! Opening a log: finding its segments, its end, and what it lost.
//!
//! A commit is written only after the one before it was synced. So bytes that are no
//! record were a torn write if no record of a later commit follows and the marker
//! does not know better; then they were never acknowledged and are cut off. Otherwise
//! they were durable and are damaged; then they are kept, told, and stepped over.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_disk::{Disk, File, OpenMode};
use grey_seal::{OVERHEAD_BYTES, Seal};

use crate::error::Damage;
use crate::format::{
    HEADER_BYTES, Marker, RECORD_BYTES_LIMIT, SealedWith, SegmentHeader, parse_segment_name, segment_name,
};
use crate::log::{LogConfig, stored_bytes_max};
use crate::marker::MarkerFile;
use crate::quarantine::{quarantine, quarantine_file};
use crate::segment::{self, Active, read_header};
use crate::shared::{Segment, Shared, SparseIndex, State, damage_of};
use crate::survey::{Survey, survey_file};
use crate::{LogError, Reason, Recovery};

/// The end of a log is rewritten in pieces of this size.
const REWRITE_BYTES: u64 = 1 << 20;

/// A log that was brought to a clean end.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) shared: Shared,
    pub(crate) marker: MarkerFile,
    pub(crate) epoch: u64,
    pub(crate) active: Active,
    pub(crate) recovery: Recovery,
}

/// A segment file as the directory and its header show it.
#[derive(Debug, Clone, Copy)]
struct Listed {
    first: u64,
    len: u64,
    header: Option<SegmentHeader>,
}

impl Listed {
    fn record_bytes_max(&self, config: &LogConfig) -> usize {
        // Without a header its records may be sealed or not.
        let unknown = config.record_bytes_max + OVERHEAD_BYTES;
        let limit = self.header.map_or(unknown, |header| header.record_bytes_max as usize);
        limit.min(RECORD_BYTES_LIMIT)
    }
}

/// The last segment and what is in it.
struct Last {
    listed: Listed,
    file: Arc<dyn File>,
    found: Survey,
    /// A part of it cannot be read.
    is_unreadable: bool,
}

struct Opening<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    config: &'a LogConfig,
    seal: Option<&'a Seal>,
    /// Whether the last segment's key must be given.
    needs_key: bool,
    /// The marker's word, where it has one for this epoch.
    known: Option<Marker>,
    epoch: u64,
    /// Records below this were durable.
    floor: u64,
    listed: Vec<Listed>,
    recovery: Recovery,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: &LogConfig,
    seal: Option<&Seal>,
    needs_key: bool,
) -> Result<Opened, LogError> {
    let sealed = SealedWith::wanted(seal);
    let record_bytes_max = stored_bytes_max(config, sealed);
    disk.create_dir_all(dir).map_err(LogError::io("create", dir))?;
    let (mut marker, known) = MarkerFile::open(&*disk, dir)?;
    let (listed, recovery) = (Vec::new(), Recovery::default());
    let mut opening = Opening { disk, dir, config, seal, needs_key, known, epoch: 0, floor: 0, listed, recovery };
    opening.list()?;
    opening.settle_epoch()?;
    opening.drop_trimmed()?;
    opening.drop_cut()?;
    let last = opening.take_last()?;
    opening.tell_missing(last.as_ref())?;

    let start = opening.start(last.as_ref());
    let mut segments: Vec<Segment> = opening.listed.iter().map(|listed| segment_of(listed, config)).collect();
    let (mut end, mut active, mut index) = (start, None, None);
    if let Some(last) = last {
        end = last.found.end.index;
        let is_unreadable = last.is_unreadable;
        let (kept, found) = opening.keep(last)?;
        let Kept { segment, file } = kept;
        segments.push(segment);
        index = Some((segment.first, SparseIndex::from(found)));
        active = (!is_unreadable).then(|| Active::new(&segment, file, config));
    }
    let active = match active {
        Some(active) if end >= opening.floor => active,
        _ => {
            // The indexes of records that were durable and are lost are not given out again.
            let first = end.max(opening.floor);
            opening.tell_lost_tail(&segments, end, first);
            let previous_first = segments.last().map_or(end, |segment| segment.first);
            let header = SegmentHeader {
                first,
                previous_first,
                previous_end: end,
                epoch: opening.epoch,
                record_bytes_max: record_bytes_max as u32,
                sealed,
            };
            let created = segment::create(&*opening.disk, dir, header, &[], config)?;
            segments.push(Segment { first, len: created.len, record_bytes_max, seal: created.seal });
            created
        }
    };
    opening.disk.sync_dir(dir).map_err(LogError::io("sync", dir))?;

    let durable_end = end.max(opening.floor);
    marker.store(opening.epoch, start, durable_end)?;
    let Opening { disk, epoch, mut recovery, .. } = opening;
    recovery.records = durable_end - start;
    recovery.damaged.sort_by_key(|damage| (damage.lost.start, damage.offset));
    recovery.lost_durable = hull(&recovery.damaged);
    let shared = Shared::new(disk, dir, seal.cloned(), State { start, segments, durable_end, version: 0 });
    shared.put_file(active.first, &active.file);
    if let Some((first, index)) = index {
        shared.put_index(first, index);
    }
    for damage in &recovery.damaged {
        shared.note(damage.clone());
    }
    Ok(Opened { shared, marker, epoch, active, recovery })
}

/// The last segment once it is clean.
struct Kept {
    segment: Segment,
    file: Arc<dyn File>,
}

impl Opening<'_> {
    fn list(&mut self) -> Result<(), LogError> {
        for entry in self.disk.read_dir(self.dir).map_err(LogError::io("list", self.dir))? {
            let Some(first) = parse_segment_name(&entry.name).filter(|_| !entry.is_dir) else { continue };
            let path = self.dir.join(&entry.name);
            let file = self.disk.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?;
            // One that cannot be read is as good as a damaged one.
            let header = read_header(&*file).or_else(|_| read_header(&*file)).unwrap_or_default();
            if header.is_some_and(|header| header.first != first) {
                // Another segment under this name: none of its records would fit.
                quarantine_file(&*self.disk, self.dir, &path);
                continue;
            }
            self.listed.push(Listed { first, len: entry.len, header });
        }
        Ok(())
    }

    /// Removes segments that a reset made void and did not come to remove.
    fn settle_epoch(&mut self) -> Result<(), LogError> {
        let of_segments = self.listed.iter().filter_map(|listed| listed.header).map(|header| header.epoch).max();
        self.epoch = of_segments.unwrap_or(0).max(self.known.map_or(0, |known| known.epoch));
        // A marker of an older epoch says nothing about this one.
        self.known = self.known.filter(|known| known.epoch == self.epoch);
        self.floor = self.known.map_or(0, |known| known.durable);
        let epoch = self.epoch;
        self.remove_where(|listed, _| listed.header.is_some_and(|header| header.epoch < epoch))
    }

    /// Removes segments that a trim had given up and did not come to remove.
    fn drop_trimmed(&mut self) -> Result<(), LogError> {
        let Some(start) = self.known.map(|known| known.start) else { return Ok(()) };
        self.remove_where(|_, next| next.is_some_and(|next| next <= start))
    }

    /// Removes segments that a truncation had given up and did not come to remove.
    fn drop_cut(&mut self) -> Result<(), LogError> {
        let Some(end) = self.cut() else { return Ok(()) };
        self.remove_where(|listed, _| listed.first > end)
    }

    /// Where an unfinished truncation is to end the log.
    fn cut(&self) -> Option<u64> {
        self.known.filter(|known| known.is_cutting).map(|known| known.durable)
    }

    /// Removes segments that the marker says are none. The marker goes on saying it until
    /// opening is done, so the order does not matter.
    fn remove_where(&mut self, doomed: impl Fn(&Listed, Option<u64>) -> bool) -> Result<(), LogError> {
        let nexts: Vec<Option<u64>> =
            (1..=self.listed.len()).map(|next| self.listed.get(next).map(|listed| listed.first)).collect();
        let mut kept = Vec::new();
        for (listed, next) in std::mem::take(&mut self.listed).into_iter().zip(nexts) {
            if doomed(&listed, next) {
                let path = self.path(listed.first);
                self.disk.remove_file(&path).map_err(LogError::io("remove", &path))?;
            } else {
                kept.push(listed);
            }
        }
        self.listed = kept;
        Ok(())
    }

    /// Takes the last segment that holds or may hold something off the list.
    fn take_last(&mut self) -> Result<Option<Last>, LogError> {
        let bound = self.cut().unwrap_or(u64::MAX);
        while let Some(listed) = self.listed.pop() {
            let path = self.path(listed.first);
            self.check_key(&listed, &path)?;
            let file = self.disk.open(&path, OpenMode::ReadWrite).map_err(LogError::io("open", &path))?;
            let len = file.len().map_err(LogError::io("read", &path))?;
            let record_bytes_max = listed.record_bytes_max(self.config);
            let (mut found, is_unreadable) =
                survey_file(&*file, len, record_bytes_max, listed.first, bound).map_err(LogError::io("read", &path))?;
            if is_unreadable {
                // Not a torn write. Nothing is cut off or written over; the log goes on in
                // a new segment.
                return Ok(Some(Last {
                    listed: Listed { len, ..listed },
                    file: Arc::from(file),
                    found,
                    is_unreadable,
                }));
            }
            let torn = found.gaps.iter().position(|gap| !gap.is_followed && gap.lost.start >= self.floor);
            if let Some(torn) = torn {
                found.cut_before_gap(torn);
            }
            if listed.header.is_some() || found.end.index > listed.first {
                return Ok(Some(Last {
                    listed: Listed { len, ..listed },
                    file: Arc::from(file),
                    found,
                    is_unreadable,
                }));
            }
            // A segment without header and records was never finished, or is damaged
            // beyond use. Its existence says that all before it was durable.
            drop(file);
            let was_durable = self.floor > listed.first;
            self.floor = self.floor.max(listed.first);
            if !(was_durable && quarantine_file(&*self.disk, self.dir, &path)) {
                self.disk.remove_file(&path).map_err(LogError::io("remove", &path))?;
                self.recovery.torn_bytes += len;
            }
            self.disk.sync_dir(self.dir).map_err(LogError::io("sync", self.dir))?;
        }
        Ok(None)
    }

    /// Without its key nobody could go on reading where the log ends.
    fn check_key(&self, listed: &Listed, path: &Path) -> Result<(), LogError> {
        let Some(SealedWith { key_id, .. }) = listed.header.and_then(|header| header.sealed) else { return Ok(()) };
        if !self.needs_key || self.seal.is_some_and(|seal| seal.keyring().get(key_id).is_some()) {
            return Ok(());
        }
        Err(LogError::KeyMissing { key_id, path: path.to_owned() })
    }

    /// The log's first index.
    fn start(&self, last: Option<&Last>) -> u64 {
        let first = self.listed.first().map(|listed| listed.first).or(last.map(|last| last.listed.first));
        self.known.map(|known| known.start).or(first).unwrap_or(self.floor)
    }

    /// Tells what the directory and the headers show to be missing or damaged.
    fn tell_missing(&mut self, last: Option<&Last>) -> Result<(), LogError> {
        let all: Vec<Listed> = self.listed.iter().copied().chain(last.map(|last| last.listed)).collect();
        if let (Some(known), Some(first)) = (self.known, all.first())
            && known.start < first.first
        {
            self.tell(known.start..first.first, known.start, 0, Reason::Missing);
        }
        for listed in all.iter().filter(|listed| listed.header.is_none()) {
            self.tell(listed.first..listed.first, listed.first, 0, Reason::Header);
        }
        for (before, after) in all.iter().zip(all.iter().skip(1)) {
            let previous = after.header.map(|header| (header.previous_first, header.previous_end));
            match previous {
                Some((first, _)) if first > before.first && first < after.first => {
                    let (end, offset) = self.end_of(before, after.first)?;
                    let name = if end < first { end } else { first };
                    self.tell(end..after.first, name, offset, Reason::Missing);
                }
                Some((_, end)) if end < after.first => {
                    self.tell(end..after.first, before.first, before.len, Reason::Tail);
                }
                _ if before.len <= HEADER_BYTES && before.first < after.first => {
                    self.tell(before.first..after.first, before.first, before.len, Reason::Short);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where a segment ends that another one followed once.
    fn end_of(&self, listed: &Listed, bound: u64) -> Result<(u64, u64), LogError> {
        let path = self.path(listed.first);
        let file = self.disk.open(&path, OpenMode::Read).map_err(LogError::io("open", &path))?;
        let record_bytes_max = listed.record_bytes_max(self.config);
        let (found, _) = survey_file(&*file, listed.len, record_bytes_max, listed.first, bound)
            .map_err(LogError::io("read", &path))?;
        Ok((found.end.index, found.end.offset))
    }

    /// Cuts the torn end off and makes the rest surely durable.
    fn keep(&mut self, last: Last) -> Result<(Kept, Survey), LogError> {
        let Last { listed, file, found, is_unreadable } = last;
        let path = self.path(listed.first);
        let record_bytes_max = listed.record_bytes_max(self.config);
        for gap in &found.gaps {
            quarantine(&*self.disk, self.dir, &path, &*file, gap.bytes.clone());
            self.recovery.damaged.push(damage_of(gap, &path));
        }
        let end = found.end;
        if is_unreadable {
            // How many records are lost behind the last one that can be read, the marker
            // knows at best; where none can, it is one at least.
            self.floor = self.floor.max(end.index).max(listed.first + 1);
            return Ok((Kept { segment: segment_of(&listed, self.config), file }, found));
        }
        if listed.len > end.offset {
            if end.index < self.floor {
                quarantine(&*self.disk, self.dir, &path, &*file, end.offset..listed.len);
            }
            self.recovery.torn_bytes += self.torn_bytes(&*file, &path, end.offset, listed.len)?;
            file.set_len(end.offset).map_err(LogError::io("cut", &path))?;
        }
        self.rewrite(&*file, &path, &found)?;
        let wanted = SealedWith::wanted(self.seal);
        let limit = stored_bytes_max(self.config, wanted).max(record_bytes_max);
        if let Some(header) = listed.header
            && header.sealed == wanted
            && limit > record_bytes_max
        {
            // Longer records than before may follow now.
            let header = SegmentHeader { record_bytes_max: limit as u32, ..header };
            file.write_at(&header.encode(), 0).map_err(LogError::io("write", &path))?;
        }
        file.sync().map_err(LogError::io("sync", &path))?;
        let segment =
            Segment { len: end.offset.max(HEADER_BYTES), record_bytes_max: limit, ..segment_of(&listed, self.config) };
        Ok((Kept { segment, file }, found))
    }

    /// Bytes behind the end but for the zeros that were written ahead.
    fn torn_bytes(&self, file: &dyn File, path: &Path, end: u64, len: u64) -> Result<u64, LogError> {
        let mut buffer = vec![0; (len - end).min(REWRITE_BYTES) as usize];
        let (mut offset, mut torn_end) = (end, end);
        while offset < len {
            let wanted = (len - offset).min(REWRITE_BYTES) as usize;
            let read = file.read_at(&mut buffer[..wanted], offset).map_err(LogError::io("read", path))?;
            if read == 0 {
                break;
            }
            if let Some(last) = buffer[..read].iter().rposition(|byte| *byte != 0) {
                torn_end = offset + last as u64 + 1;
            }
            offset += read as u64;
        }
        Ok(torn_end - end)
    }

    /// Writes the last commit over itself. If its sync had failed, the system shows the
    /// bytes and believes them stored though they may not be; written again, the next
    /// sync stores them.
    fn rewrite(&self, file: &dyn File, path: &Path, found: &Survey) -> Result<(), LogError> {
        let mut offset = if found.last_commit.offset == HEADER_BYTES { 0 } else { found.last_commit.offset };
        let end = found.end.offset;
        let mut buffer = vec![0; end.saturating_sub(offset).min(REWRITE_BYTES) as usize];
        while offset < end {
            let wanted = (end - offset).min(REWRITE_BYTES) as usize;
            let read = file.read_at(&mut buffer[..wanted], offset).map_err(LogError::io("read", path))?;
            if read == 0 {
                break;
            }
            file.write_at(&buffer[..read], offset).map_err(LogError::io("write", path))?;
            offset += read as u64;
        }
        Ok(())
    }

    fn tell_lost_tail(&mut self, segments: &[Segment], end: u64, first: u64) {
        let (name, offset) = segments.last().map_or((end, 0), |segment| (segment.first, segment.len));
        if end < first {
            self.tell(end..first, name, offset, Reason::Tail);
        }
    }

    fn tell(&mut self, lost: Range<u64>, segment: u64, offset: u64, reason: Reason) {
        let path = self.path(segment);
        self.recovery.damaged.push(Damage { lost, path, offset, reason });
    }

    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(segment_name(first))
    }
}

fn segment_of(listed: &Listed, config: &LogConfig) -> Segment {
    let Listed { first, len, header } = *listed;
    Segment { first, len, record_bytes_max: listed.record_bytes_max(config), seal: header.into() }
}

/// From the first to the last lost index.
fn hull(damaged: &[Damage]) -> Option<Range<u64>> {
    let lost = || damaged.iter().map(|damage| &damage.lost).filter(|lost| !lost.is_empty());
    let start = lost().map(|lost| lost.start).min()?;
    let end = lost().map(|lost| lost.end).max()?;
    Some(start..end)
}
