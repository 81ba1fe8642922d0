//! Loopback ports that nobody listens on.
//!
//! For servers that must be told a port: members of a group have to know each
//! other before they start. Ports below the ephemeral range, so that no outgoing
//! connection takes one in between.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Outcome;

const FIRST: u16 = 15_000;
/// Linux's default start of the ephemeral range.
const END: u16 = 32_768;

/// Finds `n` free ports, bound once to make sure and released together.
pub fn free(n: usize) -> Outcome<Vec<SocketAddr>> {
    let width = u64::from(END - FIRST);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let begin = nanos.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
    let ports = (0..width).map(|step| FIRST + (begin.wrapping_add(step) % width) as u16);
    let held: Vec<TcpListener> =
        ports.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).take(n).collect();
    if held.len() < n {
        return Err(format!("only {} of {n} loopback ports are free", held.len()).into());
    }
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}
