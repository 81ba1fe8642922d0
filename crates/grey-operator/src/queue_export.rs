//! Events of an outbox as text.

use std::io::Write;

use grey_api::event_json;
use grey_codec::{SeqEvent, decode_block};
use grey_model::StreamKey;
use grey_model::time::format_rfc3339_ms;
use serde_json::Value;

use crate::queue::{ExportArgs, ExportFormat, told};
use crate::queue_blocks::{Contents, LaneOrder, block_of};
use crate::world::Failure;

/// The columns of `csv`.
pub(crate) const CSV_HEAD: &str = "ts,site,lane,epoch,seq,device,stream,kind,value,unit,quality";

/// Writes the events of a lane in order and returns how many. Blocks that cannot be
/// decoded are `problems`.
pub(crate) fn export_lane(
    logs: &[Contents],
    order: &LaneOrder,
    args: &ExportArgs,
    out: &mut dyn Write,
    problems: &mut Vec<String>,
) -> Result<u64, Failure> {
    let mut written = 0;
    let readers: Vec<_> = logs.iter().map(|log| log.found.reader()).collect();
    for (log, place) in order.blocks() {
        let path = &logs[*log].folder.path;
        let record = readers[*log].read(place.index).map_err(|error| Failure::unreadable(path, told(&error)))?;
        let Some((_, block)) = record.and_then(|record| block_of(place.stratum, place.index, &record)) else {
            continue;
        };
        let (header, events) = match decode_block(&block) {
            Ok(decoded) => decoded,
            Err(error) => {
                problems.push(format!("{}: record {}: {}", path.display(), place.index, told(&error)));
                continue;
            }
        };
        let key = header.key();
        for event in events.iter().filter(|event| is_wanted(event, args)) {
            match args.format {
                ExportFormat::Ndjson => {
                    serde_json::to_writer(&mut *out, &event_json(&key, event.seq, &event.event))
                        .map_err(std::io::Error::from)?;
                    writeln!(out)?;
                }
                ExportFormat::Csv => writeln!(out, "{}", csv_line(&key, event)?)?,
            }
            written += 1;
        }
    }
    Ok(written)
}

fn is_wanted(event: &SeqEvent, args: &ExportArgs) -> bool {
    let time = event.event.device_time_ms;
    args.from.is_none_or(|from| time >= from) && args.to.is_none_or(|to| time < to)
}

/// The columns of [`CSV_HEAD`]; the value is as in the JSON document.
fn csv_line(key: &StreamKey, event: &SeqEvent) -> Result<String, Failure> {
    let json = serde_json::to_value(event_json(key, event.seq, &event.event)).map_err(std::io::Error::from)?;
    let cell = |name: &str| match &json[name] {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    };
    let rest = ["site", "lane", "epoch", "seq", "device", "stream", "kind", "value", "unit", "quality"].map(cell);
    Ok(format!("{},{}", format_rfc3339_ms(event.event.device_time_ms), rest.join(",")))
}

/// A cell as RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
