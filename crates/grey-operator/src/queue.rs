//! `greyctl queue inspect | verify | repair | export`: the outbox of a stopped agent, as it
//! is on the disk. Nothing is changed but by `repair --write`.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use grey_disk::{Change, Disk, OverlayDisk};
use grey_log::LogConfig;
use grey_model::Lane;
use grey_queue::Ladder;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::queue_blocks::{COLUMNS, Contents, LaneOrder, progress, read};
use crate::queue_export::{CSV_HEAD, export_lane};
use crate::queue_files::{Findings, MARKER, read_checkpoints, read_small_files};
use crate::queue_folder::{Folder, KeyArgs, LogFolder};
use crate::text_table::{TextTable, count};
use crate::world::{Failure, World};

/// Where the outbox is, and what opens it.
#[derive(Debug, Clone, Args)]
pub(crate) struct FolderArgs {
    /// A stopped agent's data directory, its outbox, or the folder of a single log
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `queue inspect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// The limit in bytes that the agent is configured with (queue.max_bytes), to tell the level
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_bytes: Option<u64>,
}

/// `queue repair`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    /// Do it; without this it is only told what would be done
    #[arg(long)]
    pub(crate) write: bool,
}

/// `queue export`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// A stopped agent's data directory, its outbox, or the folder of a single log
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Only this lane: critical, normal or bulk
    #[arg(long, value_name = "LANE", value_parser = lane)]
    pub(crate) lane: Option<Lane>,
    /// Only events of this device time or later (RFC 3339 or Unix milliseconds)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) from: Option<i64>,
    /// Only events before this device time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) to: Option<i64>,
    /// How the events are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExportFormat,
    /// The file to write, which must not exist [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON document on a line, as `rules test --events` reads it.
    #[default]
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
}

fn lane(text: &str) -> Result<Lane, String> {
    Lane::ALL.into_iter().find(|lane| lane.as_str() == text).ok_or_else(|| "use critical, normal or bulk".into())
}

fn time(text: &str) -> Result<i64, String> {
    grey_model::time::parse_time_ms(text).map_err(|error| error.to_string())
}

/// Reads the logs of the folder that are wanted.
fn read_logs(
    folder: &Folder,
    is_wanted: impl Fn(&LogFolder) -> bool,
    decode: bool,
    world: &mut World<'_>,
) -> Result<Vec<Contents>, Failure> {
    folder.logs.iter().filter(|log| is_wanted(log)).map(|log| read(folder, log, decode, world)).collect()
}

/// What is there: by lane and stratum, by key, and every file.
pub(crate) fn inspect(args: &InspectArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let folder = Folder::open(&args.folder.dir, &args.folder.keys, world)?;
    let logs = read_logs(&folder, |_| true, false, world)?;
    let outbox: u64 = logs.iter().filter(|log| log.folder.lane.is_some()).map(Contents::bytes).sum();
    let limit = args.max_bytes.map(|limit| {
        let mut ladder = Ladder::default();
        ladder.observe(outbox, limit, false);
        (limit, ladder.level().as_str())
    });
    if args.folder.output == Output::Json {
        let files: Vec<Value> = folder
            .files
            .iter()
            .map(|file| json!({"path": file.path.display().to_string(), "bytes": file.bytes, "owner": file.owner}))
            .collect();
        let report = json!({
            "root": folder.root.display().to_string(),
            "logs": logs.iter().map(Contents::json).collect::<Vec<_>>(),
            "outbox_bytes": outbox,
            "limit": limit.map(|(bytes, level)| json!({"bytes": bytes, "level": level})),
            "files": files,
        });
        return print_json(&report, world);
    }
    let mut table = TextTable::new(&COLUMNS);
    logs.iter().for_each(|log| table.row(log.cells()));
    table.write(world.out)?;
    if let Some((bytes, level)) = limit {
        writeln!(world.out, "\noutbox: {} of {} bytes, level {level}", count(outbox), count(bytes))?;
    }
    writeln!(world.out)?;
    let mut files = TextTable::new(&["file", ">bytes", "owner"]);
    folder
        .files
        .iter()
        .for_each(|file| files.row([file.path.display().to_string(), count(file.bytes), file.owner.to_owned()]));
    files.write(world.out)?;
    Ok(())
}

/// Reads every byte; what is lost is an error.
pub(crate) fn verify(args: &FolderArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let folder = Folder::open(&args.dir, &args.keys, world)?;
    let logs = read_logs(&folder, |_| true, true, world)?;
    let (mut found, mut notes) = (Findings::default(), Vec::new());
    let overlay: Arc<dyn Disk> = Arc::new(OverlayDisk::new(folder.disk()));
    let checkpoints = read_checkpoints(&folder, &overlay, &mut found)?;
    read_small_files(&folder, &mut found)?;
    for log in &logs {
        log.tell(&mut found);
    }
    Lane::ALL.into_iter().for_each(|lane| LaneOrder::of(&logs, lane).missing(&mut found.problems, &mut notes));
    let Findings { problems, sealed } = found;
    let records: u64 = logs.iter().map(|log| log.taken.records).sum();
    let events: u64 = logs.iter().map(|log| log.taken.events).sum();
    if args.output == Output::Json {
        let report = json!({
            "logs": logs.len(), "records": records, "events": events, "checkpoints": checkpoints,
            "problems": problems, "sealed": sealed, "notes": notes,
            "intact": problems.is_empty() && sealed.is_empty(),
        });
        print_json(&report, world)?;
    } else {
        [&problems, &sealed, &notes].into_iter().flatten().try_for_each(|line| writeln!(world.out, "{line}"))?;
        let (logs, records, events) = (logs.len(), count(records), count(events));
        let problems = problems.len();
        writeln!(
            world.out,
            "{logs} logs, {records} records, {events} events, {checkpoints} checkpoints: {problems} problems"
        )?;
    }
    judge(&args.dir, problems.len(), sealed.len())
}

/// How it ends: damage is told first, then what could not be read.
fn judge(dir: &Path, problems: usize, sealed: usize) -> Result<(), Failure> {
    match (problems, sealed) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::unreadable(dir, "not all could be opened, see above; give the keys that are missing")),
        (n, _) => Err(Failure::Damaged(format!("{}: {n} problems, see above", dir.display()))),
    }
}

/// Does what opening would do, or tells it.
pub(crate) fn repair(args: &RepairArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let folder = Folder::open(&args.folder.dir, &args.folder.keys, world)?;
    let overlay = Arc::new(OverlayDisk::new(folder.disk()));
    let lost = mend(&folder, overlay.clone(), world)?;
    let changes = overlay.changes().map_err(|error| Failure::unreadable(&folder.root, error))?;
    let changes: Vec<String> =
        changes.iter().filter(|change| !is_routine(&folder, change)).map(ToString::to_string).collect();
    if args.write {
        mend(&folder, folder.disk(), world)?;
    }
    if args.folder.output == Output::Json {
        return print_json(&json!({"written": args.write, "lost": lost, "changes": changes}), world);
    }
    lost.iter().chain(&changes).try_for_each(|line| writeln!(world.out, "{line}"))?;
    match (changes.is_empty(), args.write) {
        (true, _) => writeln!(world.out, "nothing is to be done")?,
        (false, true) => writeln!(world.out, "done; the evidence is in quarantine/")?,
        (false, false) => writeln!(world.out, "nothing was changed; --write does it")?,
    }
    Ok(())
}

/// Whether every opening writes this: the marker, where it is sound.
fn is_routine(folder: &Folder, change: &Change) -> bool {
    let Change::Written(path, _) = change else { return false };
    folder.files.iter().any(|file| file.path == *path && file.owner == MARKER)
        && path.parent().is_some_and(|dir| {
            grey_log::inspect(folder.disk(), dir, LogConfig::default(), None).is_ok_and(|log| log.marker.is_some())
        })
}

/// Repairs the logs and checkpoints on a disk, and says what is lost.
fn mend(folder: &Folder, disk: Arc<dyn Disk>, world: &mut World<'_>) -> Result<Vec<String>, Failure> {
    let mut found = Findings::default();
    for log in &folder.logs {
        let seal = folder.seal(&log.path);
        let progress = progress(world, log);
        let recovery = grey_log::repair(Arc::clone(&disk), &log.path, LogConfig::default(), seal.as_ref(), progress)
            .map_err(|error| folder.unreadable(&log.path, &error))?;
        found.problems.extend(recovery.damaged.iter().map(ToString::to_string));
        if recovery.torn_bytes > 0 {
            found.problems.push(format!(
                "{}: {} bytes of an unfinished commit",
                log.path.display(),
                recovery.torn_bytes
            ));
        }
    }
    read_checkpoints(folder, &disk, &mut found)?;
    match found.sealed.pop() {
        Some(sealed) => Err(Failure::unreadable(&folder.root, sealed)),
        None => Ok(found.problems),
    }
}

/// Writes the events that wait.
pub(crate) fn export(args: &ExportArgs, world: &mut World<'_>) -> Result<(), Failure> {
    let folder = Folder::open(&args.dir, &args.keys, world)?;
    let is_wanted = |lane: Lane| args.lane.is_none_or(|wanted| wanted == lane);
    let logs = read_logs(&folder, |log| log.lane.is_some_and(|(lane, _)| is_wanted(lane)), false, world)?;
    let mut file = match &args.output {
        Some(path) => {
            let file = fs::File::options().write(true).create_new(true).open(path);
            Some(BufWriter::new(file.map_err(|error| Failure::file(path, error))?))
        }
        None => None,
    };
    let (mut written, mut found, mut notes) = (0, Findings::default(), Vec::new());
    logs.iter().for_each(|log| log.tell(&mut found));
    {
        let out: &mut dyn Write = match &mut file {
            Some(file) => file,
            None => world.out,
        };
        if args.format == ExportFormat::Csv {
            writeln!(out, "{CSV_HEAD}")?;
        }
        for lane in Lane::ALL.into_iter().filter(|lane| is_wanted(*lane)) {
            let order = LaneOrder::of(&logs, lane);
            written += export_lane(&logs, &order, args, out, &mut found.problems)?;
            order.missing(&mut found.problems, &mut notes);
        }
        out.flush()?;
    }
    if let Some(file) = file {
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    }
    [&found.problems, &found.sealed, &notes]
        .into_iter()
        .flatten()
        .try_for_each(|line| writeln!(world.err, "{line}"))?;
    writeln!(world.err, "{} events written", count(written))?;
    judge(&args.dir, found.problems.len(), found.sealed.len())
}

/// An error with its causes, on one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn print_json(value: &Value, world: &mut World<'_>) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *world.out, value).map_err(io::Error::from)?;
    Ok(writeln!(world.out)?)
}
