//! The table of every key for the documentation, from the JSON Schema, so
//! that it cannot fall behind the code.

use serde_json::Value as Json;

/// A Markdown table of the keys of a document's schema: key path, kind, default, meaning.
pub fn markdown(document_schema: &Json) -> String {
    let mut out = String::from("| Key | Kind | Default | Meaning |\n|---|---|---|---|\n");
    rows(&mut out, "", document_schema);
    out
}

/// Every key path of a document's schema; items of lists as `rules[]`.
pub fn key_paths(document_schema: &Json) -> Vec<String> {
    markdown(document_schema).lines().skip(2).filter_map(|row| row.split('`').nth(1).map(str::to_owned)).collect()
}

/// The document with the table between `<!-- NAME keys -->` and `<!-- end -->` replaced; `None` without these marks.
pub fn replace_table(document: &str, name: &str, table: &str) -> Option<String> {
    let mark = format!("<!-- {name} keys -->\n");
    let start = document.find(&mark)? + mark.len();
    let end = start + document[start..].find("<!-- end -->")?;
    Some(format!("{}{table}{}", &document[..start], &document[end..]))
}

fn rows(out: &mut String, path: &str, schema: &Json) {
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        let tag = variant["properties"]["type"]["const"].as_str().unwrap_or("?");
        rows(out, &format!("{path}({tag})"), variant);
    }
    if schema["items"].is_object() {
        rows(out, &format!("{path}[]"), &schema["items"]);
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    for (key, property) in properties.iter().filter(|(_, p)| p.get("const").is_none()) {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let nested = property["properties"].is_object()
            || property["oneOf"].is_array()
            || property["items"]["properties"].is_object()
            || property["items"]["oneOf"].is_array();
        if !nested || property["type"] == "array" {
            let default = match &property["default"] {
                Json::Null if required.contains(&key.as_str()) => "required".to_owned(),
                Json::Null => "not set".into(),
                Json::String(text) => format!("`{text}`"),
                Json::Array(items) if items.is_empty() => "empty".into(),
                value => format!("`{value}`"),
            };
            let meaning = property["description"].as_str().unwrap_or_default();
            out.push_str(&format!("| `{at}` | {} | {default} | {} |\n", kind(property), meaning.replace('|', "\\|")));
        }
        if nested {
            rows(out, &at, property);
        }
    }
}

/// What may stand there: a kind by its title, the words of a choice, or the type.
fn kind(schema: &Json) -> String {
    if let Some(title) = schema["title"].as_str() {
        return title.to_owned();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter_map(Json::as_str).map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
    }
    match schema["type"].as_str() {
        Some("array") if schema["items"]["properties"].is_object() || schema["items"]["oneOf"].is_array() => {
            "list of sections".into()
        }
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("string") => "text".into(),
        Some("boolean") => "truth".into(),
        Some(other) => other.to_owned(),
        None => "section".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FleetAlerts, Lanes, Setting};

    #[test]
    fn tables_name_every_key_with_its_default() {
        let table = markdown(&crate::json!({ "properties": { "lanes": Lanes::schema() } }));
        assert!(table.contains("| `lanes.normal.weight` | integer | `4` |"), "{table}");
        let table = markdown(&FleetAlerts::document_schema());
        assert!(table.contains("| `alerts` | list of sections | required |"), "{table}");
        assert!(table.contains("| `alerts[].for` | duration | `0s` |"), "{table}");
        assert!(table.contains("| `alerts[].severity` | `info`, `warning`, `critical` | required |"), "{table}");
        assert_eq!(key_paths(&FleetAlerts::document_schema()).len(), 6);
    }

    #[test]
    fn the_manual_lists_every_key_of_alerts() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let manual = std::fs::read_to_string(&path).unwrap();
        let table = markdown(&FleetAlerts::document_schema());
        let expected = replace_table(&manual, "alerts", &table).unwrap();
        if std::env::var_os("GREY_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        } else {
            assert!(
                manual == expected,
                "the table of docs/configuration.md is old; run the test with GREY_UPDATE_DOCS=1"
            );
        }
    }
}
