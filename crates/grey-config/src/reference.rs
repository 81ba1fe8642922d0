//! The table of every key for the documentation, from the JSON Schema, so
//! that it cannot fall behind the code.

use serde_json::Value as Json;

/// A Markdown table of the keys of a document's schema: key path, default, meaning.
pub fn markdown(document_schema: &Json) -> String {
    let mut out = String::from("| Key | Default | Meaning |\n|---|---|---|\n");
    rows(&mut out, "", document_schema);
    out
}

/// Every key path of a document's schema; items of lists as `rules[]`.
pub fn key_paths(document_schema: &Json) -> Vec<String> {
    markdown(document_schema).lines().skip(2).filter_map(|row| row.split('`').nth(1).map(str::to_owned)).collect()
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
            let mut meaning = property["description"].as_str().unwrap_or_default().to_owned();
            if let Some(words) = property["enum"].as_array() {
                let words: Vec<_> = words.iter().filter_map(Json::as_str).map(|w| format!("`{w}`")).collect();
                meaning.push_str(&format!(" One of {}.", words.join(", ")));
            }
            out.push_str(&format!("| `{at}` | {default} | {} |\n", meaning.replace('|', "\\|")));
        }
        if nested {
            rows(out, &at, property);
        }
    }
}
