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

/// A member as one cell.
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
                members.iter().map(|(key, value)| format!("{}={}", shown(key), cell(value))).collect();
            shown(&members.join(" "))
        }
        other => shown(&other.to_string()),
    }
}

/// Lists as a table of the members named; `a.b` looks into a member.
fn table(entries: &[Json], head: &[&'static str], members: &[&str]) -> TextTable {
    let mut table = TextTable::new(head);
    for entry in entries {
        table.row(members.iter().map(|path| cell(path.split('.').fold(entry, |value, key| &value[key]))));
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
            value => writeln!(out, "{space}{:width$}  {}", shown(key), cell(value))?,
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

/// A list read to its end, page by page.
fn all_pages(server: &Server, path: &str, name: &str, query: &[(&str, &str)]) -> Result<Vec<Json>, Failure> {
    let mut entries = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut asked: Vec<(&str, &str)> = query.to_vec();
        if let Some(cursor) = &cursor {
            asked.push(("cursor", cursor));
        }
        let mut answer = server.get(&format!("{path}{}", query_string(&asked)))?;
        if let Json::Array(page) = answer[name].take() {
            entries.extend(page);
        }
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

fn list(
    args: &SiteArgs,
    path: &str,
    name: &str,
    head: &[&'static str],
    columns: &[&str],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let server = Server::parse(&args.remote.url())?;
    let limit = PAGE_MAX.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.site.as_deref().map(|site| ("site", site)));
    let entries = all_pages(&server, path, name, &query)?;
    match args.remote.output {
        Output::Json => print_json(&json!({name: entries}), out),
        Output::Table if entries.is_empty() => Ok(writeln!(out, "no {name}")?),
        Output::Table => Ok(table(&entries, head, columns).write(out)?),
    }
}

/// `status`.
pub(crate) fn status(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    object(remote, "/v1/status", out)
}

/// `sites`.
pub(crate) fn sites(args: &SiteArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let head =
        ["site", "state", "hub", ">epoch", "last seen", ">critical", ">normal", ">bulk", ">oldest s", ">accepted"];
    let columns = [
        "site",
        "state",
        "hub",
        "epoch",
        "last_seen",
        "pending.critical.events",
        "pending.normal.events",
        "pending.bulk.events",
        "oldest_pending_age_s",
        "accepted_total",
    ];
    list(args, "/v1/sites", "sites", &head, &columns, out)
}

/// `ledger`.
pub(crate) fn ledger(args: &SiteArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let head = [
        "site",
        ">epoch",
        "lane",
        ">accepted",
        ">delivered",
        ">reduced",
        ">deduplicated",
        ">dropped",
        ">pending",
        "balanced",
    ];
    let columns =
        ["site", "epoch", "lane", "accepted", "delivered", "reduced", "deduplicated", "dropped", "pending", "balanced"];
    list(args, "/v1/ledger", "ledger", &head, &columns, out)
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
    let mut answer = Server::parse(&args.remote.url())?.get("/v1/alerts")?;
    if args.remote.output == Output::Json {
        return print_json(&answer, out);
    }
    let alerts = list_of(&mut answer, "alerts");
    if alerts.is_empty() {
        writeln!(out, "no alert fires")?;
    } else {
        let head = [
            "id",
            "state",
            "severity",
            "rule",
            "device",
            "stream",
            ">value",
            "since",
            "silenced",
            "acknowledged by",
            "condition",
        ];
        let columns = [
            "id",
            "state",
            "severity",
            "rule",
            "device",
            "stream",
            "value",
            "since",
            "silenced",
            "acknowledged.by",
            "condition",
        ];
        table(&alerts, &head, &columns).write(out)?;
    }
    let recent = list_of(&mut answer, "recent");
    if args.recent && !recent.is_empty() {
        writeln!(out, "\nLatest changes")?;
        let head = ["at", "state", "severity", "rule", "device", "stream", ">value", ">limit"];
        let columns = [
            "ts",
            "attributes.state",
            "attributes.severity",
            "attributes.rule",
            "device",
            "stream",
            "value.value",
            "value.limit",
        ];
        table(&recent, &head, &columns).write(out)?;
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
    let body = json!({"by": by(&args.who)?, "note": args.who.note});
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
    set("note", Some(args.who.note.clone()));
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
    let columns = ["id", "rule", "device", "until", "by", "note"];
    Ok(table(&silences, &columns, &columns).write(out)?)
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
            let columns = ["ts", "site", "device", "stream", "kind", "lane", "seq", "value", "unit", "quality"];
            let head = ["ts", "site", "device", "stream", "kind", "lane", ">seq", ">value", "unit", "quality"];
            table(&events, &head, &columns).write(out)?;
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
