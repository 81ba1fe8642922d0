//! The checkout: where it is, what is in it, and how a program is run in it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The top folder of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// `cargo` in the top folder, with a first argument.
pub(crate) fn cargo(verb: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg(verb);
    command
}

/// Shows the command, runs it, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("could not start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Like [`run`], passing all output on, and returns the lines that `keep` picks.
pub(crate) fn run_keeping(command: &mut Command, keep: fn(&str) -> bool) -> (Result<()>, Vec<String>) {
    eprintln!("$ {}", shown(command));
    let mut child = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            return (Err(error).with_context(|| format!("could not start {}", shown(command))), Vec::new());
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let kept = std::thread::scope(|scope| {
        let out = scope.spawn(|| out.map_or_else(Vec::new, |pipe| pass_on(pipe, std::io::stdout(), keep)));
        let mut kept = err.map_or_else(Vec::new, |pipe| pass_on(pipe, std::io::stderr(), keep));
        kept.extend(out.join().unwrap_or_default());
        kept
    });
    let done = match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(anyhow::anyhow!("{} ended with {status}", shown(command))),
        Err(error) => Err(error.into()),
    };
    (done, kept)
}

fn pass_on(pipe: impl Read, mut to: impl Write, keep: fn(&str) -> bool) -> Vec<String> {
    let mut kept = Vec::new();
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        // The terminal may be gone; the program's result still counts.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if keep(text.trim_end()) {
            kept.push(text.trim_end().to_owned());
        }
        line.clear();
    }
    kept
}

/// What a command prints, when it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("could not start {}", shown(command)))?;
    if !out.status.success() {
        bail!("{} ended with {}", shown(command), out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// True when a program is there and answers `--version` (or the argument given).
pub(crate) fn answers(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `cargo metadata` with further arguments.
pub(crate) fn metadata(args: &[&str]) -> Result<Value> {
    let text = output(cargo("metadata").args(["--format-version", "1"]).args(args))?;
    serde_json::from_str(&text).context("cargo metadata did not print JSON")
}

/// A string member of a JSON object, or "".
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The members of a JSON array, or none.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Every file that is, or would be, under version control, relative to the root.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut git).context("the list of files comes from git")?;
    let mut files: Vec<PathBuf> = listed.split_terminator('\0').map(PathBuf::from).collect();
    files.retain(|path| root().join(path).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Fails with a numbered list of findings, or says that there are none.
pub(crate) fn verdict(check: &str, looked_at: &str, findings: &[String]) -> Result<()> {
    if findings.is_empty() {
        eprintln!("{check}: {looked_at}, nothing to change");
        return Ok(());
    }
    for finding in findings {
        eprintln!("{check}: {finding}");
    }
    bail!("{check} found {} thing(s) to change", findings.len());
}
