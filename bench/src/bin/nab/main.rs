//! Scores the streaming detectors of `grey-detect` on the Numenta Anomaly Benchmark.
//!
//! Reads the whole corpus (a checkout) or a part of it, runs every method over every
//! file with the same defaults, and prints the benchmark's score for each profile,
//! the time per value and the memory per series. With `--emit` the results are also
//! written in the benchmark's own layout, so that its own scorer can be run on them;
//! with `--results` files of that layout are scored instead of running a method.

mod corpus;
mod score;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use corpus::Series;
use grey_detect::{Detector, Method};
use score::{Board, PROFILES};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Debug, Parser)]
#[command(about = "Scores the detectors on the Numenta Anomaly Benchmark")]
struct Options {
    /// A checkout of the benchmark, or a folder of its files with windows.json.
    #[arg(long)]
    data: PathBuf,
    /// Labelled windows, when they are elsewhere.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Only these methods.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Also prints what happened in each file.
    #[arg(long)]
    files: bool,
    /// Writes results in the benchmark's layout below this folder.
    #[arg(long)]
    emit: Option<PathBuf>,
    /// Scores the results of this folder (named as its detector) instead.
    #[arg(long)]
    results: Option<PathBuf>,
}

/// What one method said of a corpus.
struct Run {
    name: String,
    /// Of each file, of each row.
    scores: Vec<Vec<f64>>,
    nanos_per_value: f64,
    bytes_max: usize,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let corpus = corpus::read(&options.data, options.labels.as_deref())?;
    let rows: usize = corpus.iter().map(|series| series.values.len()).sum();
    let windows: usize = corpus.iter().map(|series| series.windows.len()).sum();
    println!("{} files, {rows} rows, {windows} windows", corpus.len());
    let [standard, low_fp, low_fn] = PROFILES.map(|profile| profile.name);
    println!(
        "{:<16} {standard:>9} {low_fp:>19} {low_fn:>19} {:>10} {:>9} {:>9} {:>6}",
        "method", "threshold", "at own", "ns/value", "bytes"
    );
    if let Some(folder) = &options.results {
        return report(&corpus, &read_run(&corpus, folder)?, options.files);
    }
    for method in Method::ALL {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == method.as_str()) {
            continue;
        }
        let run = detect(&corpus, method);
        report(&corpus, &run, options.files)?;
        if let Some(folder) = &options.emit {
            emit(&corpus, &run, folder)?;
        }
    }
    Ok(())
}

fn detect(corpus: &[Series], method: Method) -> Run {
    let (mut scores, mut bytes_max) = (Vec::new(), 0);
    let started = Instant::now();
    for series in corpus {
        let mut detector = Detector::new(method);
        let rows = series.times_ms.iter().zip(&series.values);
        scores.push(rows.map(|(time, value)| detector.observe(*time, *value).score).collect::<Vec<f64>>());
        bytes_max = bytes_max.max(detector.bytes());
    }
    let rows: usize = scores.iter().map(Vec::len).sum();
    let nanos_per_value = started.elapsed().as_nanos() as f64 / rows.max(1) as f64;
    Run { name: method.as_str().to_owned(), scores, nanos_per_value, bytes_max }
}

/// Reads results in the benchmark's layout: `<detector>/<folder>/<detector>_<file>`.
fn read_run(corpus: &[Series], folder: &Path) -> Outcome<Run> {
    let name = folder.file_name().and_then(|name| name.to_str()).ok_or("the folder's name is the detector's")?;
    let scores = corpus
        .iter()
        .map(|series| {
            let scores = corpus::read_scores(&folder.join(result_name(name, &series.name)))?;
            if scores.len() == series.values.len() {
                Ok(scores)
            } else {
                Err(format!("{}: other rows", series.name).into())
            }
        })
        .collect::<Outcome<_>>()?;
    Ok(Run { name: name.to_owned(), scores, nanos_per_value: 0.0, bytes_max: 0 })
}

fn result_name(detector: &str, series: &str) -> PathBuf {
    let (folder, file) = series.rsplit_once('/').unwrap_or(("", series));
    Path::new(folder).join(format!("{detector}_{file}"))
}

fn report(corpus: &[Series], run: &Run, files: bool) -> Outcome<()> {
    let mut board = Board::default();
    for (series, scores) in corpus.iter().zip(&run.scores) {
        board.add(series, scores);
    }
    let best = PROFILES.map(|profile| board.best(&profile));
    // What the method's own threshold gives, which is not found with these labels.
    let own = Method::parse(&run.name).map(|method| board.normalized(&PROFILES[0], Detector::threshold(method)));
    println!(
        "{:<16} {:>9.2} {:>19.2} {:>19.2} {:>10.6} {:>9.2} {:>9.0} {:>6}",
        run.name,
        best[0].normalized,
        best[1].normalized,
        best[2].normalized,
        best[0].threshold,
        own.unwrap_or(f64::NAN),
        run.nanos_per_value,
        run.bytes_max
    );
    if files {
        println!("    {:<52} {:>7} {:>5} {:>7} {:>8}", "file", "windows", "found", "false +", "score");
        for (series, scores) in corpus.iter().zip(&run.scores) {
            let mut board = Board::default();
            board.add(series, scores);
            let tally = board.at(&PROFILES[0], best[0].threshold);
            println!(
                "    {:<52} {:>7} {:>5} {:>7} {:>8.3}",
                series.name, tally.windows, tally.found, tally.false_positives, tally.raw
            );
        }
    }
    Ok(())
}

fn emit(corpus: &[Series], run: &Run, folder: &Path) -> Outcome<()> {
    for (series, scores) in corpus.iter().zip(&run.scores) {
        let path = folder.join(&run.name).join(result_name(&run.name, &series.name));
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut text = String::from("timestamp,value,anomaly_score,label\n");
        for (row, score) in scores.iter().enumerate() {
            let time = series.times_ms[row];
            let label = u8::from(series.windows.iter().any(|(from, to)| (*from..=*to).contains(&time)));
            text.push_str(&format!("{},{:?},{score:?},{label}\n", series.stamps[row], series.values[row]));
        }
        fs::write(path, text)?;
    }
    Ok(())
}
