//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use grey_config::Duration;
use grey_model::time::parse_time_ms;
use grey_rules::Forward;

use crate::plan::{self, PlanArgs};
use crate::queue::{self, ExportArgs, FolderArgs, InspectArgs, RepairArgs};
use crate::rules_file::Choice;
use crate::world::{Failure, World};
use crate::{remote, rules_command};

/// Where an edge agent listens unless its configuration says otherwise.
const SERVER: &str = "http://127.0.0.1:7080";
/// Names the server where no option does.
const SERVER_VARIABLE: &str = "GREYCTL_SERVER";

const EXAMPLES: &str = "Examples:
  greyctl rules check --rules edge.yaml
  greyctl rules test --rules edge.yaml --events day.ndjson --plot day.svg
  greyctl rules test --rules rules.yaml --events recording.csv --device press-7 --stream temperature
  greyctl events --kind reading --from -1h --output ndjson > hour.ndjson
  greyctl alerts list
  greyctl plan fleet.yaml --compare
  greyctl queue verify /var/lib/grey
  greyctl ledger --server http://127.0.0.1:7280 --site factory-7";

const TEST_EXAMPLES: &str = "Examples:
  greyctl rules test --rules edge.yaml --events day.ndjson
  greyctl rules test --rules edge.yaml --events day.ndjson --from 2026-03-01T12:00:00Z --plot noon.png
  greyctl rules test --rules rules.yaml --events day.ndjson --write-expect alerts.json
  greyctl rules test --rules rules.yaml --events day.ndjson --expect alerts.json

Exit codes: 0; 1 when the recording cannot be read or the result is not the expected one; 2 when the rules are wrong.";

const QUEUE_EXAMPLES: &str = "Examples:
  greyctl queue inspect /var/lib/grey --max-bytes 1073741824
  greyctl queue verify /var/lib/grey --key-file /etc/grey/key
  greyctl queue repair /var/lib/grey/outbox/bulk --write
  greyctl queue export /var/lib/grey --lane critical --from 2026-03-01T12:00:00Z --output critical.ndjson

Exit codes: 0; 1 when something is damaged or lost; 2 when it cannot be looked at, for want of a key or since an agent runs.";

/// The command line, parsed.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "greyctl",
    about = "The operator's tool: tries rules on recordings, sizes fleets, asks running tiers, reads a stopped agent's files",
    after_help = EXAMPLES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Try, check and explain rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// How a tier is doing
    Status(Remote),
    /// Alerts of a site, and silences
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Events that a tier keeps
    Events(EventsArgs),
    /// What became of every accepted event
    Ledger(SiteArgs),
    /// The sites that a hub or coordinator knows
    Sites(SiteArgs),
    /// What waits for the hub at an edge agent: a running one's, or a stopped one's files
    #[command(subcommand, after_help = QUEUE_EXAMPLES)]
    Queue(QueueCommand),
    /// Size a fleet: buffer, time offline, time to drain, bandwidth and cost
    Plan(Box<PlanArgs>),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: ShellName,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum RulesCommand {
    /// Run rules over a recording: what fires, when and why
    #[command(after_help = TEST_EXAMPLES)]
    Test(Box<TestArgs>),
    /// Check rules as the agent would; exits 2 when they are wrong
    Check(RulesArgs),
    /// Say in a sentence what each rule does
    Explain(RulesArgs),
    /// The rules in force at a running agent, with what each has counted
    Status(Remote),
    /// Make a running agent read its rules again
    Reload(Remote),
}

#[derive(Debug, Clone, Subcommand)]
enum AlertsCommand {
    /// Alerts that are pending or fire, newest first
    List(AlertsListArgs),
    /// Say that somebody takes care of an alert
    Ack(AckArgs),
    /// Leave alerts of a rule or a device without effects for a while
    Silence(SilenceArgs),
    /// End a silence
    Unsilence(UnsilenceArgs),
    /// Silences that are in force
    Silences(Remote),
}

#[derive(Debug, Clone, Subcommand)]
enum QueueCommand {
    /// Blocks, events and bytes by lane, at a running agent
    Status(Remote),
    /// What a stopped agent's outbox holds: by lane and stratum, by key, and every file
    #[command(after_help = QUEUE_EXAMPLES)]
    Inspect(InspectArgs),
    /// Read every byte of a stopped agent's logs; exits 1 when something is lost
    #[command(after_help = QUEUE_EXAMPLES)]
    Verify(FolderArgs),
    /// What opening the logs would mend; with --write, mend it and keep the evidence
    #[command(after_help = QUEUE_EXAMPLES)]
    Repair(RepairArgs),
    /// Write the events of a stopped agent's outbox as NDJSON or CSV
    #[command(after_help = QUEUE_EXAMPLES)]
    Export(ExportArgs),
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum EventsOutput {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One event on a line, as `rules test --events` reads it.
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// The file of rules.
#[derive(Debug, Clone, Args)]
pub(crate) struct RulesArgs {
    /// An edge configuration, or a file with only local_processing: or rules:; YAML or TOML
    #[arg(long, short, value_name = "FILE")]
    pub(crate) rules: PathBuf,
    /// Where models are, instead of where the file says
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `rules test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) file: RulesArgs,
    /// The recording: NDJSON or JSON as posted to or answered by /v1/events, or CSV with a header; - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub(crate) events: PathBuf,
    /// Draw the series with limits, alerts, anomalies and windows: an .svg or .png file
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Only events at or after this time (RFC 3339 or Unix milliseconds)
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub(crate) from: Option<i64>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub(crate) to: Option<i64>,
    /// Only this site's events, where the recording names sites
    #[arg(long, value_name = "ID")]
    pub(crate) site: Option<String>,
    /// Only this device; the device of a CSV without such a column
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Only this stream; the stream of a CSV without such a column [default there: value]
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// Which raw readings leave the site, instead of what the file says
    #[arg(long, value_name = "POLICY", value_parser = forward)]
    pub(crate) forward: Option<Forward>,
    /// Order the events by time first: for recordings that were put together
    #[arg(long)]
    pub(crate) sort: bool,
    /// Let the site's time go on after the last event, such as 5m, so that open windows close
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub(crate) run_on: Duration,
    /// Show every window
    #[arg(long)]
    pub(crate) windows: bool,
    /// A line that cannot be read is an error
    #[arg(long)]
    pub(crate) strict: bool,
    /// Compare with what --write-expect saved; exits 1 when something differs
    #[arg(long, value_name = "FILE", conflicts_with = "write_expect")]
    pub(crate) expect: Option<PathBuf>,
    /// Save the decisions for --expect
    #[arg(long, value_name = "FILE")]
    pub(crate) write_expect: Option<PathBuf>,
}

/// A tier to ask.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The tier's HTTP address [default: $GREYCTL_SERVER, else http://127.0.0.1:7080, an edge agent]
    #[arg(long, short, value_name = "URL")]
    server: Option<String>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `alerts list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AlertsListArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Only alerts in these states: pending, firing, cleared; several joined by commas
    #[arg(long, value_name = "STATES", default_value = "pending,firing")]
    pub(crate) state: String,
    /// Only this rule's
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Only this device's
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Also the latest changes
    #[arg(long)]
    pub(crate) recent: bool,
}

/// `alerts ack`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AckArgs {
    /// The alert's id, as alerts list shows it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) who: Who,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// Who does something, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct Who {
    /// Who does it [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
}

/// `alerts silence`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["rule", "device"]))]
#[command(group = clap::ArgGroup::new("how_long").required(true).args(["for", "until"]))]
pub(crate) struct SilenceArgs {
    /// Alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Alerts of these devices, * for any text
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// How long, such as 2h
    #[arg(long = "for", id = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Until when (RFC 3339 or Unix milliseconds)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<i64>,
    #[command(flatten)]
    pub(crate) who: Who,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `alerts unsilence`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnsilenceArgs {
    /// The silence's id, as alerts silences shows it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `events`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    /// The tier's HTTP address [default: $GREYCTL_SERVER, else http://127.0.0.1:7080, an edge agent]
    #[arg(long, short, value_name = "URL")]
    server: Option<String>,
    /// Only this site
    #[arg(long, value_name = "ID")]
    pub(crate) site: Option<String>,
    /// Only this device
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Only this stream
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// Event time at or after: RFC 3339, Unix milliseconds, now, or relative such as -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Event time before; written as --from is
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// critical, normal or bulk; several joined by commas
    #[arg(long, value_name = "LANES")]
    pub(crate) lane: Option<String>,
    /// reading, aggregate, alert, anomaly, log or receipt; several joined by commas
    #[arg(long, value_name = "KINDS")]
    pub(crate) kind: Option<String>,
    /// Most events [default: 100; with --output ndjson all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// How events are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: EventsOutput,
}

/// `ledger` and `sites`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SiteArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Only this site
    #[arg(long, value_name = "ID")]
    pub(crate) site: Option<String>,
}

impl RulesArgs {
    /// What the command line says instead of the file.
    pub(crate) fn choice(&self, forward: Option<Forward>) -> Choice {
        Choice { forward, models: self.models.clone() }
    }
}

impl Remote {
    /// The address of the tier.
    pub(crate) fn url(&self) -> String {
        url(self.server.as_ref())
    }
}

impl EventsArgs {
    /// The address of the tier.
    pub(crate) fn url(&self) -> String {
        url(self.server.as_ref())
    }
}

fn url(given: Option<&String>) -> String {
    let from_environment = || std::env::var(SERVER_VARIABLE).ok().filter(|url| !url.is_empty());
    given.cloned().or_else(from_environment).unwrap_or_else(|| SERVER.to_owned())
}

fn time(text: &str) -> Result<i64, String> {
    parse_time_ms(text).map_err(|error| error.to_string())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<Duration>().map_err(|error| format!("{text:?} {error}"))
}

fn forward(text: &str) -> Result<Forward, String> {
    let all = [Forward::Raw, Forward::Aggregates, Forward::Anomalies];
    let known = all.into_iter().find(|policy| policy.as_str() == text);
    known.ok_or_else(|| format!("{text:?} is none of raw, aggregates, anomalies"))
}

/// The command line's grammar, for the program's name, version and help.
pub fn command(version: &'static str) -> clap::Command {
    Line::command().version(version)
}

impl Line {
    /// The line that a grammar's matches hold.
    pub fn from_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches(matches)
    }
}

/// Does what a line says. The exit code is 0, or that of the [`Failure`].
pub fn run(line: &Line, world: &mut World<'_>) -> Result<(), Failure> {
    match &line.command {
        Command::Rules(RulesCommand::Test(args)) => rules_command::test(args, world),
        Command::Rules(RulesCommand::Check(args)) => rules_command::check(args, world),
        Command::Rules(RulesCommand::Explain(args)) => rules_command::explain(args, world),
        Command::Rules(RulesCommand::Status(remote)) => remote::rules(remote, world.out),
        Command::Rules(RulesCommand::Reload(remote)) => remote::reload(remote, world.out),
        Command::Status(remote) => remote::status(remote, world.out),
        Command::Alerts(AlertsCommand::List(args)) => remote::alerts(args, world.out),
        Command::Alerts(AlertsCommand::Ack(args)) => remote::acknowledge(args, world.out),
        Command::Alerts(AlertsCommand::Silence(args)) => remote::silence(args, world.out),
        Command::Alerts(AlertsCommand::Unsilence(args)) => remote::unsilence(args, world.out),
        Command::Alerts(AlertsCommand::Silences(remote)) => remote::silences(remote, world.out),
        Command::Events(args) => remote::events(args, world.out),
        Command::Ledger(args) => remote::ledger(args, world.out),
        Command::Sites(args) => remote::sites(args, world.out),
        Command::Queue(QueueCommand::Status(remote)) => remote::queue(remote, world.out),
        Command::Queue(QueueCommand::Inspect(args)) => queue::inspect(args, world),
        Command::Queue(QueueCommand::Verify(args)) => queue::verify(args, world),
        Command::Queue(QueueCommand::Repair(args)) => queue::repair(args, world),
        Command::Queue(QueueCommand::Export(args)) => queue::export(args, world),
        Command::Plan(args) => plan::run(args, world.out),
        Command::Completions { shell } => {
            let shell = match shell {
                ShellName::Bash => Shell::Bash,
                ShellName::Zsh => Shell::Zsh,
                ShellName::Fish => Shell::Fish,
            };
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Line::command(), "greyctl", &mut script);
            Ok(world.out.write_all(&script)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        command("1").debug_assert();
    }
}
