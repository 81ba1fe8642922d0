//! Where to listen and whom to dial.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::decode::Check;
use crate::scalar_setting;

/// Why a text is no address. The message completes `"…" `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `:port` at the end.
    #[error("has no port")]
    NoPort,
    /// The port is no number up to 65535.
    #[error("has the port \"{0}\", which is not a number from 0 to 65535")]
    Port(String),
    /// The host is neither an IP address nor a name.
    #[error("has the host \"{0}\", which is neither an IP address nor a host name")]
    Host(String),
    /// A listener needs an address of this machine, not a name.
    #[error("has the host name \"{0}\", but a listener needs an IP address")]
    Name(String),
    /// Nobody listens at port 0.
    #[error("has port 0, which cannot be dialled")]
    PortZero,
}

/// An address of this machine to listen at. Port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddress(SocketAddr);

impl ListenAddress {
    /// A port of 127.0.0.1.
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// The address to bind.
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// True when only programs of this machine reach it.
    pub fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = HostPort::split(text)?;
        match address.ip() {
            Some(ip) => Ok(Self(SocketAddr::new(ip, address.port))),
            None => Err(AddressError::Name(address.host)),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

scalar_setting!(
    ListenAddress,
    "address to listen at",
    "an IP address and port to listen at, such as 127.0.0.1:7080 or [::1]:0"
);

/// A host, by name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Longest host name of the domain name system.
    const HOST_BYTES_MAX: usize = 253;

    /// The host without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 only where it is listened at.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as an address, if it is one; `localhost` is 127.0.0.1.
    pub fn ip(&self) -> Option<IpAddr> {
        if self.host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { self.host.parse().ok() }
    }

    /// The address to listen at for the host itself: a name listens on every interface.
    pub fn listen(&self) -> ListenAddress {
        ListenAddress(SocketAddr::new(self.ip().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.port))
    }

    fn split(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        // Without brackets the last group of an IPv6 address would pass for a port.
        if bracketed.is_none() && host.contains(':') {
            return Err(if text.parse::<IpAddr>().is_ok() {
                AddressError::NoPort
            } else {
                AddressError::Host(host.into())
            });
        }
        if port.is_empty() {
            return Err(AddressError::NoPort);
        }
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(|| AddressError::Port(port.into()))?;
        let host = bracketed.unwrap_or(host);
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
        let named = host.chars().all(name) && host.split('.').all(label) && host.len() <= Self::HOST_BYTES_MAX;
        // "1.2.3" or "300.1.1.1" is a mistyped address and no name.
        let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
        let known = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<Ipv4Addr>().is_ok() || (named && !numeric),
        };
        if !known {
            return Err(AddressError::Host(host.into()));
        }
        Ok(Self { host: host.into(), port })
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::split(text)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

scalar_setting!(
    HostPort,
    "host and port",
    "a host and port, such as hub-1.example.net:7100, 10.0.0.5:7100 or [fd00::5]:7100"
);

/// An address to dial: a [`HostPort`] with a port that is not 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialAddress(HostPort);

impl DialAddress {
    /// The host and port.
    pub fn host_port(&self) -> &HostPort {
        &self.0
    }
}

impl FromStr for DialAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = HostPort::split(text)?;
        if address.port == 0 { Err(AddressError::PortZero) } else { Ok(Self(address)) }
    }
}

impl fmt::Display for DialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

scalar_setting!(
    DialAddress,
    "address to dial",
    "a host and port to dial, such as hub-1.example.net:7100 or 10.0.0.5:7100"
);

/// Refuses a listener that other machines reach, unless the configuration says that it may be so.
pub fn check_listener(check: &mut Check<'_>, key_path: &str, address: ListenAddress, insecure: bool, root: &str) {
    if !address.is_loopback() && !insecure {
        check.reject(
            key_path,
            format!("{address} is reachable from other machines, without TLS and authentication"),
            format!(
                "a loopback address such as 127.0.0.1:{}, or {root}.insecure: true on a network that you trust",
                address.0.port()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn listeners_are_addresses_of_this_machine() {
        for good in ["127.0.0.1:1883", "0.0.0.0:0", "[::1]:7080", "[::]:7080", "10.1.2.3:65535"] {
            assert_eq!(good.parse::<ListenAddress>().unwrap().to_string(), good);
        }
        assert_eq!("localhost:80".parse::<ListenAddress>().unwrap(), ListenAddress::loopback(80));
        for (bad, why) in [
            ("127.0.0.1", "no port"),
            ("127.0.0.1:", "no port"),
            ("::1", "no port"),
            ("127.0.0.1:65536", "65536"),
            ("127.0.0.1:+1", "+1"),
            ("127.0.0:80", "127.0.0"),
            ("300.0.0.1:80", "300.0.0.1"),
            (":80", "host \"\""),
            ("hub-1:80", "needs an IP address"),
            ("", "no port"),
        ] {
            let error = bad.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn dialled_addresses_may_be_names_but_not_port_zero() {
        for good in ["hub-1.example.net:7100", "10.0.0.5:7100", "[fd00::5]:7100", "hub_1:1"] {
            assert_eq!(good.parse::<DialAddress>().unwrap().to_string(), good);
        }
        for bad in ["hub:0", "http://hub:7100", "hub 1:7100", "-hub:1", "a..b:1", "[hub]:1", "hub:7100/x"] {
            assert!(bad.parse::<DialAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_seen_through_every_spelling() {
        for local in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(local.parse::<ListenAddress>().unwrap().is_loopback(), "{local}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.1.1:1"] {
            assert!(!open.parse::<ListenAddress>().unwrap().is_loopback(), "{open}");
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in ".{0,40}") {
            let _ = (text.parse::<ListenAddress>(), text.parse::<DialAddress>());
        }
    }
}
