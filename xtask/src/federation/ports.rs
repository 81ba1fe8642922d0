//! Loopback ports that nobody listens on.
//!
//! Members of a group must know each other's addresses before they start, so
//! port 0 does not do. Ports below the ephemeral range are taken: an outgoing
//! connection cannot grab one while a killed process is away.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

const FIRST: u16 = 15_000;
/// Linux's default start of the ephemeral range.
const END_BY_DEFAULT: u16 = 32_768;

/// Finds `n` free ports, each bound once to make sure and released together.
pub(crate) fn free(n: usize) -> Result<Vec<SocketAddr>> {
    let end = ephemeral_start().unwrap_or(END_BY_DEFAULT).max(FIRST + 1_000);
    let width = u64::from(end - FIRST);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    // Two demos that start together begin their search at different places.
    let begin = nanos.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
    let mut held = Vec::new();
    for step in 0..width {
        if held.len() == n {
            break;
        }
        let port = FIRST + (begin.wrapping_add(step) % width) as u16;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    }
    if held.len() < n {
        bail!("only {} of {n} loopback ports between {FIRST} and {end} are free", held.len());
    }
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

fn ephemeral_start() -> Option<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let ports = free(20).unwrap();
        let distinct: BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 20);
    }
}
