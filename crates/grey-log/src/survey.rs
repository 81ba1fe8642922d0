//! Going through one segment record by record, and finding the way again after
//! bytes that are none.
//!
//! A damaged length field means that nobody knows where the next record starts.
//! It is searched byte by byte: a candidate must carry an index that fits between
//! the damage and itself, and a checksum that holds. A payload may contain bytes
//! that look like a record, even on purpose; so a candidate counts only if intact
//! records follow it for longer than one payload can be, or up to the end.

use std::io;
use std::ops::Range;

use grey_disk::File;

use crate::format::{HEADER_BYTES, RECORD_HEADER_BYTES, RecordHeader};
use crate::window::{Parsed, Window};

/// Distance of the marks of a sparse index in bytes: what a random read goes through at most,
/// give or take one record.
pub(crate) const MARK_STRIDE_BYTES: u64 = 64 * 1024;
/// Bytes that the search after one damage may checksum before it gives the rest of
/// the segment up: bounds the work that crafted payloads can cause.
const SEARCH_BYTES_MAX: u64 = 256 << 20;

/// Runs of intact records that the search remembers behind one damage.
const CHAINS_MAX: usize = 1_024;
/// Bytes that the search looks at in one go.
const SEARCH_STEP_BYTES: u64 = 64 * 1024;

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    pub(crate) offset: u64,
}

/// A stretch of a segment that holds no readable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The indexes that were there.
    pub(crate) lost: Range<u64>,
    /// Where it is, in bytes.
    pub(crate) bytes: Range<u64>,
    /// True when a record written by a later commit follows: what is lost was durable.
    pub(crate) is_followed: bool,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Some of the records, [`MARK_STRIDE_BYTES`] apart, and the first after each gap.
    pub(crate) marks: Vec<Mark>,
    /// Damage between intact records, in order.
    pub(crate) gaps: Vec<Gap>,
    /// Behind the last intact record.
    pub(crate) end: Mark,
    /// Where the last commit begins, as far as its first record is intact.
    pub(crate) last_commit: Mark,
}

/// [`survey`] of a file, reading around what cannot be read. The flag says whether there
/// was such a place.
pub(crate) fn survey_file(
    file: &dyn File,
    len: u64,
    record_bytes_max: usize,
    first: u64,
    bound: u64,
) -> io::Result<(Survey, bool)> {
    if let Ok(found) = survey(&mut Window::new(file, len, record_bytes_max), first, bound) {
        return Ok((found, false));
    }
    let mut window = Window::new(file, len, record_bytes_max).salvaging();
    let found = survey(&mut window, first, bound)?;
    Ok((found, window.had_unreadable()?))
}

/// Reads and checks every record of a segment that starts at index `first` and holds
/// no index at or above `bound`.
pub(crate) fn survey(window: &mut Window<'_>, first: u64, bound: u64) -> io::Result<Survey> {
    let start = Mark { index: first, offset: HEADER_BYTES };
    let mut found = Survey { marks: vec![start], gaps: Vec::new(), end: start, last_commit: start };
    loop {
        let at = found.end;
        let header = match window.record(at.offset)? {
            Parsed::Record(header) if header.index == at.index && at.index < bound => header,
            Parsed::End => return Ok(found),
            Parsed::Record(_) | Parsed::Bad => match next_intact(window, at, bound)? {
                None => return Ok(found),
                Some((next, header)) => {
                    found.gaps.push(Gap {
                        lost: at.index..next.index,
                        bytes: at.offset..next.offset,
                        is_followed: false,
                    });
                    found.end = next;
                    found.marks.push(next);
                    header
                }
            },
        };
        found.take(header);
    }
}

impl Survey {
    /// Accounts for the intact record at `self.end`.
    fn take(&mut self, header: RecordHeader) {
        let at = self.end;
        if header.starts_commit {
            self.last_commit = at;
            for gap in self.gaps.iter_mut().rev().take_while(|gap| !gap.is_followed) {
                gap.is_followed = true;
            }
        }
        push_mark(&mut self.marks, at);
        self.end = Mark { index: at.index + 1, offset: at.offset + header.total() };
    }

    /// The segment up to a gap, without it and everything behind it.
    pub(crate) fn cut_before_gap(&mut self, position: usize) {
        let gap = self.gaps[position].clone();
        self.gaps.truncate(position);
        self.end = Mark { index: gap.lost.start, offset: gap.bytes.start };
        self.marks.retain(|mark| mark.offset < gap.bytes.start || mark.offset == HEADER_BYTES);
    }
}

/// Remembers a record if the last one remembered is far enough away.
pub(crate) fn push_mark(marks: &mut Vec<Mark>, mark: Mark) {
    if marks.last().is_none_or(|last| mark.offset >= last.offset + MARK_STRIDE_BYTES) {
        marks.push(mark);
    }
}

/// Intact records that follow each other.
#[derive(Debug, Clone, Copy)]
struct Chain {
    start: Mark,
    header: RecordHeader,
    end: Mark,
}

impl Chain {
    /// True when this one can stand before `later`: its indexes are lower and the ones
    /// between have room.
    fn fits_before(&self, later: &Self) -> bool {
        self.end.offset <= later.start.offset
            && self.end.index < later.start.index
            && (later.start.index - self.end.index) * RECORD_HEADER_BYTES as u64 <= later.start.offset - self.end.offset
    }
}

/// The first intact record behind the damage at `bad`.
fn next_intact(window: &mut Window<'_>, bad: Mark, bound: u64) -> io::Result<Option<(Mark, RecordHeader)>> {
    // Beyond this no candidate can be the content of the damaged record.
    let proof = bad.offset + (RECORD_HEADER_BYTES + window.record_bytes_max()) as u64;
    let mut budget = SEARCH_BYTES_MAX;
    let mut chains: Vec<Chain> = Vec::new();
    let mut offset = bad.offset + 1;
    let mut proven = None;
    while chains.len() < CHAINS_MAX
        && let Some((start, header)) = next_candidate(window, bad, offset, bound, &mut budget)?
    {
        let chain = Chain { start, header, end: chain_end(window, start, header, proof, bound, &mut budget)? };
        if chain.end.offset >= proof || chain.end.offset == window.len() {
            proven = Some(chain);
            break;
        }
        chains.push(chain);
        offset = chain.end.offset;
    }
    // Without proof the longest is believed; what fits before it is intact as well,
    // between one damage and another.
    let longest = || chains.iter().max_by_key(|chain| chain.end.offset - chain.start.offset).copied();
    let Some(believed) = proven.or_else(longest) else { return Ok(None) };
    let first = chains.iter().find(|chain| chain.fits_before(&believed)).unwrap_or(&believed);
    Ok(Some((first.start, first.header)))
}

/// The first checksummed record at or after `offset` whose index fits.
fn next_candidate(
    window: &mut Window<'_>,
    bad: Mark,
    mut offset: u64,
    bound: u64,
    budget: &mut u64,
) -> io::Result<Option<(Mark, RecordHeader)>> {
    while let Some(at) = next_plausible(window, bad, offset, bound)? {
        if let Ok(header) = window.header(at)? {
            *budget = budget.saturating_sub(header.total());
            if *budget == 0 {
                return Ok(None);
            }
            if let Parsed::Record(header) = window.record(at)? {
                return Ok(Some((Mark { index: header.index, offset: at }, header)));
            }
        }
        offset = at + 1;
    }
    Ok(None)
}

/// The first offset where an index stands that a record behind the damage can have.
fn next_plausible(window: &mut Window<'_>, bad: Mark, mut offset: u64, bound: u64) -> io::Result<Option<u64>> {
    loop {
        let count = window.len().saturating_sub(offset).min(SEARCH_STEP_BYTES);
        if count < RECORD_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let Some(bytes) = window.slice(offset, count as usize)? else { return Ok(None) };
        for (skipped, bytes) in (0..).zip(bytes.windows(RECORD_HEADER_BYTES)) {
            // Each lost record took a header at least; the damaged one itself is lost.
            let lost_max = (offset + skipped - bad.offset) / RECORD_HEADER_BYTES as u64;
            let index = RecordHeader::index_of(bytes);
            let lost = index.wrapping_sub(bad.index);
            if lost != 0 && lost <= lost_max.max(1) && index < bound {
                return Ok(Some(offset + skipped));
            }
        }
        offset += count - RECORD_HEADER_BYTES as u64 + 1;
    }
}

/// Where the intact records with consecutive indexes end that start at `mark`, or a
/// place behind `enough` if they go on that far.
fn chain_end(
    window: &mut Window<'_>,
    mark: Mark,
    header: RecordHeader,
    enough: u64,
    bound: u64,
    budget: &mut u64,
) -> io::Result<Mark> {
    let mut end = Mark { index: mark.index + 1, offset: mark.offset + header.total() };
    while end.offset < enough && *budget > 0 {
        match window.record(end.offset)? {
            Parsed::Record(next) if next.index == end.index && end.index < bound => {
                *budget = budget.saturating_sub(next.total());
                end = Mark { index: end.index + 1, offset: end.offset + next.total() };
            }
            _ => break,
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use grey_disk::{Disk, File, OpenMode, SimDisk};

    use super::*;
    use crate::format::encode_record;

    const RECORD_BYTES_MAX: usize = 4_096;

    fn file(bytes: &[u8]) -> Box<dyn File> {
        let disk = SimDisk::new(0);
        let file = disk.open(Path::new("s"), OpenMode::CreateNew).expect("create");
        file.write_at(&[0; HEADER_BYTES as usize], 0).expect("header");
        file.write_at(bytes, HEADER_BYTES).expect("records");
        file
    }

    fn surveyed(bytes: &[u8]) -> Survey {
        let file = file(bytes);
        let mut window = Window::new(&*file, HEADER_BYTES + bytes.len() as u64, RECORD_BYTES_MAX);
        survey(&mut window, 10, u64::MAX).expect("readable")
    }

    /// Records 10, 11, ... with these payloads; a commit starts at each index in `commits`.
    fn records(payloads: &[&[u8]], commits: &[u64]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for (index, payload) in (10..).zip(payloads) {
            starts.push(bytes.len());
            encode_record(&mut bytes, index, commits.contains(&index), &[payload]);
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    #[test]
    fn an_intact_segment_has_no_gap() {
        let (bytes, _) = records(&[b"a", b"", b"ccc"], &[10, 12]);
        let found = surveyed(&bytes);
        assert_eq!(found.gaps, []);
        assert_eq!(found.end, Mark { index: 13, offset: HEADER_BYTES + bytes.len() as u64 });
        assert_eq!(found.last_commit.index, 12);
    }

    #[test]
    fn any_flip_loses_exactly_its_record() {
        let (bytes, starts) = records(&[b"first", b"second one", b"", b"fourth"], &[10, 12, 13]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let found = surveyed(&damaged);
            let record = starts.partition_point(|start| *start <= at) - 1;
            let index = 10 + record as u64;
            if record == 3 {
                assert_eq!((found.gaps.len(), found.end.index), (0, 13), "the tail at byte {at}");
            } else {
                let lost: Vec<_> = found.gaps.iter().map(|gap| (gap.lost.clone(), gap.is_followed)).collect();
                assert_eq!(lost, [(index..index + 1, true)], "byte {at}");
                assert_eq!(found.end.index, 14);
            }
        }
    }

    #[test]
    fn a_gap_in_the_last_commit_is_not_followed() {
        let (mut bytes, starts) = records(&[b"a", b"b", b"c"], &[10]);
        bytes[starts[1]] ^= 1;
        let found = surveyed(&bytes);
        assert!(!found.gaps[0].is_followed);
    }

    #[test]
    fn records_inside_a_payload_are_not_taken_for_records() {
        // A payload that holds a whole log of its own with fitting indexes.
        let mut forged = Vec::new();
        for index in 12..20 {
            encode_record(&mut forged, index, true, &[b"forged"]);
        }
        let (bytes, starts) = records(&[b"a", &forged, b"b", b"c", b"d"], &[10, 11, 12, 13, 14]);
        for at in starts[1]..starts[1] + RECORD_HEADER_BYTES {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let found = surveyed(&damaged);
            assert_eq!(found.gaps.len(), 1, "header byte {at}");
            assert_eq!(found.gaps[0].lost, 11..12);
            assert_eq!(found.gaps[0].bytes.end, HEADER_BYTES + starts[2] as u64);
            assert_eq!(found.end.index, 15);
        }
    }

    #[test]
    fn crafted_payloads_do_not_make_the_search_endless() {
        // Every 16 bytes a plausible header of the largest size.
        let mut crafted = Vec::new();
        while crafted.len() < RECORD_BYTES_MAX - 16 {
            crafted.extend_from_slice(&7_u32.to_le_bytes());
            crafted.extend_from_slice(&1_000_u32.to_le_bytes());
            crafted.extend_from_slice(&11_u64.to_le_bytes());
        }
        let (mut bytes, starts) = records(&[&crafted, b"b", b"c"], &[10, 11, 12]);
        bytes[5] ^= 0xff;
        let found = surveyed(&bytes);
        assert_eq!(found.gaps[0].bytes.end, HEADER_BYTES + starts[1] as u64);
    }
}
