//! The seam for the check of user names and passwords.

use std::fmt;
use std::net::SocketAddr;

/// What a client says of itself when it connects.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// Its client id; empty when it asks the server to choose one.
    pub client_id: &'a str,
    /// Its user name.
    pub username: Option<&'a str>,
    /// Its password.
    pub password: Option<&'a [u8]>,
    /// Where it comes from, if the transport knows.
    pub peer: Option<SocketAddr>,
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "…"))
            .field("peer", &self.peer)
            .finish()
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The client may connect.
    Granted,
    /// User name or password is wrong.
    BadCredentials,
    /// The client is known and may not connect here.
    NotAuthorized,
}

/// Decides who may connect. Called once per CONNECT on the connection's own
/// task, so it must not block: a check that needs I/O has to be cached.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Whether the client may connect.
    fn check(&self, login: &Login<'_>) -> Admission;
}

/// Admits everybody: the default as long as listeners are on loopback.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn check(&self, _login: &Login<'_>) -> Admission {
        Admission::Granted
    }
}
