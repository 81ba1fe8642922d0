//! `cargo xtask deny`: licences, bans and sources of the whole dependency
//! graph, held against `deny.toml`.
//!
//! The file is cargo-deny's own. Its tool takes minutes to compile and wants a
//! network for its advisory database; the three checks that need neither are
//! made here from what cargo says about the graph, in a second.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use toml::Table;

use crate::spdx;
use crate::workspace::{cargo, list, metadata, output, root, text, verdict};

/// The registry that cargo uses when nothing else is configured.
const DEFAULT_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// One package of the graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
    /// Empty for a member of the workspace or another path.
    source: String,
}

/// Checks the graph of every target that `deny.toml` names.
pub(crate) fn run() -> Result<()> {
    let policy = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let policy: Table = policy.parse().context("deny.toml")?;
    let targets: Vec<&str> = strings(&policy, "graph", "targets").collect();
    let mut packages = BTreeSet::new();
    let mut findings = Vec::new();
    for target in &targets {
        let graph = metadata(&["--locked", "--all-features", "--filter-platform", target])?;
        let linked = linked(target)?;
        let known = list(&graph["packages"]).iter().map(package);
        packages.extend(known.filter(|package| linked.contains(&(package.name.clone(), package.version.clone()))));
        findings.extend(wildcards(&graph));
    }
    let packages: Vec<Package> = packages.into_iter().collect();
    findings.extend(licences(&policy, &packages));
    findings.extend(bans(&policy, &packages));
    findings.extend(sources(&packages));
    findings.sort();
    findings.dedup();
    verdict("deny", &format!("{} packages for {}", packages.len(), targets.join(" and ")), &findings)
}

/// Names and versions of what is really compiled: `cargo metadata` also lists
/// what only a feature that nobody enables would bring in.
fn linked(target: &str) -> Result<BTreeSet<(String, String)>> {
    let mut tree = cargo("tree");
    tree.args(["--workspace", "--locked", "--all-features", "--target", target]);
    tree.args(["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"]);
    let printed = output(&mut tree)?;
    let lines = printed.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    });
    Ok(lines.collect())
}

fn package(value: &Value) -> Package {
    Package {
        name: text(value, "name").to_owned(),
        version: text(value, "version").to_owned(),
        licence: text(value, "license").to_owned(),
        source: text(value, "source").to_owned(),
    }
}

fn entries<'a>(policy: &'a Table, section: &str, key: &str) -> impl Iterator<Item = &'a toml::Value> {
    policy.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array).into_iter().flatten()
}

fn strings<'a>(policy: &'a Table, section: &str, key: &str) -> impl Iterator<Item = &'a str> {
    entries(policy, section, key).filter_map(toml::Value::as_str)
}

/// The crate that an entry names, and its version if it names one: `"a"`,
/// `"a@1.2"` or `{ crate = "a@1.2", reason = "..." }`.
fn named(entry: &toml::Value) -> (&str, Option<&str>) {
    let spec = entry.as_str().or_else(|| entry.get("crate")?.as_str()).unwrap_or_default();
    match spec.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (spec, None),
    }
}

/// `1.2` names 1.2.0 and 1.2.9, but not 1.20.0.
fn matches(entry: &toml::Value, package: &Package) -> bool {
    let (name, version) = named(entry);
    let version = version.map(|version| version.trim_start_matches(['=', '^', '~', ' ']));
    name == package.name
        && version.is_none_or(|version| {
            package.version.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

fn licences(policy: &Table, packages: &[Package]) -> Vec<String> {
    let allowed: Vec<&str> = strings(policy, "licenses", "allow").collect();
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| !package.source.is_empty()) {
        let excepted: Vec<&str> = entries(policy, "licenses", "exceptions")
            .filter(|entry| matches(entry, package))
            .flat_map(|entry| entry.get("allow").and_then(toml::Value::as_array).into_iter().flatten())
            .filter_map(toml::Value::as_str)
            .collect();
        let accepts = |name: &str| allowed.contains(&name) || excepted.contains(&name);
        let why = match spdx::satisfied(&package.licence, &accepts) {
            Ok(true) => continue,
            Ok(false) => "is not allowed by deny.toml".to_owned(),
            Err(why) => why,
        };
        findings.push(format!("{} {}: licence {:?}: {why}", package.name, package.version, package.licence));
    }
    findings
}

fn bans(policy: &Table, packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        if let Some(ban) = entries(policy, "bans", "deny").find(|entry| matches(entry, package)) {
            let reason = ban.get("reason").and_then(toml::Value::as_str).unwrap_or("banned");
            findings.push(format!("{} {}: {reason}", package.name, package.version));
        }
        if !entries(policy, "bans", "skip").any(|entry| matches(entry, package)) {
            versions.entry(&package.name).or_default().push(package);
        }
    }
    for (name, several) in versions.iter().filter(|(_, several)| several.len() > 1) {
        let several: Vec<&str> = several.iter().map(|package| package.version.as_str()).collect();
        findings.push(format!(
            "{name} is linked in several versions ({}); add one to bans.skip with its reason, or agree on one",
            several.join(", ")
        ));
    }
    for skip in entries(policy, "bans", "skip") {
        if !packages.iter().any(|package| matches(skip, package)) {
            let (name, version) = named(skip);
            findings.push(format!("deny.toml skips {name} {}, which is no longer in the graph", version.unwrap_or("")));
        }
    }
    findings
}

fn sources(packages: &[Package]) -> Vec<String> {
    let strange = packages.iter().filter(|package| !package.source.is_empty() && package.source != DEFAULT_REGISTRY);
    strange.map(|package| format!("{} {} comes from {}", package.name, package.version, package.source)).collect()
}

/// Members ask for a version of whatever is not a path.
fn wildcards(graph: &Value) -> Vec<String> {
    let ours = list(&graph["packages"]).iter().filter(|package| package["source"].is_null());
    let mut findings = Vec::new();
    for package in ours {
        for dependency in list(&package["dependencies"]) {
            if text(dependency, "req") == "*" && dependency["path"].is_null() {
                findings.push(format!(
                    "{} asks for any version of {}",
                    text(package, "name"),
                    text(dependency, "name")
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, licence: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            licence: licence.into(),
            source: DEFAULT_REGISTRY.to_owned(),
        }
    }

    fn policy(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn a_licence_outside_the_list_is_named() {
        let policy = policy("[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"c\", allow = [\"MPL-2.0\"] }]\n");
        let packages =
            [package("a", "1.0.0", "MIT OR X"), package("b", "1.0.0", "X"), package("c", "1.0.0", "MPL-2.0")];
        let found = licences(&policy, &packages);
        assert_eq!(found, ["b 1.0.0: licence \"X\": is not allowed by deny.toml"]);
        assert_eq!(licences(&policy, &[package("d", "1.0.0", "")]).len(), 1, "no licence at all");
    }

    #[test]
    fn two_versions_need_a_reason_and_a_stale_reason_is_named() {
        let both = [package("a", "1.2.3", "MIT"), package("a", "2.0.0", "MIT")];
        assert_eq!(bans(&policy("[bans]\n"), &both).len(), 1);
        let skipped = policy("[bans]\nskip = [{ crate = \"a@1.2\", reason = \"sled\" }]\n");
        assert_eq!(bans(&skipped, &both), Vec::<String>::new());
        assert!(bans(&skipped, &both[1..])[0].contains("no longer in the graph"));
        let other = policy("[bans]\nskip = [{ crate = \"a@1.20\" }]\n");
        assert_eq!(bans(&other, &both).len(), 2, "1.20 is not 1.2");
    }

    #[test]
    fn a_banned_crate_is_named_with_its_reason() {
        let policy = policy("[bans]\ndeny = [{ crate = \"b\", reason = \"unmaintained\" }]\n");
        assert_eq!(bans(&policy, &[package("b", "1.0.0", "MIT")]), ["b 1.0.0: unmaintained"]);
    }

    #[test]
    fn only_the_default_registry_is_a_source() {
        let mut git = package("a", "1.0.0", "MIT");
        git.source = "git+https://example.org/a".to_owned();
        assert_eq!(sources(&[git, package("b", "1.0.0", "MIT")]), ["a 1.0.0 comes from git+https://example.org/a"]);
    }
}
