//! Answers that are lists: a page of JSON with a cursor, or NDJSON as a stream.
//!
//! A tier supplies one function that reads a page; whether the client gets
//! that page or all of them, line by line in constant memory, is decided here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use grey_model::{Event, Seq, StreamKey};
use http_body::Frame;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

use crate::cursor::{Cursor, Position};
use crate::event::event_json;
use crate::problem::Problem;
use crate::query::EventQuery;

/// The media type of one JSON document per line.
pub const NDJSON: &str = "application/x-ndjson";
/// Where an NDJSON page says how to go on: a line of its own would look like an event.
pub const CURSOR_HEADER: HeaderName = HeaderName::from_static("grey-cursor");
/// Events read at a time while a whole answer is streamed.
const STREAM_PAGE_EVENTS: usize = 1_000;
/// Pages of a stream that wait for a slow client.
const STREAM_PAGES_WAITING: usize = 2;

/// How the client wants a list of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One document: the page and its cursor.
    #[default]
    Json,
    /// One event per line.
    Ndjson,
}

impl Format {
    /// Chooses by `Accept`; what the client likes equally well is JSON.
    pub fn negotiate(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut best = (0_u16, Self::Json);
        let mut any = false;
        for range in headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            any |= !media.is_empty();
            let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(1_000, thousandths);
            let format = match media.as_str() {
                "application/json" | "application/*" | "*/*" => Self::Json,
                NDJSON | "application/ndjson" | "application/jsonl" => Self::Ndjson,
                _ => continue,
            };
            if weight > best.0 || (weight == best.0 && weight > 0 && format == Self::Json) {
                best = (weight, format);
            }
        }
        if any && best.0 == 0 {
            return Err(Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "None of the accepted types is offered",
            )
            .detail(format!("offered are application/json and {NDJSON}")));
        }
        Ok(best.1)
    }
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::negotiate(&parts.headers)
    }
}

/// A weight such as `0.8` in thousandths; what is no weight counts as full.
fn thousandths(text: &str) -> u16 {
    text.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).map_or(1_000, |q| (q * 1_000.0) as u16)
}

/// One page of events, as a tier read it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events, at most as many as were asked for.
    pub events: Vec<(StreamKey, Seq, Event)>,
    /// Where the next page starts; `None` when there is none.
    pub next: Option<Position>,
}

/// A list under its name, with the cursor of the next page.
struct List<'a, T> {
    name: &'static str,
    entries: &'a [T],
    cursor: Option<Cursor>,
}

impl<T: Serialize> Serialize for List<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, self.entries)?;
        if let Some(cursor) = &self.cursor {
            map.serialize_entry("cursor", &cursor.encode())?;
        }
        map.end()
    }
}

/// Answers `{"NAME": [...], "cursor": "..."}`, without `cursor` on the last page.
pub fn list_reply<T: Serialize>(name: &'static str, entries: &[T], cursor: Option<Cursor>) -> Response {
    json_reply(&List { name, entries, cursor })
}

/// Answers one JSON document, which no cache keeps.
pub fn json_reply(document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(body) => (
            [
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ],
            body,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer does not serialise");
            Problem::internal().into_response()
        }
    }
}

/// Answers a query for events in the format that the client asked for.
///
/// `read` reads one page: it gets the query with `limit` set and starts at
/// `after`. It is called once for a page of JSON and for NDJSON with a limit,
/// whose cursor travels in the header `grey-cursor`. NDJSON without a limit
/// gives every event that matches: pages are read as the client takes them,
/// and a fault on the way breaks the connection off, so that a cut answer is
/// never taken for a whole one.
pub async fn events_reply<F, R>(query: EventQuery, format: Format, mut read: F) -> Result<Response, Problem>
where
    F: FnMut(EventQuery) -> R + Send + 'static,
    R: Future<Output = Result<EventPage, Problem>> + Send,
{
    let mut query = query;
    let whole = format == Format::Ndjson && query.limit.is_none();
    query.limit = Some(if whole { STREAM_PAGE_EVENTS } else { query.page_limit() });
    let page = read(query.clone()).await?;
    let mut response = match format {
        Format::Json => {
            let entries: Vec<_> = page.events.iter().map(|(key, seq, event)| event_json(key, *seq, event)).collect();
            list_reply("events", &entries, page.next.map(|position| query.cursor(position)))
        }
        Format::Ndjson if !whole || page.next.is_none() => {
            let mut response = ndjson_response(Body::from(lines(&page)?));
            if let Some(next) = page.next {
                // A cursor is base64url, which is always a header value.
                if let Ok(value) = HeaderValue::try_from(query.cursor(next).encode()) {
                    response.headers_mut().insert(CURSOR_HEADER, value);
                }
            }
            response
        }
        Format::Ndjson => ndjson_response(stream(query, page, read)),
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn ndjson_response(body: Body) -> Response {
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(NDJSON)), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, body).into_response()
}

/// The events of a page, one per line.
fn lines(page: &EventPage) -> Result<Bytes, Problem> {
    let mut out = Vec::with_capacity(page.events.len() * 256);
    for (key, seq, event) in &page.events {
        serde_json::to_writer(&mut out, &event_json(key, *seq, event)).map_err(|error| {
            tracing::error!(%error, "an event does not serialise");
            Problem::internal()
        })?;
        out.push(b'\n');
    }
    Ok(out.into())
}

/// Reads page after page while the client takes them.
fn stream<F, R>(mut query: EventQuery, first: EventPage, mut read: F) -> Body
where
    F: FnMut(EventQuery) -> R + Send + 'static,
    R: Future<Output = Result<EventPage, Problem>> + Send,
{
    let (sender, receiver) = mpsc::channel(STREAM_PAGES_WAITING);
    tokio::spawn(async move {
        let mut page = Ok(first);
        loop {
            let part = page.and_then(|page| Ok((lines(&page)?, page.next)));
            let (bytes, next) = match part {
                Ok((bytes, next)) => (Ok(bytes), next),
                Err(problem) => {
                    tracing::warn!(%problem, "an export breaks off");
                    (Err(problem), None)
                }
            };
            // A client that went away ends the reading.
            if sender.send(bytes).await.is_err() || next.is_none() {
                return;
            }
            query.after = next;
            page = tokio::select! {
                page = read(query.clone()) => page,
                () = sender.closed() => return,
            };
        }
    });
    Body::new(Pages(receiver))
}

/// A body that is fed from a task.
struct Pages(mpsc::Receiver<Result<Bytes, Problem>>);

impl http_body::Body for Pages {
    type Data = Bytes;
    type Error = Problem;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        self.0.poll_recv(cx).map(|part| part.map(|bytes| bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::{Epoch, Lane, SiteId};
    use http_body_util::BodyExt;

    const TOTAL: u64 = 2_500;

    async fn page(query: EventQuery) -> Result<EventPage, Problem> {
        let from = match query.after {
            None => 0,
            Some(Position::Log { index, .. }) => index,
            Some(other) => panic!("{other:?}"),
        };
        let key = StreamKey { site: SiteId::new("a").unwrap(), epoch: Epoch(1), lane: Lane::Bulk };
        let end = (from + query.limit.unwrap() as u64).min(TOTAL);
        let events = (from..end).map(|seq| (key.clone(), seq, Event::reading("d", "s", seq as f64, 0))).collect();
        Ok(EventPage { events, next: (end < TOTAL).then_some(Position::Log { index: end, skip: 0 }) })
    }

    async fn failing(query: EventQuery) -> Result<EventPage, Problem> {
        if query.after.is_none() { page(query).await } else { Err(Problem::unavailable(1)) }
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn seqs(lines: &str) -> Vec<u64> {
        lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seq"].as_u64().unwrap()).collect()
    }

    #[tokio::test]
    async fn json_pages_end_without_a_cursor() {
        let mut cursor = String::new();
        let mut seen = Vec::new();
        loop {
            let query = EventQuery::parse(&format!("limit=999&cursor={cursor}"), 0).unwrap();
            let response = events_reply(query, Format::Json, page).await.unwrap();
            let json: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
            seen.extend(json["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()));
            match json.get("cursor") {
                Some(next) => cursor = next.as_str().unwrap().into(),
                None => break,
            }
        }
        assert_eq!(seen, (0..TOTAL).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn ndjson_without_a_limit_is_everything() {
        let response = events_reply(EventQuery::all(), Format::Ndjson, page).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], NDJSON);
        assert_eq!(seqs(&text(response).await), (0..TOTAL).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn ndjson_with_a_limit_is_a_page_and_its_cursor() {
        let query = EventQuery::parse("limit=3", 0).unwrap();
        let response = events_reply(query, Format::Ndjson, page).await.unwrap();
        let cursor = response.headers()[CURSOR_HEADER].to_str().unwrap().to_owned();
        assert_eq!(seqs(&text(response).await), [0, 1, 2]);
        let query = EventQuery::parse(&format!("limit=2&cursor={cursor}"), 0).unwrap();
        let response = events_reply(query, Format::Ndjson, page).await.unwrap();
        assert_eq!(seqs(&text(response).await), [3, 4]);
    }

    #[tokio::test]
    async fn a_stream_that_fails_does_not_look_finished() {
        let response = events_reply(EventQuery::all(), Format::Ndjson, failing).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    }

    #[test]
    fn the_format_follows_what_the_client_likes_best() {
        for (accept, expected) in [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(Format::Json)),
            ("application/x-ndjson", Some(Format::Ndjson)),
            ("Application/X-NDJSON, application/json;q=0.5", Some(Format::Ndjson)),
            ("application/x-ndjson;q=0.2, application/json", Some(Format::Json)),
            ("application/x-ndjson, application/json", Some(Format::Json)),
            ("application/x-ndjson;q=0, */*;q=0.1", Some(Format::Json)),
            ("text/csv", None),
            ("application/json;q=0", None),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(Format::negotiate(&headers).ok(), expected, "{accept}");
        }
    }
}
