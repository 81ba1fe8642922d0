//! `cargo xtask test`: the unit, integration and documentation tests.

use anyhow::Result;
use clap::Args;

use crate::workspace::{answers, cargo, list, metadata, run_keeping, text};

/// What to test.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only this crate (may be given several times)
    #[arg(long, short, value_name = "NAME")]
    package: Vec<String>,
    /// Only tests whose name contains this
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
}

/// Runs the tests; prints and returns the runners' closing lines.
pub(crate) fn run(options: &Options) -> Result<Vec<String>> {
    let nextest = answers("cargo", &["nextest", "--version"]);
    let mut first = if nextest {
        let mut command = cargo("nextest");
        command.args(["run", "--no-fail-fast", "--no-tests", "pass"]);
        command
    } else {
        let mut command = cargo("test");
        command.args(["--all-targets", "--no-fail-fast"]);
        command
    };
    let mut docs = cargo("test");
    docs.arg("--doc");
    for command in [&mut first, &mut docs] {
        if options.package.is_empty() {
            command.arg("--workspace");
        }
    }
    for name in &options.package {
        first.args(["--package", name]);
    }
    first.args(&options.filter);
    docs.args(&options.filter);

    let (unit, mut closing) = run_keeping(&mut first, is_closing_line);
    // A binary has no documentation tests, and cargo calls that an error.
    let libraries = libraries_among(&options.package)?;
    docs.args(libraries.iter().flat_map(|name| ["--package", name]));
    let mut doc = Ok(());
    if options.package.is_empty() || !libraries.is_empty() {
        let (done, lines) = run_keeping(&mut docs, is_closing_line);
        doc = done;
        closing.extend(lines);
    }
    for line in &closing {
        println!("{line}");
    }
    unit.and(doc).map(|()| closing)
}

fn libraries_among(names: &[String]) -> Result<Vec<String>> {
    let graph = metadata(&["--no-deps"])?;
    let is_library = |name: &&String| {
        let package = list(&graph["packages"]).iter().find(|package| text(package, "name") == name.as_str());
        let targets = package.map_or(&[][..], |package| list(&package["targets"]));
        targets.iter().flat_map(|target| list(&target["kind"])).any(|kind| kind == "lib")
    };
    Ok(names.iter().filter(is_library).cloned().collect())
}

/// True for the line in which nextest or the standard runner sums up.
fn is_closing_line(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("Summary [") || line.starts_with("test result:")
}
