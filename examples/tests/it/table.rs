//! The table of bad input names a test in every row; each must exist.

use std::fs;
use std::path::{Path, PathBuf};

/// The sources of a crate.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn every_row_of_the_table_of_bad_input_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs::read_to_string(root.join("docs/ops/bad-input.md")).expect("the page");
    let mut tests = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| What |")) {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().expect("a cell");
        let names: Vec<&str> = last.split('`').filter(|text| text.starts_with("grey_")).collect();
        assert!(!names.is_empty(), "no test holds: {row}");
        for name in names {
            let parts: Vec<&str> = name.split("::").collect();
            let [of, inner @ .., test] = &parts[..] else { panic!("{name} is no path") };
            let dir = match *of {
                "grey_examples" => root.join("examples"),
                of => root.join("crates").join(of.replace('_', "-")),
            };
            let mut files = Vec::new();
            sources(&dir, &mut files);
            // The outermost module of a path is a file or a folder of that name.
            let module = inner.iter().find(|part| !matches!(**part, "tests" | "it"));
            let fits = |file: &PathBuf| {
                let inside = module.is_none_or(|module| file.to_string_lossy().contains(&format!("/{module}")));
                inside && fs::read_to_string(file).expect("a source").contains(&format!("fn {test}("))
            };
            assert!(files.iter().any(fits), "{name} does not exist");
            tests += 1;
        }
    }
    assert!(tests > 60, "the table was read: {tests}");
}
