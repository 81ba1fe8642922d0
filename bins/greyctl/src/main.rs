//! The operator's tool: tries rules on recordings, asks running tiers.

use std::io::{self, BufReader, BufWriter, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use grey_operator::{Failure, Line, World, command, run};
use grey_service::{VERSION, environment};

fn main() -> ExitCode {
    let line = match Line::from_matches(&command(VERSION).get_matches()) {
        Ok(line) => line,
        Err(error) => error.exit(),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = io::stderr().lock();
    let mut world = World {
        out: &mut out,
        err: &mut err,
        input: &mut BufReader::new(io::stdin().lock()),
        environment: &environment(),
        watched: io::stderr().is_terminal(),
    };
    let done = run(&line, &mut world).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has seen enough.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // What was found before it failed is a result too.
            let _ = out.flush();
            let _ = writeln!(err, "{}", failure.message());
            ExitCode::from(failure.exit_code())
        }
    }
}
