//! A configuration file of any text, in both formats: an answer and no panic,
//! bounded memory, and what is printed reads back as the same.
#![no_main]

use std::path::Path;

use grey_config::{Decoder, Environment, FleetAlerts, Format, Node, Setting};
use grey_rules::{Forward, NoModels, RuleSet, RuleSpec, Rules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for format in [Format::Yaml, Format::Toml] {
        if let Err(errors) = FleetAlerts::load_text(Path::new("x"), text, format, &Environment::empty()) {
            assert!(!errors.errors().is_empty() && !errors.to_string().is_empty());
        }
    }
    let Ok(node) = Node::from_yaml(text) else { return };
    let printed = node.to_yaml();
    let again = Node::from_yaml(&printed).expect("just printed");
    assert_eq!(again.to_yaml(), printed);
    let mut decoder = Decoder::new("rules");
    match Vec::<RuleSpec>::decode(&node, &mut decoder) {
        Some(rules) if decoder.is_clean() => {
            if let Ok(set) = RuleSet::compile(&Rules::new(rules, Forward::Raw), &NoModels) {
                let again = RuleSet::from_source(&set.source(), &NoModels).expect("just written");
                assert_eq!(again.digest(), set.digest());
            }
        }
        _ => assert!(!decoder.is_clean()),
    }
});
