//! `greyctl plan`: a fleet's sizing, the specification's tables computed again,
//! and a running fleet beside its plan.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use grey_config::{Duration, Environment, Size, TierConfig};
use grey_plan::{
    Buffer, Fleet, GroupPlan, Plan, Tolerance, audit, bits_text, bytes_text, money_text, plan, span_text, specification,
};
use serde_json::json;

use crate::cli::{Output, duration};
use crate::plan_file::FleetFile;
use crate::plan_site;
use crate::text_table::{TextTable, count};
use crate::world::Failure;

const EXAMPLES: &str = "Examples:
  greyctl plan fleet.yaml
  greyctl plan fleet.yaml --buffer 32GB --compare
  greyctl plan fleet.yaml --server http://127.0.0.1:7280
  greyctl plan --spec

Exit codes: 0; 1 when a site is outside its plan or a server cannot be asked; 2 when the file is wrong.";

/// `plan`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["file", "spec"]))]
pub(crate) struct PlanArgs {
    /// The fleet's description, YAML or TOML; see docs/guides/sizing.md
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Compute the sizing tables of the specification once more from their own inputs
    #[arg(long)]
    spec: bool,
    /// A buffer of this size at every site instead of the file's
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "spec")]
    buffer: Option<Size>,
    /// How long each disk of the file's list would last, and its drain
    #[arg(long, conflicts_with_all = ["spec", "server"])]
    compare: bool,
    /// Hold a running edge agent, or all sites of a running hub or coordinator, against the plan
    #[arg(long, short, value_name = "URL", conflicts_with = "spec")]
    server: Option<String>,
    /// With --server: time between the two looks that give a rate
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s", requires = "server")]
    over: Duration,
    /// With --server: percent by which a rate or a size may be off
    #[arg(long, value_name = "PERCENT", default_value_t = 25, requires = "server")]
    tolerance: u32,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn size(text: &str) -> Result<Size, String> {
    text.parse::<Size>().map_err(|error| format!("{text:?} {error}"))
}

/// `plan`.
pub(crate) fn run(args: &PlanArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(path) = &args.file else { return specified(args.output, out) };
    let mut fleet = FleetFile::load_file(path, &Environment::default())?.config.fleet();
    if let Some(buffer) = args.buffer {
        fleet.groups.iter_mut().for_each(|group| group.buffer_bytes = buffer.bytes() as f64);
    }
    let planned = plan(&fleet);
    match (&args.server, args.output) {
        (Some(server), output) => {
            if against(&fleet, &planned, server, args, output, out)? {
                Ok(())
            } else {
                Err(Failure::Differs(format!("the plan of {}", path.display())))
            }
        }
        (None, Output::Json) if args.compare => {
            let groups: Vec<_> = fleet
                .groups
                .iter()
                .zip(&planned.groups)
                .map(|(g, p)| json!({g.name.as_str(): disks(&fleet, p)}))
                .collect();
            Ok(writeln!(out, "{:#}", json!({"plan": planned, "disks": groups}))?)
        }
        (None, Output::Json) => Ok(writeln!(out, "{:#}", json!(planned))?),
        (None, Output::Table) => {
            planned.groups.iter().try_for_each(|group| show_group(group, &planned.currency, out))?;
            if args.compare {
                planned.groups.iter().try_for_each(|group| compare(&fleet, group, out))?;
            }
            Ok(show_total(&planned, out)?)
        }
    }
}

/// The specification's tables.
fn specified(output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let cells = specification::cells();
    if output == Output::Json {
        return Ok(writeln!(out, "{:#}", json!({"cells": cells}))?);
    }
    let mut table = "";
    for cell in &cells {
        if cell.table != table {
            table = cell.table;
            writeln!(out, "{}{table}", if std::ptr::eq(cell, &cells[0]) { "" } else { "\n" })?;
        }
        let stated = if cell.stated.is_empty() { "-" } else { &cell.stated };
        let computed = if cell.computed.is_empty() { "-" } else { &cell.computed };
        writeln!(out, "  {:7}  {}: stated {stated}, computed {computed}", cell.verdict.as_str(), cell.cell)?;
        writeln!(out, "           {}", cell.why)?;
    }
    let of = |verdict| cells.iter().filter(|cell| cell.verdict == verdict).count();
    let [follow, differ, open] =
        [specification::Verdict::Follows, specification::Verdict::Differs, specification::Verdict::Open].map(of);
    Ok(writeln!(out, "\n{follow} numbers follow from their inputs, {differ} differ, {open} are inputs or have none")?)
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.2} %", share * 100.0) } else { "over".to_owned() }
}

fn show_group(group: &GroupPlan, currency: &str, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}: {} sites; for each of them\n", group.name, count(group.sites))?;
    let mut flows = TextTable::new(&["", ">events/s", ">a day", ">critical", ">normal", ">bulk"]);
    let row = |name: &str, events: f64, bytes: f64, lanes: Option<[f64; 3]>| {
        let lanes = lanes.map(|lanes| lanes.map(bytes_text)).unwrap_or_default();
        let [critical, normal, bulk] = lanes;
        [name.to_owned(), format!("{events:.2}"), bytes_text(bytes), critical, normal, bulk]
    };
    flows.row(row("devices send", group.raw.events_per_s, group.raw.bytes_per_day, None));
    let lanes = Some(group.sent_bytes_per_day_by_lane);
    flows.row(row("goes up", group.sent.events_per_s, group.sent.bytes_per_day, lanes));
    flows.write(out)?;

    let buffer = &group.buffer;
    writeln!(
        out,
        "\nBuffer of {}, filled at {} a day without a link",
        bytes_text(buffer.bytes),
        bytes_text(buffer.fill_bytes_per_s * grey_plan::DAY_S)
    )?;
    let mut levels = TextTable::new(&["level", ">reached after", "then"]);
    for (level, seconds, then) in [
        ("70 % warning", buffer.warning_s, "backlog is packed"),
        ("85 % critical", buffer.critical_s, "sheddable readings are thinned: nothing is lost before"),
        ("95 % emergency", buffer.emergency_s, "sheddable readings are rolled up"),
        ("100 %", buffer.full_s, "lanes block or drop, as configured"),
        ("100 %, no roll-up", buffer.full_lossless_s, "packed, everything kept"),
        ("100 %, as written", buffer.plain_s, "without packing either"),
    ] {
        levels.row([level.to_owned(), span_text(seconds), then.to_owned()]);
    }
    levels.write(out)?;
    let disk =
        group.disk_bytes.map_or_else(|| "no disk".to_owned(), |bytes| format!("a disk of {}", bytes_text(bytes)));
    writeln!(out, "The longest outage needs {}: {disk} of the list", bytes_text(group.buffer_bytes_needed))?;

    if !group.outages.is_empty() {
        writeln!(out)?;
        outages(group, out)?;
    }
    if !group.links.is_empty() {
        writeln!(out)?;
        let head =
            ["link", ">carries", ">live", ">capacity", ">utilisation", ">a month", ">one connection without BBR"];
        let mut links = TextTable::new(&head);
        for link in &group.links {
            let bound = link.loss_bound_bits_per_s.min(link.capacity_bits_per_s);
            links.row([
                link.link.clone(),
                percent(link.share),
                bits_text(link.live_bits_per_s),
                bits_text(link.capacity_bits_per_s),
                percent(link.utilisation),
                bytes_text(link.bytes_per_month),
                bits_text(bound),
            ]);
        }
        links.write(out)?;
        writeln!(
            out,
            "Without any link {} of the time: {} a day",
            percent(group.offline),
            span_text(group.offline * grey_plan::DAY_S)
        )?;
    }
    let cost = &group.cost;
    writeln!(
        out,
        "\nA month: {} {currency} a site (machine {}, disk {}, connection {}, volume {}), {} for the group",
        money_text(cost.total()),
        money_text(cost.hardware),
        money_text(cost.disk),
        money_text(cost.connection),
        money_text(cost.volume),
        money_text(cost.total() * group.sites as f64)
    )?;
    group.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))?;
    writeln!(out)
}

fn outages(group: &GroupPlan, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = TextTable::new(&["outage", ">lasts", ">waits at its end", "time to drain while live data goes on"]);
    for outage in &group.outages {
        let drain = |drain: &grey_plan::Drain| {
            let time = drain.seconds.map_or_else(|| "never".to_owned(), span_text);
            let why = if drain.by_budget { " (budget)" } else { "" };
            format!("{}: {time}{why}", drain.link)
        };
        let drains: Vec<String> = outage.drains.iter().map(drain).collect();
        table.row([
            outage.name.clone(),
            span_text(outage.seconds),
            bytes_text(outage.backlog_bytes),
            drains.join(", "),
        ]);
    }
    table.write(out)
}

/// What each disk of the list would be for a group: its buffer, price, and the drain of a full one over the first link.
fn disks(fleet: &Fleet, group: &GroupPlan) -> Vec<serde_json::Value> {
    let row = |(buffer, price, drain): (Buffer, f64, Option<f64>)| json!({"buffer": buffer, "price": price, "drain_full_s": drain});
    sized(fleet, group).into_iter().map(row).collect()
}

fn sized(fleet: &Fleet, group: &GroupPlan) -> Vec<(Buffer, f64, Option<f64>)> {
    let Some(described) = fleet.groups.iter().find(|described| described.name == group.name) else { return Vec::new() };
    let mut disks = fleet.disks.clone();
    disks.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    let sized = |disk: &grey_plan::Disk| {
        let described = grey_plan::Group { buffer_bytes: disk.bytes, ..described.clone() };
        let planned = grey_plan::plan_group(&described, &fleet.disks);
        let full = planned.outages.last().and_then(|outage| outage.drains.first()?.seconds);
        (planned.buffer, disk.price, full)
    };
    disks.iter().map(sized).collect()
}

fn compare(fleet: &Fleet, group: &GroupPlan, out: &mut dyn Write) -> std::io::Result<()> {
    let first = group.links.first().map_or("no link", |link| link.link.as_str());
    writeln!(out, "{}: disks of the list; a full one drains over {first}\n", group.name)?;
    let mut table = TextTable::new(&[">buffer", ">price", ">without loss", ">full, no roll-up", ">full", ">drains in"]);
    for (buffer, price, drain) in sized(fleet, group) {
        table.row([
            bytes_text(buffer.bytes),
            money_text(price),
            span_text(buffer.critical_s),
            span_text(buffer.full_lossless_s),
            span_text(buffer.full_s),
            drain.map_or_else(|| "never".to_owned(), span_text),
        ]);
    }
    table.write(out)?;
    writeln!(out)
}

fn show_total(plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "Fleet: {} events/s and {} a day from devices, {} events/s and {} a day go up",
        count(plan.raw.events_per_s.round() as u64),
        bytes_text(plan.raw.bytes_per_day),
        count(plan.sent.events_per_s.round() as u64),
        bytes_text(plan.sent.bytes_per_day)
    )?;
    let mut table = TextTable::new(&["a month", ">"]);
    for group in &plan.groups {
        table.row([
            format!("{} sites {}", count(group.sites), group.name),
            money_text(group.cost.total() * group.sites as f64),
        ]);
    }
    for (name, price) in &plan.shared {
        table.row([name.clone(), money_text(*price)]);
    }
    table.row([format!("total {}", plan.currency), money_text(plan.price_per_month)]);
    table.write(out)
}

/// Shows a running fleet beside its plan; true when every site is within it.
fn against(
    fleet: &Fleet,
    plan: &Plan,
    server: &str,
    args: &PlanArgs,
    output: Output,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let sites = plan_site::ask(server, args.over)?;
    let tolerance = Tolerance { share: f64::from(args.tolerance) / 100.0 };
    let found: Vec<_> = sites.iter().flat_map(|site| audit(&fleet.groups, &plan.groups, site, tolerance)).collect();
    let within = found.iter().all(|finding| finding.within);
    match output {
        Output::Json => writeln!(out, "{:#}", json!({"within": within, "sites": sites.len(), "findings": found}))?,
        Output::Table => {
            let mut table = TextTable::new(&["site", "group", "what", ">planned", ">actual", ""]);
            for finding in &found {
                let verdict = if finding.within { "" } else { "outside the plan" };
                let cells = [&finding.site, &finding.group, finding.what, &finding.planned, &finding.actual, verdict];
                table.row(cells.map(str::to_owned));
            }
            table.write(out)?;
            let outside = found.iter().filter(|finding| !finding.within).count();
            writeln!(out, "{} sites, {outside} figures outside the plan", sites.len())?;
        }
    }
    Ok(within)
}
