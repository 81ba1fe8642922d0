//! Requests that rules ask for (`webhook`) and that nobody has answered yet.
//!
//! A request is handed out at once, and durable before the block with its alert
//! is handed to the outbox: a replay asks again for what the outbox does not
//! have, so a crash repeats a request at worst and never skips one. Knows neither HTTP nor how
//! often a request was tried.
//!
//! `docs/design/edge-core.md` spells out the records.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::BufMut;
use grey_disk::Disk;
use grey_log::{Log, LogConfig, LogError};
use grey_model::{Reader, SiteId, WireError, Writer};
use grey_rules::{DerivedEvent, Effect, Method, RenderedEffect};
use grey_seal::Seal;

use crate::alerts::alert_json;

/// Requests that wait for their answer at most; those beyond are dropped, counted.
pub(crate) const REQUESTS_MAX: usize = 65_536;
/// Longest body of a request. An alert has some hundred bytes.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Longest address or header.
const TEXT_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: u64 = 64;
const SEGMENT_BYTES: u64 = 1 << 20;

const VERSION: u8 = 1;
const ASKED: u8 = 0;
const DONE: u8 = 1;

/// A request that a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When, Unix ms.
    pub at_ms: i64,
    /// The same for a repetition: the alert's id, its state, and which of its requests it is.
    pub id: String,
    /// Where to.
    pub url: String,
    /// PUT instead of POST.
    pub is_put: bool,
    /// Headers besides those of every request.
    pub headers: Vec<(String, String)>,
    /// What.
    pub body: String,
}

impl Request {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u8(ASKED);
        out.put_varint_signed(self.at_ms);
        out.put_blob(self.id.as_bytes());
        out.put_blob(self.url.as_bytes());
        out.put_u8(u8::from(self.is_put));
        out.put_varint(self.headers.len() as u64);
        for (name, value) in &self.headers {
            out.put_blob(name.as_bytes());
            out.put_blob(value.as_bytes());
        }
        out.put_blob(self.body.as_bytes());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Asked(Request),
    /// The request of this record is answered, or given up.
    Done(u64),
}

fn decode(bytes: &[u8]) -> Result<Entry, WireError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(reader.invalid("version of a request"));
    }
    let entry = match reader.u8()? {
        ASKED => {
            let at_ms = reader.varint_signed()?;
            let id = reader.text("id", TEXT_BYTES_MAX)?.to_owned();
            let url = reader.text("url", TEXT_BYTES_MAX)?.to_owned();
            let is_put = match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(reader.invalid("method")),
            };
            let mut headers = Vec::new();
            for _ in 0..reader.count("headers", HEADERS_MAX)? {
                let name = reader.text("header", TEXT_BYTES_MAX)?.to_owned();
                headers.push((name, reader.text("header", TEXT_BYTES_MAX)?.to_owned()));
            }
            let body = reader.text("body", BODY_BYTES_MAX)?.to_owned();
            Entry::Asked(Request { at_ms, id, url, is_put, headers, body })
        }
        DONE => Entry::Done(reader.varint()?),
        _ => return Err(reader.invalid("entry of the requests")),
    };
    if !reader.is_empty() {
        return Err(reader.invalid("end of a request"));
    }
    Ok(entry)
}

/// The requests that wait, on disk.
#[derive(Debug)]
pub(super) struct Actions {
    log: Log,
    /// Asked for and not durable yet.
    fresh: Vec<Request>,
    /// Not handed out yet.
    ready: VecDeque<(u64, Request)>,
    /// The record of the next request.
    next: u64,
    /// Records whose requests are neither answered nor given up.
    open: BTreeSet<u64>,
    /// Ids of requests that waited when the directory was opened: a replay asks for them again.
    asked: BTreeSet<String>,
    /// Answered since the last write.
    done: Vec<u64>,
    dropped: u64,
}

impl Actions {
    /// Opens the log; what waits in it is handed out again.
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Path, seal: Option<&Seal>) -> Result<(Self, Vec<String>), LogError> {
        let config = LogConfig { segment_bytes_max: SEGMENT_BYTES, ..LogConfig::default() };
        let (log, recovery) = Log::open_sealed(Arc::clone(disk), dir, config, seal)?;
        let mut notes: Vec<String> = recovery.damaged.iter().map(ToString::to_string).collect();
        let mut waiting = std::collections::BTreeMap::new();
        let mut index = log.first_index();
        while index < log.durable_end() {
            match log.read(index) {
                Ok(Some(bytes)) => match decode(&bytes) {
                    Ok(Entry::Asked(request)) => _ = waiting.insert(index, request),
                    Ok(Entry::Done(of)) => _ = waiting.remove(&of),
                    Err(error) => notes.push(format!("request {index}: {error}")),
                },
                Ok(None) => {}
                Err(LogError::Damaged { lost, .. }) => {
                    notes.push(format!("requests {lost:?} are lost"));
                    index = lost.end.max(index + 1);
                    continue;
                }
                Err(error) => return Err(error),
            }
            index += 1;
        }
        let actions = Self {
            next: log.next_index(),
            log,
            fresh: Vec::new(),
            open: waiting.keys().copied().collect(),
            asked: waiting.values().map(|request| request.id.clone()).collect(),
            ready: waiting.into_iter().collect(),
            done: Vec::new(),
            dropped: 0,
        };
        Ok((actions, notes))
    }

    /// Takes the requests of an event of the rules.
    pub(super) fn ask(&mut self, site: &SiteId, derived: &DerivedEvent) {
        let Some(effects) = &derived.effects else { return };
        for (n, effect) in effects.iter().enumerate() {
            let Effect::Webhook(_) = effect else { continue };
            let RenderedEffect::Webhook { url, method, headers, body } = effect.render(&derived.event, site.as_str())
            else {
                continue;
            };
            let event = &derived.event;
            let attribute = |name: &str| event.attributes.iter().find(|(n, _)| &**n == name).map_or("", |(_, v)| v);
            let id = format!("{}-{}-{n}", attribute("alert"), attribute("state"));
            // It waits since before the restart.
            if self.asked.remove(&id) {
                continue;
            }
            let body = body.unwrap_or_else(|| alert_json(site, event));
            let too_long = body.len() > BODY_BYTES_MAX
                || url.len() > TEXT_BYTES_MAX
                || headers.len() as u64 > HEADERS_MAX
                || headers.iter().any(|(name, value)| name.len() + value.len() > TEXT_BYTES_MAX);
            if too_long || self.waiting() >= REQUESTS_MAX {
                self.dropped += 1;
                continue;
            }
            let is_put = method == Method::Put;
            let request = Request { at_ms: event.stamp.unix_ms(), id, url, is_put, headers, body };
            self.take(request);
        }
    }

    fn take(&mut self, request: Request) {
        let index = self.next;
        self.next += 1;
        self.open.insert(index);
        self.ready.push_back((index, request.clone()));
        self.fresh.push(request);
    }

    /// Makes durable what was asked for.
    pub(super) fn commit(&mut self) -> Result<(), LogError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for request in &self.fresh {
            bytes.clear();
            request.encode(&mut bytes);
            self.log.append(&bytes)?;
        }
        // A full disk takes the records out of the log again.
        self.log.commit()?;
        self.fresh.clear();
        Ok(())
    }

    fn note_done(&mut self) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        for index in &self.done {
            bytes.clear();
            bytes.put_u8(VERSION);
            bytes.put_u8(DONE);
            bytes.put_varint(*index);
            self.log.append(&bytes)?;
        }
        Ok(())
    }

    /// What was not handed out yet.
    pub(super) fn take_ready(&mut self) -> VecDeque<(u64, Request)> {
        std::mem::take(&mut self.ready)
    }

    /// The request of a record is answered, or given up.
    pub(super) fn done(&mut self, index: u64) {
        if self.open.remove(&index) {
            self.done.push(index);
        }
    }

    /// Writes down what was answered, and gives back what is not needed.
    pub(super) fn checkpoint(&mut self) -> Result<(), LogError> {
        self.commit()?;
        if !self.done.is_empty() {
            self.note_done()?;
            self.log.commit()?;
            self.done.clear();
        }
        // What was answered has records of its own.
        self.next = self.log.next_index();
        let needed = self.open.first().copied().unwrap_or_else(|| self.log.durable_end());
        self.log.trim_front(needed)
    }

    /// The replay has asked for everything that it asks for again.
    pub(super) fn end_replay(&mut self) {
        self.asked.clear();
    }

    /// Requests that are neither answered nor given up.
    pub(super) fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Requests that there was no room for.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.log.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_disk::SimDisk;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/request-v1.bin");

    fn request(n: u64) -> Request {
        Request {
            at_ms: 1_767_225_600_000,
            id: format!("0123456789abcdef-firing-{n}"),
            url: "http://127.0.0.1:9000/hook".into(),
            is_put: n % 2 == 1,
            headers: vec![("x-team".into(), "maintenance".into())],
            body: "{}".into(),
        }
    }

    fn open(disk: &SimDisk) -> Actions {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (actions, notes) = Actions::open(&disk, Path::new("actions"), None).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        actions
    }

    #[test]
    fn version_1_stays_readable() {
        let mut bytes = Vec::new();
        request(1).encode(&mut bytes);
        assert_eq!(bytes, GOLDEN, "the format changed: give it a new version and keep this file");
        assert_eq!(decode(GOLDEN).unwrap(), Entry::Asked(request(1)));
        for len in 0..GOLDEN.len() {
            assert!(decode(&GOLDEN[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn what_is_not_answered_is_handed_out_again_after_a_crash() {
        let disk = SimDisk::new(1);
        let mut actions = open(&disk);
        (0..10).for_each(|n| actions.take(request(n)));
        assert_eq!(actions.take_ready().len(), 10);
        actions.commit().unwrap();
        assert!(actions.take_ready().is_empty(), "once");
        [0, 3, 9].into_iter().for_each(|index| actions.done(index));
        actions.checkpoint().unwrap();
        actions.done(4);
        disk.crash();
        let mut actions = open(&disk);
        let again: Vec<u64> = actions.take_ready().into_iter().map(|(index, _)| index).collect();
        assert_eq!(again, [1, 2, 4, 5, 6, 7, 8], "what was answered after the checkpoint is repeated");
        (0..10).for_each(|index| actions.done(index));
        actions.checkpoint().unwrap();
        disk.crash();
        assert_eq!(open(&disk).waiting(), 0);
    }

    #[test]
    fn a_full_disk_keeps_what_was_asked_for() {
        let disk = SimDisk::new(2);
        let mut actions = open(&disk);
        disk.set_capacity(Some(0));
        actions.take(request(0));
        assert!(matches!(actions.commit(), Err(LogError::Full { .. })));
        disk.set_capacity(None);
        actions.commit().unwrap();
        assert_eq!(actions.take_ready(), [(0, request(0))]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, at in 0_usize..80, with: u8) {
            let _ = decode(&bytes);
            bytes.splice(0..0, GOLDEN.iter().copied());
            bytes[at % GOLDEN.len()] = with;
            let _ = decode(&bytes);
        }
    }
}
