//! One server process: started, asked for its addresses, killed with its owner.

use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, http};

/// How long a server may take until it listens, and until it is ready.
const START_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a starting server.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// A running server.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Server {
    /// Starts a program; what it prints goes to `FOLDER/NAME.log`.
    pub fn start<A: AsRef<OsStr>>(name: &str, program: &Path, args: &[A], folder: &Path) -> Outcome<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log)?;
        // Through setpriv the server ends even if the benchmark is killed itself.
        let setpriv = Path::new("/usr/bin/setpriv");
        let mut command = if setpriv.exists() {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log, started })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Since the call that started it.
    pub fn running(&self) -> Duration {
        self.started.elapsed()
    }

    /// The address that it announces with `listening KIND ADDRESS`.
    pub fn address(&mut self, kind: &str) -> Outcome<SocketAddr> {
        let prefix = format!("listening {kind} ");
        self.wait("listen", |server| {
            let text = std::fs::read_to_string(&server.log).unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok())
        })
    }

    /// Waits until `/readyz` answers 200; returns what it answered first before that, if it did.
    pub fn ready(&mut self, address: SocketAddr) -> Outcome<Option<String>> {
        let mut before = None;
        self.wait("be ready", |_| match http::get(address, "/readyz") {
            Ok((200, _)) => Some(()),
            Ok((_, body)) => {
                before.get_or_insert(body);
                None
            }
            Err(_) => None,
        })?;
        Ok(before)
    }

    /// Asks again and again until there is an answer; an error when the server ended or takes too long.
    pub fn wait<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> Outcome<T> {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return Ok(answer);
            }
            self.check()?;
            if began.elapsed() > START_MAX {
                return Err(format!("{} did not {what} in {START_MAX:?}:\n{}", self.name, self.tail()).into());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// An error if it ended by itself.
    pub fn check(&mut self) -> Outcome<()> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("{} ended with {status}:\n{}", self.name, self.tail()).into()),
            None => Ok(()),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended, which must be with success.
    pub fn terminate(mut self) -> Outcome<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < START_MAX {
            if let Some(status) = self.child.try_wait()? {
                let tail = self.tail();
                return if status.success() { Ok(()) } else { Err(format!("ended with {status}:\n{tail}").into()) };
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(format!("{} did not end in {START_MAX:?} after SIGTERM", self.name).into())
    }

    /// The last lines of what it printed.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
