//! Listening sockets. Until a listener has TLS and authentication it must not
//! be reachable from other machines, unless a person said so in plain words.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address does not resolve.
    #[error("cannot resolve the {kind} listener's address {address:?}, give host:port")]
    Resolve {
        /// What listens.
        kind: String,
        /// The address as configured.
        address: String,
        /// The resolver's error.
        #[source]
        source: io::Error,
    },
    /// The address is reachable from other machines.
    #[error(
        "the {kind} listener must not listen on {address}: it has no TLS and no authentication yet, \
         so only loopback addresses are allowed; set `insecure: true` to open it to the network all the same"
    )]
    NotLoopback {
        /// What listens.
        kind: String,
        /// The address it resolved to.
        address: SocketAddr,
    },
    /// The operating system refused.
    #[error("the {kind} listener cannot listen on {address}")]
    Bind {
        /// What listens.
        kind: String,
        /// The address it resolved to.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Opens a listener on `host:port` and returns it with the address it got (port
/// 0 is any free port). `kind` names it in errors: `sync`, `raft`, `mqtt`.
/// Anything but a loopback address is refused unless `insecure` is true.
pub async fn listen(kind: &str, address: &str, insecure: bool) -> Result<(TcpListener, SocketAddr), ListenError> {
    let unresolved =
        |source| ListenError::Resolve { kind: kind.into(), address: address.chars().take(256).collect(), source };
    let resolved: Vec<SocketAddr> = lookup_host(address).await.map_err(unresolved)?.collect();
    let is_local = |address: &&SocketAddr| address.ip().to_canonical().is_loopback();
    if let Some(open) = resolved.iter().find(|address| !is_local(address))
        && !insecure
    {
        return Err(ListenError::NotLoopback { kind: kind.into(), address: *open });
    }
    let Some(&first) = resolved.first() else {
        return Err(unresolved(io::Error::new(io::ErrorKind::NotFound, "no address")));
    };
    bind(first).map_err(|source| ListenError::Bind { kind: kind.into(), address: first, source })
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the life before to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_open_and_says_its_port() {
        for address in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
            // A machine without IPv6 cannot show the second.
            match listen("sync", address, false).await {
                Ok((listener, bound)) => {
                    assert_ne!(bound.port(), 0);
                    assert_eq!(listener.local_addr().unwrap(), bound);
                }
                Err(error) => assert!(address.contains("::1"), "{error}"),
            }
        }
    }

    #[tokio::test]
    async fn other_machines_are_let_in_only_when_told_so() {
        for address in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
            let error = listen("raft", address, false).await.unwrap_err();
            assert!(matches!(error, ListenError::NotLoopback { .. }), "{address}: {error}");
            assert!(error.to_string().contains("raft") && error.to_string().contains("insecure"));
        }
        let (_, bound) = listen("raft", "0.0.0.0:0", true).await.unwrap();
        assert_ne!(bound.port(), 0);
    }

    #[tokio::test]
    async fn errors_name_the_listener() {
        let error = listen("sync", "127.0.0.1", false).await.unwrap_err();
        assert!(error.to_string().contains("sync") && error.to_string().contains("127.0.0.1"));
        let (_held, bound) = listen("sync", "127.0.0.1:0", false).await.unwrap();
        let error = listen("sync", &bound.to_string(), false).await.unwrap_err();
        assert!(matches!(error, ListenError::Bind { .. }));
    }
}
