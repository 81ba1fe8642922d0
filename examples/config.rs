//! Loading a configuration file, and explaining what is wrong with one.
//!
//! `cargo run -p grey-examples --example config`

use std::path::Path;

use grey_config::Environment;
use grey_edge::EdgeConfig;

const WRONG: &str = "
edge:
  site_id: plant 7
  queue: {max_byte: 2GB}
  local_processing:
    rules:
      - {type: threshold, condition: temperature >> 85°C}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The file of an edge agent, with a variable of the environment over it.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edge.yaml");
    let environment = Environment::from_iter([("GREY_EDGE__FORWARD".to_owned(), "raw".to_owned())]);
    let loaded = EdgeConfig::load(&file, &environment)?;
    assert_eq!(loaded.config.site_id.as_str(), "factory-us-west-015");
    assert_eq!(loaded.overrides, ["GREY_EDGE__FORWARD"]);
    for line in loaded.config.rule_set()?.explain() {
        println!("{line}");
    }
    // Keys that are accepted and change nothing yet say so.
    for key in loaded.config.inactive() {
        println!("{} has no effect: {}", key.key_path, key.why);
    }

    // Everything that is wrong is reported at once, each with its line, key and what is allowed.
    let directory = tempfile::tempdir()?;
    let wrong = directory.path().join("wrong.yaml");
    std::fs::write(&wrong, WRONG)?;
    let errors = EdgeConfig::load(&wrong, &Environment::empty()).expect_err("three mistakes");
    println!("{errors}");
    let text = errors.to_string();
    assert_eq!(errors.errors().len(), 3);
    assert!(text.contains("wrong.yaml:3:12: edge.site_id"));
    assert!(text.contains("did you mean max_bytes?"));

    // What a program changes in place can be printed as a file, and loads as itself.
    let printed = directory.path().join("effective.yaml");
    std::fs::write(&printed, loaded.config.effective())?;
    let again = EdgeConfig::load(&printed, &Environment::empty())?;
    assert_eq!(EdgeConfig::diff(&loaded.config, &again.config), []);
    Ok(())
}
