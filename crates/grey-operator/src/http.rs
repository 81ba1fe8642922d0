//! The least HTTP/1.1 client that an operator's tool needs: one request on a
//! connection of its own, time limits, answers as they come.
//!
//! Tiers listen without TLS so far, so only `http://` is spoken. Every answer
//! that is no success becomes an error that says what the server said; problem
//! documents (RFC 9457) are told in their own words.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value as Json;

use crate::text_table::shown;

/// Time to connect to one address.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Time without a byte in either direction.
const IDLE_WITHIN: Duration = Duration::from_secs(35);
/// Longest head of an answer in bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Longest answer that is read whole, in bytes: a page of 10,000 events with room to spare.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Faults of a problem document that are shown.
const FAULTS_MAX: usize = 10;

/// Why a tier could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("server {url:?}: {problem}; allowed: http://HOST:PORT, such as http://127.0.0.1:7080")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Nobody listens there, or the way is cut.
    #[error("cannot connect to {server}: {error}; is it running, and is --server right?")]
    Connect {
        /// Host and port.
        server: String,
        /// Why.
        error: io::Error,
    },
    /// The connection broke, or nothing came.
    #[error("{server} did not answer {path}: {error}")]
    Exchange {
        /// Host and port.
        server: String,
        /// The path asked for.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// What came is not HTTP, or not the JSON that was asked for.
    #[error("{server}{path} gave an answer that cannot be read: {problem}")]
    Answer {
        /// Host and port.
        server: String,
        /// The path asked for.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The server refused.
    #[error("{server}{path} answered {status}: {words}")]
    Refused {
        /// Host and port.
        server: String,
        /// The path asked for.
        path: String,
        /// The status code.
        status: u16,
        /// What it said.
        words: String,
    },
}

/// A tier to ask.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    authority: String,
    base: String,
}

impl Server {
    /// The server of `http://host:port` or `host:port`.
    pub(crate) fn parse(url: &str) -> Result<Self, HttpError> {
        let fail = |problem| HttpError::Address { url: shown(url), problem };
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(fail("tiers do not speak TLS yet")),
            Some(_) => return Err(fail("it is no http address")),
            None => url,
        };
        let (authority, base) = rest.split_once('/').map_or((rest, ""), |(authority, base)| (authority, base));
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) || authority.is_empty() || authority.contains('@') {
            return Err(fail("it is no address"));
        }
        let port = authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        if !matches!(port, Some((host, Ok(port))) if port > 0 && !host.is_empty()) {
            return Err(fail("it names no port"));
        }
        let base = base.trim_end_matches('/');
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        Ok(Self { authority: authority.to_owned(), base })
    }

    /// `GET`, answered with JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Json, HttpError> {
        self.json("GET", path, None)
    }

    /// `POST` of JSON, answered with JSON.
    pub(crate) fn post(&self, path: &str, body: &Json) -> Result<Json, HttpError> {
        self.json("POST", path, Some(body))
    }

    /// `DELETE`.
    pub(crate) fn delete(&self, path: &str) -> Result<Json, HttpError> {
        self.json("DELETE", path, None)
    }

    fn json(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Json, HttpError> {
        let mut answer = self.ask(method, path, "application/json", body)?;
        let bytes = answer.whole()?;
        if bytes.is_empty() {
            return Ok(Json::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| answer.unreadable(format!("not JSON: {error}")))
    }

    /// Sends a request and reads the head of the answer; what is no success is an error.
    pub(crate) fn ask(&self, method: &str, path: &str, accept: &str, body: Option<&Json>) -> Result<Answer, HttpError> {
        let connection = self.connect()?;
        let path = format!("{}{path}", self.base);
        let exchange = |error: io::Error| HttpError::Exchange {
            server: self.authority.clone(),
            path: path.clone(),
            error: timeout_in_words(error),
        };
        let body = body.map(Json::to_string);
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nUser-Agent: greyctl\r\nConnection: close\r\n",
            self.authority
        );
        if let Some(body) = &body {
            request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        } else if method != "GET" {
            request.push_str("Content-Length: 0\r\n");
        }
        request.push_str("\r\n");
        request.push_str(body.as_deref().unwrap_or_default());
        let mut writer = &connection;
        writer.write_all(request.as_bytes()).map_err(exchange)?;
        let mut reader = BufReader::new(connection);
        let head = read_head(&mut reader).map_err(exchange)?;
        let mut answer = Answer::new(head, reader, self.authority.clone(), path.clone())?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let words = answer.whole().map(|body| problem_in_words(&body)).unwrap_or_default();
        Err(HttpError::Refused { server: self.authority.clone(), path: path.clone(), status: answer.status, words })
    }

    fn connect(&self) -> Result<TcpStream, HttpError> {
        let fail = |error| HttpError::Connect { server: self.authority.clone(), error };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.authority.to_socket_addrs().map_err(fail)? {
            match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(IDLE_WITHIN)).map_err(fail)?;
                    stream.set_write_timeout(Some(IDLE_WITHIN)).map_err(fail)?;
                    return Ok(stream);
                }
                Err(error) => last = timeout_in_words(error),
            }
        }
        Err(fail(last))
    }
}

/// A value as a path or query may carry it.
pub(crate) fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks; so many bytes of this one are left, and whether it is the first.
    Chunked { left: u64, first: bool },
    /// The end of the connection.
    Close,
    /// Everything was read.
    Done,
}

/// An answer whose body was not read yet.
pub(crate) struct Answer {
    status: u16,
    reader: Box<dyn BufRead>,
    framing: Framing,
    server: String,
    path: String,
}

impl Answer {
    fn new(head: String, reader: impl BufRead + 'static, server: String, path: String) -> Result<Self, HttpError> {
        let status = head.split(' ').nth(1).and_then(|code| code.get(..3)).and_then(|code| code.parse().ok());
        let fields = || head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let header =
            |name: &str| fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let chunked = header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let framing = match (chunked, header("content-length").map(str::parse)) {
            (true, _) => Framing::Chunked { left: 0, first: true },
            (false, Some(Ok(length))) => Framing::Length(length),
            (false, Some(Err(_))) => {
                return Err(HttpError::Answer { server, path, problem: "its length is no number".into() });
            }
            (false, None) if matches!(status, Some(204 | 304)) => Framing::Done,
            (false, None) => Framing::Close,
        };
        match status {
            Some(status) if head.starts_with("HTTP/1.") => {
                Ok(Self { status, reader: Box::new(reader), framing, server, path })
            }
            _ => Err(HttpError::Answer { server, path, problem: "it is not HTTP".into() }),
        }
    }

    /// The whole body, which may not be longer than 64 MiB.
    pub(crate) fn whole(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        match Read::by_ref(self).take(BODY_BYTES_MAX + 1).read_to_end(&mut body) {
            Ok(_) if body.len() as u64 > BODY_BYTES_MAX => Err(self.unreadable("it is over 64 MiB".into())),
            Ok(_) => Ok(body),
            Err(error) => Err(self.broken(error)),
        }
    }

    pub(crate) fn broken(&self, error: io::Error) -> HttpError {
        HttpError::Exchange { server: self.server.clone(), path: self.path.clone(), error: timeout_in_words(error) }
    }

    fn unreadable(&self, problem: String) -> HttpError {
        HttpError::Answer { server: self.server.clone(), path: self.path.clone(), problem }
    }

    /// The size of the next chunk.
    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        let mut line = Vec::new();
        let mut read = |line: &mut Vec<u8>| -> io::Result<()> {
            line.clear();
            (&mut *self.reader).take(1_024).read_until(b'\n', line)?;
            if line.ends_with(b"\n") { Ok(()) } else { Err(cut()) }
        };
        if !first {
            read(&mut line)?;
        }
        read(&mut line)?;
        let text = String::from_utf8_lossy(&line);
        let size = text.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk's size is no number"))
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let room = match self.framing {
            Framing::Done => 0,
            Framing::Close => u64::MAX,
            Framing::Length(left) => left,
            Framing::Chunked { left: 0, first } => {
                let size = self.next_chunk(first)?;
                self.framing = if size == 0 { Framing::Done } else { Framing::Chunked { left: size, first: false } };
                size
            }
            Framing::Chunked { left, .. } => left,
        };
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let got = self.reader.read(&mut buffer[..room])?;
        match &mut self.framing {
            Framing::Length(left) | Framing::Chunked { left, .. } => {
                if got == 0 {
                    return Err(cut());
                }
                *left -= got as u64;
            }
            Framing::Close | Framing::Done => {}
        }
        Ok(got)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off")
}

fn timeout_in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "nothing came in time")
        }
        _ => error,
    }
}

/// The head up to its blank line.
fn read_head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = Vec::new();
    let mut limited = reader.take(HEAD_BYTES_MAX);
    loop {
        let got = limited.read_until(b'\n', &mut head)?;
        if got == 0 {
            return Err(cut());
        }
        if head.ends_with(b"\r\n\r\n") || head == b"\r\n" {
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
    }
}

/// What a problem document says, or the beginning of any other body.
fn problem_in_words(body: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<Json>(body) else {
        let text = shown(String::from_utf8_lossy(body).trim());
        return if text.is_empty() { "it gave no reason".into() } else { text };
    };
    let text = |value: &Json| value.as_str().map(shown);
    let title = text(&problem["title"]).unwrap_or_else(|| "it gave no reason".into());
    let mut words = match text(&problem["detail"]) {
        Some(detail) => format!("{title}: {detail}"),
        None => title,
    };
    let faults = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    for fault in faults.iter().take(FAULTS_MAX) {
        let place = ["parameter", "line", "pointer"].iter().find_map(|key| match &fault[*key] {
            Json::Null => None,
            Json::String(text) => Some(format!("{key} {}", shown(text))),
            other => Some(format!("{key} {other}")),
        });
        let detail = text(&fault["detail"]).unwrap_or_default();
        // One fault alone mostly is the problem's detail again.
        if faults.len() == 1 && words.contains(&detail) {
            break;
        }
        words.push_str(&format!("\n  {}{detail}", place.map(|place| format!("{place}: ")).unwrap_or_default()));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Serves the bytes once and returns the request that it got.
    fn served(answer: &'static [u8]) -> (Server, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let head = read_head(&mut reader).unwrap();
            let length = head
                .split_once("Content-Length: ")
                .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer).unwrap();
            head + &String::from_utf8(body).unwrap()
        });
        (server, thread)
    }

    #[test]
    fn answers_of_either_framing_are_read() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}and more"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}",
        ] {
            let (server, thread) = served(answer);
            assert_eq!(server.get("/v1/status").unwrap()["a"], 1);
            assert!(thread.join().unwrap().starts_with("GET /v1/status HTTP/1.1\r\n"));
        }
    }

    #[test]
    fn what_is_posted_arrives() {
        let (server, thread) = served(b"HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(server.post("/v1/silences", &serde_json::json!({"for": "2h"})).unwrap(), Json::Null);
        assert!(thread.join().unwrap().ends_with("\r\n\r\n{\"for\":\"2h\"}"));
    }

    #[test]
    fn problems_are_told_in_their_words() {
        let (server, thread) = served(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\r\n\
            {\"title\": \"The query cannot be read\", \"detail\": \"1 fault\", \"errors\": [{\"parameter\": \"limt\", \"detail\": \"it is unknown\"}]}",
        );
        let error = server.get("/v1/events?limt=1").unwrap_err().to_string();
        assert!(
            error.contains("answered 400: The query cannot be read: 1 fault\n  parameter limt: it is unknown"),
            "{error}"
        );
        thread.join().unwrap();
    }

    #[test]
    fn torn_answers_are_errors() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nnot json",
        ] {
            let (server, thread) = served(answer);
            assert!(server.get("/").is_err(), "{}", String::from_utf8_lossy(answer));
            thread.join().unwrap();
        }
    }

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        for bad in
            ["", "http://", "https://a:1", "ftp://a:1", "localhost", "http://a:0", "http://a:99999", "a b:1", "u@h:1"]
        {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Server::parse("http://[::1]:7080/base/").unwrap().base, "/base");
    }

    #[test]
    fn nobody_there_is_said() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Server::parse(&format!("127.0.0.1:{port}")).unwrap().get("/").unwrap_err().to_string();
        assert!(error.starts_with("cannot connect to 127.0.0.1:"), "{error}");
    }
}
