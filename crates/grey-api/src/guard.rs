//! What every request passes through: limits, timeouts, panics, and errors
//! that leave as problem documents whoever made them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::Limited;
use tokio::sync::Semaphore;

use crate::metrics::HttpMetrics;
use crate::params::shorten;
use crate::problem::Problem;
use crate::server::ServerConfig;

/// Longest text of a foreign error answer that becomes a problem's detail.
const FOREIGN_DETAIL_BYTES_MAX: usize = 4 * 1024;
/// Bodies up to this size are not counted against the memory for bodies.
const SMALL_BODY_BYTES: u64 = 16 * 1024;
/// The unit that memory for bodies is counted in.
const BODY_PERMIT_BYTES: u64 = 1_024;

struct Guard {
    config: ServerConfig,
    bodies: Semaphore,
    metrics: Option<HttpMetrics>,
}

/// Puts a router behind the limits of `config`. [`serve`](crate::serve) does it by itself.
pub fn harden(router: Router, config: &ServerConfig) -> Router {
    let permits = (config.bodies_bytes_max.max(config.body_bytes_max) as u64).div_ceil(BODY_PERMIT_BYTES);
    let guard = Guard {
        bodies: Semaphore::new((permits as usize).min(Semaphore::MAX_PERMITS)),
        metrics: config.metrics.as_ref().map(HttpMetrics::new),
        config: config.clone(),
    };
    // The guard limits bodies itself, also for handlers that read them raw.
    router.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let started = crate::monotonic();
    let path = request.uri().path().chars().take(256).collect::<String>();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = answer(&guard, request, next).await;
    let mut response = as_problem(response, &path).await;
    response.headers_mut().entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    if let Some(metrics) = &guard.metrics {
        let route = route.as_ref().map_or("other", MatchedPath::as_str);
        metrics.answered(&method, route, response.status(), crate::monotonic().duration_since(started));
    }
    response
}

async fn answer(guard: &Guard, request: Request, next: Next) -> Response {
    let config = &guard.config;
    let to_loopback = request.extensions().get::<LocalAddress>().is_some_and(|local| local.0.ip().is_loopback());
    if to_loopback && !is_local_name(request.headers(), &config.host_names) {
        return Problem::misdirected()
            .detail("on a loopback address the Host header must be localhost, an IP address, or a configured name")
            .into_response();
    }
    if !same_origin(request.method(), request.headers()) {
        return Problem::cross_origin()
            .detail("the Origin header names another host than the Host header")
            .into_response();
    }
    let size = request.body().size_hint();
    if size.lower() > config.body_bytes_max as u64 {
        return Problem::body_too_large(config.body_bytes_max).into_response();
    }
    // A body of unknown length may grow to the limit.
    let size = size.upper().unwrap_or(config.body_bytes_max as u64).min(config.body_bytes_max as u64);
    let limit = config.body_bytes_max;
    let request = request.map(|body| if size == 0 { body } else { Body::new(Limited::new(body, limit)) });
    let work = async {
        let _memory = if size > SMALL_BODY_BYTES {
            // Waiting for memory leaves the body unread: the client is slowed down.
            guard.bodies.acquire_many(size.div_ceil(BODY_PERMIT_BYTES) as u32).await.ok()
        } else {
            None
        };
        CatchPanic(Box::pin(next.run(request))).await
    };
    match tokio::time::timeout(Duration::from_millis(config.request_timeout_ms), work).await {
        Ok(Some(response)) => response,
        Ok(None) => Problem::internal().into_response(),
        Err(_) => Problem::timed_out(size > 0, config.request_timeout_ms).into_response(),
    }
}

/// A browser says which page asks. A page of another host must not change
/// anything here, not even on a loopback address without a password.
fn same_origin(method: &Method, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return true;
    }
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(HOST).map(HeaderValue::to_str)) else {
        return false;
    };
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// The address of this side of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalAddress(pub(crate) SocketAddr);

/// False for a name that somebody else's name server resolved to a loopback
/// address: a page of that name would count as the same origin and read and
/// change everything (DNS rebinding). Programs that send no Host are no browsers.
fn is_local_name(headers: &HeaderMap, names: &[String]) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Gives every error answer the shape of a problem with the path in it.
async fn as_problem(mut response: Response, path: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let mut problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) if problem.instance.is_some() => return response,
        Some(problem) => problem,
        None if !is_plain(&response) => return response,
        None => foreign(status, response.body_mut()).await,
    };
    problem.instance = Some(path.to_owned());
    if status == StatusCode::NOT_FOUND && problem.detail.is_none() {
        problem.detail = Some(format!("{:?} is not here; /v1/openapi.json lists what is", shorten(path)));
    }
    // Headers such as Allow stay; those of the body are the problem's own.
    let (parts, body) = problem.into_response().into_parts();
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().extend(parts.headers);
    *response.body_mut() = body;
    response
}

/// True for an answer without body or with one of plain text, as extractors and axum itself make them.
fn is_plain(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().get(..10).is_some_and(|head| head.eq_ignore_ascii_case(b"text/plain")))
}

async fn foreign(status: StatusCode, body: &mut Body) -> Problem {
    let body = std::mem::take(body);
    let text = axum::body::to_bytes(body, FOREIGN_DETAIL_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let problem = Problem::of_status(status);
    if text.is_empty() { problem } else { problem.detail(text) }
}

/// A future that yields `None` when the one inside panics, so that one request
/// fails and not its connection. The handler's state is shared through locks
/// that poison themselves, or it is immutable; nothing half-changed is seen.
struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => {
                // The panic hook has logged where and why.
                tracing::error!("a request handler panicked");
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::http::header::{ALLOW, RETRY_AFTER};
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    fn config() -> ServerConfig {
        ServerConfig {
            body_bytes_max: 64 * 1024,
            bodies_bytes_max: 128 * 1024,
            request_timeout_ms: 200,
            host_names: vec!["edge-1.lan".into()],
            ..Default::default()
        }
    }

    async fn panics() -> &'static str {
        panic!("the test wants a panic")
    }

    fn router() -> Router {
        Router::new()
            .route("/panic", get(panics))
            .route("/echo", post(|body: bytes::Bytes| async move { body.len().to_string() }))
            .route("/json", post(|Json(value): Json<u64>| async move { value.to_string() }))
            .route("/hang", get(std::future::pending::<()>))
            .route("/own", get(|| async { Problem::unavailable(3).detail("no leader") }))
            .route(
                "/ready",
                get(|| async { (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"ready": false}))) }),
            )
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.into()).unwrap()
    }

    async fn ask(request: Request) -> (StatusCode, HeaderMap, String) {
        let response = harden(router(), &config()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn problem(request: Request) -> (serde_json::Value, HeaderMap) {
        let (status, headers, body) = ask(request).await;
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(json["status"], status.as_u16());
        (json, headers)
    }

    #[tokio::test]
    async fn every_error_is_a_problem_with_its_path() {
        let json_body = [("content-type", "application/json")];
        for (request, status, slug) in [
            (request("GET", "/nowhere?x=1", &[], ""), 404, "not-found"),
            (request("PUT", "/echo", &[], ""), 405, "method-not-allowed"),
            (request("GET", "/panic", &[], ""), 500, "internal"),
            (request("GET", "/own", &[], ""), 503, "unavailable"),
            (request("POST", "/json", &json_body, "nul"), 400, "bad-request"),
            (request("POST", "/json", &json_body, "\"x\""), 422, "unprocessable-entity"),
            (request("POST", "/json", &[], "1"), 415, "unsupported-media-type"),
            (request("POST", "/echo", &[], vec![0; 64 * 1024 + 1]), 413, "body-too-large"),
        ] {
            let path = request.uri().path().to_owned();
            let (json, _) = problem(request).await;
            assert_eq!(json["status"], status, "{path}");
            assert_eq!(json["type"], format!("urn:grey:problem:{slug}"), "{path}");
            assert_eq!(json["instance"], path);
        }
    }

    #[tokio::test]
    async fn a_problem_keeps_its_headers() {
        let (_, headers) = problem(request("DELETE", "/echo", &[], "")).await;
        assert_eq!(headers[ALLOW], "POST");
        let (_, headers) = problem(request("GET", "/own", &[], "")).await;
        assert_eq!(headers[RETRY_AFTER], "3");
    }

    #[tokio::test]
    async fn a_json_answer_of_a_handler_is_left_alone() {
        let (status, _, body) = ask(request("GET", "/ready", &[], "")).await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, r#"{"ready":false}"#));
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_cut_at_the_limit() {
        let endless = Body::new(Drip { chunks: 1_000, then_hangs: false });
        let (json, _) = problem(request("POST", "/echo", &[], endless)).await;
        assert_eq!(json["status"], 413);
        let (status, _, body) =
            ask(request("POST", "/echo", &[], Body::new(Drip { chunks: 3, then_hangs: false }))).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "3072"));
    }

    #[tokio::test]
    async fn a_handler_or_a_client_that_hangs_is_given_up() {
        let (json, _) = problem(request("GET", "/hang", &[], "")).await;
        assert_eq!(json["status"], 503);
        let (json, _) = problem(request("POST", "/echo", &[], Body::new(Drip { chunks: 3, then_hangs: true }))).await;
        assert_eq!(json["status"], 408);
    }

    #[tokio::test]
    async fn a_name_that_was_bent_to_a_loopback_address_is_refused() {
        for (local, host, expected) in [
            ("127.0.0.1:7080", "evil.example:7080", 421),
            ("127.0.0.1:7080", "127.0.0.1.evil.example", 421),
            ("127.0.0.1:7080", "127.0.0.1:7080", 503),
            ("127.0.0.1:7080", "LOCALHOST", 503),
            ("127.0.0.1:7080", "edge-1.lan:7080", 503),
            ("[::1]:7080", "[::1]:7080", 503),
            ("[::1]:7080", "evil.example", 421),
            ("10.0.0.7:7080", "hub-1:7180", 503),
        ] {
            let mut request = request("GET", "/ready", &[("host", host)], "");
            request.extensions_mut().insert(LocalAddress(local.parse().unwrap()));
            assert_eq!(ask(request).await.0, expected, "{host} at {local}");
        }
    }

    #[tokio::test]
    async fn a_page_of_another_origin_changes_nothing() {
        for (origin, expected) in [
            ("http://127.0.0.1:7080", 200),
            ("http://evil.example", 403),
            ("null", 403),
            ("http://127.0.0.1:7081", 403),
        ] {
            let headers = [("host", "127.0.0.1:7080"), ("origin", origin)];
            let (status, _, _) = ask(request("POST", "/echo", &headers, "x")).await;
            assert_eq!(status, expected, "{origin}");
            let (status, _, _) = ask(request("GET", "/ready", &headers, "")).await;
            assert_eq!(status, 503, "{origin}");
        }
    }

    /// A body of 1 KiB chunks that does not tell its length.
    struct Drip {
        chunks: usize,
        then_hangs: bool,
    }

    impl http_body::Body for Drip {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            if self.chunks == 0 {
                return if self.then_hangs { Poll::Pending } else { Poll::Ready(None) };
            }
            self.chunks -= 1;
            Poll::Ready(Some(Ok(http_body::Frame::data(vec![b'x'; 1_024].into()))))
        }
    }
}
