//! A hub of some members as processes.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::process::Server;
use crate::{Outcome, Places, http, ports};

/// A hub and its members.
#[derive(Debug)]
pub struct Hub {
    program: PathBuf,
    folder: PathBuf,
    /// The processes, by member.
    pub servers: Vec<Server>,
    /// Where sites connect, by member.
    pub sync: Vec<SocketAddr>,
    /// HTTP interfaces, by member.
    pub http: Vec<SocketAddr>,
}

/// The leader's term, and the blocks that it has applied.
#[derive(Debug, Clone, Copy)]
pub struct Led {
    /// The term.
    pub term: u64,
    /// The blocks.
    pub blocks: u64,
    /// Which member it is, from 0.
    pub member: usize,
}

impl Hub {
    /// Starts a hub without a coordinator in a folder and waits until it has a
    /// leader. Sites reach it at `host`, all else is on loopback.
    pub fn start(places: &Places, folder: &Path, host: Ipv4Addr, members: usize) -> Outcome<Self> {
        let free = ports::free(3 * members)?;
        let [raft, mut sync, http] = [0, 1, 2].map(|kind| free[kind * members..(kind + 1) * members].to_vec());
        sync.iter_mut().for_each(|address| address.set_ip(host.into()));
        let mut document = "hub:\n  name: bench\n  durability: fsync\n".to_owned();
        if !host.is_loopback() {
            document += "  insecure: true\n";
        }
        document += "  consensus:\n    members:\n";
        for n in 0..members {
            let (raft, sync, http) = (raft[n], sync[n], http[n]);
            document += &format!("      - {{ id: {}, raft: \"{raft}\", sync: \"{sync}\", http: \"{http}\" }}\n", n + 1);
        }
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("hub.yaml"), document)?;
        let program = places.binary("hub-server")?;
        let mut hub = Self { program, folder: folder.to_owned(), servers: Vec::new(), sync, http };
        hub.resume()?;
        Ok(hub)
    }

    /// Starts the members again after [`Hub::stop`], on the same data and addresses.
    pub fn resume(&mut self) -> Outcome<()> {
        for n in 1..=self.http.len() {
            let args: [OsString; 6] = [
                "--config".into(),
                self.folder.join("hub.yaml").into(),
                "--node-id".into(),
                n.to_string().into(),
                "--data-dir".into(),
                self.folder.join(format!("data-{n}")).into(),
            ];
            self.servers.push(Server::start(&format!("hub-{n}"), &self.program, &args, &self.folder)?);
        }
        for (server, http) in self.servers.iter_mut().zip(&self.http) {
            server.ready(*http)?;
        }
        let addresses = self.http.clone();
        self.servers[0].wait("have a leader", |_| led(&addresses))?;
        Ok(())
    }

    /// Ends every member (SIGTERM); their data stays.
    pub fn stop(&mut self) -> Outcome<()> {
        self.servers.drain(..).try_for_each(Server::terminate)
    }
}

/// Who leads, when somebody does and serves.
pub fn led(addresses: &[SocketAddr]) -> Option<Led> {
    addresses.iter().enumerate().find_map(|(member, address)| {
        let status = http::json(*address, "/v1/status").ok()?;
        let leads = status["consensus"]["role"] == "leader" && status["consensus"]["serving"] == true;
        let blocks = status["totals"]["blocks"].as_u64()?;
        leads.then_some(Led { term: status["consensus"]["term"].as_u64()?, blocks, member })
    })
}
