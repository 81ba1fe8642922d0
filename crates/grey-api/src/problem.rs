//! Errors as RFC 9457 problem documents.
//!
//! Every error answer of every tier has this one shape, whether a handler, an
//! extractor or the server itself refused. The `type` is a URN that a program
//! can match on; `detail` is for the person who reads it.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Faults that one problem lists at most; the rest is counted. Keeps the
/// answer to a bad upload small.
pub const PROBLEM_FAULTS_MAX: usize = 100;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Where in the request a fault stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A query parameter, by name.
    Parameter(String),
    /// A line of the body, from 1.
    Line(u64),
    /// A value of a JSON body, as a JSON pointer.
    Pointer(String),
    /// A place in a file that the request made the node read; line and column from 1, 0 where it has none.
    Source {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// The column.
        column: u64,
    },
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.place {
            Place::Parameter(name) => map.serialize_entry("parameter", name)?,
            Place::Line(line) => map.serialize_entry("line", line)?,
            Place::Pointer(pointer) => map.serialize_entry("pointer", pointer)?,
            Place::Source { file, line, column } => {
                map.serialize_entry("file", file)?;
                if *line > 0 {
                    map.serialize_entry("line", line)?;
                    map.serialize_entry("column", column)?;
                }
            }
        }
        map.serialize_entry("detail", &self.detail)?;
        map.end()
    }
}

/// An error answer after RFC 9457. One pointer in size, so that results stay
/// small; its members are those of [`ProblemDocument`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<ProblemDocument>);

impl Deref for Problem {
    type Target = ProblemDocument;
    fn deref(&self) -> &ProblemDocument {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut ProblemDocument {
        &mut self.0
    }
}

/// The members of a [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemDocument {
    /// The last part of the `type` URN, `urn:grey:problem:SLUG`: stable, for programs.
    pub slug: Cow<'static, str>,
    /// What sort of problem it is; the same for every occurrence.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: StatusCode,
    /// What happened this time and what to do about it.
    pub detail: Option<String>,
    /// The path of the request; filled in by the server where a handler left it out.
    pub instance: Option<String>,
    /// Each thing that is wrong, the first [`PROBLEM_FAULTS_MAX`].
    pub errors: Vec<Fault>,
    /// How many more things are wrong.
    pub errors_omitted: u64,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of one's own sort. `slug` is lower-case words joined by `-`.
    pub fn new(status: StatusCode, slug: &'static str, title: &'static str) -> Self {
        Self(Box::new(ProblemDocument {
            slug: slug.into(),
            title: title.into(),
            status,
            detail: None,
            instance: None,
            errors: Vec::new(),
            errors_omitted: 0,
            retry_after_s: None,
        }))
    }

    /// The request's parameters cannot be read (400).
    pub fn invalid_query() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-query", "The query cannot be read")
    }

    /// The request's body cannot be read (400).
    pub fn invalid_body() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-body", "The body cannot be read")
    }

    /// The cursor is damaged, of another version, or of another query (400).
    pub fn invalid_cursor() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-cursor", "The cursor cannot be used")
    }

    /// A page of another origin asks for a change (403).
    pub fn cross_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "cross-origin", "Changes are not taken from pages of another origin")
    }

    /// There is no such thing (404).
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing at this address")
    }

    /// The address is right, the method is not (405).
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not offered; see the Allow header",
        )
    }

    /// What the request asks for does not go with how things stand (409).
    pub fn conflict() -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "That does not go with how things stand")
    }

    /// The request took too long: to arrive where it has a body (408), else to be answered (503).
    pub fn timed_out(has_body: bool, limit_ms: u64) -> Self {
        let status = if has_body { StatusCode::REQUEST_TIMEOUT } else { StatusCode::SERVICE_UNAVAILABLE };
        Self::new(status, "timed-out", "The request took too long")
            .detail(format!("it was not answered within {limit_ms} ms; ask for less or try again"))
    }

    /// The body is over the limit (413).
    pub fn body_too_large(limit_bytes: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            .detail(format!("the limit is {limit_bytes} bytes; send it in parts"))
    }

    /// The Host header names somebody else (421).
    pub fn misdirected() -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "This node does not answer under that name")
    }

    /// There is more work than this node takes (429).
    pub fn overloaded(retry_after_s: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", "There is more work than this node takes")
            .retry_after(retry_after_s)
    }

    /// The handler failed in a way that it did not foresee (500).
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed")
            .detail("the fault is in the server and was logged")
    }

    /// The node cannot answer now, for example while it has no leader (503).
    pub fn unavailable(retry_after_s: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The node cannot answer now")
            .retry_after(retry_after_s)
    }

    /// The generic problem of a status, for answers that come from elsewhere.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::new(status, "bad-request", "The request cannot be read"),
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(status, "body-too-large", "The body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "unsupported-media-type", "The content type is not read here")
            }
            StatusCode::INTERNAL_SERVER_ERROR => Self::internal(),
            status => {
                let title = status.canonical_reason().unwrap_or("The request failed");
                let slug = title.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
                let mut problem = Self::new(status, "", title);
                problem.slug = slug.into();
                problem
            }
        }
    }

    /// Says what happened this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds one thing that is wrong.
    #[must_use]
    pub fn fault(mut self, place: Place, detail: impl Into<String>) -> Self {
        self.push_fault(place, detail);
        self
    }

    /// Adds one thing that is wrong, or counts it when the list is full.
    pub fn push_fault(&mut self, place: Place, detail: impl Into<String>) {
        if self.errors.len() < PROBLEM_FAULTS_MAX {
            self.errors.push(Fault { place, detail: detail.into() });
        } else {
            self.errors_omitted += 1;
        }
    }

    /// Says when to try again, in seconds; written as `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The document as bytes.
    fn body(&self) -> Vec<u8> {
        // Strings and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:grey:problem:{}", self.slug))?;
        map.serialize_entry("title", &self.title)?;
        map.serialize_entry("status", &self.status.as_u16())?;
        if let Some(detail) = &self.detail {
            map.serialize_entry("detail", detail)?;
        }
        if let Some(instance) = &self.instance {
            map.serialize_entry("instance", instance)?;
        }
        if !self.errors.is_empty() {
            map.serialize_entry("errors", &self.errors)?;
        }
        if self.errors_omitted > 0 {
            map.serialize_entry("errors_omitted", &self.errors_omitted)?;
        }
        map.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.status.as_u16())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // The server writes the path of the request into it on its way out.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(problem: &Problem) -> serde_json::Value {
        serde_json::from_slice(&problem.body()).unwrap()
    }

    #[test]
    fn the_document_has_the_members_of_the_standard() {
        let mut problem = Problem::invalid_query()
            .detail("two parameters are wrong")
            .fault(Place::Parameter("limit".into()), "it must be 1 to 10000")
            .fault(Place::Line(3), "no value")
            .fault(Place::Pointer("#/value".into()), "not a number");
        problem.instance = Some("/v1/events".into());
        assert_eq!(
            json(&problem),
            serde_json::json!({
                "type": "urn:grey:problem:invalid-query",
                "title": "The query cannot be read",
                "status": 400,
                "detail": "two parameters are wrong",
                "instance": "/v1/events",
                "errors": [
                    {"parameter": "limit", "detail": "it must be 1 to 10000"},
                    {"line": 3, "detail": "no value"},
                    {"pointer": "#/value", "detail": "not a number"},
                ],
            })
        );
    }

    #[test]
    fn the_list_of_faults_is_bounded_and_the_rest_counted() {
        let mut problem = Problem::invalid_body();
        for line in 0..250 {
            problem.push_fault(Place::Line(line), "bad");
        }
        assert_eq!(problem.errors.len(), PROBLEM_FAULTS_MAX);
        assert_eq!(json(&problem)["errors_omitted"], 150);
    }

    #[test]
    fn the_answer_says_when_to_try_again() {
        let response = Problem::overloaded(7).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
    }

    #[test]
    fn a_foreign_status_gets_a_slug_that_a_program_can_match() {
        assert_eq!(Problem::of_status(StatusCode::IM_A_TEAPOT).slug, "i-m-a-teapot");
        assert_eq!(Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY).slug, "unprocessable-entity");
    }

    #[test]
    fn every_sort_of_problem_is_documented() {
        const DOCUMENT: &str = include_str!("../../../docs/http.md");
        for problem in [
            Problem::invalid_query(),
            Problem::invalid_body(),
            Problem::invalid_cursor(),
            Problem::cross_origin(),
            Problem::not_found(),
            Problem::method_not_allowed(),
            Problem::conflict(),
            Problem::timed_out(true, 1),
            Problem::timed_out(false, 1),
            Problem::body_too_large(1),
            Problem::misdirected(),
            Problem::overloaded(1),
            Problem::internal(),
            Problem::unavailable(1),
            Problem::of_status(StatusCode::BAD_REQUEST),
            Problem::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY),
        ] {
            let row =
                DOCUMENT.lines().find(|line| line.contains(&format!("`{}`", problem.slug)) && line.starts_with('|'));
            assert!(row.is_some_and(|row| row.contains(problem.status.as_str())), "{} is undocumented", problem.slug);
        }
    }
}
