//! `GET`, and no more.

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
