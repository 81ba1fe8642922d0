//! Sends the requests that rules ask for, each destination on its own, so that
//! a dead one holds up nobody else.
//!
//! Plain HTTP/1.1, one connection a request. What is not delivered when the
//! agent stops is in the data directory and is sent after the next start.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use grey_api::metrics::{EffectKind, EffectMetrics, EffectOutcome};
use grey_link::{Backoff, BackoffConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::core::Request;
use crate::engine::EngineHandle;
use crate::time::unix_ms;

/// Requests that wait for one destination; those beyond are dropped, counted.
const DESTINATION_REQUESTS_MAX: usize = 1_024;
/// Destinations at one time. One that nothing waits for is forgotten after [`IDLE`].
const DESTINATIONS_MAX: usize = 64;
const IDLE: Duration = Duration::from_secs(60);
/// How long one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// A request that is older is given up, after [`ATTEMPTS_MIN`] attempts.
const AGE_MAX_MS: i64 = 3_600_000;
const ATTEMPTS_MIN: u32 = 3;
/// Bytes of an answer that are read for its status.
const ANSWER_BYTES_MAX: usize = 4_096;
const BACKOFF: BackoffConfig =
    BackoffConfig { initial_ms: 200, max_ms: 30_000, factor: 2, jitter_percent: 20, stable_ms: 10_000 };
/// What a request's own headers may not say.
const OWN_HEADERS: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "x-grey-alert", "idempotency-key", "user-agent"];

/// What [`run`] needs.
pub(crate) struct Webhooks {
    pub(crate) requests: mpsc::UnboundedReceiver<(u64, Request)>,
    pub(crate) engine: EngineHandle,
    pub(crate) metrics: EffectMetrics,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) seed: u64,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// Host and port as the header `Host` names them; what tells destinations apart.
    authority: String,
    /// With the port.
    address: String,
    /// Path and query.
    path: String,
}

/// Says what is wrong with an address that a webhook is configured with.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    if url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")) {
        return Err(
            "https is not offered yet, since the agent has no TLS; send to a proxy on this machine by http".into()
        );
    }
    // Words in braces are filled in later.
    parse_url(&url.replace(['{', '}'], "_")).map(|_| ())
}

fn parse_url(url: &str) -> Result<Target, String> {
    let rest = match url.get(..7) {
        Some(start) if start.eq_ignore_ascii_case("http://") => &url[7..],
        _ => return Err("is no address such as http://10.0.0.5:9000/hook".into()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '\\');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().map_err(|_| "has no valid port")?),
        _ => (authority, 80),
    };
    if host.is_empty() || port == 0 || !authority.chars().all(is_plain) {
        return Err("names no host".into());
    }
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        encoded.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x1F | 0x7F.. => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            byte => encoded.push(char::from(byte)),
        }
    }
    Ok(Target { authority: authority.into(), address: format!("{host}:{port}"), path: encoded })
}

/// Delivers until the agent stops.
pub(crate) async fn run(webhooks: Webhooks) {
    let Webhooks { mut requests, engine, metrics, mut stop, seed } = webhooks;
    let mut destinations: HashMap<String, mpsc::Sender<(u64, Request)>> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let (index, request) = tokio::select! {
            next = requests.recv() => match next {
                Some(next) => next,
                None => break,
            },
            Some(_) = tasks.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        let target = match parse_url(&request.url) {
            Ok(target) => target,
            Err(problem) => {
                tracing::warn!(url = request.url, "a webhook's address {problem}");
                metrics.count(EffectKind::Webhook, EffectOutcome::Failed);
                engine.answered(index);
                continue;
            }
        };
        destinations.retain(|_, sender| !sender.is_closed());
        let is_known = destinations.contains_key(&target.authority);
        let room = is_known || destinations.len() < DESTINATIONS_MAX;
        let taken = room && {
            let start = || {
                let (sender, queue) = mpsc::channel(DESTINATION_REQUESTS_MAX);
                let destination = Destination {
                    queue,
                    engine: engine.clone(),
                    metrics: metrics.clone(),
                    stop: stop.clone(),
                    backoff: Backoff::new(BACKOFF, seed ^ index),
                };
                tasks.spawn(destination.run());
                sender
            };
            destinations.entry(target.authority).or_insert_with(start).try_send((index, request)).is_ok()
        };
        if !taken {
            metrics.count(EffectKind::Webhook, EffectOutcome::Dropped);
            engine.answered(index);
        }
    }
    drop(destinations);
    while tasks.join_next().await.is_some() {}
}

/// One destination and what waits for it.
struct Destination {
    queue: mpsc::Receiver<(u64, Request)>,
    engine: EngineHandle,
    metrics: EffectMetrics,
    stop: watch::Receiver<bool>,
    backoff: Backoff,
}

/// How a delivery ended.
enum Delivery {
    Done,
    GivenUp,
    Stopped,
}

impl Destination {
    async fn run(mut self) {
        loop {
            let next = tokio::select! {
                next = self.queue.recv() => next,
                () = tokio::time::sleep(IDLE), if !self.queue.is_closed() => {
                    // What came meanwhile is still taken.
                    self.queue.close();
                    continue;
                }
                () = stopped(&mut self.stop) => return,
            };
            let Some((index, request)) = next else { return };
            let outcome = match self.deliver(&request).await {
                Delivery::Done => EffectOutcome::Executed,
                Delivery::GivenUp => EffectOutcome::Failed,
                Delivery::Stopped => return,
            };
            self.metrics.count(EffectKind::Webhook, outcome);
            self.engine.answered(index);
        }
    }

    async fn deliver(&mut self, request: &Request) -> Delivery {
        let Ok(target) = parse_url(&request.url) else { return Delivery::GivenUp };
        let head = head(&target, request);
        let mut attempts = 0_u32;
        loop {
            let attempt = tokio::select! {
                attempt = tokio::time::timeout(ATTEMPT_MAX, send(&target, &head, &request.body)) => attempt,
                () = stopped(&mut self.stop) => return Delivery::Stopped,
            };
            attempts += 1;
            let problem = match attempt {
                Ok(Ok(200..=299)) => {
                    self.backoff.reset();
                    return Delivery::Done;
                }
                // It was understood, and would be refused again.
                Ok(Ok(status @ (300..=407 | 409..=424 | 426..=428 | 430..=499))) => {
                    tracing::warn!(url = request.url, status, "a webhook was refused");
                    return Delivery::GivenUp;
                }
                Ok(Ok(status)) => format!("status {status}"),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {} s", ATTEMPT_MAX.as_secs()),
            };
            if attempts >= ATTEMPTS_MIN && unix_ms().saturating_sub(request.at_ms) > AGE_MAX_MS {
                tracing::error!(url = request.url, problem, attempts, "a webhook is given up");
                return Delivery::GivenUp;
            }
            tracing::debug!(url = request.url, problem, attempts, "a webhook is tried again");
            self.metrics.count(EffectKind::Webhook, EffectOutcome::Retried);
            let delay = Duration::from_millis(self.backoff.next_delay_ms());
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stopped(&mut self.stop) => return Delivery::Stopped,
            }
        }
    }
}

fn head(target: &Target, request: &Request) -> String {
    let method = if request.is_put { "PUT" } else { "POST" };
    let Target { authority, path, .. } = target;
    let alert = request.id.split('-').next().unwrap_or_default();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: grey-edge/{}\r\nX-Grey-Alert: {alert}\r\n\
         Idempotency-Key: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        env!("CARGO_PKG_VERSION"),
        request.id,
        request.body.len()
    );
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let mut has_type = false;
    for (name, value) in &request.headers {
        if !is_token(name) || OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            continue;
        }
        has_type |= name.eq_ignore_ascii_case("content-type");
        // A line break in a value would begin a header of a device's choice.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !has_type {
        head.push_str("Content-Type: application/json\r\n");
    }
    head.push_str("\r\n");
    head
}

/// One attempt; the status of the answer.
async fn send(target: &Target, head: &str, body: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(&target.address).await?;
    let _ = stream.set_nodelay(true);
    let mut message = Vec::with_capacity(head.len() + body.len());
    message.extend_from_slice(head.as_bytes());
    message.extend_from_slice(body.as_bytes());
    stream.write_all(&message).await?;
    let mut answer = Vec::with_capacity(256);
    loop {
        if let Some(status) = status(&answer)? {
            return Ok(status);
        }
        if answer.len() >= ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::other("the answer is no HTTP"));
        }
    }
}

/// The status of an answer, once it is there. Interim answers (1xx) are passed over.
fn status(mut answer: &[u8]) -> io::Result<Option<u16>> {
    loop {
        let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&answer[..end]).unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
        match status {
            Some(100..=199) => {
                let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
                answer = &answer[end + 4..];
            }
            Some(status @ 200..=599) => return Ok(Some(status)),
            _ => return Err(io::Error::other("the answer is no HTTP")),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Where the engine's thread puts requests.
pub(crate) type RequestSender = mpsc::UnboundedSender<(u64, Request)>;

/// The channel; the core bounds how many requests are under way.
pub(crate) fn channel() -> (RequestSender, mpsc::UnboundedReceiver<(u64, Request)>) {
    mpsc::unbounded_channel()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_what_is_wrong_is_named() {
        let target = parse_url("http://10.0.0.5:9000/a b?x=é#y").unwrap();
        assert_eq!((target.address.as_str(), target.path.as_str()), ("10.0.0.5:9000", "/a%20b?x=%C3%A9"));
        assert_eq!(parse_url("HTTP://hooks").unwrap().address, "hooks:80");
        assert_eq!(
            parse_url("http://[::1]:90?x").unwrap(),
            Target { authority: "[::1]:90".into(), address: "[::1]:90".into(), path: "/?x".into() }
        );
        assert_eq!(parse_url("http://[::1]/").unwrap().address, "[::1]:80");
        for bad in
            ["", "ftp://x", "http://", "http:///x", "http://a:b/", "http://a:0/", "http://a@b/", "http://a\r\nb/"]
        {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        assert!(check_url("https://x/").unwrap_err().contains("no TLS"));
        assert!(check_url("http://{tags.host}:9000/{device}").is_ok());
    }

    #[test]
    fn a_header_cannot_begin_another() {
        let request = Request {
            at_ms: 0,
            id: "0123-firing-0".into(),
            url: "http://a/x".into(),
            is_put: false,
            headers: vec![
                ("x-device".into(), "a\r\nhost: b".into()),
                ("content-length".into(), "9".into()),
                ("x y".into(), "z".into()),
            ],
            body: "{}".into(),
        };
        let head = head(&parse_url(&request.url).unwrap(), &request);
        assert!(head.starts_with("POST /x HTTP/1.1\r\nHost: a\r\n"), "{head}");
        assert!(head.contains("\r\nX-Grey-Alert: 0123\r\nIdempotency-Key: 0123-firing-0\r\nContent-Length: 2\r\n"));
        assert!(head.contains("\r\nx-device: a  host: b\r\n") && !head.contains("x y"), "{head}");
        assert_eq!(head.to_ascii_lowercase().matches("content-length").count(), 1);
    }

    #[test]
    fn the_status_is_found_behind_interim_answers() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n").unwrap(), Some(204));
        assert_eq!(status(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 503 x\r\n").unwrap(), Some(503));
        assert_eq!(status(b"HTTP/1.1 100 Continue\r\n").unwrap(), None);
        assert_eq!(status(b"HTTP/1.1 2").unwrap(), None);
        for bad in ["SSH-2.0-x\r\n", "HTTP/1.1\r\n", "HTTP/1.1 99 x\r\n", "HTTP/1.1 abc\r\n", "\r\n"] {
            assert!(status(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
