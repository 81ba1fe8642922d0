//! The same bytes over the same link by a bare TCP connection: what the kernel
//! makes of the link with a given congestion control.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use grey_bench::Outcome;

use crate::link::HUB;
use crate::namespace::Namespace;

/// A transfer that takes longer is broken off; its pace up to there counts.
const SECONDS_MAX: u64 = 60;
/// How long either side waits for the other.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What arrived, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

impl Transfer {
    /// Bytes a second.
    pub(crate) fn pace(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }
}

/// Sends `bytes` from the site's namespace to the hub's.
pub(crate) fn transfer(site: &Namespace, hub: &Namespace, bytes: u64, congestion: &'static str) -> Outcome<Transfer> {
    let listener = hub.run(|| Ok(TcpListener::bind((HUB, 0))?))?;
    let address = listener.local_addr()?;
    let receiver = std::thread::spawn(move || receive(&listener, bytes));
    let began = Instant::now();
    let sender = site.run(move || Ok(std::thread::spawn(move || send(address, bytes, congestion, began))))?;
    let (arrived, ended) = receiver.join().map_err(|_| "the receiver failed")??;
    // It was cut off if the receiver had enough.
    let sent = sender.join().map_err(|_| "the sender failed")?;
    if arrived == 0 {
        sent?;
    }
    Ok(Transfer { bytes: arrived, seconds: (ended - began).as_secs_f64() })
}

fn send(address: SocketAddr, bytes: u64, congestion: &str, began: Instant) -> Outcome<()> {
    let mut stream = TcpStream::connect(address)?;
    rustix::net::sockopt::set_tcp_congestion(&stream, congestion)
        .map_err(|error| format!("no congestion control {congestion}: {error}"))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let piece = vec![0x5a; 64 * 1024];
    let mut left = bytes;
    while left > 0 && began.elapsed().as_secs() < SECONDS_MAX {
        let length = left.min(piece.len() as u64) as usize;
        stream.write_all(&piece[..length])?;
        left -= length as u64;
    }
    Ok(())
}

fn receive(listener: &TcpListener, bytes: u64) -> Outcome<(u64, Instant)> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let began = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    let mut arrived = 0;
    while arrived < bytes && began.elapsed().as_secs() < SECONDS_MAX {
        match stream.read(&mut buffer)? {
            0 => break,
            length => arrived += length as u64,
        }
    }
    Ok((arrived, Instant::now()))
}
