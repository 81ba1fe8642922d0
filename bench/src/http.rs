//! `GET`, and `POST` of events.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Status and body of `GET path`, on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Outcome<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("an answer without status")?;
    Ok((status, body.to_owned()))
}

/// `GET path`, whose answer must be 200 and JSON.
pub fn json(address: SocketAddr, path: &str) -> Outcome<Value> {
    let (status, body) = get(address, path)?;
    if status != 200 {
        return Err(format!("http://{address}{path} answered {status}: {body}").into());
    }
    Ok(serde_json::from_str(&body)?)
}

/// One connection that posts events as NDJSON, one request after the other.
#[derive(Debug)]
pub struct Poster {
    stream: TcpStream,
    address: SocketAddr,
}

impl Poster {
    /// Connects to an agent.
    pub fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address })
    }

    /// Posts events; returns once the agent has them on disk.
    pub fn post(&mut self, body: &[u8]) -> Outcome<()> {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        let mut answer = Vec::new();
        let mut some = [0; 4_096];
        loop {
            let count = self.stream.read(&mut some)?;
            if count == 0 {
                return Err("the agent closed the connection".into());
            }
            answer.extend_from_slice(&some[..count]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if !(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 202")) {
                return Err(format!("the agent answered {text}").into());
            }
            let lower = head.to_ascii_lowercase();
            let length =
                lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return Ok(());
            }
        }
    }
}
