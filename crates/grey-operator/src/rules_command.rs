//! `rules test`, `rules check` and `rules explain`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::cli::{Output, RulesArgs, TestArgs};
use crate::recording::{self, Recorded, RecordingError, Selection};
use crate::replay::{Outcome, Replay};
use crate::rules_file::{self, RulesFile};
use crate::world::{Failure, World};
use crate::{expectation, plot, report};

/// A recording of at least so many bytes is worth a progress line.
const WATCHED_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Largest file of expected results in bytes.
const EXPECTED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Events that `--sort` holds in memory.
const SORTED_MAX: usize = 20_000_000;

/// Checks rules, and says what each does.
pub(crate) fn check(args: &RulesArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let file = rules_file::load(&args.rules, world.environment, &args.choice(None))?;
    match args.output {
        Output::Json => explain_json(&file, world.out),
        Output::Table => {
            writeln!(world.out, "{}: {} rules are valid", args.rules.display(), file.rules.rules.len())?;
            sentences(&file, world.out)?;
            for warning in &file.warnings {
                writeln!(world.out, "warning: {warning}")?;
            }
            Ok(())
        }
    }
}

/// Says what each rule does.
pub(crate) fn explain(args: &RulesArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let file = rules_file::load(&args.rules, world.environment, &args.choice(None))?;
    match args.output {
        Output::Json => explain_json(&file, world.out),
        Output::Table => sentences(&file, world.out),
    }
}

fn sentences(file: &RulesFile, out: &mut dyn Write) -> Result<(), Failure> {
    Ok(file.set.explain().iter().try_for_each(|line| writeln!(out, "  {line}"))?)
}

fn explain_json(file: &RulesFile, out: &mut dyn Write) -> Result<(), Failure> {
    let digest = format!("{:016x}", file.set.digest());
    let document = json!({"digest": digest, "rules": file.set.explain(), "warnings": file.warnings});
    Ok(writeln!(out, "{document:#}")?)
}

/// Runs rules over a recording.
pub(crate) fn test(args: &TestArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let picture = args.plot.as_deref().map(plot::Format::of).transpose()?;
    let file = rules_file::load(&args.file.rules, world.environment, &args.file.choice(args.forward))?;
    for warning in &file.warnings {
        writeln!(world.err, "warning: {warning}")?;
    }
    let expected = args.expect.as_deref().map(read_expected).transpose()?;
    let keep_windows = args.windows || picture.is_some();
    let mut replay = Replay::new(&file, args.site.as_deref(), keep_windows);
    let mut traces = picture.map(|_| plot::Traces::default());
    let mut take = |recorded: Recorded| {
        if let Some(traces) = &mut traces {
            traces.add(&recorded.event);
        }
        replay.take(recorded);
    };
    let summary = if args.sort {
        let mut all = Vec::new();
        let mut beyond = 0_usize;
        let summary = read(args, world, &mut |recorded| {
            if all.len() < SORTED_MAX { all.push(recorded) } else { beyond += 1 }
        })?;
        if beyond > 0 {
            return Err(Failure::Usage(format!(
                "--sort holds at most {SORTED_MAX} events; choose some with --from and --to"
            )));
        }
        all.sort_by_key(|recorded| recorded.event.device_time_ms);
        // The order in which the site took them is not the order of this run.
        all.into_iter().for_each(|recorded| take(Recorded { stamp: None, ..recorded }));
        summary
    } else {
        read(args, world, &mut take)?
    };
    let run_on_ms = i64::try_from(args.run_on.as_millis()).unwrap_or(i64::MAX);
    let mut outcome = replay.finish(run_on_ms, summary);
    if let (Some(format), Some(path), Some(traces)) = (picture, &args.plot, traces) {
        let picture = plot::draw(&traces, &outcome, &file, format)?;
        std::fs::write(path, picture).map_err(|error| Failure::file(path, format!("cannot be written: {error}")))?;
        if !args.windows {
            outcome.windows.clear();
        }
    }
    match args.file.output {
        Output::Table => report::write_text(&outcome, world.out)?,
        Output::Json => report::write_json(&outcome, world.out)?,
    }
    settle(args, &outcome, expected, world)
}

/// Saves the decisions, or holds them against those expected.
fn settle(args: &TestArgs, outcome: &Outcome, expected: Option<Json>, world: &mut World<'_>) -> Result<(), Failure> {
    if let Some(path) = &args.write_expect {
        let text = format!("{:#}\n", expectation::of(outcome));
        std::fs::write(path, text).map_err(|error| Failure::file(path, format!("cannot be written: {error}")))?;
    }
    match (expected, &args.expect) {
        (Some(expected), Some(path)) => {
            // Differences go to standard error, so that JSON on standard output stays whole.
            match expectation::compare(&expected, &expectation::of(outcome), world.err)? {
                true => Ok(()),
                false => Err(Failure::Differs(path.display().to_string())),
            }
        }
        _ => Ok(()),
    }
}

fn read_expected(path: &Path) -> Result<Json, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(EXPECTED_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(path, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > EXPECTED_BYTES_MAX {
        return Err(Failure::file(path, format!("is larger than {EXPECTED_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::file(path, format!("is not what --write-expect saves: {error}")))
}

/// Reads the recording that the arguments name.
fn read(args: &TestArgs, world: &mut World<'_>, take: &mut dyn FnMut(Recorded)) -> Result<recording::Summary, Failure> {
    let selection = Selection {
        device: args.device.clone(),
        stream: args.stream.clone(),
        site: args.site.clone(),
        from_ms: args.from,
        to_ms: args.to,
        strict: args.strict,
    };
    let name = args.events.display().to_string();
    let cannot = |error| RecordingError::Io { name: name.clone(), error };
    let mut progress = Progress { total: 0, shown: u64::MAX };
    if name == "-" {
        return Ok(recording::read(world.input, "-", &selection, &mut |_| (), take)?);
    }
    let file = File::open(&args.events).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(cannot(std::io::Error::new(std::io::ErrorKind::IsADirectory, "it is a directory")).into());
    }
    if world.watched && metadata.len() >= WATCHED_BYTES_MIN {
        progress.total = metadata.len();
    }
    let mut input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(256 * 1024, file));
    let err = &mut *world.err;
    let summary = recording::read(&mut *input, &name, &selection, &mut |bytes| progress.show(bytes, err), take);
    progress.clear(err);
    Ok(summary?)
}

/// A line that says how far reading is.
struct Progress {
    /// Bytes in all; 0 shows nothing.
    total: u64,
    /// The percentage that stands there.
    shown: u64,
}

impl Progress {
    fn show(&mut self, bytes: u64, err: &mut dyn Write) {
        let Some(percent) = bytes.saturating_mul(100).checked_div(self.total) else { return };
        if percent != self.shown {
            self.shown = percent;
            let done = "#".repeat((percent.min(100) / 4) as usize);
            // A progress line that cannot be shown harms nobody.
            let _ = write!(err, "\r[{done:<25}] {percent:3} %");
            let _ = err.flush();
        }
    }

    fn clear(&self, err: &mut dyn Write) {
        if self.total > 0 {
            let _ = write!(err, "\r{:40}\r", "");
        }
    }
}
