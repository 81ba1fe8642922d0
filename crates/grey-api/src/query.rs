//! The filters of `/v1/events`: read from a request, pushed down to block
//! headers, and applied to events. The same for every tier.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use grey_model::limits::NAME_BYTES_MAX;
use grey_model::time::parse_time_ms;
use grey_model::{BlockHeader, Event, Kind, Lane, SiteId, StreamKey};

use crate::cursor::{Cursor, Position};
use crate::params::{LIMIT_DEFAULT, Params, shorten};
use crate::problem::Problem;

/// Which events a client asks for, and which page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of this site.
    pub site: Option<SiteId>,
    /// Only of this device.
    pub device: Option<String>,
    /// Only of this stream.
    pub stream: Option<String>,
    /// Only device times at or after this, Unix ms.
    pub from_ms: Option<i64>,
    /// Only device times before this, Unix ms.
    pub to_ms: Option<i64>,
    /// Lanes asked for, one bit each by wire number.
    pub lanes: u8,
    /// Kinds asked for, one bit each by wire number, as in a block header.
    pub kinds: u8,
    /// Most events on the page, as given; see [`EventQuery::page_limit`].
    pub limit: Option<usize>,
    /// Where the page starts; `None` is the beginning.
    pub after: Option<Position>,
    digest: u32,
}

impl EventQuery {
    /// The parameters, for the route's documentation.
    pub const PARAMS: [(&'static str, &'static str); 9] = [
        ("site", "only this site"),
        ("device", "only this device"),
        ("stream", "only this stream"),
        (
            "from",
            "device time at or after: RFC 3339, Unix milliseconds, 'now', or relative such as -1h (ms, s, m, h, d, w)",
        ),
        ("to", "device time before; written as 'from' is"),
        ("lane", "critical, normal or bulk; several joined by commas"),
        ("kind", "reading, aggregate, alert, anomaly, log or receipt; several joined by commas"),
        ("limit", "events on the page: 1 to 10000, default 100; NDJSON without it gives every event"),
        ("cursor", "the cursor of the page before"),
    ];

    /// Every event, first page.
    pub fn all() -> Self {
        Self {
            site: None,
            device: None,
            stream: None,
            from_ms: None,
            to_ms: None,
            lanes: u8::MAX,
            kinds: u8::MAX,
            limit: None,
            after: None,
            digest: 0,
        }
    }

    /// Reads a query string; relative times count from `now_ms`, Unix ms.
    pub fn parse(query: &str, now_ms: i64) -> Result<Self, Problem> {
        let mut params = Params::parse(query, &Self::PARAMS.map(|(name, _)| name));
        let digest = params.digest();
        let after = params.position(digest);
        let parsed = Self {
            site: params.read("site", SiteId::new),
            device: params.read("device", read_name),
            stream: params.read("stream", read_name),
            from_ms: params.read("from", |text| read_time(text, now_ms)),
            to_ms: params.read("to", |text| read_time(text, now_ms)),
            lanes: params.read("lane", |text| read_set(text, &Lane::ALL.map(Lane::as_str))).unwrap_or(u8::MAX),
            kinds: params.read("kind", |text| read_set(text, &Kind::ALL.map(Kind::as_str))).unwrap_or(u8::MAX),
            limit: params.limit(),
            after: None,
            digest,
        };
        if let (Some(from), Some(to)) = (parsed.from_ms, parsed.to_ms)
            && from > to
        {
            params.fault("from", "it is after 'to'");
        }
        params.finish()?;
        Ok(Self { after: after?, ..parsed })
    }

    /// Most events on a page of JSON.
    pub fn page_limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT)
    }

    /// The cursor for the page that follows this one.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor::new(self.digest, position)
    }

    /// True when events of the stream may be asked for: which streams to read at all.
    pub fn may_match_key(&self, key: &StreamKey) -> bool {
        self.lanes & (1 << key.lane as u8) != 0 && self.site.as_ref().is_none_or(|site| *site == key.site)
    }

    /// False when no event of the block can match, so that its payload need not be decoded.
    pub fn may_match_block(&self, header: &BlockHeader) -> bool {
        header.events > 0
            && self.lanes & (1 << header.lane as u8) != 0
            && self.kinds & header.kinds != 0
            && self.site.as_ref().is_none_or(|site| *site == header.site)
            && self.from_ms.is_none_or(|from| header.time_max_ms >= from)
            && self.to_ms.is_none_or(|to| header.time_min_ms < to)
    }

    /// True when the event is asked for.
    pub fn matches(&self, key: &StreamKey, event: &Event) -> bool {
        self.may_match_key(key)
            && self.kinds & (1 << event.kind as u8) != 0
            && self.from_ms.is_none_or(|from| event.device_time_ms >= from)
            && self.to_ms.is_none_or(|to| event.device_time_ms < to)
            && self.device.as_ref().is_none_or(|device| *device == *event.device)
            && self.stream.as_ref().is_none_or(|stream| *stream == *event.stream)
    }
}

impl<S: Sync> FromRequestParts<S> for EventQuery {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default(), crate::unix_ms())
    }
}

fn read_name(text: &str) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("a name of {} bytes is longer than the limit of {NAME_BYTES_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

/// RFC 3339, Unix milliseconds, `now`, or `-1h`.
pub(crate) fn read_time(text: &str, now_ms: i64) -> Result<i64, String> {
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(before) = read_relative(text) {
        return before.map(|ms| now_ms.saturating_sub(ms));
    }
    parse_time_ms(text).or_else(|error| {
        // A bare '+' of an offset arrives as a space.
        let repaired = text.rsplit_once(' ').map(|(time, offset)| format!("{time}+{offset}"));
        repaired.and_then(|text| parse_time_ms(&text).ok()).ok_or_else(|| error.to_string())
    })
}

/// `-90m` as milliseconds; `None` when the text has not that form.
fn read_relative(text: &str) -> Option<Result<i64, String>> {
    const UNITS: [(&str, i64); 6] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
    let body = text.strip_prefix('-')?;
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = body.split_at(digits);
    if number.is_empty() || unit.is_empty() || unit.contains('-') {
        return None;
    }
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
    let ms = scale.and_then(|scale| number.parse::<i64>().ok()?.checked_mul(scale));
    Some(
        ms.ok_or_else(|| format!("{:?} is not a time before now, for example -90m (ms, s, m, h, d, w)", shorten(text))),
    )
}

/// A list of names joined by commas as one bit each.
fn read_set(text: &str, names: &[&str]) -> Result<u8, String> {
    text.split(',').try_fold(0, |set, name| match names.iter().position(|known| *known == name.trim()) {
        Some(bit) => Ok(set | 1 << bit),
        None => Err(format!("{:?} is none of {}", shorten(name), names.join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::{Compression, Epoch, Stamp};
    use proptest::prelude::*;

    const NOW: i64 = 1_772_366_400_000;

    fn parse(query: &str) -> EventQuery {
        EventQuery::parse(query, NOW).unwrap()
    }

    fn key(site: &str, lane: Lane) -> StreamKey {
        StreamKey { site: SiteId::new(site).unwrap(), epoch: Epoch(1), lane }
    }

    #[test]
    fn times_are_read_in_every_documented_form() {
        for (text, ms) in [
            ("2026-03-01T12:00:00Z", NOW),
            ("1772366400000", NOW),
            ("now", NOW),
            ("-1h", NOW - 3_600_000),
            ("-90m", NOW - 5_400_000),
            ("-250ms", NOW - 250),
            ("-2w", NOW - 1_209_600_000),
            ("-1", -1),
            ("2026-03-01T13:00:00+01:00", NOW),
            ("2026-03-01T13:00:00%2B01:00", NOW),
        ] {
            assert_eq!(parse(&format!("from={text}")).from_ms, Some(ms), "{text}");
        }
        for bad in ["-1y", "-99999999999999999999h", "--1h", "yesterday", "-h", "2026-03-01 13"] {
            let problem = EventQuery::parse(&format!("to={bad}"), NOW).unwrap_err();
            assert_eq!(problem.slug, "invalid-query", "{bad}");
        }
    }

    #[test]
    fn filters_choose_what_they_say() {
        let event = Event::reading("press-1", "temperature", 20.0, NOW);
        let here = key("a", Lane::Bulk);
        for (query, expected) in [
            ("", true),
            ("site=a&device=press-1&stream=temperature&lane=bulk&kind=reading", true),
            ("lane=critical,bulk&kind=alert,%20reading", true),
            ("site=b", false),
            ("device=press", false),
            ("stream=pressure", false),
            ("lane=critical,normal", false),
            ("kind=alert", false),
            ("from=2026-03-01T12:00:00Z", true),
            ("to=2026-03-01T12:00:00Z", false),
            ("from=-1h&to=2026-03-01T12:00:00.001Z", true),
        ] {
            assert_eq!(parse(query).matches(&here, &event), expected, "{query}");
        }
    }

    #[test]
    fn wrong_values_name_what_is_allowed() {
        for (query, text) in [
            ("lane=fast", "critical, normal, bulk"),
            ("kind=readings", "reading, aggregate"),
            ("from=now&to=-1h", "after 'to'"),
            ("site=a/b", "may hold only"),
            ("lanes=bulk", "did you mean 'lane'"),
        ] {
            let problem = EventQuery::parse(query, NOW).unwrap_err();
            assert!(problem.errors[0].detail.contains(text), "{query}: {problem:?}");
        }
    }

    #[test]
    fn a_relative_time_does_not_break_paging() {
        let first = EventQuery::parse("from=-1h&limit=2", NOW).unwrap();
        let cursor = first.cursor(Position::Log { index: 9, skip: 1 }).encode();
        let second = EventQuery::parse(&format!("from=-1h&cursor={cursor}"), NOW + 5_000).unwrap();
        assert_eq!(second.after, Some(Position::Log { index: 9, skip: 1 }));
        assert!(EventQuery::parse(&format!("from=-2h&cursor={cursor}"), NOW).is_err());
    }

    prop_compose! {
        fn events()(rows in prop::collection::vec((0_u8..6, -50_i64..50, 0_usize..3), 0..6)) -> Vec<Event> {
            rows.into_iter().map(|(kind, time, device)| Event {
                kind: Kind::from_u8(kind).unwrap(),
                ..Event::reading(["a", "b", "c"][device], "s", 1.0, time)
            }).collect()
        }
    }

    proptest! {
        /// The pushdown may only skip blocks that hold nothing of interest.
        #[test]
        fn a_skipped_block_holds_no_match(
            events in events(),
            site in prop::option::of("[ab]"),
            from in prop::option::of(-60_i64..60),
            to in prop::option::of(-60_i64..60),
            lanes in 0_u8..8,
            kinds in 0_u8..64,
            lane in 0_u8..3,
        ) {
            let lane = Lane::from_u8(lane).unwrap();
            let key = key("a", lane);
            let header = BlockHeader {
                site: key.site.clone(),
                epoch: key.epoch,
                lane,
                first_seq: 0,
                span: events.len() as u32,
                events: events.len() as u32,
                time_min_ms: events.iter().map(|e| e.device_time_ms).min().unwrap_or(0),
                time_max_ms: events.iter().map(|e| e.device_time_ms).max().unwrap_or(0),
                stamp: Stamp::default(),
                kinds: events.iter().fold(0, |set, e| set | 1 << e.kind as u8),
                intake: 0,
                compression: Compression::None,
                payload_raw_len: 0,
                accounts: Vec::new(),
            };
            let query = EventQuery {
                site: site.map(|s| SiteId::new(&s).unwrap()),
                from_ms: from, to_ms: to, lanes, kinds,
                ..EventQuery::all()
            };
            if !query.may_match_block(&header) {
                prop_assert!(!events.iter().any(|e| query.matches(&key, e)));
            }
        }

        #[test]
        fn hostile_queries_never_panic(query in "[a-z=&%,+0-9:T-]{0,80}", any in ".{0,60}") {
            let _ = EventQuery::parse(&query, i64::MIN);
            let _ = EventQuery::parse(&format!("from={any}&to=-{any}"), i64::MAX);
        }
    }
}
