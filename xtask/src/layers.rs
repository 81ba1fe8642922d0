//! `cargo xtask layers`: the crate table of `ARCHITECTURE.md`, held against
//! the manifests. Arrows point down, and crates of one layer do not know each
//! other; the simulation sees everything, and nothing sees it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::{list, metadata, root, text, verdict};

/// Where a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// A row with a number.
    Number(u32),
    /// The row `test`: may use every layer, is used by none.
    Test,
}

/// One member of the workspace as its manifest tells it.
struct Member {
    name: String,
    /// Folder under the top: `crates`, `bins`, `examples`, `xtask`.
    place: String,
    /// Names of the members it depends on, for any purpose.
    uses: Vec<String>,
}

/// Checks every edge between members.
pub(crate) fn run() -> Result<()> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let table = read_table(&page)?;
    let members = members(&metadata(&["--no-deps"])?);
    let findings = check(&table, &members);
    let edges: usize = members.iter().map(|member| member.uses.len()).sum();
    verdict("layers", &format!("{} crates, {edges} edges", members.len()), &findings)
}

/// Reads the rows `| layer | crates | ... |` of the table headed `Layer`.
fn read_table(page: &str) -> Result<BTreeMap<String, Layer>> {
    let mut table = BTreeMap::new();
    let rows = page.lines().skip_while(|line| !line.starts_with("| Layer |")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (layer, crates) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let layer = match layer {
            "test" => Layer::Test,
            number => Layer::Number(number.parse().with_context(|| format!("ARCHITECTURE.md: layer {number:?}"))?),
        };
        for name in crates.split('`').skip(1).step_by(2) {
            if table.insert(name.to_owned(), layer).is_some() {
                bail!("ARCHITECTURE.md: {name} stands in two rows");
            }
        }
    }
    if table.is_empty() {
        bail!("ARCHITECTURE.md has no table headed `| Layer | Crate | ...`");
    }
    Ok(table)
}

fn members(metadata: &Value) -> Vec<Member> {
    let packages = list(&metadata["packages"]);
    let names: Vec<&str> = packages.iter().map(|package| text(package, "name")).collect();
    let member = |package: &Value| {
        let manifest = text(package, "manifest_path");
        let inside = manifest.strip_prefix(text(metadata, "workspace_root")).unwrap_or(manifest);
        let used = list(&package["dependencies"]).iter().map(|dependency| text(dependency, "name"));
        let mut uses: Vec<String> = used.filter(|name| names.contains(name)).map(str::to_owned).collect();
        uses.sort();
        uses.dedup();
        Member {
            name: text(package, "name").to_owned(),
            place: inside.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned(),
            uses,
        }
    };
    packages.iter().map(member).collect()
}

fn check(table: &BTreeMap<String, Layer>, members: &[Member]) -> Vec<String> {
    let layer_of = |member: &Member| {
        let place = format!("{}/*", member.place);
        table.get(&member.name).or_else(|| table.get(&place)).copied()
    };
    let mut findings = Vec::new();
    for member in members {
        let name = &member.name;
        let Some(layer) = layer_of(member) else {
            match member.place.as_str() {
                "xtask" => findings.extend(
                    member
                        .uses
                        .iter()
                        .map(|used| format!("xtask uses {used}: it must build before anything else does")),
                ),
                "examples" => {}
                _ => findings.push(format!("{name} is not in the crate table of ARCHITECTURE.md")),
            }
            continue;
        };
        for used in &member.uses {
            let Some(below) = members.iter().find(|member| member.name == *used).and_then(layer_of) else { continue };
            if let Some(why) = refusal(layer, below) {
                findings.push(format!("{name} ({}) uses {used} ({}): {why}", shown(layer), shown(below)));
            }
        }
    }
    for name in table.keys().filter(|name| !name.ends_with("/*")) {
        if !members.iter().any(|member| member.name == *name) {
            findings.push(format!("ARCHITECTURE.md names {name}, which is no crate of the workspace"));
        }
    }
    findings
}

/// Why a crate of one layer may not use one of another.
fn refusal(user: Layer, used: Layer) -> Option<&'static str> {
    match (user, used) {
        (_, Layer::Test) => Some("nothing depends on the simulation"),
        (Layer::Test, _) => None,
        (user, used) if used < user => None,
        (user, used) if used == user => Some("crates of one layer do not know each other"),
        _ => Some("arrows point down"),
    }
}

fn shown(layer: Layer) -> String {
    match layer {
        Layer::Number(number) => format!("layer {number}"),
        Layer::Test => "test".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A\n\n| Layer | Crate | For |\n|---|---|---|\n| 0 | `m` | x |\n| 1 | `a`, `b` | y |\n\
                        | 6 | `bins/*` | z |\n| test | `s` | all |\n\nafter\n";

    fn member(name: &str, place: &str, uses: &[&str]) -> Member {
        let uses = uses.iter().map(|&name| name.to_owned()).collect();
        Member { name: name.to_owned(), place: place.to_owned(), uses }
    }

    #[test]
    fn arrows_point_down() {
        let table = read_table(PAGE).unwrap();
        let sound = [
            member("m", "crates", &[]),
            member("a", "crates", &["m"]),
            member("b", "crates", &["m"]),
            member("s", "crates", &["m", "a", "b"]),
            member("tool", "bins", &["a", "b"]),
            member("xtask", "xtask", &[]),
        ];
        assert_eq!(check(&table, &sound), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_arrow_is_named() {
        let table = read_table(PAGE).unwrap();
        let wrong = [
            member("m", "crates", &["a"]),
            member("a", "crates", &["b"]),
            member("b", "crates", &["s"]),
            member("s", "crates", &[]),
            member("c", "crates", &[]),
            member("xtask", "xtask", &["m"]),
        ];
        let found = check(&table, &wrong).join("\n");
        for want in [
            "m (layer 0) uses a (layer 1): arrows point down",
            "a (layer 1) uses b (layer 1): crates of one layer",
            "b (layer 1) uses s (test): nothing depends",
            "c is not in the crate table",
            "xtask uses m",
        ] {
            assert!(found.contains(want), "{want:?} is not in\n{found}");
        }
    }

    #[test]
    fn a_crate_that_is_gone_is_named() {
        let found = check(&read_table(PAGE).unwrap(), &[member("m", "crates", &[])]).join("\n");
        assert!(found.contains("names a, which is no crate"), "{found}");
    }

    #[test]
    fn a_page_without_a_table_is_an_error() {
        assert!(read_table("# A\n").is_err());
        assert!(read_table("| Layer | Crate |\n|---|---|\n| x | `a` |\n").is_err());
    }
}
