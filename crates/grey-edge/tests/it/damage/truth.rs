//! What would have come of the directory undamaged, and which part of it stands where on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use grey_disk::{Disk, SimDisk};
use grey_edge::core::CoreError;
use grey_log::{Log, LogConfig};
use grey_model::{BlockHeader, Event, Kind, Lane, RangeSet, Seq, StreamKey};

use super::blow::{Blow, bytes_of};
use super::hub::Hub;
use super::plant::{Plant, number};

/// Bytes of a log's record before its payload (`docs/design/log-format.md`).
const RECORD_HEADER_BYTES: u64 = 16;

/// What a record of a log is to the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Sequences that are nowhere else: of a block that waits, or of an intake record that
    /// no block was made of.
    Sequences(Vec<(StreamKey, Range<Seq>)>),
    /// Nothing that the hub does not get in another way.
    Nothing,
}

/// A record, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) path: String,
    pub(crate) bytes: Range<u64>,
    pub(crate) holds: Holds,
    /// It is an intake record that a replay still reads.
    pub(crate) is_replayed: bool,
}

/// The undamaged end of the day.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) events: BTreeMap<(StreamKey, Seq), Event>,
    /// Readings by their number.
    pub(crate) readings: BTreeMap<u64, (StreamKey, Seq)>,
    pub(crate) records: Vec<Record>,
    /// Files and their lengths.
    pub(crate) files: Vec<(String, u64)>,
}

impl Truth {
    pub(crate) fn of(plant: &Plant) -> Result<Self, CoreError> {
        let disk = plant.copy_of_disk();
        let files = disk.files();
        let (mut undisturbed, opened) = plant.reopened(plant.copy_of_disk())?;
        // What is in the outbox already, by lane, and which of it is settled.
        let lanes = Lane::ALL.map(|lane| plant.core.queue().lane(lane).clone());
        undisturbed.drain(usize::MAX)?;
        let Hub { events, .. } = undisturbed.hub;
        let readings = events.iter().filter(|(_, event)| event.kind == Kind::Reading);
        let readings = readings.map(|((key, seq), event)| (number(event), (key.clone(), *seq))).collect();

        let key = |lane| StreamKey { site: plant.core.site().clone(), epoch: plant.core.epoch(), lane };
        let mut records = Vec::new();
        for dir in log_dirs(&files) {
            let found = records_of(&disk, &dir);
            let end = found.last().map_or(0, |(index, ..)| index + 1);
            for (n, (index, path, bytes, payload)) in found.iter().enumerate() {
                let mut is_replayed = false;
                let holds = if let Some(lane) = Lane::ALL.into_iter().find(|lane| dir == format!("outbox/{lane}")) {
                    let header = BlockHeader::parse(payload).expect("a block").header;
                    let waits = *index >= lanes[lane.index()].acked;
                    if waits { Holds::Sequences(vec![(header.key(), header.range())]) } else { Holds::Nothing }
                } else if dir == "intake" && *index >= end - opened.replay {
                    is_replayed = true;
                    let next = found.get(n + 1).map(|(.., payload)| next_seqs(payload));
                    let (from, to) = (next_seqs(payload), next.unwrap_or(undisturbed.core.next_seqs()));
                    let of_lane = |lane: Lane| {
                        let at = lane.index();
                        (key(lane), from[at].max(lanes[at].end_seq)..to[at].max(lanes[at].end_seq))
                    };
                    Holds::Sequences(Lane::ALL.map(of_lane).into_iter().filter(|(_, r)| !r.is_empty()).collect())
                } else {
                    Holds::Nothing
                };
                records.push(Record { path: path.clone(), bytes: bytes.clone(), holds, is_replayed });
            }
        }
        Ok(Self { events, readings, records, files })
    }

    /// The sequences of those records that are hit and behind which no intake record is intact.
    pub(crate) fn tail_of(&self, hit: &[&Record]) -> BTreeMap<StreamKey, RangeSet> {
        let mut tail: BTreeMap<StreamKey, RangeSet> = BTreeMap::new();
        let is_hit =
            |record: &&Record| hit.iter().any(|other| other.path == record.path && other.bytes == record.bytes);
        for record in self.records.iter().rev().filter(|record| record.is_replayed).take_while(is_hit) {
            let Holds::Sequences(ranges) = &record.holds else { continue };
            ranges.iter().for_each(|(key, range)| _ = tail.entry(key.clone()).or_default().insert(range.clone()));
        }
        tail
    }

    /// The records that a blow touches.
    pub(crate) fn hit(&self, path: &str, blow: &Blow) -> impl Iterator<Item = &Record> {
        let others = match blow {
            Blow::Swap(other) => Some(other.as_str()),
            _ => None,
        };
        let len_of = |path: &str| self.files.iter().find(|(name, _)| name == path).map_or(0, |(_, len)| *len);
        let hit = |record: &&Record| {
            let by = |name: &str| {
                let touched = blow.touched(len_of(name));
                record.path == name && touched.start < record.bytes.end && record.bytes.start < touched.end
            };
            by(path) || others.is_some_and(by)
        };
        self.records.iter().filter(hit).collect::<Vec<_>>().into_iter()
    }
}

/// The next sequence of each lane before an intake record (`grey_edge::core`, record version 1).
fn next_seqs(payload: &[u8]) -> [Seq; 3] {
    assert_eq!(payload[0], 1, "the plant never recovers while it takes records");
    [21, 29, 37].map(|at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("eight bytes")))
}

fn log_dirs(files: &[(String, u64)]) -> BTreeSet<String> {
    let segments = files.iter().filter(|(path, _)| path.ends_with(".log") && !path.contains("quarantine"));
    segments.filter_map(|(path, _)| Some(path.rsplit_once('/')?.0.to_owned())).collect()
}

/// The records of a log: index, file, where in it, payload.
fn records_of(disk: &SimDisk, dir: &str) -> Vec<(u64, String, Range<u64>, Vec<u8>)> {
    let prefix = format!("{dir}/");
    let is_segment = |path: &str| path.strip_prefix(&prefix).is_some_and(|name| name.ends_with(".log"));
    let segments: Vec<(String, Vec<u8>)> = disk
        .files()
        .into_iter()
        .filter(|(path, _)| is_segment(path))
        .map(|(path, _)| (path.clone(), bytes_of(disk, &path)))
        .collect();
    let copy: Arc<dyn Disk> = Arc::new(disk.fork(2));
    let (log, recovery) = Log::open(copy, Path::new(dir), LogConfig::default()).expect("an undamaged log");
    assert_eq!(recovery.damaged, [], "{dir}");
    let mut from = vec![0; segments.len()];
    let mut found = Vec::new();
    for index in log.first_index()..log.durable_end() {
        let payload = log.read(index).expect("readable").expect("there");
        let mut needle = index.to_le_bytes().to_vec();
        needle.extend_from_slice(&payload);
        let place = segments.iter().enumerate().find_map(|(n, (_, bytes))| {
            let at = bytes[from[n]..].windows(needle.len()).position(|window| *window == needle)?;
            Some((n, from[n] + at))
        });
        let (n, at) = place.expect("every record is in a file");
        let (start, end) = (at as u64 - (RECORD_HEADER_BYTES - 8), (at + needle.len()) as u64);
        from[n] = end as usize;
        found.push((index, segments[n].0.clone(), start..end, payload.to_vec()));
    }
    found
}
