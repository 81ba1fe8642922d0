//! Where a master key comes from.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::key::KEY_TEXT_BYTES_MAX;
use crate::{KeyError, MasterKey};

/// What a command may take: it may ask a TPM or a key service.
const COMMAND_SECONDS_MAX: u64 = 10;
/// How often it is looked whether the command has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Shown of what a failed command complained about, in bytes.
const STDERR_BYTES_MAX: usize = 1_024;

/// Where a master key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file that holds nothing else.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The standard output of a command: program and arguments, no shell.
    Command(Vec<String>),
}

/// A key, and what is questionable about the place it came from.
#[derive(Debug)]
pub struct LoadedKey {
    /// The key.
    pub key: MasterKey,
    /// What an operator should be told.
    pub warning: Option<String>,
}

impl KeySource {
    /// Reads the key. A command has 10 s.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(&self) -> Result<LoadedKey, KeyError> {
        let (text, warning) = match self {
            Self::File(path) => read_key_file(path)?,
            Self::Env(name) => {
                let value = env::var_os(name).ok_or_else(|| KeyError::NotSet { name: name.clone() })?;
                (Zeroizing::new(value.into_vec()), None)
            }
            Self::Command(words) => (run(words, COMMAND_SECONDS_MAX)?, None),
        };
        Ok(LoadedKey { key: MasterKey::parse_from(&text, &self.to_string())?, warning })
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the key file {}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::Command(words) => write!(f, "the key command {:?}", program(words)),
        }
    }
}

fn program(words: &[String]) -> String {
    words.first().cloned().unwrap_or_default()
}

type Text = Zeroizing<Vec<u8>>;

fn read_key_file(path: &Path) -> Result<(Text, Option<String>), KeyError> {
    let fail = |source| KeyError::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o777;
    let text = read_bounded(file, KEY_TEXT_BYTES_MAX).map_err(fail)?;
    let warning = (mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("the key file {path} has mode {mode:03o}, others than its owner may use it; chmod 600 {path}")
    });
    Ok((text, warning))
}

/// At most one byte more than `limit`, which shows that there is too much.
fn read_bounded(from: impl Read, limit: usize) -> io::Result<Text> {
    // Room for all of it: a buffer that grows would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(limit + 1));
    from.take(limit as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn run(words: &[String], seconds_max: u64) -> Result<Text, KeyError> {
    let program = program(words);
    let fail = |source| KeyError::Run { program: program.clone(), source };
    let mut child = Command::new(&program)
        .args(words.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let stdout = child.stdout.take().map(|pipe| drain(pipe, KEY_TEXT_BYTES_MAX));
    let stderr = child.stderr.take().map(|pipe| drain(pipe, STDERR_BYTES_MAX));
    let ended = wait(&mut child, stdout, stderr, seconds_max);
    if !matches!(ended, Ok(Some(_))) {
        // Whatever the reason, it does not outlive us.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (status, stdout, stderr) =
        ended.map_err(fail)?.ok_or_else(|| KeyError::TooSlow { program: program.clone(), seconds: seconds_max })?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr).trim().replace(char::is_control, " ");
        return Err(KeyError::Failed { program, status: status.to_string(), stderr });
    }
    Ok(stdout)
}

type Piped = Receiver<io::Result<Text>>;

/// Reads a pipe to its end on a thread of its own, and keeps the beginning.
fn drain(mut pipe: impl Read + Send + 'static, limit: usize) -> Piped {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let kept = read_bounded(&mut pipe, limit);
        // A command that is not read from to the end would fail on its side.
        let rest = io::copy(&mut pipe, &mut io::sink());
        // Nobody waits any more for one that took too long.
        let _ = sender.send(kept.and_then(|kept| rest.map(|_| kept)));
    });
    receiver
}

/// The command's status and what it wrote; `None` when it takes too long.
fn wait(
    child: &mut Child,
    mut stdout: Option<Piped>,
    mut stderr: Option<Piped>,
    seconds_max: u64,
) -> io::Result<Option<(ExitStatus, Text, Text)>> {
    let looks = seconds_max * 1_000 / LOOK_INTERVAL.as_millis() as u64;
    let (_never, timer) = mpsc::channel::<()>();
    let (mut out, mut err) = (Text::default(), Text::default());
    for _ in 0..looks {
        for (pipe, text) in [(&mut stdout, &mut out), (&mut stderr, &mut err)] {
            if let Some(read) = pipe.as_ref().and_then(|pipe| pipe.try_recv().ok()) {
                *text = read?;
                *pipe = None;
            }
        }
        if stdout.is_none()
            && stderr.is_none()
            && let Some(status) = child.try_wait()?
        {
            return Ok(Some((status, out, err)));
        }
        let _ = timer.recv_timeout(LOOK_INTERVAL);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn shell(script: &str) -> KeySource {
        KeySource::Command(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    fn is_the_key(source: &KeySource) -> Option<String> {
        let loaded = source.load().expect("a key");
        assert_eq!(loaded.key.id(), MasterKey::parse(DIGITS.as_bytes()).expect("a key").id());
        loaded.warning
    }

    #[test]
    fn a_file_of_its_owner_alone_is_as_it_should_be() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("key");
        fs::write(&path, format!("{DIGITS}\n")).expect("write");
        for (mode, is_fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            let warning = is_the_key(&KeySource::File(path.clone()));
            assert_eq!(warning.is_none(), is_fine, "{mode:o}: {warning:?}");
            assert!(warning.is_none_or(|warning| warning.contains("chmod 600")));
        }
        fs::write(&path, "0".repeat(10_000)).expect("write");
        assert!(matches!(KeySource::File(path).load(), Err(KeyError::Format { len: 1_025, .. })));
        assert!(matches!(KeySource::File(dir.path().join("none")).load(), Err(KeyError::Read { .. })));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = KeySource::Env("GREY_TEST_NO_SUCH_KEY".into()).load().expect_err("not set");
        assert!(error.to_string().contains("GREY_TEST_NO_SUCH_KEY"));
        // One that is set, whatever it holds, is looked at.
        assert!(matches!(KeySource::Env("PATH".into()).load(), Err(KeyError::Format { .. })));
    }

    #[test]
    fn a_command_gives_its_output() {
        assert_eq!(is_the_key(&shell(&format!("echo noise >&2; echo {DIGITS}"))), None);
        let failed = shell("echo the token is locked >&2; exit 3").load().expect_err("status 3");
        let told = failed.to_string();
        assert!(told.contains("exit status: 3") && told.contains("the token is locked"), "{told}");
        assert!(matches!(shell("true").load(), Err(KeyError::Format { len: 0, .. })));
        for words in [vec![], vec!["/no/such/program".to_owned()]] {
            assert!(matches!(KeySource::Command(words).load(), Err(KeyError::Run { .. })));
        }
    }

    #[test]
    fn a_command_is_bounded_in_time_and_output() {
        let much = shell("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").load();
        assert!(matches!(much, Err(KeyError::Format { len: 1_025, .. })), "{much:?}");
        let words = ["sh", "-c", "exec sleep 600"].map(str::to_owned);
        assert!(matches!(run(&words, 0), Err(KeyError::TooSlow { .. })));
    }
}
