//! Readers of a running tier, and what an operator may change at one: plain
//! requests to the HTTP interface, shown as tables or as the JSON that came.

use std::io::Write;

use grey_model::time::format_rfc3339_ms;
use serde_json::{Map, Value as Json, json};

use crate::cli::{
    AckArgs, AlertsListArgs, EventsArgs, EventsOutput, Output, Remote, SilenceArgs, SiteArgs, UnsilenceArgs, Who,
};
use crate::http::{Server, escaped};
use crate::text_table::{TextTable, count, number, shown};
use crate::world::Failure;

/// Entries asked for at a time: the most that a tier gives.
const PAGE_MAX: u64 = 10_000;
/// Entries of a list that is read to its end.
const ENTRIES_MAX: usize = 1_000_000;
/// Events shown unless told otherwise.
const EVENTS_DEFAULT: u64 = 100;

fn print_json(value: &Json, out: &mut dyn Write) -> Result<(), Failure> {
    Ok(writeln!(out, "{value:#}")?)
}

/// Members whose numbers are names, not counts.
const NAMES: [&str; 6] = ["epoch", "seq", "term", "id", "node", "leader"];

/// A member of this name as one cell.
fn cell_of(name: &str, value: &Json) -> String {
    match value {
        Json::Number(number) if NAMES.contains(&name) => number.to_string(),
        value => cell(value),
    }
}

/// A value as one cell.
fn cell(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => shown(text),
        Json::Number(n) => match n.as_u64() {
            Some(whole) => count(whole),
            None => n.as_f64().map_or_else(|| n.to_string(), number),
        },
        Json::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}={}", shown(key), cell_of(key, value))).collect();
            shown(&members.join(" "))
        }
        other => shown(&other.to_string()),
    }
}

/// A column: its head, and the member that it shows; `a.b` looks into a member.
type Column = (&'static str, &'static str);

/// Entries of a list as rows.
fn table(entries: &[Json], columns: &[Column]) -> TextTable {
    let head: Vec<&'static str> = columns.iter().map(|(head, _)| *head).collect();
    let mut table = TextTable::new(&head);
    for entry in entries {
        table.row(columns.iter().map(|(_, path)| {
            let found = path.split('.').fold(("", entry), |(_, value), key| (key, &value[key]));
            cell_of(found.0, found.1)
        }));
    }
    table
}

/// Members of an object, one on a line, objects inside it indented.
fn members(object: &Map<String, Json>, indent: usize, out: &mut dyn Write) -> std::io::Result<()> {
    let width = object.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    for (key, value) in object {
        let space = " ".repeat(indent);
        match value {
            Json::Object(inner) if !inner.is_empty() && indent < 8 => {
                writeln!(out, "{space}{}", shown(key))?;
                members(inner, indent + 2, out)?;
            }
            Json::Array(items) if items.iter().any(Json::is_object) => {
                writeln!(out, "{space}{}", shown(key))?;
                for item in items {
                    writeln!(out, "{space}  {}", cell(item))?;
                }
            }
            Json::Null => {}
            value => writeln!(out, "{space}{:width$}  {}", shown(key), cell_of(key, value))?,
        }
    }
    Ok(())
}

/// `GET` of one object, shown member by member.
fn object(remote: &Remote, path: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = Server::parse(&remote.url())?.get(path)?;
    match (remote.output, &answer) {
        (Output::Table, Json::Object(object)) => Ok(members(object, 0, out)?),
        _ => print_json(&answer, out),
    }
}

/// A list read to its end, page by page; `each` may look at every answer.
pub(crate) fn all_pages(
    server: &Server,
    path: &str,
    name: &str,
    query: &[(&str, &str)],
    each: &mut dyn FnMut(&mut Json),
) -> Result<Vec<Json>, Failure> {
    let limit = PAGE_MAX.to_string();
    let mut entries = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut asked: Vec<(&str, &str)> = vec![("limit", &limit)];
        asked.extend_from_slice(query);
        if let Some(cursor) = &cursor {
            asked.push(("cursor", cursor));
        }
        let mut answer = server.get(&format!("{path}{}", query_string(&asked)))?;
        entries.extend(list_of(&mut answer, name));
        each(&mut answer);
        cursor = answer["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || entries.len() >= ENTRIES_MAX {
            return Ok(entries);
        }
    }
}

fn query_string(query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn list(args: &SiteArgs, path: &str, name: &str, columns: &[Column], out: &mut dyn Write) -> Result<(), Failure> {
    let server = Server::parse(&args.remote.url())?;
    let query: Vec<(&str, &str)> = args.site.as_deref().map(|site| ("site", site)).into_iter().collect();
    let entries = all_pages(&server, path, name, &query, &mut |_| ())?;
    match args.remote.output {
        Output::Json => print_json(&json!({name: entries}), out),
        Output::Table if entries.is_empty() => Ok(writeln!(out, "no {name}")?),
        Output::Table => Ok(table(&entries, columns).write(out)?),
    }
}

/// `status`.
pub(crate) fn status(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    object(remote, "/v1/status", out)
}

/// `sites`.
pub(crate) fn sites(args: &SiteArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let columns = [
        ("site", "site"),
        ("state", "state"),
        ("hub", "hub"),
        (">epoch", "epoch"),
        ("last seen", "last_seen"),
        (">critical", "pending.critical.events"),
        (">normal", "pending.normal.events"),
        (">bulk", "pending.bulk.events"),
        (">oldest s", "oldest_pending_age_s"),
        (">accepted", "accepted_total"),
    ];
    list(args, "/v1/sites", "sites", &columns, out)
}

/// `ledger`.
pub(crate) fn ledger(args: &SiteArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let columns = [
        ("site", "site"),
        (">epoch", "epoch"),
        ("lane", "lane"),
        (">accepted", "accepted"),
        (">delivered", "delivered"),
        (">reduced", "reduced"),
        (">deduplicated", "deduplicated"),
        (">dropped", "dropped"),
        (">pending", "pending"),
        (">resent", "resent"),
        ("balanced", "balanced"),
    ];
    list(args, "/v1/ledger", "ledger", &columns, out)
}

/// `queue status`.
pub(crate) fn queue(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    let mut answer = Server::parse(&remote.url())?.get("/v1/queue")?;
    if remote.output == Output::Json {
        return print_json(&answer, out);
    }
    let mut lanes =
        TextTable::new(&["lane", ">blocks", ">events", ">bytes", ">acknowledged below", ">end", ">next sequence"]);
    if let Some(object) = answer["lanes"].as_object() {
        for (lane, state) in object {
            let members = ["blocks", "events", "bytes", "acknowledged_below", "end", "next_sequence"];
            lanes.row(std::iter::once(shown(lane)).chain(members.iter().map(|member| cell(&state[*member]))));
        }
    }
    lanes.write(out)?;
    match &mut answer {
        Json::Object(object) => {
            object.remove("lanes");
            Ok(members(object, 0, out)?)
        }
        _ => Ok(()),
    }
}

/// `alerts list`.
pub(crate) fn alerts(args: &AlertsListArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let server = Server::parse(&args.remote.url())?;
    let mut query = vec![("state", args.state.as_str())];
    query.extend(args.rule.as_deref().map(|rule| ("rule", rule)));
    query.extend(args.device.as_deref().map(|device| ("device", device)));
    let mut recent = Vec::new();
    let alerts = all_pages(&server, "/v1/alerts", "alerts", &query, &mut |answer| {
        recent.extend(list_of(answer, "recent"));
    })?;
    if args.remote.output == Output::Json {
        return print_json(&json!({"alerts": alerts, "recent": recent}), out);
    }
    if alerts.is_empty() {
        writeln!(out, "no such alerts")?;
    } else {
        let columns = [
            ("id", "id"),
            ("state", "state"),
            ("severity", "severity"),
            ("rule", "rule"),
            ("device", "device"),
            ("stream", "stream"),
            (">value", "value"),
            ("unit", "unit"),
            ("since", "since"),
            ("cleared", "cleared"),
            ("silenced", "silenced"),
            ("acknowledged by", "acknowledged.by"),
            ("condition", "condition"),
        ];
        table(&alerts, &columns).write(out)?;
    }
    if args.recent && !recent.is_empty() {
        writeln!(out, "\nLatest changes")?;
        let columns = [
            ("at", "ts"),
            ("state", "attributes.state"),
            ("severity", "attributes.severity"),
            ("rule", "attributes.rule"),
            ("device", "device"),
            ("stream", "stream"),
            (">value", "value.value"),
            (">limit", "value.limit"),
        ];
        table(&recent, &columns).write(out)?;
    }
    Ok(())
}

/// `rules status`.
pub(crate) fn rules(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    let mut answer = Server::parse(&remote.url())?.get("/v1/rules")?;
    if remote.output == Output::Json {
        return print_json(&answer, out);
    }
    let columns = [
        ("#", "rule"),
        ("name", "name"),
        ("type", "type"),
        (">fired", "fired_total"),
        (">cleared", "cleared_total"),
        (">suppressed", "suppressed_total"),
        (">windows", "windows_total"),
        (">late", "late_total"),
        (">ahead", "ahead_total"),
        (">reduced", "reduced_total"),
        ("problem", "problem"),
        ("does", "does"),
    ];
    table(&list_of(&mut answer, "rules"), &columns).write(out)?;
    for (name, columns) in [
        ("models", &[("model", "model"), ("rule", "rule"), ("version", "version"), ("problem", "problem")][..]),
        ("hot_spots", &[("hot", "kind"), ("name", "name"), (">share", "share"), ("mitigation", "mitigation")][..]),
    ] {
        let entries = list_of(&mut answer, name);
        if !entries.is_empty() {
            writeln!(out)?;
            table(&entries, columns).write(out)?;
        }
    }
    for warning in list_of(&mut answer, "warnings") {
        writeln!(out, "warning: {}", cell(&warning))?;
    }
    Ok(())
}

fn list_of(answer: &mut Json, name: &str) -> Vec<Json> {
    match answer.get_mut(name).map(Json::take) {
        Some(Json::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn by(who: &Who) -> Result<String, Failure> {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    who.by.clone().or_else(user).ok_or_else(|| Failure::Usage("--by is missing: say who does it".into()))
}

/// Shows what a change was answered with.
fn done(answer: &Json, remote: &Remote, words: &str, out: &mut dyn Write) -> Result<(), Failure> {
    match (remote.output, answer) {
        (Output::Json, _) => print_json(answer, out),
        (Output::Table, Json::Object(object)) => {
            writeln!(out, "{words}")?;
            Ok(members(object, 2, out)?)
        }
        (Output::Table, _) => Ok(writeln!(out, "{words}")?),
    }
}

/// `alerts ack`.
pub(crate) fn acknowledge(args: &AckArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut body = json!({"by": by(&args.who)?});
    if !args.who.note.is_empty() {
        body["note"] = json!(args.who.note);
    }
    let answer = Server::parse(&args.remote.url())?.post(&format!("/v1/alerts/{}/ack", escaped(&args.id)), &body)?;
    done(&answer, &args.remote, &format!("alert {} is acknowledged", args.id), out)
}

/// `alerts silence`.
pub(crate) fn silence(args: &SilenceArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut body = Map::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            body.insert(key.into(), json!(value));
        }
    };
    set("rule", args.rule.clone());
    set("device", args.device.clone());
    set("for", args.duration.map(|duration| duration.to_string()));
    set("until", args.until.map(format_rfc3339_ms));
    set("by", Some(by(&args.who)?));
    set("note", Some(args.who.note.clone()).filter(|note| !note.is_empty()));
    let answer = Server::parse(&args.remote.url())?.post("/v1/silences", &Json::Object(body))?;
    done(&answer, &args.remote, "silenced", out)
}

/// `alerts unsilence`.
pub(crate) fn unsilence(args: &UnsilenceArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = Server::parse(&args.remote.url())?.delete(&format!("/v1/silences/{}", escaped(&args.id)))?;
    done(&answer, &args.remote, &format!("silence {} is ended", args.id), out)
}

/// `alerts silences`.
pub(crate) fn silences(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    let mut answer = Server::parse(&remote.url())?.get("/v1/silences")?;
    if remote.output == Output::Json {
        return print_json(&answer, out);
    }
    let silences = list_of(&mut answer, "silences");
    if silences.is_empty() {
        return Ok(writeln!(out, "no silence is in force")?);
    }
    let columns = ["id", "rule", "device", "until", "by", "note"].map(|name| (name, name));
    Ok(table(&silences, &columns).write(out)?)
}

/// `rules reload`.
pub(crate) fn reload(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = Server::parse(&remote.url())?.post("/v1/rules/reload", &json!({}))?;
    done(&answer, remote, "the rules were read again", out)
}

/// `events`.
pub(crate) fn events(args: &EventsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let server = Server::parse(&args.url())?;
    let given = [
        ("site", &args.site),
        ("device", &args.device),
        ("stream", &args.stream),
        ("from", &args.from),
        ("to", &args.to),
        ("lane", &args.lane),
        ("kind", &args.kind),
    ];
    let query: Vec<(&str, &str)> =
        given.iter().filter_map(|(key, value)| value.as_deref().map(|value| (*key, value))).collect();
    if args.output == EventsOutput::Ndjson && args.limit.is_none() {
        let mut answer =
            server.ask("GET", &format!("/v1/events{}", query_string(&query)), "application/x-ndjson", None)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match std::io::Read::read(&mut answer, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => out.write_all(&buffer[..got])?,
                Err(error) => return Err(answer.broken(error).into()),
            }
        }
    }
    let wanted = args.limit.unwrap_or(EVENTS_DEFAULT);
    let (events, cursor) = pages(&server, &query, wanted)?;
    match args.output {
        EventsOutput::Ndjson => events.iter().try_for_each(|event| writeln!(out, "{event}"))?,
        EventsOutput::Json => print_json(&json!({"events": events, "cursor": cursor}), out)?,
        EventsOutput::Table if events.is_empty() => writeln!(out, "no events")?,
        EventsOutput::Table => {
            let columns = [
                ("ts", "ts"),
                ("site", "site"),
                ("device", "device"),
                ("stream", "stream"),
                ("kind", "kind"),
                ("lane", "lane"),
                (">seq", "seq"),
                (">value", "value"),
                ("unit", "unit"),
                ("quality", "quality"),
            ];
            table(&events, &columns).write(out)?;
            if cursor.is_some() {
                writeln!(out, "there are more; --limit asks for them")?;
            }
        }
    }
    Ok(())
}

/// At most `wanted` events, and where the next one is.
fn pages(server: &Server, query: &[(&str, &str)], wanted: u64) -> Result<(Vec<Json>, Option<String>), Failure> {
    let mut events = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = wanted.saturating_sub(events.len() as u64);
        let limit = left.clamp(1, PAGE_MAX).to_string();
        let mut asked = query.to_vec();
        asked.push(("limit", &limit));
        if let Some(cursor) = &cursor {
            asked.push(("cursor", cursor));
        }
        let mut answer = server.get(&format!("/v1/events{}", query_string(&asked)))?;
        events.extend(list_of(&mut answer, "events"));
        cursor = answer["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || events.len() as u64 >= wanted {
            return Ok((events, cursor));
        }
    }
}
