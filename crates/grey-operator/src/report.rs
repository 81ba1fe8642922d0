//! The result of a test run as text or JSON.

use std::io::{self, Write};

use grey_model::time::format_rfc3339_ms;

use crate::replay::{Alert, Outcome};
use crate::text_table::{TextTable, count, number, shown, span};

/// Alerts, anomalies and windows shown in a table; JSON has all that were kept.
const ROWS_MAX: usize = 200;

/// Writes the whole result as one JSON document.
pub(crate) fn write_json(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, outcome)?;
    writeln!(out)
}

/// Writes the result for people.
pub(crate) fn write_text(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    head(outcome, out)?;
    alerts(outcome, out)?;
    anomalies(outcome, out)?;
    windows(outcome, out)?;
    rules(outcome, out)?;
    counters(outcome, out)?;
    reduction(outcome, out)?;
    for note in &outcome.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn time(ms: i64) -> String {
    format_rfc3339_ms(ms)
}

fn head(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let reading = &outcome.recording;
    if let (Some(from), Some(to)) = (reading.from_ms, reading.to_ms) {
        writeln!(
            out,
            "{} readings of {} series, {} to {} ({})",
            count(reading.events),
            count(reading.series),
            time(from),
            time(to),
            span(to.saturating_sub(from))
        )?;
    }
    for bad in &reading.bad {
        writeln!(out, "line {}: {}", bad.line, shown(&bad.reason))?;
    }
    let unnamed = reading.bad_lines - reading.bad.len() as u64;
    if unnamed > 0 {
        writeln!(out, "and {} more lines that cannot be read", count(unnamed))?;
    }
    if reading.left_out > 0 {
        writeln!(out, "{} events are not those asked for", count(reading.left_out))?;
    }
    if reading.derived_before > 0 {
        writeln!(
            out,
            "{} events of the recording were made by rules; they are left out",
            count(reading.derived_before)
        )?;
    }
    Ok(())
}

fn more(kept: usize, total: u64, what: &str, out: &mut dyn Write) -> io::Result<()> {
    let shown = kept.min(ROWS_MAX) as u64;
    if total > shown {
        writeln!(out, "and {} more {what}; --output json has {}", count(total - shown), count(kept as u64))?;
    }
    Ok(())
}

fn value(value: Option<f64>, unit: &Option<String>) -> String {
    match (value, unit) {
        (None, _) => String::new(),
        (Some(value), None) => number(value),
        (Some(value), Some(unit)) => format!("{} {unit}", number(value)),
    }
}

/// Why an alert began, in words.
fn why(alert: &Alert) -> String {
    let mut why = alert.condition.clone();
    if let Some(pending) = alert.pending_ms {
        why.push_str(&format!(", held for {}", span(alert.fired_ms - pending)));
    }
    if let Some(reason) = &alert.reason {
        why.push_str(&format!(" ({reason})"));
    }
    why
}

fn alerts(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let total: u64 = outcome.rules.iter().map(|tally| tally.fired).sum();
    writeln!(out, "\nAlerts: {}", count(total))?;
    let mut table = TextTable::new(&[
        "fired", "rule", "severity", "device", "stream", ">value", ">limit", "cleared", ">lasted", "because",
    ]);
    for alert in outcome.alerts.iter().take(ROWS_MAX) {
        table.row([
            time(alert.fired_ms),
            alert.rule.clone(),
            alert.severity.clone(),
            alert.device.clone(),
            alert.stream.clone(),
            value(alert.value, &alert.unit),
            value(alert.limit, &alert.unit),
            alert.cleared_ms.map_or_else(|| "still firing".into(), time),
            alert.cleared_ms.map(|cleared| span(cleared - alert.fired_ms)).unwrap_or_default(),
            why(alert),
        ]);
    }
    if !table.is_empty() {
        table.write(out)?;
    }
    more(outcome.alerts.len(), total, "alerts", out)?;
    for pending in outcome.pending.iter().take(ROWS_MAX) {
        let at = value(Some(pending.value), &pending.unit);
        let (rule, device, stream) = (shown(&pending.rule), shown(&pending.device), shown(&pending.stream));
        writeln!(out, "pending at the end: {rule} of {device}/{stream} since {} with {at}", time(pending.since_ms))?;
    }
    Ok(())
}

fn anomalies(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let total: u64 = outcome.rules.iter().map(|tally| tally.anomalies).sum();
    if total == 0 && !outcome.rules.iter().any(|rule| rule.kind == "anomaly") {
        return Ok(());
    }
    writeln!(out, "\nAnomalies: {}", count(total))?;
    let mut table = TextTable::new(&[
        "at",
        "rule",
        "device",
        "stream",
        ">score",
        ">expected",
        ">seen",
        "since",
        "until",
        "because",
    ]);
    for anomaly in outcome.anomalies.iter().take(ROWS_MAX) {
        table.row([
            time(anomaly.at_ms),
            anomaly.rule.clone(),
            anomaly.device.clone(),
            anomaly.stream.clone(),
            anomaly.score.map(|score| format!("{score:.3}")).unwrap_or_default(),
            value(anomaly.expected, &anomaly.unit),
            value(anomaly.seen, &anomaly.unit),
            anomaly.since_ms.map(time).unwrap_or_default(),
            anomaly.cleared_ms.map(time).unwrap_or_default(),
            anomaly.reason.clone().unwrap_or_default(),
        ]);
    }
    if !table.is_empty() {
        table.write(out)?;
    }
    more(outcome.anomalies.len(), total, "anomalies", out)
}

fn windows(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    if outcome.windows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWindows: {}", count(outcome.reduction.windows))?;
    let mut table = TextTable::new(&["start", "rule", "device", "stream", ">length", "unit", "fields", "partial"]);
    for window in outcome.windows.iter().take(ROWS_MAX) {
        let fields: Vec<String> =
            window.fields.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        table.row([
            time(window.start_ms),
            window.rule.clone(),
            window.device.clone(),
            window.stream.clone(),
            window.length_ms.map(span).unwrap_or_default(),
            window.unit.clone().unwrap_or_default(),
            fields.join(", "),
            if window.partial { "partial".into() } else { String::new() },
        ]);
    }
    table.write(out)?;
    more(outcome.windows.len(), outcome.reduction.windows, "windows", out)
}

fn rules(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nRules")?;
    let head = [
        "#",
        "rule",
        "type",
        ">fired",
        ">cleared",
        ">firing",
        ">suppressed",
        ">anomalies",
        ">windows",
        ">late",
        ">ahead",
        ">units",
        ">reduced",
    ];
    let mut table = TextTable::new(&head);
    for tally in &outcome.rules {
        let applies = |applies: bool, number: u64| if applies || number > 0 { count(number) } else { String::new() };
        let alerts = tally.kind == "threshold";
        table.row([
            tally.number.to_string(),
            tally.name.clone(),
            tally.kind.clone(),
            applies(alerts, tally.fired),
            applies(alerts, tally.cleared),
            applies(alerts, tally.firing_at_end),
            applies(false, tally.suppressed),
            applies(tally.kind == "anomaly", tally.anomalies),
            applies(tally.kind == "aggregate", tally.windows),
            applies(false, tally.late),
            applies(false, tally.ahead),
            applies(false, tally.unit_mismatches),
            applies(matches!(tally.kind.as_str(), "policy" | "filter"), tally.reduced),
        ]);
    }
    table.write(out)
}

fn counters(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    for (what, number) in &outcome.counters {
        writeln!(out, "{} {what}", count(*number))?;
    }
    for (what, number) in &outcome.other {
        writeln!(out, "{} events of {what}", count(*number))?;
    }
    Ok(())
}

fn reduction(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let all = &outcome.reduction;
    writeln!(
        out,
        "\nReduction: {} readings in; {} forwarded, with {} alert events, {} anomalies, {} windows{}: {:.1} % of the events stay at the site",
        count(all.readings),
        count(all.forwarded),
        count(all.alerts),
        count(all.anomalies),
        count(all.windows),
        if all.other > 0 { format!(", {} other events", count(all.other)) } else { String::new() },
        all.removed_percent
    )?;
    if all.effects > 0 {
        writeln!(out, "  {} publications, web hooks and commands would be carried out", count(all.effects))?;
    }
    for (rule, reduced) in &all.reduced_by {
        writeln!(out, "  {} kept by {rule}", count(*reduced))?;
    }
    Ok(())
}
