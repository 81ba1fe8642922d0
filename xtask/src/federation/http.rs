//! The least HTTP/1.1 client that asks a tier about itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer: a page of events with room to spare.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A tier on this machine that takes longer does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body, unchunked.
    pub(crate) body: Vec<u8>,
}

/// `GET path` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    answered(address, path, request.as_bytes()).await
}

/// `POST path` on a connection of its own.
pub(crate) async fn post(address: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    answered(address, path, &[head.as_bytes(), body].concat()).await
}

async fn answered(address: SocketAddr, path: &str, request: &[u8]) -> Result<Answer> {
    tokio::time::timeout(ANSWER_WITHIN, exchange(address, request))
        .await
        .with_context(|| format!("http://{address}{path} did not answer in {ANSWER_WITHIN:?}"))?
        .with_context(|| format!("http://{address}{path}"))
}

/// `GET path`, whose answer must be 200 and JSON.
pub(crate) async fn get_json(address: SocketAddr, path: &str) -> Result<Value> {
    let answer = get(address, path).await?;
    if answer.status != 200 {
        bail!("http://{address}{path} answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    serde_json::from_slice(&answer.body).with_context(|| format!("http://{address}{path}"))
}

/// A value as a query may carry it.
pub(crate) fn escaped(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

async fn exchange(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no end of its head")?;
    let head = std::str::from_utf8(&bytes[..end]).context("the answer's head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.context("the answer has no status")?;
    let header = |name: &str| {
        let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let body = &bytes[end + 4..];
    let body = if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        unchunked(body)?
    } else {
        let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| body.len() < length) {
            bail!("the answer ended after {} of {} bytes", body.len(), length.unwrap_or(0));
        }
        body.to_vec()
    };
    Ok(Answer { status, body })
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("a chunk has no size")?;
        let size = std::str::from_utf8(&rest[..end])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is no number")?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(..size).context("the answer ended inside a chunk")?;
        body.extend_from_slice(chunk);
        rest = rest.get(size + 2..).context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_answer_is_read() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
    }

    #[test]
    fn a_chunked_answer_is_joined() {
        let text = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        let answer = parse(text).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (404, b"abcde".as_slice()));
    }

    #[test]
    fn a_cursor_is_escaped() {
        assert_eq!(escaped("a-1=+/"), "a-1%3D%2B%2F");
    }

    #[test]
    fn a_torn_answer_is_an_error() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n";
        assert!(parse(whole).is_ok() && parse(chunked).is_ok());
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..chunked.len() - 2 {
            assert!(parse(&chunked[..cut]).is_err(), "chunked, cut at {cut}");
        }
    }
}
