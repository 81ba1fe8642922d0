//! One process of ours: started, killed, restarted, and never left behind.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How much of a log is read to explain a failure.
const TAIL_BYTES: i64 = 16 * 1024;

/// A program with its arguments, and the process that runs it, if one does.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A program that is not started yet; its output goes to `FOLDER/NAME.log`.
    pub(crate) fn new(name: &str, program: PathBuf, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        Self { name: name.to_owned(), program, args: Vec::new(), log, child: None }
    }

    /// Adds an argument.
    pub(crate) fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// What it is called on the screen.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts it, or starts it again. Called on the main thread only: the
    /// kernel ties the child's life to the thread that started it.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| self.log.display().to_string())?;
        // Through setpriv the child ends even if this program is killed itself.
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("could not start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process id while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it as a power cut would (SIGKILL) and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("{} does not run", self.name) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to drain (SIGTERM); an error if it does not end with success in time.
    pub(crate) async fn terminate(&mut self, deadline: Instant) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id above 2^31")?;
        kill_process(pid, Signal::TERM)?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                if !status.success() {
                    bail!("ended with {status} after SIGTERM");
                }
                return Ok(());
            }
            if Instant::now() > deadline {
                self.kill()?;
                bail!("did not end after SIGTERM and was killed");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How it ended, if it was started and did so by itself.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = self.read_tail().unwrap_or_else(|error| error.to_string());
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// True when the end of its log holds the words.
    pub(crate) fn log_says(&self, words: &str) -> bool {
        self.read_tail().is_ok_and(|text| text.contains(words))
    }

    fn read_tail(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.log)?;
        let len = file.metadata()?.len();
        if len > TAIL_BYTES as u64 {
            file.seek(SeekFrom::End(-TAIL_BYTES))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself in this instant; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::Scratch;

    fn sleeper(scratch: &Scratch) -> Process {
        let mut process = Process::new("sleeper", "sleep".into(), scratch.path());
        process.arg("600");
        process
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_process_ends_with_its_owner() {
        let scratch = Scratch::new("test-drop").unwrap();
        let mut process = sleeper(&scratch);
        process.start().unwrap();
        let pid = process.pid().unwrap();
        assert!(exists(pid));
        drop(process);
        assert!(!exists(pid));
    }

    #[test]
    fn a_process_ends_when_its_owner_panics() {
        let scratch = Scratch::new("test-panic").unwrap();
        let mut process = sleeper(&scratch);
        process.start().unwrap();
        let pid = process.pid().unwrap();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = process;
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(unwound.is_err() && !exists(pid));
    }

    #[test]
    fn a_killed_process_can_be_started_again_and_its_log_is_kept() {
        let scratch = Scratch::new("test-restart").unwrap();
        let mut process = Process::new("shell", "sh".into(), scratch.path());
        process.arg("-c").arg("echo started; exec sleep 600");
        for _ in 0..2 {
            process.start().unwrap();
            while !process.log_says("started") {
                std::thread::yield_now();
            }
            process.kill().unwrap();
        }
        assert!(process.kill().is_err(), "nothing runs any more");
    }
}
