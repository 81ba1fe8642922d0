//! `cargo xtask tidy`: the house style, as far as a program can see it.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Context, Result};

use crate::workspace::{files, root, verdict};

/// Longest module, tests apart.
const MODULE_LINES_MAX: usize = 1_000;
/// Largest file: larger data is made by a program.
const FILE_BYTES_MAX: u64 = 1_000_000;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils", "utilities"];
/// Text formats whose white space is ours.
const OUR_TEXT: [&str; 8] = ["rs", "toml", "md", "yml", "yaml", "json", "sh", "css"];

/// Checks every file under version control.
pub(crate) fn run() -> Result<()> {
    let root = root();
    let files = files()?;
    let mut findings = Vec::new();
    for path in &files {
        let full = root.join(path);
        let size = full.metadata().with_context(|| path.display().to_string())?.len();
        if size > FILE_BYTES_MAX {
            findings.push(format!("{}: {size} bytes, the limit is {FILE_BYTES_MAX}", path.display()));
            continue;
        }
        let bytes = std::fs::read(&full).with_context(|| path.display().to_string())?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let mut about = About { path, findings: &mut findings };
        check_text(&mut about, &text);
        if extension(path) == "rs" {
            check_rust(&mut about, &text);
        }
        if extension(path) == "md" {
            check_links(&mut about, &text, &root);
        }
    }
    check_decisions(&files, &mut findings);
    verdict("tidy", &format!("{} files", files.len()), &findings)
}

/// Collects findings about one file.
struct About<'a> {
    path: &'a Path,
    findings: &'a mut Vec<String>,
}

impl About<'_> {
    fn line(&mut self, line: usize, what: impl std::fmt::Display) {
        self.findings.push(format!("{}:{line}: {what}", self.path.display()));
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

fn check_text(about: &mut About<'_>, text: &str) {
    let ours = OUR_TEXT.contains(&extension(about.path)) || about.path.extension().is_none();
    let licence = about.path.to_string_lossy().starts_with("LICENSE");
    for (i, line) in text.lines().enumerate() {
        if ours && !licence && line.ends_with([' ', '\t', '\r']) {
            about.line(i + 1, "white space at the end of the line");
        }
        if ours && line.contains('\t') {
            about.line(i + 1, "a tab, use spaces");
        }
        if let Some(place) = machine_path(line) {
            about.line(i + 1, format_args!("{place} is a path of one machine"));
        }
        if let Some(word) = registry_setting(line) {
            about.line(i + 1, format_args!("{word:?} ties the tree to one machine's registry"));
        }
    }
    if ours && !text.is_empty() && !text.ends_with('\n') {
        about.line(text.lines().count(), "no newline at the end of the file");
    }
}

/// An absolute path into somebody's home or working folder.
fn machine_path(line: &str) -> Option<&'static str> {
    const PLACES: [&str; 4] =
        [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/")];
    PLACES.into_iter().find(|place| {
        line.match_indices(place).any(|(at, _)| {
            // After one of these it is part of a relative path or an address.
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "._-*}>)/".contains(c))
        })
    })
}

/// Cargo's, pip's or npm's way of naming another registry.
fn registry_setting(line: &str) -> Option<&'static str> {
    const SETTINGS: [&str; 4] = [
        concat!("arti", "factory"),
        concat!("replace", "-with"),
        concat!("index", "-url"),
        concat!("npm_config", "_registry"),
    ];
    if let Some(source) = line.strip_prefix("source = ") {
        let default = "\"registry+https://github.com/rust-lang/crates.io-index\"";
        return (source != default && source.contains("registry")).then_some("source");
    }
    SETTINGS.into_iter().find(|word| line.contains(word))
}

fn check_rust(about: &mut About<'_>, text: &str) {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//!") {
        about.line(1, "a module opens with `//!`: what it is, why it exists, what it must not know");
    }
    for name in about.path.components().filter_map(|part| match part {
        Component::Normal(name) => Path::new(name).file_stem().and_then(|stem| stem.to_str()),
        _ => None,
    }) {
        if EMPTY_NAMES.contains(&name) {
            about.line(1, format_args!("{name:?} says nothing about what is inside, use the field's own noun"));
        }
    }
    let lines = lines_apart_from_tests(about.path, text);
    if lines > MODULE_LINES_MAX {
        about.line(lines, format_args!("{lines} lines, split the module by concept (limit {MODULE_LINES_MAX})"));
    }
    for (i, line) in text.lines().enumerate() {
        if let Some(word) = left_open(line) {
            about.line(i + 1, format_args!("{word} is left open"));
        }
    }
}

/// Work that was put off, or a test that was switched off.
fn left_open(line: &str) -> Option<&'static str> {
    const CODE: [&str; 5] = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
        concat!("#[igno", "re"),
        concat!("#![allow(warn", "ings"),
    ];
    const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let found = CODE.into_iter().find(|word| line.contains(word));
    found.or_else(|| {
        let (_, comment) = line.split_once("//")?;
        let said = |word: &&str| comment.split(|c: char| !c.is_alphanumeric()).any(|other| other == *word);
        WORDS.into_iter().find(said)
    })
}

fn lines_apart_from_tests(path: &Path, text: &str) -> usize {
    let in_tests = path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
    if in_tests {
        return 0;
    }
    let lines: Vec<&str> = text.lines().collect();
    let inline = lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
    inline.unwrap_or(lines.len())
}

/// Every link to a file of the tree leads to one.
fn check_links(about: &mut About<'_>, text: &str, root: &Path) {
    let folder = about.path.parent().unwrap_or(Path::new(""));
    let mut in_code = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in link_targets(line) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if elsewhere {
                continue;
            }
            let full = match file.strip_prefix('/') {
                Some(from_top) => root.join(from_top),
                None => root.join(folder).join(file),
            };
            if !full.exists() {
                about.line(i + 1, format_args!("the link to {file} leads nowhere"));
            }
        }
    }
}

/// The targets of `[text](target)`, code spans left out.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    let prose = line.split('`').step_by(2);
    prose.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()))
}

/// Decision records are numbered 0001, 0002 ... without a gap or a twin.
fn check_decisions(files: &[std::path::PathBuf], findings: &mut Vec<String>) {
    let mut numbers = BTreeSet::new();
    for path in files.iter().filter(|path| path.starts_with("docs/decisions") && extension(path) == "md") {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "README.md" {
            continue;
        }
        match name.get(..4).and_then(|number| number.parse::<usize>().ok()) {
            Some(number) if name[4..].starts_with('-') => {
                if !numbers.insert(number) {
                    findings.push(format!("{}: number {number:04} is taken", path.display()));
                }
            }
            _ => findings.push(format!("{}: a decision record is named NNNN-what.md", path.display())),
        }
    }
    if let Some((want, got)) = (1..).zip(&numbers).find(|(want, got)| want != *got) {
        findings.push(format!("docs/decisions: record {want:04} is missing before {got:04}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_of(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let mut about = About { path: Path::new(path), findings: &mut findings };
        check_text(&mut about, text);
        if path.ends_with(".rs") {
            check_rust(&mut about, text);
        }
        findings
    }

    #[test]
    fn a_clean_module_passes() {
        assert_eq!(findings_of("crates/x/src/lane.rs", "//! Lanes.\n\nfn a() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found_with_its_line() {
        let cases = [
            ("a.rs", "fn a() {}\n", "a.rs:1: a module opens"),
            ("utils/mod.rs", "//! U.\n", "\"utils\" says nothing"),
            ("a.rs", "//! A.\nfn a() { todo\u{21}() }\n", "a.rs:2: todo"),
            ("a.rs", concat!("//! A.\n// FIX", "ME later\n"), "a.rs:2: FIX"),
            ("a.md", "text \n", "a.md:1: white space"),
            ("a.md", "\ttext\n", "a.md:1: a tab"),
            ("a.toml", concat!("dir = \"/", "root/x\"\n"), "is a path of one machine"),
            ("Cargo.lock", "source = \"registry+https://example.org/index\"\n", "registry"),
            ("a.md", "no end", "no newline"),
        ];
        for (path, text, want) in cases {
            let found = findings_of(path, text);
            assert_eq!(found.len(), 1, "{path} {text:?}: {found:?}");
            assert!(found[0].contains(want), "{found:?} does not say {want:?}");
        }
    }

    #[test]
    fn relative_paths_and_links_are_no_machine_paths() {
        for line in ["src/work/a", "https://example.org/home/x", "{root}/work/x"] {
            assert_eq!(machine_path(line), None, "{line}");
        }
    }

    #[test]
    fn tests_do_not_count_as_module_lines() {
        let text = "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(lines_apart_from_tests(Path::new("src/a.rs"), text), 2);
        assert_eq!(lines_apart_from_tests(Path::new("tests/it/a.rs"), text), 0);
    }

    #[test]
    fn links_are_read_outside_code() {
        let found: Vec<&str> = link_targets("see [a](b.md#c) and `[x](y)` and [d](https://e)").collect();
        assert_eq!(found, ["b.md#c", "https://e"]);
    }

    #[test]
    fn a_gap_between_decision_records_is_found() {
        let name = |n: &str| Path::new("docs/decisions").join(n);
        let mut findings = Vec::new();
        check_decisions(&[name("0001-a.md"), name("0003-c.md"), name("README.md")], &mut findings);
        assert_eq!(findings, ["docs/decisions: record 0002 is missing before 0003"]);
    }
}
